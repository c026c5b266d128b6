//! Show that what is on call runs for who pays for it, and for nobody and not at all otherwise.

use super::*;
use hodei_ledger::account::address_of;
use hodei_types::{
    abi::voucher_statement,
    app::wire::{Due, Header, Voucher},
    market::call_price,
};

/// Wei a second that calls are priced by, and what is in escrow: a 64th of it may go unpaid.
const RATE: u128 = 500_000;
const LEFT: u128 = 640_000;

fn voucher(secret: &[u8; 32], total: u128) -> Option<Voucher> {
    let account = Account::new(Leased::new(), secret).unwrap();
    let hash = alloy_primitives::keccak256(voucher_statement(CHAIN_ID, 1, total));
    Some(Voucher { total, signature: account.sign_hash(hash) })
}

/// One call: the headers of its answer, what it used and what all cost; or what is answered instead.
async fn call(link: &Link, peer: &Peer, voucher: Option<Voucher>) -> Result<(Vec<Header>, Readings, Due), Answer> {
    let (mut sink, mut stream) = link.open(peer, APP).await.expect("the host is reached");
    let ask = Request::Ask { lease: 1, method: "GET".into(), target: "/".into(), headers: Vec::new(), voucher };
    // Who refuses stops reading: the answer is there all the same.
    let _ = send(&mut sink, ask.encode()).await;
    let _ = send(&mut sink, Request::End.encode()).await;
    let mut found = Vec::new();
    loop {
        match Answer::decode(&receive(&mut stream, FRAME_BYTES_MAX).await.unwrap()).unwrap() {
            Answer::Head { headers, .. } => found = headers,
            Answer::Bytes(bytes) => assert_eq!(bytes, b"hello"),
            Answer::Done { readings, failure: None, due: Some(due) } => return Ok((found, readings, due)),
            other => return Err(other),
        }
    }
}

fn is_cold(headers: &[Header]) -> bool {
    headers.iter().any(|(name, value)| name == "x-hodei-cold-start" && value.ends_with(b"ms"))
}

#[test]
fn what_is_on_call_runs_for_who_pays_and_sleeps_while_nobody_asks() {
    let folder = Folder::new("on-call");
    on_runtime(folder.0.join("store"), |context| async move {
        let (ledger, wasm) = (Leased::new(), guests::hello());
        let manifest = manifest(&wasm);
        let running = Running::start(&context, &folder.0.join("host"), ledger.clone(), HOST).await;
        let (link, peer) = (visitor().await, running.peer.clone());
        let owner = address_of(&OWNER).unwrap();
        ledger.on_call(1, owner, running.host.id(), manifest.workload(), (MEMORY, RATE, LEFT));
        given(&link, &peer, 1, &manifest, &wasm).await;
        let asleep = until(&link, &peer, 1, |replica| replica.state == State::Asleep).await;
        assert_eq!((asleep.starts, asleep.due), (0, Due::default()));
        assert!(running.host.processes().is_empty(), "no process while nobody asks");

        // Who does not say that he pays, or cannot, gets nothing.
        assert_eq!(call(&link, &peer, None).await.unwrap_err(), Answer::Unpaid { due: Due::default() });
        let refused = call(&link, &peer, voucher(&VISITOR, 1_000_000)).await.unwrap_err();
        assert!(matches!(refused, Answer::Refused { .. }), "{refused:?}");
        assert!(running.host.processes().is_empty());

        let (headers, readings, due) = call(&link, &peer, voucher(&OWNER, 0)).await.unwrap();
        let price = call_price(RATE, readings.fuel);
        assert!(is_cold(&headers), "who waited for a start is told: {headers:?}");
        assert_eq!(due, Due { wei: price, calls: 1 });
        let warm = until(&link, &peer, 1, |replica| replica.state == State::Warm).await;
        assert_eq!((warm.starts, warm.due), (1, due));
        let (headers, _, due) = call(&link, &peer, voucher(&OWNER, 0)).await.unwrap();
        assert!(!is_cold(&headers), "{headers:?}");
        assert_eq!(due, Due { wei: 2 * price, calls: 2 });

        // As far as the credit goes, and no further before more is signed for.
        let mut last = due;
        let due = loop {
            match call(&link, &peer, voucher(&OWNER, 0)).await {
                Ok((.., due)) => last = due,
                Err(Answer::Unpaid { due }) => break due,
                Err(other) => panic!("{other:?}"),
            }
        };
        assert_eq!(due, last, "what was refused is not counted");
        assert!(due.wei > LEFT / 64 && due.wei - price <= LEFT / 64, "{due:?}");
        let (.., paid) = call(&link, &peer, voucher(&OWNER, due.wei)).await.unwrap();
        assert_eq!(paid, Due { wei: due.wei + price, calls: due.calls + 1 });

        // Nobody asks: its process ends, and the next call begins another.
        until(&link, &peer, 1, |replica| replica.state == State::Asleep).await;
        assert!(running.host.processes().is_empty());
        let (headers, ..) = call(&link, &peer, voucher(&OWNER, due.wei)).await.unwrap();
        assert!(is_cold(&headers));
        assert_eq!(until(&link, &peer, 1, |replica| replica.starts == 2).await.starts, 2);
        running.stop().await;

        // What was signed for outlives the host; what was counted since does not.
        let again = Running::start(&context.child("again"), &folder.0.join("host"), ledger, HOST).await;
        let asleep = until(&link, &again.peer, 1, |replica| replica.state == State::Asleep).await;
        assert_eq!(asleep.due.wei, due.wei);
        again.stop().await;
    });
}

#[test]
fn what_is_signed_for_is_claimed_before_its_host_stops_if_that_brings_more_than_it_costs() {
    let folder = Folder::new("on-call-stops");
    on_runtime(folder.0.join("store"), |context| async move {
        let (ledger, wasm) = (Leased::new(), guests::hello());
        let manifest = manifest(&wasm);
        let running = Running::start(&context, &folder.0.join("host"), ledger.clone(), HOST).await;
        let (link, peer) = (visitor().await, running.peer.clone());
        let owner = address_of(&OWNER).unwrap();
        // A claim costs 600,000,000,000 wei there: what is signed for is worth three of them, and a small part of what is left.
        let (left, total) = (1_000_000_000_000_000, 1_800_000_000_000);
        ledger.on_call(1, owner, running.host.id(), manifest.workload(), (MEMORY, RATE, left));
        given(&link, &peer, 1, &manifest, &wasm).await;
        until(&link, &peer, 1, |replica| replica.state == State::Asleep).await;
        call(&link, &peer, voucher(&OWNER, total)).await.unwrap();
        assert_eq!(ledger.get(1).unwrap().claimed, 0);
        running.stop().await;
        assert_eq!(ledger.get(1).unwrap().claimed, total);
    });
}
