//! Look again at what lacks before it is made.
//!
//! A put may be under way, whose late shards come within seconds; and somebody may have brought a shard, be it a custodian
//! or the put, and been killed before it was said where: that is found with those who stay, and said, not made. It is read
//! from there first: a provider that says it has what it never took would keep the shard from being made.

use super::{
    count::{Due, Scene},
    tended::{SETTLES, Step, Tended},
};
use crate::cloud::{Cloud, Runtime};
use futures::{FutureExt as _, StreamExt as _, stream};
use hodei_types::{slice::ShardId, transport::Transport};
use std::collections::{BTreeMap, BTreeSet};

/// Stripes that are asked about at once.
const ASKED_STRIPES: usize = 256;
/// Shards that are read at once.
const READ_AT_ONCE: usize = 4;

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Looks at these stripes again after a rest: what came meanwhile is due no more.
    pub(super) async fn settled(
        &self,
        scene: &mut Scene,
        due: Vec<Due>,
        tended: &mut Tended,
        told: &(dyn Fn(Step) + Send + Sync),
    ) -> Vec<Due> {
        told(Step::Settles { stripes: due.len() as u64 });
        self.0.context.sleep(SETTLES).await;
        let mut still = Vec::new();
        for some in due.chunks(ASKED_STRIPES) {
            let asked = some.iter().flat_map(|due| scene.questions_of(&due.page, due.at)).collect();
            self.learn(scene, asked).await;
            still.extend(some.iter().filter_map(|due| scene.stripe(due.id, &due.page, due.at).1));
        }
        still.sort_by_key(|due| due.margin);
        tended.due -= (due.len() - still.len()) as u64;
        still
    }

    /// Finds where shards that lack are after all, which is to be said, and what lacks then.
    pub(super) async fn find_unsaid(
        &self,
        scene: &mut Scene,
        due: Vec<Due>,
        rate: Option<u64>,
        tended: &mut Tended,
    ) -> (Vec<(ShardId, u64)>, Vec<Due>) {
        let (mut pairs, mut lacking) = (Vec::new(), Vec::new());
        // Who rests and gives nothing could not be read: what it has is counted with it.
        let givers = scene.givers();
        for some in due.chunks(ASKED_STRIPES) {
            let lost = some.iter().flat_map(|due| due.lost.iter().map(move |shard| due.shard(*shard)));
            let asked = lost.flat_map(|id| givers.iter().map(move |deal| (*deal, id))).collect();
            let said = self.inquire(scene, asked).await.there;
            let before = tended.read_bytes;
            let there = self.read_there(scene, some, said, tended).await;
            self.rest(rate, tended.read_bytes - before).await;
            for due in some {
                let mut due = due.clone();
                pairs.extend(due.find(&givers, &there, |due, shard, deal| scene.fits(due, shard, deal)));
                tended.tried += u64::from(due.lost.is_empty());
                if !due.lost.is_empty() {
                    lacking.push(due);
                }
            }
        }
        (pairs, lacking)
    }

    /// Those of lost shards that come whole from who says to have them.
    async fn read_there(
        &self,
        scene: &Scene,
        due: &[Due],
        said: BTreeSet<(u64, ShardId)>,
        tended: &mut Tended,
    ) -> BTreeSet<(u64, ShardId)> {
        let lost = due.iter().flat_map(|due| due.lost.iter().map(move |shard| (due, *shard)));
        let bytes: BTreeMap<ShardId, u32> =
            lost.map(|(due, shard)| (due.shard(shard), due.page.stripes[due.at].shard_bytes)).collect();
        let reads = said.into_iter().filter_map(|(deal, id)| {
            let from = scene.roster.iter().find(|provider| provider.deal == deal)?.clone();
            let (cloud, bytes) = (self.clone(), *bytes.get(&id)?);
            let read = async move {
                match cloud.0.engine.get_copy(&[from], id, bytes, |verdict| cloud.blame(verdict)).await {
                    Ok(_) => Some((deal, id, bytes)),
                    Err(error) => {
                        tracing::warn!(deal, shard = %id, %error, "it says that it has it, and does not give it");
                        None
                    }
                }
            };
            Some(read.boxed())
        });
        let reads: Vec<_> = reads.collect();
        let read: Vec<_> = stream::iter(reads).buffer_unordered(READ_AT_ONCE).collect().await;
        let mut there = BTreeSet::new();
        for (deal, id, bytes) in read.into_iter().flatten() {
            tended.read_bytes += u64::from(bytes);
            there.insert((deal, id));
        }
        there
    }
}
