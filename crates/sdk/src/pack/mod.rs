//! Pack small objects that are put at the same time, and write packs anew that are half empty.
//!
//! ```text
//! put   bytes → wait for the turn → sealed each on its own → one part → entries, one swap → answers
//! share             a member is moved to a pack of its own: a link outlives what its neighbours do
//! sweep             a pack below half → its live members, as they are sealed, to another → one swap → released
//! ```
//! Who puts alone has a part of his own, as ever. A put is answered when its pack has its quorum and was read back,
//! and the index that names it is the bucket's. A pack is released when no version names a member. What leaves is
//! told in a journal before, as for any part: upon a kill what no index names is let go of.

mod moved;

use crate::{
    bucket::Record,
    catalog::Waiting,
    change::{Change, Done},
    cloud::{Cloud, Runtime},
    complete::judge,
    customer,
    fault::Fault,
    intent::{Cause, End, Journal},
    upload::{NO_PROGRESS, Options, Put, Sent, Slot},
};
use bytes::Bytes;
use futures::{future::join_all, stream};
use hodei_storage::{
    engine::{Fill, Progress, Wait},
    index::{Home, Part},
    pack::{self, Packer},
    seal::{Algorithm, PartKey, Place, Secret, WRAPPED_BYTES},
};
use hodei_types::{
    ack::Ack,
    slice::ShardId,
    transport::{NodeKey, Transport},
};
use std::{convert::Infallible, sync::Arc};

/// Part number of an object's only part.
const FIRST: u32 = 1;

/// Bytes of an object that wait for the turn.
pub(crate) struct Small {
    bytes: Bytes,
    content: [u8; 32],
    /// Wraps the object's key.
    wrapping: Secret,
}

/// Where they went.
#[derive(Clone)]
pub(crate) struct Lodged {
    part: Part,
    acks: Vec<(NodeKey, Ack)>,
    /// Which of the turn's sendings it was.
    lodging: usize,
}

/// One sending of a turn: of an object alone, or of a pack.
pub(crate) struct Lodging<E: Runtime> {
    bucket: Record,
    journal: Arc<Journal<E>>,
    /// Offered for it and not kept there.
    strays: Vec<(u64, ShardId)>,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Stores an object of few bytes with others that wait.
    pub(crate) async fn put_short(
        &self,
        record: &Record,
        key: &str,
        bytes: Bytes,
        mut options: Options,
    ) -> Result<Put, Fault> {
        let content = *blake3::hash(&bytes).as_bytes();
        let judged = judge(options.finish.take(), content)?;
        let mark = options.customer.as_ref().map(|customer| self.mark(customer));
        let secret = self.secret(record.id);
        let wrapping = customer::wrapping(secret, mark.as_ref(), options.customer.as_ref(), key)?;
        let told = options.progress.take();
        let condition = std::mem::take(&mut options.condition);
        let mut entry = self.entry(judged, mark, options);
        entry.check_words().map_err(|error| Fault::Index(error.to_string()))?;
        let size_bytes = bytes.len() as u64;
        let change = Change::Put { key: key.into(), entry: Box::new(entry.clone()), condition, source: None };
        let small = Small { bytes, content, wrapping };
        let (done, lodged) = self.wait(&record.name, Some(change), Some(small)).await?;
        let Lodged { part, acks, .. } = lodged.ok_or(Fault::Contended)?;
        if let Some(told) = told {
            let shards_acked = acks.len() as u64;
            told(Progress { read_bytes: size_bytes, stored_bytes: size_bytes, shards_acked });
        }
        entry.parts = vec![part];
        entry.version = done.version;
        let event = self.record_put(record, &entry, &acks, &content, Vec::new()).await;
        Ok(Put { entry, versioning: done.versioning, event, acks, resumed_bytes: 0 })
    }

    /// Stores the small objects of those who wait. Who cannot be helped is told, and is not among those given back.
    pub(crate) async fn lodge(
        &self,
        bucket: &str,
        batch: Vec<Waiting>,
    ) -> (Vec<(Waiting, Option<Lodged>)>, Vec<Lodging<E>>) {
        let count = batch.iter().filter(|waiting| waiting.small.is_some()).count();
        let (mut smalls, mut ready) = (Vec::with_capacity(count), Vec::new());
        for mut waiting in batch {
            match waiting.small.take() {
                Some(small) => smalls.push((waiting, small)),
                None => ready.push((waiting, None)),
            }
        }
        if smalls.is_empty() {
            return (ready, Vec::new());
        }
        let lots = match self.live(bucket).await {
            Ok(record) if count == 1 => {
                let (waiting, small) = smalls.remove(0);
                let sent = self.send_alone(&record, &small).await;
                vec![(vec![waiting], sent.map(|(part, acks, lodging)| (vec![part], acks, lodging)))]
            }
            Ok(record) => join_all(self.seal(&record, smalls).into_iter().map(|lot| self.send_lot(&record, lot))).await,
            Err(error) => {
                vec![(smalls.into_iter().map(|(waiting, _)| waiting).collect(), Err(error))]
            }
        };
        let mut lodgings = Vec::new();
        for (members, sent) in lots {
            match sent {
                Err(error) => {
                    for waiting in members {
                        let _ = waiting.answer.send(Err(error.clone()));
                    }
                }
                Ok((parts, acks, lodging)) => {
                    for (mut waiting, part) in members.into_iter().zip(parts) {
                        if let Some((Change::Put { entry, .. }, _)) = &mut waiting.change {
                            entry.parts = vec![part.clone()];
                        }
                        let lodged = Lodged { part, acks: acks.clone(), lodging: lodgings.len() };
                        ready.push((waiting, Some(lodged)));
                    }
                    lodging.journal.end(End::Unknown { since_ms: self.now_ms() }).await;
                    lodgings.push(lodging);
                }
            }
        }
        (ready, lodgings)
    }

    /// Ends the journals of a turn's sendings, as what became of those who are in them says.
    pub(crate) async fn settle_in<'a>(
        &self,
        lodgings: Vec<Lodging<E>>,
        ends: impl Iterator<Item = (Option<&'a Lodged>, &'a Result<Done, Fault>)>,
    ) {
        let mut fates = vec![(false, false); lodgings.len()];
        for (lodged, result) in ends {
            let Some(lodged) = lodged else { continue };
            let (is_named, is_open) = &mut fates[lodged.lodging];
            *is_named |= result.is_ok();
            *is_open |= matches!(result, Err(error) if !error.is_final());
        }
        for (lodging, (is_named, is_open)) in lodgings.into_iter().zip(fates) {
            if is_named {
                lodging.journal.finish(&self.0.context).await;
                self.let_go(lodging);
            } else if !is_open {
                lodging.journal.end(End::Lost).await;
            }
        }
    }

    /// Releases what was offered where it is not kept, while others go on.
    fn let_go(&self, lodging: Lodging<E>) {
        if lodging.strays.is_empty() {
            return;
        }
        let cloud = self.clone();
        self.0.context.child("strays").spawn(move |_| async move {
            if let Ok(roster) = cloud.roster(&lodging.bucket).await {
                let acks = cloud.0.engine.release(&roster, lodging.strays).await.acks;
                cloud.owe(&acks);
            }
        });
    }

    async fn send_alone(
        &self,
        record: &Record,
        small: &Small,
    ) -> Result<(Part, Vec<(NodeKey, Ack)>, Lodging<E>), Fault> {
        let slot = Slot { record, number: FIRST, wrapping: &small.wrapping, fill: Fill::Data };
        let (sent, lodging) = self.send_bytes(slot, small.bytes.clone()).await?;
        Ok((sent.part, sent.acks, lodging))
    }

    async fn send_bytes(&self, slot: Slot<'_>, bytes: Bytes) -> Result<(Sent, Lodging<E>), Fault> {
        let record = slot.record;
        let journal = self.journal(Cause::Once, record, "").await?;
        let source = stream::iter([Ok::<_, Infallible>(bytes)]);
        let (sent, kept) = self.send(slot, source, Wait::Quorum, journal.telling(), NO_PROGRESS).await?;
        let strays = journal.part(&sent.part, &sent.acks, kept).await?;
        Ok((sent, Lodging { bucket: record.clone(), journal, strays }))
    }

    /// Seals each object on its own and cuts them into packs; a member's pack is not known yet.
    fn seal(&self, record: &Record, smalls: Vec<(Waiting, Small)>) -> Vec<Filled<(Waiting, Head)>> {
        fill(smalls.into_iter().map(|(waiting, small)| {
            let (object, secret) = (self.random(), Secret::new(self.random()));
            let (head, sealed) = small.seal((&self.0.network.0, &record.id.0), object, &secret);
            ((waiting, head), sealed)
        }))
    }

    async fn send_lot(
        &self,
        record: &Record,
        lot: Filled<(Waiting, Head)>,
    ) -> (Vec<Waiting>, Result<(Vec<Part>, Vec<(NodeKey, Ack)>, Lodging<E>), Fault>) {
        let sent = self.send_pack(record, lot.packer, Fill::Data).await;
        let places = lot.places.into_iter().map(|((waiting, head), offset)| (waiting, (head, offset)));
        let (waiting, heads): (Vec<_>, Vec<_>) = places.unzip();
        let sent = sent.map(|(pack, acks, lodging)| {
            let parts = heads.into_iter().map(|(head, offset)| head.part(&pack, offset)).collect();
            (parts, acks, lodging)
        });
        (waiting, sent)
    }

    async fn send_pack(
        &self,
        record: &Record,
        packer: Packer,
        fill: Fill,
    ) -> Result<(Arc<Part>, Vec<(NodeKey, Ack)>, Lodging<E>), Fault> {
        let secret = self.secret(record.id);
        let slot = Slot { record, number: pack::PART, wrapping: &secret, fill };
        let (sent, lodging) = self.send_bytes(slot, packer.finish().into()).await?;
        Ok((Arc::new(sent.part), sent.acks, lodging))
    }
}

/// One pack before it is sent, and where in it each member is.
struct Filled<M> {
    packer: Packer,
    places: Vec<(M, u64)>,
}

/// Fills packs with sealed members in the order in which they come.
fn fill<M, B: AsRef<[u8]>>(members: impl IntoIterator<Item = (M, B)>) -> Vec<Filled<M>> {
    let mut filled: Vec<Filled<M>> = Vec::new();
    for (member, sealed) in members {
        let sealed = sealed.as_ref();
        if !filled.last().is_some_and(|last| last.packer.has_room(sealed.len())) {
            filled.push(Filled { packer: Packer::default(), places: Vec::new() });
        }
        let last = filled.last_mut().expect("one was pushed");
        let offset = last.packer.add(sealed);
        last.places.push((member, offset));
    }
    filled
}

impl Small {
    /// A member whose place is not known yet, and the sealed bytes.
    fn seal(&self, (network, bucket): (&[u8; 32], &[u8; 32]), object: [u8; 16], secret: &Secret) -> (Head, Vec<u8>) {
        let algorithm = Algorithm::preferred();
        let place = Place { network: *network, bucket: *bucket, object, part: FIRST, attempt: 0, algorithm };
        let key = PartKey::new(secret, &place);
        let head = Head {
            object,
            wrapped: self.wrapping.wrap(&object, secret),
            algorithm,
            commitment: *key.commitment(),
            size_bytes: self.bytes.len() as u64,
            content: self.content,
        };
        (head, pack::seal(&key, &self.bytes))
    }
}

/// A part, but for its place.
struct Head {
    object: [u8; 16],
    wrapped: [u8; WRAPPED_BYTES],
    algorithm: Algorithm,
    commitment: [u8; 32],
    size_bytes: u64,
    content: [u8; 32],
}

impl Head {
    fn part(self, pack: &Arc<Part>, offset: u64) -> Part {
        let Self { object, wrapped, algorithm, commitment, size_bytes, content } = self;
        let (shape, home) = (pack.shape, Home::Pack { pack: pack.clone(), offset });
        Part { number: FIRST, object, wrapped, algorithm, commitment, size_bytes, content, shape, home }
    }
}

#[cfg(test)]
mod tests;
