//! Write down what is begun and how it ended, and judge by that what a bucket may hold.
//!
//! What was answered with success is there until something later replaces it; what was refused is not there; of what
//! nobody answered either may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

/// BLAKE3 of an object.
pub(crate) type Digest = [u8; 32];

/// How a deed ended, as far as its doer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody answered, or nobody was there to hear it.
    Unknown,
    Done,
    Refused,
}

#[derive(Clone, Debug)]
struct Deed {
    key: String,
    /// What the key then holds; none after a removal.
    holds: Option<Digest>,
    begun: u64,
    ended: u64,
    fate: Fate,
}

#[derive(Default)]
struct Told {
    deeds: Vec<Deed>,
    now: u64,
}

/// All deeds, in the order they were begun.
#[derive(Default)]
pub(crate) struct Tale(Mutex<Told>);

/// Deeds by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) done: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
}

impl Tale {
    /// Gives the deed's number.
    pub(crate) fn begin(&self, key: &str, holds: Option<Digest>) -> usize {
        let mut told = self.0.lock().unwrap();
        told.now += 1;
        let deed = Deed { key: key.into(), holds, begun: told.now, ended: u64::MAX, fate: Fate::Unknown };
        told.deeds.push(deed);
        told.deeds.len() - 1
    }

    /// What the deed will leave, known only now.
    pub(crate) fn hold(&self, deed: usize, holds: Digest) {
        self.0.lock().unwrap().deeds[deed].holds = Some(holds);
    }

    pub(crate) fn end(&self, deed: usize, fate: Fate) {
        let mut told = self.0.lock().unwrap();
        told.now += 1;
        let now = told.now;
        let deed = &mut told.deeds[deed];
        deed.fate = fate;
        if fate != Fate::Unknown {
            deed.ended = now;
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for deed in &self.0.lock().unwrap().deeds {
            match deed.fate {
                Fate::Done => counts.done += 1,
                Fate::Refused => counts.refused += 1,
                Fate::Unknown => counts.unknown += 1,
            }
        }
        counts
    }

    /// What is wrong with a bucket that holds these, by key.
    pub(crate) fn judge(&self, found: &BTreeMap<String, Digest>) -> Vec<String> {
        let told = self.0.lock().unwrap();
        let mut by_key: BTreeMap<&str, Vec<&Deed>> = BTreeMap::new();
        for deed in &told.deeds {
            by_key.entry(&deed.key).or_default().push(deed);
        }
        let strange = found.keys().filter(|key| !by_key.contains_key(key.as_str()));
        let mut wrong: Vec<String> = strange.map(|key| format!("{key}: nobody put it")).collect();
        for (key, deeds) in by_key {
            let holds = found.get(key).copied();
            // Whatever took effect last: nothing that was done began after it had ended.
            let overtaken =
                |deed: &Deed| deeds.iter().any(|other| other.fate == Fate::Done && other.begun > deed.ended);
            let may: BTreeSet<Option<Digest>> = deeds
                .iter()
                .filter(|deed| deed.fate != Fate::Refused && !overtaken(deed))
                .map(|deed| deed.holds)
                .chain((!deeds.iter().any(|deed| deed.fate == Fate::Done)).then_some(None))
                .collect();
            if !may.contains(&holds) {
                let of = deeds.iter().find(|deed| deed.holds == holds && holds.is_some());
                wrong.push(format!("{key} holds {of:?}, and {} deeds allow {} others", deeds.len(), may.len()));
            }
            // A key that is made only where there is none was made once.
            let makers = deeds.iter().filter(|deed| deed.fate == Fate::Done).count();
            if key.starts_with("once/") && makers > 1 {
                wrong.push(format!("{key} was made {makers} times"));
            }
        }
        wrong
    }

    /// What is wrong with a counter that lists these deeds.
    pub(crate) fn judge_count(&self, key: &str, counted: &[usize]) -> Vec<String> {
        let told = self.0.lock().unwrap();
        let unique: BTreeSet<usize> = counted.iter().copied().collect();
        let mut wrong = Vec::new();
        if unique.len() != counted.len() {
            wrong.push(format!("{key} counts something twice: {counted:?}"));
        }
        for (number, deed) in told.deeds.iter().enumerate().filter(|(_, deed)| deed.key == key) {
            match deed.fate {
                Fate::Done if !unique.contains(&number) => wrong.push(format!("{key} lost {deed:?}")),
                Fate::Refused if unique.contains(&number) => wrong.push(format!("{key} counts the refused {deed:?}")),
                _ => {}
            }
        }
        for number in unique {
            if told.deeds.get(number).is_none_or(|deed| deed.key != key) {
                wrong.push(format!("{key} counts {number}, which is nobody's"));
            }
        }
        wrong
    }
}

#[test]
fn a_tale_allows_what_may_be_and_nothing_else() {
    let tale = Tale::default();
    let put = |key: &str, digest: u8, fate| {
        let deed = tale.begin(key, Some([digest; 32]));
        tale.end(deed, fate);
        deed
    };
    let _ = (put("a", 1, Fate::Done), put("a", 2, Fate::Unknown), put("a", 3, Fate::Refused));
    let _ = (put("once/b", 4, Fate::Done), put("once/b", 5, Fate::Done), put("c", 6, Fate::Unknown));
    let judge = |a: Option<u8>, c: Option<u8>| {
        let held = [("a", a), ("once/b", Some(5)), ("c", c)];
        let found = held.into_iter().filter_map(|(key, digest)| Some((key.to_owned(), [digest?; 32]))).collect();
        tale.judge(&found)
    };
    assert_eq!(judge(Some(1), None), ["once/b was made 2 times"]);
    assert_eq!(judge(Some(2), Some(6)).len(), 1);
    assert_eq!((judge(Some(3), None).len(), judge(None, None).len(), judge(Some(1), Some(7)).len()), (2, 2, 2));
    let (first, second) = (put("n", 7, Fate::Done), put("n", 8, Fate::Refused));
    assert!(tale.judge_count("n", &[first]).is_empty());
    for wrong in [&[][..], &[first, first], &[first, second], &[first, 0]] {
        assert_eq!(tale.judge_count("n", wrong).len(), 1, "{wrong:?}");
    }
}
