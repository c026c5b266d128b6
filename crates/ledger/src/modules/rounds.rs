//! Draw a seed for each minute of watching.
//!
//! A round is a minute of the active clock. Upon its first block the number of hosts is noted, so that whoever registers
//! during it changes nobody's watchers. Upon its second its seed is fixed, from the randomness of the first one's round of
//! consensus, which nobody could know when that block was made. The seed of the round before is kept beside it, for what
//! was seen at a round's end and is told after.
//!
//! It stands in the queue's account, whose call begins each block.

use alloy_primitives::{B256, U256, keccak256};
use hodei_types::{abi::QUEUE, market::ROUND_MS};

use super::{
    ctx::{Ctx, Stop},
    market::offer,
    slots::{pack, unpack},
};

/// Number, hosts, hosts of the one before, whether the seed is fixed.
const ROUND: U256 = U256::from_limbs([6, 0, 0, 0]);
const SEED: U256 = U256::from_limbs([7, 0, 0, 0]);
const SEED_BEFORE: U256 = U256::from_limbs([8, 0, 0, 0]);

/// What watchers are drawn by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Zero in the round's first block.
    pub(super) seed: B256,
    /// Hosts that were registered when it began.
    pub(super) hosts: u64,
}

/// Advances to the round of that value of the active clock. Once a block.
pub(super) fn begin(ctx: &mut Ctx<'_, '_>, clock_ms: u64) -> Result<(), Stop> {
    let [number, hosts, before, is_fixed] = unpack(ctx.load(QUEUE, ROUND)?);
    let now = clock_ms / ROUND_MS;
    if now != number {
        // A block moves the clock by less than a round: none is left out.
        let seed = ctx.load(QUEUE, SEED)?;
        ctx.store(QUEUE, SEED_BEFORE, seed)?;
        ctx.store(QUEUE, SEED, U256::ZERO)?;
        let count = offer::nodes().len(ctx)?;
        ctx.store(QUEUE, ROUND, pack([now, count, hosts, 0]))
    } else if is_fixed == 0 {
        let seed = keccak256([&b"hodei-watchers-1"[..], ctx.mix_hash().as_slice(), &now.to_be_bytes()].concat());
        ctx.store(QUEUE, SEED, seed.into())?;
        ctx.store(QUEUE, ROUND, pack([now, hosts, before, 1]))
    } else {
        Ok(())
    }
}

/// The number of the round.
pub(super) fn now(ctx: &mut Ctx<'_, '_>) -> Result<u64, Stop> {
    Ok(unpack(ctx.load(QUEUE, ROUND)?)[0])
}

/// This round, or the one before; none else.
pub(super) fn round(ctx: &mut Ctx<'_, '_>, number: u64) -> Result<Option<Round>, Stop> {
    let [now, hosts, before, _] = unpack(ctx.load(QUEUE, ROUND)?);
    Ok(if number == now {
        Some(Round { seed: ctx.load(QUEUE, SEED)?.into(), hosts })
    } else if number.checked_add(1) == Some(now) {
        Some(Round { seed: ctx.load(QUEUE, SEED_BEFORE)?.into(), hosts: before })
    } else {
        None
    })
}
