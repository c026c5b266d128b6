//! Read from a request's headers what an object is put with.

use super::{
    access::Said,
    customer::{self, Sent},
    documents::name,
    fault::fault,
    keys::now_ms,
    lock,
    objects::Objects,
    principal::Stamp,
    tagging,
    time::http_date,
};
use hodei_sdk::{Entry, customer::Key, index::Settings, upload::Options};
use hyper::{StatusCode, http::Extensions};
use s3s::{
    S3Error, S3ErrorCode, S3Result,
    dto::{
        CopyObjectInput, CreateMultipartUploadInput, Metadata, ObjectLockLegalHoldStatus, ObjectLockMode,
        PutObjectInput, ServerSideEncryption, StorageClass, Timestamp,
    },
    s3_error,
};
use std::{collections::BTreeMap, sync::Arc};

/// Names of metadata, sorted, as the index keeps them.
pub(super) type Meta = BTreeMap<String, String>;

/// User metadata at S3 is at most 2 KiB.
const META_BYTES_MAX: usize = 2048;
/// Where headers an object is served with are kept: under names that no user can send.
pub(super) const EXPIRES: &str = ":expires";
pub(super) const ENCRYPTION: &str = ":encryption";
/// What S3 answers where no type was sent.
const CONTENT_TYPE: &str = "binary/octet-stream";

/// What the three ways to make an object have in common.
pub(super) struct Described {
    metadata: Option<Metadata>,
    headers: [(&'static str, Option<String>); 4],
    expires: Option<Timestamp>,
    pub(super) content_type: Option<String>,
    tagging: Option<String>,
    lock: (Option<ObjectLockMode>, Option<Timestamp>, Option<ObjectLockLegalHoldStatus>),
    class: Option<StorageClass>,
    redirect: Option<String>,
    encryption: (Option<ServerSideEncryption>, Option<String>),
    customer: Sent,
}

pub(super) trait Describes {
    fn described(&mut self) -> Described;
}

macro_rules! describes {
    ($($input:ty),+) => {
        $(impl Describes for $input {
            fn described(&mut self) -> Described {
                Described {
                    metadata: self.metadata.take(),
                    headers: [
                        (":cache-control", self.cache_control.take()),
                        (":content-disposition", self.content_disposition.take()),
                        (":content-encoding", self.content_encoding.take().map(without_chunked)),
                        (":content-language", self.content_language.take()),
                    ],
                    expires: self.expires.take(),
                    content_type: self.content_type.take(),
                    tagging: self.tagging.take(),
                    lock: (
                        self.object_lock_mode.take(),
                        self.object_lock_retain_until_date.take(),
                        self.object_lock_legal_hold_status.take(),
                    ),
                    class: self.storage_class.take(),
                    redirect: self.website_redirect_location.take(),
                    encryption: (self.server_side_encryption.take(), self.ssekms_key_id.take()),
                    customer: (
                        self.sse_customer_algorithm.take(),
                        self.sse_customer_key.take(),
                        self.sse_customer_key_md5.take(),
                    ),
                }
            }
        })+
    };
}
describes!(PutObjectInput, CreateMultipartUploadInput, CopyObjectInput);

impl Described {
    /// The entry as far as headers say, and the customer's key.
    pub(super) fn entry(self, now_ms: u64) -> S3Result<(Entry, Option<Key>)> {
        check_class(self.class)?;
        let customer = customer::key(self.customer)?;
        let encryption = encryption(self.encryption, customer.is_some())?;
        let mut meta = user(self.metadata)?;
        for (name, value) in self.headers {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                meta.insert(name.into(), value);
            }
        }
        meta.extend(self.expires.map(|expires| (EXPIRES.into(), http_date(&expires))));
        meta.extend(encryption.map(|encryption| (ENCRYPTION.into(), encryption)));
        let entry = Entry {
            content_type: self.content_type.unwrap_or_else(|| CONTENT_TYPE.into()),
            meta,
            tags: self.tagging.as_deref().map(tagging::parse).transpose()?.unwrap_or_default(),
            lock: lock::parse(self.lock, now_ms)?,
            redirect: redirect(self.redirect)?,
            ..Entry::default()
        };
        Ok((entry, customer))
    }
}

impl Objects {
    /// What the bucket of a request says about itself.
    pub(super) async fn said(&self, bucket: &str, extensions: &Extensions) -> S3Result<Arc<Settings>> {
        match Said::of(extensions, bucket) {
            Some(settings) => Ok(settings),
            None => self.cloud.settings(bucket).await.map_err(fault),
        }
    }

    /// What is put with a request's headers, the stamp it has got, and the bucket's own encryption.
    pub(super) async fn describe(
        &self,
        described: Described,
        bucket: &str,
        extensions: &Extensions,
    ) -> S3Result<(Entry, Option<Key>)> {
        let (mut entry, customer) = described.entry(now_ms())?;
        let stamp = extensions.get::<Stamp>().cloned().unwrap_or_default();
        (entry.owner, entry.acl) = (stamp.owner, stamp.acl);
        let settings = self.said(bucket, extensions).await?;
        if customer.is_none() && settings.contains_key(name::ENCRYPTION) {
            entry.meta.entry(ENCRYPTION.into()).or_insert_with(|| ServerSideEncryption::AES256.into());
        }
        Ok((entry, customer))
    }
}

/// How an object is put that `entry` describes.
pub(super) fn options(entry: Entry) -> Options {
    Options {
        content_type: entry.content_type,
        meta: entry.meta,
        tags: entry.tags,
        lock: entry.lock,
        acl: entry.acl,
        owner: entry.owner,
        class: entry.class,
        redirect: entry.redirect,
        ..Options::default()
    }
}

fn user(metadata: Option<Metadata>) -> S3Result<Meta> {
    let named = metadata.unwrap_or_default().into_iter();
    let meta: Meta = named.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let bytes: usize = meta.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > META_BYTES_MAX {
        return Err(s3_error!(MetadataTooLarge, "Your metadata headers exceed the maximum allowed metadata size"));
    }
    Ok(meta)
}

/// `aws-chunked` describes the transfer, not the object.
fn without_chunked(encoding: String) -> String {
    let kept: Vec<&str> =
        encoding.split(',').map(str::trim).filter(|one| !one.is_empty() && *one != "aws-chunked").collect();
    kept.join(", ")
}

/// All is encrypted here: what S3 calls AES256 is always given. A key service of Amazon's there is none.
fn encryption(
    (asked, key_id): (Option<ServerSideEncryption>, Option<String>),
    has_customer: bool,
) -> S3Result<Option<String>> {
    let asked = asked.map(|asked| asked.as_str().to_owned());
    if asked.is_some() && has_customer {
        return Err(s3_error!(
            InvalidArgument,
            "An object is encrypted with the customer's key or with the server's, not both."
        ));
    }
    match (asked.as_deref(), key_id) {
        (None, None) => Ok(None),
        (Some("AES256"), None) => Ok(asked),
        (Some("aws:kms" | "aws:kms:dsse"), _) => {
            Err(s3_error!(NotImplemented, "There is no key management service here: use AES256, or a customer's key."))
        }
        _ => Err(s3_error!(InvalidArgument, "x-amz-server-side-encryption is AES256, without a key's id.")),
    }
}

/// A bucket has one class: another one would be told back and mean nothing.
fn check_class(class: Option<StorageClass>) -> S3Result<()> {
    match class {
        Some(class) if class.as_str() != StorageClass::STANDARD => Err(s3_error!(
            InvalidStorageClass,
            "The storage class you specified is not valid: of classes STANDARD is offered, found {}",
            class.as_str()
        )),
        _ => Ok(()),
    }
}

fn redirect(to: Option<String>) -> S3Result<Option<String>> {
    match to {
        Some(to) if !["/", "http://", "https://"].iter().any(|start| to.starts_with(start)) => {
            let code = S3ErrorCode::Custom("InvalidRedirectLocation".into());
            let mut error = S3Error::with_message(code, "A redirect begins with /, http:// or https://");
            error.set_status_code(StatusCode::BAD_REQUEST);
            Err(error)
        }
        to => Ok(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(input: &mut impl Describes) -> S3Result<(Entry, Option<Key>)> {
        input.described().entry(0)
    }

    fn input() -> PutObjectInput {
        PutObjectInput::builder().bucket("b".into()).key("k".into()).build().unwrap()
    }

    #[test]
    fn headers_become_an_entry() {
        let mut input = PutObjectInput {
            metadata: Some([("Name".to_string(), "ü".to_string())].into_iter().collect()),
            cache_control: Some("no-cache".into()),
            content_encoding: Some("aws-chunked, gzip".into()),
            tagging: Some("a=1&b=%C3%BC".into()),
            storage_class: Some(StorageClass::from_static("STANDARD")),
            website_redirect_location: Some("/there".into()),
            ..input()
        };
        let (entry, customer) = described(&mut input).unwrap();
        assert!(customer.is_none());
        assert_eq!(entry.content_type, CONTENT_TYPE);
        let meta: Vec<_> = entry.meta.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(meta, [(":cache-control", "no-cache"), (":content-encoding", "gzip"), ("name", "ü")]);
        assert_eq!(entry.tags["b"], "ü");
        assert_eq!((entry.class.as_deref(), entry.redirect.as_deref()), (None, Some("/there")));
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let kms =
            PutObjectInput { server_side_encryption: Some(ServerSideEncryption::from_static("aws:kms")), ..input() };
        let class = PutObjectInput { storage_class: Some(StorageClass::from_static("GLACIER")), ..input() };
        let redirect = PutObjectInput { website_redirect_location: Some("there".into()), ..input() };
        let metadata = Some([("n".to_string(), "v".repeat(META_BYTES_MAX))].into_iter().collect());
        let meta = PutObjectInput { metadata, ..input() };
        let codes =
            [kms, class, redirect, meta].map(|mut input| described(&mut input).unwrap_err().code().as_str().to_owned());
        assert_eq!(codes, ["NotImplemented", "InvalidStorageClass", "InvalidRedirectLocation", "MetadataTooLarge"]);
    }
}
