//! Let providers go that leave, where a bucket's owner allows its custodians to end deals with them.
//!
//! ```text
//! who stays, and has all it took posted → every shard of who retired: is it with one of those? → still posted → deal ended
//! ```
//! It is asked of the deal, not of the pages: what no page tells of, such as roots of the index that were replaced,
//! counts too. Where something is with nobody else the deal stays, and its provider is paid on.

use super::{GAS, Notes, count::Scene, look::QUESTIONS_MAX, posted::Posted, tended::Tended};
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

/// Why deals stay while the ledger lacks something of others.
const UNPROVEN: &str = "what others took is not posted yet: providers that owe a proof take no new roots before it";
const UNPOSTED: &str = "what others took is not posted yet: a later look goes on";

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
    pub(super) async fn release_leaving(&self, scene: &Scene, posted: Posted, notes: &mut Notes, tended: &mut Tended) {
        let leaving = scene.seats.iter().filter(|seat| seat.state == State::Leaving);
        let leaving: BTreeSet<u64> = leaving.map(|seat| seat.deal.id).collect();
        if leaving.is_empty() {
            return;
        }
        tended.leaving_deals = leaving.len() as u64;
        let why = match self.may_release(scene.record.id).await {
            Err(error) => Some(format!("whether its owner allows it is not known: {error}")),
            Ok(false) => Some("its owner does not let custodians end deals: its `data repair` ends them".into()),
            Ok(true) if scene.record.kept_until_ms(self.now_ms()).is_some() => {
                Some("versions in the bucket are kept, and with them all its deals".into())
            }
            Ok(true) if tended.left > 0 || !tended.failures.is_empty() => Some("not everything is restored yet".into()),
            Ok(true) => None,
        };
        if let Some(why) = why {
            tended.stays.insert(why);
            return;
        }
        // What is in no root on the ledger may go unpunished: only who has everything posted is relied on, and gives it.
        let (shut, keepers): (Vec<u64>, Vec<u64>) =
            scene.keepers().into_iter().partition(|deal| scene.voices.shut.contains(deal));
        let mut relied: BTreeSet<u64> = keepers.iter().copied().filter(|deal| posted.whole.contains(deal)).collect();
        let mut free = Vec::new();
        for provider in scene.roster.iter().filter(|provider| leaving.contains(&provider.deal)) {
            match self.only_there(scene, &mut relied, provider, notes).await {
                Some(0) => free.push(provider.deal),
                Some(count) => tended.stays.extend(reasons(count, &keepers, &shut, &posted)),
                None => _ = tended.stays.insert("it does not tell all that it has".into()),
            }
        }
        // What came to them while they were asked is posted as well.
        if !free.is_empty() {
            let posted = self.posted(scene).await;
            let lacking: Vec<String> = relied.difference(&posted.whole).map(|deal| reason(*deal, &posted)).collect();
            if !lacking.is_empty() {
                tended.stays.extend(lacking);
                return;
            }
        }
        for deal in free {
            let closed = match self.0.buckets.close(&[deal]).await {
                Ok(closed) => closed,
                Err(error) => {
                    tended.stays.insert(format!("deal {deal} is not ended: {error}"));
                    continue;
                }
            };
            let ended = closed.ended + closed.closing;
            tended.released_deals += ended;
            if ended > 0 {
                let bucket = scene.record.id;
                self.note(Kind::Deal, |fields| {
                    fields.text("what", "released").bytes("bucket", bucket.as_slice()).uint("deal", deal)
                })
                .await;
            }
        }
    }

    /// Shards of a deal that none of those relied on has, as many as are found first; `None` where not all could be asked
    /// about. Who falls silent is relied on no more. It begins where something was alone at an earlier look.
    async fn only_there(
        &self,
        scene: &Scene,
        relied: &mut BTreeSet<u64>,
        provider: &Provider,
        notes: &mut Notes,
    ) -> Option<u64> {
        if let Some(from) = notes.alone.get(&provider.deal) {
            let (alone, ..) = self.alone(scene, relied, provider, *from).await?;
            if alone > 0 {
                return Some(alone);
            }
        }
        let mut from = 0;
        for _ in 0..QUESTIONS_MAX {
            let (alone, next, end) = self.alone(scene, relied, provider, from).await?;
            if alone > 0 {
                notes.alone.insert(provider.deal, from);
                return Some(alone);
            }
            if next >= end {
                notes.alone.remove(&provider.deal);
                return Some(0);
            }
            from = next;
        }
        None
    }

    /// How many of a batch of a deal's shards none of those relied on has; where the next begins, and where the deal ends.
    async fn alone(
        &self,
        scene: &Scene,
        relied: &mut BTreeSet<u64>,
        provider: &Provider,
        from: u64,
    ) -> Option<(u64, u64, u64)> {
        let (shards, next, end) = self.0.engine.list(provider, from).await.ok()?;
        let mut left: BTreeSet<ShardId> = shards.into_iter().map(|(id, _)| id).collect();
        // First who took a shard in its place; everybody about the rest only, which are pages and the like.
        for everybody in [false, true] {
            let others: &BTreeSet<u64> = relied;
            let asked = left.iter().flat_map(|id| {
                let named: BTreeSet<u64> = scene.overlay.deals(id).collect();
                let asked = others.iter().filter(move |deal| everybody || named.contains(*deal));
                asked.map(move |deal| (*deal, *id))
            });
            let asked: Vec<(u64, ShardId)> = asked.collect();
            if asked.is_empty() {
                continue;
            }
            let said = self.0.engine.inventory(&scene.roster, asked).await;
            let seen = self.0.engine.glanced(&scene.roster, said.there).await;
            relied.retain(|deal| !said.silent.contains_key(deal) && !seen.silent.contains_key(deal));
            for (_, id) in seen.there {
                left.remove(&id);
            }
        }
        Some((left.len() as u64, next, end))
    }
}

/// Why a deal stays of which so many shards at least are with nobody else that is relied on; some of those who stay give
/// nothing now.
fn reasons(count: u64, takers: &[u64], shut: &[u64], posted: &Posted) -> Vec<String> {
    let behind: Vec<u64> = takers.iter().copied().filter(|deal| !posted.whole.contains(deal)).collect();
    if behind.is_empty() && !shut.is_empty() {
        return vec![format!(
            "{count} shards or more are with nobody else who gives them now, and {} of those who stay rest: a look after \
             that goes on",
            shut.len()
        )];
    }
    if behind.is_empty() {
        return vec![format!(
            "{count} shards or more are with nobody else, and no page that is found tells of them: its owner's \
             `data repair` ends that deal"
        )];
    }
    behind.into_iter().map(|deal| reason(deal, posted)).collect()
}

/// Why a deal that takes shards is not relied on.
fn reason(deal: u64, posted: &Posted) -> String {
    match deal {
        deal if posted.shrunk.contains(&deal) => {
            format!("deal {deal} holds less than the ledger knows: its owner must post that first")
        }
        deal if posted.unproven.contains(&deal) => UNPROVEN.into(),
        deal if posted.behind.contains(&deal) => UNPOSTED.into(),
        deal => format!("deal {deal} does not say what it holds, or not as the ledger takes it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_others_are_not_relied_on_is_told_apart() {
        let posted = Posted { whole: [1].into(), shrunk: [2].into(), unproven: [3].into(), behind: [4].into() };
        let told = |takers: &[u64]| reasons(7, takers, &[], &posted).join("; ");
        assert!(told(&[1]).contains("7 shards or more"));
        assert!(told(&[1, 2]).contains("deal 2 holds less") && !told(&[1, 2]).contains("proof"));
        assert_eq!(told(&[1, 3]), UNPROVEN);
        assert_eq!(told(&[4]), UNPOSTED);
        assert!(told(&[1, 5]).contains("deal 5 does not say") && !told(&[1, 5]).contains("proof"));
        assert_eq!(reasons(7, &[1, 2, 3, 4, 5], &[], &posted).len(), 4);
        let resting = reasons(7, &[1], &[6], &posted).join("; ");
        assert!(resting.contains("who gives them now") && !resting.contains("data repair"), "{resting}");
        assert_eq!(reasons(7, &[4], &[6], &posted), [UNPOSTED], "what can be waited for is told first");
    }
}
