//! Keep a log through power cuts, damage and forgery, through its public door.

use alloy_primitives::B256;
use commonware_runtime::{
    Blob as _, ReadOptions, Runner as _, Storage as _, Supervisor as _, WriteOptions,
    deterministic::{self, PartialWriteMode, WriteConfig},
};
use hodei_audit::{Config, Log, LogError, Signed, Signer};
use hodei_types::{
    event::{Actor, Event, Fields, Kind},
    merkle,
    transport::NodeKey,
};

const GENESIS: B256 = B256::repeat_byte(0x11);

fn config() -> Config {
    Config { segment_bytes: 4096, ..Config::new("log", GENESIS, [9; 32]) }
}

async fn open(context: &deterministic::Context) -> Result<Log<deterministic::Context>, LogError> {
    Log::open(context.child("log"), config(), Signer::new(&[1; 32])).await
}

fn append(log: &Log<deterministic::Context>, number: u64) -> u64 {
    let actor = Actor::Node(NodeKey([1; 32]));
    log.append(1000 + number, Kind::Transfer, actor, |_| Fields::new().uint("number", number)).unwrap()
}

/// Event, salt and path lead to the signed root; the event is the one appended.
async fn check(log: &Log<deterministic::Context>, sequence: u64, signed: &Signed) {
    let evidence = log.evidence(sequence, signed.size).await.unwrap();
    let leaf = evidence.salt.leaf(&evidence.event);
    merkle::verify_inclusion(leaf, sequence, signed.size, &evidence.path, signed.root).unwrap();
    let event = Event::decode(&evidence.event).unwrap();
    assert_eq!((event.sequence, event.time_ms), (sequence, 1000 + sequence));
}

#[test]
fn events_are_proven_across_tiles_segments_and_restarts() {
    deterministic::Runner::default().start(|context| async move {
        let mut checkpoints: Vec<Signed> = Vec::new();
        for round in 0..5u64 {
            let log = open(&context).await.unwrap();
            assert_eq!(log.len(), round * 300);
            assert_eq!(log.signed(), checkpoints.last().cloned());
            assert_eq!(log.unanchored(), None);
            (0..300).for_each(|i| assert_eq!(append(&log, round * 300 + i), round * 300 + i));
            let signed = log.checkpoint().await.unwrap().expect("it grew");
            assert!(signed.is_genuine());
            assert_eq!(log.checkpoint().await.unwrap(), None, "nothing new");
            assert_eq!(log.unanchored(), Some(signed.clone()));
            drop(log);
            let log = open(&context).await.unwrap();
            assert_eq!(log.unanchored(), Some(signed.clone()), "died before the anchor: post it again");
            log.anchored(&signed, 70 + round).await.unwrap();
            assert_eq!(log.unanchored(), None);
            checkpoints.push(signed);
        }
        let log = open(&context).await.unwrap();
        for signed in &checkpoints {
            for sequence in [0, 1, 255, 256, 299, 511, 900, 1279, 1280, 1499] {
                if sequence < signed.size {
                    check(&log, sequence, signed).await;
                } else {
                    let refused = log.evidence(sequence, signed.size).await.unwrap_err();
                    assert!(matches!(refused, LogError::Absent { .. }));
                }
            }
        }
        for (at, old) in checkpoints.iter().enumerate() {
            for new in &checkpoints[at..] {
                let path = log.consistency(old.size, new.size).await.unwrap();
                merkle::verify_consistency(old.size, new.size, &path, old.root, new.root).unwrap();
            }
        }
        for (sequence, height) in [(0, 70), (299, 70), (300, 71), (1499, 74)] {
            let (signed, at) = log.anchor_of(sequence).await.unwrap().expect("anchored");
            assert_eq!((signed.size, at), (checkpoints[(height - 70) as usize].size, height));
        }
        append(&log, 1500);
        assert_eq!(log.anchor_of(1500).await.unwrap(), None);
        // A proof may ask for what only waits for the disk.
        check(&log, 1500, &Signed { size: 1501, ..log.checkpoint().await.unwrap().unwrap() }).await;
    });
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    for seed in 0..40u64 {
        let mut config = deterministic::Config::new().with_seed(seed);
        let mode = if seed % 2 == 0 { PartialWriteMode::Subset } else { PartialWriteMode::Prefix };
        config = config.with_storage_fault_config(storage_faults(mode));
        let mut runner = deterministic::Runner::new(config);
        let (mut durable, mut signed): (u64, Option<Signed>) = (0, None);
        for life in 0..6u64 {
            let before = signed.clone();
            let ((reached, last), checkpoint) = runner.start_and_recover(move |context| async move {
                let log = open(&context).await.unwrap_or_else(|error| panic!("seed {seed} life {life}: {error}"));
                assert!(log.len() >= durable, "seed {seed} life {life}: {} of {durable} events", log.len());
                if let Some(before) = &before {
                    // What was signed is still there, and what follows continues it.
                    check(&log, before.size - 1, before).await;
                    let now = log.signed().expect("a signed checkpoint is durable");
                    assert!(now.size >= before.size);
                    let path = log.consistency(before.size, now.size).await.unwrap();
                    merkle::verify_consistency(before.size, now.size, &path, before.root, now.root).unwrap();
                }
                let mut last = log.signed();
                let mut reached = log.len();
                for step in 0..(seed * 7 + life * 13) % 23 {
                    (0..(seed + step) % 40).for_each(|_| {
                        append(&log, log.len());
                    });
                    match step % 3 {
                        0 => log.sync().await.unwrap(),
                        1 => last = log.checkpoint().await.unwrap().or(last),
                        _ => continue,
                    }
                    reached = log.len();
                }
                // These wait in memory or half-written in a file when the power goes.
                (0..30).for_each(|_| {
                    append(&log, log.len());
                });
                let torn = log.sync();
                futures::pin_mut!(torn);
                let _ = futures::poll!(&mut torn);
                (reached, last)
            });
            (durable, signed) = (reached, last);
            runner = deterministic::Runner::from(checkpoint);
        }
    }
}

/// Unsynced writes survive a cut in part; nothing fails before it.
fn storage_faults(mode: PartialWriteMode) -> deterministic::FaultConfig {
    let half = commonware_utils::Probability::new(1, 2).unwrap();
    let never = commonware_utils::Probability::new(0, 1).unwrap();
    deterministic::FaultConfig::default().write(WriteConfig { failure_rate: never, retention_rate: half, mode })
}

/// A log of 700 signed events in many segments.
async fn filled(context: &deterministic::Context) -> Signed {
    let log = open(context).await.unwrap();
    for number in 0..700 {
        append(&log, number);
        if number % 20 == 19 {
            log.sync().await.unwrap();
        }
    }
    log.checkpoint().await.unwrap().unwrap()
}

async fn flip(context: &deterministic::Context, partition: &str, name: &[u8], at: u64) {
    let (blob, _) = context.open(partition, name).await.unwrap();
    let byte = blob.read_at(at, 1, ReadOptions::default()).await.unwrap().coalesce().as_ref()[0];
    blob.write_at(at, vec![byte ^ 4], WriteOptions::default()).await.unwrap();
    blob.sync().await.unwrap();
}

#[test]
fn damage_is_noticed_and_never_signed_over() {
    deterministic::Runner::default().start(|context| async move {
        filled(&context).await;
        let mut names = context.scan("log-segments").await.unwrap();
        names.sort();
        assert!(names.len() > 5, "{} segments", names.len());
        let last = names.last().unwrap();

        // The tile cache lies: the events win.
        flip(&context, "log-tree", b"tiles", 20).await;
        assert_eq!(open(&context).await.unwrap().len(), 700);
        flip(&context, "log-tree", b"tiles", 20).await;

        // An event in the last segment, and so after it: the signed end is missing.
        flip(&context, "log-segments", last, 30).await;
        let refused = open(&context).await.err().expect("a shorter log");
        assert!(matches!(refused, LogError::Rewritten { signed: 700, found, .. } if found < 700), "{refused}");
    });
    deterministic::Runner::default().start(|context| async move {
        filled(&context).await;
        let mut names = context.scan("log-segments").await.unwrap();
        names.sort();
        // Without the cache's tiles every segment is read, and the damage is in one that was closed.
        context.remove("log-tree", Some(b"tiles")).await.unwrap();
        flip(&context, "log-segments", &names[1], 100).await;
        let first = u64::from_be_bytes(names[1].clone().try_into().unwrap());
        let refused = open(&context).await.err().expect("a hole");
        assert!(matches!(refused, LogError::Corrupt { sequence } if sequence >= first), "{refused}");
        flip(&context, "log-segments", &names[1], 100).await;
        assert_eq!(open(&context).await.unwrap().len(), 700);

        context.remove("log-segments", Some(&names[2])).await.unwrap();
        assert!(matches!(open(&context).await.err(), Some(LogError::Corrupt { .. })), "a segment is gone");
    });
}

#[test]
fn another_key_may_not_continue_the_log() {
    deterministic::Runner::default().start(|context| async move {
        filled(&context).await;
        let other = Log::open(context.child("other"), config(), Signer::new(&[2; 32])).await;
        assert!(matches!(other.err(), Some(LogError::Foreign)));
        let elsewhere = Config { genesis: B256::repeat_byte(0x22), ..config() };
        let other = Log::open(context.child("other"), elsewhere, Signer::new(&[1; 32])).await;
        assert!(matches!(other.err(), Some(LogError::Foreign)));
        // Another salt key gives other leaves: not the signed history.
        let other = Config { salt_key: [8; 32], ..config() };
        let other = Log::open(context.child("other"), other, Signer::new(&[1; 32])).await;
        assert!(matches!(other.err(), Some(LogError::Rewritten { .. })));
    });
}

#[test]
fn a_failed_sync_stops_the_log() {
    deterministic::Runner::default().start(|context| async move {
        let log = open(&context).await.unwrap();
        append(&log, 0);
        log.sync().await.unwrap();
        let faults = context.storage_fault_config();
        faults.write().sync_rate = Some(commonware_utils::Probability::new(1, 1).unwrap());
        append(&log, 1);
        assert!(matches!(log.sync().await, Err(LogError::Storage(_))));
        faults.write().sync_rate = None;
        assert!(matches!(log.sync().await, Err(LogError::Stopped)));
        assert!(matches!(log.checkpoint().await, Err(LogError::Stopped)));
        let refused = log.append(0, Kind::Stop, Actor::Node(NodeKey([1; 32])), |_| Fields::new());
        assert!(matches!(refused, Err(LogError::Stopped)));
        // What was durable is still read.
        assert_eq!(Event::decode(&log.event(0).await.unwrap()).unwrap().time_ms, 1000);
    });
}

#[test]
fn what_waits_for_the_disk_is_bounded() {
    deterministic::Runner::default().start(|context| async move {
        let log = open(&context).await.unwrap();
        let actor = Actor::Node(NodeKey([1; 32]));
        let grow = || log.append(0, Kind::Fault, actor, |_| Fields::new().bytes("evidence", &[0; 4000]));
        let refused = (0..10_000).find_map(|_| grow().err()).expect("a bound");
        assert!(matches!(refused, LogError::Full));
        log.sync().await.unwrap();
        grow().unwrap();
    });
}

#[test]
fn many_writers_share_one_sync() {
    deterministic::Runner::default().start(|context| async move {
        let log = open(&context).await.unwrap();
        let writers = (0..50).map(|_| {
            let log = log.clone();
            async move {
                let actor = Actor::Node(NodeKey([1; 32]));
                log.record(5, Kind::Get, actor, |_| Fields::new()).await.unwrap()
            }
        });
        let mut sequences = futures::future::join_all(writers).await;
        sequences.sort_unstable();
        assert_eq!(sequences, (0..50).collect::<Vec<_>>());
        let reopened = {
            drop(log);
            open(&context).await.unwrap()
        };
        assert_eq!(reopened.len(), 50);
    });
}

#[test]
fn an_anchor_that_comes_home_late_hides_no_longer_checkpoint() {
    deterministic::Runner::default().start(|context| async move {
        let log = open(&context).await.unwrap();
        append(&log, 0);
        let first = log.checkpoint().await.unwrap().unwrap();
        append(&log, 1);
        let second = log.checkpoint().await.unwrap().unwrap();
        log.anchored(&first, 8).await.unwrap();
        drop(log);
        let log = open(&context).await.unwrap();
        assert_eq!((log.signed(), log.unanchored()), (Some(second.clone()), Some(second.clone())));
        assert_eq!(log.anchor_of(0).await.unwrap(), Some((first, 8)));
        assert_eq!(log.anchor_of(1).await.unwrap(), None);
        log.anchored(&second, 9).await.unwrap();
        assert_eq!(log.anchor_of(1).await.unwrap(), Some((second, 9)));
    });
}
