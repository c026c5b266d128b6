//! Ask many things at once, and make the bytes they carry.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Runs `request` for each number below `count`, `at_once` of them in flight; ends with the first that fails.
pub(crate) async fn each<F>(
    count: u64,
    at_once: usize,
    request: impl Fn(u64) -> F + Send + Sync + 'static,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let next = Arc::new(AtomicU64::new(0));
    let request = Arc::new(request);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let (next, request) = (next.clone(), request.clone());
        workers.spawn(async move {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    return anyhow::Ok(());
                }
                request(at).await?;
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.context("a request panicked")??;
    }
    Ok(())
}

/// Bytes that do not compress, follow from `seed`, and are no other seed's.
pub(crate) fn content(bytes: usize, seed: u64) -> Bytes {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        // xorshift64: cheap, and random enough for whoever looks for repetitions.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(bytes);
    content.into()
}
