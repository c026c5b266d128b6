//! Shape blocks, transactions and receipts as Ethereum's clients expect them.

use super::fault::{self, Result};
use alloy_consensus::{
    Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction as _, TxEnvelope, TxType,
    transaction::{Recovered, TransactionInfo},
};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{Address, B256, Log, U256, logs_bloom};
use alloy_rpc_types_eth::{Block, BlockTransactions, Header, Log as RpcLog, Transaction, TransactionReceipt};
use hodei_types::ethereum::{Executed, Record};

fn envelope(raw: &[u8]) -> Result<TxEnvelope> {
    TxEnvelope::decode_2718(&mut &raw[..])
        .map_err(|error| fault::refused(format!("a stored transaction does not decode: {error}")))
}

/// A block header with its hash and size.
pub(super) fn header(record: &Record) -> Header {
    Header {
        hash: record.hash,
        inner: record.header.clone(),
        total_difficulty: Some(U256::ZERO),
        size: Some(U256::from(record.size)),
    }
}

/// A block with whole transactions, or their hashes.
pub(super) fn block(record: &Record, full: bool) -> Result<Block> {
    let transactions = if full {
        let all = (0..record.txs.len()).map(|index| transaction(record, index)).collect::<Result<_>>()?;
        BlockTransactions::Full(all)
    } else {
        BlockTransactions::Hashes(record.txs.iter().map(|tx| tx.hash).collect())
    };
    Ok(Block { header: header(record), uncles: Vec::new(), transactions, withdrawals: Some(Vec::new().into()) })
}

/// A transaction in its block.
pub(super) fn transaction(record: &Record, index: usize) -> Result<Transaction> {
    let tx = &record.txs[index];
    let info = TransactionInfo {
        hash: Some(tx.hash),
        index: Some(index as u64),
        block_hash: Some(record.hash),
        block_number: Some(record.header.number),
        base_fee: record.header.base_fee_per_gas,
        block_timestamp: Some(record.header.timestamp),
    };
    Ok(Transaction::from_transaction(Recovered::new_unchecked(envelope(&tx.raw)?, tx.sender), info))
}

/// A transaction that waits: no block yet.
pub(super) fn waiting(raw: &[u8], sender: Address) -> Result<Transaction> {
    Ok(Transaction::from_transaction(Recovered::new_unchecked(envelope(raw)?, sender), TransactionInfo::default()))
}

/// What a transaction did; log indices count through the whole block.
pub(super) fn receipt(record: &Record, index: usize) -> Result<TransactionReceipt> {
    let tx = &record.txs[index];
    let envelope = envelope(&tx.raw)?;
    let before = index.checked_sub(1).map_or(0, |previous| record.txs[previous].cumulative_gas);
    let contract = envelope.to().is_none().then(|| tx.sender.create(envelope.nonce()));
    let inner = ReceiptWithBloom {
        logs_bloom: logs_bloom(&tx.logs),
        receipt: Receipt {
            status: tx.success.into(),
            cumulative_gas_used: tx.cumulative_gas,
            logs: logs(record, index).collect(),
        },
    };
    let base = record.header.base_fee_per_gas;
    Ok(TransactionReceipt {
        inner: match envelope.tx_type() {
            TxType::Legacy => ReceiptEnvelope::Legacy(inner),
            TxType::Eip2930 => ReceiptEnvelope::Eip2930(inner),
            TxType::Eip1559 => ReceiptEnvelope::Eip1559(inner),
            TxType::Eip4844 => ReceiptEnvelope::Eip4844(inner),
            TxType::Eip7702 => ReceiptEnvelope::Eip7702(inner),
        },
        transaction_hash: tx.hash,
        transaction_index: Some(index as u64),
        block_hash: Some(record.hash),
        block_number: Some(record.header.number),
        gas_used: tx.cumulative_gas - before,
        effective_gas_price: envelope.effective_gas_price(base),
        blob_gas_used: None,
        blob_gas_price: None,
        from: tx.sender,
        to: envelope.to(),
        contract_address: contract,
    })
}

/// The logs of one transaction with their places.
pub(super) fn logs(record: &Record, index: usize) -> impl Iterator<Item = RpcLog> + '_ {
    let first: usize = record.txs[..index].iter().map(|tx| tx.logs.len()).sum();
    let tx = &record.txs[index];
    tx.logs.iter().enumerate().map(move |(at, inner)| log(record, tx, index, first + at, inner))
}

fn log(record: &Record, tx: &Executed, index: usize, at: usize, inner: &Log) -> RpcLog {
    let hash: B256 = tx.hash;
    RpcLog {
        inner: inner.clone(),
        block_hash: Some(record.hash),
        block_number: Some(record.header.number),
        block_timestamp: Some(record.header.timestamp),
        transaction_hash: Some(hash),
        transaction_index: Some(index as u64),
        log_index: Some(at as u64),
        removed: false,
    }
}
