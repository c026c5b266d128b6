//! Name what can go wrong, and what to do about it.

use std::{io, path::Path};

/// Why a container could not be made, or not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this machine runs no containers: {0}")]
    Missing(String),
    #[error("what the container is to be cannot be: {0}")]
    Spec(String),
    #[error("the image cannot be run: {0}")]
    Image(String),
    #[error("layer {at} of the image is refused: {why}")]
    Layer { at: usize, why: String },
    #[error("{command}: {said}")]
    Engine { command: String, said: String },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::io(path.display().to_string())
    }
}
