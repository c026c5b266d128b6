//! Take down what a replica was asked and what came of it, keep samples, and give who asked its own.
//!
//! Upon an answer's end everything is fixed: what was told is what a transcript says. Only then may its asker want it.

use super::{
    Host,
    replica::{Replica, give},
    serve::refused,
};
use crate::{journal::now_ms, provider::lock};
use bytes::Bytes;
use commonware_runtime::{Sink, Storage, Stream};
use hodei_ledger::wire::receive;
use hodei_sandbox::ENGINE;
use hodei_types::{
    app::{
        Manifest, Seal,
        transcript::{Content, Outcome, Record, Transcript, headers_hash, is_sampled},
        wire::{Answer, FRAME_BYTES_MAX, Header, Readings, Request},
    },
    event::{Fields, Kind},
};
use std::time::Duration;
use tokio::time::Instant;

/// Who wants the transcript of its request says so within this; who does not closes its stream.
const WANT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a replica was asked, as it came.
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<Header>,
    pub(super) body: Bytes,
}

/// What one request ran under, and what came of it.
pub(super) struct Ran {
    pub(super) manifest: Manifest,
    pub(super) number: u64,
    pub(super) now: Duration,
    pub(super) seed: [u8; 32],
    pub(super) outcome: Outcome,
    /// Its asker took all of it.
    pub(super) is_taken: bool,
}

/// An answer as it passes.
pub(super) struct Passing {
    status: Option<u16>,
    headers: [u8; 32],
    body: blake3::Hasher,
    bytes: u64,
}

impl Passing {
    pub(super) fn new() -> Self {
        Self { status: None, headers: headers_hash(&[]), body: blake3::Hasher::new(), bytes: 0 }
    }

    pub(super) fn head(&mut self, status: u16, headers: &[Header]) {
        (self.status, self.headers) = (Some(status), headers_hash(headers));
    }

    pub(super) fn chunk(&mut self, bytes: &[u8]) {
        self.body.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(super) fn end(self, readings: &Readings, failure: Option<&str>) -> Outcome {
        Outcome {
            status: self.status,
            headers: self.headers,
            body: Content { bytes: self.bytes, hash: *self.body.finalize().as_bytes() },
            fuel: readings.fuel,
            memory_peak_bytes: readings.memory_peak_bytes,
            bytes_in: readings.bytes_in,
            bytes_out: readings.bytes_out,
            failure: failure.map(Outcome::words),
        }
    }
}

impl<E: Storage> Host<E> {
    /// Keeps a request that is to be sampled; the transcript, should its asker want it.
    pub(super) async fn take_down(&self, replica: &Replica, asked: Asked, ran: Ran) -> Transcript {
        let transcript = Transcript {
            chain_id: self.0.parts.chain_id,
            lease: replica.lease,
            node: self.0.id,
            manifest: ran.manifest,
            engine: ENGINE.into(),
            number: ran.number,
            // Until 2554.
            now_ns: u64::try_from(ran.now.as_nanos()).unwrap_or(u64::MAX),
            seed: ran.seed,
            method: asked.method,
            target: asked.target,
            headers: asked.headers,
            body: Content::of(&asked.body),
            outcome: ran.outcome,
        };
        if is_sampled(transcript.number, asked.body.len()) {
            let signed = transcript.clone().sign(&self.0.parts.signer);
            if !replica.is_over() {
                let record = Record { signed, body: asked.body.to_vec() };
                lock(&self.0.samples).keep(replica.lease, &record);
            }
            let fields = Fields::new().text("what", "sampled").uint("lease", replica.lease);
            let fields = fields.uint("request", transcript.number).bytes("transcript", &transcript.hash());
            self.note(Kind::Lease, fields).await;
        }
        transcript
    }

    /// Gives the transcript to who asked, if it wants it now that the answer is over.
    pub(super) async fn give_transcript<Si: Sink, St: Stream>(
        &self,
        transcript: Transcript,
        sink: &mut Si,
        stream: &mut St,
    ) {
        let heard = tokio::time::timeout(WANT_TIMEOUT, receive(stream, FRAME_BYTES_MAX)).await;
        let Ok(Ok(bytes)) = heard else { return };
        if Request::decode(&bytes) == Ok(Request::Transcribe) {
            let signed = Box::new(transcript.sign(&self.0.parts.signer));
            give(sink, &Answer::Transcript(Some(signed)), Instant::now() + WANT_TIMEOUT).await;
        }
    }

    /// The first sample from a number on, with its body, for who has the viewer's seal.
    pub(super) fn sample(&self, replica: &Replica, from: u64, seal: &Seal) -> (Answer, Vec<u8>) {
        let is_sealed = replica
            .viewer()
            .is_some_and(|viewer| seal.is_of(&viewer, self.0.parts.chain_id, &self.0.id, replica.lease, now_ms()));
        if !is_sealed {
            return (refused(super::serve::NOT_SEALED), Vec::new());
        }
        let found = lock(&self.0.samples).from(replica.lease, from);
        match found {
            Some(Record { signed, body }) => (Answer::Transcript(Some(Box::new(signed))), body),
            None => (Answer::Transcript(None), Vec::new()),
        }
    }
}
