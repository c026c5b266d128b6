//! Make again what stripes lack too much of.
//!
//! What lacks is looked at again after a rest, since a put may be under way, and then made by the first custodian; by the
//! second two looks later, since the first may be at work. What would be lost with one more shard waits for nobody. Before
//! something is made those who stay are asked for it: one that was killed may have brought it and not said so.

use super::{
    Charge, Notes,
    count::{Due, Scene},
    regions::Allowed,
    tended::{Step, Tended},
};
use crate::{
    cloud::{Cloud, Runtime},
    fault::Fault,
    market::Offer,
    plan::{DEAL_BYTES_MIN, HEADROOM, Part, escrow, usable},
    repair::{Voices, choose},
    wallet::format_coins,
};
use alloy_primitives::{B256, U256};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use hodei_storage::{
    engine::{Inventory, Patience, Provider},
    index::ROOT_BYTES,
    manifest::Page,
    overlay::PAIRS_MAX,
    place::Candidate,
    repair::seats,
};
use hodei_types::{
    abi::{IDeals, LEAF_BYTES},
    event::Kind,
    slice::ShardId,
    transport::{NodeKey, Transport},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Shards of pages that are looked at at once.
const WAVE_SHARDS: usize = 20_000;
/// Looks by which a custodian of the next rank is later.
const LOOKS_BETWEEN: u64 = 2;
/// Windows that a deal opened from the reserve is paid for, where the reserve has as much.
const WINDOWS_AHEAD: u64 = 60;
/// Stripes made again at once, and before it is said where their shards are.
const AT_ONCE: usize = 4;
const STRIPES_BEFORE_LAY: usize = 32;
/// Times that deals are opened at a look: who takes one and refuses what it is brought costs the reserve no more of them.
const JOINS_MAX: u32 = 3;

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Looks at a bucket in this account's care, makes again what lacks, and lets those go that leave; reads at most `rate`
    /// bytes a second for it.
    pub async fn tend(
        &self,
        charge: &Charge,
        notes: &mut Notes,
        rate: Option<u64>,
        told: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Tended, Fault> {
        let (record, rank) = self.charged(charge).await?;
        self.forget_roster(record.id);
        let roster = self.roster(&record).await?;
        let seats = self.seats(&record, &roster, &[]).await?;
        let overlay = self.overlay(record.id, record.state.overlay, &roster).await;
        let voices = Voices::of(&seats);
        let mut scene = Scene { record, roster, seats, overlay, voices, refused: Mutex::default(), joins: 0 };
        let asked = |provider: &&Provider| scene.voices.is_asked(provider.deal);
        let present: Vec<Provider> = scene.roster.iter().filter(asked).cloned().collect();
        notes.looks += 1;
        let silent = self.find_pages(charge, &present, notes).await;
        scene.fall_silent(&silent);
        let mut tended = Tended { rank, ..Tended::default() };
        let mut due = self.count(&mut scene, notes, &mut tended).await;
        self.copy_others(&mut scene, notes, &mut tended).await;
        tended.due = due.len() as u64;
        let since = |due: &Due| notes.looks - notes.due[&due.id];
        let waits = |due: &Due| (rank * LOOKS_BETWEEN).saturating_sub(since(due));
        let left = due.iter().filter(|due| due.margin > 0).map(&waits).filter(|looks| *looks > 0);
        tended.left_looks = left.clone().min().unwrap_or(0);
        tended.left = left.count() as u64;
        due.retain(|due| due.margin == 0 || waits(due) == 0);
        due.sort_by_key(|due| due.margin);
        let later = due.split_off(due.partition_point(|due| due.margin == 0));
        let work = Work { charge, rate, told };
        self.mend(&work, &mut scene, due, &mut tended).await?;
        let later = match later.iter().any(|due| since(due) == 0) {
            true => self.settled(&mut scene, later, &mut tended, told).await,
            false => later,
        };
        self.mend(&work, &mut scene, later, &mut tended).await?;
        let posted = self.posted(&scene).await;
        self.release_leaving(&scene, posted, notes, &mut tended).await;
        let others = tended.restored_shards + tended.moved_shards;
        if others > 0 || tended.new_deals > 0 {
            let (id, count, deals) = (scene.record.id, others, tended.new_deals);
            self.note(Kind::Deal, |fields| {
                let fields = fields.text("what", "restored").bytes("bucket", id.as_slice());
                fields.uint("shards", count).uint("deals", deals)
            })
            .await;
        }
        Ok(tended)
    }

    /// Counts the stripes of all pages, wave by wave, and copies pages of which there are too few.
    async fn count(&self, scene: &mut Scene, notes: &mut Notes, tended: &mut Tended) -> Vec<Due> {
        let mut pages: Vec<(ShardId, Arc<Page>)> = notes.pages.iter().map(|(id, page)| (*id, page.clone())).collect();
        let mut due = Vec::new();
        while !pages.is_empty() {
            let (mut shards, mut wave) = (0, Vec::new());
            while let Some((id, page)) = pages.pop_if(|_| shards < WAVE_SHARDS) {
                shards += page.stripes.len() * usize::from(page.n);
                wave.push((id, page));
            }
            let asked = wave.iter().flat_map(|(id, page)| scene.questions(*id, page)).collect();
            self.learn(scene, asked).await;
            for (id, page) in wave {
                let copies = scene.copies(id);
                let is_held = page.shards().any(|shard| scene.voices.there.contains(&shard));
                if scene.seats.iter().all(|seat| !seat.answers) {
                    // Nobody is left to say whether it was let go of.
                    continue;
                }
                if copies.is_empty() && !is_held {
                    // Let go of by its owner; or lost whole, and then there is nothing to make it again from.
                    notes.pages.remove(&id);
                    notes.due.remove(&id);
                    continue;
                }
                self.copy_lacking(scene, &copies, || Some(Bytes::from(page.seal().0)), tended).await;
                let before = due.len();
                for at in 0..page.stripes.len() {
                    let (count, lacks) = scene.stripe(id, &page, at);
                    tended.stripes.add(count, page.k.into(), page.n.into());
                    due.extend(lacks);
                }
                if due.len() == before {
                    notes.due.remove(&id);
                } else {
                    notes.due.entry(id).or_insert(notes.looks);
                }
            }
        }
        due
    }

    /// Asks who has these, and who refuses to.
    pub(super) async fn learn(&self, scene: &mut Scene, asked: Vec<(u64, ShardId)>) {
        let heard = self.inquire(scene, asked).await;
        (scene.voices.there, scene.voices.declined) = (heard.there, heard.declined);
    }

    /// Asks the same of those who answered so far: who was silent once would keep each later question waiting.
    pub(super) async fn inquire(&self, scene: &mut Scene, mut asked: Vec<(u64, ShardId)>) -> Inventory {
        asked.retain(|(deal, _)| scene.voices.is_asked(*deal));
        let heard = self.0.engine.inventory(&scene.roster, asked).await;
        for (deal, error) in &heard.silent {
            tracing::warn!(deal, error, "a provider stopped answering");
        }
        scene.fall_silent(heard.silent.keys());
        heard
    }

    /// Copies lists of pages, the index's root and the overlay's newest sheet where there are too few.
    async fn copy_others(&self, scene: &mut Scene, notes: &mut Notes, tended: &mut Tended) {
        let (root, sheet) = (scene.record.state.root, scene.record.state.overlay);
        let named = [root, sheet].into_iter().filter(|id| *id != B256::ZERO).map(|id| ShardId(id.0));
        let ids: Vec<ShardId> = notes.lists.keys().copied().chain(named).collect();
        let asked = ids.iter().flat_map(|id| scene.anywhere(*id)).collect();
        self.learn(scene, asked).await;
        for id in ids {
            let copies = scene.copies(id);
            if copies.is_empty() {
                notes.lists.remove(&id);
                continue;
            }
            let bytes = match notes.lists.get(&id) {
                Some(list) => Some(Bytes::from(list.to_vec())),
                None if scene.keepers().iter().filter(|deal| copies.contains(deal)).count()
                    >= scene.wanted_copies() =>
                {
                    None
                }
                None if id.0 == root.0 => self.read_copy(scene, id, ROOT_BYTES as u32).await,
                None => match self.0.engine.size_of(&scene.roster, id).await {
                    Ok(bytes) => self.read_copy(scene, id, bytes).await,
                    Err(_) => None,
                },
            };
            self.copy_lacking(scene, &copies, || bytes, tended).await;
        }
    }

    pub(super) async fn read_copy(&self, scene: &Scene, id: ShardId, bytes: u32) -> Option<Bytes> {
        self.0.engine.get_copy(&scene.roster, id, bytes, |verdict| self.blame(verdict)).await.ok()
    }

    /// Brings copies to others where there are too few of one.
    async fn copy_lacking(
        &self,
        scene: &Scene,
        has: &[u64],
        bytes: impl FnOnce() -> Option<Bytes>,
        tended: &mut Tended,
    ) {
        let (keepers, takers) = (scene.keepers(), scene.takers());
        // Those of who leaves, or is closed, are not counted on.
        let stay = has.iter().filter(|deal| keepers.contains(deal)).count();
        let lacking = scene.wanted_copies().saturating_sub(stay);
        if lacking == 0 {
            return;
        }
        let Some(bytes) = bytes() else { return };
        let id = ShardId::of(&bytes);
        let others = (0..scene.roster.len()).filter(|at| {
            let deal = scene.roster[*at].deal;
            takers.contains(&deal) && !has.contains(&deal) && !scene.voices.declined.contains(&(deal, id))
        });
        let (mut made, mut failure) = (0, None);
        for at in others {
            if made == lacking {
                break;
            }
            let place = (scene.roster.clone(), at);
            match self.0.engine.copy_to(scene.record.shape, place, self.random(), bytes.clone(), Patience::Moment).await
            {
                Ok(held) => {
                    made += 1;
                    tended.sent_bytes += bytes.len() as u64;
                    self.owe(&[(held.ack.statement.deal, held.ack)].into());
                }
                Err(error) => {
                    failure = Some(format!("a copy: {}: {error}", scene.roster[at].peer.key));
                    self.not_taken(scene, at, error);
                }
            }
        }
        tended.failures.extend(failure.filter(|_| made < lacking));
        tended.copies += made as u64;
    }

    /// Makes stripes again, and says after some of them where their shards are.
    async fn mend(
        &self,
        Work { charge, rate, told }: &Work<'_>,
        scene: &mut Scene,
        due: Vec<Due>,
        tended: &mut Tended,
    ) -> Result<(), Fault> {
        let (mut unsaid, due) = self.find_unsaid(scene, due, *rate, tended).await;
        // Where it is not to take all of the line, it rests between a few.
        let most = if rate.is_some() { AT_ONCE } else { STRIPES_BEFORE_LAY };
        let (mut left, mut refusals) = (due.as_slice(), scene.refusals());
        // Before anything is said: those who are left may be too few to take a sheet.
        self.join_lacking(charge, scene, left, tended).await?;
        let said = self.say(scene, &mut unsaid, tended).await?;
        tended.found_shards += said.len() as u64;
        Arc::make_mut(&mut scene.overlay).extend(said);
        while !left.is_empty() {
            // Again once somebody took nothing.
            if refusals != scene.refusals() {
                refusals = scene.refusals();
                self.join_lacking(charge, scene, left, tended).await?;
            }
            let (batch, later) = left.split_at(most.min(left.len()));
            left = later;
            let made = stream::iter(batch.iter().map(|due| self.make(charge, scene, due).boxed()).collect::<Vec<_>>());
            let made: Vec<_> = made.buffer_unordered(AT_ONCE).collect().await;
            let before = tended.read_bytes;
            for made in made {
                match made {
                    Ok(made) => {
                        tended.read_bytes += made.read_bytes;
                        tended.sent_bytes += made.sent_bytes;
                        tended.restored_stripes += u64::from(made.pairs.len() > made.moved);
                        tended.restored_shards += (made.pairs.len() - made.moved) as u64;
                        tended.moved_shards += made.moved as u64;
                        tended.doubted_shards += made.doubted as u64;
                        tended.failures.extend(made.failure);
                        unsaid.extend(made.pairs);
                    }
                    Err(why) => _ = tended.failures.insert(why),
                }
            }
            self.say(scene, &mut unsaid, tended).await?;
            tended.tried += batch.len() as u64;
            told(Step::Mended { done: tended.tried, of: tended.due - tended.left });
            self.rest(*rate, tended.read_bytes - before).await;
        }
        Ok(())
    }

    /// Says where these are, and gives those of which it is said. Where too few take a sheet the others stay unsaid: what
    /// lacks is made all the same, and the next look finds it with who has it.
    async fn say(
        &self,
        scene: &Scene,
        unsaid: &mut Vec<(ShardId, u64)>,
        tended: &mut Tended,
    ) -> Result<Vec<(ShardId, u64)>, Fault> {
        let mut said = Vec::new();
        while !unsaid.is_empty() {
            let some = unsaid.len().min(PAIRS_MAX);
            match self.lay(&scene.record, &unsaid[..some]).await {
                Ok(()) => said.extend(unsaid.drain(..some)),
                Err(error @ (Fault::Put(_) | Fault::Get(_) | Fault::Index(_))) => {
                    tended.failures.insert(format!("where shards are now is not said yet: {error}"));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(said)
    }

    /// Rests for as long as so many bytes take at a rate, in bytes a second.
    pub(super) async fn rest(&self, rate: Option<u64>, read_bytes: u64) {
        if let Some(rate) = rate.filter(|_| read_bytes > 0) {
            self.0.context.sleep(Duration::from_secs_f64(read_bytes as f64 / rate.max(1) as f64)).await;
        }
    }

    /// Places for what a stripe lacks, as many as the caps allow: (shard, index in the roster).
    pub(super) fn seats_for(&self, scene: &Scene, due: &Due, may_double: bool) -> Vec<(u8, usize)> {
        let mut candidates: Vec<Candidate> = scene.roster.iter().map(Provider::candidate).collect();
        let takers = scene.takers();
        let refuses = |slot: usize, node: &NodeKey| {
            let takes = |deal: u64| takers.contains(&deal) && !due.declined.contains(&(slot as u8, deal));
            !scene.roster.iter().any(|provider| provider.peer.key == *node && takes(provider.deal))
        };
        let slots: Vec<usize> = (0..due.page.n)
            .map(|shard| {
                let there = due.there.iter().find(|(known, _)| *known == shard).map(|(_, deal)| *deal);
                // Who declined it does not return with it.
                let named = due.page.holder(due.at, shard);
                let named = named.filter(|holder| !due.declined.contains(&(shard, holder.deal)));
                let deal = there.or(named.map(|holder| holder.deal)).unwrap_or(0);
                let place = scene.roster.iter().position(|provider| provider.deal == deal);
                place.unwrap_or_else(|| {
                    // Declined, or of a deal that ended: it counts for nobody.
                    let node = named.map_or(NodeKey([0; 32]), |holder| holder.node);
                    let name = format!("gone {shard}");
                    let operator = [shard; 20];
                    candidates.push(Candidate { node, operator, network: name.clone(), zone: name });
                    candidates.len() - 1
                })
            })
            .collect();
        let lost: Vec<usize> = due.lost.iter().map(|shard| usize::from(*shard)).collect();
        let shape = scene.shape(&due.page);
        let seed: [u8; 32] = self.random();
        let found = seats(&shape, &candidates, &slots, &lost, refuses, &seed, may_double);
        let in_roster = found.into_iter().filter(|(_, at)| *at < scene.roster.len());
        in_roster.map(|(shard, at)| (shard as u8, at)).collect()
    }

    /// Others first; where none can be had, some of those who are left hold two of a stripe.
    async fn join_lacking(
        &self,
        charge: &Charge,
        scene: &mut Scene,
        due: &[Due],
        tended: &mut Tended,
    ) -> Result<(), Fault> {
        let wanting = |scene: &Scene, may_double| {
            let lacks = |due: &Due| due.lost.len() - self.seats_for(scene, due, may_double).len();
            due.iter().map(lacks).max().unwrap_or(0)
        };
        let others = wanting(scene, false);
        if others == 0 {
            return Ok(());
        }
        if scene.joins == JOINS_MAX {
            if wanting(scene, true) > 0 {
                let why =
                    format!("deals were opened {JOINS_MAX} times at this look, and some refuse what they are brought");
                tended.failures.insert(why);
            }
            return Ok(());
        }
        let joined = match self.join_others(charge, scene, others, tended).await {
            // Who is left may take some all the same.
            Err(error @ (Fault::Market(_) | Fault::Reverted(_))) => Err(format!("no deal is opened: {error}")),
            joined => joined?,
        };
        if let Err(why) = joined
            && wanting(scene, true) > 0
        {
            tended.failures.insert(why);
        }
        Ok(())
    }

    /// Opens deals with others from the bucket's reserve; `Ok(Err)` says why none could be opened.
    async fn join_others(
        &self,
        charge: &Charge,
        scene: &mut Scene,
        wanting: usize,
        tended: &mut Tended,
    ) -> Result<Result<(), String>, Fault> {
        let record = scene.record.clone();
        // What the fullest one holds, and as much again; not what was once promised to each.
        let most = |bytes: fn(&IDeals::Deal) -> u64| scene.seats.iter().map(|seat| bytes(&seat.deal.state)).max();
        let held = most(|deal| deal.leaves * LEAF_BYTES).unwrap_or(0).saturating_mul(HEADROOM);
        let room = held.min(most(|deal| deal.capacityBytes).unwrap_or(0)).max(DEAL_BYTES_MIN);
        let known: BTreeSet<NodeKey> = scene.seats.iter().map(|seat| seat.node()).collect();
        let offers = self.offers().await?;
        let mut offered: Vec<&Offer> = offers.iter().filter(usable).collect();
        offered.retain(|offer| !known.contains(&offer.node) && offer.free_bytes() >= room);
        let allowed = match offered.is_empty() {
            true => Some(Allowed::Anywhere),
            false => self.allowed(charge, scene).await?,
        };
        let Some(allowed) = allowed else {
            let why = "nobody gives the index's root, which says where the owner allows others";
            return Ok(Err(format!("{wanting} others are needed, and {why}")));
        };
        offered.retain(|offer| allowed.has(offer));
        let offered = self.present(&record, offered, wanting).await?;
        // Who merely rests keeps what it has, and its place.
        let staying: Vec<&Offer> =
            scene.seats.iter().filter(|seat| seat.stays()).map(|seat| &seat.deal.offer).collect();
        let chosen = match choose(&record.shape, &staying, &offered, wanting) {
            Ok(chosen) if !chosen.is_empty() => chosen,
            Ok(_) | Err(_) if offered.is_empty() => {
                let mib = room.div_ceil(1 << 20);
                return Ok(Err(format!(
                    "{wanting} others are needed, and nobody who answers offers {mib} MiB{allowed}"
                )));
            }
            Ok(_) => return Ok(Err("those who offer room would hold too much of a stripe".into())),
            Err(error) => {
                let count = offered.len();
                return Ok(Err(format!("{count} others offer room{allowed}, which is not enough: {error}")));
            }
        };
        let reserve = self.reserve(record.id).await?;
        let cost = |windows: u64| -> U256 { chosen.iter().map(|offer| U256::from(escrow(offer, room, windows))).sum() };
        let Some(windows) = (1..=WINDOWS_AHEAD).rev().find(|windows| cost(*windows) <= reserve) else {
            let (count, needs) = (chosen.len(), format_coins(cost(WINDOWS_AHEAD)));
            let has = format_coins(reserve);
            return Ok(Err(format!(
                "{count} new deals are needed: {needs} coins for {WINDOWS_AHEAD} windows, the bucket's reserve has {has}"
            )));
        };
        let part = |offer: &&Offer| Part {
            offer: (*offer).clone(),
            capacity_bytes: room,
            escrow: escrow(offer, room, windows),
        };
        let parts: Vec<Part> = chosen.iter().map(part).collect();
        let count = parts.len() as u64;
        scene.joins += 1;
        self.0.buckets.open_reserved(record.id, parts).await?;
        tended.new_deals += count;
        tended.escrow += cost(windows);
        self.forget_roster(record.id);
        let record = self.0.buckets.read(record.id).await?.unwrap_or(record);
        let Voices { there, declined, .. } = std::mem::replace(&mut scene.voices, Voices::of(&[]));
        let silent: BTreeSet<u64> = scene.seats.iter().filter(|seat| !seat.answers).map(|seat| seat.deal.id).collect();
        scene.roster = self.roster(&record).await?;
        // Who was silent before is not waited for again.
        let heard: Vec<Provider> =
            scene.roster.iter().filter(|provider| !silent.contains(&provider.deal)).cloned().collect();
        scene.seats = self.seats(&record, &heard, &[]).await?;
        scene.voices = Voices { there, declined, ..Voices::of(&scene.seats) };
        scene.record = record;
        Ok(Ok(()))
    }
}

/// How stripes are made again.
struct Work<'a> {
    charge: &'a Charge,
    rate: Option<u64>,
    told: &'a (dyn Fn(Step) + Send + Sync),
}
