//! Tell all peers what was submitted here, and take what was submitted there.
//!
//! Upon a submission, wait 2 ms for company and send one message to everybody: quotas count messages, and
//! the next leader is unknown. Upon a message, hand its transactions to the pool; they are not passed on,
//! because who announces is connected to all. Upon each second, announce again what still waits, because
//! sending loses silently.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use commonware_macros::select;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_parallel::Strategy;
use commonware_runtime::{Clock, Handle, Metrics, Spawner};
use std::time::Duration;
use tracing::debug;

use super::Pool;

/// One message: a full-sized transaction and its framing always fit.
pub const MESSAGE_BYTES_MAX: usize = 160 << 10;
/// Length of each transaction, big-endian.
pub(super) const PREFIX_BYTES: usize = 4;

const VERSION: u8 = 1;
const COMPANY: Duration = Duration::from_millis(2);
const AGAIN: Duration = Duration::from_secs(1);

/// The actor between a pool and its peers.
pub struct Gossip<E, T> {
    context: E,
    pool: Pool,
    strategy: T,
}

impl<E: Spawner + Metrics + Clock, T: Strategy> Gossip<E, T> {
    pub fn new(context: E, pool: Pool, strategy: T) -> Self {
        Self { context, pool, strategy }
    }

    /// Runs until the network closes.
    pub fn start(self, sender: impl Sender, receiver: impl Receiver) -> Handle<()> {
        let Self { context, pool, strategy } = self;
        context.spawn(move |context| async move {
            select! {
                _ = announce(&context, &pool, sender) => {},
                _ = take(&pool, &strategy, receiver) => {},
            }
        })
    }
}

async fn announce(clock: &impl Clock, pool: &Pool, mut sender: impl Sender) {
    loop {
        let news = pool.outgoing();
        let mut again = false;
        select! {
            _ = news => { clock.sleep(COMPANY).await; },
            _ = clock.sleep(AGAIN) => { again = true; },
        }
        loop {
            let txs = pool.announce(MESSAGE_BYTES_MAX - 1, again);
            if txs.is_empty() {
                break;
            }
            sender.send(Recipients::All, encode(&txs), false);
            if again {
                break;
            }
        }
    }
}

async fn take(pool: &Pool, strategy: &impl Strategy, mut receiver: impl Receiver) {
    while let Ok((peer, message)) = receiver.recv().await {
        let message = Bytes::from(message);
        match decode(message) {
            Some(txs) => {
                pool.receive(&txs, strategy).await;
            }
            None => debug!(?peer, "transaction message refused"),
        }
    }
}

fn encode(txs: &[alloy_primitives::Bytes]) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + txs.iter().map(|tx| PREFIX_BYTES + tx.len()).sum::<usize>());
    out.put_u8(VERSION);
    for tx in txs {
        out.put_u32(tx.len() as u32);
        out.put_slice(tx);
    }
    out.freeze()
}

fn decode(mut message: Bytes) -> Option<Vec<alloy_primitives::Bytes>> {
    if message.len() > MESSAGE_BYTES_MAX || !message.has_remaining() || message.get_u8() != VERSION {
        return None;
    }
    let mut txs = Vec::new();
    while message.has_remaining() {
        if message.remaining() < PREFIX_BYTES {
            return None;
        }
        let len = message.get_u32() as usize;
        if len == 0 || len > message.remaining() {
            return None;
        }
        txs.push(message.split_to(len).into());
    }
    Some(txs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_and_every_cut_of_it_is_refused() {
        let txs: Vec<alloy_primitives::Bytes> = (1..5u8).map(|n| vec![n; usize::from(n) * 7].into()).collect();
        let message = encode(&txs);
        let back = decode(message.clone()).unwrap();
        assert_eq!(back, txs);
        let whole = [1, 12, 30, 55, 87];
        for cut in (0..message.len()).filter(|cut| !whole.contains(cut)) {
            assert!(decode(message.slice(..cut)).is_none(), "cut at {cut}");
        }
        assert!(decode(Bytes::from(vec![VERSION; MESSAGE_BYTES_MAX + 1])).is_none());
    }
}
