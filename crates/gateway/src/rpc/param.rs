//! Read parameters as clients really send them.

use super::{
    Context,
    fault::{self, Result},
};
use alloy_primitives::{B256, U64, U256};
use hodei_types::ethereum::At;
use serde::{Deserialize, Deserializer, de::Error as _};

/// A quantity in minimal hex, with leading zeros, or as a JSON number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantity(pub(super) U256);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Sloppy {
            Number(u64),
            Text(String),
        }
        match Sloppy::deserialize(deserializer)? {
            Sloppy::Number(number) => Ok(Self(U256::from(number))),
            Sloppy::Text(text) => {
                let digits = text.strip_prefix("0x").unwrap_or(&text);
                let digits = if digits.is_empty() { "0" } else { digits };
                U256::from_str_radix(digits, 16)
                    .map(Self)
                    .map_err(|_| D::Error::custom(format!("expected a hexadecimal quantity, found {text:?}")))
            }
        }
    }
}

/// A block: tag, number, hash, or the object of EIP-1898.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Block {
    #[default]
    Latest,
    /// The head, and for a nonce also what waits.
    Pending,
    Height(u64),
    Hash(B256),
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Object {
                #[serde(rename = "blockNumber")]
                number: Option<String>,
                #[serde(rename = "blockHash")]
                hash: Option<B256>,
            },
            Number(u64),
            Text(String),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Number(height) => return Ok(Self::Height(height)),
            Form::Object { hash: Some(hash), .. } => return Ok(Self::Hash(hash)),
            Form::Object { number: Some(number), .. } => number,
            Form::Object { .. } => {
                return Err(D::Error::custom("expected blockNumber or blockHash"));
            }
            Form::Text(text) => text,
        };
        match text.as_str() {
            "latest" | "safe" | "finalized" => Ok(Self::Latest),
            "pending" => Ok(Self::Pending),
            "earliest" => Ok(Self::Height(0)),
            hash if hash.len() == 66 => hash.parse().map(Self::Hash).map_err(D::Error::custom),
            number => number
                .parse::<U64>()
                .ok()
                .filter(|_| number.starts_with("0x"))
                .map(|height| Self::Height(height.to()))
                .ok_or_else(|| D::Error::custom(format!("expected a block number, hash or tag, found {number:?}"))),
        }
    }
}

impl Block {
    pub(super) fn at(self) -> At {
        match self {
            Self::Latest | Self::Pending => At::Latest,
            Self::Height(height) => At::Height(height),
            Self::Hash(hash) => At::Hash(hash),
        }
    }

    /// The block's height; a range may name heights that do not exist yet.
    pub(super) async fn height(self, context: &Context) -> Result<u64> {
        match self {
            Self::Height(height) => Ok(height),
            Self::Latest | Self::Pending => Ok(context.chain.head().await.map_err(fault::chain)?.height),
            Self::Hash(hash) => match context.chain.block(At::Hash(hash)).await.map_err(fault::chain)? {
                Some(block) => Ok(block.header.number),
                None => Err(fault::refused("header not found")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, Quantity};
    use alloy_primitives::{B256, U256};

    #[test]
    fn blocks_are_read_in_every_form() {
        let read = |text: &str| serde_json::from_str::<Block>(text).unwrap();
        assert_eq!(read("\"latest\""), Block::Latest);
        assert_eq!(read("\"safe\""), Block::Latest);
        assert_eq!(read("\"pending\""), Block::Pending);
        assert_eq!(read("\"0x10\""), Block::Height(16));
        assert_eq!(read("\"0x010\""), Block::Height(16));
        assert_eq!(read("7"), Block::Height(7));
        assert_eq!(read("{\"blockNumber\":\"0x2\"}"), Block::Height(2));
        let hash = B256::repeat_byte(3);
        assert_eq!(read(&format!("{{\"blockHash\":\"{hash}\"}}")), Block::Hash(hash));
        assert!(serde_json::from_str::<Block>("\"newest\"").is_err());
        assert!(serde_json::from_str::<Block>("{}").is_err());
    }

    #[test]
    fn quantities_are_read_sloppily() {
        for (text, value) in [("\"0x0\"", 0), ("\"0x\"", 0), ("\"0x0a\"", 10), ("12", 12)] {
            assert_eq!(serde_json::from_str::<Quantity>(text).unwrap().0, U256::from(value));
        }
        assert!(serde_json::from_str::<Quantity>("\"0xzz\"").is_err());
    }
}
