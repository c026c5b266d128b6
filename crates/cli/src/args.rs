//! Read the command line.
//!
//! Only what is built is here. Examples live in [`crate::help`], which also groups the commands; a test
//! walks this tree and fails where a command has no example or an example does not parse.

use crate::time::Day;
use clap::{Args, Parser, Subcommand};
use hodei_types::settlement::Currency;
use std::{net::SocketAddr, path::PathBuf};

mod app;
mod care;
mod compute;
mod data;
mod held;
mod key;
mod market;
mod mount;
mod pool;
mod redundancy;
mod repair;
mod s3;
mod share;
mod sync;

pub(crate) use app::{
    App, AppAsk, AppCp, AppDelete, AppDrill, AppExec, AppForward, AppLogs, AppName, AppRenew, AppReplay, AppRollback,
    AppSamples, AppScale, AppServe, AppStats, AppUpdate, AppVolume, Container, Deploy, Gate, VolumeBackup, VolumeName,
    VolumeRestore,
};
pub(crate) use care::{
    Care, CareAppoint, CareDismiss, CareRelease, CareRun, CareShow, CareWage, CareWithdraw, Release,
};
pub(crate) use compute::{NodeOffer, OfferCompute};
pub(crate) use data::{Class, Data, DataCp, DataCreate, DataExtend, DataList, DataRm, DataWhere, Wait};
pub(crate) use held::{MarketHeld, MarketLend, MarketRenew, MarketReserve};
pub(crate) use key::{Key, KeyFile, KeyRestore};
pub(crate) use market::{Market, MarketBook, MarketHistory, MarketQuote, Ware};
pub(crate) use mount::DataMount;
pub(crate) use pool::{Pay, Pool, PoolCreate, PoolRedeem, PoolRemove, PoolRun, PoolWord};
pub(crate) use redundancy::{DataRedundancy, Spread};
pub(crate) use repair::DataRepair;
pub(crate) use s3::{S3, S3Key, S3KeyAdd, S3KeyRemove, S3KeyRotate, S3Serve};
pub(crate) use share::{Share, ShareCreate, ShareGet, ShareList, ShareOpen, ShareRevoke, ShareServe};
pub(crate) use sync::{DataExport, DataSync, Foreign};

/// One open cloud made of everybody's machines: keep data, pay for it, prove what happened.
#[derive(Parser, Debug)]
#[command(name = "hodei", version, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Line {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// The cloud to act on; without it the current one.
    #[arg(short = 'C', long, global = true, env = "HODEI_CONTEXT", value_name = "NAME", help_heading = "Everywhere")]
    pub(crate) context: Option<String>,
    /// Print JSON: one object, or one a line for lists; errors too.
    #[arg(long, global = true, env = "HODEI_JSON", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// File whose first line is the wallet's passphrase; without it, it is asked for where it is needed.
    #[arg(long, global = true, env = "HODEI_PASSPHRASE_FILE", value_name = "FILE", help_heading = "Everywhere")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Start a whole cloud on this machine, break it, and check what it promises.
    Demo(Demo),
    /// Show what is here, what it costs, and what needs attention.
    Status(Status),
    /// Check this machine and the way to the network; say how to repair.
    Doctor,
    /// Keep buckets and objects.
    #[command(subcommand)]
    Data(Data),
    /// Speak S3, and say to whom.
    #[command(subcommand)]
    S3(S3),
    /// Run a component on other people's machines: plan, price, order, ready.
    Deploy(Box<Deploy>),
    /// See what you run, what it costs, and change it.
    #[command(subcommand)]
    App(App),
    /// Verify a receipt, or what a provider declined, offline.
    Verify(Verify),
    /// Offer this machine to the cloud.
    #[command(subcommand)]
    Node(Node),
    /// Let the devices of your app keep data, and see what they earn.
    #[command(subcommand)]
    Pool(Pool),
    /// See what is offered, at what price, and what was traded; hold capacity, and lend it.
    #[command(subcommand)]
    Market(Market),
    /// Hold money, send it, limit what is spent.
    #[command(subcommand)]
    Wallet(Wallet),
    /// Make a network, invite to it, join it.
    #[command(subcommand)]
    Net(Net),
    /// Run the ledger and look into it.
    #[command(subcommand)]
    Chain(Chain),
    /// Save and restore the keys that cannot be replaced.
    #[command(subcommand)]
    Key(Key),
    /// Explain an error code, the exit codes, or the environment.
    Help(Help),
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// A node of this machine to tell of besides; without it the context's.
    #[arg(long, visible_alias = "node", value_name = "FOLDER", env = "HODEI_NODE")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Ask nothing, wait for nobody; exit non-zero when any step fails.
    #[arg(long)]
    pub(crate) ci: bool,
    /// Leave the cloud running, save a context for it, and stop on SIGTERM or Ctrl-C.
    #[arg(long, conflicts_with = "ci")]
    pub(crate) keep: bool,
    /// Keep everything in this folder, which must be empty or absent; without it a temporary one.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Bytes of the file that is stored.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub(crate) size: u64,
    /// Break this step on purpose, from outside: its check must then fail.
    #[arg(long, value_name = "STEP", hide = true)]
    pub(crate) sabotage: Option<crate::demo::Step>,
}

/// What costs or changes something shows its plan first.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Agree beforehand.
    #[arg(short = 'y', long)]
    pub(crate) yes: bool,
    /// Show what would happen and its price, and stop there.
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The receipt, or what `hodei node declined --json` printed.
    pub(crate) receipt: PathBuf,
    /// Also check that this is the file of the event.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The network's key, or a file that holds it; without it the context's.
    #[arg(long, value_name = "KEY", env = "HODEI_NETWORK_KEY")]
    pub(crate) network_key: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Node {
    /// Run the node of a folder until it is stopped.
    Run(NodeRun),
    /// Offer what this machine has.
    #[command(subcommand)]
    Offer(NodeOffer),
    /// Take no new data, give up the offer, and say when the machine may go.
    Drain(NodeDrain),
    /// Show what a provider earned, each payment with its reason.
    Earnings(NodeEarnings),
    /// Refuse to hold and give shards from now on, by a signed statement; others take them.
    Decline(NodeDecline),
    /// List what this node declines, with its signed statements.
    Declined(NodeDeclined),
}

#[derive(Args, Debug)]
pub(crate) struct NodeRun {
    /// The node's folder, with node.toml.
    #[arg(long, value_name = "FOLDER", env = "HODEI_NODE")]
    pub(crate) folder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) process: Process,
}

/// How a process that stays is run.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Process {
    /// Threads that do the work; without it one a core, at most four.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: Option<u16>,
    /// Stop when standard input closes: for programs that start nodes and may themselves be killed.
    #[arg(long)]
    pub(crate) until_stdin_closes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct NodeDrain {
    /// The node's folder; without it the context's node.
    #[arg(long, value_name = "FOLDER", env = "HODEI_NODE")]
    pub(crate) folder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct NodeEarnings {
    /// The provider, by the first digits of its key; without it the node of the folder.
    pub(crate) node: Option<String>,
    /// The node's folder; without it the context's node.
    #[arg(long, value_name = "FOLDER", env = "HODEI_NODE")]
    pub(crate) folder: Option<PathBuf>,
    /// How many of the last blocks are looked through.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) blocks: u64,
}

#[derive(Args, Debug)]
pub(crate) struct NodeDecline {
    /// Shards, 64 hex digits each: `hodei data where --stripes --json` and whoever names them tell them.
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All that this node holds of a bucket now, by the bucket's id, 0x and 64 hex digits.
    #[arg(long, value_name = "BUCKET")]
    pub(crate) bucket: Option<String>,
    /// On what ground; anybody who asks for one of these is told it, signed.
    #[arg(long, value_name = "GROUND", value_parser = ["court", "authority", "report", "terms"])]
    pub(crate) reason: String,
    /// For this node's own log, such as the order's number; nobody else is told.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
    /// The node's folder; without it the context's node.
    #[arg(long, value_name = "FOLDER", env = "HODEI_NODE")]
    pub(crate) folder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct NodeDeclined {
    /// The node's folder; without it the context's node.
    #[arg(long, value_name = "FOLDER", env = "HODEI_NODE")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Wallet {
    /// Show what is there and what is bound.
    Balance,
    /// Send coins.
    Send(WalletSend),
    /// Show what was sent, received, bound and given back, and the fees, page by page: as far back as blocks are kept.
    History(WalletHistory),
    /// Add up who was paid for what and who paid, between two days: where a network settles by invoice, what to invoice.
    Statement(WalletStatement),
    /// Show or set what may be spent.
    #[command(subcommand)]
    Budget(Budget),
}

#[derive(Args, Debug)]
pub(crate) struct WalletSend {
    /// The receiving account, 0x and 40 hex digits.
    pub(crate) to: String,
    /// Coins, as 1.5
    pub(crate) amount: String,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct WalletHistory {
    /// How many entries, newest first.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) last: u32,
    /// Go on behind a page: what it said at its end, or a block's number for what is older than that block.
    #[arg(long, value_name = "PLACE")]
    pub(crate) before: Option<hodei_sdk::moves::Cursor>,
}

#[derive(Args, Debug)]
pub(crate) struct WalletStatement {
    /// The first day, UTC, as 2026-11-01; without it the first of this month.
    #[arg(long, value_name = "DAY")]
    pub(crate) from: Option<Day>,
    /// The last day, UTC; without it today.
    #[arg(long, value_name = "DAY")]
    pub(crate) to: Option<Day>,
    /// Other accounts than one's own, as an operator's, 0x and 40 hex digits; as often as there are.
    #[arg(long = "account", value_name = "ACCOUNT")]
    pub(crate) accounts: Vec<String>,
    /// Print comma-separated lines for a spreadsheet, with FOCUS' names of columns.
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Budget {
    /// Show what is left to spend.
    Show,
    /// Set what may be spent: a balance of its own on the ledger, so nothing can spend more.
    Set(BudgetSet),
    /// Take back what is left in a budget of yours whose key is on another machine, or lost.
    Return(BudgetReturn),
}

#[derive(Args, Debug)]
pub(crate) struct BudgetSet {
    /// Coins, as 10
    pub(crate) amount: String,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct BudgetReturn {
    /// Its account, as `wallet budget show` names it.
    pub(crate) account: String,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Net {
    /// Make a network: deal its keys, fund a wallet, write a folder for each validator.
    Create(NetCreate),
    /// Print one ticket by which somebody joins, with some coins in it.
    Invite(NetInvite),
    /// Join by a ticket: save a context and take the coins in it.
    Join(NetJoin),
    /// Take back an invitation nobody used, with the coins in it.
    Revoke(NetRevoke),
}

#[derive(Args, Debug)]
pub(crate) struct NetCreate {
    /// The network's name.
    pub(crate) name: String,
    /// Where each validator listens for the others, over TCP; as many as addresses are given. Everybody else reaches it
    /// over UDP at the port before that one: both must be open.
    #[arg(long = "validator", value_name = "ADDRESS", required = true, num_args = 1..)]
    pub(crate) validators: Vec<SocketAddr>,
    /// Folder for the genesis file and the validators' folders.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Coins of the wallet made with it.
    #[arg(long, value_name = "COINS", default_value = "1000000")]
    pub(crate) coins: String,
    /// Seconds of a storage window.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(10..=31_536_000))]
    pub(crate) window: u64,
    /// What its coins stand for: money of their own, a currency that members invoice each other, or what they do for each
    /// other.
    #[arg(long, value_enum, default_value_t = Settle::Coins)]
    pub(crate) settlement: Settle,
    /// The currency of invoices, as EUR: a coin is one of it.
    #[arg(long, value_name = "CODE")]
    pub(crate) currency: Option<Currency>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

/// How members of a network settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Settle {
    Coins,
    Invoice,
    Barter,
}

#[derive(Args, Debug)]
pub(crate) struct NetInvite {
    /// Coins in the invitation.
    #[arg(long, value_name = "COINS", default_value = "10")]
    pub(crate) coins: String,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct NetJoin {
    /// The ticket, hodeijoin1…; `-` reads it from standard input.
    pub(crate) ticket: String,
    /// Name of the context; without it the network's.
    #[arg(long, value_name = "NAME")]
    pub(crate) context_name: Option<String>,
    #[command(flatten)]
    pub(crate) provide: Provide,
}

/// A provider made while joining.
#[derive(Args, Debug)]
pub(crate) struct Provide {
    /// Also offer so many GiB of this machine's disk: `hodei node run` then starts it.
    #[arg(long = "provide", value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) gib: Option<u64>,
    /// What fails together with this machine: a room, a flat, a data centre.
    #[arg(long, value_name = "ZONE", default_value = "home", requires = "gib")]
    pub(crate) zone: String,
    /// Collateral placed when it registers; without it half of the coins in the ticket.
    #[arg(long, value_name = "COINS", requires = "gib")]
    pub(crate) collateral: Option<String>,
    /// Where others reach this machine; without it the address it sends from, port 4433.
    #[arg(long, value_name = "ADDRESS", requires = "gib")]
    pub(crate) address: Option<SocketAddr>,
    /// Nobody reaches this machine from outside: pass what is sent to it through this relay. May be repeated.
    #[arg(long = "behind-nat", value_name = "RELAY", requires = "gib")]
    pub(crate) relays: Vec<SocketAddr>,
    /// Be such a relay for others, under this address, over TCP.
    #[arg(long, value_name = "ADDRESS", requires = "gib", conflicts_with = "relays")]
    pub(crate) relay_for_others: Option<SocketAddr>,
    /// The node's folder; without it one beside the wallet.
    #[arg(long, value_name = "FOLDER", requires = "gib")]
    pub(crate) node_folder: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct NetRevoke {
    /// The invitation's account, 0x and 40 hex digits; without it the invitations made here are listed.
    pub(crate) account: Option<String>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Chain {
    /// Run a validator.
    #[command(subcommand)]
    Validator(Validator),
    /// Show the head, a block, or a transaction.
    Show(ChainShow),
    /// Write finalized blocks with their certificates to a file that the network key alone verifies.
    Export(ChainExport),
    /// Check such a file, replay it, and fill the empty ledger of a folder with it.
    Import(ChainImport),
}

#[derive(Subcommand, Debug)]
pub(crate) enum Validator {
    /// Run the validator of a folder until it is stopped.
    Run(ValidatorRun),
    /// Run it and let it vote although its journal is lost: only after a halt.
    Start(ValidatorStart),
}

#[derive(Args, Debug)]
pub(crate) struct ValidatorRun {
    /// The validator's folder.
    #[arg(long, value_name = "FOLDER", env = "HODEI_NODE")]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) process: Process,
}

#[derive(Args, Debug)]
pub(crate) struct ValidatorStart {
    #[command(flatten)]
    pub(crate) run: ValidatorRun,
    /// You know that this key did not sign since its journal was lost.
    #[arg(long, required = true)]
    pub(crate) after_loss: bool,
    /// The node's name, typed: a key that signs twice can split the chain.
    #[arg(long, value_name = "NAME", required = true)]
    pub(crate) confirm: String,
}

#[derive(Args, Debug)]
pub(crate) struct ChainShow {
    /// A height or a transaction's hash; without it the head.
    pub(crate) what: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ChainExport {
    /// The file to write; it must not exist.
    pub(crate) file: PathBuf,
    /// The first block; only a file that begins with block 1 can be imported.
    #[arg(long, value_name = "HEIGHT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: u64,
    /// The last block, or the first after it with a certificate; without it the head.
    #[arg(long, value_name = "HEIGHT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) to: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct ChainImport {
    /// The exported file.
    pub(crate) file: PathBuf,
    /// Folder of a validator or observer that never ran, or was emptied.
    #[arg(long, value_name = "FOLDER", env = "HODEI_NODE")]
    pub(crate) folder: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Help {
    /// An error code as HD3004, `errors`, `exit-codes` or `environment`.
    pub(crate) topic: Option<String>,
}

/// `ls`, `cp`, `rm`, `sync` and `share` are `data list`, `data cp` and so on; `join` is `net join`.
pub(crate) fn expand(mut line: Vec<std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    // The verb is the first word that is neither an option nor the value of one.
    let mut at = 1;
    while let Some(word) = line.get(at) {
        match word.to_str() {
            Some("-C" | "--context" | "--passphrase-file") => at += 2,
            Some(option) if option.starts_with('-') => at += 1,
            _ => break,
        }
    }
    let group = match line.get(at).and_then(|word| word.to_str()) {
        Some("ls" | "cp" | "rm" | "sync" | "share") => "data",
        Some("join") => "net",
        Some("logs" | "exec") => "app",
        _ => return line,
    };
    line.insert(at, group.into());
    line
}
