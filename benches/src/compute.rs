//! Measure a component's cold and warm start beside the engine called directly, and what a host's node has in memory.
//!
//! Run: `cargo build --release && cargo run --release -p hodei-benches --bin bench-compute [REQUESTS]`
//!
//! 2,000 warm requests unless told. What stands beside it is the same engine with the same settings in this process:
//! no process of its own, no fences, no socket; so it is a ceiling, and the distance to it is what confining costs.
//! Memory is read from a `hodei node run` that offers to compute and nothing else, without a lease and with three
//! replicas that nobody asks.

mod ceiling;
mod cloud;
mod host;
mod machine;
mod peer;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use ceiling::Ceiling;
use cloud::Cloud;
use hodei_sandbox::{CompileLimits, Limits, Program, Sandbox, compile};
use host::Host;
use http_body_util::Full;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Compilations and cold starts; the median of them is told.
const ROUNDS: usize = 15;
/// What is asked, of either.
pub(crate) const URL: &str = "http://idle.localhost/";
/// A node that started is busy for a while.
const REST: Duration = Duration::from_secs(30);

/// Seconds of each station; the median of its rounds.
pub(crate) struct Took {
    /// Wasm to machine code, by the engine.
    pub(crate) compiled: f64,
    /// Machine code to what can make instances.
    pub(crate) loaded: f64,
    /// From nothing, with machine code at hand, to the last byte of a first answer.
    pub(crate) first: f64,
    /// One request of many, one after the other.
    pub(crate) warm: f64,
}

#[expect(clippy::disallowed_methods, reason = "a bench is a program of its own")]
fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let requests = std::env::args().nth(1).map_or(Ok(2000), |word| word.parse()).context("a number was expected")?;
    ensure!(requests > 0, "expected at least one request");
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello.wat").canonicalize()?;
    let wasm = wat::parse_file(&component)?;
    println!("{}: {} bytes of wasm, {requests} warm requests", component.display(), wasm.len());
    runtime.block_on(async {
        let ours = confined(&wasm, requests).await?;
        let metered = ceiling(&wasm, requests, true).await?;
        let bare = ceiling(&wasm, requests, false).await?;
        tell("compiled", 1e3, "ms", [ours.compiled, metered.compiled, bare.compiled]);
        tell("loaded", 1e6, "µs", [ours.loaded, metered.loaded, bare.loaded]);
        tell("first answer, cold", 1e3, "ms", [ours.first, metered.first, bare.first]);
        tell("request, warm", 1e6, "µs", [ours.warm, metered.warm, bare.warm]);
        println!("requests a second, warm, one process: {:.0}", 1.0 / ours.warm);
        Ok::<_, anyhow::Error>(())
    })?;
    memory(&component)
}

fn tell(what: &str, scale: f64, unit: &str, [ours, metered, bare]: [f64; 3]) {
    println!(
        "{what:<20} {:8.2} {unit} confined; {:8.2} {unit} in this process: ratio {:.2}; {:8.2} {unit} without fuel and epochs: {:.2}",
        scale * ours,
        scale * metered,
        ours / metered,
        scale * bare,
        ours / bare
    );
}

fn request() -> Result<http::Request<Full<Bytes>>> {
    Ok(http::Request::get(URL).body(Full::new(Bytes::new()))?)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn program() -> Result<Program> {
    let binary = std::env::current_exe()?.with_file_name("hodei");
    ensure!(binary.exists(), "build the binary first: cargo build --release");
    Ok(Program::new(binary, ["run-sandbox"]))
}

/// Through a process of its own, as hosts do it.
async fn confined(wasm: &[u8], requests: usize) -> Result<Took> {
    let program = program()?;
    let (mut compiled, mut loaded, mut first) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..ROUNDS {
        let code = compile(&program, wasm, &CompileLimits::default()).await?;
        compiled.push(code.compiled().context("it was compiled now")?.0.as_secs_f64());
        let begun = Instant::now();
        let mut sandbox = Sandbox::start(&program, &code, &Limits::default()).await?;
        asked(&mut sandbox).await?;
        first.push(begun.elapsed().as_secs_f64());
        loaded.push(sandbox.started().loaded_in.as_secs_f64());
        last = Some(sandbox);
    }
    let mut sandbox = last.context("a round")?;
    let begun = Instant::now();
    for _ in 0..requests {
        asked(&mut sandbox).await?;
    }
    let warm = begun.elapsed().as_secs_f64() / requests as f64;
    sandbox.stop().await;
    Ok(Took { compiled: median(compiled), loaded: median(loaded), first: median(first), warm })
}

async fn asked(sandbox: &mut Sandbox) -> Result<()> {
    let (head, body, end) = sandbox.request(request()?, now(), [7; 32]).await?.whole().await?;
    let status = head.map(|(status, _)| status.as_u16());
    ensure!(status == Some(200) && !body.is_empty() && end.failure.is_none(), "it answered {status:?}: {end:?}");
    Ok(())
}

/// The engine called here.
async fn ceiling(wasm: &[u8], requests: usize, is_metered: bool) -> Result<Took> {
    let (mut compiled, mut loaded, mut first) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let code = Ceiling::compile(wasm, is_metered)?;
        compiled.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let ceiling = Ceiling::load(&code, is_metered)?;
        loaded.push(begun.elapsed().as_secs_f64());
        ceiling.ask().await?;
        first.push(begun.elapsed().as_secs_f64());
        last = Some(ceiling);
    }
    let ceiling = last.context("a round")?;
    let begun = Instant::now();
    for _ in 0..requests {
        ceiling.ask().await?;
    }
    let warm = begun.elapsed().as_secs_f64() / requests as f64;
    Ok(Took { compiled: median(compiled), loaded: median(loaded), first: median(first), warm })
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// A node that offers to compute and nothing else: without a lease, and with replicas that nobody asks.
fn memory(component: &Path) -> Result<()> {
    let cloud = Cloud::start()?;
    let folder: PathBuf = std::env::temp_dir().join(format!("hodei-bench-compute-{}", std::process::id()));
    let host = Host::start(&cloud, folder)?;
    std::thread::sleep(REST);
    let (now, most) = machine::memory(&[host.id()])?;
    println!("a node that offers compute alone, no lease: {now:.1} MiB resident, {most:.1} at most, {}", host.pss()?);
    host.deploy(&cloud, component, 3)?;
    std::thread::sleep(REST);
    let (now, most) = machine::memory(&[host.id()])?;
    println!("  with 3 idle replicas: {now:.1} MiB resident, {most:.1} at most, {}", host.pss()?);
    let replicas = host.children()?;
    let (now, most) = machine::memory(&replicas)?;
    println!("  its {} replicas' processes: {now:.1} MiB resident together, {most:.1} at most", replicas.len());
    Ok(())
}
