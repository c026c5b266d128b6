//! Serve what share links are of to anybody with a browser.
//!
//! `GET /s/LINK` is a page with name, size and a button; `GET /s/LINK/NAME` is the bytes, whole or a range. Of a link to
//! a folder `GET /s/LINK/` lists it, and `GET /s/LINK/path/below` is a file of it. The door needs no account of its own
//! for this and keeps no byte: whoever runs it sees what passes, as with any server of files; who does not want that
//! fetches with `hodei share get LINK`, which asks the providers itself, or runs the door. Passes are answered by the
//! door of the reader they name alone.

mod door;
mod file;
mod page;
mod range;
mod shelf;

pub use door::serve;

/// Where links stand below a door's address: no bucket has so short a name.
pub const PATH: &str = "/s/";
