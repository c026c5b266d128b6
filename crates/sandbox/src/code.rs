//! Keep compiled code per digest, and never take another's.
//!
//! Compiled code is machine code: whoever can write it can do what the runner's process can. So there is no way to a
//! [`Code`] but compiling, or a folder whose files carry this agent's own seal.

use crate::{Error, Program, compile, limit::CompileLimits, message::Confinement};
use bytes::Bytes;
use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The engine and how it is used here. Under another the same wasm is other code, and may use other fuel: the last
/// number rises with whatever changes either.
pub const ENGINE: &str = "wasmtime-48.0.8-2";
const SEAL: usize = blake3::OUT_LEN;

/// What this agent compiled of one component.
#[derive(Clone)]
pub struct Code {
    pub(crate) digest: [u8; 32],
    pub(crate) bytes: Bytes,
    pub(crate) compiled: Option<(Duration, Confinement)>,
}

impl Code {
    /// BLAKE3 of the wasm.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// How large the compiled code is.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How long compiling took, and what confined the compiler; nothing for code that was kept.
    pub fn compiled(&self) -> Option<&(Duration, Confinement)> {
        self.compiled.as_ref()
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Code {} of {} bytes", hex::encode(self.digest), self.bytes.len())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CodesError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "{0} was not written by this agent, or was changed since: it is not run; remove it, and it is compiled anew"
    )]
    Foreign(PathBuf),
}

/// A folder of compiled code, sealed with a key that only this agent has.
pub struct Codes {
    folder: PathBuf,
    key: [u8; 32],
}

impl Codes {
    /// The folder is made if it is not there; it belongs to one agent at a time. The key must be that
    /// agent's alone, and stay the same.
    pub fn open(folder: impl Into<PathBuf>, key: [u8; 32]) -> Result<Self, CodesError> {
        let folder = folder.into();
        let failed = |error| CodesError::Io { path: folder.clone(), error };
        fs::create_dir_all(&folder).map_err(failed)?;
        // What a power cut left half written has no reader.
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "draft") {
                fs::remove_file(&path).map_err(|error| CodesError::Io { path, error })?;
            }
        }
        Ok(Self { folder, key })
    }

    /// What is kept of the wasm with this digest.
    pub fn get(&self, digest: [u8; 32], limits: &CompileLimits) -> Result<Option<Code>, CodesError> {
        let path = self.path(digest);
        let failed = |error| CodesError::Io { path: path.clone(), error };
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        // One more than allowed, so that a longer file is seen to be.
        let most = limits.code_bytes_max.saturating_add(SEAL as u64).saturating_add(1);
        file.take(most).read_to_end(&mut bytes).map_err(failed)?;
        if (bytes.len() as u64) < most
            && let Some((seal, code)) = bytes.split_first_chunk::<SEAL>()
            && self.seal(digest, code) == blake3::Hash::from_bytes(*seal)
        {
            return Ok(Some(Code { digest, bytes: Bytes::from(bytes).slice(SEAL..), compiled: None }));
        }
        Err(CodesError::Foreign(path))
    }

    /// Keeps it: whole after a power cut, or not at all.
    pub fn keep(&self, code: &Code) -> Result<(), CodesError> {
        let path = self.path(code.digest);
        let failed = |error| CodesError::Io { path: path.clone(), error };
        // Two that keep the same write two files; the later name wins, and both are right.
        let unique: [u8; 8] = rand::random();
        let draft = self.folder.join(format!("{}.draft", hex::encode(unique)));
        let written = write(&draft, self.seal(code.digest, &code.bytes).as_bytes(), &code.bytes)
            .and_then(|()| fs::rename(&draft, &path))
            .and_then(|()| fs::File::open(&self.folder)?.sync_all());
        if written.is_err() {
            // The failure told is the first; a draft that cannot be removed either is only space.
            fs::remove_file(&draft).ok();
        }
        written.map_err(failed)
    }

    /// Forgets what is kept of the wasm with this digest.
    pub fn remove(&self, digest: [u8; 32]) -> Result<(), CodesError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CodesError::Io { path, error }),
            _ => Ok(()),
        }
    }

    /// How much all of it takes.
    pub fn bytes(&self) -> Result<u64, CodesError> {
        let sum = || fs::read_dir(&self.folder)?.try_fold(0u64, |sum, entry| Ok(sum + entry?.metadata()?.len()));
        sum().map_err(|error| CodesError::Io { path: self.folder.clone(), error })
    }

    /// What is kept of this wasm, or what compiling it now gives, which is then kept.
    pub async fn compiled(&self, program: &Program, wasm: &[u8], limits: &CompileLimits) -> Result<Code, Error> {
        match self.get(*blake3::hash(wasm).as_bytes(), limits) {
            Ok(Some(code)) => Ok(code),
            // What somebody else put there is replaced.
            Ok(None) | Err(CodesError::Foreign(_)) => {
                let code = compile(program, wasm, limits).await?;
                self.keep(&code)?;
                Ok(code)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn path(&self, digest: [u8; 32]) -> PathBuf {
        self.folder.join(format!("{}.{ENGINE}", hex::encode(digest)))
    }

    fn seal(&self, digest: [u8; 32], code: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        // Both of fixed length, then the code.
        hasher.update(blake3::hash(ENGINE.as_bytes()).as_bytes()).update(&digest).update(code);
        hasher.finalize()
    }
}

fn write(path: &Path, seal: &[u8], code: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(seal)?;
    file.write_all(code)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::ENGINE;

    #[test]
    fn the_engine_is_named_by_the_version_that_is_built() {
        let version = ENGINE.split('-').nth(1).expect("wasmtime, its version, and how it is used");
        let pinned = format!("wasmtime = {{ version = \"={version}\"");
        assert!(include_str!("../../../Cargo.toml").contains(&pinned), "{pinned}");
    }
}
