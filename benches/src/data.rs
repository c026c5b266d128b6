//! Measure put and get of one file against the ceilings of this machine, in one run.
//!
//! Run: `cargo build --release && cargo run --release -p hodei-benches --bin bench-data [MIB]`
//!
//! Each figure is MB of the user's file per second over loopback. Ceilings: sealing, coding and hashing alone on all
//! cores; what the wire carries into six sinks, divided by n/k; what the disk takes, synced, divided by n/k. A client
//! and six providers share the cores with all of it, as they do in a demo.

mod cloud;

use anyhow::{Context as _, Result, ensure};
use cloud::{Cloud, cpu_secs};
use commonware_runtime::{Sink as _, Stream as _};
use hodei_link::{Config, Link};
use hodei_storage::{
    engine::{Coder, plain_bytes},
    seal::{Algorithm, PartKey, Place, Secret},
};
use hodei_types::{
    code::{Class, OPERATORS_FOR_TWO, SHARD_BYTES},
    transport::{Peer, SHARD, Transport as _},
};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

const MIB: usize = 1 << 20;
const SINKS: u8 = 6;
/// The demo's bucket: 3 of 6.
const CLASS: Class = Class::Small;
/// Runs of put and get; the median counts.
const RUNS: usize = 3;

fn main() -> Result<()> {
    let mib: usize = std::env::args().nth(1).map_or(Ok(512), |text| text.parse())?;
    let size = mib * MIB;
    let shape = CLASS.shape(OPERATORS_FOR_TWO);
    let expansion = f64::from(shape.n()) / f64::from(shape.k());
    println!("{mib} MiB, {} of {}, MB of the file per second", shape.k(), shape.n());

    let cloud = Cloud::start()?;
    let folder = Path::new(cloud.doors["folder"].as_str().context("the demo has no folder")?).join("bench");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("file");
    std::io::copy(&mut File::open("/dev/urandom")?.take(size as u64), &mut File::create(&file)?)?;
    hodei(&["data", "create", "bench", "--capacity", "8", "-y"])?;

    let mut ceilings = vec![
        ("seal, code and hash alone", coding(size)?),
        ("the wire into six sinks, k/n of it", wire(size)? / expansion),
        ("synced writes, k/n of them", disk(&folder, size)? / expansion),
    ];
    for (what, rate) in &ceilings {
        println!("ceiling: {what:<36} {rate:>7.0}");
    }
    ceilings.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (least, ceiling) = ceilings[0];

    let back = folder.join("back");
    let (local, returned) = (file.display().to_string(), back.display().to_string());
    let providers = cloud.children("node run")?;
    for what in ["put", "put over it", "get"] {
        let mut rates = Vec::new();
        let cpu = cpu_secs(&providers);
        for run in 0..RUNS {
            let remote = format!("hodei://bench/file-{run}");
            let (from, to) = if what == "get" { (&remote, &returned) } else { (&local, &remote) };
            let start = Instant::now();
            hodei(&["data", "cp", from, to, "--wait", "full"])?;
            rates.push(size as f64 / 1e6 / start.elapsed().as_secs_f64());
        }
        let cpu = (cpu_secs(&providers) - cpu) / RUNS as f64;
        rates.sort_by(f64::total_cmp);
        let rate = rates[RUNS / 2];
        println!(
            "{what}: {rate:.0}, {:.2} of the ceiling ({least}); {cpu:.1} CPU-seconds in {} providers",
            rate / ceiling,
            providers.len()
        );
    }
    ensure!(same(&file, &back)?, "what came back is another file");
    Ok(())
}

/// Runs the binary beside this one.
fn hodei(words: &[&str]) -> Result<()> {
    let binary = std::env::current_exe()?.with_file_name("hodei");
    let done = Command::new(binary).args(words).stdin(Stdio::null()).output()?;
    ensure!(done.status.success(), "hodei {words:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// MB of plaintext per second through the coder, on every core.
fn coding(size: usize) -> Result<f64> {
    let shape = CLASS.shape(OPERATORS_FOR_TWO);
    let threads = std::thread::available_parallelism()?.get();
    let stripe = plain_bytes(&shape) as usize;
    let each = (size / stripe / threads).max(1);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let algorithm = Algorithm::preferred();
                let place =
                    Place { network: [1; 32], bucket: [2; 32], object: [3; 16], part: 0, attempt: 0, algorithm };
                let coder = Coder::new(PartKey::new(&Secret::new([4; 32]), &place), &shape);
                let plain = vec![7u8; stripe];
                for number in 0..each {
                    std::hint::black_box(coder.code(number as u32, &plain, false).ids);
                }
            });
        }
    });
    Ok((each * threads * stripe) as f64 / 1e6 / start.elapsed().as_secs_f64())
}

/// MB per second from one link into six others that read and forget.
#[expect(clippy::disallowed_methods, reason = "a bench is a program of its own")]
fn wire(size: usize) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let bind = |secret: u8| {
            let bind = "127.0.0.1:0".parse().expect("an address");
            Link::bind(Config { secret: [secret; 32], bind, protocols: vec![SHARD], relays: Vec::new() })
        };
        let (client, _none) = bind(100).await?;
        let chunk = SHARD_BYTES as usize;
        let each = (size / chunk / usize::from(SINKS)).max(1);
        let mut tasks = Vec::new();
        let mut links = Vec::new();
        let start = Instant::now();
        for sink in 1..=SINKS {
            let (link, mut listener) = bind(sink).await?;
            let peer = Peer::at(link.key(), link.address().into_iter().collect());
            links.push(link);
            tasks.push(tokio::spawn(async move {
                let mut incoming = listener.accept().await.context("no stream came")?;
                for _ in 0..each {
                    incoming.stream.recv(chunk).await?;
                }
                incoming.sink.send(vec![1]).await?;
                // The answer is on its way until the client hangs up.
                let _ = incoming.stream.recv(1).await;
                Ok::<_, anyhow::Error>(())
            }));
            let client = client.clone();
            tasks.push(tokio::spawn(async move {
                let (mut sink, mut stream) = client.open(&peer, SHARD).await?;
                let shard = bytes::Bytes::from(vec![7u8; chunk]);
                for _ in 0..each {
                    sink.send(shard.clone()).await?;
                }
                stream.recv(1).await?;
                Ok(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok((each * chunk * usize::from(SINKS)) as f64 / 1e6 / start.elapsed().as_secs_f64())
    })
}

/// MB per second written one after the other into one file, synced each 64 MiB.
fn disk(folder: &Path, size: usize) -> Result<f64> {
    let path = folder.join("ceiling");
    let mut file = File::create(&path)?;
    let chunk = vec![7u8; MIB];
    let start = Instant::now();
    for number in 1..=size / MIB {
        file.write_all(&chunk)?;
        if number % 64 == 0 {
            file.sync_data()?;
        }
    }
    file.sync_data()?;
    let rate = size as f64 / 1e6 / start.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

fn same(one: &Path, other: &Path) -> Result<bool> {
    let mut files = [File::open(one)?, File::open(other)?];
    let mut buffers = [vec![0u8; MIB], vec![0u8; MIB]];
    if files[0].metadata()?.len() != files[1].metadata()?.len() {
        return Ok(false);
    }
    loop {
        let read = files[0].read(&mut buffers[0])?;
        if read == 0 {
            return Ok(true);
        }
        let [first, second] = &mut buffers;
        files[1].read_exact(&mut second[..read])?;
        if first[..read] != second[..read] {
            return Ok(false);
        }
    }
}
