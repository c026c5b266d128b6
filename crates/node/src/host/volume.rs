//! Give an owner what is on his container's volumes, and take what is to be on them.
//!
//! ```text
//! owner ═ Snapshot ═► host      ◄═ Connected, Bytes… (the listing), End ═   then, as often as it is wanted:
//!       ═ Want ═►               ◄═ Bytes… (a piece) ═
//! owner ═ Fill, born ═► host    ◄═ Connected, Given | Refused ═
//! owner ═ Fill ═► host          ◄═ Connected ═   ═ Bytes… (the listing), End, Bytes… (each piece, in its order) ═►
//!                               ◄═ Given | Refused ═   (at once, where there is something on it: it stays as it is)
//! ```
//! A container with volumes is not made before its owner said what is on them: whoever began with an empty disk because
//! nobody was there would be a second one beside that which was lost. Listings and pieces are a stranger's: none is larger
//! than the volume, and each piece is what its hash says.

use super::{
    Host,
    contain::Containers,
    replica::{BUSY_MS, Replica, give},
    runtime::{RuntimeError, Taken},
    serve::refused,
};
use commonware_runtime::{Sink, Storage, Stream};
use hodei_ledger::wire::receive;
use hodei_types::{
    app::{
        container::Container,
        volume::{TREE_BYTES_MAX, Tree, Volume},
        wire::{Answer, CHUNK_BYTES_MAX, FRAME_BYTES_MAX, Request, State, Way},
    },
    event::{Fields, Kind},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// So long may an answer take to be accepted, and a frame to come.
const FRAME_TIMEOUT: Duration = Duration::from_secs(60);
/// What its owner reads while nobody said what is on them.
const NEEDED: &str = "what is on its volumes is given by who deployed it: run `hodei app keep` or `hodei app serve`";
/// Whether something was said is looked at so often, besides being told.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl<E: Storage> Host<E> {
    /// Waits until it was said what is on each volume; nothing where its lease ended meanwhile.
    pub(super) async fn filled(
        &self,
        containers: &Containers,
        replica: &Replica,
        container: &Container,
    ) -> Result<Option<()>, RuntimeError> {
        let id = containers.id(replica.lease);
        loop {
            let mut lacks = Vec::new();
            for volume in &container.volumes {
                if !containers.runtime.is_volume_known(&id, &volume.name)? {
                    lacks.push(volume.name.as_str());
                }
            }
            if lacks.is_empty() {
                return Ok(Some(()));
            }
            // What is filled now is taken away with its lease, whenever that ends.
            containers.place(replica.lease).map_err(|error| RuntimeError::Later(error.to_string()))?;
            replica.tell(State::Restoring, format!("{}: {NEEDED}", lacks.join(", ")));
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = replica.wake.notified() => {}
                () = replica.ended() => return Ok(None),
            }
        }
    }

    /// Serves one that takes or fills a volume, to the end of its stream.
    pub(super) async fn volume<Si: Sink, St: Stream>(
        &self,
        replica: &Arc<Replica>,
        way: Way,
        mut sink: Si,
        mut stream: St,
    ) {
        let until = || Instant::now() + FRAME_TIMEOUT;
        let Some(_turn) = replica.contained.volume() else {
            give(&mut sink, &Answer::Busy { retry_after_ms: BUSY_MS }, until()).await;
            return;
        };
        let (name, is_filled) = match &way {
            Way::Fill { volume, .. } => (volume, true),
            Way::Snapshot { volume, .. } => (volume, false),
            _ => return,
        };
        let manifest = replica.manifest();
        let volumes = manifest.as_ref().and_then(|manifest| manifest.container()).map(|container| &container.volumes);
        let volume = volumes.and_then(|volumes| volumes.iter().find(|volume| volume.name == *name)).cloned();
        let Some(volume) = volume else {
            give(&mut sink, &refused(format!("it has no volume {name:?}")), until()).await;
            return;
        };
        if !give(&mut sink, &Answer::Connected, until()).await {
            return;
        }
        let answer = tokio::select! {
            answer = self.carry_volume(replica, &volume, way, &mut sink, &mut stream) => answer,
            () = replica.ended() => Some(Answer::Gone),
        };
        if let Some(answer) = answer {
            if answer == Answer::Given && is_filled {
                let fields = Fields::new().text("what", "volume filled").uint("lease", replica.lease);
                self.note(Kind::Lease, fields.text("volume", &volume.name)).await;
            }
            give(&mut sink, &answer, until()).await;
        }
    }

    /// What is to be answered in the end, if anything is.
    async fn carry_volume<Si: Sink, St: Stream>(
        &self,
        replica: &Arc<Replica>,
        volume: &Volume,
        way: Way,
        sink: &mut Si,
        stream: &mut St,
    ) -> Option<Answer> {
        let containers = self.0.containers.as_ref()?;
        match way {
            Way::Snapshot { since, .. } => {
                let Some(running) = replica.contained.running() else { return Some(replica.not_ready()) };
                match running.snapshot(volume.clone(), since).await {
                    Ok(taken) => give_taken(replica, taken.into(), sink, stream).await,
                    Err(error) => Some(refused(error)),
                }
            }
            Way::Fill { is_born: false, .. }
                if containers
                    .runtime
                    .is_volume_known(&containers.id(replica.lease), &volume.name)
                    .is_ok_and(|is_known| is_known) =>
            {
                Some(Answer::Given)
            }
            Way::Fill { is_born: true, .. } => {
                let born = containers.runtime.bear_volume(&containers.id(replica.lease), &volume.name);
                replica.wake.notify_one();
                Some(born.map_or_else(refused, |()| Answer::Given))
            }
            _ => {
                let filled = self.fill(containers, replica, volume, stream).await;
                replica.wake.notify_one();
                Some(filled.map_or_else(refused, |()| Answer::Given))
            }
        }
    }

    async fn fill<St: Stream>(
        &self,
        containers: &Containers,
        replica: &Replica,
        volume: &Volume,
        stream: &mut St,
    ) -> Result<(), String> {
        let mut listing = Vec::new();
        while let Some(bytes) = more(replica, stream).await? {
            if listing.len() + bytes.len() > TREE_BYTES_MAX {
                return Err(format!("a listing of more than {TREE_BYTES_MAX} bytes"));
            }
            listing.extend_from_slice(&bytes);
        }
        let tree = Tree::decode(&listing, volume.bytes).map_err(|error| error.to_string())?;
        drop(listing);
        let (wanted, id) = (tree.pieces(), containers.id(replica.lease));
        let filling = containers.runtime.fill_volume(&id, volume.clone(), tree);
        let mut filling = filling.map_err(|error| error.to_string())?;
        for (hash, length) in wanted {
            let mut piece = Vec::with_capacity(length);
            while piece.len() < length {
                let bytes = more(replica, stream).await?.ok_or("it ends before its last piece")?;
                if piece.len() + bytes.len() > length {
                    return Err("a piece is longer than its listing says".into());
                }
                piece.extend_from_slice(&bytes);
            }
            let put = tokio::task::spawn_blocking(move || {
                filling.put(hash, &piece)?;
                Ok::<_, std::io::Error>(filling)
            });
            filling = put.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        }
        let done = tokio::task::spawn_blocking(move || filling.finish()).await;
        done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

/// The next bytes that come; none at their end.
async fn more<St: Stream>(replica: &Replica, stream: &mut St) -> Result<Option<Vec<u8>>, String> {
    let frame = tokio::time::timeout(FRAME_TIMEOUT, receive(stream, FRAME_BYTES_MAX)).await;
    let frame = frame.map_err(|_| "nothing came for a minute".to_owned())?.map_err(|error| error.to_string())?;
    match Request::decode(&frame).map_err(|error| error.to_string())? {
        Request::Bytes(bytes) => {
            replica.count_bytes(bytes.len() as u64, 0, 0);
            Ok(Some(bytes))
        }
        Request::End => Ok(None),
        _ => Err("something else than what is to be on a volume".into()),
    }
}

/// Gives the listing, and each piece that is wanted, until nobody wants more; what is to be answered, if anything is.
async fn give_taken<Si: Sink, St: Stream>(
    replica: &Replica,
    taken: Arc<dyn Taken>,
    sink: &mut Si,
    stream: &mut St,
) -> Option<Answer> {
    let of = taken.clone();
    let listing = match tokio::task::spawn_blocking(move || of.tree().encode()).await {
        Ok(listing) => listing,
        Err(error) => return Some(refused(error)),
    };
    if listing.len() > TREE_BYTES_MAX {
        return Some(refused(format!("its listing takes {} bytes; {TREE_BYTES_MAX} may be", listing.len())));
    }
    if !say(replica, sink, &listing).await || !give(sink, &Answer::End, Instant::now() + FRAME_TIMEOUT).await {
        return None;
    }
    loop {
        let frame = tokio::time::timeout(FRAME_TIMEOUT, receive(stream, FRAME_BYTES_MAX)).await;
        let Ok(Ok(frame)) = frame else { return None };
        let hash = match Request::decode(&frame) {
            Ok(Request::Want { sha256 }) => sha256,
            Ok(Request::End) => return Some(Answer::Given),
            _ => return Some(refused("something else than which piece is wanted")),
        };
        let of = taken.clone();
        let piece = match tokio::task::spawn_blocking(move || of.piece(&hash)).await {
            Ok(Ok(piece)) => piece,
            Ok(Err(error)) => return Some(refused(error)),
            Err(error) => return Some(refused(error)),
        };
        if !say(replica, sink, &piece).await {
            return None;
        }
    }
}

async fn say<Si: Sink>(replica: &Replica, sink: &mut Si, bytes: &[u8]) -> bool {
    for chunk in bytes.chunks(CHUNK_BYTES_MAX) {
        if !give(sink, &Answer::Bytes(chunk.to_vec()), Instant::now() + FRAME_TIMEOUT).await {
            return false;
        }
        replica.count_bytes(0, chunk.len() as u64, 0);
    }
    true
}
