//! Keep blobs in a folder by their SHA-256, written as they come and named only once they are what they should be.

use super::{ImageError, hex};
use aws_lc_rs::digest::{Context, SHA256};
use hodei_types::app::container::Blob;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

/// What is being written ends so.
const PART: &str = ".part";
/// What no app names is kept for so long: another command may be about to name it.
const KEPT: Duration = Duration::from_secs(3600);
const COPY_BYTES: usize = 64 << 10;

/// A folder of blobs.
#[derive(Clone, Debug)]
pub struct Blobs(PathBuf);

/// A blob on its way into the folder; dropped before its end it leaves nothing.
pub(super) struct Part {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    hash: Context,
    bytes: u64,
    most: u64,
}

impl Blobs {
    /// Names a folder; it is made when something is kept.
    pub fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Where a blob is, if it is there.
    pub fn path(&self, sha256: &[u8; 32]) -> PathBuf {
        self.0.join(hex(sha256))
    }

    /// Whether a blob is here, by its name and length. Whatever is asked for is about to be used: it is kept on.
    pub fn has(&self, blob: &Blob) -> bool {
        let Ok(file) = File::open(self.path(&blob.sha256)) else { return false };
        let is_whole = file.metadata().is_ok_and(|about| about.len() == blob.bytes);
        // Where its time cannot be set it may be fetched again, nothing more.
        let _ = is_whole && file.set_modified(SystemTime::now()).is_ok();
        is_whole
    }

    /// Opens a blob to be read.
    pub fn open(&self, blob: &Blob) -> Result<File, ImageError> {
        let path = self.path(&blob.sha256);
        let file = File::open(&path).map_err(ImageError::io(&path))?;
        match file.metadata().map_err(ImageError::io(&path))?.len() == blob.bytes {
            true => Ok(file),
            false => Err(ImageError::Gone { what: "a blob", sha256: hex(&blob.sha256) }),
        }
    }

    /// A small blob whole, if it is what its name says.
    pub(super) fn read(&self, blob: &Blob, what: &'static str, most: u64) -> Result<Vec<u8>, ImageError> {
        if blob.bytes > most {
            return Err(ImageError::Large { what, found: blob.bytes, most });
        }
        let mut bytes = Vec::new();
        let path = self.path(&blob.sha256);
        self.open(blob)?.take(most).read_to_end(&mut bytes).map_err(ImageError::io(&path))?;
        let found = of(&bytes);
        if found != *blob {
            return Err(lie(blob, &found));
        }
        Ok(bytes)
    }

    /// Begins a blob of at most so many bytes.
    pub(super) fn begin(&self, most: u64) -> Result<Part, ImageError> {
        static PARTS: AtomicU64 = AtomicU64::new(0);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&self.0).map_err(ImageError::io(&self.0))?;
        let number = PARTS.fetch_add(1, Ordering::Relaxed);
        let path = self.0.join(format!("{}-{number}{PART}", std::process::id()));
        let file = File::create(&path).map_err(ImageError::io(&path))?;
        Ok(Part { folder: self.0.clone(), path, file, hash: Context::new(&SHA256), bytes: 0, most })
    }

    /// Keeps what is read to its end, of at most so many bytes.
    pub(super) fn copy(&self, from: &mut impl Read, most: u64, what: &Path) -> Result<Blob, ImageError> {
        let mut part = self.begin(most)?;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return part.end(None),
                Ok(read) => part.take(&buffer[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ImageError::io(what)(error)),
            }
        }
    }

    /// Removes what none of these names, and what was left half written, once an hour passed since it was used.
    pub(crate) fn sweep(&self, named: &BTreeSet<[u8; 32]>) -> io::Result<()> {
        let named: BTreeSet<String> = named.iter().map(hex).collect();
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let age = entry.metadata()?.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
            let is_named = entry.file_name().to_str().is_some_and(|name| named.contains(name));
            if !is_named && age.is_some_and(|age| age > KEPT) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Part {
    /// Bytes that were taken so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let found = self.bytes.saturating_add(bytes.len() as u64);
        if found > self.most {
            return Err(ImageError::Large { what: "blob", found, most: self.most });
        }
        self.file.write_all(bytes).map_err(ImageError::io(&self.path))?;
        self.hash.update(bytes);
        self.bytes = found;
        Ok(())
    }

    /// Begins again from nothing: whoever sends cannot go on where it was cut.
    pub(super) fn restart(&mut self) -> Result<(), ImageError> {
        use std::io::Seek as _;
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(ImageError::io(&self.path))?;
        (self.hash, self.bytes) = (Context::new(&SHA256), 0);
        Ok(())
    }

    /// Names it by what it hashes to, on disk, if that is what was expected.
    pub(super) fn end(mut self, expected: Option<&Blob>) -> Result<Blob, ImageError> {
        let hash = std::mem::replace(&mut self.hash, Context::new(&SHA256)).finish();
        let mut found = Blob { sha256: [0; 32], bytes: self.bytes };
        found.sha256.copy_from_slice(hash.as_ref());
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(lie(expected, &found));
        }
        self.file.sync_all().map_err(ImageError::io(&self.path))?;
        let name = self.folder.join(hex(&found.sha256));
        std::fs::rename(&self.path, &name).map_err(ImageError::io(&name))?;
        let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(ImageError::io(&self.folder))?;
        Ok(found)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already where it was named.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What bytes are called.
pub(super) fn of(bytes: &[u8]) -> Blob {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, bytes).as_ref());
    Blob { sha256, bytes: bytes.len() as u64 }
}

pub(super) fn lie(expected: &Blob, found: &Blob) -> ImageError {
    let expected = format!("{} of {} bytes", hex(&expected.sha256), expected.bytes);
    ImageError::Lie { expected, found: hex(&found.sha256), bytes: found.bytes }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A folder that goes with its test.
    pub(in crate::image) struct Folder(pub(in crate::image) PathBuf);

    impl Folder {
        pub(in crate::image) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hodei-image-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(in crate::image) fn blobs(&self) -> Blobs {
            Blobs::at(self.0.join("blobs"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn kept(blobs: &Blobs, bytes: &[u8]) -> Blob {
        blobs.copy(&mut &bytes[..], 8, Path::new("test")).unwrap()
    }

    #[test]
    fn only_what_is_what_it_should_be_gets_its_name() {
        let folder = Folder::new("blobs");
        let blobs = folder.blobs();
        let blob = kept(&blobs, b"abc");
        assert_eq!(hex(&blob.sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(blobs.has(&blob) && !blobs.has(&Blob { bytes: 4, ..blob }));
        assert_eq!(blobs.read(&blob, "config", 3).unwrap(), b"abc");
        assert!(matches!(blobs.read(&blob, "config", 2), Err(ImageError::Large { .. })));

        let mut part = blobs.begin(8).unwrap();
        part.take(b"abd").unwrap();
        assert!(matches!(part.end(Some(&blob)), Err(ImageError::Lie { .. })));
        let mut part = blobs.begin(2).unwrap();
        assert!(matches!(part.take(b"abc"), Err(ImageError::Large { found: 3, most: 2, .. })));
        drop(part);
        let mut part = blobs.begin(8).unwrap();
        part.take(b"wrong").unwrap();
        part.restart().unwrap();
        part.take(b"abc").unwrap();
        assert_eq!(part.end(Some(&blob)).unwrap(), blob);
        assert_eq!(std::fs::read_dir(&blobs.0).unwrap().count(), 1, "nothing half written stays");

        std::fs::write(blobs.path(&blob.sha256), "abd").unwrap();
        assert!(matches!(blobs.read(&blob, "config", 3), Err(ImageError::Lie { .. })));
    }

    #[test]
    fn what_nobody_names_goes_after_an_hour() {
        let folder = Folder::new("sweep");
        let blobs = folder.blobs();
        let [old, named, young] = [b"old", b"own", b"new"].map(|bytes| kept(&blobs, bytes));
        for blob in [old, named] {
            let then = SystemTime::now() - KEPT - Duration::from_secs(60);
            File::open(blobs.path(&blob.sha256)).unwrap().set_modified(then).unwrap();
        }
        blobs.sweep(&[named.sha256].into()).unwrap();
        assert_eq!([old, named, young].map(|blob| blobs.has(&blob)), [false, true, true]);
        Blobs::at(folder.0.join("none")).sweep(&BTreeSet::new()).unwrap();
    }
}
