//! Choose the cloud that a command acts on.
//!
//! A context is a network key, the members to reach it through, a wallet, and the doors that answer here.
//! Each is a file of its own, `contexts/NAME.toml`, so that two commands never rewrite one file. Which one
//! holds is decided by flag, then environment, then `context` in config.toml, then `contexts/current`.

use crate::{
    fault::{self, Fault, Result},
    paths::{Paths, write_whole},
    slot,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    io::{ErrorKind, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Longer settings files are not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A network as this user reaches it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// What everything is checked against.
    pub(crate) network_key: String,
    /// Folder of wallet and identity.
    pub(crate) wallet: PathBuf,
    /// Local doors by protocol: `rpc`, `s3`, `share`.
    #[serde(default)]
    pub(crate) doors: BTreeMap<String, String>,
    /// Folder of this machine's node in that network, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<PathBuf>,
    /// The network's genesis file, where it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) genesis: Option<PathBuf>,
    /// It is a demo's: worth nothing once that has ended, however it ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) demo: bool,
    /// Nodes that answer questions about the ledger.
    #[serde(default)]
    pub(crate) member: Vec<Member>,
}

/// A node that answers `hodei/chain/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// Ed25519 public key, 64 hex digits.
    pub(crate) key: String,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// The user's own file, never written by a command.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    context: Option<String>,
}

/// Who decided which context holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `-C` or `HODEI_CONTEXT`: clap joins the two, the flag winning.
    Asked,
    Settings,
    Current,
}

/// All contexts of this user.
#[derive(Clone, Debug)]
pub(crate) struct Contexts {
    folder: PathBuf,
    settings: PathBuf,
}

impl Contexts {
    pub(crate) fn of(paths: &Paths) -> Self {
        Self { folder: paths.config.join("contexts"), settings: paths.settings() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.toml"))
    }

    fn current_file(&self) -> PathBuf {
        self.folder.join("current")
    }

    /// Names in order.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Fault::io(&self.folder, "listing contexts", &error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".toml").map(Into::into))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The name that holds, and who decided so.
    pub(crate) fn chosen(&self, asked: Option<&str>) -> Result<Option<(String, Origin)>> {
        if let Some(name) = asked {
            return Ok(Some((name.into(), Origin::Asked)));
        }
        let settings: Settings = read(&self.settings)?.unwrap_or_default();
        if let Some(name) = settings.context {
            return Ok(Some((name, Origin::Settings)));
        }
        Ok(text(&self.current_file())?.map(|name| (name.trim().to_owned(), Origin::Current)))
    }

    /// The context that holds, or what to do about there being none.
    pub(crate) fn open(&self, asked: Option<&str>) -> Result<(String, Context)> {
        let Some((name, origin)) = self.chosen(asked)? else {
            return Err(Fault::new(
                &fault::NO_CONTEXT,
                "no cloud was chosen, and none is saved as current",
                "start one with `hodei demo --keep`, make one with `hodei net create`, or join one with `hodei net join TICKET`",
            ));
        };
        check_name(&name)?;
        match read::<Context>(&self.file(&name))? {
            Some(context) if context.demo && !slot::is_held(&context.wallet) => Err(Fault::new(
                &fault::NO_CONTEXT,
                format!("the demo of context {name} has ended"),
                "start another with `hodei demo --keep`, or choose a cloud with -C NAME",
            )),
            Some(context) => Ok((name, context)),
            None => {
                let known = self.names()?;
                let by = match origin {
                    Origin::Asked => "-C or HODEI_CONTEXT".to_owned(),
                    Origin::Settings => self.settings.display().to_string(),
                    Origin::Current => self.current_file().display().to_string(),
                };
                Err(Fault::new(
                    &fault::UNKNOWN_CONTEXT,
                    format!("there is no context `{name}`"),
                    "choose one that exists with -C NAME",
                )
                .at(by)
                .between(if known.is_empty() { "none is saved".into() } else { known.join(", ") }, name))
            }
        }
    }

    /// Saves a new context; it becomes current if none is. A name in use is refused.
    pub(crate) fn save(&self, name: &str, context: &Context) -> Result<()> {
        check_name(name)?;
        let path = self.file(name);
        if path.exists() {
            return Err(Fault::new(
                &fault::EXISTS,
                format!("there is a context `{name}` already"),
                "choose another name with --context-name, or remove that file",
            )
            .at(path.display()));
        }
        self.change(name, context)?;
        self.make_current_if_none(name)
    }

    /// Saves what a context of this name is from now on.
    pub(crate) fn change(&self, name: &str, context: &Context) -> Result<()> {
        let text = toml::to_string_pretty(context).expect("a context is a table of plain values");
        write_whole(&self.file(name), text.as_bytes(), 0o600)
    }

    fn make_current_if_none(&self, name: &str) -> Result<()> {
        let path = self.current_file();
        // Made only where there is none: two commands at once agree on the first.
        match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                writeln!(file, "{name}").map_err(|error| Fault::io(&path, "saving the current context", &error))
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(Fault::io(&path, "saving the current context", &error)),
        }
    }

    /// Makes a saved context current; the one that was so before.
    pub(crate) fn make_current(&self, name: &str) -> Result<Option<String>> {
        let before = text(&self.current_file())?.map(|name| name.trim().to_owned());
        write_whole(&self.current_file(), format!("{name}\n").as_bytes(), 0o600)?;
        Ok(before.filter(|before| before != name))
    }

    /// Forgets the contexts of demos that were killed and could not do it; gives their names.
    pub(crate) fn forget_ended(&self) -> Result<Vec<String>> {
        let mut ended = Vec::new();
        for name in self.names()? {
            // What cannot be read is not ours to remove.
            if let Ok(Some(context)) = read::<Context>(&self.file(&name))
                && context.demo
                && !slot::is_held(&context.wallet)
            {
                self.remove(&name, None)?;
                ended.push(name);
            }
        }
        Ok(ended)
    }

    /// Forgets a context; if it was current, the one `before` it is so again.
    pub(crate) fn remove(&self, name: &str, before: Option<&str>) -> Result<()> {
        check_name(name)?;
        let was_current = text(&self.current_file())?.is_some_and(|current| current.trim() == name);
        if let Some(before) = before.filter(|before| was_current && self.file(before).exists()) {
            self.make_current(before)?;
        }
        for (path, mine) in [
            (self.file(name), true),
            (self.current_file(), text(&self.current_file())?.is_some_and(|current| current.trim() == name)),
        ] {
            if !mine {
                continue;
            }
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Fault::io(&path, "removing the context", &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Names become file names: letters, digits and `-`.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
        return Err(Fault::new(&fault::USAGE, "the name cannot be used", "choose another name")
            .between("1 to 64 letters, digits or -", format!("{name:?}")));
    }
    Ok(())
}

fn text(path: &Path) -> Result<Option<String>> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            return Err(Fault::new(&fault::SETTINGS, "the file is too long for settings", "look what it is")
                .at(path.display())
                .between("at most 1 MiB", format!("{} bytes", metadata.len())));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::io(path, "reading settings", &error)),
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| Fault::io(path, "reading settings", &error))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = text(path)? else { return Ok(None) };
    toml::from_str(&text).map(Some).map_err(|error| {
        Fault::new(&fault::SETTINGS, error.to_string().trim_end(), "correct that line, or remove the file")
            .at(path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> (Self, Contexts) {
            let folder = std::env::temp_dir().join(format!("hodei-context-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            let contexts = Contexts { folder: folder.join("contexts"), settings: folder.join("config.toml") };
            (Self(folder), contexts)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn context() -> Context {
        Context {
            network_key: "hodeinet1x".into(),
            wallet: "/w".into(),
            doors: [("rpc".to_owned(), "http://127.0.0.1:8545".to_owned())].into(),
            node: None,
            genesis: None,
            demo: false,
            member: vec![Member { key: "ab".repeat(32), addresses: vec!["127.0.0.1:1".parse().unwrap()] }],
        }
    }

    #[test]
    fn the_first_saved_is_current_until_removed() {
        let (_scratch, contexts) = Scratch::new("current");
        assert_eq!(contexts.open(None).unwrap_err().code.id, "HD1101");
        contexts.save("one", &context()).unwrap();
        contexts.save("two", &context()).unwrap();
        assert_eq!(contexts.open(None).unwrap(), ("one".into(), context()));
        assert_eq!(contexts.save("two", &context()).unwrap_err().code.id, "HD1103");
        contexts.remove("one", None).unwrap();
        assert_eq!(contexts.chosen(None).unwrap(), None, "two was never made current");
        assert_eq!(contexts.names().unwrap(), ["two"]);
    }

    #[test]
    fn a_demo_is_current_while_it_lives_and_gives_way() {
        let (scratch, contexts) = Scratch::new("demo");
        contexts.save("mine", &context()).unwrap();
        let wallet = scratch.0.join("wallet");
        let slot = slot::Slot::take(&wallet).unwrap();
        let demo = Context { demo: true, wallet, ..context() };
        contexts.save("demo-1", &demo).unwrap();
        let before = contexts.make_current("demo-1").unwrap();
        contexts.forget_ended().unwrap();
        assert_eq!(contexts.open(None).unwrap().0, "demo-1");
        contexts.remove("demo-1", before.as_deref()).unwrap();
        assert_eq!(contexts.open(None).unwrap().0, "mine");
        // Killed, it could not take its context away.
        contexts.save("demo-1", &demo).unwrap();
        contexts.make_current("demo-1").unwrap();
        drop(slot);
        assert_eq!(contexts.open(None).unwrap_err().code.id, "HD1101");
        assert_eq!(contexts.forget_ended().unwrap(), ["demo-1"]);
        assert_eq!(contexts.names().unwrap(), ["mine"]);
        assert_eq!(contexts.chosen(None).unwrap(), None);
    }

    #[test]
    fn flag_before_settings_before_current() {
        let (scratch, contexts) = Scratch::new("precedence");
        contexts.save("current", &context()).unwrap();
        std::fs::write(scratch.0.join("config.toml"), "context = \"settings\"\n").unwrap();
        assert_eq!(contexts.chosen(Some("asked")).unwrap(), Some(("asked".into(), Origin::Asked)));
        assert_eq!(contexts.chosen(None).unwrap(), Some(("settings".into(), Origin::Settings)));
        let fault = contexts.open(None).unwrap_err();
        assert_eq!(fault.code.id, "HD1102");
        assert_eq!(fault.expected.as_deref(), Some("current"), "it names those that exist");
    }

    #[test]
    fn unknown_keys_name_file_and_line() {
        let (scratch, contexts) = Scratch::new("unknown");
        std::fs::write(scratch.0.join("config.toml"), "\ncontxt = \"x\"\n").unwrap();
        let fault = contexts.open(None).unwrap_err();
        assert_eq!(fault.code.id, "HD1002");
        assert!(fault.message.contains("contxt") && fault.message.contains("line 2"), "{fault}");
        assert!(fault.at.unwrap().ends_with("config.toml"));
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        let (_scratch, contexts) = Scratch::new("names");
        for name in ["", "../x", "a/b", "a b", &"x".repeat(65)] {
            assert!(contexts.save(name, &context()).is_err(), "{name:?}");
            assert!(contexts.open(Some(name)).is_err(), "{name:?}");
        }
    }
}
