//! Show that a reader pays for what came and for little else, and that who is paid serves on.

use super::{
    Fleet,
    fleet::{METERED, Mode, Tab},
    get, plain, put, run, wanted,
};
use commonware_runtime::deterministic::Context;
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use hodei_storage::engine::{Count, Engine, GetError, Meter, Pool, Provider, STRIPES_BYTES, Stored, Till, Wait};
use hodei_types::tab::{Chain, Leaf, Opening, TICK_BYTES, Tree};
use std::sync::{Arc, Mutex};

const TAB: [u8; 32] = [7; 32];
const CREDIT_BYTES: u64 = 4 * TICK_BYTES;

/// A disk in memory.
#[derive(Default)]
struct Memory(Mutex<Count>);

impl Till for Memory {
    fn keep(&self, count: Count) -> BoxFuture<'_, Result<(), String>> {
        let mut kept = self.0.lock().unwrap();
        assert!(kept.revealed <= count.revealed && kept.received <= count.received, "nothing goes back");
        *kept = count;
        async { Ok(()) }.boxed()
    }
}

/// A reader's disk, and its tab: one leaf for each provider.
struct Reader {
    disks: Vec<Arc<Memory>>,
    leaves: Vec<(Opening, Chain)>,
}

impl Reader {
    fn new(fleet: &Fleet, ticks: [u32; 6]) -> Self {
        let nodes: Vec<_> = (0..6).map(|host| fleet.node(host).0.into()).collect();
        let chains: Vec<Chain> = (0..6u32)
            .map(|at| Chain::prepare(&[8; 32], TAB.into(), nodes[at as usize], at, ticks[at as usize]).unwrap())
            .collect();
        let leaf =
            |(provider, chain): (_, &Chain)| Leaf { provider, anchor: chain.anchor(), ticks: chain.ticks(), price: 1 };
        let tree = Tree::build(nodes.into_iter().zip(&chains).map(leaf).collect()).unwrap();
        let leaves: Vec<_> = (0..).zip(chains).map(|(at, chain)| (tree.opening(at).unwrap(), chain)).collect();
        for (host, (opening, _)) in leaves.iter().enumerate() {
            fleet.meter(host, Tab::new(TAB, opening.clone()));
        }
        Self { disks: (0..6).map(|_| Arc::default()).collect(), leaves }
    }

    /// The meters of a process that begins.
    fn meters(&self) -> Vec<Arc<Meter>> {
        let meter = |(disk, leaf): (&Arc<Memory>, &(Opening, Chain))| {
            let meter = Meter::new(TAB, *disk.0.lock().unwrap(), disk.clone());
            meter.know(vec![leaf.clone()]);
            Arc::new(meter)
        };
        self.disks.iter().zip(&self.leaves).map(meter).collect()
    }

    /// Reads all of it in a process of its own, which ends as it should.
    async fn read(&self, context: &Context, fleet: &Fleet, stored: &Stored) -> Result<Vec<u8>, GetError> {
        let engine: Engine<Context, Fleet> = fleet.engine(context, Pool::new(STRIPES_BYTES));
        let meters = self.meters();
        let roster = roster(fleet, &meters);
        let mut request = wanted(fleet, stored, 0..stored.size_bytes, Arc::default());
        request.roster = Arc::new(roster);
        let body = engine.get(request).await;
        let read = match body {
            Ok(body) => body.map_ok(|piece| piece.to_vec()).try_concat().await,
            Err(error) => Err(error),
        };
        engine.settle(&meters).await;
        read
    }

    fn count(&self, host: usize) -> Count {
        *self.disks[host].0.lock().unwrap()
    }
}

/// The providers as whoever pays by these asks them.
fn roster(fleet: &Fleet, meters: &[Arc<Meter>]) -> Vec<Provider> {
    let with = |(provider, meter): (&Provider, &Arc<Meter>)| Provider {
        meter: Some(meter.clone()),
        grant: METERED.to_vec(),
        ..provider.clone()
    };
    fleet.roster().iter().zip(meters).map(with).collect()
}

/// Wherever a reader is, it owes less than a MiB, and was refused nothing.
fn is_even(fleet: &Fleet, reader: &Reader) {
    for host in 0..6 {
        let (served, ticks, refused) = fleet.counted(host);
        let count = reader.count(host);
        assert_eq!((count.received, count.lost), (served, 0), "all that was given came: {host}");
        assert_eq!((u64::from(ticks), refused), (served / TICK_BYTES, 0), "{host}");
        assert_eq!((count.revealed, count.own), (ticks, ticks), "{host}");
    }
}

#[test]
fn what_comes_is_paid_by_the_mib_over_processes_and_nobody_has_to_refuse() {
    run(21, |context, fleet, engine| async move {
        let data = plain(30 << 20);
        let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        let reader = Reader::new(&fleet, [64; 6]);
        let mut before = 0;
        for _ in 0..3 {
            assert_eq!(reader.read(&context, &fleet, &stored).await.unwrap(), data);
            is_even(&fleet, &reader);
            let ticks: u32 = (0..6).map(|host| fleet.counted(host).1).sum();
            assert!(ticks >= before + 25, "{ticks} after {before}: it pays for what it reads");
            before = ticks;
        }
        // Who pays nothing reads nothing here, and what is free is not counted.
        assert_eq!(get(&fleet, &engine, &stored, 0..stored.size_bytes).await.bytes.unwrap(), data);
        is_even(&fleet, &reader);
    });
}

#[test]
fn a_leaf_that_is_used_up_is_read_from_no_more_and_a_tab_that_is_ends_the_read() {
    run(22, |context, fleet, engine| async move {
        let data = plain(30 << 20);
        let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        let reader = Reader::new(&fleet, [2, 64, 64, 64, 64, 64]);
        assert_eq!(reader.read(&context, &fleet, &stored).await.unwrap(), data, "the others have it too");
        is_even(&fleet, &reader);
        assert!(fleet.counted(0).0 <= 2 * TICK_BYTES, "an honest reader takes nothing that it cannot pay");
        let poor = Reader::new(&fleet, [2; 6]);
        let error = poor.read(&context, &fleet, &stored).await.unwrap_err();
        assert!(matches!(&error, GetError::Shards { failure, .. } if failure.contains("Unpaid")), "{error}");
        is_even(&fleet, &poor);
    });
}

#[test]
fn what_is_paid_for_at_those_who_are_there_is_read_whole_although_one_is_dead() {
    run(25, |context, fleet, engine| async move {
        let data = plain(30 << 20);
        let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        // Three of six are needed: the nearest three alone would be used up before the end.
        let reader = Reader::new(&fleet, [9; 6]);
        fleet.set(0, Mode::Down);
        assert_eq!(reader.read(&context, &fleet, &stored).await.unwrap(), data);
        assert!((1..6).all(|host| fleet.counted(host).0 <= 9 * TICK_BYTES), "nothing that is not paid for");
        assert_eq!(fleet.counted(0).0, 0);
    });
}

#[test]
fn a_provider_that_forgot_is_told_again_and_one_that_counts_too_much_is_left() {
    run(23, |context, fleet, engine| async move {
        let data = plain(30 << 20);
        let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        let reader = Reader::new(&fleet, [4096; 6]);
        for _ in 0..2 {
            assert_eq!(reader.read(&context, &fleet, &stored).await.unwrap(), data);
        }
        (0..6).for_each(|host| fleet.tab(host, Tab::forget));
        assert_eq!(reader.read(&context, &fleet, &stored).await.unwrap(), data);
        for host in 0..6 {
            let count = reader.count(host);
            assert_eq!(u64::from(count.revealed), count.received / TICK_BYTES, "nothing was paid twice: {host}");
            assert_eq!((fleet.counted(host).1, fleet.counted(host).2), (count.revealed, 0), "{host}");
        }

        let read = |host: &usize| reader.count(*host).received;
        let (liar, honest) =
            (0..6).fold((0, 0), |(most, _), host| if read(&host) > read(&most) { (host, most) } else { (most, host) });
        let reader = Reader::new(&fleet, [4096; 6]);
        fleet.tab(liar, |tab| tab.times = 2);
        for _ in 0..6 {
            assert_eq!(reader.read(&context, &fleet, &stored).await.unwrap(), data, "others have it too");
        }
        let count = reader.count(liar);
        assert!(count.received > 0 && count.lost > 0, "{count:?}");
        assert!(count.lost <= CREDIT_BYTES + count.received / 16, "{count:?}");
        assert!(u64::from(count.revealed) * TICK_BYTES <= count.received + count.lost, "{count:?}");
        assert_eq!(reader.count(honest).lost, 0);
    });
}

#[test]
fn who_is_shown_a_tab_ahead_is_paid_nothing_yet_and_a_meter_tells_when_it_is_used_up() {
    run(24, |_, fleet, engine| async move {
        let data = plain(30 << 20);
        let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        let reader = Reader::new(&fleet, [2; 6]);
        let meters = reader.meters();
        let roster = roster(&fleet, &meters);
        (0..6).for_each(|host| fleet.tab(host, |tab| assert!(!tab.is_open())));
        engine.greet(&roster, stored.page.id);
        engine.settle(&meters).await;
        for (host, meter) in meters.iter().enumerate() {
            fleet.tab(host, |tab| assert!(tab.is_open(), "{host} knows what pays it"));
            assert_eq!((fleet.counted(host), meter.paid(), meter.is_dry()), ((0, 0, 0), (0, 0), false), "{host}");
        }
        let mut request = wanted(&fleet, &stored, 0..stored.size_bytes, Arc::default());
        request.roster = Arc::new(roster);
        let body = engine.get(request).await.unwrap();
        let error = body.map_ok(|piece| piece.to_vec()).try_concat().await.unwrap_err();
        engine.settle(&meters).await;
        is_even(&fleet, &reader);
        let GetError::Shards { want, .. } = error else { panic!("{error}") };
        let dry = meters.iter().filter(|meter| meter.is_dry()).count();
        assert!(dry + want > 6, "too few are left: {dry}");
        for (host, meter) in meters.iter().enumerate() {
            let ticks = fleet.counted(host).1;
            assert_eq!(meter.paid(), (ticks.into(), ticks.into()), "at a wei for each: {host}");
        }
    });
}
