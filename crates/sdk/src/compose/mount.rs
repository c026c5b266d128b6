//! Read what is mounted where: named volumes, folders of the project, and scratch space.

use super::{
    amount::{SIZE, size_bytes},
    at::At,
    broken::{Broken, Note},
    keys,
};

/// Something that a container finds at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub line: usize,
    pub source: Source,
    pub target: String,
    pub is_read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A volume of the file.
    Volume(String),
    /// What the image has there, on the container's own disk: it ends with the container.
    Anonymous,
    /// A file or folder of the project, relative to the compose file; copied to the host, and read-only.
    Project(String),
    /// Memory, of this size at most where one is said.
    Scratch(Option<u64>),
}

const COPY: &str =
    "it is copied to the host and cannot be written to there: say :ro, or name a volume for what is written";
const PROJECT: &str = "of this machine's files only those beside the compose file come along, as ./folder: copy it there, \
                       or name a volume";
const SOCKET: &str = "there is no docker on a host, and nobody may command one: remove it";

pub(super) fn mounts(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Vec<Mount>, Broken> {
    let mut mounts: Vec<Mount> = Vec::new();
    for item in at.items()? {
        let mount = match item.scalar() {
            Some(text) => short(&item, text, notes)?,
            None => long(&item, notes)?,
        };
        if let Some(first) = mounts.iter().find(|other| other.target == mount.target) {
            return Err(item.broken(format!("line {} mounts something at {} already", first.line, mount.target), None));
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

/// Scratch space, as `/run` or `/run:size=64m`.
pub(super) fn scratch(at: &At<'_>) -> Result<Vec<Mount>, Broken> {
    let one = |at: At<'_>| {
        let (path, options) = at.said()?.split_once(':').unwrap_or((at.said()?, ""));
        let mut size = None;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=').unwrap_or((option, "")) {
                ("size", text) => size = Some(size_bytes(text).ok_or_else(|| at.broken(SIZE, None))?),
                ("mode" | "uid" | "gid" | "rw" | "noexec" | "exec" | "nosuid" | "nodev", _) => {}
                _ => return Err(at.broken("a path and size=, mode=, uid=, gid=", Some(format!("{path:?}")))),
            }
        }
        Ok(Mount { line: at.line, source: Source::Scratch(size), target: target(&at, path)?, is_read_only: false })
    };
    at.one_or_more()?.into_iter().map(one).collect()
}

pub(super) fn target(at: &At<'_>, path: &str) -> Result<String, Broken> {
    let is_plain = path.starts_with('/') && !path.split('/').any(|part| part == "..") && path.len() <= 4096;
    if !is_plain || path.contains('\0') {
        return Err(at.broken("a path inside of the container that begins with / and has no ..", None));
    }
    let short = path.trim_end_matches('/');
    if short.is_empty() {
        return Err(at.broken("nothing is mounted over the whole image", None));
    }
    Ok(short.to_owned())
}

/// A folder of the project by its path, or why it is none.
fn project(at: &At<'_>, path: &str) -> Result<Source, Broken> {
    if path.ends_with("docker.sock") {
        return Err(at.broken(SOCKET, None));
    }
    let is_outside =
        path.starts_with(['/', '~', '\\']) || path.split('/').any(|part| part == "..") || path.contains('\0');
    if is_outside {
        let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let nearest = (!matches!(last, "" | "~" | "..")).then(|| format!("\"./{last}\""));
        return Err(at.broken(PROJECT, nearest));
    }
    Ok(Source::Project(path.to_owned()))
}

fn volume(at: &At<'_>, name: &str) -> Result<Source, Broken> {
    let is_name = !name.is_empty()
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if is_name { Ok(Source::Volume(name.to_owned())) } else { Err(at.broken(PROJECT, None)) }
}

fn short(at: &At<'_>, text: &str, notes: &mut Vec<Note>) -> Result<Mount, Broken> {
    let mut parts = text.splitn(3, ':');
    let (first, second, options) = (parts.next().unwrap_or_default(), parts.next(), parts.next().unwrap_or_default());
    let line = at.line;
    let Some(second) = second else {
        return Ok(Mount { line, source: Source::Anonymous, target: target(at, first)?, is_read_only: false });
    };
    let mut is_read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => is_read_only = true,
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "nocopy" => {}
            _ => {
                let nearest = format!("\"{first}:{second}:ro\"");
                return Err(at.broken("SOURCE:TARGET with ro or rw after it", Some(nearest)));
            }
        }
    }
    let is_path = first.starts_with(['.', '/', '~', '\\']) || first.contains('/');
    let source = if is_path { project(at, first)? } else { volume(at, first)? };
    finish(at, source, target(at, second)?, is_read_only, notes)
}

fn finish(
    at: &At<'_>,
    source: Source,
    target: String,
    is_read_only: bool,
    notes: &mut Vec<Note>,
) -> Result<Mount, Broken> {
    let is_copy = matches!(source, Source::Project(_));
    if is_copy && !is_read_only {
        notes.push(at.note(COPY));
    }
    Ok(Mount { line: at.line, source, target, is_read_only: is_read_only || is_copy })
}

#[derive(Clone, Copy)]
enum Kind {
    Volume,
    Bind,
    Scratch,
}

fn long(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Mount, Broken> {
    let (mut kind, mut source, mut path, mut is_read_only, mut size) = (None, None, None, false, None);
    for (key, at) in at.fields(&keys::MOUNT, notes)? {
        match key {
            "type" => {
                let kinds = [("volume", Kind::Volume), ("bind", Kind::Bind), ("tmpfs", Kind::Scratch)];
                kind = Some(at.one_of(&kinds)?);
            }
            "source" => source = Some(at),
            "target" => path = Some(target(&at, at.said()?)?),
            "read_only" => is_read_only = at.flag()?,
            "tmpfs" => {
                for (key, at) in at.fields(&keys::SCRATCH, notes)? {
                    if key == "size" {
                        size = Some(at.read(size_bytes, SIZE)?);
                    }
                }
            }
            _ => {}
        }
    }
    let path = path.ok_or_else(|| at.broken("a mount has a target, as target: /data", None))?;
    let source = match (kind.unwrap_or(Kind::Volume), source) {
        (Kind::Scratch, None) => Source::Scratch(size),
        (Kind::Scratch, Some(source)) => return Err(source.broken("a tmpfs has no source", None)),
        (Kind::Volume, None) => Source::Anonymous,
        (Kind::Volume, Some(source)) => volume(&source, source.said()?)?,
        (Kind::Bind, Some(source)) => project(&source, source.said()?)?,
        (Kind::Bind, None) => return Err(at.broken("a bind has a source, as source: ./folder", None)),
    };
    finish(at, source, path, is_read_only, notes)
}
