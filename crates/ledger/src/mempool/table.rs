//! Hold what waits, and say what goes first: pure, ordered, bounded.
//!
//! Upon arrival: known → refused; same nonce → replaced if both fees rose by a tenth; table full → the lowest
//! tail makes room, or the newcomer is refused. A sender's transactions leave only from the tail or by being
//! finalized, so no gap is ever made by the table itself. Gaps are kept, never offered.

use alloy_consensus::Transaction as _;
use alloy_eips::Encodable2718 as _;
use alloy_primitives::{Address, B256};
use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
};

use super::admit::{Place, Refused, afford, cost, tip, tip_at};
use crate::execute::{Account, Signed};

/// What the table may hold.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    pub txs_max: usize,
    pub bytes_max: usize,
    /// Per sender, and how far a nonce may be ahead of the account's.
    pub sender_txs_max: usize,
}

impl Default for Caps {
    /// 64 MiB is a minute of full blocks; 64 of one sender is geth's sum of its two per-account limits.
    fn default() -> Self {
        Self { txs_max: 32_768, bytes_max: 64 << 20, sender_txs_max: 64 }
    }
}

/// Offered this often without being included, a transaction stops waking proposers; it may still be chosen.
const OFFERS_MAX: u32 = 64;

struct Entry {
    tx: Arc<Signed>,
    bytes: usize,
    offers: u32,
    /// The height of a block that holds it and is not final yet; 0 if none is known.
    carried: u64,
}

struct Queue {
    account: Account,
    txs: BTreeMap<u64, Entry>,
    /// The first nonce from the account's on that no block is known to hold.
    next: u64,
}

impl Queue {
    fn tail(&self) -> Option<(u64, &Entry)> {
        self.txs.last_key_value().map(|(nonce, entry)| (*nonce, entry))
    }

    /// Whether the next transaction of the account is here.
    fn is_ready(&self) -> bool {
        self.txs.contains_key(&self.account.nonce)
    }

    /// Finds `next` again; no more than a sender's cap of steps.
    fn advance(&mut self) {
        self.next = self.account.nonce;
        while self.txs.get(&self.next).is_some_and(|entry| entry.carried > 0) {
            self.next += 1;
        }
    }

    /// Whether a proposer should not wait for the heartbeat: one that pays a tip can go, or what is before it.
    fn hurries(&self) -> bool {
        let going = self.txs.range(self.next..).zip(self.next..).take_while(|((nonce, _), next)| *nonce == next);
        going.into_iter().any(|((_, entry), _)| tip(&entry.tx.envelope) > 0)
    }

    /// Gapped tails go before contiguous ones, then the lowest tip, then the address.
    fn rank(&self, sender: Address) -> Option<Rank> {
        let (nonce, entry) = self.tail()?;
        let contiguous = self.is_ready() && nonce - self.account.nonce + 1 == self.txs.len() as u64;
        Some((contiguous, tip(&entry.tx.envelope), sender))
    }
}

type Rank = (bool, u128, Address);

/// All waiting transactions.
pub struct Table {
    caps: Caps,
    queues: BTreeMap<Address, Queue>,
    places: BTreeMap<B256, Place>,
    tails: BTreeSet<Rank>,
    /// Senders whose next transaction is here and in no block yet.
    ready: BTreeSet<Address>,
    /// Those of them that pay for not waiting.
    hurried: BTreeSet<Address>,
    /// Carried entries by the height of their block.
    carried: BTreeSet<(u64, B256)>,
    bytes: usize,
}

/// What an insertion pushed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Same sender and nonce, lower fees.
    pub replaced: Option<B256>,
    pub evicted: Vec<B256>,
}

impl Table {
    pub fn new(caps: Caps) -> Self {
        Self {
            caps,
            queues: BTreeMap::new(),
            places: BTreeMap::new(),
            tails: BTreeSet::new(),
            ready: BTreeSet::new(),
            hurried: BTreeSet::new(),
            carried: BTreeSet::new(),
            bytes: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Sum of the encoded sizes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn get(&self, hash: &B256) -> Option<&Arc<Signed>> {
        let place = self.places.get(hash)?;
        Some(&self.queues.get(&place.sender)?.txs.get(&place.nonce)?.tx)
    }

    /// All senders after `from`, at most `limit`, for revalidation in rounds.
    pub fn senders_after(&self, from: Address, limit: usize) -> Vec<Address> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.queues.range((Excluded(from), Unbounded)).take(limit).map(|(sender, _)| *sender).collect()
    }

    /// The nonce after the last contiguous one waiting, if any waits.
    pub fn next_nonce(&self, sender: Address) -> Option<u64> {
        let queue = self.queues.get(&sender)?;
        let mut next = queue.account.nonce;
        while queue.txs.contains_key(&next) {
            next += 1;
        }
        (next > queue.account.nonce).then_some(next)
    }

    /// Whether a proposer has anything to do that cannot wait for the heartbeat. What pays no tip can.
    pub fn has_work(&self) -> bool {
        self.hurried.iter().any(|sender| {
            let queue = &self.queues[sender];
            queue.txs.get(&queue.next).is_some_and(|entry| entry.offers < OFFERS_MAX)
        })
    }

    /// Takes in a checked transaction, `account` being its sender's finalized one.
    pub fn insert(&mut self, tx: Arc<Signed>, account: Account) -> Result<Inserted, Refused> {
        if self.places.contains_key(&tx.hash) {
            return Err(Refused::Known);
        }
        self.revalidate(tx.sender, account);
        afford(&tx, &account, self.caps.sender_txs_max as u64)?;
        let place = Place::of(&tx);
        let entry = Entry { bytes: tx.envelope.encode_2718_len(), tx, offers: 0, carried: 0 };
        let queue = self.queues.get(&place.sender);
        let old = queue.and_then(|queue| queue.txs.get(&place.nonce)).map(|old| (old.tx.clone(), old.bytes));
        let mut inserted = Inserted::default();
        if let Some((old, _)) = &old {
            let raised = |before: u128, after: u128| after >= before.saturating_add(before.div_ceil(10)).max(1);
            let (before, after) = (&old.envelope, &entry.tx.envelope);
            if !raised(before.max_fee_per_gas(), after.max_fee_per_gas()) || !raised(tip(before), tip(after)) {
                return Err(Refused::Replacement);
            }
            inserted.replaced = Some(old.hash);
        } else if queue.is_some_and(|queue| queue.txs.len() >= self.caps.sender_txs_max) {
            return Err(Refused::AccountLimit);
        }
        inserted.evicted = self.make_room(&entry, &place, old.map_or(0, |(_, bytes)| bytes))?;
        self.put(place, entry, account);
        Ok(inserted)
    }

    /// Frees what `entry` needs beyond `freed` bytes, from the lowest tails of others; all or nothing.
    fn make_room(&mut self, entry: &Entry, place: &Place, freed: usize) -> Result<Vec<B256>, Refused> {
        let slots = usize::from(freed == 0);
        let mut victims = Vec::new();
        let mut removed = Vec::new();
        while self.places.len() + slots > self.caps.txs_max || self.bytes - freed + entry.bytes > self.caps.bytes_max {
            let lowest = self.tails.iter().find(|(_, _, sender)| *sender != place.sender).copied();
            let beaten = lowest.filter(|(contiguous, price, _)| !contiguous || *price < tip(&entry.tx.envelope));
            let Some((_, _, sender)) = beaten else {
                for (place, entry, account) in removed {
                    self.put(place, entry, account);
                }
                return Err(Refused::Full);
            };
            let queue = &self.queues[&sender];
            let account = queue.account;
            let (nonce, _) = queue.tail().expect("a ranked queue has a tail");
            let victim = Place { sender, nonce };
            let entry = self.take(&victim).expect("a tail is in its queue");
            victims.push(entry.tx.hash);
            removed.push((victim, entry, account));
        }
        Ok(victims)
    }

    /// Takes note of an account's finalized state: drops what is stale or no longer affordable.
    pub fn revalidate(&mut self, sender: Address, account: Account) -> Vec<B256> {
        let Some(queue) = self.queues.get(&sender) else { return Vec::new() };
        // An answer read before the last finalization must not bring back an older nonce.
        let account = if account.nonce < queue.account.nonce { queue.account } else { account };
        let dropped: Vec<_> = queue
            .txs
            .iter()
            .filter(|(nonce, entry)| **nonce < account.nonce || cost(&entry.tx.envelope) > account.balance)
            .map(|(nonce, entry)| (*nonce, entry.tx.hash))
            .collect();
        for (nonce, _) in &dropped {
            self.take(&Place { sender, nonce: *nonce });
        }
        self.update(sender, |queue| queue.account = account);
        dropped.into_iter().map(|(_, hash)| hash).collect()
    }

    /// Drops one transaction, whatever follows it.
    pub fn remove(&mut self, hash: &B256) -> Option<Arc<Signed>> {
        let place = *self.places.get(hash)?;
        self.take(&place).map(|entry| entry.tx)
    }

    /// The best transactions that fit, best tip first, each sender's in nonce order without gaps.
    ///
    /// They begin after what blocks that are not final yet hold. Upon a proposal beside such a block, and not
    /// after it, the executor leaves out what does not follow; it is offered again when the height is final.
    pub fn choose(&mut self, base_fee: u64, txs_max: usize, bytes_max: usize) -> Vec<Arc<Signed>> {
        let mut heap: BinaryHeap<(u128, Address, u64)> = BinaryHeap::new();
        let price =
            |queue: &Queue, nonce| queue.txs.get(&nonce).and_then(|entry: &Entry| tip_at(&entry.tx.envelope, base_fee));
        for sender in &self.ready {
            let queue = &self.queues[sender];
            let nonce = queue.next;
            heap.extend(price(queue, nonce).map(|tip| (tip, *sender, nonce)));
        }
        let (mut chosen, mut bytes) = (Vec::new(), 0);
        while let Some((_, sender, nonce)) = heap.pop() {
            let queue = self.queues.get_mut(&sender).expect("ready senders have a queue");
            let entry = queue.txs.get_mut(&nonce).expect("priced entries are there");
            if chosen.len() == txs_max {
                break;
            }
            if bytes + entry.bytes > bytes_max {
                continue;
            }
            bytes += entry.bytes;
            entry.offers = entry.offers.saturating_add(1);
            chosen.push(entry.tx.clone());
            heap.extend(price(queue, nonce + 1).map(|tip| (tip, sender, nonce + 1)));
        }
        chosen
    }

    /// Takes note that a block of `height` holds these and may become final.
    pub fn carry(&mut self, height: u64, hashes: &[B256]) {
        self.mark(hashes, height);
    }

    /// Upon a final block at `height`, itself removed already: what blocks beside it held waits again.
    pub fn release(&mut self, height: u64) {
        let after = (height + 1, B256::ZERO);
        let kept = self.carried.split_off(&after);
        let lost: Vec<B256> = std::mem::replace(&mut self.carried, kept).into_iter().map(|(_, hash)| hash).collect();
        self.mark(&lost, 0);
    }

    fn mark(&mut self, hashes: &[B256], height: u64) {
        let mut by_sender: BTreeMap<Address, Vec<u64>> = BTreeMap::new();
        for place in hashes.iter().filter_map(|hash| self.places.get(hash)) {
            by_sender.entry(place.sender).or_default().push(place.nonce);
        }
        for (sender, nonces) in by_sender {
            let mut moved = Vec::new();
            self.update(sender, |queue| {
                for nonce in nonces {
                    let Some(entry) = queue.txs.get_mut(&nonce) else { continue };
                    moved.push((entry.tx.hash, entry.carried));
                    entry.carried = height;
                }
            });
            for (hash, before) in moved {
                self.carried.remove(&(before, hash));
                if height > 0 {
                    self.carried.insert((height, hash));
                }
            }
        }
    }

    fn put(&mut self, place: Place, entry: Entry, account: Account) {
        self.bytes += entry.bytes;
        self.places.insert(entry.tx.hash, place);
        self.queues.entry(place.sender).or_insert_with(|| Queue { account, txs: BTreeMap::new(), next: account.nonce });
        let old = self.update(place.sender, |queue| queue.txs.insert(place.nonce, entry)).flatten();
        if let Some(old) = old {
            self.bytes -= old.bytes;
            self.places.remove(&old.tx.hash);
            self.carried.remove(&(old.carried, old.tx.hash));
        }
    }

    fn take(&mut self, place: &Place) -> Option<Entry> {
        let entry = self.update(place.sender, |queue| queue.txs.remove(&place.nonce)).flatten()?;
        self.bytes -= entry.bytes;
        self.places.remove(&entry.tx.hash);
        self.carried.remove(&(entry.carried, entry.tx.hash));
        Some(entry)
    }

    /// Changes a queue and keeps what is derived of it true.
    fn update<T>(&mut self, sender: Address, change: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        let queue = self.queues.get_mut(&sender)?;
        if let Some(rank) = queue.rank(sender) {
            self.tails.remove(&rank);
        }
        let changed = change(queue);
        queue.advance();
        match queue.rank(sender) {
            Some(rank) => {
                self.tails.insert(rank);
                if queue.txs.contains_key(&queue.next) {
                    self.ready.insert(sender)
                } else {
                    self.ready.remove(&sender)
                };
                if queue.hurries() {
                    self.hurried.insert(sender)
                } else {
                    self.hurried.remove(&sender)
                };
            }
            None => {
                self.queues.remove(&sender);
                self.ready.remove(&sender);
                self.hurried.remove(&sender);
            }
        }
        Some(changed)
    }
}

#[cfg(test)]
mod tests;
