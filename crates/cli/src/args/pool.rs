//! Read the commands by which a publisher runs a pool of devices.

use super::{Plan, Process};
use clap::{Args, Subcommand, ValueEnum};
use std::net::SocketAddr;

#[derive(Subcommand, Debug)]
pub(crate) enum Pool {
    /// Make a pool, and print the word by which an app's devices join it.
    Create(PoolCreate),
    /// Answer devices, count what they earn, and look after their accounts, until stopped.
    Run(PoolRun),
    /// Show the pools of this context.
    #[command(visible_alias = "ls")]
    List,
    /// Show a pool's devices: what they hold, prove, earned and were given.
    Show(PoolName),
    /// Print the word again, or change its secret so that nobody joins with the old one.
    Word(PoolWord),
    /// Count credit of a device as given: in a pool of credit, once the app gave something for it.
    Redeem(PoolRedeem),
    /// Retire a device for good; its collateral comes back when its last deal has ended.
    Remove(PoolRemove),
}

/// How devices get what they earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pay {
    /// Sent to an account the app names.
    Coins,
    /// A claim that the publisher settles in the app's own terms.
    Credit,
}

#[derive(Args, Debug)]
pub(crate) struct PoolName {
    /// The pool.
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
}

#[derive(Args, Debug)]
pub(crate) struct PoolCreate {
    /// The pool's name: 1 to 32 letters, digits and -.
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    /// How devices get what they earned.
    #[arg(long, value_name = "HOW", value_enum, default_value = "credit")]
    pub(crate) pays: Pay,
    /// Devices that take part at once.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) devices: u64,
    /// Devices let in within a minute.
    #[arg(long, value_name = "COUNT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) joins_per_minute: u64,
    /// Most GiB that one device may offer.
    #[arg(long, value_name = "GIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) space: u64,
    /// Placed for each device, from your account; it comes back when the device has left.
    #[arg(long, value_name = "COINS", default_value = "1")]
    pub(crate) collateral: String,
    /// What a device's own account is filled up to, for the fees of its proofs.
    #[arg(long, value_name = "COINS", default_value = "0.5")]
    pub(crate) gas: String,
    /// Most that one device's account gets in a day.
    #[arg(long, value_name = "COINS", default_value = "2")]
    pub(crate) gas_per_day: String,
    /// Price of keeping one GiB for one window.
    #[arg(long, value_name = "COINS", default_value = "0.0001")]
    pub(crate) price: String,
    /// Price of reading one GiB.
    #[arg(long, value_name = "COINS", default_value = "0.001")]
    pub(crate) price_read: String,
    /// Where devices reach this pool; without it the address this machine sends from, port 4435.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct PoolRun {
    /// The pool.
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    #[command(flatten)]
    pub(crate) process: Process,
}

#[derive(Args, Debug)]
pub(crate) struct PoolWord {
    /// The pool.
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    /// Change the secret: devices that have joined stay, apps with the old word let nobody in any more.
    #[arg(long)]
    pub(crate) renew: bool,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct PoolRedeem {
    /// The pool.
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    /// The device, by the first digits of its key.
    #[arg(value_name = "DEVICE")]
    pub(crate) device: String,
    /// Coins of its credit that it was given otherwise.
    #[arg(value_name = "COINS")]
    pub(crate) amount: String,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct PoolRemove {
    /// The pool.
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    /// The device, by the first digits of its key.
    #[arg(value_name = "DEVICE")]
    pub(crate) device: String,
    #[command(flatten)]
    pub(crate) plan: Plan,
}
