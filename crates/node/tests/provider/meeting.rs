//! Let readers meet at a provider that calls them back, and find where it calls.

use super::*;

#[test]
fn readers_meet_at_a_provider_that_called_them_back() {
    begun("meet", offer(), |Begun { provider, .. }| async move {
        let (_listening, peer) = reached(provider.clone()).await;
        let [(first, _a), (second, _b), (thief, _c)] =
            [bind([11; 32]).await, bind([12; 32]).await, bind([13; 32]).await];
        let (id, body) = shard(1, 8 << 10);
        let (absent, _) = shard(2, 8 << 10);
        provider.store().put(DEAL, id, [0; 16], body).await.unwrap();
        let none = bytes::Bytes::new;
        let pass = |link: &Link| grant(link.key(), Rights::READ);
        let at = |address: &str| vec![address.parse::<SocketAddr>().unwrap()];
        let announce = |link: &Link, ids: &[ShardId], addresses| Request::Announce {
            deal: DEAL,
            ids: ids.to_vec(),
            addresses,
            secs: 1,
            grant: pass(link),
        };
        let who = |grant| Request::Who { deal: DEAL, ids: vec![absent, id], grant };
        // Nobody answers at an odd port, by the probe that this provider was given.
        for addresses in [at("127.0.0.1:4001"), at("0.0.0.0:4000"), at("224.0.0.1:4000"), vec![]] {
            let (answer, _) = ask(&first, &peer, announce(&first, &[id], addresses), none()).await.unwrap();
            assert!(matches!(answer, Answer::Refused { reason: Reason::NotGranted, .. }), "{answer:?}");
        }
        assert_eq!(provider.keepers(), 0);
        let elsewhere = announce(&first, &[absent], at("127.0.0.1:4000"));
        let (answer, _) = ask(&first, &peer, elsewhere, none()).await.unwrap();
        assert_eq!(
            (answer, provider.keepers()),
            (Answer::Announced { kept: 1, secs: 60 }, 1),
            "also of what lies at others, for a minute"
        );
        let (answer, _) = ask(&second, &peer, who(pass(&second)), none()).await.unwrap();
        let Answer::Keepers(keepers) = answer else { panic!("{answer:?}") };
        assert_eq!(keepers.iter().map(|keeper| &keeper.has[..]).collect::<Vec<_>>(), [&[0b01][..]]);
        let (answer, _) = ask(&first, &peer, announce(&first, &[id], at("127.0.0.1:4000")), none()).await.unwrap();
        assert_eq!((answer, provider.keepers()), (Answer::Announced { kept: 1, secs: 60 }, 1), "in its place");
        let (answer, _) = ask(&second, &peer, who(pass(&second)), none()).await.unwrap();
        let Answer::Keepers(keepers) = answer else { panic!("{answer:?}") };
        let told =
            keepers.iter().map(|keeper| (keeper.node, &keeper.addresses[..], &keeper.has[..])).collect::<Vec<_>>();
        assert_eq!(told, [(first.key(), &at("127.0.0.1:4000")[..], &[0b10][..])]);
        let (answer, _) = ask(&first, &peer, who(pass(&first)), none()).await.unwrap();
        assert_eq!(answer, Answer::Keepers(Vec::new()), "nobody is told of itself");

        // A stolen pass tells nothing, and is told nothing.
        for request in [who(pass(&second)), announce(&second, &[id], at("127.0.0.1:4000"))] {
            let (answer, _) = ask(&thief, &peer, request, none()).await.unwrap();
            assert!(matches!(answer, Answer::Refused { reason: Reason::NotGranted, .. }), "{answer:?}");
        }
        assert_eq!(provider.keepers(), 1);
    });
}

/// A reader that answers whatever it is asked so.
async fn answering(secret: u8, answer: Answer) -> (Link, Peer) {
    let (bind, protocols) = ("127.0.0.1:0".parse().unwrap(), vec![CROWD]);
    let config = hodei_link::Config { secret: [secret; 32], bind, protocols, relays: Vec::new() };
    let (link, mut listener) = Link::bind(config).await.unwrap();
    tokio::spawn(async move {
        while let Some(mut incoming) = listener.accept().await {
            let answer = answer.encode();
            tokio::spawn(async move {
                if wire::receive(&mut incoming.stream, MESSAGE_BYTES_MAX).await.is_ok() {
                    let _ = wire::send(&mut incoming.sink, answer, bytes::Bytes::new()).await;
                }
            });
        }
    });
    let peer = Peer::at(link.key(), vec![link.address().unwrap()]);
    (link, peer)
}

#[test]
fn a_reader_is_called_back_at_the_addresses_it_names_each_time() {
    on_runtime(Folder::new("probe").0.join("store"), |_| async move {
        let probe = probe("127.0.0.1".parse().unwrap());
        let hello = Answer::Hello { version: VERSION, free_bytes: 0, queued_bytes: 0 };
        let (_there, there) = answering(31, hello).await;
        let (_busy, busy) = answering(32, Answer::Busy { retry_after_ms: 1 }).await;
        let (_gone, gone) = answering(33, Answer::Gone).await;
        // Takes what comes, and says nothing.
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let dead = vec![silent.local_addr().unwrap()];
        assert!(probe(there.clone()).await && probe(busy.clone()).await, "who is busy is there");
        assert!(!probe(gone).await, "that is no answer to the question");
        assert!(!probe(Peer::at(there.key, dead.clone())).await, "it answered elsewhere, and counts for nothing");
        assert!(!probe(Peer::at(there.key, busy.addresses.clone())).await, "another key answers there");
        assert!(probe(Peer::at(there.key, [dead, there.addresses.clone()].concat())).await, "one of several is enough");
    });
}

#[test]
fn a_provider_that_introduces_nobody_says_so() {
    let offer = config::Provider { crowd: false, ..offer() };
    begun("alone", offer, |Begun { provider, .. }| async move {
        let (_listening, peer) = reached(provider).await;
        let (reader, _reader) = bind([11; 32]).await;
        let grant = grant(reader.key(), Rights::READ);
        let who = Request::Who { deal: DEAL, ids: vec![ShardId([1; 32])], grant };
        let (answer, _) = ask(&reader, &peer, who, bytes::Bytes::new()).await.unwrap();
        assert!(matches!(answer, Answer::Refused { reason: Reason::Malformed, .. }), "{answer:?}");
    });
}
