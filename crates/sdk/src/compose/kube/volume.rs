//! Read volumes and where they are mounted: memory, files of ConfigMaps and Secrets, and claims.

use super::{
    super::{
        Compose, Service,
        at::At,
        broken::{Broken, Note},
        mount::{Mount, Source, target},
        store::{Bytes, Content, Grant, Volume},
    },
    data::Stores,
    env::store,
    keys, quantity,
};
use crate::nearest::nearest;
use std::collections::BTreeMap;

/// Memory that every container has as a folder.
const MEMORY: [&str; 3] = ["/tmp", "/run", "/dev/shm"];
const MODE: u32 = 0o644;

/// A volume of a pod.
pub(super) enum Kept<'a> {
    Memory,
    Files(Files<'a>),
    /// A volume of these files, and whether it is read alone.
    Claim(String, bool),
}

/// What a ConfigMap or Secret is as files.
pub(super) struct Files<'a> {
    at: At<'a>,
    is_secret: bool,
    name: &'a str,
    is_optional: bool,
    mode: u32,
    /// Each key with its path and mode; all keys without it.
    items: Option<Vec<(&'a str, &'a str, Option<u32>)>>,
}

/// The volume of a claim: its size.
pub(super) fn claimed(spec: &At<'_>, notes: &mut Vec<Note>) -> Result<Volume, Broken> {
    let mut size = None;
    for (key, at) in spec.fields_or(&keys::CLAIMED, notes, "")? {
        if key != "resources" {
            continue;
        }
        for (_, at) in at.fields_or(&keys::CLAIMED_SIZE, notes, "")? {
            for (_, at) in at.fields_or(&keys::STORAGE, notes, "")? {
                size = Some(at.read(quantity::bytes, quantity::SIZE)?);
            }
        }
    }
    let size = size.ok_or_else(|| spec.broken("a claim has resources.requests.storage", None))?;
    Ok(Volume { line: spec.line, size: Some(size) })
}

/// All volumes of a pod by their names; `own` are those of a StatefulSet's templates.
pub(super) fn volumes<'a>(
    at: Option<&At<'a>>,
    own: &[(String, String)],
    compose: &Compose,
    notes: &mut Vec<Note>,
) -> Result<BTreeMap<String, Kept<'a>>, Broken> {
    let own = own.iter().map(|(name, volume)| (name.clone(), Kept::Claim(volume.clone(), false)));
    let mut all: BTreeMap<String, Kept<'a>> = own.collect();
    for item in at.map(At::items).transpose()?.into_iter().flatten() {
        let (mut name, mut kept) = (None, None);
        for (key, at) in item.fields_or(&keys::VOLUME, notes, "")? {
            let one = match key {
                "name" => {
                    name = Some(at);
                    continue;
                }
                "emptyDir" => {
                    empty(&at, notes)?;
                    Kept::Memory
                }
                "configMap" | "secret" => Kept::Files(files(&at, key == "secret", notes)?),
                _ => claim(&at, compose, notes)?,
            };
            if kept.replace(one).is_some() {
                return Err(item.broken("a volume is of one kind", None));
            }
        }
        let name = name.ok_or_else(|| item.broken("a volume has a name", None))?;
        // A mapping of nothing says nothing, but for this kind.
        let is_empty = item.node.get("emptyDir").is_some();
        let kept = kept.or(is_empty.then_some(Kept::Memory));
        let kept = kept.ok_or_else(|| item.broken("a volume is emptyDir, configMap, secret or a claim", None))?;
        if all.insert(name.said()?.to_owned(), kept).is_some() {
            return Err(name.broken("there is a volume of that name before: call one of them otherwise", None));
        }
    }
    Ok(all)
}

fn empty(at: &At<'_>, notes: &mut Vec<Note>) -> Result<(), Broken> {
    for (key, at) in at.fields_or(&keys::EMPTY, notes, "")? {
        match key {
            "sizeLimit" => _ = at.read(quantity::bytes, quantity::SIZE)?,
            _ => at.one_of(&[("", ()), ("Memory", ())])?,
        }
    }
    Ok(())
}

fn claim<'a>(at: &At<'_>, compose: &Compose, notes: &mut Vec<Note>) -> Result<Kept<'a>, Broken> {
    let (mut name, mut is_read_only) = (None, false);
    for (key, at) in at.fields_or(&keys::CLAIM, notes, "")? {
        match key {
            "claimName" => name = Some(at),
            _ => is_read_only = at.flag()?,
        }
    }
    let name = name.ok_or_else(|| at.broken("it says claimName", None))?;
    let text = name.said()?;
    if !compose.volumes.contains_key(text) {
        let names: Vec<&str> = compose.volumes.keys().map(String::as_str).collect();
        return Err(name.broken("a PersistentVolumeClaim of these files: add it", nearest(text, &names)));
    }
    Ok(Kept::Claim(text.to_owned(), is_read_only))
}

fn mode(at: &At<'_>) -> Result<u32, Broken> {
    let read = |text: &str| {
        let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let mode = match text.strip_prefix("0o").or(text.strip_prefix('0').filter(|_| is_digits && text.len() > 1)) {
            Some(octal) => u32::from_str_radix(octal, 8).ok()?,
            None if is_digits => text.parse::<u32>().ok()?,
            None => return None,
        };
        Some(mode).filter(|mode| *mode <= 0o777)
    };
    at.read(read, "permissions, as 0440 in octal or 288")
}

fn files<'a>(at: &At<'a>, is_secret: bool, notes: &mut Vec<Note>) -> Result<Files<'a>, Broken> {
    let mut files = Files { at: at.clone(), is_secret, name: "", is_optional: false, mode: MODE, items: None };
    for (key, at) in at.fields_or(&keys::FILES_OF, notes, "")? {
        match key {
            "name" if !is_secret => files.name = at.said()?,
            "secretName" if is_secret => files.name = at.said()?,
            "name" => return Err(at.broken("a Secret is named by secretName", Some("\"secretName\"".into()))),
            "secretName" => return Err(at.broken("a ConfigMap is named by name", Some("\"name\"".into()))),
            "optional" => files.is_optional = at.flag()?,
            "defaultMode" => files.mode = mode(&at)?,
            _ => files.items = Some(at.items()?.iter().map(|at| item(at, notes)).collect::<Result<_, _>>()?),
        }
    }
    if files.name.is_empty() {
        return Err(at.broken("it says what it is of: name of a ConfigMap, secretName of a Secret", None));
    }
    Ok(files)
}

fn item<'a>(item: &At<'a>, notes: &mut Vec<Note>) -> Result<(&'a str, &'a str, Option<u32>), Broken> {
    let (mut of, mut path, mut bits) = (None, None, None);
    for (field, at) in item.fields_or(&keys::ITEM, notes, "")? {
        match field {
            "key" => of = Some(at.said()?),
            "path" => path = Some(at.read(|_| at.scalar().filter(|path| is_below(path)), "a path below, without ..")?),
            _ => bits = Some(mode(&at)?),
        }
    }
    match (of, path) {
        (Some(of), Some(path)) => Ok((of, path, bits)),
        _ => Err(item.broken("an item has a key and a path", None)),
    }
}

fn is_below(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0')
}

/// Mounts a container's volumes.
pub(super) fn mounts(
    at: &At<'_>,
    volumes: &BTreeMap<String, Kept<'_>>,
    stores: &Stores,
    (compose, service): (&mut Compose, &mut Service),
    notes: &mut Vec<Note>,
) -> Result<(), Broken> {
    for item in at.items()? {
        let (mut name, mut path, mut below, mut is_read_only) = (None, None, None, false);
        for (key, at) in item.fields_or(&keys::MOUNT, notes, "")? {
            match key {
                "name" => name = Some(at),
                "mountPath" => path = Some(target(&at, at.said()?)?),
                "subPath" => below = Some(at),
                _ => is_read_only = at.flag()?,
            }
        }
        let (Some(name), Some(path)) = (name, path) else {
            return Err(item.broken("a mount has a name and a mountPath", None));
        };
        let names: Vec<&str> = volumes.keys().map(String::as_str).collect();
        let unknown = || name.broken("a volume of the pod", name.scalar().and_then(|text| nearest(text, &names)));
        let kept = volumes.get(name.said()?).ok_or_else(unknown)?;
        let line = item.line;
        if let (Some(at), Kept::Memory | Kept::Claim(..)) = (&below, kept) {
            return Err(at.broken("not yet: a volume is mounted whole: remove it", None));
        }
        match kept {
            Kept::Memory if !MEMORY.contains(&path.as_str()) => {
                let rule = "not yet: of a container's folders /tmp, /run and /dev/shm are memory: mount it at one of these; or \
                            remove it where the image has the folder, and the container's own disk does";
                return Err(Broken { found: format!("at {path:?}"), ..item.broken(rule, None) });
            }
            // A size is noted where it is said.
            Kept::Memory => {
                service.mounts.push(Mount { line, source: Source::Scratch(None), target: path, is_read_only });
            }
            Kept::Claim(volume, only) => {
                let source = Source::Volume(volume.clone());
                service.mounts.push(Mount { line, source, target: path, is_read_only: is_read_only || *only });
            }
            Kept::Files(files) => grant(&item, files, (&path, below.as_ref()), stores, (compose, service))?,
        }
        let mut met = std::collections::BTreeSet::new();
        if let Some(twice) = service.mounts.iter().find(|mount| !met.insert(&mount.target)) {
            return Err(item.broken(format!("something is mounted at {} before", twice.target), None));
        }
    }
    Ok(())
}

/// Files of a ConfigMap or Secret, as what a service is given.
fn grant(
    mount: &At<'_>,
    files: &Files<'_>,
    (path, below): (&str, Option<&At<'_>>),
    stores: &Stores,
    (compose, service): (&mut Compose, &mut Service),
) -> Result<(), Broken> {
    let named = (files.is_secret, files.name, files.is_optional);
    let Some(data) = store(&files.at, stores, named)? else { return Ok(()) };
    let items = match &files.items {
        Some(items) => items.clone(),
        None => data.keys().map(|key| (key.as_str(), key.as_str(), None)).collect(),
    };
    let mut is_met = false;
    for (key, place, mode) in items {
        let text = match data.get(key) {
            Some(Some(text)) => text,
            Some(None) => {
                let rule = format!("not yet: texts alone are given, and {key} has other bytes: copy it into the image");
                return Err(files.at.broken(rule, None));
            }
            None if files.is_optional => continue,
            None => {
                let names: Vec<&str> = data.keys().map(String::as_str).collect();
                return Err(files.at.broken(format!("{key} is a key of {}", files.name), nearest(key, &names)));
            }
        };
        let target = match below {
            Some(at) if at.said()? != place => continue,
            Some(_) => path.to_owned(),
            None => format!("{path}/{place}"),
        };
        is_met = true;
        let source = format!("{}/{key}", files.name);
        let (granted, contents) = match files.is_secret {
            true => (&mut service.secrets, &mut compose.secrets),
            false => (&mut service.configs, &mut compose.configs),
        };
        let content = || Content { line: files.at.line, source: Bytes::Text(text.clone()) };
        contents.entry(source.clone()).or_insert_with(content);
        granted.push(Grant { line: mount.line, source, target, uid: 0, gid: 0, mode: mode.unwrap_or(files.mode) });
    }
    match below {
        Some(at) if !is_met && !files.is_optional => Err(at.broken("one of the volume's files", None)),
        _ => Ok(()),
    }
}
