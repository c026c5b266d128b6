//! Look again at what lacks before it is made.
//!
//! A put may be under way, whose late shards come within seconds; and somebody may have brought a shard, be it a custodian
//! or the put, and been killed before it was said where: that is found with those who stay, said and posted, not made.

use super::{
    count::{Due, Scene},
    tended::{SETTLES, Step, Tended},
};
use crate::{
    cloud::{Cloud, Runtime},
    fault::Fault,
};
use hodei_storage::overlay::PAIRS_MAX;
use hodei_types::transport::Transport;
use std::{collections::BTreeSet, sync::Arc};

/// Stripes that are asked about at once.
const ASKED_STRIPES: usize = 256;

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

    /// Says of shards that lack where they are after all, and gives what lacks then.
    pub(super) async fn find_unsaid(
        &self,
        scene: &mut Scene,
        due: Vec<Due>,
        tended: &mut Tended,
    ) -> Result<Vec<Due>, Fault> {
        let (mut pairs, mut lacking) = (Vec::new(), Vec::new());
        let takers = scene.takers();
        for some in due.chunks(ASKED_STRIPES) {
            let lost = some.iter().flat_map(|due| due.lost.iter().map(move |shard| due.shard(*shard)));
            let asked = lost.flat_map(|id| takers.iter().map(move |deal| (*deal, id))).collect();
            let there = self.0.engine.inventory(&scene.roster, asked).await.there;
            for due in some {
                let mut due = due.clone();
                pairs.extend(due.find(&takers, &there, |due, shard, deal| scene.fits(due, shard, deal)));
                tended.tried += u64::from(due.lost.is_empty());
                if !due.lost.is_empty() {
                    lacking.push(due);
                }
            }
        }
        if pairs.is_empty() {
            return Ok(lacking);
        }
        let deals: BTreeSet<u64> = pairs.iter().map(|(_, deal)| *deal).collect();
        for pairs in pairs.chunks(PAIRS_MAX) {
            self.lay(&scene.record, pairs).await?;
        }
        // Whoever brought it may not have come to post it either.
        self.owe_newest(&scene.roster, &scene.seats, |seat| deals.contains(&seat.deal.id)).await;
        tended.found_shards += pairs.len() as u64;
        Arc::make_mut(&mut scene.overlay).extend(pairs);
        Ok(lacking)
    }
}
