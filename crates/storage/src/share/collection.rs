//! List several objects in one record, by their paths below a prefix.
//!
//! The third version of a record: one table of holders, then the objects in the order of their paths, each once. Their
//! parts together are no more than those of one object's record.

use super::{
    PARTS_MAX, Record, ShareError, TEXT_BYTES_MAX, read_headers, read_parts, read_table, table, write_headers,
    write_parts, write_table,
};
use crate::index::KEY_BYTES_MAX;
use hodei_types::cbor::{Reader, Writer};

const VERSION: u64 = 3;
/// Values of a record of that version.
pub(super) const VALUES: usize = 4;

/// Objects that stood under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// What the folder is called.
    pub name: String,
    /// By their paths below the prefix, which ascend.
    pub files: Vec<Record>,
}

impl Collection {
    /// In the order of their paths.
    pub fn new(name: impl Into<String>, mut files: Vec<Record>) -> Self {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Self { name: name.into(), files }
    }

    /// The object of a path.
    pub fn file(&self, path: &str) -> Option<&Record> {
        let at = self.files.binary_search_by(|file| file.name.as_str().cmp(path)).ok()?;
        Some(&self.files[at])
    }

    /// Whether other paths lead through this one: it is a folder's name too.
    pub fn is_folder(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let at = self.files.partition_point(|file| file.name < below);
        self.files.get(at).is_some_and(|file| file.name.starts_with(&below))
    }

    /// Bytes of all objects.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(Record::size_bytes).sum()
    }

    /// Refuses what no record has room for, before it is known exactly.
    pub fn check_room(files: usize, parts: usize) -> Result<(), ShareError> {
        if files > PARTS_MAX || parts > PARTS_MAX { Err(ShareError::Room { files, parts }) } else { Ok(()) }
    }

    fn parts(&self) -> usize {
        self.files.iter().map(|file| file.parts.len()).sum()
    }

    pub(super) fn full(&self) -> ShareError {
        ShareError::Room { files: self.files.len(), parts: self.parts() }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, ShareError> {
        Self::check_room(self.files.len(), self.parts())?;
        check_order(&self.files)?;
        let table = table(self.files.iter().flat_map(|file| &file.parts))?;
        let mut out = Writer::with_capacity(self.parts() * 256 + table.len() * 48 + 4096);
        out.array(VALUES).uint(VERSION).text(&self.name);
        write_table(&mut out, &table);
        out.array(self.files.len());
        for file in &self.files {
            out.array(5).text(&file.name).text(&file.content_type).uint(file.modified_ms);
            write_headers(&mut out, &file.headers);
            write_parts(&mut out, &file.parts, &table);
        }
        Ok(out.finish())
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, ShareError> {
        input.exactly("version", VERSION)?;
        let name = input.text(TEXT_BYTES_MAX)?.to_owned();
        let table = read_table(input)?;
        let count = input.array(PARTS_MAX)?;
        let (mut files, mut room) = (Vec::new(), PARTS_MAX);
        for _ in 0..count {
            input.tuple(5)?;
            let name = input.text(KEY_BYTES_MAX)?.to_owned();
            let content_type = input.text(TEXT_BYTES_MAX)?.to_owned();
            let modified_ms = input.uint()?;
            let headers = read_headers(input)?;
            let parts = read_parts(input, &table, room)?;
            room -= parts.len();
            files.push(Record { name, content_type, headers, modified_ms, parts });
        }
        check_order(&files)?;
        Ok(Self { name, files })
    }
}

/// Paths stand once each, in their order, and none is empty.
fn check_order(files: &[Record]) -> Result<(), ShareError> {
    let ascends = files.windows(2).all(|pair| pair[0].name < pair[1].name);
    if ascends && files.first().is_none_or(|file| !file.name.is_empty()) {
        Ok(())
    } else {
        Err(ShareError::Shape("paths that are empty or do not ascend"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Told,
        tests::{BUCKET, NETWORK, record},
    };
    use super::*;
    use crate::seal::Secret;
    use hodei_types::slice::ShardId;

    fn named(name: &str, parts: u32) -> Record {
        Record { name: name.into(), ..record(parts) }
    }

    fn film() -> Collection {
        Collection::new("alps", vec![named("seg/2", 1), named("index.html", 1), named("seg/10", 2), named("seg", 1)])
    }

    #[test]
    fn a_collection_opens_with_its_own_key_and_finds_each_path() {
        let secret = Secret::new([5; 32]);
        let (shard, id) = Told::Many(film()).seal(&NETWORK, &BUCKET, &secret, &[]).unwrap();
        assert_eq!(ShardId::of(&shard), id);
        let Told::Many(back) = Told::open(&shard, &NETWORK, &BUCKET, &secret).unwrap().0 else {
            panic!("it is of several objects")
        };
        assert_eq!(back, film());
        let names: Vec<&str> = back.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["index.html", "seg", "seg/10", "seg/2"]);
        assert_eq!(back.file("seg/10"), Some(&named("seg/10", 2)));
        for path in ["", "seg/", "seg/1", "../index.html", "zzz"] {
            assert_eq!(back.file(path), None, "{path:?}");
        }
        assert!(back.is_folder("seg") && !back.is_folder("index.html") && !back.is_folder("se"));
        assert_eq!(back.size_bytes(), 5 << 40);
        assert!(Told::open(&shard, &NETWORK, &BUCKET, &Secret::new([6; 32])).is_err());
        assert!(Told::open(&shard, &NETWORK, &[3; 32], &secret).is_err());
    }

    #[test]
    fn a_collection_takes_what_one_record_has_room_for() {
        let secret = Secret::new([5; 32]);
        let of = |files: usize| Collection::new("many", (0..files).map(|at| named(&format!("{at:05}"), 1)).collect());
        let seal = |collection: Collection| Told::Many(collection).seal(&NETWORK, &BUCKET, &secret, &[]);
        assert!(seal(of(3_000)).is_ok());
        assert_eq!(seal(of(PARTS_MAX + 1)), Err(ShareError::Room { files: PARTS_MAX + 1, parts: PARTS_MAX + 1 }));
        // Long paths take room too.
        let long = (0..2_000).map(|at| named(&format!("{at:05}{}", "x".repeat(1000)), 1)).collect();
        assert_eq!(seal(Collection::new("long", long)), Err(ShareError::Room { files: 2_000, parts: 2_000 }));
    }

    #[test]
    fn paths_that_meet_or_lie_are_refused() {
        let twice = Collection { name: "a".into(), files: vec![named("b", 1), named("b", 1)] };
        let back = Collection { name: "a".into(), files: vec![named("b", 1), named("a", 1)] };
        let empty = Collection { name: "a".into(), files: vec![named("", 1)] };
        for wrong in [twice, back, empty] {
            assert!(wrong.encode().is_err(), "{wrong:?}");
        }
        let body = film().encode().unwrap();
        let mut seed = 3u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let mut bent = body.clone();
            let at = (seed >> 33) as usize % bent.len();
            bent[at] = (seed >> 20) as u8;
            if let Ok(Told::Many(collection)) = Told::decode(&bent) {
                assert!(collection.encode().is_ok(), "what is read can be written");
            }
            assert!(Told::decode(&body[..at]).is_err());
        }
    }
}
