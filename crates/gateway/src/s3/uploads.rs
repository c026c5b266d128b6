//! Keep uploads in progress, and for a while what became of them.
//!
//! Parts are stored as they come; which ones belong to an upload is kept in memory: after a restart of the
//! gateway an unfinished upload is answered `NoSuchUpload` and begun again, as clients do.

use hodei_sdk::{
    Entry,
    index::{Customer, Digest},
    upload::Sent,
};
use s3s::{
    S3Result,
    dto::{Checksum, ServerSideEncryption},
    s3_error,
};
use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Unfinished uploads of one gateway; each holds some hundred bytes a part.
const UPLOADS_MAX: usize = 1000;
/// Whose client did not hear that its upload was completed asks again; not much later.
const MADE_MAX: usize = 1000;
/// An upload nobody touched for this long is forgotten.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// A stored part of an upload.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) sent: Sent,
    pub(super) md5: [u8; 16],
    pub(super) checksum: Option<(Digest, String)>,
    pub(super) modified_ms: u64,
}

/// An upload in progress.
#[derive(Clone)]
pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: String,
    /// What the object will be, but for its parts.
    pub(super) entry: Entry,
    /// A principal's id.
    pub(super) initiator: Option<String>,
    /// Of the customer's key all its parts are put with.
    pub(super) mark: Option<Customer>,
    /// The checksum its client chose, and whether that of the whole is composite.
    pub(super) checksum: Option<(Digest, bool)>,
    pub(super) begun_ms: u64,
    pub(super) parts: BTreeMap<u32, Part>,
}

/// What became of an upload.
#[derive(Clone, Debug, Default)]
pub(super) struct Made {
    pub(super) etag: String,
    pub(super) version_id: Option<String>,
    /// As the answer names the server's.
    pub(super) encryption: Option<ServerSideEncryption>,
    pub(super) checksum: Checksum,
}

struct Done {
    id: String,
    bucket: String,
    key: String,
    made: Made,
}

#[derive(Default)]
struct Inner {
    open: BTreeMap<String, (Upload, Instant)>,
    done: VecDeque<Done>,
}

/// Uploads of one gateway.
#[derive(Clone, Default)]
pub(super) struct Uploads(Arc<Mutex<Inner>>);

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the upload's id.
    pub(super) fn begin(&self, upload: Upload) -> S3Result<String> {
        let mut inner = self.lock();
        inner.open.retain(|_, (_, touched)| touched.elapsed() < IDLE);
        if inner.open.len() >= UPLOADS_MAX {
            return Err(s3_error!(SlowDown, "{UPLOADS_MAX} uploads are unfinished: complete or abort some."));
        }
        // Random keys of the process's own hasher; an id is bound to its bucket and key besides.
        let id = format!("{:016x}{:016x}", RandomState::new().hash_one(1_u8), RandomState::new().hash_one(2_u8));
        inner.open.insert(id.clone(), (upload, Instant::now()));
        Ok(id)
    }

    /// Bytes of parts that were put into a bucket's unfinished uploads.
    pub(super) fn bytes(&self, bucket: &str) -> u64 {
        let inner = self.lock();
        let open = inner.open.values().filter(|(upload, _)| upload.bucket == bucket);
        open.flat_map(|(upload, _)| upload.parts.values()).map(|part| part.sent.part.size_bytes).sum()
    }

    pub(super) fn with<T>(&self, id: &str, bucket: &str, key: &str, act: impl FnOnce(&mut Upload) -> T) -> S3Result<T> {
        let mut inner = self.lock();
        match inner.open.get_mut(id).filter(|(upload, _)| upload.bucket == bucket && upload.key == key) {
            Some((upload, touched)) => {
                *touched = Instant::now();
                Ok(act(upload))
            }
            None => Err(s3_error!(NoSuchUpload, "The upload does not exist: it was completed, aborted or forgotten.")),
        }
    }

    /// What its parts are put with: the customer's key, and the checksum.
    pub(super) fn terms(
        &self,
        id: &str,
        bucket: &str,
        key: &str,
    ) -> S3Result<(Option<Customer>, Option<(Digest, bool)>)> {
        self.with(id, bucket, key, |upload| (upload.mark, upload.checksum))
    }

    /// Forgets an upload; the shards of its parts are released.
    pub(super) fn abort(&self, id: &str, bucket: &str, key: &str) -> S3Result<()> {
        self.with(id, bucket, key, |_| ())?;
        self.lock().open.remove(id);
        Ok(())
    }

    /// Forgets uploads of a bucket that are over by key and time of beginning; how many.
    pub(super) fn abort_those(&self, bucket: &str, is_over: impl Fn(&str, u64) -> bool) -> usize {
        let mut inner = self.lock();
        let before = inner.open.len();
        inner.open.retain(|_, (upload, _)| upload.bucket != bucket || !is_over(&upload.key, upload.begun_ms));
        before - inner.open.len()
    }

    /// Forgets those of a bucket that is gone.
    pub(super) fn forget(&self, bucket: &str) {
        let mut inner = self.lock();
        inner.open.retain(|_, (upload, _)| upload.bucket != bucket);
        inner.done.retain(|done| done.bucket != bucket);
    }

    /// Ends an upload that an object was made of.
    pub(super) fn end(&self, id: &str, made: Made) {
        let mut inner = self.lock();
        let Some((upload, _)) = inner.open.remove(id) else { return };
        if inner.done.len() >= MADE_MAX {
            inner.done.pop_front();
        }
        inner.done.push_back(Done { id: id.to_owned(), bucket: upload.bucket, key: upload.key, made });
    }

    /// What became of it, if an object was made of it a while ago.
    pub(super) fn made(&self, id: &str, bucket: &str, key: &str) -> Option<Made> {
        let inner = self.lock();
        let done = inner.done.iter().find(|done| done.id == id && done.bucket == bucket && done.key == key);
        done.map(|done| done.made.clone())
    }

    /// Those of a bucket, by key and then by when they began, each with its id.
    pub(super) fn of(&self, bucket: &str) -> Vec<(String, Upload)> {
        let inner = self.lock();
        let all = inner.open.iter().filter(|(_, (upload, _))| upload.bucket == bucket);
        let mut found: Vec<_> =
            all.map(|(id, (upload, _))| (id.clone(), Upload { parts: BTreeMap::new(), ..upload.clone() })).collect();
        found.sort_by(|(a_id, a), (b_id, b)| (&a.key, a.begun_ms, a_id).cmp(&(&b.key, b.begun_ms, b_id)));
        found
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn upload(key: &str, begun_ms: u64) -> Upload {
        Upload {
            bucket: "b".into(),
            key: key.into(),
            entry: Entry::default(),
            initiator: None,
            mark: None,
            checksum: None,
            begun_ms,
            parts: BTreeMap::new(),
        }
    }

    #[test]
    fn an_upload_is_its_buckets_and_keys_alone() {
        let uploads = Uploads::default();
        let id = uploads.begin(upload("k", 1)).unwrap();
        assert!(uploads.terms(&id, "b", "k").is_ok());
        assert!(uploads.terms(&id, "b", "other").is_err());
        assert!(uploads.abort(&id, "c", "k").is_err());
        uploads.end(&id, Made { etag: "e".into(), ..Made::default() });
        assert_eq!(uploads.terms(&id, "b", "k").unwrap_err().code().as_str(), "NoSuchUpload");
        assert_eq!(uploads.made(&id, "b", "k").unwrap().etag, "e");
        assert!(uploads.made(&id, "b", "other").is_none());
        uploads.forget("b");
        assert!(uploads.made(&id, "b", "k").is_none(), "another bucket of the name is another bucket");
    }

    #[test]
    fn uploads_are_in_order_and_not_too_many() {
        let uploads = Uploads::default();
        for (key, begun_ms) in [("k", 2), ("a", 3), ("k", 1)] {
            uploads.begin(upload(key, begun_ms)).unwrap();
        }
        let found: Vec<_> = uploads.of("b").into_iter().map(|(_, upload)| (upload.key, upload.begun_ms)).collect();
        assert_eq!(found, [("a".to_string(), 3), ("k".to_string(), 1), ("k".to_string(), 2)]);
        assert_eq!(uploads.abort_those("b", |key, begun_ms| key == "k" && begun_ms < 2), 1);
        assert_eq!(uploads.abort_those("other", |_, _| true), 0);
        for _ in 2..UPLOADS_MAX {
            uploads.begin(upload("k", 0)).unwrap();
        }
        assert_eq!(uploads.begin(upload("k", 0)).unwrap_err().code().as_str(), "SlowDown");
    }
}
