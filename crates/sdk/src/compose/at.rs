//! Read typed values of a tree, and tell where and why one is not what it should be.

use super::{
    broken::{Broken, Note, quote},
    keys::{Standing, Table},
    tree::{Node, Value},
};
use crate::nearest::nearest;
use std::ops::RangeInclusive;

/// A value and the way to it.
#[derive(Clone, Debug)]
pub(super) struct At<'a> {
    pub(super) node: &'a Node,
    /// Of its key, where it has one.
    pub(super) line: usize,
    pub(super) path: String,
}

/// A name with its value, none where that is left to the environment.
pub(super) type Pair<'a> = (&'a str, Option<&'a str>, At<'a>);

impl<'a> At<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Self { node, line: node.line, path: String::new() }
    }

    fn below(&self, key: &str, line: usize, node: &'a Node) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { node, line, path }
    }

    fn found(&self) -> String {
        match &self.node.value {
            Value::Null => "empty".into(),
            Value::Scalar(text) => quote(text),
            Value::List(nodes) => format!("a list of {}", nodes.len()),
            Value::Map(entries) => format!("a mapping of {}", entries.len()),
        }
    }

    pub(super) fn broken(&self, rule: impl Into<String>, nearest: Option<String>) -> Broken {
        let (file, line, key, found) = (None, self.line, self.path.clone(), self.found());
        let key = if key.is_empty() { "the file".to_owned() } else { key };
        Broken { file, line, key, found, rule: rule.into(), nearest }
    }

    pub(super) fn note(&self, why: &str) -> Note {
        Note { line: self.line, words: format!("{}: {why}", self.path), is_later: false }
    }

    pub(super) fn scalar(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    pub(super) fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }

    /// Whether it says nothing: null, or a list or mapping of nothing.
    fn is_empty(&self) -> bool {
        match &self.node.value {
            Value::Null => true,
            Value::Scalar(_) => false,
            Value::List(nodes) => nodes.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    pub(super) fn text(&self) -> Result<&'a str, Broken> {
        self.scalar().ok_or_else(|| self.broken("a text", None))
    }

    pub(super) fn said(&self) -> Result<&'a str, Broken> {
        self.scalar()
            .filter(|text| !text.trim().is_empty())
            .ok_or_else(|| self.broken("a text that is not empty", None))
    }

    pub(super) fn flag(&self) -> Result<bool, Broken> {
        match self.scalar() {
            Some("true" | "True" | "TRUE") => Ok(true),
            Some("false" | "False" | "FALSE") => Ok(false),
            Some("yes" | "on" | "y" | "Yes" | "On") => Err(self.broken("true or false", Some("true".into()))),
            _ => Err(self.broken("true or false", Some("false".into()))),
        }
    }

    pub(super) fn number(&self, range: RangeInclusive<u64>) -> Result<u64, Broken> {
        let number = self.scalar().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = number.and_then(|text| text.parse::<u64>().ok());
        let nearest = number.map_or(*range.start(), |number| number.clamp(*range.start(), *range.end()));
        let rule = || self.broken(format!("{} to {}", range.start(), range.end()), Some(nearest.to_string()));
        number.filter(|number| range.contains(number)).ok_or_else(rule)
    }

    /// What `read` makes of its text.
    pub(super) fn read<T>(&self, read: impl FnOnce(&str) -> Option<T>, rule: &str) -> Result<T, Broken> {
        self.scalar().and_then(read).ok_or_else(|| self.broken(rule, None))
    }

    /// One of some words, by its place.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Broken> {
        let text = self.scalar().unwrap_or_default();
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let found = words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        found.ok_or_else(|| self.broken(format!("one of {}", names.join(", ")), nearest(text, &names)))
    }

    pub(super) fn items(&self) -> Result<Vec<Self>, Broken> {
        match &self.node.value {
            Value::Null => Ok(Vec::new()),
            Value::List(nodes) => {
                let item = |node: &'a Node| Self { node, line: node.line, path: self.path.clone() };
                Ok(nodes.iter().map(item).collect())
            }
            _ => Err(self.broken("a list", None)),
        }
    }

    /// A list, or the one thing that is not in one.
    pub(super) fn one_or_more(&self) -> Result<Vec<Self>, Broken> {
        if self.scalar().is_some() { Ok(vec![self.clone()]) } else { self.items() }
    }

    pub(super) fn texts(&self) -> Result<Vec<String>, Broken> {
        self.items()?.iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    /// A mapping whose keys are names of the file's author.
    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Self)>, Broken> {
        match &self.node.value {
            Value::Null => Ok(Vec::new()),
            Value::Map(entries) => {
                let each = entries.iter();
                Ok(each.map(|entry| (entry.key.as_str(), self.below(&entry.key, entry.line, &entry.node))).collect())
            }
            _ => Err(self.broken("a mapping", None)),
        }
    }

    /// `NAME=value` in a list, or a mapping.
    pub(super) fn pairs(&self, signs: &[char]) -> Result<Vec<Pair<'a>>, Broken> {
        if !self.is_list() {
            let pair = |(name, at): (&'a str, Self)| match &at.node.value {
                Value::Null => Ok((name, None, at)),
                _ => Ok((name, Some(at.text()?), at)),
            };
            return self.entries()?.into_iter().map(pair).collect();
        }
        let pair = |at: Self| match at.said()?.split_once(signs) {
            Some((name, value)) => Ok((name, Some(value), at)),
            None => Ok((at.said()?, None, at)),
        };
        self.items()?.into_iter().map(pair).collect()
    }

    /// A mapping of the keys of a table that say something. What is noted is told, what is refused or unknown an error.
    pub(super) fn fields(
        &self,
        table: &'static Table,
        notes: &mut Vec<Note>,
    ) -> Result<Vec<(&'static str, Self)>, Broken> {
        self.fields_or(table, notes, "; keys of your own begin with x-")
    }

    /// The same; keys of one's own are left aside only where `own` tells of them.
    pub(super) fn fields_or(
        &self,
        table: &'static Table,
        notes: &mut Vec<Note>,
        own: &str,
    ) -> Result<Vec<(&'static str, Self)>, Broken> {
        let mut fields = Vec::new();
        for (name, at) in self.entries()? {
            let Some(key) = table.keys.iter().find(|key| key.name == name) else {
                if own.is_empty() || !name.starts_with("x-") {
                    return Err(self.unknown(name, &at, table, own));
                }
                if nearest_is(name, "x-hodei") {
                    notes.push(at.note("nothing reads it: x-hodei is meant?"));
                }
                continue;
            };
            match key.standing {
                _ if at.is_null() => {}
                Standing::Honoured => fields.push((key.name, at)),
                Standing::Noted(why) => notes.push(at.note(why)),
                Standing::Told(why, harmless) | Standing::Later(why, harmless) => {
                    if !at.asks_for_nothing(harmless) {
                        notes.push(Note { is_later: matches!(key.standing, Standing::Later(..)), ..at.note(why) });
                    }
                    fields.push((key.name, at));
                }
                Standing::Refused(why, harmless) => {
                    if !at.asks_for_nothing(harmless) {
                        return Err(at.broken(why, None));
                    }
                }
            }
        }
        Ok(fields)
    }

    fn asks_for_nothing(&self, harmless: &[&str]) -> bool {
        self.is_empty() || self.scalar().is_some_and(|text| harmless.contains(&text))
    }

    fn unknown(&self, name: &str, at: &Self, table: &'static Table, own: &str) -> Broken {
        let names: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
        let letters = |name: &str| {
            let mut words: Vec<String> = name.split(['_', '-', '.']).map(str::to_lowercase).collect();
            words.sort();
            words
        };
        let turned = names.iter().find(|other| letters(other) == letters(name)).map(|name| format!("{name:?}"));
        let nearest = turned.or_else(|| nearest(name, &names));
        let key = if self.path.is_empty() { "the file" } else { &self.path }.to_owned();
        let rule = format!("{} has no such key{own}", table.title);
        Broken { file: None, line: at.line, key, found: format!("with {}", quote(name)), rule, nearest }
    }
}

/// Whether somebody may have meant `word`: of other letters in two places at most.
fn nearest_is(text: &str, word: &str) -> bool {
    let same = text.chars().zip(word.chars()).filter(|(one, other)| one == other).count();
    text.len().abs_diff(word.len()) <= 1 && same + 2 >= word.len()
}
