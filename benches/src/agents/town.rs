//! Draw sellers with private costs and buyers with private values, the same for every mechanism.

use hodei_types::market::{BP, Capacity, Prices, Tier, markup_bp, rate};

use crate::dice::{Dice, ONE, patience_left};

pub(crate) const REGIONS: u64 = 8;
const SELLERS: u64 = 120;
/// Buyers' accounts: few have many orders.
pub(crate) const BUYERS: u64 = 80;
/// Seconds a lease lasts on average.
const LASTS: u64 = 2_400;
/// Wei an hour for a thousandth of a CPU, in the middle of all sellers' costs.
const COST: u64 = 36_000_000;
const GIB: u64 = 1 << 30;

/// A seller: what it has, where, what that costs it, and how it asks.
#[derive(Clone)]
pub(crate) struct Seller {
    pub(crate) region: u64,
    pub(crate) total: Capacity,
    pub(crate) free: Capacity,
    /// What a second costs it, as prices of its parts.
    pub(crate) cost: Prices,
    /// What it asks beyond that, in hundredths of a percent, whatever its utilisation.
    pub(crate) shade_bp: u64,
    /// What it keeps back, in hundredths of a percent of its capacity.
    pub(crate) withheld_bp: u64,
    pub(crate) curve: Vec<Tier>,
}

impl Seller {
    /// What serving that costs it a second.
    pub(crate) fn cost(&self, each: &Capacity) -> u128 {
        rate(each, &self.cost, 0, BP as u16)
    }

    /// What it asks a second, as the ledger computes a rate: its posted prices, raised by its curve.
    pub(crate) fn ask(&self, each: &Capacity) -> u128 {
        let up = |price: u64| price * (BP + self.shade_bp) / BP;
        let posted = Prices::of_dims(self.cost.dims().map(up));
        rate(each, &posted, markup_bp(&self.curve, self.total.used_bp(&self.free)), BP as u16)
    }

    /// Whether it would serve that now.
    pub(crate) fn has_room(&self, each: &Capacity) -> bool {
        let kept = Capacity::of_dims(self.total.dims().map(|all| all * self.withheld_bp / BP));
        self.free.checked_sub(&kept).is_some_and(|free| each.fits_in(&free))
    }
}

/// One order.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) at: u64,
    pub(crate) buyer: u64,
    pub(crate) regions: u64,
    pub(crate) each: Capacity,
    pub(crate) secs: u64,
    /// What a second is worth, served at once; and in how many seconds of waiting that falls to 1/e.
    pub(crate) value: u128,
    pub(crate) patience: u64,
}

impl Wish {
    /// What a second is worth after so long.
    pub(crate) fn worth(&self, waited: u64) -> u128 {
        self.value * u128::from(patience_left(waited, self.patience)) / u128::from(ONE)
    }
}

/// About 1 + u² of the price at utilisation u, in the four steps there are.
pub(crate) fn scarcity() -> Vec<Tier> {
    [(2_500, 600), (5_000, 2_500), (7_500, 5_600), (9_000, 8_100)].map(|(from, markup)| tier(from, markup)).into()
}

fn tier(from: u16, markup: u16) -> Tier {
    Tier { fromBp: from, markupBp: markup }
}

pub(crate) fn sellers(seed: u64) -> Vec<Seller> {
    let mut dice = Dice::new(seed ^ 0x5e11);
    let seller = |_| {
        let cpus = if dice.below(10) < 3 { 32 + dice.below(33) } else { 4 + dice.below(13) };
        let total = Capacity { cpuMilli: cpus * 1000, memoryBytes: cpus * 4 * GIB, ..Capacity::default() };
        let cpu = dice.around(COST, 4);
        // A GiB is a tenth of a CPU.
        let cost = Prices { cpuMilli: cpu, memoryMib: cpu / 10, ..Prices::default() };
        let region = dice.below(REGIONS);
        Seller { region, total, free: total, cost, shade_bp: 0, withheld_bp: 0, curve: Vec::new() }
    };
    (0..SELLERS).map(seller).collect()
}

/// Orders of so many seconds; `load_bp` is what they would fill of all capacity if all were served.
pub(crate) fn wishes(seed: u64, sellers: &[Seller], secs: u64, load_bp: u64) -> Vec<Wish> {
    let mut dice = Dice::new(seed ^ 0xb0_7e25);
    let all: u64 = sellers.iter().map(|seller| seller.total.cpuMilli).sum();
    // An order is of 1.4 CPUs on average: the time between two, in milliseconds.
    let every_ms = (LASTS * 1000 * 1_400 * BP).checked_div(all * load_bp).unwrap_or(1).max(1);
    let (mut now_ms, mut wishes) = (0, Vec::new());
    loop {
        now_ms += dice.exponential(every_ms);
        let at = now_ms / 1000;
        if at >= secs {
            return wishes;
        }
        let milli = [250, 500, 1000, 2000, 3250][dice.below(5) as usize];
        let each = Capacity { cpuMilli: milli, memoryBytes: milli * GIB / 500, ..Capacity::default() };
        let first = dice.below(REGIONS);
        let regions = (0..1 + dice.below(3)).fold(0, |mask, next| mask | 1 << ((first + next) % REGIONS));
        // Worth 1.6 times the middle cost, in the middle.
        let unit = dice.around(COST * 8 / 5, 5);
        let worth = Prices { cpuMilli: unit, memoryMib: unit / 10, ..Prices::default() };
        // The square of a die favours the first.
        let buyer = dice.below(BUYERS) * dice.below(BUYERS) / BUYERS;
        let (value, secs) = (rate(&each, &worth, 0, BP as u16), 60 + dice.exponential(LASTS));
        let patience = if dice.below(2) == 0 { 30 } else { 3_600 };
        wishes.push(Wish { at, buyer, regions, each, secs, value, patience });
    }
}

/// What a capacity costs a second with the middle of all costs.
pub(crate) fn middle(each: &Capacity) -> u128 {
    rate(each, &Prices { cpuMilli: COST, memoryMib: COST / 10, ..Prices::default() }, 0, BP as u16)
}
