//! Store again, bit by bit, what is spread otherwise than its bucket wants.
//!
//! ```text
//! index → parts of another shape, or in deals that take nothing any more → read → sent under a new key and the
//!         bucket's shape, journalled → one swap names a batch of them → old shards released after the grace
//! ```
//! At every moment the index names parts that are whole: a killed pass leaves shards that nothing names, which the
//! next process of this identity releases, and the next pass goes on with what is still spread otherwise. Writers
//! are not held up; what they replace meanwhile stays theirs. Parts that several objects share are stored once. A pack
//! is stored again as it is, its members sealed. What else is under a customer's key cannot be opened here, and what a
//! link tells of must stay where it is, as must a key with a version under compliance, which its providers keep: these
//! keep their shape.

mod pace;
mod stretch;

use crate::{
    bucket::{OPEN, Record},
    change::{Change, Renewal},
    cloud::{Cloud, Runtime},
    fault::Fault,
    intent::{Cause, End, Journal},
    share,
    sweep::GRACE_MS,
    upload::{NO_PROGRESS, Slot},
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hodei_storage::{
    engine::{Coder, Fill, PutError, Wait},
    index::Part,
};
use hodei_types::{code::Shape, event::Kind, slice::ShardId, transport::Transport};
use pace::Pass;
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use stretch::{Old, batches, stretch};

/// Parts under way at once.
const AT_ONCE: usize = 8;
/// Pages looked through at once.
const LOOKED_AT: usize = 8;
/// Tries of one part while providers are busy, full until old shards are gone, or away; and the rest between them.
const TRIES: u32 = 12;
const REST: Duration = Duration::from_secs(10);
/// Times the index is looked through: what others put meanwhile under an older roster is found by the next.
const PASSES_MAX: usize = 8;

/// What a pass would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub parts: u64,
    /// Of user data: read, and stored again.
    pub bytes: u64,
    /// Sent to providers, parity included.
    pub sent_bytes: u64,
    /// Parts that keep their shape: under customers' keys, told of by links, or locked so that nobody can remove them.
    pub kept_parts: u64,
}

/// How it is done.
#[derive(Default)]
pub struct Options {
    /// Bytes of user data a second at most.
    pub rate: Option<u64>,
    /// Told how many bytes of user data are done.
    pub progress: Option<Box<dyn Fn(u64) + Send + Sync>>,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Recoded {
    pub parts: u64,
    pub bytes: u64,
    /// Swaps of the index.
    pub swaps: u64,
    pub kept_parts: u64,
    /// Parts stored with the quorum alone, since some provider did not take its shards in time.
    pub short_parts: u64,
    /// Why parts could not be stored again: they stay as they are.
    pub failures: Vec<String>,
}

/// The same part stored again: its journal, and shards that were offered for it and are not kept.
struct Again<E: Runtime> {
    old: Old,
    part: Arc<Part>,
    journal: Arc<Journal<E>>,
    strays: Vec<(u64, ShardId)>,
    is_short: bool,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// What storing a bucket's data in this shape would move.
    pub(crate) async fn work(&self, record: &Record, shape: &Shape) -> Result<Work, Fault> {
        let run = self.run(record).await?;
        let linked = share::linked(&run, self.now_ms());
        let (mut work, mut after) = (Work::default(), None);
        // Parts shared across stretches count in each: an estimate, which never is too low.
        loop {
            let found = stretch(&run, after.as_deref(), (&linked, self.now_ms()), shape, |part| part.shape != *shape);
            work.parts += found.olds.len() as u64;
            work.bytes += found.olds.iter().map(|old| old.part.size_bytes).sum::<u64>();
            work.kept_parts += found.kept;
            after = found.last;
            if after.is_none() {
                break;
            }
        }
        let sent = u128::from(work.bytes) * u128::from(shape.n()) / u128::from(shape.k());
        work.sent_bytes = u64::try_from(sent).unwrap_or(u64::MAX);
        Ok(work)
    }

    /// Stores again what is not spread as the bucket wants it, until nothing is left that can be. Run again after an
    /// interruption it goes on.
    pub async fn recode(&self, bucket: &str, options: Options) -> Result<Recoded, Fault> {
        self.store_again(bucket, options, None).await
    }

    /// The same of `these` parts alone, if they are told, however they are spread.
    pub(crate) async fn store_again(
        &self,
        bucket: &str,
        options: Options,
        these: Option<&BTreeSet<[u8; 16]>>,
    ) -> Result<Recoded, Fault> {
        let pass = Arc::new(Pass::new(options.rate, options.progress));
        let mut recoded = Recoded::default();
        let mut failed: BTreeSet<[u8; 16]> = BTreeSet::new();
        let mut drained = BTreeSet::new();
        for _ in 0..PASSES_MAX {
            let (before, mut after) = (recoded.parts, None::<String>);
            recoded.kept_parts = 0;
            loop {
                let record = self.live(bucket).await?;
                drained = self.drained(&record).await?;
                let run = self.run(&record).await?;
                let linked = share::linked(&run, self.now_ms());
                let is_due = |part: &Part| {
                    !failed.contains(&part.object)
                        && match these {
                            Some(these) => these.contains(&part.object),
                            None => part.shape != record.shape || !drained.is_empty(),
                        }
                };
                let found = stretch(&run, after.as_deref(), (&linked, self.now_ms()), &record.shape, is_due);
                recoded.kept_parts += found.kept;
                let due = match these {
                    Some(_) => found.olds,
                    None => self.due(&record, found.olds, &drained).await,
                };
                for batch in batches(due) {
                    self.batch(&record, batch, &pass, &mut recoded, &mut failed).await?;
                }
                after = found.last;
                if after.is_none() {
                    break;
                }
            }
            if recoded.parts == before {
                break;
            }
        }
        let record = self.live(bucket).await?;
        let known = self.known(&record).await?;
        let is_old = match these {
            Some(these) => known.layers.iter().any(|layer| these.contains(&layer.part.object)),
            None => !drained.is_empty() || known.layers.iter().any(|layer| layer.part.shape != record.shape),
        };
        if is_old {
            self.change(bucket, Some(Change::Rewrite)).await?;
            recoded.swaps += 1;
        }
        let (parts, bytes) = (recoded.parts, recoded.bytes);
        self.note(Kind::Deal, |fields| fields.text("what", "recoded").uint("parts", parts).uint("bytes", bytes)).await;
        Ok(recoded)
    }

    /// Waits until readers of the old shards had their grace, and lets go of these.
    pub async fn await_release(&self) -> Result<(), Fault> {
        let until = self.now_ms() + GRACE_MS;
        self.0.context.sleep(Duration::from_millis(GRACE_MS)).await;
        self.sweep(self.now_ms().max(until)).await;
        self.flush().await
    }

    /// Deals that take nothing any more.
    async fn drained(&self, record: &Record) -> Result<BTreeSet<u64>, Fault> {
        let states = self.0.buckets.states(record.id).await?;
        let drained = states.iter().filter(|deal| deal.state == OPEN && deal.capacityBytes == 0);
        Ok(drained.map(|deal| deal.id).collect())
    }

    /// Those of another shape, and those with a shard or a page in a deal that shall end.
    async fn due(&self, record: &Record, olds: Vec<Old>, drained: &BTreeSet<u64>) -> Vec<Old> {
        if drained.is_empty() {
            return olds;
        }
        let looked = stream::iter(olds).map(|old: Old| {
            let (cloud, record, drained) = (self.clone(), record.clone(), drained.clone());
            async move {
                let is_due = old.part.shape != record.shape
                    || match cloud.shards(&record, &old.part).await {
                        Ok(shards) => shards.iter().any(|(deal, _)| drained.contains(deal)),
                        // Reading it will tell why.
                        Err(_) => true,
                    };
                is_due.then_some(old)
            }
        });
        looked.buffer_unordered(LOOKED_AT).filter_map(|old| async move { old }).collect().await
    }

    /// Stores some parts again and names them in one swap.
    async fn batch(
        &self,
        record: &Record,
        olds: Vec<Old>,
        pass: &Arc<Pass>,
        recoded: &mut Recoded,
        failed: &mut BTreeSet<[u8; 16]>,
    ) -> Result<(), Fault> {
        let sent = stream::iter(olds).map(|old: Old| {
            let (cloud, record, pass) = (self.clone(), record.clone(), pass.clone());
            async move {
                let object = old.part.object;
                (object, cloud.again(&record, old, &pass).await)
            }
        });
        let sent: Vec<_> = sent.buffer_unordered(AT_ONCE).collect().await;
        let mut whole = Vec::new();
        for (object, result) in sent {
            match result {
                Ok(again) => whole.extend(again),
                Err(error) => {
                    failed.insert(object);
                    recoded.failures.push(error.to_string());
                }
            }
        }
        if whole.is_empty() {
            return Ok(());
        }
        let since_ms = self.now_ms();
        for again in &whole {
            again.journal.check()?;
            again.journal.end(End::Unknown { since_ms }).await;
        }
        let renewals = whole.iter().map(|again| Renewal {
            keys: again.old.keys.clone(),
            object: again.old.part.object,
            part: again.part.clone(),
        });
        let change = Change::Recode { renewals: renewals.collect() };
        let changed = self.change(&record.name, Some(change)).await;
        if let Err(error) = &changed
            && !error.is_final()
        {
            return Err(error.clone());
        }
        // What others replaced meanwhile is named by nothing: its journal says so, and the sweep releases it.
        let now = self.live(&record.name).await?;
        let run = self.run(&now).await?;
        let mut strays = Vec::new();
        for again in whole {
            if run.uses(&again.part.object).is_some() {
                recoded.parts += 1;
                recoded.bytes += again.part.size_bytes;
                recoded.short_parts += u64::from(again.is_short);
                again.journal.finish(&self.0.context).await;
                strays.extend(again.strays);
            } else {
                again.journal.end(End::Lost).await;
            }
        }
        recoded.swaps += u64::from(changed.is_ok());
        if !strays.is_empty() {
            let roster = self.roster(&now).await?;
            let released = self.0.engine.release(&roster, strays).await;
            self.owe(&released.acks);
        }
        Ok(())
    }

    /// Stores one part again, patiently; `None` if by now nothing names it.
    async fn again(&self, record: &Record, old: Old, pass: &Arc<Pass>) -> Result<Option<Again<E>>, Fault> {
        let mut tries = 0;
        loop {
            let error = match self.again_once(record, &old, pass).await {
                Ok(again) => return Ok(Some(again)),
                Err(error) => error,
            };
            let is_short = matches!(error, Fault::Put(PutError::Acks { .. }));
            let was_short = pass.is_short.load(Ordering::Relaxed);
            let may_help = error.is_temporary() || matches!(error, Fault::Put(PutError::Source(_)));
            tries += 1;
            let now = self.run(&self.live(&record.name).await?).await?;
            if now.uses(&old.part.object).is_none() {
                return Ok(None);
            }
            if !may_help || tries == TRIES {
                return Err(error);
            }
            tracing::warn!(%error, tries, "a part is not stored again yet");
            if is_short && !was_short {
                pass.is_short.store(true, Ordering::Relaxed);
                continue;
            }
            self.0.context.sleep(REST).await;
        }
    }

    async fn again_once(&self, record: &Record, old: &Old, pass: &Arc<Pass>) -> Result<Again<E>, Fault> {
        let (network, secret) = (self.0.network.0, self.secret(record.id));
        let part = &old.part;
        let key = part.key(&network, &record.id.0, &secret).map_err(|error| Fault::Index(error.to_string()))?;
        let holders = self.holders(record).await?;
        // A pack's members stay sealed.
        let coder = if part.is_pack() { Coder::of_pack(key, &part.shape) } else { Coder::new(key, &part.shape) };
        let range = 0..part.size_bytes;
        let request = self.request(&holders, (part.shape, coder), part.page().clone(), part.size_bytes, range);
        let body = self.0.engine.apart(pass.pool.clone()).get(request).await?.map_err(Fault::from);
        let (cloud, paced) = (self.clone(), pass.clone());
        let body = body.then(move |piece| {
            let bytes = piece.as_ref().map_or(0, |piece: &Bytes| piece.len() as u64);
            let (cloud, now) = (cloud.clone(), cloud.0.context.current());
            let until = paced.take(now, bytes);
            async move {
                if until > now {
                    cloud.0.context.sleep_until(until).await;
                }
                piece
            }
        });
        let is_short = pass.is_short.load(Ordering::Relaxed);
        let wait = if is_short { Wait::Quorum } else { Wait::Full };
        let journal = self.journal(Cause::Once, record, "").await?;
        // The owner gave the deals their room for it.
        let slot = Slot { record, number: part.number, wrapping: &secret, fill: Fill::Index };
        let (sent, kept) = self.send(slot, body.boxed(), wait, journal.telling(), NO_PROGRESS).await?;
        let strays = journal.part(&sent.part, &sent.acks, kept).await?;
        if (sent.part.size_bytes, sent.part.content) != (part.size_bytes, part.content) {
            let (expected, found) = (blake3::Hash::from(part.content), blake3::Hash::from(sent.part.content));
            return Err(Fault::Index(format!("a part was expected to hash to {expected}, it hashes to {found}")));
        }
        Ok(Again { old: old.clone(), part: Arc::new(sent.part), journal, strays, is_short })
    }
}
