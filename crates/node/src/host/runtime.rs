//! Name what a host asks of what runs containers.
//!
//! A container is made, started, and reached from outside through its own network alone; it runs on when this program
//! ends, and is found again by its id.

use futures::future::BoxFuture;
use hodei_types::app::{
    container::Container,
    volume::{Tree, Volume},
    wire::Way,
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// What one container is made of, and within what it runs.
#[derive(Clone, Debug)]
pub(super) struct Make {
    pub(super) id: String,
    pub(super) hostname: String,
    pub(super) container: Container,
    /// The image's own, as it was given.
    pub(super) config: Vec<u8>,
    /// One for each layer, the lowest first.
    pub(super) layers: Vec<PathBuf>,
    pub(super) cpu_milli: u64,
    pub(super) memory_bytes: u64,
    pub(super) disk_bytes: u64,
    pub(super) hosts: Vec<(String, IpAddr)>,
}

/// Why a container is not made, or not asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum RuntimeError {
    /// It never will be, as it is.
    #[error("{0}")]
    Never(String),
    /// It may be, later.
    #[error("{0}")]
    Later(String),
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// None where a signal ended it, or nobody was there to see.
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) is_out_of_memory: bool,
}

/// What the kernel counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) cpu_ns: u64,
    pub(super) memory_bytes: u64,
    pub(super) memory_peak_bytes: u64,
    pub(super) disk_bytes: u64,
}

/// What makes containers.
pub(super) trait Runtime: Send + Sync {
    /// As it is shown.
    fn name(&self) -> &str;
    /// Makes one, which is not started yet.
    fn create(&self, make: Make) -> BoxFuture<'_, Result<Arc<dyn Running>, RuntimeError>>;
    /// Finds one that an earlier process of this host made, be it over.
    fn adopt<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Arc<dyn Running>>, RuntimeError>>;
    /// Stops one, killing it after its grace, and takes it away; with what it said and its volumes, if these are not
    /// wanted any more.
    fn remove<'a>(&'a self, id: &'a str, with_logs: bool) -> BoxFuture<'a, Result<(), RuntimeError>>;
    /// Removes what was unpacked for containers that are not here any more; never while one is made.
    fn forget(&self) -> BoxFuture<'_, Result<(), RuntimeError>>;
    /// Whether it was said what is on a volume; without that its container is not made.
    fn is_volume_known(&self, id: &str, name: &str) -> Result<bool, RuntimeError>;
    /// Says that a volume begins with what the image has at its place.
    fn bear_volume(&self, id: &str, name: &str) -> Result<(), RuntimeError>;
    /// Begins to fill a volume that nothing is on yet.
    fn fill_volume(&self, id: &str, volume: Volume, tree: Tree) -> Result<Box<dyn Filling>, RuntimeError>;
}

/// What a volume is to hold, on its way.
pub(super) trait Filling: Send {
    /// Takes a piece, if it is what its hash says.
    fn put(&mut self, hash: [u8; 32], bytes: &[u8]) -> io::Result<()>;
    /// Lays everything down; it holds up the thread.
    fn finish(self: Box<Self>) -> Result<(), RuntimeError>;
}

/// What a volume held in one moment.
pub(super) trait Taken: Send + Sync {
    fn tree(&self) -> &Tree;
    /// A piece that the asker did not have.
    fn piece(&self, hash: &[u8; 32]) -> io::Result<Vec<u8>>;
}

/// One container.
pub(super) trait Running: Send + Sync {
    /// Lets it begin, if it was not.
    fn start(&self) -> BoxFuture<'_, Result<(), RuntimeError>>;
    /// Connects to a port of its loopback.
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>>;
    /// Hears at an address inside it.
    fn listen(&self, at: SocketAddr) -> BoxFuture<'_, io::Result<TcpListener>>;
    /// Runs a program inside it to its end; its exit code.
    fn test(&self, argv: Vec<String>) -> BoxFuture<'_, Result<i32, RuntimeError>>;
    /// Lets its owner in, but for a port, which is connected to.
    fn enter(&self, way: Way) -> BoxFuture<'_, Result<Inside, RuntimeError>>;
    /// Lists what is on a volume; `since` names the listing whose pieces the asker has.
    fn snapshot(&self, volume: Volume, since: Option<[u8; 32]>) -> BoxFuture<'_, Result<Box<dyn Taken>, RuntimeError>>;
    fn usage(&self) -> io::Result<Usage>;
    /// Resolves once it ended.
    fn ended(&self) -> BoxFuture<'_, Ended>;
    /// What it said: what is older, and what is newest. Either may not be there.
    fn logs(&self) -> [PathBuf; 2];
}

/// What was entered, with its streams; dropped before its end, it is killed.
pub(super) struct Inside {
    pub(super) stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub(super) stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub(super) stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub(super) process: Box<dyn Entered>,
}

/// The process of what was entered.
pub(super) trait Entered: Send {
    fn resize(&self, rows: u16, columns: u16);
    /// Its exit code, once it ended; asked again it is the same.
    fn wait(&mut self) -> BoxFuture<'_, io::Result<i32>>;
}

impl Ended {
    /// As people read it.
    pub(super) fn words(&self) -> String {
        match (self.is_out_of_memory, self.code, self.signal) {
            (true, ..) => "it used more memory than its lease has, and the kernel ended it: order more".into(),
            (_, Some(code), _) => format!("it ended with exit code {code}"),
            (_, None, Some(signal)) => format!("signal {signal} ended it"),
            (_, None, None) => "it ended while nobody was there to see".into(),
        }
    }
}
