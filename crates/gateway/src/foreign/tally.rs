//! Compare what was read of an object with what its server called it.

use super::Head;
use md5::{Digest as _, Md5};
use std::sync::{Arc, Mutex, PoisonError};

/// Hashes an object's bytes in their order, whoever reads which of them again; clones share it.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<(u64, Md5)>>);

impl Tally {
    /// Takes bytes that begin `offset` bytes into the object; what was taken before is not taken twice.
    pub fn take(&self, offset: u64, bytes: &[u8]) {
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = tally.0.checked_sub(offset).and_then(|skip| usize::try_from(skip).ok());
        if let Some(fresh) = skip.and_then(|skip| bytes.get(skip..)) {
            tally.1.update(fresh);
            tally.0 += fresh.len() as u64;
        }
    }

    /// The etag to keep, once all was read; an error where the bytes are not those the server named.
    pub fn judge(&self, head: &Head) -> Result<String, String> {
        let tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let md5 = hex::encode(tally.1.clone().finalize());
        if tally.0 != head.size_bytes {
            return Err(format!("expected {} bytes, read {}", head.size_bytes, tally.0));
        }
        let is_md5 = head.etag.len() == 32 && head.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        match head.etag.as_str() {
            "" => Ok(md5),
            // Of many pieces, or sealed by the server, it says nothing of the bytes.
            etag if !is_md5 || head.is_sealed => Ok(etag.to_owned()),
            etag if etag.eq_ignore_ascii_case(&md5) => Ok(etag.to_owned()),
            etag => Err(format!("expected bytes with MD5 {etag}, read {md5}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_twice_count_once_and_a_gap_is_noticed() {
        let head = |etag: &str| Head { size_bytes: 10, etag: etag.into(), ..Head::default() };
        let md5 = hex::encode(Md5::digest(b"0123456789"));
        let tally = Tally::default();
        for (offset, bytes) in [(0, &b"01234"[..]), (0, b"012"), (3, b"3456"), (7, b"789")] {
            tally.take(offset, bytes);
        }
        assert_eq!(tally.judge(&head(&md5)), Ok(md5.clone()));
        assert_eq!(tally.judge(&head("")), Ok(md5));
        assert_eq!(tally.judge(&head("abc-2")), Ok("abc-2".into()));
        let other = "0".repeat(32);
        assert!(tally.judge(&head(&other)).unwrap_err().contains("MD5"));
        assert!(tally.judge(&Head { is_sealed: true, ..head(&other) }).is_ok());
        let tally = Tally::default();
        tally.take(0, b"0123");
        tally.take(5, b"56789");
        assert!(tally.judge(&head("")).unwrap_err().contains("read 4"));
    }
}
