//! Judge a request by one statement of a policy.

use super::{
    super::{principal::Principal, wildcard::Pattern},
    Condition, Facts, PolicyError, Request, known, shape, texts,
};
use serde_json::Value;

/// Where names of this cloud's buckets begin; the account between the colons may be named or not.
const ARN: &str = "arn:aws:s3:";

/// One statement.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) denies: bool,
    who: Who,
    action: Choice,
    resource: Choice,
    conditions: Vec<Condition>,
    has_variables: bool,
}

/// Everybody in the list, or everybody else.
#[derive(Clone, Debug)]
struct Who {
    excludes: bool,
    names: Vec<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Everybody,
    /// All of an account: `arn:aws:iam::ACCOUNT:root`, or the account alone.
    Account(String),
    /// One by id or name; an account given must be his.
    User {
        account: Option<String>,
        name: String,
    },
}

/// One of the patterns, or none of them.
#[derive(Clone, Debug)]
struct Choice {
    excludes: bool,
    patterns: Vec<String>,
}

impl Statement {
    pub(super) fn parse(value: Value, bucket: &str, has_variables: bool) -> Result<Self, PolicyError> {
        let Value::Object(fields) = value else { return Err(shape("a statement is a JSON object")) };
        let (mut denies, mut who, mut action, mut resource, mut conditions) = (None, None, None, None, Vec::new());
        for (name, value) in fields {
            match name.as_str() {
                "Sid" if value.is_string() => {}
                "Effect" => {
                    denies = Some(match value.as_str() {
                        Some("Allow") => false,
                        Some("Deny") => true,
                        _ => return Err(shape(format!("Effect is Allow or Deny, found {value}"))),
                    });
                }
                "Principal" | "NotPrincipal" => once(&mut who, Who::parse(value, name == "NotPrincipal")?)?,
                "Action" | "NotAction" => once(&mut action, Choice::actions(value, name == "NotAction")?)?,
                "Resource" | "NotResource" => {
                    once(&mut resource, Choice::resources(value, name == "NotResource", bucket)?)?;
                }
                "Condition" => conditions = Condition::parse_all(value)?,
                _ => {
                    return Err(shape(format!(
                        "a statement has Sid, Effect, Principal, Action, Resource and Condition, found {name:?}"
                    )));
                }
            }
        }
        let missing = |what: &str| shape(format!("a statement has {what}"));
        let statement = Self {
            denies: denies.ok_or_else(|| missing("an Effect"))?,
            who: who.ok_or_else(|| missing("a Principal"))?,
            action: action.ok_or_else(|| missing("an Action"))?,
            resource: resource.ok_or_else(|| missing("a Resource"))?,
            conditions,
            has_variables,
        };
        if statement.who.excludes && !statement.denies {
            return Err(shape("NotPrincipal goes with Effect Deny alone: with Allow it would allow everybody"));
        }
        Ok(statement)
    }

    /// Whether it speaks of actions, keys and users there are.
    pub(super) fn check(&self, is_somebody: &impl Fn(&str) -> bool) -> Result<(), PolicyError> {
        if let Some(action) = self.action.patterns.iter().find(|pattern| !known::is_action(pattern)) {
            return Err(shape(format!("Policy has invalid action: there is no {action:?}")));
        }
        if let Some(condition) = self.conditions.iter().find(|condition| !known::is_key(condition.key())) {
            return Err(shape(format!("Policy has an invalid condition key: there is no {:?}", condition.key())));
        }
        for name in &self.who.names {
            // Accounts may be of others; who is named alone is one of ours.
            if let Name::User { name, .. } = name
                && !is_somebody(name)
            {
                return Err(shape(format!("Invalid principal in policy: there is no {name:?}")));
            }
        }
        Ok(())
    }

    pub(super) fn is_about(&self, request: &Request<'_>) -> bool {
        self.who.includes(request.principal)
            && self.action.includes(|pattern| {
                Pattern::new(&pattern.to_ascii_lowercase()).matches(&request.action.to_ascii_lowercase())
            })
            && self.resource.includes(|pattern| self.names(pattern, request))
            && self.conditions.iter().all(|condition| condition.holds(request, self.has_variables))
    }

    fn names(&self, pattern: &str, request: &Request<'_>) -> bool {
        if pattern == "*" {
            return true;
        }
        let Some(rest) =
            pattern.strip_prefix(ARN).and_then(|rest| rest.split_once(':')).and_then(|(_, rest)| rest.split_once(':'))
        else {
            return false;
        };
        let Some(pattern) = expand(rest.1, request, self.has_variables) else { return false };
        match request.key {
            Some(key) => pattern.matches(&format!("{}/{key}", request.bucket)),
            None => pattern.matches(request.bucket),
        }
    }

    pub(super) fn is_public(&self) -> bool {
        !self.denies
            && !self.who.excludes
            && self.who.names.contains(&Name::Everybody)
            && !self.conditions.iter().any(Condition::narrows)
    }

    pub(super) fn asks(&self, prefix: &str) -> bool {
        self.conditions.iter().any(|condition| condition.key().starts_with(prefix))
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), PolicyError> {
    if slot.replace(value).is_some() {
        return Err(shape(
            "a statement has one of Principal and NotPrincipal, Action and NotAction, Resource and NotResource",
        ));
    }
    Ok(())
}

/// Replaces `${key}` by the request's value; a value that is absent matches nothing.
pub(super) fn expand(text: &str, request: &Request<'_>, has_variables: bool) -> Option<Pattern> {
    if !has_variables {
        return Some(Pattern::new(text));
    }
    let mut pattern = Pattern::empty();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}')?;
        pattern.push(before);
        match name {
            "*" | "?" | "$" => pattern.push_literal(name),
            name => {
                let values: &Facts = request.facts;
                let [value] = values.get(name) else { return None };
                pattern.push_literal(value);
            }
        }
        rest = after;
    }
    pattern.push(rest);
    Some(pattern)
}

impl Who {
    fn parse(value: Value, excludes: bool) -> Result<Self, PolicyError> {
        let mut names = Vec::new();
        match value {
            Value::String(text) if text == "*" => names.push(Name::Everybody),
            Value::Object(fields) if !fields.is_empty() => {
                for (kind, value) in fields {
                    for text in texts(value, "Principal")? {
                        names.push(match kind.as_str() {
                            "AWS" => Name::parse(&text)?,
                            "CanonicalUser" => Name::User { account: None, name: text },
                            _ => return Err(shape(format!("a Principal is AWS or CanonicalUser, found {kind:?}"))),
                        });
                    }
                }
            }
            found => {
                return Err(shape(format!(
                    "a Principal is \"*\" or an object with AWS or CanonicalUser, found {found}"
                )));
            }
        }
        Ok(Self { excludes, names })
    }

    fn includes(&self, principal: Option<&Principal>) -> bool {
        self.names.iter().any(|name| name.is(principal)) != self.excludes
    }
}

impl Name {
    fn parse(text: &str) -> Result<Self, PolicyError> {
        if text == "*" {
            return Ok(Self::Everybody);
        }
        let Some(rest) = text.strip_prefix("arn:aws:iam:") else {
            // An id, a name or an account: which one, the principal who comes decides.
            if text.is_empty() || text.starts_with("arn:") || text.contains('*') {
                return Err(shape(format!(
                    "a Principal is *, an id, or arn:aws:iam::ACCOUNT:user/NAME, found {text:?}"
                )));
            }
            return Ok(Self::User { account: None, name: text.to_owned() });
        };
        let rest = rest.strip_prefix(':').and_then(|rest| rest.split_once(':'));
        match rest {
            Some((account, "root")) => Ok(Self::Account(account.to_owned())),
            Some((_, "*")) => Err(shape("a Principal names no wildcard within an account: use its root")),
            Some((account, name)) => match name.strip_prefix("user/") {
                // A path before the name says nothing here.
                Some(path) if !path.is_empty() && !path.contains('*') => {
                    let name = path.rsplit('/').next().unwrap_or(path).to_owned();
                    Ok(Self::User { account: Some(account.to_owned()), name })
                }
                _ => Err(shape(format!("of an account a Principal names root or user/NAME, found {name:?}"))),
            },
            None => Err(shape(format!("a Principal is arn:aws:iam::ACCOUNT:user/NAME, found {text:?}"))),
        }
    }

    fn is(&self, principal: Option<&Principal>) -> bool {
        match (self, principal) {
            (Self::Everybody, _) => true,
            (_, None) => false,
            (Self::Account(account), Some(principal)) => principal.tenant == *account || principal.id == *account,
            (Self::User { account, name }, Some(principal)) => {
                let is_there = account.as_ref().is_none_or(|account| principal.tenant == *account);
                let is_all = account.is_none() && !principal.tenant.is_empty() && principal.tenant == *name;
                is_all || is_there && (principal.id == *name || principal.name == *name)
            }
        }
    }
}

impl Choice {
    fn actions(value: Value, excludes: bool) -> Result<Self, PolicyError> {
        let patterns = texts(value, "Action")?;
        for pattern in &patterns {
            let name = pattern.get(..3).filter(|head| head.eq_ignore_ascii_case("s3:")).map(|_| &pattern[3..]);
            let is_name = |name: &str| {
                !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || "*?".contains(char))
            };
            if pattern != "*" && !name.is_some_and(is_name) {
                return Err(shape(format!("an Action is * or s3:NAME, found {pattern:?}")));
            }
        }
        Ok(Self { excludes, patterns })
    }

    fn resources(value: Value, excludes: bool, bucket: &str) -> Result<Self, PolicyError> {
        let patterns = texts(value, "Resource")?;
        for pattern in &patterns {
            let rest = pattern
                .strip_prefix(ARN)
                .and_then(|rest| rest.split_once(':'))
                .and_then(|(_, rest)| rest.split_once(':'));
            let is_here = rest.is_some_and(|(_, path)| {
                let name = path.split('/').next().unwrap_or(path);
                name.contains("${") || Pattern::new(name).matches(bucket)
            });
            if pattern != "*" && !is_here {
                return Err(shape(format!(
                    "a Resource is in this bucket, as arn:aws:s3:::{bucket}/*, found {pattern:?}"
                )));
            }
        }
        Ok(Self { excludes, patterns })
    }

    fn includes(&self, matches: impl Fn(&str) -> bool) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern)) != self.excludes
    }
}
