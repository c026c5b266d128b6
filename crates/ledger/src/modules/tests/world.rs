//! Run blocks over a map, with keys for everybody and a rule that nothing is lost.

use alloy_consensus::{Signed as AlloySigned, Transaction as _, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, Log, Signature, TxKind, U256, keccak256};
use alloy_sol_types::{SolCall, SolEvent, SolValue};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use hodei_types::{
    abi::{
        self, BUCKETS, DEALS, IBuckets, ICoin, IDeals, IProviders, IQueue, LEASES, MARKET, PROVIDERS, QUEUE, RELAYS,
        SYSTEM,
    },
    holding,
    slice::ShardId,
};
use secp256k1::{Message, SECP256K1, SecretKey};
use std::collections::BTreeMap;

use crate::{
    execute::{Account, Applied, Call, CallOutcome, Env, Executor, Fault, Key, Need, Outcome, Params, Signed},
    genesis::Slashing,
};

pub(super) const COIN: u128 = 1_000_000_000_000_000_000;
pub(super) const CHAIN: u64 = 7;
pub(super) const BASE_FEE: u64 = 1_000_000_000;
pub(super) const LEADER: Address = Address::repeat_byte(0xfe);
/// A window of the tests: ten blocks of a second.
pub(super) const WINDOW_MS: u64 = 10_000;

pub(super) fn params() -> Params {
    Params { chain_id: CHAIN, window_ms: WINDOW_MS, slashing: Slashing::default(), settlement: Default::default() }
}

/// An account with its key.
#[derive(Clone, Copy)]
pub(super) struct Person {
    pub(super) address: Address,
    secret: SecretKey,
}

impl Person {
    pub(super) fn new(n: u8) -> Self {
        let secret = SecretKey::from_byte_array([n.max(1); 32]).unwrap();
        let public = secret.public_key(SECP256K1).serialize_uncompressed();
        Self { address: Address::from_slice(&keccak256(&public[1..])[12..]), secret }
    }

    /// r ‖ s ‖ 27/28 over keccak(message).
    pub(super) fn sign(&self, message: &[u8]) -> Bytes {
        let message = Message::from_digest(keccak256(message).0);
        let (id, bytes) = SECP256K1.sign_ecdsa_recoverable(message, &self.secret).serialize_compact();
        [&bytes[..], &[27 + i32::from(id) as u8]].concat().into()
    }
}

/// A storage provider: its key, and the shards of each deal, held or lost.
pub(super) struct Host {
    pub(super) node: B256,
    key: Ed25519KeyPair,
    pub(super) operator: Person,
    pub(super) shards: BTreeMap<u64, Vec<Vec<u8>>>,
}

impl Host {
    pub(super) fn new(n: u8, operator: Person) -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&[n; 32]).unwrap();
        Self { node: B256::from_slice(key.public_key().as_ref()), key, operator, shards: BTreeMap::new() }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Bytes {
        self.key.sign(message).as_ref().to_vec().into()
    }

    pub(super) fn offer(&self) -> IProviders::Offer {
        IProviders::Offer {
            zone: "a".into(),
            network: "as64500".into(),
            addresses: abi::pack_addresses(&["127.0.0.1:4000".parse().unwrap()]),
            capacityBytes: 1 << 30,
            priceStore: COIN,
            priceRead: 1,
            class: 0,
        }
    }

    pub(super) fn register(&self) -> Vec<u8> {
        let possession = self.sign(&abi::operator_consent(CHAIN, self.operator.address, self.node));
        IProviders::registerCall { node: self.node, offer: self.offer(), possession }.abi_encode()
    }

    fn entries(&self, deal: u64) -> Vec<holding::Node> {
        let entry = |shard: &Vec<u8>| holding::leaf(&ShardId::of(shard), (shard.len() / 1024) as u64);
        self.shards[&deal].iter().map(entry).collect()
    }

    /// The root of a deal's shards after adding one of `leaves` chunks, signed by both.
    pub(super) fn add(&mut self, deal: u64, leaves: usize, owner: &Person) -> IDeals::RootPost {
        let shards = self.shards.entry(deal).or_default();
        let sequence = shards.len() as u64 + 1;
        shards.push(vec![(deal * 31 + sequence) as u8; leaves * 1024]);
        self.statement(deal, sequence, owner)
    }

    pub(super) fn statement(&self, deal: u64, sequence: u64, owner: &Person) -> IDeals::RootPost {
        let mut frontier = holding::Frontier::default();
        for entry in self.entries(deal) {
            frontier.append(entry);
        }
        let (root, leaves) = (B256::from(frontier.root()), frontier.leaves());
        let statement = abi::root_statement(CHAIN, deal, sequence, sequence - 1, root, leaves);
        IDeals::RootPost {
            deal,
            sequence,
            position: sequence - 1,
            root,
            leaves,
            providerSignature: self.sign(&statement),
            ownerSignature: owner.sign(&statement),
        }
    }

    /// What answers `samples`.
    pub(super) fn prove(&self, samples: &[IDeals::Sample]) -> Vec<u8> {
        let mut out = Vec::new();
        for sample in samples {
            let shards = &self.shards[&sample.deal];
            let entries = self.entries(sample.deal);
            let mut first = sample.leaf as usize;
            let mut position = 0;
            while first >= shards[position].len() / 1024 {
                first -= shards[position].len() / 1024;
                position += 1;
            }
            let path = path(&entries, position);
            let proof = holding::assemble(shards.len() as u64, position as u64, &path, &shards[position], first);
            out.extend_from_slice(&(proof.len() as u32).to_be_bytes());
            out.extend_from_slice(&proof);
        }
        out
    }
}

fn top(entries: &[holding::Node]) -> holding::Node {
    if let [one] = entries {
        return *one;
    }
    let (left, right) = entries.split_at(entries.len().next_power_of_two() / 2);
    holding::join(&top(left), &top(right)).unwrap()
}

fn path(entries: &[holding::Node], position: usize) -> Vec<holding::Node> {
    if entries.len() == 1 {
        return Vec::new();
    }
    let half = entries.len().next_power_of_two() / 2;
    let (left, right) = entries.split_at(half);
    let (mut nodes, beside) =
        if position < half { (path(left, position), top(right)) } else { (path(right, position - half), top(left)) };
    nodes.push(beside);
    nodes
}

/// A ledger that keeps its state in a map.
pub(super) struct World {
    pub(super) params: Params,
    state: BTreeMap<Key, Vec<u8>>,
    codes: BTreeMap<B256, Bytes>,
    pub(super) env: Env,
    nonces: BTreeMap<Address, u64>,
    supply: U256,
    fees_burned: U256,
    /// What fees of leases and ticks destroyed, and what slashings of hosts did.
    market_burned: BTreeMap<Address, U256>,
    /// What receipts say each account got, and what it gave away: by logs and fees.
    told: BTreeMap<Address, (U256, U256)>,
    /// What slashings and others gave to repair, and nobody took yet.
    pub(super) reserved: U256,
    /// What custodians opened deals of, ever, that was not theirs.
    pub(super) drawn: U256,
    /// Rolling hash of all writes.
    pub(super) fingerprint: B256,
    pub(super) last: Outcome,
    /// What blocks told of their own work, until it is taken.
    pub(super) worked: Vec<Log>,
}

impl World {
    pub(super) fn new(rich: &[Address]) -> Self {
        Self::with(params(), rich)
    }

    pub(super) fn with(params: Params, rich: &[Address]) -> Self {
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
        let mut world = Self {
            params,
            state: BTreeMap::new(),
            codes: BTreeMap::new(),
            env,
            nonces: BTreeMap::new(),
            supply: U256::ZERO,
            fees_burned: U256::ZERO,
            market_burned: BTreeMap::new(),
            told: BTreeMap::new(),
            reserved: U256::ZERO,
            drawn: U256::ZERO,
            fingerprint: B256::ZERO,
            last: Outcome::default(),
            worked: Vec::new(),
        };
        let allocations: Vec<_> = rich.iter().map(|address| (*address, U256::from(1_000_000 * COIN))).collect();
        world.supply = allocations.iter().map(|(_, amount)| *amount).fold(U256::ZERO, |a, b| a + b);
        allocations.iter().for_each(|(address, amount)| world.told.entry(*address).or_default().0 += *amount);
        world.step(1000);
        let mut executor = world.executor();
        drive(&world, &mut executor, |executor| executor.genesis(&allocations)).unwrap();
        drive(&world, &mut executor, Executor::begin).unwrap();
        world.close(executor);
        world
    }

    fn step(&mut self, elapsed_ms: u64) {
        self.env.height += 1;
        self.env.parent_time_ms = self.env.time_ms;
        self.env.time_ms += elapsed_ms;
        self.env.parent_hash = keccak256(self.env.height.to_be_bytes());
        self.env.mix_hash = keccak256([self.env.height.to_be_bytes(), [1; 8]].concat());
    }

    fn executor(&self) -> Executor {
        Executor::new(self.params, self.env, Default::default())
    }

    fn close(&mut self, executor: Executor) {
        let outcome = executor.finish();
        let mut bytes = self.fingerprint.to_vec();
        for (key, value) in &outcome.writes {
            bytes.extend_from_slice(key.as_slice());
            bytes.extend_from_slice(value.as_deref().unwrap_or(&[]));
            match value {
                Some(value) => {
                    assert!(value.len() <= 79, "the state's values are at most 79 bytes");
                    self.state.insert(*key, value.clone());
                }
                None => {
                    self.state.remove(key);
                }
            }
        }
        self.fingerprint = keccak256(bytes);
        self.codes.extend(outcome.codes.iter().cloned());
        self.fees_burned += U256::from(outcome.gas_used) * U256::from(BASE_FEE);
        for receipt in &outcome.receipts {
            let (given, withdrawn, drawn) = reserves(receipt.logs());
            self.reserved = self.reserved + given - withdrawn - drawn;
            self.drawn += drawn;
            for (module, burned) in super::market::burned(receipt.logs()) {
                *self.market_burned.entry(module).or_default() += burned;
            }
            for moved in moves(receipt.logs()) {
                self.told.entry(moved.from).or_default().1 += moved.amount;
                self.told.entry(moved.to).or_default().0 += moved.amount;
            }
        }
        self.last = outcome;
    }

    /// One block, `elapsed_ms` after the last.
    pub(super) fn block_after(&mut self, elapsed_ms: u64, txs: &[Signed]) -> Vec<Result<Applied, Fault>> {
        self.run_block(elapsed_ms, txs, true)
    }

    /// A block whose own work was left for the next, as it is for what is beyond one block's share.
    pub(super) fn unworked_block(&mut self, elapsed_ms: u64, txs: &[Signed]) -> Vec<Result<Applied, Fault>> {
        self.run_block(elapsed_ms, txs, false)
    }

    fn run_block(&mut self, elapsed_ms: u64, txs: &[Signed], works: bool) -> Vec<Result<Applied, Fault>> {
        self.step(elapsed_ms);
        let mut executor = self.executor();
        if drive(self, &mut executor, Executor::begin).unwrap() && works {
            let worked = drive(self, &mut executor, Executor::system).unwrap();
            self.worked.extend(worked.logs);
        }
        let done: Vec<_> = txs.iter().map(|tx| drive(self, &mut executor, |executor| executor.apply(tx))).collect();
        self.close(executor);
        for (tx, applied) in txs.iter().zip(&done).filter_map(|(tx, done)| Some((tx, done.as_ref().ok()?))) {
            let price = tx.envelope.effective_gas_price(Some(BASE_FEE));
            let gas = U256::from(applied.gas_used);
            self.told.entry(tx.sender).or_default().1 += gas * U256::from(price);
            self.told.entry(LEADER).or_default().0 += gas * U256::from(price - u128::from(BASE_FEE));
        }
        done
    }

    pub(super) fn idle(&mut self, blocks: u64) {
        for _ in 0..blocks {
            self.block_after(1000, &[]);
        }
    }

    /// A transaction with the sender's next nonce.
    pub(super) fn tx(&mut self, from: Address, to: TxKind, value: U256, data: Vec<u8>) -> Signed {
        let nonce = self.nonces.entry(from).or_default();
        let tx = TxEip1559 {
            chain_id: CHAIN,
            nonce: *nonce,
            gas_limit: 12_000_000,
            max_fee_per_gas: u128::from(BASE_FEE) * 2,
            max_priority_fee_per_gas: 7,
            to,
            value,
            access_list: Default::default(),
            input: data.into(),
        };
        *nonce += 1;
        signed(TxEnvelope::Eip1559(AlloySigned::new_unhashed(tx, any_signature())), from)
    }

    /// A block with one call; what it did.
    pub(super) fn send(&mut self, from: Address, to: Address, value: u128, data: Vec<u8>) -> Applied {
        let tx = self.tx(from, TxKind::Call(to), U256::from(value), data);
        self.block_after(1000, &[tx]).remove(0).unwrap()
    }

    /// A call that must succeed.
    pub(super) fn must(&mut self, from: Address, to: Address, value: u128, data: Vec<u8>) -> Applied {
        let applied = self.send(from, to, value, data);
        assert!(applied.success, "reverted with {}", applied.output);
        applied
    }

    pub(super) fn forget_nonce(&mut self, from: Address) {
        *self.nonces.get_mut(&from).unwrap() -= 1;
    }

    pub(super) fn simulate(&self, call: &Call) -> CallOutcome {
        let mut executor = self.executor();
        drive(self, &mut executor, |executor| executor.simulate(call)).unwrap()
    }

    /// A view of a module; it must succeed.
    pub(super) fn view<C: SolCall>(&self, to: Address, call: C) -> C::Return {
        let outcome = self.simulate(&Call { to: Some(to), data: call.abi_encode().into(), ..Call::default() });
        assert!(outcome.success, "view failed: {outcome:?}");
        C::abi_decode_returns(&outcome.output).unwrap()
    }

    pub(super) fn account(&self, address: Address) -> Account {
        let value = self.state.get(&crate::execute::account_key(address));
        value.map(|value| Account::decode(value).unwrap()).unwrap_or_default()
    }

    pub(super) fn balance(&self, address: Address) -> U256 {
        self.account(address).balance
    }

    /// Asserts that all coin is there but what was burned, that modules hold what they owe, and that what receipts
    /// tell of an account adds up to its balance.
    pub(super) fn audit(&self) {
        let held = self.state.values().filter(|value| value.len() == 72);
        let held = held.map(|value| Account::decode(value).unwrap().balance).fold(U256::ZERO, |a, b| a + b);
        let burned = self.view(QUEUE, IQueue::burnedCall {});
        assert_eq!(held + burned + self.fees_burned, self.supply, "coin was made or lost");
        assert_eq!(self.balance(abi::BUDGETS) + self.balance(BUCKETS), U256::ZERO);
        for (address, (got, gave)) in &self.told {
            let by_market = |module| self.market_burned.get(&module).copied().unwrap_or_default();
            let destroyed = match *address {
                PROVIDERS => burned - by_market(MARKET) - by_market(LEASES) - by_market(RELAYS),
                module => by_market(module),
            };
            let (sum, balance) = (*got - *gave - destroyed, self.balance(*address));
            assert_eq!(sum, balance, "what receipts tell of {address} is not its balance");
        }
        let all = self.told.keys().map(|address| self.balance(*address)).fold(U256::ZERO, |a, b| a + b);
        assert_eq!(all, held, "no receipt tells of an account that has coin");
    }

    /// Registers `host` with 100 coins of collateral.
    pub(super) fn register(&mut self, host: &Host) {
        self.must(host.operator.address, PROVIDERS, 100 * COIN, host.register());
    }

    /// A bucket of `owner`, and a deal with each host.
    pub(super) fn deals(&mut self, owner: &Person, salt: u8, hosts: &[&Host], escrow: u128) -> (B256, Vec<u64>) {
        let salt = B256::repeat_byte(salt);
        let shape =
            IBuckets::Shape { k: 3, n: 6, t: 1, operators: 0, networks: 0, zones: 0, shardBytes: 262_144, codeId: 1 };
        self.must(owner.address, BUCKETS, 0, IBuckets::createCall { salt, shape, blocks: 1000 }.abi_encode());
        let bucket = abi::bucket_id(owner.address, salt);
        let terms = hosts
            .iter()
            .map(|host| IDeals::Terms { provider: host.node, capacityBytes: 1 << 24, priceMax: COIN, escrow })
            .collect();
        let call = IDeals::openCall { bucket, terms }.abi_encode();
        let applied = self.must(owner.address, DEALS, escrow * hosts.len() as u128, call);
        (bucket, <Vec<u64>>::abi_decode(&applied.output).unwrap())
    }

    /// Waits until a challenge is open for `node`.
    pub(super) fn challenge(&mut self, node: B256) -> IDeals::Challenge {
        for _ in 0..30 {
            let challenge = self.view(DEALS, IDeals::challengeCall { provider: node });
            if challenge.open {
                return challenge;
            }
            self.idle(1);
        }
        panic!("no challenge in 30 blocks");
    }

    /// Waits for the next challenge of `host` and answers it.
    pub(super) fn prove(&mut self, host: &Host) -> Applied {
        let challenge = self.challenge(host.node);
        let proof = host.prove(&challenge.samples).into();
        let call = IDeals::proveCall { provider: host.node, window: challenge.window, proof };
        self.must(host.operator.address, DEALS, 0, call.abi_encode())
    }

    pub(super) fn standing(&self, node: B256) -> IDeals::Standing {
        self.view(DEALS, IDeals::standingCall { provider: node })
    }

    pub(super) fn window(&self) -> u64 {
        self.view(DEALS, IDeals::windowCall {}).index
    }
}

/// Loads what a step misses until it is done.
pub(super) fn drive<T>(
    world: &World,
    executor: &mut Executor,
    mut step: impl FnMut(&mut Executor) -> Result<T, Fault>,
) -> Result<T, Fault> {
    for _ in 0..200 {
        match step(executor) {
            Err(Fault::Missing(needs)) => {
                assert!(!needs.is_empty());
                for need in needs {
                    assert!(!executor.view().has(&need), "asked twice for {need:?}");
                    match need {
                        Need::Key(key) => executor.view().load(key, world.state.get(&key).cloned()),
                        Need::Code(hash) => executor.view().load_code(hash, world.codes[&hash].clone()),
                    }
                }
            }
            other => return other,
        }
    }
    panic!("200 rounds of missing values");
}

/// Execution does not look at signatures: they were recovered before.
pub(super) fn any_signature() -> Signature {
    Signature::new(U256::from(1), U256::from(1), false)
}

pub(super) fn signed(envelope: TxEnvelope, sender: Address) -> Signed {
    let hash = *envelope.hash();
    Signed { envelope, sender, hash }
}

/// Gives a transaction another gas limit.
pub(super) fn limit_gas(tx: &mut Signed, gas: u64) {
    let TxEnvelope::Eip1559(inner) = &tx.envelope else { panic!("the world makes no others") };
    let inner = TxEip1559 { gas_limit: gas, ..inner.tx().clone() };
    *tx = signed(TxEnvelope::Eip1559(AlloySigned::new_unhashed(inner, any_signature())), tx.sender);
}

/// The moves of coin in `logs`.
pub(super) fn moves(logs: &[Log]) -> Vec<ICoin::Transfer> {
    let told = logs.iter().filter(|log| log.address == SYSTEM);
    told.map(|log| ICoin::Transfer::decode_log_data_validate(&log.data).unwrap()).collect()
}

/// What one transaction gave to repair reserves, took out of them, and opened deals of.
fn reserves(logs: &[Log]) -> (U256, U256, U256) {
    // Providers have an event of the same signature.
    let logs: Vec<_> = logs.iter().filter(|log| [DEALS, SYSTEM].contains(&log.address)).cloned().collect();
    let slashed: U256 = events::<IDeals::Slashed>(&logs).iter().map(|slashed| slashed.reserved).sum();
    let funded: U256 = events::<IDeals::Funded>(&logs).iter().map(|funded| funded.amount).sum();
    let withdrawn: U256 = events::<IDeals::Withdrawn>(&logs).iter().map(|withdrawn| withdrawn.amount).sum();
    let wages: U256 = events::<IDeals::WagePaid>(&logs).iter().map(|paid| paid.amount).sum();
    let escrows: U256 = events::<IDeals::Opened>(&logs).iter().map(|opened| U256::from(opened.escrow)).sum();
    let sent = moves(&logs).into_iter().filter(|moved| moved.to == DEALS && moved.from != PROVIDERS);
    let sent: U256 = sent.map(|moved| moved.amount).sum();
    (slashed + funded, withdrawn + wages, escrows.saturating_sub(sent))
}

/// The events of one kind in `logs`.
pub(super) fn events<E: SolEvent>(logs: &[Log]) -> Vec<E> {
    logs.iter().filter_map(|log| E::decode_log_data(&log.data).ok()).collect()
}
