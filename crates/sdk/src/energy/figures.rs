//! State what was measured and what others published, with the source of each.

/// CPU-ms for a GB read, client and providers: objects of 4 MiB at 3 of 6, `benches/energy`, 2026-11-22.
pub const READ_CPU_MS: u64 = 8_720;
/// Bytes on the wire for a thousand that are read: the same.
pub const READ_WIRE_THOUSANDTHS: u64 = 1_145;
/// CPU-ms for a GB that repair moves, all machines: the same, of an owner's repair at 2 of 4.
pub const REPAIR_CPU_MS: u64 = 16_700;
/// CPU-ms of one deal's proof in one window, its provider's and that of four validators: the same.
pub const PROOF_CPU_MS: u64 = 5;
/// Bytes of one deal's proof in one window as its provider sends it: the codec's, of 16 GiB that are alone with it.
pub const PROOF_BYTES: u64 = 39_340;
/// CPU-ms of an idle validator in an hour, a block a second: the same.
pub const VALIDATOR_CPU_MS: u64 = 53_600;
/// CPU-ms of an idle provider in an hour, which follows the chain: the same.
pub const PROVIDER_CPU_MS: u64 = 17_400;
/// Gigabytes a provider keeps, parity included, at home or in a data centre: an assumption like that of `NETWORK_TB`.
pub const KEPT_GB: u64 = 1_000;
/// Gigabytes a phone keeps: an assumption.
pub const PHONE_KEPT_GB: u64 = 20;
/// Bytes four idle validators and six providers exchange in an hour: the same.
pub const CHAIN_BYTES: u64 = 785_000_000;
/// Validators of the network that was measured.
pub const VALIDATORS: u64 = 4;
/// Terabytes of users' data the chain's upkeep is shared by: an assumption; with a tenth of it that share is tenfold.
pub const NETWORK_TB: u64 = 100;
/// What a fleet moves for repair, in hundredths of what machines that end for good make necessary: a year of 10,000
/// phones moved 1,129 GB for each TB and month (docs/simulation.md) where the formula without this gives 772.
pub const RETURNS_PERCENT: u64 = 146;

/// Milliwatts of a busy core above idle: Cloud Carbon Footprint, AWS's average of 3.5 W less 0.74 W for a vCPU.
pub const CORE_BESIDE_MILLIWATTS: u64 = 2_760;
/// Milliwatts of a busy core with its idle share: the same source.
pub const CORE_WHOLE_MILLIWATTS: u64 = 3_500;
/// Milliwatt-hours a GB takes on the network at least: Cloud Carbon Footprint's 0.001 kWh.
pub const NETWORK_BESIDE_MILLIWATT_HOURS: u64 = 1_000;
/// Milliwatt-hours a GB took on fixed lines on average: 0.06 kWh in 2015, Aslan and others, 2018.
pub const NETWORK_WHOLE_MILLIWATT_HOURS: u64 = 60_000;
/// Milliwatts for a TB of disk in a data centre: Cloud Carbon Footprint, 6.5 W for 10 TB.
pub const CENTRE_DISK_MILLIWATTS: u64 = 650;
/// Milliwatts for a TB of disk of a whole machine at home: a published build of four 8 TB disks idles at 60 W.
pub const HOME_DISK_MILLIWATTS: u64 = 1_875;
/// Milliwatts for a TB of flash: Cloud Carbon Footprint, 6 W for 5 TB; of servers, as none of phones is published.
pub const FLASH_MILLIWATTS: u64 = 1_200;
/// What a data centre draws for a thousand that its machines do: Cloud Carbon Footprint, AWS.
pub const CENTRE_PUE_THOUSANDTHS: u64 = 1_135;
/// Copies a data centre keeps: Cloud Carbon Footprint's factor for S3.
pub const CENTRE_COPIES: u64 = 3;
/// Grams of CO2e for a kWh: the world's average in 2023, Ember.
pub const GRID_GRAMS: u64 = 481;
