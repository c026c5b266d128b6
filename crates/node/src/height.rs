//! Remember up to which block the ledger's events were reported.

use crate::home::{Home, replace};
use std::path::PathBuf;

/// A file with one number.
#[derive(Clone, Debug)]
pub(crate) struct Reported(PathBuf);

impl Reported {
    pub(crate) fn new(home: &Home, name: &str) -> Self {
        Self(home.path().join(name))
    }

    /// `None` where nothing was reported yet.
    pub(crate) fn get(&self) -> Option<u64> {
        std::fs::read_to_string(&self.0).ok()?.trim().parse().ok()
    }

    pub(crate) fn set(&self, height: u64) {
        // Lost, it only means that the next start reports from the head on, or a few events twice.
        if let Err(error) = replace(&self.0, format!("{height}\n").as_bytes(), 0o600) {
            tracing::warn!(%error, "the height reached was not written");
        }
    }
}
