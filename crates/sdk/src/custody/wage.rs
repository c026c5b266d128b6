//! Set what custodians of a bucket are paid, and count what this account earned as one.

use super::GAS;
use crate::{
    cloud::{Cloud, Runtime},
    fault::Fault,
    moves::event,
};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_types::{
    abi::{DEALS, IDeals},
    call::ask,
    chain::Log,
    event::Kind,
    transport::Transport,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// What custodians of a bucket are paid out of its reserve; nothing where either is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wage {
    /// Wei for each GiB that a custodian's post adds to a deal.
    pub per_gib: u128,
    /// Most wei a day, for all custodians together; days begin at midnight UTC by the ledger's time.
    pub per_day: u128,
}

impl Wage {
    pub fn is_none(&self) -> bool {
        self.per_gib == 0 || self.per_day == 0
    }

    /// Bytes that the day's most pays for; `None` where nothing is paid.
    pub fn day_bytes(&self) -> Option<u64> {
        let bytes = (U256::from(self.per_day) << 30usize).checked_div(U256::from(self.per_gib))?;
        (!self.is_none()).then(|| bytes.saturating_to())
    }
}

/// Wages that this process was paid, by bucket, as receipts tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wages(Arc<Mutex<BTreeMap<B256, U256>>>);

impl Wages {
    /// Counts those that the receipt of an own post tells of: the ledger pays who posts.
    pub(crate) fn book(&self, logs: &[Log]) {
        let told = logs.iter().filter(|log| log.address == DEALS).filter_map(event::<IDeals::WagePaid>);
        let mut wages = self.0.lock().expect("no panic under this lock");
        for paid in told {
            *wages.entry(paid.bucket).or_default() += paid.amount;
        }
    }

    fn of(&self, bucket: B256) -> U256 {
        self.0.lock().expect("no panic under this lock").get(&bucket).copied().unwrap_or_default()
    }
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Sets what a bucket's custodians are paid from now on.
    pub async fn set_wage(&self, bucket: &str, wage: Wage) -> Result<(), Fault> {
        let bucket = self.live(bucket).await?.id;
        self.pay_custodians(bucket, wage).await
    }

    /// The same by the bucket's id; nothing is done where it is so already.
    pub(super) async fn pay_custodians(&self, bucket: B256, wage: Wage) -> Result<(), Fault> {
        if self.wage(bucket).await?.0 == wage {
            return Ok(());
        }
        let call = IDeals::setWageCall { bucket, perGib: wage.per_gib, perDay: wage.per_day };
        self.0.buckets.run(DEALS, call.abi_encode(), U256::ZERO, GAS).await?;
        self.note(Kind::Deal, |fields| fields.text("what", "wage").bytes("bucket", bucket.as_slice())).await;
        Ok(())
    }

    /// What a bucket's custodians are paid, and wei of it today.
    pub(super) async fn wage(&self, bucket: B256) -> Result<(Wage, u128), Fault> {
        let found = ask(&**self.0.wallet.chain(), DEALS, &IDeals::wageCall { bucket }).await?;
        Ok((Wage { per_gib: found.perGib, per_day: found.perDay }, found.paidToday))
    }

    /// Wei that the receipts of what this process posted tell as its wages as a custodian of a bucket.
    pub fn earned(&self, bucket: B256) -> U256 {
        self.0.buckets.wages.of(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use alloy_sol_types::SolEvent as _;

    fn told(address: Address, bucket: B256, amount: u64) -> Log {
        let paid =
            IDeals::WagePaid { bucket, custodian: Address::ZERO, deal: 1, leaves: 2, amount: U256::from(amount) };
        let data = paid.encode_log_data();
        Log { address, topics: data.topics().to_vec(), data: data.data, height: 3, tx: B256::ZERO, index: 0 }
    }

    #[test]
    fn what_receipts_tell_adds_up_by_bucket_and_no_contract_can_add_to_it() {
        let (wages, bucket, other) = (Wages::default(), B256::repeat_byte(1), B256::repeat_byte(2));
        wages.book(&[told(DEALS, bucket, 5), told(DEALS, other, 7), told(Address::repeat_byte(9), bucket, 100)]);
        wages.clone().book(&[told(DEALS, bucket, 11)]);
        let sums = [bucket, other, B256::ZERO].map(|bucket| wages.of(bucket).to::<u64>());
        assert_eq!(sums, [16, 7, 0]);
    }

    #[test]
    fn a_days_most_pays_for_so_many_bytes() {
        let wage = |per_gib, per_day| Wage { per_gib, per_day }.day_bytes();
        assert_eq!((wage(4, 2), wage(1, 3)), (Some(1 << 29), Some(3 << 30)));
        assert_eq!((wage(0, 5), wage(5, 0), wage(0, 0)), (None, None, None));
        assert_eq!((wage(1, u128::MAX), wage(u128::MAX, 1)), (Some(u64::MAX), Some(0)));
    }
}
