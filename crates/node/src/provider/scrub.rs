//! Read again what is stored, little by little, and tell what has rotted.
//!
//! Upon each turn: as many bytes as a second is worth are read and hashed, and the next turn waits until they
//! are paid off. How far it came is kept over restarts, so that a slow pass over a large disk ends some day. What
//! is lost goes into the node's log and the metrics, once; the store no longer claims it, so the window's proof
//! is missed honestly. Upon a file of the store that somebody removed: the same for all that was in it.

use super::Provider;
use crate::{home::replace, tasks::Task};
use commonware_runtime::Storage;
use hodei_storage::shard::{Mark, StoreError};
use hodei_types::{
    event::{Fields, Kind},
    slice::ShardId,
};
use std::{path::PathBuf, time::Duration};
use tokio::{sync::watch, time::Instant};

/// Between two turns, if not more was read than a second is worth.
const TURN: Duration = Duration::from_secs(1);
/// How far it came is written down so often: as much is read twice after a crash.
const REMEMBER_EVERY: Duration = Duration::from_secs(60);

impl<E: Storage> Provider<E> {
    /// Scrubs until `stop`.
    pub(super) async fn scrub(self, task: Task, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.scrub_on(&task) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn scrub_on(&self, task: &Task) {
        let rate = self.0.config.scrub_bytes_per_s;
        let mut mark = self.scrub_mark();
        let mut written = Instant::now();
        let mut wait = TURN;
        loop {
            tokio::time::sleep(wait + task.delay().unwrap_or_default()).await;
            wait = TURN;
            // Paused or switched off, files that are gone are noticed all the same.
            self.notice_removed().await;
            if task.delay().is_none() || rate == 0 {
                task.doing("switched off");
                continue;
            }
            match self.scrub_once(mark.as_ref(), rate).await {
                Ok((next, bytes)) => {
                    wait = TURN.max(Duration::from_secs_f64(bytes as f64 / rate as f64));
                    let (lost, _) = self.store().lost();
                    task.doing(match &next {
                        Some(_) => format!("reading {rate} bytes a second; {lost} shards are lost"),
                        None => format!("went through everything; {lost} shards are lost"),
                    });
                    mark = next;
                    task.passed();
                    if written.elapsed() >= REMEMBER_EVERY {
                        written = Instant::now();
                        self.keep_scrub_mark(mark.as_ref());
                    }
                }
                Err(error) => task.failed(&error),
            }
        }
    }

    /// One turn; gives where the next begins, `None` for the first shard, and the bytes read.
    pub async fn scrub_once(&self, mark: Option<&Mark>, bytes_max: u64) -> Result<(Option<Mark>, u64), StoreError> {
        let scrubbed = self.store().scrub(mark, bytes_max).await?;
        self.meters().scrubbed_shards.inc_by(scrubbed.shards);
        self.meters().scrubbed_bytes.inc_by(scrubbed.bytes);
        for lost in &scrubbed.lost {
            self.tell_lost(lost.deal, lost.id).await;
        }
        if scrubbed.next.is_none() {
            self.meters().scrub_passes.inc();
        }
        Ok((scrubbed.next, scrubbed.bytes))
    }

    /// Into the log and the metrics: the store holds this shard no more.
    pub(super) async fn tell_lost(&self, deal: u64, id: ShardId) {
        self.meters().rotten_shards.inc();
        let event = Fields::new().text("verdict", "lost").uint("deal", deal).bytes("shard", &id.0);
        if let Err(error) = self.journal().note(Kind::Fault, event).await {
            tracing::error!(%error, "a lost shard is not in the log");
        }
    }

    /// Files of the store that somebody removed: into the log, with all that was in them.
    pub(super) async fn notice_removed(&self) {
        let removed = match self.store().notice_removed().await {
            Ok(removed) if removed.segments.is_empty() => return,
            Ok(removed) => removed,
            Err(error) => return tracing::error!(%error, "the store's files could not be looked at"),
        };
        self.meters().rotten_shards.inc_by(removed.shards);
        let event = Fields::new()
            .text("verdict", "removed")
            .uint("segments", removed.segments.len() as u64)
            .uint("shards", removed.shards)
            .uint("bytes", removed.bytes)
            .uint("deals", removed.deals.len() as u64);
        if let Err(error) = self.journal().note(Kind::Fault, event).await {
            tracing::error!(%error, "removed files are not in the log");
        }
    }

    fn scrub_file(&self) -> PathBuf {
        self.0.home.index().join("scrub.mark")
    }

    fn scrub_mark(&self) -> Option<Mark> {
        std::fs::read(self.scrub_file()).ok().filter(|mark| !mark.is_empty()).map(Mark)
    }

    fn keep_scrub_mark(&self, mark: Option<&Mark>) {
        let bytes = mark.map_or(&[][..], |mark| &mark.0);
        // Lost, it only means that a pass begins anew.
        if let Err(error) = replace(&self.scrub_file(), bytes, 0o600) {
            tracing::warn!(%error, "how far the scrub came was not written");
        }
    }
}
