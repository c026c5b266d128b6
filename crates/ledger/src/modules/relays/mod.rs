//! Sell the bandwidth of relays in one pool, at one price an epoch, and pay bytes by ticks.
//!
//! ```text
//! offer (price, transfer, collateral) ─► the list ─┐
//! redeemed in the epoch before ────────────────────┴→ clear, as a window opens ─► the epoch's price
//! buy (relay of the pool, anchor) · open (any payee, price) ─► chain (escrow) ─► claim (word)* ─► the end ─► close ─► the rest
//! ```
//! An epoch is a window of proofs. Upon its opening, as work that falls due in the queue, its price is computed from the
//! offers that stand then ([`clear`](hodei_types::market::clear)) and does not move before the next. Upon a `buy` the
//! relay's own price, as it then stands, must be the epoch's or less, and the chain is bound at the epoch's. What a relay
//! carries in an epoch bounds the price, and not how many chains are opened to it: these come back to who opens and does not
//! use them, so that a bound would let anybody close a relay for nothing. A relay takes what it has room for.
//!
//! Upon a claim the word is hashed back to the last one that was claimed, by at most
//! [`CHAIN_TICKS_MAX`](hodei_types::market::CHAIN_TICKS_MAX) hashes; the coin goes to the chain's payee, whoever sends it,
//! less what is burned as of leases. A chain opened by a budget is its owner's. Claims end two windows after the opening,
//! on the active clock; who retired or withdrew meanwhile is paid as before.
//!
//! Who breaks it: a relay that takes ticks and carries nothing costs its payer the ticks it gave ahead, one by one. Nobody
//! checks what a relay says it carries. Who redeems from himself by two accounts raises what is expected, for the part
//! that is burned.
//!
//! Invariants: this module's account holds the collateral of all relays in the list and what is left of all chains; a
//! claim given twice pays once, and claims in any order pay the same; what was paid, burned and given back of a chain is
//! what it was opened with; a payer's number is used once; an epoch has one price.

mod chain;
pub(super) mod epoch;
mod offer;

use alloy_primitives::U256;
use alloy_sol_types::SolCall as _;
use hodei_types::{
    abi::{BATCH_MAX, IModule, IRelays, PAGE_MAX},
    market::Capacity,
};

use super::{
    ctx::{Ctx, Stop, returns, revert},
    market,
};

const PAYABLE: &[[u8; 4]] = &[
    IRelays::offerCall::SELECTOR,
    IRelays::depositCall::SELECTOR,
    IRelays::buyCall::SELECTOR,
    IRelays::openCall::SELECTOR,
];

pub(super) fn call(ctx: &mut Ctx<'_, '_>) -> Result<Vec<u8>, Stop> {
    use IRelays::IRelaysCalls as Calls;
    let done = Ok(Vec::new());
    match ctx.decode::<Calls>(PAYABLE)? {
        Calls::offer(call) => {
            ctx.writes()?;
            offer::offer(ctx, call.node, &call.terms, &call.possession)?;
            done
        }
        Calls::update(call) => {
            ctx.writes()?;
            offer::update(ctx, call.node, &call.terms)?;
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
        Calls::buy(call) => {
            ctx.writes()?;
            batch(call.tickets.len())?;
            returns(chain::buy(ctx, &call.tickets, call.priceMax)?)
        }
        Calls::open(call) => {
            ctx.writes()?;
            batch(call.wants.len())?;
            returns(chain::open(ctx, &call.wants)?)
        }
        Calls::claim(call) => {
            ctx.writes()?;
            batch(call.claims.len())?;
            let mut amount = U256::ZERO;
            for one in &call.claims {
                amount = amount.saturating_add(chain::claim(ctx, one)?);
            }
            returns(amount)
        }
        Calls::close(call) => {
            ctx.writes()?;
            batch(call.chains.len())?;
            call.chains.iter().try_for_each(|id| chain::close(ctx, *id))?;
            done
        }
        Calls::get(call) => returns(offer::get(ctx, call.node)?),
        Calls::count(_) => {
            let count = offer::nodes().len(ctx)?;
            returns(count)
        }
        Calls::page(call) => returns(page(ctx, call.first, call.most)?),
        Calls::offersAtOrBelow(call) => {
            let mut relays = page(ctx, call.first, call.most)?;
            relays.retain(|relay| relay.inPool);
            returns(relays)
        }
        Calls::epoch(_) => returns(epoch::now(ctx)?),
        Calls::epochOf(call) => returns(epoch::of(ctx, call.number)?),
        Calls::priceOf(call) => returns(epoch::of(ctx, call.number)?.price),
        Calls::collateralMin(call) => returns(least(ctx, call.bandwidthBits)),
        Calls::chain(call) => returns(chain::show(ctx, call.id)?),
        Calls::nextNumber(call) => returns(chain::next_number(ctx, call.payer)?),
        Calls::ofPayer(call) => {
            bounded(call.most, PAGE_MAX)?;
            let chains = chain::of_payer(call.payer).page(ctx, call.first, call.most)?;
            returns(chains.into_iter().map(alloy_primitives::B256::from).collect::<Vec<_>>())
        }
    }
}

fn page(ctx: &mut Ctx<'_, '_>, first: u64, most: u64) -> Result<Vec<IRelays::Relay>, Stop> {
    bounded(most, PAGE_MAX)?;
    let nodes = offer::nodes().page(ctx, first, most)?;
    nodes.into_iter().map(|node| offer::get(ctx, node.into())).collect()
}

/// The collateral of that bandwidth, as a host's.
fn least(ctx: &Ctx<'_, '_>, bandwidth_bits: u64) -> U256 {
    market::offer::least(ctx, &Capacity { bandwidthBits: bandwidth_bits, ..Capacity::default() })
}

fn batch(len: usize) -> Result<(), Stop> {
    bounded(len as u64, BATCH_MAX as u64)
}

fn bounded(given: u64, most: u64) -> Result<(), Stop> {
    let too_many = || revert(IModule::TooMany { given: U256::from(given), most: U256::from(most) });
    if given > most { Err(too_many()) } else { Ok(()) }
}
