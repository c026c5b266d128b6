//! Fix what a network is: who validates, who owns coins at first, and every parameter.
//!
//! The genesis is one file of canonical CBOR, made once and copied to every member. Everything else is
//! derived from its keccak-256, never stored: the chain id, and the namespaces that keep signatures of one
//! network and one purpose from counting in another. A node refuses to start on a genesis it cannot
//! re-encode to the same bytes.

use alloy_primitives::{Address, B256, U256, keccak256};
use commonware_codec::{Copying, Decode as _, Encode as _};
use commonware_cryptography::bls12381::{
    dkg::feldman_desmedt,
    primitives::{
        group::Share,
        sharing::{Mode, ModeVersion},
        variant::MinSig,
    },
};
use commonware_utils::{N3f1, NZU32, TryCollect as _, ordered::Set};
use hodei_types::settlement::Settlement;
use minicbor::{Decoder, Encoder};
use rand::CryptoRng;
use std::num::NonZeroU32;

use crate::block::{Limits, PublicKey};

/// The public result of a dealing or DKG: group key, and the polynomial that each share answers to.
pub type Output = feldman_desmedt::Output<MinSig, PublicKey>;

/// Simplex votes are counted in bit sets and certificates checked per signer set; beyond this nothing was tested.
pub const VALIDATORS_MAX: NonZeroU32 = NZU32!(128);
/// Bytes of a genesis file: a thousand allocations are 60 kB.
pub const FILE_BYTES_MAX: usize = 4 << 20;
const VERSION: u32 = 1;
/// Of a file, where coins are money; one more says what else they are.
const FIELDS: u64 = 13;

const CONSENSUS: &[u8] = crate::light::CONSENSUS_TAG;
const P2P: &[u8] = b"hodei-p2p-v1:";

/// One member of the validator set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// Identity in consensus and on the wire.
    pub key: PublicKey,
    /// `host:port` where its peers reach it.
    pub address: String,
    /// Receives tips of blocks it led.
    pub fees: Address,
}

/// What gas costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// Base fee of block 1, in wei of gas.
    pub base_fee: u64,
    /// Below this the base fee never falls.
    pub base_fee_min: u64,
    /// Gas of one block.
    pub gas_limit: u64,
    /// Target gas = limit / elasticity.
    pub elasticity: u64,
    /// A full block raises the base fee by 1/denominator: Ethereum's 8 assumes 12 s, ours are sub-second.
    pub denominator: u64,
}

/// What missing proofs costs a provider; misses are counted in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slashing {
    /// Misses that suspend it from new deals.
    pub suspend_misses: u32,
    /// Misses that take `part_bp` of its collateral.
    pub part_misses: u32,
    /// Hundredths of a percent taken then.
    pub part_bp: u32,
    /// Misses that take everything and close it.
    pub all_misses: u32,
    /// Hundredths of a percent of what is slashed that go to repair reserves; the rest is burned.
    pub repair_bp: u32,
    /// Collateral without which a provider cannot offer; 0 in a network that settles by invoice.
    pub collateral_min: U256,
}

impl Default for Slashing {
    /// A provider may be away for two windows without loss.
    fn default() -> Self {
        Self {
            suspend_misses: 1,
            part_misses: 3,
            part_bp: 1_000,
            all_misses: 10,
            repair_bp: 5_000,
            collateral_min: U256::ZERO,
        }
    }
}

/// Sizes on disk that may never change while the network lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes of a cached page; a different one silently truncates stores.
    pub page_bytes: u16,
    /// Items of one section of an archive or journal.
    pub section_items: u64,
}

/// A network's constitution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    pub name: String,
    /// Seconds since 1970: no block is earlier.
    pub timestamp: u64,
    /// Group key and commitments behind the validators' shares.
    pub output: Output,
    /// Sorted by key.
    pub validators: Vec<Validator>,
    /// Sorted by address; created in block 1.
    pub allocations: Vec<(Address, U256)>,
    /// Seconds of a proof window on the active clock.
    pub window_secs: u64,
    pub fees: Fees,
    pub slashing: Slashing,
    pub disk: Disk,
    pub limits: Limits,
    /// Erasure codes manifests may name.
    pub code_ids: Vec<u64>,
    pub settlement: Settlement,
}

/// Why a genesis file was refused.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    #[error("genesis file of {0} bytes; at most {FILE_BYTES_MAX} are read")]
    Size(usize),
    #[error("genesis file is not CBOR of this kind: {0}")]
    Cbor(#[from] minicbor::decode::Error),
    #[error("genesis version {0}; this program knows version {VERSION}")]
    Version(u32),
    #[error("genesis file is not in canonical form: it was edited or made by another program")]
    Canonical,
    #[error("genesis field {0} is out of range")]
    Field(&'static str),
    #[error("the validators are not those the group key was dealt to")]
    Dealing,
}

/// A dealt set of shares: give each to its owner and forget it.
#[derive(Debug)]
pub struct Dealt {
    pub output: Output,
    /// One a validator, in the order of their keys.
    pub shares: Vec<(PublicKey, Share)>,
}

/// Deals a group key to `keys`, of which a third (rounded down, less one at multiples) may fail.
///
/// Whoever runs this could keep every share: for networks of one owner only.
pub fn deal(rng: impl CryptoRng, keys: &[PublicKey]) -> Result<Dealt, GenesisError> {
    if keys.is_empty() || keys.len() > VALIDATORS_MAX.get() as usize {
        return Err(GenesisError::Field("validators"));
    }
    let players: Set<PublicKey> = keys.iter().cloned().try_collect().map_err(|_| GenesisError::Field("validators"))?;
    let (output, shares) = feldman_desmedt::deal::<MinSig, PublicKey, N3f1>(rng, Mode::NonZeroCounter, players)
        .map_err(|_| GenesisError::Dealing)?;
    let shares = shares.iter_pairs().map(|(key, share)| (key.clone(), share.clone())).collect();
    Ok(Dealt { output, shares })
}

impl Genesis {
    /// A network with production parameters; sorts validators and allocations.
    pub fn new(
        name: String,
        timestamp: u64,
        output: Output,
        mut validators: Vec<Validator>,
        mut allocations: Vec<(Address, U256)>,
    ) -> Self {
        validators.sort_by(|a, b| a.key.cmp(&b.key));
        allocations.sort();
        Self {
            name,
            timestamp,
            output,
            validators,
            allocations,
            window_secs: 86_400,
            fees: Fees {
                base_fee: 1_000_000_000,
                base_fee_min: 1_000_000,
                gas_limit: 60_000_000,
                elasticity: 2,
                denominator: 250,
            },
            slashing: Slashing::default(),
            // 12 bytes of checksum make a physical page of 4 KiB.
            disk: Disk { page_bytes: 4084, section_items: 4096 },
            limits: Limits::default(),
            code_ids: vec![1],
            settlement: Settlement::default(),
        }
    }

    /// keccak-256 of the file: the network's identity.
    pub fn hash(&self) -> B256 {
        keccak256(self.encode())
    }

    /// 2³¹ + the low 31 bits of the hash: above every registered chain, below what wallets cannot show.
    pub fn chain_id(&self) -> u64 {
        chain_id(&self.hash())
    }

    /// What votes and certificates are signed under.
    pub fn consensus_namespace(&self) -> Vec<u8> {
        namespace(CONSENSUS, self.hash())
    }

    /// What connections between validators are authenticated under.
    pub fn p2p_namespace(&self) -> Vec<u8> {
        namespace(P2P, self.hash())
    }

    /// The network's key: 96 bytes of a compressed G2 point.
    pub fn group_key(&self) -> [u8; 96] {
        let bytes = self.output.public().public().encode();
        bytes.as_ref().try_into().expect("a compressed G2 point has 96 bytes")
    }

    /// The consensus participants, in their canonical order.
    pub fn participants(&self) -> Set<PublicKey> {
        self.validators.iter().map(|v| v.key.clone()).try_collect().expect("checked: no two validators share a key")
    }

    /// Fee address of a leader; the zero address of a stranger.
    pub fn fee_address(&self, leader: &PublicKey) -> Address {
        self.validators
            .binary_search_by(|v| v.key.cmp(leader))
            .map_or(Address::ZERO, |index| self.validators[index].fees)
    }

    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        self.write(&mut e).unwrap_or_else(|never: minicbor::encode::Error<core::convert::Infallible>| {
            unreachable!("a Vec accepts every byte: {never}")
        });
        e.into_writer()
    }

    fn write(&self, e: &mut Encoder<Vec<u8>>) -> Result<(), minicbor::encode::Error<core::convert::Infallible>> {
        // Where coins are money nothing is said, so that networks made before keep their hash.
        let (kind, currency) = self.settlement.numbers();
        e.array(if kind == 0 { FIELDS } else { FIELDS + 1 })?.u32(VERSION)?.str(&self.name)?.u64(self.timestamp)?;
        e.bytes(&self.group_key())?.bytes(&self.output.encode())?;
        e.array(self.validators.len() as u64)?;
        for v in &self.validators {
            e.array(3)?.bytes(&v.key)?.str(&v.address)?.bytes(v.fees.as_slice())?;
        }
        e.array(self.allocations.len() as u64)?;
        for (address, amount) in &self.allocations {
            e.array(2)?.bytes(address.as_slice())?.bytes(&amount.to_be_bytes_trimmed_vec())?;
        }
        e.u64(self.window_secs)?;
        let f = &self.fees;
        e.array(5)?.u64(f.base_fee)?.u64(f.base_fee_min)?.u64(f.gas_limit)?.u64(f.elasticity)?.u64(f.denominator)?;
        let s = &self.slashing;
        e.array(6)?.u32(s.suspend_misses)?.u32(s.part_misses)?.u32(s.part_bp)?.u32(s.all_misses)?.u32(s.repair_bp)?;
        e.bytes(&s.collateral_min.to_be_bytes_trimmed_vec())?;
        e.array(2)?.u16(self.disk.page_bytes)?.u64(self.disk.section_items)?;
        let l = &self.limits;
        e.array(3)?.u32(l.txs_max)?.u32(l.tx_bytes_max)?.u32(l.body_bytes_max)?;
        e.array(self.code_ids.len() as u64)?;
        for id in &self.code_ids {
            e.u64(*id)?;
        }
        if kind > 0 {
            e.array(2)?.u8(kind)?.bytes(&currency)?;
        }
        Ok(())
    }

    /// Reads and checks a file.
    pub fn decode(file: &[u8]) -> Result<Self, GenesisError> {
        if file.len() > FILE_BYTES_MAX {
            return Err(GenesisError::Size(file.len()));
        }
        let mut d = Decoder::new(file);
        let fields =
            d.array()?.filter(|fields| (FIELDS..=FIELDS + 1).contains(fields)).ok_or(GenesisError::Canonical)?;
        let version = d.u32()?;
        if version != VERSION {
            return Err(GenesisError::Version(version));
        }
        let name = d.str()?.to_owned();
        let timestamp = d.u64()?;
        d.skip()?; // the group key is derived again and compared with the rest
        let output = Output::decode_cfg(Copying(d.bytes()?), &(VALIDATORS_MAX, ModeVersion::v0()))
            .map_err(|_| GenesisError::Dealing)?;
        let validators = list(&mut d, |d| {
            array(d, 3)?;
            let key =
                PublicKey::decode_cfg(Copying(d.bytes()?), &()).map_err(|_| GenesisError::Field("validator key"))?;
            Ok(Validator { key, address: d.str()?.to_owned(), fees: address(d)? })
        })?;
        let allocations = list(&mut d, |d| {
            array(d, 2)?;
            Ok((address(d)?, amount(d)?))
        })?;
        let window_secs = d.u64()?;
        array(&mut d, 5)?;
        let fees = Fees {
            base_fee: d.u64()?,
            base_fee_min: d.u64()?,
            gas_limit: d.u64()?,
            elasticity: d.u64()?,
            denominator: d.u64()?,
        };
        array(&mut d, 6)?;
        let slashing = Slashing {
            suspend_misses: d.u32()?,
            part_misses: d.u32()?,
            part_bp: d.u32()?,
            all_misses: d.u32()?,
            repair_bp: d.u32()?,
            collateral_min: amount(&mut d)?,
        };
        array(&mut d, 2)?;
        let disk = Disk { page_bytes: d.u16()?, section_items: d.u64()? };
        array(&mut d, 3)?;
        let limits = Limits { txs_max: d.u32()?, tx_bytes_max: d.u32()?, body_bytes_max: d.u32()? };
        let code_ids = list(&mut d, |d| Ok(d.u64()?))?;
        let settlement = if fields > FIELDS { settlement(&mut d)? } else { Settlement::default() };
        let genesis = Self {
            name,
            timestamp,
            output,
            validators,
            allocations,
            window_secs,
            fees,
            slashing,
            disk,
            limits,
            code_ids,
            settlement,
        };
        genesis.check()?;
        if genesis.encode() != file {
            return Err(GenesisError::Canonical);
        }
        Ok(genesis)
    }

    /// Refuses what no network could run on; `net create` calls it before it writes the file.
    pub fn check(&self) -> Result<(), GenesisError> {
        let ascending = |ok: bool, field| if ok { Ok(()) } else { Err(GenesisError::Field(field)) };
        ascending(!self.name.is_empty() && self.name.len() <= 64, "name")?;
        ascending(self.validators.windows(2).all(|w| w[0].key < w[1].key), "validators")?;
        ascending(self.validators.iter().all(|v| v.address.len() <= 256), "validator address")?;
        ascending(self.allocations.windows(2).all(|w| w[0].0 < w[1].0), "allocations")?;
        let supply = self.allocations.iter().try_fold(U256::ZERO, |sum, (_, amount)| sum.checked_add(*amount));
        // Modules count in u128; one bit of room for their sums.
        ascending(supply.is_some_and(|sum| sum <= U256::from(u128::MAX / 2)), "allocations")?;
        ascending((1..=31_536_000).contains(&self.window_secs), "window_secs")?;
        // Milliseconds of a century after 2500 still fit what the EVM and JavaScript count with.
        ascending(self.timestamp < 1 << 34, "timestamp")?;
        let f = &self.fees;
        ascending(
            f.base_fee >= f.base_fee_min && f.elasticity > 0 && f.denominator > 0 && f.gas_limit >= 30_000_000,
            "fees",
        )?;
        let s = &self.slashing;
        ascending(s.part_bp <= 10_000 && s.repair_bp <= 10_000 && s.part_misses <= s.all_misses, "slashing")?;
        ascending(self.settlement.stakes() || s.collateral_min.is_zero(), "settlement")?;
        ascending(self.disk.page_bytes >= 512 && self.disk.section_items > 0, "disk")?;
        let l = &self.limits;
        ascending(
            l.txs_max > 0 && l.tx_bytes_max <= l.body_bytes_max && l.body_bytes_max <= 8 << 20 && l.txs_max <= 1 << 16,
            "limits",
        )?;
        let players = self.output.players();
        let dealt = players.len() == self.validators.len()
            && self.validators.iter().zip(players.iter()).all(|(v, player)| &v.key == player);
        if dealt { Ok(()) } else { Err(GenesisError::Dealing) }
    }
}

fn namespace(tag: &[u8], hash: B256) -> Vec<u8> {
    [tag, hash.as_slice()].concat()
}

fn array(d: &mut Decoder<'_>, len: u64) -> Result<(), GenesisError> {
    if d.array()? == Some(len) { Ok(()) } else { Err(GenesisError::Canonical) }
}

fn list<'b, T>(
    d: &mut Decoder<'b>,
    mut item: impl FnMut(&mut Decoder<'b>) -> Result<T, GenesisError>,
) -> Result<Vec<T>, GenesisError> {
    let len = d.array()?.ok_or(GenesisError::Canonical)?;
    let mut out = Vec::new();
    // Each item takes at least a byte, so a lying length ends with the input.
    for _ in 0..len {
        out.push(item(d)?);
    }
    Ok(out)
}

fn address(d: &mut Decoder<'_>) -> Result<Address, GenesisError> {
    Address::try_from(d.bytes()?).map_err(|_| GenesisError::Field("address"))
}

fn settlement(d: &mut Decoder<'_>) -> Result<Settlement, GenesisError> {
    array(d, 2)?;
    let (kind, currency) = (d.u8()?, d.bytes()?);
    let found = currency.try_into().ok().and_then(|currency| Settlement::of(kind, currency));
    found.ok_or(GenesisError::Field("settlement"))
}

fn amount(d: &mut Decoder<'_>) -> Result<U256, GenesisError> {
    U256::try_from_be_slice(d.bytes()?).ok_or(GenesisError::Field("amount"))
}

/// The chain id of the network with this genesis hash.
pub fn chain_id(genesis: &B256) -> u64 {
    let low = u32::from_be_bytes([genesis[28], genesis[29], genesis[30], genesis[31]]) & 0x7fff_ffff;
    (1 << 31) + u64::from(low)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use commonware_cryptography::{Signer as _, ed25519};
    use commonware_utils::test_rng;

    pub(crate) fn sample() -> Genesis {
        let keys: Vec<_> = (0..4).map(|seed| ed25519::PrivateKey::from_seed(seed).public_key()).collect();
        let dealt = deal(test_rng(), &keys).unwrap();
        let validators = keys
            .into_iter()
            .map(|key| Validator { key, address: "127.0.0.1:9".into(), fees: Address::repeat_byte(4) })
            .collect();
        let coins = vec![(Address::repeat_byte(9), U256::from(5)), (Address::repeat_byte(1), U256::from(1) << 90)];
        Genesis::new("test".into(), 1_700_000_000, dealt.output, validators, coins)
    }

    #[test]
    fn returns_from_its_file() {
        let genesis = sample();
        let file = genesis.encode();
        assert_eq!(Genesis::decode(&file).unwrap(), genesis);
        assert!((1 << 31..1 << 32).contains(&genesis.chain_id()));
        assert_ne!(genesis.consensus_namespace(), genesis.p2p_namespace());
    }

    #[test]
    fn says_how_its_members_settle_and_asks_for_collateral_only_where_coins_are_money() {
        let (euro, coins) = (Settlement::Invoice("EUR".parse().unwrap()), sample());
        for settlement in [euro, Settlement::Barter] {
            let mut genesis = Genesis { settlement, ..coins.clone() };
            assert_eq!(Genesis::decode(&genesis.encode()).unwrap(), genesis);
            assert_ne!(genesis.hash(), coins.hash());
            genesis.slashing.collateral_min = U256::ONE;
            assert!(matches!(genesis.check(), Err(GenesisError::Field("settlement"))));
        }
        let mut named = Genesis { settlement: Settlement::Barter, ..coins }.encode();
        // Coins have one spelling: none.
        let last = named.len() - 5;
        named[last] = 0;
        assert!(matches!(Genesis::decode(&named), Err(GenesisError::Canonical)));
    }

    #[test]
    fn every_changed_byte_is_refused_or_names_another_network() {
        let genesis = sample();
        let file = genesis.encode();
        for position in 0..file.len() {
            let mut bad = file.clone();
            bad[position] ^= 0x20;
            if let Ok(other) = Genesis::decode(&bad) {
                assert_ne!(other.hash(), genesis.hash(), "byte {position}");
            }
        }
        assert!(Genesis::decode(&[file.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn refuses_validators_the_key_was_not_dealt_to() {
        let mut genesis = sample();
        genesis.validators.pop();
        assert!(matches!(Genesis::decode(&genesis.encode()), Err(GenesisError::Dealing)));
    }
}
