//! Draw the leaves a provider must show in a window, and check that it did.

use alloy_primitives::{B256, U256, keccak256};
use hodei_types::{
    abi::{DEALS, IDeals, SAMPLES},
    holding,
};

use super::{
    super::{
        ctx::{Ctx, GAS_PROOF_BYTE, Stop, broken, revert},
        providers,
        queue::{self, Window},
    },
    record::Deal,
    standing::{self, Standing},
    tree,
};

/// What is asked of a provider now.
pub(super) fn challenge(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<IDeals::Challenge, Stop> {
    let window = queue::window(ctx)?;
    let standing = Standing::load(ctx, node)?;
    let is_asked = standing.is_asked(window.index);
    let open = standing.owes_proof(&window);
    Ok(IDeals::Challenge {
        window: window.index,
        seed: if is_asked && !window.seed.is_zero() { seed(&window, node) } else { B256::ZERO },
        totalLeaves: standing.total_leaves,
        open,
        proven: is_asked && standing.last_proven == window.index,
        samples: if open { draw(ctx, &standing, &window)? } else { Vec::new() },
    })
}

/// Takes the proof of `number`: for each sample in order, length (u32, big-endian) and what `types::holding`
/// verifies.
pub(super) fn prove(ctx: &mut Ctx<'_, '_>, node: B256, number: u64, proof: &[u8]) -> Result<(), Stop> {
    ctx.charge(GAS_PROOF_BYTE * proof.len() as u64)?;
    let mut standing = standing::roll(ctx, node)?;
    let window = queue::window(ctx)?;
    if number != window.index {
        return Err(revert(IDeals::WrongWindow { current: window.index }));
    }
    if providers::find(ctx, node)?.is_none() {
        return Err(revert(IDeals::UnknownProvider { provider: node }));
    }
    if !standing.is_asked(number) || window.seed.is_zero() {
        return Err(revert(IDeals::NoChallenge { provider: node, window: number }));
    }
    if standing.last_proven == number {
        return Err(revert(IDeals::AlreadyProven { window: number }));
    }
    check(&draw(ctx, &standing, &window)?, proof)?;
    standing.accept(number);
    let total = standing.total_leaves;
    ctx.emit(DEALS, &IDeals::Proven { provider: node, window: number, totalLeaves: total })?;
    standing.store(ctx)?;
    standing::reap(ctx, &mut standing)?;
    standing.store(ctx)
}

fn check(samples: &[IDeals::Sample], proof: &[u8]) -> Result<(), Stop> {
    let bad = |index: usize, reason: &str| revert(IDeals::BadProof { index: index as u64, reason: reason.to_owned() });
    let mut rest = proof;
    for (i, sample) in samples.iter().enumerate() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(|| bad(i, "proof ends early"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let (part, after) = after.split_at_checked(length).ok_or_else(|| bad(i, "proof ends early"))?;
        holding::verify(&sample.root.0, sample.leaves, sample.leaf, part).map_err(|e| bad(i, &e.to_string()))?;
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(bad(samples.len(), "bytes after the last sample")) }
}

/// keccak(window's seed ‖ provider ‖ window): of no use to anybody else, nor again.
fn seed(window: &Window, node: B256) -> B256 {
    keccak256([window.seed.as_slice(), node.as_slice(), &window.index.to_be_bytes()].concat())
}

fn draw(ctx: &mut Ctx<'_, '_>, standing: &Standing, window: &Window) -> Result<Vec<IDeals::Sample>, Stop> {
    let seed = seed(window, standing.node);
    let mut samples = Vec::with_capacity(SAMPLES);
    for i in 0..SAMPLES {
        let drawn: U256 = keccak256([seed.as_slice(), &[i as u8]].concat()).into();
        // 256 bits over at most 64: no leaf is favoured by more than 2^-192.
        let drawn = drawn.checked_rem(U256::from(standing.total_leaves)).unwrap_or_default();
        let (id, leaf) = tree::find(ctx, standing, drawn.saturating_to())?;
        let deal = Deal::load(ctx, id)?.ok_or_else(|| broken("a leaf without a deal"))?;
        samples.push(IDeals::Sample { deal: id, leaf, leaves: deal.leaves, root: deal.root });
    }
    Ok(samples)
}
