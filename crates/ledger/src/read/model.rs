//! Remember finalized blocks with their effects, and find things in them: pure and bounded.

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::Decodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, U256};
use hodei_types::{
    chain::{FEES_MAX, Fee, LOG_BLOCKS_MAX, LOGS_MAX, Log, LogFilter},
    ethereum::Record,
};
use std::{collections::BTreeMap, sync::Arc};

/// One block as kept: what wallets see, and what anchors are proven with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub record: Arc<Record>,
    /// Data of the anchored leaves, in order.
    pub anchors: Vec<Bytes>,
    /// What hashes, followed by the anchor root, to `parent_beacon_block_root`.
    pub preimage: Bytes,
}

impl Entry {
    fn weight(&self) -> usize {
        let logs = |logs: &[alloy_primitives::Log]| -> usize {
            logs.iter().map(|log| 128 + log.data.data.len() + 32 * log.data.topics().len()).sum()
        };
        let txs = self.record.txs.iter().map(|tx| 256 + tx.raw.len() + tx.output.len() + logs(&tx.logs));
        1024 + self.preimage.len() + self.anchors.iter().map(|leaf| 32 + leaf.len()).sum::<usize>() + txs.sum::<usize>()
    }
}

/// Blocks kept in memory.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub blocks_max: usize,
    pub bytes_max: usize,
}

impl Default for Kept {
    /// 18 hours of an idle chain, about 90 MB; busy blocks reach the bytes first.
    fn default() -> Self {
        Self { blocks_max: 1 << 16, bytes_max: 256 << 20 }
    }
}

/// A contiguous run of blocks up to the head.
#[derive(Debug, Default)]
pub struct Model {
    kept: Kept,
    blocks: BTreeMap<u64, Entry>,
    heights: BTreeMap<B256, u64>,
    txs: BTreeMap<B256, (u64, usize)>,
    bytes: usize,
}

/// Why logs were not listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogsRefused {
    #[error("query exceeds max block range {LOG_BLOCKS_MAX}")]
    Range,
    #[error("query returned more than {LOGS_MAX} results")]
    Count,
    #[error("blocks before {first} are no longer kept by this node")]
    Pruned { first: u64 },
}

impl Model {
    pub fn new(kept: Kept) -> Self {
        Self { kept, ..Self::default() }
    }

    /// Takes the next block. One already known is passed over; after a gap the run begins anew.
    ///
    /// Returns whether it was news.
    pub fn push(&mut self, entry: Entry) -> bool {
        let height = entry.record.header.number;
        if let Some(head) = self.head() {
            if height <= head.record.header.number {
                return false;
            }
            if height != head.record.header.number + 1 {
                *self = Self::new(self.kept);
            }
        }
        self.heights.insert(entry.record.hash, height);
        for (index, tx) in entry.record.txs.iter().enumerate() {
            self.txs.insert(tx.hash, (height, index));
        }
        self.bytes += entry.weight();
        self.blocks.insert(height, entry);
        while self.blocks.len() > self.kept.blocks_max || (self.bytes > self.kept.bytes_max && self.blocks.len() > 1) {
            self.forget();
        }
        true
    }

    fn forget(&mut self) {
        let Some((height, entry)) = self.blocks.pop_first() else { return };
        self.bytes -= entry.weight();
        self.heights.remove(&entry.record.hash);
        for tx in &entry.record.txs {
            if self.txs.get(&tx.hash).is_some_and(|(at, _)| *at == height) {
                self.txs.remove(&tx.hash);
            }
        }
    }

    pub fn kept(&self) -> Kept {
        self.kept
    }

    pub fn head(&self) -> Option<&Entry> {
        self.blocks.last_key_value().map(|(_, entry)| entry)
    }

    /// The first height kept.
    pub fn first(&self) -> Option<u64> {
        self.blocks.first_key_value().map(|(height, _)| *height)
    }

    pub fn at(&self, height: u64) -> Option<&Entry> {
        self.blocks.get(&height)
    }

    pub fn by_hash(&self, hash: &B256) -> Option<&Entry> {
        self.at(*self.heights.get(hash)?)
    }

    pub fn locate(&self, tx: &B256) -> Option<(u64, usize)> {
        self.txs.get(tx).copied()
    }

    /// Logs that match, in order.
    pub fn logs(&self, filter: &LogFilter) -> Result<Vec<Log>, LogsRefused> {
        let mut found = Vec::new();
        for record in self.range(filter.from, filter.to)? {
            collect(record, filter, &mut found)?;
        }
        Ok(found)
    }

    /// What `account`'s own transactions cost, in order.
    pub fn fees(&self, account: Address, from: u64, to: u64) -> Result<Vec<Fee>, LogsRefused> {
        let mut found = Vec::new();
        for record in self.range(from, to)? {
            for index in (0..record.txs.len()).filter(|index| record.txs[*index].sender == account) {
                if found.len() == FEES_MAX {
                    return Err(LogsRefused::Count);
                }
                found.extend(fee_of(record, index));
            }
        }
        Ok(found)
    }

    /// The kept blocks from `from` to `to`, or to the head; refused where one was forgotten.
    fn range(&self, from: u64, to: u64) -> Result<impl Iterator<Item = &Record>, LogsRefused> {
        let (first, head) = match (self.first(), self.head()) {
            (Some(first), Some(head)) => (first, head.record.header.number),
            _ => (0, 0),
        };
        let to = to.min(head);
        if to.saturating_sub(from) >= LOG_BLOCKS_MAX {
            return Err(LogsRefused::Range);
        }
        // Height 0 has no transactions, so nothing is missed by beginning at 1.
        if from <= to && from.max(1) < first {
            return Err(LogsRefused::Pruned { first });
        }
        let records = self.blocks.range(from.min(to)..=to).map(|(_, entry)| &*entry.record);
        Ok(records.filter(move |record| record.header.number >= from))
    }
}

/// What the transaction at `index` cost its sender; `None` for the ledger's own, and for bytes that are none.
fn fee_of(record: &Record, index: usize) -> Option<Fee> {
    let tx = &record.txs[index];
    let envelope = TxEnvelope::decode_2718(&mut tx.raw.as_ref()).ok()?;
    let before = index.checked_sub(1).map_or(0, |before| record.txs[before].cumulative_gas);
    let gas_used = tx.cumulative_gas.saturating_sub(before);
    let price = envelope.effective_gas_price(record.header.base_fee_per_gas);
    Some(Fee {
        height: record.header.number,
        tx: tx.hash,
        nonce: envelope.nonce(),
        fee: U256::from(gas_used) * U256::from(price),
    })
}

/// Logs of one block, numbered within it.
pub fn logs_of(record: &Record) -> impl Iterator<Item = Log> {
    let logs = record.txs.iter().flat_map(|tx| tx.logs.iter().map(move |log| (tx.hash, log)));
    logs.enumerate().map(|(index, (tx, log))| Log {
        address: log.address,
        topics: log.data.topics().to_vec(),
        data: log.data.data.clone(),
        height: record.header.number,
        tx,
        index: index as u32,
    })
}

fn collect(record: &Record, filter: &LogFilter, found: &mut Vec<Log>) -> Result<(), LogsRefused> {
    let bloom = &record.header.logs_bloom;
    let topics = [filter.topic0, filter.topic1, filter.topic2];
    let may = filter
        .address
        .is_none_or(|address| bloom.contains_input(alloy_primitives::BloomInput::Raw(address.as_slice())))
        && topics
            .iter()
            .flatten()
            .all(|topic| bloom.contains_input(alloy_primitives::BloomInput::Raw(topic.as_slice())));
    if bloom.is_zero() || !may {
        return Ok(());
    }
    for log in logs_of(record) {
        let here = filter.address.is_none_or(|address| address == log.address)
            && topics
                .iter()
                .enumerate()
                .all(|(at, topic)| topic.is_none_or(|topic| log.topics.get(at) == Some(&topic)));
        if here {
            if found.len() == LOGS_MAX {
                return Err(LogsRefused::Count);
            }
            found.push(log);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::Header;
    use alloy_primitives::{Address, Bloom, Log as EvmLog, LogData};
    use hodei_types::ethereum::Executed;

    fn block(number: u64, logs: &[(u8, u8)]) -> Entry {
        let logs: Vec<_> = logs
            .iter()
            .map(|(address, topic)| EvmLog {
                address: Address::repeat_byte(*address),
                data: LogData::new_unchecked(vec![B256::repeat_byte(*topic)], Bytes::new()),
            })
            .collect();
        let logs_bloom: Bloom = logs.iter().collect();
        let tx = Executed {
            raw: Bytes::from_static(b"tx"),
            hash: B256::with_last_byte(number as u8),
            sender: Address::ZERO,
            success: true,
            cumulative_gas: 21_000,
            logs,
            output: Bytes::new(),
        };
        let header = Header { number, logs_bloom, ..Header::default() };
        let hash = header.hash_slow();
        let record = Record { header, hash, size: 1, txs: vec![tx] };
        Entry { record: Arc::new(record), anchors: Vec::new(), preimage: Bytes::new() }
    }

    #[test]
    fn finds_logs_and_says_what_it_no_longer_has() {
        let mut model = Model::new(Kept { blocks_max: 3, bytes_max: 1 << 20 });
        for number in 1..=5 {
            assert!(model.push(block(number, &[(1, 7), (2, number as u8)])));
        }
        assert!(!model.push(block(4, &[])), "a repeated block is no news");
        let filter = |from, topic0: Option<u8>| LogFilter {
            from,
            to: u64::MAX,
            topic0: topic0.map(B256::repeat_byte),
            ..LogFilter::default()
        };
        let found = model.logs(&filter(3, Some(4))).unwrap();
        assert_eq!(found.iter().map(|log| (log.height, log.index)).collect::<Vec<_>>(), [(4, 1)]);
        assert_eq!(model.logs(&filter(3, None)).unwrap().len(), 6);
        assert_eq!(model.logs(&filter(2, None)), Err(LogsRefused::Pruned { first: 3 }));
        assert_eq!(model.logs(&filter(9, None)), Ok(Vec::new()));
        assert_eq!(model.locate(&B256::with_last_byte(2)), None);
        assert_eq!(model.locate(&B256::with_last_byte(5)), Some((5, 0)));
    }

    #[test]
    fn finds_a_transfer_by_its_payee() {
        let mut model = Model::new(Kept::default());
        let mut entry = block(1, &[(1, 7)]);
        let record = Arc::make_mut(&mut entry.record);
        let topics = [7, 8, 9].map(B256::repeat_byte).to_vec();
        record.txs[0].logs[0].data = LogData::new_unchecked(topics, Bytes::new());
        record.header.logs_bloom = record.txs[0].logs.iter().collect();
        model.push(entry);
        let count = |topic| {
            let topic2 = Some(B256::repeat_byte(topic));
            model.logs(&LogFilter { from: 0, to: 9, topic2, ..LogFilter::default() }).unwrap().len()
        };
        assert_eq!((count(9), count(8), count(6)), (1, 0, 0));
    }

    #[test]
    fn tells_what_an_account_s_own_transactions_cost() {
        use alloy_consensus::{SignableTransaction as _, TxEip1559};
        use alloy_eips::Encodable2718 as _;
        let me = Address::repeat_byte(9);
        let mut model = Model::new(Kept { blocks_max: 3, bytes_max: 1 << 20 });
        for nonce in 1..=5 {
            let mut entry = block(nonce, &[]);
            let record = Arc::make_mut(&mut entry.record);
            record.header.base_fee_per_gas = Some(7);
            let tx = TxEip1559 { nonce, max_fee_per_gas: 100, max_priority_fee_per_gas: 2, ..TxEip1559::default() };
            let signature = alloy_primitives::Signature::new(U256::from(1), U256::from(1), false);
            let raw = TxEnvelope::Eip1559(tx.into_signed(signature)).encoded_2718().into();
            let own = Executed { raw, sender: me, cumulative_gas: 51_000, success: false, ..record.txs[0].clone() };
            record.txs.push(own);
            model.push(entry);
        }
        let fees = model.fees(me, 3, u64::MAX).unwrap();
        // Behind another's 21,000 gas, at base fee and tip, whether it succeeded or not.
        assert!(fees.iter().all(|fee| fee.fee == U256::from(30_000 * 9)));
        assert_eq!(fees.iter().map(|fee| (fee.height, fee.nonce)).collect::<Vec<_>>(), [(3, 3), (4, 4), (5, 5)]);
        assert_eq!(model.fees(me, 4, 4).unwrap().len(), 1);
        assert_eq!(model.fees(Address::repeat_byte(8), 3, 5), Ok(Vec::new()));
        assert_eq!(model.fees(me, 9, 12), Ok(Vec::new()));
        assert_eq!(model.fees(me, 2, 5), Err(LogsRefused::Pruned { first: 3 }));
        assert_eq!(model.fees(me, 3, 3 + LOG_BLOCKS_MAX).unwrap().len(), 3, "the head is the last there is");
    }

    #[test]
    fn a_gap_begins_anew_and_bytes_bound_it() {
        let mut model = Model::new(Kept { blocks_max: 10, bytes_max: 4000 });
        for number in [1, 2, 9, 10, 11, 12, 13] {
            model.push(block(number, &[]));
        }
        assert!(model.at(1).is_none() && model.first() > Some(9));
        assert_eq!(model.head().unwrap().record.header.number, 13);
    }
}
