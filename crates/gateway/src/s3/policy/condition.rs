//! Judge a request by one condition of a statement.

use super::{super::wildcard::Pattern, Facts, PolicyError, Request, shape, statement::expand, texts};
use serde_json::Value;
use std::net::IpAddr;

/// `Operator: { key: values }`.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    operator: Operator,
    /// `...IfExists`: holds where the request has no such value.
    if_exists: bool,
    each: Each,
    /// In lower case.
    key: String,
    values: Vec<String>,
}

/// How a key with several values is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Each {
    Plain,
    /// `ForAllValues:`
    All,
    /// `ForAnyValue:`
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equals { not: bool, ignores_case: bool },
    Like { not: bool },
    Number(Order),
    Date(Order),
    Bool,
    Address { not: bool },
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Condition {
    pub(super) fn parse_all(value: Value) -> Result<Vec<Self>, PolicyError> {
        let Value::Object(operators) = value else { return Err(shape("a Condition is a JSON object")) };
        let mut conditions = Vec::new();
        for (name, keys) in operators {
            let Value::Object(keys) = keys else {
                return Err(shape(format!("{name} is an object of keys and values")));
            };
            let (each, plain) = match name.split_once(':') {
                Some(("ForAllValues", plain)) => (Each::All, plain),
                Some(("ForAnyValue", plain)) => (Each::Any, plain),
                Some(_) => return Err(shape(format!("there is no condition operator {name:?}"))),
                None => (Each::Plain, name.as_str()),
            };
            let (plain, if_exists) = plain.strip_suffix("IfExists").map_or((plain, false), |plain| (plain, true));
            let operator = Operator::parse(plain)
                .filter(|operator| *operator != Operator::Null || !if_exists && each == Each::Plain)
                .ok_or_else(|| shape(format!("there is no condition operator {name:?}")))?;
            for (key, value) in keys {
                if !key.contains(':') {
                    return Err(shape(format!("a condition's key is as aws:SourceIp or s3:prefix, found {key:?}")));
                }
                let values = texts(value, &key)?;
                operator.check(&values)?;
                conditions.push(Self { operator, if_exists, each, key: key.to_ascii_lowercase(), values });
            }
        }
        Ok(conditions)
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn holds(&self, request: &Request<'_>, has_variables: bool) -> bool {
        let found = request.facts.get(&self.key);
        if self.operator == Operator::Null {
            return self.values.iter().any(|value| (value == "true") == found.is_empty());
        }
        if found.is_empty() {
            return self.if_exists || self.each == Each::All || self.each == Each::Plain && self.operator.is_negative();
        }
        let holds = |found: &String| self.operator.holds(found, &self.values, request, has_variables);
        match self.each {
            Each::All => found.iter().all(holds),
            // What must not be is absent from every value.
            Each::Plain if self.operator.is_negative() => found.iter().all(holds),
            Each::Plain | Each::Any => found.iter().any(holds),
        }
    }

    /// Whoever meets it is known, or in a known place: a statement with it is not for everybody.
    pub(super) fn narrows(&self) -> bool {
        const KNOWN: [&str; 10] = [
            "aws:sourcearn",
            "aws:sourceaccount",
            "aws:sourcevpc",
            "aws:sourcevpce",
            "aws:sourceorgid",
            "aws:principalorgid",
            "aws:principalarn",
            "aws:principalaccount",
            "aws:userid",
            "aws:username",
        ];
        if self.if_exists || self.each == Each::All || self.operator.is_negative() {
            return false;
        }
        match self.operator {
            Operator::Address { .. } => {
                // Ranges as large as these are everywhere.
                self.values.iter().all(|value| {
                    Range::parse(value).is_some_and(|range| range.bits >= if range.is_v4() { 8 } else { 32 })
                })
            }
            Operator::Equals { .. } => KNOWN.contains(&self.key.as_str()),
            Operator::Like { .. } => {
                KNOWN.contains(&self.key.as_str()) && self.values.iter().all(|value| !value.starts_with(['*', '?']))
            }
            _ => false,
        }
    }
}

impl Operator {
    fn parse(name: &str) -> Option<Self> {
        let equals = |not, ignores_case| Self::Equals { not, ignores_case };
        Some(match name {
            "StringEquals" | "BinaryEquals" => equals(false, false),
            "StringNotEquals" => equals(true, false),
            "StringEqualsIgnoreCase" => equals(false, true),
            "StringNotEqualsIgnoreCase" => equals(true, true),
            // AWS: the two behave the same.
            "StringLike" | "ArnEquals" | "ArnLike" => Self::Like { not: false },
            "StringNotLike" | "ArnNotEquals" | "ArnNotLike" => Self::Like { not: true },
            "Bool" => Self::Bool,
            "IpAddress" => Self::Address { not: false },
            "NotIpAddress" => Self::Address { not: true },
            "Null" => Self::Null,
            name => match (name.strip_prefix("Numeric"), name.strip_prefix("Date")) {
                (Some(order), _) => Self::Number(Order::parse(order)?),
                (_, Some(order)) => Self::Date(Order::parse(order)?),
                _ => return None,
            },
        })
    }

    /// Refuses values that could never be met.
    fn check(self, values: &[String]) -> Result<(), PolicyError> {
        let wrong = |what: &str, value: &String| shape(format!("{what}, found {value:?}"));
        for value in values {
            match self {
                Self::Number(_) if number(value).is_none() => {
                    return Err(wrong("a Numeric condition's value is a number", value));
                }
                Self::Date(_) if date(value).is_none() => {
                    return Err(wrong(
                        "a Date condition's value is as 2026-01-31T00:00:00Z or seconds since 1970",
                        value,
                    ));
                }
                Self::Bool | Self::Null if value != "true" && value != "false" => {
                    return Err(wrong("a Bool or Null condition's value is true or false", value));
                }
                Self::Address { .. } if Range::parse(value).is_none() => {
                    return Err(wrong("an IpAddress condition's value is as 203.0.113.0/24 or 2001:db8::/32", value));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn is_negative(self) -> bool {
        matches!(
            self,
            Self::Equals { not: true, .. }
                | Self::Like { not: true }
                | Self::Address { not: true }
                | Self::Number(Order::NotEqual)
                | Self::Date(Order::NotEqual)
        )
    }

    fn holds(self, found: &str, values: &[String], request: &Request<'_>, has_variables: bool) -> bool {
        let any = |matches: &dyn Fn(&str) -> bool| values.iter().any(|value| matches(value));
        match self {
            Self::Equals { not, ignores_case } => {
                let found = if ignores_case { found.to_lowercase() } else { found.to_owned() };
                not != any(&|value| {
                    let value = if ignores_case { value.to_lowercase() } else { value.to_owned() };
                    if !has_variables || !value.contains("${") {
                        return value == found;
                    }
                    literal(&value, request.facts).is_some_and(|value| value == found)
                })
            }
            Self::Like { not } => {
                not != any(&|value| {
                    expand(value, request, has_variables).is_some_and(|pattern: Pattern| pattern.matches(found))
                })
            }
            Self::Number(order) => number(found).is_some_and(|found| order.any(values, number, found)),
            Self::Date(order) => date(found).is_some_and(|found| order.any(values, date, found)),
            Self::Bool => any(&|value| value == found),
            Self::Address { not } => {
                let Ok(found) = found.parse::<IpAddr>() else { return not };
                not != any(&|value| Range::parse(value).is_some_and(|range| range.holds(found)))
            }
            Self::Null => false,
        }
    }
}

impl Order {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "Equals" => Self::Equal,
            "NotEquals" => Self::NotEqual,
            "LessThan" => Self::Less,
            "LessThanEquals" => Self::LessEqual,
            "GreaterThan" => Self::Greater,
            "GreaterThanEquals" => Self::GreaterEqual,
            _ => return None,
        })
    }

    fn any<T: PartialOrd>(self, values: &[String], read: impl Fn(&str) -> Option<T>, found: T) -> bool {
        let holds = |value: T| match self {
            Self::Equal | Self::NotEqual => found == value,
            Self::Less => found < value,
            Self::LessEqual => found <= value,
            Self::Greater => found > value,
            Self::GreaterEqual => found >= value,
        };
        values.iter().filter_map(|value| read(value)).any(holds) != (self == Self::NotEqual)
    }
}

/// A value with its variables replaced, no character wild.
fn literal(text: &str, facts: &Facts) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}')?;
        out.push_str(before);
        match name {
            "*" | "?" | "$" => out.push_str(name),
            name => {
                let [value] = facts.get(name) else { return None };
                out.push_str(value);
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// Seconds since 1970, from themselves or from `2026-01-31[T00:00:00[.000]Z]`.
fn date(text: &str) -> Option<i64> {
    if let Ok(secs) = text.parse() {
        return Some(secs);
    }
    let (day, time) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let mut day = day.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (day.next()??, day.next()??, day.next()??);
    let time = time.strip_suffix('Z')?.split('.').next()?;
    let mut time = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next().unwrap_or(Some(0))?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    // Days from the civil calendar, years counted from March so that the leap day is last.
    let (shifted, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + (153 * from_march + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Addresses of one network.
struct Range {
    network: IpAddr,
    bits: u32,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().ok()?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { network, bits })
    }

    fn is_v4(&self) -> bool {
        self.network.is_ipv4()
    }

    fn holds(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}
