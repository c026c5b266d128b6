//! Tag objects.

use super::{fault::fault, objects::Objects, version};
use hodei_sdk::{change::Edit, index::TAGS_MAX};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        DeleteObjectTaggingInput, DeleteObjectTaggingOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
        PutObjectTaggingInput, PutObjectTaggingOutput, Tag,
    },
    s3_error,
};
use std::collections::BTreeMap;

type Tags = BTreeMap<String, String>;

/// S3's limits, in UTF-16 units as it counts them.
const KEY_UNITS_MAX: usize = 128;
const VALUE_UNITS_MAX: usize = 256;

/// Tags as a header has them: like a query.
pub(super) fn parse(header: &str) -> S3Result<Tags> {
    let pairs = header.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(key)?, decode(value)?))
    });
    collect(pairs)
}

fn collect(pairs: impl Iterator<Item = S3Result<(String, String)>>) -> S3Result<Tags> {
    let mut tags = Tags::new();
    for pair in pairs {
        let (key, value) = pair?;
        if key.is_empty() || key.encode_utf16().count() > KEY_UNITS_MAX {
            return Err(s3_error!(InvalidTag, "The TagKey you have provided is invalid"));
        }
        if is_reserved(&key) {
            return Err(s3_error!(InvalidTag, "System tags cannot be added/updated by requester: {key:?}"));
        }
        if value.encode_utf16().count() > VALUE_UNITS_MAX {
            return Err(s3_error!(InvalidTag, "The TagValue you have provided is invalid"));
        }
        if tags.insert(key, value).is_some() {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
        if tags.len() > TAGS_MAX {
            return Err(s3_error!(InvalidTag, "Object tags cannot be greater than {TAGS_MAX}"));
        }
    }
    Ok(tags)
}

/// Tags that begin so are given by the service itself, in whatever case.
pub(super) fn is_reserved(key: &str) -> bool {
    key.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("aws:"))
}

/// Percent-encoding, with a plus for a space.
fn decode(text: &str) -> S3Result<String> {
    let refused = || s3_error!(InvalidArgument, "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(refused);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| refused())
}

impl Objects {
    pub(super) async fn tags(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let input = request.input;
        let found = self.find(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let tags = found.entry.tags.clone().into_iter();
        let tag_set = tags.map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect();
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id: found.version_id() }))
    }

    pub(super) async fn tag(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let input = request.input;
        let pairs = input.tagging.tag_set.into_iter();
        let tags = collect(pairs.map(|tag| Ok((tag.key.unwrap_or_default(), tag.value.unwrap_or_default()))))?;
        let version_id = self.retag(&input.bucket, &input.key, input.version_id.as_deref(), tags).await?;
        Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
    }

    pub(super) async fn untag(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let input = request.input;
        let version_id = self.retag(&input.bucket, &input.key, input.version_id.as_deref(), Tags::new()).await?;
        Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
    }

    async fn retag(&self, bucket: &str, key: &str, version: Option<&str>, tags: Tags) -> S3Result<Option<String>> {
        let version = version.map(version::parse).transpose()?;
        let done = self.cloud.edit(bucket, key, version, Edit::Tags(tags)).await.map_err(fault)?;
        Ok(version::told(done.version, done.versioning))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_like_a_query() {
        let tags = parse("a=1&b+c=%C3%BC&d&").unwrap();
        let pairs: Vec<_> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b c", "ü"), ("d", "")]);
        for bad in ["a=%", "a=%g0", "a=%FF", "a=1&a=2", "=1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let many = |count: usize| (0..count).map(|at| format!("k{at}=v")).collect::<Vec<_>>().join("&");
        assert_eq!(parse(&many(10)).unwrap().len(), 10);
        assert!(parse(&many(11)).is_err());
        assert!(parse(&format!("{}=v", "k".repeat(128))).is_ok());
        assert!(parse(&format!("{}=v", "k".repeat(129))).is_err());
        assert!(parse(&format!("k={}", "v".repeat(257))).is_err());
        assert!(parse("aws%3Ax=1").is_err() && parse("AWS:x=1").is_err() && parse("awsx=1").is_ok());
    }
}
