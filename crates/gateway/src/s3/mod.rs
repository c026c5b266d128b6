//! Speak S3 over buckets of the cloud.
//!
//! A request passes the outer layer, its signature is checked against a key of the file of keys, what it asks is
//! judged, and only then is its body read. Operations that are not built answer `NotImplemented`. The gateway holds
//! no privilege: it is a client of `sdk` with one spending account, and whoever runs it sees plaintext.

mod access;
mod acl;
mod action;
mod algorithm;
mod attributes;
mod body;
mod buckets;
mod checksum;
mod copy;
mod cors;
mod customer;
mod decide;
mod describe;
mod digest;
mod documents;
mod extras;
mod facts;
mod fault;
mod form;
mod guard;
mod held;
mod keys;
mod layer;
mod lifecycle;
mod list;
mod lock;
mod log;
mod multipart;
mod names;
mod objects;
mod parts;
pub(crate) mod patience;
mod policy;
mod principal;
mod put;
mod query;
mod quota;
mod read;
mod refusal;
mod remove;
mod rights;
mod server;
mod signed;
pub(crate) mod silence;
mod tagging;
mod time;
mod tls;
mod uploads;
mod version;
pub mod website;
mod wildcard;

pub use keys::{Key, Keyring, Keys, KeysError};
pub use lifecycle::Calendar;
pub use log::AccessLog;
pub use objects::Objects;
pub use principal::{Caller, Principal, Quota, Scope, Stamp};
pub use quota::held;
pub use server::{Config, serve};
pub use tls::{Tls, TlsError};
