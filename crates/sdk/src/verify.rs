//! Check a receipt with nothing but the network key: no network, no clock, no trust in who handed it over.
//!
//! ```text
//! event + salt ─leaf─► log root ─signed─► cohort root ─leaf─► anchor root ─preimage─► header ─► … ─► header
//!                                                                          certificate, network key ────┘
//! ```
//! Steps run in that order and the first that fails is named, with what was expected and what was found.
//! Passing means: at most f validators lied, or this event was in that log, signed by its key, when the block
//! was made. It does not mean that what the event says is true: only that its keeper said so then.

use alloy_primitives::{Address, B256, keccak256};
use hodei_ledger::{
    block::time_ms,
    genesis::chain_id,
    light::{self, Finalized, LightError, Sealed, Verifier},
};
use hodei_types::{
    ack::{Ack, is_signed},
    cbor::{CborError, Reader},
    checkpoint::{Registration, anchor_leaf, body, cohort_leaf},
    event::{Event, EventError, Put, Salt},
    merkle::{self, MerkleError},
    network::NetworkKey,
    receipt::{Anchored, Receipt, ReceiptError},
    transport::NodeKey,
};

/// The stations of verification, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    NetworkKey,
    Receipt,
    Event,
    Log,
    Checkpoint,
    Cohort,
    Anchor,
    Preimage,
    Headers,
    Certificate,
    Acks,
    Providers,
    File,
}

impl Step {
    /// Lower-case word for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetworkKey => "network key",
            Self::Receipt => "receipt",
            Self::Event => "event",
            Self::Log => "log",
            Self::Checkpoint => "checkpoint",
            Self::Cohort => "cohort",
            Self::Anchor => "anchor",
            Self::Preimage => "preimage",
            Self::Headers => "headers",
            Self::Certificate => "certificate",
            Self::Acks => "acks",
            Self::Providers => "providers",
            Self::File => "file",
        }
    }
}

/// What is wrong with a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("network key: {0}")]
    GroupKey(LightError),
    #[error("receipt: not in its one encoding: {0}")]
    Receipt(#[from] ReceiptError),
    #[error("receipt: of another network: expected genesis {expected}, found {found}")]
    Network { expected: B256, found: B256 },
    #[error("event: not in its one encoding: {0}")]
    Event(#[from] EventError),
    #[error("event: field {0:?} of a put is missing or malformed")]
    Put(&'static str),
    #[error("{}: path does not fit: {error}", .step.name())]
    Path { step: Step, error: MerkleError },
    #[error("{}: expected root {expected}, found {found}", .step.name())]
    Root { step: Step, expected: B256, found: B256 },
    #[error("checkpoint: expected a signature by {log} over {size} events, found another")]
    Signature { log: NodeKey, size: u64 },
    #[error("cohort: expected an anchored root of 32 bytes, found {0} bytes")]
    CohortRoot(usize),
    #[error("preimage: expected hash {expected} in header {number}, found {found}")]
    Preimage { number: u64, expected: B256, found: B256 },
    #[error("headers: {0}")]
    Headers(LightError),
    #[error("certificate: {0}")]
    Certificate(LightError),
    #[error("acks: ack {at} is not in its one encoding: {error}")]
    AckForm { at: usize, error: CborError },
    #[error("acks: ack {at} is for deal {deal}, which the event does not name")]
    AckDeal { at: usize, deal: u64 },
    #[error("acks: expected root {expected}, found {found}")]
    AckRoot { expected: B256, found: B256 },
    #[error("acks: expected none beside an event that is not a put, found {0}")]
    AckEvent(usize),
    #[error("providers: expected one registration per ack ({expected}), found {found}")]
    ProviderCount { expected: usize, found: usize },
    #[error("providers: registration {0} is malformed")]
    ProviderForm(usize),
    #[error("providers: expected ack {at} signed by {node}, found another signature")]
    ProviderSignature { at: usize, node: NodeKey },
    #[error("providers: registration {at}: {error}")]
    Provider { at: usize, error: Box<Refused> },
    #[error("file: expected content {expected}, found {found}")]
    File { expected: B256, found: B256 },
    #[error("file: expected a put's receipt, found one of a {0}")]
    NoContent(&'static str),
}

impl Refused {
    /// The first step that failed.
    pub fn step(&self) -> Step {
        match self {
            Self::GroupKey(_) => Step::NetworkKey,
            Self::Receipt(_) | Self::Network { .. } => Step::Receipt,
            Self::Event(_) | Self::Put(_) => Step::Event,
            Self::Path { step, .. } | Self::Root { step, .. } => *step,
            Self::Signature { .. } => Step::Checkpoint,
            Self::CohortRoot(_) => Step::Cohort,
            Self::Preimage { .. } => Step::Preimage,
            Self::Headers(_) => Step::Headers,
            Self::Certificate(_) => Step::Certificate,
            Self::AckForm { .. } | Self::AckDeal { .. } | Self::AckRoot { .. } | Self::AckEvent(_) => Step::Acks,
            Self::ProviderCount { .. } | Self::ProviderForm(_) => Step::Providers,
            Self::ProviderSignature { .. } | Self::Provider { .. } => Step::Providers,
            Self::File { .. } | Self::NoContent(_) => Step::File,
        }
    }
}

impl Refused {
    /// What the failing step wanted, and what it got: for people.
    pub fn between(&self) -> (String, String) {
        let told = |expected: &str, found: &dyn std::fmt::Display| (expected.to_owned(), found.to_string());
        match self {
            Self::GroupKey(error) | Self::Headers(error) | Self::Certificate(error) => between(error),
            Self::Receipt(error) => told("a receipt in its one encoding", error),
            Self::Network { expected, found } => told(&format!("genesis {expected}"), found),
            Self::Event(error) => told("an event in its one encoding", error),
            Self::Put(field) => told(&format!("field {field:?} of a put"), &"none, or a malformed one"),
            Self::Path { step, error } => told(&format!("a path to the {}'s root", step.name()), error),
            Self::Root { expected, found, .. } | Self::AckRoot { expected, found } => {
                told(&format!("root {expected}"), found)
            }
            Self::Signature { log, size } => told(&format!("a signature by {log} over {size} events"), &"another"),
            Self::CohortRoot(found) => told("an anchored root of 32 bytes", &format!("{found} bytes")),
            Self::Preimage { number, expected, found } => told(&format!("hash {expected} in header {number}"), found),
            Self::AckForm { at, error } => told(&format!("ack {at} in its one encoding"), error),
            Self::AckDeal { at, deal } => {
                told(&format!("ack {at} of a deal that the event names"), &format!("one of deal {deal}"))
            }
            Self::AckEvent(found) => told("no acks beside an event that is not a put", found),
            Self::ProviderCount { expected, found } => told(&format!("one registration per ack, {expected}"), found),
            Self::ProviderForm(at) => told(&format!("registration {at} of a provider"), &"other bytes"),
            Self::ProviderSignature { at, node } => told(&format!("ack {at} signed by {node}"), &"another signature"),
            Self::Provider { at, error } => {
                let (expected, found) = error.between();
                (format!("registration {at}: {expected}"), found)
            }
            Self::File { expected, found } => told(&format!("content {expected}"), found),
            Self::NoContent(kind) => told("a put's receipt", &format!("one of a {kind}")),
        }
    }
}

fn between(error: &LightError) -> (String, String) {
    let (expected, found) = match error {
        LightError::GroupKey => ("a point of the group".into(), "other bytes".into()),
        LightError::Encoding(why) => ("a finalization in its one encoding".into(), why.clone()),
        LightError::Certificate(block) => {
            ("signatures under the network key".into(), format!("others, in the finalization of block {block}"))
        }
        LightError::Block { expected, found } => (format!("a finalization of block {expected}"), found.to_string()),
        LightError::Header { at } => (format!("header {at} in its one encoding"), "other bytes".into()),
        LightError::Parent { at, expected, found } => (format!("parent {expected} in header {at}"), found.to_string()),
        LightError::Number { at, expected, found } => (format!("number {expected} in header {at}"), found.to_string()),
        LightError::Empty => ("a header".into(), "none".into()),
    };
    (expected, found)
}

/// A provider's promise that a receipt carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    pub ack: Ack,
    /// Who signed it and who stands behind that node, where the receipt carries registrations.
    pub by: Option<(NodeKey, Address)>,
}

/// What a verified receipt proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub event: Event,
    /// The event's put, if it is one.
    pub put: Option<Put>,
    pub salt: Salt,
    /// Whose log it is in, and that log's length then.
    pub log: NodeKey,
    pub size: u64,
    /// The anchoring block.
    pub height: u64,
    pub block: B256,
    pub time_ms: u64,
    /// The certified block, the same or a later one.
    pub certified: u64,
    pub finalized: Finalized,
    pub promises: Vec<Promise>,
}

impl Verified {
    /// What [`Verified::check_content`] wants of a file: its BLAKE3, or that of its pieces' hashes where the
    /// put was cut into pieces. Constant memory.
    pub fn hash(&self, mut file: impl std::io::Read) -> std::io::Result<[u8; 32]> {
        let pieces = self.put.as_ref().map_or(&[][..], |put| &put.pieces);
        if pieces.is_empty() {
            return hash_content(file);
        }
        let mut hasher = blake3::Hasher::new();
        for (bytes, count) in pieces {
            for _ in 0..*count {
                let mut piece = std::io::Read::take(&mut file, *bytes);
                hasher.update(&hash_content(&mut piece)?);
                if piece.limit() > 0 {
                    // Shorter than it must be: what is missing cannot be made up by more pieces.
                    return Ok(*hasher.finalize().as_bytes());
                }
            }
        }
        let mut rest = [0];
        if file.read(&mut rest)? > 0 {
            // Longer than it must be.
            hasher.update(&rest);
        }
        Ok(*hasher.finalize().as_bytes())
    }

    /// Checks that a plaintext with this hash is the one that was put.
    pub fn check_content(&self, blake3: &[u8; 32]) -> Result<(), Refused> {
        let put = self.put.as_ref().ok_or(Refused::NoContent(self.event.kind.name()))?;
        let (expected, found) = (put.content, self.salt.content(blake3));
        if found == expected { Ok(()) } else { Err(Refused::File { expected, found }) }
    }
}

/// BLAKE3 of a file; constant memory.
pub fn hash_content(mut file: impl std::io::Read) -> std::io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(*hasher.finalize().as_bytes()),
            Ok(len) => hasher.update(&buffer[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
    }
}

/// Verifies an encoded receipt under a network key.
pub fn verify(receipt: &[u8], key: &NetworkKey) -> Result<Verified, Refused> {
    let verifier = Verifier::new(key).map_err(Refused::GroupKey)?;
    let receipt = Receipt::decode(receipt)?;
    if receipt.genesis != key.genesis {
        return Err(Refused::Network { expected: key.genesis, found: receipt.genesis });
    }
    let event = Event::decode(&receipt.event)?;
    let put = Put::from_event(&event).transpose().map_err(Refused::Put)?;
    check_log(&receipt, &event)?;
    let (headers, finalized) = check_anchored(&verifier, &receipt.anchor, &anchor_leaf(&receipt.anchor.data))?;
    let promises = check_acks(&verifier, &receipt, put.as_ref())?;
    let (first, last) = (&headers[0], &headers[headers.len() - 1]);
    Ok(Verified {
        event,
        put,
        salt: receipt.salt,
        log: receipt.log,
        size: receipt.checkpoint.size,
        height: first.header.number,
        block: first.hash,
        time_ms: time_ms(&first.header),
        certified: last.header.number,
        finalized,
        promises,
    })
}

/// Event → log root → checkpoint's signature → cohort's root, which is what was anchored.
fn check_log(receipt: &Receipt, event: &Event) -> Result<(), Refused> {
    let checkpoint = &receipt.checkpoint;
    let leaf = receipt.salt.leaf(&receipt.event);
    let found = merkle::root_from_path(leaf, event.sequence, checkpoint.size, &checkpoint.path)
        .map_err(|error| Refused::Path { step: Step::Log, error })?;
    same(Step::Log, checkpoint.root, found)?;
    let body = body(&receipt.genesis, &receipt.log, checkpoint.size, &checkpoint.root);
    if !is_signed(&receipt.log, body.as_bytes(), &checkpoint.signature) {
        return Err(Refused::Signature { log: receipt.log, size: checkpoint.size });
    }
    let expected = receipt.anchor.data.as_slice();
    let expected = B256::try_from(expected).map_err(|_| Refused::CohortRoot(expected.len()))?;
    let found = receipt
        .cohort
        .root(cohort_leaf(&body, &receipt.log))
        .map_err(|error| Refused::Path { step: Step::Cohort, error })?;
    same(Step::Cohort, expected, found)
}

/// Leaf → anchor root → preimage → headers → certificate.
fn check_anchored(verifier: &Verifier, anchored: &Anchored, leaf: &[u8]) -> Result<(Vec<Sealed>, Finalized), Refused> {
    let found = anchored.path.root(merkle::leaf(leaf)).map_err(|error| Refused::Path { step: Step::Anchor, error })?;
    let root_at = anchored.preimage.len() - 32;
    same(Step::Anchor, B256::from_slice(&anchored.preimage[root_at..]), found)?;
    let headers = light::link(&anchored.headers).map_err(Refused::Headers)?;
    let first = &headers[0].header;
    let expected = first.parent_beacon_block_root.unwrap_or_default();
    let found = keccak256(&anchored.preimage);
    if found != expected {
        return Err(Refused::Preimage { number: first.number, expected, found });
    }
    let finalized = verifier.finalization(&anchored.finalization).map_err(Refused::Certificate)?;
    light::certifies(&finalized, &headers).map_err(Refused::Certificate)?;
    Ok((headers, finalized))
}

/// The acks are those the event commits to; each by a node that the ledger knew.
fn check_acks(verifier: &Verifier, receipt: &Receipt, put: Option<&Put>) -> Result<Vec<Promise>, Refused> {
    let Some(put) = put else {
        let count = receipt.acks.len() + receipt.providers.len();
        return if count == 0 { Ok(Vec::new()) } else { Err(Refused::AckEvent(count)) };
    };
    if !receipt.acks.is_empty() {
        let leaves: Vec<B256> = receipt.acks.iter().map(|ack| merkle::leaf(ack)).collect();
        let (expected, found) = (put.acks, merkle::root(&leaves));
        if found != expected {
            return Err(Refused::AckRoot { expected, found });
        }
    }
    if !receipt.providers.is_empty() && receipt.providers.len() != receipt.acks.len() {
        return Err(Refused::ProviderCount { expected: receipt.acks.len(), found: receipt.providers.len() });
    }
    let mut promises = Vec::with_capacity(receipt.acks.len());
    for (at, bytes) in receipt.acks.iter().enumerate() {
        let ack = read_ack(bytes).map_err(|error| Refused::AckForm { at, error })?;
        if !put.deals.contains(&ack.statement.deal) {
            return Err(Refused::AckDeal { at, deal: ack.statement.deal });
        }
        let by = match receipt.providers.get(at) {
            None => None,
            Some(anchored) => {
                let registration = Registration::decode(&anchored.data).ok_or(Refused::ProviderForm(at))?;
                check_anchored(verifier, anchored, &registration.leaf())
                    .map_err(|error| Refused::Provider { at, error: Box::new(error) })?;
                let Registration { node, operator, .. } = registration;
                ack.verify(chain_id(&receipt.genesis), &node).map_err(|_| Refused::ProviderSignature { at, node })?;
                Some((node, operator))
            }
        };
        promises.push(Promise { ack, by });
    }
    Ok(promises)
}

fn read_ack(bytes: &[u8]) -> Result<Ack, CborError> {
    let mut input = Reader::new(bytes);
    let ack = Ack::read(&mut input)?;
    input.end()?;
    Ok(ack)
}

fn same(step: Step, expected: B256, found: B256) -> Result<(), Refused> {
    if expected == found { Ok(()) } else { Err(Refused::Root { step, expected, found }) }
}
