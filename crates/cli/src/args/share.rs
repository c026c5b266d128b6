//! Read the commands that let others at objects.

use super::{Plan, Process};
use clap::{Args, Subcommand};
use std::net::SocketAddr;

#[derive(Subcommand, Debug)]
pub(crate) enum Share {
    /// Make a link by which anybody gets an object or a folder, or passes for named readers.
    Create(ShareCreate),
    /// List the links that lead into buckets.
    #[command(visible_alias = "ls")]
    List(ShareList),
    /// Take links back.
    Revoke(ShareRevoke),
    /// Look what a link is of, and take in what a pass needs to be read later while the ledger is out of reach.
    Open(ShareOpen),
    /// Get what somebody shared, from whoever keeps it: needs a context of that network (`hodei net join`).
    Get(ShareGet),
    /// Serve links to browsers, and passes for this reader, until it is stopped.
    Serve(ShareServe),
    /// Print the word by which owners make passes for this reader.
    Reader,
}

#[derive(Args, Debug)]
pub(crate) struct ShareCreate {
    /// hodei://BUCKET/KEY; with a slash at its end all that is below it.
    #[arg(value_name = "OBJECT")]
    pub(crate) object: String,
    /// All objects whose keys begin so, with or without a slash.
    #[arg(long, conflicts_with = "version")]
    pub(crate) prefix: bool,
    /// Make a pass for this reader, as `hodei share reader` prints it there; once more for each further one.
    #[arg(long = "for", value_name = "READER", conflicts_with = "gateway")]
    pub(crate) readers: Vec<String>,
    /// Have what each of these readers reads, of one object or of all below, paid for, by a tab of so many coins each; what
    /// is not read comes back. A provider takes no more than 256 GiB of reads of one tab: beyond that less is bound.
    #[arg(long, value_name = "COINS", requires = "readers")]
    pub(crate) pay: Option<String>,
    /// What a GiB pays; without it what each provider asks.
    #[arg(long, value_name = "COINS", requires = "pay")]
    pub(crate) per_gib: Option<String>,
    /// How long the link leads there: 30m, 12h, 7d, 52w.
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub(crate) expires: String,
    /// A version of it; without it the newest.
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<String>,
    /// The gateway named in the link, as https://files.example; without it the context's own, if there is one.
    #[arg(long, value_name = "URL")]
    pub(crate) gateway: Option<String>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct ShareList {
    /// The bucket: a name, or hodei://NAME; without it all buckets.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ShareRevoke {
    /// The bucket: a name, or hodei://NAME; or hodei://BUCKET/KEY for all shares of an object.
    #[arg(value_name = "BUCKET")]
    pub(crate) of: String,
    /// Names of shares, as `hodei share list` lists them; without any all that expired.
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Also store the objects again under new keys, so that what somebody noted of the old ones opens nothing.
    #[arg(long)]
    pub(crate) rekey: bool,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct ShareOpen {
    /// The link, with or without the gateway before it.
    pub(crate) link: String,
}

#[derive(Args, Debug)]
pub(crate) struct ShareGet {
    /// The link, with or without the gateway before it.
    pub(crate) link: String,
    /// A file or folder; `-` is standard output; without it the shared name, here. Of a link to several: the folder for
    /// all of them, or, with FILE behind it, the path of one.
    pub(crate) to: Option<String>,
    /// Where that one goes.
    pub(crate) file: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ShareServe {
    /// Where browsers are answered, by plain HTTP: a server that speaks TLS stands before it.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    pub(crate) listen: SocketAddr,
    /// Keep so much of what is read, as 2GiB, and give it to other readers who have the owner's word for it. What they
    /// learn by it: THREATS.md.
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "no_crowd")]
    pub(crate) keep: Option<u64>,
    /// Give others at most so much each second, as 8Mbit.
    #[arg(long, value_name = "RATE", value_parser = rate, requires = "keep")]
    pub(crate) upload: Option<u64>,
    /// Where other readers reach this one, by UDP, on this machine at the first one's port; once more for each further
    /// address. Port 0 is the one that is taken, 0.0.0.0 this machine's own address towards the network. Without it that
    /// one, which a router at home hides.
    #[arg(long = "address", value_name = "IP:PORT", requires = "keep")]
    pub(crate) addresses: Vec<SocketAddr>,
    /// Ask providers alone, and no other reader.
    #[arg(long)]
    pub(crate) no_crowd: bool,
    #[command(flatten)]
    pub(crate) process: Process,
}

/// `512MiB`, `2GiB`, `1TiB` in bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    scaled(
        text,
        &[("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)],
        "a size is a number and MiB, GiB or TiB, as 2GiB",
    )
}

/// `500kbit`, `8Mbit`, `1Gbit` in bytes a second.
fn rate(text: &str) -> Result<u64, String> {
    let units = [("kbit", 125), ("Mbit", 125_000), ("Gbit", 125_000_000)];
    scaled(text, &units, "a rate is a number and kbit, Mbit or Gbit, as 8Mbit")
}

fn scaled(text: &str, units: &[(&str, u64)], expected: &str) -> Result<u64, String> {
    let of = |(unit, scale): &(&str, u64)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*scale);
    units.iter().find_map(of).filter(|value| *value > 0).ok_or_else(|| expected.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_are_read_as_written() {
        assert_eq!((size("2GiB"), size("512MiB")), (Ok(2 << 30), Ok(512 << 20)));
        assert_eq!((rate("8Mbit"), rate("500kbit")), (Ok(1_000_000), Ok(62_500)));
        for text in ["", "2", "0GiB", "-1GiB", "1.5GiB", "2GB", "99999999999999999TiB", "2gib"] {
            assert!(size(text).is_err(), "{text:?}");
        }
        assert!(rate("8MiB").is_err() && rate("0Mbit").is_err());
    }
}
