//! Read the commands on recovery kits.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub(crate) enum Key {
    /// Write all that recovers this identity to one file under a passphrase, and try it.
    Backup(KeyFile),
    /// Try such a file again; nothing is restored.
    Check(KeyFile),
    /// Recover an identity from such a file, on a machine that has nothing else.
    #[command(visible_alias = "recover")]
    Restore(KeyRestore),
}

#[derive(Args, Debug)]
pub(crate) struct KeyFile {
    /// The recovery kit.
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct KeyRestore {
    #[command(flatten)]
    pub(crate) backup: KeyFile,
    /// Name of the context made for it; without it the one it was made in.
    #[arg(long, value_name = "NAME")]
    pub(crate) context_name: Option<String>,
    /// A member of the network, where those in the kit moved: KEY@ADDRESS.
    #[arg(long = "member", value_name = "MEMBER")]
    pub(crate) members: Vec<String>,
}
