//! Take a container's blobs, give them on, and fetch them from hosts that have them.
//!
//! A blob goes piece by piece from the wire to the disk, and from the disk to the wire: however long a layer is, little of
//! it is in memory. What came whole stays, so that whoever tries again begins where the last one ended.

use super::{
    Host,
    contain::Containers,
    fetch::{AskError, FetchError},
    images::{BlobError, Part},
    replica::{BUSY_MS, Replica, give},
    serve::refused,
};
use commonware_runtime::{Sink, Storage, Stream};
use hodei_ledger::wire::{receive, send};
use hodei_types::{
    app::{
        Manifest,
        container::{Blob, Container},
        wire::{Answer, CHUNK_BYTES_MAX, FRAME_BYTES_MAX, Request},
    },
    transport::{APP, Peer, Transport as _},
};
use std::{fs, io::Read as _, time::Duration};
use tokio::time::Instant;

/// So long a frame may take to come, or to be taken.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes a second that are the least, once it began in earnest.
const RATE_MIN: u64 = 64 << 10;
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Written to the disk, and read from it, at once.
const PIECE_BYTES: usize = 1 << 20;

/// Why a blob did not come.
#[derive(Debug, thiserror::Error)]
enum PourError {
    #[error(transparent)]
    Broken(#[from] hodei_ledger::wire::WireError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("nothing came for {} s", FRAME_TIMEOUT.as_secs())]
    Silent,
    #[error("it comes at less than {RATE_MIN} bytes a second")]
    Slow,
    #[error("{0}")]
    Other(String),
}

impl<E: Storage> Host<E> {
    /// Takes of a container what is not here. `None` where its giver is gone.
    pub(super) async fn take_image<Si: Sink, St: Stream>(
        &self,
        containers: &Containers,
        manifest: &Manifest,
        sink: &mut Si,
        stream: &mut St,
    ) -> Answer {
        let Some(container) = manifest.container() else { return refused("it is no container") };
        // Named first: what comes before the giver goes is kept for the next one.
        if let Err(error) = self.named(containers, manifest).await {
            return refused(error);
        }
        let Some(_reserved) = self.0.queue.reserve(2 * PIECE_BYTES as u64) else {
            return Answer::Busy { retry_after_ms: BUSY_MS };
        };
        let lacks = containers.images.lacks(container);
        let wants = Answer::Wants { blobs: lacks.iter().map(|blob| blob.sha256).collect() };
        if !give(sink, &wants, Instant::now() + FRAME_TIMEOUT).await {
            return refused("who gives it takes no answers");
        }
        for blob in lacks {
            let read = |frame: &[u8]| match Request::decode(frame) {
                Ok(Request::Bytes(chunk)) => Ok(chunk),
                Ok(_) => Err("something else than a blob's bytes".into()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = pour(containers, blob, stream, read).await {
                return refused(format!("blob {} did not arrive: {error}", hex::encode(blob.sha256)));
            }
        }
        self.wake(&manifest.workload());
        match containers.images.lacks(container).is_empty() {
            true => Answer::Given,
            false => refused("some of it was lost while it came: give it again"),
        }
    }

    async fn named(&self, containers: &Containers, manifest: &Manifest) -> Result<(), String> {
        let (images, manifest) = (containers.images.clone(), manifest.clone());
        let named = tokio::task::spawn_blocking(move || images.name(&manifest)).await;
        named.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// Gives a container to a host that holds a lease of the same workload: its manifest, and what is wanted of it.
    pub(super) async fn give_image<Si: Sink, St: Stream>(
        &self,
        containers: &Containers,
        manifest: Manifest,
        sink: &mut Si,
        stream: &mut St,
    ) {
        let blobs = manifest.container().map(Container::blobs).unwrap_or_default();
        let mut is_taken = give(sink, &Answer::Manifest(manifest), Instant::now() + FRAME_TIMEOUT).await;
        // Each is wanted once, and then all are had.
        for _ in 0..blobs.len() {
            let heard = tokio::time::timeout(FRAME_TIMEOUT, receive(stream, FRAME_BYTES_MAX)).await;
            let Ok(Ok(frame)) = heard else { return };
            let blob = match Request::decode(&frame) {
                Ok(Request::Want { sha256 }) => blobs.iter().find(|blob| blob.sha256 == sha256),
                _ => None,
            };
            let Some(blob) = blob else {
                give(sink, &refused("that is no blob of this container"), Instant::now() + FRAME_TIMEOUT).await;
                return;
            };
            is_taken = is_taken && self.give_blob(containers, blob, sink).await;
            if !is_taken {
                return;
            }
        }
    }

    async fn give_blob<Si: Sink>(&self, containers: &Containers, blob: &Blob, sink: &mut Si) -> bool {
        let Ok(mut file) = fs::File::open(containers.images.path(blob)) else {
            give(sink, &refused("this host does not have it whole"), Instant::now() + FRAME_TIMEOUT).await;
            return false;
        };
        let (begun, mut given) = (Instant::now(), 0);
        while given < blob.bytes {
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = Vec::with_capacity(PIECE_BYTES);
                let read = file.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece);
                read.map(|_| (file, piece))
            });
            let Ok(Ok((rest, piece))) = read.await else { return false };
            file = rest;
            // What is shorter than it was rotted: who hears no more asks another.
            if piece.is_empty() {
                return false;
            }
            for chunk in piece.chunks(CHUNK_BYTES_MAX) {
                if !give(sink, &Answer::Bytes(chunk.to_vec()), Instant::now() + FRAME_TIMEOUT).await {
                    return false;
                }
                given += chunk.len() as u64;
            }
            if is_slow(begun, given) {
                return false;
            }
        }
        true
    }

    /// Gets a replica's image from whoever has it, blob after blob; what is here already stays.
    pub(super) async fn fetch_image(&self, containers: &Containers, replica: &Replica) -> Result<(), FetchError> {
        let peers = self.others(replica).await?;
        let Some(_reserved) = self.0.queue.reserve(2 * PIECE_BYTES as u64) else {
            return Err(FetchError::None(0, "too much is on its way already".into()));
        };
        let mut last = None;
        for peer in &peers {
            match self.fetch_blobs(containers, peer, replica.workload).await {
                Ok(()) => {
                    tracing::info!(lease = replica.lease, from = %peer.key, "image fetched");
                    return Ok(());
                }
                Err(error) => last = Some(format!("{}: {error}", peer.key)),
            }
        }
        Err(last.map_or(FetchError::Nobody, |last| FetchError::None(peers.len(), last)))
    }

    async fn fetch_blobs(&self, containers: &Containers, peer: &Peer, workload: [u8; 32]) -> Result<(), AskError> {
        let asked = async {
            let (mut sink, mut stream) = self.0.parts.link.open(peer, APP).await?;
            let manifest = super::fetch::manifest_of(&mut sink, &mut stream, workload).await?;
            Ok::<_, AskError>((manifest, sink, stream))
        };
        let asked = tokio::time::timeout(FRAME_TIMEOUT, asked).await;
        let (manifest, mut sink, mut stream) = asked.unwrap_or(Err(AskError::Late))?;
        let container = manifest.container().ok_or(AskError::Other)?;
        self.named(containers, &manifest).await.map_err(AskError::Refused)?;
        for blob in containers.images.lacks(container) {
            send(&mut sink, Request::Want { sha256: blob.sha256 }.encode()).await?;
            let read = |frame: &[u8]| match Answer::decode(frame) {
                Ok(Answer::Bytes(chunk)) => Ok(chunk),
                Ok(Answer::Refused { words }) => Err(words),
                Ok(_) => Err("it gave another than was asked for".into()),
                Err(error) => Err(error.to_string()),
            };
            let poured = pour(containers, blob, &mut stream, read).await;
            poured.map_err(|error| AskError::Refused(error.to_string()))?;
        }
        Ok(())
    }
}

/// Takes a blob from a stream to the disk.
async fn pour<St: Stream>(
    containers: &Containers,
    blob: Blob,
    stream: &mut St,
    read: impl Fn(&[u8]) -> Result<Vec<u8>, String>,
) -> Result<(), PourError> {
    let begun = Instant::now();
    let mut part = containers.images.begin(blob)?;
    let (mut piece, mut bytes) = (Vec::with_capacity(PIECE_BYTES), 0);
    while bytes < blob.bytes {
        let frame = tokio::time::timeout(FRAME_TIMEOUT, receive(stream, FRAME_BYTES_MAX)).await;
        let chunk = read(&frame.map_err(|_| PourError::Silent)??).map_err(PourError::Other)?;
        bytes += chunk.len() as u64;
        piece.extend_from_slice(&chunk);
        if piece.len() >= PIECE_BYTES || bytes >= blob.bytes {
            part = written(part, std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES))).await?;
        }
        if is_slow(begun, bytes) {
            return Err(PourError::Slow);
        }
    }
    let ended = tokio::task::spawn_blocking(move || part.end()).await;
    Ok(ended.map_err(|error| PourError::Other(error.to_string()))??)
}

async fn written(mut part: Part, piece: Vec<u8>) -> Result<Part, PourError> {
    let written = tokio::task::spawn_blocking(move || part.write(&piece).map(|()| part)).await;
    Ok(written.map_err(|error| PourError::Other(error.to_string()))??)
}

fn is_slow(begun: Instant, bytes: u64) -> bool {
    begun.elapsed() > BEGIN_TIMEOUT + Duration::from_secs(bytes / RATE_MIN)
}
