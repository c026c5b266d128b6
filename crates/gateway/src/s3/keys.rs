//! Keep who has keys, in one file that only its owner reads.
//!
//! The file is read again whenever it changed, so that a key works or ceases to as soon as it is written. It
//! holds secrets in the clear: signatures are made with them, so a hash would not do.

use super::principal::{Principal, Scope};
use s3s::{
    S3Result,
    auth::{S3Auth, SecretKey},
    s3_error,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{File, Metadata, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

const VERSION: u32 = 1;
/// Some ten thousand keys.
const FILE_BYTES_MAX: u64 = 8 << 20;
const KEYS_MAX: usize = 10_000;
/// Letters and digits alone: the id stands in headers, forms and addresses.
const ID_BYTES_MAX: usize = 128;
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=128;
const TEXT_BYTES_MAX: usize = 256;

/// Why there are no keys to be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("{at}: {error}")]
    Io { at: String, error: std::io::Error },
    #[error("{at} may be read by others (mode {found:o}): it holds secrets; set it to 600")]
    Open { at: String, found: u32 },
    #[error("{at} is no file of S3 keys: {why}")]
    Shape { at: String, why: String },
    #[error("{0}")]
    Refused(String),
}

/// An access key of somebody.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub access_key_id: String,
    pub secret_access_key: String,
    /// The id of whose it is.
    pub user: String,
    pub created_ms: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// It ceases to work then; rotation gives the old one such a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    #[serde(default)]
    pub scope: Scope,
}

/// All keys and whose they are.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    version: u32,
    /// The first owns every bucket that names no owner.
    pub users: Vec<Principal>,
    pub keys: Vec<Key>,
}

/// A key that works, and whose it is.
pub(super) struct Held {
    pub(super) key: Key,
    pub(super) principal: Arc<Principal>,
}

#[derive(Default)]
struct Loaded {
    stamp: Option<Stamp>,
    users: Vec<Arc<Principal>>,
    keys: BTreeMap<String, Arc<Held>>,
}

/// What tells a changed file: every write makes a new one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, i64, i64, u64);

/// The keys of a gateway, as its file has them now.
#[derive(Clone)]
pub struct Keyring {
    path: Arc<PathBuf>,
    loaded: Arc<Mutex<Arc<Loaded>>>,
}

impl Keys {
    /// Adds a user, or finds the one of this id.
    pub fn user(&mut self, principal: Principal) -> Result<&mut Principal, KeysError> {
        let at = match self.users.iter().position(|user| user.id == principal.id) {
            Some(at) => at,
            None => {
                self.users.push(principal);
                self.users.len() - 1
            }
        };
        Ok(&mut self.users[at])
    }

    /// Refuses what could not be read back, or would name two with one word.
    fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("its version is {VERSION}, found {}", self.version));
        }
        if self.keys.len() > KEYS_MAX || self.users.len() > KEYS_MAX {
            return Err(format!("it has at most {KEYS_MAX} keys and users"));
        }
        let mut ids = BTreeMap::new();
        for user in &self.users {
            let texts = [&user.id, &user.name, &user.email, &user.tenant];
            if user.id.is_empty()
                || texts.iter().any(|text| text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control))
            {
                return Err(format!("a user has an id, and texts of at most {TEXT_BYTES_MAX} bytes: {:?}", user.id));
            }
            if ids.insert(&user.id, ()).is_some() {
                return Err(format!("two users have the id {:?}", user.id));
            }
        }
        let mut seen = BTreeMap::new();
        for key in &self.keys {
            let id = &key.access_key_id;
            if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(format!("an access key id is 1 to {ID_BYTES_MAX} letters and digits, found {id:?}"));
            }
            if !SECRET_BYTES.contains(&key.secret_access_key.len())
                || !key.secret_access_key.bytes().all(|byte| byte.is_ascii_graphic())
            {
                return Err(format!("the secret of {id} is not 16 to 128 visible characters"));
            }
            if seen.insert(id, ()).is_some() {
                return Err(format!("two keys have the id {id}"));
            }
            if !ids.contains_key(&key.user) {
                return Err(format!("the key {id} is of {:?}, who is no user", key.user));
            }
        }
        Ok(())
    }
}

impl Keyring {
    /// The keys in `path`, which need not exist yet. Fails where it exists and cannot be used.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, KeysError> {
        let keyring = Self { path: Arc::new(path.into()), loaded: Arc::default() };
        keyring.load()?;
        Ok(keyring)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file holds now.
    pub fn read(&self) -> Result<Keys, KeysError> {
        Ok(read(&self.path)?.map_or_else(|| Keys { version: VERSION, ..Keys::default() }, |(keys, _)| keys))
    }

    /// Changes the file under a lock, so that two writers lose nothing of each other.
    pub fn change<T>(&self, change: impl FnOnce(&mut Keys) -> Result<T, KeysError>) -> Result<T, KeysError> {
        let failed = |path: &Path| {
            let at = path.display().to_string();
            move |error| KeysError::Io { at, error }
        };
        let lock = self.path.with_extension("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock)
            .map_err(failed(&lock))?;
        file.lock().map_err(failed(&lock))?;
        let mut keys = self.read()?;
        let value = change(&mut keys)?;
        keys.check().map_err(KeysError::Refused)?;
        let text = serde_json::to_vec_pretty(&keys).map_err(|error| KeysError::Refused(error.to_string()))?;
        let fresh = self.path.with_extension("new");
        // A leftover of a writer that was killed may have other permissions: never written into.
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&fresh)(error)),
            _ => {}
        }
        let mut out =
            OpenOptions::new().create_new(true).write(true).mode(0o600).open(&fresh).map_err(failed(&fresh))?;
        out.write_all(&text).and_then(|()| out.sync_all()).map_err(failed(&fresh))?;
        std::fs::rename(&fresh, &*self.path).map_err(failed(&self.path))?;
        if let Some(folder) = self.path.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))?;
        }
        Ok(value)
    }

    /// A file that can no longer be read keeps its last good state: a slip of the pen locks nobody out.
    fn now(&self) -> Arc<Loaded> {
        match self.load() {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::warn!(%error, "s3: keys as they were before");
                self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
        }
    }

    fn load(&self) -> Result<Arc<Loaded>, KeysError> {
        let stamp = match std::fs::metadata(&*self.path) {
            Ok(metadata) => Some(Stamp::of(&metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(KeysError::Io { at: self.path.display().to_string(), error }),
        };
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.stamp != stamp {
            *loaded = Arc::new(match read(&self.path)? {
                None => Loaded::default(),
                Some((keys, stamp)) => Loaded::of(keys, stamp),
            });
        }
        Ok(loaded.clone())
    }

    /// A key that works at this time.
    pub(super) fn held(&self, access_key_id: &str, now_ms: u64) -> Option<Arc<Held>> {
        let held = self.now().keys.get(access_key_id)?.clone();
        let works = !held.key.disabled && held.key.until_ms.is_none_or(|until| now_ms < until);
        works.then_some(held)
    }

    /// Who owns what names no owner.
    pub(super) fn main(&self) -> Option<Arc<Principal>> {
        self.now().users.first().cloned()
    }

    pub(super) fn by_id(&self, id: &str) -> Option<Arc<Principal>> {
        self.now().users.iter().find(|user| user.id == id).cloned()
    }

    /// Whether an id, a name or an account is somebody's here.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.now().users.iter().any(|user| [&user.id, &user.name, &user.tenant].into_iter().any(|one| one == name))
    }

    pub(super) fn by_email(&self, email: &str) -> Option<Arc<Principal>> {
        if email.is_empty() {
            return None;
        }
        self.now().users.iter().find(|user| user.email.eq_ignore_ascii_case(email)).cloned()
    }

    /// The name shown beside an id; nothing of one who is gone.
    pub(super) fn name_of(&self, id: &str) -> Option<String> {
        self.by_id(id).map(|user| user.name.clone())
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
    }
}

impl Loaded {
    fn of(keys: Keys, stamp: Stamp) -> Self {
        let users: Vec<Arc<Principal>> = keys.users.into_iter().map(Arc::new).collect();
        let held = keys.keys.into_iter().filter_map(|key| {
            let principal = users.iter().find(|user| user.id == key.user)?.clone();
            Some((key.access_key_id.clone(), Arc::new(Held { key, principal })))
        });
        Self { stamp: Some(stamp), keys: held.collect(), users: users.clone() }
    }
}

fn read(path: &Path) -> Result<Option<(Keys, Stamp)>, KeysError> {
    let at = || path.display().to_string();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeysError::Io { at: at(), error }),
    };
    let metadata = file.metadata().map_err(|error| KeysError::Io { at: at(), error })?;
    if metadata.mode() & 0o077 != 0 {
        return Err(KeysError::Open { at: at(), found: metadata.mode() & 0o777 });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(KeysError::Shape { at: at(), why: format!("it has more than {FILE_BYTES_MAX} bytes") });
    }
    let mut text = Vec::new();
    std::io::Read::by_ref(&mut file)
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|error| KeysError::Io { at: at(), error })?;
    let keys: Keys =
        serde_json::from_slice(&text).map_err(|error| KeysError::Shape { at: at(), why: error.to_string() })?;
    keys.check().map_err(|why| KeysError::Shape { at: at(), why })?;
    Ok(Some((keys, Stamp::of(&metadata))))
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[async_trait::async_trait]
impl S3Auth for Keyring {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.held(access_key, now_ms()) {
            Some(held) => Ok(held.key.secret_access_key.clone().into()),
            None => Err(s3_error!(
                InvalidAccessKeyId,
                "The access key you provided does not exist, or is no longer in use."
            )),
        }
    }
}

#[cfg(test)]
mod tests;
