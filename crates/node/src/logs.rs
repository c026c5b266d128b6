//! Write what happens to a file that cannot fill the disk.
//!
//! `logs/node.log` is the current file, `node.log.1` the one before, up to `files_max`. Whole lines are
//! written; a full disk drops lines and says how many once it can again.

use crate::{config::Log, home::Home};
use std::{
    fs::{File, OpenOptions, rename},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{path}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("`log.level` is not a level or a list of directives: {0}")]
    Level(String),
}

/// A rotated file; clones write to the same one.
#[derive(Clone, Debug)]
pub struct Rotated(Arc<Mutex<Current>>);

#[derive(Debug)]
struct Current {
    path: PathBuf,
    file: File,
    length: u64,
    file_bytes_max: u64,
    files_max: usize,
    dropped: u64,
}

/// Sends this process's tracing to the node's log file, and to standard error as well when `also_stderr`.
/// The first call in a process wins; later ones change nothing.
pub fn install(home: &Home, log: &Log, also_stderr: bool) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| LogError::Level(error.to_string()))?;
    let file = Rotated::open(&home.logs().join("node.log"), log.file_bytes_max, log.files_max)?;
    let to_file = fmt::layer().with_ansi(false).with_writer(move || file.clone());
    let to_stderr = also_stderr.then(|| fmt::layer().with_writer(io::stderr));
    // Fails only when a subscriber is already installed, as in tests with several nodes.
    let _ = tracing_subscriber::registry().with(filter).with(to_file).with(to_stderr).try_init();
    Ok(())
}

impl Rotated {
    /// Opens or continues a file.
    pub fn open(path: &Path, file_bytes_max: u64, files_max: usize) -> Result<Self, LogError> {
        let open = || -> io::Result<Current> {
            let file = append(path)?;
            let length = file.metadata()?.len();
            Ok(Current { path: path.into(), file, length, file_bytes_max, files_max, dropped: 0 })
        };
        let current = open().map_err(|source| LogError::Open { path: path.into(), source })?;
        Ok(Self(Arc::new(Mutex::new(current))))
    }
}

impl Write for Rotated {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Current {
    fn write(&mut self, line: &[u8]) {
        if self.length > 0 && self.length + line.len() as u64 > self.file_bytes_max {
            // When rotation fails (a full disk, a folder taken away) the old file goes on.
            if let Err(error) = self.rotate() {
                eprintln!("{}: not rotated: {error}", self.path.display());
                self.length = 0;
            }
        }
        if self.dropped > 0 {
            let note = format!("{} lines were lost: the disk took none\n", self.dropped);
            if self.file.write_all(note.as_bytes()).is_ok() {
                self.length += note.len() as u64;
                self.dropped = 0;
            }
        }
        match self.file.write_all(line) {
            Ok(()) => self.length += line.len() as u64,
            Err(_) => self.dropped += 1,
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.files_max).rev() {
            let from = if number == 1 { self.path.clone() } else { numbered(&self.path, number - 1) };
            match rename(&from, numbered(&self.path, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.files_max == 1 {
            self.file.set_len(0)?;
        }
        self.file = append(&self.path)?;
        self.length = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn files_rotate_and_the_oldest_goes() {
        let scratch = Scratch::new("log");
        let path = scratch.path().join("node.log");
        let mut log = Rotated::open(&path, 64, 3).unwrap();
        for number in 0..40 {
            log.write_all(format!("line number {number:04}\n").as_bytes()).unwrap();
        }
        let mut files: Vec<_> =
            std::fs::read_dir(scratch.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["node.log", "node.log.1", "node.log.2"]);
        for file in &files {
            let text = std::fs::read_to_string(scratch.path().join(file)).unwrap();
            assert!(text.len() <= 64 && text.lines().all(|line| line.starts_with("line number ")), "{text}");
        }
        assert!(std::fs::read_to_string(path).unwrap().contains("0039"), "the newest line is in the first file");
    }

    #[test]
    fn a_restart_continues_the_file() {
        let scratch = Scratch::new("log-again");
        let path = scratch.path().join("node.log");
        for _ in 0..2 {
            Rotated::open(&path, 1 << 20, 2).unwrap().write_all(b"started\n").unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), "started\nstarted\n");
    }
}
