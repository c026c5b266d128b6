//! Say what one container runs, and within what.

use crate::error::Error;
use hodei_types::app::{
    given::{FILES_MAX, Given, is_given_path},
    volume::{VOLUMES_MAX, Volume, is_volume_path},
};
use std::{net::IpAddr, path::PathBuf};

/// Containers' processes believe to be root; on this machine they are this user, and the 65,535 after it.
pub const UID_BASE: u32 = 1_000_000;
/// So many users a container has: what images are made for.
pub const UIDS: u32 = 65_536;
/// Below it ext4 has no room worth the name.
pub const DISK_BYTES_MIN: u64 = 64 << 20;
/// Below it the engine itself cannot begin.
pub const MEMORY_BYTES_MIN: u64 = 8 << 20;
/// Docker's own limit is 127.
pub const LAYERS_MAX: usize = 128;
const CONFIG_BYTES_MAX: usize = 1 << 20;
const WORDS_MAX: usize = 4096;
const WORD_BYTES_MAX: usize = 128 << 10;
const HOSTS_MAX: usize = 1024;
const CPU_MILLI_MIN: u64 = 10;

/// One layer or config, by what its bytes hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    pub sha256: [u8; 32],
    pub bytes: u64,
}

/// How a layer's tar is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// One layer as it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    pub blob: Blob,
    pub packing: Packing,
}

/// What one container runs.
#[derive(Clone, Debug)]
pub struct Spec {
    /// `[a-z0-9-]{1,63}`, one of its kind on this host.
    pub id: String,
    /// The image's config as it was pushed; who calls has checked its digest.
    pub config: Vec<u8>,
    /// Lowest first, each with the file that holds it.
    pub layers: Vec<(Layer, PathBuf)>,
    /// In place of the image's, whose command then does not count either.
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    /// Added to the image's, and before it where both name one.
    pub env: Vec<(String, String)>,
    pub workdir: Option<String>,
    /// `user`, `user:group`, by name or number, as the image's own `passwd` and `group` have them.
    pub user: Option<String>,
    pub hostname: String,
    pub cpu_milli: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub pids: u32,
    /// Lines of `/etc/hosts` beside the loopback's and its own.
    pub hosts: Vec<(String, IpAddr)>,
    /// Whether nothing but `/tmp`, `/run` and `/dev/shm` may be written.
    pub is_read_only: bool,
    /// In place of the image's, `TERM` where it has none.
    pub stop_signal: Option<i32>,
    pub stop_secs: u32,
    /// Disks that outlive it, filled before it is made.
    pub volumes: Vec<Volume>,
    /// Beside those of its image, for it to read.
    pub files: Vec<Given>,
}

impl Spec {
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_id(&self.id)?;
        if !is_host_name(&self.hostname) {
            return refuse(format!("the host name {:?} is none", self.hostname));
        }
        if self.layers.is_empty() || self.layers.len() > LAYERS_MAX {
            return refuse(format!("an image of {} layers; 1 to {LAYERS_MAX} may be", self.layers.len()));
        }
        if self.config.len() > CONFIG_BYTES_MAX {
            return refuse(format!("a config of {} bytes; {CONFIG_BYTES_MAX} may be", self.config.len()));
        }
        if self.cpu_milli < CPU_MILLI_MIN || self.cpu_milli > 1_024_000 {
            return refuse(format!("{} thousandths of a core; {CPU_MILLI_MIN} are the least", self.cpu_milli));
        }
        if self.memory_bytes < MEMORY_BYTES_MIN || self.memory_bytes > i64::MAX as u64 {
            return refuse(format!("{} bytes of memory; {MEMORY_BYTES_MIN} are the least", self.memory_bytes));
        }
        if self.disk_bytes < DISK_BYTES_MIN || self.disk_bytes > 1 << 44 {
            return refuse(format!("{} bytes of disk; {DISK_BYTES_MIN} are the least", self.disk_bytes));
        }
        if self.pids == 0 {
            return refuse("no process at all".into());
        }
        if self.hosts.len() > HOSTS_MAX || self.hosts.iter().any(|(name, _)| !is_host_name(name)) {
            return refuse(format!("hosts: {HOSTS_MAX} names of letters, digits, `-` and `.` may be"));
        }
        if self.stop_signal.is_some_and(|signal| !(1..=64).contains(&signal)) {
            return refuse("a stop signal is 1 to 64".into());
        }
        if self.env.iter().any(|(name, _)| name.is_empty() || name.contains('=')) {
            return refuse("a variable's name is not empty and has no `=`".into());
        }
        if self.volumes.len() > VOLUMES_MAX {
            return refuse(format!("{} volumes; {VOLUMES_MAX} may be", self.volumes.len()));
        }
        self.volumes.iter().try_for_each(check_volume)?;
        if self.files.len() > FILES_MAX {
            return refuse(format!("{} files; {FILES_MAX} may be given", self.files.len()));
        }
        if let Some(file) = self.files.iter().find(|file| !is_given_path(&file.path) || file.mode > 0o777) {
            return refuse(format!("the file at {:?}: a plain path, and rights of 0777 at most", file.path));
        }
        let command = self.entrypoint.iter().chain(&self.command).flatten();
        let env = self.env.iter().flat_map(|(name, value)| [name, value]);
        check_words(command.chain(env).chain(&self.workdir).chain(&self.user))
    }
}

/// What is handed to a program as words: so many, so long, and no end in their middle.
pub(crate) fn check_words<'a>(words: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    let mut count = 0;
    for word in words {
        count += 1;
        if count > WORDS_MAX || word.len() > WORD_BYTES_MAX || word.contains('\0') {
            return refuse(format!("{WORDS_MAX} words of {WORD_BYTES_MAX} bytes may be, without a zero in them"));
        }
    }
    Ok(())
}

/// A folder to begin in: an engine that opens one below `/proc` may end outside (CVE-2024-21626).
pub(crate) fn check_workdir(path: &str) -> Result<(), Error> {
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
    if !path.starts_with('/') || parts.peek() == Some(&"proc") || parts.any(|part| part == "..") {
        return refuse(format!("the folder {path:?}: it begins with `/`, leads nowhere up, and not into /proc"));
    }
    Ok(())
}

pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    let is_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    // One that began with a dash would be an option to the engine.
    if id.is_empty() || id.len() > 63 || id.starts_with('-') || !id.bytes().all(is_id) {
        return refuse(format!("the id {id:?}: 1 to 63 of a-z, 0-9 and `-`, and not `-` first"));
    }
    Ok(())
}

/// A name that is one of a file, and a place that hides nothing.
pub(crate) fn check_volume(volume: &Volume) -> Result<(), Error> {
    check_id(&volume.name)?;
    if !is_volume_path(&volume.path) {
        return refuse(format!(
            "the volume at {:?}: a way from `/`, not up, not into /proc, /sys or /dev",
            volume.path
        ));
    }
    if volume.bytes < DISK_BYTES_MIN || volume.bytes > 1 << 44 {
        return refuse(format!("a volume of {} bytes; {DISK_BYTES_MIN} are the least", volume.bytes));
    }
    Ok(())
}

fn is_host_name(name: &str) -> bool {
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(is_one)
}

fn refuse<T>(why: String) -> Result<T, Error> {
    Err(Error::Spec(why))
}
