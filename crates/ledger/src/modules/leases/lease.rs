//! Lay a lease out in slots, and list it under its host.
//!
//! What all leases of an order share (owner, capacity, workload) stands in the order.

use alloy_primitives::{B256, U256};
use hodei_types::{
    abi::{ILeases, LEASES},
    market::{SUSPECT_MS, WATCHERS},
};

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
/// Who said that its host is not reached, while it is suspect.
const ACCUSERS: u64 = 3;
/// The held lease it stands in, if it stands in one.
const VIA: u64 = 6;
/// Of one on call.
const CALLS: u64 = 7;
/// Its deputy, and whose deputy it is.
const DEPUTY: u64 = 8;

/// Beside the state: there is such a slot.
const STANDS_IN: u64 = 0x80;
const HAS_DEPUTY: u64 = 0x40;

/// One lease.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) id: u64,
    pub(super) order: u64,
    pub(super) node: B256,
    /// The held lease it stands in; 0 if in the host's own room.
    pub(super) via: u64,
    /// The last lease that stood in for it while it was suspect, be it over; 0 if none did.
    pub(super) deputy: u64,
    /// The lease it stands in for until it is known which of them goes on; else 0.
    pub(super) deputy_of: u64,
    pub(super) state: u8,
    /// Which of its order, from 0.
    pub(super) replica: u8,
    /// How often it became suspect; after so many it begins anew, as what is signed names a round too.
    pub(super) generation: u16,
    /// Its age in seconds when it became suspect, at least 1; 0 if it is not.
    pub(super) suspect_secs: u32,
    /// The active clock.
    pub(super) begun_ms: u64,
    /// Seconds that were paid, from the beginning.
    pub(super) paid_secs: u64,
    /// Wei a second, never 0.
    pub(super) rate: u128,
    /// Wei in escrow.
    pub(super) left: u128,
    /// Wei a second that calls are priced by; 0 if it is not on call.
    pub(super) call_rate: u128,
    /// Wei that were paid for calls.
    pub(super) claimed: u128,
}

impl Lease {
    /// A lease, be it over.
    pub(super) fn find(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Option<Self>, Stop> {
        let slots = lease_slot(id);
        let [order, begun_ms, paid_secs, bits] = unpack(ctx.load(LEASES, at(slots, TIMES))?);
        let node = ctx.load(LEASES, at(slots, NODE))?.into();
        let (rate, left) = unpack_wide(ctx.load(LEASES, at(slots, COIN))?);
        if bits == 0 {
            return Ok(None);
        }
        let (call_rate, claimed) = unpack_wide(ctx.load(LEASES, at(slots, CALLS))?);
        let via = if bits & STANDS_IN == 0 { 0 } else { ctx.load(LEASES, at(slots, VIA))?.saturating_to() };
        let [deputy, deputy_of, ..] =
            if bits & HAS_DEPUTY == 0 { [0; 4] } else { unpack(ctx.load(LEASES, at(slots, DEPUTY))?) };
        let (state, replica) = ((bits & !(STANDS_IN | HAS_DEPUTY)) as u8, (bits >> 8) as u8);
        let (generation, suspect_secs) = ((bits >> 16) as u16, (bits >> 32) as u32);
        Ok(Some(Self {
            id,
            order,
            node,
            via,
            deputy,
            deputy_of,
            state,
            replica,
            generation,
            suspect_secs,
            begun_ms,
            paid_secs,
            rate,
            left,
            call_rate,
            claimed,
        }))
    }

    /// A lease that must be there, be it over.
    pub(super) fn known(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Self, Stop> {
        Self::find(ctx, id)?.ok_or_else(|| revert(ILeases::UnknownLease { lease: id }))
    }

    /// A lease that did not end.
    pub(super) fn running(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Self, Stop> {
        let lease = Self::known(ctx, id)?;
        if lease.state == RUNNING { Ok(lease) } else { Err(revert(ILeases::NotRunning { lease: id })) }
    }

    /// Writes what changes in a lease's life.
    pub(super) fn store(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let slots = lease_slot(self.id);
        let bits = u64::from(self.state)
            | if self.via > 0 { STANDS_IN } else { 0 }
            | if self.deputy > 0 || self.deputy_of > 0 { HAS_DEPUTY } else { 0 }
            | u64::from(self.replica) << 8
            | u64::from(self.generation) << 16
            | u64::from(self.suspect_secs) << 32;
        let times = pack([self.order, self.begun_ms, self.paid_secs, bits]);
        ctx.store(LEASES, at(slots, TIMES), times)?;
        ctx.store(LEASES, at(slots, COIN), pack_wide(self.rate, self.left))?;
        if self.deputy > 0 || self.deputy_of > 0 {
            ctx.store(LEASES, at(slots, DEPUTY), pack([self.deputy, self.deputy_of, 0, 0]))?;
        }
        if self.call_rate == 0 {
            return Ok(());
        }
        ctx.store(LEASES, at(slots, CALLS), pack_wide(self.call_rate, self.claimed))
    }

    /// Writes a lease that did not exist, and its place in its host's list.
    pub(super) fn store_new(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        ctx.store(LEASES, at(lease_slot(self.id), NODE), self.node.into())?;
        if self.via > 0 {
            ctx.store(LEASES, at(lease_slot(self.id), VIA), U256::from(self.via))?;
        }
        self.store(ctx)?;
        of_host(self.node).push(ctx, U256::from(self.id))
    }

    /// Of so many seconds of age, those it pays for: none beyond those when its host was last known to be there.
    pub(super) fn payable_secs(&self, age_secs: u64) -> u64 {
        if self.suspect_secs > 0 { age_secs.min(self.suspect_secs.into()) } else { age_secs }
    }

    /// The active clock when it became suspect; none if it is not.
    pub(super) fn suspect_ms(&self) -> Option<u64> {
        (self.suspect_secs > 0).then(|| self.begun_ms.saturating_add(u64::from(self.suspect_secs) * 1000))
    }

    /// The active clock when it is lost; none if it is not suspect.
    pub(super) fn lost_ms(&self) -> Option<u64> {
        Some(self.suspect_ms()?.saturating_add(SUSPECT_MS))
    }

    /// Makes it suspect, by what these said. Not written yet but for them.
    pub(super) fn suspect(&mut self, ctx: &mut Ctx<'_, '_>, clock_ms: u64, accusers: &[B256]) -> Result<(), Stop> {
        // Ages of a hundred years fit.
        self.suspect_secs = u32::try_from(self.age_secs(clock_ms)).unwrap_or(u32::MAX).max(1);
        self.generation = self.generation.wrapping_add(1);
        for (i, node) in (0..).zip(accusers) {
            ctx.store(LEASES, at(lease_slot(self.id), ACCUSERS + i), (*node).into())?;
        }
        Ok(())
    }

    /// Makes it suspect no more; who had said so. Not written yet but for them.
    pub(super) fn clear(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<Vec<B256>, Stop> {
        let mut accusers = Vec::new();
        if self.suspect_secs == 0 {
            return Ok(accusers);
        }
        self.suspect_secs = 0;
        for slot in (0..WATCHERS as u64).map(|i| at(lease_slot(self.id), ACCUSERS + i)) {
            let node: B256 = ctx.load(LEASES, slot)?.into();
            if !node.is_zero() {
                ctx.store(LEASES, slot, U256::ZERO)?;
                accusers.push(node);
            }
        }
        Ok(accusers)
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
