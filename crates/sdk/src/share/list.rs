//! List a bucket's links in one of its settings, and tell what each keeps.
//!
//! A link has a line, one more if its reads are paid for, and pins in the index: one, or one for each object where it is of
//! several. A pin whose link is listed no more, or has ended, is let go of by the next swap. The words of links are in none of
//! these.

use crate::{change::set_all, fault::Fault};
use hodei_storage::index::Run;
use hodei_types::{share::name, slice::ShardId, transport::NodeKey};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

/// The bucket's setting that lists its shares.
pub(super) const SETTING: &str = "shares";
/// What a line begins with that says what reads by a link's passes cost.
const PAYS: &str = "pays";
/// Bytes of a reader's key that the list names it by.
const READER_BYTES: usize = 8;

/// A share as its owner lists it: the link itself is kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Where its record is.
    pub record: ShardId,
    /// The object's, or what the keys of several begin with.
    pub key: String,
    /// It is of all that was below the key.
    pub is_below: bool,
    /// Beginnings of the keys of those who have passes, in hex; none: whoever has the link reads.
    pub readers: Vec<String>,
    pub made_ms: u64,
    pub expires_ms: u64,
    /// Least and most wei that its passes pay for a MiB, by provider; `None`: reads are free.
    pub price: Option<(u128, u128)>,
}

/// What a list calls a reader: the beginning of its key.
pub fn brief(reader: &NodeKey) -> String {
    alloy_primitives::hex::encode(&reader.0[..READER_BYTES])
}

impl Share {
    /// What it is called.
    pub fn name(&self) -> String {
        name(&self.record)
    }

    /// Whether it tells of an object, or may.
    pub fn shows(&self, key: &str) -> bool {
        if self.is_below { key.len() > self.key.len() && key.starts_with(&self.key) } else { key == self.key }
    }

    /// What the keys of what it keeps begin with.
    fn pin_key(&self) -> String {
        Run::pin_key(&self.record.to_string())
    }

    /// The keys of what it keeps, so many objects.
    pub(crate) fn pin_keys(&self, objects: usize) -> impl Iterator<Item = String> + use<> {
        let (base, is_below) = (self.pin_key(), self.is_below);
        (0..objects).map(move |at| if is_below { format!("{base}/{at}") } else { base.clone() })
    }

    /// `RECORD[/][@READER,READER] MADE EXPIRES KEY`; the slash marks one of all that was below the key. Behind it
    /// `pays RECORD LEAST MOST` of one whose reads are paid for.
    fn line(&self) -> String {
        let key = self.key.replace('%', "%25").replace('\n', "%0A").replace('\r', "%0D");
        let below = if self.is_below { "/" } else { "" };
        let readers = if self.readers.is_empty() { String::new() } else { format!("@{}", self.readers.join(",")) };
        let pays =
            self.price.map_or_else(String::new, |(least, most)| format!("{PAYS} {} {least} {most}\n", self.record));
        format!("{}{below}{readers} {} {} {key}\n{pays}", self.record, self.made_ms, self.expires_ms)
    }

    pub(super) fn read(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let first = words.next()?;
        let (first, readers) = first.split_once('@').map_or((first, None), |(first, names)| (first, Some(names)));
        let readers: Vec<String> = readers.map_or(Vec::new(), |names| names.split(',').map(str::to_owned).collect());
        let is_name = |name: &String| name.len() == 2 * READER_BYTES && name.bytes().all(|b| b.is_ascii_hexdigit());
        if !readers.iter().all(is_name) {
            return None;
        }
        let is_below = first.ends_with('/');
        let mut record = [0; 32];
        alloy_primitives::hex::decode_to_slice(first.strip_suffix('/').unwrap_or(first), &mut record).ok()?;
        let (made_ms, expires_ms) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let key = words.next()?.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%");
        Some(Self { record: ShardId(record), key, is_below, readers, made_ms, expires_ms, price: None })
    }
}

/// What a line says of what a link's reads cost: its record, and least and most wei for a MiB.
fn pays(line: &str) -> Option<(ShardId, (u128, u128))> {
    let mut words = line.strip_prefix(PAYS)?.strip_prefix(' ')?.split(' ');
    let mut record = [0; 32];
    alloy_primitives::hex::decode_to_slice(words.next()?, &mut record).ok()?;
    let price = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some((ShardId(record), price))
}

/// Shares a setting lists; a line that a later version wrote is left alone.
pub(super) fn shares(document: Option<&str>) -> Vec<Share> {
    let lines = || document.unwrap_or("").lines();
    let prices: BTreeMap<ShardId, (u128, u128)> = lines().filter_map(pays).collect();
    let shares = lines().filter_map(Share::read);
    shares.map(|share| Share { price: prices.get(&share.record).copied(), ..share }).collect()
}

/// The same list without these; `None` if nothing is left.
pub(super) fn without(document: Option<&str>, taken: &[ShardId]) -> Option<String> {
    let record = |line: &str| Share::read(line).map(|share| share.record).or_else(|| Some(pays(line)?.0));
    let keeps = |line: &&str| record(line).is_none_or(|record| !taken.contains(&record));
    let left: String = document.unwrap_or("").lines().filter(keeps).map(|line| format!("{line}\n")).collect();
    Some(left).filter(|left| !left.is_empty())
}

/// Ids of the records a bucket's index lists.
pub(crate) fn listed(run: &Run) -> Vec<ShardId> {
    shares(run.settings.get(SETTING).map(String::as_str)).into_iter().map(|share| share.record).collect()
}

/// Adds one to a bucket's list.
pub(crate) fn list(run: &mut Run, share: &Share) -> Result<(), Fault> {
    let document = format!("{}{}", run.settings.get(SETTING).map_or("", String::as_str), share.line());
    set_all(run, &[(SETTING.to_owned(), Some(document))])?;
    Ok(())
}

/// Keys of pins whose links have ended: revoked, or expired.
pub(crate) fn over(run: &Run, now_ms: u64) -> Vec<String> {
    if run.pins().next().is_none() {
        return Vec::new();
    }
    let shares = shares(run.settings.get(SETTING).map(String::as_str));
    let live = shares.iter().filter(|share| share.expires_ms > now_ms).map(Share::pin_key);
    let live: BTreeSet<String> = live.collect();
    run.pins().filter(|key| !live.contains(base(key))).map(str::to_owned).collect()
}

/// What all pins of a link begin with: each of several objects has a number behind the second slash.
fn base(pin: &str) -> &str {
    pin.match_indices('/').nth(1).map_or(pin, |(at, _)| &pin[..at])
}

/// Keys whose shards a link tells of, or may: they must stay where they are until it ends.
pub(crate) fn linked(run: &Run, now_ms: u64) -> BTreeSet<String> {
    let shares = shares(run.settings.get(SETTING).map(String::as_str));
    let mut linked = BTreeSet::new();
    for share in shares.into_iter().filter(|share| share.expires_ms > now_ms) {
        if share.is_below {
            let keys = run.range(Bound::Included(share.key.as_str())).map(|(key, _)| key);
            linked.extend(keys.take_while(|key| key.starts_with(&share.key)).map(str::to_owned));
        } else {
            linked.insert(share.key);
        }
    }
    linked
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_storage::index::Entry;

    fn share_of_nothing() -> Share {
        Share {
            record: ShardId([0; 32]),
            key: String::new(),
            is_below: false,
            readers: Vec::new(),
            made_ms: 1,
            expires_ms: 2,
            price: None,
        }
    }

    #[test]
    fn a_pin_lives_as_long_as_its_link_is_listed_and_lasts() {
        let share = |at: u8, expires_ms| Share {
            record: ShardId([at; 32]),
            key: "a".into(),
            made_ms: 1,
            expires_ms,
            ..share_of_nothing()
        };
        let mut run = Run::default();
        for share in [share(1, 50), share(2, 90)] {
            list(&mut run, &share).unwrap();
            run.pin(&share.pin_key(), Some(Entry { marker: true, ..Entry::default() }));
        }
        run.pin(&share(3, 0).pin_key(), Some(Entry { marker: true, ..Entry::default() }));
        assert_eq!(over(&run, 10), [share(3, 0).pin_key()]);
        assert_eq!(over(&run, 50), [share(1, 50).pin_key(), share(3, 0).pin_key()]);
        assert_eq!(over(&run, 90).len(), 3);
    }

    #[test]
    fn all_that_a_link_to_several_keeps_goes_with_it_and_stays_till_then() {
        let share = |at: u8, key: &str, expires_ms| Share {
            record: ShardId([at; 32]),
            key: key.into(),
            is_below: true,
            expires_ms,
            ..share_of_nothing()
        };
        let (short, long) = (share(1, "alps/", 50), share(0x11, "", 90));
        let mut run = Run::default();
        for key in ["alps", "alps/", "alps/1", "alps/2/3", "alpsee"] {
            run.set(key, vec![Entry { marker: true, ..Entry::default() }]);
        }
        for share in [&short, &long] {
            list(&mut run, share).unwrap();
            let pins: Vec<String> = share.pin_keys(12).collect();
            assert_eq!(pins.iter().collect::<BTreeSet<_>>().len(), 12);
            for pin in pins {
                run.pin(&pin, Some(Entry { marker: true, ..Entry::default() }));
            }
        }
        assert_eq!(over(&run, 49), [""; 0]);
        let ended: BTreeSet<String> = over(&run, 50).into_iter().collect();
        assert_eq!(ended, short.pin_keys(12).collect::<BTreeSet<_>>());
        assert_eq!(over(&run, 90).len(), 24);
        assert_eq!(linked(&run, 60).len(), 5, "everything is below nothing");
        run.settings = Default::default();
        list(&mut run, &short).unwrap();
        assert_eq!(linked(&run, 10), BTreeSet::from(["alps/", "alps/1", "alps/2/3"].map(str::to_owned)));
        assert!(linked(&run, 50).is_empty());
        assert!(short.shows("alps/1") && !short.shows("alps/") && !short.shows("alpsee") && long.shows("x"));
    }

    #[test]
    fn a_share_returns_from_its_line_and_others_are_left_alone() {
        let share = |key: &str| Share {
            record: ShardId([7; 32]),
            key: key.into(),
            made_ms: 1,
            expires_ms: 2,
            ..share_of_nothing()
        };
        for key in ["a", "a b/c", "50%", "%0A", "a\nb\r", "", "a@b/"] {
            let readers = [NodeKey([1; 32]), NodeKey([2; 32])].map(|reader| brief(&reader));
            for (is_below, readers) in
                [(false, &readers[..0]), (true, &readers[..0]), (false, &readers[..1]), (true, &readers[..])]
            {
                let share = Share { is_below, readers: readers.to_vec(), ..share(key) };
                let line = share.line();
                assert_eq!(line.matches('\n').count(), 1, "{line:?}");
                assert_eq!(Share::read(line.trim_end_matches('\n')), Some(share), "{key:?}");
            }
        }
        let document = format!("{}2 of a later version\n{}", share("a").line(), share("b").line());
        assert_eq!(shares(Some(&document)), [share("a"), share("b")]);
        assert_eq!(shares(None), []);
        // Of one that is paid for there is one line more, which goes with it.
        let paid = Share { record: ShardId([8; 32]), price: Some((7, u128::MAX)), ..share("c") };
        let document = format!("{}{}{}", share("a").line(), paid.line(), "pays of a later version\n");
        assert_eq!(shares(Some(&document)), [share("a"), paid.clone()]);
        let left = format!("{}{}", share("a").line(), "pays of a later version\n");
        assert_eq!(without(Some(&document), &[paid.record]), Some(left));
        assert_eq!(without(Some(&paid.line()), &[paid.record]), None);
        let strange = share("a").line().replacen(' ', "@xyz ", 1);
        assert_eq!(Share::read(strange.trim_end()), None, "a reader that a later version names otherwise");
    }
}
