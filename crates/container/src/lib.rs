//! Run a stranger's OCI image in a container that can do nothing else.
//!
//! ```text
//! layers ─► sha256, DiffID ─► layers/<DiffID>  ┐
//! ext4 file of exact size, loop ─► upper, work ┴► overlay ─► OCI runtime's create ─► [`Container::start`]
//!                                                               │ its parent, which outlives the agent: [`keeper`]
//! agent ◄── [`Container::connect`], [`Container::listen`] ── sockets made inside its network, which has only `lo`
//! agent ◄── [`Container::usage`] ── the kernel's own counters
//! ```
//!
//! Promise: what a container does ends in its own namespaces, its memory, its share of the processor, its processes and
//! its disk. It has no network: it reaches no neighbour, not this machine's loopback, nothing outside; the agent alone
//! carries bytes. It is root to itself and nobody to this machine. Who might break it: a fault of the kernel, whose whole
//! surface stands behind one list of system calls.
//!
//! Invariants: no file system that a stranger made is mounted; nothing of an image is opened through a link that leads
//! out of it; a layer that has its name is whole; a container needs no agent to run, and an agent that is started anew
//! finds it again.
//!
//! A binary that runs containers enters the keeper before it starts anything else:
//! ```no_run
//! # #[cfg(target_os = "linux")]
//! if std::env::args().nth(1).as_deref() == Some("run-container") {
//!     std::process::exit(hodei_container::keeper::run());
//! }
//! ```
//!
//! A layer is unpacked by itself: folders that it does not name, but has files in, are made with 0755 and hide what a
//! lower layer said of them. Every builder names them.

#[cfg(not(target_os = "linux"))]
mod absent;
#[cfg(target_os = "linux")]
mod bundle;
#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod container;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod engine;
mod error;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod given;
#[cfg(target_os = "linux")]
mod image;
#[cfg(target_os = "linux")]
mod inside;
#[cfg(target_os = "linux")]
pub mod keeper;
#[cfg(target_os = "linux")]
mod layers;
#[cfg(target_os = "linux")]
mod packed;
#[cfg(target_os = "linux")]
mod prepare;
#[cfg(target_os = "linux")]
mod root;
#[cfg(target_os = "linux")]
mod seccomp;
mod spec;
#[cfg(target_os = "linux")]
mod terminal;
#[cfg(target_os = "linux")]
mod tree;
#[cfg(target_os = "linux")]
mod unpack;
#[cfg(target_os = "linux")]
mod volume;

#[cfg(not(target_os = "linux"))]
pub use absent::Engine;
#[cfg(target_os = "linux")]
pub use cgroup::Usage;
#[cfg(target_os = "linux")]
pub use container::{Container, Exit};
#[cfg(target_os = "linux")]
pub use engine::Engine;
pub use error::Error;
#[cfg(target_os = "linux")]
pub use exec::{Entering, Exec};
#[cfg(target_os = "linux")]
pub use keeper::Program;
pub use spec::{Blob, DISK_BYTES_MIN, LAYERS_MAX, Layer, MEMORY_BYTES_MIN, Packing, Spec, UID_BASE, UIDS};
#[cfg(target_os = "linux")]
pub use volume::{Filling, Taken};
