//! Show that shards are made again without a key to what is in them, and that nothing else can be passed off as them.

use super::{Runner, care, get, place, plain, put, run, small, wanted};
use crate::fleet::{Fleet, Mode};
use bytes::Bytes;
use commonware_runtime::Runner as _;
use futures::TryStreamExt as _;
use hodei_storage::{
    engine::{Loss, Patience, Pool, RestoreError, STRIPES_BYTES, Stored, Verdict, Wait},
    manifest::Page,
    overlay::Overlay,
    pads::PartPads,
    seal::{PartKey, Secret},
};
use std::sync::{Arc, Mutex};

/// The page of what was put, as a custodian reads it.
async fn page(fleet: &Fleet, engine: &super::Engine<super::Context, Fleet>, stored: &Stored) -> Arc<Page> {
    let roster = fleet.roster();
    let bytes = engine.get_copy(&roster, stored.page.id, stored.page.bytes, |_| {}).await.unwrap();
    Arc::new(Page::open(&stored.page.id, &bytes).unwrap())
}

/// What was lost of stripe `at` with these providers.
fn loss(
    fleet: &Fleet,
    page: &Arc<Page>,
    at: usize,
    pads: &PartPads,
    lost: &[usize],
    told: &Arc<Mutex<Vec<Verdict>>>,
) -> Loss {
    let roster = fleet.roster();
    let place = |shard: u8| {
        let node = page.holder(at, shard).unwrap().node;
        roster.iter().position(|provider| provider.peer.key == node).unwrap()
    };
    let (gone, there): (Vec<u8>, Vec<u8>) = (0..page.n).partition(|shard| lost.contains(&place(*shard)));
    let told = told.clone();
    Loss {
        shape: small(),
        page: page.clone(),
        at,
        pads: pads.stripe(at as u32),
        there: there.into_iter().map(|shard| (shard, place(shard))).collect(),
        wanted: gone,
        verdict: Arc::new(move |verdict| told.lock().unwrap().push(verdict)),
        roster: roster.clone(),
    }
}

#[test]
fn what_was_lost_is_made_again_by_who_can_read_nothing_and_found_by_who_reads() {
    Runner::seeded(8).start(|context| async move {
        let fleet = Fleet::new(&context, 8);
        let engine = fleet.engine(&context, Pool::new(STRIPES_BYTES));
        // Two stripes and a bit.
        let data = plain(2_000_000);
        let mut stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        std::mem::take(&mut stored.rest).settle().await;
        let page = page(&fleet, &engine, &stored).await;
        assert_eq!(page.stripes.len(), 3);
        let (pads, first) = page.entrusted(&care()).unwrap();
        // A page that nobody of the owner's made is none.
        let mut forged = (*page).clone();
        forged.stripes.swap(0, 1);
        assert!(forged.entrusted(&care()).is_err() && page.entrusted(&Secret::new([6; 32])).is_err());
        assert_eq!(first, 0);
        // Of six that hold a shard each, two go with all they have; a third one lies.
        let roster = fleet.roster();
        let holders: Vec<usize> =
            (0..8).filter(|at| page.holders.iter().any(|held| held.node == fleet.node(*at))).collect();
        let spares: Vec<usize> = (0..8).filter(|at| !holders.contains(at)).collect();
        assert_eq!((holders.len(), spares.len()), (6, 2));
        let lost = &holders[..2];
        lost.iter().for_each(|at| fleet.set(*at, Mode::Down));
        fleet.set(holders[2], Mode::Corrupt);
        let (told, mut overlay) = (Arc::default(), Overlay::default());
        for at in 0..page.stripes.len() {
            let remade = engine.restore(loss(&fleet, &page, at, &pads, lost, &told)).await.unwrap();
            assert_eq!(remade.shards.len(), 2);
            assert_eq!(remade.read_bytes, 3 * u64::from(page.stripes[at].shard_bytes));
            for ((shard, bytes), place) in remade.shards.into_iter().zip(spares.iter().copied()) {
                let to = (roster.clone(), place);
                let held = engine.copy_to(small(), to, [1; 16], bytes, Patience::Moment).await.unwrap();
                assert_eq!(held.ack.statement.deal, roster[place].deal);
                overlay.add(page.stripes[at].ids[usize::from(shard)], roster[place].deal);
            }
        }
        let liars: Vec<_> = told.lock().unwrap().iter().map(|verdict| verdict.node).collect();
        assert!(liars.iter().all(|node| *node == fleet.node(holders[2])), "{liars:?}");
        // All but three of the six gone: only with what was made again is there enough.
        fleet.set(holders[3], Mode::Down);
        fleet.set(holders[2], Mode::Down);
        let got = get(&fleet, &engine, &stored, 0..data.len() as u64).await;
        assert!(got.bytes.unwrap_err().is_temporary());
        let request = super::GetRequest {
            overlay: Arc::new(overlay),
            ..wanted(&fleet, &stored, 0..data.len() as u64, Arc::default())
        };
        let pieces: Vec<Bytes> = engine.get(request).await.unwrap().try_collect().await.unwrap();
        assert!(pieces.concat() == data, "it came back as something else");
    });
}

#[test]
fn nothing_else_is_brought_away_as_what_was_lost() {
    run(8, |_, fleet, engine| async move {
        let mut stored = put(&fleet, &engine, &plain(500_000), Wait::Full).await.unwrap();
        std::mem::take(&mut stored.rest).settle().await;
        let (page, told) = (page(&fleet, &engine, &stored).await, Arc::default());
        let shards = fleet.shards();
        // Pads of another part make other bytes.
        let other = PartKey::new(&Secret::new([9; 32]), &place());
        let forged = loss(&fleet, &page, 0, other.pads(), &[0], &told);
        let (there, wanted) = (forged.there.len(), forged.wanted.len());
        assert_eq!(there + wanted, 6);
        let result = engine.restore(forged).await;
        assert!(wanted == 0 || matches!(result, Err(RestoreError::Forged { .. })), "{result:?}");
        assert_eq!(fleet.shards(), shards, "nothing was brought away");
        // Too few to make anything of.
        let right = PartKey::new(&Secret::new([4; 32]), &place());
        let mut few = loss(&fleet, &page, 0, right.pads(), &[0], &told);
        few.there.truncate(2);
        assert!(matches!(engine.restore(few).await, Err(RestoreError::Shards { found: 2, want: 3, .. })));
    });
}
