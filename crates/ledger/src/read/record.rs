//! Encode what is kept of a finalized block.
//!
//! `[1, header RLP, size, [[raw, sender, success, cumulative gas, output, [[address, topics, data]…]]…],
//! [anchored leaf…], preimage]` in canonical CBOR. The hashes are recomputed on reading.

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, Log, LogData, keccak256};
use alloy_rlp::Decodable as _;
use hodei_types::{
    abi::ANCHOR_BYTES_MAX,
    cbor::{CborError, Reader, Writer},
    ethereum::{Executed, Record},
    receipt::{HEADER_BYTES_MAX, PREIMAGE_BYTES_MAX},
};
use std::sync::Arc;

use super::Entry;

/// Bytes of one record: a block's gas bounds its logs and outputs far below.
pub(super) const RECORD_BYTES_MAX: usize = 64 << 20;

const VERSION: u64 = 1;
const LIST_MAX: usize = 1 << 20;
const DATA_BYTES_MAX: usize = 32 << 20;

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Cbor(#[from] CborError),
    #[error("header is not RLP")]
    Header,
}

impl Entry {
    pub fn encode(&self) -> Vec<u8> {
        let record = &self.record;
        let mut out = Writer::with_capacity(1024 + record.size as usize * 2);
        out.array(6).uint(VERSION).bytes(&alloy_rlp::encode(&record.header)).uint(record.size);
        out.array(record.txs.len());
        for tx in &record.txs {
            out.array(6).bytes(&tx.raw).bytes(tx.sender.as_slice()).uint(tx.success.into());
            out.uint(tx.cumulative_gas).bytes(&tx.output).array(tx.logs.len());
            for log in &tx.logs {
                let topics = log.data.topics().concat();
                out.array(3).bytes(log.address.as_slice()).bytes(&topics).bytes(&log.data.data);
            }
        }
        out.array(self.anchors.len());
        for leaf in &self.anchors {
            out.bytes(leaf);
        }
        out.bytes(&self.preimage);
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut input = Reader::new(bytes);
        input.tuple(6)?;
        input.exactly("record version", VERSION)?;
        let rlp = input.bytes(HEADER_BYTES_MAX)?;
        let header = Header::decode(&mut &rlp[..]).map_err(|_| RecordError::Header)?;
        let size = input.uint()?;
        let count = input.array(LIST_MAX)?;
        let mut txs = Vec::new();
        for _ in 0..count {
            txs.push(read_tx(&mut input)?);
        }
        let count = input.array(LIST_MAX)?;
        let mut anchors = Vec::new();
        for _ in 0..count {
            // Registrations are fixed-size and shorter than the largest posted leaf with its tag.
            anchors.push(Bytes::copy_from_slice(input.bytes(ANCHOR_BYTES_MAX + 1)?));
        }
        let preimage = Bytes::copy_from_slice(input.bytes(PREIMAGE_BYTES_MAX)?);
        input.end()?;
        let record = Record { header, hash: keccak256(rlp), size, txs };
        Ok(Self { record: Arc::new(record), anchors, preimage })
    }
}

fn read_tx(input: &mut Reader<'_>) -> Result<Executed, RecordError> {
    input.tuple(6)?;
    let raw = Bytes::copy_from_slice(input.bytes(DATA_BYTES_MAX)?);
    let sender = Address::from(input.fixed::<20>()?);
    let at = input.at();
    let success = match input.uint()? {
        0 => false,
        1 => true,
        found => return Err(CborError::Value { at, what: "success", expected: 1, found }.into()),
    };
    let cumulative_gas = input.uint()?;
    let output = Bytes::copy_from_slice(input.bytes(DATA_BYTES_MAX)?);
    let count = input.array(LIST_MAX)?;
    let mut logs = Vec::new();
    for _ in 0..count {
        logs.push(read_log(input)?);
    }
    Ok(Executed { hash: keccak256(&raw), raw, sender, success, cumulative_gas, logs, output })
}

fn read_log(input: &mut Reader<'_>) -> Result<Log, RecordError> {
    input.tuple(3)?;
    let address = Address::from(input.fixed::<20>()?);
    let at = input.at();
    let topics = input.bytes(4 * 32)?;
    if topics.len() % 32 != 0 {
        let found = topics.len() as u64;
        return Err(CborError::Value { at, what: "topic bytes", expected: 32, found }.into());
    }
    let topics = topics.chunks(32).map(B256::from_slice).collect();
    let data = Bytes::copy_from_slice(input.bytes(DATA_BYTES_MAX)?);
    Ok(Log { address, data: LogData::new_unchecked(topics, data) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let log = |topics: u8| Log {
            address: Address::repeat_byte(topics),
            data: LogData::new_unchecked((0..topics).map(B256::repeat_byte).collect(), Bytes::from_static(b"data")),
        };
        let raw = Bytes::from_static(b"raw transaction");
        let tx = Executed {
            hash: keccak256(&raw),
            raw,
            sender: Address::repeat_byte(5),
            success: true,
            cumulative_gas: 1 << 40,
            logs: vec![log(0), log(4)],
            output: Bytes::from_static(b"out"),
        };
        let failed = Executed { success: false, logs: Vec::new(), ..tx.clone() };
        let header = Header { number: 9, extra_data: Bytes::from_static(b"12345678"), ..Header::default() };
        let record = Record { hash: header.hash_slow(), header, size: 700, txs: vec![tx, failed] };
        Entry {
            record: Arc::new(record),
            anchors: vec![Bytes::from_static(b"\x01leaf")],
            preimage: Bytes::from_static(b"preimage"),
        }
    }

    #[test]
    fn a_record_survives_and_damage_never_reads_as_the_same() {
        let bytes = entry().encode();
        assert_eq!(Entry::decode(&bytes).unwrap(), entry());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bent = bytes.clone();
                bent[at] ^= 1 << bit;
                if let Ok(other) = Entry::decode(&bent) {
                    assert_ne!(other, entry(), "byte {at}, bit {bit}");
                }
            }
            assert!(Entry::decode(&bytes[..at]).is_err());
        }
    }
}
