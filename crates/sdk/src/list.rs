//! List a bucket's keys, or all their versions, page by page.

use crate::{
    cloud::{Cloud, Runtime},
    fault::Fault,
};
use hodei_storage::index::{Entry, Run, Version};
use hodei_types::transport::Transport;
use std::ops::Bound;

/// Keys of one page.
pub const PAGE_MAX: usize = 1000;

/// A page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub entries: Vec<(String, Entry)>,
    pub prefixes: Vec<String>,
    /// Give it as `after` for the next page.
    pub next: Option<String>,
}

/// One version of a key.
#[derive(Clone, Debug)]
pub struct Versioned {
    pub key: String,
    pub entry: Entry,
    pub is_newest: bool,
}

/// Where a page of versions ended: a key and its version, or a prefix.
pub type Marker = (String, Option<Version>);

/// A page of versions, newest first within a key.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    pub entries: Vec<Versioned>,
    pub prefixes: Vec<String>,
    pub next: Option<Marker>,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Keys that begin with `prefix`, after `after`; with a delimiter, what lies deeper is summed up as
    /// prefixes. At most `max`, and never more than 1,000.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        delimiter: Option<&str>,
        max: usize,
    ) -> Result<Listing, Fault> {
        let record = self.live(bucket).await?;
        Ok(list(&*self.run(&record).await?, prefix, after, delimiter, max.min(PAGE_MAX)))
    }

    /// The same with every version and delete marker; `after` is a key whose versions are all listed, or one of
    /// its versions.
    pub async fn list_versions(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(&str, Option<Version>)>,
        delimiter: Option<&str>,
        max: usize,
    ) -> Result<Versions, Fault> {
        let record = self.live(bucket).await?;
        Ok(versions(&*self.run(&record).await?, prefix, after, delimiter, max.min(PAGE_MAX)))
    }
}

/// What of an ordered run of keys fits a page.
struct Page<'a, T> {
    items: Vec<(&'a str, T)>,
    prefixes: Vec<String>,
    is_cut: bool,
    /// The last thing on it is a prefix.
    ends_deep: bool,
}

/// Fills a page from `range`, which gives what there is from a key on. Below a prefix that is summed up nothing is
/// looked at: a page costs what is on it, however much lies deeper.
fn fold<'a, T, I>(
    range: impl Fn(Bound<&str>) -> I,
    (prefix, after): (&str, Bound<&str>),
    delimiter: Option<&str>,
    max: usize,
) -> Page<'a, T>
where
    I: Iterator<Item = (&'a str, T)>,
{
    let delimiter = delimiter.filter(|text| !text.is_empty());
    let mut page = Page { items: Vec::new(), prefixes: Vec::new(), is_cut: false, ends_deep: false };
    let mut items = match after {
        // A page that ended with a prefix goes on behind all of it.
        Bound::Excluded(after)
            if after.len() > prefix.len() && delimiter.is_some_and(|delimiter| after.ends_with(delimiter)) =>
        {
            match behind_all(after) {
                Some(next) => range(Bound::Included(&next)),
                None => return page,
            }
        }
        after => range(after),
    };
    while let Some((key, item)) = items.next().filter(|(key, _)| key.starts_with(prefix)) {
        if page.items.len() + page.prefixes.len() >= max {
            page.is_cut = max > 0;
            return page;
        }
        let deeper = delimiter.and_then(|delimiter| {
            let at = key[prefix.len()..].find(delimiter)?;
            Some(&key[..prefix.len() + at + delimiter.len()])
        });
        page.ends_deep = deeper.is_some();
        match deeper {
            None => page.items.push((key, item)),
            Some(deeper) => {
                page.prefixes.push(deeper.to_owned());
                match behind_all(deeper) {
                    Some(next) => items = range(Bound::Included(&next)),
                    None => return page,
                }
            }
        }
    }
    page
}

/// The least text that is greater than all that begin with `prefix`; `None` if there is none.
fn behind_all(prefix: &str) -> Option<String> {
    let mut next = prefix.to_owned();
    while let Some(last) = next.pop() {
        let greater = match last {
            // No letter stands between these.
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(greater) = greater {
            next.push(greater);
            return Some(next);
        }
    }
    None
}

fn list(run: &Run, prefix: &str, after: Option<&str>, delimiter: Option<&str>, max: usize) -> Listing {
    let from = match after.filter(|after| *after >= prefix) {
        Some(after) => Bound::Excluded(after),
        None => Bound::Included(prefix),
    };
    let items = |from: Bound<&str>| {
        run.range(from).filter_map(|(key, versions)| Some((key, versions.first().filter(|entry| !entry.marker)?)))
    };
    let page = fold(items, (prefix, from), delimiter, max);
    let last = if page.ends_deep {
        page.prefixes.last().cloned()
    } else {
        page.items.last().map(|(key, _)| (*key).to_owned())
    };
    Listing {
        entries: page.items.into_iter().map(|(key, entry)| (key.to_owned(), entry.clone())).collect(),
        prefixes: page.prefixes,
        next: last.filter(|_| page.is_cut),
    }
}

fn versions(
    run: &Run,
    prefix: &str,
    after: Option<(&str, Option<Version>)>,
    delimiter: Option<&str>,
    max: usize,
) -> Versions {
    let from = match after.filter(|(after, _)| *after >= prefix) {
        Some((after, None)) => Bound::Excluded(after),
        Some((after, Some(_))) => Bound::Included(after),
        None => Bound::Included(prefix),
    };
    let items = |from: Bound<&str>| {
        run.range(from).flat_map(move |(key, all)| {
            let rest = match after {
                Some((from, Some(version))) if from == key => behind(all, version),
                _ => all,
            };
            let skipped = all.len() - rest.len();
            rest.iter().enumerate().map(move |(at, entry)| (key, (entry, at + skipped == 0)))
        })
    };
    let page = fold(items, (prefix, from), delimiter, max);
    let last = if page.ends_deep {
        page.prefixes.last().map(|prefix| (prefix.clone(), None))
    } else {
        page.items.last().map(|(key, (entry, _))| ((*key).to_owned(), Some(entry.version)))
    };
    let entries = page.items.into_iter().map(|(key, (entry, is_newest))| Versioned {
        key: key.to_owned(),
        entry: entry.clone(),
        is_newest,
    });
    Versions { entries: entries.collect(), prefixes: page.prefixes, next: last.filter(|_| page.is_cut) }
}

/// Versions older than `version`, which may be gone meanwhile.
fn behind(all: &[Entry], version: Version) -> &[Entry] {
    let at = all.iter().position(|entry| entry.version == version).map(|at| at + 1);
    let older = |entry: &Entry| match (entry.version, version) {
        (Version::Id(id), Version::Id(marker)) => id < marker,
        _ => false,
    };
    let at = at.or_else(|| all.iter().position(older)).unwrap_or(all.len());
    &all[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Run {
        let mut run = Run::default();
        names.iter().for_each(|name| run.set(name, vec![Entry::default()]));
        run
    }

    fn names(listing: &Listing) -> (Vec<&str>, Vec<&str>) {
        let keys = listing.entries.iter().map(|(key, _)| key.as_str()).collect();
        (keys, listing.prefixes.iter().map(String::as_str).collect())
    }

    #[test]
    fn listing_sums_up_what_lies_deeper() {
        let entries = keys(&["a", "dir/1", "dir/2", "dir/sub/3", "e", "f/1"]);
        let listing = list(&entries, "", None, Some("/"), 100);
        assert_eq!(names(&listing), (vec!["a", "e"], vec!["dir/", "f/"]));
        let listing = list(&entries, "dir/", None, Some("/"), 100);
        assert_eq!(names(&listing), (vec!["dir/1", "dir/2"], vec!["dir/sub/"]));
        assert_eq!(names(&list(&entries, "d", None, None, 100)).0, ["dir/1", "dir/2", "dir/sub/3"]);
        assert!(list(&entries, "", None, None, 0).next.is_none(), "no page of nothing has a next");
    }

    #[test]
    fn keys_with_empty_steps_and_other_letters_are_keys() {
        let entries = keys(&["/", "//a", "a//b", "ключ/1", "ключ/2"]);
        assert_eq!(names(&list(&entries, "", None, Some("/"), 100)), (vec![], vec!["/", "a/", "ключ/"]));
        assert_eq!(names(&list(&entries, "/", None, Some("/"), 100)), (vec!["/"], vec!["//"]));
        assert_eq!(names(&list(&entries, "", None, Some("ю"), 100)), (vec!["/", "//a", "a//b"], vec!["клю"]));
    }

    #[test]
    fn behind_a_prefix_nothing_that_begins_with_it_is_left() {
        for prefix in ["a", "a/", "ж", "a\u{d7ff}", "b\u{10ffff}"] {
            let next = behind_all(prefix).unwrap();
            assert!(next.as_str() > prefix && !next.starts_with(prefix));
            assert!(next > format!("{prefix}\u{10ffff}\u{10ffff}") && next < "д".repeat(9).replace('д', "\u{10ffff}"));
        }
        assert_eq!(behind_all("a/").as_deref(), Some("a0"));
        assert_eq!(behind_all("\u{10ffff}"), None);
        let run = keys(&["a/1", "\u{10ffff}/1", "\u{10ffff}/2"]);
        assert_eq!(names(&list(&run, "", None, Some("\u{10ffff}"), 9)), (vec!["a/1"], vec!["\u{10ffff}"]));
    }

    #[test]
    fn pages_cover_everything_once() {
        let mut run = keys(&["a", "dir/1", "dir/2", "dir/sub/3", "e", "f/1", "f/2", "g"]);
        let entry = |version| Entry { version, ..Entry::default() };
        let ids = [Version::Id([3; 16]), Version::Null, Version::Id([1; 16])];
        run.set("e", ids.map(entry).into());
        for delimiter in [None, Some("/")] {
            let whole = list(&run, "", None, delimiter, 100);
            let all = versions(&run, "", None, delimiter, 100);
            for max in 1..6 {
                let (mut after, mut seen, mut prefixes) = (None::<String>, Vec::new(), Vec::new());
                loop {
                    let page = list(&run, "", after.as_deref(), delimiter, max);
                    assert!(page.entries.len() + page.prefixes.len() <= max);
                    seen.extend(page.entries.into_iter().map(|(key, _)| key));
                    prefixes.extend(page.prefixes);
                    match page.next {
                        Some(next) => after = Some(next),
                        None => break,
                    }
                }
                let keys: Vec<_> = whole.entries.iter().map(|(key, _)| key.clone()).collect();
                assert_eq!((seen, prefixes), (keys, whole.prefixes.clone()), "{delimiter:?} {max}");

                let (mut after, mut seen, mut prefixes) = (None::<Marker>, Vec::new(), Vec::new());
                loop {
                    let from = after.as_ref().map(|(key, version)| (key.as_str(), *version));
                    let page = versions(&run, "", from, delimiter, max);
                    assert!(page.entries.len() + page.prefixes.len() <= max);
                    seen.extend(page.entries.into_iter().map(|one| (one.key, one.entry.version, one.is_newest)));
                    prefixes.extend(page.prefixes);
                    match page.next {
                        Some(next) => after = Some(next),
                        None => break,
                    }
                }
                let each = all.entries.iter().map(|one| (one.key.clone(), one.entry.version, one.is_newest));
                assert_eq!((seen, prefixes), (each.collect(), all.prefixes.clone()), "{delimiter:?} {max}");
            }
        }
    }

    #[test]
    fn a_key_behind_a_delete_marker_is_listed_with_its_versions_only() {
        let mut run = keys(&["a", "b"]);
        let marker = Entry { version: Version::Id([9; 16]), marker: true, ..Entry::default() };
        let behind = run.versions("a").to_vec();
        run.set("a", [vec![marker], behind].concat());
        assert_eq!(names(&list(&run, "", None, None, 10)).0, ["b"]);
        let all = versions(&run, "", None, None, 10);
        let told: Vec<_> = all.entries.iter().map(|one| (one.key.as_str(), one.entry.marker, one.is_newest)).collect();
        assert_eq!(told, [("a", true, true), ("a", false, false), ("b", false, true)]);
        // Whose marker is gone meanwhile goes on with what is older.
        let page = versions(&run, "", Some(("a", Some(Version::Id([10; 16])))), None, 10);
        assert_eq!(page.entries.len(), 3);
        let page = versions(&run, "", Some(("a", Some(Version::Id([8; 16])))), None, 10);
        assert_eq!(page.entries[0].key, "b");
    }
}
