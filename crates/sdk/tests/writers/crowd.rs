//! Let readers keep what they read and give it to each other, with providers away, liars and thieves among them.

use crate::{
    BUCKET, HOSTS, MINUTE_MS, SECOND, Scene,
    ledger::Door,
    machine::Mood,
    process::{Ours, Payer, content, read},
};
use commonware_runtime::{Clock as _, Runner as _, Supervisor as _, deterministic::Runner, mocks};
use futures::{FutureExt as _, stream};
use hodei_sdk::{
    crowd::Settings,
    plan::Wish,
    share::{Opened, Others, Told, What},
    upload::Options,
};
use hodei_storage::{
    crowd::Question,
    wire::{self, Answer, MESSAGE_BYTES_MAX, Reason},
};
use hodei_types::{
    share::Link,
    slice::ShardId,
    transport::{CROWD, Incoming, NodeKey, Peer, Transport as _},
};
use std::{
    collections::BTreeSet,
    convert::Infallible,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// One whole stripe, and one that is not.
const LEN: u64 = 900_000;
/// Long enough for readers to say what they keep, and to hear of each other.
const MET: u32 = 60;

fn peer(key: NodeKey) -> Peer {
    Peer::at(key, vec![([127, 0, 0, 1], 9).into()])
}

fn settings(keep_bytes: u64) -> Settings {
    Settings { keep_bytes, upload_bytes_per_s: None, addresses: peer(NodeKey([0; 32])).addresses, is_asking: true }
}

/// What became of one question to a reader.
async fn asked(scene: &Scene, number: u8, keeper: NodeKey, question: Question) -> Answer {
    let (mut sink, mut stream) = scene.wire(number).open(&peer(keeper), CROWD).await.unwrap();
    wire::send(&mut sink, question.encode(), bytes::Bytes::new()).await.unwrap();
    Answer::decode(&wire::receive(&mut stream, MESSAGE_BYTES_MAX).await.unwrap()).unwrap()
}

/// What a question to the ledger leads to: its line drops one now and then.
async fn patiently<T, E: Debug, F: Future<Output = Result<T, E>>>(mut work: impl FnMut() -> F) -> T {
    for _ in 0..5 {
        if let Ok(done) = work().await {
            return done;
        }
    }
    work().await.unwrap()
}

/// The page of a file of a folder: what whoever read it keeps.
fn kept_in(opened: &Opened, path: &str) -> ShardId {
    let Told::Many(folder) = &opened.told else { panic!("it is a folder") };
    folder.file(path).expect("it is in the folder").parts[0].page.id
}

/// A film of two files, sold to as many readers; the passes are of readers `1..`.
async fn sold(scene: &Scene, readers: u8, minutes: u64) -> Vec<Link> {
    sold_in(scene, BUCKET, readers, minutes).await
}

/// The same in a bucket of that name, which is made where it is not there.
async fn sold_in(scene: &Scene, bucket: &str, readers: u8, minutes: u64) -> Vec<Link> {
    let owner = scene.cloud(&scene.process(0, Payer::Owner)).await;
    if bucket != BUCKET {
        let door = Door::new(&scene.world.ledger, scene.context.child("door"), &scene.world.dice, &Mood::default(), 0);
        let maker = scene.cloud_of(Payer::Owner.wallet(Arc::new(door))).await;
        let plan = maker.plan(&Wish::default()).await.unwrap();
        maker.create_bucket(bucket, &plan).await.unwrap();
        maker.close().await.unwrap();
    }
    for (number, key) in ["film/1", "film/2"].into_iter().enumerate() {
        let source = || stream::iter([Ok::<_, Infallible>(content(number + 1, LEN))]);
        patiently(|| owner.put(bucket, key, source(), Options::default())).await;
    }
    let now_ms = scene.now_ms();
    let keys: Vec<NodeKey> = (1..=readers).map(|number| scene.wire(number).me).collect();
    let passes = patiently(|| owner.share(bucket, What::Below("film/"), &keys, now_ms + minutes * MINUTE_MS)).await;
    patiently(|| owner.close()).await;
    passes
}

/// A reader among readers that answers others.
async fn reader(scene: &Scene, number: u8, settings: Settings) -> Ours {
    let cloud = scene.cloud(&scene.process(number.into(), Payer::Owner)).await;
    let crowd = cloud.join_crowd(settings).await;
    let door = move |incoming: Incoming<mocks::Sink, mocks::Stream>| {
        let crowd = crowd.clone();
        async move { crowd.serve(incoming).await }.boxed()
    };
    scene.fleet.reached(scene.wire(number).me, Arc::new(door));
    cloud
}

#[test]
fn a_reader_reads_from_another_what_providers_do_not_give_and_a_thief_from_nobody() {
    Runner::seeded(11).start(|context| async move {
        let scene = Scene::new(context).await;
        let passes = sold(&scene, 2, 60).await;
        let elsewhere = sold_in(&scene, "other-bucket", 2, 60).await;
        let first = reader(&scene, 1, settings(64 << 20)).await;
        patiently(|| first.open_link(&elsewhere[0])).await;
        let opened = patiently(|| first.open_link(&passes[0])).await;
        for (number, path) in [(1, "1"), (2, "2")] {
            assert!(read(&first, &opened, path).await == content(number, LEN));
        }
        assert_eq!(first.others(&opened), Others::default(), "there was nobody else");
        scene.context.sleep(SECOND * MET).await;
        let again: u64 = first.sources(&opened).iter().map(|source| source.bytes).sum();
        assert!(read(&first, &opened, "1").await == content(1, LEN));
        let still: u64 = first.sources(&opened).iter().map(|source| source.bytes).sum();
        assert_eq!(again, still, "what is kept is asked of nobody again");

        // The second reads one, and hears of the first; then providers go until too few are left for any stripe.
        let second = reader(&scene, 2, settings(0)).await;
        let theirs = patiently(|| second.open_link(&passes[1])).await;
        assert!(read(&second, &theirs, "1").await == content(1, LEN));
        scene.context.sleep(SECOND * MET).await;
        assert!(read(&second, &theirs, "1").await == content(1, LEN));
        let Others { readers, bytes } = second.others(&theirs);
        assert!(readers == 1 && bytes > 0, "a part came from the first: {bytes}");
        assert!(bytes <= 2 * LEN * 2 / 3, "and not most of it: {bytes}");
        (2..HOSTS).for_each(|host| scene.fleet.power_off(host));
        assert!(read(&second, &theirs, "2").await == content(2, LEN));
        (0..2).for_each(|host| scene.fleet.power_off(host));
        assert!(read(&second, &theirs, "2").await == content(2, LEN), "page and shards came from the first alone");
        assert_eq!(second.others(&theirs).readers, 1);

        // Whoever has the second's word is not the second.
        let keeper = scene.wire(1).me;
        let ask = |link: &Link| Question::Ask {
            bucket: link.bucket.0,
            id: ShardId([7; 32]),
            grant: link.grant().encode().to_vec(),
        };
        assert_eq!(asked(&scene, 2, keeper, ask(&passes[1])).await, Answer::Gone, "the reader itself may ask");
        // What is kept is given under the word of its own bucket alone, though links of another are open here too.
        let kept = kept_in(&theirs, "1");
        let of = |link: &Link| Question::Ask { bucket: link.bucket.0, id: kept, grant: link.grant().encode().to_vec() };
        let answer = asked(&scene, 2, keeper, of(&passes[1])).await;
        assert!(matches!(answer, Answer::Slice { .. }), "{answer:?}");
        assert_eq!(asked(&scene, 2, keeper, of(&elsewhere[1])).await, Answer::Gone, "nothing of another bucket");
        // Who asks nothing keeps nobody out.
        let mut silent = Vec::new();
        for number in [3, 4, 5] {
            for _ in 0..5 {
                silent.push(scene.wire(number).open(&peer(keeper), CROWD).await.unwrap());
            }
        }
        scene.context.sleep(SECOND).await;
        let answer = asked(&scene, 2, keeper, of(&passes[1])).await;
        assert!(matches!(answer, Answer::Slice { .. }), "{answer:?}");
        drop(silent);
        let bent = Link { expires_ms: passes[1].expires_ms + MINUTE_MS, ..passes[1].clone() };
        let unknown = Link { bucket: [3; 32].into(), ..passes[1].clone() };
        let mut told = BTreeSet::new();
        for (number, link) in [(3, &passes[1]), (2, &bent), (2, &passes[0]), (2, &unknown)] {
            match asked(&scene, number, keeper, ask(link)).await {
                Answer::Refused { reason: Reason::NotGranted, text } => told.insert(text),
                answer => panic!("{number}: {answer:?}"),
            };
        }
        assert_eq!(told.len(), 1, "nor is it told which buckets are open: {told:?}");
        scene.context.sleep(SECOND * 60 * 60).await;
        let answer = asked(&scene, 2, keeper, ask(&passes[1])).await;
        assert!(matches!(answer, Answer::Refused { reason: Reason::NotGranted, .. }), "it has ended: {answer:?}");
        scene.fleet.forget_readers();
    });
}

#[test]
fn a_reader_that_lies_is_asked_no_more_and_costs_no_byte() {
    Runner::seeded(12).start(|context| async move {
        let scene = Scene::new(context).await;
        let passes = sold(&scene, 2, 60).await;
        // It says what it keeps as others do, and gives something else.
        let liar = reader(&scene, 1, settings(64 << 20)).await;
        let questions = Arc::new(AtomicUsize::new(0));
        let counted = questions.clone();
        let lies = move |incoming: Incoming<mocks::Sink, mocks::Stream>| {
            let questions = counted.clone();
            async move {
                let Incoming { mut sink, mut stream, .. } = incoming;
                let Ok(_) = wire::receive(&mut stream, MESSAGE_BYTES_MAX).await else { return };
                questions.fetch_add(1, Ordering::Relaxed);
                let (shard_bytes, offset, len) = (256 * 1024, 0, 256 * 1024);
                let answer = Answer::Slice { shard_bytes, offset, len, hashes: Vec::new() };
                let _ = wire::send(&mut sink, answer.encode(), vec![0; len as usize].into()).await;
            }
            .boxed()
        };
        scene.fleet.reached(scene.wire(1).me, Arc::new(lies));
        let opened = patiently(|| liar.open_link(&passes[0])).await;
        for path in ["1", "2"] {
            read(&liar, &opened, path).await;
        }
        scene.context.sleep(SECOND * MET).await;
        let honest = reader(&scene, 2, settings(0)).await;
        let theirs = patiently(|| honest.open_link(&passes[1])).await;
        assert!(read(&honest, &theirs, "1").await == content(1, LEN));
        scene.context.sleep(SECOND * MET).await;
        assert!(read(&honest, &theirs, "1").await == content(1, LEN));
        let asked = questions.load(Ordering::Relaxed);
        assert!(asked > 0, "it was believed once");
        for _ in 0..3 {
            scene.context.sleep(SECOND * MET).await;
            for (number, path) in [(1, "1"), (2, "2")] {
                assert!(read(&honest, &theirs, path).await == content(number, LEN));
            }
        }
        assert_eq!(questions.load(Ordering::Relaxed), asked, "it is asked no more");
        assert_eq!(honest.others(&theirs), Others::default(), "nothing of it was used");
        assert!(honest.blamed().is_empty(), "nobody is blamed: it had promised nothing");
        scene.fleet.forget_readers();
    });
}

#[test]
fn under_a_link_no_other_reader_is_shown_its_word() {
    Runner::seeded(13).start(|context| async move {
        let scene = Scene::new(context).await;
        let passes = sold(&scene, 1, 60).await;
        let now_ms = scene.now_ms();
        let owner = scene.cloud(&scene.process(0, Payer::Owner)).await;
        let links = patiently(|| owner.share(BUCKET, What::Below("film/"), &[], now_ms + 60 * MINUTE_MS)).await;
        let first = reader(&scene, 1, settings(64 << 20)).await;
        let opened = patiently(|| first.open_link(&passes[0])).await;
        for (number, path) in [(1, "1"), (2, "2")] {
            assert!(read(&first, &opened, path).await == content(number, LEN));
        }
        scene.context.sleep(SECOND * MET).await;
        let second = reader(&scene, 2, settings(0)).await;
        let theirs = patiently(|| second.open_link(&links[0])).await;
        for _ in 0..2 {
            assert!(read(&second, &theirs, "1").await == content(1, LEN));
            scene.context.sleep(SECOND * MET).await;
        }
        assert_eq!(second.others(&theirs), Others::default());
        scene.fleet.forget_readers();
    });
}

#[test]
fn with_most_providers_silent_a_reader_hears_who_keeps_it_from_the_others_and_reads_on() {
    Runner::seeded(14).start(|context| async move {
        let scene = Scene::new(context).await;
        let passes = sold(&scene, 2, 60).await;
        let first = reader(&scene, 1, settings(64 << 20)).await;
        let opened = patiently(|| first.open_link(&passes[0])).await;
        for (number, path) in [(1, "1"), (2, "2")] {
            assert!(read(&first, &opened, path).await == content(number, LEN));
        }
        scene.context.sleep(SECOND * MET).await;
        // Nothing of it was read by the second, nor has it heard of the first, when all but two say nothing any more.
        let second = reader(&scene, 2, settings(0)).await;
        let theirs = patiently(|| second.open_link(&passes[1])).await;
        (2..HOSTS).for_each(|host| scene.fleet.silence(host));
        for (number, path) in [(1, "1"), (2, "2")] {
            let start = scene.context.current();
            assert!(read(&second, &theirs, path).await == content(number, LEN));
            let took = scene.context.current().duration_since(start).unwrap();
            assert!(took < SECOND * 10, "{path}: nobody silent is waited for to the end: {took:?}");
        }
        let Others { readers, bytes } = second.others(&theirs);
        assert!(readers == 1 && bytes > 0, "{readers} readers gave {bytes}");
        // All of them.
        (0..2).for_each(|host| scene.fleet.silence(host));
        assert!(read(&second, &theirs, "1").await == content(1, LEN));
        scene.fleet.forget_readers();
    });
}
