//! Make folders of listings, and remember small ones for a moment.

use crate::{
    name,
    store::{Facts, Page},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Folders remembered.
const FOLDERS_MAX: usize = 256;

/// What a folder has under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    File(Facts),
    Folder,
}

/// A page of a folder's names in their order, keys that can be none, and files that may also be folders further on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) items: Vec<(String, Found)>,
    pub(crate) hidden: Vec<String>,
    pub(crate) doubtful: Vec<String>,
}

/// Reads a page of the folder `prefix`. A name that is a file and a folder is the folder: it hides one object, the
/// file would hide many.
pub(crate) fn names(prefix: &str, page: &Page) -> Names {
    let mut found = Names::default();
    let mut items: BTreeMap<String, Found> = BTreeMap::new();
    for (key, facts) in &page.files {
        let step = &key[prefix.len()..];
        // The folder's own marker.
        if step.is_empty() {
            continue;
        }
        if !name::is_name(step) {
            found.hidden.push(key.clone());
            continue;
        }
        // `a-` and `a.` lie between `a` and `a/`: that may be on a later page.
        if page.next.as_ref().is_some_and(|next| next.starts_with(key.as_str())) {
            found.doubtful.push(step.to_owned());
        }
        items.insert(step.to_owned(), Found::File(facts.clone()));
    }
    for folder in &page.folders {
        let step = &folder[prefix.len()..folder.len() - 1];
        if !name::is_name(step) {
            found.hidden.push(folder.clone());
        } else if let Some(Found::File(_)) = items.insert(step.to_owned(), Found::Folder) {
            found.hidden.push(format!("{prefix}{step}"));
        }
    }
    found.items = items.into_iter().collect();
    found
}

/// What is remembered of one folder.
enum Known {
    /// All of it.
    Whole(BTreeMap<String, Found>),
    /// It has more than a page.
    Large,
}

/// What a look into memory tells of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing: list the folder.
    Unknown,
    /// The folder is large: ask for the name alone.
    Large,
    /// What is there, if anything.
    Is(Option<Found>),
}

/// Folders as they were a moment ago.
pub(crate) struct Listings {
    fresh: Duration,
    known: BTreeMap<String, (Instant, Known)>,
}

impl Listings {
    pub(crate) fn new(fresh: Duration) -> Self {
        Self { fresh, known: BTreeMap::new() }
    }

    pub(crate) fn look(&self, prefix: &str, name: &str, now: Instant) -> Answer {
        match self.known.get(prefix).filter(|(until, _)| *until > now) {
            None => Answer::Unknown,
            Some((_, Known::Large)) => Answer::Large,
            Some((_, Known::Whole(items))) => Answer::Is(items.get(name).cloned()),
        }
    }

    /// Takes a folder's first page; it is the whole where `is_whole`.
    pub(crate) fn learn(&mut self, prefix: &str, items: &[(String, Found)], is_whole: bool, now: Instant) {
        if self.known.len() >= FOLDERS_MAX {
            self.known.retain(|_, (until, _)| *until > now);
        }
        if self.known.len() >= FOLDERS_MAX {
            self.known.pop_first();
        }
        let known = if is_whole { Known::Whole(items.iter().cloned().collect()) } else { Known::Large };
        self.known.insert(prefix.to_owned(), (now + self.fresh, known));
    }

    /// After a change of ours below a folder: it, and those above, which may have come to be or be gone.
    pub(crate) fn forget(&mut self, key: &str) {
        let mut prefix = name::above(key);
        loop {
            self.known.remove(prefix);
            if prefix.is_empty() {
                return;
            }
            prefix = name::above(prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(files: &[&str], folders: &[&str], next: Option<&str>) -> Page {
        Page {
            files: files.iter().map(|key| ((*key).to_owned(), Facts::default())).collect(),
            folders: folders.iter().map(|prefix| (*prefix).to_owned()).collect(),
            next: next.map(str::to_owned),
        }
    }

    fn told(names: &Names) -> Vec<(&str, bool)> {
        names.items.iter().map(|(name, found)| (name.as_str(), *found == Found::Folder)).collect()
    }

    #[test]
    fn keys_become_names() {
        let names = names("d/", &page(&["d/", "d/a", "d/b.txt"], &["d/c/", "d/ä/"], None));
        assert_eq!(told(&names), [("a", false), ("b.txt", false), ("c", true), ("ä", true)]);
        assert!(names.hidden.is_empty() && names.doubtful.is_empty(), "a marker is the folder itself");
    }

    #[test]
    fn what_can_be_no_name_is_hidden_and_told() {
        let long = format!("d/{}", "x".repeat(256));
        let names = names("d/", &page(&["d/.", "d/ok", &long], &["d//", "d/../", "d/./"], None));
        assert_eq!(told(&names), [("ok", false)]);
        assert_eq!(names.hidden, ["d/.", long.as_str(), "d//", "d/../", "d/./"]);
    }

    #[test]
    fn a_folder_hides_the_file_of_its_name() {
        let both = names("", &page(&["a", "a.b"], &["a/"], None));
        assert_eq!((told(&both), &both.hidden), (vec![("a", true), ("a.b", false)], &vec!["a".to_owned()]));
        let cut = names("", &page(&["a", "a.b"], &[], Some("a.b")));
        assert_eq!(cut.doubtful, ["a", "a.b"], "`a/` may be on the next page");
    }

    #[test]
    fn a_listing_is_known_for_a_moment() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut listings = Listings::new(second);
        let items = [("x".to_owned(), Found::Folder)];
        listings.learn("a/", &items, true, now);
        listings.learn("", &[], false, now);
        assert_eq!(listings.look("a/", "x", now), Answer::Is(Some(Found::Folder)));
        assert_eq!(listings.look("a/", "y", now), Answer::Is(None));
        assert_eq!(listings.look("", "y", now), Answer::Large);
        assert_eq!(listings.look("a/", "x", now + second), Answer::Unknown);
        listings.forget("a/x/new");
        assert_eq!(listings.look("a/", "x", now), Answer::Unknown);
        assert_eq!(listings.look("", "y", now), Answer::Unknown);
        for at in 0..2 * FOLDERS_MAX {
            listings.learn(&format!("{at}/"), &[], true, now);
        }
        assert_eq!(listings.known.len(), FOLDERS_MAX);
    }
}
