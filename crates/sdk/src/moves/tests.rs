//! Moves of a ledger in memory that keeps its newest blocks and answers a few logs at a time.

use super::*;
use alloy_primitives::{Bytes, LogData};
use alloy_sol_types::{SolCall as _, SolValue as _};
use futures::{FutureExt as _, executor::block_on, future::BoxFuture};
use hodei_types::{
    abi::IProviders,
    chain::{Account, AnchorProof, Certificate, Head, LOG_BLOCKS_MAX},
};

const ME: Address = Address::repeat_byte(1);
const OTHER: Address = Address::repeat_byte(2);
const SPENDER: Address = Address::repeat_byte(3);
const OPERATOR: Address = Address::repeat_byte(4);
const NODE: B256 = B256::repeat_byte(5);
/// Logs of one answer.
const FEW: usize = 3;

#[derive(Default)]
struct Ledger {
    first: u64,
    head: u64,
    logs: Vec<Log>,
    fees: Vec<(Address, Fee)>,
    failed: Vec<B256>,
}

impl Ledger {
    /// A transaction by `from` in a block of its own.
    fn tx(&mut self, from: Address, fee: u64, events: Vec<(Address, LogData)>) -> B256 {
        self.head += 1;
        let tx = B256::from(U256::from(self.head));
        let height = self.head;
        self.logs.extend((0..).zip(events).map(|(index, (address, data))| Log {
            address,
            topics: data.topics().to_vec(),
            data: data.data,
            height,
            tx,
            index,
        }));
        let nonce = self.fees.iter().filter(|(account, _)| *account == from).count() as u64;
        self.fees.push((from, Fee { height, tx, nonce, fee: U256::from(fee) }));
        tx
    }

    fn kept(&self, from: u64) -> Result<(), ChainError> {
        let gone = || ChainError::Refused(format!("blocks before {} are no longer kept by this node", self.first));
        if from < self.first { Err(gone()) } else { Ok(()) }
    }
}

fn transfer(from: Address, to: Address, amount: u64) -> (Address, LogData) {
    (SYSTEM, ICoin::Transfer { from, to, amount: U256::from(amount) }.encode_log_data())
}

fn told(address: Address, event: &impl SolEvent) -> (Address, LogData) {
    (address, event.encode_log_data())
}

fn opened(deal: u64, escrow: u128) -> (Address, LogData) {
    let event = IDeals::Opened { deal, bucket: NODE, provider: NODE, owner: ME, capacityBytes: 1, price: 1, escrow };
    told(DEALS, &event)
}

fn paid(deal: u64, amount: u64) -> (Address, LogData) {
    let (windows, amount) = (2, U256::from(amount));
    told(DEALS, &IDeals::Paid { deal, provider: NODE, operator: OPERATOR, windows, amount, escrowLeft: 0 })
}

fn answer<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T, ChainError>> {
    async move { Ok(value) }.boxed()
}

impl Chain for Ledger {
    fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>> {
        let (hash, genesis) = (B256::ZERO, B256::ZERO);
        answer(Head { height: self.head, hash, time_ms: 0, base_fee: 1, chain_id: 1, genesis })
    }

    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
        let logs = self.logs.iter().filter(|log| log.tx == tx).cloned().collect();
        let success = !self.failed.contains(&tx);
        answer(Some(TxReceipt { tx, height: 0, success, gas_used: 0, logs, output: Bytes::new() }))
    }

    /// Deals up to 9 are mine.
    fn call(&self, _: Address, to: Address, data: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
        assert_eq!(to, DEALS);
        let call = IDeals::manyCall::abi_decode(&data).unwrap();
        let deal = |id: u64| IDeals::Deal { id, owner: if id < 10 { ME } else { OTHER }, ..empty() };
        answer(call.deals.into_iter().map(deal).collect::<Vec<_>>().abi_encode().into())
    }

    fn logs(&self, filter: LogFilter) -> BoxFuture<'_, Result<Vec<Log>, ChainError>> {
        let topics = [filter.topic0, filter.topic1, filter.topic2];
        let fits = |log: &&Log| {
            (filter.from..=filter.to).contains(&log.height)
                && filter.address.is_none_or(|address| address == log.address)
                && topics
                    .iter()
                    .enumerate()
                    .all(|(at, topic)| topic.is_none_or(|topic| log.topics.get(at) == Some(&topic)))
        };
        let found: Vec<_> = self.logs.iter().filter(fits).cloned().collect();
        let kept = self.kept(filter.from);
        async move {
            kept?;
            if found.len() > FEW { Err(ChainError::Refused("too many".into())) } else { Ok(found) }
        }
        .boxed()
    }

    fn fees(&self, account: Address, from: u64, to: u64) -> BoxFuture<'_, Result<Vec<Fee>, ChainError>> {
        let own = self.fees.iter().filter(|(owner, fee)| *owner == account && (from..=to).contains(&fee.height));
        let (own, kept) = (own.map(|(_, fee)| fee.clone()).collect(), self.kept(from));
        async move { kept.map(|()| own) }.boxed()
    }

    fn wait(&self, _: u64) -> BoxFuture<'_, Result<Head, ChainError>> {
        unreachable!()
    }

    fn certificate(&self, _: u64) -> BoxFuture<'_, Result<Certificate, ChainError>> {
        unreachable!()
    }

    fn account(&self, _: Address) -> BoxFuture<'_, Result<Account, ChainError>> {
        unreachable!()
    }

    fn submit(&self, _: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
        unreachable!()
    }

    fn anchor(&self, _: u64, _: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>> {
        unreachable!()
    }
}

fn empty() -> IDeals::Deal {
    let words = vec![0; 32 * 64];
    IDeals::Deal::abi_decode(&words).unwrap()
}

/// All that happens to an account, oldest first; nothing older than block `first` is kept.
fn life(first: u64) -> Ledger {
    let mut ledger = Ledger { first, ..Ledger::default() };
    ledger.tx(OTHER, 7, vec![transfer(OTHER, ME, 1000)]);
    ledger.tx(ME, 1, vec![transfer(ME, OTHER, 30)]);
    let reverted = ledger.tx(ME, 2, vec![]);
    ledger.failed.push(reverted);
    ledger.tx(ME, 3, vec![transfer(ME, DEALS, 60), opened(1, 40), opened(2, 20)]);
    ledger.tx(OTHER, 7, vec![transfer(DEALS, OPERATOR, 5), paid(1, 5), transfer(DEALS, OPERATOR, 6), paid(11, 6)]);
    let end = IDeals::Ended { deal: 1, bucket: NODE, provider: NODE, refund: U256::from(35) };
    ledger.tx(ME, 4, vec![transfer(DEALS, ME, 35), told(DEALS, &end)]);
    let amount = U256::from(50);
    let funded = IBudgets::Funded { owner: ME, spender: SPENDER, amount };
    ledger.tx(ME, 5, vec![transfer(ME, BUDGETS, 50), transfer(BUDGETS, SPENDER, 50), told(BUDGETS, &funded)]);
    ledger.tx(SPENDER, 6, vec![]);
    let amount = U256::from(44);
    let reclaimed = IBudgets::Reclaimed { owner: ME, spender: SPENDER, amount };
    ledger.tx(ME, 7, vec![transfer(SPENDER, ME, 44), told(BUDGETS, &reclaimed)]);
    let deposited = IProviders::Deposited { node: NODE, amount: U256::from(9), collateral: U256::from(9) };
    ledger.tx(ME, 8, vec![transfer(ME, PROVIDERS, 9), told(PROVIDERS, &deposited)]);
    ledger.tx(OTHER, 7, vec![transfer(OTHER, OPERATOR, 1)]);
    ledger
}

fn names(found: &Page<Move>) -> Vec<(&'static str, Flow, u64, u64)> {
    let name = |moved: &Move| (moved.why.name(), moved.flow, moved.amount.to(), moved.fee.to());
    found.rows.iter().map(name).collect()
}

#[test]
fn every_coin_and_every_fee_of_an_account_is_told_once() {
    use Flow::{In, Out, Still};
    let ledger = life(1);
    let found = block_on(moves(&ledger, &[ME], 100, None)).unwrap();
    let expected = [
        ("collateral", Out, 9, 8),
        ("budget returned", In, 44, 7),
        ("budget", Out, 50, 5),
        ("refund", In, 35, 4),
        ("paid from escrow", Still, 5, 0),
        ("escrow", Out, 60, 3),
        ("fee", Still, 0, 2),
        ("sent", Out, 30, 1),
        ("received", In, 1000, 0),
    ];
    assert_eq!(names(&found), expected);
    assert_eq!((found.from, found.to, found.is_more, &found.cut), (1, ledger.head, false, &None));
    let texts: Vec<_> = found.rows.iter().map(|moved| moved.text.as_str()).collect();
    assert_eq!(texts[3], "deal 1 ended");
    assert_eq!(texts[5], "deals 1, 2 opened");
    assert_eq!(texts[6], "reverted: no coin moved");
    assert_eq!(texts[2], format!("to spend by {SPENDER}"));
    // What is told of two accounts is what is told of each.
    let both = block_on(moves(&ledger, &[ME, SPENDER], 100, None)).unwrap();
    let spender: Vec<_> = names(&both).into_iter().filter(|name| !expected.contains(name)).collect();
    assert_eq!(spender, [("budget returned", Out, 44, 0), ("fee", Still, 0, 6), ("budget", In, 50, 0)]);
    assert_eq!(both.rows.len(), expected.len() + spender.len());
}

#[test]
fn what_goes_into_a_reserve_and_comes_back_is_told_as_that() {
    let (mut ledger, bucket, amount) = (Ledger { first: 1, ..Ledger::default() }, NODE, U256::from(70));
    ledger.tx(OTHER, 7, vec![transfer(OTHER, ME, 1000)]);
    let funded = IDeals::Funded { bucket, amount, reserve: amount };
    ledger.tx(ME, 1, vec![transfer(ME, DEALS, 70), told(DEALS, &funded)]);
    let back = IDeals::Withdrawn { bucket, amount: U256::from(30) };
    ledger.tx(ME, 2, vec![transfer(DEALS, ME, 30), told(DEALS, &back)]);
    let found = block_on(moves(&ledger, &[ME], 100, None)).unwrap();
    let expected =
        [("reserve returned", Flow::In, 30, 2), ("reserve", Flow::Out, 70, 1), ("received", Flow::In, 1000, 0)];
    assert_eq!(names(&found), expected);
    assert_eq!(found.rows[0].text, format!("of bucket {NODE}"));
}

#[test]
fn what_a_custodian_is_paid_is_told_as_its_wage_beside_its_pay_as_an_operator() {
    let (mut ledger, amount) = (Ledger { first: 1, ..Ledger::default() }, U256::from(25));
    ledger.tx(OTHER, 7, vec![transfer(OTHER, ME, 1000)]);
    let paid_wage = IDeals::WagePaid { bucket: NODE, custodian: ME, deal: 3, leaves: 2048, amount };
    // What the post settles goes to the deal's operator, who may be the same.
    let logs = vec![transfer(DEALS, ME, 5), paid(3, 5), transfer(DEALS, ME, 25), told(DEALS, &paid_wage)];
    ledger.tx(ME, 4, logs);
    let found = block_on(moves(&ledger, &[ME], 100, None)).unwrap();
    let told: Vec<_> = names(&found).into_iter().filter(|(_, flow, ..)| *flow == Flow::In).collect();
    assert_eq!(told, [("wage", Flow::In, 25, 4), ("pay", Flow::In, 5, 0), ("received", Flow::In, 1000, 0)]);
    let wage = found.rows.iter().find(|moved| moved.why == Why::Wage).unwrap();
    assert_eq!(wage.text, format!("of bucket {NODE} for 2048 KiB more in deal 3"));
}

#[test]
fn a_tab_is_told_to_its_payer_and_to_whom_it_pays() {
    let (mut ledger, tab) = (Ledger { first: 1, ..Ledger::default() }, B256::repeat_byte(6));
    ledger.tx(OTHER, 7, vec![transfer(OTHER, SPENDER, 1000)]);
    // The budget opens it; who owns the budget is its payer.
    let opened = ITabs::Opened { tab, payer: ME, bucket: NODE, deposit: 100, untilMs: 9 };
    ledger.tx(SPENDER, 1, vec![transfer(SPENDER, TABS, 100), told(TABS, &opened)]);
    let claimed = |amount: u64, ticks, payer| {
        let amount = U256::from(amount);
        let event = ITabs::Claimed { payer, provider: NODE, tab, operator: OPERATOR, leaf: 0, index: 9, ticks, amount };
        told(TABS, &event)
    };
    // Two in one transaction, one of them of a stranger's tab, and one that costs nothing.
    let claims =
        vec![transfer(TABS, OPERATOR, 30), claimed(30, 3, ME), transfer(TABS, OPERATOR, 50), claimed(50, 5, OTHER)];
    ledger.tx(OPERATOR, 2, claims);
    ledger.tx(OPERATOR, 2, vec![claimed(0, 4, ME)]);
    let ended = ITabs::Ended { tab, payer: ME, refund: U256::from(70) };
    ledger.tx(OTHER, 7, vec![transfer(TABS, ME, 70), told(TABS, &ended)]);
    let found = block_on(moves(&ledger, &[ME, SPENDER], 100, None)).unwrap();
    let expected = [
        ("tab returned", Flow::In, 70, 0),
        ("paid from tab", Flow::Still, 0, 0),
        ("paid from tab", Flow::Still, 30, 0),
        ("tab", Flow::Out, 100, 1),
        ("received", Flow::In, 1000, 0),
    ];
    assert_eq!(names(&found), expected);
    assert_eq!(found.rows[0].text, format!("{tab} ended"));
    assert_eq!(found.rows[2].text, format!("tab {tab} paid operator {OPERATOR} for 3 MiB read"));
    assert_eq!(found.rows[3].text, format!("{tab} opened to read bucket {NODE}"));
    let paid = block_on(moves(&ledger, &[OPERATOR], 100, None)).unwrap();
    let expected = [("fee", Flow::Still, 0, 2), ("pay", Flow::In, 50, 0), ("pay", Flow::In, 30, 0)];
    assert_eq!(
        names(&paid).iter().map(|name| (name.0, name.1, name.2)).collect::<Vec<_>>(),
        expected.map(|name| (name.0, name.1, name.2))
    );
    assert_eq!(paid.rows.iter().map(|moved| moved.fee).sum::<U256>(), U256::from(4));
    assert_eq!(paid.rows[2].text, format!("tab {tab} for 3 MiB read"));
}

#[test]
fn the_newest_are_told_first_and_the_rest_is_said_to_be_left_out() {
    let found = block_on(moves(&life(1), &[ME], 2, None)).unwrap();
    assert_eq!(names(&found).iter().map(|name| name.0).collect::<Vec<_>>(), ["collateral", "budget returned"]);
    assert!(found.is_more && found.cut.is_none());
}

#[test]
fn the_oldest_block_that_is_kept_is_still_told_and_older_ones_are_said_to_be_gone() {
    for first in 2..=11 {
        let found = block_on(moves(&life(first), &[ME], 100, None)).unwrap();
        assert_eq!(found.from, first);
        assert!(found.cut.as_ref().is_some_and(|reason| reason.contains(&format!("before {first} "))));
        assert!(found.rows.iter().all(|moved| moved.height >= first));
    }
    let mut ledger = life(12);
    assert!(matches!(block_on(moves(&ledger, &[ME], 100, None)), Err(ChainError::Refused(_))), "nothing is kept");
    // A fee that is left out is noticed.
    (ledger.first, ledger.fees[2].1.nonce) = (1, 9);
    assert!(matches!(block_on(moves(&ledger, &[ME], 100, None)), Err(ChainError::Invalid(_))));
}

#[test]
fn pages_of_a_history_are_the_whole_of_it() {
    let ledger = life(1);
    let accounts = [ME, SPENDER];
    let whole = block_on(moves(&ledger, &accounts, 100, None)).unwrap();
    assert!(whole.next.is_none() && !whole.is_more);
    for last in 1..=whole.rows.len() {
        let (mut told, mut before) = (Vec::new(), None);
        loop {
            let page = block_on(moves(&ledger, &accounts, last, before)).unwrap();
            assert!(page.rows.len() <= last, "{last}");
            assert_eq!(page.is_more, page.next.is_some(), "{last}");
            told.extend(page.rows);
            // As it is written down and typed again.
            before = page.next.map(|next| next.to_string().parse::<Cursor>().unwrap());
            if before.is_none() {
                break;
            }
        }
        assert_eq!(told, whole.rows, "{last} at a time");
    }
    // A block's number says: older than that.
    let from = whole.rows[3].height;
    let older = block_on(moves(&ledger, &accounts, 100, Some(from.to_string().parse().unwrap()))).unwrap();
    let expected: Vec<_> = whole.rows.iter().filter(|moved| moved.height < from).cloned().collect();
    assert_eq!((older.rows, older.to), (expected, from - 1));
    let none = block_on(moves(&ledger, &accounts, 100, Some("1".parse().unwrap()))).unwrap();
    assert!(none.rows.is_empty() && none.next.is_none());
    let ahead = block_on(moves(&ledger, &accounts, 100, Some("99".parse().unwrap()))).unwrap();
    assert_eq!(ahead.rows, whole.rows);
    for wrong in ["", ".", "1.", ".1", "-1", "1.x", "+1", "0x1", "1.2.3", "99999999999999999999", "1.99999999999"] {
        assert_eq!(wrong.parse::<Cursor>(), Err(NoCursor), "{wrong:?}");
    }
}

#[test]
fn a_history_beyond_what_is_looked_through_at_a_time_goes_on() {
    let mut ledger = life(1);
    let first = ledger.head;
    ledger.head += 2 * LOG_BLOCKS_MAX;
    let (mut told, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = block_on(moves(&ledger, &[ME], 100, before)).unwrap();
        told.extend(page.rows);
        (before, pages) = (page.next, pages + 1);
        if before.is_none() {
            break;
        }
    }
    assert_eq!((pages, told), (3, block_on(moves(&life(1), &[ME], 100, None)).unwrap().rows));
    // What is not kept any more ends it.
    ledger.first = first + 1;
    let cut = block_on(moves(&ledger, &[ME], 100, Some((first + 1).to_string().parse().unwrap()))).unwrap();
    assert!(cut.rows.is_empty() && cut.next.is_none() && cut.cut.is_some());
}

#[test]
fn what_an_app_costs_is_told_as_escrow_what_leases_paid_and_what_came_back() {
    use hodei_types::abi::{IMarket, LEASES, MARKET};
    let mut ledger = Ledger { first: 1, ..Ledger::default() };
    ledger.tx(OTHER, 7, vec![transfer(OTHER, ME, 1000)]);
    let filled = IMarket::Filled { order: 3, owner: ME, firstLease: 8, escrow: U256::from(90), change: U256::from(10) };
    let ordered = IMarket::Ordered { order: 3, owner: ME, state: 2, terms: any_order(), deposit: U256::from(100) };
    ledger.tx(
        ME,
        1,
        vec![
            transfer(ME, MARKET, 100),
            transfer(MARKET, LEASES, 90),
            transfer(MARKET, ME, 10),
            told(MARKET, &ordered),
            told(MARKET, &filled),
        ],
    );
    let (amount, burned) = (U256::from(49), U256::from(1));
    let settled = ILeases::Settled { lease: 8, node: NODE, owner: ME, operator: OPERATOR, secs: 5, amount, burned };
    let ended = ILeases::Ended { lease: 8, node: NODE, owner: ME, by: 1, refund: U256::from(40), penalty: U256::ZERO };
    ledger.tx(
        ME,
        1,
        vec![transfer(LEASES, OPERATOR, 49), told(LEASES, &settled), transfer(LEASES, ME, 40), told(LEASES, &ended)],
    );
    let told = |account| {
        let page = block_on(moves(&ledger, &[account], 100, None)).unwrap();
        page.rows.iter().map(|row| (row.why.name(), row.amount.to::<u64>(), row.text.clone())).collect::<Vec<_>>()
    };
    let mine = told(ME);
    let expected = [
        ("refund", 40, "lease 8 ended"),
        ("paid from escrow", 50, "lease 8 paid operator"),
        ("refund", 10, "order 3"),
        ("escrow", 100, "order 3"),
    ];
    for ((why, amount, text), (expected_why, expected_amount, begin)) in mine.iter().zip(expected) {
        assert_eq!((*why, *amount), (expected_why, expected_amount));
        assert!(text.starts_with(begin), "{text}");
    }
    assert_eq!(told(OPERATOR), [("pay", 49, "lease 8 for 5 s".to_owned())]);
}

fn any_order() -> hodei_types::abi::IMarket::Order {
    hodei_types::abi::IMarket::Order {
        each: Default::default(),
        replicas: 1,
        regions: 1,
        country: Default::default(),
        runtime: 0,
        tierMin: 0,
        attestationMin: 0,
        renewableMin: 0,
        priceMax: 1,
        perHost: 0,
        perOperator: 0,
        perNetwork: 0,
        class: 0,
        secs: 60,
        patienceMs: 0,
        workload: B256::ZERO,
        collateralMin: 0,
        availabilityMinBp: 0,
        within: 0,
        exclude: Vec::new(),
    }
}
