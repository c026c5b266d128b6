//! Hold a pool's limits, its devices and what each is owed.
//!
//! Pure: what comes in is a request, an event of the ledger or the time, what changes is this state, and the door keeps
//! it in one file, whole. A height and the credit up to it are in that file together, so that no payment is counted
//! twice or left out however the process ends. Coins are marked as sent before they are: a crash in between may leave a
//! payout that nobody got, which is shown as unsettled, and never pays one twice.

use super::wire::{Reason, Standing};
use alloy_primitives::{Address, B256, U256};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The file's version.
const VERSION: u32 = 1;
/// Devices remembered, those that left among them; a pool that had so many takes no new ones.
const DEVICES_MAX: usize = 100_000;
/// Payouts remembered one by one; sums are kept for ever, and so is what is not settled.
const PAYOUTS_MAX: usize = 1_000;
/// Changes of its offer the pool pays a device's fees for, in one day.
const MOVES_A_DAY: u32 = 48;
const DAY_S: u64 = 86_400;
const MINUTE_S: u64 = 60;

/// How devices get what they earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Sent to an account the app names.
    Coins,
    /// A claim in the app's own terms, which the publisher settles.
    Credit,
}

/// What the publisher allows, amounts in wei.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub mode: Mode,
    /// Devices that take part at once.
    pub devices_max: u64,
    pub joins_per_minute: u64,
    /// Most one device may offer, in bytes.
    pub space_bytes_max: u64,
    /// Placed for each device when it joins.
    pub collateral: U256,
    /// What a device's account is filled up to; at less than half of it.
    pub gas: U256,
    /// Most that one device's account gets in a day.
    pub gas_per_day_max: U256,
    /// For keeping one GiB for one window.
    pub price_keep: U256,
    /// For reading one GiB.
    pub price_read: U256,
}

impl Terms {
    /// The most that `devices_max` devices bind and burn before any of them earned: collateral, and a day's fees.
    pub fn exposure(&self) -> U256 {
        (self.collateral.saturating_add(self.gas_per_day_max)).saturating_mul(U256::from(self.devices_max))
    }
}

/// How far a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Let in, and not yet registered for certain.
    Joining,
    Active,
    /// Retired; deals may be open still.
    Leaving,
    /// Its collateral is back.
    Left,
}

/// One device as the pool knows it, amounts in wei.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub phase: Phase,
    /// By the publisher: it may not come back.
    pub is_removed: bool,
    /// Its own account, for the fees of proofs.
    pub account: Address,
    pub joined_s: u64,
    /// Seconds since 1970 of its last request or proof.
    pub seen_s: u64,
    /// Exactly what the ledger paid for its deals.
    pub earned: U256,
    pub redeemed: U256,
    pub claims: Vec<Claim>,
    pub slashed: U256,
    pub windows_proven: u64,
    pub windows_missed: u64,
    /// All that its account was sent.
    pub gas: U256,
    day: u64,
    gas_today: U256,
    moves_today: u32,
}

/// What a device asked for in a pool of credit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub amount: U256,
    /// Of the app: an order, an account at the publisher.
    pub code: String,
    pub at_s: u64,
}

/// Coins sent for a device's credit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    pub id: u64,
    pub node: B256,
    pub to: Address,
    pub amount: U256,
    /// Head when it was decided: its transfer is in a later block, if it is in any.
    pub height: u64,
    /// The transaction, once it is final.
    pub tx: Option<B256>,
}

/// Why the pool does not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    pub reason: Reason,
    pub text: String,
}

/// Whether a secret is ours. All of it is compared, so that the time taken tells nothing of where it differs.
pub(super) fn is_same<const N: usize>(ours: &[u8; N], theirs: &[u8; N]) -> bool {
    ours.iter().zip(theirs).fold(0, |sum, (ours, theirs)| sum | (ours ^ theirs)) == 0
}

/// A pool as its file holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    version: u32,
    pub name: String,
    pub operator: Address,
    pub secret: [u8; 16],
    pub terms: Terms,
    /// The ledger's events were counted up to this block.
    pub height: u64,
    pub devices: BTreeMap<B256, Device>,
    pub payouts: Vec<Payout>,
    next_payout: u64,
    /// When devices were let in within the last minute, in seconds since 1970.
    joins: VecDeque<u64>,
}

/// Reads a pool's file; an error says what was expected.
pub fn read(text: &[u8]) -> Result<Pool, String> {
    let pool: Pool = serde_json::from_slice(text).map_err(|error| format!("it is no pool's state: {error}"))?;
    match pool.version {
        VERSION => Ok(pool),
        found => Err(format!("expected version {VERSION} of a pool's state, found {found}")),
    }
}

fn refuse(reason: Reason, text: impl Into<String>) -> Refusal {
    Refusal { reason, text: text.into() }
}

impl Device {
    fn new(account: Address, now_s: u64) -> Self {
        Self {
            phase: Phase::Joining,
            is_removed: false,
            account,
            joined_s: now_s,
            seen_s: now_s,
            earned: U256::ZERO,
            redeemed: U256::ZERO,
            claims: Vec::new(),
            slashed: U256::ZERO,
            windows_proven: 0,
            windows_missed: 0,
            gas: U256::ZERO,
            day: 0,
            gas_today: U256::ZERO,
            moves_today: 0,
        }
    }

    /// What it earned and was not given yet.
    pub fn credit(&self) -> U256 {
        self.earned.saturating_sub(self.redeemed)
    }

    pub fn claimed(&self) -> U256 {
        self.claims.iter().fold(U256::ZERO, |sum, claim| sum.saturating_add(claim.amount))
    }

    fn begin_day(&mut self, now_s: u64) {
        let day = now_s / DAY_S;
        // A clock set back opens no new allowance.
        if day > self.day {
            (self.day, self.gas_today, self.moves_today) = (day, U256::ZERO, 0);
        }
    }
}

impl Pool {
    pub fn new(name: String, operator: Address, secret: [u8; 16], terms: Terms, height: u64) -> Self {
        Self {
            version: VERSION,
            name,
            operator,
            secret,
            terms,
            height,
            devices: BTreeMap::new(),
            payouts: Vec::new(),
            next_payout: 1,
            joins: VecDeque::new(),
        }
    }

    /// The file's bytes.
    pub fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values")
    }

    /// Devices that take part.
    pub fn present(&self) -> u64 {
        self.devices.values().filter(|device| matches!(device.phase, Phase::Joining | Phase::Active)).count() as u64
    }

    /// Lets a device in, or lets it go on where joining broke off. The door then registers it.
    pub fn join(
        &mut self,
        node: B256,
        account: Address,
        secret: &[u8; 16],
        capacity_bytes: u64,
        now_s: u64,
    ) -> Result<(), Refusal> {
        if !is_same(&self.secret, secret) {
            let text = "the pool's word was changed: get the new one from the app's publisher, and join with it in the \
                        same folder";
            return Err(refuse(Reason::Secret, text));
        }
        self.fits(capacity_bytes)?;
        let known = self.devices.get_mut(&node);
        match known {
            Some(device) if device.is_removed => {
                return Err(refuse(Reason::Stranger, "the publisher removed this device from the pool"));
            }
            Some(device) if device.phase == Phase::Leaving => {
                return Err(refuse(Reason::Stranger, "this device is leaving: ask again when its last deal has ended"));
            }
            Some(device) if device.phase != Phase::Left => {
                device.seen_s = now_s;
                return Ok(());
            }
            _ => {}
        }
        while self.joins.front().is_some_and(|at| *at + MINUTE_S <= now_s) {
            self.joins.pop_front();
        }
        if self.joins.len() as u64 >= self.terms.joins_per_minute {
            return Err(refuse(Reason::Late, "many devices join this pool at this moment: ask again in a minute"));
        }
        if self.present() >= self.terms.devices_max || self.devices.len() >= DEVICES_MAX {
            return Err(refuse(
                Reason::Full,
                format!("the pool takes no more than {} devices", self.terms.devices_max),
            ));
        }
        self.joins.push_back(now_s);
        let device = self.devices.entry(node).or_insert_with(|| Device::new(account, now_s));
        (device.phase, device.account, device.seen_s) = (Phase::Joining, account, now_s);
        Ok(())
    }

    /// Refuses more space than the pool takes of one device.
    pub fn fits(&self, capacity_bytes: u64) -> Result<(), Refusal> {
        let most = self.terms.space_bytes_max;
        match capacity_bytes <= most {
            true => Ok(()),
            false => Err(refuse(
                Reason::Limit,
                format!("the pool takes at most {most} bytes of one device, not {capacity_bytes}"),
            )),
        }
    }

    /// The ledger has it.
    pub fn enrolled(&mut self, node: B256) {
        if let Some(device) = self.devices.get_mut(&node)
            && device.phase == Phase::Joining
        {
            device.phase = Phase::Active;
        }
    }

    /// Forgets one that the ledger refused, unless it has a history here.
    pub fn not_enrolled(&mut self, node: B256) {
        if let Some(device) = self.devices.get_mut(&node)
            && device.phase == Phase::Joining
        {
            device.phase = Phase::Left;
            if device.gas.is_zero() && device.earned.is_zero() {
                self.devices.remove(&node);
            }
        }
    }

    /// A device of this pool, seen now.
    pub fn member(&mut self, node: B256, now_s: u64) -> Result<&mut Device, Refusal> {
        let device = self
            .devices
            .get_mut(&node)
            .ok_or_else(|| refuse(Reason::Stranger, "this device is none of the pool: join it first"))?;
        device.seen_s = device.seen_s.max(now_s);
        Ok(device)
    }

    /// Whether a change of its offer is paid for once more today.
    pub fn moved(&mut self, node: B256, capacity_bytes: u64, now_s: u64) -> Result<(), Refusal> {
        self.fits(capacity_bytes)?;
        let device = self.member(node, now_s)?;
        if device.phase != Phase::Active {
            return Err(refuse(Reason::Stranger, "this device does not take part in the pool now"));
        }
        device.begin_day(now_s);
        if device.moves_today >= MOVES_A_DAY {
            return Err(refuse(Reason::Limit, format!("an offer changes at most {MOVES_A_DAY} times a day")));
        }
        device.moves_today += 1;
        Ok(())
    }

    /// What its account gets now that it holds so much; counted as sent. Zero where it needs none, or had enough today.
    pub fn fill(&mut self, node: B256, balance: U256, now_s: u64) -> U256 {
        let terms = &self.terms;
        let Some(device) = self.devices.get_mut(&node).filter(|device| device.phase != Phase::Left) else {
            return U256::ZERO;
        };
        if balance >= terms.gas / U256::from(2) {
            return U256::ZERO;
        }
        device.begin_day(now_s);
        let amount = (terms.gas - balance).min(terms.gas_per_day_max.saturating_sub(device.gas_today));
        device.gas_today += amount;
        device.gas += amount;
        amount
    }

    /// The ledger paid for one of its deals.
    pub fn paid(&mut self, node: B256, amount: U256) {
        if let Some(device) = self.devices.get_mut(&node) {
            device.earned = device.earned.saturating_add(amount);
        }
    }

    /// Takes credit of a device; in a pool of coins to an account, which gives a payout to be carried out.
    pub fn redeem(
        &mut self,
        node: B256,
        amount: Option<U256>,
        to: Option<Address>,
        code: String,
        now_s: u64,
    ) -> Result<(U256, Option<Payout>), Refusal> {
        let (mode, height, id) = (self.terms.mode, self.height, self.next_payout);
        let device = self.member(node, now_s)?;
        let free = device.credit().saturating_sub(device.claimed());
        let amount = amount.unwrap_or(free);
        if amount.is_zero() || amount > free {
            return Err(refuse(Reason::Credit, format!("the device has a credit of {free} wei, asked were {amount}")));
        }
        match (mode, to) {
            (Mode::Coins, None) => {
                Err(refuse(Reason::Malformed, "this pool pays coins: name the account they are for"))
            }
            (Mode::Coins, Some(to)) => {
                device.redeemed += amount;
                let payout = Payout { id, node, to, amount, height, tx: None };
                self.next_payout += 1;
                self.payouts.push(payout.clone());
                Ok((amount, Some(payout)))
            }
            (Mode::Credit, _) => {
                const CLAIMS_MAX: usize = 16;
                if device.claims.len() >= CLAIMS_MAX {
                    return Err(refuse(Reason::Limit, format!("{CLAIMS_MAX} claims wait for the publisher already")));
                }
                device.claims.push(Claim { amount, code, at_s: now_s });
                Ok((amount, None))
            }
        }
    }

    /// The transfer of a payout is final.
    pub fn settled(&mut self, id: u64, tx: B256) {
        if let Some(payout) = self.payouts.iter_mut().find(|payout| payout.id == id) {
            payout.tx = Some(tx);
        }
        while self.payouts.len() > PAYOUTS_MAX {
            let Some(oldest) = self.payouts.iter().position(|payout| payout.tx.is_some()) else { return };
            self.payouts.remove(oldest);
        }
    }

    /// The ledger refused the transfer, so nobody got it: the credit is the device's again.
    pub fn failed(&mut self, id: u64) {
        let Some(at) = self.payouts.iter().position(|payout| payout.id == id && payout.tx.is_none()) else { return };
        let payout = self.payouts.remove(at);
        if let Some(device) = self.devices.get_mut(&payout.node) {
            device.redeemed = device.redeemed.saturating_sub(payout.amount);
        }
    }

    /// The publisher gave so much of it otherwise: oldest claims first.
    pub fn settle(&mut self, node: B256, amount: U256) -> Result<(), Refusal> {
        let device = self
            .devices
            .get_mut(&node)
            .ok_or_else(|| refuse(Reason::Stranger, "no device of this pool has that key"))?;
        if amount.is_zero() || amount > device.credit() {
            let credit = device.credit();
            return Err(refuse(Reason::Credit, format!("the device has a credit of {credit} wei, not {amount}")));
        }
        device.redeemed += amount;
        let mut rest = amount;
        while let Some(claim) = device.claims.first_mut() {
            if claim.amount > rest {
                claim.amount -= rest;
                break;
            }
            rest -= claim.amount;
            device.claims.remove(0);
        }
        Ok(())
    }

    /// Begins to leave; by the publisher for good.
    pub fn leave(&mut self, node: B256, is_removed: bool, now_s: u64) -> Result<(), Refusal> {
        let seen = if is_removed { 0 } else { now_s };
        let device = self.member(node, seen)?;
        device.is_removed |= is_removed;
        if device.phase != Phase::Left {
            device.phase = Phase::Leaving;
        }
        Ok(())
    }

    /// Its collateral is back.
    pub fn left(&mut self, node: B256) {
        if let Some(device) = self.devices.get_mut(&node) {
            device.phase = Phase::Left;
        }
    }

    /// What a device is told.
    pub fn standing(&self, node: B256) -> Option<Standing> {
        let device = self.devices.get(&node)?;
        Some(Standing {
            is_member: matches!(device.phase, Phase::Joining | Phase::Active),
            pays_coins: self.terms.mode == Mode::Coins,
            earned: device.earned,
            redeemed: device.redeemed,
            claimed: device.claimed(),
            windows_proven: device.windows_proven,
            windows_missed: device.windows_missed,
            devices: self.present(),
        })
    }
}

#[cfg(test)]
mod tests;
