//! List a bucket's objects, and all their versions.

use super::{
    acl, digest, documents::name, fault::fault, keys::Keyring, objects::Objects, refusal::is_xml, time::timestamp,
};
use crate::percent;
use hodei_sdk::{Entry, index::Version};
use hyper::{Uri, http::Extensions};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        CommonPrefix, DeleteMarkerEntry, ETag, EncodingType, ListObjectVersionsInput, ListObjectVersionsOutput,
        ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass,
        ObjectVersion, ObjectVersionStorageClass, Owner,
    },
    s3_error,
};

/// Keys of one page, as at S3.
pub(super) const PAGE_MAX: i32 = 1000;
const STANDARD: &str = "STANDARD";

/// How the keys of an answer are written.
#[derive(Clone, Copy)]
pub(super) struct Text {
    is_url: bool,
}

impl Text {
    pub(super) fn of(encoding: Option<&EncodingType>) -> S3Result<Self> {
        match encoding.map(EncodingType::as_str) {
            None | Some("") => Ok(Self { is_url: false }),
            Some(EncodingType::URL) => Ok(Self { is_url: true }),
            Some(found) => {
                Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request: url, found {found}"))
            }
        }
    }

    pub(super) fn key(self, key: &str) -> String {
        if self.is_url { percent::encode(key, true) } else { key.to_owned() }
    }

    pub(super) fn prefixes(self, prefixes: Vec<String>) -> Option<Vec<CommonPrefix>> {
        Some(prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(self.key(prefix)) }).collect())
    }

    /// Refuses keys that the answer could not name: left out or altered they would be taken for others.
    pub(super) fn check<'a>(self, mut keys: impl Iterator<Item = &'a str>) -> S3Result<()> {
        match keys.find(|key| !self.is_url && !key.chars().all(is_xml)) {
            Some(key) => Err(s3_error!(
                InvalidArgument,
                "XML 1.0 has no place for a character of the key {}: list with encoding-type=url.",
                percent::encode(key, true)
            )),
            None => Ok(()),
        }
    }
}

/// Things asked for; more than a page are a page.
pub(super) fn page(asked: Option<i32>) -> S3Result<i32> {
    match asked.unwrap_or(PAGE_MAX) {
        max if max < 0 => Err(s3_error!(InvalidArgument, "max-keys must not be negative")),
        max => Ok(max.min(PAGE_MAX)),
    }
}

pub(super) fn some(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Ceph's `allow-unordered` lets keys come in any order; ours is one. Keys in no order cannot be summed up by a
/// delimiter, so both at once are refused, as there.
fn check_order(uri: &Uri, delimiter: Option<&str>) -> S3Result<()> {
    let is_unordered = uri.query().unwrap_or("").split('&').any(|pair| pair == "allow-unordered=true");
    match is_unordered && delimiter.is_some() {
        true => Err(s3_error!(InvalidArgument, "allow-unordered is not for a listing with a delimiter.")),
        false => Ok(()),
    }
}

fn object(key: String, entry: &Entry) -> Object {
    let class = entry.class.clone().unwrap_or_else(|| STANDARD.into());
    Object {
        key: Some(key),
        e_tag: Some(ETag::Strong(entry.etag.clone())),
        size: Some(entry.size_bytes() as i64),
        last_modified: Some(timestamp(entry.modified_ms)),
        storage_class: Some(ObjectStorageClass::from(class)),
        checksum_algorithm: entry.checksum.as_ref().map(|checksum| vec![digest::name(checksum.algorithm)]),
        checksum_type: entry.checksum.as_ref().map(|checksum| digest::kind(checksum.composite)),
        ..Object::default()
    }
}

/// Whose the objects of a bucket are.
pub(super) struct Owners {
    keyring: Keyring,
    bucket: String,
}

impl Owners {
    /// As an answer shows him; what has no owner is the bucket's owner's.
    pub(super) fn shown(&self, id: Option<&str>) -> Option<Owner> {
        Some(acl::owner(id.unwrap_or(&self.bucket), &self.keyring))
    }

    fn of(&self, entry: &Entry) -> Option<Owner> {
        self.shown(entry.owner.as_deref())
    }
}

impl Objects {
    pub(super) async fn owners(&self, bucket: &str, extensions: &Extensions) -> S3Result<Owners> {
        let settings = self.said(bucket, extensions).await?;
        let main = || self.keyring.main().map(|main| main.id.clone()).unwrap_or_default();
        let bucket = settings.get(name::OWNER).cloned().unwrap_or_else(main);
        Ok(Owners { keyring: self.keyring.clone(), bucket })
    }

    pub(super) async fn list(&self, request: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let (max, text) = (page(input.max_keys)?, Text::of(input.encoding_type.as_ref())?);
        let (prefix, delimiter) = (input.prefix.unwrap_or_default(), some(input.delimiter));
        check_order(&request.uri, delimiter.as_deref())?;
        let marker = input.marker.unwrap_or_default();
        let after = Some(marker.as_str()).filter(|marker| !marker.is_empty());
        let page = self.cloud.list(&input.bucket, &prefix, after, delimiter.as_deref(), max as usize).await;
        let page = page.map_err(fault)?;
        text.check(page.entries.iter().map(|(key, _)| key.as_str()).chain(page.prefixes.iter().map(String::as_str)))?;
        let owners = self.owners(&input.bucket, &request.extensions).await?;
        let contents =
            page.entries.iter().map(|(key, entry)| Object { owner: owners.of(entry), ..object(text.key(key), entry) });
        Ok(S3Response::new(ListObjectsOutput {
            contents: Some(contents.collect()),
            common_prefixes: text.prefixes(page.prefixes),
            is_truncated: Some(page.next.is_some()),
            // S3 gives it only where the last key listed may be another.
            next_marker: page.next.filter(|_| delimiter.is_some()).map(|next| text.key(&next)),
            marker: Some(text.key(&marker)),
            max_keys: Some(max),
            prefix: Some(text.key(&prefix)),
            delimiter: delimiter.map(|delimiter| text.key(&delimiter)),
            encoding_type: input.encoding_type,
            name: Some(input.bucket),
            ..ListObjectsOutput::default()
        }))
    }

    pub(super) async fn list_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let (max, text) = (page(input.max_keys)?, Text::of(input.encoding_type.as_ref())?);
        let (prefix, delimiter) = (input.prefix.unwrap_or_default(), some(input.delimiter));
        check_order(&request.uri, delimiter.as_deref())?;
        let token = input.continuation_token.as_deref().filter(|token| !token.is_empty());
        let token = token.map(decode_token).transpose()?;
        let after = token.as_deref().or(input.start_after.as_deref().filter(|after| !after.is_empty()));
        let page = self.cloud.list(&input.bucket, &prefix, after, delimiter.as_deref(), max as usize).await;
        let page = page.map_err(fault)?;
        text.check(page.entries.iter().map(|(key, _)| key.as_str()).chain(page.prefixes.iter().map(String::as_str)))?;
        let owners = self.owners(&input.bucket, &request.extensions).await?;
        let with_owner = input.fetch_owner == Some(true);
        let contents: Vec<Object> = page
            .entries
            .iter()
            .map(|(key, entry)| Object {
                owner: owners.of(entry).filter(|_| with_owner),
                ..object(text.key(key), entry)
            })
            .collect();
        let count = contents.len() + page.prefixes.len();
        Ok(S3Response::new(ListObjectsV2Output {
            contents: Some(contents),
            common_prefixes: text.prefixes(page.prefixes),
            key_count: Some(count as i32),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.map(|key| base64_simd::URL_SAFE_NO_PAD.encode_to_string(key)),
            continuation_token: input.continuation_token,
            start_after: input.start_after.map(|after| text.key(&after)),
            max_keys: Some(max),
            prefix: Some(text.key(&prefix)),
            delimiter: delimiter.map(|delimiter| text.key(&delimiter)),
            encoding_type: input.encoding_type,
            name: Some(input.bucket),
            ..ListObjectsV2Output::default()
        }))
    }

    pub(super) async fn list_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        let (max, text) = (page(input.max_keys)?, Text::of(input.encoding_type.as_ref())?);
        let (prefix, delimiter) = (input.prefix.unwrap_or_default(), some(input.delimiter));
        let (key, version) = (some(input.key_marker), some(input.version_id_marker));
        if key.is_none() && version.is_some() {
            return Err(s3_error!(InvalidArgument, "A version-id marker cannot be specified without a key marker."));
        }
        let version: Option<Version> = version.as_deref().map(super::version::parse).transpose()?;
        let after = key.as_deref().map(|key| (key, version));
        let page = self.cloud.list_versions(&input.bucket, &prefix, after, delimiter.as_deref(), max as usize).await;
        let page = page.map_err(fault)?;
        text.check(page.entries.iter().map(|one| one.key.as_str()).chain(page.prefixes.iter().map(String::as_str)))?;
        let owners = self.owners(&input.bucket, &request.extensions).await?;
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        for one in page.entries {
            let (key, entry) = (text.key(&one.key), one.entry);
            let (is_latest, version_id) = (Some(one.is_newest), Some(entry.version.to_string()));
            let owner = owners.of(&entry);
            if entry.marker {
                let last_modified = Some(timestamp(entry.modified_ms));
                markers.push(DeleteMarkerEntry { key: Some(key), is_latest, last_modified, owner, version_id });
                continue;
            }
            let object = object(key, &entry);
            versions.push(ObjectVersion {
                key: object.key,
                e_tag: object.e_tag,
                size: object.size,
                last_modified: object.last_modified,
                storage_class: object
                    .storage_class
                    .map(|class| ObjectVersionStorageClass::from(class.as_str().to_owned())),
                checksum_algorithm: object.checksum_algorithm,
                checksum_type: object.checksum_type,
                is_latest,
                owner,
                version_id,
                ..ObjectVersion::default()
            });
        }
        let (next_key, next_version) = page.next.unzip();
        Ok(S3Response::new(ListObjectVersionsOutput {
            versions: Some(versions),
            delete_markers: Some(markers),
            common_prefixes: text.prefixes(page.prefixes),
            is_truncated: Some(next_key.is_some()),
            next_key_marker: next_key.map(|key| text.key(&key)),
            next_version_id_marker: next_version.flatten().map(|version| version.to_string()),
            key_marker: Some(key.map_or_else(String::new, |key| text.key(&key))),
            version_id_marker: version.map(|version| version.to_string()),
            max_keys: Some(max),
            prefix: Some(text.key(&prefix)),
            delimiter: delimiter.map(|delimiter| text.key(&delimiter)),
            encoding_type: input.encoding_type,
            name: Some(input.bucket),
            ..ListObjectVersionsOutput::default()
        }))
    }
}

fn decode_token(token: &str) -> S3Result<String> {
    let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(token).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unordered_is_not_summed_up() {
        let (plain, unordered) =
            (Uri::from_static("/b?prefix=a"), Uri::from_static("/b?prefix=a&allow-unordered=true"));
        assert!(check_order(&plain, Some("/")).is_ok() && check_order(&unordered, None).is_ok());
        assert_eq!(check_order(&unordered, Some("/")).unwrap_err().code().as_str(), "InvalidArgument");
    }

    #[test]
    fn keys_are_encoded_where_that_is_asked() {
        let url = Text::of(Some(&EncodingType::from_static(EncodingType::URL))).unwrap();
        assert_eq!(url.key("foo+1/quux ab/ü"), "foo%2B1/quux%20ab/%C3%BC");
        let plain = Text::of(None).unwrap();
        assert_eq!(plain.key("a b"), "a b");
        assert!(Text::of(Some(&EncodingType::from_static("foo"))).is_err());
        for key in ["a\u{1}", "\u{fffe}", "\0"] {
            assert!(plain.check([key].into_iter()).is_err() && url.check([key].into_iter()).is_ok(), "{key:?}");
        }
        assert!(plain.check(["a\n", "\u{85}", "ü"].into_iter()).is_ok());
        assert_eq!((page(None).unwrap(), page(Some(5000)).unwrap(), page(Some(0)).unwrap()), (1000, 1000, 0));
        assert!(page(Some(-1)).is_err());
        assert_eq!(decode_token(&base64_simd::URL_SAFE_NO_PAD.encode_to_string("ключ")).unwrap(), "ключ");
        assert!(decode_token("!").is_err());
    }
}
