//! Judge a request by a bucket's policy.
//!
//! A policy is parsed strictly: what is not understood is refused when it is set, so that no statement is
//! silently without effect. Judging is pure: it sees a [`Request`] and nothing else.

mod condition;
mod known;
mod statement;

use super::principal::Principal;
use condition::Condition;
use serde_json::Value;
use statement::Statement;
use std::collections::BTreeMap;

/// S3's limit of a policy.
pub(super) const POLICY_BYTES_MAX: usize = 20 * 1024;
/// Nobody writes more by hand, and each is tried on each request.
const STATEMENTS_MAX: usize = 256;
/// Principals, actions, resources or values in one list.
const LIST_MAX: usize = 1024;

/// What a policy says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
    /// No statement is about it.
    Silent,
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PolicyError {
    #[error("a policy has at most {POLICY_BYTES_MAX} bytes, found {0}")]
    Long(usize),
    #[error("a policy is JSON: {0}")]
    Json(String),
    #[error("{0}")]
    Shape(String),
}

/// What is asked, as policies see it.
pub(super) struct Request<'a> {
    /// Nobody, where the request is not signed.
    pub(super) principal: Option<&'a Principal>,
    /// As `s3:GetObject`.
    pub(super) action: &'a str,
    pub(super) bucket: &'a str,
    pub(super) key: Option<&'a str>,
    pub(super) facts: &'a Facts,
}

/// What conditions are about: values by key, keys in lower case.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    values: BTreeMap<String, Vec<String>>,
}

impl Facts {
    pub(super) fn put(&mut self, key: &str, value: impl Into<String>) {
        self.values.entry(key.to_ascii_lowercase()).or_default().push(value.into());
    }

    pub(super) fn get(&self, key: &str) -> &[String] {
        self.values.get(&key.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }
}

/// A bucket's policy.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    statements: Vec<Statement>,
}

impl Policy {
    /// Parses a policy of `bucket`; each of its resources must be able to name something there.
    pub(super) fn parse(text: &str, bucket: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::Long(text.len()));
        }
        let value: Value = serde_json::from_str(text).map_err(|error| PolicyError::Json(error.to_string()))?;
        let Value::Object(fields) = value else { return Err(shape("a policy is a JSON object")) };
        let mut has_variables = false;
        let mut statements = Vec::new();
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("Version", Value::String(version)) => match version.as_str() {
                    "2012-10-17" => has_variables = true,
                    "2008-10-17" => {}
                    found => return Err(shape(format!("Version is 2012-10-17 or 2008-10-17, found {found:?}"))),
                },
                ("Id", Value::String(_)) => {}
                ("Statement", Value::Array(found)) => statements = found,
                ("Statement", one @ Value::Object(_)) => statements = vec![one],
                (name, _) => return Err(shape(format!("a policy has Version, Id and Statement, found {name:?}"))),
            }
        }
        if statements.is_empty() || statements.len() > STATEMENTS_MAX {
            return Err(shape(format!("a policy has 1 to {STATEMENTS_MAX} statements, found {}", statements.len())));
        }
        let statements = statements
            .into_iter()
            .map(|value| Statement::parse(value, bucket, has_variables))
            .collect::<Result<_, _>>()?;
        Ok(Self { statements })
    }

    /// Refuses, for a policy that is set now, words that no request will ever be met by: a denial would protect
    /// nothing. What was set before is judged as it was.
    pub(super) fn check(&self, is_somebody: impl Fn(&str) -> bool) -> Result<(), PolicyError> {
        self.statements.iter().try_for_each(|statement| statement.check(&is_somebody))
    }

    /// One matching denial outweighs everything.
    pub(super) fn judge(&self, request: &Request<'_>) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in &self.statements {
            if !statement.is_about(request) {
                continue;
            }
            if statement.denies {
                return Verdict::Deny;
            }
            verdict = Verdict::Allow;
        }
        verdict
    }

    /// It allows something to everybody, wherever they are.
    pub(super) fn is_public(&self) -> bool {
        self.statements.iter().any(Statement::is_public)
    }

    /// A decision depends on tags of the object, which then must be looked up.
    pub(super) fn asks_tags(&self) -> bool {
        self.statements.iter().any(|statement| statement.asks("s3:existingobjecttag/"))
    }
}

fn shape(message: impl Into<String>) -> PolicyError {
    PolicyError::Shape(message.into())
}

/// A text, or a list of texts.
fn texts(value: Value, what: &str) -> Result<Vec<String>, PolicyError> {
    let list = match value {
        Value::Array(list) => list,
        one => vec![one],
    };
    if list.is_empty() || list.len() > LIST_MAX {
        return Err(shape(format!("{what} has 1 to {LIST_MAX} entries, found {}", list.len())));
    }
    list.into_iter()
        .map(|value| match value {
            Value::String(text) => Ok(text),
            Value::Bool(is) => Ok(is.to_string()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(shape(format!("{what} is a text or a list of texts"))),
        })
        .collect()
}

#[cfg(test)]
mod tests;
