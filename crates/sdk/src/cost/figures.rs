//! State prices of hardware, electricity and lines, with the source of each, and the machines they make.

use super::Machine;
use crate::energy::figures::{CORE_BESIDE_MILLIWATTS, CORE_WHOLE_MILLIWATTS, HOME_DISK_MILLIWATTS};
use hodei_types::code::Class;

/// Dollars for ten thousand euros: the European Central Bank's rate of 2026-10-28.
pub const EURO: u64 = 11_133;
/// Micro-dollars for a kWh at home: 28.72 euro cents, the EU's households in the first half of 2025, Eurostat.
pub const KWH_MICROS: u32 = euros(287_200);
/// Micro-dollars for a TB sent from a data centre: a euro, as Hetzner's cloud bills what exceeds its 20 TB.
pub const LINE_MICROS: u32 = euros(1_000_000);
/// Micro-dollars a month of a rented server with disks: Hetzner SX65-2, 82.30 euros.
pub const RENTED_DISKS_MICROS: u32 = euros(82_300_000);
/// What is paid once to have it: 39 euros.
pub const RENTED_DISKS_SETUP_MICROS: u32 = euros(39_000_000);
/// Terabytes it has, four disks of 16.
pub const RENTED_TB: u32 = 64;
/// Micro-dollars a month of a rented server for its cores: OVHcloud RISE-S, 64.99 euros, and as much once.
pub const RENTED_CORES_MICROS: u32 = euros(64_990_000);
/// Threads it has, of 8 cores, with 64 GB: 4 GB each.
pub const RENTED_VCPUS: u32 = 16;
/// Months a server is rented for: an assumption.
pub const RENTED_MONTHS: u32 = 36;
/// Micro-dollars a month of a validator's machine: Hetzner CX33, 4 shared vCPUs and 8 GB, 8.49 euros.
pub const VALIDATOR_MICROS: u32 = euros(8_490_000);
/// Micro-dollars of a TB of new disk: an assumption; the median of internal hard disks was 35.25 pounds in February 2026.
pub const DISK_MICROS: u32 = 46_000_000;
/// Micro-dollars of a machine around four such disks: an assumption.
pub const CASE_MICROS: u32 = 400_000_000;
/// Terabytes in it, four disks of 8, as the draw in `HOME_DISK_MILLIWATTS` is of.
pub const BOUGHT_TB: u32 = 32;
/// Micro-dollars of a small machine bought for its cores: an assumption; such are sold from 150 dollars.
pub const SMALL_MICROS: u32 = 300_000_000;
/// Threads it has, with 16 GB: 4 GB each.
pub const BOUGHT_VCPUS: u32 = 4;
/// Months that what is bought lives: an assumption.
pub const BOUGHT_MONTHS: u32 = 60;
/// Hundredths of a disk that are filled: an assumption.
pub const FILLED_PERCENT: u32 = 70;
/// Hundredths of a vCPU's time that are sold: an assumption.
pub const SOLD_PERCENT: u32 = 50;

/// Micro-dollars of a TB sent on a line that is had for this alone: 40 dollars a month for 40 Mbit/s up, of which a
/// tenth is used, 1.296 TB: an assumption.
pub const OWN_LINE_MICROS: u32 = 40_000_000 / 1_296 * 1_000;
/// Micro-dollars of a TB of a phone's flash and month, were it bought for this: 100 dollars for 128 GB more, and 36 months.
pub const PHONE_FLASH_MICROS: u32 = 100_000_000 / 128 * 1_000 / 36;

/// Micro-dollars for so many millionths of a euro.
pub const fn euros(micros: u64) -> u32 {
    let dollars = micros * EURO / 10_000;
    assert!(dollars <= u32::MAX as u64, "a price beyond what the field holds");
    dollars as u32
}

/// A server in a data centre. Its rent pays for electricity and for disks that fail.
pub const RENTED: Machine = Machine {
    name: "rented server",
    device: Class::Datacentre,
    disk_micros: (RENTED_DISKS_MICROS + RENTED_DISKS_SETUP_MICROS / RENTED_MONTHS) / RENTED_TB,
    disk_milliwatts: 0,
    core_micros: (RENTED_CORES_MICROS + RENTED_CORES_MICROS / RENTED_MONTHS) / RENTED_VCPUS,
    core_milliwatts: 0,
    waiting_milliwatts: 0,
    kwh_micros: 0,
    line_micros: LINE_MICROS,
    filled_percent: FILLED_PERCENT,
    sold_percent: SOLD_PERCENT,
};

/// A machine at home that is there and on without this; so is its line.
pub const HOME: Machine = Machine {
    name: "home, on anyway",
    device: Class::Home,
    disk_micros: 0,
    disk_milliwatts: 0,
    core_micros: 0,
    core_milliwatts: CORE_BESIDE_MILLIWATTS as u32,
    waiting_milliwatts: 0,
    kwh_micros: KWH_MICROS,
    line_micros: 0,
    filled_percent: FILLED_PERCENT,
    sold_percent: SOLD_PERCENT,
};

/// A machine at home that was bought for this and is on for it alone; the line is there.
pub const BOUGHT: Machine = Machine {
    name: "bought for it",
    disk_micros: (DISK_MICROS + CASE_MICROS / BOUGHT_TB) / BOUGHT_MONTHS,
    disk_milliwatts: HOME_DISK_MILLIWATTS as u32,
    core_micros: SMALL_MICROS / BOUGHT_MONTHS / BOUGHT_VCPUS,
    core_milliwatts: CORE_WHOLE_MILLIWATTS as u32,
    waiting_milliwatts: (CORE_WHOLE_MILLIWATTS - CORE_BESIDE_MILLIWATTS) as u32,
    ..HOME
};

/// A phone that is there, at its charger and on a line without a meter.
pub const PHONE: Machine = Machine { name: "phone", device: Class::Phone, ..HOME };

pub const MACHINES: [Machine; 4] = [RENTED, HOME, BOUGHT, PHONE];
