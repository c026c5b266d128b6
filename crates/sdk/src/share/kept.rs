//! Keep what a reader's passes need while the ledger is out of reach, until each ends.
//!
//! ```text
//! seat     of a bucket: its owner, its deals' providers and where these are, its overlay; all passes into it share it
//! record   of a pass: the shard as its keepers have it, which only the pass's word opens
//! ```
//! Each is a file, sealed under a key of this reader's on this network. Its name tells its end and is sealed with it: what
//! was changed, renamed or brought to another reader opens nothing, and is removed. What the ledger said last is believed
//! until that end, for providers judge each read by themselves. Files are few; those that end first make room. Several
//! programs write at one time: each replaces only what ends no later than its own.

use crate::cloud::{Cloud, Runtime};
use alloy_primitives::{B256, hex};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use hodei_types::{
    code::SHARD_BYTES_MAX,
    transport::{NodeKey, Transport},
};
use std::{io, sync::Arc};
use zeroize::Zeroizing;

/// Files of one drawer, and their bytes in all.
const FILES_MAX: usize = 256;
const BYTES_MAX: u64 = 64 << 20;
/// More than a record, or a seat, takes.
const FILE_BYTES_MAX: u64 = SHARD_BYTES_MAX as u64 + (64 << 10);
/// Of a file.
const VERSION: u8 = 1;
/// Digits of a name before its end.
const STEM_DIGITS: usize = 32;

/// A folder for the files of one reader, shared by all programs of that reader.
pub trait Drawer: Send + Sync {
    /// Names and bytes of the files in it; none where there is no folder yet.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// For this user alone; after a crash it is the old file, or the new one, whole.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// What a file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Form {
    Seat = 1,
    Record = 2,
}

/// A drawer, and what seals its files.
pub(crate) struct Kept {
    drawer: Arc<dyn Drawer>,
    key: LessSafeKey,
    /// Makes names that tell nobody of what they are.
    names: Zeroizing<[u8; 32]>,
}

/// What is before a name's end, and that end in milliseconds since 1970.
fn parse(name: &str) -> Option<(&str, u64)> {
    let (stem, until) = name.split_once('-')?;
    let is_stem = stem.len() == STEM_DIGITS && stem.bytes().all(|digit| digit.is_ascii_hexdigit());
    let until_ms: u64 = until.parse().ok().filter(|_| is_stem)?;
    // One spelling.
    (until_ms.to_string() == until).then_some((stem, until_ms))
}

impl Kept {
    /// For the reader whose buckets `data` opens, and whom providers know as `client`.
    pub(super) fn new(drawer: Arc<dyn Drawer>, data: &[u8; 32], network: &B256, client: &NodeKey) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("hodei 2026 what a reader keeps of its links v1");
        hasher.update(data).update(network.as_slice()).update(&client.0);
        let mut okm = Zeroizing::new([0u8; 64]);
        hasher.finalize_xof().fill(&mut *okm);
        let (seals, names) = okm.split_first_chunk::<32>().expect("64 bytes");
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, seals).expect("32 bytes are a key"));
        let names = Zeroizing::new(names.try_into().expect("32 bytes"));
        Self { drawer, key, names }
    }

    fn stem(&self, form: Form, id: &[u8; 32]) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.names);
        hasher.update(&[form as u8]).update(id);
        hex::encode(&hasher.finalize().as_bytes()[..STEM_DIGITS / 2])
    }

    /// Files whose names are ours, with their ends and bytes, those that end first before the others.
    fn files(&self) -> Vec<(u64, String, u64)> {
        let listed = self.drawer.list().unwrap_or_else(|error| {
            tracing::debug!(%error, "what is kept of links cannot be listed");
            Vec::new()
        });
        let file = |(name, len): (String, u64)| Some((parse(&name)?.1, name, len));
        let mut files: Vec<_> = listed.into_iter().filter_map(file).collect();
        files.sort_unstable();
        files
    }

    fn remove(&self, name: &str) {
        match self.drawer.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, name, "what is kept of a link could not be removed");
            }
            _ => {}
        }
    }

    /// What is kept, the newest end first, and that end. What does not open is removed.
    pub(super) fn find(&self, form: Form, id: &[u8; 32], now_ms: u64) -> Option<(Vec<u8>, u64)> {
        let stem = self.stem(form, id);
        let files = self.files();
        let own = files.iter().rev().filter(|(until_ms, name, _)| *until_ms > now_ms && name.starts_with(&stem));
        for (until_ms, name, len) in own {
            let read = if *len > FILE_BYTES_MAX { Ok(Vec::new()) } else { self.drawer.read(name) };
            match read.map(|file| self.unseal(name, &file)) {
                Ok(Some(body)) => return Some((body, *until_ms)),
                Ok(None) => {
                    tracing::warn!(name, "what was kept of a link is not what was written: it is removed");
                    self.remove(name);
                }
                // Another program replaced it at this moment, or the disk fails.
                Err(error) => tracing::debug!(%error, name, "what is kept of a link cannot be read"),
            }
        }
        None
    }

    /// Keeps it until then, or later where it is kept longer; `nonce` was never used before.
    pub(super) fn put(
        &self,
        (form, id): (Form, &[u8; 32]),
        until_ms: u64,
        body: &[u8],
        nonce: [u8; NONCE_LEN],
        now_ms: u64,
    ) {
        let known = self.find(form, id, now_ms);
        if known.as_ref().is_some_and(|(kept, end)| kept == body && *end >= until_ms) {
            return;
        }
        let until_ms = known.map_or(until_ms, |(_, end)| end.max(until_ms));
        let stem = self.stem(form, id);
        let name = format!("{stem}-{until_ms}");
        let file = self.seal(&name, body, nonce);
        if until_ms <= now_ms || file.len() as u64 > FILE_BYTES_MAX {
            return;
        }
        // One that ends later than what was found was written meanwhile, by another program: a longer pass needs it.
        let is_replaced = |(end, name, _): &(u64, String, u64)| name.starts_with(&stem) && *end <= until_ms;
        let (own, others): (Vec<_>, Vec<_>) = self.files().into_iter().partition(is_replaced);
        let (mut count, mut bytes) =
            (others.len(), others.iter().fold(file.len() as u64, |sum, (_, _, len)| sum.saturating_add(*len)));
        for (_, name, len) in &others {
            if count < FILES_MAX && bytes <= BYTES_MAX {
                break;
            }
            self.remove(name);
            (count, bytes) = (count - 1, bytes.saturating_sub(*len));
        }
        if let Err(error) = self.drawer.write(&name, &file) {
            tracing::warn!(%error, "a link is not kept: it opens only while the ledger is in reach");
            return;
        }
        own.iter().filter(|(_, old, _)| *old != name).for_each(|(_, old, _)| self.remove(old));
    }

    /// Lets go of it: it was refused.
    pub(super) fn forget(&self, form: Form, id: &[u8; 32]) {
        let stem = self.stem(form, id);
        let own = self.files().into_iter().filter(|(_, name, _)| name.starts_with(&stem));
        own.for_each(|(_, name, _)| self.remove(&name));
    }

    /// Lets go of what has ended.
    pub(super) fn end(&self, now_ms: u64) {
        let over = self.files().into_iter().take_while(|(until_ms, _, _)| *until_ms <= now_ms);
        over.for_each(|(_, name, _)| self.remove(&name));
    }

    /// `VERSION ‖ nonce ‖ ciphertext ‖ tag`.
    fn seal(&self, name: &str, body: &[u8], nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let mut sealed = body.to_vec();
        let meaning = Aad::from(meaning(name));
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), meaning, &mut sealed)
            .expect("two MiB can be sealed");
        [&[VERSION][..], &nonce, &sealed].concat()
    }

    fn unseal(&self, name: &str, file: &[u8]) -> Option<Vec<u8>> {
        let ([VERSION], rest) = file.split_first_chunk::<1>()? else { return None };
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut body = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = self.key.open_in_place(nonce, Aad::from(meaning(name)), &mut body).ok()?.len();
        body.truncate(len);
        Some(body)
    }
}

/// What is sealed with a file beside its content.
fn meaning(name: &str) -> Vec<u8> {
    [&[VERSION][..], name.as_bytes()].concat()
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// From now on keeps what passes that are opened need later, when the ledger is out of reach, until they end. A second
    /// call changes nothing.
    pub fn keep_links(&self, drawer: Arc<dyn Drawer>) {
        let kept = Kept::new(drawer, self.0.wallet.data().bytes(), &self.0.network, &self.0.client);
        kept.end(self.now_ms());
        let _ = self.0.kept.set(Arc::new(kept));
    }
}

#[cfg(test)]
#[path = "../../tests/writers/drawer.rs"]
mod drawer;

#[cfg(test)]
mod tests {
    use super::{drawer::Files, *};
    use std::sync::atomic::{AtomicBool, Ordering};

    fn of(files: &Arc<Files>, data: u8, client: u8) -> Kept {
        Kept::new(files.clone(), &[data; 32], &B256::repeat_byte(3), &NodeKey([client; 32]))
    }

    fn names(files: &Files) -> Vec<String> {
        files.0.lock().unwrap().keys().cloned().collect()
    }

    #[test]
    fn what_is_kept_returns_to_its_reader_until_its_end_and_to_nobody_else() {
        let files = Arc::new(Files::default());
        let own = of(&files, 1, 2);
        own.put((Form::Seat, &[7; 32]), 100, b"where it is", [1; NONCE_LEN], 50);
        let found = |kept: &Kept, now_ms| kept.find(Form::Seat, &[7; 32], now_ms);
        assert_eq!(found(&own, 99), Some((b"where it is".to_vec(), 100)));
        assert_eq!(found(&of(&files, 1, 2), 99), Some((b"where it is".to_vec(), 100)), "a later process");
        assert_eq!((found(&own, 100), own.find(Form::Record, &[7; 32], 50)), (None, None));
        let sealed = files.0.lock().unwrap().values().next().unwrap().clone();
        assert!(!sealed.windows(5).any(|bytes| bytes == b"where"));
        for other in [of(&files, 9, 2), of(&files, 1, 9)] {
            assert_eq!(found(&other, 50), None, "another reader does not even find it");
            // Nor by its own name for it.
            let name = format!("{}-100", other.stem(Form::Seat, &[7; 32]));
            files.write(&name, &sealed).unwrap();
            assert_eq!(found(&other, 50), None);
            assert_eq!(names(&files).len(), 1, "and what does not open is removed");
        }
        // A later end than it was written with.
        let (stem, _) = names(&files)[0].split_once('-').map(|(stem, end)| (stem.to_owned(), end.to_owned())).unwrap();
        files.write(&format!("{stem}-900"), &sealed).unwrap();
        assert_eq!(found(&own, 100), None);
        assert_eq!(found(&own, 99), Some((b"where it is".to_vec(), 100)));
        // Each changed byte.
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            files.write(&format!("{stem}-100"), &bent).unwrap();
            assert_eq!((found(&own, 50), names(&files).len()), (None, 0), "byte {at}");
        }
    }

    #[test]
    fn newer_content_replaces_older_and_what_ended_or_was_refused_goes() {
        let files = Arc::new(Files::default());
        let kept = of(&files, 1, 2);
        let put = |id: u8, until_ms, body: &[u8], nonce| {
            kept.put((Form::Record, &[id; 32]), until_ms, body, [nonce; NONCE_LEN], 10);
        };
        put(1, 100, b"old", 1);
        put(1, 50, b"new", 2);
        assert_eq!(
            kept.find(Form::Record, &[1; 32], 60),
            Some((b"new".to_vec(), 100)),
            "for the pass that lasts longest"
        );
        put(1, 200, b"new", 3);
        assert_eq!(kept.find(Form::Record, &[1; 32], 60), Some((b"new".to_vec(), 200)));
        assert_eq!(names(&files).len(), 1);
        let written = files.0.lock().unwrap().clone();
        put(1, 200, b"new", 4);
        assert_eq!(*files.0.lock().unwrap(), written, "what is kept so already is not written again");
        put(2, 20, b"short", 5);
        put(3, 300, b"long", 6);
        files.write("somebody's", b"else").unwrap();
        kept.end(20);
        assert_eq!(names(&files).len(), 3);
        kept.forget(Form::Record, &[3; 32]);
        assert_eq!(kept.find(Form::Record, &[3; 32], 20), None);
        put(4, 10, b"over already", 7);
        assert_eq!(names(&files).len(), 2);
    }

    /// Has nothing in it when it is listed first, as before another program wrote.
    struct Late {
        files: Arc<Files>,
        is_listed: AtomicBool,
    }

    impl Drawer for Late {
        fn list(&self) -> io::Result<Vec<(String, u64)>> {
            if self.is_listed.swap(true, Ordering::Relaxed) { self.files.list() } else { Ok(Vec::new()) }
        }

        fn read(&self, name: &str) -> io::Result<Vec<u8>> {
            self.files.read(name)
        }

        fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
            self.files.write(name, bytes)
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            self.files.remove(name)
        }
    }

    #[test]
    fn what_a_longer_pass_wrote_meanwhile_stays_for_it() {
        for (meanwhile, stays) in [(900, true), (50, false)] {
            let files = Arc::new(Files::default());
            of(&files, 1, 2).put((Form::Seat, &[7; 32]), meanwhile, b"a seat", [1; NONCE_LEN], 10);
            let late: Arc<dyn Drawer> = Arc::new(Late { files: files.clone(), is_listed: AtomicBool::new(false) });
            let other = Kept::new(late, &[1; 32], &B256::repeat_byte(3), &NodeKey([2; 32]));
            other.put((Form::Seat, &[7; 32]), 100, b"a seat", [2; NONCE_LEN], 10);
            let end = if stays { meanwhile } else { 100 };
            let found = of(&files, 1, 2).find(Form::Seat, &[7; 32], 20);
            assert_eq!(found, Some((b"a seat".to_vec(), end)), "another's until {meanwhile}");
            assert_eq!(names(&files).len(), 1 + usize::from(stays), "another's until {meanwhile}");
        }
    }

    #[test]
    fn there_are_few_files_and_those_that_end_first_make_room() {
        let files = Arc::new(Files::default());
        let kept = of(&files, 1, 2);
        let id = |at: usize| *blake3::hash(&at.to_be_bytes()).as_bytes();
        let nonce = |at: usize| *blake3::hash(&at.to_be_bytes()).as_bytes().first_chunk::<NONCE_LEN>().unwrap();
        for at in 0..FILES_MAX + 3 {
            kept.put((Form::Seat, &id(at)), 1000 + at as u64, b"a seat", nonce(at), 10);
        }
        assert_eq!(names(&files).len(), FILES_MAX);
        assert_eq!((kept.find(Form::Seat, &id(2), 10), kept.find(Form::Seat, &id(3), 10).is_some()), (None, true));
        // By their bytes too.
        let large = vec![5; SHARD_BYTES_MAX as usize];
        for at in 0..70 {
            kept.put((Form::Record, &id(at)), 5000 + at as u64, &large, nonce(1000 + at), 10);
        }
        let bytes: u64 = files.list().unwrap().iter().map(|(_, len)| len).sum();
        assert!(bytes <= BYTES_MAX && names(&files).len() > 60, "{bytes}");
        assert!(kept.find(Form::Record, &id(69), 10).is_some());
        let huge = vec![5; FILE_BYTES_MAX as usize];
        kept.put((Form::Record, &id(99)), 9000, &huge, nonce(9999), 10);
        assert_eq!(kept.find(Form::Record, &id(99), 10), None);
    }
}
