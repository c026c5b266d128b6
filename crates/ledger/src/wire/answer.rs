//! Encode what a server answers.

use super::ANSWER_BYTES_MAX;
use alloy_primitives::{Address, B256, Bytes, U256};
use hodei_types::{
    cbor::{CborError, Reader, Writer},
    chain::{Account, AnchorProof, Certificate, ChainError, FEES_MAX, Fee, Head, Kept, LOGS_MAX, Log, TxReceipt},
    merkle::PATH_MAX,
    receipt::{FINALIZATION_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX, PREIMAGE_BYTES_MAX},
};

const REASON_BYTES_MAX: usize = 1024;

/// The value of an answer; which one follows from the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Head(Head, Certificate),
    Certificate(Certificate),
    Account(Account),
    Hash(B256),
    Receipt(Option<TxReceipt>),
    Bytes(Bytes),
    Logs(Vec<Log>),
    Anchor(AnchorProof),
    Block(Kept),
    Fees(Vec<Fee>),
}

pub(crate) fn encode(answer: &Result<Answer, ChainError>) -> Vec<u8> {
    let mut writer = Writer::new();
    match answer {
        Ok(answer) => {
            writer.array(3).uint(0);
            value(&mut writer, answer);
        }
        Err(ChainError::Refused(reason)) => text(writer.array(2).uint(1), reason),
        Err(ChainError::Reverted(output)) => {
            writer.array(2).uint(2).bytes(output);
        }
        Err(ChainError::Unavailable(reason)) => text(writer.array(2).uint(3), reason),
        Err(ChainError::Invalid(reason)) => text(writer.array(2).uint(4), reason),
    }
    writer.finish()
}

/// Reads an answer: the value, or the error the server gave.
pub(crate) fn decode(bytes: &[u8]) -> Result<Result<Answer, ChainError>, CborError> {
    let mut reader = Reader::new(bytes);
    reader.array(3)?;
    let at = reader.at();
    let answer = match reader.uint()? {
        0 => Ok(read_value(&mut reader)?),
        1 => Err(ChainError::Refused(reader.text(REASON_BYTES_MAX)?.into())),
        2 => Err(ChainError::Reverted(Bytes::copy_from_slice(reader.bytes(ANSWER_BYTES_MAX)?))),
        3 => Err(ChainError::Unavailable(reader.text(REASON_BYTES_MAX)?.into())),
        4 => Err(ChainError::Unavailable(reader.text(REASON_BYTES_MAX)?.into())),
        found => return Err(CborError::Value { at, what: "answer", expected: 0, found }),
    };
    reader.end()?;
    Ok(answer)
}

fn text(writer: &mut Writer, reason: &str) {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    writer.text(&reason[..end]);
}

fn value(writer: &mut Writer, answer: &Answer) {
    match answer {
        Answer::Head(head, certificate) => {
            writer.uint(0).array(7).uint(head.height).bytes(head.hash.as_slice()).uint(head.time_ms);
            writer.uint(head.base_fee).uint(head.chain_id).bytes(head.genesis.as_slice());
            write_certificate(writer, certificate);
        }
        Answer::Certificate(certificate) => write_certificate(writer.uint(1), certificate),
        Answer::Account(account) => {
            writer.uint(2).array(3).bytes(&account.balance.to_be_bytes::<32>());
            writer.uint(account.nonce).uint(account.pending_nonce);
        }
        Answer::Hash(hash) => {
            writer.uint(3).bytes(hash.as_slice());
        }
        Answer::Receipt(receipt) => {
            writer.uint(4).array(usize::from(receipt.is_some()));
            if let Some(receipt) = receipt {
                writer.array(6).bytes(receipt.tx.as_slice()).uint(receipt.height).uint(receipt.success.into());
                writer.uint(receipt.gas_used).bytes(&receipt.output);
                write_logs(writer, &receipt.logs);
            }
        }
        Answer::Bytes(bytes) => {
            writer.uint(5).bytes(bytes);
        }
        Answer::Logs(logs) => write_logs(writer.uint(6), logs),
        Answer::Anchor(proof) => {
            writer.uint(7).array(6).uint(proof.index).uint(proof.size).array(proof.path.len());
            for hash in &proof.path {
                writer.bytes(hash.as_slice());
            }
            writer.bytes(&proof.preimage);
            write_headers(writer, &proof.headers);
            writer.bytes(&proof.finalization);
        }
        Answer::Block(kept) => {
            writer.uint(8).array(2).bytes(&kept.block);
            writer.bytes(kept.finalization.as_ref().map_or(&[], |bytes| bytes.as_ref()));
        }
        Answer::Fees(fees) => {
            writer.uint(9).array(fees.len());
            for fee in fees {
                writer.array(4).uint(fee.height).bytes(fee.tx.as_slice()).uint(fee.nonce);
                writer.bytes(&fee.fee.to_be_bytes::<32>());
            }
        }
    }
}

fn read_value(reader: &mut Reader<'_>) -> Result<Answer, CborError> {
    let at = reader.at();
    Ok(match reader.uint()? {
        0 => {
            reader.tuple(7)?;
            let head = Head {
                height: reader.uint()?,
                hash: B256::from(reader.fixed::<32>()?),
                time_ms: reader.uint()?,
                base_fee: reader.uint()?,
                chain_id: reader.uint()?,
                genesis: B256::from(reader.fixed::<32>()?),
            };
            Answer::Head(head, read_certificate(reader)?)
        }
        1 => Answer::Certificate(read_certificate(reader)?),
        2 => {
            reader.tuple(3)?;
            Answer::Account(Account {
                balance: U256::from_be_bytes(reader.fixed::<32>()?),
                nonce: reader.uint()?,
                pending_nonce: reader.uint()?,
            })
        }
        3 => Answer::Hash(B256::from(reader.fixed::<32>()?)),
        4 => match reader.array(1)? {
            0 => Answer::Receipt(None),
            _ => {
                reader.tuple(6)?;
                Answer::Receipt(Some(TxReceipt {
                    tx: B256::from(reader.fixed::<32>()?),
                    height: reader.uint()?,
                    success: reader.byte()? == 1,
                    gas_used: reader.uint()?,
                    output: Bytes::copy_from_slice(reader.bytes(ANSWER_BYTES_MAX)?),
                    logs: read_logs(reader)?,
                }))
            }
        },
        5 => Answer::Bytes(Bytes::copy_from_slice(reader.bytes(ANSWER_BYTES_MAX)?)),
        6 => Answer::Logs(read_logs(reader)?),
        7 => {
            reader.tuple(6)?;
            let (index, size) = (reader.uint()?, reader.uint()?);
            let steps = reader.array(PATH_MAX)?;
            let path = (0..steps).map(|_| reader.fixed::<32>().map(B256::from)).collect::<Result<_, _>>()?;
            let preimage = Bytes::copy_from_slice(reader.bytes(PREIMAGE_BYTES_MAX)?);
            let headers = read_headers(reader)?;
            let finalization = Bytes::copy_from_slice(reader.bytes(FINALIZATION_BYTES_MAX)?);
            Answer::Anchor(AnchorProof { index, size, path, preimage, headers, finalization })
        }
        8 => {
            reader.tuple(2)?;
            let block = Bytes::copy_from_slice(reader.bytes(ANSWER_BYTES_MAX)?);
            let finalization = Bytes::copy_from_slice(reader.bytes(FINALIZATION_BYTES_MAX)?);
            Answer::Block(Kept { block, finalization: (!finalization.is_empty()).then_some(finalization) })
        }
        9 => {
            let count = reader.array(FEES_MAX)?;
            let fees = (0..count).map(|_| {
                reader.tuple(4)?;
                Ok(Fee {
                    height: reader.uint()?,
                    tx: B256::from(reader.fixed::<32>()?),
                    nonce: reader.uint()?,
                    fee: U256::from_be_bytes(reader.fixed::<32>()?),
                })
            });
            Answer::Fees(fees.collect::<Result<_, CborError>>()?)
        }
        found => return Err(CborError::Value { at, what: "kind of answer", expected: 0, found }),
    })
}

fn write_certificate(writer: &mut Writer, certificate: &Certificate) {
    writer.array(2);
    write_headers(writer, &certificate.headers);
    writer.bytes(&certificate.finalization);
}

fn read_certificate(reader: &mut Reader<'_>) -> Result<Certificate, CborError> {
    reader.tuple(2)?;
    let headers = read_headers(reader)?;
    Ok(Certificate { headers, finalization: Bytes::copy_from_slice(reader.bytes(FINALIZATION_BYTES_MAX)?) })
}

fn write_headers(writer: &mut Writer, headers: &[Bytes]) {
    writer.array(headers.len());
    for header in headers {
        writer.bytes(header);
    }
}

fn read_headers(reader: &mut Reader<'_>) -> Result<Vec<Bytes>, CborError> {
    let count = reader.array(HEADERS_MAX)?;
    (0..count).map(|_| Ok(Bytes::copy_from_slice(reader.bytes(HEADER_BYTES_MAX)?))).collect()
}

fn write_logs(writer: &mut Writer, logs: &[Log]) {
    writer.array(logs.len());
    for log in logs {
        writer.array(6).bytes(log.address.as_slice()).array(log.topics.len());
        for topic in &log.topics {
            writer.bytes(topic.as_slice());
        }
        writer.bytes(&log.data).uint(log.height).bytes(log.tx.as_slice()).uint(log.index.into());
    }
}

fn read_logs(reader: &mut Reader<'_>) -> Result<Vec<Log>, CborError> {
    let count = reader.array(LOGS_MAX)?;
    (0..count)
        .map(|_| {
            reader.tuple(6)?;
            let address = Address::from(reader.fixed::<20>()?);
            let topics = reader.array(4)?;
            let topics = (0..topics).map(|_| reader.fixed::<32>().map(B256::from)).collect::<Result<_, _>>()?;
            let data = Bytes::copy_from_slice(reader.bytes(ANSWER_BYTES_MAX)?);
            let height = reader.uint()?;
            let tx = B256::from(reader.fixed::<32>()?);
            let at = reader.at();
            let found = reader.uint()?;
            let index = u32::try_from(found).map_err(|_| CborError::TooLong { at, found, max: u32::MAX.into() })?;
            Ok(Log { address, topics, data, height, tx, index })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Answer, decode, encode};
    use alloy_primitives::{Address, B256, Bytes, U256};
    use hodei_types::chain::{Account, AnchorProof, Certificate, ChainError, Fee, Head, Kept, Log, TxReceipt};
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    fn every() -> Vec<Result<Answer, ChainError>> {
        let certificate =
            Certificate { headers: vec![Bytes::from_static(b"header")], finalization: Bytes::from_static(b"final") };
        let log = Log {
            address: Address::repeat_byte(1),
            topics: vec![B256::repeat_byte(2); 4],
            data: Bytes::from_static(b"data"),
            height: 5,
            tx: B256::repeat_byte(3),
            index: 6,
        };
        let head = Head {
            height: 1,
            hash: B256::repeat_byte(4),
            time_ms: 2,
            base_fee: 3,
            chain_id: 4,
            genesis: B256::repeat_byte(5),
        };
        let receipt = TxReceipt {
            tx: B256::repeat_byte(6),
            height: 7,
            success: true,
            gas_used: 8,
            logs: vec![log.clone()],
            output: Bytes::new(),
        };
        let proof = AnchorProof {
            index: 1,
            size: 2,
            path: vec![B256::repeat_byte(7)],
            preimage: Bytes::from_static(b"preimage"),
            headers: certificate.headers.clone(),
            finalization: certificate.finalization.clone(),
        };
        vec![
            Ok(Answer::Head(head, certificate.clone())),
            Ok(Answer::Certificate(certificate)),
            Ok(Answer::Account(Account { balance: U256::MAX, nonce: 1, pending_nonce: 2 })),
            Ok(Answer::Hash(B256::ZERO)),
            Ok(Answer::Receipt(None)),
            Ok(Answer::Receipt(Some(receipt))),
            Ok(Answer::Bytes(Bytes::from_static(b"bytes"))),
            Ok(Answer::Logs(vec![log])),
            Ok(Answer::Anchor(proof)),
            Ok(Answer::Block(Kept { block: Bytes::from_static(b"block"), finalization: None })),
            Ok(Answer::Block(Kept {
                block: Bytes::from_static(b"block"),
                finalization: Some(Bytes::from_static(b"final")),
            })),
            Ok(Answer::Fees(vec![Fee { height: 1, tx: B256::repeat_byte(8), nonce: 2, fee: U256::from(3) }])),
            Err(ChainError::Refused("nonce too low".into())),
            Err(ChainError::Reverted(Bytes::from_static(b"output"))),
            Err(ChainError::Unavailable("later".into())),
        ]
    }

    #[test]
    fn every_answer_survives_the_wire() {
        for answer in every() {
            let read = decode(&encode(&answer)).unwrap();
            assert_eq!(format!("{answer:?}"), format!("{read:?}"));
        }
    }

    #[test]
    fn a_changed_answer_is_refused_or_read_without_panic() {
        let mut rng = StdRng::seed_from_u64(2);
        let answers: Vec<Vec<u8>> = every().iter().map(encode).collect();
        for _ in 0..20_000 {
            let mut bytes = answers[rng.random_range(0..answers.len())].clone();
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let read = decode(&encode(&Err(ChainError::Refused("é".repeat(1000))))).unwrap();
        assert!(matches!(read, Err(ChainError::Refused(reason)) if reason.len() == 1024));
    }
}
