//! Lay a lease out in slots, and list it under its host.
//!
//! What all leases of an order share (owner, capacity, workload) stands in the order.

use alloy_primitives::{B256, U256};
use hodei_types::abi::{ILeases, LEASES};

use super::super::{
    ctx::{Ctx, Stop, revert},
    list::List,
    slots::{at, base, pack, pack_wide, unpack, unpack_wide},
};

pub(super) const RUNNING: u8 = 1;
pub(super) const ENDED: u8 = 2;

const TAG_COUNT: u8 = 1;
const TAG_LEASE: u8 = 2;
const TAG_HOST: u8 = 3;

// Slots of a record, from its base.
const TIMES: u64 = 0;
const NODE: u64 = 1;
const COIN: u64 = 2;

/// One lease.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) id: u64,
    pub(super) order: u64,
    pub(super) node: B256,
    pub(super) state: u8,
    /// The active clock.
    pub(super) begun_ms: u64,
    /// Seconds that were paid, from the beginning.
    pub(super) paid_secs: u64,
    /// Wei a second, never 0.
    pub(super) rate: u128,
    /// Wei in escrow.
    pub(super) left: u128,
}

impl Lease {
    /// A lease that must be there, be it over.
    pub(super) fn known(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Self, Stop> {
        let slots = lease_slot(id);
        let [order, begun_ms, paid_secs, state] = unpack(ctx.load(LEASES, at(slots, TIMES))?);
        let node = ctx.load(LEASES, at(slots, NODE))?.into();
        let (rate, left) = unpack_wide(ctx.load(LEASES, at(slots, COIN))?);
        if state == 0 {
            return Err(revert(ILeases::UnknownLease { lease: id }));
        }
        Ok(Self { id, order, node, state: state as u8, begun_ms, paid_secs, rate, left })
    }

    /// A lease that did not end.
    pub(super) fn running(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Self, Stop> {
        let lease = Self::known(ctx, id)?;
        if lease.state == RUNNING { Ok(lease) } else { Err(revert(ILeases::NotRunning { lease: id })) }
    }

    /// Writes what changes in a lease's life.
    pub(super) fn store(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let slots = lease_slot(self.id);
        let times = pack([self.order, self.begun_ms, self.paid_secs, self.state.into()]);
        ctx.store(LEASES, at(slots, TIMES), times)?;
        ctx.store(LEASES, at(slots, COIN), pack_wide(self.rate, self.left))
    }

    /// Writes a lease that did not exist, and its place in its host's list.
    pub(super) fn store_new(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        ctx.store(LEASES, at(lease_slot(self.id), NODE), self.node.into())?;
        self.store(ctx)?;
        of_host(self.node).push(ctx, U256::from(self.id))
    }

    /// Seconds the escrow pays for yet.
    pub(super) fn funded_secs(&self) -> u64 {
        // Rates are at least one wei, and escrows bounded by the term when coin comes in.
        u64::try_from(self.left.checked_div(self.rate).unwrap_or(0)).unwrap_or(u64::MAX)
    }

    /// Whole seconds since it began, at that value of the active clock.
    pub(super) fn age_secs(&self, clock_ms: u64) -> u64 {
        clock_ms.saturating_sub(self.begun_ms) / 1000
    }

    /// The active clock when its escrow is over.
    pub(super) fn ends_ms(&self) -> u64 {
        let secs = self.paid_secs.saturating_add(self.funded_secs());
        self.begun_ms.saturating_add(secs.saturating_mul(1000))
    }
}

/// How many leases there ever were; their ids are 1 to that.
pub(super) fn count(ctx: &mut Ctx<'_, '_>) -> Result<u64, Stop> {
    Ok(ctx.load(LEASES, base(TAG_COUNT, &[]))?.saturating_to())
}

pub(super) fn store_count(ctx: &mut Ctx<'_, '_>, count: u64) -> Result<(), Stop> {
    ctx.store(LEASES, base(TAG_COUNT, &[]), U256::from(count))
}

/// Running leases on a host.
pub(super) fn of_host(node: B256) -> List {
    List::new(LEASES, base(TAG_HOST, &[node.as_slice()]))
}

fn lease_slot(id: u64) -> U256 {
    base(TAG_LEASE, &[&id.to_be_bytes()])
}
