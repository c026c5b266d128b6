//! Read by passes in process after process while the ledger is out of reach, until they end or are taken back.

#[path = "drawer.rs"]
mod drawer;

use crate::{
    BUCKET, MINUTE_MS, SECOND, Scene,
    ledger::{CHAIN_ID, Door},
    machine::{Disk, Machine},
    process::{Ours, Payer, content, put_whole, read},
};
use alloy_primitives::B256;
use commonware_runtime::{Clock as _, Runner as _, Supervisor as _, deterministic::Runner};
use drawer::Files;
use hodei_sdk::{
    Cloud, Fault,
    share::{Drawer, Opened, What},
};
use hodei_types::{share::Link, transport::NodeKey};
use std::sync::{Arc, Mutex};

/// Of a hundred questions to the ledger, and answers, so many are lost.
const IN_REACH: u64 = 0;
const AWAY: u64 = 100;

impl Files {
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The same in another folder.
    fn copy(&self) -> Arc<Self> {
        Arc::new(Self(Mutex::new(self.0.lock().unwrap().clone())))
    }

    /// Changes a byte of each behind its reader's back.
    fn corrupt(&self) {
        self.0.lock().unwrap().values_mut().for_each(|file| *file.last_mut().unwrap() ^= 1);
    }
}

impl Scene {
    /// A process of reader `number` that was never there, but for what it kept of links.
    async fn next(&self, number: u8, files: &Arc<Files>, losses: u64) -> Ours {
        let (wire, context) = (self.wire(number), self.context.child("next"));
        let machine = Machine::new(context.child("machine"), Disk::default(), wire.mood.clone());
        let door = Door::new(&self.world.ledger, context.child("door"), &self.world.dice, &wire.mood, losses);
        let (wallet, network) = (Payer::Owner.wallet(Arc::new(door)), (B256::repeat_byte(7), CHAIN_ID));
        let cloud = Cloud::open_on(machine.child("cloud"), wire.clone(), wire.me, wallet, None, network).await.unwrap();
        cloud.keep_links(files.clone());
        cloud
    }
}

/// A film of two files, and a pass to it for each reader; and one to the second file alone, for the first reader.
async fn sold(owner: &Ours, readers: &[NodeKey], until_ms: u64) -> (Vec<Link>, Link) {
    put_whole(owner, "film/1", 1, 300_000).await;
    put_whole(owner, "film/2", 2, 200_000).await;
    let film = owner.share(BUCKET, What::Below("film/"), readers, until_ms).await.unwrap();
    let what = What::Object { key: "film/2", version: None };
    let one = owner.share(BUCKET, what, &readers[..1], until_ms).await.unwrap().remove(0);
    (film, one)
}

fn is_away(opened: Result<Opened, Fault>) -> bool {
    matches!(opened, Err(Fault::Chain(_)))
}

#[test]
fn a_pass_reads_in_later_processes_while_the_ledger_is_away_until_its_end() {
    Runner::seeded(21).start(|context| async move {
        let scene = Scene::new(context).await;
        let (files, none) = (Arc::<Files>::default(), Arc::<Files>::default());
        let owner = scene.next(0, &none, IN_REACH).await;
        let until_ms = scene.now_ms() + 30 * MINUTE_MS;
        let (film, one) = sold(&owner, &[1, 2].map(|number| scene.wire(number).me), until_ms).await;
        owner.close().await.unwrap();
        drop(owner);
        let early = scene.next(1, &files, AWAY).await;
        assert!(is_away(early.open_link(&film[0]).await), "nothing is kept before it was opened once");
        assert_eq!((files.len(), none.len()), (0, 0));
        drop(early);

        let reader = scene.next(1, &files, IN_REACH).await;
        assert!(!reader.open_link(&film[0]).await.unwrap().is_kept);
        assert_eq!(files.len(), 2, "the bucket, and the record");
        drop(reader);
        let later = scene.next(1, &files, AWAY).await;
        let opened = later.open_link(&film[0]).await.unwrap();
        assert!(opened.is_kept);
        assert!(read(&later, &opened, "1").await == content(1, 300_000));
        assert!(read(&later, &opened, "2").await == content(2, 200_000));
        // Another pass of the same bucket, which was never opened.
        let opened = later.open_link(&one).await.unwrap();
        assert!(opened.is_kept && read(&later, &opened, "").await == content(2, 200_000));
        assert_eq!(files.len(), 3);

        // To nobody else: not with these files, not with the word, not by a word that the owner did not give.
        let other = scene.next(2, &files, AWAY).await;
        assert!(is_away(other.open_link(&film[1]).await), "another reader's own pass");
        assert!(matches!(other.open_link(&film[0]).await, Err(Fault::Pass { .. })));
        let longer = Link { expires_ms: until_ms + MINUTE_MS, ..film[0].clone() };
        assert!(is_away(later.open_link(&longer).await), "nobody signed that");
        assert_eq!(files.len(), 3);
        drop((other, later));

        // What was changed opens nothing, and with the ledger back it is kept anew.
        files.corrupt();
        let bent = scene.next(1, &files, AWAY).await;
        assert!(is_away(bent.open_link(&film[0]).await));
        drop(bent);
        let back = scene.next(1, &files, IN_REACH).await;
        assert!(!back.open_link(&film[0]).await.unwrap().is_kept);
        drop(back);
        let again = scene.next(1, &files, AWAY).await;
        let opened = again.open_link(&film[0]).await.unwrap();
        assert!(opened.is_kept && read(&again, &opened, "1").await == content(1, 300_000));

        // Its end is its end, in a process that runs and in the next.
        scene.context.sleep(SECOND * 31 * 60).await;
        assert!(matches!(again.open_link(&film[0]).await, Err(Fault::Link(_))));
        assert_eq!(files.len(), 0, "and nothing stays of it");
        let over = scene.next(1, &files, AWAY).await;
        assert!(matches!(over.open_link(&film[0]).await, Err(Fault::Link(_))));
    });
}

#[test]
fn what_is_kept_of_a_pass_goes_when_it_is_taken_back() {
    Runner::seeded(22).start(|context| async move {
        let scene = Scene::new(context).await;
        let (first, second) = (Arc::<Files>::default(), Arc::<Files>::default());
        let owner = scene.next(0, &Arc::default(), IN_REACH).await;
        let (film, one) =
            sold(&owner, &[1, 2].map(|number| scene.wire(number).me), scene.now_ms() + 30 * MINUTE_MS).await;
        let readers = [scene.next(1, &first, IN_REACH).await, scene.next(2, &second, IN_REACH).await];
        for (reader, pass) in readers.iter().zip(&film) {
            reader.open_link(pass).await.unwrap();
        }
        readers[0].open_link(&one).await.unwrap();
        assert_eq!((first.len(), second.len()), (3, 2));
        assert_eq!(owner.unshare(BUCKET, &[film[0].record]).await.unwrap(), 1);

        // By whom the ledger is asked, and by whom the record's keepers are.
        assert!(matches!(readers[0].open_link(&film[0]).await, Err(Fault::Link(_))));
        assert_eq!(first.len(), 2, "the other pass of the bucket keeps what it needs");
        let later = scene.next(1, &first, AWAY).await;
        assert!(matches!(later.open_link(&film[0]).await, Err(Fault::Link(_))));
        let opened = later.open_link(&one).await.unwrap();
        assert!(opened.is_kept && read(&later, &opened, "").await == content(2, 200_000));
        // One of the six takes the question and never answers it.
        let copy = second.copy();
        scene.fleet.silence(0);
        let away = scene.next(2, &second, AWAY).await;
        assert!(matches!(away.open_link(&film[1]).await, Err(Fault::Link(_))), "its keepers say that it is released");
        assert_eq!(second.len(), 1);
        // Who is silent or away says nothing, and three are not most of them.
        [1, 2].into_iter().for_each(|host| scene.fleet.power_off(host));
        let away = scene.next(2, &copy, AWAY).await;
        assert!(away.open_link(&film[1]).await.unwrap().is_kept);
    });
}

#[test]
fn of_a_link_that_is_anybodys_nothing_is_kept() {
    Runner::seeded(23).start(|context| async move {
        let scene = Scene::new(context).await;
        let files = Arc::<Files>::default();
        let owner = scene.next(0, &Arc::default(), IN_REACH).await;
        let until_ms = scene.now_ms() + 30 * MINUTE_MS;
        let (film, _) = sold(&owner, &[scene.wire(1).me], until_ms).await;
        let link = owner.share(BUCKET, What::Below("film/"), &[], until_ms).await.unwrap().remove(0);
        let reader = scene.next(1, &files, IN_REACH).await;
        let opened = reader.open_link(&link).await.unwrap();
        assert!(!opened.is_kept && read(&reader, &opened, "1").await == content(1, 300_000));
        assert_eq!(files.len(), 0, "a door opens links of strangers, too");
        reader.open_link(&film[0]).await.unwrap();
        reader.open_link(&link).await.unwrap();
        assert_eq!(files.len(), 2, "of the pass alone");
    });
}
