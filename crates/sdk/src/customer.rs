//! Put an object under a key that only its customer holds.
//!
//! The object's own key is wrapped by a key made of the bucket's and the customer's: who has one of the two opens
//! nothing. The customer's key is kept nowhere; the entry keeps its MD5, as S3 answers it.

use crate::fault::Fault;
use hodei_storage::{index, seal::Secret};
use zeroize::Zeroizing;

/// A customer's key, for one request.
#[derive(Clone)]
pub struct Key {
    key: Zeroizing<[u8; 32]>,
    md5: [u8; 16],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// `md5` is what the customer will recognise the key by.
    pub fn new(key: [u8; 32], md5: [u8; 16]) -> Self {
        Self { key: Zeroizing::new(key), md5 }
    }

    pub fn md5(&self) -> [u8; 16] {
        self.md5
    }

    /// What the entry keeps of it; `salt` is fresh randomness.
    pub(crate) fn mark(&self, salt: [u8; 16]) -> index::Customer {
        index::Customer { md5: self.md5, salt }
    }

    fn secret(&self, bucket: &Secret, salt: &[u8; 16]) -> Secret {
        let mut id = Zeroizing::new([0; 48]);
        id[..32].copy_from_slice(&*self.key);
        id[32..].copy_from_slice(salt);
        bucket.derive("hodei 2026-11 customer key v1", &*id)
    }
}

/// What wraps the keys of an object's parts.
pub(crate) fn wrapping(
    bucket: Secret,
    mark: Option<&index::Customer>,
    key: Option<&Key>,
    name: &str,
) -> Result<Secret, Fault> {
    match (mark, key) {
        (None, None) => Ok(bucket),
        (Some(mark), Some(key)) if mark.md5 == key.md5 => Ok(key.secret(&bucket, &mark.salt)),
        _ => Err(Fault::Customer(name.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_keys_are_needed() {
        let bucket = Secret::new([1; 32]);
        let key = Key::new([2; 32], [3; 16]);
        let mark = key.mark([4; 16]);
        let secret = wrapping(bucket.clone(), Some(&mark), Some(&key), "a").unwrap();
        let wrapped = secret.wrap(&[5; 16], &Secret::new([6; 32]));
        assert!(bucket.unwrap(&[5; 16], &wrapped).is_err());
        // One that claims to be it.
        let other = wrapping(bucket.clone(), Some(&mark), Some(&Key::new([9; 32], [3; 16])), "a").unwrap();
        assert!(other.unwrap(&[5; 16], &wrapped).is_err());
        assert!(matches!(wrapping(bucket.clone(), Some(&mark), None, "a"), Err(Fault::Customer(_))));
        assert!(matches!(wrapping(bucket.clone(), None, Some(&key), "a"), Err(Fault::Customer(_))));
        assert_eq!(wrapping(bucket.clone(), None, None, "a").unwrap(), bucket);
    }
}
