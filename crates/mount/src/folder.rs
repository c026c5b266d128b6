//! Answer what is where: names, listings, numbers.

use crate::{
    blocks::Blocks,
    event::Event,
    fault::Wrong,
    file::File,
    listing::{Answer, Found, Listings, names},
    name,
    room::Room,
    spool::Spool,
    store::{Facts, Store},
    tree::{ROOT, Tree},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Names asked of the store at once.
pub(crate) const PAGE_NAMES: usize = 1000;
/// Looks at a name while others of this mount change what is there.
const LOOKS_MAX: usize = 4;
/// How long the bucket's room is believed.
const ROOM_FRESH: Duration = Duration::from_secs(10);

/// How a bucket is shown.
#[derive(Clone, Debug)]
pub struct Config {
    /// What all keys begin with: empty, or ending in a slash.
    pub prefix: String,
    pub is_read_only: bool,
    /// How long what a listing said is believed.
    pub fresh: Duration,
    /// Memory for blocks read and read ahead.
    pub memory_bytes: u64,
    /// What failed for now is tried again after this, then after twice as long, and so on.
    pub rest: Duration,
}

/// What the kernel is told of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    pub ino: u64,
    pub is_folder: bool,
    pub size_bytes: u64,
    pub mtime_ms: u64,
    /// Nothing names it any more.
    pub is_unnamed: bool,
}

/// A bucket as a folder; clones share it.
pub struct Folder<S: Store>(pub(crate) Arc<Inner<S>>);

impl<S: Store> Clone for Folder<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(crate) struct Inner<S: Store> {
    pub(crate) store: S,
    pub(crate) config: Config,
    pub(crate) tree: Mutex<Tree<File<S::Pin>>>,
    pub(crate) listings: Mutex<Listings>,
    pub(crate) blocks: Mutex<Blocks>,
    pub(crate) spool: Spool,
    tell: Box<dyn Fn(Event) + Send + Sync>,
    /// Numbers contents.
    contents: AtomicU64,
    /// Counts changes of ours: what was looked up before one is looked up again.
    changes: AtomicU64,
    room: Mutex<Option<(Instant, Room)>>,
    pub(crate) going: AtomicUsize,
    pub(crate) idle: tokio::sync::Notify,
    has_hidden: AtomicBool,
    has_ignored: AtomicBool,
    began_ms: u64,
}

/// What a name leads to.
pub(crate) enum There<P> {
    Folder,
    /// A file that is not stored as it is here.
    Local(u64, Arc<File<P>>),
    File(Facts),
}

/// Where somebody is in a listing.
pub struct Cursor {
    prefix: String,
    /// What is known of it, from the how manyth on.
    from: u64,
    items: Vec<(String, Found)>,
    after: Option<String>,
    is_whole: bool,
}

/// A name in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub name: String,
    pub is_folder: bool,
    facts: Facts,
}

impl Shown {
    fn of(name: &str, found: &Found) -> Self {
        let (is_folder, facts) = match found {
            Found::Folder => (true, Facts::default()),
            Found::File(facts) => (false, facts.clone()),
        };
        Self { name: name.to_owned(), is_folder, facts }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Store> Folder<S> {
    /// Shows what `store` has; `tell` hears what no program is told.
    pub fn new(store: S, config: Config, spool: Spool, tell: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            tree: Mutex::new(Tree::new(&config.prefix)),
            listings: Mutex::new(Listings::new(config.fresh)),
            blocks: Mutex::new(Blocks::new(config.memory_bytes)),
            store,
            config,
            spool,
            tell: Box::new(tell),
            contents: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            room: Mutex::new(None),
            going: AtomicUsize::new(0),
            idle: tokio::sync::Notify::new(),
            has_hidden: AtomicBool::new(false),
            has_ignored: AtomicBool::new(false),
            began_ms: now_ms(),
        }))
    }

    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree<File<S::Pin>>> {
        lock(&self.0.tree)
    }

    pub(crate) fn tell(&self, event: Event) {
        (self.0.tell)(event);
    }

    pub(crate) fn new_content(&self) -> u64 {
        self.0.contents.fetch_add(1, Ordering::Relaxed)
    }

    /// After a change of ours below that key.
    pub(crate) fn changed(&self, key: &str) {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        lock(&self.0.listings).forget(key);
    }

    /// Owners and modes are not kept: said once, rather than refused to every copying program.
    pub fn ignore(&self, what: &'static str) {
        if !self.0.has_ignored.swap(true, Ordering::Relaxed) {
            self.tell(Event::Ignored { what });
        }
    }

    pub(crate) fn attr_of(&self, file: &File<S::Pin>) -> Attr {
        let is_unnamed = self.tree().key(file.ino).is_none();
        let state = file.state();
        Attr { ino: file.ino, is_folder: false, size_bytes: state.size_bytes, mtime_ms: state.mtime_ms, is_unnamed }
    }

    pub(crate) fn folder_attr(&self, ino: u64) -> Attr {
        Attr { ino, is_folder: true, size_bytes: 0, mtime_ms: self.0.began_ms, is_unnamed: false }
    }

    /// What is known of a number; never asks the store.
    pub fn getattr(&self, ino: u64) -> Result<Attr, Wrong> {
        let is_folder = self.tree().is_folder(ino).ok_or(Wrong::Changed)?;
        if is_folder {
            return Ok(self.folder_attr(ino));
        }
        let file = self.tree().file(ino)?;
        Ok(self.attr_of(&file))
    }

    /// The etag of the object a file stems from.
    pub fn etag(&self, ino: u64) -> Option<String> {
        let file = self.tree().file(ino).ok()?;
        let state = file.state();
        state.base.as_ref().filter(|_| !state.is_dirty).map(|base| base.etag.clone())
    }

    /// A name in a folder; the kernel uses its number once more, until it forgets it.
    pub async fn lookup(&self, parent: u64, name: &str) -> Result<Attr, Wrong> {
        let prefix = self.tree().folder(parent)?;
        let key =
            name::join(&prefix, name).map_err(|wrong| if wrong == Wrong::Name { Wrong::NotFound } else { wrong })?;
        let mut looks = 0;
        loop {
            let changes = self.0.changes.load(Ordering::SeqCst);
            let there = self.find(&prefix, name, &key).await?;
            looks += 1;
            if changes == self.0.changes.load(Ordering::SeqCst) || looks == LOOKS_MAX {
                return Ok(self.enter(&key, there.ok_or(Wrong::NotFound)?));
            }
        }
    }

    /// What is there now, as far as it is fresh.
    pub(crate) async fn find(&self, prefix: &str, name: &str, key: &str) -> Result<Option<There<S::Pin>>, Wrong> {
        let below = format!("{key}/");
        {
            let tree = self.tree();
            if tree.is_local(key)
                && let Some((ino, file)) = tree.named(key)
            {
                return Ok(Some(There::Local(ino, file)));
            }
            if tree.is_made(&below) {
                return Ok(Some(There::Folder));
            }
        }
        let there = |found| match found {
            Found::Folder => There::Folder,
            Found::File(facts) => There::File(facts),
        };
        let now = Instant::now();
        let answer = lock(&self.0.listings).look(prefix, name, now);
        match answer {
            Answer::Is(found) => return Ok(found.map(there)),
            Answer::Large => {}
            Answer::Unknown => {
                let changes = self.0.changes.load(Ordering::SeqCst);
                let page = self.0.store.list(prefix, None, PAGE_NAMES).await?;
                let is_whole = page.next.is_none();
                let names = names(prefix, &page);
                self.hide(&names.hidden);
                if changes == self.0.changes.load(Ordering::SeqCst) {
                    lock(&self.0.listings).learn(prefix, &names.items, is_whole, now);
                }
                if is_whole {
                    return Ok(names.items.into_iter().find(|(known, _)| known == name).map(|(_, found)| there(found)));
                }
            }
        }
        if self.is_any_below(&below).await? {
            return Ok(Some(There::Folder));
        }
        Ok(self.0.store.head(key).await?.map(|(facts, _)| There::File(facts)))
    }

    /// Whether any key begins so.
    pub(crate) async fn is_any_below(&self, prefix: &str) -> Result<bool, Wrong> {
        let page = self.0.store.list(prefix, None, 1).await?;
        Ok(!page.files.is_empty() || !page.folders.is_empty())
    }

    /// Gives what was found a number, which is used once more.
    fn enter(&self, key: &str, there: There<S::Pin>) -> Attr {
        let facts = match there {
            There::Folder => {
                let ino = self.tree().enter_folder(&format!("{key}/"));
                return self.folder_attr(ino);
            }
            There::Local(ino, file) => {
                self.tree().hold(ino);
                return self.attr_of(&file);
            }
            There::File(facts) => facts,
        };
        let known = self.tree().named(key);
        if let Some((ino, file)) = &known {
            let is_it = {
                let state = file.state();
                state.is_dirty || state.base.as_ref().is_some_and(|base| base.is_same(&facts))
            };
            if is_it {
                self.tree().hold(*ino);
                return self.attr_of(file);
            }
        }
        let content = self.new_content();
        let (_, file) = self.tree().enter_file(key, |ino| File::of(ino, &facts, content));
        if let Some((_, replaced)) = known {
            self.orphan(&replaced);
        }
        self.attr_of(&file)
    }

    /// The kernel uses a number so many times less.
    pub fn forget(&self, ino: u64, uses: u64) {
        let gone = self.tree().let_go(ino, uses);
        if let Some(file) = gone {
            let content = file.state().content;
            lock(&self.0.blocks).forget(content);
        }
    }

    fn hide(&self, hidden: &[String]) {
        if let Some(first) = hidden.first()
            && !self.0.has_hidden.swap(true, Ordering::Relaxed)
        {
            self.tell(Event::Hidden { object: self.0.store.show(first) });
        }
    }

    /// The beginning of a folder's listing.
    pub fn list(&self, ino: u64) -> Result<Cursor, Wrong> {
        let prefix = self.tree().folder(ino)?;
        Ok(Cursor { prefix, from: 0, items: Vec::new(), after: None, is_whole: false })
    }

    /// Names from the `at`th on, some of them; none at the end.
    pub async fn shown(&self, cursor: &mut Cursor, at: u64) -> Result<Vec<Shown>, Wrong> {
        if at < cursor.from {
            // Somebody goes back: from the beginning again, since only a page is held.
            *cursor = Cursor {
                prefix: std::mem::take(&mut cursor.prefix),
                from: 0,
                items: Vec::new(),
                after: None,
                is_whole: false,
            };
        }
        while at >= cursor.from + cursor.items.len() as u64 {
            if cursor.is_whole {
                return Ok(Vec::new());
            }
            cursor.from += cursor.items.len() as u64;
            self.turn_page(cursor).await?;
        }
        let items = &cursor.items[(at - cursor.from) as usize..];
        Ok(items.iter().map(|(name, found)| Shown::of(name, found)).collect())
    }

    /// The next page of a listing; behind the last one, what is only here.
    async fn turn_page(&self, cursor: &mut Cursor) -> Result<(), Wrong> {
        let prefix = &cursor.prefix;
        let (now, changes) = (Instant::now(), self.0.changes.load(Ordering::SeqCst));
        let page = self.0.store.list(prefix, cursor.after.as_deref(), PAGE_NAMES).await?;
        let mut names = names(prefix, &page);
        for doubtful in &names.doubtful {
            if self.is_any_below(&format!("{prefix}{doubtful}/")).await? {
                names.items.retain(|(name, _)| name != doubtful);
                names.hidden.push(format!("{prefix}{doubtful}"));
            }
        }
        self.hide(&names.hidden);
        if cursor.after.is_none() && changes == self.0.changes.load(Ordering::SeqCst) {
            lock(&self.0.listings).learn(prefix, &names.items, page.next.is_none(), now);
        }
        cursor.items = names.items;
        cursor.is_whole = page.next.is_none();
        cursor.after = page.next;
        if cursor.is_whole {
            let only_here = self.only_here(&cursor.prefix).await?;
            let known: BTreeSet<&str> = cursor.items.iter().map(|(name, _)| name.as_str()).collect();
            let new: Vec<_> = only_here.into_iter().filter(|(name, _)| !known.contains(name.as_str())).collect();
            cursor.items.extend(new);
        }
        Ok(())
    }

    /// Files that are no objects yet, and folders that nothing is in any more.
    async fn only_here(&self, prefix: &str) -> Result<Vec<(String, Found)>, Wrong> {
        let (files, folders) = self.tree().overlay(prefix);
        let mut only = Vec::new();
        for name in files {
            let Some((_, file)) = self.tree().named(&format!("{prefix}{name}")) else { continue };
            let state = file.state();
            if state.base.is_none() {
                let facts = Facts { size_bytes: state.size_bytes, mtime_ms: state.mtime_ms, ..Facts::default() };
                only.push((name, Found::File(facts)));
            }
        }
        for name in folders {
            if !self.is_any_below(&format!("{prefix}{name}/")).await? {
                only.push((name, Found::Folder));
            }
        }
        Ok(only)
    }

    /// Gives a listed name a number, which is used once more, as a lookup does.
    pub fn enter_shown(&self, cursor: &Cursor, shown: &Shown) -> Attr {
        let key = format!("{}{}", cursor.prefix, shown.name);
        if shown.is_folder {
            return self.enter(&key, There::Folder);
        }
        let local = {
            let tree = self.tree();
            tree.named(&key).filter(|_| tree.is_local(&key))
        };
        match local {
            Some((ino, file)) => self.enter(&key, There::Local(ino, file)),
            None => self.enter(&key, There::File(shown.facts.clone())),
        }
    }

    /// The number of a listed name, which is not used more by that.
    pub fn number(&self, cursor: &Cursor, shown: &Shown) -> u64 {
        let slash = if shown.is_folder { "/" } else { "" };
        self.tree().number(&format!("{}{}{slash}", cursor.prefix, shown.name))
    }

    /// The number of the folder above, as far as it is known.
    pub fn above(&self, cursor: &Cursor) -> u64 {
        if cursor.prefix == self.0.config.prefix { ROOT } else { self.tree().number(name::above(&cursor.prefix)) }
    }

    pub async fn room(&self) -> Result<Room, Wrong> {
        let now = Instant::now();
        let known = *lock(&self.0.room);
        if let Some((until, room)) = known
            && until > now
        {
            return Ok(room);
        }
        let room = self.0.store.room().await?;
        *lock(&self.0.room) = Some((now + ROOM_FRESH, room));
        Ok(room)
    }
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
