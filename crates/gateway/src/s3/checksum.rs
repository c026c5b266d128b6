//! Check a body against every checksum its sender declared, while it streams.
//!
//! The framework parses `Content-MD5` and `x-amz-checksum-*` and verifies neither; today's SDKs send a CRC as a
//! trailer, known only when the body has ended. So the body passes through [`Checked`], whose last item is an
//! error when anything differs: an upload that reads to the end has been verified.

use super::algorithm::PREFIX;
use bytes::Bytes;
use futures::Stream;
use hodei_sdk::index::Digest;
use md5::{Digest as _, Md5};
use s3s::{
    TrailingHeaders,
    checksum::ChecksumHasher,
    crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256},
    dto::{Checksum, StreamingBlob},
};
use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

/// What the sender said the body hashes to; all base64 as on the wire.
#[derive(Clone, Debug, Default)]
pub(super) struct Declared {
    pub(super) length: Option<u64>,
    pub(super) md5: Option<String>,
    pub(super) crc32: Option<String>,
    pub(super) crc32c: Option<String>,
    pub(super) crc64nvme: Option<String>,
    pub(super) sha1: Option<String>,
    pub(super) sha256: Option<String>,
    /// To be computed whether or not a value was sent.
    pub(super) wanted: Option<Digest>,
}

/// What the body did hash to, known once it has been read to its end.
#[derive(Clone, Debug)]
pub(super) struct Hashed {
    /// Plain MD5, 16 bytes: the ETag of a single-part object and an input of a multipart's.
    pub(super) md5: [u8; 16],
    /// The algorithms that were asked for, for the answer's headers.
    pub(super) checksum: Checksum,
}

/// Why a body was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Mismatch {
    #[error("the {algorithm} you specified ({expected}) did not match what we received ({found})")]
    Digest { algorithm: &'static str, expected: String, found: String },
    #[error("the body has {found} bytes, but its Content-Length says {expected}")]
    Length { expected: u64, found: u64 },
    #[error("the body promised a trailing checksum and ended without one")]
    Trailer,
    #[error("Value for {0} trailing header is invalid.")]
    Malformed(&'static str),
    #[error("the trailer {0} was not named in x-amz-trailer")]
    Unnamed(String),
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    Payload,
    #[error("The signature of a chunk of the body does not match: it was altered, or signed with another key.")]
    Chunk,
    #[error("the body broke off: {0}")]
    Broken(String),
}

impl Mismatch {
    /// What the framework says of a body that it takes apart itself; its errors have no names outside of it.
    fn of(error: &str) -> Self {
        if error.ends_with("UploadStreamError: Sha256Mismatch") {
            Self::Payload
        } else if error.ends_with("AwsChunkedStreamError: SignatureMismatch") {
            Self::Chunk
        } else {
            Self::Broken(error.to_owned())
        }
    }
}

/// Where the verdict of a body is found after it ended.
pub(super) type Verdict = Arc<Mutex<Option<Result<Hashed, Mismatch>>>>;

/// A body that verifies itself.
pub(super) struct Checked {
    body: StreamingBlob,
    declared: Declared,
    trailers: Option<TrailingHeaders>,
    promised: Vec<String>,
    hasher: Option<(Md5, ChecksumHasher)>,
    length: u64,
    verdict: Verdict,
}

impl Checked {
    /// `promised` are the header names in `x-amz-trailer`: each must arrive.
    pub(super) fn new(
        body: StreamingBlob,
        declared: Declared,
        promised: Vec<String>,
        trailers: Option<TrailingHeaders>,
    ) -> (Self, Verdict) {
        let wanted = declared.wanted;
        let wants = |name: &str, header: &Option<String>, digest| {
            header.is_some() || wanted == Some(digest) || promised.iter().any(|trailer| trailer == name)
        };
        let hasher = ChecksumHasher {
            crc32: wants(CRC32, &declared.crc32, Digest::Crc32).then(Crc32::new),
            crc32c: wants(CRC32C, &declared.crc32c, Digest::Crc32c).then(Crc32c::new),
            sha1: wants(SHA1, &declared.sha1, Digest::Sha1).then(Sha1::new),
            sha256: wants(SHA256, &declared.sha256, Digest::Sha256).then(Sha256::new),
            crc64nvme: wants(CRC64, &declared.crc64nvme, Digest::Crc64Nvme).then(Crc64Nvme::new),
        };
        let verdict = Verdict::default();
        let hasher = Some((Md5::new(), hasher));
        (Self { body, declared, trailers, promised, hasher, length: 0, verdict: verdict.clone() }, verdict)
    }

    fn judge(&mut self) -> Result<Hashed, Mismatch> {
        let (md5, hasher) = self.hasher.take().ok_or(Mismatch::Trailer)?;
        if let Some(expected) = self.declared.length
            && expected != self.length
        {
            return Err(Mismatch::Length { expected, found: self.length });
        }
        let md5: [u8; 16] = md5.finalize().into();
        let checksum = hasher.finalize();
        let mut declared = self.declared.clone();
        for name in &self.promised {
            let (slot, known) = match name.as_str() {
                CRC32 => (&mut declared.crc32, CRC32),
                CRC32C => (&mut declared.crc32c, CRC32C),
                CRC64 => (&mut declared.crc64nvme, CRC64),
                SHA1 => (&mut declared.sha1, SHA1),
                SHA256 => (&mut declared.sha256, SHA256),
                _ => continue,
            };
            let sent = self.trailers.as_ref().and_then(|trailers| {
                trailers.read(|map| map.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)).flatten()
            });
            let sent = sent.ok_or(Mismatch::Trailer)?;
            // Said twice, in a header and after the body, it is said alike.
            if !is_value(known, &sent) || slot.as_ref().is_some_and(|said| *said != sent) {
                return Err(Mismatch::Malformed(known));
            }
            *slot = Some(sent);
        }
        if let Some(name) = self.unnamed() {
            return Err(Mismatch::Unnamed(name));
        }
        same("Content-MD5", &declared.md5, Some(base64_simd::STANDARD.encode_to_string(md5)))?;
        same("CRC32", &declared.crc32, checksum.checksum_crc32.clone())?;
        same("CRC32C", &declared.crc32c, checksum.checksum_crc32c.clone())?;
        same("CRC64NVME", &declared.crc64nvme, checksum.checksum_crc64nvme.clone())?;
        same("SHA1", &declared.sha1, checksum.checksum_sha1.clone())?;
        same("SHA256", &declared.sha256, checksum.checksum_sha256.clone())?;
        Ok(Hashed { md5, checksum })
    }

    /// A checksum after the body that nobody spoke of before it: it was not computed.
    fn unnamed(&self) -> Option<String> {
        let is_open = |name: &&str| name.starts_with(PREFIX) && !self.promised.iter().any(|known| known == name);
        let trailers = self.trailers.as_ref()?;
        trailers.read(|map| map.keys().map(|name| name.as_str()).find(is_open).map(str::to_owned)).flatten()
    }

    fn settle(&self, verdict: Result<Hashed, Mismatch>) {
        *self.verdict.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(verdict);
    }
}

const CRC32: &str = "x-amz-checksum-crc32";
const CRC32C: &str = "x-amz-checksum-crc32c";
const CRC64: &str = "x-amz-checksum-crc64nvme";
const SHA1: &str = "x-amz-checksum-sha1";
const SHA256: &str = "x-amz-checksum-sha256";

/// The headers of checksums, and how many bytes each has.
pub(super) const HEADERS: [(&str, usize); 5] = [(CRC32, 4), (CRC32C, 4), (CRC64, 8), (SHA1, 20), (SHA256, 32)];

/// Whether a value is base64 of as many bytes as its algorithm makes.
pub(super) fn is_value(header: &str, text: &str) -> bool {
    let bytes = HEADERS.iter().find(|(name, _)| *name == header).map(|(_, bytes)| *bytes);
    bytes.is_none_or(|bytes| base64_simd::STANDARD.decode_to_vec(text).is_ok_and(|value| value.len() == bytes))
}

fn same(algorithm: &'static str, expected: &Option<String>, found: Option<String>) -> Result<(), Mismatch> {
    match expected {
        Some(expected) if Some(expected) != found.as_ref() => Err(Mismatch::Digest {
            algorithm,
            expected: expected.clone(),
            found: found.unwrap_or_else(|| "none".into()),
        }),
        _ => Ok(()),
    }
}

impl Stream for Checked {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.hasher.is_none() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(bytes))) => {
                self.length += bytes.len() as u64;
                if let Some((md5, hasher)) = &mut self.hasher {
                    md5.update(&bytes);
                    hasher.update(&bytes);
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.hasher = None;
                self.settle(Err(Mismatch::of(&error.to_string())));
                Poll::Ready(Some(Err(std::io::Error::other(error.to_string()))))
            }
            Poll::Ready(None) => {
                let verdict = self.judge();
                let end = verdict.as_ref().err().map(|mismatch| Err(std::io::Error::other(mismatch.to_string())));
                self.settle(verdict);
                Poll::Ready(end)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Checked, Declared, Mismatch};
    use bytes::Bytes;
    use futures::StreamExt as _;
    use s3s::dto::StreamingBlob;

    fn body(parts: &[&'static str]) -> StreamingBlob {
        let parts: Vec<_> =
            parts.iter().map(|part| Ok::<_, std::io::Error>(Bytes::from_static(part.as_bytes()))).collect();
        StreamingBlob::wrap(futures::stream::iter(parts))
    }

    fn read(body: StreamingBlob, declared: Declared, promised: Vec<String>) -> (usize, bool, super::Verdict) {
        let (mut checked, verdict) = Checked::new(body, declared, promised, None);
        futures::executor::block_on(async move {
            let (mut bytes, mut failed) = (0, false);
            while let Some(item) = checked.next().await {
                match item {
                    Ok(part) => bytes += part.len(),
                    Err(_) => failed = true,
                }
            }
            (bytes, failed, verdict)
        })
    }

    #[test]
    fn a_body_that_matches_ends_quietly_and_knows_its_md5() {
        let declared = Declared { md5: Some("XUFAKrxLKna5cZ2REBfFkg==".into()), length: Some(5), ..Default::default() };
        let (bytes, failed, verdict) = read(body(&["he", "llo"]), declared, vec![]);
        assert_eq!((bytes, failed), (5, false));
        let hashed = verdict.lock().unwrap().clone().unwrap().unwrap();
        assert_eq!(hex::encode(hashed.md5), "5d41402abc4b2a76b9719d911017c592");
    }

    #[test]
    fn each_wrong_declaration_is_an_error_at_the_end() {
        for declared in [
            Declared { md5: Some("AAAAAAAAAAAAAAAAAAAAAA==".into()), ..Default::default() },
            Declared { crc32: Some("AAAAAA==".into()), ..Default::default() },
            Declared { crc32c: Some("AAAAAA==".into()), ..Default::default() },
            Declared { crc64nvme: Some("AAAAAAAAAAA=".into()), ..Default::default() },
            Declared { sha256: Some("AAAA".into()), ..Default::default() },
            Declared { length: Some(6), ..Default::default() },
        ] {
            let (_, failed, verdict) = read(body(&["hello"]), declared.clone(), vec![]);
            assert!(failed, "{declared:?} was accepted");
            assert!(verdict.lock().unwrap().clone().unwrap().is_err());
        }
    }

    #[test]
    fn what_the_framework_found_keeps_its_name() {
        for (said, is) in [
            ("UploadStreamError: Sha256Mismatch", "Payload"),
            ("AwsChunkedStreamError: SignatureMismatch", "Chunk"),
            ("UploadStreamError: Incomplete", "Broken(\"UploadStreamError: Incomplete\")"),
        ] {
            let failing = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other(said))]);
            let (_, failed, verdict) = read(StreamingBlob::wrap(failing), Declared::default(), vec![]);
            assert!(failed);
            assert_eq!(format!("{:?}", verdict.lock().unwrap().clone().unwrap().unwrap_err()), is);
        }
        assert!(super::is_value(super::CRC32, "AAAAAA==") && !super::is_value(super::CRC32, "AAAA"));
        assert!(!super::is_value(super::SHA256, "AAAA") && !super::is_value(super::SHA1, "?"));
    }

    #[test]
    fn a_promised_trailer_that_never_came_is_refused() {
        let (_, failed, verdict) = read(body(&["hello"]), Declared::default(), vec!["x-amz-checksum-crc32".into()]);
        assert!(failed);
        assert!(matches!(verdict.lock().unwrap().clone(), Some(Err(Mismatch::Trailer))));
    }
}
