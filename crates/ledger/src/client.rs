//! Follow the chain and submit to it from afar, trusting only the network key.
//!
//! A head is believed when its certificate verifies; of several validators the first that answers is asked
//! first from then on, one that is silent or lies is passed over, and the next one is asked for nothing older than
//! what was heard already. Balances, calls, logs and receipts are what the asked validator says: a lie there costs a
//! retry or a wrong display, never a signature, and what must convince others (an anchor) is verified in full.

use crate::{
    light::{self, Finalized, LightError, Sealed, Verifier},
    wire::{self, ANSWER_BYTES_MAX, Answer, Question, WAIT_SECS_MAX},
};
use alloy_primitives::{Address, B256, Bytes};
use commonware_runtime::Clock;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use hodei_types::{
    chain::{Account, AnchorProof, Certificate, Chain, ChainError, Fee, Head, Kept, Log, LogFilter, TxReceipt},
    transport::{CHAIN, Peer, Transport},
};
use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How long one validator may take to answer before the next is asked; calls take milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A light client of one network. Clones share what they learnt.
pub struct Client<T, E> {
    shared: Arc<Shared<T, E>>,
}

struct Shared<T, E> {
    transport: T,
    clock: E,
    peers: Vec<Peer>,
    verifier: Verifier,
    chain_id: u64,
    /// Index of the peer that answered last.
    preferred: AtomicUsize,
    /// Highest verified height: an older head is a stale answer, not news.
    height: AtomicU64,
    /// The last finalization that verified: several tasks wait for each block, its signatures are checked once.
    verified: Mutex<Option<(Bytes, Finalized)>>,
}

impl<T, E> Clone for Client<T, E> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: Transport, E: Clock> Client<T, E> {
    /// A client of the validators and observers `peers`, at least one.
    pub fn new(transport: T, clock: E, peers: Vec<Peer>, verifier: Verifier) -> Self {
        assert!(!peers.is_empty(), "a client needs somebody to ask");
        let chain_id = crate::genesis::chain_id(&verifier.genesis());
        let (preferred, height) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self {
            shared: Arc::new(Shared {
                transport,
                clock,
                peers,
                verifier,
                chain_id,
                preferred,
                height,
                verified: Mutex::default(),
            }),
        }
    }

    /// Asks peer after peer until one gives an answer that `accept` believes.
    async fn ask<V>(
        &self,
        question: Question,
        patience: Duration,
        accept: impl Fn(Answer) -> Result<V, ChainError>,
    ) -> Result<V, ChainError> {
        self.ask_counting(question, patience, accept).await.0
    }

    /// The same, and how many were asked in vain before: they may have done what they did not answer to.
    async fn ask_counting<V>(
        &self,
        question: Question,
        patience: Duration,
        accept: impl Fn(Answer) -> Result<V, ChainError>,
    ) -> (Result<V, ChainError>, usize) {
        let shared = &self.shared;
        let first = shared.preferred.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for step in 0..shared.peers.len() {
            let index = (first + step) % shared.peers.len();
            let peer = &shared.peers[index];
            let outcome = match self.exchange(peer, &question, patience).await {
                Ok(Ok(answer)) => accept(answer),
                Ok(Err(error)) => Err(error),
                Err(reason) => Err(ChainError::Unavailable(reason)),
            };
            match outcome {
                Err(ChainError::Unavailable(reason) | ChainError::Invalid(reason)) => {
                    tracing::debug!(peer = %peer.key, %reason, "chain: asking the next validator");
                    reasons.push(format!("{}: {reason}", &peer.key.to_string()[..8]));
                }
                decided => {
                    shared.preferred.store(index, Ordering::Relaxed);
                    return (decided, step);
                }
            }
        }
        (Err(ChainError::Unavailable(reasons.join("; "))), reasons.len())
    }

    /// The same of the state, which never goes back: whoever answers knows the newest block this client heard of.
    async fn ask_since<V>(
        &self,
        question: Question,
        accept: impl Fn(Answer) -> Result<V, ChainError>,
    ) -> Result<V, ChainError> {
        let height = self.shared.height.load(Ordering::Relaxed);
        self.ask(Question::Since(height, Box::new(question)), ANSWER_TIMEOUT, accept).await
    }

    /// Waits for the proof of a block that somebody told of.
    async fn hear_of(&self, height: u64) -> Result<(), ChainError> {
        if height > self.shared.height.load(Ordering::Relaxed) {
            self.wait_for(height - 1, ANSWER_TIMEOUT).await?;
        }
        Ok(())
    }

    /// The head once it is above `height`; each validator has so long.
    async fn wait_for(&self, height: u64, patience: Duration) -> Result<Head, ChainError> {
        self.ask(Question::Wait(height), patience, move |answer| match answer {
            Answer::Head(head, _) if head.height <= height => {
                Err(ChainError::Unavailable(format!("still at height {}", head.height)))
            }
            Answer::Head(head, certificate) => self.believe(head, &certificate),
            _ => Self::unexpected(),
        })
        .await
    }

    async fn exchange(
        &self,
        peer: &Peer,
        question: &Question,
        patience: Duration,
    ) -> Result<Result<Answer, ChainError>, String> {
        let talk = async {
            let (mut sink, mut stream) =
                self.shared.transport.open(peer, CHAIN).await.map_err(|error| error.to_string())?;
            wire::send(&mut sink, question.encode()).await.map_err(|error| error.to_string())?;
            let frame = wire::receive(&mut stream, ANSWER_BYTES_MAX).await.map_err(|error| error.to_string())?;
            wire::decode(&frame).map_err(|error| error.to_string())
        };
        let late = self.shared.clock.sleep(patience);
        match select(pin!(talk), pin!(late)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(format!("no answer within {} s", patience.as_secs())),
        }
    }

    fn believe(&self, head: Head, certificate: &Certificate) -> Result<Head, ChainError> {
        let shared = &self.shared;
        let invalid = |reason: String| ChainError::Invalid(reason);
        let headers = self.certified(certificate).map_err(|error| invalid(error.to_string()))?;
        let sealed = headers.first().ok_or_else(|| invalid("no header".into()))?;
        let proven = Head {
            height: sealed.header.number,
            hash: sealed.hash,
            time_ms: crate::block::time_ms(&sealed.header),
            base_fee: sealed.header.base_fee_per_gas.unwrap_or_default(),
            chain_id: shared.chain_id,
            genesis: shared.verifier.genesis(),
        };
        if proven != head {
            return Err(invalid(format!("head {} is not what its certificate proves", head.height)));
        }
        shared.height.fetch_max(proven.height, Ordering::Relaxed);
        Ok(proven)
    }

    /// The headers of a certificate that verifies.
    fn certified(&self, certificate: &Certificate) -> Result<Vec<Sealed>, LightError> {
        let headers = light::link(&certificate.headers)?;
        let remembered = || self.shared.verified.lock().expect("no panic under this lock");
        let known = remembered().as_ref().filter(|(bytes, _)| *bytes == certificate.finalization).map(|(_, of)| *of);
        let finalized = match known {
            Some(finalized) => finalized,
            None => self.shared.verifier.finalization(&certificate.finalization)?,
        };
        light::certifies(&finalized, &headers)?;
        *remembered() = Some((certificate.finalization.clone(), finalized));
        Ok(headers)
    }

    fn unexpected<V>() -> Result<V, ChainError> {
        Err(ChainError::Invalid("an answer to another question".into()))
    }
}

impl<T: Transport, E: Clock> Chain for Client<T, E> {
    fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>> {
        self.ask(Question::Head, ANSWER_TIMEOUT, |answer| match answer {
            Answer::Head(head, certificate) => self.believe(head, &certificate),
            _ => Self::unexpected(),
        })
        .boxed()
    }

    fn wait(&self, height: u64) -> BoxFuture<'_, Result<Head, ChainError>> {
        self.wait_for(height, Duration::from_secs(WAIT_SECS_MAX) + ANSWER_TIMEOUT).boxed()
    }

    fn certificate(&self, height: u64) -> BoxFuture<'_, Result<Certificate, ChainError>> {
        self.ask(Question::Certificate(height), ANSWER_TIMEOUT, move |answer| match answer {
            Answer::Certificate(certificate) => {
                let verified = self.shared.verifier.headers(&certificate.headers, &certificate.finalization);
                match verified.map_err(|error| ChainError::Invalid(error.to_string()))?.0.first() {
                    Some(sealed) if sealed.header.number == height => Ok(certificate),
                    _ => Err(ChainError::Invalid(format!("a certificate of another block than {height}"))),
                }
            }
            _ => Self::unexpected(),
        })
        .boxed()
    }

    fn kept(&self, height: u64) -> BoxFuture<'_, Result<Kept, ChainError>> {
        // Whoever reads it checks it against the certificates that come with it.
        self.ask(Question::Block(height), ANSWER_TIMEOUT, |answer| match answer {
            Answer::Block(kept) => Ok(kept),
            _ => Self::unexpected(),
        })
        .boxed()
    }

    fn account(&self, address: Address) -> BoxFuture<'_, Result<Account, ChainError>> {
        self.ask_since(Question::Account(address), |answer| match answer {
            Answer::Account(account) => Ok(account),
            _ => Self::unexpected(),
        })
        .boxed()
    }

    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
        let hash = alloy_primitives::keccak256(&raw);
        async move {
            let accept = |answer| match answer {
                Answer::Hash(found) if found == hash => Ok(found),
                Answer::Hash(_) => {
                    Err(ChainError::Invalid("the hash of another transaction".into()))
                }
                _ => Self::unexpected(),
            };
            match self.ask_counting(Question::Submit(raw), ANSWER_TIMEOUT, accept).await {
                // An earlier attempt arrived though its answer did not.
                (Err(ChainError::Refused(reason)), _) if reason.contains("already known") => Ok(hash),
                // It may have been executed through one who did not answer, and be refused for that very reason: as
                // refused it would be signed again with another nonce, and done twice.
                (Err(ChainError::Refused(reason)), 1..) => match self.receipt(hash).await? {
                    Some(_) => Ok(hash),
                    None => Err(ChainError::Unavailable(format!(
                        "whether transaction {hash} was taken is not known: one validator did not answer, and another says: {reason}"
                    ))),
                },
                (outcome, _) => outcome,
            }
        }
        .boxed()
    }

    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
        async move {
            let receipt = self.ask_since(Question::Receipt(tx), move |answer| match answer {
                Answer::Receipt(Some(receipt)) if receipt.tx != tx => Self::unexpected(),
                Answer::Receipt(receipt) => Ok(receipt),
                _ => Self::unexpected(),
            });
            let receipt = receipt.await?;
            // Whoever learns that something is done sees it done from now on, whomever it asks.
            if let Some(receipt) = &receipt {
                self.hear_of(receipt.height).await?;
            }
            Ok(receipt)
        }
        .boxed()
    }

    fn call(&self, from: Address, to: Address, data: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
        self.ask_since(Question::Call { from, to, data }, |answer| match answer {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => Self::unexpected(),
        })
        .boxed()
    }

    fn logs(&self, filter: LogFilter) -> BoxFuture<'_, Result<Vec<Log>, ChainError>> {
        self.ask_since(Question::Logs(filter), |answer| match answer {
            Answer::Logs(logs) => Ok(logs),
            _ => Self::unexpected(),
        })
        .boxed()
    }

    fn fees(&self, account: Address, from: u64, to: u64) -> BoxFuture<'_, Result<Vec<Fee>, ChainError>> {
        self.ask_since(Question::Fees { account, from, to }, |answer| match answer {
            Answer::Fees(fees) => Ok(fees),
            _ => Self::unexpected(),
        })
        .boxed()
    }

    fn anchor(&self, height: u64, leaf: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>> {
        self.ask(Question::Anchor { height, leaf }, ANSWER_TIMEOUT, |answer| match answer {
            Answer::Anchor(proof) => {
                let verified = self.shared.verifier.headers(&proof.headers, &proof.finalization);
                verified.map_err(|error| ChainError::Invalid(error.to_string()))?;
                Ok(proof)
            }
            _ => Self::unexpected(),
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::light::tests::network;
    use commonware_runtime::{Runner as _, Spawner as _, Supervisor as _, deterministic, mocks};
    use hodei_types::transport::{NodeKey, Protocol, TransportError};

    /// Two validators: the first takes what is submitted and never says so; the second has it in a block by then,
    /// or knows nothing of it.
    #[derive(Clone)]
    struct Pair {
        context: Arc<deterministic::Context>,
        is_executed: bool,
    }

    const SILENT: NodeKey = NodeKey([1; 32]);

    impl Transport for Pair {
        type Sink = mocks::Sink;
        type Stream = mocks::Stream;

        async fn open(&self, peer: &Peer, _: Protocol) -> Result<(mocks::Sink, mocks::Stream), TransportError> {
            let (client_sink, mut stream) = mocks::Channel::init();
            let (mut sink, client_stream) = mocks::Channel::init();
            let (is_silent, is_executed) = (peer.key == SILENT, self.is_executed);
            self.context.child("validator").spawn(move |_| async move {
                let frame = wire::receive(&mut stream, wire::QUESTION_BYTES_MAX).await.unwrap();
                let answer = match Question::decode(&frame).unwrap() {
                    _ if is_silent => return std::future::pending().await,
                    Question::Submit(_) => Err(ChainError::Refused("nonce too low: next nonce 8, tx nonce 7".into())),
                    Question::Since(_, asked) => match *asked {
                        Question::Receipt(tx) => Ok(Answer::Receipt(is_executed.then(|| executed(tx)))),
                        other => panic!("{other:?} was not expected"),
                    },
                    Question::Wait(4) => Ok(head()),
                    other => panic!("{other:?} was not expected"),
                };
                wire::send(&mut sink, wire::encode(&answer)).await.unwrap();
            });
            Ok((client_sink, client_stream))
        }
    }

    fn executed(tx: B256) -> TxReceipt {
        TxReceipt { tx, height: 5, success: true, gas_used: 21_000, logs: Vec::new(), output: Bytes::new() }
    }

    /// Block 5, and what proves it.
    fn head() -> Answer {
        let header = light::tests::chain(1).remove(0);
        let hash = alloy_primitives::keccak256(&header);
        let (key, schemes) = network(B256::repeat_byte(1));
        let finalization = light::tests::finalize(&schemes, hash).into();
        let chain_id = crate::genesis::chain_id(&key.genesis);
        let head = Head { height: 5, hash, time_ms: 0, base_fee: 0, chain_id, genesis: key.genesis };
        Answer::Head(head, Certificate { headers: vec![header.into()], finalization })
    }

    fn submit(first: NodeKey, is_executed: bool) -> Result<B256, ChainError> {
        deterministic::Runner::timed(Duration::from_secs(60)).start(|context| async move {
            let (key, _) = network(B256::repeat_byte(1));
            let pair = Pair { context: Arc::new(context.child("pair")), is_executed };
            let peer = |key| Peer::at(key, vec![]);
            let peers = vec![peer(first), peer(NodeKey([2; 32]))];
            let client = Client::new(pair, context.child("client"), peers, Verifier::new(&key).unwrap());
            client.submit(Bytes::from_static(b"a transaction")).await
        })
    }

    /// The first validator tells of block 5 and is never heard of again; the second knows block 5 only when it is asked
    /// to wait for it.
    #[derive(Clone)]
    struct Behind(Arc<deterministic::Context>, Arc<Mutex<bool>>);

    impl Transport for Behind {
        type Sink = mocks::Sink;
        type Stream = mocks::Stream;

        async fn open(&self, peer: &Peer, _: Protocol) -> Result<(mocks::Sink, mocks::Stream), TransportError> {
            let (client_sink, mut stream) = mocks::Channel::init();
            let (mut sink, client_stream) = mocks::Channel::init();
            let is_first = peer.key == SILENT;
            if is_first && std::mem::replace(&mut *self.1.lock().unwrap(), true) {
                return Err(TransportError::Closed);
            }
            self.0.child("validator").spawn(move |_| async move {
                let frame = wire::receive(&mut stream, wire::QUESTION_BYTES_MAX).await.unwrap();
                let nonce = |nonce| Answer::Account(Account { nonce, ..Account::default() });
                let answer = match Question::decode(&frame).unwrap() {
                    Question::Head if is_first => head(),
                    Question::Since(5, _) => nonce(1),
                    Question::Account(_) | Question::Since(..) => nonce(0),
                    other => panic!("{other:?} was not expected"),
                };
                wire::send(&mut sink, wire::encode(&Ok(answer))).await.unwrap();
            });
            Ok((client_sink, client_stream))
        }
    }

    #[test]
    fn what_one_validator_told_the_next_does_not_take_back() {
        deterministic::Runner::timed(Duration::from_secs(60)).start(|context| async move {
            let (key, _) = network(B256::repeat_byte(1));
            let behind = Behind(Arc::new(context.child("behind")), Arc::default());
            let peer = |key| Peer::at(key, vec![]);
            let peers = vec![peer(SILENT), peer(NodeKey([2; 32]))];
            let client = Client::new(behind, context.child("client"), peers, Verifier::new(&key).unwrap());
            assert_eq!(client.head().await.unwrap().height, 5);
            assert_eq!(client.account(Address::ZERO).await.unwrap().nonce, 1);
        });
    }

    #[test]
    fn what_one_validator_took_in_silence_is_not_refused_by_the_next() {
        assert_eq!(submit(SILENT, true).unwrap(), alloy_primitives::keccak256(b"a transaction"));
        // Whether it will be executed yet is not known: as refused it might be signed again, and done twice.
        assert!(matches!(submit(SILENT, false), Err(ChainError::Unavailable(_))));
        // Where everybody answered, a refusal is one.
        assert!(matches!(submit(NodeKey([3; 32]), true), Err(ChainError::Refused(_))));
    }
}
