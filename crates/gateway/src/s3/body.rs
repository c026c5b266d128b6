//! Carry bodies and headers between S3's requests and the cloud.

use super::{
    checksum::{self, Checked, Declared, Hashed, Mismatch, Verdict},
    digest,
    fault::fault,
};
use bytes::Bytes;
use futures::Stream;
use hodei_sdk::{
    Fault,
    index::Checksum,
    upload::{Finish, Judged},
};
use s3s::{
    S3Error, S3ErrorCode, S3Request, S3Result, TrailingHeaders,
    dto::{PutObjectInput, StreamingBlob, UploadPartInput},
    s3_error,
};
use std::{
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

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
                    wanted: None,
                }
            }
        })+
    };
}
uploaded!(PutObjectInput, UploadPartInput);

/// What the sender declared in headers, and the trailers it promised.
pub(super) fn declared<I: Uploaded>(request: &S3Request<I>) -> S3Result<(Declared, Vec<String>)> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let is_md5 = |text: &str| base64_simd::STANDARD.decode_to_vec(text).is_ok_and(|bytes| bytes.len() == 16);
    if header("content-md5").is_some_and(|text| !is_md5(text)) {
        return Err(s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid: it is base64 of 16 bytes."));
    }
    if let Some((name, _)) =
        checksum::HEADERS.iter().find(|(name, _)| header(name).is_some_and(|text| !checksum::is_value(name, text)))
    {
        return Err(s3_error!(InvalidRequest, "Value for {name} header is invalid."));
    }
    let mut declared = request.input.checksums();
    // With aws-chunked the plain length is in a header of its own; the framework unwraps the chunks.
    let decoded = header("x-amz-decoded-content-length").or_else(|| header("content-length"));
    declared.length = decoded.and_then(|length| length.parse().ok());
    let promised = header("x-amz-trailer").unwrap_or("");
    let promised =
        promised.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect();
    Ok((declared, promised))
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

/// Gives ETag and checksum once the whole body was verified, and undoes the put otherwise.
pub(super) fn finish(verdict: Verdict) -> Finish {
    Box::new(move || match look(&verdict) {
        Some(Ok(hashed)) => Ok(judged(&hashed)),
        Some(Err(mismatch)) => Err(mismatch.to_string()),
        None => Err("the body was not read to its end".into()),
    })
}

/// Etag and checksum of a body that was put at once.
pub(super) fn judged(hashed: &Hashed) -> Judged {
    let checksum = digest::chosen(hashed.checksum.clone());
    let checksum =
        checksum.map(|(algorithm, value)| Checksum { algorithm, value, composite: false, parts: Vec::new() });
    Judged { etag: hex::encode(hashed.md5), checksum }
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
        Some(Err(mismatch @ (Mismatch::Trailer | Mismatch::Malformed(_) | Mismatch::Unnamed(_)))) => {
            s3_error!(InvalidRequest, "{mismatch}")
        }
        Some(Err(mismatch @ Mismatch::Chunk)) => s3_error!(SignatureDoesNotMatch, "{mismatch}"),
        Some(Err(mismatch @ Mismatch::Payload)) => {
            let code = S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
            let mut error = S3Error::with_message(code, mismatch.to_string());
            error.set_status_code(hyper::StatusCode::BAD_REQUEST);
            error
        }
        _ => fault(error),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_was_wrong_with_a_body_has_its_own_code() {
        for (mismatch, code) in [
            (Mismatch::Payload, "XAmzContentSHA256Mismatch"),
            (Mismatch::Chunk, "SignatureDoesNotMatch"),
            (Mismatch::Malformed("x-amz-checksum-crc32"), "InvalidRequest"),
            (Mismatch::Unnamed("x-amz-checksum-sha1".into()), "InvalidRequest"),
            (Mismatch::Broken("a".into()), "IncompleteBody"),
        ] {
            let verdict = Arc::new(Mutex::new(Some(Err(mismatch))));
            assert_eq!(blame(Fault::NoBucket("b".into()), &verdict).code().as_str(), code);
        }
    }
}
