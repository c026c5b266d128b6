//! Count what a bucket holds.

use crate::{
    bucket::Record,
    cloud::{Cloud, Runtime},
    fault::Fault,
};
use hodei_types::transport::Transport;

/// What a bucket holds, versions that are no longer the newest included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    /// Delete markers are none.
    pub objects: u64,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Of the index, which is in memory or is fetched.
    pub async fn usage(&self, bucket: &Record) -> Result<Usage, Fault> {
        let run = self.run(bucket).await?;
        Ok(Usage { bytes: run.size_bytes(), objects: run.objects() })
    }
}
