//! Try a recovery before it is needed.

use crate::{
    fault::{self, Fault, Result},
    session::{Session, sdk_fault},
};
use commonware_runtime::Supervisor as _;
use futures::TryStreamExt as _;
use hodei_sdk::{Cloud, Local, list::Marker, object::PAGE_MAX, wallet::Wallet};
use hodei_types::key::SecretKey;
use std::path::{Path, PathBuf};

/// What is read back of a bucket's first object.
const PROBE_BYTES: u64 = 64 << 10;

/// What came of it.
pub(crate) enum Rehearsed {
    Opened(Vec<Bucket>),
    /// No member answered: why.
    Unreachable(String),
    /// Something did not open, or could not be tried here: why.
    Failed(String),
}

/// A bucket that opened.
pub(crate) struct Bucket {
    pub(crate) name: String,
    /// Keys whose newest version is an object, and all versions.
    pub(crate) objects: u64,
    pub(crate) versions: u64,
    pub(crate) size_bytes: u64,
}

/// A folder that goes when this does.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("hodei-rehearsal-{}", std::process::id()));
        // Others may write to that place too: only a folder that nobody made before is private.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Fault::io(&path, "making a folder for the rehearsal", &error))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It holds an identity on the wire that nobody uses again, and no key of the wallet.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens every bucket of the account behind `main`, counts what is in it, and reads some of it.
pub(crate) async fn rehearse(session: &Session, main: &SecretKey) -> Result<Rehearsed> {
    let wallet = Wallet::open(session.chain.clone(), main).map_err(sdk_fault)?;
    let runtime = session.runtime.child("rehearsal");
    let cloud = match Cloud::open(runtime, session.link.clone(), session.link.key(), wallet, None).await {
        Ok(cloud) => cloud,
        Err(error) if error.is_temporary() => {
            return Ok(Rehearsed::Unreachable(crate::session::brief(&error.to_string())));
        }
        Err(error) => return Err(sdk_fault(error)),
    };
    let mut opened = Vec::new();
    for record in cloud.buckets().await.map_err(sdk_fault)? {
        opened.push(open(&cloud, &record.name).await?);
    }
    Ok(Rehearsed::Opened(opened))
}

async fn open(cloud: &Local, name: &str) -> Result<Bucket> {
    let mut bucket = Bucket { name: name.into(), objects: 0, versions: 0, size_bytes: 0 };
    let mut after: Option<Marker> = None;
    let mut probe = None;
    loop {
        let from = after.as_ref().map(|(key, version)| (key.as_str(), *version));
        let page = cloud.list_versions(name, "", from, None, PAGE_MAX).await.map_err(sdk_fault)?;
        for found in page.entries.into_iter().filter(|found| !found.entry.marker) {
            bucket.versions += 1;
            bucket.objects += u64::from(found.is_newest);
            bucket.size_bytes += found.entry.size_bytes();
            // What a customer's own key seals, no kit opens.
            if probe.is_none() && found.entry.customer.is_none() {
                probe = Some((found.key, found.entry));
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if let Some((key, entry)) = probe {
        let want = entry.size_bytes().min(PROBE_BYTES);
        let body = cloud.bytes(name, &key, &entry, Some(0..want), None).await.map_err(sdk_fault)?;
        let read: u64 = body.try_fold(0, async |sum, piece| Ok(sum + piece.len() as u64)).await.map_err(sdk_fault)?;
        if read != want {
            return Err(Fault::new(
                &fault::GET_SHORT,
                format!("hodei://{name}/{key} gave too few bytes"),
                "run the same command again",
            )
            .between(format!("{want} bytes"), format!("{read} bytes")));
        }
    }
    Ok(bucket)
}
