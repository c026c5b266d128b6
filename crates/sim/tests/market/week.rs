//! Let four validators' people trade by dice, while validators are killed and return, and compare what each shows.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall;
use commonware_runtime::{Clock as _, deterministic};
use futures::future::{BoxFuture, join};
use hodei_ledger::{
    account::{Account, AccountError, Order as Tx, address_of},
    read::Reader,
};
use hodei_sim::{Life, Scenario, Votes, lan};
use hodei_types::{
    abi::{BUDGETS, IBudgets, ILeases, IMarket, LEASES, MARKET, PAGE_MAX, spender_consent},
    chain::{Chain, TxReceipt},
    ethereum::{At, Ethereum as _},
    market::{Placed, collateral_min},
};
use rand::{SeedableRng as _, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    book::{Book, ask},
    cast::{Host, deposit, die, offer, order},
    tally::Tally,
};

const SECOND: Duration = Duration::from_secs(1);
const VALIDATORS: usize = 4;
const HOSTS_EACH: usize = 2;
/// What any call here may use; what is not used is not paid.
const GAS: u64 = 6_000_000;
const COIN: u128 = 1_000_000_000_000_000_000;

/// How long, how fast, and what is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    seconds: u64,
    heartbeat: Duration,
    /// Seconds between two calls of one validator's people, on average.
    interval: u64,
    /// Heights at which all books are read.
    every: u64,
    /// A validator is killed that often, and is away for that long.
    kills: (u64, u64),
    /// Heights that all four must have shown.
    compared: usize,
}

impl Plan {
    /// Some minutes at full pace.
    pub(crate) fn minutes() -> Self {
        Self { seconds: 240, heartbeat: SECOND, interval: 2, every: 16, kills: (50, 15), compared: 8 }
    }

    /// Days with a call a few minutes. The active clock advances by 3 s a block at most, so that idle blocks may not be
    /// rarer.
    pub(crate) fn days(days: u64) -> Self {
        let heartbeat = Duration::from_millis(2_900);
        let (seconds, kills) = (days * 24 * 3600, (12 * 3600, 600));
        Self { seconds, heartbeat, interval: 600, every: 2_000, kills, compared: 10 * days as usize }
    }

    /// Runs it for a seed; what its people did.
    pub(crate) fn run(&self, seed: u64) -> Tally {
        let life = Trade { plan: *self, seed, shared: Arc::default() };
        let shared = life.shared.clone();
        let rich = |index| [address(OWNER, index), address(OPERATOR, index)];
        let coins = U256::from(1_000_000 * COIN);
        let allocations = (0..VALIDATORS).flat_map(rich).map(|address| (address, coins)).collect();
        let mut four = Scenario::new(Votes::Plain, VALIDATORS as u64, lan(), self.seconds, life)
            .with_allocations(allocations)
            .with_heartbeat(self.heartbeat);
        let (every, away) = self.kills;
        // One after the other, and the last two of a round at once, which is a halt.
        let mut kills = 0;
        for (round, at) in (0..).zip((every / 2..self.seconds.saturating_sub(2 * away)).step_by(every as usize)) {
            let first = (seed as usize + round) % VALIDATORS;
            let others = if round % 4 == 3 { vec![first, (first + 1) % VALIDATORS] } else { vec![first] };
            for who in others {
                four = four.kill(SECOND * at as u32, who).start(SECOND * (at + away) as u32, who);
                kills += 1;
            }
        }
        let done = four.run(seed).unwrap();
        assert_eq!(done.kills, kills);
        let shared = shared.lock().expect("no holder of this lock panics");
        let all_four = shared.shown.values().filter(|(_, nodes)| nodes.len() == VALIDATORS).count();
        assert!(all_four >= self.compared, "{all_four} heights were shown by all four, of {}", shared.shown.len());
        let mut tally = shared.tally.clone();
        tally.blocks = done.heads.values().copied().max().unwrap_or(0);
        tally.books = shared.shown.values().map(|(_, nodes)| nodes.len()).sum();
        tally
    }
}

/// What all validators' lives know together.
#[derive(Default)]
struct Shared {
    tally: Tally,
    /// By height: what the first showed, and who showed the same.
    shown: BTreeMap<u64, (Vec<u8>, BTreeSet<usize>)>,
}

/// People at each validator who trade, and somebody who reads the book there.
#[derive(Clone)]
struct Trade {
    plan: Plan,
    seed: u64,
    shared: Arc<Mutex<Shared>>,
}

impl Life for Trade {
    fn live(&self, context: deterministic::Context, index: usize, reader: Reader) -> BoxFuture<'static, ()> {
        let this = self.clone();
        Box::pin(async move {
            let people = People::new(&reader, index);
            join(this.trade(&context, &reader, people), this.look(&reader, index)).await;
        })
    }
}

impl Trade {
    /// One call after the other; it never returns.
    async fn trade(&self, context: &deterministic::Context, reader: &Reader, people: People) {
        // Other dice after each start.
        let now = context.current().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let seed = self.seed << 40 ^ (people.index as u64) << 32 ^ now;
        let mut dice = StdRng::seed_from_u64(seed);
        let mut has_budget = false;
        loop {
            let millis = self.plan.interval * 2_000;
            context.sleep(Duration::from_millis(500 + die(&mut dice, millis))).await;
            // Refusals while nothing is readable yet are part of life.
            if !has_budget {
                has_budget = people.open_budget(reader).await;
                continue;
            }
            let Some((who, order)) = self.choose(reader, &people, &mut dice).await else { continue };
            match people.account(who).execute(&order).await {
                Ok(receipt) => {
                    let mut shared = self.shared.lock().expect("no holder of this lock panics");
                    shared.tally.learn(&receipt);
                    let ordered = order.data.starts_with(&IMarket::orderCall::SELECTOR);
                    shared.tally.by_budget += u32::from(ordered && who == BUDGET);
                }
                Err(AccountError::Reverted(receipt)) => {
                    let is_known = self.left_nothing(reader, people.account(who).address(), &receipt).await;
                    let mut shared = self.shared.lock().expect("no holder of this lock panics");
                    shared.tally.reverted += 1;
                    shared.tally.nothing_left += u32::from(is_known);
                }
                // Lost with a validator's mempool, or displaced.
                Err(_) => {}
            }
        }
    }

    /// Compares the book and the coin before and after the block of a reverted transaction; false if it was not alone
    /// there, or this validator does not know.
    async fn left_nothing(&self, reader: &Reader, sender: Address, receipt: &TxReceipt) -> bool {
        let (at, owners) = (receipt.height, owners());
        let Ok(Some(record)) = reader.block(At::Height(at)).await else { return false };
        // What the ledger does of itself in a block changes the book too.
        if record.txs.len() != 1 {
            return false;
        }
        let (before, after) = (Book::read(reader, at - 1, &owners).await, Book::read(reader, at, &owners).await);
        let (Some(before), Some(after)) = (before, after) else { return false };
        let coin = (reader.balance(sender, At::Height(at - 1)).await, reader.balance(sender, At::Height(at)).await);
        let (Ok(had), Ok(has)) = coin else { return false };
        let Ok(fees) = reader.fees(sender, at, at).await else { return false };
        assert_eq!(before.still(), after.still(), "a reverted transaction in block {at}");
        let paid: U256 = fees.iter().map(|fee| fee.fee).sum();
        assert_eq!(had - has, paid, "what a reverted transaction in block {at} cost");
        true
    }

    /// Reads the book at certain heights, checks it and compares it with what others showed; it never returns.
    async fn look(&self, reader: &Reader, index: usize) {
        let (mut last, owners) = (0, owners());
        loop {
            let Ok(head) = reader.wait(last).await else { continue };
            let first = (last / self.plan.every + 1) * self.plan.every;
            for at in (first..=head.height).step_by(self.plan.every as usize) {
                // Whoever caught up from far behind has forgotten these.
                let Some(book) = Book::read(reader, at, &owners).await else { continue };
                book.check(at);
                let mut shared = self.shared.lock().expect("no holder of this lock panics");
                let (bytes, nodes) = shared.shown.entry(at).or_insert_with(|| (book.bytes.clone(), BTreeSet::new()));
                assert!(*bytes == book.bytes, "height {at}: two validators show different books");
                nodes.insert(index);
            }
            last = head.height;
        }
    }

    /// A random call; often a wrong one.
    async fn choose(&self, reader: &Reader, people: &People, dice: &mut StdRng) -> Option<(usize, Tx)> {
        let head = reader.head().await.ok()?;
        let (at, secs) = (head.height, 60 + die(dice, 30 * self.plan.interval));
        let mine = &people.hosts[die(dice, HOSTS_EACH as u64) as usize];
        let hosts = nodes();
        let any = hosts[die(dice, hosts.len() as u64) as usize];
        let leases_of = |node| ask(reader, at, LEASES, ILeases::ofHostCall { node, first: 0, most: PAGE_MAX });
        let buyer = if die(dice, 3) == 0 { BUDGET } else { OWNER };
        let send = |value: u128, to, data: Vec<u8>| Tx::call(to, data, GAS).with_value(U256::from(value));
        Some(match die(dice, 20) {
            0..=2 => {
                let offer = offer(dice);
                // Some with a little less than is needed.
                let value = collateral_min(&offer.capacity) + u128::from(die(dice, 4)) * 1_000 - 1_000;
                (OPERATOR, send(value, MARKET, mine.register(head.chain_id, offer)))
            }
            3 | 4 => {
                (OPERATOR, send(0, MARKET, IMarket::updateCall { node: mine.node, offer: offer(dice) }.abi_encode()))
            }
            5 if die(dice, 2) == 0 => (OPERATOR, send(0, MARKET, IMarket::retireCall { node: mine.node }.abi_encode())),
            5 => (OWNER, send(u128::from(die(dice, 1_000)), MARKET, IMarket::depositCall { node: any }.abi_encode())),
            6 => (OPERATOR, send(0, MARKET, IMarket::withdrawCall { node: mine.node }.abi_encode())),
            7..=11 => {
                let terms = order(dice, secs, &[any]);
                // Some pay for more than they must, some for too little.
                let value = deposit(&terms) * u128::from(1 + die(dice, 6)) / 2;
                (buyer, send(value, MARKET, IMarket::orderCall { terms }.abi_encode()))
            }
            what @ (12 | 13) => {
                let whose = owners()[die(dice, VALIDATORS as u64) as usize];
                let waiting = orders(reader, at, whose).await?.into_iter().find(|placed| placed.state == 1);
                let id = waiting.map_or(1 + die(dice, 40), |placed| placed.id);
                let fill = IMarket::fillCall { id }.abi_encode();
                (OWNER, send(0, MARKET, if what == 12 { fill } else { IMarket::cancelCall { id }.abi_encode() }))
            }
            14..=16 => {
                let (leases, _) = leases_of(any).await?;
                let leases = if leases.is_empty() { vec![1 + die(dice, 9)] } else { leases };
                (OWNER, send(0, LEASES, ILeases::touchCall { leases }.abi_encode()))
            }
            17 => {
                let mut running = orders(reader, at, people.account(OWNER).address()).await?;
                running.retain(|placed| placed.state == 2);
                let order = running.get(die(dice, running.len() as u64) as usize);
                let lease = order.and_then(|placed| placed.leases.get(die(dice, placed.leases.len() as u64) as usize));
                let lease = lease.copied().unwrap_or(1 + die(dice, 9));
                (buyer, send(0, LEASES, ILeases::endCall { leases: vec![lease] }.abi_encode()))
            }
            18 => {
                let (leases, _) = leases_of(mine.node).await?;
                let leases = leases.into_iter().take(1).collect();
                (OPERATOR, send(0, LEASES, ILeases::quitCall { leases }.abi_encode()))
            }
            _ => {
                let (leases, _) = leases_of(any).await?;
                let lease = leases.first().copied().unwrap_or(1 + die(dice, 9));
                let (many, _) = ask(reader, at, LEASES, ILeases::manyCall { leases: leases.clone() }).await?;
                // Now and then not whole seconds.
                let rate = many.first().map_or(1, |lease| lease.rate) - u128::from(die(dice, 8) == 0);
                let value = rate * u128::from(60 + die(dice, 600));
                (OWNER, send(value, LEASES, ILeases::renewCall { lease }.abi_encode()))
            }
        })
    }
}

/// Orders of an account that wait or run, its first page.
async fn orders(reader: &Reader, at: u64, owner: Address) -> Option<Vec<Placed>> {
    let call = IMarket::ofOwnerCall { owner, first: 0, most: PAGE_MAX };
    let mut found = Vec::new();
    for id in ask(reader, at, MARKET, call).await?.0 {
        found.push(ask(reader, at, MARKET, IMarket::placedCall { id }).await?.0);
    }
    Some(found)
}

// Accounts of the people at a validator.
const OWNER: usize = 0;
const OPERATOR: usize = 1;
const BUDGET: usize = 2;

fn secret(who: usize, index: usize) -> [u8; 32] {
    [(1 + who * 0x20 + index) as u8; 32]
}

fn address(who: usize, index: usize) -> Address {
    address_of(&secret(who, index)).expect("small numbers are secrets")
}

fn hosts(index: usize) -> Vec<Host> {
    let number = |at: usize| (0x80 + index * HOSTS_EACH + at) as u8;
    (0..HOSTS_EACH).map(|at| Host::new(number(at), address(OPERATOR, index))).collect()
}

fn nodes() -> Vec<B256> {
    (0..VALIDATORS).flat_map(hosts).map(|host| host.node).collect()
}

/// Whoever orders come to belong to.
fn owners() -> Vec<Address> {
    (0..VALIDATORS).map(|index| address(OWNER, index)).collect()
}

/// Who trades at one validator.
struct People {
    index: usize,
    accounts: Vec<Account>,
    hosts: Vec<Host>,
}

impl People {
    fn new(reader: &Reader, index: usize) -> Self {
        let chain: Arc<dyn Chain> = Arc::new(reader.clone());
        let account = |who| Account::new(chain.clone(), &secret(who, index)).expect("small numbers are secrets");
        Self { index, accounts: [OWNER, OPERATOR, BUDGET].map(account).into(), hosts: hosts(index) }
    }

    fn account(&self, who: usize) -> &Account {
        &self.accounts[who]
    }

    /// Gives the owner a budget, unless it has one; false if that is not known yet.
    async fn open_budget(&self, reader: &Reader) -> bool {
        let Ok(head) = reader.head().await else { return false };
        let (owner, budget) = (self.account(OWNER), self.account(BUDGET));
        let call = IBudgets::ownerOfCall { spender: budget.address() };
        let Some((found, _)) = ask(reader, head.height, BUDGETS, call).await else { return false };
        if !found.is_zero() {
            return true;
        }
        let statement = spender_consent(head.chain_id, owner.address(), budget.address());
        let consent = budget.sign_hash(alloy_primitives::keccak256(statement)).to_vec().into();
        let call = IBudgets::registerCall { spender: budget.address(), consent }.abi_encode();
        let fund = Tx::call(BUDGETS, call, GAS).with_value(U256::from(10_000 * COIN));
        owner.execute(&fund).await.is_ok()
    }
}
