//! Read the commands on buckets and objects.

use super::{
    Plan,
    care::Care,
    mount::DataMount,
    redundancy::{DataRedundancy, Spread, capacity},
    repair::DataRepair,
    share::Share,
    sync::{DataExport, DataSync},
};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub(crate) enum Data {
    /// Make a bucket, and open the deals that hold it.
    Create(DataCreate),
    /// Copy a file into a bucket, or out of one; `-` is standard input or output.
    Cp(DataCp),
    /// List buckets, or what a bucket holds.
    #[command(visible_alias = "ls")]
    List(DataList),
    /// Remove an object, or an empty bucket.
    Rm(DataRm),
    /// Show which nodes in which zones hold an object.
    Where(DataWhere),
    /// Pay for a bucket so that it lasts longer.
    Extend(DataExtend),
    /// Give a bucket another redundancy: more or fewer copies, another code, other places.
    Redundancy(DataRedundancy),
    /// Look what providers still hold of a bucket, and put back what was lost with some of them.
    Repair(DataRepair),
    /// Have what a bucket loses restored while you are away, and look after others' buckets.
    #[command(subcommand)]
    Care(Care),
    /// Make a folder, a bucket, or what another S3 server has, appear in a bucket or folder.
    Sync(DataSync),
    /// Write everything of a bucket as ordinary files, with a list of what they were.
    Export(DataExport),
    /// Show a bucket as a folder of this machine, until it is stopped or unmounted.
    Mount(DataMount),
    /// Let others at single objects by links.
    #[command(subcommand)]
    Share(Share),
}

#[derive(Args, Debug)]
pub(crate) struct DataCreate {
    /// The bucket: a name, or hodei://NAME.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
    /// What kind of machines hold it, and so how many shards are made and how many suffice; without it what most
    /// machines on offer are, or `small` among fewer than 12 operators.
    #[arg(long, value_enum, conflicts_with_all = ["code", "copies"])]
    pub(crate) class: Option<Class>,
    #[command(flatten)]
    pub(crate) spread: Spread,
    /// How much it may hold: gibibytes, or a size as 200MiB.
    #[arg(long, value_name = "SIZE", default_value = "1", value_parser = capacity)]
    pub(crate) capacity: u64,
    /// Windows paid ahead into the deals' escrow.
    #[arg(long, value_name = "WINDOWS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) windows: u64,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// 3 of 6: a demo, or a few homes.
    Small,
    /// 16 of 24, on machines of data centres.
    DataCentre,
    /// 16 of 32, on machines at home.
    Home,
    /// 10 of 30, on phones.
    Phone,
}

#[derive(Args, Debug)]
pub(crate) struct DataCp {
    /// A file, `-`, or hodei://BUCKET/KEY.
    pub(crate) from: String,
    /// hodei://BUCKET/KEY, a file, or `-`.
    pub(crate) to: String,
    /// How many acknowledgements to wait for.
    #[arg(long, value_enum, default_value_t = Wait::Quorum)]
    pub(crate) wait: Wait,
    /// Wait for the anchor and write the receipt of the put there.
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Enough that the bucket's promised loss may happen at once.
    Quorum,
    /// All n shards.
    Full,
}

#[derive(Args, Debug)]
pub(crate) struct DataList {
    /// hodei://BUCKET or hodei://BUCKET/PREFIX; without it the buckets.
    pub(crate) bucket: Option<String>,
    /// Also older versions and delete markers, with the id and the lock of each.
    #[arg(long, requires = "bucket")]
    pub(crate) versions: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DataRm {
    /// hodei://BUCKET/KEY, or hodei://BUCKET: its deals end, and what is left in their escrow comes back.
    pub(crate) object: String,
    /// Only this version, for good, as `hodei data list --versions` names it; one that is locked stays.
    #[arg(long, value_name = "ID")]
    pub(crate) version: Option<String>,
    /// Agree beforehand.
    #[arg(short = 'y', long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DataWhere {
    /// hodei://BUCKET/KEY
    pub(crate) object: String,
    /// An older version, as `hodei data list --versions` names it.
    #[arg(long, value_name = "ID")]
    pub(crate) version: Option<String>,
    /// Each stripe, and who holds which shard of it.
    #[arg(long)]
    pub(crate) stripes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DataExtend {
    /// The bucket: a name, or hodei://NAME.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
    /// Windows it shall be paid for, counted from now.
    #[arg(long, value_name = "WINDOWS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) windows: u64,
    #[command(flatten)]
    pub(crate) plan: Plan,
}
