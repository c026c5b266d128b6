//! Ask a validator or observer about the chain: protocol `hodei/chain/1`.
//!
//! One stream carries one question. Upon a frame (u32 big-endian length, canonical CBOR) the server answers
//! with one frame and ends the stream; anything else ends it unanswered. A question is an array of its number
//! and arguments; an answer an array of 0 and the value, or of the error's number and its words. Lengths are
//! bounded before anything is allocated: a question by [`QUESTION_BYTES_MAX`], an answer by
//! [`ANSWER_BYTES_MAX`].

mod answer;
mod question;

pub use answer::Answer;
pub(crate) use answer::decode;
#[cfg(test)]
pub(crate) use answer::encode;
pub use question::Question;

use commonware_runtime::{Sink, Stream};
use hodei_types::{
    cbor::CborError,
    chain::{Chain, ChainError, LOG_BLOCKS_MAX},
};

/// A transaction is at most 128 KiB; the rest of a question is small.
pub const QUESTION_BYTES_MAX: usize = 160 * 1024;
/// 10,000 logs of a module take about 3 MB.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Longest a server holds a question that waits for a block.
pub const WAIT_SECS_MAX: u64 = 20;

/// Why a frame did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("the stream ended: {0}")]
    Stream(#[from] commonware_runtime::Error),
    #[error("frame of {found} bytes, at most {max} allowed")]
    TooLong { found: usize, max: usize },
    #[error(transparent)]
    Form(#[from] CborError),
}

/// Writes one frame.
pub async fn send<S: Sink>(sink: &mut S, frame: Vec<u8>) -> Result<(), WireError> {
    let length =
        u32::try_from(frame.len()).map_err(|_| WireError::TooLong { found: frame.len(), max: u32::MAX as usize })?;
    let mut bytes = Vec::with_capacity(4 + frame.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&frame);
    Ok(sink.send(bytes).await?)
}

/// Reads one frame of at most `max` bytes.
pub async fn receive<S: Stream>(stream: &mut S, max: usize) -> Result<Vec<u8>, WireError> {
    let head = stream.recv(4).await?.coalesce();
    let mut length = [0; 4];
    length.copy_from_slice(head.as_ref());
    let found = u32::from_be_bytes(length) as usize;
    if found > max {
        return Err(WireError::TooLong { found, max });
    }
    Ok(stream.recv(found).await?.coalesce().as_ref().to_vec())
}

/// Answers the one question of a stream from `chain`.
pub async fn serve<Si: Sink, St: Stream>(chain: &dyn Chain, mut sink: Si, mut stream: St) -> Result<(), WireError> {
    let question = Question::decode(&receive(&mut stream, QUESTION_BYTES_MAX).await?)?;
    let mut frame = answer::encode(&reply(chain, question).await);
    if frame.len() > ANSWER_BYTES_MAX {
        frame =
            answer::encode(&Err(ChainError::Refused("the answer is larger than 8 MiB: narrow the question".into())));
    }
    send(&mut sink, frame).await
}

async fn reply(chain: &dyn Chain, question: Question) -> Result<Answer, ChainError> {
    let question = match question {
        Question::Since(height, asked) => {
            if let Some(before) = height.checked_sub(1) {
                chain.wait(before).await?;
            }
            *asked
        }
        asked => asked,
    };
    Ok(match question {
        Question::Head => {
            let head = chain.head().await?;
            let certificate = chain.certificate(head.height).await?;
            Answer::Head(head, certificate)
        }
        Question::Wait(height) => {
            let head = chain.wait(height).await?;
            let certificate = chain.certificate(head.height).await?;
            Answer::Head(head, certificate)
        }
        Question::Certificate(height) => Answer::Certificate(chain.certificate(height).await?),
        Question::Account(address) => Answer::Account(chain.account(address).await?),
        Question::Submit(raw) => Answer::Hash(chain.submit(raw).await?),
        Question::Receipt(hash) => Answer::Receipt(chain.receipt(hash).await?),
        Question::Call { from, to, data } => Answer::Bytes(chain.call(from, to, data).await?),
        Question::Logs(filter) => {
            bounded(filter.from, filter.to)?;
            Answer::Logs(chain.logs(filter).await?)
        }
        Question::Anchor { height, leaf } => Answer::Anchor(chain.anchor(height, leaf).await?),
        Question::Block(height) => Answer::Block(chain.kept(height).await?),
        Question::Fees { account, from, to } => {
            bounded(from, to)?;
            Answer::Fees(chain.fees(account, from, to).await?)
        }
        // The decoder lets none through.
        Question::Since(..) => return Err(ChainError::Refused("a question about one about another".into())),
    })
}

/// A range of blocks wider than the limit is refused before it is walked.
fn bounded(from: u64, to: u64) -> Result<(), ChainError> {
    match to.checked_sub(from) {
        Some(width) if width >= LOG_BLOCKS_MAX && to != u64::MAX => Err(ChainError::Refused(format!(
            "{} blocks asked, at most {LOG_BLOCKS_MAX} at once",
            width.saturating_add(1)
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256, Bytes, U256};
    use futures::{FutureExt as _, executor::block_on, future::BoxFuture};
    use hodei_types::chain::{Account, AnchorProof, Certificate, Head, Log, LogFilter, TxReceipt};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A chain whose blocks come when somebody waits for them; everybody has a wei for each.
    struct Slow(AtomicU64);

    impl Chain for Slow {
        fn wait(&self, height: u64) -> BoxFuture<'_, Result<Head, ChainError>> {
            self.0.fetch_max(height + 1, Ordering::Relaxed);
            let (hash, genesis) = (B256::ZERO, B256::ZERO);
            let head = Head { height: height + 1, hash, time_ms: 0, base_fee: 0, chain_id: 0, genesis };
            async move { Ok(head) }.boxed()
        }
        fn account(&self, _: Address) -> BoxFuture<'_, Result<Account, ChainError>> {
            let balance = U256::from(self.0.load(Ordering::Relaxed));
            async move { Ok(Account { balance, ..Account::default() }) }.boxed()
        }
        fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>> {
            unreachable!()
        }
        fn certificate(&self, _: u64) -> BoxFuture<'_, Result<Certificate, ChainError>> {
            unreachable!()
        }
        fn submit(&self, _: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
            unreachable!()
        }
        fn receipt(&self, _: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
            unreachable!()
        }
        fn call(&self, _: Address, _: Address, _: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
            unreachable!()
        }
        fn logs(&self, _: LogFilter) -> BoxFuture<'_, Result<Vec<Log>, ChainError>> {
            unreachable!()
        }
        fn anchor(&self, _: u64, _: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>> {
            unreachable!()
        }
    }

    #[test]
    fn what_is_asked_since_a_block_waits_for_it() {
        let chain = Slow(AtomicU64::new(3));
        let ask = |question: Question| match block_on(reply(&chain, question)).unwrap() {
            Answer::Account(account) => account.balance,
            other => panic!("{other:?}"),
        };
        let account = || Box::new(Question::Account(Address::ZERO));
        assert_eq!(ask(*account()), U256::from(3));
        assert_eq!(ask(Question::Since(0, account())), U256::from(3));
        assert_eq!(ask(Question::Since(5, account())), U256::from(5));
    }
}
