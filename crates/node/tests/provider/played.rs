//! Play the ledger for a provider: one open deal, and what a test lets it ask and tell.

use super::{
    BUDGET, CHAIN_ID, CUSTODIAN, DEAL, OWNER, PROVIDER, STRANGER, bucket,
    paid::{STRANGERS_DEAL, strangers_bucket},
};
use alloy_primitives::{Address, B256, Bytes, LogData, U256, keccak256};
use alloy_sol_types::{SolCall, SolInterface, SolValue};
use futures::{FutureExt, future::BoxFuture};
use hodei_ledger::{account::address_of, read::LogsRefused};
use hodei_types::{
    abi::{BUCKETS, BUDGETS, DEALS, IBuckets, IBudgets, IDeals, IProviders, ITabs, PROVIDERS, TABS},
    ack::{Signer, Statement},
    chain::{self, AnchorProof, Certificate, Chain, ChainError, Head, LOGS_MAX, LogFilter, TxReceipt},
    tab::{Leaf, Tick, fold, follows},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

/// One open deal, and a challenge if one is set; transactions are refused unless it takes them.
pub(super) struct Played {
    capacity_bytes: u64,
    time_ms: AtomicU64,
    pub(super) challenge: Mutex<Option<IDeals::Challenge>>,
    /// What it says of windows missed and proven.
    pub(super) standing: Mutex<IDeals::Standing>,
    /// The window that is open.
    pub(super) window: Mutex<IDeals::Window>,
    /// Transactions taken, if it takes any; each succeeds at once.
    pub(super) taken: Mutex<Option<Vec<Bytes>>>,
    /// A tab, and what claims took of it: by leaf, what was claimed last.
    pub(super) tab: Mutex<Option<ITabs::Tab>>,
    claimed: Mutex<BTreeMap<u32, Tick>>,
    /// A leaf of which it pays nothing.
    pub(super) unpaid: Mutex<Option<u32>>,
    /// Claims that were handed in and not paid.
    wasted: AtomicUsize,
    /// What the provider asks for a GiB by its record, in wei.
    pub(super) price_read: Mutex<u128>,
    /// Logs it gives at once.
    pub(super) logs_max: AtomicUsize,
    /// One a block, from the second.
    events: tokio::sync::watch::Sender<Vec<chain::Log>>,
}

impl Played {
    pub(super) fn new(capacity_bytes: u64) -> Arc<Self> {
        let (challenge, taken, tab, claimed) = Default::default();
        let (time_ms, events) = (AtomicU64::new(0), tokio::sync::watch::Sender::default());
        let (unpaid, wasted, logs_max) = (Mutex::default(), AtomicUsize::new(0), AtomicUsize::new(LOGS_MAX));
        let price_read = Mutex::new(1_000_000_000_000_000);
        let window = IDeals::Window { index: 1, clockMs: 0, openedMs: 0, endsMs: 1000, height: 1, seed: B256::ZERO };
        let standing = IDeals::Standing::abi_decode(&[0; 32 * 10]).expect("all of its fields may be zero");
        Arc::new(Self {
            capacity_bytes,
            time_ms,
            challenge,
            standing: Mutex::new(standing),
            window: Mutex::new(window),
            taken,
            tab,
            claimed,
            unpaid,
            wasted,
            price_read,
            logs_max,
            events,
        })
    }

    pub(super) fn head_now(&self) -> Head {
        let (hash, genesis, height) = (B256::ZERO, B256::ZERO, 1 + self.events.borrow().len() as u64);
        Head { height, hash, time_ms: self.time_ms.load(Ordering::Relaxed), base_fee: 1, chain_id: CHAIN_ID, genesis }
    }

    /// From now on its time is this.
    pub(super) fn at(&self, time_ms: u64) {
        self.time_ms.store(time_ms, Ordering::Relaxed);
    }

    /// Asks twenty times for one leaf of what is held, among `leaves` of the provider.
    pub(super) fn draw(&self, held: &Statement, leaf: u64, leaves: u64) {
        let sample = IDeals::Sample { deal: DEAL, leaf, leaves: held.leaves, root: B256::from(held.root) };
        let open = IDeals::Challenge { open: true, totalLeaves: leaves, samples: vec![sample; 20], ..no_challenge() };
        *self.challenge.lock().unwrap() = Some(open);
    }

    /// Makes a block with this event.
    pub(super) fn tell(&self, address: Address, event: LogData) {
        self.events.send_modify(|events| {
            let (topics, height) = (event.topics().to_vec(), 2 + events.len() as u64);
            events.push(chain::Log { address, topics, data: event.data, height, tx: B256::ZERO, index: 0 });
        });
    }

    /// Wei that claims drew, and the ticks they paid.
    pub(super) fn drawn(&self) -> (u128, u32) {
        let ticks = self.claimed.lock().unwrap().values().map(|tick| tick.index).sum();
        (self.tab.lock().unwrap().as_ref().map_or(0, |tab| tab.claimed), ticks)
    }

    /// Claims that cost their provider a fee and brought nothing.
    pub(super) fn wasted(&self) -> usize {
        self.wasted.load(Ordering::Relaxed)
    }

    /// Pays claims as the ledger would, all or none, or only tries it; `None` if it would not.
    fn claim(&self, call: ITabs::claimCall, is_tried: bool) -> Option<()> {
        let (mut tab_now, mut claimed_now) = (self.tab.lock().unwrap(), self.claimed.lock().unwrap());
        let (mut tab, mut claimed) = (tab_now.clone()?, claimed_now.clone());
        for claim in call.claims {
            (*self.unpaid.lock().unwrap() != Some(claim.leaf)).then_some(())?;
            let leaf = Leaf { provider: claim.provider, anchor: claim.anchor, ticks: claim.ticks, price: claim.price };
            (fold(&leaf, claim.leaf, &claim.path).ok()? == (tab.root, tab.gwei)).then_some(())?;
            let known = claimed.get(&claim.leaf).copied().unwrap_or(Tick { index: 0, value: claim.anchor });
            let tick = Tick { index: claim.index, value: claim.value };
            follows(tab.id, claim.provider, &known, &tick, claim.ticks).ok()?;
            let wei = u128::from(tick.index - known.index) * claim.price;
            tab.left = tab.left.checked_sub(wei)?;
            tab.claimed += wei;
            claimed.insert(claim.leaf, tick);
        }
        if !is_tried {
            (*tab_now, *claimed_now) = (Some(tab), claimed);
        }
        Some(())
    }

    /// The same, from a transaction.
    fn claim_in(&self, raw: &[u8]) -> Option<()> {
        let at = raw.windows(4).position(|bytes| bytes == ITabs::claimCall::SELECTOR)?;
        self.claim(ITabs::claimCall::abi_decode(&raw[at..]).ok()?, false)
    }

    fn answer(&self, to: Address, data: &[u8]) -> Option<Vec<u8>> {
        let owner = address_of(&OWNER)?;
        let node = B256::from(Signer::new(&PROVIDER).node().0);
        if to == BUCKETS
            && let Ok(call) = IBuckets::isCustodianCall::abi_decode(data)
        {
            return Some((Some(call.account) == address_of(&CUSTODIAN)).abi_encode());
        }
        if to == BUCKETS {
            let id = IBuckets::getCall::abi_decode(data).map_or(bucket(), |call| call.id);
            let owner = if id == strangers_bucket() { address_of(&STRANGER)? } else { owner };
            let bucket = IBuckets::Bucket { id, owner, holder: owner, ..empty_bucket() };
            return Some(bucket.abi_encode());
        }
        if to == PROVIDERS {
            let call = IProviders::getCall::abi_decode(data).ok()?;
            let mut record = IProviders::Provider::abi_decode(&[&[0; 31][..], &[32], &[0; 32 * 24]].concat()).ok()?;
            (record.node, record.operator) = (call.node, owner);
            record.offer.priceRead = *self.price_read.lock().unwrap();
            return Some(record.abi_encode());
        }
        if to == TABS {
            return match ITabs::ITabsCalls::abi_decode(data).ok()? {
                ITabs::ITabsCalls::get(call) => {
                    let tab = self.tab.lock().unwrap().clone()?;
                    (tab.id == call.tab).then(|| tab.abi_encode())
                }
                ITabs::ITabsCalls::claimed(call) => {
                    let claimed = self.claimed.lock().unwrap();
                    let tick = claimed.get(&call.leaf).copied().unwrap_or(Tick { index: 0, value: B256::ZERO });
                    Some((tick.index, tick.value).abi_encode())
                }
                ITabs::ITabsCalls::claim(call) => self.claim(call, true).map(|()| U256::ZERO.abi_encode()),
                _ => None,
            };
        }
        if to == BUDGETS {
            let spender = IBudgets::ownerOfCall::abi_decode(data).ok()?.spender;
            let its = if Some(spender) == address_of(&BUDGET) { owner } else { Address::ZERO };
            return Some(its.abi_encode());
        }
        if to != DEALS {
            return None;
        }
        match IDeals::IDealsCalls::abi_decode(data).ok()? {
            IDeals::IDealsCalls::get(call) if [DEAL, STRANGERS_DEAL].contains(&call.deal) => {
                let mut deal = empty_deal();
                let (bucket, owner) = match call.deal {
                    STRANGERS_DEAL => (strangers_bucket(), address_of(&STRANGER)?),
                    _ => (bucket(), owner),
                };
                (deal.id, deal.bucket, deal.provider, deal.owner) = (call.deal, bucket, node, owner);
                (deal.state, deal.capacityBytes) = (1, self.capacity_bytes);
                Some(deal.abi_encode())
            }
            IDeals::IDealsCalls::ofProvider(_) => Some(IDeals::ofProviderCall::abi_encode_returns(&vec![DEAL])),
            IDeals::IDealsCalls::standing(_) => Some(self.standing.lock().unwrap().abi_encode()),
            IDeals::IDealsCalls::window(_) => Some(self.window.lock().unwrap().abi_encode()),
            IDeals::IDealsCalls::challenge(_) => {
                let challenge = self.challenge.lock().unwrap().clone();
                Some(challenge.unwrap_or_else(no_challenge).abi_encode())
            }
            _ => None,
        }
    }
}

fn empty_bucket() -> IBuckets::Bucket {
    IBuckets::Bucket {
        id: B256::ZERO,
        owner: Address::ZERO,
        shape: IBuckets::Shape {
            k: 3,
            n: 6,
            t: 1,
            operators: 0,
            networks: 0,
            zones: 0,
            shardBytes: 262_144,
            codeId: 1,
        },
        term: 1,
        holder: Address::ZERO,
        expires: 1,
        root: B256::ZERO,
        sizeBytes: 0,
        version: 0,
        deals: 1,
        keptUntilMs: 0,
        keeps: 0,
        overlay: B256::ZERO,
        custodians: 1,
    }
}

fn empty_deal() -> IDeals::Deal {
    let zeros = vec![0u8; 32 * 16];
    IDeals::Deal::abi_decode(&zeros).expect("all of its fields may be zero")
}

fn no_challenge() -> IDeals::Challenge {
    IDeals::Challenge { window: 0, seed: B256::ZERO, totalLeaves: 0, open: false, proven: false, samples: vec![] }
}

impl Chain for Played {
    fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>> {
        let head = self.head_now();
        async { Ok(head) }.boxed()
    }

    fn wait(&self, above: u64) -> BoxFuture<'_, Result<Head, ChainError>> {
        let mut events = self.events.subscribe();
        async move {
            let _ = events.wait_for(|events| 1 + events.len() as u64 > above).await;
            Ok(self.head_now())
        }
        .boxed()
    }

    fn certificate(&self, _: u64) -> BoxFuture<'_, Result<Certificate, ChainError>> {
        async { Err(ChainError::Unavailable("played".into())) }.boxed()
    }

    fn account(&self, _: Address) -> BoxFuture<'_, Result<chain::Account, ChainError>> {
        async { Ok(chain::Account::default()) }.boxed()
    }

    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
        let hash = keccak256(&raw);
        if raw.windows(4).any(|bytes| bytes == ITabs::claimCall::SELECTOR) {
            let paid = self.claim_in(&raw);
            if paid.is_none() {
                self.wasted.fetch_add(1, Ordering::Relaxed);
                return async { Err(ChainError::Refused("a claim that the ledger would not pay".into())) }.boxed();
            }
        }
        let mut taken = self.taken.lock().unwrap();
        let taken = taken.as_mut().map(|taken| taken.push(raw));
        async move { taken.map(|()| hash).ok_or_else(|| ChainError::Refused("played".into())) }.boxed()
    }

    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
        let taken = self.taken.lock().unwrap();
        let known = taken.iter().flatten().any(|raw| keccak256(raw) == tx);
        let receipt = TxReceipt { tx, height: 1, success: true, gas_used: 1, logs: vec![], output: Bytes::new() };
        async move { Ok(known.then_some(receipt)) }.boxed()
    }

    fn call(&self, _: Address, to: Address, data: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
        let unknown = IDeals::IDealsErrors::UnknownDeal(IDeals::UnknownDeal { deal: 0 });
        let answer = self.answer(to, &data).map(Bytes::from);
        async move { answer.ok_or_else(|| ChainError::Reverted(unknown.abi_encode().into())) }.boxed()
    }

    fn logs(&self, filter: LogFilter) -> BoxFuture<'_, Result<Vec<chain::Log>, ChainError>> {
        let fits = |log: &&chain::Log| {
            (filter.from..=filter.to).contains(&log.height)
                && filter.address.is_none_or(|address| address == log.address)
                && [filter.topic0, filter.topic1, filter.topic2]
                    .iter()
                    .enumerate()
                    .all(|(at, topic)| topic.is_none_or(|topic| log.topics.get(at) == Some(&topic)))
        };
        let logs: Vec<_> = self.events.borrow().iter().filter(fits).cloned().collect();
        let logs = match self.logs_max.load(Ordering::Relaxed) {
            // The ledger's own words: a client goes by them.
            most if logs.len() > most => Err(ChainError::Refused(LogsRefused::Count.to_string())),
            _ => Ok(logs),
        };
        async { logs }.boxed()
    }

    fn anchor(&self, _: u64, _: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>> {
        async { Err(ChainError::Unavailable("played".into())) }.boxed()
    }
}
