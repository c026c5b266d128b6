//! Serve what share links are of to anybody with a browser.
//!
//! `GET /s/LINK` is a page with name, size and a button; `GET /s/LINK/NAME` is the bytes, whole or a range. The
//! door needs no account of its own for this and keeps nothing: whoever runs it sees what passes, as with any
//! server of files; who does not want that fetches with `hodei share get LINK`, which asks the providers itself.

mod door;
mod page;
mod range;

pub use door::serve;

/// Where links stand below a door's address: no bucket has so short a name.
pub const PATH: &str = "/s/";
