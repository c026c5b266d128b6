//! Number what the kernel knows, and say which names are only here.
//!
//! A number stands for a folder by its prefix, or for one file: an object that somebody replaces gets another
//! number, and the old one stays, without a name, while anybody has it open. Numbers are never used again.

use crate::{fault::Wrong, name};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

/// The mounted folder itself.
pub(crate) const ROOT: u64 = 1;
/// Folders remembered that hold nothing any more.
const MADE_MAX: usize = 10_000;

enum Node<F> {
    Folder,
    File(Arc<F>),
}

struct Held<F> {
    /// Of a folder its prefix; `None`: it has no name any more.
    key: Option<String>,
    node: Node<F>,
    /// The kernel's, of handles, and of work under way.
    uses: u64,
}

/// See the module.
pub(crate) struct Tree<F> {
    held: BTreeMap<u64, Held<F>>,
    names: BTreeMap<String, u64>,
    next: u64,
    /// Keys of files that are not stored as they are here.
    local: BTreeSet<String>,
    /// Prefixes of folders that are here though no key is below them.
    made: BTreeSet<String>,
}

impl<F> Tree<F> {
    pub(crate) fn new(prefix: &str) -> Self {
        let root = Held { key: Some(prefix.to_owned()), node: Node::Folder, uses: 1 };
        Self {
            held: BTreeMap::from([(ROOT, root)]),
            names: BTreeMap::from([(prefix.to_owned(), ROOT)]),
            next: ROOT + 1,
            local: BTreeSet::new(),
            made: BTreeSet::new(),
        }
    }

    /// The prefix of a folder.
    pub(crate) fn folder(&self, ino: u64) -> Result<String, Wrong> {
        let held = self.held.get(&ino).ok_or(Wrong::Changed)?;
        match held.node {
            Node::Folder => held.key.clone().ok_or(Wrong::NotFound),
            Node::File(_) => Err(Wrong::NotFolder),
        }
    }

    pub(crate) fn file(&self, ino: u64) -> Result<Arc<F>, Wrong> {
        match &self.held.get(&ino).ok_or(Wrong::Changed)?.node {
            Node::Folder => Err(Wrong::IsFolder),
            Node::File(file) => Ok(file.clone()),
        }
    }

    pub(crate) fn is_folder(&self, ino: u64) -> Option<bool> {
        self.held.get(&ino).map(|held| matches!(held.node, Node::Folder))
    }

    /// What it is called, if it has a name.
    pub(crate) fn key(&self, ino: u64) -> Option<String> {
        self.held.get(&ino)?.key.clone()
    }

    /// The file of that name.
    pub(crate) fn named(&self, key: &str) -> Option<(u64, Arc<F>)> {
        let ino = *self.names.get(key)?;
        Some((ino, self.file(ino).ok()?))
    }

    /// The number of a name; one that is not known gets one that stands for nothing, for lists alone.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.names.get(key).copied().unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            hasher.finish() | 1 << 63
        })
    }

    /// A folder, used once more.
    pub(crate) fn enter_folder(&mut self, prefix: &str) -> u64 {
        if let Some(ino) = self.names.get(prefix).copied() {
            self.hold(ino);
            return ino;
        }
        self.add(prefix, Node::Folder)
    }

    /// A file of a name that had none, used once.
    pub(crate) fn enter_file(&mut self, key: &str, make: impl FnOnce(u64) -> F) -> (u64, Arc<F>) {
        let file = Arc::new(make(self.next));
        self.unname(key);
        (self.add(key, Node::File(file.clone())), file)
    }

    fn add(&mut self, key: &str, node: Node<F>) -> u64 {
        let ino = self.next;
        self.next += 1;
        self.held.insert(ino, Held { key: Some(key.to_owned()), node, uses: 1 });
        self.names.insert(key.to_owned(), ino);
        ino
    }

    pub(crate) fn hold(&mut self, ino: u64) {
        if let Some(held) = self.held.get_mut(&ino) {
            held.uses += 1;
        }
    }

    /// Gives back uses; a file that nobody uses any more is given.
    pub(crate) fn let_go(&mut self, ino: u64, uses: u64) -> Option<Arc<F>> {
        let held = self.held.get_mut(&ino).filter(|_| ino != ROOT)?;
        held.uses = held.uses.saturating_sub(uses);
        if held.uses > 0 {
            return None;
        }
        let held = self.held.remove(&ino)?;
        if let Some(key) = held.key {
            self.names.remove(&key);
        }
        match held.node {
            Node::File(file) => Some(file),
            Node::Folder => None,
        }
    }

    /// Takes a name away; what it was called stays for those who use it.
    pub(crate) fn unname(&mut self, key: &str) -> Option<Arc<F>> {
        self.local.remove(key);
        let ino = self.names.remove(key)?;
        let held = self.held.get_mut(&ino)?;
        held.key = None;
        match &held.node {
            Node::File(file) => Some(file.clone()),
            Node::Folder => None,
        }
    }

    /// Gives a name's number another name; what that one was is unnamed.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let is_local = self.local.remove(from);
        let Some(ino) = self.names.remove(from) else { return };
        self.unname(to);
        if let Some(held) = self.held.get_mut(&ino) {
            held.key = Some(to.to_owned());
        }
        self.names.insert(to.to_owned(), ino);
        if is_local {
            self.local.insert(to.to_owned());
        }
    }

    pub(crate) fn set_local(&mut self, key: &str, is_local: bool) {
        if is_local {
            self.local.insert(key.to_owned())
        } else {
            self.local.remove(key)
        };
    }

    pub(crate) fn is_local(&self, key: &str) -> bool {
        self.local.contains(key)
    }

    /// Files that are not stored as they are here.
    pub(crate) fn locals(&self) -> Vec<(String, Arc<F>)> {
        self.local.iter().filter_map(|key| Some((key.clone(), self.named(key)?.1))).collect()
    }

    /// Names right below a folder that only are here: files, and folders.
    pub(crate) fn overlay(&self, prefix: &str) -> (Vec<String>, BTreeSet<String>) {
        let below = |set: &BTreeSet<String>| -> Vec<String> {
            let keys = set.range(prefix.to_owned()..).take_while(|key| key.starts_with(prefix));
            keys.map(|key| key[prefix.len()..].to_owned()).filter(|rest| !rest.is_empty()).collect()
        };
        let step = |rest: &String| rest.split('/').next().unwrap_or_default().to_owned();
        let (mut files, mut folders) = (Vec::new(), BTreeSet::new());
        for rest in below(&self.local) {
            if rest.contains('/') {
                folders.insert(step(&rest));
            } else {
                files.push(rest)
            }
        }
        folders.extend(below(&self.made).iter().map(step));
        (files, folders)
    }

    /// Whether a folder is here though perhaps no key is below it.
    pub(crate) fn is_made(&self, prefix: &str) -> bool {
        let begins =
            |set: &BTreeSet<String>| set.range(prefix.to_owned()..).next().is_some_and(|key| key.starts_with(prefix));
        begins(&self.made) || begins(&self.local)
    }

    /// The folder of a key that goes away stays, as it would anywhere else.
    pub(crate) fn keep_folder_of(&mut self, key: &str, root: &str) {
        let folder = name::above(key);
        if folder.len() > root.len() && self.made.len() < MADE_MAX {
            self.made.insert(folder.to_owned());
        }
    }

    /// A folder is gone.
    pub(crate) fn unmake(&mut self, prefix: &str) {
        self.made.remove(prefix);
        self.unname(prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_with_its_file_whatever_is_called_so() {
        let mut tree = Tree::<u64>::new("");
        let (first, file) = tree.enter_file("a", |ino| ino);
        assert_eq!((*file, tree.named("a").unwrap().0), (first, first));
        let (second, _) = tree.enter_file("a", |ino| ino);
        assert_ne!(first, second);
        assert_eq!((tree.key(first), tree.key(second)), (None, Some("a".into())));
        tree.rename("a", "b");
        assert_eq!((tree.named("a").is_none(), tree.named("b").unwrap().0), (true, second));
        let (third, _) = tree.enter_file("c", |ino| ino);
        tree.rename("b", "c");
        assert_eq!((tree.named("c").unwrap().0, tree.key(third)), (second, None));
        assert!(tree.let_go(third, 1).is_some());
        assert_eq!(tree.file(third).unwrap_err(), Wrong::Changed, "nobody knows it any more");
        assert!(tree.named("c").is_some());
    }

    #[test]
    fn what_is_used_stays() {
        let mut tree = Tree::<u64>::new("p/");
        assert_eq!(tree.folder(ROOT).unwrap(), "p/");
        let ino = tree.enter_folder("p/a/");
        assert_eq!(tree.enter_folder("p/a/"), ino);
        assert!(tree.let_go(ino, 1).is_none() && tree.folder(ino).is_ok());
        tree.let_go(ino, 1);
        assert!(tree.folder(ino).is_err());
        tree.let_go(ROOT, 100);
        assert!(tree.folder(ROOT).is_ok());
        assert_ne!(tree.enter_folder("p/a/"), ino, "numbers are never used again");
    }

    #[test]
    fn what_is_only_here_is_listed() {
        let mut tree = Tree::<u64>::new("");
        tree.enter_file("d/new", |ino| ino);
        tree.set_local("d/new", true);
        tree.keep_folder_of("d/e/last", "");
        tree.keep_folder_of("top", "");
        let (files, folders) = tree.overlay("d/");
        assert_eq!((files, folders), (vec!["new".to_owned()], BTreeSet::from(["e".to_owned()])));
        assert_eq!(tree.overlay("").1, BTreeSet::from(["d".to_owned()]));
        assert!(tree.is_made("d/") && tree.is_made("d/e/") && !tree.is_made("d/f/"));
        tree.unname("d/new");
        tree.unmake("d/e/");
        assert!(!tree.is_made("d/"));
    }
}
