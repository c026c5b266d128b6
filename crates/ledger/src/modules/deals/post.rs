//! Take a deal's newest root, signed by both sides.
//!
//! A custodian of the bucket posts in its owner's place: what a deal holds never gets less by that. The leaves say so
//! here; that the root still has those of before is what the provider signs, and proves. For more leaves it has its wage.

use hodei_types::abi::{DEALS, IDeals, LEAF_BYTES, root_statement};

use super::{
    super::{
        buckets, budgets,
        ctx::{Ctx, Stop, revert},
        providers, queue,
    },
    record::{Deal, OPEN},
    settle, standing, tree, wage,
};

/// A shard's last leaf may be short: content may count up to an eighth more leaves than its bytes fill, plus one
/// per small shard of a small deal.
const SLACK_LEAVES: u64 = 1024;

pub(super) fn post(ctx: &mut Ctx<'_, '_>, entry: &IDeals::RootPost) -> Result<(), Stop> {
    let id = entry.deal;
    let mut deal = Deal::live(ctx, id)?;
    if deal.state != OPEN {
        return Err(revert(IDeals::NotOpen { deal: id }));
    }
    let mut standing = standing::roll(ctx, deal.provider)?;
    if standing.closed {
        return Err(revert(IDeals::ProviderUnavailable { provider: deal.provider }));
    }
    let window = queue::window(ctx)?;
    if standing.owes_proof(&window) {
        return Err(revert(IDeals::ChallengeOpen { provider: deal.provider, window: window.index }));
    }
    if entry.sequence <= deal.sequence {
        return Err(revert(IDeals::StaleSequence { deal: id, sequence: deal.sequence }));
    }
    // One that shrank below what it holds still tells what it lets go of.
    let most = deal.pledged_bytes / LEAF_BYTES;
    if entry.leaves > most + most / 8 + SLACK_LEAVES {
        return Err(revert(IDeals::CapacityExceeded { freeBytes: deal.pledged_bytes }));
    }
    let by_custodian = check_signatures(ctx, &deal, entry)?;
    settle(ctx, &mut deal, &standing)?;
    let was_empty = standing.total_leaves == 0;
    tree::add(ctx, &mut standing, deal.slot, deal.leaves, entry.leaves)?;
    if was_empty && standing.total_leaves > 0 {
        standing.begin_asking(ctx, &window)?;
    }
    standing.store(ctx)?;
    if deal.sequence == 0 {
        deal.missed_at = standing.misses;
    }
    let added = entry.leaves.saturating_sub(deal.leaves);
    deal.sequence = entry.sequence;
    deal.root = entry.root;
    deal.leaves = entry.leaves;
    deal.store(ctx)?;
    ctx.emit(
        DEALS,
        &IDeals::Posted {
            deal: id,
            provider: deal.provider,
            sequence: entry.sequence,
            root: entry.root,
            leaves: entry.leaves,
        },
    )?;
    if by_custodian { wage::pay(ctx, &deal, added) } else { Ok(()) }
}

/// Both sides agreed: by signature, or by being the caller. Whether that was a custodian in the owner's place.
fn check_signatures(ctx: &mut Ctx<'_, '_>, deal: &Deal, entry: &IDeals::RootPost) -> Result<bool, Stop> {
    let id = deal.id;
    let chain = ctx.params.chain_id;
    let statement = root_statement(chain, id, entry.sequence, entry.position, entry.root, entry.leaves);
    if entry.providerSignature.is_empty() {
        let operator = providers::find(ctx, deal.provider)?.map(|provider| provider.operator);
        if operator != Some(ctx.caller) {
            return Err(revert(IDeals::BadProviderSignature { deal: id }));
        }
    } else if !ctx.node_signed(deal.provider, &statement, &entry.providerSignature)? {
        return Err(revert(IDeals::BadProviderSignature { deal: id }));
    }
    let signer = if entry.ownerSignature.is_empty() {
        Some(ctx.caller)
    } else {
        ctx.account_signed(&statement, &entry.ownerSignature)?
    };
    let agreed = match signer {
        Some(signer) => budgets::principal(ctx, signer)? == deal.owner,
        None => false,
    };
    if agreed {
        return Ok(false);
    }
    if !entry.ownerSignature.is_empty() || !buckets::is_custodian(ctx, deal.bucket, ctx.caller)? {
        return Err(revert(IDeals::BadOwnerSignature { deal: id }));
    }
    // One that is the provider's operator as well does not speak for both sides.
    if entry.providerSignature.is_empty() {
        return Err(revert(IDeals::BadProviderSignature { deal: id }));
    }
    if entry.leaves < deal.leaves { Err(revert(IDeals::NotParty { deal: id })) } else { Ok(true) }
}
