//! State what must hold whatever breaks, and when a run has lasted.

use commonware_glue::simulate::{
    exit::ExitCondition, processed::ProcessedHeight as _, property::Property, tracker::ProgressTracker,
};
use hodei_ledger::{beacon::Beacon, block::PublicKey};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::chain::{Heads, Node};

type Verdict<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// At each height all members that have it finalized the same block with the same state root.
#[derive(Clone)]
pub(crate) struct OneHistory {
    /// Counts the transactions of that history.
    pub(crate) transactions: Arc<AtomicUsize>,
}

impl<B: Beacon> Property<PublicKey, Node<B>> for OneHistory {
    fn name(&self) -> &str {
        "one history"
    }

    fn check<'a>(&'a self, _: &'a ProgressTracker<PublicKey>, nodes: &'a [&'a Node<B>]) -> Verdict<'a, ()> {
        Box::pin(async move {
            let mut tip = 0;
            for node in nodes {
                tip = node.processed_height().await.max(tip);
            }
            let mut transactions = 0;
            for height in 1..=tip {
                let mut agreed = None;
                for (index, node) in nodes.iter().enumerate() {
                    let Some(seen) = node.at(height).await else { continue };
                    match agreed {
                        None => {
                            agreed = Some(seen);
                            transactions += node.block(height).await.map_or(0, |block| block.txs().len());
                        }
                        Some(first) if first == seen => {}
                        Some(first) => {
                            return Err(format!("height {height}: node {index} has {seen:?}, another {first:?}"));
                        }
                    }
                }
                if agreed.is_none() {
                    return Err(format!("height {height}: finalized, and no node has the block"));
                }
            }
            self.transactions.store(transactions, Ordering::Relaxed);
            Ok(())
        })
    }
}

/// Every member uses its share: whoever lost its journal has found that what it signed is past.
#[derive(Clone, Copy)]
pub(crate) struct AllVote;

impl<B: Beacon> Property<PublicKey, Node<B>> for AllVote {
    fn name(&self) -> &str {
        "all vote"
    }

    fn check<'a>(&'a self, _: &'a ProgressTracker<PublicKey>, nodes: &'a [&'a Node<B>]) -> Verdict<'a, ()> {
        Box::pin(async move {
            match nodes.iter().position(|node| !node.votes()) {
                Some(index) => Err(format!("node {index} of those that run still holds its share")),
                None => Ok(()),
            }
        })
    }
}

/// Over once a time has passed, and everybody who runs is within a few blocks of the head.
#[derive(Clone)]
pub(crate) struct Lasted {
    pub(crate) heads: Heads,
    pub(crate) seconds: u64,
    pub(crate) heights: u64,
}

/// Blocks a healthy member may be behind in the moment of looking.
const BEHIND: u64 = 3;

impl<B: Beacon> ExitCondition<PublicKey, Node<B>> for Lasted {
    fn name(&self) -> &str {
        "lasted"
    }

    fn requires_polling(&self) -> bool {
        true
    }

    fn reached<'a>(
        &'a self,
        _: &'a ProgressTracker<PublicKey>,
        nodes: &'a [&'a Node<B>],
        count: usize,
    ) -> Verdict<'a, bool> {
        Box::pin(async move {
            let head = {
                let heads = self.heads.lock().expect("no holder of this lock panics");
                // Looked at each 25 ms: a week's heads and the members are asked only when it matters.
                if heads.last_key_value().is_none_or(|(second, _)| *second < self.seconds) {
                    return Ok(false);
                }
                heads.values().copied().max().unwrap_or(0)
            };
            if head < self.heights || nodes.len() < count {
                return Ok(false);
            }
            for node in nodes {
                if node.processed_height().await + BEHIND < head {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}
