//! Say what coin that passed the market of compute was for.

use super::{Flow, Move, Why, event};
use alloy_primitives::{Address, U256};
use hodei_types::{
    abi::{ILeases, IMarket},
    chain::Log,
};

/// What a lease of one of these accounts paid, by the second or by a voucher.
pub(super) fn paid(accounts: &[Address], log: &Log) -> Option<Move> {
    let settled = event::<ILeases::Settled>(log).map(|one| {
        let what = format!("{} s", one.secs);
        (one.owner, one.lease, one.operator, what, one.amount, one.burned)
    });
    let claimed = || {
        let one = event::<ILeases::Claimed>(log)?;
        Some((one.owner, one.lease, one.operator, "calls".to_owned(), one.amount, one.burned))
    };
    let (owner, lease, operator, what, amount, burned) = settled.or_else(claimed)?;
    let Log { height, index, tx, .. } = *log;
    accounts.contains(&owner).then(|| Move {
        height,
        index,
        tx,
        account: owner,
        flow: Flow::Still,
        why: Why::EscrowPaid,
        amount: amount + burned,
        fee: U256::ZERO,
        text: format!("lease {lease} paid operator {operator} for {what}; of it {burned} wei burned"),
    })
}

/// What coin into the market was for, by the events behind the transfer.
pub(super) fn bound<'a>(mut behind: impl Iterator<Item = &'a Log>) -> Option<(Why, String)> {
    behind.find_map(|log| {
        let ordered = event::<IMarket::Ordered>(log).map(|ordered| (Why::Escrow, format!("order {}", ordered.order)));
        let offered = || event::<IMarket::Offered>(log).map(|offered| (Why::Collateral, host(offered.node)));
        let more = || event::<IMarket::Deposited>(log).map(|more| (Why::Collateral, host(more.node)));
        let renewed = || Some((Why::Escrow, format!("lease {} renewed", event::<ILeases::Renewed>(log)?.lease)));
        ordered.or_else(offered).or_else(more).or_else(renewed)
    })
}

/// What coin out of the market or out of leases was for, by the event behind the transfer. Change comes back before the
/// order is told of.
pub(super) fn given<'a>(mut behind: impl Iterator<Item = &'a Log>) -> Option<(Why, String)> {
    let log = behind.next()?;
    let change = || {
        let ordered = event::<IMarket::Ordered>(log).map(|ordered| ordered.order);
        let order = ordered.or_else(|| event::<IMarket::Filled>(log).map(|filled| filled.order))?;
        Some((Why::Refund, format!("order {order}: more than whole seconds")))
    };
    let cancelled = || Some((Why::Refund, format!("order {} cancelled", event::<IMarket::Cancelled>(log)?.order)));
    let withdrawn = || Some((Why::CollateralReturned, host(event::<IMarket::Withdrawn>(log)?.node)));
    let settled = || {
        let settled = event::<ILeases::Settled>(log)?;
        Some((Why::Pay, format!("lease {} for {} s", settled.lease, settled.secs)))
    };
    let claimed = || Some((Why::Pay, format!("calls of lease {}", event::<ILeases::Claimed>(log)?.lease)));
    let watched = || Some((Why::Pay, format!("for watching lease {}", event::<ILeases::Watched>(log)?.lease)));
    let ended = || Some((Why::Refund, format!("lease {} ended", event::<ILeases::Ended>(log)?.lease)));
    change().or_else(cancelled).or_else(withdrawn).or_else(settled).or_else(claimed).or_else(watched).or_else(ended)
}

fn host(node: alloy_primitives::B256) -> String {
    format!("of host {}", alloy_primitives::hex::encode(node))
}
