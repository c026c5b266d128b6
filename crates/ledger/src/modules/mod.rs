//! Keep the ledger's native accounts of coin, offers, buckets, deals, leases, service levels, relays and anchors.
//!
//! ```text
//! call → dispatch (refuse what is wrong in form) → mod (decode) → check (may it) → apply (do it) → events
//! ```
//! Each module is a precompile at a fixed address. Its state is storage slots of its own account, read and
//! written through the EVM's journal with the EVM's prices, so that a revert, out-of-gas or a failed outer
//! call undoes it. Modules read each other's slots only through each other's functions. Adding a module is
//! adding a folder and one line in [`precompiles`].
//!
//! Invariants: no module makes coin; coin leaves the supply only by [`Ctx::burn`], which counts it; an account
//! holds at least what its module owes; a call that reverts, or is undone further out, has written nothing; the
//! same blocks write the same state. `tests` throws random transactions at all of them.

pub(crate) mod anchors;
pub(crate) mod buckets;
pub(crate) mod budgets;
mod ctx;
pub(crate) mod deals;
pub(crate) mod leases;
pub(crate) mod levels;
mod list;
pub(crate) mod market;
pub(crate) mod providers;
pub(crate) mod queue;
pub(crate) mod relays;
mod rounds;
mod slots;
pub(crate) mod tabs;
#[cfg(test)]
mod tests;

use alloy_evm::precompiles::{DynPrecompile, PrecompilesMap};
use alloy_primitives::Address;
use hodei_types::abi::{ANCHORS, BUCKETS, BUDGETS, DEALS, LEASES, LEVELS, MARKET, PROVIDERS, QUEUE, RELAYS, TABS};
use revm::precompile::{PrecompileId, PrecompileSpecId, Precompiles};
use revm::primitives::hardfork::SpecId;

use crate::execute::Params;
use ctx::{Ctx, Stop, run};

/// Code of every module account. Without code and nonce an account counts as empty, and the first touch would
/// delete it with its storage (EIP-161). EIP-3541 keeps contracts from having it.
pub(crate) const CODE: [u8; 1] = [0xef];

type Entry = fn(&mut Ctx<'_, '_>) -> Result<Vec<u8>, Stop>;

/// Ethereum's precompiles and ours.
pub(crate) fn precompiles(params: Params) -> PrecompilesMap {
    let modules: [(Address, &'static str, Entry); 11] = [
        (BUDGETS, "budgets", budgets::call),
        (PROVIDERS, "providers", providers::call),
        (BUCKETS, "buckets", buckets::call),
        (DEALS, "deals", deals::call),
        (ANCHORS, "anchors", anchors::call),
        (QUEUE, "queue", queue::call),
        (TABS, "tabs", tabs::call),
        (MARKET, "market", market::call),
        (LEASES, "leases", leases::call),
        (LEVELS, "levels", levels::call),
        (RELAYS, "relays", relays::call),
    ];
    let mut map = PrecompilesMap::from_static(Precompiles::new(PrecompileSpecId::from_spec_id(SpecId::OSAKA)));
    for (address, name, entry) in modules {
        map.apply_precompile(&address, |_| {
            Some(DynPrecompile::new_stateful(PrecompileId::Custom(name.into()), move |input| {
                run(params, address, entry, input)
            }))
        });
    }
    map
}
