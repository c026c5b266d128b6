//! Lay a deal out in slots, and index it by bucket and provider.

use alloy_primitives::{Address, B256, U256};
use hodei_types::abi::{DEALS, IDeals, LEAVES_PER_GIB};

use super::{
    super::{
        buckets,
        ctx::{Ctx, Stop, revert},
        list::List,
        providers,
        slots::{at, base, pack, pack_address, pack_wide, unpack, unpack_address, unpack_wide},
    },
    standing::Standing,
};

pub(super) const OPEN: u8 = 1;
pub(super) const CLOSING: u8 = 2;
pub(super) const ENDED: u8 = 3;
/// Beside the state: who closed it was a custodian.
const TO_RESERVE: u64 = 1 << 8;

const TAG_NEXT: u8 = 1;
const TAG_DEAL: u8 = 2;
const TAG_FIND: u8 = 3;
const TAG_BUCKET: u8 = 4;
const TAG_PROVIDER: u8 = 5;
const TAG_RESERVE: u8 = 6;

/// One deal.
#[derive(Clone, Debug)]
pub(super) struct Deal {
    pub(super) id: u64,
    pub(super) bucket: B256,
    pub(super) provider: B256,
    pub(super) owner: Address,
    pub(super) state: u8,
    pub(super) capacity_bytes: u64,
    /// What its provider keeps free for it: more than the capacity where a deal that shrank holds more.
    pub(super) pledged_bytes: u64,
    pub(super) sequence: u64,
    pub(super) leaves: u64,
    /// Place in the provider's tree of leaf counts, from 1.
    pub(super) slot: u64,
    /// Wei per GiB and window.
    pub(super) price: u128,
    pub(super) escrow: u128,
    pub(super) root: B256,
    pub(super) paid_windows: u64,
    /// The provider's count of proven windows when last settled.
    pub(super) proven_at: u64,
    /// Wei × leaves per GiB that did not make a whole wei yet.
    pub(super) remainder: u64,
    pub(super) paid: U256,
    /// The provider's count of misses when this deal got its first content; when ended, the misses themselves.
    pub(super) missed_at: u64,
    /// The provider's slash index when last settled.
    pub(super) slash_index: U256,
    /// A custodian closed it: what is left of the escrow is the bucket's reserve's.
    pub(super) to_reserve: bool,
}

impl Deal {
    pub(super) fn new(
        id: u64,
        bucket: &buckets::Record,
        provider: &providers::Record,
        terms: &IDeals::Terms,
        slot: u64,
        standing: &Standing,
    ) -> Self {
        Self {
            id,
            bucket: bucket.id,
            provider: provider.node,
            owner: bucket.owner,
            state: OPEN,
            capacity_bytes: terms.capacityBytes,
            pledged_bytes: terms.capacityBytes,
            sequence: 0,
            leaves: 0,
            slot,
            price: provider.price_store,
            escrow: terms.escrow,
            root: B256::ZERO,
            paid_windows: 0,
            proven_at: standing.proven,
            remainder: 0,
            paid: U256::ZERO,
            missed_at: standing.misses,
            slash_index: standing.slash_index,
            to_reserve: false,
        }
    }

    pub(super) fn load(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Option<Self>, Stop> {
        let slots = deal_slot(id);
        let (owner, word) = unpack_address(ctx.load(DEALS, at(slots, 2))?);
        if word == 0 {
            return Ok(None);
        }
        let bucket = ctx.load(DEALS, slots)?.into();
        let provider = ctx.load(DEALS, at(slots, 1))?.into();
        let [capacity_bytes, sequence, leaves, slot] = unpack(ctx.load(DEALS, at(slots, 3))?);
        let (price, escrow) = unpack_wide(ctx.load(DEALS, at(slots, 4))?);
        let root = ctx.load(DEALS, at(slots, 5))?.into();
        let [paid_windows, proven_at, remainder, missed_at] = unpack(ctx.load(DEALS, at(slots, 6))?);
        let paid = ctx.load(DEALS, at(slots, 7))?;
        let slash_index = ctx.load(DEALS, at(slots, 8))?;
        let pledged_bytes = ctx.load(DEALS, at(slots, 9))?.saturating_to();
        let (state, to_reserve) = (word as u8, word & TO_RESERVE != 0);
        Ok(Some(Self {
            id,
            bucket,
            provider,
            owner,
            state,
            capacity_bytes,
            pledged_bytes,
            sequence,
            leaves,
            slot,
            price,
            escrow,
            root,
            paid_windows,
            proven_at,
            remainder,
            paid,
            missed_at,
            slash_index,
            to_reserve,
        }))
    }

    /// A deal that has not ended.
    pub(super) fn live(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Self, Stop> {
        let deal = Self::load(ctx, id)?.ok_or_else(|| revert(IDeals::UnknownDeal { deal: id }))?;
        if deal.state == ENDED {
            return Err(revert(IDeals::NotOpen { deal: id }));
        }
        Ok(deal)
    }

    /// Writes what changes in a deal's life.
    pub(super) fn store(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let slots = deal_slot(self.id);
        let word = u64::from(self.state) | if self.to_reserve { TO_RESERVE } else { 0 };
        ctx.store(DEALS, at(slots, 2), pack_address(self.owner, word))?;
        let counts = pack([self.capacity_bytes, self.sequence, self.leaves, self.slot]);
        ctx.store(DEALS, at(slots, 3), counts)?;
        ctx.store(DEALS, at(slots, 4), pack_wide(self.price, self.escrow))?;
        ctx.store(DEALS, at(slots, 5), self.root.into())?;
        let counts = pack([self.paid_windows, self.proven_at, self.remainder, self.missed_at]);
        ctx.store(DEALS, at(slots, 6), counts)?;
        ctx.store(DEALS, at(slots, 7), self.paid)?;
        ctx.store(DEALS, at(slots, 8), self.slash_index)?;
        ctx.store(DEALS, at(slots, 9), U256::from(self.pledged_bytes))
    }

    /// Writes a deal that did not exist, and its places in the indices.
    pub(super) fn store_new(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let slots = deal_slot(self.id);
        ctx.store(DEALS, slots, self.bucket.into())?;
        ctx.store(DEALS, at(slots, 1), self.provider.into())?;
        self.store(ctx)?;
        ctx.store(DEALS, find_slot(self.bucket, self.provider), U256::from(self.id))?;
        of_bucket(self.bucket).push(ctx, U256::from(self.id))?;
        of_provider(self.provider).push(ctx, U256::from(self.id))
    }

    /// Takes an ended deal out of the indices; its record stays.
    pub(super) fn forget(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        ctx.store(DEALS, find_slot(self.bucket, self.provider), U256::ZERO)?;
        of_bucket(self.bucket).remove(ctx, U256::from(self.id))?;
        of_provider(self.provider).remove(ctx, U256::from(self.id))
    }

    /// Wei for `windows` at the present leaves, and the remainder to carry: below 2^203, as leaves, windows and
    /// price are below 2^54, 2^64 and 2^96.
    pub(super) fn pay(&self, windows: u64) -> (U256, u64) {
        let unit = U256::from(LEAVES_PER_GIB);
        let leaf_windows = U256::from(windows) * U256::from(self.leaves);
        let total = leaf_windows.saturating_mul(U256::from(self.price)).saturating_add(U256::from(self.remainder));
        (total / unit, (total % unit).saturating_to())
    }

    /// Windows missed while it had content, as far as they are judged.
    pub(super) fn missed(&self, standing: &Standing) -> u64 {
        match (self.state, self.sequence) {
            (ENDED, _) => self.missed_at,
            (_, 0) => 0,
            _ => standing.misses.saturating_sub(self.missed_at),
        }
    }

    pub(super) fn show(&self, owed: U256, missed_windows: u64) -> IDeals::Deal {
        IDeals::Deal {
            id: self.id,
            bucket: self.bucket,
            provider: self.provider,
            owner: self.owner,
            state: self.state,
            capacityBytes: self.capacity_bytes,
            pledgedBytes: self.pledged_bytes,
            price: self.price,
            escrow: self.escrow,
            sequence: self.sequence,
            root: self.root,
            leaves: self.leaves,
            paidWindows: self.paid_windows,
            paid: self.paid,
            owed,
            missedWindows: missed_windows,
        }
    }
}

/// A fresh id, from 1.
pub(super) fn next_id(ctx: &mut Ctx<'_, '_>) -> Result<u64, Stop> {
    let slot = base(TAG_NEXT, &[]);
    let id = ctx.load(DEALS, slot)?.saturating_to::<u64>() + 1;
    ctx.store(DEALS, slot, U256::from(id))?;
    Ok(id)
}

/// The open or closing deal of a bucket with a provider; 0 if none.
pub(super) fn find(ctx: &mut Ctx<'_, '_>, bucket: B256, provider: B256) -> Result<u64, Stop> {
    Ok(ctx.load(DEALS, find_slot(bucket, provider))?.saturating_to())
}

pub(super) fn of_bucket(bucket: B256) -> List {
    List::new(DEALS, base(TAG_BUCKET, &[bucket.as_slice()]))
}

pub(super) fn of_provider(provider: B256) -> List {
    List::new(DEALS, base(TAG_PROVIDER, &[provider.as_slice()]))
}

pub(super) fn reserve_slot(bucket: B256) -> U256 {
    base(TAG_RESERVE, &[bucket.as_slice()])
}

fn deal_slot(id: u64) -> U256 {
    base(TAG_DEAL, &[&id.to_be_bytes()])
}

fn find_slot(bucket: B256, provider: B256) -> U256 {
    base(TAG_FIND, &[bucket.as_slice(), provider.as_slice()])
}
