//! Count what calls of a lease cost, and sign for that and no more.
//!
//! ```text
//! call ─► Done (fuel, due) ─► seen += price of the fuel; told = due
//! half of the credit seen and not signed, or the host says Unpaid ─► a voucher over the less of seen and told
//! ```
//! What a host says that calls cost is believed as far as they were made from here: each by the fuel it is told to have
//! burned as far as that can be in the time it took, and one whose end nobody heard by the most its manifest allows. Who begins anew knows less than he did, by a
//! moment; as long as that is below half of the credit, the host's count is taken for it. So a host that lies gains no
//! more than that once, and one that is not paid loses no more than the credit.

use super::{Apps, host, record::Record};
use crate::{fault::Fault, wallet::Wallet};
use alloy_primitives::keccak256;
use alloy_sol_types::SolCall as _;
use hodei_ledger::account::Order as Transaction;
use hodei_types::{
    abi::{ILeases, LEASES, voucher_statement},
    app::wire::{Due, Readings, Voucher},
    market::{call_price, credit},
    transport::{NodeKey, Transport},
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Gas of paying by a voucher.
const CLAIM_GAS: u64 = 600_000;

/// Fuel that a machine burns in a second at most, about an instruction each: a core of 5 GHz that ends two of them each
/// cycle. Components measured here burn a fifth of it (`docs/compute.md`).
const FUEL_PER_SEC: u64 = 10_000_000_000;
/// What a clock here may be behind.
const SLACK: Duration = Duration::from_millis(10);

/// The most fuel that can have been burned in what took so long here, the way there and back with it.
fn plausible(took: Duration) -> u64 {
    let fuel = (took + SLACK).as_nanos().saturating_mul(u128::from(FUEL_PER_SEC / 1_000_000_000));
    u64::try_from(fuel).unwrap_or(u64::MAX)
}

/// What one lease's calls cost, as far as it is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tally {
    /// Wei of calls that were made from here, and before.
    seen: u128,
    /// Wei of all calls, by the host.
    told: u128,
    signed: u128,
    /// Wei that the host's count may be beyond what was seen.
    allowance: u128,
    credit: u128,
    /// What of `seen` is on disk.
    kept: u128,
}

impl Tally {
    /// Of a lease of which so much was seen before, with so much claimed and left.
    fn new(kept: Option<u128>, claimed: u128, left: u128) -> Self {
        let seen = kept.unwrap_or(0).max(claimed);
        let credit = credit(left);
        Self { seen, told: seen, signed: claimed, allowance: credit / 2, credit, kept: kept.unwrap_or(0) }
    }

    fn learn(&mut self, claimed: u128, left: u128) {
        self.credit = credit(left);
        // Paid for by another who signs for the same owner.
        self.seen = self.seen.max(claimed);
        self.signed = self.signed.max(claimed);
    }

    fn heard(&mut self, price: u128, due: Option<Due>) {
        self.seen = self.seen.saturating_add(price);
        self.told = self.told.max(due.map_or(0, |due| due.wei));
    }

    /// A call was made, and nobody heard its end.
    fn unheard(&mut self, most: u128) {
        self.allowance = self.allowance.saturating_add(most);
    }

    /// What the host says that is due, believed as far as may be.
    fn hear_due(&mut self, due: Due) {
        self.told = due.wei;
        let more = due.wei.saturating_sub(self.seen).min(self.allowance);
        self.allowance -= more;
        self.seen = self.seen.saturating_add(more);
    }

    /// What is to be signed for.
    fn total(&self) -> u128 {
        self.seen.min(self.told).max(self.signed)
    }

    /// Signs for more, if it is more by so much; whether it is.
    fn sign(&mut self, least: u128) -> bool {
        let is_more = self.total() - self.signed >= least.max(1);
        if is_more {
            self.signed = self.total();
        }
        is_more
    }
}

/// Pays for the calls of one lease, from the wallet's spending account.
pub struct Pay {
    lease: u64,
    chain_id: u64,
    rate: u128,
    /// Wei of the dearest call.
    most: u128,
    wallet: Wallet,
    tally: Mutex<Tally>,
    /// Calls for which its host told of more fuel than can be burned in their time.
    implausible: AtomicU64,
}

impl std::fmt::Debug for Pay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pay of lease {}", self.lease)
    }
}

impl PartialEq for Pay {
    fn eq(&self, other: &Self) -> bool {
        self.lease == other.lease
    }
}

impl Eq for Pay {}

impl Pay {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("no panic under this lock")
    }

    fn over(&self, total: u128) -> Voucher {
        let statement = voucher_statement(self.chain_id, self.lease, total);
        Voucher { total, signature: self.wallet.spender().sign_hash(keccak256(statement)) }
    }

    /// What goes with the next call: a voucher over more than before once half of the credit is used.
    pub(super) fn voucher(&self) -> Voucher {
        let total = {
            let mut tally = self.tally();
            let half = tally.credit / 2;
            tally.sign(half);
            tally.signed
        };
        self.over(total)
    }

    /// The host does nothing more before it has more; whether more is signed for now.
    pub fn unpaid(&self, due: Due) -> bool {
        let mut tally = self.tally();
        tally.hear_due(due);
        tally.sign(1)
    }

    /// A call ended: its price.
    pub(super) fn heard(&self, readings: &Readings, due: Option<Due>, took: Duration) -> u128 {
        if readings.fuel > plausible(took) {
            self.implausible.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(lease = self.lease, fuel = readings.fuel, ?took, "more fuel than burns in that time");
        }
        // No honest call burns more than its manifest allows, nor more than its time does.
        let price = call_price(self.rate, readings.fuel.min(plausible(took))).min(self.most);
        self.tally().heard(price, due);
        price
    }

    /// Calls for which the host told of more fuel than can be burned in the time they took here; nothing is signed for
    /// the rest.
    pub fn implausible(&self) -> u64 {
        self.implausible.load(Ordering::Relaxed)
    }

    pub(super) fn unheard(&self) {
        self.tally().unheard(self.most);
    }

    /// What was seen and is not on disk; it is taken for kept.
    fn unkept(&self) -> Option<u128> {
        let mut tally = self.tally();
        let is_new = tally.seen != tally.kept;
        tally.kept = tally.seen;
        is_new.then_some(tally.seen)
    }
}

impl<T: Transport> Apps<T> {
    /// How calls of a lease are paid, if it is on call.
    pub(super) fn pay(&self, record: &Record, lease: &ILeases::Lease) -> Result<Option<Arc<Pay>>, Fault> {
        if lease.callRate == 0 {
            return Ok(None);
        }
        let left = lease.left.saturating_sub(lease.owed);
        let mut pays = self.pays.lock().expect("no panic under this lock");
        if let Some(pay) = pays.get(&lease.id) {
            pay.tally().learn(lease.claimed, left);
            return Ok(Some(pay.clone()));
        }
        let kept = self.shelf.seen(&record.manifest.name, lease.id)?;
        let pay = Arc::new(Pay {
            lease: lease.id,
            chain_id: self.chain_id,
            rate: lease.callRate,
            most: call_price(lease.callRate, record.manifest.limits.fuel),
            wallet: self.wallet.clone(),
            tally: Mutex::new(Tally::new(kept, lease.claimed, left)),
            implausible: AtomicU64::new(0),
        });
        pays.insert(lease.id, pay.clone());
        Ok(Some(pay))
    }

    /// Writes down what was seen of calls since the last time.
    pub(super) fn keep_seen(&self, app: &str, pay: &Pay) -> Result<(), Fault> {
        let Some(seen) = pay.unkept() else { return Ok(()) };
        // Another process of this wallet may have seen more.
        match self.shelf.seen(app, pay.lease)? {
            Some(known) if known >= seen => Ok(()),
            _ => self.shelf.keep_seen(app, pay.lease, seen),
        }
    }

    /// Pays for all calls of leases that are about to end, so that their hosts need not be faster. A host that does not
    /// answer gets what was seen of it.
    pub(super) async fn pay_up(&self, record: &Record, leases: &[ILeases::Lease]) -> Result<(), Fault> {
        for lease in leases {
            let Some(pay) = self.pay(record, lease)? else { continue };
            let looked = match self.peer(NodeKey(lease.node.0)).await {
                Ok(peer) => host::look(&self.link, &peer, lease.id, (0, None)).await.ok(),
                Err(_) => None,
            };
            let total = {
                let mut tally = pay.tally();
                looked.iter().for_each(|replica| tally.hear_due(replica.due));
                tally.sign(1);
                tally.signed
            };
            if total <= lease.claimed {
                continue;
            }
            let signature = pay.over(total).signature.to_vec().into();
            let call = ILeases::claimCall { lease: lease.id, total, signature };
            match self.wallet.run(&Transaction::call(LEASES, call.abi_encode(), CLAIM_GAS)).await {
                // It ended, or its host was faster.
                Ok(_) | Err(Fault::Reverted(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wei: u128) -> Due {
        Due { wei, calls: 1 }
    }

    #[test]
    fn it_is_signed_for_once_half_of_the_credit_is_used_and_for_no_more_than_was_seen() {
        let mut tally = Tally { allowance: 0, ..Tally::new(None, 0, 64 * 1_000) };
        assert_eq!((tally.credit, tally.total()), (1_000, 0));
        tally.heard(499, Some(due(499)));
        assert!(!tally.sign(500));
        tally.heard(1, Some(due(900)));
        assert!(tally.sign(500) && tally.signed == 500, "whatever the host says");
        tally.hear_due(due(900));
        assert!(!tally.sign(1), "it counts what was not done");
        tally.heard(600, None);
        assert!(tally.sign(1) && tally.signed == 900, "and what it does not ask for it does not get");
        tally.hear_due(due(0));
        assert_eq!((tally.sign(1), tally.signed), (false, 900), "a host that forgot takes nothing back");
    }

    #[test]
    fn no_more_fuel_is_believed_than_a_machine_burns_in_the_time() {
        assert_eq!(plausible(Duration::from_millis(990)), FUEL_PER_SEC);
        let told = 1_000_000_000_000;
        assert!(plausible(Duration::from_millis(1)) < told / 1_000, "a thousand billions in a millisecond");
        assert!(plausible(Duration::from_secs(100)) >= told);
        assert_eq!(plausible(Duration::MAX - SLACK), u64::MAX);
    }

    #[test]
    fn a_call_whose_end_nobody_heard_is_paid_as_far_as_its_manifest_allows() {
        let mut tally = Tally { allowance: 0, ..Tally::new(None, 0, 64_000) };
        tally.unheard(300);
        tally.hear_due(due(200));
        assert!(tally.sign(1) && tally.signed == 200);
        tally.hear_due(due(900));
        assert_eq!((tally.sign(1), tally.signed), (true, 300), "once");
        assert!(!tally.sign(1));
    }

    #[test]
    fn who_begins_anew_goes_on_where_it_was_and_concedes_half_of_the_credit_at_most() {
        let mut tally = Tally::new(Some(5_000), 2_000, 64_000);
        assert_eq!((tally.seen, tally.signed), (5_000, 2_000));
        tally.hear_due(due(9_000));
        assert!(tally.sign(1));
        assert_eq!(tally.signed, 5_500);
        tally.learn(7_000, 64_000);
        assert_eq!((tally.seen, tally.signed, tally.total()), (7_000, 7_000, 7_000), "another signed for more");
    }
}
