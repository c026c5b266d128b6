//! Keep a folder's objects in a bucket.

use crate::{
    fault::Wrong,
    room::Room,
    store::{Body, Facts, Only, Page, Store},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use hodei_sdk::{
    Entry, Fault, Local,
    change::Removal,
    complete::Source,
    condition::{Condition, Tag},
    mtime,
    storage::plain_bytes,
    upload::Options,
};
use std::{
    io::SeekFrom,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// Bytes read from a file at once.
const PIECE_BYTES: usize = 256 << 10;

/// Says what kind of content a name stands for, as a media type.
pub type Kinds = fn(&Path) -> &'static str;

/// A bucket that is there.
pub struct Bucket {
    cloud: Local,
    name: String,
    kinds: Kinds,
    block_bytes: u64,
}

impl Bucket {
    /// [`Fault::NoBucket`] if there is none of that name.
    pub async fn open(cloud: Local, name: &str, kinds: Kinds) -> Result<Self, Fault> {
        let record = cloud.bucket(name).await?.ok_or_else(|| Fault::NoBucket(name.into()))?;
        Ok(Self { cloud, name: name.into(), kinds, block_bytes: plain_bytes(&record.shape) })
    }
}

fn facts(entry: &Entry) -> Facts {
    Facts {
        size_bytes: entry.size_bytes(),
        mtime_ms: mtime::changed_ms(entry),
        etag: entry.etag.clone(),
        modified_ms: entry.modified_ms,
    }
}

fn condition(only: Only<'_>) -> Condition {
    match only {
        Only::Always => Condition::default(),
        Only::Absent => Condition::absent(),
        Only::Is(etag) => Condition { matches: Some(Tag::Is(etag.to_owned())), ..Condition::default() },
    }
}

/// What is said of an object besides its bytes, for one that is made of it.
fn options(like: &Entry, mtime_ms: u64, only: Only<'_>) -> Options {
    let mut meta = like.meta.clone();
    meta.insert(mtime::NAME.to_owned(), mtime::text(mtime_ms));
    Options {
        content_type: like.content_type.clone(),
        meta,
        tags: like.tags.clone(),
        acl: like.acl.clone(),
        owner: like.owner.clone(),
        class: like.class.clone(),
        redirect: like.redirect.clone(),
        condition: condition(only),
        ..Options::default()
    }
}

impl Store for Bucket {
    type Pin = Arc<Entry>;

    async fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Page, Wrong> {
        let page = self.cloud.list(&self.name, prefix, after, Some("/"), max).await?;
        let files = page.entries.iter().map(|(key, entry)| (key.clone(), facts(entry))).collect();
        Ok(Page { files, folders: page.prefixes, next: page.next })
    }

    async fn head(&self, key: &str) -> Result<Option<(Facts, Self::Pin)>, Wrong> {
        let entry = self.cloud.head(&self.name, key).await?;
        Ok(entry.map(|entry| (facts(&entry), Arc::new(entry))))
    }

    async fn read(&self, key: &str, pin: &Self::Pin, range: Range<u64>) -> Result<Body, Wrong> {
        let body = self.cloud.bytes(&self.name, key, pin, Some(range), None).await?;
        Ok(body.map_err(Wrong::from).boxed())
    }

    async fn put(
        &self,
        key: &str,
        content: Option<&Path>,
        like: Option<&Self::Pin>,
        mtime_ms: u64,
        only: Only<'_>,
    ) -> Result<(Facts, Self::Pin), Wrong> {
        if like.is_some_and(|like| like.customer.is_some()) {
            return Err(Fault::Customer(key.into()).into());
        }
        let new = Entry { content_type: (self.kinds)(Path::new(key)).into(), ..Entry::default() };
        let options = options(like.map_or(&new, |like| like), mtime_ms, only);
        let put = match content {
            // Goes on where one that was interrupted stopped.
            Some(path) => {
                let path = path.to_owned();
                self.cloud.put_again(&self.name, key, move |offset| pieces(path.clone(), offset), options).await
            }
            None => self.cloud.put(&self.name, key, stream::empty::<std::io::Result<Bytes>>(), options).await,
        };
        let entry = put?.entry;
        Ok((facts(&entry), Arc::new(entry)))
    }

    async fn copy(
        &self,
        from: (&str, &Self::Pin),
        to: &str,
        mtime_ms: u64,
        only: Only<'_>,
    ) -> Result<(Facts, Self::Pin), Wrong> {
        let source = Source { bucket: &self.name, key: from.0, entry: from.1, customer: None };
        let put = self.cloud.copy(source, &self.name, to, options(from.1, mtime_ms, only)).await?;
        Ok((facts(&put.entry), Arc::new(put.entry)))
    }

    async fn remove(&self, key: &str, only: Only<'_>) -> Result<(), Wrong> {
        // A bucket with versions would remember that nothing was removed.
        if self.cloud.head(&self.name, key).await?.is_none() {
            return Ok(());
        }
        let removal = Removal { condition: condition(only), ..Removal::default() };
        match self.cloud.remove_as(&self.name, key, removal).await {
            Ok(_) | Err(Fault::NoObject { .. }) => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn room(&self) -> Result<Room, Wrong> {
        let record = self.cloud.bucket(&self.name).await?.ok_or_else(|| Fault::NoBucket(self.name.clone()))?;
        let (k, n) = (u64::from(record.shape.k()), u64::from(record.shape.n()));
        let capacity: u64 = self.cloud.deals(&self.name).await?.iter().map(|deal| deal.state.capacityBytes).sum();
        Ok(Room { total_bytes: capacity / n * k, used_bytes: record.state.sizeBytes })
    }

    fn show(&self, key: &str) -> String {
        format!("hodei://{}/{key}", self.name)
    }

    fn block_bytes(&self) -> u64 {
        self.block_bytes
    }
}

/// A file's bytes from an offset on.
fn pieces(path: PathBuf, offset: u64) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin {
    let open = async move {
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(SeekFrom::Start(offset)).await?;
        Ok::<_, std::io::Error>(stream::try_unfold(file, |mut file| async move {
            let mut piece = vec![0; PIECE_BYTES];
            let count = file.read(&mut piece).await?;
            piece.truncate(count);
            Ok((count > 0).then(|| (Bytes::from(piece), file)))
        }))
    };
    stream::once(open).try_flatten().boxed()
}
