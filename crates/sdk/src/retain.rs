//! Retain what is put into a bucket, by the rule the bucket is set to.
//!
//! The setting `object-lock` is `on`, or `on governance 30 days`, or `on compliance 1 years`.

use crate::fault::Fault;
use hodei_storage::index::{Entry, Mode, Retention, Run};
use std::{fmt, str::FromStr};

const DAY_MS: u64 = 24 * 3600 * 1000;
/// A hundred years and the days of them: what S3 allows.
const YEARS_MAX: u32 = 100;
const DAYS_MAX: u32 = 36_500;

/// How long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    Days(u32),
    /// Of 365 days.
    Years(u32),
}

/// A bucket whose versions can be locked, and how each is from its first moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub default: Option<(Mode, Term)>,
}

impl Rule {
    /// The retention of what is put at `now_ms`.
    pub fn retention(&self, now_ms: u64) -> Option<Retention> {
        let (mode, term) = self.default?;
        let days = match term {
            Term::Days(days) => days,
            Term::Years(years) => years * 365,
        };
        Some(Retention { mode, until_ms: now_ms + u64::from(days) * DAY_MS })
    }
}

/// Until when nobody can remove a version, if that is later than `now_ms`.
pub(crate) fn bound_ms(entry: &Entry, now_ms: u64) -> Option<u64> {
    let retention = entry.lock?.retention.filter(|held| held.mode == Mode::Compliance)?;
    Some(retention.until_ms).filter(|until_ms| *until_ms > now_ms)
}

/// Whether a version of a key is bound so: what it names stays where it is.
pub(crate) fn is_bound(run: &Run, key: &str, now_ms: u64) -> bool {
    run.versions(key).iter().any(|entry| bound_ms(entry, now_ms).is_some())
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((mode, term)) = self.default else { return f.write_str("on") };
        let mode = match mode {
            Mode::Governance => "governance",
            Mode::Compliance => "compliance",
        };
        match term {
            Term::Days(days) => write!(f, "on {mode} {days} days"),
            Term::Years(years) => write!(f, "on {mode} {years} years"),
        }
    }
}

impl FromStr for Rule {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        const REFUSED: Fault =
            Fault::Setting("object-lock is \"on\", or \"on governance 30 days\", up to 36500 days or 100 years");
        let words: Vec<&str> = text.split(' ').collect();
        let [mode, count, unit] = match words[..] {
            ["on"] => return Ok(Self::default()),
            ["on", mode, count, unit] => [mode, count, unit],
            _ => return Err(REFUSED),
        };
        let mode = match mode {
            "governance" => Mode::Governance,
            "compliance" => Mode::Compliance,
            _ => return Err(REFUSED),
        };
        let count: u32 = count.parse().map_err(|_| REFUSED)?;
        let term = match unit {
            "days" if (1..=DAYS_MAX).contains(&count) => Term::Days(count),
            "years" if (1..=YEARS_MAX).contains(&count) => Term::Years(count),
            _ => return Err(REFUSED),
        };
        Ok(Self { default: Some((mode, term)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        for text in ["on", "on governance 30 days", "on compliance 100 years"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        for text in ["", "off", "on governance", "on governance 0 days", "on compliance 101 years", "on some 1 days"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
        let rule: Rule = "on compliance 1 years".parse().unwrap();
        assert_eq!(rule.retention(5), Some(Retention { mode: Mode::Compliance, until_ms: 5 + 365 * DAY_MS }));
        assert_eq!(Rule::default().retention(5), None);
    }
}
