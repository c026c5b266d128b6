//! Say who asks.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Somebody with keys, as access lists and policies name him.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// Canonical id: what owners and grants are kept as, never reused.
    pub id: String,
    /// Shown beside the id.
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// The account this one belongs to; empty is the gateway's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// What all buckets of this one may hold together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// A limit on what is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
}

/// What a key may be used for, within what its principal may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Buckets, or prefixes in them as `bucket/prefix`; everything where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<String>,
}

/// Who sent a request, in its extensions.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Nobody, where the request is not signed.
    pub principal: Option<Arc<Principal>>,
    pub scope: Scope,
}

/// What an object is put with, in the extensions of the request that puts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// A principal's id; without one the bucket's owner.
    pub owner: Option<String>,
    /// An access list as [`super::acl::Acl`] writes it; without one the owner alone.
    pub acl: Option<String>,
}

impl Caller {
    pub(super) fn id(&self) -> Option<&str> {
        self.principal.as_ref().map(|principal| principal.id.as_str())
    }
}

impl Scope {
    /// Whether anything in a bucket may be used.
    pub(super) fn reaches(&self, bucket: &str) -> bool {
        let name = |place: &str| place.split_once('/').map_or(place == bucket, |(name, _)| name == bucket);
        self.within.is_empty() || self.within.iter().any(|place| name(place))
    }

    /// Whether a key of this scope may be used. `listed` is the prefix a listing asks for.
    pub(super) fn allows(&self, is_read: bool, bucket: Option<&str>, key: Option<&str>, listed: Option<&str>) -> bool {
        if self.read_only && !is_read {
            return false;
        }
        if self.within.is_empty() {
            return true;
        }
        let Some(bucket) = bucket else {
            // The list of one's buckets shows names alone, and of those it reaches.
            return is_read;
        };
        self.within.iter().any(|place| match place.split_once('/') {
            None => place == bucket,
            Some((name, prefix)) => {
                let inside = match (key, listed) {
                    (Some(key), _) => key.starts_with(prefix),
                    (None, Some(listed)) => listed.starts_with(prefix),
                    (None, None) => prefix.is_empty(),
                };
                name == bucket && inside
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(read_only: bool, within: &[&str]) -> Scope {
        Scope { read_only, within: within.iter().map(|place| (*place).to_owned()).collect() }
    }

    #[test]
    fn a_scope_only_narrows() {
        let all = Scope::default();
        assert!(all.allows(false, Some("b"), Some("k"), None) && all.allows(false, None, None, None));
        let read = scope(true, &[]);
        assert!(read.allows(true, Some("b"), Some("k"), None));
        assert!(!read.allows(false, Some("b"), Some("k"), None));
        let one = scope(false, &["b", "c/in/"]);
        assert!(one.allows(false, Some("b"), Some("anything"), None));
        assert!(one.allows(false, Some("c"), Some("in/x"), None));
        assert!(!one.allows(false, Some("c"), Some("out/x"), None));
        assert!(!one.allows(true, Some("bb"), Some("in/x"), None), "a name is not a prefix");
        assert!(one.allows(true, Some("c"), None, Some("in/y")));
        assert!(!one.allows(true, Some("c"), None, Some("")), "a listing of more than the prefix");
        assert!(!one.allows(false, Some("c"), None, None), "what acts on the whole bucket");
        assert!(!one.allows(false, None, None, None), "making buckets");
        assert!(one.reaches("b") && one.reaches("c") && !one.reaches("bb") && all.reaches("x"));
    }
}
