//! State what must hold whatever breaks.

use commonware_glue::simulate::{processed::ProcessedHeight as _, property::Property, tracker::ProgressTracker};
use hodei_ledger::{beacon::Beacon, block::PublicKey};
use std::{future::Future, pin::Pin};

use crate::chain::Node;

type Verdict<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// At each height all validators that have it finalized the same block with the same state root.
#[derive(Clone, Copy)]
pub struct OneHistory;

impl<B: Beacon> Property<PublicKey, Node<B>> for OneHistory {
    fn name(&self) -> &str {
        "one history"
    }

    fn check<'a>(&'a self, _: &'a ProgressTracker<PublicKey>, nodes: &'a [&'a Node<B>]) -> Verdict<'a> {
        Box::pin(async move {
            let mut tip = 0;
            for node in nodes {
                tip = node.processed_height().await.max(tip);
            }
            for height in 1..=tip {
                let mut agreed = None;
                for (index, node) in nodes.iter().enumerate() {
                    let Some(seen) = node.at(height).await else { continue };
                    match agreed {
                        None => agreed = Some(seen),
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
            Ok(())
        })
    }
}
