//! Restore what a bucket's providers lost while its owner is away.
//!
//! ```text
//! owner       appoint an account, give it the care key, fill the bucket's reserve
//! custodian   look what providers hold → count each stripe → what lacks too much: k shards → made again → other
//!             providers, deals with them paid from the reserve → roots posted, overlay laid
//! reader      a page's holders, and whom the overlay names
//! ```
//! A custodian sees shards, pages and pads; it has no key to a name or a byte of an object. On the ledger it can open
//! deals from the reserve and add to deals; it can shrink, swap or keep nothing, end no deal but one with a provider that
//! leaves, where the owner allows it, whose escrow is then the reserve's, and providers release nothing for it.
//! Of several each has its rank: the later ones step in where the earlier ones did not. For what its posts add to deals
//! each has the bucket's wage, where the owner set one.

mod again;
mod charge;
mod count;
mod leave;
mod look;
mod make;
mod mend;
mod overlay;
mod posted;
mod regions;
mod tended;
mod wage;

pub use charge::Charge;
pub use look::Notes;
pub(crate) use overlay::Overlays;
pub use tended::{SETTLES, Step, Tended};
pub use wage::Wage;
pub(crate) use wage::Wages;

use crate::{
    bucket::Record,
    cloud::{Cloud, Runtime},
    fault::Fault,
};
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_ledger::account::max_fee_per_gas;
use hodei_storage::{overlay::Overlay, seal::Secret};
use hodei_types::{
    abi::{BUCKETS, DEALS, IBuckets, IDeals},
    call::ask,
    event::Kind,
    slice::ShardId,
    transport::Transport,
};
use std::collections::BTreeSet;

/// Gas of naming a custodian, or of moving coin to or from a reserve.
const GAS: u64 = 500_000;

/// Places that an overlay tells of, and shards that have them.
fn laid(overlay: &Overlay) -> (u64, u64) {
    let shards: BTreeSet<ShardId> = overlay.pairs().map(|(id, _)| id).collect();
    (overlay.pairs().count() as u64, shards.len() as u64)
}

/// Wei that so many changes offer for gas at a base fee.
fn fees(changes: u64, base_fee: u64) -> U256 {
    U256::from(GAS) * U256::from(max_fee_per_gas(base_fee)) * U256::from(changes)
}

/// Who looks after a bucket, and what it may spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custody {
    pub bucket: B256,
    pub custodians: Vec<Address>,
    /// Wei that each of them was paid, ever, in the same order.
    pub earned: Vec<U256>,
    /// What they are paid, and wei of it today.
    pub wage: Wage,
    pub paid_today: u128,
    /// Whether they may end the bucket's deals with providers that leave.
    pub may_release: bool,
    /// Wei in the bucket's reserve: what custodians may put into new deals, and what they are paid of.
    pub reserve: U256,
    /// Places of shards that no page names yet, whether custodians restored them there or they were brought there to even
    /// the bucket out.
    pub restored: u64,
    /// Shards that have such places, each counted once.
    pub elsewhere: u64,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// What lets a custodian take the pads off a bucket's shards.
    pub(crate) fn care(&self, bucket: B256) -> Secret {
        self.secret(bucket).derive("hodei 2026-11 bucket care key v1", bucket.as_slice())
    }

    /// Who looks after a bucket.
    pub async fn custody(&self, bucket: &str) -> Result<Custody, Fault> {
        let record = self.live(bucket).await?;
        let chain = &**self.0.wallet.chain();
        let custodians = ask(chain, BUCKETS, &IBuckets::custodiansCall { id: record.id }).await?;
        let mut earned = Vec::new();
        for custodian in custodians.iter().copied() {
            earned.push(ask(chain, DEALS, &IDeals::earnedCall { bucket: record.id, custodian }).await?);
        }
        let (wage, paid_today) = self.wage(record.id).await?;
        let reserve = self.reserve(record.id).await?;
        let may_release = self.may_release(record.id).await?;
        let roster = self.roster(&record).await?;
        let overlay = self.overlay(record.id, record.state.overlay, &roster).await;
        let (restored, elsewhere) = laid(&overlay);
        Ok(Custody {
            bucket: record.id,
            custodians,
            earned,
            wage,
            paid_today,
            may_release,
            reserve,
            restored,
            elsewhere,
        })
    }

    /// Wei that so many changes of who looks after a bucket, of their pay or of the reserve cost in fees at most, now: what
    /// must be there for them to be taken, and more than is paid in the end.
    pub async fn care_fees(&self, changes: u64) -> Result<U256, Fault> {
        let head = self.0.wallet.chain().head().await?;
        Ok(fees(changes, head.base_fee))
    }

    /// Wei in a bucket's reserve.
    async fn reserve(&self, bucket: B256) -> Result<U256, Fault> {
        Ok(ask(&**self.0.wallet.chain(), DEALS, &IDeals::reserveCall { bucket }).await?)
    }

    /// The word that a custodian of the bucket needs, once it is appointed.
    pub async fn charge(&self, bucket: &str) -> Result<Charge, Fault> {
        let id = self.live(bucket).await?.id;
        Ok(Charge { bucket: id, care: self.care(id) })
    }

    /// Names a custodian, unless it is one, sets what all of the bucket's are paid, where that is given, and adds to the
    /// reserve; nobody is named where that is too much.
    pub async fn appoint(
        &self,
        bucket: &str,
        custodian: Address,
        wage: Option<Wage>,
        reserve: U256,
    ) -> Result<(), Fault> {
        let id = self.live(bucket).await?.id;
        self.0.buckets.afford(reserve).await?;
        let chain = &**self.0.wallet.chain();
        if !ask(chain, BUCKETS, &IBuckets::isCustodianCall { id, account: custodian }).await? {
            let call = IBuckets::appointCall { id, custodian };
            self.0.buckets.run(BUCKETS, call.abi_encode(), U256::ZERO, GAS).await?;
        }
        if let Some(wage) = wage {
            self.pay_custodians(id, wage).await?;
        }
        self.fund_reserve(id, reserve).await?;
        self.note(Kind::Deal, |fields| fields.text("what", "custodian").bytes("account", custodian.as_slice())).await;
        Ok(())
    }

    /// Adds to what custodians may put into new deals.
    async fn fund_reserve(&self, bucket: B256, wei: U256) -> Result<(), Fault> {
        if wei.is_zero() {
            return Ok(());
        }
        self.0.buckets.run(DEALS, IDeals::fundCall { bucket }.abi_encode(), wei, GAS).await
    }

    /// Takes what is left of a bucket's reserve back.
    pub async fn withdraw_reserve(&self, bucket: &str) -> Result<U256, Fault> {
        let bucket = self.live(bucket).await?.id;
        let reserve = self.reserve(bucket).await?;
        let call = IDeals::withdrawCall { bucket, amount: U256::MAX };
        if !reserve.is_zero() {
            self.0.buckets.run(DEALS, call.abi_encode(), U256::ZERO, GAS).await?;
        }
        Ok(reserve)
    }

    /// From now on it can do nothing more; what it restored stays.
    pub async fn dismiss(&self, bucket: &str, custodian: Address) -> Result<(), Fault> {
        let id = self.live(bucket).await?.id;
        let call = IBuckets::dismissCall { id, custodian };
        self.0.buckets.run(BUCKETS, call.abi_encode(), U256::ZERO, GAS).await?;
        self.note(Kind::Deal, |fields| fields.text("what", "dismissed").bytes("account", custodian.as_slice())).await;
        Ok(())
    }

    /// The record of a bucket in this account's care, and its rank among those that look after it.
    async fn charged(&self, charge: &Charge) -> Result<(Record, u64), Fault> {
        let record = self.0.buckets.read(charge.bucket).await?.filter(|record| record.state.root != B256::ZERO);
        let record = record.ok_or_else(|| Fault::NoBucket(charge.bucket.to_string()))?;
        let chain = &**self.0.wallet.chain();
        let all = ask(chain, BUCKETS, &IBuckets::custodiansCall { id: record.id }).await?;
        let me = self.0.wallet.spender().address();
        let rank = all.iter().position(|custodian| *custodian == me);
        let rank = rank.ok_or(Fault::NotCustodian { bucket: record.id, account: me })?;
        Ok((record, rank as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wallet::fee;

    #[test]
    fn a_shard_with_two_places_is_one_that_lies_elsewhere() {
        let mut overlay = Overlay::default();
        for (shard, deal) in [(1, 7), (1, 8), (2, 7)] {
            overlay.add(ShardId([shard; 32]), deal);
        }
        assert_eq!((laid(&overlay), laid(&Overlay::default())), ((3, 2), (0, 0)));
    }

    #[test]
    fn changes_cost_at_most_what_they_must_have_to_be_taken() {
        let base_fee = 5_000_000_000;
        assert_eq!(fees(3, base_fee), U256::from(3 * 500_000) * U256::from(11_000_000_000u64));
        assert!(fees(1, base_fee) > fee(GAS, base_fee), "the base fee may rise until they are in a block");
        assert_eq!(fees(0, base_fee), U256::ZERO);
    }
}
