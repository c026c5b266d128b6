//! Put hostile and honest components into sandboxes, each in a process of its own.

mod guests;

use bytes::Bytes;
use hodei_sandbox::{
    Code, Codes, CodesError, CompileLimits, End, Entry, Error, Failure, Fence, FrameError, Limits, Program, Sandbox,
    compile,
};
use http_body_util::Full;
use hyper::body::{Body, Frame};
use std::{
    collections::BTreeSet,
    convert::Infallible,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    pin::Pin,
    process::{Command, Stdio},
    task::{Context, Poll},
    time::Duration,
};

const NOW: Duration = Duration::from_secs(1_800_000_000);
const SEED: [u8; 32] = [7; 32];

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_hodei-sandbox"), [""; 0])
}

async fn compiled(wasm: &[u8]) -> Code {
    compile(&program(), wasm, &CompileLimits::default()).await.expect("it compiles")
}

async fn started(wasm: &[u8], limits: &Limits) -> Sandbox {
    Sandbox::start(&program(), &compiled(wasm).await, limits).await.expect("it starts")
}

fn get(body: impl Into<Bytes>) -> http::Request<Full<Bytes>> {
    http::Request::get("http://app.example/").body(Full::new(body.into())).expect("a request")
}

/// Status, body and end of one request.
async fn asked(sandbox: &mut Sandbox, body: impl Into<Bytes>) -> (Option<u16>, Vec<u8>, End) {
    let exchange = sandbox.request(get(body), NOW, SEED).await.expect("it is asked");
    let (head, body, end) = exchange.whole().await.expect("it ends");
    (head.map(|(status, _)| status.as_u16()), body, end)
}

/// A folder that goes when the test does.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hodei-sandbox-{}-{name}", std::process::id()));
        std::fs::remove_dir_all(&path).ok();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[tokio::test]
async fn a_component_answers_over_http_and_says_what_it_used() {
    let mut sandbox = started(&guests::hello(), &Limits::default()).await;
    assert_eq!(sandbox.entry(), Entry::Http);
    assert!(sandbox.started().cold >= sandbox.started().loaded_in);
    for _ in 0..3 {
        let (status, body, End { readings, failure, .. }) = asked(&mut sandbox, "").await;
        assert_eq!((status, body.as_slice(), failure), (Some(200), b"hello".as_slice(), None));
        assert!(readings.fuel > 0 && readings.wall >= readings.instantiated_in);
        assert_eq!((readings.memory_peak_bytes, readings.bytes_out), (2 << 16, 5));
    }
}

#[tokio::test]
async fn a_body_goes_in_and_out_as_a_stream() {
    let mut sandbox = started(&guests::echo(), &Limits::default()).await;
    let sent: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
    let (_, body, End { readings, failure, .. }) = asked(&mut sandbox, sent.clone()).await;
    assert_eq!(failure, None);
    assert!(body == sent, "what came back is what was sent");
    assert_eq!((readings.bytes_in, readings.bytes_out), (1_000_000, 1_000_000));
}

#[tokio::test]
async fn a_command_runs_and_prints() {
    let mut sandbox = started(&guests::command(), &Limits::default()).await;
    assert_eq!(sandbox.entry(), Entry::Command);
    let input = Full::new(Bytes::new());
    let exchange = sandbox.run(vec!["app".into()], vec![], input, NOW, SEED).await.expect("it runs");
    let (head, body, end) = exchange.whole().await.expect("it ends");
    assert!(head.is_none());
    assert_eq!((body.as_slice(), end.failure), (b"hello".as_slice(), None));
    let (_, _, end) = asked(&mut sandbox, "").await;
    assert_eq!(end.failure, Some(Failure::Kind), "a command answers no requests");
}

#[tokio::test]
async fn an_endless_loop_ends_at_its_deadline_and_the_runner_lives_on() {
    let limits = Limits { deadline: Duration::from_millis(200), fuel_max: 1 << 62, ..Limits::default() };
    let mut sandbox = started(&guests::endless(), &limits).await;
    let process = sandbox.process_id();
    for _ in 0..2 {
        let (status, _, end) = asked(&mut sandbox, "").await;
        assert_eq!((status, end.failure), (None, Some(Failure::Deadline)));
    }
    assert_eq!(sandbox.process_id(), process);
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_fuel_to_the_unit() {
    let limits = Limits { fuel_max: 1_000_000, ..Limits::default() };
    let mut sandbox = started(&guests::endless(), &limits).await;
    let (_, _, end) = asked(&mut sandbox, "").await;
    assert_eq!((end.failure, end.readings.fuel), (Some(Failure::Fuel), 1_000_000));
}

#[tokio::test]
async fn memory_beyond_the_limit_is_refused_and_the_component_hears_it() {
    let mut sandbox = started(&guests::greedy(), &Limits::default()).await;
    let (_, body, end) = asked(&mut sandbox, "").await;
    assert_eq!((body.as_slice(), end.failure), (b"refused".as_slice(), None));
    assert_eq!((end.readings.memory_refusals, end.readings.memory_peak_bytes), (1, 2 << 16));
    let limits = Limits { memory_bytes_max: 1 << 30, ..Limits::default() };
    let mut sandbox = started(&guests::greedy(), &limits).await;
    let (_, body, end) = asked(&mut sandbox, "").await;
    assert_eq!((body.as_slice(), end.readings.memory_peak_bytes), (b"allowed".as_slice(), (10_240 + 2) << 16));
}

#[tokio::test]
async fn a_component_that_starts_with_too_much_memory_does_not_start() {
    let limits = Limits { memory_bytes_max: 1 << 16, ..Limits::default() };
    let mut sandbox = started(&guests::hello(), &limits).await;
    assert_eq!(asked(&mut sandbox, "").await.2.failure, Some(Failure::Memory));
}

#[tokio::test]
async fn no_file_is_there_to_be_opened() {
    let mut sandbox = started(&guests::reader(), &Limits::default()).await;
    let (_, body, end) = asked(&mut sandbox, "").await;
    assert_eq!((body.as_slice(), end.failure), (b"refused".as_slice(), None));
}

#[tokio::test]
async fn a_socket_is_refused() {
    let mut sandbox = started(&guests::dialler(), &Limits::default()).await;
    let (_, body, end) = asked(&mut sandbox, "").await;
    assert_eq!((body.as_slice(), end.failure), (b"refused".as_slice(), None));
}

#[tokio::test]
async fn a_request_to_another_host_is_refused_as_denied_and_counted() {
    let mut sandbox = started(&guests::client(), &Limits::default()).await;
    let (_, body, end) = asked(&mut sandbox, "").await;
    assert_eq!((body.as_slice(), end.failure), (b"refused".as_slice(), None));
    assert_eq!(end.readings.outgoing_refusals, 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_runner_tried_to_get_out_and_could_not() {
    let code = compiled(&guests::hello()).await;
    let (_, compiler) = code.compiled().expect("it was compiled now").clone();
    let sandbox = Sandbox::start(&program(), &code, &Limits::default()).await.expect("it starts");
    for confinement in [&compiler, sandbox.confinement()] {
        for (name, fence) in confinement.fences() {
            // Landlock depends on the kernel; whatever is missing is said, and the filter of calls refuses the same.
            assert!(*fence == Fence::Stands || name == "landlock", "{name}: {fence:?}");
        }
    }
}

#[tokio::test]
async fn what_takes_too_long_to_compile_is_ended_and_the_next_compiles() {
    let limits = CompileLimits { deadline: Duration::from_millis(50), ..CompileLimits::default() };
    let bombed = compile(&program(), &guests::bomb(100_000), &limits).await;
    assert!(matches!(bombed, Err(Error::CompileDeadline(_))), "{bombed:?}");
    let mut sandbox = started(&guests::hello(), &Limits::default()).await;
    assert_eq!(asked(&mut sandbox, "").await.1, b"hello");
}

/// How a bomb ended that was compiled within limits in which a small component does compile.
async fn bombed(limits: &CompileLimits, steps: usize) -> (String, String) {
    compile(&program(), &guests::hello(), limits).await.expect("a small component compiles within them");
    let bombed = compile(&program(), &guests::bomb(steps), limits).await;
    let Err(Error::Ended { status, words }) = bombed else { panic!("{bombed:?}") };
    (status, words)
}

#[tokio::test]
async fn what_takes_too_much_memory_to_compile_is_ended_and_the_next_compiles() {
    let limits = CompileLimits { memory_bytes_max: 24 << 20, ..CompileLimits::default() };
    let (status, words) = bombed(&limits, 100_000).await;
    assert!(status.contains("SIGABRT") && words.contains("memory allocation"), "{status}: {words}");
    let mut sandbox = started(&guests::hello(), &Limits::default()).await;
    assert_eq!(asked(&mut sandbox, "").await.1, b"hello");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_takes_too_much_processor_time_to_compile_is_ended_and_the_next_compiles() {
    let limits = CompileLimits { cpu_secs_max: 1, ..CompileLimits::default() };
    let (status, words) = bombed(&limits, 400_000).await;
    // Linux kills what has used all of it; only where the two limits differ is it warned before.
    assert!(status.contains("SIGKILL") && words.is_empty(), "{status}: {words}");
    let mut sandbox = started(&guests::hello(), &Limits::default()).await;
    assert_eq!(asked(&mut sandbox, "").await.1, b"hello");
}

#[tokio::test]
async fn wasm_longer_than_allowed_is_not_even_sent() {
    let limits = CompileLimits { wasm_bytes_max: 10, ..CompileLimits::default() };
    let refused = compile(&program(), &guests::hello(), &limits).await;
    assert!(matches!(refused, Err(Error::WasmTooLong { limit: 10, .. })), "{refused:?}");
}

#[tokio::test]
async fn what_is_no_component_is_refused() {
    for wasm in [b"no wasm at all".as_slice(), &guests::binary("(module)")] {
        let refused = compile(&program(), wasm, &CompileLimits::default()).await;
        assert!(matches!(refused, Err(Error::NotAComponent(_))), "{refused:?}");
    }
    let code = compiled(&guests::binary("(component)")).await;
    let refused = Sandbox::start(&program(), &code, &Limits::default()).await.err();
    assert!(matches!(refused, Some(Error::NotAComponent(_))), "it has no entry: {refused:?}");
}

#[tokio::test]
async fn an_oversized_frame_of_a_runner_is_refused_by_the_agent() {
    let code = compiled(&guests::hello()).await;
    let liar = Program::new("/bin/sh", ["-c", r"printf '\377\377\377\377' >&0; read line"]);
    let refused = Sandbox::start(&liar, &code, &Limits::default()).await.err();
    assert!(matches!(refused, Some(Error::Frame(FrameError::TooLong { found: 0xffff_ffff }))), "{refused:?}");
}

#[test]
fn an_oversized_frame_of_an_agent_is_refused_by_the_runner() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut runner = Command::new(env!("CARGO_BIN_EXE_hodei-sandbox"))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    ours.write_all(&[0xff; 4]).unwrap();
    let mut words = String::new();
    runner.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!(runner.wait().unwrap().code(), Some(1));
    assert!(words.contains("4294967295 bytes"), "{words}");
}

#[tokio::test]
async fn a_runner_that_dies_is_an_error_with_its_last_words() {
    let code = compiled(&guests::hello()).await;
    let dying = Program::new("/bin/sh", ["-c", "echo out of everything >&2; exit 7"]);
    let refused = Sandbox::start(&dying, &code, &Limits::default()).await.err();
    let Some(Error::Ended { status, words }) = refused else { panic!("{refused:?}") };
    assert!(status.contains('7') && words == "out of everything", "{status}: {words}");
}

#[tokio::test]
async fn the_same_request_uses_the_same_fuel_in_every_run() {
    let code = compiled(&guests::echo()).await;
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut sandbox = Sandbox::start(&program(), &code, &Limits::default()).await.expect("it starts");
        for _ in 0..2 {
            let (_, _, end) = asked(&mut sandbox, vec![1; 10_000]).await;
            runs.push((end.readings.fuel, end.readings.memory_peak_bytes, end.failure));
        }
    }
    assert!(runs.iter().all(|run| *run == runs[0] && run.0 > 0), "{runs:?}");
    let mut sandbox = Sandbox::start(&program(), &code, &Limits::default()).await.expect("it starts");
    let (_, _, end) = asked(&mut sandbox, vec![1; 20_000]).await;
    assert!(end.readings.fuel > runs[0].0, "more to do uses more: {end:?}");
}

/// A body that comes in pieces of one length.
struct Pieces {
    left: Bytes,
    length: usize,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.left.len().min(self.length);
        Poll::Ready((next > 0).then(|| Ok(Frame::data(self.left.split_to(next)))))
    }
}

#[tokio::test]
async fn the_same_circumstance_gives_the_same_fuel_memory_and_body_in_two_processes() {
    let code = compiled(&guests::gambler()).await;
    let mut processes = Vec::new();
    for _ in 0..2 {
        let mut sandbox = Sandbox::start(&program(), &code, &Limits::default()).await.expect("it starts");
        let mut runs = Vec::new();
        for seed in 0..32 {
            let now = NOW + Duration::from_secs(seed.into());
            let exchange = sandbox.request(get(""), now, [seed; 32]).await.expect("it is asked");
            let (_, body, End { readings, failure, .. }) = exchange.whole().await.expect("it ends");
            assert_eq!((failure, body.len()), (None, 20));
            assert_eq!(body[8..16], now.as_secs().to_le_bytes(), "the time is what it was told");
            runs.push((readings.fuel, readings.memory_peak_bytes, readings.bytes_in, readings.bytes_out, body));
        }
        processes.push(runs);
    }
    assert_eq!(processes[0], processes[1]);
    let fuels: BTreeSet<u64> = processes[0].iter().map(|run| run.0).collect();
    let peaks: BTreeSet<u64> = processes[0].iter().map(|run| run.1).collect();
    assert!(fuels.len() > 16 && peaks.len() > 4, "chance is another under each seed: {fuels:?} {peaks:?}");
}

#[tokio::test]
async fn how_a_body_arrives_changes_nothing() {
    let code = compiled(&guests::echo()).await;
    let sent: Bytes = (0..150_000u32).map(|at| (at % 251) as u8).collect();
    let mut runs = Vec::new();
    for length in [97, 4096, 65_535, 65_536, 65_537, 150_000] {
        let mut sandbox = Sandbox::start(&program(), &code, &Limits::default()).await.expect("it starts");
        let body = Pieces { left: sent.clone(), length };
        let request = http::Request::post("http://app.example/").body(body).expect("a request");
        let exchange = sandbox.request(request, NOW, SEED).await.expect("it is asked");
        let (_, body, End { readings, failure, .. }) = exchange.whole().await.expect("it ends");
        assert!(failure.is_none() && body == sent, "{length}");
        runs.push((readings.fuel, readings.memory_peak_bytes, readings.bytes_in, readings.bytes_out));
    }
    assert!(runs.iter().all(|run| *run == runs[0] && run.0 > 0), "{runs:?}");
}

#[tokio::test]
async fn bodies_beyond_their_limits_are_cut_off() {
    let limits = Limits { request_bytes_max: 5000, response_bytes_max: 1000, ..Limits::default() };
    let mut sandbox = started(&guests::echo(), &limits).await;
    let (_, body, end) = asked(&mut sandbox, vec![1; 1000]).await;
    assert_eq!((body.len(), end.failure), (1000, None));
    let (_, body, end) = asked(&mut sandbox, vec![1; 5000]).await;
    assert!(body.len() <= 1000);
    assert_eq!(end.failure, Some(Failure::ResponseTooLong(1000)));
    // The head may be there before the body turns out too long.
    let refused = match sandbox.request(get(vec![1; 5001]), NOW, SEED).await {
        Ok(exchange) => exchange.end().await.err(),
        Err(error) => Some(error),
    };
    assert!(matches!(refused, Some(Error::Request(_))), "{refused:?}");
}

#[tokio::test]
async fn a_sandbox_whose_exchange_was_left_answers_no_other() {
    let mut sandbox = started(&guests::hello(), &Limits::default()).await;
    drop(sandbox.request(get(""), NOW, SEED).await.expect("it is asked"));
    let refused = sandbox.request(get(""), NOW, SEED).await.err();
    assert!(matches!(refused, Some(Error::Left)), "{refused:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_stopped_sandbox_leaves_no_process() {
    let sandbox = started(&guests::hello(), &Limits::default()).await;
    let process = PathBuf::from(format!("/proc/{}", sandbox.process_id().expect("it runs")));
    assert!(process.exists());
    sandbox.stop().await;
    assert!(!process.exists());
}

#[tokio::test]
async fn code_is_compiled_once_and_taken_only_with_the_agents_own_seal() {
    let folder = Folder::new("codes");
    let (wasm, limits) = (guests::hello(), CompileLimits::default());
    let codes = Codes::open(&folder.0, [1; 32]).expect("a folder");
    let first = codes.compiled(&program(), &wasm, &limits).await.expect("it compiles");
    assert!(first.compiled().is_some());
    let second = codes.compiled(&program(), &wasm, &limits).await.expect("it is kept");
    assert!(second.compiled().is_none() && second.digest() == first.digest() && second.len() == first.len());
    let mut sandbox = Sandbox::start(&program(), &second, &Limits::default()).await.expect("kept code runs");
    assert_eq!(asked(&mut sandbox, "").await.1, b"hello");

    let other = Codes::open(&folder.0, [2; 32]).expect("a folder");
    assert!(matches!(other.get(first.digest(), &limits), Err(CodesError::Foreign(_))), "another agent's code");
    let path = std::fs::read_dir(&folder.0).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(codes.get(first.digest(), &limits), Err(CodesError::Foreign(_))), "changed code");
    let third = codes.compiled(&program(), &wasm, &limits).await.expect("it compiles anew");
    assert!(third.compiled().is_some());
    assert!(codes.get(first.digest(), &limits).expect("readable").is_some());
}
