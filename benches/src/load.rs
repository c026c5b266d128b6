//! Put and get objects over HTTP, many at once, and tell how long it took.

use crate::crowd::{content, each};
use anyhow::{Result, ensure};
use bytes::Bytes;
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// How long a presigned address of a run stays good.
const SIGNED: Duration = Duration::from_secs(3600);

/// A system that keeps objects, as its clients meet it.
pub(crate) enum Door {
    /// Addresses are signed before the clock starts.
    S3 { bucket: Arc<Bucket>, keys: Arc<Credentials> },
    /// Tahoe's web door: a put answers with the capability that reads it.
    Tahoe { url: String },
}

impl Door {
    pub(crate) fn s3(endpoint: &str, region: &str, bucket: &str, key: &str, secret: &str) -> Result<Self> {
        let bucket = Bucket::new(endpoint.parse()?, UrlStyle::Path, bucket.to_owned(), region.to_owned())?;
        Ok(Self::S3 { bucket: bucket.into(), keys: Credentials::new(key, secret).into() })
    }
}

/// One workload: `count` objects of `bytes`, `at_once` requests in flight.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    pub(crate) at_once: usize,
}

/// Seconds that a run took.
pub(crate) struct Took {
    pub(crate) put: f64,
    pub(crate) get: f64,
}

/// Puts all objects of a load, then gets them and compares; `run` keeps names and contents apart.
pub(crate) async fn measure(door: &Door, client: &reqwest::Client, load: Load, run: u64) -> Result<Took> {
    let bodies: Vec<Bytes> = (0..load.count).map(|at| content(load.bytes, run << 32 | at as u64)).collect();
    let names: Vec<String> = (0..load.count).map(|at| format!("run-{run}/{}-{at}", load.bytes)).collect();
    let put: Vec<String> = match door {
        Door::S3 { bucket, keys } => {
            names.iter().map(|name| bucket.put_object(Some(keys), name).sign(SIGNED).to_string()).collect()
        }
        Door::Tahoe { url } => vec![format!("{url}/uri"); load.count],
    };
    let caps = Arc::new(Mutex::new(vec![String::new(); load.count]));
    let start = Instant::now();
    let (told, sent, asking) = (caps.clone(), bodies.clone(), client.clone());
    each(load.count as u64, load.at_once.min(load.count), move |at| {
        let at = at as usize;
        let (client, caps) = (asking.clone(), told.clone());
        let (url, body) = (put[at].clone(), sent[at].clone());
        async move {
            let answer = client.put(url).body(body).send().await?;
            let status = answer.status();
            let text = answer.text().await?;
            ensure!(status.is_success(), "put {at}: {status} {text}");
            caps.lock().expect("no panic under this lock")[at] = text;
            Ok(())
        }
    })
    .await?;
    let put = start.elapsed().as_secs_f64();
    let get: Vec<String> = match door {
        Door::S3 { bucket, keys } => {
            names.iter().map(|name| bucket.get_object(Some(keys), name).sign(SIGNED).to_string()).collect()
        }
        Door::Tahoe { url } => {
            caps.lock().expect("no panic under this lock").iter().map(|cap| format!("{url}/uri/{cap}")).collect()
        }
    };
    let start = Instant::now();
    let asking = client.clone();
    each(load.count as u64, load.at_once.min(load.count), move |at| {
        let at = at as usize;
        let (client, url, body) = (asking.clone(), get[at].clone(), bodies[at].clone());
        async move {
            let mut answer = client.get(url).send().await?;
            let status = answer.status();
            ensure!(status.is_success(), "get {at}: {status}");
            let mut rest = body;
            while let Some(piece) = answer.chunk().await? {
                ensure!(rest.len() >= piece.len() && rest.split_to(piece.len()) == piece, "get {at}: other bytes");
            }
            ensure!(rest.is_empty(), "get {at}: {} bytes too few", rest.len());
            Ok(())
        }
    })
    .await?;
    Ok(Took { put, get: start.elapsed().as_secs_f64() })
}
