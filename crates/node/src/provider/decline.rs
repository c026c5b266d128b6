//! Refuse shards that this machine's operator was told of.
//!
//! ```text
//! `hodei node decline` ─► an order in the node's folder ─► log ─► store: refused, released ─► signed word to who asks
//! ```
//! Upon an order: what it names goes into the log, signed, before the store refuses it, so that nothing is refused in
//! silence; after a crash in between the order is still there and is carried out again. An order that says something
//! impossible is put aside with the reason; where the ledger, the log or the disk is what fails, it waits for another try.
//! What waited while no node ran is tried before anybody is served. What is refused is written down for people as well:
//! that file is a copy, the store is the truth.

use super::Provider;
use crate::{
    home::{Home, HomeError, replace},
    journal::now_ms,
    tasks::Task,
};
use alloy_primitives::B256;
use commonware_runtime::Storage;
use hodei_storage::shard::{DECLINED_MAX, StoreError};
use hodei_types::{
    chain::ChainError,
    decline::{Decline, Declined, Ground},
    event::{Fields, Kind},
    slice::ShardId,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io::Read as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::sync::watch;

/// The folder of orders is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Shards that the store is asked for at once.
const ASKED_AT_ONCE: usize = 1024;
/// How long the ledger may take to say whose a deal is.
const QUESTION: Duration = Duration::from_secs(10);
/// Of an order: as many ids as can be declined, in hex, and a note.
const ORDER_BYTES_MAX: u64 = 80 * DECLINED_MAX as u64;
/// Of the operator's own note, which goes into the log alone.
pub const NOTE_BYTES_MAX: usize = 1024;
/// Tells two orders of one process in one millisecond apart.
static NEXT: AtomicU64 = AtomicU64::new(0);
const FOLDER: &str = "declines";
const ORDER: &str = "order";
const QUESTION_FILE: &str = "question";
const ANSWER_FILE: &str = "answer";
const LIST: &str = "declined.jsonl";

/// What an operator orders its node to refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Shards, 64 hex digits each.
    pub ids: Vec<String>,
    /// All that the node now holds of a bucket, 0x and 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// One of [`Ground`]'s words.
    pub ground: String,
    /// For the operator's log; nobody else is told.
    #[serde(default)]
    pub note: String,
}

/// What an order would come to, as the node of a folder says without carrying it out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Shards that it names, by their ids or by a bucket, each once.
    pub shards: u64,
    /// Of these what deals hold now, each deal's own counted.
    pub held: u64,
    /// Of these what is declined already.
    pub declined: u64,
    /// Why it could not be carried out; nothing is counted then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A shard that is declined, as the list for people has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The node's key, in hex; empty in a list of an earlier build.
    #[serde(default)]
    pub node: String,
    pub id: String,
    pub time_ms: u64,
    pub ground: String,
    /// The signed statement, of no one deal: hex.
    pub statement: String,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("the order is not readable: {0}")]
    Order(String),
    #[error("this node holds nothing of bucket {0}")]
    Bucket(B256),
    #[error("whose deals these are was not learnt: {0}")]
    Chain(#[from] ChainError),
    #[error("the ledger did not say whose deals these are within {} s", QUESTION.as_secs())]
    Late,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the log has stopped")]
    Log,
    #[error(transparent)]
    Home(#[from] HomeError),
}

impl OrderError {
    /// Whether another try of the same order would end the same.
    fn is_final(&self) -> bool {
        matches!(self, Self::Order(_) | Self::Bucket(_) | Self::Store(StoreError::DeclinedFull { .. }))
    }
}

/// A shard's id from 64 hex digits.
pub fn shard_id(text: &str) -> Option<ShardId> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    (digits.len() == 64).then(|| digits.parse::<B256>().ok()).flatten().map(|id| ShardId(id.0))
}

/// A ground from its word.
pub fn ground(text: &str) -> Option<Ground> {
    Ground::ALL.into_iter().find(|ground| ground.name() == text)
}

/// Leaves an order for the node of a folder, running or not; gives its file, which is gone once it is carried out.
pub fn leave(home: &Home, order: &Order) -> Result<PathBuf, HomeError> {
    write_down(home, order, ORDER)
}

/// Asks the running node of a folder what an order would come to; gives the question's file, which is gone once
/// [`answered`] has the answer.
pub fn ask(home: &Home, order: &Order) -> Result<PathBuf, HomeError> {
    write_down(home, order, QUESTION_FILE)
}

/// The answer to a question, which is forgotten with that; `None` before there is one.
pub fn answered(question: &Path) -> Option<Told> {
    let file = question.with_extension(ANSWER_FILE);
    let told = serde_json::from_slice(&std::fs::read(&file).ok()?).ok();
    let _ = std::fs::remove_file(&file);
    told
}

fn write_down(home: &Home, order: &Order, end: &str) -> Result<PathBuf, HomeError> {
    let folder = home.path().join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(|source| HomeError::Io { path: folder.clone(), source })?;
    let turn = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = folder.join(format!("{:020}-{}-{turn:06}.{end}", now_ms(), std::process::id()));
    replace(&file, &serde_json::to_vec(order).expect("plain values"), 0o600)?;
    Ok(file)
}

/// Why an order was put aside, if it was.
pub fn put_aside(file: &Path) -> Option<String> {
    std::fs::read_to_string(file.with_extension("refused")).ok()
}

/// What the node of a folder declines, as it wrote it down last.
pub fn list(home: &Home) -> Vec<Line> {
    let text = std::fs::read_to_string(home.path().join(LIST)).unwrap_or_default();
    text.lines().take(DECLINED_MAX).filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Whether any order waits in a node's folder.
pub(super) fn is_any_waiting(home: &Home) -> bool {
    !waiting(&home.path().join(FOLDER), ORDER).is_empty()
}

/// Orders that wait, or questions, the oldest first.
fn waiting(folder: &Path, of: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let orders = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == of));
    let mut orders: Vec<PathBuf> = orders.collect();
    orders.sort();
    orders
}

/// Removes all that a folder has of these kinds.
fn forget(folder: &Path, ends: &[&str]) {
    for file in ends.iter().flat_map(|end| waiting(folder, end)) {
        let _ = std::fs::remove_file(file);
    }
}

/// The ground that an order gives.
fn ground_of(order: &Order) -> Result<Ground, OrderError> {
    ground(&order.ground).ok_or_else(|| {
        OrderError::Order(format!("expected court, authority, report or terms, found {:?}", order.ground))
    })
}

fn read(file: &Path) -> Result<Order, OrderError> {
    let io = |source| HomeError::Io { path: file.into(), source };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(io)?;
    opened.take(ORDER_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?;
    serde_json::from_slice(&bytes).map_err(|error| OrderError::Order(error.to_string()))
}

impl<E: Storage> Provider<E> {
    /// Carries out orders until `stop`.
    pub(super) async fn decline_ordered(self, task: Task, mut stop: watch::Receiver<bool>) {
        let folder = self.0.home.path().join(FOLDER);
        // Nobody waits any more for what was asked before this process.
        forget(&folder, &[QUESTION_FILE, ANSWER_FILE]);
        // A decline that a crash interrupted ends here.
        if let Err(error) = self.store().release_declined().await {
            task.failed(&error);
        }
        self.write_list().await;
        loop {
            let orders = waiting(&folder, ORDER);
            for (at, file) in orders.iter().enumerate() {
                task.doing("refusing what its operator named");
                let done = match read(file) {
                    Ok(order) => self.carry_out(&order).await,
                    Err(error) => Err(error),
                };
                // Whoever sees the last order gone is served.
                if at + 1 == orders.len() {
                    self.set_judged();
                }
                match done {
                    Ok(released) => {
                        tracing::info!(released, "shards declined");
                        task.passed();
                    }
                    Err(error) if error.is_final() => {
                        task.failed(&error);
                        // Said where the operator waits for it; one that waits for its turn again would wait for ever.
                        let _ = replace(&file.with_extension("refused"), error.to_string().as_bytes(), 0o600);
                    }
                    Err(error) => {
                        task.failed(&error);
                        continue;
                    }
                }
                let _ = std::fs::remove_file(file);
            }
            self.set_judged();
            // After orders: who is to be served waits for those.
            for question in waiting(&folder, QUESTION_FILE) {
                self.answer(&question).await;
            }
            task.doing(format!("{} shards are declined", self.store().declined_shards()));
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY + task.delay().unwrap_or_default()) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn carry_out(&self, order: &Order) -> Result<usize, OrderError> {
        let ground = ground_of(order)?;
        let ids = self.named(order).await?;
        Ok(self.decline(&ids, ground, &order.note).await?.len())
    }

    /// What an order names.
    async fn named(&self, order: &Order) -> Result<Vec<ShardId>, OrderError> {
        let ids = order.ids.iter().map(|text| {
            shard_id(text).ok_or_else(|| OrderError::Order(format!("expected 64 hex digits, found {text:?}")))
        });
        let mut ids = ids.collect::<Result<Vec<_>, _>>()?;
        if let Some(bucket) = &order.bucket {
            let bucket: B256 =
                bucket.parse().map_err(|_| OrderError::Order(format!("{bucket:?} is no bucket's id")))?;
            ids.extend(self.held_of(bucket).await?);
        }
        Ok(ids)
    }

    /// Says what an order would come to, or why it would not be carried out, and does nothing.
    async fn answer(&self, question: &Path) {
        let told = match read(question) {
            Ok(order) => self.tell(&order).await,
            Err(error) => Err(error),
        };
        let told = told.unwrap_or_else(|error| Told { why: Some(error.to_string()), ..Told::default() });
        // Whoever takes a question back waits for its answer no more.
        if !question.exists() {
            return;
        }
        let text = serde_json::to_vec(&told).expect("plain values");
        if let Err(error) = replace(&question.with_extension(ANSWER_FILE), &text, 0o600) {
            tracing::warn!(%error, "a question of this node's operator is not answered");
        }
        let _ = std::fs::remove_file(question);
    }

    async fn tell(&self, order: &Order) -> Result<Told, OrderError> {
        ground_of(order)?;
        let ids: BTreeSet<ShardId> = self.named(order).await?.into_iter().collect();
        let ids: Vec<ShardId> = ids.into_iter().collect();
        let declined = (ids.len() - self.fresh(&ids)?.len()) as u64;
        let mut held = 0;
        for deal in self.store().deals() {
            for ids in ids.chunks(ASKED_AT_ONCE) {
                held += self.store().has(deal, ids).await?.into_iter().filter(|has| *has).count() as u64;
            }
        }
        Ok(Told { shards: ids.len() as u64, held, declined, why: None })
    }

    /// All that deals of a bucket hold now, as far as it can be declined. Which deals there are the store knows from the
    /// start, whose they are the ledger.
    async fn held_of(&self, bucket: B256) -> Result<Vec<ShardId>, OrderError> {
        let mut deals = Vec::new();
        for deal in self.store().deals() {
            let asked = tokio::time::timeout(QUESTION, self.0.deals.get(deal)).await;
            let terms = asked.map_err(|_| OrderError::Late)??;
            if terms.is_some_and(|terms| terms.bucket == bucket) {
                deals.push(deal);
            }
        }
        if deals.is_empty() {
            return Err(OrderError::Bucket(bucket));
        }
        let mut ids = Vec::new();
        for deal in deals {
            let (mut from, mut end) = (0, 1);
            while from < end && ids.len() <= DECLINED_MAX {
                let (held, next, last) = self.store().list(deal, from).await?;
                ids.extend(held.into_iter().map(|(id, _)| id));
                (from, end) = (next, last);
            }
        }
        Ok(ids)
    }

    /// Those that are not declined yet, each once; an error where they are more than can be.
    fn fresh(&self, ids: &[ShardId]) -> Result<BTreeSet<ShardId>, StoreError> {
        let fresh: BTreeSet<ShardId> = ids.iter().copied().filter(|id| self.store().declined(id).is_none()).collect();
        let (known, more) = (self.store().declined_shards(), fresh.len());
        if known + more > DECLINED_MAX { Err(StoreError::DeclinedFull { known, more }) } else { Ok(fresh) }
    }

    /// Refuses these shards from now on, on some ground; gives what deals held of them, by deal. The note is in this
    /// node's log alone.
    pub async fn decline(
        &self,
        ids: &[ShardId],
        ground: Ground,
        note: &str,
    ) -> Result<Vec<(u64, ShardId)>, OrderError> {
        let time_ms = now_ms();
        let note = &note[..note.floor_char_boundary(NOTE_BYTES_MAX)];
        for id in &self.fresh(ids)? {
            let declined = self.sign(Decline { deal: 0, id: *id, time_ms, ground });
            let event = Fields::new()
                .bytes("shard", &id.0)
                .uint("since_ms", time_ms)
                .text("ground", ground.name())
                .text("note", note)
                .bytes("statement", &declined.encode());
            self.journal().note(Kind::Decline, event).await.map_err(|error| {
                tracing::error!(%error, "log");
                OrderError::Log
            })?;
        }
        let released = self.store().decline(ids, time_ms, ground).await?;
        for (deal, id) in &released {
            let event = Fields::new().bytes("shard", &id.0).uint("deal", *deal).text("why", "declined");
            self.journal().note(Kind::Release, event).await.map_err(|_| OrderError::Log)?;
            self.meters().released_shards.inc();
        }
        self.write_list().await;
        Ok(released)
    }

    /// This node's word that it declines a shard, bound to the deal it is asked under; `None` if it does not.
    pub fn declined(&self, deal: u64, id: &ShardId) -> Option<Declined> {
        let (time_ms, ground) = self.store().declined(id)?;
        Some(self.sign(Decline { deal, id: *id, time_ms, ground }))
    }

    fn sign(&self, decline: Decline) -> Declined {
        decline.sign(self.0.parts.chain_id, &self.0.parts.signer)
    }

    /// Ten thousands of signatures take seconds: on a thread where nobody waits for an answer.
    async fn write_list(&self) {
        let (declined, file) = (self.store().all_declined(), self.0.home.path().join(LIST));
        let (chain_id, signer) = (self.0.parts.chain_id, self.0.parts.signer.clone());
        let write = move || {
            let lines = declined.into_iter().map(|(id, time_ms, ground)| {
                let statement = Decline { deal: 0, id, time_ms, ground }.sign(chain_id, &signer).encode();
                let statement = alloy_primitives::hex::encode(statement);
                let (node, id) = (signer.node().to_string(), id.to_string());
                Line { node, id, time_ms, ground: ground.name().to_owned(), statement }
            });
            let text: String = lines.map(|line| serde_json::to_string(&line).expect("plain values") + "\n").collect();
            replace(&file, text.as_bytes(), 0o600)
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the list of what is declined was not written"),
            Err(error) => tracing::warn!(%error, "the list of what is declined was not written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn orders_are_left_and_read_in_turn_and_only_ids_are_ids() {
        let scratch = Scratch::new("declines");
        let home = Home::create(scratch.path().join("node")).unwrap();
        let order = Order { ids: vec!["ab".repeat(32)], ground: "court".into(), ..Order::default() };
        let first = leave(&home, &order).unwrap();
        assert_eq!(waiting(&home.path().join(FOLDER), ORDER), std::slice::from_ref(&first));
        // A question is no order, and its answer is read once.
        let question = ask(&home, &order).unwrap();
        assert_eq!(waiting(&home.path().join(FOLDER), ORDER), std::slice::from_ref(&first));
        assert_eq!(waiting(&home.path().join(FOLDER), QUESTION_FILE), std::slice::from_ref(&question));
        assert_eq!(answered(&question), None);
        let told = Told { shards: 3, held: 2, declined: 1, why: None };
        std::fs::write(question.with_extension(ANSWER_FILE), serde_json::to_vec(&told).unwrap()).unwrap();
        assert_eq!((answered(&question), answered(&question)), (Some(told), None));
        // What nobody waits for any more is gone; orders are not.
        let late = ask(&home, &order).unwrap();
        std::fs::write(question.with_extension(ANSWER_FILE), "{}").unwrap();
        forget(&home.path().join(FOLDER), &[QUESTION_FILE, ANSWER_FILE]);
        assert!(!late.exists() && !question.exists() && answered(&question).is_none() && first.exists());
        assert_eq!(read(&first).unwrap(), order);
        std::fs::write(&first, b"{\"ids\":[],\"ground\":\"court\",\"more\":1}").unwrap();
        assert!(matches!(read(&first), Err(OrderError::Order(_))), "what it does not know it does not do");
        assert_eq!((put_aside(&first), list(&home)), (None, Vec::new()));
        assert_eq!(shard_id(&order.ids[0]), Some(ShardId([0xab; 32])));
        assert_eq!([&"ab".repeat(31)[..], "", "court", &"zz".repeat(32)].map(shard_id), [None; 4]);
        assert_eq!(Ground::ALL.map(|one| ground(one.name())), Ground::ALL.map(Some));
        assert_eq!(ground("whim"), None);
    }
}
