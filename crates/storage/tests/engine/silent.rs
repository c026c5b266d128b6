//! Stop providers in every way that shows late, and read on from who is left and from other readers.

use crate::{
    fleet::{CHAIN_ID, Fleet, Mode},
    pack_coder, plain, put, put_pack, run, small, wanted,
};
use bytes::Bytes;
use commonware_runtime::{Clock as _, Spawner as _, Supervisor as _, deterministic::Context, mocks};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture};
use hodei_storage::{
    crowd::Question,
    engine::{Crowd, Engine, GetRequest, Outcome, Pool, Provider, STRIPES_BYTES, Stored, Wait},
    wire::{self, Answer, MESSAGE_BYTES_MAX},
};
use hodei_types::{
    grant::{Grant, Rights},
    slice::{self, CHUNK_BYTES, ShardId},
    transport::{CROWD, NodeKey, Peer, Protocol, Transport, TransportError},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

const BUCKET: [u8; 32] = [2; 32];
/// More than the longest patience with one question: whatever waits for one after another takes longer.
const SOON: Duration = Duration::from_secs(3);

/// Another reader, and what it keeps.
#[derive(Default)]
struct Keeping {
    shards: BTreeMap<ShardId, Bytes>,
    /// It is busy at every second question.
    is_busy: bool,
    /// And at so many to begin with.
    busy_at_first: usize,
    questions: usize,
    gave: usize,
}

/// The fleet, and other readers beside it; counts streams by whom they are opened to.
#[derive(Clone)]
struct World {
    context: Arc<Context>,
    fleet: Fleet,
    readers: Arc<BTreeMap<NodeKey, Mutex<Keeping>>>,
    opened: Arc<Mutex<BTreeMap<NodeKey, usize>>>,
}

impl World {
    fn new(context: &Context, fleet: &Fleet, readers: Vec<Keeping>) -> Self {
        let key = |at: usize| NodeKey([100 + at as u8; 32]);
        let readers = readers.into_iter().enumerate().map(|(at, keeping)| (key(at), Mutex::new(keeping)));
        let (context, readers) = (Arc::new(context.child("world")), Arc::new(readers.collect()));
        Self { context, fleet: fleet.clone(), readers, opened: Arc::default() }
    }

    fn engine(&self) -> Engine<Context, Self> {
        Engine::new(self.context.child("reader"), self.clone(), CHAIN_ID, Pool::new(STRIPES_BYTES))
    }

    /// Streams opened to anybody so far.
    fn streams(&self) -> usize {
        self.opened.lock().unwrap().values().sum()
    }

    /// Streams opened to a provider so far.
    fn opened(&self, host: usize) -> usize {
        self.opened.lock().unwrap().get(&self.fleet.node(host)).copied().unwrap_or(0)
    }

    fn gave(&self) -> Vec<usize> {
        self.readers.values().map(|keeping| keeping.lock().unwrap().gave).collect()
    }

    /// To be read by one reader, who knows the others.
    fn request(&self, stored: &Stored) -> GetRequest {
        let (client, secret) = (NodeKey([7; 32]), [7; 32]);
        let grant = Grant::sign(&secret, CHAIN_ID, BUCKET.into(), &client, Rights::READ, u64::MAX).unwrap().encode();
        let roster = self.fleet.roster();
        let roster = roster.iter().map(|provider| Provider { grant: grant.clone(), ..provider.clone() }).collect();
        let known = self.readers.keys().map(|key| Peer::at(*key, Vec::new())).collect();
        let request = wanted(&self.fleet, stored, 0..stored.size_bytes, Arc::default());
        GetRequest { roster: Arc::new(roster), crowd: Some(Arc::new(Known(known))), ..request }
    }
}

/// Other readers that are known.
struct Known(Vec<Peer>);

impl Crowd for Known {
    fn bucket(&self) -> [u8; 32] {
        BUCKET
    }

    fn kept(&self, _: ShardId) -> BoxFuture<'_, Option<Bytes>> {
        async { None }.boxed()
    }

    fn got(&self, _: ShardId, _: &Bytes) {}

    fn keepers(&self) -> Vec<Peer> {
        self.0.clone()
    }

    fn asked(&self, _: &NodeKey, _: Outcome) {}
}

impl Transport for World {
    type Sink = mocks::Sink;
    type Stream = mocks::Stream;

    async fn open(&self, peer: &Peer, protocol: Protocol) -> Result<(mocks::Sink, mocks::Stream), TransportError> {
        *self.opened.lock().unwrap().entry(peer.key).or_default() += 1;
        if protocol != CROWD {
            return self.fleet.open(peer, protocol).await;
        }
        let (client_sink, mut stream) = mocks::Channel::init();
        let (mut sink, client_stream) = mocks::Channel::init();
        let (readers, key) = (self.readers.clone(), peer.key);
        self.context.child("door").spawn(move |context| async move {
            let Ok(question) = wire::receive(&mut stream, MESSAGE_BYTES_MAX).await else { return };
            let Ok(Question::Ask { id, .. }) = Question::decode(&question) else { return };
            context.sleep(Duration::from_millis(2)).await;
            let (answer, body) = answer(&mut readers[&key].lock().unwrap(), id);
            // Who asked may have it from somebody else by now.
            let _ = wire::send(&mut sink, answer.encode(), body).await;
        });
        Ok((client_sink, client_stream))
    }
}

fn answer(keeping: &mut Keeping, id: ShardId) -> (Answer, Bytes) {
    keeping.questions += 1;
    if keeping.questions <= keeping.busy_at_first || keeping.is_busy && keeping.questions.is_multiple_of(2) {
        return (Answer::Busy { retry_after_ms: 100 }, Bytes::new());
    }
    let Some(shard) = keeping.shards.get(&id).cloned() else { return (Answer::Gone, Bytes::new()) };
    keeping.gave += 1;
    let (len, hashes) = (shard.len() as u32, slice::prove(&shard, 0..shard.len() / CHUNK_BYTES).concat());
    (Answer::Slice { shard_bytes: len, offset: 0, len, hashes }, shard)
}

/// One that keeps all there is.
fn whole(fleet: &Fleet) -> Keeping {
    Keeping { shards: fleet.all(), ..Keeping::default() }
}

/// Reads, and says how long it took.
async fn read(context: &Context, engine: &Engine<Context, World>, request: GetRequest) -> (Vec<u8>, Duration) {
    let start = context.current();
    let body = engine.get(request).await.unwrap_or_else(|error| panic!("{error}"));
    let bytes = body.map_ok(|piece| piece.to_vec()).try_concat().await.unwrap_or_else(|error| panic!("{error}"));
    (bytes, context.current().duration_since(start).unwrap())
}

#[test]
fn whoever_accepts_and_never_answers_is_gone_round_once_and_seen_again_by_one_question() {
    for (seed, silent) in [(31, 4), (32, 5), (33, 6)] {
        run(seed, move |context, fleet, engine| async move {
            let data = plain(24 << 20);
            let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
            let world = World::new(&context, &fleet, vec![whole(&fleet)]);
            let reader = world.engine();
            (0..silent).for_each(|host| fleet.set(host, Mode::Mute));
            let opened = || (0..silent).map(|host| world.opened(host)).collect::<Vec<_>>();
            let (bytes, took) = read(&context, &reader, world.request(&stored)).await;
            assert!(bytes == data, "{silent} silent");
            assert!(took < SOON, "{silent} silent: one silence is waited for, not one for each stripe: {took:?}");
            let first = opened();
            let is_few = first.iter().all(|questions| *questions <= 8);
            assert!(is_few, "a page's question, and those that were under way when it fell silent: {first:?}");
            // It is remembered.
            let (bytes, took) = read(&context, &reader, world.request(&stored)).await;
            assert!(bytes == data && took < SOON, "{took:?}");
            assert_eq!(opened(), first, "nobody silent is asked again");
            // After a minute one question looks whether it is back.
            context.sleep(Duration::from_secs(61)).await;
            let (bytes, took) = read(&context, &reader, world.request(&stored)).await;
            assert!(bytes == data && took < SOON, "{took:?}");
            for (host, (now, before)) in opened().into_iter().zip(first).enumerate() {
                let more = now - before;
                assert!(more <= 2, "{silent} silent, host {host}: {more} questions in vain");
            }
        });
    }
}

#[test]
fn providers_that_stop_in_the_middle_of_an_object_or_of_an_answer_cost_a_moment() {
    for (seed, mode) in [(41, Mode::Mute), (42, Mode::Stall)] {
        run(seed, move |context, fleet, engine| async move {
            let data = plain(24 << 20);
            let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
            let world = World::new(&context, &fleet, vec![whole(&fleet)]);
            let mut body = world.engine().get(world.request(&stored)).await.unwrap();
            let mut bytes = body.next().await.unwrap().unwrap().to_vec();
            (0..4).for_each(|host| fleet.set(host, mode));
            let start = context.current();
            bytes.extend(
                body.map_ok(|piece| piece.to_vec()).try_concat().await.unwrap_or_else(|error| panic!("{error}")),
            );
            let took = context.current().duration_since(start).unwrap();
            assert!(bytes == data, "{mode:?}");
            assert!(took < SOON, "{mode:?}: {took:?}");
            assert!(world.gave()[0] > 0, "{mode:?}");
        });
    }
}

#[test]
fn what_one_reader_lacks_another_has_and_who_is_busy_is_waited_for() {
    run(43, |context, fleet, engine| async move {
        let data = plain(8 << 20);
        let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        // The first lacks every second shard; the second is busy at every second question.
        let mut part = whole(&fleet);
        part.shards = part.shards.into_iter().step_by(2).collect();
        let busy = Keeping { is_busy: true, ..whole(&fleet) };
        let world = World::new(&context, &fleet, vec![part, busy]);
        (0..6).for_each(|host| fleet.set(host, Mode::Mute));
        let (bytes, took) = read(&context, &world.engine(), world.request(&stored)).await;
        assert!(bytes == data && took < 10 * SOON, "{took:?}");
        let gave = world.gave();
        assert!(gave.iter().all(|gave| *gave > 0), "{gave:?}");
    });
}

#[test]
fn a_reader_that_is_busy_again_and_again_gives_all_in_the_end() {
    run(44, |context, fleet, engine| async move {
        let data = plain(24 << 20);
        let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        let busy = Keeping { is_busy: true, busy_at_first: 3, ..whole(&fleet) };
        let world = World::new(&context, &fleet, vec![busy]);
        (0..6).for_each(|host| fleet.set(host, Mode::Mute));
        let (bytes, took) = read(&context, &world.engine(), world.request(&stored)).await;
        assert!(bytes == data && took < 20 * SOON, "{took:?}");
    });
}

#[test]
fn a_member_of_a_pack_comes_from_a_reader_where_its_holders_are_silent() {
    run(45, |context, fleet, engine| async move {
        let data = plain(3_000_000);
        let stored = put_pack(&fleet, &engine, &data).await;
        let world = World::new(&context, &fleet, vec![whole(&fleet)]);
        let reader = world.engine();
        (0..6).for_each(|host| fleet.set(host, Mode::Mute));
        let start = context.current();
        for from in [0usize, 1_500_000, 2_900_000] {
            let range = from as u64..from as u64 + 1_000;
            let request = GetRequest { coder: pack_coder(&small()), range, ..world.request(&stored) };
            let bytes = reader.get_slice(request).await.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(bytes, data[from..from + 1_000]);
        }
        let took = context.current().duration_since(start).unwrap();
        assert!(took < 2 * SOON, "{took:?}");
    });
}

#[test]
fn an_error_says_how_many_were_silent_and_whether_a_reader_was_asked() {
    run(46, |context, fleet, engine| async move {
        let stored = put(&fleet, &engine, &plain(1_000_000), Wait::Full).await.unwrap();
        (0..4).for_each(|host| fleet.set(host, Mode::Mute));
        for (readers, expected) in [(0, "no other reader was asked"), (1, "the other reader asked is without it")] {
            let nothing = (0..readers).map(|_| Keeping::default()).collect();
            let world = World::new(&context, &fleet, nothing);
            let error = match world.engine().get(world.request(&stored)).await {
                Ok(body) => body.try_collect::<Vec<_>>().await.unwrap_err(),
                Err(error) => error,
            };
            let text = error.to_string();
            assert!(error.is_temporary() && text.contains("4 silent") && text.contains(expected), "{text}");
        }
    });
}

#[test]
fn one_that_is_busy_keeps_nobody_from_asking_those_who_were_late_once() {
    run(47, |context, fleet, engine| async move {
        let data = plain(8 << 20);
        let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        let world = World::new(&context, &fleet, Vec::new());
        let reader = world.engine();
        // All three are asked beside the others, which take their time.
        (0..3).for_each(|host| fleet.set(host, Mode::Slow(200)));
        (3..6).for_each(|host| fleet.set(host, Mode::Mute));
        let (bytes, _) = read(&context, &reader, world.request(&stored)).await;
        assert!(bytes == data);
        (0..3).for_each(|host| fleet.set(host, Mode::Up));
        for host in 3..6 {
            assert!(reader.peers().is_late(&fleet.node(host), context.current()), "{host}");
            fleet.set(host, Mode::Up);
        }
        // Two are left of whom nothing bad is known, and a third says for hours that it rests.
        fleet.set(2, Mode::Busy(5_000));
        let before = world.opened(2);
        let (bytes, took) = read(&context, &reader, world.request(&stored)).await;
        assert!(bytes == data && took < SOON, "{took:?}");
        let asked = world.opened(2) - before;
        assert!(asked <= 8, "for the page, and four at once: {asked}");
    });
}

#[test]
fn far_providers_are_asked_for_k_shards_and_for_one_more_where_one_is_busy() {
    run(48, |context, fleet, engine| async move {
        let small = plain(700_000);
        let stripe = put(&fleet, &engine, &small, Wait::Full).await.unwrap();
        // Each lies at others: of one alone some would never be asked.
        let mut warm = Vec::new();
        for _ in 0..8 {
            warm.push(put(&fleet, &engine, &small, Wait::Full).await.unwrap());
        }
        let world = World::new(&context, &fleet, Vec::new());
        let (reader, far) = (world.engine(), Mode::Slow(150));
        (0..6).for_each(|host| fleet.set(host, far));
        let is_known = || {
            let (peers, now) = (reader.peers(), context.current());
            (0..6)
                .map(|host| fleet.node(host))
                .all(|node| !peers.is_late(&node, now) && peers.latency(&node) > Duration::from_millis(100))
        };
        for stored in warm.iter().cycle().take(200) {
            if is_known() {
                break;
            }
            let (bytes, _) = read(&context, &reader, world.request(stored)).await;
            assert!(bytes == small);
            context.sleep(Duration::from_secs(61)).await;
        }
        assert!(is_known(), "how far they are is learnt");
        let before = world.streams();
        let (bytes, _) = read(&context, &reader, world.request(&stripe)).await;
        assert!(bytes == small);
        assert_eq!(world.streams() - before, 1 + 3, "a page and k shards");
        for busy in 0..6 {
            fleet.set(busy, Mode::Busy(100));
            let before = world.streams();
            let (bytes, took) = read(&context, &reader, world.request(&stripe)).await;
            assert!(bytes == small && took < SOON / 4, "{took:?}");
            let streams = world.streams() - before;
            assert!(streams <= (1 + 1) + (3 + 1), "{busy}: one in its place, for the page and the stripe: {streams}");
            fleet.set(busy, far);
            context.sleep(Duration::from_secs(1)).await;
        }
    });
}

#[test]
fn where_too_few_are_left_who_is_busy_is_asked_ever_less_and_not_for_ever() {
    run(49, |context, fleet, engine| async move {
        let stored = put(&fleet, &engine, &plain(700_000), Wait::Full).await.unwrap();
        let world = World::new(&context, &fleet, Vec::new());
        (2..6).for_each(|host| fleet.set(host, Mode::Busy(100)));
        let start = context.current();
        let body = world.engine().get(world.request(&stored)).await.unwrap_or_else(|error| panic!("{error}"));
        let error = body.try_collect::<Vec<_>>().await.unwrap_err();
        let took = context.current().duration_since(start).unwrap();
        assert!(error.is_temporary() && error.to_string().contains("4 busy"), "{error}");
        assert!(took < 15 * SOON, "{took:?}");
        for host in 2..6 {
            let asked = world.opened(host);
            assert!(asked <= 30, "{host}: {asked} questions in {took:?}");
        }
    });
}

#[test]
fn a_copy_is_released_by_the_word_of_all_but_one_and_there_by_one() {
    run(50, |context, fleet, engine| async move {
        let mut stored = put(&fleet, &engine, &plain(1_000_000), Wait::Full).await.unwrap();
        std::mem::take(&mut stored.rest).settle().await;
        let (roster, released, hour) = (fleet.roster(), ShardId([9; 32]), Duration::from_secs(3600));
        assert!(engine.is_released(&roster, released, hour).await);
        for (silent, is_released) in [(1, true), (2, false), (3, false)] {
            fleet.set(silent - 1, Mode::Mute);
            assert_eq!(engine.is_released(&roster, released, SOON).await, is_released, "{silent} silent");
        }
        // One that has it is enough, however long the silent would be waited for.
        let start = context.current();
        assert!(!engine.is_released(&roster, stored.page.id, hour).await);
        let took = context.current().duration_since(start).unwrap();
        assert!(took < SOON, "{took:?}");
    });
}
