//! Measure what a bucket's index costs at many keys, without a network: memory, bytes a change, first read, pages.
//!
//! Run: `cargo run --release -p hodei-benches --bin bench-index [KEYS] [BATCH]`
//!
//! Keys come in no order, BATCH of them with each change, 64 unless told, their objects in one pack, as 64 writers at
//! once make it. Layers are kept as the catalogue of a bucket keeps them, and only their bytes are stored nowhere.

use anyhow::{Context as _, Result, ensure};
use hodei_storage::{
    index::{Entry, Home, Part, Run, Touched, kept},
    manifest::{Holder, PageRef},
    pack,
    seal::{Algorithm, WRAPPED_BYTES},
};
use hodei_types::{code::Shape, slice::ShardId, transport::NodeKey};
use std::{ops::Bound, sync::Arc, time::Instant};

const MIB: f64 = (1u64 << 20) as f64;
/// Keys of a page, as S3 has them.
const PAGE: usize = 1000;
/// Of the objects put.
const OBJECT_BYTES: u64 = 1024;

/// What a process keeps of each layer.
struct Layer {
    bytes: u64,
    touched: Arc<Touched>,
    /// Kept to be read again; a process has stored it instead.
    stored: Vec<u8>,
    _run: Run,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let keys: u64 = words.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let batch: u64 = words.next().map_or(Ok(64), |text| text.parse())?;
    let before = resident()?;
    let mut run = Run::new("bench");
    let mut layers: Vec<Layer> = Vec::new();
    let (mut written, mut largest, mut times) = (0u64, 0u64, Vec::new());
    let start = Instant::now();
    for first in (0..keys).step_by(batch as usize) {
        let pack = Arc::new(packed(first, batch));
        let mut touched = Touched { settings: first == 0, ..Touched::default() };
        for at in first..keys.min(first + batch) {
            let key = name(at, keys);
            run.set(&key, vec![entry(at, &pack, at - first)]);
            touched.keys.insert(key);
        }
        let now = Instant::now();
        let (bytes, stays) = push(&run, &mut layers, touched);
        times.push(now.elapsed().as_secs_f64() * 1e3);
        written += bytes;
        // The least of these is one layer of a batch.
        largest = largest.max(bytes);
        ensure!(stays < layers.len(), "a layer is put on those that stay");
    }
    let took = start.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let whole: u64 = layers.iter().map(|layer| layer.bytes).sum();
    let changes = times.len();
    println!("{keys} keys, {batch} a change, {changes} changes");
    println!(
        "index, all layers:      {:>10.1} MiB, {} B a key, {} layers",
        whole as f64 / MIB,
        whole / keys,
        layers.len()
    );
    println!(
        "written by all changes: {:>10.1} MiB, {:.1} times each entry",
        written as f64 / MIB,
        written as f64 / whole as f64
    );
    println!(
        "a change writes:        {:>10.1} KiB on average, {:.1} MiB at most",
        written as f64 / changes as f64 / 1024.0,
        largest as f64 / MIB
    );
    let at = |share: f64| times[((changes - 1) as f64 * share) as usize];
    println!(
        "a change's encoding:    {:>10.2} ms median, {:.2} p99, {:.0} at most; all {took:.1} s",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    let stored: Vec<Vec<u8>> = layers.iter_mut().map(|layer| std::mem::take(&mut layer.stored)).collect();
    drop((run, layers));

    let first = resident()?;
    let start = Instant::now();
    let mut read = Run::decode(&stored[0])?;
    stored[1..].iter().try_for_each(|bytes| read.absorb(bytes).map(drop))?;
    println!("first read, decoding:   {:>10.2} s", start.elapsed().as_secs_f64());
    println!(
        "memory of it:           {:>10.1} MiB, {} B a key",
        (resident()? - first) / MIB,
        ((resident()? - first) / keys as f64) as u64
    );
    println!("memory before, at most: {:>10.1} MiB and {:.1} MiB, stored layers included", before / MIB, peak()? / MIB);
    ensure!(read.keys() as u64 == keys && read.size_bytes() == keys * OBJECT_BYTES);

    let (mut last, mut pages, mut slowest, start) = (String::new(), 0, 0f64, Instant::now());
    loop {
        let now = Instant::now();
        let page: Vec<(String, Entry)> = read
            .range(Bound::Excluded(&last))
            .take(PAGE)
            .map(|(key, versions)| (key.to_owned(), versions[0].clone()))
            .collect();
        slowest = slowest.max(now.elapsed().as_secs_f64() * 1e3);
        match page.last() {
            Some((key, _)) => last = key.clone(),
            None => break,
        }
        pages += 1;
    }
    println!("{pages} pages of {PAGE}:      {:>10.2} s, the slowest {slowest:.2} ms", start.elapsed().as_secs_f64());
    Ok(())
}

/// Lays a change on top as a bucket's catalogue does; gives the bytes written, and how many layers stay.
fn push(run: &Run, layers: &mut Vec<Layer>, mut touched: Touched) -> (u64, usize) {
    let mut stored = run.encode_layer(&touched);
    let sizes: Vec<u64> = layers.iter().map(|layer| layer.bytes).collect();
    let merged = layers.split_off(kept(&sizes, stored.len() as u64));
    if layers.is_empty() {
        (stored, touched) = (run.encode(), Touched::default());
    } else if !merged.is_empty() {
        merged.iter().for_each(|layer| touched.extend(&layer.touched));
        stored = run.encode_layer(&touched);
    }
    let (bytes, stays) = (stored.len() as u64, layers.len());
    layers.push(Layer { bytes, touched: Arc::new(touched), stored, _run: run.clone() });
    (bytes, stays)
}

/// Keys as applications make them, in no order.
fn name(at: u64, keys: u64) -> String {
    // A prime larger than any number of keys an index has: each key comes once.
    let mixed = (u128::from(at) * 15_485_863 % u128::from(keys)) as u64;
    format!("backups/2026-11/{:03}/object-{mixed:09}", mixed % 1000)
}

fn hash(at: u64, salt: u8) -> [u8; 32] {
    let mut bytes = [salt; 32];
    for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        let mixed = (at ^ (index as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        chunk.copy_from_slice(&(mixed ^ mixed >> 29).to_be_bytes());
    }
    bytes[0] ^= salt;
    bytes
}

fn id(at: u64, salt: u8) -> [u8; 16] {
    hash(at, salt)[..16].try_into().expect("16 of 32 bytes")
}

/// 3 of 6.
fn shape() -> Shape {
    Shape::new(3, 6, 1).expect("3 of 6 is a shape")
}

fn packed(first: u64, members: u64) -> Part {
    let holders = (0..4).map(|at| Holder { node: NodeKey(hash(at, 1)), deal: at }).collect();
    let page = PageRef { id: ShardId(hash(first, 2)), bytes: 4096, stripes: 1, holders };
    Part {
        number: pack::PART,
        object: id(first, 3),
        wrapped: [4; WRAPPED_BYTES],
        algorithm: Algorithm::Aes256Gcm,
        commitment: hash(first, 5),
        size_bytes: members * pack::sealed_bytes(OBJECT_BYTES),
        content: hash(first, 6),
        shape: shape(),
        home: Home::Own(page),
    }
}

fn entry(at: u64, pack: &Arc<Part>, member: u64) -> Entry {
    let home = Home::Pack { pack: pack.clone(), offset: member * pack::sealed_bytes(OBJECT_BYTES) };
    let part = Part {
        number: 1,
        object: id(at, 7),
        wrapped: [8; WRAPPED_BYTES],
        algorithm: Algorithm::Aes256Gcm,
        commitment: hash(at, 9),
        size_bytes: OBJECT_BYTES,
        content: hash(at, 10),
        shape: shape(),
        home,
    };
    Entry {
        modified_ms: 1_700_000_000_000 + at,
        etag: hex::encode(id(at, 11)),
        content_type: "application/octet-stream".into(),
        owner: Some("hodei22aa0872da00ce04".into()),
        parts: vec![part],
        ..Entry::default()
    }
}

fn resident() -> Result<f64> {
    status("VmRSS:")
}

fn peak() -> Result<f64> {
    status("VmHWM:")
}

/// Bytes that Linux says of this process.
fn status(name: &str) -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|line| line.starts_with(name)).context("no such line")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no value")?.parse()?;
    Ok(kib * 1024.0)
}
