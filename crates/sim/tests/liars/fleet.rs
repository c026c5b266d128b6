//! Let honest providers and liars of every kind live through the same windows, and take down what became of each.

use crate::{
    host::{Host, fleet, proof},
    world::{BLOCK_MS, World},
};
use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use commonware_runtime::deterministic::Context;
use hodei_types::abi::{DEALS, IDeals, LEAVES_PER_GIB};
use rand::{RngExt as _, SeedableRng, rngs::StdRng};
use std::collections::BTreeMap;

/// Shards of each deal, so that one of them is a hundredth.
pub(crate) const SHARDS: usize = 100;
/// A day's halt, which the chain catches up with in steps of what one block may say to have passed.
const HALT_MS: u64 = 86_400_000;
const STEP_MS: u64 = 15_000;

/// What a provider does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Honest,
    /// Lost so many of its shards; answers when none of them is drawn, keeps still otherwise.
    Drops(usize),
    /// The same, and hands in something when one is drawn.
    Bluffs(usize),
    /// Took the last shards, signed for them, and kept what it had before.
    Stale(usize),
    /// A disk that flips bits, which it scrubs in so many windows.
    Rots(usize, u64),
}

impl Kind {
    /// Shards of [`SHARDS`] it lacks.
    pub(crate) fn lost(self) -> usize {
        match self {
            Self::Honest => 0,
            Self::Drops(lost) | Self::Bluffs(lost) | Self::Stale(lost) | Self::Rots(lost, _) => lost,
        }
    }
}

/// What became of one provider, in windows it was asked in, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) asked: u64,
    pub(crate) proven: u64,
    /// The first window it was not paid for.
    pub(crate) unpaid: Option<u64>,
    pub(crate) suspended: Option<u64>,
    /// A tenth of its collateral went.
    pub(crate) slashed: Option<u64>,
    /// All of it went.
    pub(crate) closed: Option<u64>,
    /// Its own scrub told of a lost shard.
    pub(crate) scrubbed: Option<u64>,
}

impl Fate {
    pub(crate) fn slashed_in(&self) -> Option<u64> {
        self.slashed
    }

    pub(crate) fn closed_in(&self) -> Option<u64> {
        self.closed
    }
}

/// Lives through `windows` windows; what became of each, in the order of `kinds`.
pub(crate) async fn live(context: &Context, kinds: &[Kind], windows: u64, seed: u64) -> Vec<(Kind, Fate)> {
    let mut rng = StdRng::seed_from_u64(seed);
    let owner = Address::repeat_byte(0xaa);
    let operator = |at: usize| Address::repeat_byte(1 + at as u8);
    let rich: Vec<Address> = (0..kinds.len()).map(operator).chain([owner]).collect();
    let mut world = World::new(&rich, seed);
    let mut hosts = Vec::new();
    for at in 0..kinds.len() {
        hosts.push(Host::new(context, 1 + at as u8, operator(at)).await);
    }
    fleet(&mut world, owner, &mut hosts, SHARDS, &mut rng).await;
    let mut fates = vec![Fate::default(); kinds.len()];
    let mut last = world.asked(hosts[0].node).window;
    // The first window may have begun before all of them had signed: everybody is honest in it, and none counts it.
    while world.window().index == last {
        answer(&mut world, &hosts, kinds, &(0..kinds.len()).collect::<Vec<_>>()).await;
    }
    for (host, kind) in hosts.iter_mut().zip(kinds) {
        match kind {
            Kind::Honest => {}
            Kind::Stale(lost) => {
                host.stop().await;
                host.corrupt(&(SHARDS - lost..SHARDS).collect::<Vec<_>>()).await;
                host.start().await;
            }
            _ => host.lose(kind.lost(), &mut rng).await,
        }
    }
    let before: Vec<_> = hosts.iter().map(|host| world.standing(host.node)).collect();
    for _ in 0..windows {
        last = window(&mut world, &mut hosts, kinds, &mut fates, &mut rng).await;
        for (at, (host, fate)) in hosts.iter().zip(&mut fates).enumerate() {
            if fate.closed.is_some() {
                continue;
            }
            fate.asked += 1;
            let (standing, was) = (world.standing(host.node), &before[at]);
            let proven = standing.proven - was.proven;
            assert!(proven - fate.proven <= 1, "a window is proven once");
            assert_eq!(
                proven > fate.proven,
                standing.lastProven == last,
                "who proved the window that ended is paid for it"
            );
            fate.proven = proven;
            let note = |first: &mut Option<u64>, is: bool| *first = first.or(is.then_some(fate.asked));
            note(&mut fate.unpaid, proven < fate.asked);
            note(&mut fate.suspended, standing.suspended);
            note(&mut fate.slashed, standing.slashed > U256::ZERO);
            note(&mut fate.closed, standing.closed);
        }
    }
    settle(&mut world, owner, &hosts);
    kinds.iter().copied().zip(fates).collect()
}

/// Waits for a window's challenge, lets everybody answer at a moment of its own, and waits for the end; its number.
async fn window(world: &mut World, hosts: &mut [Host], kinds: &[Kind], fates: &mut [Fate], rng: &mut StdRng) -> u64 {
    let honest = kinds.iter().position(|kind| *kind == Kind::Honest).expect("somebody is honest");
    let number = world.asked(hosts[honest].node).window;
    let mut waiting: Vec<(usize, u64)> = (0..hosts.len()).map(|at| (at, rng.random_range(0..4))).collect();
    let halt = rng.random_bool(0.15).then(|| rng.random_range(0..3u64));
    for block in 0.. {
        for (at, kind) in kinds.iter().enumerate() {
            match kind {
                // Power cuts, also between a proof's making and its sending, and some with the index lost.
                Kind::Honest if rng.random_bool(0.1) => hosts[at].restart(rng.random_bool(0.3)).await,
                Kind::Rots(_, turns) if block == 0 => {
                    let found = hosts[at].scrub((SHARDS * crate::host::SHARD_BYTES) as u64 / turns).await;
                    fates[at].scrubbed = fates[at].scrubbed.or((found > 0).then_some(fates[at].asked + 1));
                }
                _ => {}
            }
        }
        if halt == Some(block) {
            world.block(HALT_MS, &[]);
            for _ in 0..rng.random_range(1..200) {
                world.block(STEP_MS, &[]);
            }
            assert_eq!(world.window().index, number, "a halt ends no window");
        }
        let ends = world.window();
        let is_last = ends.endsMs.saturating_sub(ends.clockMs) <= 2 * BLOCK_MS;
        let (now, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, planned)| is_last || *planned <= block);
        waiting = later;
        answer(world, hosts, kinds, &now.into_iter().map(|(at, _)| at).collect::<Vec<_>>()).await;
        if world.window().index != number {
            assert!(waiting.is_empty(), "everybody had a moment");
            return number;
        }
    }
    unreachable!("a window ends");
}

/// A block with what these answer to what they are asked.
async fn answer(world: &mut World, hosts: &[Host], kinds: &[Kind], who: &[usize]) {
    let (mut txs, mut expected) = (Vec::new(), Vec::new());
    for at in who {
        let (host, kind) = (&hosts[*at], kinds[*at]);
        let challenge = world.challenge(host.node);
        if !challenge.open {
            continue;
        }
        let whole = host.answer(&challenge.samples).await;
        let is_whole = whole.is_some();
        let body = match (whole, kind) {
            (Some(body), _) => body,
            (None, Kind::Bluffs(_) | Kind::Stale(_)) => host.bluff(&challenge.samples).await,
            (None, _) => continue,
        };
        txs.push(world.tx(host.operator, DEALS, 0, proof(host.node, challenge.window, body)));
        expected.push(is_whole);
    }
    let done: Vec<bool> = world.block(BLOCK_MS, &txs).iter().map(|applied| applied.success).collect();
    assert_eq!(done, expected, "a whole answer is taken, and no other");
}

/// Everybody is paid: each to the wei for the windows it proved, and all coins are there.
fn settle(world: &mut World, owner: Address, hosts: &[Host]) {
    let price = U256::from(crate::world::COIN);
    for host in hosts {
        let proven = world.standing(host.node).proven;
        let before = (world.deal(host.deal), world.balance(host.operator));
        world.must(owner, DEALS, 0, IDeals::touchCall { deals: vec![host.deal] }.abi_encode());
        let deal = world.deal(host.deal);
        let leaves = (SHARDS * crate::host::SHARD_BYTES / 1024) as u64;
        let earned = price * U256::from(leaves) * U256::from(proven) / U256::from(LEAVES_PER_GIB);
        assert_eq!((deal.paid + deal.owed, deal.owed), (earned, U256::ZERO), "{proven} windows");
        assert_eq!(world.balance(host.operator) - before.1, earned - before.0.paid, "it has what it is said to have");
    }
    world.audit();
}

/// The mean of each kind, where all of its providers came so far.
pub(crate) fn mean(fates: &[(Kind, Fate)], kind: Kind, what: impl Fn(&Fate) -> Option<u64>) -> Option<(f64, usize)> {
    let all: Vec<Option<u64>> = fates.iter().filter(|(is, _)| *is == kind).map(|(_, fate)| what(fate)).collect();
    let found: Vec<u64> = all.iter().copied().flatten().collect();
    (found.len() == all.len() && !found.is_empty())
        .then(|| (found.iter().sum::<u64>() as f64 / found.len() as f64, found.len()))
}

/// All kinds there are, each once.
pub(crate) fn kinds(fates: &[(Kind, Fate)]) -> Vec<Kind> {
    fates.iter().map(|(kind, _)| (*kind, ())).collect::<BTreeMap<_, _>>().into_keys().collect()
}
