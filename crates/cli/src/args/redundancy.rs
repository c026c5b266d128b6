//! Read how much of a bucket may be lost, and where it lies.

use super::{Plan, share::size};
use clap::Args;

const CAPACITY_MAX: u64 = 1 << 50;

#[derive(Args, Debug, Default)]
pub(crate) struct Spread {
    /// K/N: make N shards of each stripe, of which any K restore it.
    #[arg(long, value_name = "K/N", value_parser = code, conflicts_with = "copies")]
    pub(crate) code: Option<(u8, u8)>,
    /// Keep so many whole copies, instead of a code.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(2..=32))]
    pub(crate) copies: Option<u8>,
    /// Whole operators, or networks, it shall survive the loss of; without it what suits the code.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) losses: Option<u8>,
    /// Spread each stripe over operators as if there were so many: at most N / COUNT of its shards at one, rounded up.
    /// Refused where fewer are on offer; 0 asks for no more than --losses does.
    #[arg(long, value_name = "COUNT")]
    pub(crate) operators: Option<u8>,
    /// The same for networks.
    #[arg(long, value_name = "COUNT")]
    pub(crate) networks: Option<u8>,
    /// The same for zones, as machines declare them.
    #[arg(long, value_name = "COUNT")]
    pub(crate) zones: Option<u8>,
    /// Only machines whose zone is one of these, or is named after one: `eu` takes `eu-berlin`; `any` takes all.
    #[arg(long, visible_alias = "region", value_name = "REGION", value_delimiter = ',')]
    pub(crate) regions: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct DataRedundancy {
    /// The bucket: a name, or hodei://NAME.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
    #[command(flatten)]
    pub(crate) spread: Spread,
    /// How much it may hold: gibibytes, or a size as 200MiB; without it what it was made for.
    #[arg(long, value_name = "SIZE", value_parser = capacity)]
    pub(crate) capacity: Option<u64>,
    /// Windows paid ahead into the escrow of deals that are new or grow.
    #[arg(long, value_name = "WINDOWS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) windows: u64,
    /// Mebibytes of data a second that are stored again at most; without it as fast as it goes.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) rate: Option<u64>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

impl Spread {
    /// (k, n): copies are a code of which any one shard suffices.
    pub(crate) fn code(&self) -> Option<(u8, u8)> {
        self.code.or(self.copies.map(|copies| (1, copies)))
    }

    /// `None` if nothing was said of them.
    pub(crate) fn regions(&self) -> Option<Vec<String>> {
        match self.regions.as_slice() {
            [] => None,
            [any] if any == "any" => Some(Vec::new()),
            regions => Some(regions.to_vec()),
        }
    }
}

/// Bytes: a whole number is gibibytes.
pub(super) fn capacity(text: &str) -> Result<u64, String> {
    let bytes = match text.parse::<u64>() {
        Ok(gib) => gib.checked_mul(1 << 30),
        Err(_) => size(text).ok(),
    };
    bytes.filter(|bytes| (1..=CAPACITY_MAX).contains(bytes)).ok_or_else(|| {
        format!("expected whole gibibytes, or a whole number with MiB, GiB or TiB, as 200MiB, at most 1024TiB, found {text:?}")
    })
}

fn code(text: &str) -> Result<(u8, u8), String> {
    let wrong = || format!("expected K/N such as 4/8, found {text:?}");
    let (k, n) = text.split_once('/').ok_or_else(wrong)?;
    let code = (k.parse().map_err(|_| wrong())?, n.parse().map_err(|_| wrong())?);
    if code.0 == 0 || code.0 >= code.1 {
        return Err(format!("expected 1 to N - 1 shards that suffice, found {k} of {n}"));
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_is_gibibytes_or_a_size() {
        for (text, bytes) in [("1", 1 << 30), ("1048576", 1 << 50), ("200MiB", 200 << 20), ("2TiB", 2 << 40)] {
            assert_eq!(capacity(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "0", "0.2", "1.5GiB", "-1", "0MiB", "1048577", "1025TiB", "99999999999999999999", "1GB"] {
            let told = capacity(wrong).unwrap_err();
            assert!(told.contains("as 200MiB") && told.contains(&format!("{wrong:?}")), "{told}");
        }
    }

    #[test]
    fn a_code_is_read_as_it_is_said() {
        assert_eq!((code("4/8"), code("1/2"), code("254/255")), (Ok((4, 8)), Ok((1, 2)), Ok((254, 255))));
        for wrong in ["", "4", "4/", "/8", "8/4", "4/4", "0/4", "4/256", "4/8/9", "-1/4", "four/eight"] {
            assert!(code(wrong).is_err(), "{wrong}");
        }
        let spread = Spread { copies: Some(3), regions: vec!["any".into()], ..Spread::default() };
        assert_eq!((spread.code(), spread.regions(), Spread::default().regions()), (Some((1, 3)), Some(vec![]), None));
    }
}
