//! Read what a bucket's repair shall do, who does not come back, and who may join.

use super::Plan;
use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct DataRepair {
    /// The bucket: a name, or hodei://NAME.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
    /// A provider that does not come back, by the beginning of its key; may be said more than once.
    #[arg(long, value_name = "NODE")]
    pub(crate) without: Vec<String>,
    /// Store again whatever lacks a shard, also where enough are left.
    #[arg(long)]
    pub(crate) all: bool,
    /// Bring shards as they are from providers that hold more than a fair part to emptier ones, instead.
    #[arg(long, conflicts_with_all = ["without", "all"])]
    pub(crate) rebalance: bool,
    /// Providers of other operators that get a deal for that at most; without it as many as a bucket made now would have.
    #[arg(long, value_name = "COUNT", requires = "rebalance", value_parser = clap::value_parser!(u16).range(0..=255))]
    pub(crate) new: Option<u16>,
    /// Windows paid ahead into the escrow of deals that are new or grow.
    #[arg(long, value_name = "WINDOWS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) windows: u64,
    /// Mebibytes of data a second that are stored again, or moved, at most; without it as fast as it goes.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) rate: Option<u64>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}
