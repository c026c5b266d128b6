//! Carry an invitation as one word.
//!
//! `hodeijoin1…`, bech32m of: version, genesis hash, group key, the secret of a funded account, the network's
//! name, and up to four members with their addresses. Whoever holds the word holds the coins in it.

use crate::{
    context::Member,
    fault::{self, Fault, Result},
};
use hodei_types::{
    network::{GROUP_KEY_BYTES, NetworkKey},
    word::Form,
};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use zeroize::Zeroizing;

const FORM: Form = Form { prefix: "hodeijoin", chars_max: 1023 };
const VERSION: u8 = 1;
/// More do not fit a bech32m word of 1023 characters.
pub(crate) const MEMBERS_MAX: usize = 4;
pub(crate) const ADDRESSES_MAX: usize = 2;
const NAME_BYTES_MAX: usize = 64;

/// An invitation.
#[derive(Clone, PartialEq)]
pub(crate) struct Ticket {
    pub(crate) network_key: NetworkKey,
    pub(crate) name: String,
    /// secp256k1 secret of the account with the coins.
    pub(crate) secret: Zeroizing<[u8; 32]>,
    pub(crate) members: Vec<Member>,
}

impl Ticket {
    pub(crate) fn text(&self) -> Zeroizing<String> {
        let mut data = Zeroizing::new(vec![VERSION]);
        data.extend_from_slice(self.network_key.genesis.as_slice());
        data.extend_from_slice(&self.network_key.group);
        data.extend_from_slice(&*self.secret);
        data.push(u8::try_from(self.name.len()).expect("a name has at most 64 bytes"));
        data.extend_from_slice(self.name.as_bytes());
        data.push(u8::try_from(self.members.len()).expect("at most four members"));
        for member in &self.members {
            data.extend_from_slice(&hex::decode(&member.key).expect("a member's key is hex"));
            data.push(u8::try_from(member.addresses.len()).expect("at most two addresses"));
            for address in &member.addresses {
                let ip = match address.ip() {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                data.extend_from_slice(&ip.octets());
                data.extend_from_slice(&address.port().to_be_bytes());
            }
        }
        FORM.write(&data)
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str, found: &str| {
            Fault::new(
                &fault::TICKET,
                format!("the invitation is not valid: {what}"),
                "copy it whole, or ask for a new one",
            )
            .between("one lower-case word that starts with hodeijoin1", found)
        };
        let start: String = text.chars().take(12).collect();
        let data = FORM.read(text).map_err(|error| wrong(&error.to_string(), &start))?;
        read(&data).ok_or_else(|| wrong("its content is malformed, or of another version", &start))
    }
}

fn read(mut data: &[u8]) -> Option<Ticket> {
    let mut take = |count: usize| -> Option<&[u8]> {
        let (head, rest) = data.split_at_checked(count)?;
        data = rest;
        Some(head)
    };
    if take(1)? != [VERSION] {
        return None;
    }
    let genesis = take(32)?.try_into().ok()?;
    let group = take(GROUP_KEY_BYTES)?.try_into().ok()?;
    let secret = Zeroizing::new(take(32)?.try_into().ok()?);
    let length = usize::from(take(1)?[0]);
    let name = std::str::from_utf8(take(length)?).ok()?.to_owned();
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let count = usize::from(take(1)?[0]);
    if !(1..=MEMBERS_MAX).contains(&count) {
        return None;
    }
    let mut members = Vec::new();
    for _ in 0..count {
        let key = hex::encode(take(32)?);
        let count = usize::from(take(1)?[0]);
        if !(1..=ADDRESSES_MAX).contains(&count) {
            return None;
        }
        let mut addresses = Vec::new();
        for _ in 0..count {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(take(16)?).ok()?).to_canonical();
            let port = u16::from_be_bytes(take(2)?.try_into().ok()?);
            addresses.push(SocketAddr::new(ip, port));
        }
        members.push(Member { key, addresses });
    }
    data.is_empty().then(|| Ticket { network_key: NetworkKey { genesis, group }, name, secret, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(members: usize) -> Ticket {
        let address = |port| SocketAddr::new([10, 0, 0, 1].into(), port);
        Ticket {
            network_key: NetworkKey { genesis: [7; 32].into(), group: [8; GROUP_KEY_BYTES] },
            name: "n".repeat(NAME_BYTES_MAX),
            secret: Zeroizing::new([9; 32]),
            members: (0..members)
                .map(|index| Member {
                    key: hex::encode([index as u8; 32]),
                    addresses: vec![address(1), "[2001:db8::1]:9".parse().unwrap()],
                })
                .collect(),
        }
    }

    #[test]
    fn the_largest_ticket_returns_from_its_word() {
        let ticket = ticket(MEMBERS_MAX);
        let text = ticket.text();
        assert!(Ticket::parse(&text).unwrap() == ticket);
    }

    #[test]
    fn every_changed_letter_is_noticed() {
        let text = ticket(2).text();
        for at in 0..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = if changed[at] == b'q' { b'p' } else { b'q' };
            let changed = String::from_utf8(changed).unwrap();
            let Err(fault) = Ticket::parse(&changed) else { panic!("letter {at} was changed unnoticed") };
            assert_eq!(fault.code.id, "HD2006");
            assert!(!fault.to_string().contains(&text[40..60]), "a fault never shows the secret");
        }
        assert!(Ticket::parse(&text[..text.len() - 1]).is_err() && Ticket::parse("").is_err());
    }
}
