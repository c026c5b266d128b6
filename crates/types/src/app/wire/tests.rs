//! Try every message, every bound, and bytes that are none.

use super::*;
use crate::{
    ack::Signer,
    app::{Limits, transcript::tests::transcript},
    transport::NodeKey,
};

fn manifest() -> Manifest {
    Manifest::new("shop", b"wasm", Limits::default(), NodeKey([7; 32])).unwrap()
}

fn requests() -> Vec<Request> {
    let seal = Seal { at_ms: 1_700_000_000_000, signature: [9; 64] };
    let ask =
        |headers| Request::Ask { lease: 3, method: "GET".into(), target: "/a?b=c".into(), headers, voucher: None };
    vec![
        Request::Give { lease: u64::MAX, manifest: manifest() },
        Request::Fetch { workload: [1; 32] },
        ask(Vec::new()),
        ask(vec![("host".into(), b"shop.localhost".to_vec()), ("x".into(), vec![0xff])]),
        ask(vec![(String::new(), Vec::new()); HEADERS_MAX]),
        ask(vec![("n".into(), vec![1; HEADER_BYTES_MAX - 1])]),
        Request::Ask {
            lease: 3,
            method: "GET".into(),
            target: "/".into(),
            headers: vec![("host".into(), b"shop.localhost".to_vec())],
            voucher: Some(Voucher { total: u128::MAX, signature: [28; 65] }),
        },
        Request::Look { lease: 0, since: u64::MAX, seal: None },
        Request::Look { lease: 1, since: 2, seal: Some(seal) },
        Request::Ping { lease: 24 },
        Request::Bytes(vec![5; CHUNK_BYTES_MAX]),
        Request::End,
        Request::Concur { lease: 1, generation: u64::MAX, round: 24 },
        Request::Want { sha256: [8; 32] },
        Request::Connect { lease: 1, app: NodeKey([6; 32]), port: u16::MAX },
        Request::Enter {
            lease: 1,
            seal,
            way: Way::Exec(Exec {
                argv: vec!["sh".into(), "-c".into(), "é".into()],
                env: vec![("A".into(), String::new())],
                workdir: "/".into(),
                terminal: Some((TERMINAL_MAX, 0)),
            }),
        },
        Request::Enter { lease: 1, seal, way: Way::Exec(Exec { argv: vec!["ls".into()], ..Exec::default() }) },
        Request::Enter { lease: 1, seal, way: Way::Read { path: "/var".into() } },
        Request::Enter { lease: 1, seal, way: Way::Write { path: "x".repeat(TARGET_BYTES_MAX) } },
        Request::Enter { lease: 1, seal, way: Way::Port(u16::MAX) },
        Request::Enter { lease: 1, seal, way: Way::Snapshot { volume: "data".into(), since: None } },
        Request::Enter { lease: 1, seal, way: Way::Snapshot { volume: "data".into(), since: Some([7; 32]) } },
        Request::Enter { lease: 1, seal, way: Way::Fill { volume: "data".into(), is_born: true } },
        Request::Resize { rows: 24, columns: 80 },
        Request::Transcribe,
        Request::Sample { lease: 1, from: u64::MAX, seal },
    ]
}

fn answers() -> Vec<Answer> {
    let readings = Readings { fuel: u64::MAX, bytes_in: 1, ..Readings::default() };
    let due = Due { wei: u128::MAX, calls: u64::MAX };
    let replica = Replica {
        state: State::Starting,
        words: "é".repeat(WORDS_MAX / 2),
        since_ms: 1,
        cold_ms: 2,
        warm_us: 3,
        missing: "m".repeat(WORDS_MAX),
        requests: u64::MAX,
        failures: u64::MAX,
        starts: u64::MAX,
        fuel: u64::MAX,
        bytes_in: u64::MAX,
        bytes_out: u64::MAX,
        memory_peak_bytes: u64::MAX,
        used: Some(Used { cpu_ms: u64::MAX, memory_bytes: u64::MAX, disk_bytes: u64::MAX }),
        log_end: u64::MAX,
        due,
        log: vec![1; CHUNK_BYTES_MAX],
    };
    let mut answers = vec![
        Answer::Given,
        Answer::Wants { blobs: Vec::new() },
        Answer::Wants { blobs: vec![[5; 32]; crate::app::container::LAYERS_MAX + 1] },
        Answer::Refused { words: "no".into() },
        Answer::Manifest(manifest()),
        Answer::Head { status: 999, headers: vec![("n".into(), vec![1; HEADER_BYTES_MAX - 1])] },
        Answer::Replica(Box::new(Replica { used: None, ..replica.clone() })),
        Answer::Connected,
        Answer::Errors(vec![1; CHUNK_BYTES_MAX]),
        Answer::Exited { code: 255 },
        Answer::End,
        Answer::Bytes(vec![1]),
        Answer::Bytes(vec![1; CHUNK_BYTES_MAX]),
        Answer::Done { readings, failure: None, due: None },
        Answer::Done { readings, failure: Some("fuel".into()), due: None },
        Answer::Done { readings, failure: None, due: Some(due) },
        Answer::Done { readings, failure: Some("fuel".into()), due: Some(due) },
        Answer::Unpaid { due },
        Answer::Busy { retry_after_ms: u32::MAX },
        Answer::NotReady { words: "compiling".into() },
        Answer::Gone,
        Answer::Replica(Box::new(replica)),
        Answer::Signature([7; 64]),
        Answer::Transcript(None),
        Answer::Transcript(Some(Box::new(transcript().sign(&Signer::new(&[3; 32]))))),
    ];
    answers.extend(State::ALL.map(Answer::State));
    answers
}

/// Ends at which a message is cut: all of a short one, some of a long one.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    (0..bytes.len()).step_by(1 + bytes.len() / 256)
}

#[test]
fn messages_return_from_their_bytes_and_no_other_spelling_is_taken() {
    for request in requests() {
        let bytes = request.encode();
        assert!(bytes.len() <= FRAME_BYTES_MAX);
        assert_eq!(Request::decode(&bytes).unwrap(), request);
        assert!(Request::decode(&[&bytes[..], &[0]].concat()).is_err());
        cuts(&bytes).for_each(|end| assert!(Request::decode(&bytes[..end]).is_err(), "cut at {end}"));
    }
    for answer in answers() {
        let bytes = answer.encode();
        assert!(bytes.len() <= FRAME_BYTES_MAX);
        assert_eq!(Answer::decode(&bytes).unwrap(), answer);
        assert!(Answer::decode(&[&bytes[..], &[0]].concat()).is_err());
        cuts(&bytes).for_each(|end| assert!(Answer::decode(&bytes[..end]).is_err(), "cut at {end}"));
    }
}

#[test]
fn bent_bytes_are_another_message_or_none() {
    for request in requests().into_iter().filter(|request| request.encode().len() < 1024) {
        let bytes = request.encode();
        for at in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[at / 8] ^= 1 << (at % 8);
            assert!(Request::decode(&bent).map_or(true, |other| other != request), "bit {at} of {request:?}");
        }
    }
    for answer in answers().into_iter().filter(|answer| answer.encode().len() < 1024) {
        let bytes = answer.encode();
        for at in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[at / 8] ^= 1 << (at % 8);
            assert!(Answer::decode(&bent).map_or(true, |other| other != answer), "bit {at} of {answer:?}");
        }
    }
}

#[test]
fn heads_beyond_their_bounds_are_refused() {
    let ask = |method: String, target: String, headers: Vec<Header>| {
        Request::decode(&Request::Ask { lease: 1, method, target, headers, voucher: None }.encode())
    };
    let long = "t".repeat(TARGET_BYTES_MAX - 3);
    assert!(ask("GET".into(), long.clone(), Vec::new()).is_ok());
    assert!(ask("POST".into(), long, Vec::new()).is_err());
    assert!(ask("M".repeat(METHOD_BYTES_MAX + 1), "/".into(), Vec::new()).is_err());
    assert!(ask("GET".into(), "/".into(), vec![(String::new(), Vec::new()); HEADERS_MAX + 1]).is_err());
    let half = vec![1; HEADER_BYTES_MAX / 2];
    let headers = |last: &str| vec![(String::new(), half.clone()), (last.into(), half.clone())];
    assert!(ask("GET".into(), "/".into(), headers("")).is_ok());
    assert!(ask("GET".into(), "/".into(), headers("n")).is_err());
    for status in [99, 1000, u16::MAX] {
        let head = Answer::Head { status, headers: Vec::new() }.encode();
        assert_eq!(Answer::decode(&head), Err(WireError::Limit("status")));
    }
}

#[test]
fn chunks_are_neither_empty_nor_too_long() {
    for bytes in [Vec::new(), vec![1; CHUNK_BYTES_MAX + 1]] {
        assert!(Request::decode(&Request::Bytes(bytes.clone()).encode()).is_err());
        assert!(Answer::decode(&Answer::Bytes(bytes).encode()).is_err());
    }
}

#[test]
fn long_words_are_cut_where_a_letter_ends() {
    let long = Answer::NotReady { words: format!("a{}", "é".repeat(WORDS_MAX)) };
    let Answer::NotReady { words } = Answer::decode(&long.encode()).unwrap() else { panic!("another answer") };
    assert_eq!(words.len(), WORDS_MAX - 1);
}

#[test]
fn what_has_no_name_here_is_refused() {
    let unknown = |bytes: &[u8]| (Request::decode(bytes).unwrap_err(), Answer::decode(bytes).unwrap_err());
    assert_eq!(unknown(&[0x81, 0x18, 99]), (WireError::Kind(99), WireError::Kind(99)));
    // A state that is none, and a manifest whose name is none.
    assert_eq!(Answer::decode(&[0x82, 11, 8]), Err(WireError::Limit("state")));
    let named = Request::Give { lease: 1, manifest: Manifest { name: "A".into(), ..manifest() } };
    assert!(matches!(Request::decode(&named.encode()), Err(WireError::Manifest(ManifestError::Name(_)))));
}
