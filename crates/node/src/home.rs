//! Keep one node's files in one folder that only one process uses.
//!
//! ```text
//! node.toml      configuration          keys/     secrets, 0600
//! store/         what must survive      index/    caches: deleting them changes only start time
//! logs/          log files              lock      held while a process runs
//! network        whose node this is     link.port the port it keeps
//! ready.json     addresses of the running node, for tools
//! ```

use serde::{Deserialize, Serialize};
use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path} is in use by process {holder}; stop it first, or choose another folder")]
    Locked { path: PathBuf, holder: String },
    #[error("{path} holds a node of network {found}, and this is network {expected}: choose another folder")]
    Foreign { path: PathBuf, expected: String, found: String },
}

/// A node's folder. Clones name the same folder; none of them holds the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(PathBuf);

/// Held while this process uses the folder; the system releases it however the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "open file = held lock")] File);

/// What a running node writes once it answers, so that tools find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub process: u32,
    /// Public key, hex.
    pub node: String,
    /// Account that registers and is paid, `0x…`.
    pub account: String,
    /// Where the wire listens.
    pub link: Vec<SocketAddr>,
    /// The HTTP door, if any.
    pub status: Option<SocketAddr>,
    /// Ethereum JSON-RPC, if served.
    pub rpc: Option<SocketAddr>,
}

impl Home {
    /// Names a folder and creates what is missing in it, readable by its owner alone.
    pub fn create(folder: impl Into<PathBuf>) -> Result<Self, HomeError> {
        let home = Self(folder.into());
        for folder in [home.0.clone(), home.keys(), home.store(), home.index(), home.logs()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(|source| HomeError::Io { path: folder, source })?;
        }
        Ok(home)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn config(&self) -> PathBuf {
        self.0.join("node.toml")
    }

    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// Folder of the runtime's storage: everything that must survive a power cut.
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    pub fn index(&self) -> PathBuf {
        self.0.join("index")
    }

    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    fn ready(&self) -> PathBuf {
        self.0.join("ready.json")
    }

    /// Takes the folder for this process.
    pub fn lock(&self) -> Result<Lock, HomeError> {
        let path = self.0.join("lock");
        let io = |source| HomeError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.take(32).read_to_string(&mut holder).map_err(io)?;
                return Err(HomeError::Locked { path: self.0.clone(), holder: holder.trim().into() });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).map_err(io)?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Lock(file))
    }

    /// Makes this a node of one network, the first time; afterwards refuses any other. Call under the lock.
    pub fn belong(&self, genesis: &str) -> Result<(), HomeError> {
        let path = self.0.join("network");
        match std::fs::read_to_string(&path) {
            Ok(found) if found.trim() == genesis => Ok(()),
            Ok(found) => Err(HomeError::Foreign {
                path: self.0.clone(),
                expected: genesis.into(),
                found: found.trim().chars().take(80).collect(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                replace(&path, format!("{genesis}\n").as_bytes(), 0o600)
            }
            Err(source) => Err(HomeError::Io { path, source }),
        }
    }

    /// Tells tools where the node answers. Replaced whole, so that no reader sees half of it.
    pub fn write_ready(&self, ready: &Ready) -> Result<(), HomeError> {
        let text = serde_json::to_vec(ready).expect("plain values");
        replace(&self.ready(), &text, 0o600)
    }

    /// What a running node wrote; `None` while none answers.
    pub fn read_ready(&self) -> Option<Ready> {
        serde_json::from_slice(&std::fs::read(self.ready()).ok()?).ok()
    }

    /// Withdraws [`Home::write_ready`].
    pub fn remove_ready(&self) {
        if let Err(error) = std::fs::remove_file(self.ready())
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "ready.json stays behind");
        }
    }
}

/// Writes a file so that after a crash it is either the old or the new one, whole; where nobody else writes it now.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), HomeError> {
    replace_by(path, ".new", bytes, mode)
}

/// The same for one of several who may write it at one time: while it is written `half` is behind its name, of each another.
pub fn replace_by(path: &Path, half: &str, bytes: &[u8], mode: u32) -> Result<(), HomeError> {
    let io = |source| HomeError::Io { path: path.into(), source };
    // Of a bare name that is empty, and no folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(half);
    let fresh = folder.join(name);
    if let Err(error) = std::fs::remove_file(&fresh)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(io(error));
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh).map_err(io)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&fresh, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&fresh);
        io(error)
    })?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_folder_belongs_to_one_process() {
        let scratch = Scratch::new("lock");
        let home = Home::create(scratch.path()).unwrap();
        let held = home.lock().unwrap();
        let Err(HomeError::Locked { holder, .. }) = home.lock() else { panic!("locked twice") };
        assert_eq!(holder, std::process::id().to_string());
        drop(held);
        home.lock().expect("free again");
    }

    #[test]
    fn a_folder_belongs_to_one_network() {
        let scratch = Scratch::new("network");
        let home = Home::create(scratch.path()).unwrap();
        home.belong("0x01").unwrap();
        home.belong("0x01").expect("the same again");
        let refused = home.belong("0x02");
        assert!(matches!(refused, Err(HomeError::Foreign { found, .. }) if found == "0x01"));
    }

    #[test]
    fn ready_is_whole_or_absent() {
        let scratch = Scratch::new("ready");
        let home = Home::create(scratch.path()).unwrap();
        assert_eq!(home.read_ready(), None);
        let ready = Ready {
            process: 7,
            node: "ab".into(),
            account: "0x01".into(),
            link: vec!["127.0.0.1:1".parse().unwrap()],
            status: None,
            rpc: None,
        };
        home.write_ready(&ready).unwrap();
        assert_eq!(home.read_ready(), Some(ready));
        home.remove_ready();
        assert_eq!(home.read_ready(), None);
    }
}
