//! Answer wallets in process.

use alloy_eips::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, U256};
use futures::{FutureExt as _, future::BoxFuture};
use hodei_types::{
    chain::ChainError,
    ethereum::{At, Call, CallOutcome, Ethereum, Record, StateProof, Waiting},
};
use std::sync::Arc;

use super::{Reader, unreadable};
use crate::execute::{account_key, decode_slot, next_base_fee, slot_key};

impl Ethereum for Reader {
    fn block(&self, at: At) -> BoxFuture<'_, Result<Option<Arc<Record>>, ChainError>> {
        async move {
            let model = self.model();
            let entry = match at {
                At::Latest => model.head(),
                At::Height(height) => model.at(height),
                At::Hash(hash) => model.by_hash(&hash),
            };
            Ok(entry.map(|entry| entry.record.clone()))
        }
        .boxed()
    }

    fn locate(&self, tx: B256) -> BoxFuture<'_, Result<Option<(u64, usize)>, ChainError>> {
        async move { Ok(self.model().locate(&tx)) }.boxed()
    }

    fn waiting(&self, tx: B256) -> BoxFuture<'_, Result<Option<Waiting>, ChainError>> {
        async move {
            let found = self.shared.pool.get(&tx);
            Ok(found.map(|tx| Waiting { raw: tx.envelope.encoded_2718().into(), hash: tx.hash, sender: tx.sender }))
        }
        .boxed()
    }

    fn simulate(&self, call: Call, at: At) -> BoxFuture<'_, Result<CallOutcome, ChainError>> {
        async move { self.run(&call, at).await }.boxed()
    }

    fn balance(&self, address: Address, at: At) -> BoxFuture<'_, Result<U256, ChainError>> {
        async move { Ok(self.account_at(address, at).await?.balance) }.boxed()
    }

    fn nonce(&self, address: Address, at: At) -> BoxFuture<'_, Result<u64, ChainError>> {
        async move { Ok(self.account_at(address, at).await?.nonce) }.boxed()
    }

    fn code(&self, address: Address, at: At) -> BoxFuture<'_, Result<Bytes, ChainError>> {
        async move {
            let hash = self.account_at(address, at).await?.code_hash;
            if hash == alloy_primitives::KECCAK256_EMPTY {
                return Ok(Bytes::new());
            }
            let codes = self.source()?.codes(vec![hash]).await.ok_or_else(unreadable)?;
            Ok(codes.into_iter().next().flatten().unwrap_or_default().into())
        }
        .boxed()
    }

    fn slot(&self, address: Address, slot: U256, at: At) -> BoxFuture<'_, Result<U256, ChainError>> {
        async move {
            let height = self.height_at(at)?;
            let values = self.values_at(&[slot_key(address, slot)], height).await?;
            let value = values.into_iter().next().flatten();
            Ok(value.and_then(|bytes| decode_slot(&bytes)).unwrap_or_default())
        }
        .boxed()
    }

    fn next_base_fee(&self) -> BoxFuture<'_, Result<u64, ChainError>> {
        async move {
            let header = &self.head_entry()?.record.header;
            let fees = &self.shared.genesis.fees;
            Ok(next_base_fee(fees, header.base_fee_per_gas.unwrap_or(fees.base_fee), header.gas_used))
        }
        .boxed()
    }

    fn arrivals(&self, cursor: u64) -> BoxFuture<'_, Result<(u64, Vec<B256>), ChainError>> {
        async move { Ok(self.shared.pool.news(cursor)) }.boxed()
    }

    fn arrived(&self, cursor: u64) -> BoxFuture<'_, ()> {
        async move { self.shared.pool.changed(cursor).await }.boxed()
    }

    fn prove(&self, address: Address, slot: Option<U256>) -> BoxFuture<'_, Result<StateProof, ChainError>> {
        async move {
            let key = slot.map_or_else(|| account_key(address), |slot| slot_key(address, slot));
            // The state moves with each block: a proof is only of use with the height whose root it fits.
            for _ in 0..8 {
                let proven = self.source()?.prove(key).await.ok_or_else(unreadable)?;
                let root = crate::block::state_root(proven.state, proven.code);
                let fits = self
                    .model()
                    .head()
                    .filter(|head| head.record.header.state_root == root)
                    .map(|head| head.record.header.number);
                if let Some(height) = fits {
                    return Ok(StateProof {
                        height,
                        key,
                        value: proven.value.map(Bytes::from),
                        proof: proven.proof.into(),
                        state: proven.state,
                        code: proven.code,
                    });
                }
                let _ = self.next_head().await;
            }
            Err(ChainError::Unavailable("blocks come too fast for a proof: try again".into()))
        }
        .boxed()
    }
}
