//! Carry what a device asks of its pool.
//!
//! Protocol `hodei/pool/1`: one stream per request, each message a frame as on `hodei/chain/1`: u32 length, big-endian,
//! and that many bytes of canonical CBOR `[kind, …]`. The link has authenticated the device's node key, so no message
//! names or signs it; JOIN alone brings a signature, by which the ledger lets the operator register the key.

use crate::config::is_nameable;
use alloy_primitives::{Address, B256, U256};
use hodei_types::{
    abi::{ADDRESSES_MAX, pack_reach, unpack_reach},
    ack::SIGNATURE_BYTES,
    cbor::{CborError, Reader, Writer},
    transport::Reach,
};
use std::net::SocketAddr;

/// Longest message of either side.
pub(super) const MESSAGE_BYTES_MAX: usize = 4096;
/// Longest note of a claim.
pub const CODE_BYTES_MAX: usize = 64;
/// Open deals named in one answer.
pub(super) const OPEN_MAX: usize = 64;
const ZONE_BYTES_MAX: usize = 31;
const TEXT_BYTES_MAX: usize = 256;

/// What a device offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What fails together with it: 1 to 31 of `a-z 0-9 -`.
    pub zone: String,
    pub addresses: Vec<SocketAddr>,
    /// Relays through which it is reached; with its addresses at most 8.
    pub relays: Vec<SocketAddr>,
    pub capacity_bytes: u64,
    /// 0 home, 1 data centre, 2 phone.
    pub class: u8,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Join {
        secret: [u8; 16],
        possession: [u8; SIGNATURE_BYTES],
        account: Address,
        offer: Offer,
    },
    Moved {
        offer: Offer,
    },
    State,
    /// `None` of amount: all. `to` where coins go, in a pool that pays coins; `code` names a claim in one of credit.
    Redeem {
        amount: Option<U256>,
        to: Option<Address>,
        code: String,
    },
    Leave,
    /// Of the publisher, who has the token from the pool's folder.
    Admin {
        token: [u8; 32],
        errand: Errand,
    },
}

/// What the publisher wants of a pool that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Counts so much of a device's credit as redeemed.
    Redeem { node: B256, amount: U256 },
    /// Lets no more of a device in, and retires it.
    Remove { node: B256 },
    /// Changes the secret in the word.
    Secret { secret: [u8; 16] },
}

/// What a device is told of itself, amounts in wei.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it may take part: not leaving, not removed.
    pub is_member: bool,
    pub pays_coins: bool,
    pub earned: U256,
    pub redeemed: U256,
    /// Asked for and not settled yet.
    pub claimed: U256,
    pub windows_proven: u64,
    pub windows_missed: u64,
    /// Devices of the pool that take part.
    pub devices: u64,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Enrolled,
    Done,
    State(Standing),
    /// `tx` where coins were sent.
    Redeemed {
        amount: U256,
        tx: Option<B256>,
    },
    /// Deals that are open still, at most 64 of them; `collateral` in wei once it is back.
    Leaving {
        open: Vec<u64>,
        collateral: Option<U256>,
    },
    Busy {
        retry_after_ms: u32,
    },
    Refused {
        reason: Reason,
        text: String,
    },
}

/// Why something was refused; asked again unchanged it is refused again, but for `Late`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    Malformed = 1,
    /// The word's secret was changed, or the token is not the pool's.
    Secret = 2,
    /// The pool has as many devices as it wants.
    Full = 3,
    /// Not of this pool, leaving it, or removed.
    Stranger = 4,
    /// Beyond what the pool allows one device.
    Limit = 5,
    /// The ledger could not be asked, or refused.
    Ledger = 6,
    /// Too many at once: again in a minute.
    Late = 7,
    /// Less credit than that.
    Credit = 8,
}

/// Why a message was not understood.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("message: {0}")]
    Cbor(#[from] CborError),
    #[error("message kind {0} is unknown")]
    Kind(u64),
    #[error("{0} is beyond its limit")]
    Limit(&'static str),
}

impl Offer {
    fn write(&self, out: &mut Writer) {
        out.array(4)
            .text(&self.zone)
            .bytes(&pack_reach(&self.reach()))
            .uint(self.capacity_bytes)
            .uint(self.class.into());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.tuple(4)?;
        let zone = input.text(ZONE_BYTES_MAX)?.to_owned();
        // A byte before them counts the addresses, where relays follow.
        let reach = unpack_reach(input.bytes(18 * ADDRESSES_MAX + 1)?).ok_or(WireError::Limit("addresses"))?;
        let Reach { addresses, relays } = reach;
        if !relays.iter().all(is_nameable) {
            return Err(WireError::Limit("relays"));
        }
        let capacity_bytes = input.uint()?;
        let class = u8::try_from(input.uint()?).map_err(|_| WireError::Limit("class"))?;
        Ok(Self { zone, addresses, relays, capacity_bytes, class })
    }

    /// Where others reach the device, for the ledger.
    pub fn reach(&self) -> Reach {
        Reach { addresses: self.addresses.clone(), relays: self.relays.clone() }
    }
}

fn amount(out: &mut Writer, amount: U256) {
    out.bytes(&amount.to_be_bytes_trimmed_vec());
}

fn read_amount(input: &mut Reader<'_>) -> Result<U256, WireError> {
    let bytes = input.bytes(32)?;
    if bytes.first() == Some(&0) {
        return Err(WireError::Limit("amount"));
    }
    Ok(U256::from_be_slice(bytes))
}

impl Request {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Join { secret, possession, account, offer } => {
                out.array(5).uint(1).bytes(secret).bytes(possession).bytes(account.as_slice());
                offer.write(&mut out);
            }
            Self::Moved { offer } => {
                out.array(2).uint(2);
                offer.write(&mut out);
            }
            Self::State => _ = out.array(1).uint(3),
            Self::Redeem { amount: much, to, code } => {
                out.array(4).uint(4);
                amount(&mut out, much.unwrap_or_default());
                out.bytes(to.as_ref().map_or(&[][..], |to| to.as_slice())).text(code);
            }
            Self::Leave => _ = out.array(1).uint(5),
            Self::Admin { token, errand } => match errand {
                Errand::Redeem { node, amount: much } => {
                    out.array(4).uint(6).bytes(token).bytes(node.as_slice());
                    amount(&mut out, *much);
                }
                Errand::Remove { node } => _ = out.array(3).uint(7).bytes(token).bytes(node.as_slice()),
                Errand::Secret { secret } => _ = out.array(3).uint(8).bytes(token).bytes(secret),
            },
        }
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(bytes);
        let (values, kind) = (input.array(5)?, input.uint()?);
        let request = match (kind, values) {
            (1, 5) => Self::Join {
                secret: input.fixed()?,
                possession: input.fixed()?,
                account: Address::from(input.fixed::<20>()?),
                offer: Offer::read(&mut input)?,
            },
            (2, 2) => Self::Moved { offer: Offer::read(&mut input)? },
            (3, 1) => Self::State,
            (4, 4) => {
                let much = read_amount(&mut input)?;
                let to = match input.bytes(20)? {
                    [] => None,
                    to => Some(Address::try_from(to).map_err(|_| WireError::Limit("to"))?),
                };
                let code = input.text(CODE_BYTES_MAX)?.to_owned();
                Self::Redeem { amount: (!much.is_zero()).then_some(much), to, code }
            }
            (5, 1) => Self::Leave,
            (6, 4) => {
                let (token, node) = (input.fixed()?, B256::from(input.fixed::<32>()?));
                Self::Admin { token, errand: Errand::Redeem { node, amount: read_amount(&mut input)? } }
            }
            (7, 3) => {
                let (token, node) = (input.fixed()?, B256::from(input.fixed::<32>()?));
                Self::Admin { token, errand: Errand::Remove { node } }
            }
            (8, 3) => Self::Admin { token: input.fixed()?, errand: Errand::Secret { secret: input.fixed()? } },
            _ => return Err(WireError::Kind(kind)),
        };
        input.end()?;
        Ok(request)
    }
}

impl Answer {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Enrolled => _ = out.array(1).uint(1),
            Self::Done => _ = out.array(1).uint(2),
            Self::State(standing) => {
                out.array(9).uint(3).uint(standing.is_member.into()).uint(standing.pays_coins.into());
                amount(&mut out, standing.earned);
                amount(&mut out, standing.redeemed);
                amount(&mut out, standing.claimed);
                out.uint(standing.windows_proven).uint(standing.windows_missed).uint(standing.devices);
            }
            Self::Redeemed { amount: much, tx } => {
                out.array(3).uint(4);
                amount(&mut out, *much);
                out.bytes(tx.as_ref().map_or(&[][..], |tx| tx.as_slice()));
            }
            Self::Leaving { open, collateral } => {
                let open = &open[..open.len().min(OPEN_MAX)];
                out.array(4).uint(5).array(open.len());
                open.iter().for_each(|deal| _ = out.uint(*deal));
                out.uint(collateral.is_some().into());
                amount(&mut out, collateral.unwrap_or_default());
            }
            Self::Busy { retry_after_ms } => _ = out.array(2).uint(6).uint((*retry_after_ms).into()),
            Self::Refused { reason, text } => {
                let end = text.floor_char_boundary(TEXT_BYTES_MAX);
                out.array(3).uint(7).uint(*reason as u64).text(&text[..end]);
            }
        }
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(bytes);
        let (values, kind) = (input.array(9)?, input.uint()?);
        let answer = match (kind, values) {
            (1, 1) => Self::Enrolled,
            (2, 1) => Self::Done,
            (3, 9) => Self::State(Standing {
                is_member: flag(&mut input)?,
                pays_coins: flag(&mut input)?,
                earned: read_amount(&mut input)?,
                redeemed: read_amount(&mut input)?,
                claimed: read_amount(&mut input)?,
                windows_proven: input.uint()?,
                windows_missed: input.uint()?,
                devices: input.uint()?,
            }),
            (4, 3) => {
                let amount = read_amount(&mut input)?;
                let tx = match input.bytes(32)? {
                    [] => None,
                    tx => Some(B256::try_from(tx).map_err(|_| WireError::Limit("tx"))?),
                };
                Self::Redeemed { amount, tx }
            }
            (5, 4) => {
                let count = input.array(OPEN_MAX)?;
                let open = (0..count).map(|_| input.uint()).collect::<Result<_, _>>()?;
                let (is_back, wei) = (flag(&mut input)?, read_amount(&mut input)?);
                Self::Leaving { open, collateral: is_back.then_some(wei) }
            }
            (6, 2) => {
                Self::Busy { retry_after_ms: u32::try_from(input.uint()?).map_err(|_| WireError::Limit("wait"))? }
            }
            (7, 3) => {
                let reason = input.uint()?;
                let reason = Reason::of(reason).ok_or(WireError::Kind(reason))?;
                Self::Refused { reason, text: input.text(TEXT_BYTES_MAX)?.to_owned() }
            }
            _ => return Err(WireError::Kind(kind)),
        };
        input.end()?;
        Ok(answer)
    }
}

impl Reason {
    fn of(number: u64) -> Option<Self> {
        use Reason::{Credit, Full, Late, Ledger, Limit, Malformed, Secret, Stranger};
        [Malformed, Secret, Full, Stranger, Limit, Ledger, Late, Credit]
            .into_iter()
            .find(|known| *known as u64 == number)
    }
}

fn flag(input: &mut Reader<'_>) -> Result<bool, WireError> {
    match input.uint()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError::Limit("flag")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Request> {
        let offer = Offer {
            zone: "z".repeat(ZONE_BYTES_MAX),
            addresses: vec!["10.1.2.3:4".parse().unwrap(); ADDRESSES_MAX],
            relays: Vec::new(),
            capacity_bytes: u64::MAX,
            class: 2,
        };
        let relays = vec!["203.0.113.9:4435".parse().unwrap(); 2];
        let behind = Offer { addresses: Vec::new(), relays, ..offer.clone() };
        let (node, token) = (B256::repeat_byte(3), [4; 32]);
        vec![
            Request::Join {
                secret: [1; 16],
                possession: [2; 64],
                account: Address::repeat_byte(3),
                offer: offer.clone(),
            },
            Request::Moved { offer },
            Request::Moved { offer: behind },
            Request::State,
            Request::Redeem { amount: None, to: Some(Address::repeat_byte(7)), code: String::new() },
            Request::Redeem { amount: Some(U256::MAX), to: None, code: "é".repeat(CODE_BYTES_MAX / 2) },
            Request::Leave,
            Request::Admin { token, errand: Errand::Redeem { node, amount: U256::from(1) } },
            Request::Admin { token, errand: Errand::Remove { node } },
            Request::Admin { token, errand: Errand::Secret { secret: [5; 16] } },
        ]
    }

    fn answers() -> Vec<Answer> {
        let standing = Standing {
            is_member: true,
            earned: U256::MAX,
            redeemed: U256::from(256),
            devices: 7,
            windows_proven: 1,
            ..Standing::default()
        };
        vec![
            Answer::Enrolled,
            Answer::Done,
            Answer::State(standing),
            Answer::Redeemed { amount: U256::from(5), tx: Some(B256::repeat_byte(1)) },
            Answer::Redeemed { amount: U256::ZERO, tx: None },
            Answer::Leaving { open: vec![u64::MAX; OPEN_MAX], collateral: None },
            Answer::Leaving { open: Vec::new(), collateral: Some(U256::ZERO) },
            Answer::Busy { retry_after_ms: 9 },
            Answer::Refused { reason: Reason::Credit, text: "no".into() },
        ]
    }

    #[test]
    fn messages_return_from_their_bytes_and_no_other_spelling_is_taken() {
        for request in requests() {
            let bytes = request.encode();
            assert!(bytes.len() <= MESSAGE_BYTES_MAX);
            assert_eq!(Request::decode(&bytes).unwrap(), request);
            assert!(Request::decode(&[&bytes[..], &[0]].concat()).is_err(), "bytes behind {request:?}");
            for end in 0..bytes.len() {
                assert!(Request::decode(&bytes[..end]).is_err(), "{request:?} cut at {end}");
            }
        }
        for answer in answers() {
            let bytes = answer.encode();
            assert!(bytes.len() <= MESSAGE_BYTES_MAX);
            assert_eq!(Answer::decode(&bytes).unwrap(), answer);
            assert!(Answer::decode(&bytes[..bytes.len() - 1]).is_err());
        }
    }

    #[test]
    fn a_long_reason_is_cut_where_a_letter_ends() {
        let long = Answer::Refused { reason: Reason::Ledger, text: "é".repeat(1000) };
        let Answer::Refused { text, .. } = Answer::decode(&long.encode()).unwrap() else { panic!("another answer") };
        assert_eq!(text.len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn a_device_behind_a_relay_that_nobody_can_dial_is_refused() {
        let moved = |relay: &str| {
            let offer = Offer {
                zone: "flat".into(),
                addresses: Vec::new(),
                relays: vec![relay.parse().unwrap()],
                capacity_bytes: 1,
                class: 2,
            };
            Request::decode(&Request::Moved { offer }.encode())
        };
        assert!(moved("203.0.113.9:4435").is_ok());
        for relay in ["0.0.0.0:4435", "203.0.113.9:0"] {
            assert!(matches!(moved(relay), Err(WireError::Limit("relays"))), "{relay}");
        }
    }
}
