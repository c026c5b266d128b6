//! Estimate what a gibibyte takes in electricity and CO2e, from measured work and published coefficients.
//!
//! All of it is computed, nothing of it read from a meter. CPU time and bytes of a put, a read, a repair and an idle
//! validator, and a proof's CPU time, are what `benches/energy` measured on a demo; a proof's bytes are its codec's; how often there are repairs follows from how long
//! machines live, scaled to what a year of ten thousand simulated phones moved. Watts, watt-hours and grams are others'
//! published figures, each named at its constant and in `docs/energy.md`.
//!
//! Each result comes twice. *Beside* counts what is drawn only because of this: CPU above idle, and the network's least
//! published figure; disks at home and phones' flash are on anyway, a data centre's are not. *Whole* lays all that a
//! machine draws on what it keeps, and takes the network's average of all that it carried. Making the devices is in
//! neither.

pub mod figures;
#[cfg(test)]
mod tests;

use crate::odds::life_days;
use figures::{
    CENTRE_COPIES, CENTRE_DISK_MILLIWATTS, CENTRE_PUE_THOUSANDTHS, CHAIN_BYTES, CORE_BESIDE_MILLIWATTS,
    CORE_WHOLE_MILLIWATTS, FLASH_MILLIWATTS, GRID_GRAMS, HOME_DISK_MILLIWATTS, KEPT_GB, NETWORK_BESIDE_MILLIWATT_HOURS,
    NETWORK_TB, NETWORK_WHOLE_MILLIWATT_HOURS, PHONE_KEPT_GB, PROOF_BYTES, PROOF_CPU_MS, PROVIDER_CPU_MS, READ_CPU_MS,
    READ_WIRE_THOUSANDTHS, REPAIR_CPU_MS, RETURNS_PERCENT, VALIDATOR_CPU_MS, VALIDATORS,
};
use hodei_storage::repair::least;
use hodei_types::code::{Class, Shape};

/// Hours of a month of 30 days.
pub const MONTH_HOURS: u64 = 720;
pub(crate) const GIB: u128 = 1 << 30;
const GB: u128 = 1_000_000_000;
pub(crate) const TB: u128 = 1_000_000_000_000;

/// Electricity, and what making it emits at [`GRID_GRAMS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub milliwatt_hours: u64,
    pub milligrams_co2e: u64,
}

/// The same work on two accounts: see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Both {
    pub beside: Cost,
    pub whole: Cost,
}

/// What something takes of processors and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub cpu_ms: u64,
    pub bytes: u64,
}

/// How a bucket is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proving {
    pub deals: u64,
    /// Bytes of user data in all deals together; none count as one.
    pub held_bytes: u64,
    /// Length of a window; 0 counts as 1.
    pub window_secs: u64,
}

/// An estimate for one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Energy {
    /// What the machines are taken for.
    pub device: Class,
    pub window_secs: u64,
    /// Hours of a GiB of disk, parity included: for a GiB and month, as the next four.
    pub disk_gib_hours: u64,
    pub repair: Work,
    pub proofs: Work,
    /// The share of the ledger's upkeep: of its validators, and of providers that follow it.
    pub chain: Work,
    pub stored: Both,
    /// For a GB read.
    pub read: Both,
}

impl Cost {
    /// Of nanowatt-hours, rounded up.
    fn of(nanowatt_hours: u128) -> Self {
        let up = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
        Self {
            milliwatt_hours: up(nanowatt_hours.div_ceil(1_000_000)),
            // A kWh is 10¹² nWh, a gram 10³ mg.
            milligrams_co2e: up(nanowatt_hours.saturating_mul(GRID_GRAMS.into()).div_ceil(GB)),
        }
    }
}

/// What a data centre's disks take for a GiB and month by the published coefficients: its copies, and nothing else.
pub fn centre() -> Cost {
    let disk = disk(u128::from(MONTH_HOURS * CENTRE_COPIES), CENTRE_DISK_MILLIWATTS);
    Cost::of(disk * u128::from(CENTRE_PUE_THOUSANDTHS) / 1_000)
}

/// Nanowatt-hours of so many hours of a GiB.
pub(crate) fn disk(gib_hours: u128, milliwatts_a_tb: u64) -> u128 {
    gib_hours * GIB * u128::from(milliwatts_a_tb) * 1_000_000 / TB
}

/// Nanowatt-hours of CPU time: a millisecond at a milliwatt is a microjoule, and 3.6 of these are a nanowatt-hour.
pub(crate) fn cpu(cpu_ms: u64, milliwatts: u64) -> u128 {
    u128::from(cpu_ms) * u128::from(milliwatts) * 10 / 36
}

/// Nanowatt-hours of bytes on the network.
fn network(bytes: u64, milliwatt_hours_a_gb: u64) -> u128 {
    u128::from(bytes) * u128::from(milliwatt_hours_a_gb) * 1_000_000 / GB
}

/// What a field holds at most, where it would be more.
pub(crate) fn fit(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Bytes repair moves for a GiB and month.
///
/// A stripe is restored once fewer than [`least`] of its shards are left: k are fetched and the missing ones stored.
/// Until then the time passes in which that many machines of its n end, each after an exponential life.
fn moved_bytes(shape: &Shape, device: Class) -> u64 {
    let (k, n, least) = (u128::from(shape.k()), u128::from(shape.n()), u128::from(least(shape)));
    let life_hours = (life_days(device) * 24.0) as u128;
    // In thousandths, as sums of fractions are.
    let hours: u128 = (least..=n).map(|left| life_hours * 1_000 / left).sum();
    let shards = k + n + 1 - least;
    let ending = GIB * shards * u128::from(MONTH_HOURS) * 1_000 / (k * hours.max(1));
    fit(ending * u128::from(RETURNS_PERCENT) / 100)
}

/// The disk's milliwatts a TB beside what runs anyway, and whole; and what the place draws for a thousand.
fn place(device: Class) -> (u64, u64, u64) {
    match device {
        Class::Datacentre => (CENTRE_DISK_MILLIWATTS, CENTRE_DISK_MILLIWATTS, CENTRE_PUE_THOUSANDTHS),
        Class::Small | Class::Home => (0, HOME_DISK_MILLIWATTS, 1_000),
        Class::Phone => (0, FLASH_MILLIWATTS, 1_000),
    }
}

/// Gigabytes a provider keeps.
fn kept_gb(device: Class) -> u64 {
    match device {
        Class::Phone => PHONE_KEPT_GB,
        Class::Small | Class::Datacentre | Class::Home => KEPT_GB,
    }
}

impl Energy {
    /// Of a bucket of this shape on such machines, at [`GRID_GRAMS`]; what would be more than a field holds is its most.
    pub fn of(shape: &Shape, device: Class, proving: &Proving) -> Self {
        let (k, n) = (u64::from(shape.k()), u64::from(shape.n()));
        let disk_gib_hours = (MONTH_HOURS * n).div_ceil(k);
        let moved = moved_bytes(shape, device);
        let repair = Work { cpu_ms: fit((u128::from(moved) * u128::from(REPAIR_CPU_MS)).div_ceil(GB)), bytes: moved };
        let window_secs = proving.window_secs.max(1);
        // Of all deals in a month, for one GiB of what they hold.
        let proofs = u128::from(proving.deals) * u128::from(MONTH_HOURS * 3_600);
        let share = u128::from(window_secs) * u128::from(proving.held_bytes.max(1));
        let each = |amount: u64| fit((proofs * u128::from(amount)).saturating_mul(GIB).div_ceil(share));
        let proofs = Work { cpu_ms: each(PROOF_CPU_MS), bytes: each(PROOF_BYTES) };
        let shared = |amount: u64| fit((u128::from(amount * MONTH_HOURS) * GIB).div_ceil(u128::from(NETWORK_TB) * TB));
        // A provider follows the chain for all that it keeps, parity included.
        let kept = u128::from(k) * u128::from(kept_gb(device)) * GB;
        let following = fit((u128::from(PROVIDER_CPU_MS * MONTH_HOURS * n) * GIB).div_ceil(kept));
        let upkeep = shared(VALIDATORS * VALIDATOR_CPU_MS).saturating_add(following);
        let chain = Work { cpu_ms: upkeep, bytes: shared(CHAIN_BYTES) };

        let sum =
            |of: fn(&Work) -> u64| [repair, proofs, chain].iter().fold(0, |sum, work| of(work).saturating_add(sum));
        let (cpu_ms, bytes) = (sum(|work| work.cpu_ms), sum(|work| work.bytes));
        let (disk_beside, disk_whole, pue) = place(device);
        let cost = |gib_hours: u64, milliwatts, (cpu_ms, core), (bytes, network_milliwatt_hours)| {
            let machines = disk(gib_hours.into(), milliwatts) + cpu(cpu_ms, core);
            Cost::of(machines * u128::from(pue) / 1_000 + network(bytes, network_milliwatt_hours))
        };
        let both = |gib_hours, cpu_ms, bytes| Both {
            beside: cost(
                gib_hours,
                disk_beside,
                (cpu_ms, CORE_BESIDE_MILLIWATTS),
                (bytes, NETWORK_BESIDE_MILLIWATT_HOURS),
            ),
            whole: cost(gib_hours, disk_whole, (cpu_ms, CORE_WHOLE_MILLIWATTS), (bytes, NETWORK_WHOLE_MILLIWATT_HOURS)),
        };
        Self {
            device,
            window_secs,
            disk_gib_hours,
            repair,
            proofs,
            chain,
            stored: both(disk_gib_hours, cpu_ms, bytes),
            read: both(0, READ_CPU_MS, 1_000_000 * READ_WIRE_THOUSANDTHS),
        }
    }

    /// For people: the numbers, what they are of, and a published one beside them.
    pub fn lines(&self) -> Vec<String> {
        let Both { beside, whole } = self.stored;
        let (centre, read) = (centre(), self.read);
        let two = |cost: Cost| format!("{} Wh and {} g", units(cost.milliwatt_hours), units(cost.milligrams_co2e));
        vec![
            format!(
                "Energy (computed): a GiB and month takes {} CO2e beside machines that run anyway, {} with all they draw and the network at 2015's average; by published figures {} in a data centre, for the disks of {CENTRE_COPIES} copies alone.",
                two(beside),
                two(whole),
                two(centre),
            ),
            format!(
                "A GB read takes {} to {} Wh, {} to {} g CO2e (computed), by what is laid on the network. Assumed: {GRID_GRAMS} g a kWh, the world's average; a proof every {} s; a full bucket.",
                units(read.beside.milliwatt_hours),
                units(read.whole.milliwatt_hours),
                units(read.beside.milligrams_co2e),
                units(read.whole.milligrams_co2e),
                self.window_secs,
            ),
        ]
    }
}

/// Thousandths in units, to about two digits that say something.
fn units(thousandths: u64) -> String {
    match thousandths {
        0..=99 => format!("0.{thousandths:03}"),
        100..=9_999 => format!("{}.{:02}", thousandths / 1_000, thousandths % 1_000 / 10),
        _ => (thousandths / 1_000 + u64::from(thousandths % 1_000 >= 500)).to_string(),
    }
}
