//! Read the commands on the S3 door.

use super::Process;
use clap::{Args, Subcommand};
use std::{net::SocketAddr, path::PathBuf};

#[derive(Subcommand, Debug)]
pub(crate) enum S3 {
    /// Answer S3 for this wallet's buckets until it is stopped.
    Serve(S3Serve),
    /// Say who may use the door.
    #[command(subcommand)]
    Key(S3Key),
}

#[derive(Args, Debug)]
pub(crate) struct S3Serve {
    /// Where to listen; elsewhere than on this machine alone only with a certificate.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    pub(crate) listen: SocketAddr,
    /// A domain under which buckets' names stand, as BUCKET.DOMAIN; addressing by path always works.
    #[arg(long = "domain", value_name = "DOMAIN", default_values = ["s3.localhost", "localhost"])]
    pub(crate) domains: Vec<String>,
    /// The certificate and those that vouch for it, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve buckets as websites there: BUCKET.DOMAIN, or /BUCKET/ in the path.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) website: Option<SocketAddr>,
    /// Add a line of JSON for each request to this file: who asked for what, and what came of it.
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) process: Process,
}

#[derive(Subcommand, Debug)]
pub(crate) enum S3Key {
    /// Give somebody a key; the first one ever owns the buckets that are here already.
    Add(S3KeyAdd),
    /// List keys, whose they are and what quota those have, without secrets.
    #[command(visible_alias = "ls")]
    List(S3KeyList),
    /// Replace a key by a new one of the same rights.
    Rotate(S3KeyRotate),
    /// Take a key away, or stop it for a while.
    #[command(visible_alias = "rm")]
    Remove(S3KeyRemove),
}

#[derive(Args, Debug)]
pub(crate) struct S3KeyAdd {
    /// Whose: a name; one not seen before becomes a user of its own.
    pub(crate) user: String,
    /// The account of a new user; users of one account are named together in policies.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) tenant: String,
    /// The address of a new user, by which access lists may name him.
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    pub(crate) email: String,
    /// The key reads and changes nothing.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// The key works within this bucket alone, or this prefix of it: BUCKET or BUCKET/PREFIX; may be repeated.
    #[arg(long, value_name = "PLACE")]
    pub(crate) within: Vec<String>,
    /// Bytes all buckets of the user may hold; 0 is no limit.
    #[arg(long, value_name = "BYTES")]
    pub(crate) quota_bytes: Option<u64>,
    /// Objects all buckets of the user may hold; 0 is no limit.
    #[arg(long, value_name = "COUNT")]
    pub(crate) quota_objects: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct S3KeyList {
    /// Also what the buckets of each key's user hold: this asks the network.
    #[arg(long)]
    pub(crate) held: bool,
}

#[derive(Args, Debug)]
pub(crate) struct S3KeyRotate {
    /// The access key's id.
    pub(crate) key: String,
    /// Seconds the old one goes on working.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    pub(crate) grace: u64,
}

#[derive(Args, Debug)]
pub(crate) struct S3KeyRemove {
    /// The access key's id.
    pub(crate) key: String,
    /// Keep it, but let it do nothing.
    #[arg(long, conflicts_with = "enable")]
    pub(crate) disable: bool,
    /// Let a disabled one work again.
    #[arg(long)]
    pub(crate) enable: bool,
}
