//! Give each command that runs an identity on the wire and a log of its own.
//!
//! A log has one writer. Commands of one wallet that run at once therefore take slots: `identity-0` is almost
//! always the one, `identity-1` where another command holds it, and so on. Each has a key, a log and a lock.

use crate::{
    fault::{self, Fault, Result},
    serve::home_fault,
};
use hodei_node::{
    home::{Home, HomeError, Lock},
    keys::Keys,
};
use std::path::Path;

/// Commands of one wallet at once.
const SLOTS_MAX: usize = 64;

/// A slot, held while this lives.
pub(crate) struct Slot {
    pub(crate) home: Home,
    pub(crate) keys: Keys,
    _lock: Lock,
}

impl Slot {
    /// Takes the first free slot of a wallet.
    pub(crate) fn take(wallet: &Path) -> Result<Self> {
        for index in 0..SLOTS_MAX {
            let home = Home::create(wallet.join(format!("identity-{index}"))).map_err(home_fault)?;
            let lock = match home.lock() {
                Ok(lock) => lock,
                Err(HomeError::Locked { .. }) => continue,
                Err(error) => return Err(home_fault(error)),
            };
            let keys = Keys::open(&home).map_err(|error| {
                Fault::new(&fault::WALLET, error, "remove that identity's folder: it holds no money")
            })?;
            return Ok(Self { home, keys, _lock: lock });
        }
        Err(Fault::new(
            &fault::LOCKED,
            format!("{SLOTS_MAX} commands of this wallet run already"),
            "wait for one to end",
        )
        .at(wallet.display()))
    }
}

/// Whether a process holds a wallet's first slot. Nothing is made where nothing is.
pub(crate) fn is_held(wallet: &Path) -> bool {
    let folder = wallet.join("identity-0");
    // A lock that cannot be tried may well be held.
    folder.exists() && Home::create(folder).is_ok_and(|home| home.lock().is_err())
}
