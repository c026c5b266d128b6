//! Show a bucket as a folder of this machine.
//!
//! ```text
//! a program → kernel → kernel.rs → Folder → names → Tree, Listings
//!                                         → reads → Blocks, ahead by Ahead → Store
//!                                         → writes → Spool → keep.rs, whole, upon close or fsync → Store
//! ```
//! An object is shown as a file, what its key has before a slash as folders. A file that is open stays what it was
//! when it was opened: an object that others replace becomes another file of the same name, as if it were renamed
//! over. What is written goes to a private file here first, and becomes the object in one step, by the condition that
//! the object still is what the writer opened: nobody sees half, and no writer undoes another's work unseen. What
//! cannot be stored is kept here and named.
//!
//! What FUSE over objects cannot do is refused, or told once: no links, no owners and modes, no locks between
//! machines, and each change of a file stores all of it again.

#[cfg(not(unix))]
compile_error!("a mount asks the kernel of a Unix");

mod ahead;
mod blocks;
mod bucket;
mod change;
mod event;
mod fault;
mod file;
mod folder;
mod keep;
#[cfg(target_os = "linux")]
mod kernel;
mod listing;
mod mounted;
mod name;
mod open;
mod path;
mod room;
#[cfg(target_os = "linux")]
mod shape;
mod spool;
mod store;
#[cfg(target_os = "linux")]
mod table;
mod tree;

pub use bucket::{Bucket, Kinds};
pub use event::Event;
pub use fault::Wrong;
pub use folder::{Attr, Config, Cursor, Folder, Shown};
pub use mounted::{Mount, MountError, check, mount};
pub use open::{Handle, Opening};
pub use path::Rename;
pub use room::Room;
pub use spool::Spool;
pub use store::{Body, Facts, Only, Page, Store};
