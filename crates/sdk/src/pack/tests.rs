//! Show that whatever is put, copied, removed and written anew, every object is what it was and nobody else's.

use super::{
    Filled, Small, fill,
    moved::{homes, lay, live, members, shared},
};
use crate::{
    change::{Change, Moment, Moved, Removal, apply},
    condition::Condition,
    fault::Fault,
};
use bytes::Bytes;
use hodei_storage::{
    index::{Entry, Home, Lock, Mode, Part, Retention, Run, Version},
    manifest::PageRef,
    pack::{self, Packer},
    seal::{Algorithm, Secret, WRAPPED_BYTES},
};
use hodei_types::{code::Shape, slice::ShardId};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const NETWORK: [u8; 32] = [1; 32];
const BUCKET: [u8; 32] = [2; 32];

/// A bucket, and providers that are a map of packs.
struct World {
    run: Run,
    packs: BTreeMap<[u8; 16], Vec<u8>>,
    /// What each key must hold.
    holds: BTreeMap<String, Bytes>,
    replaced: Vec<Entry>,
    seed: u64,
}

fn secret() -> Secret {
    Secret::new([9; 32])
}

impl World {
    fn new(seed: u64) -> Self {
        Self { run: Run::new("b"), packs: BTreeMap::new(), holds: BTreeMap::new(), replaced: Vec::new(), seed }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.seed >> 33) % below
    }

    fn id(&mut self) -> [u8; 16] {
        std::array::from_fn(|_| self.random(256) as u8)
    }

    fn apply(&mut self, change: &Change) -> Result<(), Fault> {
        let moment = Moment { now_ms: 1, random: [0; 8] };
        apply(&mut self.run, change, moment, &mut self.replaced).map(drop)
    }

    fn send(&mut self, packer: Packer) -> Arc<Part> {
        let (object, bytes) = (self.id(), packer.finish());
        let pack = Part {
            number: pack::PART,
            object,
            wrapped: [0; WRAPPED_BYTES],
            algorithm: Algorithm::Aes256Gcm,
            commitment: [0; 32],
            size_bytes: bytes.len() as u64,
            content: [0; 32],
            shape: Shape::new(3, 6, 1).unwrap(),
            home: Home::Own(PageRef { id: ShardId([0; 32]), bytes: 4096, stripes: 1, holders: Vec::new() }),
        };
        self.packs.insert(object, bytes);
        Arc::new(pack)
    }

    fn put(&mut self, objects: Vec<(String, Bytes)>) {
        let sealed: Vec<_> = objects
            .into_iter()
            .map(|(key, bytes)| {
                let small =
                    Small { content: *blake3::hash(&bytes).as_bytes(), wrapping: secret(), bytes: bytes.clone() };
                let (object, own) = (self.id(), Secret::new([self.random(256) as u8; 32]));
                let (head, sealed) = small.seal((&NETWORK, &BUCKET), object, &own);
                (((key, bytes), head), sealed)
            })
            .collect();
        for Filled { packer, places } in fill(sealed) {
            let pack = self.send(packer);
            for (((key, bytes), head), offset) in places {
                let entry = Entry { parts: vec![head.part(&pack, offset)], ..Entry::default() };
                let condition = Condition::default();
                self.apply(&Change::Put { key: key.clone(), entry: Box::new(entry), condition, source: None }).unwrap();
                self.holds.insert(key, bytes);
            }
        }
    }

    fn copy(&mut self, from: &str, to: &str) {
        let Some(entry) = self.run.newest(from).cloned() else { return };
        self.copy_as(from, to, entry);
    }

    fn copy_as(&mut self, from: &str, to: &str, entry: Entry) {
        let source = Some((from.to_owned(), Version::Null));
        let condition = Condition::default();
        self.apply(&Change::Put { key: to.into(), entry: Box::new(entry), condition, source }).unwrap();
        self.holds.insert(to.into(), self.holds[from].clone());
    }

    fn remove(&mut self, key: &str) {
        if self.apply(&Change::Remove { key: key.into(), removal: Removal::default() }).is_ok() {
            self.holds.remove(key);
        }
    }

    fn sparse(&self) -> BTreeSet<[u8; 16]> {
        let is_sparse = |(object, bytes): &(&[u8; 16], &Vec<u8>)| {
            self.run.uses(object).is_some_and(|uses| pack::is_sparse(uses.bytes, bytes.len() as u64))
        };
        self.packs.iter().filter(is_sparse).map(|(object, _)| *object).collect()
    }

    /// What a sweep does; `between` comes after the new packs are sent and before the index says so.
    fn repack(&mut self, packs: &BTreeSet<[u8; 16]>, between: impl FnOnce(&mut Self)) -> Result<(), Fault> {
        let (keys, members) = live(&self.run, packs);
        let mut moved = BTreeMap::new();
        for Filled { packer, places } in lay(&members, &self.packs.clone()).unwrap() {
            let pack = self.send(packer);
            moved.extend(homes(&pack, places));
        }
        between(self);
        self.apply(&Change::Move(Moved { keys, members: Arc::new(moved) }))
    }

    /// Providers forget what nothing names.
    fn sweep(&mut self) {
        let run = self.run.clone();
        self.packs.retain(|object, _| run.uses(object).is_some());
    }

    fn read(&self, key: &str) -> Vec<u8> {
        let part = &self.run.newest(key).unwrap().parts[0];
        let Home::Pack { pack, offset } = &part.home else { panic!("it is in a pack") };
        let from = *offset as usize;
        let sealed = &self.packs[&pack.object][from..from + pack::sealed_bytes(part.size_bytes) as usize];
        pack::open(&part.key(&NETWORK, &BUCKET, &secret()).unwrap(), sealed).unwrap()
    }

    fn check(&self) {
        assert!(
            self.run.range(std::ops::Bound::Unbounded).map(|(key, _)| key).eq(self.holds.keys().map(String::as_str))
        );
        for (key, bytes) in &self.holds {
            assert_eq!(self.read(key), bytes.as_ref(), "{key}");
        }
    }
}

#[test]
fn every_object_stays_what_it_was_whatever_is_put_removed_and_written_anew() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        for round in 0..60 {
            let key = |world: &mut World| format!("key {}", world.random(60));
            match world.random(8) {
                0..=2 => {
                    let count = 1 + world.random(12);
                    let objects = (0..count).map(|_| {
                        let size = [0, 1, 1000, 65_520, 65_521, 65_536][world.random(6) as usize];
                        (key(&mut world), Bytes::from(vec![world.random(256) as u8; size]))
                    });
                    let objects: BTreeMap<_, _> = objects.collect();
                    world.put(objects.into_iter().collect());
                }
                3..=5 => (0..4).for_each(|_| {
                    let key = key(&mut world);
                    world.remove(&key);
                }),
                6 => {
                    let (from, to) = (key(&mut world), key(&mut world));
                    world.copy(&from, &to);
                }
                _ => {
                    let sparse = world.sparse();
                    let other = key(&mut world);
                    // Somebody removes meanwhile; if all of it is gone there is nothing to move.
                    let _ = world.repack(&sparse, |world| world.remove(&other));
                }
            }
            if round % 3 == 0 {
                world.sweep();
            }
            world.check();
        }
        // Without anybody between, one pass leaves no sparse pack.
        let sparse = world.sparse();
        if !sparse.is_empty() {
            world.repack(&sparse, |_| {}).unwrap();
        }
        assert_eq!(world.sparse(), BTreeSet::new(), "{seed}");
        world.sweep();
        world.check();
    }
}

#[test]
fn packs_have_as_many_bytes_as_a_pack_may() {
    let mut world = World::new(1);
    world.put((0..200).map(|at| (format!("{at}"), Bytes::from(vec![at as u8; pack::OBJECT_BYTES_MAX]))).collect());
    assert_eq!(world.packs.len(), 4, "63 objects of 64 KiB fit one");
    assert!(world.packs.values().all(|bytes| bytes.len() <= pack::BYTES_MAX));
    world.check();
}

#[test]
fn a_neighbour_s_key_opens_nothing_else_of_a_pack() {
    let mut world = World::new(2);
    world.put(["a", "b"].map(|key| (key.to_owned(), Bytes::from(key.repeat(500)))).into());
    let [a, b] = ["a", "b"].map(|key| world.run.newest(key).unwrap().parts[0].clone());
    let Home::Pack { pack, offset } = &b.home else { panic!("it is in a pack") };
    assert_eq!(pack.object, a.stored().object);
    let sealed = &world.packs[&pack.object][*offset as usize..];
    assert!(pack::open(&a.key(&NETWORK, &BUCKET, &secret()).unwrap(), sealed).is_err());
    assert!(pack::open(&b.key(&NETWORK, &BUCKET, &secret()).unwrap(), sealed).is_ok());
}

#[test]
fn a_copy_of_what_was_moved_meanwhile_names_the_new_place() {
    let mut world = World::new(3);
    world.put(["a", "b", "c"].map(|key| (key.to_owned(), Bytes::from(key.repeat(500)))).into());
    let looked_up = world.run.newest("a").unwrap().clone();
    ["b", "c"].iter().for_each(|key| world.remove(key));
    let sparse = world.sparse();
    assert_eq!(sparse.len(), 1);
    world.repack(&sparse, |_| {}).unwrap();
    world.copy_as("a", "copy", looked_up);
    world.sweep();
    assert_eq!(world.packs.len(), 1, "the old pack is gone");
    world.check();
}

#[test]
fn what_was_removed_meanwhile_is_not_moved() {
    let mut world = World::new(4);
    world.put(["a", "b", "c"].map(|key| (key.to_owned(), Bytes::from(key.repeat(500)))).into());
    ["b", "c"].iter().for_each(|key| world.remove(key));
    let sparse = world.sparse();
    assert!(matches!(world.repack(&sparse, |world| world.remove("a")), Err(Fault::NoObject { .. })));
    world.sweep();
    assert!(world.packs.is_empty(), "nothing names the new pack either");
    // A version put over it stays where it is.
    world.put(["a", "b", "c"].map(|key| (key.to_owned(), Bytes::from(key.repeat(500)))).into());
    ["b", "c"].iter().for_each(|key| world.remove(key));
    let sparse = world.sparse();
    let again = vec![("a".to_owned(), Bytes::from_static(b"new"))];
    assert!(world.repack(&sparse, |world| world.put(again)).is_err());
    world.check();
    assert_eq!(members(world.run.all()).count(), 1);
}

#[test]
fn members_of_a_folder_share_packs_with_each_other_alone() {
    let own = || Home::Own(PageRef { id: ShardId([0; 32]), bytes: 4096, stripes: 1, holders: Vec::new() });
    let part = |object: u8, size_bytes: u64, home: Home| Part {
        number: 1,
        object: [object; 16],
        wrapped: [0; WRAPPED_BYTES],
        algorithm: Algorithm::Aes256Gcm,
        commitment: [0; 32],
        size_bytes,
        content: [0; 32],
        shape: Shape::new(3, 6, 1).unwrap(),
        home,
    };
    let sealed = pack::sealed_bytes(1000);
    let pack_of =
        |object: u8, members: u64| Arc::new(Part { number: pack::PART, ..part(object, members * sealed, own()) });
    let (whole, mixed) = (pack_of(1, 2), pack_of(2, 3));
    let named = |key: &str, object: u8, pack: &Arc<Part>| {
        let home = Home::Pack { pack: pack.clone(), offset: 0 };
        (key.to_owned(), Entry { parts: vec![part(object, 1000, home)], ..Entry::default() })
    };
    let alone = Entry { parts: vec![part(14, 1000, own())], ..Entry::default() };
    let mut folder = vec![
        named("a", 11, &whole),
        named("b", 12, &whole),
        named("c", 13, &mixed),
        named("c again", 13, &mixed),
        ("d".to_owned(), alone),
    ];
    let (keys, found) = shared(&folder, 5);
    assert_eq!(keys, ["c", "c again"], "others lie in that pack");
    assert_eq!(found.iter().map(|member| member.object).collect::<Vec<_>>(), [[13; 16]]);
    // All that lies in it is of the folder.
    folder.extend([named("e", 15, &mixed), named("f", 16, &mixed)]);
    assert_eq!(shared(&folder, 5).0, [""; 0]);
    // What is bound keeps its pack, and is left there by the others.
    let retention = Some(Retention { mode: Mode::Compliance, until_ms: 9 });
    folder[5].1.lock = Some(Lock { retention, ..Lock::default() });
    assert_eq!(shared(&folder, 5).0, ["c", "c again", "f"]);
    assert_eq!(shared(&folder, 9).0, [""; 0]);
}
