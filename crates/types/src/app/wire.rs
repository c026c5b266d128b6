//! Carry what is given to a host and asked of a replica.
//!
//! Protocol `hodei/app/1`: one stream a request, each message a frame as on `hodei/chain/1`: u32 length, big-endian,
//! and that many bytes of canonical CBOR `[kind, …]`. The link has authenticated both nodes.
//!
//! ```text
//! Give ─ Bytes… (as long as the manifest says)      ► Given | Refused
//! Give (a container) ─ Bytes… (of each, in order)   ► Wants ─ Given | Refused
//! Fetch                                             ► Manifest ─ Bytes… (of a component) | Refused
//! Want (behind the Manifest of a container)         ► Bytes… | Refused
//! Ask ─ Bytes… ─ End                                ► Head ─ Bytes… ─ Done | Busy | NotReady | Gone | Refused | Unpaid
//! Look                                              ► Replica | Gone | Refused
//! Ping                                              ► State | Gone | Refused
//! Concur                                            ► Signature | Refused
//! Connect ─ Bytes… ─ End                            ► Connected ─ Bytes… ─ End | NotReady | Busy | Gone | Refused
//! Enter ─ Bytes… | Resize… ─ End                    ► Connected ─ Bytes… | Errors… ─ Exited | End | Busy | Gone | Refused
//! Transcribe (behind the Done of an Ask)            ► Transcript
//! Sample                                            ► Transcript ─ Bytes (its body, if it has one) | Gone | Refused
//! ```
//! An answer may come before a body's end; then nobody hears the rest. A component that fails before it answers has
//! `Done` without `Head`.
//!
//! What is on call is asked with a [`Voucher`], at first over nothing: it says who pays. `Done` then tells what all calls
//! so far cost, and a host that was given too little for them says `Unpaid` until it has a voucher over more.

mod answer;
mod enter;

pub use answer::{Answer, Due, Readings, Replica, State, Used};
pub use enter::{ENTER_BYTES_MAX, ENTER_WORDS_MAX, Exec, TERMINAL_MAX, Way};

use super::{
    MANIFEST_BYTES_MAX, Manifest, ManifestError, Seal,
    transcript::{Signed, TRANSCRIPT_BYTES_MAX, Transcript, TranscriptError},
};
use crate::{
    cbor::{CborError, Reader, Writer},
    transport::NodeKey,
};

/// Bytes of a component, a body or a log in one frame.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Longest message of either side.
pub const FRAME_BYTES_MAX: usize = CHUNK_BYTES_MAX + 8192;
/// Headers of one head.
pub const HEADERS_MAX: usize = 128;
/// Their names and values together.
pub const HEADER_BYTES_MAX: usize = 32 << 10;
/// Method and target together.
pub const TARGET_BYTES_MAX: usize = 8 << 10;
/// Bytes of a reason in words.
pub const WORDS_MAX: usize = 512;

const METHOD_BYTES_MAX: usize = 32;

/// A header's name and value.
pub type Header = (String, Vec<u8>);

/// What a lease's calls cost so far, by who pays for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voucher {
    /// Wei for all calls of the lease.
    pub total: u128,
    /// The owner's or a budget's of his, over the keccak of `abi::voucher_statement`.
    pub signature: [u8; 65],
}

/// What is said to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Hands over what a lease of this host runs; its wasm follows.
    Give { lease: u64, manifest: Manifest },
    /// Wants what it runs, for another lease of the same workload on the asking node.
    Fetch { workload: [u8; 32] },
    /// An HTTP request to a replica; its body follows.
    Ask { lease: u64, method: String, target: String, headers: Vec<Header>, voucher: Option<Voucher> },
    /// How a replica is; with its viewer's seal also its log from byte `since` on.
    Look { lease: u64, since: u64, seal: Option<Seal> },
    /// Whether a replica answers.
    Ping { lease: u64 },
    /// Some of a component or a body, never none.
    Bytes(Vec<u8>),
    /// A body is whole.
    End,
    /// From one watcher of a lease to another: its word that the host is not reached, if it misses it too.
    Concur { lease: u64, generation: u64, round: u64 },
    /// The transcript of the request that was asked on this stream, whose answer is over.
    Transcribe,
    /// Wants one blob of the container that was fetched on this stream.
    Want { sha256: [u8; 32] },
    /// From a host that runs another app of the same owner: a connection to a port inside a container of the app with
    /// that viewer.
    Connect { lease: u64, app: NodeKey, port: u16 },
    /// Into a container, for who has its viewer's seal; what it is given follows.
    Enter { lease: u64, seal: Seal, way: Way },
    /// The terminal of what was entered has so many rows and columns now.
    Resize { rows: u16, columns: u16 },
    /// Of the transcripts a host keeps of a replica, the first from that number on, for who has its viewer's seal.
    Sample { lease: u64, from: u64, seal: Seal },
}

/// Why a message was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("message: {0}")]
    Cbor(#[from] CborError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Transcript(Box<TranscriptError>),
    #[error("message kind {0} is unknown")]
    Kind(u64),
    #[error("{0} is beyond its limit")]
    Limit(&'static str),
}

pub(super) fn write_headers(out: &mut Writer, headers: &[Header]) {
    out.array(headers.len());
    headers.iter().for_each(|(name, value)| _ = out.array(2).text(name).bytes(value));
}

pub(super) fn read_headers(input: &mut Reader<'_>) -> Result<Vec<Header>, WireError> {
    let count = input.array(HEADERS_MAX)?;
    let mut left = HEADER_BYTES_MAX;
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        input.tuple(2)?;
        let name = input.text(left)?;
        left -= name.len();
        let value = input.bytes(left)?;
        left -= value.len();
        headers.push((name.to_owned(), value.to_vec()));
    }
    Ok(headers)
}

fn read_chunk(input: &mut Reader<'_>) -> Result<Vec<u8>, WireError> {
    match input.bytes(CHUNK_BYTES_MAX)? {
        [] => Err(WireError::Limit("an empty chunk")),
        chunk => Ok(chunk.to_vec()),
    }
}

impl Request {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Give { lease, manifest } => _ = out.array(3).uint(1).uint(*lease).bytes(&manifest.encode()),
            Self::Fetch { workload } => _ = out.array(2).uint(2).bytes(workload),
            Self::Ask { lease, method, target, headers, voucher } => {
                out.array(if voucher.is_some() { 7 } else { 5 }).uint(3).uint(*lease).text(method).text(target);
                write_headers(&mut out, headers);
                voucher.iter().for_each(|voucher| {
                    out.bytes(&voucher.total.to_be_bytes()).bytes(&voucher.signature);
                });
            }
            Self::Look { lease, since, seal: None } => _ = out.array(3).uint(4).uint(*lease).uint(*since),
            Self::Look { lease, since, seal: Some(Seal { at_ms, signature }) } => {
                out.array(5).uint(4).uint(*lease).uint(*since).uint(*at_ms).bytes(signature);
            }
            Self::Ping { lease } => _ = out.array(2).uint(5).uint(*lease),
            Self::Bytes(bytes) => _ = out.array(2).uint(6).bytes(bytes),
            Self::End => _ = out.array(1).uint(7),
            Self::Concur { lease, generation, round } => {
                out.array(4).uint(8).uint(*lease).uint(*generation).uint(*round);
            }
            Self::Want { sha256 } => _ = out.array(2).uint(9).bytes(sha256),
            Self::Connect { lease, app, port } => {
                out.array(4).uint(10).uint(*lease).bytes(&app.0).uint((*port).into());
            }
            Self::Enter { lease, seal: Seal { at_ms, signature }, way } => {
                out.array(5).uint(11).uint(*lease).uint(*at_ms).bytes(signature).bytes(&way.encode());
            }
            Self::Resize { rows, columns } => _ = out.array(3).uint(12).uint((*rows).into()).uint((*columns).into()),
            Self::Transcribe => _ = out.array(1).uint(20),
            Self::Sample { lease, from, seal: Seal { at_ms, signature } } => {
                out.array(5).uint(21).uint(*lease).uint(*from).uint(*at_ms).bytes(signature);
            }
        }
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(bytes);
        let (values, kind) = (input.array(7)?, input.uint()?);
        let request = match (kind, values) {
            (1, 3) => {
                let lease = input.uint()?;
                Self::Give { lease, manifest: Manifest::decode(input.bytes(MANIFEST_BYTES_MAX)?)? }
            }
            (2, 2) => Self::Fetch { workload: input.fixed()? },
            (3, 5 | 7) => {
                let (lease, method) = (input.uint()?, input.text(METHOD_BYTES_MAX)?.to_owned());
                let target = input.text(TARGET_BYTES_MAX - method.len())?.to_owned();
                let headers = read_headers(&mut input)?;
                let voucher = match values {
                    5 => None,
                    _ => Some(Voucher { total: u128::from_be_bytes(input.fixed()?), signature: input.fixed()? }),
                };
                Self::Ask { lease, method, target, headers, voucher }
            }
            (4, 3) => Self::Look { lease: input.uint()?, since: input.uint()?, seal: None },
            (4, 5) => {
                let (lease, since) = (input.uint()?, input.uint()?);
                let seal = Seal { at_ms: input.uint()?, signature: input.fixed()? };
                Self::Look { lease, since, seal: Some(seal) }
            }
            (5, 2) => Self::Ping { lease: input.uint()? },
            (6, 2) => Self::Bytes(read_chunk(&mut input)?),
            (7, 1) => Self::End,
            (8, 4) => Self::Concur { lease: input.uint()?, generation: input.uint()?, round: input.uint()? },
            (9, 2) => Self::Want { sha256: input.fixed()? },
            (10, 4) => {
                let (lease, app, port) = (input.uint()?, NodeKey(input.fixed()?), input.uint()?);
                Self::Connect { lease, app, port: u16::try_from(port).map_err(|_| WireError::Limit("port"))? }
            }
            (11, 5) => {
                let (lease, at_ms, signature) = (input.uint()?, input.uint()?, input.fixed()?);
                let way = Way::decode(input.bytes(FRAME_BYTES_MAX)?)?;
                Self::Enter { lease, seal: Seal { at_ms, signature }, way }
            }
            (12, 3) => {
                let (rows, columns) = enter::read_size(&mut input)?;
                Self::Resize { rows, columns }
            }
            (20, 1) => Self::Transcribe,
            (21, 5) => {
                let (lease, from) = (input.uint()?, input.uint()?);
                Self::Sample { lease, from, seal: Seal { at_ms: input.uint()?, signature: input.fixed()? } }
            }
            _ => return Err(WireError::Kind(kind)),
        };
        input.end()?;
        Ok(request)
    }
}

fn read_signed(input: &mut Reader<'_>) -> Result<Signed, WireError> {
    let transcript = Transcript::decode(input.bytes(TRANSCRIPT_BYTES_MAX)?);
    let transcript = transcript.map_err(|error| WireError::Transcript(Box::new(error)))?;
    Ok(Signed { transcript, signature: input.fixed()? })
}

#[cfg(test)]
mod tests;
