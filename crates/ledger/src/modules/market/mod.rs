//! Match orders of compute with offers, in one open book.
//!
//! ```text
//! register (offer, collateral) → the book ─┐
//! order (terms, deposit) ──────────────────┴→ matcher → leases (room taken, escrow) → settled → index
//!                                          └→ waits, if deferrable → fill, or cancel
//! ```
//! Upon an order the matcher reads the book of its regions and runtime, and places all replicas or none, at what the
//! offers ask. Upon a match each replica is a lease: its host's room is taken, the deposit moves to `leases` in equal
//! seconds, and what is beyond whole seconds goes back to who sent it. A deferrable order that finds no match keeps its
//! deposit here, which must be enough at the order's own highest price, until a batch finds one, of which there is one each
//! ten seconds, or anybody's `fill`, or its owner cancels, or its time is over.
//!
//! An order on call takes no room: its replicas run when they are asked, where their host then has room. Its hosts are in
//! the book, could hold a replica if they were empty, and are priced as for an instant one; of that price a thousandth is
//! streamed, and calls are paid by it in `leases`.
//!
//! A preemptible order pays the part of the price its host states, and may be ended by it at no cost. What a batch matches
//! pays what is asked too: at one price for all, who waits would pay more than who comes in the same second.
//!
//! Disk by the shard is offered in `providers` and sold in `deals`; what
//! shows the book shows both.
//!
//! An order that runs nothing is a reservation: its leases hold room, its owner's further orders are placed within it, and
//! what he lends of it stands in the book beside hosts (`held`).
//!
//! Invariants: this module's account holds the sum of collateral and of the deposits of waiting orders; what is free at a
//! host and what its leases take is what it offers, and what is free in a held lease and what stands in it is what it
//! holds; a host is in the book just when it has room for the smallest replica
//! and the collateral its offer needs, and did not retire; an order that reverts has taken nothing.

pub(super) mod batch;
mod book;
mod card;
pub(super) mod held;
mod index;
mod matcher;
pub(super) mod offer;
pub(super) mod order;

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_types::{
    abi::{IMarket, IModule, PAGE_MAX},
    market::{REGIONS, Runtime, TermsError},
};

use super::ctx::{Ctx, Stop, returns, revert};
pub(super) use index::sample;

const PAYABLE: &[[u8; 4]] =
    &[IMarket::registerCall::SELECTOR, IMarket::depositCall::SELECTOR, IMarket::orderCall::SELECTOR];

pub(super) fn call(ctx: &mut Ctx<'_, '_>) -> Result<Vec<u8>, Stop> {
    use IMarket::IMarketCalls as Calls;
    let done = Ok(Vec::new());
    match ctx.decode::<Calls>(PAYABLE)? {
        Calls::register(call) => {
            ctx.writes()?;
            offer::register(ctx, call.node, &call.offer, &call.possession)?;
            done
        }
        Calls::update(call) => {
            ctx.writes()?;
            offer::update(ctx, call.node, &call.offer)?;
            done
        }
        Calls::deposit(call) => {
            ctx.writes()?;
            offer::deposit(ctx, call.node)?;
            done
        }
        Calls::retire(call) => {
            ctx.writes()?;
            offer::retire(ctx, call.node)?;
            done
        }
        Calls::withdraw(call) => {
            ctx.writes()?;
            offer::withdraw(ctx, call.node)?;
            done
        }
        Calls::order(call) => {
            ctx.writes()?;
            returns(order::order(ctx, &call.terms)?)
        }
        Calls::fill(call) => {
            ctx.writes()?;
            order::fill(ctx, call.id)?;
            done
        }
        Calls::cancel(call) => {
            ctx.writes()?;
            order::cancel(ctx, call.id)?;
            done
        }
        Calls::lend(call) => {
            ctx.writes()?;
            held::lend(ctx, call.lease, &call.prices, call.preemptibleBp)?;
            done
        }
        Calls::recall(call) => {
            ctx.writes()?;
            held::recall(ctx, call.lease)?;
            done
        }
        Calls::reserved(call) => {
            let reserved = held::reserved(ctx, call.order)?;
            Ok(IMarket::reservedCall::abi_encode_returns(&reserved.into()))
        }
        Calls::lent(call) => {
            page(call.most)?;
            returns(held::page(ctx, call.first, call.most)?)
        }
        Calls::quote(call) => returns(order::quote(ctx, &call.terms)?),
        Calls::count(_) => {
            let count = offer::nodes().len(ctx)?;
            returns(count)
        }
        Calls::at(call) => {
            let node: B256 = offer::nodes().at(ctx, call.i)?.into();
            returns(node)
        }
        Calls::get(call) => returns(offer::get(ctx, call.node)?),
        Calls::collateralMin(call) => {
            let least = offer::least(ctx, &call.capacity);
            returns(least)
        }
        Calls::page(call) => {
            page(call.most)?;
            let nodes = offer::nodes().page(ctx, call.first, call.most)?;
            let hosts: Vec<_> = nodes.into_iter().map(|node| offer::get(ctx, node.into())).collect::<Result<_, _>>()?;
            returns(hosts)
        }
        Calls::placed(call) => returns(order::get(ctx, call.id)?),
        Calls::ofOwner(call) => {
            page(call.most)?;
            let orders = order::of_owner(call.owner).page(ctx, call.first, call.most)?;
            returns(orders.into_iter().map(|id| id.saturating_to::<u64>()).collect::<Vec<_>>())
        }
        Calls::depth(call) => {
            place(call.region, call.runtime)?;
            returns(book::depth(ctx, call.region, call.runtime)?)
        }
        Calls::settlement(_) => {
            let (kind, currency) = ctx.params.settlement.numbers();
            let told = IMarket::settlementReturn { kind, currency: currency.into() };
            Ok(IMarket::settlementCall::abi_encode_returns(&told))
        }
        Calls::index(call) => {
            place(call.region, call.runtime)?;
            returns(index::index(ctx, call.region, call.runtime)?)
        }
    }
}

fn page(most: u64) -> Result<(), Stop> {
    let too_many = || revert(IModule::TooMany { given: U256::from(most), most: U256::from(PAGE_MAX) });
    if most > PAGE_MAX { Err(too_many()) } else { Ok(()) }
}

fn place(region: u8, runtime: u8) -> Result<(), Stop> {
    let bad = |field: &str| Err(revert(IMarket::BadOrder { field: field.to_owned() }));
    if usize::from(region) >= REGIONS.len() {
        return bad("region");
    }
    if Runtime::of(runtime).is_none() { bad("runtime") } else { Ok(()) }
}

/// Which field of terms is wrong.
fn field(error: TermsError) -> String {
    match error {
        TermsError::Field(field) => field.to_owned(),
        other => other.to_string(),
    }
}
