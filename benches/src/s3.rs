//! Put and get through hodei's S3 door, beside Garage and Tahoe-LAFS on the same machine, in one run.
//!
//! Run: `cargo build --release && cargo run --release -p hodei-benches --bin bench-s3 -- --garage PATH --tahoe PATH`
//!
//! The binaries are the user's own: Garage keeps three copies on four nodes, once as it comes and once syncing what it
//! acknowledges, as hodei does; Tahoe codes 3 of 6 over six servers; hodei 3 of 6 over six providers, with four
//! validators. All stay up throughout and take turns, so that a slow minute of the machine hits each alike; the median
//! of the rounds counts.

mod cloud;
mod crowd;
mod door;
mod garage;
mod load;
mod peer;
mod tahoe;

use anyhow::{Context as _, Result, bail, ensure};
use cloud::{Cloud, cpu_secs};
use garage::Garage;
use load::{Door, Load, Took, measure};
use std::path::{Path, PathBuf};
use tahoe::Tahoe;

const ROUNDS: u64 = 3;
const MIB: usize = 1 << 20;
const LOADS: [(&str, Load); 2] = [
    ("1 object of 256 MiB, MB/s", Load { count: 1, bytes: 256 * MIB, at_once: 1 }),
    ("1,000 objects of 16 KiB, 16 at once, objects/s", Load { count: 1000, bytes: 16 << 10, at_once: 16 }),
];
/// Tahoe takes each object alone; a tenth of them tells its rate.
const TAHOE_COUNT_MAX: usize = 100;

#[expect(clippy::disallowed_methods, reason = "a bench is a program of its own")]
fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<()> {
    let (mut garage, mut tahoe) = (None, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let path = words.next().map(PathBuf::from).with_context(|| format!("{word} wants a path"))?;
        ensure!(path.is_file(), "{} is no file", path.display());
        match word.as_str() {
            "--garage" => garage = Some(path),
            "--tahoe" => tahoe = Some(path),
            _ => bail!("expected --garage PATH or --tahoe PATH, found {word}"),
        }
    }
    let cloud = Cloud::start()?;
    let folder = Path::new(cloud.doors["folder"].as_str().context("the demo has no folder")?).join("peers");
    let door::Door { http: client, bucket, keys } = door::Door::open(&cloud, "bench", 8)?;
    let ours = Door::S3 { bucket, keys };

    let plain = garage.as_deref().map(|path| Garage::start(path, &folder.join("garage"), false)).transpose()?;
    let synced = garage.as_deref().map(|path| Garage::start(path, &folder.join("garage-synced"), true)).transpose()?;
    let grid = match &tahoe {
        Some(path) => Some(Tahoe::start(path, &folder.join("tahoe"), &client).await?),
        None => None,
    };
    let mut doors = vec![("hodei", &ours, cloud.processes()?)];
    doors.extend(synced.as_ref().map(|garage| ("Garage, syncing", &garage.door, garage.processes())));
    doors.extend(plain.as_ref().map(|garage| ("Garage, as it comes", &garage.door, garage.processes())));
    doors.extend(grid.as_ref().map(|grid| ("Tahoe-LAFS", &grid.door, grid.processes())));

    for (what, load) in LOADS {
        println!("{what}");
        let mut rates: Vec<[Vec<f64>; 3]> = doors.iter().map(|_| Default::default()).collect();
        for round in 0..ROUNDS {
            for ((_, door, processes), rates) in doors.iter().zip(&mut rates) {
                let load = match door {
                    Door::Tahoe { .. } => Load { count: load.count.min(TAHOE_COUNT_MAX), ..load },
                    Door::S3 { .. } => load,
                };
                let cpu = cpu_secs(processes);
                let Took { put, get } = measure(door, &client, load, round).await?;
                let done = if load.count == 1 { load.bytes as f64 / 1e6 } else { load.count as f64 };
                rates[0].push(done / put);
                rates[1].push(done / get);
                rates[2].push((cpu_secs(processes) - cpu) / done);
            }
        }
        let median = |rates: &[f64]| {
            let mut rates = rates.to_vec();
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        };
        let [put, get, _] = rates[0].each_ref().map(|rates| median(rates));
        for ((name, ..), rates) in doors.iter().zip(&rates) {
            let [its_put, its_get, its_cpu] = rates.each_ref().map(|rates| median(rates));
            println!(
                "  {name:<20} put {its_put:>7.1} (hodei is {:.2} of it)  get {its_get:>7.1} (hodei is {:.2} of it)  \
                 {:.1} CPU-ms each, put and got",
                put / its_put,
                get / its_get,
                its_cpu * 1e3,
            );
        }
    }
    Ok(())
}
