//! State what a machine offers to run other people's components, or their containers.

use super::{Coins, ConfigError, Promise};
use hodei_types::market::{CAPACITY_MAX, CAPACITY_MIN, Capacity, PRICE_MAX, Prices, Runtime, Tier, region};
use serde::{Deserialize, Serialize};

const MIB: u64 = 1 << 20;

/// Computing for rent: components in WebAssembly, or containers, each replica by itself. Needs a build with feature
/// `host`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compute {
    /// What is run: components with `wasm`, containers with `oci`. One node offers one of them.
    pub runtime: Runs,
    /// The program that runs containers, such as `/usr/sbin/runc`. Empty: runc or crun, as found.
    pub engine: String,
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Memory of all replicas together. Each needs some hundred MiB of address space besides, of which it touches little.
    pub memory_bytes: u64,
    /// Disk for components and what they compile to, or for images and what containers write.
    pub disk_bytes: u64,
    /// Bits a second, in or out.
    pub bandwidth_bits: u64,
    /// Bytes moved in each hour, in or out.
    pub transfer_bytes: u64,
    /// Price of a CPU for an hour.
    pub price_cpu: Coins,
    /// Price of a GiB of memory for an hour.
    pub price_memory: Coins,
    /// Price of a GiB of disk for an hour.
    pub price_disk: Coins,
    /// Price of a Mbit/s for an hour.
    pub price_bandwidth: Coins,
    /// Price of a GiB an hour that may be moved.
    pub price_transfer: Coins,
    /// From which utilisation on prices are higher by how much, both in percent: at most four, rising.
    pub curve: Vec<Step>,
    /// Percent of the price that orders pay which this node may end at any time.
    pub preemptible_percent: u8,
    /// Where the machine stands: `local`, or one of the regions of `hodei market book --help`, such as `eu-west`.
    pub region: String,
    /// Country, two capitals of ISO 3166-1; `ZZ` says none.
    pub country: String,
    /// The failure domain: a room, a flat, a data centre. 1 to 31 of `a-z 0-9 -`.
    pub zone: String,
    /// The network as declared, such as an AS number. Empty: the prefix of the address it is reached at, or the zone.
    pub network: String,
    /// What kind of place: `home`, `office` or `datacentre`.
    pub tier: Place,
    /// What it runs on, as declared, up to 31 characters.
    pub hardware: String,
    /// Renewable part of the power, in percent, as declared.
    pub renewable_percent: u8,
    /// Collateral placed when registering: what a lease that is ended early may cost.
    pub collateral: Coins,
    /// Registers itself on the ledger when it is not yet, and keeps its offer current there.
    pub register: bool,
    /// Seconds for which the process of a component on call is kept that nobody asks.
    pub idle_secs: u64,
    /// Streams one peer may hold at once; further ones wait.
    pub peer_streams_max: usize,
    /// Streams all peers together may hold at once; further ones are told BUSY.
    pub streams_max: usize,
    /// What it promises with a bond to who asks for a service level; nothing without it.
    pub level: Option<Promise>,
}

/// What a host runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runs {
    #[default]
    Wasm,
    Oci,
}

impl From<Runs> for Runtime {
    fn from(runs: Runs) -> Self {
        match runs {
            Runs::Wasm => Self::Wasm,
            Runs::Oci => Self::Oci,
        }
    }
}

/// From that utilisation on prices are so much higher, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub from: u8,
    pub markup: u16,
}

/// What kind of place a machine stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    #[default]
    Home,
    Office,
    Datacentre,
}

impl Default for Compute {
    fn default() -> Self {
        Self {
            runtime: Runs::Wasm,
            engine: String::new(),
            cpu_milli: 1000,
            memory_bytes: 1 << 30,
            disk_bytes: 4 << 30,
            bandwidth_bits: 10_000_000,
            transfer_bytes: 1 << 30,
            price_cpu: Coins(10_000_000_000_000_000),
            price_memory: Coins(2_000_000_000_000_000),
            price_disk: Coins(10_000_000_000_000),
            price_bandwidth: Coins(10_000_000_000_000),
            price_transfer: Coins(1_000_000_000_000_000),
            curve: Vec::new(),
            preemptible_percent: 50,
            region: "local".into(),
            country: "ZZ".into(),
            zone: "home".into(),
            network: String::new(),
            tier: Place::Home,
            hardware: String::new(),
            renewable_percent: 0,
            collateral: Coins(0),
            register: true,
            idle_secs: 60,
            // A gateway and its visitors' requests, the deployer's look, and a watcher's ping.
            peer_streams_max: 64,
            streams_max: 512,
            level: None,
        }
    }
}

impl Compute {
    /// One of several in one test.
    pub fn test() -> Self {
        Self { memory_bytes: 256 * MIB, disk_bytes: 256 * MIB, idle_secs: 5, ..Self::default() }
    }

    pub fn capacity(&self) -> Capacity {
        let Self { cpu_milli, memory_bytes, disk_bytes, bandwidth_bits, transfer_bytes, .. } = *self;
        Capacity::of_dims([cpu_milli, memory_bytes, disk_bytes, bandwidth_bits, transfer_bytes])
    }

    /// Wei an hour for the ledger's small units, rounded up; `None` for a price that is none there.
    pub fn prices(&self) -> Option<Prices> {
        let of = |price: Coins, units: u128| u64::try_from(price.0.div_ceil(units)).ok().filter(|it| *it <= PRICE_MAX);
        Some(Prices {
            cpuMilli: of(self.price_cpu, 1000)?,
            memoryMib: of(self.price_memory, 1024)?,
            diskMib: of(self.price_disk, 1024)?,
            bandwidthKbit: of(self.price_bandwidth, 1000)?,
            transferMib: of(self.price_transfer, 1024)?,
        })
    }

    pub fn tiers(&self) -> Vec<Tier> {
        let tier = |step: &Step| Tier {
            fromBp: u16::from(step.from).saturating_mul(100),
            markupBp: step.markup.saturating_mul(100),
        };
        self.curve.iter().map(tier).collect()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let value =
            |key, found: &dyn ToString, expected| Err(ConfigError::Value { key, found: found.to_string(), expected });
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let capacity = self.capacity();
        if !CAPACITY_MIN.fits_in(&capacity) || !capacity.fits_in(&CAPACITY_MAX) {
            let expected = "cpu_milli from 10 to 16777216, memory_bytes from 1048576, and no more than any machine has";
            return value("compute", &format!("{:?}", capacity.dims()), expected);
        }
        if self.runtime == Runs::Wasm && !self.engine.is_empty() {
            return value("compute.engine", &self.engine, "nothing where runtime is wasm: it runs containers");
        }
        if self.prices().is_none() {
            return value("compute.price_*", &"a price too high", "at most about 1000 coins a unit and hour");
        }
        let rises = self.curve.windows(2).all(|pair| pair[0].from < pair[1].from && pair[0].markup < pair[1].markup);
        let fits = |step: &Step| (1..=100).contains(&step.from) && (1..=300).contains(&step.markup);
        if self.curve.len() > 4 || !rises || !self.curve.iter().all(fits) {
            let expected = "at most 4, rising in both: from 1 to 100 and markup 1 to 300 percent";
            return value("compute.curve", &format!("{:?}", self.curve), expected);
        }
        if !(1..=100).contains(&self.preemptible_percent) {
            return value("compute.preemptible_percent", &self.preemptible_percent, "1 to 100");
        }
        if region(&self.region).is_none() {
            return value("compute.region", &self.region, "local, or a region such as eu-west or na-east");
        }
        if self.country.len() != 2 || !self.country.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return value("compute.country", &self.country, "two capitals, such as ES");
        }
        if !(1..=31).contains(&self.zone.len()) || !self.zone.bytes().all(plain) {
            return value("compute.zone", &self.zone, "1 to 31 of a-z, 0-9 and -");
        }
        for (key, text) in [("compute.network", &self.network), ("compute.hardware", &self.hardware)] {
            if text.len() > 31 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return value(key, text, "at most 31 letters, digits and signs, without spaces");
            }
        }
        if self.renewable_percent > 100 {
            return value("compute.renewable_percent", &self.renewable_percent, "0 to 100");
        }
        if self.peer_streams_max == 0 || self.streams_max < self.peer_streams_max {
            let expected = "at least peer_streams_max, which is at least 1";
            return value("compute.streams_max", &self.streams_max, expected);
        }
        self.level.as_ref().map_or(Ok(()), Promise::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn prices_are_given_in_what_people_count_in() {
        let compute = Compute { price_cpu: Coins(1001), price_memory: Coins(1024), ..Compute::default() };
        let prices = compute.prices().unwrap();
        assert_eq!((prices.cpuMilli, prices.memoryMib), (2, 1), "rounded up");
        assert_eq!(Compute { price_disk: Coins(u128::MAX), ..compute }.prices(), None);
    }

    #[test]
    fn an_offer_that_the_ledger_would_refuse_is_refused_by_its_key() {
        let told = |line: &str| {
            let config = Config::parse(&format!("[compute]\n{line}\n")).unwrap();
            config.check().expect_err(line).to_string()
        };
        assert!(Config::parse("[compute]\n").unwrap().check().is_ok());
        for (key, line) in [
            ("compute", "cpu_milli = 9"),
            ("compute.price_*", "price_cpu = \"2000\""),
            ("compute.engine", "engine = \"runc\""),
            ("compute.curve", "curve = [{ from = 50, markup = 20 }, { from = 40, markup = 30 }]"),
            ("compute.curve", "curve = [{ from = 0, markup = 20 }]"),
            ("compute.preemptible_percent", "preemptible_percent = 0"),
            ("compute.region", "region = \"moon\""),
            ("compute.country", "country = \"es\""),
            ("compute.zone", "zone = \"A\""),
            ("compute.hardware", "hardware = \"two words\""),
            ("compute.renewable_percent", "renewable_percent = 101"),
            ("compute.streams_max", "streams_max = 1"),
        ] {
            let told = told(line);
            assert!(told.contains(&format!("`{key}`")), "{line}: {told}");
        }
    }
}
