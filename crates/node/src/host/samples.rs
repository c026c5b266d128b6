//! Keep requests that were written down: the last of each replica, and no more of all than fit.

use hodei_types::app::transcript::{Record, SAMPLES_MAX};
use std::collections::{BTreeMap, VecDeque};

/// Of all replicas of a host together, however many there are: about a thousand of the largest.
const BYTES_MAX: usize = 64 << 20;
/// What one takes beside its bytes.
const BESIDE_BYTES: usize = 128;

/// Requests that were written down, as files have them; the oldest go first where there are too many.
#[derive(Debug)]
pub(super) struct Samples {
    /// In the order they came, with their lease and the request's number.
    kept: BTreeMap<u64, (u64, u64, Vec<u8>)>,
    /// Places of each lease's.
    of: BTreeMap<u64, VecDeque<u64>>,
    next: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Default for Samples {
    fn default() -> Self {
        Self { kept: BTreeMap::new(), of: BTreeMap::new(), next: 0, bytes: 0, bytes_max: BYTES_MAX }
    }
}

impl Samples {
    /// Keeps one of a lease.
    pub(super) fn keep(&mut self, lease: u64, record: &Record) {
        let bytes = record.encode();
        self.bytes += bytes.len() + BESIDE_BYTES;
        self.kept.insert(self.next, (lease, record.signed.transcript.number, bytes));
        let places = self.of.entry(lease).or_default();
        places.push_back(self.next);
        self.next += 1;
        if places.len() > SAMPLES_MAX
            && let Some(first) = places.front().copied()
        {
            self.remove(first);
        }
        while self.bytes > self.bytes_max
            && let Some((oldest, _)) = self.kept.first_key_value()
        {
            self.remove(*oldest);
        }
    }

    /// The first of a lease's from a number on.
    pub(super) fn from(&self, lease: u64, number: u64) -> Option<Record> {
        let mut found = self.of.get(&lease)?.iter().filter_map(|place| self.kept.get(place));
        let (.., bytes) = found.find(|(_, known, _)| *known >= number)?;
        Record::decode(bytes).ok()
    }

    /// Forgets those of a lease that ended.
    pub(super) fn forget(&mut self, lease: u64) {
        self.of.get(&lease).cloned().into_iter().flatten().for_each(|place| self.remove(place));
    }

    fn remove(&mut self, place: u64) {
        let Some((lease, _, bytes)) = self.kept.remove(&place) else { return };
        self.bytes -= bytes.len() + BESIDE_BYTES;
        if let Some(places) = self.of.get_mut(&lease) {
            places.retain(|known| *known != place);
            if places.is_empty() {
                self.of.remove(&lease);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::{
        ack::Signer,
        app::{
            Limits, Manifest,
            transcript::{Content, Outcome, Transcript, headers_hash},
        },
        transport::NodeKey,
    };

    fn record(number: u64) -> Record {
        let (signer, body) = (Signer::new(&[3; 32]), vec![7; 1000]);
        let nothing = Content::of(b"");
        let transcript = Transcript {
            chain_id: 1,
            lease: 1,
            node: signer.node(),
            manifest: Manifest::new("app", b"wasm", Limits::default(), NodeKey([7; 32])).unwrap(),
            engine: "engine-1".into(),
            number,
            now_ns: 0,
            seed: [0; 32],
            method: "GET".into(),
            target: "/".into(),
            headers: Vec::new(),
            body: Content::of(&body),
            outcome: Outcome {
                status: Some(200),
                headers: headers_hash(&[]),
                body: nothing,
                fuel: 1,
                memory_peak_bytes: 1,
                bytes_in: 0,
                bytes_out: 0,
                failure: None,
            },
        };
        Record { signed: transcript.sign(&signer), body }
    }

    fn numbers(samples: &Samples, lease: u64) -> Vec<u64> {
        let (mut numbers, mut from) = (Vec::new(), 0);
        while let Some(record) = samples.from(lease, from) {
            numbers.push(record.signed.transcript.number);
            from = record.signed.transcript.number + 1;
        }
        numbers
    }

    #[test]
    fn of_each_lease_the_last_are_kept_and_of_a_lease_that_ended_none() {
        let mut samples = Samples::default();
        (0..20).for_each(|number| samples.keep(1, &record(number)));
        samples.keep(2, &record(5));
        assert_eq!(numbers(&samples, 1), (4..20).collect::<Vec<_>>());
        samples.forget(1);
        assert_eq!((numbers(&samples, 1), numbers(&samples, 2)), (vec![], vec![5]));
        samples.forget(2);
        assert_eq!((samples.bytes, samples.kept.len(), samples.of.len()), (0, 0, 0));
    }

    #[test]
    fn of_all_leases_no_more_is_kept_than_fits_and_the_oldest_go_first() {
        let each = record(300).encode().len() + BESIDE_BYTES;
        let mut samples = Samples { bytes_max: 3 * each, ..Samples::default() };
        (1..=9).for_each(|lease| samples.keep(lease, &record(300)));
        assert!(samples.bytes <= samples.bytes_max);
        assert!((1..=6).all(|lease| numbers(&samples, lease).is_empty()));
        assert!((7..=9).all(|lease| numbers(&samples, lease) == [300]));
    }
}
