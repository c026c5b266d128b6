//! Take what is on a volume from its host, and give a host what is to be on one.

use super::stored::{Fetched, Packing};
use crate::app::host::{HostError, hear, within};
use commonware_runtime::{Sink, Stream};
use hodei_ledger::wire::send;
use hodei_types::app::{
    volume::{TREE_BYTES_MAX, Tree},
    wire::{Answer, CHUNK_BYTES_MAX, Request},
};
use std::{collections::BTreeSet, time::Duration};

/// All of the largest volume is read before its listing is there.
const LIST_TIMEOUT: Duration = Duration::from_secs(900);
/// Between two frames.
const FRAME_TIMEOUT: Duration = Duration::from_secs(60);

/// Takes a listing, and those of its pieces that are not among `has`; told is how many bytes of how many came.
pub(super) async fn take<Si: Sink, St: Stream>(
    (sink, stream): (&mut Si, &mut St),
    bytes_max: u64,
    has: &BTreeSet<[u8; 32]>,
    packing: &mut Packing,
    mut tell: impl FnMut(u64, u64),
) -> Result<Tree, HostError> {
    let mut listing = Vec::new();
    loop {
        match within(LIST_TIMEOUT, hear(stream)).await? {
            Answer::Bytes(bytes) if listing.len() + bytes.len() <= TREE_BYTES_MAX => listing.extend_from_slice(&bytes),
            Answer::End => break,
            answer => return Err(HostError::of(answer)),
        }
    }
    let tree = Tree::decode(&listing, bytes_max)?;
    drop(listing);
    let wanted: Vec<_> = tree.pieces().into_iter().filter(|(hash, _)| !has.contains(hash)).collect();
    let all = wanted.iter().map(|(_, bytes)| *bytes as u64).sum();
    let mut came = 0;
    for (sha256, length) in wanted {
        within(FRAME_TIMEOUT, async { Ok(send(sink, Request::Want { sha256 }.encode()).await?) }).await?;
        let mut piece = Vec::with_capacity(length);
        while piece.len() < length {
            match within(FRAME_TIMEOUT, hear(stream)).await? {
                Answer::Bytes(bytes) if piece.len() + bytes.len() <= length => piece.extend_from_slice(&bytes),
                answer => return Err(HostError::of(answer)),
            }
        }
        packing.put(sha256, &piece).map_err(HostError::Snapshot)?;
        came += length as u64;
        tell(came, all);
    }
    // Its host may let go of what it held for this.
    within(FRAME_TIMEOUT, async { Ok(send(sink, Request::End.encode()).await?) }).await?;
    Ok(tree)
}

/// Gives a listing and all of its pieces; done when they are laid down.
pub(super) async fn fill<Si: Sink, St: Stream>(
    (sink, stream): (&mut Si, &mut St),
    tree: &Tree,
    pieces: &Fetched,
    mut tell: impl FnMut(u64, u64),
) -> Result<(), HostError> {
    let all = tree.pieces();
    let bytes = all.iter().map(|(_, bytes)| *bytes as u64).sum();
    let sent = async {
        for chunk in tree.encode().chunks(CHUNK_BYTES_MAX) {
            say(sink, Request::Bytes(chunk.to_vec())).await?;
        }
        say(sink, Request::End).await?;
        let mut gone = 0;
        for (hash, length) in &all {
            let piece = pieces.piece(hash).map_err(HostError::Snapshot)?;
            for chunk in piece.chunks(CHUNK_BYTES_MAX) {
                say(sink, Request::Bytes(chunk.to_vec())).await?;
            }
            gone += *length as u64;
            tell(gone, bytes);
        }
        Ok::<_, HostError>(())
    };
    // Who has it already, or refuses, may answer before the last byte was sent.
    let mut answer = std::pin::pin!(hear(stream));
    let early = tokio::select! {
        biased;
        answer = &mut answer => Some(answer),
        sent = sent => match sent {
            Ok(()) => None,
            // Why is told, where it was.
            Err(error) => Some(within(FRAME_TIMEOUT, &mut answer).await.map_err(|_| error)),
        },
    };
    let answer = match early {
        Some(answer) => answer?,
        None => within(LIST_TIMEOUT, answer).await?,
    };
    match answer {
        Answer::Given => Ok(()),
        answer => Err(HostError::of(answer)),
    }
}

/// Hears that a volume begins with what its image has.
pub(super) async fn born<St: Stream>(stream: &mut St) -> Result<(), HostError> {
    match within(FRAME_TIMEOUT, hear(stream)).await? {
        Answer::Given => Ok(()),
        answer => Err(HostError::of(answer)),
    }
}

async fn say<Si: Sink>(sink: &mut Si, frame: Request) -> Result<(), HostError> {
    within(FRAME_TIMEOUT, async { Ok(send(sink, frame.encode()).await?) }).await
}
