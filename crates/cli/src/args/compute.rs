//! Read the commands by which a machine offers to run others' components.

use super::{Plan, share::size};
use clap::{Args, Subcommand};
use hodei_types::market::{TIERS, read_percent};
use std::{net::SocketAddr, path::PathBuf};

#[derive(Subcommand, Debug)]
pub(crate) enum NodeOffer {
    /// Offer to run components or containers of others; `hodei node run` then states it on the market and runs them.
    Compute(Box<OfferCompute>),
}

#[derive(Args, Debug)]
pub(crate) struct OfferCompute {
    /// What is run: components with wasm, containers with oci, which needs root and runc.
    #[arg(long, value_name = "RUNTIME", value_parser = ["wasm", "oci"], default_value = "wasm")]
    pub(crate) runtime: String,
    /// The program that runs containers; without it runc or crun, as found.
    #[arg(long, value_name = "FILE", default_value = "")]
    pub(crate) engine: String,
    /// CPUs, as 2 or 0.5.
    #[arg(long, value_name = "COUNT", value_parser = milli, default_value = "1")]
    pub(crate) cpus: u64,
    /// Memory for all that runs.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1GiB")]
    pub(crate) memory: u64,
    /// Disk for components and what they compile to, or for images and what containers write.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "4GiB")]
    pub(crate) disk: u64,
    /// Mbit a second, in or out.
    #[arg(long, value_name = "MBIT", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) bandwidth: u64,
    /// What may be moved in an hour, in or out.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1GiB")]
    pub(crate) transfer: u64,
    /// Coins for a CPU and hour; without it the default of [compute].
    #[arg(long, value_name = "COINS")]
    pub(crate) price_cpu: Option<String>,
    /// Coins for a GiB of memory and hour; without it the default of [compute].
    #[arg(long, value_name = "COINS")]
    pub(crate) price_memory: Option<String>,
    /// Where the machine stands: `local`, or a region such as eu-west.
    #[arg(long, value_name = "REGION", default_value = "local")]
    pub(crate) region: String,
    /// The country it stands in, two capitals; ZZ says none.
    #[arg(long, value_name = "COUNTRY", default_value = "ZZ")]
    pub(crate) country: String,
    /// What kind of place it stands in.
    #[arg(long, value_name = "TIER", default_value = TIERS[0], value_parser = TIERS)]
    pub(crate) tier: String,
    /// Renewable part of its power.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) renewable: u8,
    /// What fails together with this machine: a room, a flat, a data centre.
    #[arg(long, value_name = "ZONE", default_value = "home")]
    pub(crate) zone: String,
    /// Collateral placed when it registers: what ending leases early may cost.
    #[arg(long, value_name = "COINS", default_value = "1")]
    pub(crate) collateral: String,
    /// Availability it promises with a bond to who asks for it, from 90 to 99.99; nothing without it.
    #[arg(long, value_name = "PERCENT", value_parser = percent, requires = "bond")]
    pub(crate) availability: Option<u16>,
    /// Coins that answer for what it promises: each lease that asks binds what a breach pays.
    #[arg(long, value_name = "COINS", requires = "availability")]
    pub(crate) bond: Option<String>,
    /// Within how long it promises to take a lease up, to an hour.
    #[arg(long, value_name = "TIME", value_parser = secs, default_value = "60s")]
    pub(crate) start: u16,
    /// Within how long it promises that a lost replica runs elsewhere, to twelve hours; watching takes some three minutes.
    #[arg(long, value_name = "TIME", value_parser = secs, default_value = "5m")]
    pub(crate) restore: u16,
    /// Part of a window's pay that a breach pays.
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "10")]
    pub(crate) pay: u16,
    /// Where others reach a new node; without it the address it sends from, port 4433.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<SocketAddr>,
    /// The node's folder; without it the context's node, or a new one beside the wallet.
    #[arg(long, value_name = "FOLDER", env = "HODEI_NODE")]
    pub(crate) folder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

/// Hundredths of a percent.
fn percent(text: &str) -> Result<u16, String> {
    read_percent(text).ok_or_else(|| format!("{text:?} is no part in percent: expected one such as 99.9"))
}

/// Seconds of a short time.
fn secs(text: &str) -> Result<u16, String> {
    let wrong = |rule: String| format!("{text:?} is no such time: expected {rule}");
    u16::try_from(hodei_sdk::app::secs(text).map_err(wrong)?).map_err(|_| wrong("at most 12h".into()))
}

/// Thousandths of what is written with at most three decimals.
fn milli(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no count of CPUs: expected one such as 2 or 0.5, at least 0.01");
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if rest.len() > 3 || !is_digits(whole) || !is_digits(rest) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let rest: u64 = format!("{rest:0<3}").parse().map_err(|_| wrong())?;
    let milli = whole.checked_mul(1000).and_then(|milli| milli.checked_add(rest));
    milli.filter(|milli| (10..=1 << 24).contains(milli)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_read_as_it_is_said() {
        assert_eq!(
            (percent("99.9"), percent("99.99%"), secs("30s"), secs("5m")),
            (Ok(9_990), Ok(9_999), Ok(30), Ok(300))
        );
        assert!(percent("99.999").is_err() && secs("30").is_err() && secs("2d").is_err());
    }

    #[test]
    fn cpus_are_read_to_the_thousandth() {
        assert_eq!((milli("2"), milli("0.5"), milli("1.125")), (Ok(2000), Ok(500), Ok(1125)));
        for text in ["", "0", "0.001", ".5", "1.", "1.0005", "-1", "1e3", "99999999999999999999"] {
            assert!(milli(text).is_err(), "{text:?}");
        }
    }
}
