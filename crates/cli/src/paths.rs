//! Find the folders of this user, the XDG way on every system.
//!
//! config: settings; data: wallets, nodes, identities; state: logs and unfinished work; cache: what may be
//! deleted at any time.

use crate::fault::{self, Fault, Result};
use std::path::{Path, PathBuf};

/// The user's folders. None of them needs to exist.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) config: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) state: PathBuf,
}

impl Paths {
    pub(crate) fn of_user() -> Result<Self> {
        Self::from(|name| std::env::var_os(name).map(PathBuf::from))
    }

    fn from(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Self> {
        // The specification: a relative path in these variables is ignored.
        let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let folder = |name: &str, below: &str| -> Result<PathBuf> {
            let base = match (absolute(name), &home) {
                (Some(path), _) => path,
                (None, Some(home)) => home.join(below),
                (None, None) => {
                    return Err(Fault::new(
                        &fault::FOLDER,
                        "this user has no home folder",
                        format!("set HOME, or {name}, to an absolute path"),
                    ));
                }
            };
            Ok(base.join(hodei_types::PRODUCT))
        };
        Ok(Self {
            config: folder("XDG_CONFIG_HOME", ".config")?,
            data: folder("XDG_DATA_HOME", ".local/share")?,
            state: folder("XDG_STATE_HOME", ".local/state")?,
        })
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.config.join("config.toml")
    }
}

/// Creates a folder and those above it, readable by its owner alone.
pub(crate) fn create_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Fault::io(folder, "creating the folder", &error))
}

/// Writes a file so that after a crash it is either the old or the new one, whole.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    if let Some(folder) = path.parent() {
        create_private(folder)?;
    }
    hodei_node::home::replace(path, bytes, mode).map_err(|error| {
        Fault::new(&fault::FOLDER, error, "check the disk and the permissions of its folder").at(path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_win_over_home_and_relative_ones_are_ignored() {
        let paths = Paths::from(|name| match name {
            "HOME" => Some("/home/anna".into()),
            "XDG_CONFIG_HOME" => Some("/etc/anna".into()),
            "XDG_DATA_HOME" => Some("here".into()),
            _ => None,
        })
        .unwrap();
        assert_eq!(paths.settings(), Path::new("/etc/anna/hodei/config.toml"));
        assert_eq!(paths.data, Path::new("/home/anna/.local/share/hodei"));
        let fault = Paths::from(|_| None).unwrap_err();
        assert!(fault.help.contains("HOME"), "{fault}");
    }
}
