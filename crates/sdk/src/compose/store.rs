//! Read what services share and are given: volumes, networks, secrets and configs.

use super::{
    amount::{SIZE, size_bytes},
    at::At,
    broken::{Broken, Note},
    keys::{self, Table},
};
use std::collections::BTreeMap;

/// Volumes, networks, secrets or configs a file may declare, of each.
pub const DECLARED_MAX: usize = 64;

/// A disk that outlives containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    pub line: usize,
    /// Bytes, where they are said.
    pub size: Option<u64>,
}

/// Services that reach each other by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub line: usize,
    /// Nothing outside of the file is reached from it.
    pub is_internal: bool,
}

/// A secret's or config's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub line: usize,
    pub source: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// Of a file, relative to the compose file.
    File(String),
    /// Of this variable, with what it is.
    Variable(String, String),
    /// Written out.
    Text(String),
}

/// A secret or config that a service is given as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub line: usize,
    /// As it is declared.
    pub source: String,
    /// The path in the container.
    pub target: String,
    pub uid: u32,
    pub gid: u32,
    /// Permissions, as 0o444.
    pub mode: u32,
}

/// A network a service is on, with its further names there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub line: usize,
    pub network: String,
    pub aliases: Vec<String>,
}

pub(super) fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// What a file declares of a kind, each read by `read`.
pub(super) fn declared<'a, T>(
    at: &At<'a>,
    notes: &mut Vec<Note>,
    read: impl Fn(&At<'a>, &mut Vec<Note>) -> Result<T, Broken>,
) -> Result<BTreeMap<String, T>, Broken> {
    let mut all = BTreeMap::new();
    for (name, at) in at.entries()?.into_iter().filter(|(name, _)| !name.starts_with("x-")) {
        if !is_name(name) {
            return Err(at.broken("names are 1 to 63 of a-z, A-Z, 0-9, _, . and -, a letter or digit first", None));
        }
        if all.len() >= DECLARED_MAX {
            return Err(at.broken(format!("at most {DECLARED_MAX} of a kind"), None));
        }
        all.insert(name.to_owned(), read(&at, notes)?);
    }
    Ok(all)
}

pub(super) fn volume(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Volume, Broken> {
    let mut volume = Volume { line: at.line, size: None };
    for (key, at) in at.fields(&keys::VOLUME, notes)? {
        if key == "x-hodei" {
            for (key, at) in at.fields(&keys::VOLUME_TERMS, notes)? {
                if key == "size" {
                    volume.size = Some(at.read(size_bytes, SIZE)?);
                }
            }
        }
    }
    Ok(volume)
}

pub(super) fn network(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Network, Broken> {
    let mut network = Network { line: at.line, is_internal: false };
    for (key, at) in at.fields(&keys::NETWORK, notes)? {
        if key == "internal" {
            network.is_internal = at.flag()?;
        }
    }
    Ok(network)
}

pub(super) fn content(
    at: &At<'_>,
    table: &'static Table,
    environment: &BTreeMap<String, String>,
    notes: &mut Vec<Note>,
) -> Result<Content, Broken> {
    let mut sources = Vec::new();
    for (key, at) in at.fields(table, notes)? {
        sources.push(match key {
            "file" => Bytes::File(at.said()?.to_owned()),
            "environment" => {
                let name = at.said()?;
                let unset = || at.broken("a variable that is set", None);
                Bytes::Variable(name.to_owned(), environment.get(name).ok_or_else(unset)?.clone())
            }
            _ => Bytes::Text(at.text()?.to_owned()),
        });
    }
    match (sources.pop(), sources.pop()) {
        (Some(source), None) => Ok(Content { line: at.line, source }),
        _ => Err(at.broken("its bytes are said once, as file: ./name or environment: NAME", None)),
    }
}

/// What a service is given; `folder` is where it stands when no path is said.
pub(super) fn grants(at: &At<'_>, folder: &str, notes: &mut Vec<Note>) -> Result<Vec<Grant>, Broken> {
    at.items()?.into_iter().map(|at| grant(&at, folder, notes)).collect()
}

fn grant(at: &At<'_>, folder: &str, notes: &mut Vec<Note>) -> Result<Grant, Broken> {
    let (mut source, mut target, mut uid, mut gid, mut mode) = (at.scalar().unwrap_or_default(), "", 0, 0, 0o444);
    if at.scalar().is_none() {
        for (key, at) in at.fields(&keys::GRANT, notes)? {
            match key {
                "source" => source = at.said()?,
                "target" => target = at.said()?,
                "uid" => uid = at.number(0..=65_535)? as u32,
                "gid" => gid = at.number(0..=65_535)? as u32,
                _ => {
                    let octal = |text: &str| u32::from_str_radix(text.trim_start_matches("0o"), 8).ok();
                    let is_digits = |text: &&str| !text.starts_with('+');
                    let read = |text: &str| Some(text).filter(is_digits).and_then(octal).filter(|mode| *mode <= 0o777);
                    mode = at.read(read, "permissions in octal, as 0440")?;
                }
            }
        }
    }
    if source.is_empty() {
        return Err(at.broken("the name of what the file declares", None));
    }
    let name = if target.is_empty() { source } else { target };
    let target = if name.starts_with('/') { name.to_owned() } else { format!("{folder}{name}") };
    if target.split('/').any(|part| part == "..") || target.contains('\0') {
        return Err(at.broken("a path inside of the container without ..", None));
    }
    Ok(Grant { line: at.line, source: source.to_owned(), target, uid, gid, mode })
}

pub(super) fn attachments(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Vec<Attachment>, Broken> {
    if !at.is_map() {
        let attachment =
            |at: At<'_>| Ok(Attachment { line: at.line, network: at.said()?.to_owned(), aliases: Vec::new() });
        return at.items()?.into_iter().map(attachment).collect();
    }
    let mut all = Vec::new();
    for (name, at) in at.entries()? {
        let mut aliases = Vec::new();
        for (_, at) in at.fields(&keys::ATTACH, notes)? {
            for item in at.items()? {
                let alias = item.said()?;
                if !is_name(alias) {
                    return Err(item.broken("a name of 1 to 63 letters, digits, _, . and -", None));
                }
                aliases.push(alias.to_owned());
            }
        }
        all.push(Attachment { line: at.line, network: name.to_owned(), aliases });
    }
    Ok(all)
}
