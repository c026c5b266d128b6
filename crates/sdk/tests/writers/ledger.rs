//! Execute the real modules behind the real mempools, and judge every swap by rules of our own.
//!
//! One state, several validators' pools: what one of them was told reaches the others later, and whoever leads
//! chooses from its own. Blocks come on demand, and each second without.

use crate::{
    COIN,
    law::Law,
    machine::{Dice, Line, Mood},
};
use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolCall;
use commonware_parallel::Sequential;
use commonware_runtime::{Clock as _, Spawner as _, Supervisor as _, deterministic::Context};
use futures::{
    FutureExt as _, StreamExt as _,
    channel::{mpsc, oneshot},
    future::{BoxFuture, select, select_all},
};
use hodei_ledger::{
    execute::{Account, Call, CallOutcome, Env, Executor, Fault, Key, Need, Params, Signed, View, account_key},
    genesis::Slashing,
    mempool::{Accounts, Caps, Pool, Rules},
};
use hodei_types::{
    abi::{BUCKETS, DEALS, IBuckets, IDeals},
    chain::{self, AnchorProof, Certificate, Chain, ChainError, Head, LogFilter, TxReceipt},
};
use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

pub(crate) const CHAIN_ID: u64 = 77;
/// Validators that clients ask.
const PEERS: usize = 3;
const BASE_FEE: u64 = 1_000_000_000;
const BLOCK_GAS: u64 = 60_000_000;
/// As the light client's: then it asks the next.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a network that is to challenge nobody: providers of these runs hold, and need not prove it.
const WINDOW_MS: u64 = 1000 * 24 * 3600 * 1000;

struct State {
    values: BTreeMap<Key, Vec<u8>>,
    codes: BTreeMap<B256, Bytes>,
    env: Env,
    receipts: BTreeMap<B256, TxReceipt>,
    heads: Vec<oneshot::Sender<()>>,
    law: Law,
}

/// The ledger as its validators have it.
pub(crate) struct Ledger {
    state: Mutex<State>,
    pools: Vec<Pool>,
    gossip: mpsc::UnboundedSender<(usize, Bytes)>,
    /// Too few validators live: no block comes.
    is_halted: AtomicBool,
    /// Windows that clients are told are over, in each of which everybody proved.
    passed: AtomicU64,
}

pub(crate) fn coins(count: u64) -> U256 {
    U256::from(count) * U256::from(COIN)
}

fn params() -> Params {
    Params { chain_id: CHAIN_ID, window_ms: WINDOW_MS, slashing: Slashing::default(), settlement: Default::default() }
}

/// Loads what a step misses until it is done.
fn drive<T>(
    values: &BTreeMap<Key, Vec<u8>>,
    codes: &BTreeMap<B256, Bytes>,
    executor: &mut Executor,
    mut step: impl FnMut(&mut Executor) -> Result<T, Fault>,
) -> Result<T, Fault> {
    loop {
        match step(executor) {
            Err(Fault::Missing(needs)) => {
                for need in needs {
                    match need {
                        Need::Key(key) => executor.view().load(key, values.get(&key).cloned()),
                        Need::Code(hash) => executor.view().load_code(hash, codes[&hash].clone()),
                    }
                }
            }
            done => return done,
        }
    }
}

impl Ledger {
    /// With these balances; its tasks end with the context.
    pub(crate) fn start(context: &Context, dice: &Dice, rich: &[(Address, U256)]) -> Arc<Self> {
        let rules =
            Rules { chain_id: CHAIN_ID, block_gas: BLOCK_GAS, fee_floor: BASE_FEE / 10, tx_bytes_max: 128 << 10 };
        let env = Env {
            height: 0,
            time_ms: 0,
            parent_time_ms: 0,
            beneficiary: Address::repeat_byte(0xfe),
            base_fee: BASE_FEE,
            gas_limit: BLOCK_GAS,
            mix_hash: B256::ZERO,
            parent_hash: B256::ZERO,
        };
        let (gossip, heard) = mpsc::unbounded();
        let state = State {
            values: BTreeMap::new(),
            codes: BTreeMap::new(),
            env,
            receipts: BTreeMap::new(),
            heads: Vec::new(),
            law: Law::default(),
        };
        let ledger = Arc::new(Self {
            state: Mutex::new(state),
            pools: (0..PEERS).map(|_| Pool::new(rules, Caps::default())).collect(),
            gossip,
            is_halted: AtomicBool::new(false),
            passed: AtomicU64::new(0),
        });
        let accounts: Weak<Self> = Arc::downgrade(&ledger);
        ledger.pools.iter().for_each(|pool| pool.attach(accounts.clone()));
        ledger.block(1, &[], Some(rich));
        let (producing, spreading, odds, luck) = (ledger.clone(), ledger.clone(), dice.clone(), dice.clone());
        context.child("blocks").spawn(move |context| async move { producing.produce(&context, &odds).await });
        context.child("gossip").spawn(move |context| async move { spreading.spread(&context, &luck, heard).await });
        ledger
    }

    pub(crate) fn halt(&self, is_halted: bool) {
        self.is_halted.store(is_halted, Ordering::Relaxed);
    }

    /// One more window is over, in which everybody proved.
    pub(crate) fn pass_window(&self) {
        self.passed.fetch_add(1, Ordering::Relaxed);
    }

    /// What a question to a module gives, if it is which window runs: one so many later.
    fn told(&self, call: &Call, output: Bytes) -> Bytes {
        if call.to != Some(DEALS) || !call.data.starts_with(&IDeals::windowCall::SELECTOR) {
            return output;
        }
        let mut window = IDeals::windowCall::abi_decode_returns(&output).expect("a view answers");
        window.index += self.passed.load(Ordering::Relaxed);
        IDeals::windowCall::abi_encode_returns(&window).into()
    }

    async fn produce(&self, context: &Context, dice: &Dice) {
        loop {
            let work = select_all(self.pools.iter().map(|pool| pool.arrived().boxed()));
            select(work, pin!(context.sleep(Duration::from_secs(1)))).await;
            context.sleep(dice.ms(20..60)).await;
            if self.is_halted.load(Ordering::Relaxed) {
                context.sleep(Duration::from_secs(1)).await;
                continue;
            }
            let leader = dice.within(0..PEERS as u64) as usize;
            let txs = self.pools[leader].choose(BASE_FEE, 64, 1 << 20);
            let now_ms = context.current().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
            let included = self.block(now_ms, &txs, None);
            let height = self.head().height;
            for pool in &self.pools {
                pool.finalized(height, &included).await;
            }
            let heads = std::mem::take(&mut self.state.lock().unwrap().heads);
            heads.into_iter().for_each(|head| _ = head.send(()));
        }
    }

    /// Tells the other pools, in any order; now and then not at all.
    async fn spread(
        self: Arc<Self>,
        context: &Context,
        dice: &Dice,
        mut heard: mpsc::UnboundedReceiver<(usize, Bytes)>,
    ) {
        while let Some((from, raw)) = heard.next().await {
            for peer in (0..PEERS).filter(|peer| *peer != from) {
                if dice.chance(10) {
                    continue;
                }
                let (ledger, raw, late) = (self.clone(), raw.clone(), dice.ms(1..120));
                context.child("message").spawn(move |context| async move {
                    context.sleep(late).await;
                    ledger.pools[peer].receive(&[raw], &Sequential).await;
                });
            }
        }
    }

    /// Executes a block; gives the transactions in it.
    fn block(&self, now_ms: u64, txs: &[Arc<Signed>], genesis: Option<&[(Address, U256)]>) -> Vec<B256> {
        let mut state = self.state.lock().unwrap();
        let State { values, codes, env, receipts, law, .. } = &mut *state;
        env.height += 1;
        env.parent_time_ms = env.time_ms;
        env.time_ms = now_ms.max(env.time_ms + 1);
        env.parent_hash = keccak256(env.height.to_be_bytes());
        env.mix_hash = keccak256([env.height.to_be_bytes(), [1; 8]].concat());
        let mut executor = Executor::new(params(), *env, View::new());
        if let Some(rich) = genesis {
            drive(values, codes, &mut executor, |executor| executor.genesis(rich)).expect("a first state");
        }
        if drive(values, codes, &mut executor, Executor::begin).expect("a sound state") {
            drive(values, codes, &mut executor, Executor::system).expect("a sound state");
        }
        let mut included = Vec::new();
        for tx in txs {
            let applied = match drive(values, codes, &mut executor, |executor| executor.apply(tx)) {
                Ok(applied) => applied,
                // Overtaken by another of its sender's, or the block is full.
                Err(Fault::Invalid(_)) => continue,
                Err(fault) => panic!("block {}: {fault}", env.height),
            };
            law.see(env.height, tx, &applied);
            let receipt = TxReceipt {
                tx: tx.hash,
                height: env.height,
                success: applied.success,
                gas_used: applied.gas_used,
                logs: Vec::new(),
                output: applied.output,
            };
            receipts.insert(tx.hash, receipt);
            included.push(tx.hash);
        }
        let outcome = executor.finish();
        for (key, value) in outcome.writes {
            match value {
                Some(value) => values.insert(key, value),
                None => values.remove(&key),
            };
        }
        codes.extend(outcome.codes);
        included
    }

    pub(crate) fn head(&self) -> Head {
        let env = self.state.lock().unwrap().env;
        Head {
            height: env.height,
            hash: env.parent_hash,
            time_ms: env.time_ms,
            base_fee: env.base_fee,
            chain_id: CHAIN_ID,
            genesis: B256::repeat_byte(7),
        }
    }

    fn simulate(&self, call: &Call) -> Result<CallOutcome, Fault> {
        let state = self.state.lock().unwrap();
        let mut executor = Executor::new(params(), state.env, View::new());
        drive(&state.values, &state.codes, &mut executor, |executor| executor.simulate(call))
    }

    /// What a module says now.
    pub(crate) fn view<C: SolCall>(&self, to: Address, call: &C) -> C::Return {
        let outcome = self.simulate(&Call { to: Some(to), data: call.abi_encode().into(), ..Call::default() });
        C::abi_decode_returns(&outcome.expect("a sound state").output).expect("a view answers")
    }

    /// What the rules make of all swaps so far.
    pub(crate) fn law<T>(&self, look: impl FnOnce(&Law) -> T) -> T {
        look(&self.state.lock().unwrap().law)
    }

    fn account(&self, address: Address) -> Account {
        let state = self.state.lock().unwrap();
        let value = state.values.get(&account_key(address));
        value.map(|value| Account::decode(value).expect("an account")).unwrap_or_default()
    }

    fn next_head(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.state.lock().unwrap().heads.push(sender);
        receiver
    }
}

impl Accounts for Ledger {
    fn accounts(&self, addresses: Vec<Address>) -> BoxFuture<'_, Option<Vec<Account>>> {
        let accounts = addresses.into_iter().map(|address| self.account(address)).collect();
        std::future::ready(Some(accounts)).boxed()
    }
}

/// A client of the ledger: asks one validator after the other, over a line that may be bad.
pub(crate) struct Door {
    ledger: Arc<Ledger>,
    clock: Context,
    dice: Dice,
    mood: Mood,
    /// Chance in percent that a question or its answer is lost.
    losses: u64,
    preferred: AtomicUsize,
}

impl Door {
    pub(crate) fn new(ledger: &Arc<Ledger>, clock: Context, dice: &Dice, mood: &Mood, losses: u64) -> Self {
        let preferred = AtomicUsize::new(dice.within(0..PEERS as u64) as usize);
        Self { ledger: ledger.clone(), clock, dice: dice.clone(), mood: mood.clone(), losses, preferred }
    }

    async fn ask<T, Fut>(&self, effect: impl Fn(usize) -> Fut + Send + Sync) -> Result<T, ChainError>
    where
        T: Send,
        Fut: Future<Output = Result<T, ChainError>> + Send,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        for step in 0..PEERS {
            let peer = (first + step) % PEERS;
            self.mood.moves(&self.clock).await;
            let fate = match self.mood.line(self.clock.current()) {
                Line::Whole if self.dice.chance(self.losses) => {
                    if self.dice.chance(50) {
                        Line::Half
                    } else {
                        Line::Cut
                    }
                }
                line => line,
            };
            self.clock.sleep(self.dice.ms(1..12)).await;
            if fate == Line::Cut {
                self.clock.sleep(ANSWER_TIMEOUT).await;
                continue;
            }
            let answer = effect(peer).await;
            if fate == Line::Half {
                self.clock.sleep(ANSWER_TIMEOUT).await;
                continue;
            }
            self.clock.sleep(self.dice.ms(1..12)).await;
            self.mood.moves(&self.clock).await;
            self.preferred.store(peer, Ordering::Relaxed);
            return answer;
        }
        Err(ChainError::Unavailable("the line is cut".into()))
    }

    async fn insert(&self, peer: usize, raw: Bytes) -> Result<B256, ChainError> {
        let hash = keccak256(&raw);
        if self.ledger.state.lock().unwrap().receipts.contains_key(&hash) {
            return Ok(hash);
        }
        match self.ledger.pools[peer].insert(raw.clone()).await {
            Ok(hash) => {
                let _ = self.ledger.gossip.unbounded_send((peer, raw));
                Ok(hash)
            }
            // As the light client takes it: an earlier attempt arrived.
            Err(hodei_ledger::mempool::Refused::Known) => Ok(hash),
            Err(refused) => Err(ChainError::Refused(refused.to_string())),
        }
    }

    async fn height_above(&self, height: u64) -> Result<Head, ChainError> {
        loop {
            let next = self.ledger.next_head();
            let head = self.ledger.head();
            if head.height > height {
                return Ok(head);
            }
            let late = pin!(self.clock.sleep(Duration::from_secs(65)));
            if let futures::future::Either::Right(_) = select(next, late).await {
                return Err(ChainError::Unavailable(format!("still at height {height}")));
            }
        }
    }
}

impl Chain for Door {
    fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>> {
        self.ask(|_| async { Ok(self.ledger.head()) }).boxed()
    }

    fn wait(&self, height: u64) -> BoxFuture<'_, Result<Head, ChainError>> {
        self.ask(move |_| self.height_above(height)).boxed()
    }

    fn certificate(&self, _: u64) -> BoxFuture<'_, Result<Certificate, ChainError>> {
        unreachable!("nothing is proven here")
    }

    fn account(&self, address: Address) -> BoxFuture<'_, Result<chain::Account, ChainError>> {
        let account = move |peer: usize| async move {
            let account = self.ledger.account(address);
            let pending_nonce = self.ledger.pools[peer].next_nonce(address).unwrap_or(0).max(account.nonce);
            Ok(chain::Account { balance: account.balance, nonce: account.nonce, pending_nonce })
        };
        self.ask(account).boxed()
    }

    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
        async move {
            let tx = hodei_ledger::mempool::recover(&raw).expect("a client signs what is one");
            let swaps = [IBuckets::commitCall::SELECTOR, IBuckets::commitKeptCall::SELECTOR];
            if tx.envelope.to() == Some(BUCKETS) && swaps.iter().any(|swap| tx.envelope.input().starts_with(swap)) {
                self.mood.at_swap(self.clock.current());
            }
            self.ask(|peer| self.insert(peer, raw.clone())).await
        }
        .boxed()
    }

    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
        self.ask(move |_| async move { Ok(self.ledger.state.lock().unwrap().receipts.get(&tx).cloned()) }).boxed()
    }

    fn call(&self, from: Address, to: Address, data: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
        let call = Call { from, to: Some(to), data, ..Call::default() };
        let run = move |_| {
            let (outcome, call) = (self.ledger.simulate(&call), call.clone());
            async move {
                match outcome {
                    Ok(outcome) if outcome.success => Ok(self.ledger.told(&call, outcome.output)),
                    Ok(outcome) => Err(ChainError::Reverted(outcome.output)),
                    Err(fault) => Err(ChainError::Refused(fault.to_string())),
                }
            }
        };
        self.ask(run).boxed()
    }

    fn logs(&self, _: LogFilter) -> BoxFuture<'_, Result<Vec<chain::Log>, ChainError>> {
        unreachable!("nobody asks for logs here")
    }

    fn anchor(&self, _: u64, _: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>> {
        unreachable!("nothing is proven here")
    }
}
