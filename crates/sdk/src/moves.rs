//! Tell what moved an account's coins: each wei of its balance has its transaction.
//!
//! The ledger logs each move of coin (`ICoin::Transfer`), and tells what an account's own transactions cost. Over the
//! blocks looked at, what came in less what went out less the fees is by how much a balance changed. Two things are in
//! no log: what the genesis gave, and the tips of a validator.

mod cursor;
mod lease;
mod page;
mod ticks;

pub use cursor::{Cursor, NoCursor};
pub use page::Page;
pub(crate) use page::{Dated, PIECE_BLOCKS, newest};

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolEvent;
use futures::{StreamExt as _, TryStreamExt as _, future::try_join3, stream};
use hodei_types::{
    abi::{
        BATCH_MAX, BUDGETS, DEALS, IBudgets, ICoin, IDeals, ILeases, ILevels, IRelays, ITabs, LEASES, LEVELS, MARKET,
        PROVIDERS, RELAYS, SYSTEM, TABS,
    },
    call::ask,
    chain::{Chain, ChainError, Fee, Log, LogFilter, TxReceipt},
};
use std::collections::{BTreeMap, BTreeSet};

/// Receipts asked for at once.
const AT_ONCE: usize = 32;

/// Whether an account has more or less afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    In,
    Out,
    /// Its own balance did not change: escrow it had put in before was paid out.
    Still,
}

/// Why coin moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Sent,
    Received,
    /// Into the escrow of deals.
    Escrow,
    /// From the escrow of the account's deals to an operator.
    EscrowPaid,
    /// What was left of an escrow.
    Refund,
    /// Into what custodians of a bucket may put into its deals, and back.
    Reserve,
    ReserveReturned,
    /// From a bucket's reserve to the account as its custodian.
    Wage,
    /// Into tabs for what is read, from them to an operator, and what was left of one.
    Tab,
    TabPaid,
    TabReturned,
    /// To the account as an operator.
    Pay,
    Budget,
    BudgetReturned,
    Collateral,
    CollateralReturned,
    /// A transaction that moved no coin of the account but cost its fee.
    Fee,
}

impl Why {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Escrow => "escrow",
            Self::EscrowPaid => "paid from escrow",
            Self::Refund => "refund",
            Self::Reserve => "reserve",
            Self::ReserveReturned => "reserve returned",
            Self::Wage => "wage",
            Self::Tab => "tab",
            Self::TabPaid => "paid from tab",
            Self::TabReturned => "tab returned",
            Self::Pay => "pay",
            Self::Budget => "budget",
            Self::BudgetReturned => "budget returned",
            Self::Collateral => "collateral",
            Self::CollateralReturned => "collateral returned",
            Self::Fee => "fee",
        }
    }
}

/// One move of an account's coins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub height: u64,
    /// Of its log in the block; a fee alone comes behind them.
    pub index: u32,
    pub tx: B256,
    pub account: Address,
    pub flow: Flow,
    pub why: Why,
    /// Wei.
    pub amount: U256,
    /// Wei that the account paid for the transaction: on one move of each transaction of its own, else zero.
    pub fee: U256,
    /// From or to whom, or for which deal.
    pub text: String,
}

impl Dated for Move {
    fn height(&self) -> u64 {
        self.height
    }
}

/// The `last` newest moves of `accounts`, out of the last [`LOG_BLOCKS_MAX`] blocks or as many as are kept; where
/// `before` is said, of those that are older.
///
/// [`LOG_BLOCKS_MAX`]: hodei_types::chain::LOG_BLOCKS_MAX
pub async fn moves(
    chain: &dyn Chain,
    accounts: &[Address],
    last: usize,
    before: Option<Cursor>,
) -> Result<Page<Move>, ChainError> {
    let mut owners = BTreeMap::new();
    let mut found =
        newest(chain, last, before, async |from, to| piece(chain, accounts, from, to, &mut owners).await).await?;
    explain(chain, &mut found.rows).await?;
    Ok(found)
}

/// All moves in some blocks, newest first, named by whom the coin went to or came from.
async fn piece(
    chain: &dyn Chain,
    accounts: &[Address],
    from: u64,
    to: u64,
    owners: &mut BTreeMap<u64, Address>,
) -> Result<Vec<Move>, ChainError> {
    let logs =
        |address, topic0| LogFilter { from, to, address: Some(address), topic0: Some(topic0), ..LogFilter::default() };
    let transfers = logs(SYSTEM, ICoin::Transfer::SIGNATURE_HASH);
    let mut found = Vec::new();
    for account in accounts {
        let me = Some(B256::left_padding_from(account.as_slice()));
        let (out, into, fees) = try_join3(
            chain.logs(LogFilter { topic1: me, ..transfers.clone() }),
            chain.logs(LogFilter { topic2: me, ..transfers.clone() }),
            chain.fees(*account, from, to),
        )
        .await?;
        if fees.windows(2).any(|pair| pair[0].nonce + 1 != pair[1].nonce) {
            return Err(ChainError::Invalid(format!(
                "the transactions of {account} in blocks {from} to {to} are not all told"
            )));
        }
        found.extend(with_fees(
            *account,
            out.iter().chain(&into).filter_map(|log| moved(*account, log)).collect(),
            fees,
        ));
    }
    let paid = chain.logs(logs(DEALS, IDeals::Paid::SIGNATURE_HASH)).await?;
    let paid: Vec<_> = paid.iter().filter_map(|log| Some((log, event::<IDeals::Paid>(log)?))).collect();
    learn(chain, owners, paid.iter().map(|(_, paid)| paid.deal)).await?;
    for (log, paid) in paid {
        let Some(account) = owners.get(&paid.deal).filter(|owner| accounts.contains(owner)) else { continue };
        let text = format!("deal {} paid operator {} for {}", paid.deal, paid.operator, windows(paid.windows));
        found.push(Move {
            height: log.height,
            index: log.index,
            tx: log.tx,
            account: *account,
            flow: Flow::Still,
            why: Why::EscrowPaid,
            amount: paid.amount,
            fee: U256::ZERO,
            text,
        });
    }
    for account in accounts {
        let me = Some(B256::left_padding_from(account.as_slice()));
        let claimed = chain.logs(LogFilter { topic1: me, ..logs(TABS, ITabs::Claimed::SIGNATURE_HASH) }).await?;
        found.extend(claimed.iter().filter_map(|log| read(*account, log)));
    }
    for account in accounts {
        let me = Some(B256::left_padding_from(account.as_slice()));
        let claimed = chain.logs(LogFilter { topic2: me, ..logs(RELAYS, IRelays::Claimed::SIGNATURE_HASH) }).await?;
        found.extend(claimed.iter().filter_map(|log| ticks::paid(*account, log)));
    }
    for paid in [ILeases::Settled::SIGNATURE_HASH, ILeases::Claimed::SIGNATURE_HASH] {
        let told = chain.logs(logs(LEASES, paid)).await?;
        found.extend(told.iter().filter_map(|log| lease::paid(accounts, log)));
    }
    found.sort_by_key(|moved| std::cmp::Reverse((moved.height, moved.index)));
    Ok(found)
}

/// What the account's own tab paid.
fn read(account: Address, log: &Log) -> Option<Move> {
    let claimed = event::<ITabs::Claimed>(log)?;
    let Log { height, index, tx, .. } = *log;
    Some(Move {
        height,
        index,
        tx,
        account,
        flow: Flow::Still,
        why: Why::TabPaid,
        amount: claimed.amount,
        fee: U256::ZERO,
        text: format!("tab {} paid operator {} for {} MiB read", claimed.tab, claimed.operator, claimed.ticks),
    })
}

/// Whose these deals are.
pub(crate) async fn learn(
    chain: &dyn Chain,
    owners: &mut BTreeMap<u64, Address>,
    deals: impl Iterator<Item = u64>,
) -> Result<(), ChainError> {
    let unknown: BTreeSet<u64> = deals.filter(|deal| !owners.contains_key(deal)).collect();
    for deals in unknown.into_iter().collect::<Vec<_>>().chunks(BATCH_MAX) {
        let states = ask(chain, DEALS, &IDeals::manyCall { deals: deals.to_vec() }).await?;
        owners.extend(states.iter().map(|deal| (deal.id, deal.owner)));
    }
    Ok(())
}

/// What a transfer is to `account`.
fn moved(account: Address, log: &Log) -> Option<Move> {
    let transfer = event::<ICoin::Transfer>(log)?;
    let (flow, other) = match account {
        _ if transfer.from == account => (Flow::Out, transfer.to),
        _ => (Flow::In, transfer.from),
    };
    let why = match (other, flow) {
        (DEALS, Flow::Out) => Why::Escrow,
        (DEALS, _) => Why::Refund,
        (LEVELS, Flow::Out) => Why::Collateral,
        (LEVELS, _) => Why::CollateralReturned,
        (MARKET | LEASES, Flow::Out) => Why::Escrow,
        (MARKET | LEASES, _) => Why::Refund,
        (RELAYS, Flow::Out) => Why::Escrow,
        (RELAYS, _) => Why::Refund,
        (TABS, Flow::Out) => Why::Tab,
        (TABS, _) => Why::TabReturned,
        (BUDGETS, _) => Why::Budget,
        (PROVIDERS, Flow::Out) => Why::Collateral,
        (PROVIDERS, _) => Why::CollateralReturned,
        (_, Flow::Out) => Why::Sent,
        _ => Why::Received,
    };
    let text = if flow == Flow::Out { format!("to {other}") } else { format!("from {other}") };
    let Log { height, index, tx, .. } = *log;
    Some(Move { height, index, tx, account, flow, why, amount: transfer.amount, fee: U256::ZERO, text })
}

/// Puts each fee on the last move of its transaction, or makes a move of it alone.
fn with_fees(account: Address, mut moves: Vec<Move>, fees: Vec<Fee>) -> Vec<Move> {
    moves.sort_by_key(|moved| (moved.height, moved.index));
    for Fee { height, tx, fee, .. } in fees {
        match moves.iter_mut().rfind(|moved| moved.tx == tx) {
            Some(moved) => moved.fee = fee,
            None => moves.push(Move {
                height,
                index: u32::MAX,
                tx,
                account,
                flow: Flow::Still,
                why: Why::Fee,
                amount: U256::ZERO,
                fee,
                text: "no coin moved".into(),
            }),
        }
    }
    moves
}

/// Says by the modules' events what the moves were for.
async fn explain(chain: &dyn Chain, moves: &mut [Move]) -> Result<(), ChainError> {
    let txs: BTreeSet<B256> = moves.iter().map(|moved| moved.tx).collect();
    let receipts: BTreeMap<B256, TxReceipt> = stream::iter(txs)
        .map(|tx| async move { chain.receipt(tx).await.map(|receipt| Some((tx, receipt?))) })
        .buffer_unordered(AT_ONCE)
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await?;
    for moved in moves {
        if let Some(receipt) = receipts.get(&moved.tx)
            && let Some((why, text)) = reason(moved, receipt)
        {
            (moved.why, moved.text) = (why, text);
        }
    }
    Ok(())
}

/// A module tells what it moved coin for right behind the transfer.
fn reason(moved: &Move, receipt: &TxReceipt) -> Option<(Why, String)> {
    if moved.why == Why::Fee {
        return (!receipt.success).then(|| (Why::Fee, "reverted: no coin moved".into()));
    }
    let mut behind = receipt.logs.iter().filter(|log| log.index > moved.index && log.address != SYSTEM);
    if let Some(told) = ticks::told(moved, behind.clone()) {
        return Some(told);
    }
    match (moved.why, moved.flow) {
        (Why::Escrow, _) => {
            let opened: Vec<_> =
                behind.clone().filter_map(event::<IDeals::Opened>).map(|opened| opened.deal.to_string()).collect();
            match opened.len() {
                0 => {
                    let next = behind.clone().next()?;
                    let more = event::<IDeals::ToppedUp>(next);
                    let more = more.map(|more| (Why::Escrow, format!("deal {} topped up", more.deal)));
                    let funded = || {
                        let funded = event::<IDeals::Funded>(next)?;
                        Some((Why::Reserve, format!("of bucket {}", funded.bucket)))
                    };
                    more.or_else(funded).or_else(|| lease::bound(behind))
                }
                1 => Some((Why::Escrow, format!("deal {} opened", opened[0]))),
                _ => Some((Why::Escrow, format!("deals {} opened", opened.join(", ")))),
            }
        }
        (Why::Refund, _) => {
            let next = behind.clone().next()?;
            let ended = event::<IDeals::Ended>(next).map(|ended| (Why::Refund, format!("deal {} ended", ended.deal)));
            let back = || {
                let back = event::<IDeals::Withdrawn>(next).filter(|_| next.address == DEALS)?;
                Some((Why::ReserveReturned, format!("of bucket {}", back.bucket)))
            };
            let wage = || {
                let paid = event::<IDeals::WagePaid>(next)?;
                Some((
                    Why::Wage,
                    format!("of bucket {} for {} KiB more in deal {}", paid.bucket, paid.leaves, paid.deal),
                ))
            };
            ended
                .or_else(back)
                .or_else(wage)
                .or_else(|| {
                    let paid = event::<IDeals::Paid>(next)?;
                    Some((Why::Pay, format!("deal {} for {}", paid.deal, windows(paid.windows))))
                })
                .or_else(|| lease::given(behind))
        }
        (Why::CollateralReturned, _) => {
            let breach = event::<ILevels::Breached>(behind.next()?)?;
            Some((Why::Pay, format!("lease {}: what was promised was not kept", breach.lease)))
        }
        (Why::Tab, _) => {
            let opened = behind.find_map(event::<ITabs::Opened>)?;
            Some((Why::Tab, format!("{} opened to read bucket {}", opened.tab, opened.bucket)))
        }
        (Why::TabReturned, _) => {
            let next = behind.next()?;
            let ended = event::<ITabs::Ended>(next).map(|ended| (Why::TabReturned, format!("{} ended", ended.tab)));
            ended.or_else(|| {
                let claimed = event::<ITabs::Claimed>(next)?;
                Some((Why::Pay, format!("tab {} for {} MiB read", claimed.tab, claimed.ticks)))
            })
        }
        (Why::Budget, Flow::Out) => {
            let funded = behind.find_map(event::<IBudgets::Funded>)?;
            Some((Why::Budget, format!("to spend by {}", funded.spender)))
        }
        (Why::Budget, _) => Some((Why::Budget, format!("from {}", behind.find_map(event::<IBudgets::Funded>)?.owner))),
        (Why::Sent | Why::Received, flow) => {
            let back = event::<IBudgets::Reclaimed>(behind.next()?).filter(|back| back.amount == moved.amount)?;
            let (mine, text) = match flow {
                Flow::Out => (back.spender, format!("back to {}", back.owner)),
                _ => (back.owner, format!("back from {}", back.spender)),
            };
            (mine == moved.account).then_some((Why::BudgetReturned, text))
        }
        _ => None,
    }
}

fn windows(count: u64) -> String {
    format!("{count} window{}", if count == 1 { "" } else { "s" })
}

pub(crate) fn event<E: SolEvent>(log: &Log) -> Option<E> {
    E::decode_raw_log(log.topics.iter().copied(), &log.data).ok()
}

#[cfg(test)]
mod tests;
