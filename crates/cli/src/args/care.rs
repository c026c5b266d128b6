//! Read the commands by which others restore what a bucket loses.

use super::{Plan, Process};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub(crate) enum Care {
    /// Name somebody who restores what the bucket loses while you are away, without being able to read it.
    Appoint(CareAppoint),
    /// Show who looks after a bucket, what they may spend, and what they were paid.
    Show(CareShow),
    /// Set what those who look after a bucket are paid for what they restore.
    Wage(CareWage),
    /// Say whether those who look after a bucket may end its deals with providers that leave, once others have all.
    Release(CareRelease),
    /// Let somebody look after it no more.
    Dismiss(CareDismiss),
    /// Take what is left of a bucket's reserve back.
    Withdraw(CareWithdraw),
    /// Show the account to be appointed, so that this machine looks after others' buckets.
    Account,
    /// Look after others' buckets until it is stopped.
    Run(CareRun),
}

#[derive(Args, Debug)]
pub(crate) struct CareAppoint {
    /// The bucket: a name, or hodei://NAME.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
    /// The custodian's account, as `hodei data care account` shows it there.
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: String,
    /// Coins added to the bucket's reserve: what custodians may put into deals with others in the place of those lost.
    #[arg(long, value_name = "COINS", default_value = "0")]
    pub(crate) reserve: String,
    /// What all custodians of the bucket are paid from its reserve for each GiB they add to deals; without it as before.
    #[arg(long, value_name = "COINS", requires = "a_day")]
    pub(crate) per_gib: Option<String>,
    /// The most of that a day, for all of them together.
    #[arg(long, value_name = "COINS", requires = "per_gib")]
    pub(crate) a_day: Option<String>,
    /// Write the word for the custodian to this file instead of showing it.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct CareShow {
    /// The bucket: a name, or hodei://NAME.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
}

#[derive(Args, Debug)]
pub(crate) struct CareWage {
    /// The bucket: a name, or hodei://NAME.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
    /// Coins from the bucket's reserve for each GiB that a custodian adds to deals; 0 for none.
    #[arg(long, value_name = "COINS")]
    pub(crate) per_gib: String,
    /// The most of it a day, for all custodians together; days begin at midnight UTC.
    #[arg(long, value_name = "COINS")]
    pub(crate) a_day: String,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

/// Whether something is allowed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    Allow,
    Forbid,
}

#[derive(Args, Debug)]
pub(crate) struct CareRelease {
    /// The bucket: a name, or hodei://NAME.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
    /// Whether they may; nobody may before it is allowed.
    #[arg(value_name = "WHETHER")]
    pub(crate) whether: Release,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct CareDismiss {
    /// The bucket: a name, or hodei://NAME.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
    /// The custodian's account.
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: String,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct CareWithdraw {
    /// The bucket: a name, or hodei://NAME.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct CareRun {
    /// Files with the words that owners gave, one a line.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Seconds between two looks at a bucket.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) every: u64,
    /// Mebibytes a second that are read to restore others at most; without it as fast as it goes.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) rate: Option<u64>,
    /// Look once, restore what is this account's to restore now, and end.
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) process: Process,
}
