//! Say what chains of ticks moved: bound, paid, given back; and the collateral of relays.

use super::{Flow, Move, Why, event};
use alloy_primitives::{Address, U256};
use hodei_types::{
    abi::{IRelays, RELAYS},
    chain::Log,
};

/// What the account's own chain paid.
pub(super) fn paid(account: Address, log: &Log) -> Option<Move> {
    let claimed = event::<IRelays::Claimed>(log)?;
    let Log { height, index, tx, .. } = *log;
    Some(Move {
        height,
        index,
        tx,
        account,
        flow: Flow::Still,
        why: Why::EscrowPaid,
        amount: claimed.amount + claimed.burned,
        fee: U256::ZERO,
        text: format!("chain {} paid {} for {} MiB", claimed.chain, claimed.payee, claimed.ticks),
    })
}

/// What a move from or to the pool was for: it tells so right behind the transfer.
pub(super) fn told<'a>(moved: &Move, mut behind: impl Iterator<Item = &'a Log>) -> Option<(Why, String)> {
    let next = behind.next().filter(|log| log.address == RELAYS)?;
    match (moved.why, moved.flow) {
        (Why::Escrow, Flow::Out) => event::<IRelays::Opened>(next)
            .map(|opened| (Why::Escrow, format!("chain {} opened to {}", opened.chain, opened.payee)))
            .or_else(|| {
                let offered = event::<IRelays::Offered>(next)?;
                Some((Why::Collateral, format!("of relay {}", offered.node)))
            })
            .or_else(|| {
                let more = event::<IRelays::Deposited>(next)?;
                Some((Why::Collateral, format!("of relay {}", more.node)))
            }),
        (Why::Refund, Flow::In) => event::<IRelays::Claimed>(next)
            .map(|claimed| (Why::Pay, format!("chain {} for {} MiB", claimed.chain, claimed.ticks)))
            .or_else(|| {
                let closed = event::<IRelays::Closed>(next)?;
                Some((Why::Refund, format!("chain {} returned", closed.chain)))
            })
            .or_else(|| {
                let back = event::<IRelays::Withdrawn>(next)?;
                Some((Why::CollateralReturned, format!("of relay {}", back.node)))
            }),
        _ => None,
    }
}
