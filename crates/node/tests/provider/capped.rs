//! Give a provider caps, and see that it serves within them and proves beyond them.

use super::{Begun, CLIENT, DEAL, ask, begun, bind, grant, offer, put, reached, shard};
use alloy_primitives::B256;
use hodei_node::{
    caps::{Caps, Carried, Conditions, Keeper, Power, Then},
    provider::{
        prove::{Looked, ProveError},
        when::{At, Prove},
    },
};
use hodei_storage::wire::{self, Answer, MESSAGE_BYTES_MAX, Request};
use hodei_types::{
    abi::IDeals,
    grant::Rights,
    transport::{SHARD, Transport as _},
};
use std::time::Duration;

const DAY_S: u64 = 86_400;
const DAY_MS: u64 = 86_400_000;

#[test]
fn beyond_its_day_s_transfer_a_provider_rests_and_the_next_day_it_serves_again() {
    begun("capped", offer(), |Begun { provider, ledger, tasks, .. }| async move {
        let (_listening, peer) = reached(provider.clone()).await;
        let (link, _listener) = bind(CLIENT).await;
        let rights = grant(link.key(), Rights::ALL);
        let caps = Caps { transfer_bytes_per_day: 100 << 10, ..Caps::default() };
        let mut keeper = Keeper::new(caps, Carried::default());
        let (noon, unknown) = (20_000 * DAY_S + DAY_S / 2, Conditions::default());
        assert_eq!(keeper.step(&provider, unknown, noon), None);

        let (id, body) = shard(1, 64 << 10);
        let get = || Request::Get { deal: DEAL, id, offset: 0, len: 0, grant: rights.clone() };
        let (answer, _) = ask(&link, &peer, put(id, body.len(), &rights), body).await.unwrap();
        assert!(matches!(answer, Answer::Held(_)), "{answer:?}");
        assert_eq!(keeper.step(&provider, unknown, noon + 1), None, "64 of 100 KiB");
        let (answer, _) = ask(&link, &peer, get(), bytes::Bytes::new()).await.unwrap();
        assert!(matches!(answer, Answer::Slice { .. }), "{answer:?}");
        // Counted when the wire has it, which its reader may see first.
        while provider.carried_bytes() < 128 << 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let why = keeper.step(&provider, unknown, noon + 2).expect("128 of 100 KiB");
        assert!(why.contains("131072") && why.contains("102400") && why.contains("tomorrow"), "{why}");

        // Both ways it is told to come again.
        let (other, more) = shard(2, 64 << 10);
        for request in [put(other, more.len(), &rights), get()] {
            let (answer, _) = ask(&link, &peer, request, bytes::Bytes::new()).await.unwrap();
            assert!(matches!(answer, Answer::Busy { .. }), "{answer:?}");
        }
        assert_eq!(provider.status()["caps"]["carried_today_bytes"], 128 << 10);
        assert_eq!(provider.status()["caps"]["rests"], why);
        // Proving goes on: the proof is made and sent; the played ledger takes no transaction.
        let Ok(Some(held)) = provider.store().state(DEAL).await.map(|(ack, _)| ack) else { panic!("it holds a shard") };
        ledger.draw(&held.statement, 5, 64);
        let task = tasks.enter("test");
        assert!(matches!(provider.look(&task).await, Err(ProveError::Account(_))));

        assert_eq!(keeper.step(&provider, unknown, noon + DAY_S), None);
        let (answer, _) = ask(&link, &peer, put(other, more.len(), &rights), more).await.unwrap();
        assert!(matches!(answer, Answer::Held(_)), "{answer:?}");
    });
}

#[test]
fn on_battery_or_a_metered_network_a_provider_rests_where_its_owner_said_so() {
    begun("powered", offer(), |Begun { provider, .. }| async move {
        let caps = Caps { on_battery: Then::Stop, on_metered: Then::Stop, metered: Some(false), ..Caps::default() };
        let mut keeper = Keeper::new(caps, Carried::default());
        let at = |charging, metered| Conditions {
            power: Some(Power { charging, battery_percent: 80 }),
            metered: Some(metered),
        };
        for (conditions, rests) in [(at(true, false), false), (at(false, false), true), (at(true, true), true)] {
            assert_eq!(keeper.step(&provider, conditions, DAY_S).is_some(), rests, "{conditions:?}");
            assert_eq!(provider.is_resting(), rests);
        }
        assert_eq!(keeper.step(&provider, at(true, false), DAY_S), None);
        assert!(!provider.is_resting());
        assert_eq!(provider.status()["caps"]["active"].as_array().unwrap().len(), 2);
    });
}

#[test]
fn a_slow_line_takes_one_shard_and_tells_the_next_to_come_again() {
    begun("paced", offer(), |Begun { provider, .. }| async move {
        let (_listening, peer) = reached(provider.clone()).await;
        let (link, _listener) = bind(CLIENT).await;
        let rights = grant(link.key(), Rights::ALL);
        // A mebibyte has a minute's turn at this rate: no machine is that slow.
        let slow = Caps { upload_bytes_per_s: 16 << 10, download_bytes_per_s: 16 << 10, ..Caps::default() };
        provider.obey(&slow, &Prove::default());
        let (id, body) = shard(1, 1 << 20);
        let (answer, _) = ask(&link, &peer, put(id, body.len(), &rights), body).await.unwrap();
        assert!(matches!(answer, Answer::Held(_)), "{answer:?}");
        let (other, more) = shard(2, 1 << 20);
        let (answer, _) = ask(&link, &peer, put(other, more.len(), &rights), more.clone()).await.unwrap();
        assert!(matches!(answer, Answer::Busy { retry_after_ms } if retry_after_ms > 0), "{answer:?}");
        let get = || Request::Get { deal: DEAL, id, offset: 0, len: 0, grant: rights.clone() };
        let (answer, _) = ask(&link, &peer, get(), bytes::Bytes::new()).await.unwrap();
        assert!(matches!(answer, Answer::Slice { .. }), "what is given has a line of its own: {answer:?}");
        let (answer, _) = ask(&link, &peer, get(), bytes::Bytes::new()).await.unwrap();
        assert!(matches!(answer, Answer::Busy { .. }), "{answer:?}");
        // Without caps it is as fast as ever.
        provider.obey(&Caps::default(), &Prove::default());
        let (answer, _) = ask(&link, &peer, put(other, more.len(), &rights), more).await.unwrap();
        assert!(matches!(answer, Answer::Held(_)), "{answer:?}");
    });
}

#[test]
fn a_body_that_never_came_takes_nobody_s_turn() {
    begun("reset", offer(), |Begun { provider, .. }| async move {
        let (_listening, peer) = reached(provider.clone()).await;
        let (link, _listener) = bind(CLIENT).await;
        let rights = grant(link.key(), Rights::ALL);
        let slow = Caps { download_bytes_per_s: 16 << 10, ..Caps::default() };
        provider.obey(&slow, &Prove::default());
        let (id, body) = shard(1, 1 << 20);
        for _ in 0..3 {
            let (mut sink, mut stream) = link.open(&peer, SHARD).await.unwrap();
            wire::send(&mut sink, put(id, body.len(), &rights).encode(), body.slice(..1000)).await.unwrap();
            drop(sink);
            // It is done with this one.
            let _ = wire::receive(&mut stream, MESSAGE_BYTES_MAX).await;
        }
        assert_eq!(provider.carried_bytes(), 0);
        let (answer, _) = ask(&link, &peer, put(id, body.len(), &rights), body).await.unwrap();
        assert!(matches!(answer, Answer::Held(_)), "a mebibyte has a minute's turn: {answer:?}");
    });
}

#[test]
fn a_proof_waits_for_the_moment_that_is_preferred_and_is_sent_before_the_window_ends() {
    begun("chosen", offer(), |Begun { ledger, provider, tasks, .. }| async move {
        let (id, body) = shard(1, 64 << 10);
        let held = provider.store().put(DEAL, id, [0; 16], body).await.unwrap().ack.statement;
        *ledger.window.lock().unwrap() =
            IDeals::Window { index: 0, clockMs: 1_000, openedMs: 0, endsMs: DAY_MS, height: 1, seed: B256::ZERO };
        provider.obey(&Caps::default(), &Prove { at: At::Latest, ..Prove::default() });
        ledger.draw(&held, 5, 64);
        let task = tasks.enter("test");
        assert_eq!(provider.look(&task).await.unwrap(), Looked::Waits { window: 0 });
        assert!(tasks.list()["test"].doing.contains("window 0 is proven later"));
        // A quarter of the window is left: the proof is made and sent; the played ledger takes no transaction.
        ledger.window.lock().unwrap().clockMs = DAY_MS * 3 / 4;
        assert!(matches!(provider.look(&task).await, Err(ProveError::Account(_))));
        // Who missed a window chooses nothing: each further miss costs more.
        ledger.window.lock().unwrap().clockMs = 1_000;
        assert_eq!(provider.look(&task).await.unwrap(), Looked::Waits { window: 0 });
        ledger.standing.lock().unwrap().missesInRow = 1;
        assert!(matches!(provider.look(&task).await, Err(ProveError::Account(_))));
        ledger.standing.lock().unwrap().missesInRow = 0;
        ledger.standing.lock().unwrap().suspended = true;
        assert!(matches!(provider.look(&task).await, Err(ProveError::Account(_))));
        ledger.standing.lock().unwrap().suspended = false;
        // So it is at once where nothing is preferred.
        ledger.window.lock().unwrap().clockMs = 1_000;
        provider.obey(&Caps::default(), &Prove::default());
        assert!(matches!(provider.look(&task).await, Err(ProveError::Account(_))));
    });
}
