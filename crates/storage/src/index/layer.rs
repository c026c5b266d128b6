//! Write only what changed of an index, and read layers back into one.
//!
//! An index lies in up to eight layers, the oldest first. A layer tells of some keys all their versions, or that they
//! are gone, and the settings if they changed; the first tells of everything. Upon a change one small layer is
//! added. A layer less than four times as large as what comes on top of it is written anew together with it, so
//! each entry is written a few times over and not with every change of another.

use super::{ENTRIES_MAX, Entry, IndexError, KEY_BYTES_MAX, Run, SETTINGS_MAX, check_setting, entry};
use super::{
    entry::{DOCUMENT_BYTES_MAX, TEXT_BYTES_MAX},
    table::{Reading, Writing},
};
use hodei_types::cbor::{Reader, Writer};
use std::collections::BTreeSet;

/// The fifth: a layer has packs, and a part says how it was spread.
const VERSION: u64 = 5;
/// What a root has room for.
pub const LAYERS_MAX: usize = 8;
/// A layer is at least this many times as large as the one on top of it.
const GROWTH: u64 = 4;
/// Part number of a layer, which no object's part has.
const LAYER_PART: u32 = u32::MAX;

/// What a layer tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub keys: BTreeSet<String>,
    pub settings: bool,
}

impl Touched {
    pub fn extend(&mut self, other: &Self) {
        self.keys.extend(other.keys.iter().cloned());
        self.settings |= other.settings;
    }
}

/// The part number a layer is sealed under.
pub fn part_number() -> u32 {
    LAYER_PART
}

/// How many of the layers of these bytes, the oldest first, stay as they are below a new one of `bytes`.
pub fn kept(layers: &[u64], bytes: u64) -> usize {
    let (mut kept, mut above) = (layers.len(), bytes);
    while let Some(below) = kept.checked_sub(1).map(|at| layers[at]) {
        if kept < LAYERS_MAX && below >= above.saturating_mul(GROWTH) {
            break;
        }
        above += below;
        kept -= 1;
    }
    kept
}

impl Run {
    /// Everything, as the first layer.
    pub fn encode(&self) -> Vec<u8> {
        let keys = self.pins.iter().chain(self.entries.iter());
        let mut keys: Vec<_> = keys.map(|(key, all)| (key.as_str(), all.as_slice())).collect();
        // Two runs in order already.
        keys.sort_by_key(|(key, _)| *key);
        self.write(true, &keys)
    }

    /// What is touched, as a layer upon others.
    pub fn encode_layer(&self, touched: &Touched) -> Vec<u8> {
        let keys: Vec<_> = touched.keys.iter().map(|key| (key.as_str(), self.told(key))).collect();
        self.write(touched.settings, &keys)
    }

    fn write(&self, settings: bool, keys: &[(&str, &[Entry])]) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(5).uint(VERSION).text(&self.bucket);
        out.array(settings.into());
        if settings {
            entry::pairs(&mut out, &self.settings);
        }
        let packs = Writing::of(keys.iter().flat_map(|(_, versions)| *versions));
        packs.write(&mut out);
        out.array(keys.len() * 2);
        for (key, versions) in keys {
            out.text(key).array(versions.len());
            versions.iter().for_each(|entry| entry.write(&mut out, &packs));
        }
        out.finish()
    }

    /// Reads the first layer.
    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut run = Self::default();
        let touched = run.absorb(bytes)?;
        if touched.settings && touched.keys.len() == run.entries.size() + run.pins.size() {
            Ok(run)
        } else {
            Err(IndexError::Shape("the first layer does not tell everything"))
        }
    }

    /// Lays a layer on top; gives what it told of. After an error the index is of no use.
    pub fn absorb(&mut self, bytes: &[u8]) -> Result<Touched, IndexError> {
        let mut input = Reader::new(bytes);
        input.tuple(5)?;
        input.exactly("version", VERSION)?;
        self.bucket = input.text(TEXT_BYTES_MAX)?.to_owned();
        let mut touched = Touched { settings: input.array(1)? == 1, ..Touched::default() };
        if touched.settings {
            let settings = entry::read_pairs(&mut input, SETTINGS_MAX, DOCUMENT_BYTES_MAX)?;
            for (name, document) in &settings {
                check_setting(name, document)?;
            }
            self.settings = settings.into();
        }
        let mut packs = Reading::read(&mut input)?;
        let count = input.array(ENTRIES_MAX * 2)?;
        if !count.is_multiple_of(2) {
            return Err(IndexError::Shape("a key without its versions"));
        }
        let mut room = ENTRIES_MAX;
        for _ in 0..count / 2 {
            let key = input.text(KEY_BYTES_MAX)?.to_owned();
            if touched.keys.last().is_some_and(|last| *last >= key) {
                return Err(IndexError::Shape("keys out of order"));
            }
            let versions = input.array(room)?;
            room -= versions;
            let versions = (0..versions).map(|_| Entry::read(&mut input, &mut packs)).collect::<Result<_, _>>()?;
            self.lay(&key, versions);
            touched.keys.insert(key);
        }
        packs.end()?;
        input.end()?;
        Ok(touched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Settings;

    fn entry(modified_ms: u64) -> Entry {
        Entry { modified_ms, marker: true, ..Entry::default() }
    }

    /// What a writer does: changes, and the layers as they would lie in storage.
    #[derive(Default)]
    struct Stored {
        run: Run,
        layers: Vec<(Vec<u8>, Touched)>,
        written: usize,
    }

    impl Stored {
        fn push(&mut self, touched: &Touched) {
            let mut bytes = self.run.encode_layer(touched);
            let sizes: Vec<u64> = self.layers.iter().map(|(bytes, _)| bytes.len() as u64).collect();
            let mut all = touched.clone();
            for (_, below) in self.layers.drain(kept(&sizes, bytes.len() as u64)..) {
                all.extend(&below);
            }
            if self.layers.is_empty() {
                bytes = self.run.encode();
            } else if all != *touched {
                bytes = self.run.encode_layer(&all);
            }
            self.written += bytes.len();
            self.layers.push((bytes, all));
        }

        fn read(&self) -> Run {
            let mut run = Run::decode(&self.layers[0].0).unwrap();
            for (bytes, touched) in &self.layers[1..] {
                assert_eq!(run.absorb(bytes).as_ref(), Ok(touched));
            }
            run
        }
    }

    #[test]
    fn layers_read_back_into_the_same_index_whatever_was_changed() {
        let mut stored = Stored::default();
        stored.run.bucket = "photos".into();
        stored.push(&Touched { settings: true, ..Touched::default() });
        let mut seed = 7u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for round in 0..3000 {
            let mut touched = Touched::default();
            for _ in 0..=random(3) {
                let key = format!("key {}", random(600));
                let versions = (0..random(4)).map(|_| entry(random(1 << 40))).collect();
                stored.run.set(&key, versions);
                touched.keys.insert(key);
            }
            if random(50) == 0 {
                touched.settings = true;
                stored.run.settings = Settings::from([("round".to_string(), round.to_string())]).into();
            }
            stored.push(&touched);
            assert!(stored.layers.len() <= LAYERS_MAX);
            if round % 50 == 0 {
                assert_eq!(stored.read(), stored.run);
            }
        }
        assert_eq!(stored.read(), stored.run);
        let whole = stored.run.encode().len();
        assert!(stored.written < 3000 * whole / 10, "{} written for an index of {whole}", stored.written);
    }

    #[test]
    fn a_growing_index_writes_each_entry_a_few_times() {
        let mut stored = Stored::default();
        let mut plain = 0;
        stored.push(&Touched { settings: true, ..Touched::default() });
        for at in 0..20_000u64 {
            let key = format!("{:05}", at * 7919 % 20_000);
            stored.run.set(&key, vec![entry(at)]);
            let touched = Touched { keys: [key].into(), ..Touched::default() };
            plain += stored.run.encode_layer(&touched).len();
            stored.push(&touched);
        }
        assert_eq!(stored.read(), stored.run);
        assert!(stored.written < plain * 40, "{} written, {plain} told", stored.written);
    }

    #[test]
    fn what_links_keep_is_in_layers_and_in_no_listing() {
        let (mut run, key) = (Run::default(), Run::pin_key("7"));
        run.set("\0", vec![entry(1)]);
        run.set("\0z", vec![entry(2)]);
        let mut layers = vec![run.encode()];
        assert_eq!(run.pin(&key, Some(Entry { modified_ms: 3, marker: true, ..Entry::default() })), None);
        let touched = Touched { keys: [key.clone()].into(), settings: false };
        layers.push(run.encode_layer(&touched));
        let mut back = Run::decode(&layers[0]).unwrap();
        assert_eq!(back.absorb(&layers[1]), Ok(touched.clone()));
        assert_eq!((&back, Run::decode(&run.encode()).as_ref()), (&run, Ok(&run)));
        assert_eq!((run.keys(), run.all().count(), run.versions(&key).len(), run.pins().count()), (2, 2, 0, 1));
        assert!(run.pin(&key, None).is_some() && run.pins().next().is_none());
        assert_eq!(back.absorb(&run.encode_layer(&touched)), Ok(touched));
        assert_eq!(back, run);
    }

    #[test]
    fn a_layer_alone_is_no_index() {
        let mut run = Run::default();
        run.set("a", vec![entry(1)]);
        let gone = Touched { keys: ["b".to_string()].into(), settings: true };
        assert!(Run::decode(&run.encode_layer(&gone)).is_err(), "it tells of a key that is gone");
        let some = Touched { keys: ["a".to_string()].into(), settings: false };
        assert!(Run::decode(&run.encode_layer(&some)).is_err(), "it does not tell the settings");
    }
}
