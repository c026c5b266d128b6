//! Show that a host runs containers for its leases, and that they outlive it.
//!
//! Needs root, runc, mkfs.ext4, and busybox-static; `./check` installs them. Each host is in this process; containers are
//! stood by by this test binary, started again. Only the ledger is played.
#![cfg(all(feature = "host", target_os = "linux"))]

mod image;
#[path = "../provider/leased.rs"]
#[expect(dead_code, reason = "some of it is for hosts of components")]
mod leased;

use alloy_primitives::B256;
use commonware_runtime::{Runner as _, Supervisor as _, tokio::Context};
use hodei_audit::Log;
use hodei_ledger::{
    account::Account,
    wire::{receive, send},
};
use hodei_link::Link;
use hodei_node::{
    config::{Compute, Runs},
    home::Home,
    host::{Host, KEEPER, Parts, Program, RUNNER, keeper},
    journal::Journal,
    tasks::Tasks,
};
use hodei_types::{
    ack::Signer,
    app::{
        Limits, Manifest, Seal,
        container::Reach as Reaches,
        wire::{Answer, CHUNK_BYTES_MAX, FRAME_BYTES_MAX, Readings, Replica, Request, State},
    },
    transport::{APP, NodeKey, Peer, Reach, Transport as _},
};
use image::Image;
use leased::Leased;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;

const OWNER: [u8; 32] = [3; 32];
const CHAIN_ID: u64 = (1 << 31) + 5;
const VIEWER: [u8; 32] = [20; 32];
const VISITOR: [u8; 32] = [23; 32];
const SERVE: &str = "echo hello from inside; exec httpd -f -p 80 -h /www";

static LOGS: AtomicU64 = AtomicU64::new(0);

/// This binary also stands by containers: as in `main`, before anything else of it happens.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTER: extern "C" fn() = {
    extern "C" fn enter() {
        if std::env::args_os().nth(1).is_some_and(|word| word == KEEPER) {
            std::process::exit(keeper::run());
        }
    }
    enter
};

/// A folder of the test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hodei-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn on_runtime<F: Future>(store: PathBuf, work: impl FnOnce(Context) -> F) -> F::Output {
    let config = commonware_runtime::tokio::Config::new().with_storage_directory(store).with_worker_threads(2);
    commonware_runtime::tokio::Runner::new(config).start(work)
}

/// Another host for each test: containers of all of them are on one machine.
fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).unwrap();
    secret
}

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
            signer: Arc::new(Signer::new(&secret)),
            journal: Journal::new(log),
            tasks: Tasks::default(),
            stop: stopping,
            chain_id: CHAIN_ID,
            reach: Reach { addresses: vec![link.address().unwrap()], ..Reach::default() },
            link: link.clone(),
            program: Program::new(std::env::current_exe().unwrap(), [RUNNER]),
            code_key: secret,
        };
        let config = Compute { runtime: Runs::Oci, register: false, disk_bytes: 1 << 30, ..Compute::test() };
        let host = Host::start(&home, config, parts).unwrap_or_else(|error| panic!("needs root and runc: {error}"));
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

fn manifest(image: &Image) -> Manifest {
    manifest_of("shop", Signer::new(&VIEWER).node(), image)
}

fn manifest_of(name: &str, viewer: NodeKey, image: &Image) -> Manifest {
    Manifest::of_container(name, image.container.clone(), Limits::default(), viewer).unwrap()
}

/// Gives it once the host has heard of the lease, all that it wants; how many blobs those were.
async fn given(link: &Link, peer: &Peer, lease: u64, manifest: &Manifest, image: &Image) -> usize {
    for _ in 0..200 {
        let (mut sink, mut stream) = link.open(peer, APP).await.expect("the host is reached");
        let give = Request::Give { lease, manifest: manifest.clone() };
        send(&mut sink, give.encode()).await.unwrap();
        let wants = match Answer::decode(&receive(&mut stream, FRAME_BYTES_MAX).await.unwrap()).unwrap() {
            Answer::Wants { blobs } => blobs,
            Answer::Gone => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            other => panic!("{other:?}"),
        };
        for wanted in &wants {
            let at = image.container.blobs().iter().position(|blob| blob.sha256 == *wanted).expect("one of the image");
            for chunk in image.blobs[at].chunks(CHUNK_BYTES_MAX) {
                send(&mut sink, Request::Bytes(chunk.to_vec()).encode()).await.unwrap();
            }
        }
        let answer = Answer::decode(&receive(&mut stream, FRAME_BYTES_MAX).await.unwrap()).unwrap();
        assert_eq!(answer, Answer::Given);
        return wants.len();
    }
    panic!("the host does not hear of its lease");
}

async fn asked(link: &Link, peer: &Peer, request: Request) -> Answer {
    let (mut sink, mut stream) = link.open(peer, APP).await.expect("the host is reached");
    send(&mut sink, request.encode()).await.unwrap();
    Answer::decode(&receive(&mut stream, FRAME_BYTES_MAX).await.unwrap()).unwrap()
}

/// Waits until a replica is so, as its viewer sees it.
async fn until(link: &Link, peer: &Peer, lease: u64, wanted: impl Fn(&Replica) -> bool) -> Replica {
    let mut last = None;
    for _ in 0..600 {
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let signature = Signer::new(&VIEWER).sign(&Seal::bytes(CHAIN_ID, &peer.key, lease, at_ms));
        let look = Request::Look { lease, since: 0, seal: Some(Seal { at_ms, signature }) };
        match asked(link, peer, look).await {
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
async fn fetched(link: &Link, peer: &Peer, lease: u64, target: &str) -> (u16, Vec<u8>, Readings) {
    let (mut sink, mut stream) = link.open(peer, APP).await.expect("the host is reached");
    let headers = vec![("host".to_owned(), b"shop.localhost".to_vec()), ("connection".into(), b"upgrade".to_vec())];
    let head = Request::Ask { lease, method: "GET".into(), target: target.into(), headers, voucher: None };
    send(&mut sink, head.encode()).await.unwrap();
    send(&mut sink, Request::End.encode()).await.unwrap();
    let (mut status, mut came) = (0, Vec::new());
    loop {
        match Answer::decode(&receive(&mut stream, FRAME_BYTES_MAX).await.unwrap()).unwrap() {
            Answer::Head { status: found, headers } => {
                assert!(headers.iter().all(|(name, _)| name != "connection" && name != "transfer-encoding"));
                status = found;
            }
            Answer::Bytes(chunk) => came.extend_from_slice(&chunk),
            Answer::Done { readings, failure: None, due: None } => return (status, came, readings),
            other => panic!("{other:?}"),
        }
    }
}

fn said(replica: &Replica) -> String {
    String::from_utf8_lossy(&replica.log).into_owned()
}

/// The first processes of the containers that a host has, by what is on its disk.
fn processes(folder: &Path) -> Vec<i32> {
    let containers = std::fs::read_dir(folder.join("containers/containers")).unwrap();
    let states = containers.filter_map(|container| std::fs::read(container.unwrap().path().join("state.json")).ok());
    let pid = |state: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&state).unwrap()["pid"].as_i64().unwrap();
    states.map(|state| i32::try_from(pid(state)).unwrap()).collect()
}

fn is_alive(process: i32) -> bool {
    // SAFETY: signal 0 touches nothing.
    unsafe { libc::kill(process, 0) == 0 }
}

/// Waits until a host has so many containers.
async fn left(folder: &Path, count: usize) {
    for _ in 0..300 {
        if processes(folder).len() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?} are there, and {count} were expected", processes(folder));
}

#[test]
fn a_container_given_over_the_link_answers_is_started_again_and_ends_with_its_lease() {
    let folder = Folder::new("container");
    on_runtime(folder.0.join("store"), |context| async move {
        let (ledger, home) = (Leased::new(), folder.0.join("host"));
        let running = Running::start(&context, &home, ledger.clone(), secret()).await;
        let (link, peer) = (visitor().await, running.peer.clone());
        let image = Image::new(SERVE, Vec::new());
        let manifest = manifest(&image);
        ledger.lease_whole(7, running.host.id(), manifest.workload());
        assert_eq!(given(&link, &peer, 7, &manifest, &image).await, 2);
        assert_eq!(given(&link, &peer, 7, &manifest, &image).await, 0, "it is there already");
        let replica = until(&link, &peer, 7, |replica| is_ready(replica) && said(replica).contains("hello")).await;
        assert!(replica.used.is_some_and(|used| used.memory_bytes > 0), "{replica:?}");
        let (status, body, readings) = fetched(&link, &peer, 7, "/index.html").await;
        assert_eq!((status, body.as_slice()), (200, &b"a page of the image\n"[..]));
        assert!(readings.bytes_out > body.len() as u64 && readings.fuel == 0, "{readings:?}");
        assert_eq!(fetched(&link, &peer, 7, "/none").await.0, 404);

        let [process] = processes(&home)[..] else { panic!("one container") };
        // SAFETY: this test made it.
        assert_eq!(unsafe { libc::kill(process, libc::SIGKILL) }, 0);
        let again = until(&link, &peer, 7, |replica| replica.starts == 2 && is_ready(replica)).await;
        assert!(said(&again).contains("signal 9 ended it"), "{}", said(&again));
        assert_eq!(fetched(&link, &peer, 7, "/index.html").await.0, 200);

        ledger.end(7);
        left(&home, 0).await;
        assert_eq!(asked(&link, &peer, Request::Ping { lease: 7 }).await, Answer::Gone);
        running.stop().await;
    });
}

#[test]
fn a_container_outlives_its_host_and_is_adopted_and_one_whose_lease_ended_meanwhile_is_not() {
    let folder = Folder::new("adopted");
    on_runtime(folder.0.join("store"), |context| async move {
        let (ledger, home, secret) = (Leased::new(), folder.0.join("host"), secret());
        let running = Running::start(&context, &home, ledger.clone(), secret).await;
        let (link, peer) = (visitor().await, running.peer.clone());
        let image = Image::new(SERVE, Vec::new());
        let manifest = manifest(&image);
        ledger.lease_whole(8, running.host.id(), manifest.workload());
        given(&link, &peer, 8, &manifest, &image).await;
        until(&link, &peer, 8, is_ready).await;
        let [process] = processes(&home)[..] else { panic!("one container") };
        running.stop().await;
        assert!(is_alive(process), "it runs without its host");

        let running = Running::start(&context, &home, ledger.clone(), secret).await;
        let peer = running.peer.clone();
        let replica = until(&link, &peer, 8, is_ready).await;
        assert!(said(&replica).contains("ran on"), "{}", said(&replica));
        assert_eq!(processes(&home), [process]);
        assert_eq!(fetched(&link, &peer, 8, "/index.html").await.0, 200);
        running.stop().await;

        ledger.end(8);
        let running = Running::start(&context, &home, ledger.clone(), secret).await;
        left(&home, 0).await;
        assert!(!is_alive(process));
        running.stop().await;
    });
}

#[test]
fn a_host_of_containers_takes_no_component() {
    let folder = Folder::new("refusing");
    on_runtime(folder.0.join("store"), |context| async move {
        let ledger = Leased::new();
        let running = Running::start(&context, &folder.0.join("host"), ledger.clone(), secret()).await;
        let link = visitor().await;
        let component = Manifest::new("shop", b"wasm", Limits::default(), NodeKey([1; 32])).unwrap();
        ledger.lease_whole(9, running.host.id(), component.workload());
        let mut answer = Answer::Gone;
        for _ in 0..200 {
            answer = asked(&link, &running.peer, Request::Give { lease: 9, manifest: component.clone() }).await;
            if answer != Answer::Gone {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let Answer::Refused { words } = answer else { panic!("{answer:?}") };
        assert!(words.contains("order runtime wasm"), "{words}");
        ledger.end(9);
        running.stop().await;
    });
}

#[test]
fn a_container_reaches_another_app_of_its_owner_by_name_on_another_host() {
    let folder = Folder::new("reaching");
    on_runtime(folder.0.join("store"), |context| async move {
        let ledger = Leased::new();
        let homes = [folder.0.join("one"), folder.0.join("other")];
        let one = Running::start(&context, &homes[0], ledger.clone(), secret()).await;
        let other = Running::start(&context, &homes[1], ledger.clone(), secret()).await;
        let link = visitor().await;
        let db = Image::new(SERVE, Vec::new());
        let reaches = vec![Reaches { name: "db".into(), app: NodeKey([6; 32]), ports: vec![80] }];
        let line = "until wget -q -O - http://db/index.html; do sleep 0.2; done; exec httpd -f -p 80 -h /www";
        let shop = Image::new(line, reaches);
        let (its, shops) = (manifest_of("db", NodeKey([6; 32]), &db), manifest(&shop));
        ledger.lease_whole(1, one.host.id(), its.workload());
        ledger.lease_whole(2, other.host.id(), shops.workload());
        given(&link, &one.peer, 1, &its, &db).await;
        given(&link, &other.peer, 2, &shops, &shop).await;
        let replica = until(&link, &other.peer, 2, |replica| said(replica).contains("a page of the image")).await;
        assert!(replica.bytes_in > 0 && replica.bytes_out > 0, "what it moved is counted: {replica:?}");
        // Who has no lease of the owner is not let in.
        let answer = asked(&link, &one.peer, Request::Connect { lease: 1, app: NodeKey([6; 32]), port: 80 }).await;
        assert!(matches!(&answer, Answer::Refused { words } if words.contains("no running lease")), "{answer:?}");
        let answer = asked(&link, &one.peer, Request::Connect { lease: 1, app: NodeKey([5; 32]), port: 80 }).await;
        assert!(matches!(answer, Answer::Gone), "a lease of another app is none of this one's: {answer:?}");
        for lease in [1, 2] {
            ledger.end(lease);
        }
        for home in &homes {
            left(home, 0).await;
        }
        one.stop().await;
        other.stop().await;
    });
}
