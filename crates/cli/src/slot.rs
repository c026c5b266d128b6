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
use hodei_sdk::{ABSENCES, JOURNALS, UNPOSTED};
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

    /// Takes over what ended commands of other slots left to be released, posted or gone on with: there may not be so
    /// many commands at once again for long. What cannot be moved stays for later.
    pub(crate) fn adopt(&self, wallet: &Path) {
        for index in 0..SLOTS_MAX {
            let folder = wallet.join(format!("identity-{index}"));
            if !folder.exists() || folder == self.home.path() {
                continue;
            }
            let Ok(other) = Home::create(folder) else { continue };
            let Ok(_lock) = other.lock() else { continue };
            for kind in [ABSENCES, JOURNALS, UNPOSTED] {
                let ours = self.home.store().join(kind);
                for left in std::fs::read_dir(other.store().join(kind)).into_iter().flatten().flatten() {
                    let to = ours.join(left.file_name());
                    if std::fs::create_dir_all(&ours).is_ok() && !to.exists() {
                        let _ = std::fs::rename(left.path(), to);
                    }
                }
            }
        }
    }
}

/// Whether a process holds a wallet's first slot. Nothing is made where nothing is.
pub(crate) fn is_held(wallet: &Path) -> bool {
    let folder = wallet.join("identity-0");
    // A lock that cannot be tried may well be held.
    folder.exists() && Home::create(folder).is_ok_and(|home| home.lock().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_slot_left_the_next_command_of_any_slot_takes_over() {
        let wallet = std::env::temp_dir().join(format!("hodei-slot-{}", std::process::id()));
        std::fs::create_dir_all(&wallet).unwrap();
        let (first, second) = (Slot::take(&wallet).unwrap(), Slot::take(&wallet).unwrap());
        let journal = |slot: &Slot, name: &str| slot.home.store().join(JOURNALS).join(name);
        for slot in [&first, &second] {
            std::fs::create_dir_all(journal(slot, "")).unwrap();
        }
        std::fs::write(journal(&first, "aa"), "ours").unwrap();
        std::fs::write(journal(&second, "bb"), "left").unwrap();
        first.adopt(&wallet);
        assert!(!journal(&first, "bb").exists(), "that command runs");
        let path = journal(&second, "bb");
        let unposted = |slot: &Slot| slot.home.store().join(UNPOSTED).join("cc");
        std::fs::create_dir_all(unposted(&second).parent().unwrap()).unwrap();
        std::fs::write(unposted(&second), "owed").unwrap();
        drop(second);
        first.adopt(&wallet);
        assert!(!path.exists());
        assert_eq!(std::fs::read_to_string(journal(&first, "bb")).unwrap(), "left");
        assert_eq!(std::fs::read_to_string(journal(&first, "aa")).unwrap(), "ours");
        assert_eq!(std::fs::read_to_string(unposted(&first)).unwrap(), "owed");
        std::fs::remove_dir_all(&wallet).unwrap();
    }
}
