//! Say what a lease is to those that stand in what it holds.

use alloy_primitives::{Address, B256};

use super::{
    super::{
        ctx::{Ctx, Stop},
        market::{held::Held, order::Standing},
        queue,
    },
    lease::{Lease, RUNNING},
};

/// A running lease, as what is placed in the room it holds sees it.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Holding {
    pub(in super::super) order: u64,
    pub(in super::super) node: B256,
    /// The active clock when its escrow is over, and whole seconds until then.
    pub(in super::super) ends_ms: u64,
    pub(in super::super) rest_secs: u64,
    pub(in super::super) is_suspect: bool,
}

/// A lease that may hold room, if it runs.
pub(in super::super) fn holding(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Option<Holding>, Stop> {
    let Some(lease) = Lease::find(ctx, id)?.filter(|lease| lease.state == RUNNING) else { return Ok(None) };
    let ends_ms = lease.ends_ms();
    let rest_secs = ends_ms.saturating_sub(queue::window(ctx)?.clock_ms) / 1000;
    let Lease { order, node, suspect_secs, .. } = lease;
    Ok(Some(Holding { order, node, ends_ms, rest_secs, is_suspect: suspect_secs > 0 }))
}

/// The held lease that another stands in, while it lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Within {
    pub(super) order: u64,
    pub(super) holder: Address,
    ends_ms: u64,
    is_lent: bool,
}

impl Within {
    /// What a lease stands in; none if in its host's own room, or if what it stood in was lost.
    pub(super) fn of(ctx: &mut Ctx<'_, '_>, lease: &Lease) -> Result<Option<Self>, Stop> {
        if lease.via == 0 {
            return Ok(None);
        }
        let (held, holding) = (Held::find(ctx, lease.via)?, holding(ctx, lease.via)?);
        let (Some(Held { lent: is_lent, .. }), Some(Holding { order, ends_ms, .. })) = (held, holding) else {
            return Ok(None);
        };
        Ok(Some(Self { order, holder: Standing::known(ctx, order)?.owner, ends_ms, is_lent }))
    }

    /// How much longer a lease of `owner` that stands in it may be paid for: not beyond its end, and that of anybody else
    /// only while it is lent.
    pub(super) fn renewal_secs(&self, lease: &Lease, owner: Address) -> u64 {
        let is_open = self.is_lent || owner == self.holder;
        if is_open { self.ends_ms.saturating_sub(lease.ends_ms()) / 1000 } else { 0 }
    }
}
