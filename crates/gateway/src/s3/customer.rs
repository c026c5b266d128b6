//! Take a customer's key from a request: without it, what was put with it opens to nobody.

use hodei_sdk::{customer::Key, index::Customer};
use md5::{Digest as _, Md5};
use s3s::{S3Result, s3_error};

const ALGORITHM: &str = "AES256";

/// Algorithm, key and its MD5 as they were sent, both in base64.
pub(super) type Sent = (Option<String>, Option<String>, Option<String>);

/// The key, if all of it was sent and fits together.
pub(super) fn key((algorithm, key, md5): Sent) -> S3Result<Option<Key>> {
    let (key, md5) = match (algorithm.as_deref(), key, md5) {
        (None, None, None) => return Ok(None),
        (Some(ALGORITHM), Some(key), Some(md5)) => (key, md5),
        (Some(other), ..) if other != ALGORITHM => {
            return Err(s3_error!(InvalidEncryptionAlgorithmError, "A customer's key is for AES256, found {other}"));
        }
        _ => {
            return Err(s3_error!(InvalidArgument, "A customer's key is sent with its algorithm and its MD5."));
        }
    };
    let decode = |text: &str| base64_simd::STANDARD.decode_to_vec(text).ok();
    let key: Option<[u8; 32]> = decode(&key).and_then(|key| key.try_into().ok());
    let key = key.ok_or_else(|| s3_error!(InvalidArgument, "A customer's key is 32 bytes in base64."))?;
    let found: [u8; 16] = Md5::digest(key).into();
    if decode(&md5).as_deref() != Some(&found) {
        return Err(s3_error!(
            InvalidArgument,
            "The calculated MD5 hash of the key did not match the hash that was provided."
        ));
    }
    Ok(Some(Key::new(key, found)))
}

/// Algorithm and MD5 for the answer's headers.
pub(super) fn told(mark: Option<&Customer>) -> (Option<String>, Option<String>) {
    match mark {
        Some(mark) => (Some(ALGORITHM.into()), Some(base64_simd::STANDARD.encode_to_string(mark.md5))),
        None => (None, None),
    }
}

/// Refuses a request whose key is not that of the object, or of the upload.
pub(super) fn check(mark: Option<&Customer>, key: Option<&Key>) -> S3Result<()> {
    match (mark, key) {
        (None, None) => Ok(()),
        (Some(mark), Some(key)) if mark.md5 == key.md5() => Ok(()),
        (Some(_), None) => Err(s3_error!(
            InvalidRequest,
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."
        )),
        (Some(_), Some(_)) => Err(s3_error!(InvalidRequest, "This is not the key the object was stored with.")),
        (None, Some(_)) => {
            Err(s3_error!(InvalidRequest, "The encryption parameters are not applicable to this object."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(algorithm: &str, bytes: usize, md5: Option<&str>) -> Sent {
        let key = vec![7; bytes];
        let md5 = md5.map_or_else(|| base64_simd::STANDARD.encode_to_string(Md5::digest(&key)), Into::into);
        (Some(algorithm.into()), Some(base64_simd::STANDARD.encode_to_string(key)), Some(md5))
    }

    #[test]
    fn a_key_is_whole_or_refused() {
        assert!(key((None, None, None)).unwrap().is_none());
        let good = key(sent("AES256", 32, None)).unwrap().unwrap();
        for bad in [
            sent("AES128", 32, None),
            sent("AES256", 31, None),
            sent("AES256", 32, Some("AAAAAAAAAAAAAAAAAAAAAA==")),
            (Some("AES256".into()), None, None),
            (None, sent("AES256", 32, None).1, None),
        ] {
            assert!(key(bad.clone()).is_err(), "{bad:?}");
        }
        let mark = Customer { md5: good.md5(), salt: [0; 16] };
        assert!(check(Some(&mark), Some(&good)).is_ok());
        assert!(check(Some(&mark), None).is_err());
        assert!(check(None, Some(&good)).is_err());
        assert!(check(Some(&mark), Some(&Key::new([8; 32], [8; 16]))).is_err());
    }
}
