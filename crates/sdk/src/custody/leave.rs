//! Let providers go that leave, where a bucket's owner allows its custodians to end deals with them.
//!
//! ```text
//! a deal of who retired → every shard in it: is it with one who stays? → what those took is posted → deal ended
//! ```
//! It is asked of the deal, not of the pages: what no page tells of, such as roots of the index that were replaced, counts
//! too. Where something is with nobody else the deal stays, and its provider is paid on.

use super::{GAS, count::Scene, look::QUESTIONS_MAX, tended::Tended};
use crate::{
    cloud::{Cloud, Runtime},
    fault::Fault,
    repair::State,
};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_storage::engine::Provider;
use hodei_types::{
    abi::{DEALS, IDeals},
    call::ask,
    event::Kind,
    slice::ShardId,
    transport::Transport,
};
use std::collections::BTreeSet;

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Says whether a bucket's custodians may end its deals with providers that leave; nothing is done where it is so
    /// already.
    pub async fn set_release(&self, bucket: &str, allowed: bool) -> Result<(), Fault> {
        let bucket = self.live(bucket).await?.id;
        if self.may_release(bucket).await? == allowed {
            return Ok(());
        }
        let call = IDeals::setReleaseCall { bucket, allowed };
        self.0.buckets.run(DEALS, call.abi_encode(), U256::ZERO, GAS).await?;
        let what = if allowed { "release" } else { "no release" };
        self.note(Kind::Deal, |fields| fields.text("what", what).bytes("bucket", bucket.as_slice())).await;
        Ok(())
    }

    /// Whether they may.
    pub(super) async fn may_release(&self, bucket: B256) -> Result<bool, Fault> {
        Ok(ask(&**self.0.wallet.chain(), DEALS, &IDeals::releaseCall { bucket }).await?)
    }

    /// Ends the deals with those that leave, as far as nothing needs them; says why others stay.
    pub(super) async fn release_leaving(&self, scene: &Scene, tended: &mut Tended) -> Result<(), Fault> {
        let leaving = scene.seats.iter().filter(|seat| seat.state == State::Leaving);
        let leaving: BTreeSet<u64> = leaving.map(|seat| seat.deal.id).collect();
        if leaving.is_empty() {
            return Ok(());
        }
        tended.leaving_deals = leaving.len() as u64;
        let why = if !self.may_release(scene.record.id).await? {
            Some("its owner does not let custodians end deals: its `data repair` ends them")
        } else if scene.record.kept_until_ms(self.now_ms()).is_some() {
            Some("versions in the bucket are kept, and with them all its deals")
        } else if tended.left > 0 || !tended.failures.is_empty() {
            Some("not everything is restored yet")
        } else if !self.post_all().await? {
            Some("what others took is not posted yet: providers that owe a proof take no new roots before it")
        } else {
            None
        };
        if let Some(why) = why {
            tended.stays.insert(why.into());
            return Ok(());
        }
        for provider in scene.roster.iter().filter(|provider| leaving.contains(&provider.deal)) {
            match self.only_there(scene, provider).await {
                Some(0) => {}
                Some(count) => {
                    tended.stays.insert(format!(
                        "{count} shards are with nobody else, and no page that is found tells of them: its owner's \
                         `data repair` ends that deal"
                    ));
                    continue;
                }
                None => {
                    tended.stays.insert("it does not tell all that it has".into());
                    continue;
                }
            }
            let closed = self.0.buckets.close(&[provider.deal]).await?;
            let ended = closed.ended + closed.closing;
            tended.released_deals += ended;
            if ended > 0 {
                let (bucket, deal) = (scene.record.id, provider.deal);
                self.note(Kind::Deal, |fields| {
                    fields.text("what", "released").bytes("bucket", bucket.as_slice()).uint("deal", deal)
                })
                .await;
            }
        }
        Ok(())
    }

    /// Shards of a deal that nobody who stays has; `None` where not all of them could be asked about.
    async fn only_there(&self, scene: &Scene, provider: &Provider) -> Option<u64> {
        let (takers, mut from, mut alone) = (scene.takers(), 0, 0);
        for _ in 0..QUESTIONS_MAX {
            let (shards, next, end) = self.0.engine.list(provider, from).await.ok()?;
            let ids: Vec<ShardId> = shards.into_iter().map(|(id, _)| id).collect();
            let asked = ids.iter().flat_map(|id| takers.iter().map(move |deal| (*deal, *id))).collect();
            let there = self.0.engine.inventory(&scene.roster, asked).await.there;
            let elsewhere: BTreeSet<ShardId> = there.into_iter().map(|(_, id)| id).collect();
            alone += ids.iter().filter(|id| !elsewhere.contains(*id)).count() as u64;
            if next >= end {
                return Some(alone);
            }
            from = next;
        }
        None
    }
}
