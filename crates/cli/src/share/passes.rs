//! Keep what a reader's passes need without the ledger in a folder of its wallet.

use crate::paths::create_private;
use hodei_node::home::replace_by;
use hodei_sdk::share::Drawer;
use std::{
    io,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

/// The folder, in a wallet's: all commands of the wallet share it.
pub(crate) const FOLDER: &str = "passes";
/// What a file is called while it is written, behind its name and who writes it.
const HALF: &str = ".new";
/// One that is written for so long was left by a crash.
const LEFT: Duration = Duration::from_secs(3600);

/// A folder that its user alone reads.
pub(crate) struct Passes(PathBuf);

impl Passes {
    /// Names a folder; it is made when something is kept.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self(folder)
    }
}

impl Drawer for Passes {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let (Ok(name), Ok(about)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
            if name.ends_with(HALF) {
                let age = about.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
                if age.is_some_and(|age| age > LEFT) {
                    let _ = std::fs::remove_file(entry.path());
                }
            } else if about.is_file() {
                files.push((name, about.len()));
            }
        }
        Ok(files)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.0.join(name))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // Other commands, and other requests of this one, may write the same.
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let half = format!("-{}-{}{HALF}", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed));
        create_private(&self.0).map_err(|fault| io::Error::other(fault.message))?;
        replace_by(&self.0.join(name), &half, bytes, 0o600).map_err(io::Error::other)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_kept_is_its_users_alone_and_whole() {
        let folder = std::env::temp_dir().join(format!("hodei-passes-{}", std::process::id()));
        let passes = Passes::at(folder.join(FOLDER));
        assert_eq!(passes.list().unwrap(), [], "nothing is made before something is kept");
        passes.write("a-1", b"one").unwrap();
        passes.write("a-1", b"another").unwrap();
        // Another command writes at this moment.
        std::fs::write(folder.join(FOLDER).join(format!("b-1{HALF}")), "ha").unwrap();
        assert_eq!(passes.list().unwrap(), [("a-1".to_owned(), 7)]);
        assert_eq!(passes.read("a-1").unwrap(), b"another");
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(folder.join(FOLDER)), mode(folder.join(FOLDER).join("a-1"))), (0o700, 0o600));
        passes.remove("a-1").unwrap();
        assert_eq!(passes.remove("a-1").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!((passes.list().unwrap().len(), folder.join(FOLDER).join(format!("b-1{HALF}")).exists()), (0, true));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_several_write_at_one_time_is_whole() {
        let folder = std::env::temp_dir().join(format!("hodei-passes-at-once-{}", std::process::id()));
        let passes = Passes::at(folder.clone());
        std::thread::scope(|scope| {
            let writer = |byte: u8| {
                let passes = &passes;
                move || {
                    for _ in 0..10 {
                        passes.write("a-1", &vec![byte; 200_000 + usize::from(byte)]).unwrap();
                        let read = passes.read("a-1").unwrap();
                        let first = read[0];
                        assert!(read.len() == 200_000 + usize::from(first) && read.iter().all(|byte| *byte == first));
                    }
                }
            };
            (1..5).for_each(|byte| _ = scope.spawn(writer(byte)));
        });
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no half of it stays");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
