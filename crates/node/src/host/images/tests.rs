//! Take images in pieces, and keep what is asked for.

use super::*;
use crate::scratch::Scratch;
use hodei_types::{
    app::{
        Limits,
        container::{Layer, Packing, Restart},
    },
    transport::NodeKey,
};

fn blob(bytes: &[u8]) -> Blob {
    Blob { sha256: Sha256::digest(bytes).into(), bytes: bytes.len() as u64 }
}

fn manifest(name: &str, config: &[u8], layers: &[&[u8]]) -> Manifest {
    let container = Container {
        image: name.into(),
        digest: [1; 32],
        config: blob(config),
        layers: layers.iter().map(|layer| Layer { blob: blob(layer), packing: Packing::Plain }).collect(),
        entrypoint: None,
        command: None,
        env: Vec::new(),
        workdir: String::new(),
        user: String::new(),
        is_read_only: false,
        port: 80,
        health: None,
        restart: Restart::Always,
        stop_secs: 10,
        reaches: Vec::new(),
        salt: [2; 16],
        volumes: Vec::new(),
        files: Vec::new(),
    };
    Manifest::of_container(name, container, Limits::default(), NodeKey([7; 32])).unwrap()
}

fn put(images: &Images, bytes: &[u8]) {
    let mut part = images.begin(blob(bytes)).unwrap();
    bytes.chunks(2).for_each(|chunk| part.write(chunk).unwrap());
    part.end().unwrap();
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder.join("blobs")).unwrap().count()
}

#[test]
fn an_image_is_here_once_all_of_it_is_and_after_a_start_too() {
    let scratch = Scratch::new("images");
    let folder = scratch.path().join("images");
    let (one, two) = (manifest("one", b"{1}", &[b"shared", b"own"]), manifest("two", b"{2}", &[b"shared"]));
    let before = Images::open(folder.clone(), 100).unwrap();
    before.name(&one).unwrap();
    before.name(&two).unwrap();
    put(&before, b"{1}");
    put(&before, b"shared");
    assert!(before.get(&one.workload()).is_none());
    assert_eq!(before.lacks(one.container().unwrap()), [blob(b"own")]);
    put(&before, b"own");
    assert_eq!(before.get(&one.workload()), Some(one.clone()));
    fs::write(folder.join("blobs/half.part"), b"half").unwrap();
    fs::write(folder.join("stray"), b"stray").unwrap();
    let after = Images::open(folder.clone(), 100).unwrap();
    assert!(after.get(&one.workload()).is_some() && after.get(&two.workload()).is_none());
    assert_eq!(after.lacks(two.container().unwrap()), [blob(b"{2}")]);
    assert_eq!(after.config(one.container().unwrap()).unwrap().as_deref(), Some(&b"{1}"[..]));
    assert_eq!(files(&folder), 3);
    assert!(!folder.join("stray").exists());
}

#[test]
fn what_lies_about_its_hash_or_length_is_not_kept_and_leaves_nothing() {
    let scratch = Scratch::new("images-lying");
    let images = Images::open(scratch.path().join("images"), 100).unwrap();
    let named = blob(b"right");
    let mut wrong = images.begin(named).unwrap();
    wrong.write(b"wrong").unwrap();
    assert!(matches!(wrong.end(), Err(BlobError::Hash(_))));
    let mut long = images.begin(named).unwrap();
    assert!(matches!(long.write(b"right and more"), Err(BlobError::Length(_))));
    drop(long);
    let mut short = images.begin(named).unwrap();
    short.write(b"rig").unwrap();
    assert!(!short.is_whole() && matches!(short.end(), Err(BlobError::Length(_))));
    assert_eq!(files(&scratch.path().join("images")), 0);
}

#[test]
fn no_more_is_kept_or_on_its_way_than_is_offered_and_two_may_bring_the_same() {
    let scratch = Scratch::new("images-full");
    let images = Images::open(scratch.path().join("images"), 10).unwrap();
    let (mut first, mut second) = (images.begin(blob(b"same")).unwrap(), images.begin(blob(b"same")).unwrap());
    assert!(matches!(images.begin(blob(b"one")), Err(BlobError::Full { used: 8, limit: 10, wanted: 3 })));
    first.write(b"same").unwrap();
    second.write(b"same").unwrap();
    first.end().unwrap();
    second.end().unwrap();
    put(&images, b"others");
    assert!(images.begin(blob(b"1")).is_err());
}

#[test]
fn a_blob_goes_with_the_last_manifest_that_names_it() {
    let scratch = Scratch::new("images-unnamed");
    let folder = scratch.path().join("images");
    let images = Images::open(folder.clone(), 100).unwrap();
    let (one, two) = (manifest("one", b"{1}", &[b"shared"]), manifest("two", b"{2}", &[b"shared", b"own"]));
    for manifest in [&one, &two] {
        images.name(manifest).unwrap();
    }
    [&b"{1}"[..], b"{2}", b"shared", b"own"].iter().for_each(|bytes| put(&images, bytes));
    let (now, named) = (Instant::now(), BTreeSet::from([one.workload()]));
    images.retain(&named, now).unwrap();
    images.retain(&named, now + UNNAMED - Duration::from_secs(1)).unwrap();
    assert!(images.get(&two.workload()).is_some());
    images.retain(&named, now + UNNAMED).unwrap();
    assert!(images.get(&one.workload()).is_some() && images.manifest(&two.workload()).is_none());
    assert_eq!(files(&folder), 2);
}

#[test]
fn a_blob_that_rotted_is_found_and_lacks_again() {
    let scratch = Scratch::new("images-rot");
    let images = Images::open(scratch.path().join("images"), 100).unwrap();
    let one = manifest("one", b"{1}", &[b"layer"]);
    images.name(&one).unwrap();
    put(&images, b"{1}");
    put(&images, b"layer");
    let container = one.container().unwrap();
    assert!(images.scrub(container).unwrap());
    fs::write(images.path(&blob(b"layer")), b"later").unwrap();
    assert!(!images.scrub(container).unwrap());
    assert_eq!(images.lacks(container), [blob(b"layer")]);
}
