//! Read the commands on the market.

use super::{
    data::Class,
    held::{MarketHeld, MarketLend, MarketRenew, MarketReserve},
    redundancy::Spread,
    share::size,
};
use clap::{Args, Subcommand};
use hodei_sdk::{book, moves::Cursor};

#[derive(Subcommand, Debug)]
pub(crate) enum Market {
    /// Show what is offered: the best price, the depth, and how much stands on one.
    Book(MarketBook),
    /// Say what storing so much would cost now, and what that does to the price.
    Quote(MarketQuote),
    /// Show prices that were asked and agreed on, page by page: as far back as blocks are kept.
    History(MarketHistory),
    /// Hold capacity of a region for a term, as a private pool.
    Reserve(MarketReserve),
    /// List what is held: how much, what of it is free or lent, until when, and what it earned.
    Reserved,
    /// Hold a reservation for longer; what stands in it is renewed on its own.
    Renew(MarketRenew),
    /// Offer what is free of a reservation in the book, at your price.
    Lend(MarketLend),
    /// Take what is lent of a reservation out of the book; what runs there goes on.
    Recall(MarketHeld),
    /// End a reservation that nothing stands in; what was not used of its escrow comes back.
    Release(MarketHeld),
}

#[derive(Args, Debug)]
pub(crate) struct MarketBook {
    /// Only offers of this; without it of all.
    #[arg(long, value_enum)]
    pub(crate) class: Option<Ware>,
    /// Only offers whose region or zone is this one, or is named after it: `eu` takes `eu-berlin`.
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct MarketQuote {
    /// What is to be stored, as 512MiB, 100GiB or 2TiB.
    #[arg(value_name = "SIZE", value_parser = size)]
    pub(crate) size: u64,
    /// What kind of machines hold it; without it as `hodei data create` chooses.
    #[arg(long, value_enum, conflicts_with_all = ["code", "copies"])]
    pub(crate) class: Option<Class>,
    #[command(flatten)]
    pub(crate) spread: Spread,
    /// Windows it is kept; without it a month of thirty days.
    #[arg(long, value_name = "WINDOWS", value_parser = clap::value_parser!(u64).range(1..=400_000_000))]
    pub(crate) windows: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct MarketHistory {
    /// Only trades and offers of this; without it of all.
    #[arg(long, value_enum)]
    pub(crate) class: Option<Ware>,
    /// How many entries, newest first.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) last: u32,
    /// Go on behind a page: what it said at its end, or a block's number for what is older than that block.
    #[arg(long, value_name = "PLACE")]
    pub(crate) before: Option<Cursor>,
}

/// What is bought as one thing.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ware {
    /// Disk, kept for a month.
    Storage,
    /// What is read of it.
    Reads,
    /// CPU and memory, by the hour.
    Compute,
    /// A line, and what is moved over it.
    Bandwidth,
}

impl Ware {
    pub(crate) fn class(self) -> book::Class {
        match self {
            Self::Storage => book::Class::Storage,
            Self::Reads => book::Class::Reads,
            Self::Compute => book::Class::Compute,
            Self::Bandwidth => book::Class::Bandwidth,
        }
    }
}
