//! Write down one request to a replica, so that anybody can run it again.
//!
//! A host signs with its node key what a replica was asked, under which clock and chance, and what came of it: a
//! [`Transcript`]. Whoever has it, the request's body and the component runs the request again and compares fuel,
//! memory and answer. A changed transcript is known by its signature, a host that signs what did not happen by the run.
//!
//! Who asked may want the transcript of its request once the answer is over, and not before: until then the host does
//! not know which of its answers will be run again. Of itself it keeps what [`is_sampled`] says, for the app's viewer.

use super::{
    MANIFEST_BYTES_MAX, Manifest, ManifestError,
    wire::{Header, TARGET_BYTES_MAX, WORDS_MAX, WireError, read_headers, write_headers},
};
use crate::{
    ack::{SIGNATURE_BYTES, Signer, is_signed},
    cbor::{CborError, Reader, Writer},
    transport::NodeKey,
};

/// Longest encoding of a transcript: a head with all its headers, and what is said besides.
pub const TRANSCRIPT_BYTES_MAX: usize = super::wire::HEADER_BYTES_MAX + TARGET_BYTES_MAX + (8 << 10);
/// Longest file of one, with its request's body.
pub const RECORD_BYTES_MAX: usize = TRANSCRIPT_BYTES_MAX + super::Limits::BODY_BYTES_MAX as usize + 256;
/// A host keeps the first of a replica's requests, and each that comes so many later.
pub const SAMPLE_EVERY: u64 = 64;
/// Of these, those whose body is at most so long.
pub const SAMPLE_BODY_BYTES_MAX: usize = super::wire::CHUNK_BYTES_MAX;
/// The last so many.
pub const SAMPLES_MAX: usize = 16;

const VERSION: u64 = 1;
const ENGINE_BYTES_MAX: usize = 64;

/// Whether a host keeps the transcript of a replica's request with that number and so long a body. It follows from
/// the number alone which it has to have, so that one it leaves out is missed.
pub fn is_sampled(number: u64, body_bytes: usize) -> bool {
    number.is_multiple_of(SAMPLE_EVERY) && body_bytes <= SAMPLE_BODY_BYTES_MAX
}

/// Bytes by their length and BLAKE3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    pub bytes: u64,
    pub hash: [u8; 32],
}

impl Content {
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, hash: *blake3::hash(bytes).as_bytes() }
    }

    fn write(&self, out: &mut Writer) {
        out.uint(self.bytes).bytes(&self.hash);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, CborError> {
        Ok(Self { bytes: input.uint()?, hash: input.fixed()? })
    }
}

/// What came of a request, without what depends on the machine it ran on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// None where it failed before it answered.
    pub status: Option<u16>,
    /// [`headers_hash`] of the answer's.
    pub headers: [u8; 32],
    pub body: Content,
    pub fuel: u64,
    pub memory_peak_bytes: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Why it is not whole, if it is not; at most [`WORDS_MAX`] bytes.
    pub failure: Option<String>,
}

/// Headers that a host sets of its own: how long a start took who asked, and what a call cost.
pub const COLD_HEADER: &str = "x-hodei-cold-start";
pub const PRICE_HEADER: &str = "x-hodei-price";

/// Whether a header is its host's, whoever wrote it.
pub fn is_of_host(name: &str) -> bool {
    [COLD_HEADER, PRICE_HEADER].iter().any(|of_host| of_host.eq_ignore_ascii_case(name))
}

/// BLAKE3 over an answer's headers, sorted by their names, without those that are its host's: running it again gives none.
pub fn headers_hash(headers: &[Header]) -> [u8; 32] {
    let mut sorted: Vec<Header> = headers.iter().filter(|(name, _)| !is_of_host(name)).cloned().collect();
    sorted.sort_by(|one, other| one.0.cmp(&other.0));
    let mut out = Writer::new();
    write_headers(&mut out, &sorted);
    *blake3::hash(&out.finish()).as_bytes()
}

impl Outcome {
    /// Each thing under its name, as people compare them.
    pub fn lines(&self) -> [(&'static str, String); 8] {
        let status = self.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        [
            ("status", status),
            ("headers", hex::encode(self.headers)),
            ("body", format!("{} of {} bytes", hex::encode(self.body.hash), self.body.bytes)),
            ("fuel", self.fuel.to_string()),
            ("memory peak", self.memory_peak_bytes.to_string()),
            ("bytes in", self.bytes_in.to_string()),
            ("bytes out", self.bytes_out.to_string()),
            ("failure", self.failure.clone().unwrap_or_else(|| "none".into())),
        ]
    }

    /// The words of a failure as a transcript has them.
    pub fn words(of: &str) -> String {
        of[..of.floor_char_boundary(WORDS_MAX)].to_owned()
    }

    fn write(&self, out: &mut Writer) {
        out.array(if self.failure.is_some() { 9 } else { 8 });
        out.uint(self.status.unwrap_or(0).into()).bytes(&self.headers);
        self.body.write(out);
        out.uint(self.fuel).uint(self.memory_peak_bytes).uint(self.bytes_in).uint(self.bytes_out);
        self.failure.iter().for_each(|words| _ = out.text(words));
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, TranscriptError> {
        let values = input.array(9)?;
        if values < 8 {
            return Err(TranscriptError::Field("an outcome"));
        }
        let status = match input.uint()? {
            0 => None,
            status => match u16::try_from(status) {
                Ok(status @ 100..=999) => Some(status),
                _ => return Err(TranscriptError::Field("a status")),
            },
        };
        Ok(Self {
            status,
            headers: input.fixed()?,
            body: Content::read(input)?,
            fuel: input.uint()?,
            memory_peak_bytes: input.uint()?,
            bytes_in: input.uint()?,
            bytes_out: input.uint()?,
            failure: (values == 9).then(|| input.text(WORDS_MAX).map(str::to_owned)).transpose()?,
        })
    }
}

/// One request to a replica and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    pub chain_id: u64,
    pub lease: u64,
    /// The host, whose key signs it.
    pub node: NodeKey,
    /// What ran, within what: its hash is what the lease names.
    pub manifest: Manifest,
    /// The engine and how it is used; under another, fuel may be another.
    pub engine: String,
    /// Which request of the replica it was, from 0 on since its host started.
    pub number: u64,
    /// What the component took for the time, in nanoseconds since 1970.
    pub now_ns: u64,
    /// What it held for random follows from this.
    pub seed: [u8; 32],
    pub method: String,
    pub target: String,
    pub headers: Vec<Header>,
    pub body: Content,
    pub outcome: Outcome,
}

/// Why bytes are no transcript, or none that is true.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    #[error("transcript: {0}")]
    Cbor(#[from] CborError),
    #[error("transcript: {0}")]
    Manifest(#[from] ManifestError),
    #[error("transcript: {0}")]
    Head(Box<WireError>),
    #[error("transcript: {0} is beyond its limit")]
    Field(&'static str),
    #[error("node {0} did not sign this transcript")]
    Signature(NodeKey),
    #[error("the body beside it is another than was asked with: expected {expected}, found {found}")]
    Body { expected: String, found: String },
}

impl Transcript {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(1024);
        out.array(15).uint(VERSION).uint(self.chain_id).uint(self.lease).bytes(&self.node.0);
        out.bytes(&self.manifest.encode()).text(&self.engine).uint(self.number).uint(self.now_ns).bytes(&self.seed);
        out.text(&self.method).text(&self.target);
        write_headers(&mut out, &self.headers);
        self.body.write(&mut out);
        self.outcome.write(&mut out);
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, TranscriptError> {
        if bytes.len() > TRANSCRIPT_BYTES_MAX {
            return Err(TranscriptError::Field("its length"));
        }
        let mut input = Reader::new(bytes);
        input.tuple(15)?;
        input.exactly("transcript version", VERSION)?;
        let (chain_id, lease, node) = (input.uint()?, input.uint()?, NodeKey(input.fixed()?));
        let manifest = Manifest::decode(input.bytes(MANIFEST_BYTES_MAX)?)?;
        let engine = input.text(ENGINE_BYTES_MAX)?.to_owned();
        let (number, now_ns, seed) = (input.uint()?, input.uint()?, input.fixed()?);
        let method = input.text(TARGET_BYTES_MAX)?.to_owned();
        let target = input.text(TARGET_BYTES_MAX - method.len())?.to_owned();
        let headers = read_headers(&mut input).map_err(|error| TranscriptError::Head(Box::new(error)))?;
        let body = Content::read(&mut input)?;
        let outcome = Outcome::read(&mut input)?;
        input.end()?;
        Ok(Self {
            chain_id,
            lease,
            node,
            manifest,
            engine,
            number,
            now_ns,
            seed,
            method,
            target,
            headers,
            body,
            outcome,
        })
    }

    /// What names it: a hash over the encoding.
    pub fn hash(&self) -> [u8; 32] {
        blake3::derive_key("hodei app transcript v1", &self.encode())
    }

    /// With a node's signature, which should be that of the host it names.
    pub fn sign(self, signer: &Signer) -> Signed {
        let signature = signer.sign(&self.statement());
        Signed { transcript: self, signature }
    }

    /// What is signed.
    fn statement(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(2).text("hodei app transcript v1").bytes(&self.hash());
        out.finish()
    }
}

/// A transcript with its host's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub transcript: Transcript,
    pub signature: [u8; SIGNATURE_BYTES],
}

impl Signed {
    /// Whether the host that it names signed it.
    pub fn verify(&self) -> Result<(), TranscriptError> {
        let node = self.transcript.node;
        match is_signed(&node, &self.transcript.statement(), &self.signature) {
            true => Ok(()),
            false => Err(TranscriptError::Signature(node)),
        }
    }
}

/// What is kept of one: signed, and with the body that was asked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub signed: Signed,
    pub body: Vec<u8>,
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(self.body.len() + 1024);
        out.array(4).uint(VERSION).bytes(&self.signed.transcript.encode()).bytes(&self.signed.signature);
        out.bytes(&self.body);
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, TranscriptError> {
        let mut input = Reader::new(bytes);
        input.tuple(4)?;
        input.exactly("version of a transcript's file", VERSION)?;
        let transcript = Transcript::decode(input.bytes(TRANSCRIPT_BYTES_MAX)?)?;
        let signature = input.fixed()?;
        let body = input.bytes(super::Limits::BODY_BYTES_MAX as usize)?.to_vec();
        input.end()?;
        Ok(Self { signed: Signed { transcript, signature }, body })
    }

    /// Whether its host signed it, and this is the body that was asked with.
    pub fn verify(&self) -> Result<(), TranscriptError> {
        self.signed.verify()?;
        let (asked, found) = (self.signed.transcript.body, Content::of(&self.body));
        let show = |content: Content| format!("{} of {} bytes", hex::encode(content.hash), content.bytes);
        match asked == found {
            true => Ok(()),
            false => Err(TranscriptError::Body { expected: show(asked), found: show(found) }),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::app::{
        Limits,
        wire::{FRAME_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX},
    };

    fn signer() -> Signer {
        Signer::new(&[3; 32])
    }

    #[test]
    fn what_a_host_adds_to_an_answer_is_no_part_of_it() {
        let own = vec![("x".to_owned(), b"1".to_vec())];
        let told = [own.clone(), vec![("X-Hodei-Cold-Start".into(), b"7ms".to_vec()), (PRICE_HEADER.into(), vec![])]];
        assert_eq!(headers_hash(&told.concat()), headers_hash(&own));
        assert_ne!(headers_hash(&[]), headers_hash(&own));
    }

    pub(in crate::app) fn transcript() -> Transcript {
        Transcript {
            chain_id: 5,
            lease: 9,
            node: signer().node(),
            manifest: Manifest::new("shop", b"wasm", Limits::default(), NodeKey([7; 32])).unwrap(),
            engine: "engine-1".into(),
            number: 64,
            now_ns: 1_800_000_000_123_456_789,
            seed: [8; 32],
            method: "POST".into(),
            target: "/a?b=c".into(),
            headers: vec![("host".into(), b"shop.localhost".to_vec())],
            body: Content::of(b"asked"),
            outcome: Outcome {
                status: Some(200),
                headers: headers_hash(&[]),
                body: Content::of(b"answered"),
                fuel: 1234,
                memory_peak_bytes: 65536,
                bytes_in: 5,
                bytes_out: 8,
                failure: None,
            },
        }
    }

    fn longest() -> Transcript {
        let mut longest = transcript();
        longest.engine = "e".repeat(ENGINE_BYTES_MAX);
        longest.method = "M".repeat(32);
        longest.target = "t".repeat(TARGET_BYTES_MAX - 32);
        longest.headers = vec![(String::new(), vec![1; HEADER_BYTES_MAX / HEADERS_MAX]); HEADERS_MAX];
        longest.outcome.status = None;
        longest.outcome.failure = Some(Outcome::words(&"é".repeat(WORDS_MAX)));
        (longest.chain_id, longest.lease, longest.number, longest.now_ns) = (u64::MAX, u64::MAX, u64::MAX, u64::MAX);
        longest
    }

    #[test]
    fn a_transcript_returns_from_its_bytes_and_no_other_spelling_is_taken() {
        for transcript in [transcript(), longest()] {
            let bytes = transcript.encode();
            assert!(bytes.len() <= TRANSCRIPT_BYTES_MAX && TRANSCRIPT_BYTES_MAX + 128 <= FRAME_BYTES_MAX);
            assert_eq!(Transcript::decode(&bytes).unwrap(), transcript);
            assert!(Transcript::decode(&[&bytes[..], &[0]].concat()).is_err());
            let step = 1 + bytes.len() / 256;
            (0..bytes.len()).step_by(step).for_each(|end| assert!(Transcript::decode(&bytes[..end]).is_err()));
            let record = Record { signed: transcript.sign(&signer()), body: b"asked".to_vec() };
            assert_eq!(Record::decode(&record.encode()).unwrap(), record);
        }
    }

    #[test]
    fn a_bent_transcript_or_body_is_not_what_its_host_signed() {
        let record = Record { signed: transcript().sign(&signer()), body: b"asked".to_vec() };
        assert_eq!(record.verify(), Ok(()));
        let bytes = record.encode();
        for at in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[at / 8] ^= 1 << (at % 8);
            assert!(Record::decode(&bent).map_or(true, |bent| bent.verify().is_err()), "bit {at}");
        }
        let mut cheaper = record.clone();
        cheaper.signed.transcript.outcome.fuel -= 1;
        assert_eq!(cheaper.verify(), Err(TranscriptError::Signature(signer().node())));
        let other = Record { body: b"other".to_vec(), ..record };
        assert!(matches!(other.verify(), Err(TranscriptError::Body { .. })));
    }

    #[test]
    fn the_first_is_kept_and_each_that_comes_so_many_later_but_none_with_a_long_body() {
        let kept: Vec<_> = (0..3 * SAMPLE_EVERY).filter(|number| is_sampled(*number, 0)).collect();
        assert_eq!(kept, [0, SAMPLE_EVERY, 2 * SAMPLE_EVERY]);
        assert!(is_sampled(0, SAMPLE_BODY_BYTES_MAX) && !is_sampled(0, SAMPLE_BODY_BYTES_MAX + 1));
    }

    #[test]
    fn headers_are_the_same_in_any_order_of_names_but_not_of_values() {
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let one = [header("a", "1"), header("b", "2"), header("b", "3")];
        let moved = [header("b", "2"), header("a", "1"), header("b", "3")];
        let turned = [header("a", "1"), header("b", "3"), header("b", "2")];
        assert_eq!(headers_hash(&one), headers_hash(&moved));
        assert_ne!(headers_hash(&one), headers_hash(&turned));
    }
}
