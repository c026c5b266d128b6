//! Tell all that is wrong with what was said at once, and not one thing after the other.
//!
//! What is wrong is left out, with what is only right beside it, and the rest is looked at again.

use super::{
    draft::{Draft, FILE_BYTES_MAX, Lines, Unread},
    spare::SPARES_MAX,
    spec::{Broken, CALLS_MAX, Spec},
};
use crate::nearest::nearest;
use hodei_types::{app::Limits, market::REPLICAS_MAX};
use serde::Deserialize as _;
use toml::{Table, Value};

/// More are not told at once.
pub const WRONGS_MAX: usize = 16;
/// Keys of numbers, with the least and the most of each.
const NUMBERS: [(&str, u64, u64); 10] = [
    ("port", 0, u16::MAX as u64),
    ("replicas", 1, REPLICAS_MAX as u64),
    ("request_fuel", 1, Limits::FUEL_MAX),
    ("renewable", 0, 100),
    ("per_host", 0, REPLICAS_MAX as u64),
    ("per_operator", 0, REPLICAS_MAX as u64),
    ("per_network", 0, REPLICAS_MAX as u64),
    ("calls", 1, CALLS_MAX),
    ("within", 0, i64::MAX as u64),
    ("spares", 0, SPARES_MAX),
];
/// Keys of amounts that are written as text, so that no digit of them is lost.
const AMOUNTS: [&str; 4] = ["price_max", "budget", "collateral_min", "availability"];

/// Keys that say what an app is of.
const OF: [&str; 2] = ["component", "image"];

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// No key, or of a kind that its key does not take; with the key that was meant.
    Unread(Unread, Option<String>),
    Broken(Broken),
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unread(unread, None) => write!(f, "{unread}"),
            Self::Unread(unread, Some(nearest)) => write!(f, "{unread}; the nearest is {nearest}"),
            Self::Broken(broken) => write!(f, "{broken}"),
        }
    }
}

impl Wrong {
    /// On which line of the file; none of a flag.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Unread(unread, _) => Some(unread.line),
            Self::Broken(broken) => broken.line,
        }
    }

    pub fn rule(&self) -> &str {
        match self {
            Self::Unread(unread, _) => &unread.words,
            Self::Broken(broken) => &broken.rule,
        }
    }

    pub fn nearest(&self) -> Option<&str> {
        match self {
            Self::Unread(_, nearest) => nearest.as_deref(),
            Self::Broken(broken) => broken.nearest.as_deref(),
        }
    }
}

impl Draft {
    /// Reads `app.toml` as far as it can be: what it says, on which lines, and what is wrong with how it is said.
    pub fn parse_all(text: &str) -> Result<(Self, Lines, Vec<Wrong>), Unread> {
        let strict = match Self::parse(text) {
            Ok((draft, lines)) => return Ok((draft, lines, Vec::new())),
            Err(unread) => unread,
        };
        let table = Some(text).filter(|text| text.len() <= FILE_BYTES_MAX).and_then(|text| text.parse::<Table>().ok());
        let (Some(table), Ok(lines)) = (table, Self::lines(text)) else { return Err(strict) };
        let (mut kept, mut wrongs, mut left) = (Table::new(), Vec::new(), Vec::new());
        for (key, value) in table {
            let value = match value {
                // What is a thousandth at least loses nothing on the way.
                Value::Float(_) | Value::Integer(_) if key == "cpu" => Value::String(value.to_string()),
                value => value,
            };
            let one = Table::from_iter([(key.clone(), value.clone())]);
            match Self::deserialize(one) {
                Ok(_) => _ = kept.insert(key, value),
                Err(error) => {
                    let line = lines.get(&key).copied().unwrap_or(1);
                    wrongs.push(unread((&key, &value), line, error.message()));
                    left.push(key);
                }
            }
        }
        let mut draft = Self::deserialize(kept).map_err(|_| strict)?;
        for key in left {
            draft = draft.without(&key).unwrap_or(draft);
        }
        Ok((draft, lines, wrongs))
    }

    /// What is to run, if what was read is read well and each rule is kept; or all that is wrong, by its line, so many at
    /// most.
    pub fn check_all(&self, lines: &Lines, mut wrongs: Vec<Wrong>) -> Result<Spec, Vec<Wrong>> {
        // What it is of says which keys there are: the rest is looked at once that is known.
        let is_nameless = wrongs.iter().any(|wrong| {
            wrong.line().is_some_and(|line| lines.iter().any(|(key, at)| *at == line && OF.contains(&&key[..])))
        });
        let mut draft = self.clone();
        while wrongs.len() < WRONGS_MAX && !is_nameless {
            match draft.check(lines) {
                Ok(spec) if wrongs.is_empty() => return Ok(spec),
                Ok(_) => break,
                Err(broken) => {
                    let rest = draft.without(broken.key).filter(|_| draft.says(broken.key));
                    wrongs.push(Wrong::Broken(broken));
                    match rest {
                        Some(rest) => draft = rest,
                        None => break,
                    }
                }
            }
        }
        wrongs.sort_by_key(Wrong::line);
        wrongs.truncate(WRONGS_MAX);
        Err(wrongs)
    }

    /// The same without a key, and without what is only right beside it; none of what it cannot be without.
    fn without(&self, key: &str) -> Option<Self> {
        if OF.contains(&key) {
            return None;
        }
        let mut table = Table::try_from(self).ok()?;
        let beside: &[&str] = match key {
            "class" => &["patience", "calls", "availability"],
            "price_max" => &["class", "patience", "calls"],
            "memory" => &["request_memory"],
            "volumes" => &["snapshot", "bucket"],
            _ => &[],
        };
        std::iter::once(&key).chain(beside).for_each(|key| _ = table.remove(*key));
        if key == "name" {
            table.insert("name".into(), Value::String("app".into()));
        }
        Self::deserialize(table).ok()
    }
}

/// What is wrong with a key that could not be read, with what reading it said.
fn unread((key, value): (&str, &Value), line: usize, words: &str) -> Wrong {
    let broken = |key, rule: String, nearest| {
        Wrong::Broken(Broken { line: Some(line), key, found: value.to_string(), rule, nearest })
    };
    if let Some((key, least, most)) = NUMBERS.iter().find(|(name, ..)| *name == key) {
        let number = match value {
            Value::Integer(number) => Some(i128::from(*number)),
            Value::String(text) => text.trim().parse().ok(),
            Value::Float(number) => Some(*number as i128),
            _ => None,
        };
        let nearest = number.map(|number| number.clamp((*least).into(), (*most).into()).to_string());
        return broken(key, format!("a number, {least} to {most}"), nearest);
    }
    let is_number = matches!(value, Value::Integer(_) | Value::Float(_));
    if let Some(key) = AMOUNTS.iter().find(|name| **name == key && is_number) {
        return broken(key, "written as text, in quotes".into(), Some(format!("{:?}", value.to_string())));
    }
    // As reading lists them: the key, then all there are.
    let names: Vec<&str> = words.split('`').skip(3).step_by(2).collect();
    match words.starts_with(&format!("unknown field `{key}`")) && !names.is_empty() {
        true => Wrong::Unread(Unread { line, words: format!("unknown key {key:?}") }, nearest(key, &names)),
        false => Wrong::Unread(Unread { line, words: format!("{key}: {}", words.trim().replace('\n', " ")) }, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Spec, Vec<Wrong>> {
        let (draft, lines, wrongs) = Draft::parse_all(text).unwrap();
        draft.check_all(&lines, wrongs)
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_by_its_line() {
        let text = "component = \"a.wasm\"\nreplica = 3\nreplicas = 65\ncpu = \"lots\"\nmemory = \"64MB\"\nregions = \
                    [\"eu-nort\"]\ncountry = \"ESP\"\nprice_max = \"-1\"\nper_host = -1\nterm = \"1s\"\nbudgett = \
                    \"1\"\nrequest_deadline = \"1h\"\n";
        let wrongs = all(text).unwrap_err();
        let lines: Vec<_> = wrongs.iter().map(|wrong| wrong.line().unwrap()).collect();
        assert_eq!(lines, (2..=12).collect::<Vec<_>>(), "{wrongs:?}");
        let nearest: Vec<_> = wrongs.iter().map(|wrong| wrong.nearest().unwrap()).collect();
        let expected = [
            "\"replicas\"",
            "64",
            "\"0.1\"",
            "\"256MiB\"",
            "\"eu-north\"",
            "\"ES\"",
            "one without price_max",
            "0",
            "\"1m\"",
            "\"budget\"",
            "\"5m\"",
        ];
        assert_eq!(nearest, expected);
        assert!(wrongs[0].to_string().starts_with("line 2: unknown key \"replica\"; the nearest is"), "{}", wrongs[0]);
    }

    #[test]
    fn a_number_of_another_kind_is_taken_or_told_with_the_nearest() {
        assert_eq!(all("component = \"a.wasm\"\ncpu = 0.1").unwrap().terms.each.cpuMilli, 100);
        assert_eq!(all("component = \"a.wasm\"\ncpu = 2").unwrap().terms.each.cpuMilli, 2000);
        for (text, nearest) in [
            ("replicas = -1", "1"),
            ("replicas = \"3\"", "3"),
            ("replicas = 2.0", "2"),
            ("per_host = -1", "0"),
            ("price_max = 1.5", "\"1.5\""),
            ("budget = 2", "\"2\""),
            ("cpu = -0.5", "\"0.1\""),
        ] {
            let wrongs = all(&format!("component = \"a.wasm\"\n{text}")).unwrap_err();
            assert_eq!((wrongs.len(), wrongs[0].nearest()), (1, Some(nearest)), "{text}: {wrongs:?}");
            assert_eq!(wrongs[0].line(), Some(2), "{text}");
        }
    }

    #[test]
    fn what_follows_from_something_wrong_is_not_told_beside_it() {
        let told = |text: &str| all(text).unwrap_err().len();
        assert_eq!(told("component = \"a.wasm\"\nclass = \"deferred\"\npatience = \"1h\"\nprice_max = \"1\""), 1);
        assert_eq!(told("component = \"a.wasm\"\nclass = \"deferrable\"\nprice_max = 1\npatience = \"1h\""), 1);
        assert_eq!(told("component = \"a.wasm\"\nmemory = \"lots\"\nrequest_memory = \"512MiB\""), 1);
        assert_eq!(told("component = 3\nreplicas = 99"), 1, "of what it is comes first");
        assert_eq!(
            told("image = \"a\"\nvolumes = [{ name = \"a\", path = \"a\" }]\nsnapshot = \"9s\"\nbucket = \"b\""),
            1
        );
        let many: String = (0..40).map(|number| format!("key{number} = 1\n")).collect();
        assert_eq!(told(&format!("component = \"a.wasm\"\n{many}")), WRONGS_MAX);
        assert!(Draft::parse_all("name = ").is_err() && Draft::parse_all(&" ".repeat(FILE_BYTES_MAX + 1)).is_err());
    }
}
