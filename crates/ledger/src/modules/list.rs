//! Enumerate things in slots: push, remove by swapping with the last, look up.

use alloy_primitives::{Address, U256};

use super::{
    ctx::{Ctx, Stop, broken},
    slots::{at, base},
};

/// A set of non-zero words in insertion order, until one is removed. Length at `base`, items behind it, each
/// item's place + 1 under its own key.
pub(crate) struct List {
    account: Address,
    base: U256,
}

const TAG_PLACE: u8 = 0xff;

impl List {
    pub(crate) fn new(account: Address, base: U256) -> Self {
        Self { account, base }
    }

    fn place(&self, item: U256) -> U256 {
        base(TAG_PLACE, &[&self.base.to_be_bytes::<32>(), &item.to_be_bytes::<32>()])
    }

    pub(crate) fn len(&self, ctx: &mut Ctx<'_, '_>) -> Result<u64, Stop> {
        Ok(ctx.load(self.account, self.base)?.saturating_to())
    }

    /// The item at `i`, zero beyond the end.
    pub(crate) fn at(&self, ctx: &mut Ctx<'_, '_>, i: u64) -> Result<U256, Stop> {
        if i >= self.len(ctx)? {
            return Ok(U256::ZERO);
        }
        ctx.load(self.account, at(self.base, 1 + i))
    }

    pub(crate) fn holds(&self, ctx: &mut Ctx<'_, '_>, item: U256) -> Result<bool, Stop> {
        Ok(!ctx.load(self.account, self.place(item))?.is_zero())
    }

    /// Adds an item that is not in it.
    pub(crate) fn push(&self, ctx: &mut Ctx<'_, '_>, item: U256) -> Result<(), Stop> {
        let len = self.len(ctx)?;
        ctx.store(self.account, at(self.base, 1 + len), item)?;
        ctx.store(self.account, self.place(item), U256::from(len + 1))?;
        ctx.store(self.account, self.base, U256::from(len + 1))
    }

    /// Removes an item that is in it; the last takes its place.
    pub(crate) fn remove(&self, ctx: &mut Ctx<'_, '_>, item: U256) -> Result<(), Stop> {
        let len = self.len(ctx)?;
        let place: u64 = ctx.load(self.account, self.place(item))?.saturating_to();
        if place == 0 || place > len {
            return Err(broken("a list lost an item"));
        }
        if place != len {
            let last = ctx.load(self.account, at(self.base, len))?;
            ctx.store(self.account, at(self.base, place), last)?;
            ctx.store(self.account, self.place(last), U256::from(place))?;
        }
        ctx.store(self.account, at(self.base, len), U256::ZERO)?;
        ctx.store(self.account, self.place(item), U256::ZERO)?;
        ctx.store(self.account, self.base, U256::from(len - 1))
    }

    /// At most `most` items from `first`.
    pub(crate) fn page(&self, ctx: &mut Ctx<'_, '_>, first: u64, most: u64) -> Result<Vec<U256>, Stop> {
        let end = self.len(ctx)?.min(first.saturating_add(most));
        (first..end).map(|i| ctx.load(self.account, at(self.base, 1 + i))).collect()
    }
}
