//! Get and describe objects: whole, in ranges or parts, of any version, under conditions.

use super::{
    body::Exclusive,
    customer,
    describe::{ENCRYPTION, EXPIRES},
    digest::{self, Tells as _},
    fault::fault,
    lifecycle, lock,
    objects::Objects,
    time::{http_date, millis, parse_http_date, timestamp},
    version,
};
use hodei_sdk::{
    Entry,
    change::Versioning,
    customer::Key,
    index::{Checksum, Settings, Version},
};
use hyper::{HeaderMap, StatusCode, header};
use s3s::{
    S3Error, S3Request, S3Response, S3Result,
    dto::{
        self, ETag, ETagCondition, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
        ServerSideEncryption, StorageClass, StreamingBlob, Timestamp,
    },
    s3_error,
};
use std::{ops::Range, sync::Arc};

/// An object as it was found.
pub(super) struct Found {
    pub(super) entry: Entry,
    pub(super) settings: Arc<Settings>,
}

impl Found {
    pub(super) fn version_id(&self) -> Option<String> {
        version::told(self.entry.version, Versioning::of(&self.settings))
    }
}

/// Conditions of a read, or on the source of a copy.
#[derive(Default)]
pub(super) struct Conditions<'a> {
    pub(super) matches: Option<&'a ETagCondition>,
    pub(super) differs: Option<&'a ETagCondition>,
    pub(super) modified: Option<&'a Timestamp>,
    pub(super) unmodified: Option<&'a Timestamp>,
}

/// What a condition that does not hold means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 412
    Failed,
    /// 304 for a read.
    NotModified,
}

impl Conditions<'_> {
    /// RFC 9110: an etag's word goes before a date's.
    pub(super) fn judge(&self, entry: &Entry) -> Result<(), Refusal> {
        let is = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(ETag::Strong(tag) | ETag::Weak(tag)) => *tag == entry.etag,
        };
        let modified_secs = entry.modified_ms / 1000;
        match (self.matches, self.unmodified) {
            (Some(condition), _) if !is(condition) => return Err(Refusal::Failed),
            (None, Some(time)) if modified_secs > millis(time) / 1000 => return Err(Refusal::Failed),
            _ => {}
        }
        match (self.differs, self.modified) {
            (Some(condition), _) if is(condition) => Err(Refusal::NotModified),
            (None, Some(time)) if modified_secs <= millis(time) / 1000 => Err(Refusal::NotModified),
            _ => Ok(()),
        }
    }
}

pub(super) fn failed() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the preconditions you specified did not hold.")
}

fn with_headers(mut error: S3Error, headers: &[(&'static str, String)]) -> S3Error {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            map.insert(*name, value);
        }
    }
    error.set_headers(map);
    error
}

/// What an error's body is: the framework forgets it where there are other headers.
fn xml() -> (&'static str, String) {
    ("content-type", "application/xml".into())
}

/// A delete marker answers as if nothing were there, and says what it is.
fn marked(entry: &Entry, version_id: Option<String>, is_named: bool) -> S3Error {
    let mut headers = vec![xml(), ("x-amz-delete-marker", "true".to_owned())];
    headers.extend(version_id.map(|id| ("x-amz-version-id", id)));
    if is_named {
        headers.push(("allow", "DELETE".to_owned()));
        headers.push(("last-modified", http_date(&timestamp(entry.modified_ms))));
        let error = s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource.");
        return with_headers(error, &headers);
    }
    with_headers(s3_error!(NoSuchKey, "The specified key does not exist."), &headers)
}

/// Whether an object was made of parts that its client numbered: only such an etag has a dash.
pub(super) fn is_multipart(entry: &Entry) -> bool {
    entry.etag.contains('-')
}

/// Where a part lies; that of an object put at once is the whole.
fn part(entry: &Entry, number: i32) -> S3Result<Range<u64>> {
    let refused = || s3_error!(InvalidPart, "The requested part does not exist: {number}");
    if !is_multipart(entry) {
        return if number == 1 { Ok(0..entry.size_bytes()) } else { Err(refused()) };
    }
    let mut start = 0;
    for part in &entry.parts {
        let end = start + part.size_bytes;
        if i32::try_from(part.number) == Ok(number) {
            return Ok(start..end);
        }
        start = end;
    }
    Err(refused())
}

/// The checksum of a part's bytes, of an object whose parts have these numbers; where it has none, the only part of
/// an object put at once is the whole.
fn of_part(checksum: &Checksum, numbers: &[u32], number: i32) -> Option<dto::Checksum> {
    if numbers.is_empty() {
        return Some(digest::told(checksum, 1));
    }
    let at = numbers.iter().position(|known| i32::try_from(*known) == Ok(number))?;
    Some(digest::only(checksum.algorithm, Some(checksum.parts.get(at)?.clone())))
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

/// What of the object is asked for; `None` for all of it.
fn wanted(input: &GetObjectInput, entry: &Entry) -> S3Result<Option<Range<u64>>> {
    match (&input.range, input.part_number) {
        (Some(_), Some(_)) => {
            Err(s3_error!(InvalidRequest, "Cannot specify both Range header and partNumber query parameter"))
        }
        (Some(range), None) => Ok(Some(
            range
                .check(entry.size_bytes())
                .map_err(|_| s3_error!(InvalidRange, "The requested range is not satisfiable"))?,
        )),
        (None, Some(number)) => part(entry, number).map(Some),
        (None, None) => Ok(None),
    }
}

/// All that is answered but the bytes.
fn answer(input: &mut GetObjectInput, found: &Found, range: Option<&Range<u64>>) -> GetObjectOutput {
    let (entry, mut meta) = (&found.entry, found.entry.meta.clone());
    let size = entry.size_bytes();
    let length = range.map_or(size, |range| range.end - range.start);
    let mut kept = |name: &str| meta.remove(name);
    let (mode, until, hold) = lock::told(entry.lock);
    let (sse_customer_algorithm, sse_customer_key_md5) = customer::told(entry.customer.as_ref());
    let mut output = GetObjectOutput {
        accept_ranges: Some("bytes".into()),
        content_length: Some(length as i64),
        // No part of nothing can be named.
        content_range: range.filter(|range| !range.is_empty()).map(|range| content_range(range, size)),
        content_type: input.response_content_type.take().or_else(|| Some(entry.content_type.clone())),
        cache_control: input.response_cache_control.take().or_else(|| kept(":cache-control")),
        content_disposition: input.response_content_disposition.take().or_else(|| kept(":content-disposition")),
        content_encoding: input.response_content_encoding.take().or_else(|| kept(":content-encoding")),
        content_language: input.response_content_language.take().or_else(|| kept(":content-language")),
        expires: input.response_expires.take().or_else(|| kept(EXPIRES).as_deref().and_then(parse_http_date)),
        expiration: lifecycle::expiration(&found.settings, &input.key, entry),
        server_side_encryption: kept(ENCRYPTION).map(ServerSideEncryption::from),
        e_tag: Some(ETag::Strong(entry.etag.clone())),
        last_modified: Some(timestamp(entry.modified_ms)),
        metadata: Some(meta.into_iter().filter(|(name, _)| !name.starts_with(':')).collect()),
        object_lock_mode: mode,
        object_lock_retain_until_date: until,
        object_lock_legal_hold_status: hold,
        parts_count: input.part_number.filter(|_| is_multipart(entry)).map(|_| entry.parts.len() as i32),
        sse_customer_algorithm,
        sse_customer_key_md5,
        storage_class: entry.class.clone().map(StorageClass::from),
        tag_count: Some(entry.tags.len() as i32).filter(|count| *count > 0),
        version_id: found.version_id(),
        website_redirect_location: entry.redirect.clone(),
        ..GetObjectOutput::default()
    };
    let is_asked = input.checksum_mode.as_ref().is_some_and(|mode| mode.as_str() == "ENABLED");
    if let Some(checksum) = entry.checksum.as_ref().filter(|_| is_asked) {
        let told = match (range, input.part_number) {
            (None, _) => Some(digest::told(checksum, entry.parts.len())),
            (Some(_), Some(number)) => {
                let numbers = entry.parts.iter().filter(|_| is_multipart(entry)).map(|part| part.number);
                of_part(checksum, &numbers.collect::<Vec<_>>(), number)
            }
            // Of any other bytes none is known.
            (Some(_), None) => None,
        };
        if let Some(told) = told {
            output.checksum_type = Some(digest::kind(checksum.composite));
            output.tell(told);
        }
    }
    output
}

impl Objects {
    /// The version that a request names, or the newest.
    pub(super) async fn find(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<Found> {
        let named = version.map(version::parse).transpose()?;
        let (entry, settings) = self.cloud.find(bucket, key, named).await.map_err(fault)?;
        match entry {
            Some(entry) if entry.marker => {
                let id = version::told(entry.version, Versioning::of(&settings));
                Err(marked(&entry, id, named.is_some()))
            }
            Some(entry) => Ok(Found { entry, settings }),
            // Nothing is there: no delete marker either.
            None => Err(with_headers(missing(key, named), &[xml(), ("x-amz-delete-marker", "false".into())])),
        }
    }

    /// What is found and asked for, once the key and the conditions are judged.
    async fn judged(&self, input: &GetObjectInput) -> S3Result<(Found, Option<Range<u64>>, Option<Key>)> {
        let sent =
            (input.sse_customer_algorithm.clone(), input.sse_customer_key.clone(), input.sse_customer_key_md5.clone());
        let key = customer::key(sent)?;
        let found = self.find(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let entry = &found.entry;
        let conditions = Conditions {
            matches: input.if_match.as_ref(),
            differs: input.if_none_match.as_ref(),
            modified: input.if_modified_since.as_ref(),
            unmodified: input.if_unmodified_since.as_ref(),
        };
        conditions.judge(entry).map_err(|refusal| match refusal {
            Refusal::Failed => failed(),
            Refusal::NotModified => {
                let mut headers = vec![
                    ("etag", format!("\"{}\"", entry.etag)),
                    ("last-modified", http_date(&timestamp(entry.modified_ms))),
                ];
                headers.extend(found.version_id().map(|id| ("x-amz-version-id", id)));
                with_headers(s3_error!(NotModified), &headers)
            }
        })?;
        let range = wanted(input, entry)?;
        customer::check(entry.customer.as_ref(), key.as_ref())?;
        Ok((found, range, key))
    }

    pub(super) async fn get(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        no_encryption(&request.headers)?;
        let mut input = request.input;
        let (found, range, key) = self.judged(&input).await?;
        let mut output = answer(&mut input, &found, range.as_ref());
        let bytes = self.cloud.bytes(&input.bucket, &input.key, &found.entry, range, key.as_ref()).await;
        output.body = Some(StreamingBlob::wrap(Exclusive::new(bytes.map_err(fault)?)));
        Ok(S3Response::new(output))
    }

    pub(super) async fn head(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        no_encryption(&request.headers)?;
        let mut input = as_get(request.input);
        let (found, range, _) = self.judged(&input).await?;
        let output = as_head(answer(&mut input, &found, range.as_ref()));
        let mut response = S3Response::new(output);
        if response.output.content_range.is_some() {
            response.status = Some(StatusCode::PARTIAL_CONTENT);
        }
        if let Some(count) = found.entry.tags.len().checked_sub(1) {
            // The framework's answer to HEAD has no place for it.
            let count = header::HeaderValue::from(count + 1);
            response.headers.insert("x-amz-tagging-count", count);
        }
        Ok(response)
    }
}

/// Who reads says nothing of the server's encryption, as at S3: it is what it was put with.
fn no_encryption(headers: &HeaderMap) -> S3Result<()> {
    match headers.contains_key("x-amz-server-side-encryption") {
        true => Err(s3_error!(
            InvalidArgument,
            "x-amz-server-side-encryption is said when an object is put, not when it is read."
        )),
        false => Ok(()),
    }
}

pub(super) fn missing(key: &str, version: Option<Version>) -> S3Error {
    match version {
        Some(version) => s3_error!(NoSuchVersion, "The specified version does not exist: {version}"),
        None => s3_error!(NoSuchKey, "The specified key does not exist: {key}"),
    }
}

/// HEAD asks as GET does.
fn as_get(input: HeadObjectInput) -> GetObjectInput {
    GetObjectInput {
        bucket: input.bucket,
        checksum_mode: input.checksum_mode,
        expected_bucket_owner: input.expected_bucket_owner,
        if_match: input.if_match,
        if_modified_since: input.if_modified_since,
        if_none_match: input.if_none_match,
        if_unmodified_since: input.if_unmodified_since,
        key: input.key,
        part_number: input.part_number,
        range: input.range,
        request_payer: input.request_payer,
        response_cache_control: input.response_cache_control,
        response_content_disposition: input.response_content_disposition,
        response_content_encoding: input.response_content_encoding,
        response_content_language: input.response_content_language,
        response_content_type: input.response_content_type,
        response_expires: input.response_expires,
        sse_customer_algorithm: input.sse_customer_algorithm,
        sse_customer_key: input.sse_customer_key,
        sse_customer_key_md5: input.sse_customer_key_md5,
        version_id: input.version_id,
    }
}

fn as_head(output: GetObjectOutput) -> HeadObjectOutput {
    HeadObjectOutput {
        accept_ranges: output.accept_ranges,
        cache_control: output.cache_control,
        checksum_crc32: output.checksum_crc32,
        checksum_crc32c: output.checksum_crc32c,
        checksum_crc64nvme: output.checksum_crc64nvme,
        checksum_sha1: output.checksum_sha1,
        checksum_sha256: output.checksum_sha256,
        checksum_type: output.checksum_type,
        content_disposition: output.content_disposition,
        content_encoding: output.content_encoding,
        content_language: output.content_language,
        content_length: output.content_length,
        content_range: output.content_range,
        content_type: output.content_type,
        e_tag: output.e_tag,
        expiration: output.expiration,
        expires: output.expires,
        last_modified: output.last_modified,
        metadata: output.metadata,
        object_lock_legal_hold_status: output.object_lock_legal_hold_status,
        object_lock_mode: output.object_lock_mode,
        object_lock_retain_until_date: output.object_lock_retain_until_date,
        parts_count: output.parts_count,
        sse_customer_algorithm: output.sse_customer_algorithm,
        sse_customer_key_md5: output.sse_customer_key_md5,
        server_side_encryption: output.server_side_encryption,
        storage_class: output.storage_class,
        version_id: output.version_id,
        website_redirect_location: output.website_redirect_location,
        ..HeadObjectOutput::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> ETagCondition {
        ETagCondition::ETag(ETag::Strong(text.into()))
    }

    #[test]
    fn an_etags_word_goes_before_a_dates() {
        let entry = Entry { etag: "a".into(), modified_ms: 5_500, ..Entry::default() };
        let (a, b) = (tag("a"), tag("b"));
        let [before, same, after] = [4_000, 5_000, 6_000].map(timestamp);
        let none = Conditions::default;
        assert_eq!(Conditions { matches: Some(&a), unmodified: Some(&before), ..none() }.judge(&entry), Ok(()));
        assert_eq!(Conditions { matches: Some(&b), ..none() }.judge(&entry), Err(Refusal::Failed));
        assert_eq!(Conditions { unmodified: Some(&before), ..none() }.judge(&entry), Err(Refusal::Failed));
        assert_eq!(Conditions { unmodified: Some(&same), ..none() }.judge(&entry), Ok(()));
        assert_eq!(Conditions { differs: Some(&a), ..none() }.judge(&entry), Err(Refusal::NotModified));
        assert_eq!(Conditions { differs: Some(&b), modified: Some(&after), ..none() }.judge(&entry), Ok(()));
        assert_eq!(Conditions { modified: Some(&same), ..none() }.judge(&entry), Err(Refusal::NotModified));
        assert_eq!(Conditions { modified: Some(&before), ..none() }.judge(&entry), Ok(()));
        assert_eq!(
            Conditions { differs: Some(&ETagCondition::Any), ..none() }.judge(&entry),
            Err(Refusal::NotModified)
        );
    }

    #[test]
    fn a_part_that_is_read_tells_its_own_checksum() {
        let checksum = Checksum {
            algorithm: hodei_sdk::index::Digest::Crc32,
            value: "whole".into(),
            composite: true,
            parts: vec!["first".into(), "third".into()],
        };
        let told = |numbers: &[u32], number| of_part(&checksum, numbers, number)?.checksum_crc32;
        assert_eq!(told(&[1, 3], 3).as_deref(), Some("third"));
        assert_eq!(told(&[1, 3], 2), None, "no such part");
        let whole = Checksum { composite: false, parts: Vec::new(), ..checksum.clone() };
        assert_eq!(of_part(&whole, &[], 1).unwrap().checksum_crc32.as_deref(), Some("whole"));
    }

    #[test]
    fn what_reads_says_nothing_of_encryption() {
        let mut headers = HeaderMap::new();
        assert!(no_encryption(&headers).is_ok());
        headers.insert("x-amz-server-side-encryption", "AES256".parse().unwrap());
        assert_eq!(no_encryption(&headers).unwrap_err().code().as_str(), "InvalidArgument");
    }

    #[test]
    fn the_only_part_of_an_object_put_at_once_is_the_first() {
        let entry = Entry { etag: "abc".into(), ..Entry::default() };
        assert_eq!(part(&entry, 1).unwrap(), 0..0);
        assert_eq!(part(&entry, 2).unwrap_err().code().as_str(), "InvalidPart");
        assert_eq!(part(&Entry { etag: "abc-1".into(), ..entry }, 1).unwrap_err().code().as_str(), "InvalidPart");
    }
}
