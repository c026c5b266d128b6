//! Tell in which file a line stands, and of which object a service was.

use super::super::broken::{Broken, Note};
use std::collections::BTreeMap;

/// Where things stand: lines of several files are counted on, so that one number tells the file too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Each file with the lines before it.
    pub(super) files: Vec<(String, usize)>,
    /// The kind that each service is of.
    pub(super) kinds: BTreeMap<String, &'static str>,
}

/// What a service's parts are called in a manifest.
const WORDS: [(&str, &str); 10] = [
    ("command", "args"),
    ("entrypoint", "command"),
    ("ports", "ports"),
    ("expose", "ports"),
    ("healthcheck", "livenessProbe"),
    ("stop_grace_period", "terminationGracePeriodSeconds"),
    ("cpu", "resources.limits.cpu"),
    ("memory", "resources.limits.memory"),
    ("disk", "resources.limits.ephemeral-storage"),
    ("configs", "volumeMounts"),
];

impl Places {
    /// The lines of files one after the other.
    pub(super) fn of(files: &[(String, String)]) -> Self {
        let mut before = 0;
        let each = files.iter().map(|(name, text)| {
            let place = (name.clone(), before);
            before += text.lines().count() + 1;
            place
        });
        Self { files: each.collect(), kinds: BTreeMap::new() }
    }

    /// The file, where there are several, and the line in it.
    pub fn place(&self, line: usize) -> (Option<&str>, usize) {
        match self.files.iter().rev().find(|(_, before)| line > *before) {
            Some((name, before)) => (Some(name.as_str()).filter(|_| self.files.len() > 1), line - before),
            None => (None, line),
        }
    }

    /// A refusal with its file, and in the words of manifests.
    pub fn broken(&self, broken: Broken) -> Broken {
        let (file, line) = self.place(broken.line);
        Broken { file: broken.file.or(file.map(Box::from)), line, key: self.key(&broken.key), ..broken }
    }

    /// A note with its file, where there are several, its line there, and its words.
    pub fn note(&self, note: &Note) -> (Option<String>, usize, String) {
        let (file, line) = self.place(note.line);
        let words = match note.words.split_once(": ") {
            Some((key, words)) => format!("{}: {words}", self.key(key)),
            None => note.words.clone(),
        };
        (file.map(str::to_owned), line, words)
    }

    /// `services.web.cpu` as `Deployment/web.resources.limits.cpu`.
    fn key(&self, key: &str) -> String {
        let Some(rest) = key.strip_prefix("services.") else { return key.to_owned() };
        let (name, part) = rest.split_once('.').unwrap_or((rest, ""));
        let Some(kind) = self.kinds.get(name) else { return key.to_owned() };
        let part = match part {
            "volumes" | "secrets" => "volumeMounts",
            _ => WORDS.iter().find(|(word, _)| *word == part).map_or(part, |(_, word)| word),
        };
        if part.is_empty() { format!("{kind}/{name}") } else { format!("{kind}/{name}.{part}") }
    }
}
