//! Find and read manifests of Kubernetes, and tell in which of them something stands.

use super::stack::text;
use crate::fault::{self, Fault, Result};
use hodei_sdk::{
    compose::{
        Broken, Compose, FILE_BYTES_MAX, Note,
        kube::{self, FILES_MAX, Places},
    },
    image::{archive, local},
};
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// What of a folder is read.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Where refusals and notes are told to stand.
pub(super) struct Told {
    /// The file, or the folder of several.
    pub(super) file: PathBuf,
    /// Of manifests.
    pub(super) places: Option<Places>,
}

impl Told {
    pub(super) fn broken(&self, error: Broken) -> Fault {
        let (error, page) = match &self.places {
            Some(places) => (places.broken(error), "kubernetes"),
            None => (error, "compose"),
        };
        refused(&self.file, &error, page)
    }

    /// A note's file, where there are several, its line there, and its words.
    pub(super) fn note(&self, note: &Note) -> (Option<String>, usize, String) {
        match &self.places {
            Some(places) => places.note(note),
            None => (None, note.line, note.words.clone()),
        }
    }
}

fn refused(file: &Path, error: &Broken, page: &str) -> Fault {
    Fault::new(&fault::APP_SPEC, error, format!("docs/{page}.md lists what is done with each key")).at(file.display())
}

fn may_be(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|one| ending == *one))
}

/// Whether a file has manifests, by its first document.
pub(super) fn is_one(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let read = |file: std::fs::File| file.take(FILE_BYTES_MAX as u64).read_to_end(&mut bytes).is_ok();
    let is_read = may_be(path) && path.is_file() && std::fs::File::open(path).is_ok_and(read);
    is_read && kube::is_meant(&String::from_utf8_lossy(&bytes))
}

/// The files of a folder, by their names, where one of them has manifests and it is no image's folder.
pub(super) fn within(folder: &Path) -> Option<Vec<PathBuf>> {
    if local::is_recipe(folder) || archive::is_layout(folder) {
        return None;
    }
    let entries = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    // One more than are read: it is refused by its number.
    let mut files: Vec<PathBuf> = entries.filter(|path| may_be(path) && path.is_file()).take(FILES_MAX + 1).collect();
    files.sort();
    files.iter().any(|file| is_one(file)).then_some(files)
}

/// Reads them; `what` was said on the command line.
pub(super) fn read(what: &Path, files: &[PathBuf]) -> Result<(Told, Compose)> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let texts: Vec<(String, String)> = files.iter().map(|path| Ok((name(path), text(path)?))).collect::<Result<_>>()?;
    let read = kube::read(&texts).map_err(|error| refused(what, &error, "kubernetes"))?;
    Ok((Told { file: what.to_owned(), places: Some(read.places) }, read.compose))
}
