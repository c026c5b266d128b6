//! Read the command that shows a bucket as a folder.

use super::Process;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct DataMount {
    /// The bucket, or what begins with a prefix in it: NAME, NAME/PREFIX, or hodei://NAME/PREFIX.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
    /// An empty folder.
    pub(crate) folder: PathBuf,
    /// Refuse every change.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Bytes that what is written and not stored yet may have on this disk; without it all but 256 MiB of it.
    #[arg(long, value_name = "BYTES")]
    pub(crate) cache_bytes: Option<u64>,
    /// Where what is written waits, and what cannot be stored is kept; without it in the user's state folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cache: Option<PathBuf>,
    /// Mebibytes of memory for what is read, and read ahead.
    #[arg(long, value_name = "MIB", default_value_t = 96, value_parser = clap::value_parser!(u64).range(16..=65_536))]
    pub(crate) memory: u64,
    /// Seconds that a listing is believed: so long what others change may go unseen.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(crate) fresh: u64,
    /// Let other users of this machine see it.
    #[arg(long)]
    pub(crate) allow_other: bool,
    #[command(flatten)]
    pub(crate) process: Process,
}
