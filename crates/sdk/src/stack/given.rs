//! Turn secrets, configs and files of the project into files that a container is given.

use super::{broken, note};
use crate::compose::{Broken, Bytes, Compose, Content, Grant, Note, Service, Source};
use hodei_types::app::given::{FILES_BYTES_MAX, FILES_MAX, Given, is_given_path};
use std::collections::BTreeMap;

/// What lies at a path of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// From the folder that was named; empty where that is the file itself.
    pub path: String,
    pub mode: u32,
    pub bytes: Vec<u8>,
}

/// Reads what is at a path relative to the compose file: one file, or all files of a folder; or why it cannot be given.
pub type Beside<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<Found>, String>;

/// What every container has, and no file is put over.
const OWN: [&str; 6] = ["/tmp", "/run", "/etc", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// Files that are collected, each with its line.
#[derive(Default)]
struct Files<'a> {
    all: Vec<Given>,
    bytes: usize,
    /// Where the service has volumes.
    volumes: Vec<&'a str>,
}

impl Files<'_> {
    fn add(&mut self, line: usize, key: &str, file: Given) -> Result<(), Broken> {
        let refuse = |rule: &str| Err(broken(line, key, &format!("{:?}", file.path), rule));
        if !is_given_path(&file.path) || OWN.contains(&file.path.as_str()) {
            return refuse("a path inside of the container, not in /proc, /sys or /dev, nor what each container has");
        }
        let is_below = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
        let volume = self
            .volumes
            .iter()
            .find(|volume| file.path == **volume || is_below(&file.path, volume) || is_below(volume, &file.path));
        if let Some(volume) = volume {
            return refuse(&format!("there is a volume at {volume:?}: put it beside that"));
        }
        let meets = |other: &&Given| {
            other.path == file.path || is_below(&other.path, &file.path) || is_below(&file.path, &other.path)
        };
        if let Some(other) = self.all.iter().find(meets) {
            return refuse(&format!("{:?} is given, too: one file is at one place", other.path));
        }
        self.bytes += file.path.len() + file.bytes.len();
        if self.all.len() >= FILES_MAX || self.bytes > FILES_BYTES_MAX {
            return refuse(&format!(
                "a service is given {FILES_MAX} files of {FILES_BYTES_MAX} bytes together at most: build what is more into its \
                 image"
            ));
        }
        self.all.push(file);
        Ok(())
    }
}

/// All files that a service is given.
pub(super) fn files(
    (compose, service): (&Compose, &Service),
    beside: Beside<'_>,
    notes: &mut Vec<Note>,
) -> Result<Vec<Given>, Broken> {
    let volumes = service.mounts.iter().filter(|mount| matches!(mount.source, Source::Volume(_)));
    let mut files = Files { volumes: volumes.map(|mount| mount.target.as_str()).collect(), ..Files::default() };
    let key = |name: &str| format!("services.{}.{name}", service.name);
    for (name, grants, contents) in
        [("secrets", &service.secrets, &compose.secrets), ("configs", &service.configs, &compose.configs)]
    {
        for grant in grants {
            files.add(grant.line, &key(name), granted(grant, contents, &key(name), beside)?)?;
        }
    }
    for mount in &service.mounts {
        let Source::Project(path) = &mount.source else { continue };
        let found = beside(path).map_err(|why| broken(mount.line, &key("volumes"), &format!("{path:?}"), &why))?;
        if found.iter().any(|found| !found.path.is_empty()) {
            notes.push(note(mount.line, &key("volumes"), "what the image has in that folder besides stays there"));
        }
        for Found { path, mode, bytes } in found {
            let path = if path.is_empty() { mount.target.clone() } else { format!("{}/{path}", mount.target) };
            // Whoever runs inside is not who has it here.
            let file = Given { path, uid: 0, gid: 0, mode: mode & 0o555 | 0o444, bytes };
            files.add(mount.line, &key("volumes"), file)?;
        }
    }
    Ok(files.all)
}

fn granted(
    grant: &Grant,
    contents: &BTreeMap<String, Content>,
    key: &str,
    beside: Beside<'_>,
) -> Result<Given, Broken> {
    let refuse = |why: &str| broken(grant.line, key, &format!("{:?}", grant.source), why);
    let content = contents.get(&grant.source).ok_or_else(|| refuse("it is not declared"))?;
    let bytes = match &content.source {
        Bytes::Variable(_, value) => value.clone().into_bytes(),
        Bytes::Text(text) => text.clone().into_bytes(),
        Bytes::File(path) => {
            let mut found = beside(path).map_err(|why| refuse(&format!("{path:?}: {why}")))?;
            match found.pop() {
                Some(found) if found.path.is_empty() => found.bytes,
                _ => return Err(refuse(&format!("{path:?} is a folder: name one file"))),
            }
        }
    };
    Ok(Given { path: grant.target.clone(), uid: grant.uid, gid: grant.gid, mode: grant.mode, bytes })
}
