//! Have a provider decline shards, as its operator does, and see what everybody is told.

use super::{
    CHAIN_ID, CLIENT, DEAL, Folder, PROVIDER, Played, Process, STRANGER, accept, ask, bind, bucket, failing::told,
    grant, on_runtime, provider, put, shard, signed,
};
use alloy_primitives::B256;
use hodei_node::{
    home::Home,
    provider::decline::{self, Order, Told},
};
use hodei_storage::{
    shard::DECLINED_MAX,
    wire::{Answer, Reason, Request},
};
use hodei_types::{
    decline::{Declined, Ground},
    event::{Kind, Value},
    grant::Rights,
    slice::ShardId,
    transport::Peer,
};
use std::{path::Path, time::Duration};

#[test]
fn what_is_declined_is_refused_by_a_signed_word_that_is_in_the_log() {
    let folder = Folder::new("decline");
    let home = Home::create(folder.0.join("provider")).unwrap();
    // An order that waits while nothing runs is carried out first of all.
    let (waiting, _) = shard(5, 4096);
    let order = |ids: Vec<String>, bucket| Order { ids, bucket, ground: "court".into(), note: "17 B 4".into() };
    let early = decline::leave(&home, &order(vec![waiting.to_string()], None)).unwrap();
    let unknown = decline::leave(&home, &order(vec![], Some(B256::repeat_byte(1).to_string()))).unwrap();
    // What somebody asked who is gone is not answered any more, and nothing of it stays.
    let stale = decline::ask(&home, &order(vec![waiting.to_string()], None)).unwrap();
    on_runtime(home.store(), |context| async move {
        let ledger = Played::new(1 << 30);
        let (provider, _) = provider(&context, &home, ledger.clone()).await;
        let (listening, listener) = bind(PROVIDER).await;
        tokio::spawn(accept(listener, provider.clone()));
        let peer = Peer::at(listening.key(), vec![listening.address().unwrap()]);
        let (link, _listener) = bind(CLIENT).await;
        let rights = grant(link.key(), Rights::ALL);
        let done = async |file: &Path| {
            while file.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        done(&early).await;
        done(&unknown).await;
        assert!(!stale.exists() && decline::answered(&stale).is_none());
        let why = decline::put_aside(&unknown).expect("it holds nothing of that bucket");
        assert!(why.contains("holds nothing of bucket") && decline::put_aside(&early).is_none(), "{why}");
        let reply =
            async |request: Request| ask(&link, &peer, request, bytes::Bytes::new()).await.expect("an answer").0;
        let mut ids = Vec::new();
        for number in 0..3 {
            let (id, body) = shard(number, 64 << 10);
            let (answer, _) = ask(&link, &peer, put(id, body.len(), &rights), body).await.unwrap();
            assert!(matches!(answer, Answer::Held(_)), "{answer:?}");
            ids.push(id);
        }
        let keep = Request::Keep { deal: DEAL, ids: ids.clone(), until_ms: 5000, grant: rights.clone() };
        assert_eq!(reply(keep).await, Answer::Bitmap(vec![0b111]));
        // What an order would come to is told, and nothing is done: each shard once, one held, one declined already.
        let named = [ids[0], waiting, ids[0]].map(|id| id.to_string());
        let question = decline::ask(&home, &order(named.into(), None)).unwrap();
        done(&question).await;
        assert_eq!(decline::answered(&question), Some(Told { shards: 2, held: 1, declined: 1, why: None }));
        let question = decline::ask(&home, &order(vec![], Some(B256::repeat_byte(1).to_string()))).unwrap();
        done(&question).await;
        let answer = decline::answered(&question).expect("an answer");
        assert!(answer.shards == 0 && answer.why.is_some_and(|why| why.contains("holds nothing of bucket")));
        // What would be refused is said beforehand: a ground there is none of, and more than a store declines.
        let whim = Order { ground: "whim".into(), ..order(vec![ids[0].to_string()], None) };
        let many = (0..=DECLINED_MAX as u32).map(|number| {
            let number = number.to_be_bytes();
            ShardId(std::array::from_fn(|at| number[at % 4])).to_string()
        });
        for (asked, found) in [(whim, "expected court"), (order(many.collect(), None), "declined")] {
            let question = decline::ask(&home, &asked).unwrap();
            done(&question).await;
            let why = decline::answered(&question).expect("an answer").why.expect("it would be refused");
            assert!(why.contains(found), "{why}");
        }
        let file = decline::leave(&home, &order(vec![ids[1].to_string()], None)).unwrap();
        done(&file).await;
        let get = |id| Request::Get { deal: DEAL, id, offset: 0, len: 1024, grant: rights.clone() };
        let refuses = async |request| match reply(request).await {
            Answer::Declined(declined) => {
                assert_eq!(declined.verify(CHAIN_ID, &listening.key()), Ok(()));
                (declined.decline.deal, declined.decline.id, declined.decline.ground)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(refuses(get(ids[1])).await, (DEAL, ids[1], Ground::Court));
        assert_eq!(refuses(put(ids[1], 64 << 10, &rights)).await, (DEAL, ids[1], Ground::Court));
        assert_eq!(refuses(put(waiting, 4096, &rights)).await, (DEAL, waiting, Ground::Court));
        // Only who may ask is told.
        let stranger = signed(&STRANGER, link.key(), Rights::ALL);
        let asked = Request::Get { deal: DEAL, id: ids[1], offset: 0, len: 1024, grant: stranger };
        assert!(matches!(reply(asked).await, Answer::Refused { reason: Reason::NotGranted, .. }));
        let has = |ids: &[ShardId]| Request::Has { deal: DEAL, ids: ids.to_vec(), grant: rights.clone() };
        assert_eq!(reply(has(&ids)).await, Answer::Known { held: vec![0b101], declined: vec![0b010] });
        assert_eq!(reply(has(&[ids[0], ids[2]])).await, Answer::Bitmap(vec![0b11]));
        assert!(matches!(reply(get(ids[0])).await, Answer::Slice { .. }));
        // The deal's next root is without it.
        let state = Request::State { deal: DEAL, grant: rights.clone() };
        let Answer::State { ack: Some(ack), .. } = reply(state).await else { panic!("no statement") };
        assert_eq!(ack.statement.leaves, 128);
        // All of a bucket, which the list for people and the log then tell.
        let file = decline::leave(&home, &order(vec![], Some(bucket().to_string()))).unwrap();
        done(&file).await;
        assert_eq!(reply(has(&ids)).await, Answer::Known { held: vec![0], declined: vec![0b111] });
        let listed = decline::list(&home);
        assert_eq!(listed.len(), 4);
        for line in &listed {
            let declined = Declined::decode(&alloy_primitives::hex::decode(&line.statement).unwrap()).unwrap();
            assert_eq!(declined.verify(CHAIN_ID, &listening.key()), Ok(()));
            assert_eq!((declined.decline.deal, declined.decline.id.to_string()), (0, line.id.clone()));
            assert_eq!(line.node, listening.key().to_string());
        }
        let status = provider.status();
        assert_eq!((&status["declined_shards"], &status["held_bytes"]), (&4.into(), &0.into()));
        let mut logged = Vec::new();
        for event in told(provider.log(), Kind::Decline, "note", &Value::Text("17 B 4".into())).await {
            let Some(Value::Bytes(statement)) = event.fields.get("statement") else { panic!("{event:?}") };
            assert_eq!(Declined::decode(statement).unwrap().verify(CHAIN_ID, &listening.key()), Ok(()));
            logged.push(event.fields.get("shard").cloned());
        }
        let mut rest = [ids[0], ids[2]];
        rest.sort_unstable();
        let named = [waiting, ids[1], rest[0], rest[1]].map(|id| Some(Value::Bytes(id.0.to_vec())));
        assert_eq!(logged, named);
    });
}

#[test]
fn what_is_ordered_while_nothing_runs_is_never_given_again() {
    let folder = Folder::new("decline-stopped");
    let home = Home::create(folder.0.join("provider")).unwrap();
    on_runtime(folder.0.join("client"), |_| async move {
        let (link, _listener) = bind(CLIENT).await;
        let rights = grant(link.key(), Rights::ALL);
        let process = Process::start(home.path());
        let mut ids = Vec::new();
        for number in 0..3 {
            let (id, body) = shard(number, 64 << 10);
            let (answer, _) = ask(&link, &process.1, put(id, body.len(), &rights), body).await.expect("an answer");
            assert!(matches!(answer, Answer::Held(_)), "{answer:?}");
            ids.push(id);
        }
        drop(process);
        // One names an id, which needs no ledger; the other what the node learns only from the ledger.
        let order = Order { ground: "court".into(), ..Order::default() };
        let one = decline::leave(&home, &Order { ids: vec![ids[0].to_string()], ..order.clone() }).unwrap();
        let all = decline::leave(&home, &Order { bucket: Some(bucket().to_string()), ..order }).unwrap();
        let process = Process::start(home.path());
        for id in ids {
            let get = Request::Get { deal: DEAL, id, offset: 0, len: 1024, grant: rights.clone() };
            loop {
                match ask(&link, &process.1, get.clone(), bytes::Bytes::new()).await {
                    // The wire notices in its own time that the process it talked to is gone.
                    None => {}
                    Some((Answer::Busy { .. }, _)) => {}
                    Some((Answer::Declined(declined), _)) => {
                        assert_eq!(declined.verify(CHAIN_ID, &process.1.key), Ok(()));
                        break;
                    }
                    Some(other) => panic!("it was ordered to refuse {id}: {other:?}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        for file in [one, all] {
            while file.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(decline::put_aside(&file), None);
        }
        assert_eq!(decline::list(&home).len(), 3);
    });
}
