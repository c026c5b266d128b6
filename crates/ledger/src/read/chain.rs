//! Answer the planes' questions in process.

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::encode;
use commonware_codec::Encode as _;
use futures::{FutureExt as _, future::BoxFuture};
use hodei_types::{
    chain::{Account, AnchorProof, Certificate, Chain, ChainError, Fee, Head, Kept, Log, LogFilter, TxReceipt},
    ethereum::{At, Record},
    merkle,
    receipt::HEADERS_MAX,
};

use super::{Reader, logs_of};
use crate::execute::Call;

/// New heads waited for until a certificate covers the newest block.
const HEADS_WAITED: usize = 3;

impl Reader {
    async fn certify(&self, height: u64) -> Result<Certificate, ChainError> {
        let Some(finality) = self.shared.finality.get() else {
            return Err(ChainError::Unavailable("this node is still starting".into()));
        };
        for _ in 0..=HEADS_WAITED {
            let next = self.next_head();
            let headers = self.headers_from(height)?;
            for (count, at) in (height..).take(headers.len()).enumerate() {
                if let Some(finalization) = finality.finalization(at).await {
                    let headers = headers[..=count].iter().map(|header| encode(header).into()).collect();
                    return Ok(Certificate { headers, finalization: finalization.into() });
                }
            }
            if headers.len() == HEADERS_MAX {
                break;
            }
            let _ = next.await;
        }
        Err(ChainError::Unavailable(format!("no certificate follows block {height} within {HEADERS_MAX} blocks")))
    }

    fn headers_from(&self, height: u64) -> Result<Vec<Header>, ChainError> {
        let model = self.model();
        let headers: Vec<_> = (height..height.saturating_add(HEADERS_MAX as u64))
            .map_while(|at| model.at(at))
            .map(|entry| entry.record.header.clone())
            .collect();
        if headers.is_empty() {
            let reason = match model.first() {
                Some(first) if height < first => format!("blocks before {first} are no longer kept by this node"),
                _ => format!("block {height} is not finalized"),
            };
            return Err(ChainError::Refused(reason));
        }
        Ok(headers)
    }
}

impl Chain for Reader {
    fn head(&self) -> BoxFuture<'_, Result<Head, ChainError>> {
        async move { Ok(self.head_of(&self.head_entry()?.record)) }.boxed()
    }

    fn wait(&self, height: u64) -> BoxFuture<'_, Result<Head, ChainError>> {
        async move {
            loop {
                let next = self.next_head();
                let head = self.model().head().map(|entry| entry.record.clone());
                match head {
                    Some(record) if record.header.number > height => return Ok(self.head_of(&record)),
                    _ => {
                        let _ = next.await;
                    }
                }
            }
        }
        .boxed()
    }

    fn certificate(&self, height: u64) -> BoxFuture<'_, Result<Certificate, ChainError>> {
        self.certify(height).boxed()
    }

    fn kept(&self, height: u64) -> BoxFuture<'_, Result<Kept, ChainError>> {
        async move {
            let Some(finality) = self.shared.finality.get() else {
                return Err(ChainError::Unavailable("this node is still starting".into()));
            };
            let Some(block) = finality.block(height).await else {
                return Err(ChainError::Refused(format!("block {height} is not kept by this node")));
            };
            let finalization = finality.finalization(height).await.map(Bytes::from);
            Ok(Kept { block: block.encode().to_vec().into(), finalization })
        }
        .boxed()
    }

    fn account(&self, address: Address) -> BoxFuture<'_, Result<Account, ChainError>> {
        async move {
            let account = self.account_at(address, At::Latest).await?;
            let pending_nonce = self.shared.pool.next_nonce(address).unwrap_or(0).max(account.nonce);
            Ok(Account { balance: account.balance, nonce: account.nonce, pending_nonce })
        }
        .boxed()
    }

    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, ChainError>> {
        async move {
            use crate::mempool::Refused;
            if self.model().locate(&alloy_primitives::keccak256(&raw)).is_some() {
                return Err(ChainError::Refused(Refused::Known.to_string()));
            }
            self.shared.pool.insert(raw).await.map_err(|reason| match reason {
                Refused::Starting => ChainError::Unavailable(reason.to_string()),
                _ => ChainError::Refused(reason.to_string()),
            })
        }
        .boxed()
    }

    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<TxReceipt>, ChainError>> {
        async move {
            let found = {
                let model = self.model();
                model.locate(&tx).and_then(|(height, index)| Some((model.at(height)?.record.clone(), index)))
            };
            Ok(found.map(|(record, index)| receipt(&record, index)))
        }
        .boxed()
    }

    fn call(&self, from: Address, to: Address, data: Bytes) -> BoxFuture<'_, Result<Bytes, ChainError>> {
        async move {
            let outcome = self.run(&Call { from, to: Some(to), data, ..Call::default() }, At::Latest).await?;
            match outcome.halt {
                _ if outcome.success => Ok(outcome.output),
                None => Err(ChainError::Reverted(outcome.output)),
                Some(reason) => Err(ChainError::Refused(format!("call halted: {reason}"))),
            }
        }
        .boxed()
    }

    fn logs(&self, filter: LogFilter) -> BoxFuture<'_, Result<Vec<Log>, ChainError>> {
        async move { self.model().logs(&filter).map_err(|reason| ChainError::Refused(reason.to_string())) }.boxed()
    }

    fn fees(&self, account: Address, from: u64, to: u64) -> BoxFuture<'_, Result<Vec<Fee>, ChainError>> {
        async move { self.model().fees(account, from, to).map_err(|reason| ChainError::Refused(reason.to_string())) }
            .boxed()
    }

    fn anchor(&self, height: u64, leaf: Bytes) -> BoxFuture<'_, Result<AnchorProof, ChainError>> {
        async move {
            let certificate = self.certify(height).await?;
            let model = self.model();
            let entry = model.at(height).ok_or_else(|| ChainError::Refused(format!("block {height} is not kept")))?;
            let index = entry
                .anchors
                .iter()
                .position(|data| *data == leaf)
                .ok_or_else(|| ChainError::Refused(format!("block {height} does not anchor this leaf")))?;
            let hashes: Vec<_> = entry.anchors.iter().map(|data| merkle::leaf(data)).collect();
            Ok(AnchorProof {
                index: index as u64,
                size: hashes.len() as u64,
                path: merkle::inclusion_path(&hashes, index).expect("the position was found in this tree"),
                preimage: entry.preimage.clone(),
                headers: certificate.headers,
                finalization: certificate.finalization,
            })
        }
        .boxed()
    }
}

fn receipt(record: &Record, index: usize) -> TxReceipt {
    let tx = &record.txs[index];
    let before = index.checked_sub(1).map_or(0, |before| record.txs[before].cumulative_gas);
    TxReceipt {
        tx: tx.hash,
        height: record.header.number,
        success: tx.success,
        gas_used: tx.cumulative_gas.saturating_sub(before),
        logs: logs_of(record).filter(|log| log.tx == tx.hash).collect(),
        output: tx.output.clone(),
    }
}
