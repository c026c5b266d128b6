//! Keep what snapshots are made of: on this machine, or in a bucket.

use crate::{
    change::Removal,
    cloud::{Cloud, Runtime},
    condition::{Condition, Tag},
    fault::Fault,
    upload::Options,
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use hodei_types::transport::Transport;
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

/// Read from a file at once.
const CHUNK_BYTES: usize = 256 << 10;
/// A head is a few hundred bytes.
const HEAD_BYTES_MAX: usize = 4096;
const LOCK: &str = ".lock";

/// Where snapshots are: names lead to bytes.
pub trait Vault: Send + Sync {
    /// As it is shown.
    fn name(&self) -> String;
    /// Keeps what is in a file under a name that nothing has.
    fn put<'a>(&'a self, key: &'a str, from: &'a Path) -> BoxFuture<'a, Result<(), Fault>>;
    /// A file with what is kept under a name: its own, or one in the folder `scratch`.
    fn get<'a>(&'a self, key: &'a str, scratch: &'a Path) -> BoxFuture<'a, Result<PathBuf, Fault>>;
    /// A few bytes, if there are any.
    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, Fault>>;
    /// Writes a few bytes in place of these; false where others are there.
    fn swap<'a>(&'a self, key: &'a str, was: Option<&'a [u8]>, is: &'a [u8]) -> BoxFuture<'a, Result<bool, Fault>>;
    /// Forgets a name, if it is there.
    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), Fault>>;
}

/// Opens vaults.
pub trait Vaults: Send + Sync {
    /// Of that bucket, or of this machine.
    fn open<'a>(&'a self, bucket: Option<&'a str>) -> BoxFuture<'a, Result<std::sync::Arc<dyn Vault>, Fault>>;
    /// A folder of this machine for what is on its way; nobody else's.
    fn scratch(&self) -> PathBuf;
    /// For a program that ends: brings to an end what was begun.
    fn close(&self) -> BoxFuture<'_, Result<(), Fault>>;
}

/// A folder of this machine.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

/// Does what would hold up everybody else.
async fn aside<R: Send + 'static>(
    key: &str,
    work: impl FnOnce() -> io::Result<R> + Send + 'static,
) -> Result<R, Fault> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.and_then(|done| done).map_err(lost(key))
}

fn lost(what: &str) -> impl FnOnce(io::Error) -> Fault {
    move |error| Fault::Local(format!("{what}: {error}"))
}

impl Folder {
    fn at(&self, key: &str) -> io::Result<PathBuf> {
        // Keys are made here, of names that are labels.
        let is_part = |part: &str| !part.is_empty() && !part.starts_with('.');
        match key.split('/').all(is_part) {
            true => Ok(self.0.join(key)),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "a key that leads elsewhere")),
        }
    }

    fn write(&self, key: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let path = self.at(key)?;
        let folder = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(folder)?;
        let new = folder.join(format!(".new-{:016x}", rand::random::<u64>()));
        let written = File::create(&new).and_then(|mut file| {
            write(&mut file)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(folder)?.sync_all()
        });
        if written.is_err() {
            fs::remove_file(&new).ok();
        }
        written
    }

    fn read(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.at(key)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }
}

impl Vault for Folder {
    fn name(&self) -> String {
        "this machine".into()
    }

    fn put<'a>(&'a self, key: &'a str, from: &'a Path) -> BoxFuture<'a, Result<(), Fault>> {
        let (folder, of, from) = (self.clone(), key.to_owned(), from.to_owned());
        Box::pin(aside(key, move || {
            folder.write(&of, |to| File::open(from).and_then(|mut from| io::copy(&mut from, to)).map(drop))
        }))
    }

    fn get<'a>(&'a self, key: &'a str, _: &'a Path) -> BoxFuture<'a, Result<PathBuf, Fault>> {
        Box::pin(async move {
            let path = self.at(key).map_err(lost(key))?;
            match path.is_file() {
                true => Ok(path),
                false => Err(Fault::Local(format!("{}: a snapshot's part is not there", path.display()))),
            }
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, Fault>> {
        Box::pin(async move { self.read(key).map_err(lost(key)) })
    }

    fn swap<'a>(&'a self, key: &'a str, was: Option<&'a [u8]>, is: &'a [u8]) -> BoxFuture<'a, Result<bool, Fault>> {
        let (folder, of) = (self.clone(), key.to_owned());
        let (was, is) = (was.map(<[u8]>::to_vec), is.to_vec());
        Box::pin(aside(key, move || {
            fs::create_dir_all(&folder.0)?;
            // Of two programs on this machine one waits.
            let lock = File::create(folder.0.join(LOCK))?;
            lock.lock()?;
            if folder.read(&of)? != was {
                return Ok(false);
            }
            folder.write(&of, |file| file.write_all(&is)).map(|()| true)
        }))
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            match self.at(key).and_then(fs::remove_file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(lost(key)(error)),
                _ => Ok(()),
            }
        })
    }
}

/// A bucket of the owner's.
pub struct Bucket<E: Runtime, T: Transport> {
    pub cloud: Cloud<E, T>,
    pub bucket: String,
}

impl<E: Runtime, T: Transport> Bucket<E, T> {
    async fn write(&self, key: &str, from: &Path, condition: Condition) -> Result<(), Fault> {
        let open = |offset| pieces(from.to_owned(), offset);
        let options = Options { condition, ..Options::default() };
        self.cloud.put_again(&self.bucket, key, open, options).await.map(drop)
    }
}

/// What is in a file, from an offset on.
fn pieces(path: PathBuf, offset: u64) -> stream::BoxStream<'static, io::Result<Bytes>> {
    let opened = async move {
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(io::SeekFrom::Start(offset)).await?;
        Ok::<_, io::Error>(file)
    };
    let more = |mut file: tokio::fs::File| async move {
        let mut piece = vec![0; CHUNK_BYTES];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        Ok::<_, io::Error>((read > 0).then(|| (Bytes::from(piece), file)))
    };
    stream::once(opened).map_ok(move |file| stream::try_unfold(file, more)).try_flatten().boxed()
}

impl<E: Runtime, T: Transport> Vault for Bucket<E, T> {
    fn name(&self) -> String {
        format!("hodei://{}", self.bucket)
    }

    fn put<'a>(&'a self, key: &'a str, from: &'a Path) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.write(key, from, Condition::default()))
    }

    fn get<'a>(&'a self, key: &'a str, scratch: &'a Path) -> BoxFuture<'a, Result<PathBuf, Fault>> {
        Box::pin(async move {
            let path = scratch.join(key.replace('/', "_"));
            let (_, mut body) = self.cloud.get(&self.bucket, key, None).await?;
            let mut file = tokio::fs::File::create(&path).await.map_err(lost(key))?;
            while let Some(bytes) = body.next().await {
                file.write_all(&bytes?).await.map_err(|error| Fault::Local(format!("{key}: {error}")))?;
            }
            file.flush().await.map_err(lost(key))?;
            Ok(path)
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, Fault>> {
        Box::pin(async move {
            let (entry, mut body) = match self.cloud.get(&self.bucket, key, None).await {
                Err(Fault::NoObject { .. }) => return Ok(None),
                got => got?,
            };
            if entry.size_bytes() > HEAD_BYTES_MAX as u64 {
                return Err(Fault::Local(format!("hodei://{}/{key} is no head of a volume", self.bucket)));
            }
            let mut all = Vec::new();
            while let Some(bytes) = body.next().await {
                all.extend_from_slice(&bytes?);
            }
            Ok(Some(all))
        })
    }

    fn swap<'a>(&'a self, key: &'a str, was: Option<&'a [u8]>, is: &'a [u8]) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            // Looked up before it is read: what is compared is what the condition is of.
            let entry = self.cloud.head(&self.bucket, key).await?;
            if self.head(key).await?.as_deref() != was {
                return Ok(false);
            }
            let condition = match entry {
                Some(entry) => Condition { matches: Some(Tag::Is(entry.etag)), ..Condition::default() },
                None => Condition::absent(),
            };
            let source = Bytes::copy_from_slice(is);
            let open = move |offset: u64| {
                let rest = source.slice(usize::try_from(offset).unwrap_or(usize::MAX).min(source.len())..);
                stream::iter([Ok::<_, io::Error>(rest)])
            };
            let options = Options { condition, ..Options::default() };
            match self.cloud.put_again(&self.bucket, key, open, options).await {
                Ok(_) => Ok(true),
                Err(Fault::Condition { .. } | Fault::ObjectExists { .. } | Fault::NoObject { .. }) => Ok(false),
                Err(fault) => Err(fault),
            }
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            match self.cloud.remove_as(&self.bucket, key, Removal::default()).await {
                Err(fault) if !matches!(fault, Fault::NoObject { .. }) => Err(fault),
                _ => Ok(()),
            }
        })
    }
}
