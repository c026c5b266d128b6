//! Run blocks of the ledger's real execution over a map, and count every coin.

use alloy_consensus::{Signed as AlloySigned, Transaction as _, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use alloy_sol_types::{SolCall, SolValue};
use hodei_ledger::{
    execute::{Account, Applied, Call, Env, Executor, Fault, Key, Need, Params, Signed, View, account_key},
    genesis::Slashing,
};
use hodei_types::abi::{BUCKETS, DEALS, IBuckets, IDeals, IQueue, QUEUE, bucket_id};
use std::collections::BTreeMap;

/// Wei of a coin.
pub const COIN: u128 = 1_000_000_000_000_000_000;
/// The chain's id.
pub const CHAIN: u64 = 7;
/// Milliseconds of a window, and of a block.
pub const WINDOW_MS: u64 = 10_000;
pub const BLOCK_MS: u64 = 2_000;
/// Of a block that leaves the window as it is: hundreds of them fit.
const MOMENT_MS: u64 = 10;
/// Wei of gas, burned; and what the leader gets beside it.
pub const BASE_FEE: u64 = 1_000_000_000;
pub const TIP: u64 = 7;
const LEADER: Address = Address::repeat_byte(0xfe);

/// A ledger that keeps its state in a map.
pub struct World {
    state: BTreeMap<Key, Vec<u8>>,
    /// The same as far as it was read, and what is known to be absent, as execution wants it. An executor has it
    /// while it runs.
    view: View,
    codes: BTreeMap<B256, Bytes>,
    env: Env,
    nonces: BTreeMap<Address, u64>,
    supply: U256,
    fees_burned: U256,
    seed: u64,
    /// Answers questions until the next block.
    probe: Option<Executor>,
    window_ms: u64,
    worked: Vec<Applied>,
}

impl World {
    /// Everybody in `rich` has a million coins; what is drawn follows from `seed`.
    pub fn new(rich: &[Address], seed: u64) -> Self {
        Self::with_window(rich, seed, WINDOW_MS)
    }

    /// The same, with windows of so many milliseconds.
    pub fn with_window(rich: &[Address], seed: u64, window_ms: u64) -> Self {
        let env = Env {
            height: 0,
            time_ms: 1_000_000,
            parent_time_ms: 1_000_000,
            beneficiary: LEADER,
            base_fee: BASE_FEE,
            gas_limit: 60_000_000,
            mix_hash: B256::ZERO,
            parent_hash: B256::ZERO,
        };
        let (state, codes, nonces) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let supply = U256::from(1_000_000 * COIN) * U256::from(rich.len());
        let mut world = Self {
            state,
            view: View::new(),
            codes,
            env,
            nonces,
            supply,
            fees_burned: U256::ZERO,
            seed,
            probe: None,
            window_ms,
            worked: Vec::new(),
        };
        let allocations: Vec<_> = rich.iter().map(|address| (*address, U256::from(1_000_000 * COIN))).collect();
        world.step(1000);
        let mut executor = world.executor();
        world.drive(&mut executor, |executor| executor.genesis(&allocations)).unwrap();
        world.drive(&mut executor, Executor::begin).unwrap();
        world.close(executor);
        world
    }

    fn step(&mut self, elapsed_ms: u64) {
        self.env.height += 1;
        self.env.parent_time_ms = self.env.time_ms;
        self.env.time_ms += elapsed_ms;
        self.env.parent_hash = keccak256(self.env.height.to_be_bytes());
        self.env.mix_hash = keccak256([self.env.height.to_be_bytes(), self.seed.to_be_bytes()].concat());
    }

    fn executor(&mut self) -> Executor {
        if let Some(mut probe) = self.probe.take() {
            self.view = std::mem::take(probe.view());
        }
        let params = Params {
            chain_id: CHAIN,
            window_ms: self.window_ms,
            slashing: Slashing::default(),
            settlement: Default::default(),
        };
        Executor::new(params, self.env, std::mem::take(&mut self.view))
    }

    /// Loads what a step misses until it is done.
    fn drive<T>(
        &mut self,
        executor: &mut Executor,
        mut step: impl FnMut(&mut Executor) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        for _ in 0..500 {
            let needs = match step(executor) {
                Err(Fault::Missing(needs)) => needs,
                other => return other,
            };
            for need in needs {
                match need {
                    Need::Key(key) => executor.view().load(key, self.state.get(&key).cloned()),
                    Need::Code(hash) => executor.view().load_code(hash, self.codes[&hash].clone()),
                }
            }
        }
        panic!("500 rounds of missing values");
    }

    fn close(&mut self, mut executor: Executor) {
        // Without its view an executor tells all that was written, be it what was there before.
        self.view = std::mem::take(executor.view());
        let outcome = executor.finish();
        self.view.advance(&outcome.writes, &outcome.codes);
        self.codes.extend(outcome.codes);
        for (key, value) in outcome.writes {
            match value {
                Some(value) => _ = self.state.insert(key, value),
                None => _ = self.state.remove(&key),
            }
        }
        self.fees_burned += U256::from(outcome.gas_used) * U256::from(BASE_FEE);
    }

    /// Begins a block, and does what is due in it.
    fn work(&mut self, executor: &mut Executor) -> Result<(), Fault> {
        if self.drive(executor, Executor::begin)? {
            let worked = self.drive(executor, Executor::system)?;
            self.worked.push(worked);
        }
        Ok(())
    }

    /// What the ledger did of itself in blocks since this was asked last.
    pub fn take_worked(&mut self) -> Vec<Applied> {
        std::mem::take(&mut self.worked)
    }

    /// One block, `elapsed_ms` after the last; what each transaction did.
    pub fn block(&mut self, elapsed_ms: u64, txs: &[Signed]) -> Vec<Applied> {
        self.step(elapsed_ms);
        let mut executor = self.executor();
        self.work(&mut executor).unwrap();
        let mut done = Vec::new();
        for tx in txs {
            done.push(self.drive(&mut executor, |executor| executor.apply(tx)).unwrap());
        }
        self.close(executor);
        done
    }

    pub fn idle(&mut self) {
        self.block(BLOCK_MS, &[]);
    }

    /// A transaction with the sender's next nonce. Execution does not look at its signature: that was recovered before.
    pub fn tx(&mut self, from: Address, to: Address, value: u128, data: Vec<u8>) -> Signed {
        let nonce = self.nonces.entry(from).or_default();
        let tx = TxEip1559 {
            chain_id: CHAIN,
            nonce: *nonce,
            gas_limit: 15_000_000,
            max_fee_per_gas: u128::from(BASE_FEE) * 2,
            max_priority_fee_per_gas: TIP.into(),
            to: TxKind::Call(to),
            value: U256::from(value),
            access_list: Default::default(),
            input: data.into(),
        };
        *nonce += 1;
        let signature = Signature::new(U256::from(1), U256::from(1), false);
        let envelope = TxEnvelope::Eip1559(AlloySigned::new_unhashed(tx, signature));
        assert!(envelope.input().len() < 128 << 10, "a mempool takes no larger transaction");
        Signed { hash: *envelope.hash(), envelope, sender: from }
    }

    /// A block with one call, a moment after the last; what it did.
    pub fn send(&mut self, from: Address, to: Address, value: u128, data: Vec<u8>) -> Applied {
        let tx = self.tx(from, to, value, data);
        self.block(MOMENT_MS, &[tx]).remove(0)
    }

    /// The same of what may be no transaction at all, for want of coin: then its block is empty.
    pub fn attempt(&mut self, from: Address, to: Address, value: u128, data: Vec<u8>) -> Result<Applied, Fault> {
        let tx = self.tx(from, to, value, data);
        self.step(MOMENT_MS);
        let mut executor = self.executor();
        self.work(&mut executor)?;
        let applied = self.drive(&mut executor, |executor| executor.apply(&tx));
        if applied.is_err() {
            self.nonces.entry(from).and_modify(|nonce| *nonce -= 1);
        }
        self.close(executor);
        applied
    }

    /// A call that must succeed.
    pub fn must(&mut self, from: Address, to: Address, value: u128, data: Vec<u8>) -> Applied {
        let applied = self.send(from, to, value, data);
        assert!(applied.success, "{:?}", applied.output);
        applied
    }

    /// A view of a module; it must succeed.
    pub fn view<C: SolCall>(&mut self, to: Address, call: C) -> C::Return {
        let call = Call { to: Some(to), data: call.abi_encode().into(), ..Call::default() };
        let mut executor = self.probe.take().unwrap_or_else(|| self.executor());
        let outcome = self.drive(&mut executor, |executor| executor.simulate(&call)).unwrap();
        self.probe = Some(executor);
        assert!(outcome.success, "view failed: {outcome:?}");
        C::abi_decode_returns(&outcome.output).unwrap()
    }

    pub fn standing(&mut self, node: B256) -> IDeals::Standing {
        self.view(DEALS, IDeals::standingCall { provider: node })
    }

    pub fn window(&mut self) -> IDeals::Window {
        self.view(DEALS, IDeals::windowCall {})
    }

    pub fn challenge(&mut self, node: B256) -> IDeals::Challenge {
        self.view(DEALS, IDeals::challengeCall { provider: node })
    }

    pub fn deal(&mut self, deal: u64) -> IDeals::Deal {
        self.view(DEALS, IDeals::getCall { deal })
    }

    pub fn balance(&self, address: Address) -> U256 {
        let account = self.state.get(&account_key(address)).and_then(|value| Account::decode(value));
        account.unwrap_or_default().balance
    }

    /// Waits until a challenge is open for `node`.
    pub fn asked(&mut self, node: B256) -> IDeals::Challenge {
        for _ in 0..30 {
            let challenge = self.challenge(node);
            if challenge.open {
                return challenge;
            }
            self.idle();
        }
        panic!("no challenge in 30 blocks");
    }

    /// A bucket of `owner`, and a deal with each of `nodes`.
    pub fn deals(&mut self, owner: Address, salt: u8, nodes: &[B256], capacity_bytes: u64, escrow: u128) -> Vec<u64> {
        let salt = B256::repeat_byte(salt);
        let shape =
            IBuckets::Shape { k: 3, n: 6, t: 1, operators: 0, networks: 0, zones: 0, shardBytes: 262_144, codeId: 1 };
        self.must(owner, BUCKETS, 0, IBuckets::createCall { salt, shape, blocks: 1000 }.abi_encode());
        let bucket = bucket_id(owner, salt);
        let term =
            |node: &B256| IDeals::Terms { provider: *node, capacityBytes: capacity_bytes, priceMax: COIN, escrow };
        let call = IDeals::openCall { bucket, terms: nodes.iter().map(term).collect() }.abi_encode();
        let applied = self.must(owner, DEALS, escrow * nodes.len() as u128, call);
        <Vec<u64>>::abi_decode(&applied.output).unwrap()
    }

    /// Milliseconds of the ledger's time, as the last block states it.
    pub fn time_ms(&self) -> u64 {
        self.env.time_ms
    }

    /// Wei that all base fees so far burned.
    pub fn fees_burned(&self) -> U256 {
        self.fees_burned
    }

    /// Asserts that all coin is there but what was burned.
    pub fn audit(&mut self) {
        let accounts = self.state.values().filter_map(|value| Account::decode(value));
        let held = accounts.map(|account| account.balance).fold(U256::ZERO, |a, b| a + b);
        let burned = self.view(QUEUE, IQueue::burnedCall {});
        assert_eq!(held + burned + self.fees_burned, self.supply, "coin was made or lost");
    }
}
