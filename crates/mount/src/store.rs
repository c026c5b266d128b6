//! Say what a folder needs of whatever keeps its objects.

use crate::{fault::Wrong, room::Room};
use bytes::Bytes;
use futures::stream::BoxStream;
use std::{ops::Range, path::Path};

/// Bytes of an object, in order.
pub type Body = BoxStream<'static, Result<Bytes, Wrong>>;

/// What is told of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub size_bytes: u64,
    /// When the file was changed, as whoever put it says.
    pub mtime_ms: u64,
    pub etag: String,
    /// When the object came to be; with the etag, what tells it from one that was there before.
    pub modified_ms: u64,
}

impl Facts {
    /// Whether both are of one object.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.etag, self.modified_ms) == (&other.etag, other.modified_ms)
    }
}

/// A page of a listing, cut at slashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub files: Vec<(String, Facts)>,
    /// Prefixes that end in a slash.
    pub folders: Vec<String>,
    /// Give it as `after` for the next page.
    pub next: Option<String>,
}

/// What must hold of what the key names when it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only<'a> {
    Always,
    /// It names nothing.
    Absent,
    /// It has this etag.
    Is(&'a str),
}

/// What keeps objects. Each change is whole or not at all.
pub trait Store: Send + Sync + 'static {
    /// An object as it was looked up: it can be read as that while others replace it.
    type Pin: Clone + Send + Sync + 'static;

    /// What lies below `prefix`, after `after`, at most `max`.
    fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> impl Future<Output = Result<Page, Wrong>> + Send;

    fn head(&self, key: &str) -> impl Future<Output = Result<Option<(Facts, Self::Pin)>, Wrong>> + Send;

    fn read(&self, key: &str, pin: &Self::Pin, range: Range<u64>) -> impl Future<Output = Result<Body, Wrong>> + Send;

    /// Stores a file's content, or nothing, acknowledged by a quorum. `like` is what it was changed from, whose other
    /// properties it keeps. [`Wrong::Changed`] if `only` does not hold.
    fn put(
        &self,
        key: &str,
        content: Option<&Path>,
        like: Option<&Self::Pin>,
        mtime_ms: u64,
        only: Only<'_>,
    ) -> impl Future<Output = Result<(Facts, Self::Pin), Wrong>> + Send;

    /// Names the same content again, or anew where both names are one.
    fn copy(
        &self,
        from: (&str, &Self::Pin),
        to: &str,
        mtime_ms: u64,
        only: Only<'_>,
    ) -> impl Future<Output = Result<(Facts, Self::Pin), Wrong>> + Send;

    /// [`Wrong::Changed`] if `only` does not hold; a key that names nothing is removed already.
    fn remove(&self, key: &str, only: Only<'_>) -> impl Future<Output = Result<(), Wrong>> + Send;

    fn room(&self) -> impl Future<Output = Result<Room, Wrong>> + Send;

    /// For people.
    fn show(&self, key: &str) -> String;

    /// Bytes that are best read at once.
    fn block_bytes(&self) -> u64;
}
