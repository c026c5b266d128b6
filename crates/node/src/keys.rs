//! Keep a node's secrets on disk, readable by its owner alone.
//!
//! `keys/node.key` is the Ed25519 seed behind the node's identity: its wire, its acks, its checkpoints.
//! `keys/account.key` is the secp256k1 secret of the account that registers and is paid. `keys/share.key`,
//! where present, is a validator's share of the network key. Each is one line of hex; a file that others
//! may read is refused, because somebody has perhaps already read it.

use crate::home::{Home, HomeError, replace};
use alloy_primitives::Address;
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use zeroize::{Zeroize, Zeroizing};

/// Longest key file; a share of the network key is the longest of them.
const FILE_BYTES_MAX: u64 = 4096;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error("{path} could not be read: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} may be read by others (mode {mode:o}): make a new key, or run `chmod 600 {path}` if you are sure nobody did"
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{path} holds {found}, expected {expected}")]
    Form { path: PathBuf, found: String, expected: &'static str },
    #[error("the system gave no random bytes: {0}")]
    Entropy(getrandom::Error),
}

/// 32 secret bytes, wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Fresh from the system's randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(KeyError::Entropy)?;
        Ok(Self(bytes))
    }
}

impl From<[u8; 32]> for Secret {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A node's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Ed25519 seed.
    pub node: Secret,
    /// secp256k1 secret.
    pub account: Secret,
}

impl Keys {
    /// Reads the node's keys, and makes those that are missing.
    pub fn open(home: &Home) -> Result<Self, KeyError> {
        Ok(Self { node: secret(&home.keys().join("node.key"))?, account: secret(&home.keys().join("account.key"))? })
    }

    /// The account behind `keys/account.key`; `None` if those bytes are no secp256k1 key.
    pub fn address(&self) -> Option<Address> {
        hodei_ledger::account::address_of(self.account.bytes())
    }

    /// Writes given keys into a folder that has none: how an invitation or a dealt network sets up a node.
    pub fn write(&self, home: &Home) -> Result<(), KeyError> {
        for (name, secret) in [("node.key", &self.node), ("account.key", &self.account)] {
            write(&home.keys().join(name), secret.bytes())?;
        }
        Ok(())
    }
}

/// A validator's share as dealt; `None` when this node has none.
pub fn share(home: &Home) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
    read(&home.keys().join("share.key"))
}

/// Stores a dealt share.
pub fn write_share(home: &Home, share: &[u8]) -> Result<(), KeyError> {
    write(&home.keys().join("share.key"), share)
}

fn secret(path: &Path) -> Result<Secret, KeyError> {
    if let Some(bytes) = read(path)? {
        return <[u8; 32]>::try_from(bytes.as_slice()).map(Secret).map_err(|_| KeyError::Form {
            path: path.into(),
            found: format!("{} bytes", bytes.len()),
            expected: "32 bytes as 64 hex digits",
        });
    }
    let secret = Secret::generate()?;
    write(path, secret.bytes())?;
    Ok(secret)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let mut line = Zeroizing::new(hex::encode(bytes));
    line.push('\n');
    Ok(replace(path, line.as_bytes(), 0o600)?)
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
    let io = |source| KeyError::Read { path: path.into(), source };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.into(), mode });
    }
    let form = |found: String| KeyError::Form { path: path.into(), found, expected: "one line of hex digits" };
    if metadata.len() > FILE_BYTES_MAX {
        return Err(form(format!("{} bytes", metadata.len())));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(io)?);
    match hex::decode(text.trim_end()) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        // The error names a position, never a character of the secret.
        Err(_) => Err(form("something else".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let scratch = Scratch::new("keys");
        let home = Home::create(scratch.path()).unwrap();
        let keys = Keys::open(&home).unwrap();
        assert_eq!(Keys::open(&home).unwrap(), keys, "the second start has the same identity");
        assert_ne!(keys.node, keys.account);
        let path = home.keys().join("node.key");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(format!("{keys:?}").matches('…').count(), 2, "no secret is ever printed");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::open(&home), Err(KeyError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn damaged_keys_are_refused_not_replaced() {
        let scratch = Scratch::new("damaged");
        let home = Home::create(scratch.path()).unwrap();
        let path = home.keys().join("node.key");
        for wrong in ["", "abcd\n", "zz\n"] {
            replace(&path, wrong.as_bytes(), 0o600).unwrap();
            assert!(matches!(Keys::open(&home), Err(KeyError::Form { .. })), "{wrong:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), wrong);
        }
    }
}
