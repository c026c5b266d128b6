//! Take an image from a registry, an archive or this machine's own engine, blob by blob, and keep what was taken.
//!
//! ```text
//! nginx:1.27 ─ Reference ─► Registry ─ resolve ─► Image ─ pull ─┐
//! image.tar, a layout's folder ─ archive::take ─────────────────┼─► Blobs, by their SHA-256
//! podman save, docker build ─ local::save, local::build ────────┘
//! ```
//! Whoever sends bytes may lie: each blob is hashed while it is written and is in the store only if it is what its image
//! names. Nothing of an image is ever whole in memory but its manifest and its config, which have limits.

pub mod archive;
mod auth;
mod blobs;
pub mod local;
mod manifest;
mod reference;
mod registry;

pub use auth::Credentials;
pub use blobs::Blobs;
pub use manifest::{Check, Config, Platform};
pub use reference::{Name, Reference};
pub use registry::Registry;

use hodei_types::app::container::{Blob, Layer};
use std::{io, path::PathBuf};

/// An image whose manifest and config are here; its layers may not be yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// As it was written.
    pub reference: String,
    /// SHA-256 of its manifest; of its config where an archive has no manifest.
    pub digest: [u8; 32],
    pub config: Blob,
    /// The lowest first.
    pub layers: Vec<Layer>,
    /// What its config says of how it is run.
    pub says: Config,
}

impl Image {
    /// Bytes of its layers as they are packed, each once.
    pub fn bytes(&self) -> u64 {
        let mut blobs: Vec<Blob> = self.layers.iter().map(|layer| layer.blob).collect();
        blobs.sort_unstable();
        blobs.dedup();
        blobs.iter().map(|blob| blob.bytes).fold(self.config.bytes, u64::saturating_add)
    }
}

/// Why an image could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("{0:?} is no image's reference: {1}")]
    Reference(String, &'static str),
    #[error("{image} is not at {host}, or not for who asks")]
    NotFound { image: String, host: String },
    #[error("{host} lets nobody in as we came: {words}")]
    Denied { host: String, words: String },
    #[error("{host} could not be asked: {words}")]
    Away { host: String, words: String },
    #[error("{host} answered {status}: {words}")]
    Status { host: String, status: u16, words: String },
    #[error("the image's {what} is not as OCI or Docker write it: {words}")]
    Form { what: &'static str, words: String },
    #[error("the image is of {found}; hosts run linux/amd64 and linux/arm64")]
    Platform { found: String },
    #[error("the image is for {}; {wanted} was asked for", .found.join(", "))]
    NoPlatform { wanted: String, found: Vec<String> },
    #[error("the image's {what} is {found}, at most {most} are taken")]
    Large { what: &'static str, found: u64, most: u64 },
    #[error("a layer is packed as {0:?}; plain, gzip and zstd are taken")]
    Packing(String),
    #[error("what came as {expected} hashes to {found}, {bytes} bytes")]
    Lie { expected: String, found: String, bytes: u64 },
    #[error("the archive lacks {0}")]
    Lacks(String),
    #[error("{} of {} is kept no longer", .sha256, .what)]
    Gone { what: &'static str, sha256: String },
    #[error("none of {} is installed here: install one, or name an image in a registry", .0.join(", "))]
    NoEngine(Vec<&'static str>),
    #[error("{program} failed: {words}")]
    Engine { program: String, words: String },
    #[error("credentials for {host} could not be had: {words}")]
    Credentials { host: String, words: String },
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl ImageError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }

    fn form(what: &'static str, words: impl ToString) -> Self {
        Self::Form { what, words: words.to_string() }
    }

    /// Whether the same may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Status { status: 408 | 429 | 500..=599, .. })
    }
}

fn hex(hash: &[u8; 32]) -> String {
    alloy_primitives::hex::encode(hash)
}
