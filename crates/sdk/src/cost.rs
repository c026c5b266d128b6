//! Compute what it costs to provide a GiB kept for a month, a GB delivered and a vCPU for an hour.
//!
//! Nothing of it was billed. How much disk, CPU and how many bytes something takes is what [`crate::energy`] says, from
//! what was measured; what a TB, a core, a kWh and a byte on the line cost are prices stated in [`figures`]. It is what
//! providing costs, not what anybody asks for it: work, taxes, interest and profit are not in it.

pub mod figures;
#[cfg(test)]
mod tests;

use crate::energy::{
    Energy, GIB, MONTH_HOURS, Proving, TB, cpu, disk,
    figures::{NETWORK_TB, READ_CPU_MS, READ_WIRE_THOUSANDTHS, VALIDATORS},
    fit,
};
use figures::VALIDATOR_MICROS;
use hodei_types::code::{Class, Shape};

const HOUR_MS: u64 = 3_600_000;
/// Nanowatt-hours of a kWh.
const KWH: u128 = 1_000_000_000_000;

/// A machine to provide from, and what it is had for. Prices are in micro-dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub name: &'static str,
    /// What it is taken for where repair is computed.
    pub device: Class,
    /// Of a TB of its disk, a month: all that the machine costs, if it was got for its disk.
    pub disk_micros: u32,
    /// Drawn by a TB of its disk, where its provider pays for that.
    pub disk_milliwatts: u32,
    /// Of a vCPU and its memory, a month: all that the machine costs, if it was got for its cores.
    pub core_micros: u32,
    /// Drawn by a vCPU at work, and by one that waits to be sold, where its provider pays for that.
    pub core_milliwatts: u32,
    pub waiting_milliwatts: u32,
    pub kwh_micros: u32,
    /// Of a TB sent.
    pub line_micros: u32,
    /// How much of its disk is filled, and of its vCPUs' time sold; what is not is paid by what is. 1 to 100.
    pub filled_percent: u32,
    pub sold_percent: u32,
}

/// Micro-dollars of a vCPU for an hour, each rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    pub hardware: u64,
    pub electricity: u64,
}

/// Micro-dollars of a GiB and month, each rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Disk, parity included.
    pub hardware: u64,
    pub electricity: u64,
    /// CPU of repair, of proofs and of following the ledger, at this machine's vCPU-hour.
    pub work: u64,
    pub line: u64,
    /// The share of the machines that validators are.
    pub validators: u64,
}

/// Micro-dollars of a GB delivered, each rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub work: u64,
    pub line: u64,
}

impl Hour {
    pub fn total(&self) -> u64 {
        self.hardware.saturating_add(self.electricity)
    }
}

impl Stored {
    pub fn total(&self) -> u64 {
        [self.electricity, self.work, self.line, self.validators].into_iter().fold(self.hardware, u64::saturating_add)
    }
}

impl Delivered {
    pub fn total(&self) -> u64 {
        self.work.saturating_add(self.line)
    }
}

/// A share that is used, in hundredths.
fn used(percent: u32) -> u128 {
    percent.clamp(1, 100).into()
}

impl Machine {
    pub fn vcpu_hour(&self) -> Hour {
        let sold = used(self.sold_percent);
        let hardware = (u128::from(self.core_micros) * 100).div_ceil(u128::from(MONTH_HOURS) * sold);
        let drawn = cpu(HOUR_MS, self.core_milliwatts.into()) * sold
            + cpu(HOUR_MS, self.waiting_milliwatts.into()) * (100 - sold);
        let electricity = (drawn * u128::from(self.kwh_micros)).div_ceil(KWH * sold);
        Hour { hardware: fit(hardware), electricity: fit(electricity) }
    }

    /// CPU time at this machine's vCPU-hour.
    fn work(&self, cpu_ms: u64) -> u64 {
        fit((u128::from(cpu_ms) * u128::from(self.vcpu_hour().total())).div_ceil(HOUR_MS.into()))
    }

    fn line(&self, bytes: u64) -> u64 {
        fit((u128::from(bytes) * u128::from(self.line_micros)).div_ceil(TB))
    }

    /// A GiB and month of a bucket of this shape, on machines that are all like this one.
    pub fn stored(&self, shape: &Shape, proving: &Proving) -> Stored {
        let energy = Energy::of(shape, self.device, proving);
        let hours = u128::from(energy.disk_gib_hours);
        let filled = used(self.filled_percent);
        let hardware =
            (hours * GIB * u128::from(self.disk_micros) * 100).div_ceil(TB * u128::from(MONTH_HOURS) * filled);
        let drawn = disk(hours, self.disk_milliwatts.into());
        let electricity = (drawn * u128::from(self.kwh_micros) * 100).div_ceil(KWH * filled);
        let parts = [energy.repair, energy.proofs, energy.chain];
        let (cpu_ms, bytes) = parts.iter().fold((0_u64, 0_u64), |(cpu_ms, bytes), part| {
            (cpu_ms.saturating_add(part.cpu_ms), bytes.saturating_add(part.bytes))
        });
        Stored {
            hardware: fit(hardware),
            electricity: fit(electricity),
            work: self.work(cpu_ms),
            line: self.line(bytes),
            validators: validators(NETWORK_TB),
        }
    }

    /// A GB read by somebody, from shards at machines that are all like this one.
    pub fn delivered(&self) -> Delivered {
        Delivered { work: self.work(READ_CPU_MS), line: self.line(1_000_000 * READ_WIRE_THOUSANDTHS) }
    }
}

/// A GiB's share of the validators' machines for a month, in a network that keeps so many TB of users' data.
pub fn validators(network_tb: u64) -> u64 {
    let all = u128::from(VALIDATORS) * u128::from(VALIDATOR_MICROS);
    fit((all * GIB).div_ceil(u128::from(network_tb.max(1)) * TB))
}

/// Micro-dollars for people.
pub fn dollars(micros: u64) -> String {
    format!("${}.{:06}", micros / 1_000_000, micros % 1_000_000)
}
