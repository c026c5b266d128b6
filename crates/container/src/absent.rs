//! Say on other systems that containers need Linux.

use crate::Error;
use std::path::PathBuf;

/// What runs containers; here nothing does.
pub enum Engine {}

impl Engine {
    pub fn find(_: PathBuf) -> Result<Self, Error> {
        Err(Error::Missing("containers need Linux: offer components, which run everywhere".into()))
    }

    pub fn name(&self) -> &str {
        match *self {}
    }
}
