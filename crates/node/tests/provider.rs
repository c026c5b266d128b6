//! Show that a provider keeps what it acknowledged, whatever ends its process.
//!
//! The provider runs in a process of its own (this test binary, started again), with its real store, index
//! and wire on loopback; only the ledger is played. The client is this process.

#[path = "provider/capped.rs"]
mod capped;
#[path = "provider/declining.rs"]
mod declining;
#[path = "provider/failing.rs"]
mod failing;
#[cfg(all(feature = "host", target_os = "linux"))]
#[path = "provider/hosting.rs"]
mod hosting;
#[path = "provider/kept.rs"]
mod kept;
#[cfg(all(feature = "host", target_os = "linux"))]
#[path = "provider/leased.rs"]
mod leased;
#[path = "provider/meeting.rs"]
mod meeting;
#[path = "provider/paid.rs"]
mod paid;
#[path = "provider/played.rs"]
mod played;

use alloy_primitives::B256;
use commonware_runtime::{Clock as _, Runner as _, Supervisor as _, tokio::Context};
use futures::{StreamExt, stream};
use hodei_audit::Log;
use hodei_ledger::account::Account;
use hodei_link::{Link, Listener};
use hodei_node::{
    config,
    home::Home,
    journal::Journal,
    provider::{Parts, Provider, ProviderError, crowd::probe, prove::ProveError},
    tasks::Tasks,
};
use hodei_storage::{
    crowd::VERSION,
    wire::{self, Answer, MESSAGE_BYTES_MAX, Reason, Request},
};
use hodei_types::{
    ack::Signer,
    grant::{Grant, Rights},
    slice::ShardId,
    transport::{CROWD, NodeKey, Peer, Reach, SHARD, Transport as _},
};
use played::Played;
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const PROVIDER: [u8; 32] = [1; 32];
const CLIENT: [u8; 32] = [2; 32];
const OWNER: [u8; 32] = [3; 32];
/// A spending account of the owner's, and somebody else's.
const BUDGET: [u8; 32] = [4; 32];
const STRANGER: [u8; 32] = [5; 32];
/// Somebody whom the owner lets restore what is lost of the bucket.
const CUSTODIAN: [u8; 32] = [6; 32];
const DEAL: u64 = 7;
const CHAIN_ID: u64 = (1 << 31) + 5;
const CHILD: &str = "HODEI_TEST_PROVIDER_HOME";

fn bucket() -> B256 {
    B256::repeat_byte(9)
}

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

fn offer() -> config::Provider {
    config::Provider { pledge_bytes: 64 << 20, keep_free_bytes: 0, register: false, ..config::Provider::default() }
}

async fn provider(context: &Context, home: &Home, ledger: Arc<Played>) -> (Provider<Context>, Tasks) {
    offering(context, home, ledger, offer()).await.unwrap()
}

async fn offering(
    context: &Context,
    home: &Home,
    ledger: Arc<Played>,
    offer: config::Provider,
) -> Result<(Provider<Context>, Tasks), ProviderError> {
    let tasks = Tasks::default();
    let settings = hodei_audit::log::Config::new("audit", B256::ZERO, [5; 32]);
    let log = Log::open(context.child("audit"), settings, Signer::new(&PROVIDER)).await.unwrap();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    // Lives as long as the process: these providers are ended, not stopped.
    std::mem::forget(stop);
    let parts = Parts {
        chain: ledger.clone(),
        account: Account::new(ledger, &OWNER).unwrap(),
        signer: Arc::new(Signer::new(&PROVIDER)),
        journal: Journal::new(log),
        tasks: tasks.clone(),
        stop: stopping,
        chain_id: CHAIN_ID,
        reach: Reach { addresses: vec!["127.0.0.1:1".parse().unwrap()], ..Reach::default() },
        // Whoever says that it is at an even port is there.
        probe: Arc::new(|peer| Box::pin(async move { peer.addresses.iter().all(|at| at.port() % 2 == 0) })),
    };
    let provider = Provider::start(context.child("provider"), home, offer, parts).await?;
    for (_, work) in provider.loops() {
        tokio::spawn(work);
    }
    Ok((provider, tasks))
}

/// A provider that has just begun, and what it runs on.
struct Begun {
    context: Context,
    home: Home,
    ledger: Arc<Played>,
    provider: Provider<Context>,
    tasks: Tasks,
}

/// Begins a provider with this offer in a folder of the test's own.
fn begun<F: Future<Output = ()>>(name: &str, offer: config::Provider, work: impl FnOnce(Begun) -> F) {
    let folder = Folder::new(name);
    let home = Home::create(folder.0.join("provider")).unwrap();
    on_runtime(home.store(), |context| async move {
        let ledger = Played::new(1 << 30);
        let (provider, tasks) = offering(&context, &home, ledger.clone(), offer).await.unwrap();
        work(Begun { context, home, ledger, provider, tasks }).await;
    });
}

async fn accept(mut listener: Listener, provider: Provider<Context>) {
    while let Some(incoming) = listener.accept().await {
        let provider = provider.clone();
        tokio::spawn(async move { provider.serve(incoming).await });
    }
}

/// Lets clients reach a provider as long as the link is kept.
async fn reached(provider: Provider<Context>) -> (Link, Peer) {
    let (link, listener) = bind(PROVIDER).await;
    tokio::spawn(accept(listener, provider));
    let peer = Peer::at(link.key(), vec![link.address().unwrap()]);
    (link, peer)
}

async fn bind(secret: [u8; 32]) -> (Link, Listener) {
    let bind = "127.0.0.1:0".parse().unwrap();
    Link::bind(hodei_link::Config { secret, bind, protocols: vec![SHARD], relays: Vec::new() }).await.unwrap()
}

/// Not a test of its own: the provider's process, when started as one.
#[test]
fn provider_process() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let home = Home::create(PathBuf::from(home)).unwrap();
    on_runtime(home.store(), |context| async move {
        let ledger = Played::new(1 << 40);
        let (provider, _) = provider(&context, &home, ledger).await;
        let (link, listener) = bind(PROVIDER).await;
        println!("\nlistening {}", link.address().unwrap());
        accept(listener, provider).await;
    });
}

/// A provider process, killed without warning when dropped.
struct Process(Child, Peer);

impl Process {
    fn start(home: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["provider_process", "--exact", "--nocapture"])
            .env(CHILD, home)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address: SocketAddr = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening ")?.parse().ok())
            .expect("the provider says where it listens");
        Self(child, Peer::at(Signer::new(&PROVIDER).node(), vec![address]))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL, as `kill -9`.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn grant(client: NodeKey, rights: Rights) -> Vec<u8> {
    signed(&OWNER, client, rights)
}

fn signed(signer: &[u8; 32], client: NodeKey, rights: Rights) -> Vec<u8> {
    Grant::sign(signer, CHAIN_ID, bucket(), &client, rights, u64::MAX).unwrap().encode()
}

fn shard(number: u64, bytes: usize) -> (ShardId, bytes::Bytes) {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(&number.to_be_bytes()).finalize_xof().fill(&mut content);
    (ShardId::of(&content), content.into())
}

/// One request; `None` when the provider went away.
async fn ask(link: &Link, peer: &Peer, request: Request, body: bytes::Bytes) -> Option<(Answer, bytes::Bytes)> {
    let (mut sink, mut stream) = link.open(peer, SHARD).await.ok()?;
    // Whoever refuses a body stops reading it: the answer is there all the same.
    let _ = wire::send(&mut sink, request.encode(), body).await;
    let answer = Answer::decode(&wire::receive(&mut stream, MESSAGE_BYTES_MAX).await.ok()?).expect("an answer");
    let body = match &answer {
        Answer::Slice { len, .. } => wire::body(&mut stream, *len as usize).await.ok()?,
        _ => bytes::Bytes::new(),
    };
    Some((answer, body))
}

fn put(id: ShardId, len: usize, grant: &[u8]) -> Request {
    Request::Put { deal: DEAL, id, len: len as u32, upload: [0; 16], grant: grant.to_vec() }
}

#[test]
fn killed_in_the_middle_of_puts_it_keeps_what_it_acknowledged() {
    let folder = Folder::new("kill");
    let home = folder.0.join("provider");
    let client = folder.0.join("client");
    on_runtime(client, |context| async move {
        let (link, _listener) = bind(CLIENT).await;
        let grant = grant(link.key(), Rights::ALL);
        let node = Signer::new(&PROVIDER).node();
        let mut acked: Vec<(u64, ShardId, u64)> = Vec::new();
        for round in 0..4u64 {
            let process = Process::start(&home);
            let peer = process.1.clone();
            // The wire notices in its own time that the process it talked to is gone.
            while ask(&link, &peer, Request::Hello { version: 1 }, bytes::Bytes::new()).await.is_none() {
                context.sleep(Duration::from_millis(100)).await;
            }
            // What earlier rounds acknowledged is there, byte for byte.
            for (number, id, _) in &acked {
                let get = Request::Get { deal: DEAL, id: *id, offset: 0, len: 0, grant: grant.clone() };
                let (answer, body) = ask(&link, &peer, get, bytes::Bytes::new()).await.expect("it answers");
                assert!(matches!(answer, Answer::Slice { .. }), "shard {number} of {answer:?}");
                assert_eq!(ShardId::of(&body), *id, "shard {number} came back changed");
            }
            let state = Request::State { deal: DEAL, grant: grant.clone() };
            let (answer, _) = ask(&link, &peer, state, bytes::Bytes::new()).await.unwrap();
            let Answer::State { ack, .. } = answer else { panic!("{answer:?}") };
            let signed = acked.iter().map(|(_, _, sequence)| *sequence).max().unwrap_or(0);
            assert!(ack.map_or(0, |ack| ack.statement.sequence) >= signed, "a signed change was forgotten");

            // Puts without end, and a kill once some are acknowledged and others on their way.
            let mut puts = stream::iter(0..2_000u64)
                .map(|number| {
                    let (number, link, peer, grant) = (round * 10_000 + number, &link, &peer, &grant);
                    async move {
                        let (id, body) = shard(number, 16 << 10);
                        let (answer, _) = ask(link, peer, put(id, body.len(), grant), body).await?;
                        let Answer::Held(held) = answer else { return None };
                        held.verify(CHAIN_ID, &node, DEAL, &id, 16 << 10).expect("an ack that proves itself");
                        Some((number, id, held.ack.statement.sequence))
                    }
                })
                .buffer_unordered(8);
            let before = acked.len();
            while acked.len() < before + 40 {
                acked.extend(puts.next().await.flatten());
            }
            drop(process);
            // Those that were on their way: answered or not, but never half.
            while let Ok(Some(last)) = tokio::time::timeout(Duration::from_millis(200), puts.next()).await {
                match last {
                    Some(last) => acked.push(last),
                    None => break,
                }
            }
            drop(puts);
            context.sleep(Duration::from_millis(10)).await;
        }
        assert!(acked.len() >= 160);
    });
}

#[test]
fn what_cannot_be_taken_is_refused_before_the_body() {
    let folder = Folder::new("refuse");
    let process = Process::start(&folder.0.join("provider"));
    on_runtime(folder.0.join("client"), |_| async move {
        let (link, _listener) = bind(CLIENT).await;
        let peer = &process.1;
        let rights = grant(link.key(), Rights::ALL);
        let (id, body) = shard(1, 256 << 10);
        // No body is ever sent here: an answer shows that it was not waited for.
        let refusal =
            async |request: Request| ask(&link, peer, request, bytes::Bytes::new()).await.expect("an answer").0;

        let unknown = Request::Put { deal: 8, id, len: 4096, upload: [0; 16], grant: rights.clone() };
        let answer = refusal(unknown).await;
        assert!(matches!(answer, Answer::Refused { reason: Reason::UnknownDeal, .. }), "{answer:?}");
        let strangers = grant(NodeKey([8; 32]), Rights::ALL);
        let by_a_stranger = signed(&STRANGER, link.key(), Rights::ALL);
        for bad in [vec![], strangers, by_a_stranger, grant(link.key(), Rights::READ)] {
            let answer = refusal(put(id, 4096, &bad)).await;
            assert!(matches!(answer, Answer::Refused { reason: Reason::NotGranted, .. }), "{answer:?}");
        }
        // Bytes that are not the shard named.
        let (answer, _) = ask(&link, peer, put(ShardId([7; 32]), body.len(), &rights), body).await.unwrap();
        assert!(matches!(answer, Answer::Refused { reason: Reason::WrongBytes, .. }), "{answer:?}");

        // 64 MiB are pledged: they fill up, and then nothing is read any more.
        let mut full = None;
        for number in 0..128 {
            let (id, body) = shard(number, 1 << 20);
            match ask(&link, peer, put(id, body.len(), &rights), body).await.expect("an answer").0 {
                Answer::Held(_) => {}
                Answer::Full { free_bytes } => {
                    full = Some((number, free_bytes));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        let (taken, free_bytes) = full.expect("64 MiB do not take 128");
        assert!((32..=64).contains(&taken) && free_bytes < 2 << 20, "{taken} taken, {free_bytes} free");
        let answer = refusal(put(shard(999, 1 << 20).0, 1 << 20, &rights)).await;
        assert!(matches!(answer, Answer::Full { .. }), "{answer:?}");
        // What it holds it still gives, to the owner and to whom the owner lets spend.
        for grant in [rights, signed(&BUDGET, link.key(), Rights::ALL)] {
            let get = Request::Get { deal: DEAL, id: shard(0, 1 << 20).0, offset: 4096, len: 8192, grant };
            let (answer, body) = ask(&link, peer, get, bytes::Bytes::new()).await.unwrap();
            assert!(matches!(answer, Answer::Slice { len: 8192, .. }), "{answer:?}");
            assert_eq!(body, shard(0, 1 << 20).1.slice(4096..12_288));
        }
    });
}

#[test]
fn a_pass_is_served_to_its_reader_until_it_ends_by_the_providers_clock_and_to_nobody_else() {
    let folder = Folder::new("pass");
    let home = Home::create(folder.0.join("provider")).unwrap();
    on_runtime(home.store(), |context| async move {
        let ledger = Played::new(1 << 30);
        let (provider, _) = provider(&context, &home, ledger.clone()).await;
        let (_listening, peer) = reached(provider).await;
        let (owner, _owner) = bind(CLIENT).await;
        let (reader, _reader) = bind([11; 32]).await;
        let (thief, _thief) = bind([12; 32]).await;
        let (id, body) = shard(1, 64 << 10);
        let rights = grant(owner.key(), Rights::ALL);
        let (answer, _) = ask(&owner, &peer, put(id, body.len(), &rights), body.clone()).await.unwrap();
        assert!(matches!(answer, Answer::Held(_)), "{answer:?}");

        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let sell = |signer: &[u8; 32], until_ms: u64| {
            Grant::sign(signer, CHAIN_ID, bucket(), &reader.key(), Rights::READ, until_ms).unwrap()
        };
        let pass = sell(&OWNER, now_ms + 3_600_000);
        let get = |grant: &Grant| {
            let grant = grant.encode();
            Request::Get { deal: DEAL, id, offset: 0, len: 8192, grant }
        };
        let none = bytes::Bytes::new;
        let (answer, got) = ask(&reader, &peer, get(&pass), none()).await.unwrap();
        assert!(matches!(answer, Answer::Slice { len: 8192, .. }), "{answer:?}");
        assert_eq!(got, body.slice(..8192));

        let later = Grant { expires_ms: pass.expires_ms + 1, ..pass };
        let open = Grant { is_bearer: true, ..pass };
        for (who, grant, why) in [
            (&thief, pass, "another reader"),
            (&thief, open, "a pass is no link"),
            (&reader, later, "a later end"),
            (&reader, sell(&OWNER, now_ms - 1), "its end is over"),
            (&reader, sell(&STRANGER, now_ms + 3_600_000), "not the owner's word"),
        ] {
            // Twice: what was verified once is remembered.
            for _ in 0..2 {
                let (answer, _) = ask(who, &peer, get(&grant), none()).await.unwrap();
                assert!(matches!(answer, Answer::Refused { reason: Reason::NotGranted, .. }), "{why}: {answer:?}");
            }
        }
        // To read is all it lets its reader do.
        let (other, bytes) = shard(2, 64 << 10);
        let ids = vec![id];
        for request in [
            put(other, bytes.len(), &pass.encode()),
            Request::Release { deal: DEAL, ids: ids.clone(), grant: pass.encode() },
            Request::Keep { deal: DEAL, ids, until_ms: now_ms, grant: pass.encode() },
        ] {
            let (answer, _) = ask(&reader, &peer, request, none()).await.unwrap();
            assert!(matches!(answer, Answer::Refused { reason: Reason::NotGranted, .. }), "{answer:?}");
        }
    });
}

#[test]
fn what_was_deleted_cannot_be_proven() {
    begun("deleted", offer(), |Begun { home, ledger, provider, tasks, .. }| async move {
        let (id, body) = shard(1, 64 << 10);
        let held = provider.store().put(DEAL, id, [0; 16], body).await.unwrap();
        ledger.draw(&held.ack.statement, 5, 64);
        let task = tasks.enter("test");
        // The proof is made and sent; the played ledger takes no transaction.
        assert!(matches!(provider.look(&task).await, Err(ProveError::Account(_))));
        for file in std::fs::read_dir(home.store().join("shards")).unwrap() {
            let path = file.unwrap().path();
            let length = std::fs::metadata(&path).unwrap().len();
            std::fs::write(&path, vec![0; length as usize]).unwrap();
        }
        let look = provider.look(&task).await;
        assert!(matches!(look, Err(ProveError::Lost { deal: DEAL, leaf: 5, .. })), "{look:?}");
    });
}
