//! Speak S3 over buckets of the cloud.
//!
//! Signature version 4, put, get with ranges, head, list, delete, multipart and verified checksums; any other
//! operation answers `NotImplemented`. The gateway holds no privilege: it is a client of `sdk` with one spending
//! account, and whoever runs it sees plaintext.

mod body;
mod checksum;
mod fault;
mod multipart;
mod objects;
mod server;

pub use objects::Objects;
pub use server::{Credentials, serve};
