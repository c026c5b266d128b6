//! Tell what of a compose file cannot be done, where, and what to write instead.

/// A rule of the subset that the file does not keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Broken {
    /// The file it stands in, where that is not the compose file itself.
    pub file: Option<Box<str>>,
    /// From 1.
    pub line: usize,
    /// The way to what is meant, as `services.web.ports`.
    pub key: String,
    pub found: String,
    pub rule: String,
    /// What would keep the rule.
    pub nearest: Option<String>,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, key, found, rule, nearest } = self;
        if let Some(file) = file {
            write!(f, "{file}, ")?;
        }
        write!(f, "line {line}: {key} is {found}: {rule}")?;
        nearest.as_ref().map_or(Ok(()), |nearest| write!(f, "; the nearest is {nearest}"))
    }
}

/// Something that is read otherwise than docker does, or not at all, and keeps nothing from running.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    pub line: usize,
    pub words: String,
    /// Hosts do not give it yet: nothing that says it is deployed.
    pub is_later: bool,
}

/// A rule broken by a text whose place its caller knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) found: String,
    pub(super) rule: String,
}

impl Fault {
    pub(super) fn new(found: &str, rule: impl Into<String>) -> Self {
        Self { found: quote(found), rule: rule.into() }
    }

    pub(super) fn at(self, file: Option<&str>, line: usize, key: &str) -> Broken {
        let Self { found, rule } = self;
        Broken { file: file.map(Box::from), line, key: key.to_owned(), found, rule, nearest: None }
    }
}

/// In quotes, and no longer than a line of a terminal takes.
pub(super) fn quote(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
