//! Keep what is to be kept from whoever would let go of it, and a custodian within what it may.

use super::*;

#[test]
fn what_is_kept_is_released_for_nobody_before_the_ledgers_time() {
    let folder = Folder::new("keep");
    let home = Home::create(folder.0.join("provider")).unwrap();
    on_runtime(home.store(), |context| async move {
        let ledger = Played::new(1 << 30);
        let (provider, _) = provider(&context, &home, ledger.clone()).await;
        let (_listening, peer) = reached(provider).await;
        let (link, _listener) = bind(CLIENT).await;
        let rights = grant(link.key(), Rights::ALL);
        let reply =
            async |request: Request| ask(&link, &peer, request, bytes::Bytes::new()).await.expect("an answer").0;
        let mut ids = Vec::new();
        for number in 0..3 {
            let (id, body) = shard(number, 64 << 10);
            let (answer, _) = ask(&link, &peer, put(id, body.len(), &rights), body).await.unwrap();
            assert!(matches!(answer, Answer::Held(_)), "{answer:?}");
            ids.push(id);
        }
        let keep = |ids: &[ShardId], until_ms, grant: &[u8]| Request::Keep {
            deal: DEAL,
            ids: ids.to_vec(),
            until_ms,
            grant: grant.to_vec(),
        };
        // Whoever may put may keep, and nobody else; not for ever.
        for bad in [
            grant(link.key(), Rights::READ),
            grant(link.key(), Rights::RELEASE),
            signed(&STRANGER, link.key(), Rights::ALL),
        ] {
            let answer = reply(keep(&ids, 5000, &bad)).await;
            assert!(matches!(answer, Answer::Refused { reason: Reason::NotGranted, .. }), "{answer:?}");
        }
        let answer = reply(keep(&ids, u64::MAX, &rights)).await;
        assert!(matches!(answer, Answer::Refused { reason: Reason::Malformed, .. }), "{answer:?}");
        let asked = [ids[0], ids[1], ShardId([7; 32])];
        assert_eq!(
            reply(keep(&asked, 5000, &signed(&BUDGET, link.key(), Rights::ALL))).await,
            Answer::Bitmap(vec![0b011])
        );
        // The owner itself is refused, and told how long; what is not kept goes.
        let release = Request::Release { deal: DEAL, ids: ids.clone(), grant: rights.clone() };
        ledger.at(4999);
        let Answer::Refused { reason: Reason::Kept, text } = reply(release.clone()).await else { panic!("released") };
        assert_eq!(text, "2 of these 3 are kept until 5000 ms since 1970");
        let has = Request::Has { deal: DEAL, ids: ids.clone(), grant: rights };
        assert_eq!(reply(has.clone()).await, Answer::Bitmap(vec![0b011]));
        ledger.at(5000);
        let answer = reply(release).await;
        assert!(matches!(answer, Answer::State { .. }), "{answer:?}");
        assert_eq!(reply(has).await, Answer::Bitmap(vec![0]));
    });
}

#[test]
fn a_custodian_reads_adds_and_lists_and_has_nothing_let_go_of_or_kept() {
    begun("custodian", offer(), |Begun { provider, .. }| async move {
        let (_listening, peer) = reached(provider).await;
        let (link, _listener) = bind(CLIENT).await;
        let rights = signed(&CUSTODIAN, link.key(), Rights::ALL);
        let reply =
            async |request: Request| ask(&link, &peer, request, bytes::Bytes::new()).await.expect("an answer").0;
        let mut listed = Vec::new();
        for number in 0..3 {
            let (id, body) = shard(number, (number as usize + 1) * 4096);
            let (answer, _) = ask(&link, &peer, put(id, body.len(), &rights), body).await.unwrap();
            assert!(matches!(answer, Answer::Held(_)), "{answer:?}");
            listed.push((id, 4 * (number as u16 + 1)));
        }
        let list = |from| Request::List { deal: DEAL, from, grant: rights.clone() };
        assert_eq!(reply(list(0)).await, Answer::Listed { next: 3, end: 3, shards: listed.clone() });
        assert_eq!(reply(list(2)).await, Answer::Listed { next: 3, end: 3, shards: listed[2..].to_vec() });
        assert_eq!(reply(list(9)).await, Answer::Listed { next: 9, end: 3, shards: vec![] });
        let ids: Vec<ShardId> = listed.iter().map(|(id, _)| *id).collect();
        let get = Request::Get { deal: DEAL, id: ids[0], offset: 0, len: 1024, grant: rights.clone() };
        assert!(matches!(reply(get).await, Answer::Slice { shard_bytes: 4096, .. }));
        for refused in [
            Request::Release { deal: DEAL, ids: ids.clone(), grant: rights.clone() },
            Request::Keep { deal: DEAL, ids: ids.clone(), until_ms: 5000, grant: rights.clone() },
            Request::List { deal: DEAL, from: 0, grant: signed(&STRANGER, link.key(), Rights::ALL) },
        ] {
            let answer = reply(refused).await;
            assert!(matches!(answer, Answer::Refused { reason: Reason::NotGranted, .. }), "{answer:?}");
        }
        // What its owner lets go of is listed no more.
        let owners = grant(link.key(), Rights::ALL);
        let release = Request::Release { deal: DEAL, ids: ids[..1].to_vec(), grant: owners };
        assert!(matches!(reply(release).await, Answer::State { .. }));
        assert_eq!(reply(list(0)).await, Answer::Listed { next: 3, end: 3, shards: listed[1..].to_vec() });
    });
}
