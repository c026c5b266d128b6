//! Sign that a provider refuses to hold and give a shard, and check that signature.
//!
//! A shard's id is the hash of sealed bytes: who is told by a court, or by somebody who holds a link, that some ids are
//! parts of what is theirs to act on can name these ids and nothing else. What it then says is signed by its node key
//! over [`decline_statement`]'s bytes, so that anybody can check, offline, which node refused which shard of which deal,
//! since when and on what ground. Ed25519 is deterministic: the same refusal signed twice is the same statement.

use crate::{
    abi::decline_statement,
    ack::{SIGNATURE_BYTES, Signer, is_signed},
    cbor::{CborError, Reader, Writer},
    slice::ShardId,
    transport::NodeKey,
};

/// Bytes of the longest encoding: five heads, an id, three numbers and a signature.
pub const DECLINED_BYTES_MAX: usize = 160;
const VERSION: u64 = 1;

/// On what ground a shard is refused. Codes are signed and stored: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Ground {
    /// A court's order.
    Court = 1,
    /// An authority's order, without a court.
    Authority = 2,
    /// A report by somebody else, such as a rights holder or a hotline.
    Report = 3,
    /// The operator's own terms.
    Terms = 4,
}

impl Ground {
    pub const ALL: [Self; 4] = [Self::Court, Self::Authority, Self::Report, Self::Terms];

    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|ground| *ground as u64 == code)
    }

    /// Lower-case word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Court => "court",
            Self::Authority => "authority",
            Self::Report => "report",
            Self::Terms => "terms",
        }
    }
}

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decline {
    /// The deal it was asked under; 0 for all of them.
    pub deal: u64,
    pub id: ShardId,
    /// Since when, in milliseconds since 1970 by the provider's clock.
    pub time_ms: u64,
    pub ground: Ground,
}

/// A signed refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declined {
    pub decline: Decline,
    pub signature: [u8; SIGNATURE_BYTES],
}

/// The signature is not by that node over that refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node} did not sign that it declines shard {id} of deal {deal}")]
pub struct BadDecline {
    pub node: NodeKey,
    pub deal: u64,
    pub id: ShardId,
}

/// Why bytes are no refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeclineError {
    #[error(transparent)]
    Cbor(#[from] CborError),
    #[error("ground {0} is unknown, expected 1 to 4")]
    Ground(u64),
}

impl Decline {
    /// The bytes that are signed: domain separated and bound to the network.
    pub fn bytes(&self, chain_id: u64) -> Vec<u8> {
        decline_statement(chain_id, self.deal, self.id.0.into(), self.time_ms, self.ground as u8)
    }

    pub fn sign(self, chain_id: u64, signer: &Signer) -> Declined {
        Declined { decline: self, signature: signer.sign(&self.bytes(chain_id)) }
    }
}

impl Declined {
    pub fn verify(&self, chain_id: u64, node: &NodeKey) -> Result<(), BadDecline> {
        let Decline { deal, id, .. } = self.decline;
        match is_signed(node, &self.decline.bytes(chain_id), &self.signature) {
            true => Ok(()),
            false => Err(BadDecline { node: *node, deal, id }),
        }
    }

    /// Canonical CBOR: [version, deal, id, time, ground, signature].
    pub fn write(&self, out: &mut Writer) {
        let Decline { deal, id, time_ms, ground } = &self.decline;
        out.array(6).uint(VERSION).uint(*deal).bytes(&id.0).uint(*time_ms).uint(*ground as u64).bytes(&self.signature);
    }

    pub fn read(input: &mut Reader<'_>) -> Result<Self, DeclineError> {
        input.tuple(6)?;
        input.exactly("version", VERSION)?;
        let (deal, id, time_ms, code) = (input.uint()?, ShardId(input.fixed()?), input.uint()?, input.uint()?);
        let ground = Ground::from_code(code).ok_or(DeclineError::Ground(code))?;
        Ok(Self { decline: Decline { deal, id, time_ms, ground }, signature: input.fixed()? })
    }

    /// As [`Declined::write`]: what is kept, shown and handed to others.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write(&mut out);
        out.finish()
    }

    /// Reads the one encoding of a refusal, and no other.
    pub fn decode(bytes: &[u8]) -> Result<Self, DeclineError> {
        let mut input = Reader::new(bytes);
        let declined = Self::read(&mut input)?;
        input.end()?;
        Ok(declined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decline() -> Decline {
        Decline { deal: 7, id: ShardId([3; 32]), time_ms: 1_800_000_000_000, ground: Ground::Court }
    }

    #[test]
    fn a_refusal_holds_for_its_node_network_shard_deal_time_and_ground_only() {
        let signer = Signer::new(&[7; 32]);
        let declined = decline().sign(11, &signer);
        assert_eq!(declined.verify(11, &signer.node()), Ok(()));
        assert!(declined.verify(12, &signer.node()).is_err(), "another network");
        assert!(declined.verify(11, &Signer::new(&[8; 32]).node()).is_err(), "another node");
        for change in [
            Decline { deal: 8, ..decline() },
            Decline { id: ShardId([4; 32]), ..decline() },
            Decline { time_ms: 1_800_000_000_001, ..decline() },
            Decline { ground: Ground::Terms, ..decline() },
        ] {
            assert!(Declined { decline: change, ..declined }.verify(11, &signer.node()).is_err(), "{change:?}");
        }
    }

    #[test]
    fn a_refusal_has_one_encoding_and_no_bent_one_verifies() {
        let signer = Signer::new(&[7; 32]);
        let longest = Decline { deal: u64::MAX, time_ms: u64::MAX, ..decline() };
        assert!(longest.sign(11, &signer).encode().len() <= DECLINED_BYTES_MAX);
        for ground in Ground::ALL {
            let declined = Decline { ground, ..decline() }.sign(11, &signer);
            let bytes = declined.encode();
            assert_eq!(Declined::decode(&bytes), Ok(declined));
            for at in 0..bytes.len() {
                assert!(Declined::decode(&bytes[..at]).is_err(), "cut at {at}");
                let mut bent = bytes.clone();
                bent[at] ^= 1;
                let passes = Declined::decode(&bent).is_ok_and(|bent| bent.verify(11, &signer.node()).is_ok());
                assert!(!passes, "bent at {at}");
            }
            assert!(Declined::decode(&[&bytes[..], &[0]].concat()).is_err(), "longer");
        }
        let bytes = decline().sign(11, &signer).encode();
        assert_eq!(&blake3::hash(&bytes).to_hex()[..16], "ffe023e4586ba584", "version 1");
    }
}
