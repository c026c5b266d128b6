//! Refuse checksums that nobody here verifies.
//!
//! The framework passes over the names it does not know: a wrong value of such an algorithm would be answered as if it
//! had been verified. So every header, trailer and word that names a checksum names one of those that are.

use super::{checksum, refusal::Refusal};
use hyper::HeaderMap;

/// What headers of checksums begin with.
pub(super) const PREFIX: &str = "x-amz-checksum-";
/// Headers that begin so and hold no value of a checksum.
const BESIDE: [&str; 3] = ["x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"];
/// Headers that say by which algorithm.
const NAMES: [&str; 2] = ["x-amz-sdk-checksum-algorithm", "x-amz-checksum-algorithm"];
const TRAILER: &str = "x-amz-trailer";
/// As clients write them.
const OFFERED: &str = "CRC32, CRC32C, CRC64NVME, SHA1, SHA256";

fn is_verified(header: &str) -> bool {
    checksum::HEADERS.iter().any(|(name, _)| *name == header)
}

/// Whether all checksums a request speaks of are verified.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Refusal> {
    let refused = |what: String| {
        let message = format!("{what} is not supported. Please try again with any of the valid types: {OFFERED}.");
        Err(Refusal::bad("InvalidRequest", message))
    };
    for name in headers.keys().map(|name| name.as_str()).filter(|name| name.starts_with(PREFIX)) {
        if !is_verified(name) && !BESIDE.contains(&name) {
            return refused(format!("The checksum in the header {name}"));
        }
    }
    for value in NAMES.iter().flat_map(|name| headers.get_all(*name)) {
        let text = String::from_utf8_lossy(value.as_bytes());
        if !is_verified(&format!("{PREFIX}{}", text.trim().to_ascii_lowercase())) {
            return refused(format!("The checksum algorithm {:?}", text.trim()));
        }
    }
    for value in headers.get_all(TRAILER) {
        let text = String::from_utf8_lossy(value.as_bytes());
        let mut names = text.split(',').map(|name| name.trim().to_ascii_lowercase());
        if let Some(name) = names.find(|name| !name.is_empty() && !is_verified(name)) {
            return refused(format!("The trailer {name:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn code(name: &'static str, value: &'static str) -> Option<&'static str> {
        let headers = [(HeaderName::from_static(name), HeaderValue::from_static(value))].into_iter().collect();
        check(&headers).err().map(|refusal| refusal.code)
    }

    #[test]
    fn only_what_is_verified_is_taken() {
        for (name, value) in [
            ("x-amz-checksum-sha512", "AAAA"),
            ("x-amz-checksum-md5", "AAAA"),
            ("x-amz-checksum-xxhash3", "AAAA"),
            ("x-amz-checksum-xxhash64", "AAAA"),
            ("x-amz-checksum-xxhash128", "AAAA"),
            ("x-amz-checksum-bogus", "AAAA"),
            ("x-amz-checksum-", "AAAA"),
            ("x-amz-sdk-checksum-algorithm", "SHA512"),
            ("x-amz-sdk-checksum-algorithm", ""),
            ("x-amz-checksum-algorithm", "XXHASH3"),
            ("x-amz-checksum-algorithm", "MODE"),
            ("x-amz-trailer", "x-amz-checksum-sha512"),
            ("x-amz-trailer", "x-amz-checksum-crc32, x-amz-checksum-bogus"),
            ("x-amz-trailer", "x-amz-meta-a"),
        ] {
            assert_eq!(code(name, value), Some("InvalidRequest"), "{name}: {value}");
        }
        for (name, value) in [
            ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
            ("x-amz-checksum-mode", "ENABLED"),
            ("x-amz-checksum-type", "COMPOSITE"),
            ("x-amz-sdk-checksum-algorithm", "CRC32"),
            ("x-amz-sdk-checksum-algorithm", "crc64nvme"),
            ("x-amz-checksum-algorithm", "SHA256"),
            ("x-amz-trailer", "x-amz-checksum-crc32c"),
            ("x-amz-trailer", " X-Amz-Checksum-SHA1 ,"),
            ("x-amz-meta-checksum-sha512", "AAAA"),
            ("content-type", "text/plain"),
        ] {
            assert_eq!(code(name, value), None, "{name}: {value}");
        }
    }
}
