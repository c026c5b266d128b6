//! Read where custodians put what they restored, and say where more of it is.

use crate::{
    bucket::Record,
    cloud::{Cloud, Runtime},
    fault::Fault,
    read::Holders,
};
use alloy_primitives::B256;
use bytes::Bytes;
use hodei_storage::{
    engine::{GetError, Patience, Provider},
    overlay::{Overlay, SHEET_BYTES_MAX, SHEETS_MAX, Sheet},
};
use hodei_types::{slice::ShardId, transport::Transport};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

/// Tries to say more beside other custodians.
const LAY_TRIES: usize = 4;

/// Overlays read lately, by bucket: the id they had, and what they say.
#[derive(Default)]
pub(crate) struct Overlays(Mutex<BTreeMap<B256, (B256, Arc<Overlay>)>>);

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Where custodians put shards of a bucket. One that cannot be read hides only what they restored.
    pub(crate) async fn overlay(&self, bucket: B256, id: B256, roster: &[Provider]) -> Arc<Overlay> {
        if id == B256::ZERO {
            return Arc::default();
        }
        let known = self.0.overlays.0.lock().expect("no panic under this lock").get(&bucket).cloned();
        if let Some((known, overlay)) = known
            && known == id
        {
            return overlay;
        }
        let (mut overlay, mut next, mut sheets) = (Overlay::default(), Some(ShardId(id.0)), 0);
        while let Some(id) = next.take().filter(|_| sheets < SHEETS_MAX) {
            sheets += 1;
            match self.sheet(roster, id).await {
                Ok(Some(sheet)) => next = overlay.take(sheet),
                // Nobody has it any more: what it told of is found to be lost, and restored again.
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%bucket, %error, "what custodians restored is not all known");
                    return Arc::new(overlay);
                }
            }
        }
        let overlay = Arc::new(overlay);
        self.0.overlays.0.lock().expect("no panic under this lock").insert(bucket, (id, overlay.clone()));
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
        let mut sheets = BTreeSet::new();
        for id in there.iter().map(|(_, id)| *id).collect::<BTreeSet<_>>() {
            if matches!(self.sheet(roster, id).await, Ok(Some(_))) {
                sheets.insert(id);
            }
        }
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
