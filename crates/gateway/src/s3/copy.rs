//! Copy an object, or bytes of one into a part of an upload.
//!
//! What is copied is the version of that moment. Within a bucket nothing is stored again; a part is.

use super::{
    body::{self, Exclusive},
    checksum::{Checked, Declared},
    customer,
    describe::{self, Describes as _, ENCRYPTION},
    digest::{self, Tells as _},
    fault::fault,
    objects::Objects,
    put,
    read::{Conditions, Found, failed},
    time::timestamp,
    version,
};
use futures::StreamExt as _;
use hodei_sdk::{Entry, complete::Source, condition::Condition, customer::Key, index::Digest, upload::Options};
use hyper::{
    HeaderMap,
    header::{HeaderName, IF_MATCH, IF_NONE_MATCH},
};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        Checksum, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, ETag, ETagCondition,
        MetadataDirective, StreamingBlob, TaggingDirective, UploadPartCopyInput, UploadPartCopyOutput,
    },
    s3_error,
};
use std::{ops::Range, str::FromStr as _};

/// What is copied, and the key it was put with.
struct From {
    bucket: String,
    key: String,
    /// The request names one.
    is_versioned: bool,
    found: Found,
    customer: Option<Key>,
}

/// Of a copy's input what says what is copied.
macro_rules! from {
    ($objects:expr, $input:expr) => {{
        let sent = (
            $input.copy_source_sse_customer_algorithm.take(),
            $input.copy_source_sse_customer_key.take(),
            $input.copy_source_sse_customer_key_md5.take(),
        );
        let conditions = Conditions {
            matches: $input.copy_source_if_match.as_ref(),
            differs: $input.copy_source_if_none_match.as_ref(),
            modified: $input.copy_source_if_modified_since.as_ref(),
            unmodified: $input.copy_source_if_unmodified_since.as_ref(),
        };
        $objects.from(&$input.copy_source, customer::key(sent)?, conditions).await?
    }};
}

/// `bytes=0-4`, both ends within the object.
pub(super) fn range(text: &str, size: u64) -> S3Result<Range<u64>> {
    let ends = text.strip_prefix("bytes=").and_then(|ends| ends.split_once('-'));
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let ends = ends.and_then(|(from, last)| Some((number(from)?, number(last)?)));
    let (from, last) = ends.filter(|(from, last)| from <= last).ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last, found {text}"
        )
    })?;
    if last >= size {
        return Err(s3_error!(InvalidRange, "Range specified is not valid for source object of size: {size}"));
    }
    Ok(from..last + 1)
}

/// Whether a directive says to take what the request says instead of what the source has.
fn replaces(directive: Option<&str>) -> S3Result<bool> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(other) => Err(s3_error!(InvalidArgument, "A directive is COPY or REPLACE, found {other}")),
    }
}

/// What must hold of the destination. The framework reads these headers for puts alone.
fn condition(headers: &HeaderMap) -> S3Result<Condition> {
    let tag = |name: HeaderName| {
        let Some(value) = headers.get(&name) else { return Ok(None) };
        let tag = value.to_str().ok().and_then(|text| ETagCondition::from_str(text).ok());
        tag.map(Some).ok_or_else(|| s3_error!(InvalidArgument, "{name} is an etag or *, found {value:?}"))
    };
    Ok(put::condition(tag(IF_MATCH)?.as_ref(), tag(IF_NONE_MATCH)?.as_ref()))
}

impl Objects {
    async fn from(&self, source: &CopySource, customer: Option<Key>, conditions: Conditions<'_>) -> S3Result<From> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(s3_error!(NotImplemented, "A copy's source is BUCKET/KEY: access points are not supported."));
        };
        let found = self.find(bucket, key, version_id.as_deref()).await?;
        conditions.judge(&found.entry).map_err(|_| failed())?;
        customer::check(found.entry.customer.as_ref(), customer.as_ref())?;
        let (bucket, key) = (bucket.to_string(), key.to_string());
        Ok(From { bucket, key, is_versioned: version_id.is_some(), found, customer })
    }

    pub(super) async fn copy(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let condition = condition(&request.headers)?;
        let mut input = request.input;
        let from = from!(self, input);
        let takes_meta = !replaces(input.metadata_directive.as_ref().map(MetadataDirective::as_str))?;
        let takes_tags = !replaces(input.tagging_directive.as_ref().map(TaggingDirective::as_str))?;
        let wanted = digest::parse(input.checksum_algorithm.as_ref())?;
        let (mut entry, customer) = self.describe(input.described(), &input.bucket, &request.extensions).await?;
        let source = &from.found.entry;
        let is_itself = from.bucket == input.bucket && from.key == input.key && !from.is_versioned;
        let changes = entry.class != source.class
            || entry.redirect.is_some()
            || customer.is_some()
            || source.customer.is_some()
            || entry.meta.contains_key(ENCRYPTION);
        if is_itself && takes_meta && !changes {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes."
            ));
        }
        if takes_meta {
            let encryption = entry.meta.remove(ENCRYPTION);
            entry.meta.clone_from(&source.meta);
            entry.meta.remove(ENCRYPTION);
            entry.meta.extend(encryption.map(|encryption| (ENCRYPTION.into(), encryption)));
            entry.content_type.clone_from(&source.content_type);
        }
        if takes_tags {
            entry.tags.clone_from(&source.tags);
        }
        let mut source = source.clone();
        if let Some(digest) =
            wanted.filter(|digest| source.checksum.as_ref().is_none_or(|has| has.algorithm != *digest))
        {
            source.checksum = self.digest(&from, digest).await?;
        }
        let server_side_encryption = put::encryption(&entry);
        let options = Options { customer, condition, ..describe::options(entry) };
        let source = Source { bucket: &from.bucket, key: &from.key, entry: &source, customer: from.customer.as_ref() };
        let put = self.cloud.copy(source, &input.bucket, &input.key, options).await.map_err(fault)?;
        let (sse_customer_algorithm, sse_customer_key_md5) = customer::told(put.entry.customer.as_ref());
        let mut result = CopyObjectResult {
            e_tag: Some(ETag::Strong(put.entry.etag)),
            last_modified: Some(timestamp(put.entry.modified_ms)),
            ..CopyObjectResult::default()
        };
        if let Some(checksum) = &put.entry.checksum {
            result.checksum_type = Some(digest::kind(checksum.composite));
            result.tell(digest::told(checksum, put.entry.parts.len()));
        }
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            copy_source_version_id: from.found.version_id(),
            version_id: version::told(put.entry.version, put.versioning),
            server_side_encryption,
            sse_customer_algorithm,
            sse_customer_key_md5,
            ..CopyObjectOutput::default()
        }))
    }

    /// A checksum the source has not: its bytes are read for it.
    async fn digest(&self, from: &From, digest: Digest) -> S3Result<Option<hodei_sdk::index::Checksum>> {
        let (mut bytes, verdict) = self.bytes_of(from, None, Some(digest)).await?;
        while let Some(piece) = bytes.next().await {
            piece.map_err(|error| s3_error!(ServiceUnavailable, "The source could not be read: {error}"))?;
        }
        Ok(body::judged(&body::hashed(&verdict)?).checksum)
    }

    async fn bytes_of(
        &self,
        from: &From,
        range: Option<Range<u64>>,
        wanted: Option<Digest>,
    ) -> S3Result<(Checked, super::checksum::Verdict)> {
        let entry: &Entry = &from.found.entry;
        let bytes = self.cloud.bytes(&from.bucket, &from.key, entry, range, from.customer.as_ref()).await;
        let bytes = StreamingBlob::wrap(Exclusive::new(bytes.map_err(fault)?));
        Ok(body::checked(Some(bytes), Declared { wanted, ..Declared::default() }, Vec::new(), None))
    }

    pub(super) async fn upload_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let mut input = request.input;
        let sent =
            (input.sse_customer_algorithm.take(), input.sse_customer_key.take(), input.sse_customer_key_md5.take());
        let key = customer::key(sent)?;
        let (mark, asked) = self.uploads.terms(&input.upload_id, &input.bucket, &input.key)?;
        customer::check(mark.as_ref(), key.as_ref())?;
        let from = from!(self, input);
        let size = from.found.entry.size_bytes();
        let range = input.copy_source_range.as_deref().map(|text| range(text, size)).transpose()?;
        let source = self.bytes_of(&from, range, asked.map(|(digest, _)| digest)).await?;
        let place = (input.bucket.as_str(), input.key.as_str(), input.upload_id.as_str());
        let part = self.keep_part(place, input.part_number, source, key.as_ref().zip(mark.as_ref())).await?;
        let (sse_customer_algorithm, sse_customer_key_md5) = customer::told(mark.as_ref());
        let mut result = CopyPartResult {
            e_tag: Some(ETag::Strong(hex::encode(part.md5))),
            last_modified: Some(timestamp(part.modified_ms)),
            ..CopyPartResult::default()
        };
        result.tell(part.checksum.map_or_else(Checksum::default, |(digest, value)| digest::only(digest, Some(value))));
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            server_side_encryption: self
                .uploads
                .with(&input.upload_id, &input.bucket, &input.key, |upload| put::encryption(&upload.entry))?,
            copy_source_version_id: from.found.version_id(),
            sse_customer_algorithm,
            sse_customer_key_md5,
            ..UploadPartCopyOutput::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_a_source_has_both_ends_within_it() {
        assert_eq!(range("bytes=0-4", 5).unwrap(), 0..5);
        for bad in [
            "0-2",
            "bytes=0",
            "bytes=hello-world",
            "bytes=0-bar",
            "bytes=hello-",
            "bytes=0-2,3-5",
            "bytes=3-2",
            "bytes=+1-2",
        ] {
            assert_eq!(range(bad, 10).unwrap_err().code().as_str(), "InvalidArgument", "{bad}");
        }
        assert_eq!(range("bytes=0-5", 5).unwrap_err().code().as_str(), "InvalidRange");
        assert!(range(&format!("bytes=0-{}", u64::MAX), 5).is_err());
    }

    #[test]
    fn the_destination_has_conditions_of_its_own() {
        let condition = |name, value: &'static str| {
            condition(&HeaderMap::from_iter([(name, hyper::header::HeaderValue::from_static(value))]))
        };
        assert_eq!(super::condition(&HeaderMap::new()).unwrap(), Condition::default());
        assert_eq!(condition(IF_NONE_MATCH, "*").unwrap(), Condition::absent());
        let is = Some(hodei_sdk::condition::Tag::Is("a".into()));
        assert_eq!(condition(IF_MATCH, "\"a\"").unwrap().matches, is);
        let source = HeaderName::from_static("x-amz-copy-source-if-match");
        assert_eq!(condition(source, "\"a\"").unwrap(), Condition::default(), "of the source");
    }

    #[test]
    fn a_directive_is_known_or_refused() {
        assert!(!replaces(None).unwrap() && !replaces(Some("COPY")).unwrap() && replaces(Some("REPLACE")).unwrap());
        assert!(replaces(Some("replace")).is_err());
    }
}
