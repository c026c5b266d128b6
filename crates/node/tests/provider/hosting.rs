//! Show that a host runs what its leases name, to the byte and no longer than they last.
//!
//! Each host is in this process, with its shelf, link and sandboxes; replicas are this test binary, started again. Only
//! the ledger is played.

use super::{CHAIN_ID, Folder, OWNER, leased::Leased, on_runtime};
use alloy_primitives::{Address, B256};
use commonware_runtime::{Supervisor as _, tokio::Context};
use hodei_audit::Log;
use hodei_ledger::{
    account::Account,
    wire::{receive, send},
};
use hodei_link::Link;
use hodei_node::{
    config::Compute,
    home::Home,
    host::{
        Host, Parts, Program, RUNNER,
        replay::{ReplayError, Verdict, replay},
        runner,
    },
    journal::Journal,
    tasks::Tasks,
};
use hodei_types::{
    ack::Signer,
    app::{
        Limits, Manifest, Seal,
        transcript::{Content, Outcome, Record, TranscriptError},
        wire::{Answer, CHUNK_BYTES_MAX, FRAME_BYTES_MAX, Readings, Replica, Request, State},
    },
    transport::{APP, NodeKey, Peer, Reach, Transport as _},
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;

#[path = "../../../sandbox/tests/sandbox/guests.rs"]
#[expect(dead_code, reason = "some guests are for the sandbox's own tests")]
mod guests;

#[path = "on_call.rs"]
mod on_call;

const VIEWER: [u8; 32] = [20; 32];
const HOST: [u8; 32] = [21; 32];
const OTHER: [u8; 32] = [22; 32];
const VISITOR: [u8; 32] = [23; 32];
const THIRD: [u8; 32] = [24; 32];
const MEMORY: u64 = 128 << 20;

static LOGS: AtomicU64 = AtomicU64::new(0);

/// This binary is also the program that replicas are run by: as in `main`, before anything else of it happens.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTER: extern "C" fn() = {
    extern "C" fn enter() {
        if std::env::args_os().nth(1).is_some_and(|word| word == RUNNER) {
            std::process::exit(runner::run());
        }
    }
    enter
};

/// A host that runs until it is stopped.
struct Running {
    host: Host<Context>,
    link: Link,
    peer: Peer,
    stop: watch::Sender<bool>,
    loops: tokio::task::JoinSet<()>,
}

impl Running {
    async fn start(context: &Context, folder: &Path, ledger: Arc<Leased>, secret: [u8; 32]) -> Self {
        let home = Home::create(folder).unwrap();
        let signer = Arc::new(Signer::new(&secret));
        // Of its own: the log of a host that was stopped may still be closing.
        let partition = format!("audit-{}", LOGS.fetch_add(1, Ordering::Relaxed));
        let settings = hodei_audit::log::Config::new(partition, B256::ZERO, [5; 32]);
        let log = Log::open(context.child("audit"), settings, Signer::new(&secret)).await.unwrap();
        let bind = "127.0.0.1:0".parse().unwrap();
        let config = hodei_link::Config { secret, bind, protocols: vec![APP], relays: Vec::new() };
        let (link, mut listener) = Link::bind(config).await.unwrap();
        let (stop, stopping) = watch::channel(false);
        let parts = Parts {
            chain: ledger.clone(),
            account: Account::new(ledger.clone(), &OWNER).unwrap(),
            signer,
            journal: Journal::new(log),
            tasks: Tasks::default(),
            stop: stopping,
            chain_id: CHAIN_ID,
            reach: Reach { addresses: vec![link.address().unwrap()], ..Reach::default() },
            link: link.clone(),
            program: Program::new(std::env::current_exe().unwrap(), [RUNNER]),
            code_key: secret,
        };
        let host = Host::start(&home, Compute { register: false, ..Compute::test() }, parts).unwrap();
        let mut loops = tokio::task::JoinSet::new();
        for (_, work) in host.loops() {
            loops.spawn(work);
        }
        let served = host.clone();
        tokio::spawn(async move {
            while let Some(incoming) = listener.accept().await {
                let served = served.clone();
                tokio::spawn(async move { served.serve(incoming).await });
            }
        });
        let peer = Peer::at(link.key(), vec![link.address().unwrap()]);
        ledger.host(host.id(), link.address().unwrap());
        Self { host, link, peer, stop, loops }
    }

    async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.loops.join_next().await.is_some() {}
        self.link.close().await;
    }
}

async fn visitor() -> Link {
    let bind = "127.0.0.1:0".parse().unwrap();
    let config = hodei_link::Config { secret: VISITOR, bind, protocols: Vec::new(), relays: Vec::new() };
    Link::bind(config).await.unwrap().0
}

fn manifest(wasm: &[u8]) -> Manifest {
    let viewer = Signer::new(&VIEWER).node();
    Manifest::new("shop", wasm, Limits { memory_bytes: MEMORY, ..Limits::default() }, viewer).unwrap()
}

/// One request with these frames behind it, and the first answer.
async fn ask(link: &Link, peer: &Peer, requests: Vec<Request>) -> Answer {
    let (mut sink, mut stream) = link.open(peer, APP).await.expect("the host is reached");
    for request in requests {
        // Who refuses stops reading: the answer is there all the same.
        let _ = send(&mut sink, request.encode()).await;
    }
    Answer::decode(&receive(&mut stream, FRAME_BYTES_MAX).await.expect("an answer")).expect("a whole one")
}

async fn give(link: &Link, peer: &Peer, lease: u64, manifest: &Manifest, wasm: &[u8]) -> Answer {
    let mut requests = vec![Request::Give { lease, manifest: manifest.clone() }];
    requests.extend(wasm.chunks(CHUNK_BYTES_MAX).map(|chunk| Request::Bytes(chunk.to_vec())));
    ask(link, peer, requests).await
}

/// Gives it once the host has heard of the lease.
async fn given(link: &Link, peer: &Peer, lease: u64, manifest: &Manifest, wasm: &[u8]) {
    for _ in 0..200 {
        match give(link, peer, lease, manifest, wasm).await {
            Answer::Given => return,
            Answer::Gone => tokio::time::sleep(Duration::from_millis(100)).await,
            other => panic!("{other:?}"),
        }
    }
    panic!("the host does not hear of its lease");
}

async fn look(link: &Link, peer: &Peer, lease: u64, seal: Option<Seal>) -> Answer {
    ask(link, peer, vec![Request::Look { lease, since: 0, seal }]).await
}

/// Waits until a replica is so.
async fn until(link: &Link, peer: &Peer, lease: u64, wanted: impl Fn(&Replica) -> bool) -> Replica {
    let mut last = None;
    for _ in 0..600 {
        match look(link, peer, lease, None).await {
            Answer::Replica(replica) if wanted(&replica) => return *replica,
            other => last = Some(other),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the replica stayed {last:?}");
}

fn is_ready(replica: &Replica) -> bool {
    replica.state == State::Ready
}

/// Status, body and readings of one request.
async fn fetched(link: &Link, peer: &Peer, lease: u64, body: &[u8]) -> (u16, Vec<u8>, Readings) {
    let (mut sink, mut stream) = link.open(peer, APP).await.expect("the host is reached");
    let headers = vec![("host".to_owned(), b"shop.localhost:8080".to_vec())];
    let head = Request::Ask { lease, method: "POST".into(), target: "/".into(), headers, voucher: None };
    send(&mut sink, head.encode()).await.unwrap();
    for chunk in body.chunks(CHUNK_BYTES_MAX) {
        send(&mut sink, Request::Bytes(chunk.to_vec()).encode()).await.unwrap();
    }
    send(&mut sink, Request::End.encode()).await.unwrap();
    let (mut status, mut came) = (0, Vec::new());
    loop {
        match Answer::decode(&receive(&mut stream, FRAME_BYTES_MAX).await.unwrap()).unwrap() {
            Answer::Head { status: found, .. } => status = found,
            Answer::Bytes(chunk) => came.extend_from_slice(&chunk),
            Answer::Done { readings, failure: None, due: None } => return (status, came, readings),
            other => panic!("{other:?}"),
        }
    }
}

fn seal(secret: &[u8; 32], node: &NodeKey, lease: u64) -> Seal {
    let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    Seal { at_ms, signature: Signer::new(secret).sign(&Seal::bytes(CHAIN_ID, node, lease, at_ms)) }
}

#[test]
fn a_host_says_once_that_it_took_up_a_lease_whose_start_it_promised() {
    let folder = Folder::new("started");
    on_runtime(folder.0.join("store"), |context| async move {
        let ledger = Leased::new();
        let running = Running::start(&context, &folder.0.join("host"), ledger.clone(), HOST).await;
        // Nobody gives its component: it is taken up all the same, and one without a level is not told of.
        ledger.promise(1, 4);
        for id in [1, 2] {
            ledger.lease(id, running.host.id(), [7; 32], MEMORY);
        }
        for _ in 0..600 {
            if !ledger.started().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(ledger.started(), [1]);
        running.stop().await;
    });
}

#[test]
fn a_component_given_over_the_link_answers_for_its_lease_and_no_longer() {
    let folder = Folder::new("hosting");
    on_runtime(folder.0.join("store"), |context| async move {
        let ledger = Leased::new();
        let running = Running::start(&context, &folder.0.join("host"), ledger.clone(), HOST).await;
        let (link, peer) = (visitor().await, running.peer.clone());
        let wasm = guests::echo();
        let manifest = manifest(&wasm);
        assert_eq!(give(&link, &peer, 7, &manifest, &wasm).await, Answer::Gone, "no lease yet");
        ledger.lease(7, running.host.id(), manifest.workload(), MEMORY);

        // Other bytes, fewer of them, and another manifest are not what the lease names.
        let mut bent = wasm.clone();
        *bent.last_mut().unwrap() ^= 1;
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(matches!(give(&link, &peer, 7, &manifest, &bent).await, Answer::Refused { .. }));
        let longer = [&wasm[..], &[0]].concat();
        assert!(matches!(give(&link, &peer, 7, &manifest, &longer).await, Answer::Refused { .. }));
        let other = Manifest { name: "other".into(), ..manifest.clone() };
        assert!(matches!(give(&link, &peer, 7, &other, &wasm).await, Answer::Refused { .. }));
        let Answer::NotReady { words } = ask(&link, &peer, asked(7)).await else { panic!("it has nothing to run") };
        assert!(words.contains("waiting for what it runs"), "{words}");

        given(&link, &peer, 7, &manifest, &wasm).await;
        until(&link, &peer, 7, is_ready).await;
        assert_eq!(ask(&link, &peer, vec![Request::Ping { lease: 7 }]).await, Answer::State(State::Ready));
        let sent: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
        let (status, came, readings) = fetched(&link, &peer, 7, &sent).await;
        assert_eq!(status, 200);
        assert!(came == sent, "what came back is what was sent");
        assert!(readings.fuel > 0 && readings.bytes_out == 200_000);

        // The log is for who has the viewer's seal, at this host.
        let node = running.link.key();
        let Answer::Replica(told) = look(&link, &peer, 7, Some(seal(&VIEWER, &node, 7))).await else { panic!("told") };
        assert!(String::from_utf8_lossy(&told.log).contains("host: started in"));
        assert_eq!((told.requests, told.failures, told.fuel), (1, 0, readings.fuel));
        assert!(matches!(look(&link, &peer, 7, Some(seal(&VISITOR, &node, 7))).await, Answer::Refused { .. }));
        assert!(matches!(look(&link, &peer, 7, Some(seal(&VIEWER, &link.key(), 7))).await, Answer::Refused { .. }));
        let Answer::Replica(bare) = look(&link, &peer, 7, None).await else { panic!("told") };
        assert!(bare.log.is_empty());

        assert_eq!(ask(&link, &peer, asked(8)).await, Answer::Gone, "another lease");
        ledger.end(7);
        for _ in 0..300 {
            if ask(&link, &peer, vec![Request::Ping { lease: 7 }]).await == Answer::Gone {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(ask(&link, &peer, asked(7)).await, Answer::Gone, "its lease ended");
        assert!(running.host.processes().is_empty());
        running.stop().await;
    });
}

/// What a host signs of one request, wanted when its answer is over.
async fn transcribed(link: &Link, peer: &Peer, lease: u64, body: &[u8]) -> Record {
    let (mut sink, mut stream) = link.open(peer, APP).await.expect("the host is reached");
    let mut said = vec![Request::Ask {
        lease,
        method: "POST".into(),
        target: "/a?b=c".into(),
        headers: Vec::new(),
        voucher: None,
    }];
    said.extend(body.chunks(CHUNK_BYTES_MAX).map(|chunk| Request::Bytes(chunk.to_vec())));
    said.push(Request::End);
    for request in said {
        send(&mut sink, request.encode()).await.unwrap();
    }
    loop {
        match Answer::decode(&receive(&mut stream, FRAME_BYTES_MAX).await.unwrap()).unwrap() {
            Answer::Head { .. } | Answer::Bytes(_) => {}
            Answer::Done { failure: None, .. } => send(&mut sink, Request::Transcribe.encode()).await.unwrap(),
            Answer::Transcript(Some(signed)) => return Record { signed: *signed, body: body.to_vec() },
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_request_written_down_runs_again_to_the_unit_and_a_host_that_signs_otherwise_is_told_apart() {
    let folder = Folder::new("hosting-replay");
    on_runtime(folder.0.join("store"), |context| async move {
        let (ledger, wasm) = (Leased::new(), guests::echo());
        let manifest = manifest(&wasm);
        let running = Running::start(&context, &folder.0.join("host"), ledger.clone(), HOST).await;
        ledger.lease(3, running.host.id(), manifest.workload(), MEMORY);
        let (link, peer) = (visitor().await, running.peer.clone());
        given(&link, &peer, 3, &manifest, &wasm).await;
        until(&link, &peer, 3, is_ready).await;

        let program = Program::new(std::env::current_exe().unwrap(), [RUNNER]);
        let body: Vec<u8> = (0..100_000u32).map(|at| (at % 249) as u8).collect();
        for (number, body) in [&b"once"[..], &body].into_iter().enumerate() {
            let record = transcribed(&link, &peer, 3, body).await;
            let told = &record.signed.transcript;
            assert_eq!((told.chain_id, told.lease, told.node), (CHAIN_ID, 3, running.link.key()));
            assert_eq!((told.manifest.workload(), told.number), (manifest.workload(), number as u64));
            assert_eq!((told.outcome.status, told.outcome.body), (Some(200), Content::of(body)));
            let replayed = replay(&program, &record, &wasm).await.unwrap();
            assert_eq!((replayed.verdict, &replayed.outcome), (Verdict::Same, &told.outcome));

            // Changed by others: the signature tells. Signed by a host that lies: the run does.
            let bends: [fn(&mut Outcome); 4] = [
                |outcome| outcome.fuel += 1,
                |outcome| outcome.memory_peak_bytes -= 1,
                |outcome| outcome.status = Some(201),
                |outcome| outcome.body = Content::of(b"else"),
            ];
            for bend in bends {
                let mut bent = record.clone();
                bend(&mut bent.signed.transcript.outcome);
                let refused = replay(&program, &bent, &wasm).await.unwrap_err();
                assert!(matches!(refused, ReplayError::Transcript(TranscriptError::Signature(_))), "{refused}");
                bent.signed = bent.signed.transcript.sign(&Signer::new(&HOST));
                assert_eq!(replay(&program, &bent, &wasm).await.unwrap().verdict, Verdict::Differs);
            }
        }
        let record = transcribed(&link, &peer, 3, b"more").await;
        let refused = replay(&program, &record, &guests::hello()).await.unwrap_err();
        assert!(matches!(refused, ReplayError::Component(_)), "{refused}");
        let mut foreign = record.signed.transcript.clone();
        foreign.engine = "engine-0".into();
        let foreign = Record { signed: foreign.sign(&Signer::new(&HOST)), ..record };
        assert!(matches!(replay(&program, &foreign, &wasm).await, Err(ReplayError::Engine { .. })));

        // The first of them its host kept, for the viewer alone.
        let node = running.link.key();
        let sample = |from: u64, seal: Seal| ask(&link, &peer, vec![Request::Sample { lease: 3, from, seal }]);
        let Answer::Transcript(Some(kept)) = sample(0, seal(&VIEWER, &node, 3)).await else { panic!("a sample") };
        assert_eq!((kept.transcript.number, kept.transcript.body), (0, Content::of(b"once")));
        assert_eq!(kept.verify(), Ok(()));
        assert_eq!(sample(1, seal(&VIEWER, &node, 3)).await, Answer::Transcript(None));
        assert!(matches!(sample(0, seal(&VISITOR, &node, 3)).await, Answer::Refused { .. }));
        assert!(matches!(ask(&link, &peer, vec![Request::Transcribe]).await, Answer::Refused { .. }));
        running.stop().await;
    });
}

fn asked(lease: u64) -> Vec<Request> {
    vec![
        Request::Ask { lease, method: "GET".into(), target: "/".into(), headers: Vec::new(), voucher: None },
        Request::End,
    ]
}

#[test]
fn a_killed_replica_comes_back_and_a_host_that_starts_again_keeps_its_components() {
    let folder = Folder::new("hosting-again");
    on_runtime(folder.0.join("store"), |context| async move {
        let (ledger, wasm) = (Leased::new(), guests::hello());
        let manifest = manifest(&wasm);
        let running = Running::start(&context, &folder.0.join("host"), ledger.clone(), HOST).await;
        ledger.lease(1, running.host.id(), manifest.workload(), MEMORY);
        let link = visitor().await;
        given(&link, &running.peer, 1, &manifest, &wasm).await;
        until(&link, &running.peer, 1, is_ready).await;
        assert_eq!(fetched(&link, &running.peer, 1, b"").await.1, b"hello");

        let process = running.host.processes()[&1];
        // SAFETY: the process is this host's own, and was there a moment ago.
        assert_eq!(unsafe { libc::kill(i32::try_from(process).unwrap(), libc::SIGKILL) }, 0);
        until(&link, &running.peer, 1, |replica| replica.starts == 2 && is_ready(replica)).await;
        assert_ne!(running.host.processes()[&1], process);
        assert_eq!(fetched(&link, &running.peer, 1, b"").await.1, b"hello");
        running.stop().await;

        // Nobody gives it again.
        let again = Running::start(&context.child("again"), &folder.0.join("host"), ledger, HOST).await;
        until(&link, &again.peer, 1, is_ready).await;
        assert_eq!(fetched(&link, &again.peer, 1, b"").await.1, b"hello");
        again.stop().await;
    });
}

#[test]
fn a_host_that_is_placed_later_gets_the_component_from_another() {
    let folder = Folder::new("hosting-fetch");
    on_runtime(folder.0.join("store"), |context| async move {
        let (ledger, wasm) = (Leased::new(), guests::hello());
        let manifest = manifest(&wasm);
        let first = Running::start(&context, &folder.0.join("first"), ledger.clone(), HOST).await;
        ledger.lease(1, first.host.id(), manifest.workload(), MEMORY);
        let link = visitor().await;
        given(&link, &first.peer, 1, &manifest, &wasm).await;
        let wanted = vec![Request::Fetch { workload: manifest.workload() }];
        let answer = ask(&link, &first.peer, wanted).await;
        assert!(matches!(answer, Answer::Refused { .. }), "who has no lease of it: {answer:?}");
        // The hash is on the ledger for all to see: who orders the same for himself is given nothing of others.
        let stranger = Signer::new(&VISITOR).node().0.into();
        ledger.on_call(9, Address::repeat_byte(9), stranger, manifest.workload(), (MEMORY, 1, 1000));
        let answer = ask(&link, &first.peer, vec![Request::Fetch { workload: manifest.workload() }]).await;
        assert!(matches!(answer, Answer::Refused { .. }), "another owner's host: {answer:?}");

        let second = Running::start(&context.child("second"), &folder.0.join("second"), ledger.clone(), OTHER).await;
        ledger.lease(2, second.host.id(), manifest.workload(), MEMORY);
        until(&link, &second.peer, 2, is_ready).await;
        assert_eq!(fetched(&link, &second.peer, 2, b"").await.1, b"hello");
        second.stop().await;
        first.stop().await;
    });
}

#[test]
fn a_component_that_asks_for_more_memory_than_its_lease_does_not_run() {
    let folder = Folder::new("hosting-memory");
    on_runtime(folder.0.join("store"), |context| async move {
        let (ledger, wasm) = (Leased::new(), guests::hello());
        let manifest = manifest(&wasm);
        let running = Running::start(&context, &folder.0.join("host"), ledger.clone(), HOST).await;
        ledger.lease(1, running.host.id(), manifest.workload(), MEMORY - 1);
        let link = visitor().await;
        given(&link, &running.peer, 1, &manifest, &wasm).await;
        let failed = until(&link, &running.peer, 1, |replica| replica.state == State::Failed).await;
        assert!(failed.words.contains("order more"), "{}", failed.words);
        assert!(running.host.processes().is_empty());
        running.stop().await;
    });
}

#[test]
fn a_host_that_two_watchers_miss_is_told_of_and_its_replica_goes_on_elsewhere() {
    let folder = Folder::new("hosting-watch");
    on_runtime(folder.0.join("store"), |context| async move {
        let (ledger, wasm) = (Leased::new(), guests::hello());
        let manifest = manifest(&wasm);
        // Two replicas of one order; what the first host loses goes to the third.
        let [first, other, next] = [HOST, OTHER, THIRD].map(|secret| B256::from(Signer::new(&secret).node().0));
        ledger.lease(1, first, manifest.workload(), MEMORY);
        ledger.lease_of(1, 2, other, manifest.workload(), MEMORY);
        ledger.watch(1, vec![other, next], next);
        let lost = Running::start(&context, &folder.0.join("lost"), ledger.clone(), HOST).await;
        let (second, third) = (context.child("second"), context.child("third"));
        let second = Running::start(&second, &folder.0.join("second"), ledger.clone(), OTHER).await;
        let third = Running::start(&third, &folder.0.join("third"), ledger.clone(), THIRD).await;
        let link = visitor().await;
        for (lease, running) in [(1, &lost), (2, &second)] {
            given(&link, &running.peer, lease, &manifest, &wasm).await;
            until(&link, &running.peer, lease, is_ready).await;
        }

        // Who misses nothing gives no word, and to strangers never.
        let concur = Request::Concur { lease: 1, generation: 0, round: 7 };
        assert!(matches!(ask(&link, &second.peer, vec![concur]).await, Answer::Refused { .. }));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(ledger.get(1).unwrap().generation, 0, "who answers is not accused");

        lost.stop().await;
        for _ in 0..900 {
            if ledger.get(3).is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        until(&link, &third.peer, 3, is_ready).await;
        assert_eq!(fetched(&link, &third.peer, 3, b"").await.1, b"hello", "nobody gave it again");
        let (was, now) = (ledger.get(1).unwrap(), ledger.get(3).unwrap());
        assert_eq!((was.state, was.generation, now.order), (2, 1, 1));
        assert_eq!(ledger.get(2).unwrap().generation, 0);
        let accused = |running: &Running| running.host.status()["watch"]["accused"].as_u64();
        assert_eq!((accused(&second), accused(&third)), (Some(1), Some(1)));
        second.stop().await;
        third.stop().await;
    });
}

#[test]
fn a_host_that_hears_it_is_suspect_shows_itself() {
    let folder = Folder::new("hosting-alive");
    on_runtime(folder.0.join("store"), |context| async move {
        let ledger = Leased::new();
        let running = Running::start(&context, &folder.0.join("host"), ledger.clone(), HOST).await;
        ledger.lease(1, running.host.id(), [1; 32], MEMORY);
        // Each time anew: what it said of one says nothing of the next.
        for generation in 1..=2 {
            ledger.suspect(1, 120_000);
            for _ in 0..300 {
                if ledger.get(1).unwrap().lostMs == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let lease = ledger.get(1).unwrap();
            assert_eq!((lease.lostMs, lease.generation, lease.state), (0, generation, 1));
        }
        running.stop().await;
    });
}
