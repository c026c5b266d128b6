//! Show that each message has one encoding within its limits, and that those of version 1 stay.

use super::*;
use hodei_types::{
    ack::{Signer, Statement},
    decline::{Decline, Declined, Ground},
    holding,
    slice::ShardId,
    transport::NodeKey,
};

fn requests() -> Vec<Request> {
    let (deal, id, grant) = (7, ShardId([3; 32]), vec![9; 100]);
    vec![
        Request::Hello { version: 1 },
        Request::Put { deal, id, len: 262144, upload: [1; 16], grant: grant.clone() },
        Request::Get { deal, id, offset: 1024, len: 0, grant: vec![] },
        Request::Has { deal, ids: vec![id; IDS_MAX], grant: grant.clone() },
        Request::Release { deal, ids: vec![id], grant: grant.clone() },
        Request::Keep { deal, ids: vec![id; IDS_MAX], until_ms: 1 << 41, grant: grant.clone() },
        Request::State { deal, grant: grant.clone() },
        Request::List { deal, from: 9, grant: grant.clone() },
        Request::Tick { deal, tick: tick(vec![]), grant: grant.clone() },
        Request::Tick { deal, tick: tick(vec![6; 452]), grant },
    ]
}

/// What came with readers that keep and serve.
fn meeting() -> (Vec<Request>, Vec<Answer>) {
    let (deal, grant) = (7, vec![9; 100]);
    let addresses = vec!["127.0.0.1:4000".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()];
    let ids = vec![id(); ANNOUNCED_MAX];
    let announce = Request::Announce { deal, ids, addresses: addresses.clone(), secs: 300, grant: grant.clone() };
    let who = Request::Who { deal, ids: vec![id(); WHO_MAX], grant };
    let keeper = Keeper { node: NodeKey([2; 32]), addresses, has: vec![1; WHO_MAX / 8], age_secs: 9 };
    let answers = [Answer::Announced { kept: 256, secs: 300 }, Answer::Keepers(vec![keeper; KEEPERS_MAX])];
    (vec![announce, who], answers.into())
}

fn tick(opening: Vec<u8>) -> Tick {
    Tick { tab: [4; 32], leaf: 1023, index: 77, value: [5; 32], opening }
}

fn id() -> ShardId {
    ShardId([3; 32])
}

fn declined() -> Declined {
    let decline = Decline { deal: 7, id: id(), time_ms: 1_800_000_000_000, ground: Ground::Report };
    decline.sign(5, &Signer::new(&[1; 32]))
}

fn answers() -> Vec<Answer> {
    let statement = Statement { deal: 7, sequence: 2, position: 1, root: [4; 32], leaves: 512 };
    let ack = Signer::new(&[1; 32]).ack(5, statement);
    vec![
        Answer::Hello { version: 1, free_bytes: 1 << 40, queued_bytes: 0 },
        Answer::Held(Held { ack, shards: 2, path: vec![8; 40] }),
        Answer::Slice { shard_bytes: 262144, offset: 0, len: 16384, hashes: vec![1; 128] },
        Answer::Bitmap(vec![5; 512]),
        Answer::State { ack: Some(ack), shards: 2 },
        Answer::State { ack: None, shards: 0 },
        Answer::Busy { retry_after_ms: 50 },
        Answer::Full { free_bytes: 0 },
        Answer::Gone,
        Answer::Refused { reason: Reason::WrongBytes, text: "shard hashes to 00".into() },
        Answer::Listed { next: 5000, end: 5001, shards: vec![(id(), 256); LISTED_MAX] },
        Answer::Declined(declined()),
        Answer::Known { held: vec![5; 512], declined: vec![2; 512] },
        Answer::Tab(Tab { taken: 77, value: [5; 32], served_bytes: 80 << 20, credit_bytes: 4 << 20 }),
    ]
}

#[test]
fn messages_have_one_encoding_within_their_limit() {
    for request in requests().into_iter().chain(meeting().0) {
        let bytes = request.encode();
        let list = matches!(
            request,
            Request::Has { .. } | Request::Release { .. } | Request::Keep { .. } | Request::Announce { .. }
        );
        assert!(bytes.len() <= if list { LIST_BYTES_MAX } else { MESSAGE_BYTES_MAX });
        assert_eq!(Request::decode(&bytes).unwrap(), request);
    }
    for answer in answers().into_iter().chain(meeting().1) {
        let bytes = answer.encode();
        let is_list = matches!(answer, Answer::Listed { .. });
        assert!(bytes.len() <= if is_list { LIST_BYTES_MAX } else { MESSAGE_BYTES_MAX });
        assert_eq!(Answer::decode(&bytes).unwrap(), answer);
    }
}

/// The bytes of version 1: a change here is a new version, not an edit.
#[test]
fn the_protocol_is_frozen() {
    let requests: Vec<_> = requests().iter().map(Request::encode).collect();
    let answers: Vec<_> = answers().iter().map(Answer::encode).collect();
    let of = |ask: &[u8], tell: &[u8]| {
        let asked = requests.iter().filter(|bytes| ask.contains(&bytes[1]));
        let told = answers.iter().filter(|bytes| tell.contains(&bytes[1]));
        let messages: Vec<&[u8]> = asked.chain(told).map(Vec::as_slice).collect();
        blake3::hash(&messages.concat()).to_hex()[..16].to_owned()
    };
    assert_eq!(of(&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 5, 6, 7, 8, 9]), "664972c0fa6048a7");
    // KEEP came later, then LIST and LISTED, then TICK and TAB, then what a provider declines, and changed no other
    // message.
    assert_eq!(of(&[7], &[]), "5ddfc4b9255035c6");
    assert_eq!(of(&[8], &[10]), "5583ac71c38e83b6");
    assert_eq!(of(&[11], &[13]), "d8fcdaa8eb954b6b");
    assert_eq!(of(&[], &[14, 15]), "b450b15586ebc46b");
    let (asked, told) = meeting();
    let all = asked.iter().map(Request::encode).chain(told.iter().map(Answer::encode)).collect::<Vec<_>>().concat();
    assert_eq!(blake3::hash(&all).to_hex()[..16], *"70acf2080879b52c");
}

#[test]
fn whatever_decodes_re_encodes_to_itself() {
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize
    };
    let mut good: Vec<Vec<u8>> = requests().iter().map(Request::encode).collect();
    good.extend(answers().iter().map(Answer::encode));
    good.extend(meeting().0.iter().map(Request::encode).chain(meeting().1.iter().map(Answer::encode)));
    for _ in 0..30_000 {
        let mut bytes = good[random() % good.len()].clone();
        bytes.truncate(400);
        for _ in 0..random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        bytes.truncate(random() % (bytes.len() + 1));
        if let Ok(request) = Request::decode(&bytes) {
            assert_eq!(request.encode(), bytes);
        }
        if let Ok(answer) = Answer::decode(&bytes) {
            assert_eq!(answer.encode(), bytes);
        }
    }
}

#[test]
fn what_is_beyond_a_limit_is_refused() {
    let deal = 1;
    let many = Request::Has { deal, ids: vec![ShardId([0; 32]); IDS_MAX + 1], grant: vec![] };
    assert!(matches!(Request::decode(&many.encode()), Err(WireError::Cbor(CborError::TooLong { .. }))));
    let tick = Request::Tick { deal, tick: tick(vec![0; 453]), grant: vec![] };
    assert!(matches!(Request::decode(&tick.encode()), Err(WireError::Cbor(CborError::TooLong { .. }))));
    let id = ShardId([0; 32]);
    let long = Request::Put { deal, id, len: SHARD_BYTES_MAX + 1, upload: [0; 16], grant: vec![] };
    assert!(matches!(Request::decode(&long.encode()), Err(WireError::Limit("shard length"))));
    let (announce, who) = (
        |ids| Request::Announce { deal, ids, addresses: vec![], secs: 60, grant: vec![] },
        |ids| Request::Who { deal, ids, grant: vec![] },
    );
    for beyond in [announce(vec![id; ANNOUNCED_MAX + 1]), announce(vec![]), who(vec![id; WHO_MAX + 1]), who(vec![])] {
        assert!(Request::decode(&beyond.encode()).is_err());
    }
    assert!(matches!(Request::decode(&[0x81, 0x18, 0x63]), Err(WireError::Kind(0x63))));
}

#[test]
fn an_ack_ties_the_shard_to_the_signed_root() {
    let signer = Signer::new(&[1; 32]);
    let id = ShardId([3; 32]);
    let mut frontier = holding::Frontier::default();
    frontier.append(holding::leaf(&ShardId([2; 32]), 256));
    let beside = holding::leaf(&ShardId([2; 32]), 256).to_bytes().to_vec();
    let position = frontier.append(holding::leaf(&id, 256));
    let statement = Statement { deal: 7, sequence: 2, position, root: frontier.root(), leaves: frontier.leaves() };
    let held = Held { ack: signer.ack(5, statement), shards: 2, path: beside };
    assert_eq!(held.verify(5, &signer.node(), 7, &id, 262144), Ok(()));
    assert!(matches!(held.verify(5, &signer.node(), 8, &id, 262144), Err(HeldError::Deal { .. })));
    assert!(matches!(held.verify(6, &signer.node(), 7, &id, 262144), Err(HeldError::Signature(_))));
    assert!(matches!(held.verify(5, &signer.node(), 7, &id, 131072), Err(HeldError::Path(_))));
    assert!(matches!(held.verify(5, &signer.node(), 7, &ShardId([9; 32]), 262144), Err(HeldError::Path(_))));
}
