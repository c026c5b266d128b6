//! Show a provider whose disk rots, is emptied, or is full, and one that is told to leave.

use super::{
    Begun, CHAIN_ID, CLIENT, DEAL, Folder, OWNER, PROVIDER, Played, accept, ask, begun, bind, grant, offer, offering,
    on_runtime, provider, put, shard,
};
use alloy_primitives::B256;
use alloy_sol_types::SolEvent as _;
use commonware_runtime::{Clock as _, Metrics as _, Supervisor as _, tokio::Context};
use hodei_audit::Log;
use hodei_ledger::account::Account;
use hodei_node::{
    config, disk,
    home::Home,
    journal::Journal,
    provider::{Provider, ProviderError, prove::ProveError},
    tasks::Tasks,
};
use hodei_storage::wire::{Answer, Request};
use hodei_types::{
    abi::{DEALS, IDeals, IProviders, PROVIDERS},
    ack::Signer,
    event::{Event, Fields, Kind, Value},
    grant::Rights,
    slice::ShardId,
    transport::Peer,
};
use std::{
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::PathBuf,
    time::Duration,
};

fn segments(home: &Home) -> Vec<PathBuf> {
    let files = std::fs::read_dir(home.store().join("shards")).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

/// Flips one bit in the middle of a shard, where it lies in the store's files.
fn rot(home: &Home, content: &[u8]) {
    for path in segments(home) {
        let bytes = std::fs::read(&path).unwrap();
        let Some(at) = bytes.windows(64).position(|window| window == &content[..64]) else { continue };
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[bytes[at + 700] ^ 1], at as u64 + 700).unwrap();
        return;
    }
    panic!("the shard is in no file of the store");
}

/// The log's events of a kind whose field `name` has this value.
pub(super) async fn told(provider_log: &Log<Context>, kind: Kind, name: &str, value: &Value) -> Vec<Event> {
    provider_log.sync().await.unwrap();
    let mut found = Vec::new();
    for sequence in 0..provider_log.len() {
        let event = Event::decode(&provider_log.event(sequence).await.unwrap()).unwrap();
        if event.kind == kind && event.fields.get(name) == Some(value) {
            found.push(event);
        }
    }
    found
}

#[test]
fn rot_is_found_told_and_no_longer_claimed() {
    // Nothing is read again but what the test asks for.
    let offer = config::Provider { scrub_bytes_per_s: 0, ..offer() };
    begun("rot", offer, |Begun { context, home, ledger, provider, tasks }| async move {
        let mut held = Vec::new();
        for number in 0..8 {
            let (id, body) = shard(number, 64 << 10);
            held.push((id, provider.store().put(DEAL, id, [0; 16], body).await.unwrap()));
        }
        let newest = held.last().unwrap().1.ack.statement;
        assert_eq!(provider.scrub_once(None, u64::MAX).await.unwrap(), (None, 8 * (64 << 10)));
        rot(&home, &shard(3, 64 << 10).1);
        let ids: Vec<ShardId> = held.iter().map(|(id, _)| *id).collect();
        // A little at a time, it comes by.
        let (mut mark, mut turns) = (None, 0);
        loop {
            let (next, bytes) = provider.scrub_once(mark.as_ref(), 100_000).await.unwrap();
            assert!(bytes <= 128 << 10, "no more in one turn than was asked for, and the shard begun");
            (mark, turns) = (next, turns + 1);
            if mark.is_none() {
                break;
            }
        }
        assert!(turns >= 4, "{turns}");
        let claimed = provider.store().has(DEAL, &ids).await.unwrap();
        assert_eq!(claimed, (0..8).map(|number| number != 3).collect::<Vec<_>>());
        let events = told(provider.log(), Kind::Fault, "shard", &Value::Bytes(ids[3].0.to_vec())).await;
        assert_eq!(events.len(), 1);
        let text = context.encode();
        assert!(text.contains("rotten_shards_total 1"), "{text}");
        provider.measure();
        assert!(context.encode().contains("lost_shards 1"));
        let status = provider.status();
        assert_eq!(status["lost_bytes"], 64 << 10);
        let found = &status["scrub"];
        assert_eq!((&found["passes"], &found["rotten"]), (&2.into(), &1.into()), "{found}");
        assert!(found["shards"].as_u64().unwrap() >= 15 && found["rotten_ms"].is_u64() && found["last_ms"].is_u64());
        let kept = std::fs::read_to_string(home.index().join("scrub.json")).unwrap();
        assert!(kept.contains("\"rotten\":1"), "the next process tells it too: {kept}");
        // Drawn, it is missed: nothing is sent.
        let task = tasks.enter("test");
        ledger.draw(&newest, 3 * 64 + 5, 512);
        assert!(matches!(provider.look(&task).await, Err(ProveError::Lost { .. })));
        ledger.draw(&newest, 4 * 64 + 5, 512);
        assert!(matches!(provider.look(&task).await, Err(ProveError::Account(_))), "a proof was made, and refused");
    });
}

#[test]
fn files_deleted_while_it_runs_are_missed_in_the_next_proof() {
    begun("emptied", offer(), |Begun { home, ledger, provider, tasks, .. }| async move {
        let (id, body) = shard(1, 64 << 10);
        let held = provider.store().put(DEAL, id, [0; 16], body).await.unwrap().ack.statement;
        for file in segments(&home) {
            std::fs::remove_file(file).unwrap();
        }
        ledger.draw(&held, 5, 64);
        let look = provider.look(&tasks.enter("test")).await;
        assert!(matches!(look, Err(ProveError::Lost { deal: DEAL, leaf: 5, .. })), "{look:?}");
        let events = told(provider.log(), Kind::Fault, "verdict", &Value::Text("removed".into())).await;
        assert_eq!(events.len(), 1, "told once");
        assert_eq!(provider.store().has(DEAL, &[id]).await.unwrap(), vec![false]);
    });
}

#[test]
fn space_shown_is_what_the_file_system_says_also_after_a_restart() {
    let folder = Folder::new("space");
    let home = &Home::create(folder.0.join("provider")).unwrap();
    for round in 0..2u64 {
        on_runtime(home.store(), |context| async move {
            let (provider, _) = provider(&context, home, Played::new(1 << 30)).await;
            for number in 0..12 {
                let (id, body) = shard(round * 100 + number, 1 << 20);
                provider.store().put(DEAL, id, [0; 16], body).await.unwrap();
            }
            // What `du` counts: blocks given to the store's files.
            let disk: u64 = segments(home).iter().map(|path| std::fs::metadata(path).unwrap().blocks() * 512).sum();
            let shown = provider.status()["used_bytes"].as_u64().unwrap();
            assert!(shown.abs_diff(disk) * 100 <= disk, "shown {shown}, on disk {disk}");
            assert_eq!(provider.status()["held_bytes"], (round + 1) * (12 << 20));
        });
    }
}

/// A provider on the wire, and a client's grant for it.
async fn served(provider: Provider<Context>) -> (hodei_link::Link, Peer, Vec<u8>) {
    let (link, listener) = bind(PROVIDER).await;
    let peer = Peer::at(Signer::new(&PROVIDER).node(), vec![link.address().unwrap()]);
    tokio::spawn(async move {
        let _link = link;
        accept(listener, provider).await;
    });
    let (client, _listener) = bind(CLIENT).await;
    let rights = grant(client.key(), Rights::ALL);
    (client, peer, rights)
}

/// Returns once the ledger's events are followed: the first pass is done.
async fn followed(context: &Context, tasks: &Tasks) {
    while tasks.list()["report"].doing != "reading the deals" && tasks.list()["report"].passes == 0 {
        context.sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_full_disk_is_refused_before_the_body_and_what_is_held_is_served() {
    let folder = Folder::new("full-disk");
    let home = &Home::create(folder.0.join("provider")).unwrap();
    let reserved = || config::Provider { keep_free_bytes: u64::MAX / 2, ..offer() };
    on_runtime(home.store(), |context| async move {
        // Nothing is held yet: an offer that cannot be kept is not made.
        let refused = offering(&context, home, Played::new(1 << 30), reserved()).await;
        assert!(matches!(refused, Err(ProviderError::Pledge { used: 0, .. })));
    });
    on_runtime(home.store(), |context| async move {
        let (provider, _) = provider(&context, home, Played::new(1 << 30)).await;
        let (id, body) = shard(1, 64 << 10);
        provider.store().put(DEAL, id, [0; 16], body).await.unwrap();
        let (shown, disk) =
            (provider.status()["disk_free_bytes"].as_u64().unwrap(), disk::free_bytes(home.path()).unwrap());
        // Others write to this disk between the two questions.
        assert!(shown.abs_diff(disk) <= disk / 10, "shown {shown}, the file system says {disk}");
        assert!(provider.free_bytes() > 0);
    });
    // Somebody else has filled the disk: its owner's reserve is larger than what is left.
    on_runtime(home.store(), |context| async move {
        let (provider, _) =
            offering(&context, home, Played::new(1 << 30), reserved()).await.expect("it goes on proving");
        assert_eq!(provider.free_bytes(), 0, "also what is left of a segment takes room once it is written");
        let (link, peer, rights) = served(provider.clone()).await;
        let (id, _) = shard(999, 1 << 20);
        // No body is ever sent: the answer shows that none was waited for.
        let (answer, _) = ask(&link, &peer, put(id, 1 << 20, &rights), bytes::Bytes::new()).await.unwrap();
        assert!(matches!(answer, Answer::Full { free_bytes } if free_bytes < 1 << 20), "{answer:?}");
        let get = Request::Get { deal: DEAL, id: shard(1, 64 << 10).0, offset: 0, len: 0, grant: rights };
        let (answer, body) = ask(&link, &peer, get, bytes::Bytes::new()).await.unwrap();
        assert!(matches!(answer, Answer::Slice { .. }), "{answer:?}");
        assert_eq!(body, shard(1, 64 << 10).1);
    });
}

/// What it holds it gives until the deals end; nothing else is waited for.
async fn gives_and_takes_nothing_new(link: &hodei_link::Link, peer: &Peer, rights: Vec<u8>, held: ShardId) {
    let (other, body) = shard(2, 64 << 10);
    let (answer, _) = ask(link, peer, put(other, body.len(), &rights), bytes::Bytes::new()).await.unwrap();
    assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
    let get = Request::Get { deal: DEAL, id: held, offset: 0, len: 0, grant: rights };
    let (answer, _) = ask(link, peer, get, bytes::Bytes::new()).await.unwrap();
    assert!(matches!(answer, Answer::Slice { .. }), "{answer:?}");
}

#[test]
fn a_running_provider_notices_that_it_is_to_leave() {
    begun("drain", offer(), |Begun { context, ledger, provider, tasks, .. }| async move {
        let (link, peer, rights) = served(provider.clone()).await;
        let (id, body) = shard(1, 64 << 10);
        let (answer, _) = ask(&link, &peer, put(id, body.len(), &rights), body).await.unwrap();
        assert!(matches!(answer, Answer::Held(_)), "{answer:?}");
        followed(&context, &tasks).await;
        ledger.tell(PROVIDERS, IProviders::Retired { node: provider.id() }.encode_log_data());
        while !provider.is_draining() {
            context.sleep(Duration::from_millis(20)).await;
        }
        gives_and_takes_nothing_new(&link, &peer, rights, id).await;
        let drain = &provider.status()["drain"];
        assert_eq!((&drain["open_deals"], &drain["may_go"]), (&serde_json::json!([DEAL]), &false.into()));
        assert_eq!(drain["held_bytes"], 64 << 10);
        let events = told(provider.log(), Kind::Deal, "what", &Value::Text("retired".into())).await;
        assert_eq!(events.len(), 1);
    });
}

/// The ledger takes no root of a closed provider: an acknowledgement of it would be worth nothing.
#[test]
fn a_provider_that_the_ledger_closed_takes_nothing_new_and_gives_what_it_has() {
    begun("closed", offer(), |Begun { context, ledger, provider, tasks, .. }| async move {
        let (link, peer, rights) = served(provider.clone()).await;
        let (id, body) = shard(1, 64 << 10);
        let (answer, _) = ask(&link, &peer, put(id, body.len(), &rights), body).await.unwrap();
        assert!(matches!(answer, Answer::Held(_)), "{answer:?}");
        followed(&context, &tasks).await;
        ledger.tell(DEALS, IDeals::Closed { provider: provider.id(), window: 7 }.encode_log_data());
        while !provider.is_closed() {
            context.sleep(Duration::from_millis(20)).await;
        }
        gives_and_takes_nothing_new(&link, &peer, rights, id).await;
        assert_eq!(provider.status()["closed"], true);
    });
}

#[test]
fn an_ended_deals_shards_go_and_the_log_says_which() {
    begun("ended", offer(), |Begun { context, ledger, provider, tasks, .. }| async move {
        let mut root = [0; 32];
        for number in 0..3 {
            let (id, body) = shard(number, 16 << 10);
            root = provider.store().put(DEAL, id, [0; 16], body).await.unwrap().ack.statement.root;
        }
        followed(&context, &tasks).await;
        let ended =
            IDeals::Ended { deal: DEAL, bucket: B256::ZERO, provider: provider.id(), refund: Default::default() };
        ledger.tell(DEALS, ended.encode_log_data());
        while provider.store().held_bytes() > 0 {
            context.sleep(Duration::from_millis(20)).await;
        }
        loop {
            let events = told(provider.log(), Kind::Deal, "root", &Value::Bytes(root.to_vec())).await;
            if let [event] = &events[..] {
                assert_eq!(event.fields.get("shards"), Some(&Value::Uint(3)));
                assert_eq!(event.fields.get("removed_bytes"), Some(&Value::Uint(3 * (16 << 10))));
                return;
            }
            context.sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn events_kept_before_a_crash_are_anchored_after_it() {
    let folder = Folder::new("anchor");
    let home = Home::create(folder.0.join("node")).unwrap();
    let open = async |context: &Context| {
        let settings = hodei_audit::log::Config::new("audit", B256::ZERO, [5; 32]);
        Log::open(context.child("audit"), settings, Signer::new(&PROVIDER)).await.unwrap()
    };
    // The process ends when one checkpoint is signed and not posted, and an event stands behind it.
    on_runtime(home.store(), |context| async move {
        let log = open(&context).await;
        let journal = Journal::new(log);
        journal.record(Kind::Start, Fields::new()).await.unwrap();
        journal.log().checkpoint().await.unwrap().expect("a checkpoint");
        journal.record(Kind::Start, Fields::new()).await.unwrap();
    });
    for after_the_event in [false, true] {
        on_runtime(home.store(), |context| async move {
            let log = open(&context).await;
            if after_the_event {
                assert_eq!(log.anchored_events(), 2, "known over restarts");
                return;
            }
            assert_eq!(log.anchored_events(), 0);
            let ledger = Played::new(0);
            *ledger.taken.lock().unwrap() = Some(Vec::new());
            let account = Account::new(ledger.clone(), &OWNER).unwrap();
            assert_eq!(CHAIN_ID, ledger.head_now().chain_id);
            let (stop, stopping) = tokio::sync::watch::channel(false);
            let anchoring =
                tokio::spawn(Journal::new(log.clone()).anchor(account, Tasks::default().enter("anchor"), stopping));
            while log.anchored_events() < 2 {
                context.sleep(Duration::from_millis(20)).await;
            }
            stop.send_replace(true);
            anchoring.await.unwrap();
            assert_eq!(ledger.taken.lock().unwrap().iter().flatten().count(), 1, "one anchor covers both");
        });
    }
}
