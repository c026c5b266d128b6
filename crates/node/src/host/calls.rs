//! Count what calls of a lease cost, and do no more of them than may go unpaid.
//!
//! ```text
//! Ask with a voucher ─► whose is it ─► kept on disk ─► call ─► counted ─► Done (due)
//!                                          │              └ beyond the credit: Unpaid, until a voucher over more comes
//!                                          └► claim, where it is worth the fee, or before the end        settle
//! ```
//! The credit is a part of what the lease has in escrow: so much a host may lose to who calls and does not sign. What was
//! signed and is not claimed it may lose too, to an owner who ends the lease first: it is claimed before that is much.
//!
//! A voucher is on disk before the call it came with is begun; what was counted since is not, and is forgotten when the
//! power fails.

use super::{Host, replica::Replica, serve::refused};
use crate::{
    home::{Home, HomeError, replace},
    provider::lock,
};
use alloy_primitives::{Address, U256};
use commonware_runtime::Storage;
use hodei_ledger::account::signer_of;
use hodei_types::{
    abi::{BUDGETS, IBudgets, ILeases, voucher_statement},
    app::wire::{Answer, Due, Voucher},
    call::ask,
    market::{call_price, credit},
};
use std::{collections::BTreeSet, fs, io, path::PathBuf};

/// Claimed once so many fees were signed for: a twentieth is lost to them then.
const WORTH: u64 = 20;
/// Claimed once so many were, if it is as much as the credit.
pub(super) const WORTH_AT_STAKE: u64 = 2;
/// Claimed whatever it is beyond the fee, so long before the escrow's end.
const EARLY_MS: u64 = 60_000;
/// Bytes of a voucher on disk.
const VOUCHER_BYTES: usize = 16 + 65;

/// What a lease's calls cost, and what was signed for them.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    rate: u128,
    due: Due,
    voucher: Option<Voucher>,
    claimed: u128,
    /// Wei in escrow that nothing is owed of by the second.
    left: u128,
}

impl Calls {
    /// Of a lease, with the voucher that is known of it.
    pub(super) fn new(lease: &ILeases::Lease, voucher: Option<Voucher>) -> Self {
        let mut calls = Self { rate: lease.callRate, due: Due::default(), voucher: None, claimed: 0, left: 0 };
        calls.learn(lease);
        voucher.into_iter().for_each(|voucher| calls.take(voucher));
        calls
    }

    /// Learns what the ledger has of it now.
    pub(super) fn learn(&mut self, lease: &ILeases::Lease) {
        self.claimed = lease.claimed;
        self.left = lease.left.saturating_sub(lease.owed);
        self.due.wei = self.due.wei.max(lease.claimed);
    }

    fn knows(&self, voucher: &Voucher) -> bool {
        self.voucher.as_ref() == Some(voucher)
    }

    /// Whether a voucher is over more than the one that is known.
    fn is_more(&self, voucher: &Voucher) -> bool {
        self.voucher.is_none_or(|known| voucher.total > known.total)
    }

    /// Takes a voucher whose signature is right.
    fn take(&mut self, voucher: Voucher) {
        if self.is_more(&voucher) {
            // Who signs for more than is counted here remembers what this host forgot.
            self.due.wei = self.due.wei.max(voucher.total);
            self.voucher = Some(voucher);
        }
    }

    /// Forgets a voucher that the ledger pays nothing for: who signed it may not do so any more.
    pub(super) fn refuse(&mut self, voucher: &Voucher) {
        if self.knows(voucher) {
            self.voucher = None;
        }
    }

    fn signed(&self) -> u128 {
        self.voucher.map_or(0, |voucher| voucher.total).max(self.claimed)
    }

    pub(super) fn due(&self) -> Due {
        self.due
    }

    /// Whether one more call may be done.
    pub(super) fn admits(&self) -> bool {
        let unpaid = self.due.wei.saturating_sub(self.signed());
        let unclaimed = self.due.wei.saturating_sub(self.claimed);
        unpaid <= credit(self.left) && unclaimed < self.left
    }

    /// Counts a call that burned so much.
    pub(super) fn count(&mut self, fuel: u64) -> Due {
        self.due.wei = self.due.wei.saturating_add(call_price(self.rate, fuel));
        self.due.calls = self.due.calls.saturating_add(1);
        self.due
    }

    /// The voucher to be claimed now, when a claim costs so much.
    pub(super) fn claimable(&self, lease: &ILeases::Lease, now_ms: u64, fee: U256) -> Option<Voucher> {
        let voucher = self.voucher.filter(|voucher| voucher.total > self.claimed)?;
        let amount = (voucher.total - self.claimed).min(self.left);
        let fees = |fees: u64| U256::from(amount) >= fee.saturating_mul(U256::from(fees));
        // What is not claimed may be lost as what is not signed for: as much is at stake at most.
        let is_worth = fees(WORTH) || amount >= credit(self.left) && fees(WORTH_AT_STAKE);
        let is_last = lease.untilMs <= now_ms.saturating_add(EARLY_MS) || amount >= self.left / 2;
        (is_worth || is_last && U256::from(amount) > fee).then_some(voucher).filter(|_| amount > 0)
    }
}

/// What is to be claimed of a lease that its host ends: all that is signed for, if it brings more than its claim costs.
pub(super) fn last_claim(lease: &ILeases::Lease, voucher: Option<Voucher>, fee: U256) -> Option<Voucher> {
    let left = lease.left.saturating_sub(lease.owed);
    let brings = |voucher: &Voucher| voucher.total.saturating_sub(lease.claimed).min(left);
    voucher.filter(|voucher| lease.callRate > 0 && U256::from(brings(voucher)) > fee)
}

/// The folder of vouchers: one file a lease.
#[derive(Clone, Debug)]
pub struct Vouchers(PathBuf);

impl Vouchers {
    /// Those of the node in this folder; another process may keep them.
    pub fn of(home: &Home) -> io::Result<Self> {
        Self::open(home.path().join("vouchers"))
    }

    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    fn path(&self, lease: u64) -> PathBuf {
        self.0.join(lease.to_string())
    }

    /// The last voucher of a lease, if there is one.
    pub(super) fn load(&self, lease: u64) -> Option<Voucher> {
        let bytes: [u8; VOUCHER_BYTES] = fs::read(self.path(lease)).ok()?.try_into().ok()?;
        let (total, signature) = bytes.split_at(16);
        Some(Voucher { total: u128::from_be_bytes(total.try_into().ok()?), signature: signature.try_into().ok()? })
    }

    /// Returns once it is on disk.
    fn keep(&self, lease: u64, voucher: &Voucher) -> Result<(), HomeError> {
        let bytes = [&voucher.total.to_be_bytes()[..], &voucher.signature].concat();
        replace(&self.path(lease), &bytes, 0o600)
    }

    /// Forgets those of all leases but these.
    pub(super) fn retain(&self, leases: &BTreeSet<u64>) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            // One that is just being written has another name.
            let lease: Option<u64> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if lease.is_some_and(|lease| !leases.contains(&lease)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl<E: Storage> Host<E> {
    /// Whether a call may be done, by the voucher it came with; what is answered if not.
    pub(super) async fn admit(&self, replica: &Replica, voucher: Option<Voucher>) -> Option<Answer> {
        let on_call = replica.on_call.as_ref()?;
        let unpaid = || Answer::Unpaid { due: lock(&on_call.calls).due() };
        // Without one nobody says that he pays.
        let Some(voucher) = voucher else { return Some(unpaid()) };
        if !lock(&on_call.calls).knows(&voucher) {
            match self.is_payer(replica, &voucher).await {
                Ok(true) => {}
                Ok(false) => return Some(refused("this voucher is not of the lease's owner, nor of a budget of his")),
                Err(error) => {
                    tracing::warn!(%error, "the ledger was not asked whose a voucher is");
                    return Some(Answer::Busy { retry_after_ms: super::replica::BUSY_MS });
                }
            }
            // One at a time, so that the file has the last of them.
            let _turn = on_call.writing.lock().await;
            if lock(&on_call.calls).is_more(&voucher) {
                if let Err(error) = self.write(replica.lease, voucher).await {
                    tracing::error!(lease = replica.lease, error, "a voucher was not written");
                    return Some(Answer::Busy { retry_after_ms: super::replica::BUSY_MS });
                }
                lock(&on_call.calls).take(voucher);
            }
        }
        let admits = lock(&on_call.calls).admits();
        (!admits).then(unpaid)
    }

    async fn write(&self, lease: u64, voucher: Voucher) -> Result<(), String> {
        let vouchers = self.0.vouchers.clone();
        let kept = tokio::task::spawn_blocking(move || vouchers.keep(lease, &voucher)).await;
        kept.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    async fn is_payer(&self, replica: &Replica, voucher: &Voucher) -> Result<bool, hodei_types::chain::ChainError> {
        let statement = voucher_statement(self.0.parts.chain_id, replica.lease, voucher.total);
        let Some(spender) = signer_of(&statement, &voucher.signature) else { return Ok(false) };
        let is_owned = |owner: Address| owner == replica.owner;
        Ok(is_owned(spender) || is_owned(ask(self.chain(), BUDGETS, &IBudgets::ownerOfCall { spender }).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::replica::tests::lease, *};
    use hodei_types::market::FUEL_PER_MS;

    /// Calls of a billed millisecond cost a thousand wei, and 64 of them may go unpaid.
    fn on_call() -> ILeases::Lease {
        ILeases::Lease { callRate: 500_000, left: 64 * 64_000, untilMs: u64::MAX, ..lease(1) }
    }

    fn voucher(total: u128) -> Voucher {
        Voucher { total, signature: [1; 65] }
    }

    #[test]
    fn calls_are_done_until_the_credit_is_used_and_again_once_more_was_signed_for() {
        let mut calls = Calls::new(&on_call(), Some(voucher(0)));
        let mut done = 0;
        while calls.admits() {
            calls.count(FUEL_PER_MS);
            done += 1;
        }
        assert_eq!((done, calls.due()), (65, Due { wei: 65_000, calls: 65 }), "the last begins within the credit");
        calls.take(voucher(1_000));
        assert!(calls.admits());
        calls.count(2 * FUEL_PER_MS);
        assert!(!calls.admits(), "it cost as much as two");
        calls.take(voucher(500));
        assert_eq!((calls.signed(), calls.due().wei), (1_000, 67_000), "less than before says nothing");
        calls.take(voucher(90_000));
        assert_eq!((calls.admits(), calls.due().wei), (true, 90_000), "what was forgotten here comes back");
    }

    #[test]
    fn nothing_is_done_that_the_escrow_cannot_pay() {
        let mut calls = Calls::new(&on_call(), Some(voucher(64 * 64_000)));
        assert!(!calls.admits(), "signed for, and not there");
        calls.learn(&ILeases::Lease { claimed: 64 * 63_000, left: 64_000, ..on_call() });
        assert!(!calls.admits());
        calls.learn(&ILeases::Lease { claimed: 64 * 63_000, left: 64_001, ..on_call() });
        assert!(calls.admits(), "renewed");
        calls.learn(&ILeases::Lease { claimed: 64 * 63_000, left: 164_000, owed: 100_000, ..on_call() });
        assert!(!calls.admits(), "keeping comes first");
    }

    #[test]
    fn a_voucher_is_claimed_when_it_is_worth_it_or_the_end_is_near() {
        let lease = on_call();
        let calls = Calls::new(&lease, Some(voucher(20_000)));
        let claimed = |fee: u64, until_ms| {
            let lease = ILeases::Lease { untilMs: until_ms, ..lease.clone() };
            calls.claimable(&lease, 100_000, U256::from(fee)).is_some()
        };
        assert!(claimed(1_000, u64::MAX) && !claimed(1_001, u64::MAX));
        assert!(claimed(1_001, 100_000 + EARLY_MS) && !claimed(1_001, 100_001 + EARLY_MS));
        let staked = Calls::new(&lease, Some(voucher(64_000)));
        let staked = |fee| staked.claimable(&lease, 0, U256::from(fee)).is_some();
        assert!(staked(32_000) && !staked(32_001), "as much as the credit");
        let most = Calls::new(&lease, Some(voucher(32 * 64_000)));
        assert!(most.claimable(&lease, 0, U256::from(32 * 64_000 - 1)).is_some(), "half of all there is");
        // A claim that costs more than it brings is none, however near the end is.
        assert!(most.claimable(&lease, 0, U256::from(32 * 64_000)).is_none());
        assert!(!claimed(20_000, 100_000) && claimed(19_999, 100_000));
        let mut over = calls.clone();
        over.learn(&ILeases::Lease { claimed: 20_000, ..lease.clone() });
        assert!(over.claimable(&lease, u64::MAX, U256::ZERO).is_none());
        assert!(Calls::new(&lease, None).claimable(&lease, u64::MAX, U256::ZERO).is_none());
    }

    #[test]
    fn what_its_host_ends_is_claimed_first_where_that_brings_more_than_it_costs() {
        let lease = ILeases::Lease { claimed: 1_000, left: 50_000, owed: 40_000, ..on_call() };
        let last = |total, fee: u64| last_claim(&lease, Some(voucher(total)), U256::from(fee)).is_some();
        assert!(last(1_101, 100) && !last(1_100, 100) && !last(999, 0));
        assert!(last(u128::MAX, 9_999) && !last(u128::MAX, 10_000), "what is owed for keeping comes first");
        let kept = ILeases::Lease { callRate: 0, ..lease.clone() };
        assert!(last_claim(&kept, Some(voucher(u128::MAX)), U256::ZERO).is_none());
        assert!(last_claim(&lease, None, U256::ZERO).is_none());
    }

    #[test]
    fn the_last_voucher_outlives_its_host() {
        let folder = std::env::temp_dir().join(format!("hodei-vouchers-{}", std::process::id()));
        let vouchers = Vouchers::open(folder.clone()).unwrap();
        vouchers.keep(7, &voucher(u128::MAX)).unwrap();
        vouchers.keep(8, &voucher(8)).unwrap();
        let again = Vouchers::open(folder.clone()).unwrap();
        again.retain(&[7].into()).unwrap();
        assert_eq!((again.load(7), again.load(8), again.load(9)), (Some(voucher(u128::MAX)), None, None));
        fs::remove_dir_all(folder).unwrap();
    }
}
