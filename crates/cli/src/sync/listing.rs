//! List what a side has.

use super::{
    compare::{Item, Items, What},
    place::foreign_fault,
};
use crate::{
    fault::{Fault, Result},
    file::OWN,
    name,
    out::Out,
    session::sdk_fault,
};
use hodei_gateway::foreign::Server;
use hodei_sdk::{Local, object::PAGE_MAX};
use std::{io::ErrorKind, path::Path, time::UNIX_EPOCH};

/// Ordinary files below a folder, by key; what is none, or has no name in Unicode, is told and left out.
pub(super) fn folder(root: &Path, must_exist: bool, out: Out) -> Result<Items> {
    let mut items = Items::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let io = |error| Fault::io(&folder, "listing the folder", &error);
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound && folder == root && !must_exist => return Ok(items),
            entries => entries.map_err(io)?,
        };
        for entry in entries {
            let entry = entry.map_err(io)?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(OWN.as_bytes()) {
                continue;
            }
            let kind = entry.file_type().map_err(io)?;
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(root).ok().and_then(Path::to_str);
            let (true, Some(relative)) = (kind.is_file(), relative) else {
                out.say(format!("note: {} is left out: no ordinary file, or no name in Unicode", path.display()));
                continue;
            };
            let metadata = entry.metadata().map_err(io)?;
            let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            items.insert(
                name::decode(relative),
                Item {
                    size_bytes: metadata.len(),
                    etag: String::new(),
                    modified_ms: modified.map_or(0, |since| since.as_millis() as u64),
                    what: What::File(path),
                },
            );
        }
    }
    Ok(items)
}

/// Objects of a bucket of ours; none where there is no such bucket.
pub(super) async fn cloud(cloud: &Local, bucket: &str, prefix: &str) -> Result<Items> {
    let mut items = Items::new();
    let mut after: Option<String> = None;
    loop {
        let page = cloud.list(bucket, prefix, after.as_deref(), None, PAGE_MAX).await.map_err(sdk_fault)?;
        for (key, entry) in page.entries {
            // What is the prefix itself has no name below it.
            let Some(name) = key.strip_prefix(prefix).filter(|name| !name.is_empty()) else { continue };
            let item = Item {
                size_bytes: entry.size_bytes(),
                etag: entry.etag.clone(),
                modified_ms: entry.modified_ms,
                what: What::Object(Box::new(entry)),
            };
            items.insert(name.to_owned(), item);
        }
        after = page.next;
        if after.is_none() {
            return Ok(items);
        }
    }
}

/// Objects of another server's bucket.
pub(super) async fn foreign(server: &Server, bucket: &str, prefix: &str) -> Result<Items> {
    let mut items = Items::new();
    let mut token: Option<String> = None;
    loop {
        let page = server.list(bucket, prefix, token.as_deref()).await.map_err(foreign_fault)?;
        for found in page.found {
            let Some(name) = found.key.strip_prefix(prefix).filter(|name| !name.is_empty()) else { continue };
            let item = Item {
                size_bytes: found.size_bytes,
                etag: found.etag.clone(),
                modified_ms: found.modified_ms,
                what: What::Foreign,
            };
            items.insert(name.to_owned(), item);
        }
        if page.next.is_none() || page.next == token {
            return Ok(items);
        }
        token = page.next;
    }
}
