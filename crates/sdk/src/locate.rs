//! Say where an object is: which providers hold how much of it, and which shard of which stripe each.

use crate::{
    bucket::Record,
    change::missing,
    cloud::{Cloud, Runtime},
    fault::Fault,
    read::Holders,
    repair::Voices,
};
use alloy_primitives::{Address, U256};
use hodei_storage::{
    engine::Provider,
    index::{Entry, Run, Version},
    manifest::Page,
    overlay::Overlay,
};
use hodei_types::{
    abi::{DEALS, IDeals},
    call::ask,
    slice::ShardId,
    transport::{NodeKey, Transport},
};
use std::{collections::BTreeMap, sync::Arc};

/// What one provider holds of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub node: NodeKey,
    pub operator: Address,
    pub zone: String,
    pub deal: u64,
    /// Shards of this object, or of the pack it is in, but those it declines.
    pub shards: u64,
    pub bytes: u64,
    /// Shards that it was to have, and declines by its signed word.
    pub declined: u64,
    /// Last window with an accepted proof of this provider.
    pub last_proven: u64,
    /// Windows this provider missed: in a row, and ever.
    pub missed_in_row: u64,
    pub missed: u64,
    pub suspended: bool,
    /// Slashing closed it: no new deals.
    pub closed: bool,
    /// Wei of its collateral taken.
    pub slashed: U256,
    /// Windows this deal paid for, and wei: paid, and earned but not paid out yet.
    pub paid_windows: u64,
    pub paid: U256,
    pub owed: U256,
}

/// One stripe of an object, or of the pack it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Striped {
    /// Which part of the object, and which stripe of that.
    pub part: usize,
    pub stripe: usize,
    /// So many of its shards restore it.
    pub k: u8,
    /// Bytes of each shard.
    pub shard_bytes: u32,
    pub shards: Vec<Placed>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// In the code's order: those below k are data.
    pub number: u8,
    pub id: ShardId,
    pub node: NodeKey,
    pub deal: u64,
    /// Whether that one declines it, by its signed word.
    pub declined: bool,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Which providers hold a version's shards, or the newest's, and when each was last proven to hold what it is
    /// paid for.
    pub async fn locate(&self, bucket: &str, key: &str, version: Option<Version>) -> Result<Vec<Location>, Fault> {
        let (stripes, roster) = self.stripes_among(bucket, key, version).await?;
        let chain = &**self.0.wallet.chain();
        let mut locations = Vec::new();
        for ((node, deal), Held { shards, bytes, declined }) in held(&stripes) {
            let standing = ask(chain, DEALS, &IDeals::standingCall { provider: node.0.into() }).await?;
            let terms = ask(chain, DEALS, &IDeals::getCall { deal }).await?;
            let known = roster.iter().find(|provider| provider.peer.key == node);
            locations.push(Location {
                node,
                operator: known.map_or(Address::ZERO, |provider| provider.operator.into()),
                zone: known.map_or_else(String::new, |provider| provider.zone.clone()),
                deal,
                shards,
                bytes,
                declined,
                last_proven: standing.lastProven,
                missed_in_row: standing.missesInRow,
                missed: standing.misses,
                suspended: standing.suspended,
                closed: standing.closed,
                slashed: standing.slashed,
                paid_windows: terms.paidWindows,
                paid: terms.paid,
                owed: terms.owed,
            });
        }
        Ok(locations)
    }

    /// Every stripe of a version, or of the newest, in order.
    pub async fn stripes(&self, bucket: &str, key: &str, version: Option<Version>) -> Result<Vec<Striped>, Fault> {
        Ok(self.stripes_among(bucket, key, version).await?.0)
    }

    /// The same, and the providers that they are among.
    async fn stripes_among(
        &self,
        bucket: &str,
        key: &str,
        version: Option<Version>,
    ) -> Result<(Vec<Striped>, Arc<Vec<Provider>>), Fault> {
        let record = self.live(bucket).await?;
        let (Holders { roster, overlay, .. }, pages) = self.pages(&record, key, version).await?;
        let stripes = self.placed(&record, &pages, &roster, &overlay).await?;
        Ok((stripes, roster))
    }

    /// All stripes of these pages, who counts for each shard as a repair counts it, and whether that one declines it. Who
    /// does not answer is not known to.
    async fn placed(
        &self,
        record: &Record,
        pages: &[(usize, Vec<Page>)],
        roster: &[Provider],
        overlay: &Overlay,
    ) -> Result<Vec<Striped>, Fault> {
        let mut stripes: Vec<Striped> = pages.iter().flat_map(|(part, pages)| striped(*part, pages)).collect();
        let mut seats = self.seats(record, roster, &[]).await?;
        let mut voices = Voices::of(&seats);
        let shards = stripes.iter().flat_map(|striped| &striped.shards);
        let told = shards
            .flat_map(|shard| [shard.deal].into_iter().chain(overlay.deals(&shard.id)).map(|deal| (deal, shard.id)));
        let asked = told.filter(|(deal, _)| voices.is_asked(*deal)).collect();
        let heard = self.0.engine.inventory(roster, asked).await;
        voices.fall_silent(&mut seats, heard.silent.keys());
        (voices.there, voices.declined) = (heard.there, heard.declined);
        stripes.iter_mut().for_each(|striped| follow(striped, roster, overlay, &voices));
        Ok(stripes)
    }

    /// The pages of each part of a version, and who may hold it.
    async fn pages(
        &self,
        record: &Record,
        key: &str,
        version: Option<Version>,
    ) -> Result<(Holders, Vec<(usize, Vec<Page>)>), Fault> {
        let run = self.run(record).await?;
        let entry = found(&run, key, version)?;
        let holders = self.holders(record).await?;
        let mut pages = Vec::new();
        for (at, part) in entry.parts.iter().enumerate() {
            let of_part = self.0.engine.pages(&holders.roster, part.page(), |verdict| self.blame(verdict)).await?;
            pages.push((at, of_part.into_iter().map(|(_, page)| page).collect()));
        }
        Ok((holders, pages))
    }
}

/// What one deal has of some stripes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    shards: u64,
    bytes: u64,
    declined: u64,
}

/// Adds it up by provider and deal; what is declined is not held.
fn held(stripes: &[Striped]) -> BTreeMap<(NodeKey, u64), Held> {
    let mut held: BTreeMap<(NodeKey, u64), Held> = BTreeMap::new();
    for striped in stripes {
        for shard in &striped.shards {
            let count = held.entry((shard.node, shard.deal)).or_default();
            match shard.declined {
                true => count.declined += 1,
                false => {
                    count.shards += 1;
                    count.bytes += u64::from(striped.shard_bytes);
                }
            }
        }
    }
    held
}

/// Names who counts for a shard, which may be one that a custodian brought it to, or that got it as the bucket was evened
/// out, instead of whom the page names.
fn follow(striped: &mut Striped, roster: &[Provider], overlay: &Overlay, voices: &Voices) {
    for shard in &mut striped.shards {
        let counts = voices.deal_of(overlay, Some(shard.deal), shard.id);
        if let Some(provider) = roster.iter().find(|provider| Some(provider.deal) == counts) {
            (shard.node, shard.deal) = (provider.peer.key, provider.deal);
        }
        shard.declined = voices.declined.contains(&(shard.deal, shard.id));
    }
}

/// The version asked for, or the newest where that is an object.
fn found<'a>(run: &'a Run, key: &str, version: Option<Version>) -> Result<&'a Entry, Fault> {
    let found = match version {
        Some(version) => run.version(key, version),
        None => run.newest(key),
    };
    match found {
        Some(Entry { marker: true, version, .. }) => {
            Err(Fault::Marker { bucket: run.bucket.clone(), key: key.into(), version: *version })
        }
        Some(entry) => Ok(entry),
        None => Err(missing(run, key, version)),
    }
}

fn striped(part: usize, pages: &[Page]) -> impl Iterator<Item = Striped> {
    let listed =
        pages.iter().flat_map(|page| page.stripes.iter().enumerate().map(move |(at, stripe)| (page, at, stripe)));
    listed.enumerate().map(move |(number, (page, at, stripe))| {
        let placed = |(number, id): (u8, &ShardId)| {
            let holder = page.holder(at, number)?;
            Some(Placed { number, id: *id, node: holder.node, deal: holder.deal, declined: false })
        };
        Striped {
            part,
            stripe: number,
            k: page.k,
            shard_bytes: stripe.shard_bytes,
            shards: (0..).zip(&stripe.ids).filter_map(placed).collect(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declined_is_not_held() {
        let shard = |number: u8, deal: u64, declined| Placed {
            number,
            id: ShardId([number; 32]),
            node: NodeKey([deal as u8; 32]),
            deal,
            declined,
        };
        let stripe = |shards| Striped { part: 0, stripe: 0, k: 1, shard_bytes: 100, shards };
        let stripes =
            [stripe(vec![shard(0, 7, false), shard(1, 8, true)]), stripe(vec![shard(2, 7, true), shard(3, 8, true)])];
        let held = held(&stripes);
        assert_eq!(held[&(NodeKey([7; 32]), 7)], Held { shards: 1, bytes: 100, declined: 1 });
        assert_eq!(held[&(NodeKey([8; 32]), 8)], Held { shards: 0, bytes: 0, declined: 2 });
    }
}
