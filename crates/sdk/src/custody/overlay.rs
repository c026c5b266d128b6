//! Read where custodians put what they restored, and say where more of it is.

use crate::{
    bucket::Record,
    cloud::{Cloud, Runtime},
    fault::Fault,
    read::Holders,
};
use alloy_primitives::B256;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use hodei_storage::{
    engine::{GetError, Patience, Provider},
    overlay::{Overlay, SHEET_BYTES_MAX, SHEETS_MAX, Sheet},
};
use hodei_types::{slice::ShardId, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

/// Tries to say more beside other custodians.
const LAY_TRIES: usize = 4;

/// Sheets are asked for at once, where it is not one that names the next.
const AT_ONCE: usize = 8;
/// A sheet that could not be read is tried again so long after.
const REST: Duration = Duration::from_secs(10);

/// Overlays read lately, by bucket.
#[derive(Default)]
pub(crate) struct Overlays(Mutex<BTreeMap<B256, Known>>);

/// What was read of an overlay.
struct Known {
    /// The newest sheet.
    id: B256,
    overlay: Arc<Overlay>,
    /// Where it could not be read on.
    gap: Option<Gap>,
}

/// A sheet that could not be read, though somebody may have it.
#[derive(Clone, Copy)]
struct Gap {
    id: ShardId,
    /// Sheets read before it.
    sheets: usize,
    /// When it is tried again.
    again: SystemTime,
}

impl Overlays {
    /// What was read of an overlay, and the sheet from which it is to be read now, after so many.
    fn known(&self, bucket: B256, id: B256, now: SystemTime) -> (Arc<Overlay>, Option<(ShardId, usize)>) {
        let mut all = self.0.lock().expect("no panic under this lock");
        let Some(known) = all.get_mut(&bucket).filter(|known| known.id == id) else {
            return (Arc::default(), Some((ShardId(id.0), 0)));
        };
        let due = known.gap.as_mut().filter(|gap| gap.again <= now);
        let from = due.map(|gap| {
            // Who asks meanwhile goes on with what is known.
            gap.again = now + REST;
            (gap.id, gap.sheets)
        });
        (known.overlay.clone(), from)
    }

    fn keep(&self, bucket: B256, known: Known) {
        self.0.lock().expect("no panic under this lock").insert(bucket, known);
    }
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Where custodians put shards of a bucket. One that cannot be read hides only what they restored, and what sheets
    /// before it say.
    pub(crate) async fn overlay(&self, bucket: B256, id: B256, roster: &[Provider]) -> Arc<Overlay> {
        if id == B256::ZERO {
            return Arc::default();
        }
        let (mut overlay, from) = self.0.overlays.known(bucket, id, self.0.context.current());
        let Some((first, mut sheets)) = from else { return overlay };
        let (mut next, mut gap) = (Some(first), None);
        while let Some(at) = next.take().filter(|_| sheets < SHEETS_MAX) {
            match self.sheet(roster, at).await {
                Ok(Some(sheet)) => {
                    sheets += 1;
                    next = Arc::make_mut(&mut overlay).take(sheet);
                }
                // Nobody has it any more: what it told of is found to be lost, and restored again.
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%bucket, %error, "what custodians restored is not all known");
                    gap = Some(Gap { id: at, sheets, again: self.0.context.current() + REST });
                }
            }
        }
        self.0.overlays.keep(bucket, Known { id, overlay: overlay.clone(), gap });
        overlay
    }

    /// One sheet, from whoever of the bucket's providers has it; `None` if all say that they have not.
    async fn sheet(&self, roster: &[Provider], id: ShardId) -> Result<Option<Sheet>, Fault> {
        let bytes = match self.0.engine.size_of(roster, id).await {
            Ok(bytes) if bytes <= SHEET_BYTES_MAX => bytes,
            Ok(bytes) => return Err(Fault::Index(format!("a sheet of {bytes} bytes"))),
            Err(GetError::Gone { gone, asked, .. }) if gone == asked => return Ok(None),
            Err(error) => return Err(Fault::Index(format!("sheet {id} cannot be read: {error}"))),
        };
        let shard = self.0.engine.get_copy(roster, id, bytes, |verdict| self.blame(verdict)).await?;
        Sheet::open(&id, &shard).map(Some).map_err(|error| Fault::Index(error.to_string()))
    }

    /// Copies of sheets that others replaced, by deal. A custodian names them, who may name anything: what is no sheet is
    /// not among them.
    pub(crate) async fn stale_sheets(&self, holders: &Holders) -> Vec<(u64, ShardId)> {
        let Holders { roster, overlay, .. } = holders;
        let asked = overlay.stale().iter();
        let asked = asked.flat_map(|id| roster.iter().map(|provider| (provider.deal, *id))).collect::<Vec<_>>();
        if asked.is_empty() {
            return asked;
        }
        let there = self.0.engine.inventory(roster, asked).await.there;
        let ids = there.iter().map(|(_, id)| *id).collect::<BTreeSet<_>>();
        let asked = ids.into_iter().map(|id| async move {
            let is_sheet = matches!(self.sheet(roster, id).await, Ok(Some(_)));
            is_sheet.then_some(id)
        });
        let asked = stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        let sheets: BTreeSet<ShardId> = asked.filter_map(|id| async move { id }).collect().await;
        there.into_iter().filter(|(_, id)| sheets.contains(id)).collect()
    }

    /// Brings copies of sheets to others where who takes shards has too few of one.
    pub(crate) async fn copy_sheets(&self, record: &Record) -> Result<(), Fault> {
        let (roster, takers) = (self.roster(record).await?, self.takers(record).await?);
        let (mut next, mut sheets) = (Some(record.state.overlay).filter(|id| *id != B256::ZERO), 0);
        while let Some(id) = next.take().map(|id| ShardId(id.0)).filter(|_| sheets < SHEETS_MAX) {
            sheets += 1;
            let Some(sheet) = self.sheet(&roster, id).await? else { break };
            let asked = takers.iter().map(|provider| (provider.deal, id));
            let there = self.0.engine.inventory(&takers, asked.collect()).await.there;
            let lacking = record.shape.page_copies().min(takers.len()).saturating_sub(there.len());
            let others = (0..takers.len()).filter(|at| !there.contains(&(takers[*at].deal, id)));
            let shard = Bytes::from(sheet.seal().0);
            let mut made = 0;
            for at in others {
                if made == lacking {
                    break;
                }
                let place = (takers.clone(), at);
                match self.0.engine.copy_to(record.shape, place, self.random(), shard.clone(), Patience::Moment).await {
                    Ok(held) => {
                        self.owe(&[(held.ack.statement.deal, held.ack)].into());
                        made += 1;
                    }
                    Err(error) => tracing::warn!(%error, "a sheet of an overlay is not copied"),
                }
            }
            next = sheet.before.map(|id| B256::from(id.0));
        }
        Ok(())
    }

    /// Says of these, at most as many as a sheet takes, where they are now, beside what others say.
    pub(crate) async fn lay(&self, record: &Record, pairs: &[(ShardId, u64)]) -> Result<(), Fault> {
        let roster = self.roster(record).await?;
        for _ in 0..LAY_TRIES {
            let now = self.0.buckets.read(record.id).await?.ok_or_else(|| Fault::NoBucket(record.id.to_string()))?;
            let before = now.state.overlay;
            let id = ShardId(before.0);
            let known = if before == B256::ZERO { None } else { self.sheet(&roster, id).await? };
            let alone = || Sheet { pairs: pairs.to_vec(), ..Sheet::default() };
            let sheet = known.map_or_else(alone, |known| known.with(id, pairs));
            let (shard, id) = sheet.seal();
            let takers = self.takers(record).await?;
            let (_, acks) = self.0.engine.put_copies(record.shape, takers, self.random(), shard, Arc::new(())).await?;
            self.owe(&acks);
            if self.0.buckets.lay(record.id, before, B256::from(id.0)).await? {
                return Ok(());
            }
        }
        Err(Fault::Contended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_overlay_only_the_sheet_that_could_not_be_read_is_tried_again_and_after_a_rest() {
        let (all, bucket, id) = (Overlays::default(), B256::repeat_byte(1), B256::repeat_byte(2));
        let (start, missing) = (SystemTime::UNIX_EPOCH, ShardId([3; 32]));
        assert_eq!(all.known(bucket, id, start).1, Some((ShardId(id.0), 0)), "nothing is known yet");
        let mut overlay = Overlay::default();
        overlay.add(ShardId([4; 32]), 7);
        let overlay = Arc::new(overlay);
        let gap = Some(Gap { id: missing, sheets: 5, again: start + REST });
        all.keep(bucket, Known { id, overlay: overlay.clone(), gap });
        let known = |now| all.known(bucket, id, now);
        assert_eq!(known(start + REST / 2), (overlay.clone(), None));
        assert_eq!(known(start + REST), (overlay.clone(), Some((missing, 5))));
        assert_eq!(known(start + REST), (overlay.clone(), None), "it is being tried");
        assert_eq!(known(start + REST * 2), (overlay.clone(), Some((missing, 5))));
        // What was written since is another overlay.
        let newer = B256::repeat_byte(5);
        assert_eq!(all.known(bucket, newer, start + REST).1, Some((ShardId(newer.0), 0)));
        all.keep(bucket, Known { id, overlay: overlay.clone(), gap: None });
        assert_eq!(known(start + REST * 9), (overlay.clone(), None));
    }
}
