//! Carry the way into a pool as one word.
//!
//! `hodeipool1…`, bech32m of: version, genesis hash, group key, the operator's account, the pool's secret, the
//! network's name, the pool's door with its addresses, and up to four members with theirs. It holds no coins:
//! whoever has it may ask to join, within the pool's limits, until the publisher changes the secret.

use alloy_primitives::Address;
use hodei_types::{
    network::{GROUP_KEY_BYTES, NetworkKey},
    transport::{NodeKey, Peer},
    word::Form,
};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const FORM: Form = Form { prefix: "hodeipool", chars_max: WORD_BYTES_MAX };
const VERSION: u8 = 1;
/// More do not fit a bech32m word of 1023 characters.
const MEMBERS_MAX: usize = 4;
const ADDRESSES_MAX: usize = 2;
const NAME_BYTES_MAX: usize = 64;
/// No valid word is longer.
const WORD_BYTES_MAX: usize = 1023;

/// The way into a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub network: NetworkKey,
    /// The network's name, at most 64 bytes.
    pub name: String,
    /// The account that registers the devices.
    pub operator: Address,
    /// Shown to the door by whoever wants to join.
    pub secret: [u8; 16],
    pub door: Peer,
    /// One to four members of the ledger.
    pub members: Vec<Peer>,
}

/// Why a text is no word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    #[error("expected one lower-case word that starts with {form}1, found one that starts with {0:?}: copy it whole", form = FORM.prefix)]
    Text(String),
    #[error("the word's content is malformed or of another version: ask the app's publisher for a new one")]
    Content,
    #[error("a pool's word needs a name of at most 64 bytes, and 1 to 4 members and a door with an address each")]
    Parts,
}

impl Word {
    /// The word; an error where a part is missing. Members and addresses beyond what fits are left out.
    pub fn text(&self) -> Result<String, WordError> {
        let members: Vec<&Peer> =
            self.members.iter().filter(|member| !member.addresses.is_empty()).take(MEMBERS_MAX).collect();
        if self.name.len() > NAME_BYTES_MAX || members.is_empty() || self.door.addresses.is_empty() {
            return Err(WordError::Parts);
        }
        let mut data = vec![VERSION];
        data.extend_from_slice(self.network.genesis.as_slice());
        data.extend_from_slice(&self.network.group);
        data.extend_from_slice(self.operator.as_slice());
        data.extend_from_slice(&self.secret);
        data.push(self.name.len() as u8);
        data.extend_from_slice(self.name.as_bytes());
        write_peer(&mut data, &self.door);
        data.push(members.len() as u8);
        members.iter().for_each(|member| write_peer(&mut data, member));
        Ok(FORM.write(&data).to_string())
    }

    /// Whether both lead into one pool, whose publisher may have changed its secret, or where it is found.
    pub fn is_of_the_pool_of(&self, other: &Self) -> bool {
        let of = |word: &Self| (word.network, word.operator, word.door.key);
        of(self) == of(other)
    }

    /// Reads a word, checksum first.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let data = FORM.read(text).map_err(|_| WordError::Text(text.chars().take(12).collect()))?;
        read(&data).ok_or(WordError::Content)
    }
}

fn write_peer(data: &mut Vec<u8>, peer: &Peer) {
    data.extend_from_slice(&peer.key.0);
    let addresses = &peer.addresses[..peer.addresses.len().min(ADDRESSES_MAX)];
    data.push(addresses.len() as u8);
    for address in addresses {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        data.extend_from_slice(&ip.octets());
        data.extend_from_slice(&address.port().to_be_bytes());
    }
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn count(&mut self, max: usize) -> Option<usize> {
        let count = usize::from(self.take(1)?[0]);
        (count <= max).then_some(count)
    }

    fn peer(&mut self) -> Option<Peer> {
        let key = NodeKey(self.fixed()?);
        let count = self.count(ADDRESSES_MAX)?;
        let mut addresses = Vec::new();
        for _ in 0..count {
            let ip = Ipv6Addr::from(self.fixed::<16>()?).to_canonical();
            addresses.push(SocketAddr::new(ip, u16::from_be_bytes(self.fixed()?)));
        }
        (count > 0).then_some(Peer::at(key, addresses))
    }
}

fn read(data: &[u8]) -> Option<Word> {
    let mut rest = Rest(data);
    if rest.take(1)? != [VERSION] {
        return None;
    }
    let genesis = rest.fixed::<32>()?.into();
    let group = rest.fixed::<GROUP_KEY_BYTES>()?;
    let operator = Address::from(rest.fixed::<20>()?);
    let secret = rest.fixed()?;
    let length = rest.count(NAME_BYTES_MAX)?;
    let name = std::str::from_utf8(rest.take(length)?).ok()?.to_owned();
    let door = rest.peer()?;
    let count = rest.count(MEMBERS_MAX)?;
    let members = (0..count).map(|_| rest.peer()).collect::<Option<Vec<Peer>>>()?;
    let is_whole = rest.0.is_empty() && !members.is_empty();
    is_whole.then_some(Word { network: NetworkKey { genesis, group }, name, operator, secret, door, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(members: usize) -> Word {
        let peer = |index: usize| {
            let addresses = vec!["10.0.0.1:1".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()];
            Peer::at(NodeKey([index as u8; 32]), addresses)
        };
        Word {
            network: NetworkKey { genesis: [7; 32].into(), group: [8; GROUP_KEY_BYTES] },
            name: "n".repeat(NAME_BYTES_MAX),
            operator: Address::repeat_byte(5),
            secret: [9; 16],
            door: peer(40),
            members: (0..members).map(peer).collect(),
        }
    }

    #[test]
    fn the_largest_word_returns_from_its_text() {
        let word = word(MEMBERS_MAX);
        let text = word.text().unwrap();
        assert!(text.starts_with("hodeipool1") && text.len() <= WORD_BYTES_MAX, "{}", text.len());
        assert_eq!(Word::parse(&text), Ok(word));
    }

    #[test]
    fn every_changed_letter_is_noticed() {
        let text = word(1).text().unwrap();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'q' { b'p' } else { b'q' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(Word::parse(&changed).is_err(), "letter {at} was changed unnoticed");
        }
        for wrong in ["", &text[..text.len() - 1], &text.to_uppercase(), &"q".repeat(5000)] {
            assert!(Word::parse(wrong).is_err());
        }
    }

    #[test]
    fn a_renewed_word_is_of_the_same_pool_and_another_publishers_is_not() {
        let (before, mut renewed) = (word(2), Word { secret: [1; 16], ..word(1) });
        renewed.door.addresses.truncate(1);
        assert!(renewed.is_of_the_pool_of(&before));
        let others = [
            Word { operator: Address::repeat_byte(6), ..word(2) },
            Word { network: NetworkKey { genesis: [1; 32].into(), ..before.network }, ..word(2) },
            Word { door: word(1).members.remove(0), ..word(2) },
        ];
        assert!(others.iter().all(|other| !other.is_of_the_pool_of(&before)));
    }

    #[test]
    fn a_word_leads_somewhere() {
        let nobody = Word { members: Vec::new(), ..word(1) };
        assert_eq!(nobody.text(), Err(WordError::Parts));
        let mut closed = word(1);
        closed.door.addresses.clear();
        assert_eq!(closed.text(), Err(WordError::Parts));
    }
}
