//! Make a bucket in a demo, and sign requests to it at the demo's S3 door.

use crate::cloud::Cloud;
use anyhow::{Context as _, Result, ensure};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use std::{process::Command, sync::Arc};

/// A bucket as an S3 client meets it; clones share its connections.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) http: reqwest::Client,
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) keys: Arc<Credentials>,
}

impl Door {
    /// Makes a bucket for so many GiB.
    pub(crate) fn open(cloud: &Cloud, bucket: &str, gib: u64) -> Result<Self> {
        let mut make = Command::new(std::env::current_exe()?.with_file_name("hodei"));
        make.args(["data", "create", bucket, "-y", "--capacity", &gib.to_string()]);
        let made = make.output()?;
        ensure!(made.status.success(), "the bucket could not be made: {}", String::from_utf8_lossy(&made.stderr));
        // The door here is plain HTTP; the client wants to know its cryptography all the same.
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build()?;
        let s3 = &cloud.doors["s3"];
        let word = |name: &str| s3[name].as_str().with_context(|| format!("the demo's S3 door has no {name}"));
        let endpoint = word("endpoint")?.parse()?;
        let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), "us-east-1")?;
        let keys = Credentials::new(word("access_key_id")?, word("secret_access_key")?);
        Ok(Self { http, bucket: bucket.into(), keys: keys.into() })
    }
}
