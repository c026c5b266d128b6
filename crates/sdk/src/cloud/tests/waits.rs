//! Show what becomes of roots while providers owe their proofs, on a ledger that knows who does.

use super::{Deaf, NoWire, told};
use crate::{
    cloud::{Cloud, Fault, Wallet, waits::Waits},
    custody::SETTLES,
};
use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::{SolCall, SolInterface, SolValue};
use commonware_runtime::{Clock as _, Runner as _, Supervisor as _, deterministic};
use futures::{
    FutureExt as _,
    future::{BoxFuture, join, ready},
};
use hodei_types::{
    abi::{DEALS, IDeals},
    ack::{Ack, Signer, Statement},
    chain::{Account, AnchorProof, Certificate, Chain, ChainError, Head, Log as Logged, LogFilter, TxReceipt},
    key::{KeyKind, SecretKey},
    transport::NodeKey,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

const DAY_MS: u64 = 86_400_000;
/// That any deal takes.
const LEAVES_MAX: u64 = 1024;

/// Deal n is with provider n; nobody knows anything but deals.
struct Proving {
    taker: Deaf,
    /// Providers that owe a proof.
    owing: Mutex<BTreeSet<B256>>,
    /// How far its window is, of a day.
    clock_ms: Mutex<u64>,
    tries: Mutex<u64>,
    /// Comes to pass while the next roots are tried.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// By deal, the last root's sequence.
    posted: Mutex<BTreeMap<u64, u64>>,
    /// A deal of which it refuses whatever is with it, in these bytes.
    poison: Mutex<Option<(u64, Bytes)>>,
}

fn provider(deal: u64) -> B256 {
    B256::with_last_byte(deal as u8)
}

fn reverted(error: IDeals::IDealsErrors) -> ChainError {
    ChainError::Reverted(error.abi_encode().into())
}

impl Proving {
    fn new(owing: impl Iterator<Item = u64>) -> Arc<Self> {
        Arc::new(Self {
            taker: Deaf::default(),
            owing: Mutex::new(owing.map(provider).collect()),
            clock_ms: Mutex::new(DAY_MS / 2),
            tries: Mutex::default(),
            meanwhile: Mutex::default(),
            posted: Mutex::default(),
            poison: Mutex::default(),
        })
    }

    fn posted(&self) -> Vec<(u64, u64)> {
        self.posted.lock().unwrap().iter().map(|(deal, sequence)| (*deal, *sequence)).collect()
    }

    fn answer(&self, data: &[u8]) -> Result<Vec<u8>, ChainError> {
        let owing = self.owing.lock().unwrap();
        match IDeals::IDealsCalls::abi_decode(data).expect("a call of deals") {
            // Tried before it is sent; what would be taken is sent then.
            IDeals::IDealsCalls::post(call) => {
                *self.tries.lock().unwrap() += 1;
                if let Some(meanwhile) = self.meanwhile.lock().unwrap().take() {
                    meanwhile();
                }
                let mut posted = self.posted.lock().unwrap();
                if let Some((deal, words)) = &*self.poison.lock().unwrap()
                    && call.posts.iter().any(|post| post.deal == *deal)
                {
                    return Err(ChainError::Reverted(words.clone()));
                }
                for post in &call.posts {
                    let provider = provider(post.deal);
                    if owing.contains(&provider) {
                        let open = IDeals::ChallengeOpen { provider, window: 1 };
                        return Err(reverted(IDeals::IDealsErrors::ChallengeOpen(open)));
                    }
                    let sequence = posted.get(&post.deal).copied().unwrap_or(0);
                    if post.sequence <= sequence {
                        let stale = IDeals::StaleSequence { deal: post.deal, sequence };
                        return Err(reverted(IDeals::IDealsErrors::StaleSequence(stale)));
                    }
                    if post.leaves > LEAVES_MAX {
                        let full = IDeals::CapacityExceeded { freeBytes: LEAVES_MAX };
                        return Err(reverted(IDeals::IDealsErrors::CapacityExceeded(full)));
                    }
                }
                posted.extend(call.posts.iter().map(|post| (post.deal, post.sequence)));
                Ok(Vec::new())
            }
            IDeals::IDealsCalls::many(call) => {
                let state = |id: &u64| {
                    let empty = IDeals::Deal::abi_decode(&[0; 32 * 16]).expect("all of its fields may be zero");
                    IDeals::Deal { id: *id, provider: provider(*id), state: 1, ..empty }
                };
                Ok(IDeals::manyCall::abi_encode_returns(&call.deals.iter().map(state).collect::<Vec<_>>()))
            }
            IDeals::IDealsCalls::challenge(call) => {
                let open = owing.contains(&call.provider);
                let asked = IDeals::Challenge {
                    window: 1,
                    seed: B256::ZERO,
                    totalLeaves: 1,
                    open,
                    proven: !open,
                    samples: Vec::new(),
                };
                Ok(asked.abi_encode())
            }
            IDeals::IDealsCalls::window(_) => {
                let window = IDeals::Window {
                    index: 1,
                    clockMs: *self.clock_ms.lock().unwrap(),
                    openedMs: 0,
                    endsMs: DAY_MS,
                    height: 1,
                    seed: B256::ZERO,
                };
                Ok(window.abi_encode())
            }
            _ => Err(ChainError::Unavailable("not played".into())),
        }
    }
}

impl Chain for Proving {
    fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>> {
        self.taker.head()
    }

    fn wait(&self, above: u64) -> BoxFuture<'_, Result<Head, ChainError>> {
        self.taker.wait(above)
    }

    fn certificate(&self, height: u64) -> BoxFuture<'_, Result<Certificate, ChainError>> {
        self.taker.certificate(height)
    }

    fn account(&self, address: Address) -> BoxFuture<'_, Result<Account, ChainError>> {
        self.taker.account(address)
    }

    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
        self.taker.submit(raw)
    }

    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
        self.taker.receipt(tx)
    }

    fn call(&self, _: Address, to: Address, data: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
        if to != DEALS {
            return ready(Err(ChainError::Unavailable("it knows deals alone".into()))).boxed();
        }
        ready(self.answer(&data).map(Bytes::from)).boxed()
    }

    fn logs(&self, _: LogFilter) -> BoxFuture<'_, Result<Vec<Logged>, ChainError>> {
        told(Vec::new())
    }

    fn anchor(&self, from: u64, root: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>> {
        self.taker.anchor(from, root)
    }
}

fn acks(deals: impl Iterator<Item = u64>, sequence: u64) -> BTreeMap<u64, Ack> {
    deals.map(|deal| (deal, ack(deal, sequence, 1))).collect()
}

fn ack(deal: u64, sequence: u64, leaves: u64) -> Ack {
    Signer::new(&[1; 32]).ack(5, Statement { deal, sequence, position: 0, root: [0; 32], leaves })
}

async fn process(
    context: &deterministic::Context,
    name: &'static str,
    chain: &Arc<Proving>,
) -> Cloud<deterministic::Context, NoWire> {
    let wallet = Wallet::open(chain.clone(), &SecretKey::new(KeyKind::Account, [7; 32])).unwrap();
    Cloud::open(context.child(name), NoWire, NodeKey([1; 32]), wallet, None).await.unwrap()
}

fn owed(cloud: &Cloud<deterministic::Context, NoWire>) -> Vec<(u64, u64)> {
    let unposted = cloud.0.unposted.lock().unwrap();
    unposted.values().map(|ack| (ack.statement.deal, ack.statement.sequence)).collect()
}

#[test]
fn what_waits_for_a_proof_is_posted_by_a_later_process_and_none_waits_for_hours_to_pass() {
    deterministic::Runner::timed(Duration::from_secs(600)).start(|context| async move {
        let chain = Proving::new([3].into_iter());
        let first = process(&context, "first", &chain).await;
        first.owe(&acks([3, 4].into_iter(), 8));
        let begun = context.current();
        assert!(matches!(first.close().await, Err(Fault::ProofFirst)));
        let took = context.current().duration_since(begun).unwrap();
        assert!(took < Duration::from_secs(1), "half a day into the window it tries once: {took:?}");
        assert_eq!(chain.posted(), [(4, 8)]);
        // Newer, and a process that ends in the middle of it.
        first.owe(&acks([3].into_iter(), 9));
        context.sleep(Duration::from_secs(3)).await;
        drop(first);
        context.sleep(Duration::from_secs(3)).await;

        // One that writes nothing goes on with it, and leaves it where it was.
        let second = process(&context, "second", &chain).await;
        assert_eq!(owed(&second), [(3, 9)]);
        drop(second);
        context.sleep(Duration::from_secs(3)).await;
        chain.owing.lock().unwrap().clear();
        let third = process(&context, "third", &chain).await;
        third.close().await.unwrap();
        assert_eq!(chain.posted(), [(3, 9), (4, 8)]);
        drop(third);
        context.sleep(Duration::from_secs(3)).await;
        assert!(owed(&process(&context, "fourth", &chain).await).is_empty());
    });
}

#[test]
fn a_window_that_has_just_opened_is_waited_for() {
    deterministic::Runner::timed(Duration::from_secs(600)).start(|context| async move {
        let chain = Proving::new([3].into_iter());
        *chain.clock_ms.lock().unwrap() = 1_000;
        let cloud = process(&context, "cloud", &chain).await;
        cloud.owe(&acks([3].into_iter(), 8));
        let proves = async {
            context.sleep(Duration::from_secs(4)).await;
            chain.owing.lock().unwrap().clear();
        };
        let (closed, ()) = join(cloud.close(), proves).await;
        closed.unwrap();
        assert_eq!(chain.posted(), [(3, 8)]);
    });
}

#[test]
fn however_many_providers_wait_the_others_roots_are_posted() {
    deterministic::Runner::timed(Duration::from_secs(600)).start(|context| async move {
        let chain = Proving::new(0..14);
        let cloud = process(&context, "cloud", &chain).await;
        let waiting = cloud.0.buckets.post(&acks(0..16, 1)).await.unwrap();
        assert!(waiting.keys().copied().eq(0..14), "{:?}", waiting.keys());
        assert_eq!(chain.posted(), [(14, 1), (15, 1)]);
        assert_eq!(*chain.tries.lock().unwrap(), 2, "who owes a proof is asked for once");
    });
}

#[test]
fn while_a_proof_is_awaited_a_long_process_tries_less_and_less_often() {
    deterministic::Runner::timed(Duration::from_secs(3_600)).start(|context| async move {
        let chain = Proving::new([3].into_iter());
        let cloud = process(&context, "cloud", &chain).await;
        cloud.owe(&acks([3].into_iter(), 8));
        context.sleep(Duration::from_secs(600)).await;
        let tries = *chain.tries.lock().unwrap();
        // After 1, 2 and 4 seconds, and then each five, or a turn of the keeper more.
        assert!((90..=130).contains(&tries), "{tries}");
        // Another deal's root is not put off with it.
        cloud.owe(&acks([4].into_iter(), 1));
        context.sleep(Duration::from_secs(3)).await;
        assert_eq!(chain.posted(), [(4, 1)]);
        chain.owing.lock().unwrap().clear();
        // Before a custodian that sees the proof posts it in this one's place.
        context.sleep(SETTLES - Duration::from_secs(2)).await;
        assert_eq!(chain.posted(), [(3, 8), (4, 1)]);
        assert!(owed(&cloud).is_empty());
    });
}

#[test]
fn what_comes_while_others_are_posted_is_tried_or_written_down_as_well() {
    deterministic::Runner::timed(Duration::from_secs(600)).start(|context| async move {
        let chain = Proving::new([3, 5].into_iter());
        let first = process(&context, "first", &chain).await;
        first.owe(&acks([3].into_iter(), 8));
        let late = first.clone();
        *chain.meanwhile.lock().unwrap() = Some(Box::new(move || late.owe(&acks([4, 5].into_iter(), 1))));
        assert!(matches!(first.close().await, Err(Fault::ProofFirst)));
        assert_eq!(chain.posted(), [(4, 1)]);
        drop(first);
        context.sleep(Duration::from_secs(3)).await;
        assert_eq!(owed(&process(&context, "second", &chain).await), [(3, 8), (5, 1)]);
    });
}

#[test]
fn what_was_written_down_while_less_was_posted_stays_until_it_is_posted_as_well() {
    deterministic::Runner::timed(Duration::from_secs(600)).start(|context| async move {
        let chain = Proving::new([].into_iter());
        let cloud = process(&context, "cloud", &chain).await;
        let network = cloud.0.network;
        let written = async || Waits::default().find(&context, &network).await.unwrap();
        cloud.owe(&acks([4].into_iter(), 8));
        let late = cloud.clone();
        *chain.meanwhile.lock().unwrap() = Some(Box::new(move || late.owe(&acks([4].into_iter(), 9))));
        // By one who ends, and does not wait for the post that is on its way.
        cloud.0.waits.keep(&context, &network, &acks([4].into_iter(), 9)).await;
        cloud.flush().await.unwrap();
        assert_eq!((chain.posted(), written().await), (vec![(4, 8)], acks([4].into_iter(), 9)));
        cloud.flush().await.unwrap();
        assert_eq!((chain.posted(), written().await), (vec![(4, 9)], BTreeMap::new()));
    });
}

#[test]
fn one_deal_of_which_more_is_said_than_the_ledger_takes_keeps_no_other_out() {
    deterministic::Runner::timed(Duration::from_secs(600)).start(|context| async move {
        let chain = Proving::new([3].into_iter());
        let first = process(&context, "first", &chain).await;
        let mut all = acks(0..40, 1);
        all.insert(7, ack(7, 1, u64::MAX));
        first.owe(&all);
        assert!(matches!(first.close().await, Err(Fault::ProofFirst)));
        let others = (0..40).filter(|deal| ![3, 7].contains(deal)).map(|deal| (deal, 1));
        assert_eq!(chain.posted(), others.collect::<Vec<_>>());
        drop(first);
        context.sleep(Duration::from_secs(3)).await;
        assert_eq!(owed(&process(&context, "second", &chain).await), [(3, 1)], "what is refused is not tried again");
    });
}

#[test]
fn a_refusal_that_names_nobody_keeps_the_other_roots_of_a_batch_from_nothing() {
    deterministic::Runner::timed(Duration::from_secs(600)).start(|context| async move {
        // In words that nobody here knows, and in such that name a deal that is not in the batch.
        let stale = IDeals::StaleSequence { deal: 999, sequence: 1 };
        let wrong = IDeals::IDealsErrors::StaleSequence(stale).abi_encode();
        for (name, words, is_told) in [("foreign", vec![1, 2, 3, 4], true), ("wrong", wrong, false)] {
            let chain = Proving::new([].into_iter());
            *chain.poison.lock().unwrap() = Some((5, words.into()));
            let cloud = process(&context, name, &chain).await;
            let posted = cloud.0.buckets.post(&acks(0..16, 1)).await;
            let others: Vec<_> = (0..16).filter(|deal| *deal != 5).map(|deal| (deal, 1)).collect();
            assert_eq!(chain.posted(), others, "{name}");
            // All sixteen, and both halves of whatever it is in: of 16, of 8, of 4 and of 2.
            assert_eq!(*chain.tries.lock().unwrap(), 9, "{name}: halves, not one by one");
            assert_eq!(posted.is_err(), is_told, "{name}: {posted:?}");
        }
    });
}
