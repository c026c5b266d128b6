//! Carry bodies and headers between S3's requests and the cloud.

use super::{
    checksum::{Checked, Declared, Hashed, Mismatch, Verdict},
    fault::fault,
    objects::Meta,
};
use bytes::Bytes;
use futures::Stream;
use hodei_sdk::{Entry, Fault, upload::{Finish, Judged}};
use s3s::{
    S3Error, S3Request, S3Result, TrailingHeaders,
    dto::{
        CreateMultipartUploadInput, ETag, ETagCondition, Metadata, PutObjectInput, StreamingBlob, UploadPartInput,
    },
    s3_error,
};
use std::{
    ops::Range,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

/// User metadata at S3 is at most 2 KiB.
const META_BYTES_MAX: usize = 2048;

/// An input with a body and its checksums.
pub(super) trait Uploaded {
    fn checksums(&self) -> Declared;
}

macro_rules! uploaded {
    ($($input:ty),+) => {
        $(impl Uploaded for $input {
            fn checksums(&self) -> Declared {
                Declared {
                    length: None,
                    md5: self.content_md5.clone(),
                    crc32: self.checksum_crc32.clone(),
                    crc32c: self.checksum_crc32c.clone(),
                    crc64nvme: self.checksum_crc64nvme.clone(),
                    sha1: self.checksum_sha1.clone(),
                    sha256: self.checksum_sha256.clone(),
                }
            }
        })+
    };
}
uploaded!(PutObjectInput, UploadPartInput);

/// What the sender declared in headers, and the trailers it promised.
pub(super) fn declared<I: Uploaded>(request: &S3Request<I>) -> (Declared, Vec<String>) {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let mut declared = request.input.checksums();
    // With aws-chunked the plain length is in a header of its own; the framework unwraps the chunks.
    let decoded = header("x-amz-decoded-content-length").or_else(|| header("content-length"));
    declared.length = decoded.and_then(|length| length.parse().ok());
    let promised = header("x-amz-trailer").unwrap_or("");
    let promised =
        promised.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect();
    (declared, promised)
}

/// The body with its verdict.
pub(super) fn checked(
    body: Option<StreamingBlob>,
    declared: Declared,
    promised: Vec<String>,
    trailers: Option<TrailingHeaders>,
) -> (Checked, Verdict) {
    let empty = || StreamingBlob::wrap(futures::stream::empty::<Result<Bytes, std::io::Error>>());
    Checked::new(body.unwrap_or_else(empty), declared, promised, trailers)
}

fn look(verdict: &Verdict) -> Option<Result<Hashed, Mismatch>> {
    verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Gives the ETag once the whole body was verified, and undoes the put otherwise.
pub(super) fn finish(verdict: Verdict) -> Finish {
    Box::new(move || match look(&verdict) {
        Some(Ok(hashed)) => Ok(Judged { etag: hex::encode(hashed.md5), checksum: None }),
        Some(Err(mismatch)) => Err(mismatch.to_string()),
        None => Err("the body was not read to its end".into()),
    })
}

/// The hashes of a body that was verified.
pub(super) fn hashed(verdict: &Verdict) -> S3Result<Hashed> {
    match look(verdict) {
        Some(Ok(hashed)) => Ok(hashed),
        _ => Err(s3_error!(InternalError, "the body's hashes are not known")),
    }
}

/// The body's own fault goes before what it caused.
pub(super) fn blame(error: Fault, verdict: &Verdict) -> S3Error {
    match look(verdict) {
        Some(Err(mismatch @ Mismatch::Digest { .. })) => s3_error!(BadDigest, "{mismatch}"),
        Some(Err(mismatch @ (Mismatch::Length { .. } | Mismatch::Broken(_)))) => {
            s3_error!(IncompleteBody, "{mismatch}")
        }
        Some(Err(mismatch @ Mismatch::Trailer)) => s3_error!(InvalidRequest, "{mismatch}"),
        _ => fault(error),
    }
}

/// An input that says what an object is served with.
pub(super) trait Served {
    /// Takes its user metadata, and its headers by name.
    fn served(&mut self) -> (Option<Metadata>, [(&'static str, Option<String>); 4]);
}

macro_rules! served {
    ($($input:ty),+) => {
        $(impl Served for $input {
            fn served(&mut self) -> (Option<Metadata>, [(&'static str, Option<String>); 4]) {
                let headers = [
                    ("cache-control", self.cache_control.take()),
                    ("content-disposition", self.content_disposition.take()),
                    ("content-encoding", self.content_encoding.take().map(without_chunked)),
                    ("content-language", self.content_language.take()),
                ];
                (self.metadata.take(), headers)
            }
        })+
    };
}
served!(PutObjectInput, CreateMultipartUploadInput);

/// User metadata, with headers the object is served with kept under names no user can send.
pub(super) fn meta(input: &mut impl Served) -> S3Result<Meta> {
    let (user, headers) = input.served();
    let mut meta: Meta = user.unwrap_or_default().into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let bytes: usize = meta.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > META_BYTES_MAX {
        return Err(s3_error!(MetadataTooLarge, "Your metadata headers exceed the maximum allowed metadata size"));
    }
    for (name, value) in headers {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            meta.insert(format!(":{name}"), value);
        }
    }
    Ok(meta)
}

/// `aws-chunked` describes the transfer, not the object.
fn without_chunked(encoding: String) -> String {
    let kept: Vec<&str> =
        encoding.split(',').map(str::trim).filter(|one| !one.is_empty() && *one != "aws-chunked").collect();
    kept.join(", ")
}

pub(super) fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

/// If-Match and If-None-Match of a read.
pub(super) fn preconditions(
    entry: &Entry,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    let is = |condition: &ETagCondition| match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(ETag::Strong(tag) | ETag::Weak(tag)) => *tag == entry.etag,
    };
    if if_match.is_some_and(|condition| !is(condition)) {
        return Err(s3_error!(PreconditionFailed, "At least one of the preconditions you specified did not hold."));
    }
    if if_none_match.is_some_and(is) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

/// A stream that is only ever polled, never shared: that makes it `Sync`.
pub(super) struct Exclusive<S>(Mutex<S>);

impl<S> Exclusive<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Mutex::new(stream))
    }
}

impl<S: Stream + Unpin> Stream for Exclusive<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(self.0.get_mut().unwrap_or_else(PoisonError::into_inner)).poll_next(cx)
    }
}
