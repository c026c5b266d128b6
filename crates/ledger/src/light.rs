//! Follow the chain by its certificates alone, knowing nothing but the network key.
//!
//! A finalization names a block hash and carries the validators' threshold signatures over it and over its
//! round's seed; it verifies under the group key for ever, whoever the validators are by then. A block hash
//! is the keccak of its header's RLP, so a header is as good as its child, and a run of headers as its last.
//! Linked without feature `full`: no engine, no execution, no IO.

use alloy_consensus::Header;
use alloy_primitives::{B256, keccak256};
use alloy_rlp::{Decodable as _, Encodable as _};
use commonware_codec::{Copying, Decode as _, DecodeExt as _, Encode as _};
use commonware_consensus::{
    Epochable as _, Viewable as _,
    simplex::{scheme::bls12381_threshold::vrf, types::Finalization},
};
use commonware_cryptography::{
    bls12381::primitives::variant::{MinSig, Variant},
    ed25519, keccak256 as digest,
};
use commonware_parallel::Sequential;
use hodei_types::{
    network::NetworkKey,
    receipt::{FINALIZATION_BYTES_MAX, HEADER_BYTES_MAX},
};
use rand::{SeedableRng as _, rngs::StdRng};

/// The namespace of consensus signatures is this ‖ genesis hash.
pub const CONSENSUS_TAG: &[u8] = b"hodei-consensus-v1:";

type Scheme = vrf::Scheme<ed25519::PublicKey, MinSig>;
type Certified = Finalization<Scheme, digest::Digest>;

/// Why something is not certified by this network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    #[error("the network's group key is not a point of the group")]
    GroupKey,
    #[error("finalization is not in its one encoding: {0}")]
    Encoding(String),
    #[error("finalization of block {0} does not verify under the network key")]
    Certificate(B256),
    #[error("finalization is for block {found}, expected {expected}")]
    Block { expected: B256, found: B256 },
    #[error("header {at} is not in its one encoding")]
    Header { at: usize },
    #[error("header {at} names parent {found}, expected {expected}")]
    Parent { at: usize, expected: B256, found: B256 },
    #[error("header {at} has number {found}, expected {expected}")]
    Number { at: usize, expected: u64, found: u64 },
    #[error("no header")]
    Empty,
}

/// What a verified finalization says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finalized {
    pub epoch: u64,
    pub view: u64,
    /// Hash of the finalized block; its ancestors are final with it.
    pub block: B256,
    /// The round's threshold signature: the seed of on-chain randomness.
    pub seed: [u8; 48],
}

/// A header with its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub header: Header,
    pub hash: B256,
}

/// Checks certificates under one network's key.
#[derive(Clone, Debug)]
pub struct Verifier {
    scheme: Scheme,
    genesis: B256,
}

/// The namespace consensus signs under in the network of this genesis.
pub fn consensus_namespace(genesis: &B256) -> Vec<u8> {
    [CONSENSUS_TAG, genesis.as_slice()].concat()
}

impl Verifier {
    pub fn new(key: &NetworkKey) -> Result<Self, LightError> {
        let group = <MinSig as Variant>::Public::decode(Copying(&key.group)).map_err(|_| LightError::GroupKey)?;
        if group.encode().as_ref() != key.group.as_slice() {
            return Err(LightError::GroupKey);
        }
        let scheme = Scheme::certificate_verifier(&consensus_namespace(&key.genesis), group);
        Ok(Self { scheme, genesis: key.genesis })
    }

    pub fn genesis(&self) -> B256 {
        self.genesis
    }

    /// Verifies an encoded finalization.
    pub fn finalization(&self, bytes: &[u8]) -> Result<Finalized, LightError> {
        if bytes.len() > FINALIZATION_BYTES_MAX {
            return Err(LightError::Encoding(format!("{} bytes", bytes.len())));
        }
        let certified =
            Certified::decode_cfg(Copying(bytes), &()).map_err(|error| LightError::Encoding(format!("{error:?}")))?;
        let Some(signature) = certified.certificate.get() else {
            return Err(LightError::Encoding("a signature is not a canonical point of the group".into()));
        };
        // The certificate keeps the bytes it was read from: encode the points themselves.
        let again = [certified.proposal.encode(), signature.encode()].concat();
        if again != bytes {
            return Err(LightError::Encoding("re-encoding gives other bytes".into()));
        }
        let block = B256::from_slice(certified.proposal.payload.as_ref());
        if !certified.verify(&mut self.challenge(bytes), &self.scheme, &Sequential) {
            return Err(LightError::Certificate(block));
        }
        let seed = signature.seed_signature.encode();
        Ok(Finalized {
            epoch: certified.epoch().get(),
            view: certified.view().get(),
            block,
            seed: seed.as_ref().try_into().expect("a G1 point has 48 bytes"),
        })
    }

    /// Verifies that `finalization` certifies the last of `headers` (RLP) and each of them the one before.
    pub fn headers<H: AsRef<[u8]>>(
        &self,
        headers: &[H],
        finalization: &[u8],
    ) -> Result<(Vec<Sealed>, Finalized), LightError> {
        let headers = link(headers)?;
        let finalized = self.finalization(finalization)?;
        certifies(&finalized, &headers)?;
        Ok((headers, finalized))
    }

    /// Vote and seed are verified as one random combination, whose weights nobody may foresee while choosing
    /// the signatures. Hashing the signatures themselves gives such weights, and a plane takes no entropy.
    fn challenge(&self, finalization: &[u8]) -> StdRng {
        let group = self.scheme.identity().encode();
        let seed = [b"hodei-light-v1:", self.genesis.as_slice(), group.as_ref(), finalization].concat();
        StdRng::from_seed(keccak256(seed).0)
    }
}

/// Reads a run of headers, each the parent of the next.
pub fn link<H: AsRef<[u8]>>(headers: &[H]) -> Result<Vec<Sealed>, LightError> {
    let mut linked: Vec<Sealed> = Vec::with_capacity(headers.len().min(64));
    for (at, rlp) in headers.iter().enumerate() {
        let sealed = seal(rlp.as_ref()).ok_or(LightError::Header { at })?;
        if let Some(parent) = linked.last() {
            if sealed.header.parent_hash != parent.hash {
                return Err(LightError::Parent { at, expected: parent.hash, found: sealed.header.parent_hash });
            }
            let (expected, found) = (parent.header.number.saturating_add(1), sealed.header.number);
            if found != expected {
                return Err(LightError::Number { at, expected, found });
            }
        }
        linked.push(sealed);
    }
    if linked.is_empty() { Err(LightError::Empty) } else { Ok(linked) }
}

/// Checks that `finalized` is of the last of `headers`.
pub fn certifies(finalized: &Finalized, headers: &[Sealed]) -> Result<(), LightError> {
    let expected = headers.last().ok_or(LightError::Empty)?.hash;
    let found = finalized.block;
    if found == expected { Ok(()) } else { Err(LightError::Block { expected, found }) }
}

/// One header from its one encoding.
fn seal(rlp: &[u8]) -> Option<Sealed> {
    if rlp.len() > HEADER_BYTES_MAX {
        return None;
    }
    let mut rest = rlp;
    let header = Header::decode(&mut rest).ok()?;
    let mut again = Vec::with_capacity(rlp.len());
    header.encode(&mut again);
    (rest.is_empty() && again == rlp).then(|| Sealed { header, hash: keccak256(rlp) })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use commonware_consensus::{
        simplex::types::{Finalize, Proposal},
        types::{Epoch, Round, View},
    };
    use commonware_cryptography::{
        Signer as _,
        bls12381::{dkg::feldman_desmedt::deal, primitives::sharing::Mode},
    };
    use commonware_utils::{N3f1, TryCollect as _, non_empty, ordered::Set, test_rng};

    /// A dealt network of four, and what its validators sign with.
    pub(crate) fn network(genesis: B256) -> (NetworkKey, Vec<Scheme>) {
        let players: Set<_> =
            (0..4).map(|seed| ed25519::PrivateKey::from_seed(seed).public_key()).try_collect().expect("distinct keys");
        let (output, shares) =
            deal::<MinSig, _, N3f1>(test_rng(), Mode::NonZeroCounter, players.clone()).expect("four players");
        let sharing = output.public().clone();
        let group = sharing.public().encode().as_ref().try_into().unwrap();
        let signer = |player| {
            let share = shares.get_value(player).expect("a share each").clone();
            Scheme::signer(&consensus_namespace(&genesis), players.clone(), sharing.clone(), share).unwrap()
        };
        let schemes = players.iter().map(signer).collect();
        (NetworkKey { genesis, group }, schemes)
    }

    /// Linked headers from number 5 on.
    pub(crate) fn chain(count: u64) -> Vec<Vec<u8>> {
        let mut parent = B256::repeat_byte(0x77);
        (5..5 + count)
            .map(|number| {
                let header = Header { parent_hash: parent, number, ..Header::default() };
                let rlp = alloy_rlp::encode(&header);
                parent = keccak256(&rlp);
                rlp
            })
            .collect()
    }

    pub(crate) fn finalize(schemes: &[Scheme], block: B256) -> Vec<u8> {
        let round = Round::new(Epoch::new(0), View::new(300));
        let proposal = Proposal::new(round, View::new(298), digest::Digest::from(block.0));
        let votes: Vec<_> =
            schemes[..3].iter().map(|scheme| Finalize::sign(scheme, proposal.clone()).unwrap()).collect();
        let certified: Certified =
            Finalization::from_finalizes(&schemes[0], non_empty![@votes.iter()], &Sequential).unwrap();
        certified.encode().to_vec()
    }

    #[test]
    fn a_run_of_headers_verifies_under_the_group_key_alone() {
        let (key, schemes) = network(B256::repeat_byte(1));
        let verifier = Verifier::new(&key).unwrap();
        let headers = chain(3);
        let finalization = finalize(&schemes, keccak256(&headers[2]));
        let (sealed, finalized) = verifier.headers(&headers, &finalization).unwrap();
        assert_eq!(sealed.iter().map(|sealed| sealed.header.number).collect::<Vec<_>>(), [5, 6, 7]);
        assert_eq!((finalized.epoch, finalized.view, finalized.block), (0, 300, keccak256(&headers[2])));
        assert!(finalization.len() <= 160, "{} bytes", finalization.len());

        let earlier = finalize(&schemes, keccak256(&headers[1]));
        assert!(matches!(verifier.headers(&headers, &earlier), Err(LightError::Block { .. })));
        let gap = [headers[0].clone(), headers[2].clone()];
        assert!(matches!(verifier.headers(&gap, &finalization), Err(LightError::Parent { at: 1, .. })));
        assert_eq!(verifier.headers::<Vec<u8>>(&[], &finalization).unwrap_err(), LightError::Empty);
        let longer = [[&headers[0][..], &[0]].concat()];
        assert_eq!(link(&longer), Err(LightError::Header { at: 0 }));
    }

    #[test]
    fn another_network_and_another_genesis_are_refused() {
        let (key, schemes) = network(B256::repeat_byte(1));
        let finalization = finalize(&schemes, B256::repeat_byte(9));
        Verifier::new(&key).unwrap().finalization(&finalization).unwrap();
        let other = NetworkKey { genesis: B256::repeat_byte(2), ..key };
        assert_eq!(
            Verifier::new(&other).unwrap().finalization(&finalization),
            Err(LightError::Certificate(B256::repeat_byte(9)))
        );
        let mut bent = key;
        bent.group[50] ^= 1;
        assert_eq!(Verifier::new(&bent).unwrap_err(), LightError::GroupKey);
    }

    #[test]
    fn every_flipped_bit_of_a_finalization_is_refused() {
        let (key, schemes) = network(B256::repeat_byte(1));
        let verifier = Verifier::new(&key).unwrap();
        let finalization = finalize(&schemes, B256::repeat_byte(9));
        for at in 0..finalization.len() {
            let mut bent = finalization.clone();
            bent[at] ^= 1 << (at % 8);
            verifier.finalization(&bent).expect_err("flipped");
        }
        verifier.finalization(&finalization[1..]).expect_err("cut");
        verifier.finalization(&[&finalization[..], &[0]].concat()).expect_err("extended");
        // Vote and seed are separate statements: exchanging them proves neither.
        let split = finalization.len() - 96;
        let swapped = [&finalization[..split], &finalization[split + 48..], &finalization[split..split + 48]].concat();
        assert!(matches!(verifier.finalization(&swapped), Err(LightError::Certificate(_))));
    }
}
