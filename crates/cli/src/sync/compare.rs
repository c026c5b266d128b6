//! Decide what has to be carried, from two listings.

use hodei_sdk::{
    Entry,
    mtime::{changed_ms, mtime_ms},
};
use std::{collections::BTreeMap, path::PathBuf};

/// What a side has under a name.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) size_bytes: u64,
    /// Empty where there is none.
    pub(super) etag: String,
    /// When it came to be there.
    pub(super) modified_ms: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    File(PathBuf),
    Object(Box<Entry>),
    Foreign,
}

/// A side's items by their names below its prefix.
pub(super) type Items = BTreeMap<String, Item>;

/// What will be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) copy: Vec<String>,
    pub(super) copy_bytes: u64,
    pub(super) same: u64,
    /// Compared by their bytes before they count as different.
    pub(super) look: Vec<String>,
    pub(super) remove: Vec<String>,
}

/// Whether only its customer's key opens it.
pub(super) fn is_sealed(item: &Item) -> bool {
    matches!(&item.what, What::Object(entry) if entry.customer.is_some())
}

impl Steps {
    /// Carries none of what `is_left`; gives how many these are.
    pub(super) fn leave(&mut self, from: &Items, is_left: impl Fn(&Item) -> bool) -> u64 {
        let before = self.copy.len() + self.look.len();
        let stays = |name: &String| !is_left(&from[name]);
        self.look.retain(&stays);
        self.copy.retain(&stays);
        self.copy_bytes = self.copy.iter().map(|name| from[name].size_bytes).sum();
        (before - self.copy.len() - self.look.len()) as u64
    }
}

/// Compares two listings. With `checksum`, equal sizes are never enough: bytes are looked at.
pub(super) fn compare(from: &Items, to: &Items, delete: bool, checksum: bool) -> Steps {
    let mut steps = Steps::default();
    for (name, item) in from {
        match to.get(name) {
            Some(there) if there.size_bytes == item.size_bytes && checksum && can_look(item, there) => {
                steps.look.push(name.clone());
            }
            Some(there) if is_same(item, there) => steps.same += 1,
            _ => {
                steps.copy_bytes += item.size_bytes;
                steps.copy.push(name.clone());
            }
        }
    }
    if delete {
        steps.remove = to.keys().filter(|name| !from.contains_key(*name)).cloned().collect();
    }
    steps
}

/// Whether bytes here can be compared with hashes there.
fn can_look(from: &Item, to: &Item) -> bool {
    matches!((&from.what, &to.what), (What::File(_), What::Object(_)) | (What::Object(_), What::File(_)))
}

/// By size, and by etag or time: whatever both sides tell.
fn is_same(from: &Item, to: &Item) -> bool {
    if from.size_bytes != to.size_bytes {
        return false;
    }
    match (&from.what, &to.what) {
        (What::File(_), What::Object(entry)) => match mtime_ms(entry) {
            Some(then) => then == from.modified_ms,
            None => to.modified_ms >= from.modified_ms,
        },
        (What::Object(entry), What::File(_)) => changed_ms(entry).abs_diff(to.modified_ms) <= 1,
        _ => !from.etag.is_empty() && from.etag == to.etag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_sdk::mtime;

    fn item(size_bytes: u64, etag: &str, modified_ms: u64, what: What) -> Item {
        Item { size_bytes, etag: etag.into(), modified_ms, what }
    }

    fn file(size_bytes: u64, modified_ms: u64) -> Item {
        item(size_bytes, "", modified_ms, What::File("f".into()))
    }

    fn object(size_bytes: u64, etag: &str, modified_ms: u64, mtime: Option<&str>) -> Item {
        let meta = mtime.map(|text| (mtime::NAME.to_owned(), text.to_owned())).into_iter().collect();
        item(size_bytes, etag, modified_ms, What::Object(Box::new(Entry { modified_ms, meta, ..Entry::default() })))
    }

    fn foreign(size_bytes: u64, etag: &str) -> Item {
        item(size_bytes, etag, 5, What::Foreign)
    }

    #[test]
    fn a_file_is_known_by_size_and_time() {
        let cases = [
            (file(1, 7_123), object(1, "x", 9_000, Some("7.123000000")), true),
            (file(1, 7_124), object(1, "x", 9_000, Some("7.123000000")), false),
            (file(1, 7_000), object(1, "x", 9_000, None), true),
            (file(1, 9_001), object(1, "x", 9_000, None), false),
            (file(2, 7_000), object(1, "x", 9_000, None), false),
            (file(1, 9_000), object(1, "x", 9_000, Some("soon")), true),
            (object(1, "x", 9_000, Some("7.5")), file(1, 7_500), true),
            (object(1, "x", 9_000, None), file(1, 9_000), true),
            (object(1, "x", 9_000, None), file(1, 9_500), false),
        ];
        for (from, to, same) in cases {
            assert_eq!(is_same(&from, &to), same, "{from:?} {to:?}");
        }
    }

    #[test]
    fn an_object_is_known_by_size_and_etag() {
        assert!(is_same(&foreign(1, "a-2"), &object(1, "a-2", 0, None)));
        assert!(!is_same(&foreign(1, "a"), &object(1, "b", 0, None)));
        assert!(!is_same(&foreign(1, ""), &object(1, "", 0, None)), "no etag proves nothing");
        assert!(!is_same(&foreign(2, "a"), &object(1, "a", 0, None)));
    }

    #[test]
    fn only_what_differs_is_carried_and_only_what_is_extra_removed() {
        let items = |list: &[(&str, Item)]| {
            list.iter().map(|(name, item)| ((*name).to_owned(), item.clone())).collect::<Items>()
        };
        let from = items(&[("new", foreign(10, "a")), ("same", foreign(20, "b")), ("other", foreign(30, "c"))]);
        let to = items(&[
            ("same", object(20, "b", 0, None)),
            ("other", object(30, "d", 0, None)),
            ("extra", object(1, "e", 0, None)),
        ]);
        let steps = compare(&from, &to, false, false);
        assert_eq!(
            (steps.copy, steps.copy_bytes, steps.same, steps.remove),
            (vec!["new".into(), "other".into()], 40, 1, vec![])
        );
        assert_eq!(compare(&from, &to, true, false).remove, ["extra"]);
        let mut steps = compare(&from, &to, true, false);
        assert_eq!(steps.leave(&from, |item| item.size_bytes == 10), 1);
        assert_eq!((steps.copy, steps.copy_bytes, steps.remove), (vec!["other".into()], 30, vec!["extra".into()]));
        let (from, to) = (items(&[("f", file(1, 1))]), items(&[("f", object(1, "x", 9, None))]));
        assert_eq!(compare(&from, &to, false, true).look, ["f"]);
        assert_eq!(compare(&from, &to, false, false).same, 1);
    }
}
