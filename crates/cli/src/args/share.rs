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
    /// Have what each of these readers reads paid for, by a tab of so many coins each; what is not read comes back.
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
    #[command(flatten)]
    pub(crate) process: Process,
}
