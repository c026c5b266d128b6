//! Encode what a client asks.

use alloy_primitives::{Address, B256, Bytes};
use hodei_types::{
    cbor::{CborError, Reader, Writer},
    chain::LogFilter,
};

/// Calldata and transactions; the mempool's own limit.
const DATA_BYTES_MAX: usize = 128 * 1024;
/// An anchored leaf with its tag.
const LEAF_BYTES_MAX: usize = 2048;
/// The question whose last argument may be absent.
const LOGS: u64 = 7;
/// The question about another one.
const SINCE: u64 = 11;
/// Calldata and what is around it.
const ASKED_BYTES_MAX: usize = DATA_BYTES_MAX + 128;

/// One question, in the order of [`hodei_types::chain::Chain`].
#[derive(Clone, Debug)]
pub enum Question {
    Head,
    Wait(u64),
    Certificate(u64),
    Account(Address),
    Submit(Bytes),
    Receipt(B256),
    Call {
        from: Address,
        to: Address,
        data: Bytes,
    },
    Logs(LogFilter),
    Anchor {
        height: u64,
        leaf: Bytes,
    },
    Block(u64),
    Fees {
        account: Address,
        from: u64,
        to: u64,
    },
    /// Another question, once the head is at this height at least: who heard of a block from one validator asks the
    /// next one for nothing older.
    Since(u64, Box<Question>),
}

impl Question {
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::Head => writer.array(1).uint(0),
            Self::Wait(height) => writer.array(2).uint(1).uint(*height),
            Self::Certificate(height) => writer.array(2).uint(2).uint(*height),
            Self::Account(address) => writer.array(2).uint(3).bytes(address.as_slice()),
            Self::Submit(raw) => writer.array(2).uint(4).bytes(raw),
            Self::Receipt(hash) => writer.array(2).uint(5).bytes(hash.as_slice()),
            Self::Call { from, to, data } => {
                writer.array(4).uint(6).bytes(from.as_slice()).bytes(to.as_slice()).bytes(data)
            }
            // Without a third topic as it always was: older validators know no other.
            Self::Logs(filter) => {
                writer
                    .array(6 + usize::from(filter.topic2.is_some()))
                    .uint(LOGS)
                    .uint(filter.from)
                    .uint(filter.to)
                    .bytes(filter.address.as_ref().map_or(&[], |address| address.as_slice()))
                    .bytes(filter.topic0.as_ref().map_or(&[], |topic| topic.as_slice()))
                    .bytes(filter.topic1.as_ref().map_or(&[], |topic| topic.as_slice()));
                match &filter.topic2 {
                    Some(topic) => writer.bytes(topic.as_slice()),
                    None => &mut writer,
                }
            }
            Self::Anchor { height, leaf } => writer.array(3).uint(8).uint(*height).bytes(leaf),
            Self::Block(height) => writer.array(2).uint(9).uint(*height),
            Self::Fees { account, from, to } => {
                writer.array(4).uint(10).bytes(account.as_slice()).uint(*from).uint(*to)
            }
            Self::Since(height, asked) => writer.array(3).uint(SINCE).uint(*height).bytes(&asked.encode()),
        };
        writer.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        Self::read(bytes, true)
    }

    /// `may_nest`: whether it may be one about another.
    fn read(bytes: &[u8], may_nest: bool) -> Result<Self, CborError> {
        let mut reader = Reader::new(bytes);
        let length = reader.array(7)? as u64;
        let at = reader.at();
        let number = reader.uint()?;
        let arguments = [1, 2, 2, 2, 2, 2, 4, 6, 3, 2, 4, 3];
        let expected = usize::try_from(number).ok().and_then(|number| arguments.get(number).copied());
        let expected = expected.filter(|_| may_nest || number != SINCE);
        let has_third = number == LOGS && length == 7;
        if expected != Some(length) && !has_third {
            let expected = expected.unwrap_or(0);
            return Err(CborError::Value { at, what: "question length", expected, found: length });
        }
        let question = match number {
            0 => Self::Head,
            1 => Self::Wait(reader.uint()?),
            2 => Self::Certificate(reader.uint()?),
            3 => Self::Account(Address::from(reader.fixed::<20>()?)),
            4 => Self::Submit(Bytes::copy_from_slice(reader.bytes(DATA_BYTES_MAX)?)),
            5 => Self::Receipt(B256::from(reader.fixed::<32>()?)),
            6 => Self::Call {
                from: Address::from(reader.fixed::<20>()?),
                to: Address::from(reader.fixed::<20>()?),
                data: Bytes::copy_from_slice(reader.bytes(DATA_BYTES_MAX)?),
            },
            7 => Self::Logs(LogFilter {
                from: reader.uint()?,
                to: reader.uint()?,
                address: optional::<20>(&mut reader)?.map(Address::from),
                topic0: optional::<32>(&mut reader)?.map(B256::from),
                topic1: optional::<32>(&mut reader)?.map(B256::from),
                topic2: has_third.then(|| reader.fixed::<32>()).transpose()?.map(B256::from),
            }),
            8 => Self::Anchor { height: reader.uint()?, leaf: Bytes::copy_from_slice(reader.bytes(LEAF_BYTES_MAX)?) },
            9 => Self::Block(reader.uint()?),
            10 => {
                Self::Fees { account: Address::from(reader.fixed::<20>()?), from: reader.uint()?, to: reader.uint()? }
            }
            _ => {
                let height = reader.uint()?;
                Self::Since(height, Box::new(Self::read(reader.bytes(ASKED_BYTES_MAX)?, false)?))
            }
        };
        reader.end()?;
        Ok(question)
    }
}

/// `N` bytes, or none for absent.
fn optional<const N: usize>(reader: &mut Reader<'_>) -> Result<Option<[u8; N]>, CborError> {
    let at = reader.at();
    let bytes = reader.bytes(N)?;
    match bytes.len() {
        0 => Ok(None),
        found => bytes.try_into().map(Some).map_err(|_| CborError::Value {
            at,
            what: "byte length",
            expected: N as u64,
            found: found as u64,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::Question;
    use alloy_primitives::{Address, B256, Bytes};
    use hodei_types::chain::LogFilter;
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    fn every() -> Vec<Question> {
        vec![
            Question::Head,
            Question::Wait(7),
            Question::Certificate(u64::MAX),
            Question::Account(Address::repeat_byte(1)),
            Question::Submit(Bytes::from_static(b"raw")),
            Question::Receipt(B256::repeat_byte(2)),
            Question::Call { from: Address::ZERO, to: Address::repeat_byte(3), data: Bytes::new() },
            Question::Logs(LogFilter { from: 1, to: 2, topic1: Some(B256::repeat_byte(4)), ..LogFilter::default() }),
            Question::Logs(LogFilter { topic2: Some(B256::repeat_byte(5)), ..LogFilter::default() }),
            Question::Anchor { height: 9, leaf: Bytes::from_static(b"leaf") },
            Question::Block(10),
            Question::Fees { account: Address::repeat_byte(6), from: 11, to: u64::MAX },
            Question::Since(12, Box::new(Question::Account(Address::repeat_byte(7)))),
        ]
    }

    #[test]
    fn every_question_survives_the_wire() {
        for question in every() {
            let bytes = question.encode();
            let read = Question::decode(&bytes).unwrap();
            assert_eq!(format!("{question:?}"), format!("{read:?}"));
        }
    }

    #[test]
    fn a_question_about_one_about_another_is_none() {
        let one = Question::Since(1, Box::new(Question::Head));
        assert!(Question::decode(&one.encode()).is_ok());
        assert!(Question::decode(&Question::Since(1, Box::new(one)).encode()).is_err());
    }

    #[test]
    fn whatever_decodes_is_the_one_encoding() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..20_000 {
            let questions = every();
            let mut bytes = questions[rng.random_range(0..questions.len())].encode();
            match rng.random_range(0..3) {
                0 => bytes.truncate(rng.random_range(0..bytes.len())),
                1 => bytes.push(rng.random()),
                _ => {
                    let at = rng.random_range(0..bytes.len());
                    bytes[at] = rng.random();
                }
            }
            if let Ok(question) = Question::decode(&bytes) {
                assert_eq!(question.encode(), bytes);
            }
        }
    }
}
