//! Read the commands on reservations: what is held, and lent.

use super::{Plan, share::size};
use clap::Args;
use hodei_sdk::app::Draft;

#[derive(Args, Debug)]
pub(crate) struct MarketReserve {
    /// Regions it may be held in, with commas.
    #[arg(long = "region", value_name = "REGIONS", value_delimiter = ',', required = true)]
    pub(crate) regions: Vec<String>,
    /// CPUs of each, as 4 or 0.5.
    #[arg(long, value_name = "CPUS")]
    pub(crate) cpu: String,
    /// Memory of each, as 16GiB.
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: String,
    /// Disk of each, as 100GiB.
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk: Option<String>,
    /// Mbit a second of each, in or out.
    #[arg(long, value_name = "MBIT", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) bandwidth: u64,
    /// What each may move in an hour, as 1GiB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) transfer: Option<u64>,
    /// How many of these, 1 to 64.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) replicas: u64,
    /// How long it is held and paid ahead, as 30d.
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) term: String,
    /// The one country it may be held in, as ES.
    #[arg(long, value_name = "COUNTRY")]
    pub(crate) country: Option<String>,
    /// How many on one host at most, 0 for no limit; 1 without it.
    #[arg(long, value_name = "COUNT")]
    pub(crate) per_host: Option<u64>,
    /// How many with one operator at most.
    #[arg(long, value_name = "COUNT")]
    pub(crate) per_operator: Option<u64>,
    /// How many on one network at most.
    #[arg(long, value_name = "COUNT")]
    pub(crate) per_network: Option<u64>,
    /// Most coins one of them may cost an hour.
    #[arg(long, value_name = "COINS")]
    pub(crate) price_max: Option<String>,
    /// Coins a host has as collateral at least.
    #[arg(long, value_name = "COINS")]
    pub(crate) collateral_min: Option<String>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

impl MarketReserve {
    pub(crate) fn draft(&self) -> Draft {
        Draft {
            replicas: Some(self.replicas),
            cpu: Some(self.cpu.clone()),
            memory: Some(self.memory.clone()),
            disk: self.disk.clone(),
            regions: Some(self.regions.clone()),
            country: self.country.clone(),
            price_max: self.price_max.clone(),
            per_host: self.per_host,
            per_operator: self.per_operator,
            per_network: self.per_network,
            term: Some(self.term.clone()),
            collateral_min: self.collateral_min.clone(),
            ..Draft::default()
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct MarketLend {
    /// The reservation, as `hodei market reserved` numbers them.
    #[arg(value_name = "RESERVATION")]
    pub(crate) reservation: u64,
    /// Coins for a CPU and hour; nothing else costs without --price-memory.
    #[arg(long, value_name = "COINS", required_unless_present = "part")]
    pub(crate) price_cpu: Option<String>,
    /// Coins for a GiB of memory and hour.
    #[arg(long, value_name = "COINS", requires = "price_cpu")]
    pub(crate) price_memory: Option<String>,
    /// Instead of prices: a part of what it costs you, as 80% or 120%.
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with = "price_cpu")]
    pub(crate) part: Option<u64>,
    /// What preemptible orders pay of it; you may end these at any time.
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "50%")]
    pub(crate) preemptible: u64,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct MarketRenew {
    /// The reservation, as `hodei market reserved` numbers them.
    #[arg(value_name = "RESERVATION")]
    pub(crate) reservation: u64,
    /// How much longer, as 24h.
    #[arg(long, value_name = "TIME", value_parser = hodei_sdk::app::secs)]
    pub(crate) term: u64,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct MarketHeld {
    /// The reservation, as `hodei market reserved` numbers them.
    #[arg(value_name = "RESERVATION")]
    pub(crate) reservation: u64,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

/// Whole percent, from 1 to 1000.
fn percent(text: &str) -> Result<u64, String> {
    let value = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
    let value = value.filter(|percent| (1..=1000).contains(percent));
    value.ok_or_else(|| format!("{text:?} is no part: expected one such as 80%, from 1% to 1000%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_with_their_sign_or_without() {
        assert_eq!((percent("80%"), percent("120"), percent("1000%")), (Ok(80), Ok(120), Ok(1000)));
        for text in ["", "%", "0%", "1001%", "0.8", "-5%", "80%%"] {
            assert!(percent(text).is_err(), "{text:?}");
        }
    }
}
