//! Put, list and get many small objects through the S3 door, and tell whether the last cost as much as the first.
//!
//! Run: `cargo build --release && cargo run --release -p hodei-benches --bin bench-many [COUNT] [BYTES] [AT_ONCE]`
//!
//! A million objects of 1 KiB by 192 writers unless told. Keys come in no order. Every byte is compared. What it needs
//! on the disk is printed before, and refused where there is less.

mod cloud;
mod crowd;
mod door;
mod machine;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use cloud::{Cloud, cpu_secs};
use crowd::{content, each};
use door::Door;
use machine::{held, memory, room};
use rusty_s3::{S3Action as _, actions::ListObjectsV2};
use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const BUCKET: &str = "many";
const SIGNED: Duration = Duration::from_secs(3600);
/// Requests in flight: a client's pool opens a few connections more, and the door serves 256.
const AT_ONCE: u64 = 192;
/// Parts of a run whose rates are told one by one.
const TENTHS: u64 = 10;
/// Bytes on disk beside the object's own, on all processes: its index entry in layers that come and go, the events of
/// its put and get. Measured.
const BESIDE_BYTES: u64 = 6_000;

/// A door, and who asks there.
#[derive(Clone)]
struct Client {
    door: Door,
    count: u64,
    bytes: usize,
}

#[expect(clippy::disallowed_methods, reason = "a bench is a program of its own")]
fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut number = |other: u64| words.next().map_or(Ok(other), |word| word.parse()).context("a number was expected");
    let (count, bytes, at_once) = (number(1_000_000)?, number(1024)?, number(AT_ONCE)? as usize);
    if count < TENTHS {
        bail!("expected at least {TENTHS} objects, found {count}");
    }
    // 3 of 6 doubles what is put.
    let (each_bytes, temp) = (2 * bytes + BESIDE_BYTES, std::env::temp_dir());
    room(&temp, &format!("{count} objects of {bytes} bytes, {at_once} at once"), count * each_bytes)?;
    let cloud = Cloud::start()?;
    let door = Door::open(&cloud, BUCKET, ((count * each_bytes) >> 30) + 1)?;
    let client = Client { door, count, bytes: bytes as usize };
    let folder = PathBuf::from(cloud.doors["folder"].as_str().context("the demo has no folder")?);
    let begun = held(&folder)?;

    tell("put", &cloud, &client, at_once, Client::put).await?;
    let grown = held(&folder)?.saturating_sub(begun);
    println!("  on disk: {} bytes an object, of all processes", grown / count);
    list(&client, &cloud).await?;
    tell("get", &cloud, &client, at_once, Client::get).await?;
    println!("  on disk: {} bytes an object, of all processes", held(&folder)?.saturating_sub(begun) / count);
    first_read(&client)
}

/// Runs one request for each object, and prints its rate, the rate of each tenth, and what it cost whom.
async fn tell<F>(
    what: &str,
    cloud: &Cloud,
    client: &Client,
    at_once: usize,
    request: fn(Client, u64) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let sides = [
        ("gateway", vec![cloud.id()]),
        ("providers", cloud.children("node run")?),
        ("validators", cloud.children("validator run")?),
    ];
    let used: Vec<f64> = sides.iter().map(|(_, pids)| cpu_secs(pids)).collect();
    let own = cpu_secs(&[std::process::id()]);
    let (before, _) = memory(&sides[0].1)?;
    let start = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let ends: Arc<Vec<AtomicU64>> = Arc::new((0..TENTHS).map(|_| AtomicU64::new(0)).collect());
    let (asking, told, tenth) = (client.clone(), ends.clone(), client.count / TENTHS);
    each(client.count, at_once, move |at| {
        let (done, told, asked) = (done.clone(), told.clone(), request(asking.clone(), at));
        async move {
            asked.await?;
            let now = done.fetch_add(1, Ordering::Relaxed) + 1;
            if now.is_multiple_of(tenth)
                && let Some(end) = told.get((now / tenth) as usize - 1)
            {
                end.store(start.elapsed().as_micros() as u64, Ordering::Relaxed);
            }
            Ok(())
        }
    })
    .await?;
    let took = start.elapsed().as_secs_f64();
    let count = client.count as f64;
    println!("{what}: {took:.1} s, {:.0} a second", count / took);
    let mut last = 0.0;
    let rates = ends.iter().map(|end| {
        let end = end.load(Ordering::Relaxed) as f64 / 1e6;
        let rate = tenth as f64 / (end - last);
        last = end;
        format!("{rate:.0}")
    });
    println!("  a second, by tenths: {}", rates.collect::<Vec<_>>().join(" "));
    let costs = sides
        .iter()
        .zip(used)
        .map(|((name, pids), used)| format!("{name} {:.2}", (cpu_secs(pids) - used) * 1e3 / count));
    let own = (cpu_secs(&[std::process::id()]) - own) * 1e3 / count;
    println!("  CPU-ms each: {}, load generator {own:.2}", costs.collect::<Vec<_>>().join(", "));
    let (now, most) = memory(&sides[0].1)?;
    println!(
        "  gateway: {before:.0} → {now:.0} MiB, {most:.0} at most; {:.0} bytes an object more",
        (now - before) * 1048576.0 / count
    );
    Ok(())
}

/// Reads all pages of a listing.
async fn list(client: &Client, cloud: &Cloud) -> Result<()> {
    let used = cpu_secs(&[cloud.id()]);
    let (mut keys, mut pages, mut slowest, mut token) = (0u64, 0u64, 0f64, None::<String>);
    let start = Instant::now();
    loop {
        let mut ask = client.door.bucket.list_objects_v2(Some(&client.door.keys));
        if let Some(token) = token.take() {
            ask.with_continuation_token(token);
        }
        let now = Instant::now();
        let answer = client.door.http.get(ask.sign(SIGNED)).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        slowest = slowest.max(now.elapsed().as_secs_f64() * 1e3);
        ensure!(status.is_success(), "list: {status} {text}");
        let page = ListObjectsV2::parse_response(&text).map_err(|error| anyhow::anyhow!("list: {error}"))?;
        keys += page.contents.len() as u64;
        pages += 1;
        token = page.next_continuation_token;
        if token.is_none() {
            break;
        }
    }
    ensure!(keys == client.count, "expected {} keys, the listing has {keys}", client.count);
    let took = start.elapsed().as_secs_f64();
    println!("list: {took:.1} s, {:.0} keys a second; {pages} pages, the slowest {slowest:.0} ms", keys as f64 / took);
    println!("  CPU-ms a page: gateway {:.2}", (cpu_secs(&[cloud.id()]) - used) * 1e3 / pages as f64);
    Ok(())
}

/// A process that knows nothing yet reads one object.
fn first_read(client: &Client) -> Result<()> {
    let (key, file) = (client.name(client.count / 2), std::env::temp_dir().join("hodei-bench-many"));
    let start = Instant::now();
    let from = format!("hodei://{BUCKET}/{key}");
    let done = Command::new(std::env::current_exe()?.with_file_name("hodei"))
        .args(["data", "cp", &from])
        .arg(&file)
        .output()?;
    let took = start.elapsed().as_secs_f64();
    ensure!(done.status.success(), "get: {}", String::from_utf8_lossy(&done.stderr));
    let right = std::fs::read(&file)? == content(client.bytes, client.count / 2);
    std::fs::remove_file(&file)?;
    ensure!(right, "get {key}: other bytes");
    println!("a new process reads one of them: {took:.1} s");
    Ok(())
}

impl Client {
    /// Keys as applications make them, in no order.
    fn name(&self, at: u64) -> String {
        // A prime larger than any number of keys an index has: each comes once.
        let mixed = (u128::from(at) * 15_485_863 % u128::from(self.count)) as u64;
        format!("folder-{:03}/object-{mixed:09}", mixed % 1000)
    }

    async fn put(self, at: u64) -> Result<()> {
        let url = self.door.bucket.put_object(Some(&self.door.keys), &self.name(at)).sign(SIGNED);
        let answer = self.door.http.put(url).body(content(self.bytes, at)).send().await?;
        let status = answer.status();
        ensure!(status.is_success(), "put {at}: {status} {}", answer.text().await?);
        Ok(())
    }

    async fn get(self, at: u64) -> Result<()> {
        let url = self.door.bucket.get_object(Some(&self.door.keys), &self.name(at)).sign(SIGNED);
        let answer = self.door.http.get(url).send().await?;
        let (status, body): (_, Bytes) = (answer.status(), answer.bytes().await?);
        ensure!(status.is_success(), "get {at}: {status} {}", String::from_utf8_lossy(&body));
        ensure!(body == content(self.bytes, at), "get {at}: {} other bytes", body.len());
        Ok(())
    }
}
