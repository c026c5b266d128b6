//! Read again what is stored, little by little, and tell what has rotted.
//!
//! Upon each turn: as many bytes as a second is worth are read and hashed, and the next turn waits until they
//! are paid off. How far it came, and what it found, is kept over restarts, so that a slow pass over a large disk ends some
//! day. What is lost goes into the node's log and the metrics, once; the store no longer claims it, so the window's proof
//! is missed honestly. Upon a file of the store that somebody removed: the same for all that was in it.

use super::{Provider, lock};
use crate::{
    home::{Home, replace},
    journal::now_ms,
    tasks::Task,
};
use commonware_runtime::Storage;
use hodei_storage::shard::{Mark, StoreError};
use hodei_types::{
    event::{Fields, Kind},
    slice::ShardId,
};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};
use tokio::{sync::watch, time::Instant};

/// Between two turns, if not more was read than a second is worth.
const TURN: Duration = Duration::from_secs(1);
/// How far it came is written down so often: as much is read twice after a crash.
const REMEMBER_EVERY: Duration = Duration::from_secs(60);

/// What reading again came to, over restarts; times in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Findings {
    /// Shards read again and hashed, some of them often, and their bytes.
    shards: u64,
    bytes: u64,
    /// Times it went through everything.
    passes: u64,
    /// Shards that were found to be rotten, or removed with their file.
    rotten: u64,
    /// When it began to count, read last, and found something last.
    since_ms: Option<u64>,
    last_ms: Option<u64>,
    rotten_ms: Option<u64>,
}

impl Findings {
    /// As they were written down last; what cannot be read begins anew.
    pub(super) fn read(home: &Home) -> Self {
        let text = std::fs::read(Self::file(home)).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn write(&self, home: &Home) {
        let text = serde_json::to_vec(self).expect("plain values");
        if let Err(error) = replace(&Self::file(home), &text, 0o600) {
            tracing::warn!(%error, "what the scrub found was not written");
        }
    }

    fn file(home: &Home) -> PathBuf {
        home.index().join("scrub.json")
    }

    fn found(&mut self, rotten: u64, now_ms: u64) {
        if rotten > 0 {
            (self.rotten, self.rotten_ms) = (self.rotten + rotten, Some(now_ms));
        }
    }
}

impl<E: Storage> Provider<E> {
    /// Scrubs until `stop`.
    pub(super) async fn scrub(self, task: Task, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.scrub_on(&task) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        self.keep_findings();
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
                        self.keep_findings();
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
        {
            let mut findings = lock(&self.0.findings);
            findings.shards += scrubbed.shards;
            findings.bytes += scrubbed.bytes;
            findings.passes += u64::from(scrubbed.next.is_none());
            if scrubbed.shards > 0 {
                let now_ms = now_ms();
                findings.since_ms.get_or_insert(now_ms);
                findings.last_ms = Some(now_ms);
            }
        }
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
        self.found_rotten(1);
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
        self.found_rotten(removed.shards);
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

    /// Written down at once: it is seldom, and is to be seen by whoever starts the node again.
    fn found_rotten(&self, shards: u64) {
        lock(&self.0.findings).found(shards, now_ms());
        self.keep_findings();
    }

    fn keep_findings(&self) {
        let findings = lock(&self.0.findings).clone();
        findings.write(&self.0.home);
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
