//! Read what a bucket's repair shall do, and who does not come back.

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
    /// Windows paid ahead into the escrow of deals that are new or grow.
    #[arg(long, value_name = "WINDOWS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) windows: u64,
    /// Mebibytes of data a second that are stored again at most; without it as fast as it goes.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) rate: Option<u64>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}
