//! Throw the calls of custodians in, and of those who pay them.

use super::*;

impl Game {
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
        let step = if named.is_empty() && !is_stranger { 0 } else { self.dice.below(12) };
        match step {
            0..=1 => (side, BUCKETS, 0, IBuckets::appointCall { id, custodian }.abi_encode()),
            2 => (side, BUCKETS, 0, IBuckets::dismissCall { id, custodian: by }.abi_encode()),
            3 => {
                let word = |n: u64| B256::from(U256::from(n));
                let expected = if self.dice.below(4) == 0 { word(self.dice.below(3)) } else { overlay };
                (by, BUCKETS, 0, IBuckets::layCall { id, expected, overlay: word(self.dice.below(3)) }.abi_encode())
            }
            4..=6 => (from, DEALS, amount, IDeals::fundCall { bucket }.abi_encode()),
            7 => {
                let amount = if self.dice.below(4) == 0 { U256::MAX } else { U256::from(amount) };
                (side, DEALS, 0, IDeals::withdrawCall { bucket, amount }.abi_encode())
            }
            8 => {
                let mut post = self.hosts[host].add(deal, 4, &self.people[owner]);
                post.ownerSignature = Bytes::new();
                (by, DEALS, 0, IDeals::postCall { posts: vec![post] }.abi_encode())
            }
            _ => {
                let escrow = amount / 30;
                let terms = vec![IDeals::Terms { provider: node, capacityBytes: 1 << 20, priceMax: COIN, escrow }];
                let value = escrow / u128::from(1 + self.dice.below(3));
                (by, DEALS, value, IDeals::openCall { bucket, terms }.abi_encode())
            }
        }
    }

    /// A bucket counts its custodians; one that is not there has none, and no reserve.
    pub(super) fn check_custody(&self) {
        for id in self.buckets.iter().copied() {
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
