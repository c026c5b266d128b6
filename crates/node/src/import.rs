//! Fill the empty ledger of a validator's or observer's folder from an exported chain.
//!
//! Upon a failure nothing of the import stays: a folder is filled by a whole, replayed chain or not at all.

use crate::{
    chain::ChainStartError,
    config::Config,
    home::{Home, HomeError},
    node::{NodeError, read_network},
};
use commonware_runtime::tokio::Context;
use hodei_validator::{PREFIX, SCRATCH};
use std::{fs::File, io::BufReader, path::Path};

pub use hodei_validator::Imported;

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("this folder holds a ledger already: import into a new one")]
    NotEmpty,
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("the file cannot be read: {0}")]
    Read(#[source] std::io::Error),
    /// The file is refused, or what it leads to.
    #[error(transparent)]
    File(hodei_validator::ImportError),
}

/// Imports `file`; the runtime's storage must be the folder's store.
pub async fn import(context: Context, home: &Home, config: &Config, file: &Path) -> Result<Imported, ImportError> {
    let _lock = home.lock()?;
    let genesis = read_network(config)?.genesis.ok_or(NodeError::Chain(ChainStartError::NoGenesis))?;
    let opened = File::open(file).map_err(ImportError::Read)?;
    if !partitions(home, PREFIX)?.is_empty() {
        return Err(ImportError::NotEmpty);
    }
    let outcome = hodei_validator::import(context, genesis, Box::new(BufReader::new(opened))).await;
    remove(home, SCRATCH)?;
    if outcome.is_err() {
        remove(home, PREFIX)?;
    }
    outcome.map_err(|error| match error {
        hodei_validator::ImportError::Read(error) => ImportError::Read(error),
        error => ImportError::File(error),
    })
}

fn remove(home: &Home, prefix: &str) -> Result<(), HomeError> {
    for path in partitions(home, prefix)? {
        std::fs::remove_dir_all(&path).map_err(|source| HomeError::Io { path, source })?;
    }
    Ok(())
}

fn partitions(home: &Home, prefix: &str) -> Result<Vec<std::path::PathBuf>, HomeError> {
    let store = home.store();
    let io = |source| HomeError::Io { path: store.clone(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&store).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'))) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
