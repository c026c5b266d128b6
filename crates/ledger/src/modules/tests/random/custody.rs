//! Throw the calls of custodians in, and of those who pay them.

use alloy_consensus::Transaction as _;
use hodei_types::abi::LEAVES_PER_GIB;

use super::*;
use crate::{execute::Signed, modules::tests::world};

/// What is common: a thousandth of a coin a leaf.
const PER_GIB: u128 = COIN / 1000 * LEAVES_PER_GIB as u128;
const DAY_MS: u64 = 86_400_000;

/// What was set of wages, and paid.
#[derive(Default)]
pub(super) struct Wages {
    /// By bucket: wei per GiB and the day's most, as set last.
    set: BTreeMap<B256, (u128, u128)>,
    /// By bucket and day.
    paid: BTreeMap<(B256, u64), U256>,
    earned: BTreeMap<(B256, Address), U256>,
    pub(super) count: u32,
}

impl Wages {
    /// Each of these buckets begins with a custodian, a wage and a reserve.
    pub(super) fn begin(world: &mut World, buckets: &[(Address, B256)], custodian: Address) -> Self {
        let mut wages = Self::default();
        for (owner, id) in buckets.iter().copied() {
            world.must(owner, BUCKETS, 0, IBuckets::appointCall { id, custodian }.abi_encode());
            let call = IDeals::setWageCall { bucket: id, perGib: PER_GIB, perDay: COIN };
            world.must(owner, DEALS, 0, call.abi_encode());
            world.must(owner, DEALS, COIN, IDeals::fundCall { bucket: id }.abi_encode());
            wages.set.insert(id, (PER_GIB, COIN));
        }
        wages
    }
}

impl Game {
    /// What owners and custodians try of their own accord at this block, by no dice: custodians may end deals from a
    /// while after the start on, and end what lies with who retired.
    pub(super) fn releases(&self, block: u64) -> Vec<(Address, Vec<u8>)> {
        if block == 20 {
            let known = self.buckets.iter().filter_map(|id| self.bucket(*id)).take(3);
            let allow = |id| IDeals::setReleaseCall { bucket: id, allowed: true }.abi_encode();
            return known.map(|bucket| (bucket.owner, allow(bucket.id))).collect();
        }
        if !block.is_multiple_of(8) {
            return Vec::new();
        }
        let open = self.deals.iter().map(|(deal, ..)| self.deal(*deal)).filter(|deal| deal.state == 1);
        let has_retired =
            |deal: &IDeals::Deal| self.world.view(PROVIDERS, IProviders::getCall { node: deal.provider }).retired;
        let ends = open.filter(has_retired).filter_map(|deal| {
            let named = self.world.view(BUCKETS, IBuckets::custodiansCall { id: deal.bucket });
            Some((*named.first()?, IDeals::closeCall { deals: vec![deal.id] }.abi_encode()))
        });
        ends.take(2).collect()
    }

    /// One random call about a bucket's custodians or its reserve; mostly by who may.
    pub(super) fn custody(&mut self, from: Address, node: B256, amount: u128) -> (Address, Address, u128, Vec<u8>) {
        let (deal, host, owner) = self.dice.pick(&self.deals);
        let bucket = match self.dice.below(4) {
            0 => self.deal(deal).bucket,
            1 => self.dice.pick(&self.buckets),
            // The first that was made in this game: much has to meet in one bucket.
            _ => self.buckets.get(3).copied().unwrap_or(self.buckets[0]),
        };
        let Some(IBuckets::Bucket { id, owner: side, overlay, .. }) = self.bucket(bucket) else {
            return (from, DEALS, amount, IDeals::fundCall { bucket }.abi_encode());
        };
        let named = self.world.view(BUCKETS, IBuckets::custodiansCall { id });
        let is_stranger = self.dice.below(6) == 0;
        let side = if is_stranger { from } else { side };
        let by = if is_stranger || named.is_empty() { from } else { self.dice.pick(&named) };
        let custodian = self.people[self.dice.below(4) as usize].address;
        let step = if named.is_empty() && !is_stranger { 0 } else { self.dice.below(20) };
        match step {
            0..=1 => (side, BUCKETS, 0, IBuckets::appointCall { id, custodian }.abi_encode()),
            2 => (side, BUCKETS, 0, IBuckets::dismissCall { id, custodian: by }.abi_encode()),
            3 => {
                let word = |n: u64| B256::from(U256::from(n));
                let expected = if self.dice.below(4) == 0 { word(self.dice.below(3)) } else { overlay };
                (by, BUCKETS, 0, IBuckets::layCall { id, expected, overlay: word(self.dice.below(3)) }.abi_encode())
            }
            4..=7 => (from, DEALS, amount, IDeals::fundCall { bucket }.abi_encode()),
            8 => {
                let amount = if self.dice.below(4) == 0 { U256::MAX } else { U256::from(amount) };
                (side, DEALS, 0, IDeals::withdrawCall { bucket, amount }.abi_encode())
            }
            9..=12 => {
                // One of the bucket's own, where it has any.
                let is_own = |deal: &IDeals::Deal| deal.bucket == id && deal.state == 1;
                let own = self.deals.iter().copied().filter(|(deal, ..)| is_own(&self.deal(*deal)));
                let own: Vec<_> = own.collect();
                let (deal, host, owner) = if own.is_empty() { (deal, host, owner) } else { self.dice.pick(&own) };
                let mut post = self.hosts[host].add(deal, 4, &self.people[owner]);
                post.ownerSignature = Bytes::new();
                (by, DEALS, 0, IDeals::postCall { posts: vec![post] }.abi_encode())
            }
            13..=14 => {
                let per_gib = self.dice.pick(&[0, 1, PER_GIB, PER_GIB, u128::MAX]);
                let per_day = self.dice.pick(&[0, COIN / 500, COIN, u128::MAX]);
                (side, DEALS, 0, IDeals::setWageCall { bucket, perGib: per_gib, perDay: per_day }.abi_encode())
            }
            _ => {
                let escrow = amount / 30;
                let terms = vec![IDeals::Terms { provider: node, capacityBytes: 1 << 20, priceMax: COIN, escrow }];
                let value = escrow / u128::from(1 + self.dice.below(3));
                (by, DEALS, value, IDeals::openCall { bucket, terms }.abi_encode())
            }
        }
    }

    /// Books what releases and who retired a transaction tells of, and sees that who ended a deal and is neither its owner's side nor its
    /// provider's operator might: it was allowed, the provider retired, and nothing kept.
    pub(super) fn learn_ends(&mut self, tx: &Signed, applied: &crate::execute::Applied) {
        let of = |module| applied.logs.iter().filter(|log| log.address == module).cloned().collect::<Vec<_>>();
        for removed in world::events::<IBuckets::Removed>(&of(BUCKETS)) {
            self.allowed.remove(&removed.id);
        }
        for registered in world::events::<IProviders::Registered>(&of(PROVIDERS)) {
            self.retired.remove(&registered.node);
        }
        self.retired.extend(world::events::<IProviders::Retired>(&of(PROVIDERS)).iter().map(|retired| retired.node));
        let logs = of(DEALS);
        for set in world::events::<IDeals::ReleaseSet>(&logs) {
            if set.allowed {
                self.allowed.insert(set.bucket)
            } else {
                self.allowed.remove(&set.bucket)
            };
        }
        let call = IDeals::closeCall::abi_decode(tx.envelope.input()).ok();
        let Some(call) = call.filter(|_| applied.success && tx.envelope.to() == Some(DEALS)) else { return };
        let ended = world::events::<IDeals::Ended>(&logs).into_iter().map(|ended| ended.deal);
        let closing = world::events::<IDeals::Closing>(&logs).into_iter().map(|closing| closing.deal);
        for id in ended.chain(closing).filter(|id| call.deals.contains(id)) {
            let deal = self.deal(id);
            let side = self.world.view(BUDGETS, IBudgets::ownerOfCall { spender: tx.sender });
            let host = self.hosts.iter().find(|host| host.node == deal.provider).expect("one of ours");
            if [tx.sender, side].contains(&deal.owner) || host.operator.address == tx.sender {
                continue;
            }
            assert!(self.allowed.contains(&deal.bucket), "nobody allowed a custodian to end deal {id}");
            assert!(self.retired.contains(&deal.provider), "who has deal {id} did not retire");
            let now_ms = self.world.env.time_ms;
            let is_kept = self.kept.iter().any(|((of, _), until_ms)| *of == deal.bucket && *until_ms > now_ms);
            assert!(!is_kept, "deal {id} is kept");
            self.released += 1;
        }
    }

    /// Books what wages a transaction set and paid, and that each was the sender's and within what was set.
    pub(super) fn learn_wages(&mut self, sender: Address, logs: &[alloy_primitives::Log]) {
        let of = |module| logs.iter().filter(|log| log.address == module).cloned().collect::<Vec<_>>();
        for removed in world::events::<IBuckets::Removed>(&of(BUCKETS)) {
            self.wages.set.remove(&removed.id);
            self.wages.paid.retain(|(id, _), _| *id != removed.id);
        }
        let logs = of(DEALS);
        for set in world::events::<IDeals::WageSet>(&logs) {
            self.wages.set.insert(set.bucket, (set.perGib, set.perDay));
        }
        for paid in world::events::<IDeals::WagePaid>(&logs) {
            let (per_gib, per_day) = self.wages.set[&paid.bucket];
            let due = U256::from(paid.leaves) * U256::from(per_gib) / U256::from(LEAVES_PER_GIB);
            assert!(!paid.amount.is_zero() && paid.amount <= due);
            assert_eq!(paid.custodian, sender);
            let day = self.world.env.time_ms / DAY_MS;
            let today = self.wages.paid.entry((paid.bucket, day)).or_default();
            *today += paid.amount;
            assert!(*today <= U256::from(per_day), "more than the day's most");
            *self.wages.earned.entry((paid.bucket, sender)).or_default() += paid.amount;
            self.wages.count += 1;
        }
    }

    /// A bucket counts its custodians; one that is not there has none, no wage and no reserve. What is told of wages is
    /// what was set and paid.
    pub(super) fn check_custody(&self) {
        for ((bucket, custodian), sum) in &self.wages.earned {
            let call = IDeals::earnedCall { bucket: *bucket, custodian: *custodian };
            assert_eq!(self.world.view(DEALS, call), *sum);
        }
        let day = self.world.env.time_ms / DAY_MS;
        for id in self.buckets.iter().copied() {
            let wage = self.world.view(DEALS, IDeals::wageCall { bucket: id });
            let set = self.wages.set.get(&id).copied().unwrap_or_default();
            let paid = self.wages.paid.get(&(id, day)).copied().unwrap_or_default();
            assert_eq!(((wage.perGib, wage.perDay), U256::from(wage.paidToday)), (set, paid));
            let is_custodian = |account| self.world.view(BUCKETS, IBuckets::isCustodianCall { id, account });
            let named = self.people.iter().filter(|person| is_custodian(person.address)).count();
            let Some(bucket) = self.bucket(id) else {
                assert_eq!((named, self.world.view(DEALS, IDeals::reserveCall { bucket: id })), (0, U256::ZERO));
                continue;
            };
            let listed = self.world.view(BUCKETS, IBuckets::custodiansCall { id });
            assert_eq!((listed.len(), bucket.custodians), (named, named as u64));
            assert!(!listed.contains(&bucket.owner));
        }
    }
}
