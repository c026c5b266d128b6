//! Replace and remove what links tell of, and what others are reading, from processes that end at once.

use crate::{
    BUCKET, MINUTE_MS, SECOND, Scene,
    process::{Ours, Payer, content, put_whole},
};
use commonware_runtime::{Clock as _, Runner as _, deterministic::Runner};
use futures::{TryStreamExt as _, future::join_all};
use hodei_sdk::{
    Entry, Fault,
    complete::Source,
    share::{Collection, Opened, Told, What},
    upload::Options,
};
use hodei_types::{share::Link, transport::NodeKey};

async fn entry(cloud: &Ours, key: &str) -> Entry {
    cloud.head(BUCKET, key).await.unwrap().expect("it was put")
}

async fn read(cloud: &Ours, key: &str, entry: &Entry) -> Result<Vec<u8>, Fault> {
    let body = cloud.bytes(BUCKET, key, entry, None, None).await?;
    body.map_ok(|piece| piece.to_vec()).try_concat().await
}

async fn follow(cloud: &Ours, link: &Link) -> Result<Vec<u8>, Fault> {
    let opened = cloud.open_link(link).await?;
    let Told::One(object) = &opened.told else { panic!("it is of several objects") };
    cloud.fetch(&opened, object, None)?.map_ok(|piece| piece.to_vec()).try_concat().await
}

fn folder(opened: &Opened) -> &Collection {
    match &opened.told {
        Told::Many(folder) => folder,
        Told::One(_) => panic!("it is of one object"),
    }
}

async fn below(cloud: &Ours, opened: &Opened, path: &str) -> Result<Vec<u8>, Fault> {
    let object = folder(opened).file(path).unwrap_or_else(|| panic!("{path} is missing"));
    cloud.fetch(opened, object, None)?.map_ok(|piece| piece.to_vec()).try_concat().await
}

async fn link(owner: &Ours, key: &str, until_ms: u64) -> Link {
    let what = What::Object { key, version: None };
    owner.share(BUCKET, what, &[], until_ms).await.unwrap().remove(0)
}

impl Scene {
    async fn wait(&self, minutes: u32) {
        self.context.sleep(SECOND * 60 * minutes).await;
    }
}

#[test]
fn a_link_shows_what_it_was_made_of_until_it_ends_and_then_it_goes() {
    Runner::seeded(6).start(|context| async move {
        let scene = Scene::new(context).await;
        let owner = scene.cloud(&scene.process(0, Payer::Owner)).await;
        put_whole(&owner, "large", 1, 300_000).await;
        let names: Vec<String> = (0..4).map(|at| format!("small/{at}")).collect();
        join_all(names.iter().enumerate().map(|(at, name)| put_whole(&owner, name, 10 + at, 2000))).await;
        let begun_ms = scene.now_ms();
        let until_ms = begun_ms + 30 * MINUTE_MS;
        let large = link(&owner, "large", until_ms + 60 * MINUTE_MS).await;
        let small = link(&owner, "small/1", until_ms).await;
        let old = [entry(&owner, "large").await, entry(&owner, "small/1").await];

        // Another process of the owner's replaces the one, renames the other and then removes it and its neighbours.
        let other = scene.process(1, Payer::Owner);
        let cloud = scene.cloud(&other).await;
        put_whole(&cloud, "large", 2, 5000).await;
        let source = Source { bucket: BUCKET, key: "small/1", entry: &old[1], customer: None };
        cloud.copy(source, BUCKET, "moved", Options::default()).await.unwrap();
        for name in names.iter().map(String::as_str).chain(["moved"]) {
            cloud.remove(BUCKET, name).await.unwrap();
        }
        cloud.close().await.unwrap();
        drop(cloud);
        scene.wait(2).await;
        // The next process there does what that one left to do.
        let next = scene.cloud(&other).await;
        scene.wait(3).await;
        let reader = scene.cloud(&scene.process(2, Payer::Owner)).await;
        assert!(follow(&reader, &large).await.unwrap() == content(1, 300_000));
        assert!(follow(&reader, &small).await.unwrap() == content(11, 2000));
        let listed = reader.list(BUCKET, "", None, None, 100).await.unwrap();
        assert_eq!(listed.entries.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["large"]);

        // One is taken back: what it told of is released, the other's stays until it ends by itself.
        assert_eq!(owner.unshare(BUCKET, &[large.record]).await.unwrap(), 1);
        assert!(matches!(follow(&reader, &large).await, Err(Fault::Link(_))));
        scene.wait(3).await;
        assert!(read(&reader, "large", &old[0]).await.is_err(), "its shards were released");
        assert!(follow(&reader, &small).await.unwrap() == content(11, 2000));
        let rest = reader.list(BUCKET, "", None, None, 100).await.unwrap();
        assert!(read(&reader, "large", &rest.entries[0].1).await.unwrap() == content(2, 5000));
        scene.wait(30).await;
        assert!(matches!(follow(&reader, &small).await, Err(Fault::Link(_))), "it has expired");
        assert!(read(&reader, "small/1", &old[1]).await.is_err(), "its shards were released");
        drop(next);
    });
}

#[test]
fn a_pass_lets_its_reader_follow_a_folder_while_the_owner_is_away_and_nobody_else() {
    Runner::seeded(8).start(|context| async move {
        let scene = Scene::new(context).await;
        let owner = scene.cloud(&scene.process(0, Payer::Owner)).await;
        let reader = scene.cloud(&scene.process(1, Payer::Owner)).await;
        let thief = scene.cloud(&scene.process(2, Payer::Owner)).await;
        put_whole(&owner, "film/large", 1, 300_000).await;
        let small = ["film/small/1", "film/small/2", "beside", "film"];
        join_all(small.iter().enumerate().map(|(at, name)| put_whole(&owner, name, 10 + at, 2000))).await;
        let now_ms = scene.now_ms();
        let until_ms = now_ms + 30 * MINUTE_MS;
        let another = NodeKey([9; 32]);
        let readers = [reader.reader().key, another];
        let passes = owner.share(BUCKET, What::Below("film/"), &readers, until_ms).await.unwrap();
        assert_eq!(passes.iter().map(|pass| pass.reader).collect::<Vec<_>>(), readers.map(Some));
        let listed = owner.shares(BUCKET).await.unwrap();
        assert_eq!((listed.len(), listed[0].readers.len(), listed[0].is_below), (1, 2, true), "one record for both");
        assert!(matches!(owner.share(BUCKET, What::Below("no/"), &[], until_ms).await, Err(Fault::NoObject { .. })));

        // All of it is replaced or removed, and the owner goes.
        put_whole(&owner, "film/large", 2, 5000).await;
        for name in small {
            owner.remove(BUCKET, name).await.unwrap();
        }
        owner.close().await.unwrap();
        scene.wait(3).await;
        let opened = reader.open_link(&passes[0]).await.unwrap();
        let paths: Vec<&str> = folder(&opened).files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!((folder(&opened).name.as_str(), paths), ("film", vec!["large", "small/1", "small/2"]));
        assert!(below(&reader, &opened, "large").await.unwrap() == content(1, 300_000));
        assert!(below(&reader, &opened, "small/2").await.unwrap() == content(11, 2000));
        let sources = reader.sources(&opened);
        let bytes: u64 = sources.iter().map(|source| source.bytes).sum();
        assert!(!sources.is_empty() && bytes > 300_000, "{sources:?}");
        assert!(sources.is_sorted_by_key(|source| source.fastest));

        // Somebody else has the word: as it is, as if it were a link, and as if it were for them.
        assert!(matches!(thief.open_link(&passes[0]).await, Err(Fault::Pass { .. })));
        for reader in [None, Some(thief.reader().key)] {
            let bent = Link { reader, ..passes[0].clone() };
            assert!(matches!(thief.open_link(&bent).await, Err(Fault::Get(_))), "providers refuse: {reader:?}");
        }
        let longer = Link { expires_ms: until_ms + MINUTE_MS, ..passes[0].clone() };
        assert!(matches!(reader.open_link(&longer).await, Err(Fault::Get(_))), "nobody signed that");

        // It ends with its time, and what it kept is released.
        scene.wait(30).await;
        assert!(matches!(reader.open_link(&passes[0]).await, Err(Fault::Link(_))), "it has expired");
    });
}

#[test]
fn who_reads_ends_in_peace_though_a_process_that_ends_replaced_it() {
    Runner::seeded(7).start(|context| async move {
        let scene = Scene::new(context).await;
        let reader = scene.cloud(&scene.process(0, Payer::Owner)).await;
        put_whole(&reader, "replaced", 1, 300_000).await;
        put_whole(&reader, "removed", 2, 300_000).await;
        let old = [entry(&reader, "replaced").await, entry(&reader, "removed").await];
        let brief = scene.process(1, Payer::Owner);
        let cloud = scene.cloud(&brief).await;
        put_whole(&cloud, "replaced", 3, 1000).await;
        cloud.remove(BUCKET, "removed").await.unwrap();
        cloud.close().await.unwrap();
        drop(cloud);
        assert!(read(&reader, "replaced", &old[0]).await.unwrap() == content(1, 300_000));
        assert!(read(&reader, "removed", &old[1]).await.unwrap() == content(2, 300_000));

        // After the grace the next process of that identity releases it, and none before.
        scene.wait(3).await;
        assert!(read(&reader, "removed", &old[1]).await.is_ok(), "nobody was there to release it");
        let cloud = scene.cloud(&brief).await;
        cloud.close().await.unwrap();
        for (key, old) in ["replaced", "removed"].iter().zip(&old) {
            assert!(read(&reader, key, old).await.is_err(), "the shards of what was {key} were released");
        }
        assert!(read(&reader, "replaced", &entry(&reader, "replaced").await).await.unwrap() == content(3, 1000));
    });
}
