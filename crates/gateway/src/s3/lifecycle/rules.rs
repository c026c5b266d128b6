//! Read a bucket's lifecycle rules, refusing what S3 refuses, and say what they ask of an object.
//!
//! The setting `lifecycle` is the configuration as S3 writes it, in XML. A rule chooses by prefix, tags and size;
//! Ceph takes several conditions side by side in a filter where S3 wants them within `And`, and so do we: all of
//! them must hold, which never expires more than was asked.
//!
//! Upon a current version past its days or date: it is removed, or hidden behind a delete marker where versions are
//! kept. Upon a version that is not current: it is removed for good so many days after it was replaced, but for the
//! newest that the rule keeps. Upon a delete marker that hides nothing any more: it is removed, if the rule says so
//! or past the rule's days. Upon an upload so many days after it began: it is aborted.

use super::calendar::Calendar;
use hodei_sdk::index::{Entry, Version};
use s3s::{
    S3Result,
    dto::{
        BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
        LifecycleRules, NoncurrentVersionExpiration, Tag,
    },
    s3_error,
    xml::{Deserialize as _, Deserializer, Serialize as _, Serializer},
};
use std::collections::BTreeSet;

/// The bucket's setting.
pub(in crate::s3) const LIFECYCLE: &str = "lifecycle";
/// As at S3.
const RULES_MAX: usize = 1000;
const ID_CHARS_MAX: usize = 255;
const KEPT_MAX: i32 = 100;
/// A setting's longest document.
const DOCUMENT_BYTES_MAX: usize = 20 << 10;

/// A bucket's rules, as they were accepted.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::s3) struct Rules(LifecycleRules);

/// What is to be done with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::s3) enum Act {
    /// The newest version is over: remove it, or put a marker before it.
    Expire,
    /// Take this one out for good.
    Remove(Version),
}

impl Rules {
    /// The rules of a configuration, or S3's refusal.
    pub(in crate::s3) fn check(mut rules: LifecycleRules) -> S3Result<Self> {
        if rules.is_empty() || rules.len() > RULES_MAX {
            return Err(s3_error!(MalformedXML, "A lifecycle has 1 to {RULES_MAX} rules, found {}.", rules.len()));
        }
        let mut ids: BTreeSet<String> = BTreeSet::new();
        for rule in &rules {
            check_rule(rule)?;
            if let Some(id) = rule.id.as_ref().filter(|id| !id.is_empty())
                && !ids.insert(id.clone())
            {
                return Err(s3_error!(
                    InvalidArgument,
                    "Rule ID must be unique. Found same ID for more than one rule: {id}"
                ));
            }
        }
        // Every rule has a name: the header that foretells an expiration says which rule it is.
        for (at, rule) in rules.iter_mut().enumerate() {
            if rule.id.as_ref().is_none_or(String::is_empty) {
                let id = (at + 1..).map(|number| format!("rule-{number}")).find(|id| !ids.contains(id));
                let id = id.expect("numbers do not end");
                ids.insert(id.clone());
                rule.id = Some(id);
            }
        }
        Ok(Self(rules))
    }

    /// The document to keep.
    pub(in crate::s3) fn document(&self) -> S3Result<String> {
        let mut bytes = Vec::new();
        let written =
            BucketLifecycleConfiguration { rules: self.0.clone() }.serialize(&mut Serializer::new(&mut bytes));
        let text = written.ok().and_then(|()| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| s3_error!(InternalError, "the rules cannot be written"))?;
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(s3_error!(
                InvalidRequest,
                "The rules take {} bytes, at most {DOCUMENT_BYTES_MAX} are kept: use fewer or shorter ones.",
                text.len()
            ));
        }
        Ok(text)
    }

    /// What [`Self::document`] gave.
    pub(in crate::s3) fn read(document: &str) -> S3Result<Self> {
        let read = BucketLifecycleConfiguration::deserialize(&mut Deserializer::new(document.as_bytes()));
        let read = read.map_err(|error| s3_error!(InternalError, "the bucket's lifecycle cannot be read: {error}"))?;
        Ok(Self(read.rules))
    }

    pub(in crate::s3) fn into_inner(self) -> LifecycleRules {
        self.0
    }

    fn enabled(&self) -> impl Iterator<Item = &LifecycleRule> {
        self.0.iter().filter(|rule| rule.status.as_str() == ExpirationStatus::ENABLED)
    }

    /// When a current version expires first, in milliseconds since 1970, and by which rule.
    pub(in crate::s3) fn expires(&self, key: &str, entry: &Entry, calendar: &Calendar) -> Option<(u64, &str)> {
        let due = |rule: &LifecycleRule| match rule.expiration.as_ref()? {
            LifecycleExpiration { days: Some(days), .. } => Some(calendar.after(entry.modified_ms, *days)),
            LifecycleExpiration { date: Some(date), .. } => Calendar::ms(date),
            _ => None,
        };
        self.enabled()
            .filter(|rule| !entry.marker && is_chosen(rule, key, Some(entry)))
            .filter_map(|rule| Some((due(rule)?, rule.id.as_deref().unwrap_or_default())))
            .min()
    }

    /// What is due of a key at `now_ms`; its versions with the newest first.
    pub(in crate::s3) fn due(&self, key: &str, versions: &[Entry], now_ms: u64, calendar: &Calendar) -> Vec<Act> {
        let mut acts = Vec::new();
        let Some(newest) = versions.first() else { return acts };
        if self.expires(key, newest, calendar).is_some_and(|(due, _)| due <= now_ms) {
            acts.push(Act::Expire);
        }
        if newest.marker
            && versions.len() == 1
            && self.enabled().any(|rule| ends_marker(rule, key, newest, now_ms, calendar))
        {
            acts.push(Act::Remove(newest.version));
        }
        for (at, pair) in versions.windows(2).enumerate() {
            // It stopped being current when the next newer one was put.
            let (since_ms, old) = (pair[0].modified_ms, &pair[1]);
            let is_over = |rule: &LifecycleRule| {
                let Some(NoncurrentVersionExpiration { noncurrent_days: Some(days), newer_noncurrent_versions }) =
                    &rule.noncurrent_version_expiration
                else {
                    return false;
                };
                let kept = newer_noncurrent_versions.unwrap_or(0).unsigned_abs() as usize;
                at >= kept && calendar.after(since_ms, *days) <= now_ms && is_chosen(rule, key, Some(old))
            };
            if self.enabled().any(is_over) {
                acts.push(Act::Remove(old.version));
            }
        }
        acts
    }

    /// Whether an upload of `key` begun at `begun_ms` is to be aborted.
    pub(in crate::s3) fn aborts(&self, key: &str, begun_ms: u64, now_ms: u64, calendar: &Calendar) -> bool {
        let is_over = |rule: &LifecycleRule| {
            let days = rule.abort_incomplete_multipart_upload.as_ref().and_then(|abort| abort.days_after_initiation);
            days.is_some_and(|days| calendar.after(begun_ms, days) <= now_ms) && is_chosen(rule, key, None)
        };
        self.enabled().any(is_over)
    }
}

/// A marker that hides nothing goes at once, or after the days in which an object would.
fn ends_marker(rule: &LifecycleRule, key: &str, marker: &Entry, now_ms: u64, calendar: &Calendar) -> bool {
    let is_over = match &rule.expiration {
        Some(LifecycleExpiration { expired_object_delete_marker: Some(true), .. }) => true,
        Some(LifecycleExpiration { days: Some(days), .. }) => calendar.after(marker.modified_ms, *days) <= now_ms,
        _ => false,
    };
    is_over && is_chosen(rule, key, Some(marker))
}

/// Whether a rule is about a key: about this version of it, or about uploads, which have no tags and no size yet.
fn is_chosen(rule: &LifecycleRule, key: &str, entry: Option<&Entry>) -> bool {
    let all = LifecycleRuleFilter::default();
    let filter = rule.filter.as_ref().unwrap_or(&all);
    let and = filter.and.as_ref();
    let mut prefixes = [&rule.prefix, &filter.prefix].into_iter().chain(and.map(|and| &and.prefix)).flatten();
    let mut tags = filter.tag.iter().chain(and.and_then(|and| and.tags.as_ref()).into_iter().flatten());
    let above = filter.object_size_greater_than.max(and.and_then(|and| and.object_size_greater_than));
    let below =
        [filter.object_size_less_than, and.and_then(|and| and.object_size_less_than)].into_iter().flatten().min();
    if !prefixes.all(|prefix| key.starts_with(prefix)) {
        return false;
    }
    match entry {
        Some(entry) => {
            // A marker has no size: rules by size are about objects.
            let size = i64::try_from(entry.size_bytes()).unwrap_or(i64::MAX);
            let sized = above.is_some() || below.is_some();
            tags.all(|tag| has(entry, tag))
                && !(sized && entry.marker)
                && above.is_none_or(|above| size > above)
                && below.is_none_or(|below| size < below)
        }
        None => tags.next().is_none() && above.is_none() && below.is_none(),
    }
}

fn has(entry: &Entry, tag: &Tag) -> bool {
    let Some(key) = &tag.key else { return false };
    entry.tags.get(key).map(String::as_str) == Some(tag.value.as_deref().unwrap_or(""))
}

fn check_rule(rule: &LifecycleRule) -> S3Result<()> {
    if rule.id.as_ref().is_some_and(|id| id.chars().count() > ID_CHARS_MAX) {
        return Err(s3_error!(InvalidArgument, "ID length should not exceed allowed limit of {ID_CHARS_MAX}"));
    }
    let status = rule.status.as_str();
    if ![ExpirationStatus::ENABLED, ExpirationStatus::DISABLED].contains(&status) {
        return Err(s3_error!(MalformedXML, "A rule's Status is Enabled or Disabled, found {status}"));
    }
    if rule.filter.is_some() == rule.prefix.is_some() {
        return Err(s3_error!(MalformedXML, "A rule has either a Filter or a Prefix."));
    }
    let at_midnight = |date: &s3s::dto::Timestamp| match Calendar::ms(date) {
        Some(ms) if Calendar::is_midnight(ms) => Ok(()),
        _ => Err(s3_error!(InvalidArgument, "'Date' must be at midnight GMT")),
    };
    let positive = |name: &str, days: i32| match days {
        1.. => Ok(()),
        _ => Err(s3_error!(InvalidArgument, "'{name}' must be a positive integer, found {days}")),
    };
    if let Some(expiration) = &rule.expiration {
        let LifecycleExpiration { date, days, expired_object_delete_marker } = expiration;
        let given = [date.is_some(), days.is_some(), expired_object_delete_marker.is_some()];
        if given.into_iter().filter(|is| *is).count() != 1 {
            return Err(s3_error!(MalformedXML, "An Expiration has one of Date, Days, ExpiredObjectDeleteMarker."));
        }
        days.map_or(Ok(()), |days| positive("Days", days))?;
        date.as_ref().map_or(Ok(()), at_midnight)?;
    }
    if let Some(noncurrent) = &rule.noncurrent_version_expiration {
        let Some(days) = noncurrent.noncurrent_days else {
            return Err(s3_error!(MalformedXML, "A NoncurrentVersionExpiration needs NoncurrentDays."));
        };
        positive("NoncurrentDays", days)?;
        if noncurrent.newer_noncurrent_versions.is_some_and(|kept| !(1..=KEPT_MAX).contains(&kept)) {
            return Err(s3_error!(InvalidArgument, "'NewerNoncurrentVersions' must be from 1 to {KEPT_MAX}"));
        }
    }
    if let Some(abort) = &rule.abort_incomplete_multipart_upload {
        let Some(days) = abort.days_after_initiation else {
            return Err(s3_error!(MalformedXML, "An AbortIncompleteMultipartUpload needs DaysAfterInitiation."));
        };
        positive("DaysAfterInitiation", days)?;
    }
    for transition in rule.transitions.iter().flatten() {
        transition.date.as_ref().map_or(Ok(()), at_midnight)?;
    }
    let moves = |count: Option<usize>| count.is_some_and(|count| count > 0);
    if moves(rule.transitions.as_ref().map(Vec::len))
        || moves(rule.noncurrent_version_transitions.as_ref().map(Vec::len))
    {
        return Err(s3_error!(NotImplemented, "A bucket has one storage class: there is none to move objects to."));
    }
    if rule.expiration.is_none()
        && rule.noncurrent_version_expiration.is_none()
        && rule.abort_incomplete_multipart_upload.is_none()
    {
        return Err(s3_error!(InvalidRequest, "At least one action needs to be specified in a rule"));
    }
    rule.filter.as_ref().map_or(Ok(()), |filter| check_filter(rule, filter))
}

fn check_filter(rule: &LifecycleRule, filter: &LifecycleRuleFilter) -> S3Result<()> {
    let and = filter.and.as_ref();
    let tags: Vec<&Tag> =
        filter.tag.iter().chain(and.and_then(|and| and.tags.as_ref()).into_iter().flatten()).collect();
    let sizes = [filter.object_size_greater_than, filter.object_size_less_than]
        .into_iter()
        .chain(and.into_iter().flat_map(|and| [and.object_size_greater_than, and.object_size_less_than]))
        .flatten();
    let (mut sized, mut keys) = (false, BTreeSet::new());
    for size in sizes {
        sized = true;
        if size < 0 {
            return Err(s3_error!(InvalidRequest, "An object's size in a Filter is not negative, found {size}"));
        }
    }
    for tag in &tags {
        if tag.key.as_ref().is_none_or(String::is_empty) || !keys.insert(&tag.key) {
            return Err(s3_error!(InvalidRequest, "Each Tag of a Filter has a Key, and no two the same."));
        }
    }
    let asks_marker =
        rule.expiration.as_ref().is_some_and(|expiration| expiration.expired_object_delete_marker.is_some());
    if !tags.is_empty() && (asks_marker || rule.abort_incomplete_multipart_upload.is_some()) {
        return Err(s3_error!(InvalidRequest, "Neither delete markers nor uploads have tags: such a rule has no Tag."));
    }
    if sized && rule.abort_incomplete_multipart_upload.is_some() {
        return Err(s3_error!(InvalidRequest, "An upload has no size yet: such a rule has none in its Filter."));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
