//! Carry one object from one side to the other.

use super::{
    compare::{Item, What},
    place::{Place, foreign_fault},
};
use crate::{
    data::pieces_from,
    fault::{self, Fault, Result},
    file::Copy,
    kind, name,
    session::sdk_fault,
};
use bytes::Bytes;
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use hodei_gateway::foreign::{ForeignError, Object, Server, Tally};
use hodei_sdk::{
    Entry, Local, mtime,
    upload::{Judged, Options},
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Told of bytes as they are there.
pub(crate) type Told = Arc<dyn Fn(u64) + Send + Sync>;

/// A sync's two sides, and what carries between them.
pub(super) struct Way<'a> {
    pub(super) cloud: &'a Local,
    pub(super) server: Option<&'a Server>,
    pub(super) from: &'a Place,
    pub(super) to: &'a Place,
}

impl Way<'_> {
    /// Carries what `name` is on the source's side; `is_folder` where other names lie below it.
    pub(super) async fn carry(&self, name: &str, item: &Item, is_folder: bool, told: Told) -> Result<()> {
        match (self.to, &item.what) {
            (Place::Cloud { bucket, prefix }, What::File(path)) => {
                self.up(bucket, &format!("{prefix}{name}"), path, item, told).await
            }
            (Place::Cloud { bucket, prefix }, What::Object(entry)) => {
                let Place::Cloud { bucket: from, prefix: above } = self.from else { return Err(unfit(self)) };
                let (from, to) =
                    ((from.as_str(), format!("{above}{name}")), (bucket.as_str(), format!("{prefix}{name}")));
                self.across(from, to, entry, told).await
            }
            (Place::Cloud { bucket, prefix }, What::Foreign) => {
                let Place::Foreign { bucket: from, prefix: above } = self.from else { return Err(unfit(self)) };
                self.over(from, &format!("{above}{name}"), item, bucket, &format!("{prefix}{name}"), told).await
            }
            (Place::Folder(root), What::Object(entry)) => {
                let Place::Cloud { bucket, prefix } = self.from else { return Err(unfit(self)) };
                let key = format!("{prefix}{name}");
                down(self.cloud, bucket, &key, entry, &root.join(name::encode(name, is_folder)), told).await
            }
            _ => Err(unfit(self)),
        }
    }

    /// A file into a bucket; goes on where an interrupted put of the same stopped.
    async fn up(&self, bucket: &str, key: &str, path: &Path, item: &Item, told: Told) -> Result<()> {
        let options = Options {
            content_type: kind::of(path).into(),
            meta: BTreeMap::from([(mtime::NAME.to_owned(), mtime::text(item.modified_ms))]),
            progress: Some(stored(told)),
            ..Options::default()
        };
        let open = |offset| pieces_from(path.to_owned(), offset);
        let put = self.cloud.put_again(bucket, key, open, options).await.map_err(sdk_fault)?;
        // A file that was written to meanwhile is carried again by the next run: its time has changed.
        if put.entry.size_bytes() == item.size_bytes {
            return Ok(());
        }
        Err(Fault::new(&fault::CARRIED_PART, "the file changed while it was read", "run the same command again")
            .at(path.display())
            .between(format!("{} bytes", item.size_bytes), format!("{} bytes", put.entry.size_bytes())))
    }

    /// From one bucket or key of ours to another, with all that is said of it.
    async fn across(&self, from: (&str, String), to: (&str, String), entry: &Entry, told: Told) -> Result<()> {
        let body = self.cloud.bytes(from.0, &from.1, entry, None, None).await.map_err(sdk_fault)?;
        let judged = Judged { etag: entry.etag.clone(), checksum: entry.checksum.clone() };
        let options = Options {
            content_type: entry.content_type.clone(),
            meta: entry.meta.clone(),
            tags: entry.tags.clone(),
            class: entry.class.clone(),
            redirect: entry.redirect.clone(),
            finish: Some(Box::new(move || Ok(judged))),
            progress: Some(stored(told)),
            ..Options::default()
        };
        self.cloud.put(to.0, &to.1, body, options).await.map_err(sdk_fault)?;
        Ok(())
    }

    /// From another server, with what it says of it; the bytes are compared with their MD5 where the etag is one.
    async fn over(&self, from: &str, key: &str, item: &Item, bucket: &str, to: &str, told: Told) -> Result<()> {
        let server = self.server.ok_or_else(|| unfit(self))?;
        let etag = (!item.etag.is_empty()).then_some(item.etag.as_str());
        let Object { head, body } = server.get(from, key, 0, etag).await.map_err(foreign_fault)?;
        let tags = match head.tags {
            0 => BTreeMap::new(),
            _ => server.tags(from, key).await.map_err(foreign_fault)?,
        };
        let mut meta = head.meta.clone();
        // When it was last changed over there, unless whoever put it there knew better.
        meta.entry(mtime::NAME.to_owned()).or_insert_with(|| mtime::text(item.modified_ms));
        let (tally, judge) = (Tally::default(), head.clone());
        let judging = tally.clone();
        let options = Options {
            content_type: head.content_type.clone(),
            meta,
            tags,
            finish: Some(Box::new(move || judging.judge(&judge).map(|etag| Judged { etag, checksum: None }))),
            progress: Some(stored(told)),
            ..Options::default()
        };
        // The body that came with the headers is the first that is read.
        let first = Mutex::new(Some(body));
        let failure: Arc<Mutex<Option<ForeignError>>> = Arc::default();
        let open = |offset: u64| {
            let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take().filter(|_| offset == 0);
            let (server, etag, from, key) = (server.clone(), head.etag.clone(), from.to_owned(), key.to_owned());
            let body: BoxStream<'static, std::result::Result<Bytes, ForeignError>> =
                match ready {
                    Some(body) => body,
                    // Beyond its end an object has no range to ask for.
                    None if offset >= head.size_bytes => stream::empty().boxed(),
                    None => stream::once(async move {
                        server.get(&from, &key, offset, Some(&etag)).await.map(|object| object.body)
                    })
                    .try_flatten()
                    .boxed(),
                };
            let (tally, failure, mut at) = (tally.clone(), failure.clone(), offset);
            body.map(move |piece| {
                match &piece {
                    Ok(bytes) => {
                        tally.take(at, bytes);
                        at += bytes.len() as u64;
                    }
                    Err(error) => *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone()),
                }
                piece
            })
        };
        let put = self.cloud.put_again(bucket, to, open, options).await;
        match (put, failure.lock().unwrap_or_else(PoisonError::into_inner).take()) {
            (Ok(_), _) => Ok(()),
            // What broke is told by whom it broke.
            (Err(_), Some(error)) => Err(foreign_fault(error)),
            (Err(error), None) => Err(sdk_fault(error)),
        }
    }
}

/// An object of ours as a file.
pub(crate) async fn down(cloud: &Local, bucket: &str, key: &str, entry: &Entry, path: &Path, told: Told) -> Result<()> {
    let size = entry.size_bytes();
    let copy = Copy { entry, path, modified_ms: mtime::changed_ms(entry) };
    let open = async |offset: u64| cloud.bytes(bucket, key, entry, Some(offset..size), None).await.map_err(sdk_fault);
    copy.write(open, |count| told(count)).await
}

/// Tells of what is stored, as it grows.
fn stored(told: Told) -> Box<dyn Fn(hodei_sdk::storage::Progress) + Send + Sync> {
    let seen = AtomicU64::new(0);
    Box::new(move |progress| {
        let before = seen.fetch_max(progress.stored_bytes, Ordering::Relaxed);
        told(progress.stored_bytes.saturating_sub(before));
    })
}

fn unfit(way: &Way) -> Fault {
    Fault::new(&fault::REFERENCE, "these two sides cannot be brought together", "carry it through a bucket").between(
        "a folder and a bucket, or another server and a bucket",
        format!("{} and {}", way.from.show(), way.to.show()),
    )
}
