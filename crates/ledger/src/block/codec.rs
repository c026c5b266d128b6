//! Give a block its one encoding, and refuse what does not agree with itself.
//!
//! `version, header RLP, context, seed, members, anchor root, transactions`: lengths stand before what they
//! count, integers are big-endian, and every length is bounded before anything is read.

use alloy_consensus::{Header, proofs::ordered_trie_root_encoded};
use alloy_primitives::{B256, Bytes};
use alloy_rlp::{Decodable as _, Encodable as _};
use commonware_codec::{
    Buf, EncodeSize, Error as CodecError, FixedSize as _, MaxEncodeSize as _, Read, ReadExt as _, Write,
};
use commonware_consensus::BoundedBlock;
use hodei_types::receipt::HEADER_BYTES_MAX;

use super::{Block, Context, Digest, Limits, Member, SEED_BYTES, Seed, blank, commitment, time_ms};

/// First byte of an encoded block.
const VERSION: u8 = 1;

impl Write for Block {
    fn write(&self, buf: &mut impl bytes::BufMut) {
        VERSION.write(buf);
        let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
        self.header.encode(&mut header);
        (header.len() as u16).write(buf);
        buf.put_slice(&header);
        self.context.write(buf);
        self.seed.is_some().write(buf);
        if let Some(seed) = &self.seed {
            buf.put_slice(&seed.0);
        }
        for member in &self.members {
            buf.put_slice(member.ops_root.as_slice());
            member.start.write(buf);
            member.end.write(buf);
        }
        buf.put_slice(self.anchors.as_slice());
        (self.txs.len() as u32).write(buf);
        for tx in &self.txs {
            (tx.len() as u32).write(buf);
            buf.put_slice(tx);
        }
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        1 + 2
            + self.header.length()
            + self.context.encode_size()
            + 1
            + self.seed.map_or(0, |_| SEED_BYTES)
            + 2 * Member::SIZE
            + 32
            + 4
            + self.txs.iter().map(|tx| 4 + tx.len()).sum::<usize>()
    }
}

impl Read for Block {
    type Cfg = Limits;

    fn read_cfg(buf: &mut impl Buf, limits: &Limits) -> Result<Self, CodecError> {
        if u8::read(buf)? != VERSION {
            return Err(invalid("unknown version"));
        }
        let header = read_header(buf)?;
        let context = Context::read(buf)?;
        let seed = if bool::read(buf)? { Some(Seed(<[u8; SEED_BYTES]>::read(buf)?)) } else { None };
        let members = [read_member(buf)?, read_member(buf)?];
        let anchors = B256::from(<[u8; 32]>::read(buf)?);
        let txs = read_txs(buf, limits)?;

        if header.parent_beacon_block_root != Some(commitment(&context, &members, anchors)) {
            return Err(invalid("context, ranges, roots or anchors differ from the header"));
        }
        if header.parent_hash.0 != context.parent.1.0 {
            return Err(invalid("parent differs from the context"));
        }
        if header.transactions_root != ordered_trie_root_encoded(&txs) {
            return Err(invalid("transactions differ from the header"));
        }
        match &seed {
            None if header.number <= 1 => {}
            Some(seed) if header.number > 1 && header.mix_hash == seed.mix() => {}
            _ => return Err(invalid("seed differs from the header")),
        }
        Ok(Self::assemble(header, context, txs, seed, members, anchors))
    }
}

fn read_header(buf: &mut impl Buf) -> Result<Header, CodecError> {
    let len = usize::from(u16::read(buf)?);
    if len > HEADER_BYTES_MAX {
        return Err(CodecError::InvalidLength(len));
    }
    if buf.remaining() < len {
        return Err(CodecError::EndOfBuffer);
    }
    let raw = buf.copy_to_bytes(len);
    let header = Header::decode(&mut raw.as_ref()).map_err(|_| invalid("header is not RLP"))?;
    let mut again = Vec::with_capacity(len);
    header.encode(&mut again);
    if again != raw {
        return Err(invalid("header is not canonical"));
    }
    let fixed = blank();
    let ordinary = header.ommers_hash == fixed.ommers_hash
        && header.difficulty == fixed.difficulty
        && header.nonce == fixed.nonce
        && header.withdrawals_root == fixed.withdrawals_root
        && header.blob_gas_used == fixed.blob_gas_used
        && header.excess_blob_gas == fixed.excess_blob_gas
        && header.requests_hash == fixed.requests_hash
        && header.base_fee_per_gas.is_some();
    let extra = if header.number == 0 { 32 } else { 8 };
    if !ordinary || header.extra_data.len() != extra || header.timestamp != time_ms(&header) / 1000 {
        return Err(invalid("header field out of shape"));
    }
    Ok(header)
}

fn read_member(buf: &mut impl Buf) -> Result<Member, CodecError> {
    let ops_root = B256::from(<[u8; 32]>::read(buf)?);
    let (start, end) = (u64::read(buf)?, u64::read(buf)?);
    // Beyond 2^62 operations locations overflow in the Merkle tree.
    if start >= end || end > 1 << 62 {
        return Err(invalid("empty or impossible range"));
    }
    Ok(Member { ops_root, start, end })
}

fn read_txs(buf: &mut impl Buf, limits: &Limits) -> Result<Vec<Bytes>, CodecError> {
    let count = u32::read(buf)?;
    if count > limits.txs_max {
        return Err(CodecError::InvalidLength(count as usize));
    }
    // Each transaction has a length prefix: the buffer bounds what is reserved.
    let mut txs = Vec::with_capacity((count as usize).min(buf.remaining() / 4));
    let mut total = 0u64;
    for _ in 0..count {
        let len = u32::read(buf)?;
        total += u64::from(len);
        if len > limits.tx_bytes_max || total > u64::from(limits.body_bytes_max) {
            return Err(CodecError::InvalidLength(len as usize));
        }
        if buf.remaining() < len as usize {
            return Err(CodecError::EndOfBuffer);
        }
        txs.push(Bytes::from(buf.copy_to_bytes(len as usize)));
    }
    Ok(txs)
}

fn invalid(reason: &'static str) -> CodecError {
    CodecError::Invalid("block", reason)
}

impl BoundedBlock for Block {
    fn max_encode_size(limits: &Limits) -> usize {
        1 + 2
            + HEADER_BYTES_MAX
            + Context::MAX_ENCODE_SIZE
            + 1
            + SEED_BYTES
            + 2 * Member::SIZE
            + Digest::SIZE
            + 4
            + 4 * limits.txs_max as usize
            + limits.body_bytes_max as usize
    }
}
