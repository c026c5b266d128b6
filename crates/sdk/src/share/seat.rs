//! Write down where a bucket's readers find what is in it.

use alloy_primitives::{Address, B256};
use hodei_storage::engine::Provider;
use hodei_types::{
    cbor::{CborError, Reader, Writer},
    transport::{NodeKey, Peer},
};
use std::net::SocketAddr;

const VERSION: u64 = 1;
/// Deals of one bucket that are kept, and places of one provider.
const DEALS_MAX: usize = 1024;
const PLACES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 1024;

/// A bucket as its readers need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) owner: Address,
    /// Where custodians put what they restored; zero: nowhere.
    pub(super) overlay: B256,
    /// Of its deals; without any grant, and without what pays.
    pub(super) roster: Vec<Provider>,
}

impl Seat {
    /// `None` for more than is ever kept.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let fits = |one: &Provider| {
            one.peer.addresses.len().max(one.peer.relays.len()) <= PLACES_MAX
                && one.network.len().max(one.zone.len()) <= TEXT_BYTES_MAX
        };
        if self.roster.len() > DEALS_MAX || !self.roster.iter().all(fits) {
            return None;
        }
        let mut out = Writer::new();
        out.array(4).uint(VERSION).bytes(self.owner.as_slice()).bytes(self.overlay.as_slice());
        out.array(self.roster.len());
        for Provider { peer, deal, operator, network, zone, .. } in &self.roster {
            out.array(7).uint(*deal).bytes(&peer.key.0).bytes(operator).text(network).text(zone);
            for places in [&peer.addresses, &peer.relays] {
                out.array(places.len());
                places.iter().for_each(|place| _ = out.text(&place.to_string()));
            }
        }
        Some(out.finish())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut input = Reader::new(bytes);
        input.tuple(4)?;
        input.exactly("version", VERSION)?;
        let (owner, overlay) = (Address::new(input.fixed()?), B256::new(input.fixed()?));
        let mut roster = Vec::new();
        for _ in 0..input.array(DEALS_MAX)? {
            input.tuple(7)?;
            let (deal, key, operator) = (input.uint()?, NodeKey(input.fixed()?), input.fixed()?);
            let (network, zone) = (input.text(TEXT_BYTES_MAX)?.to_owned(), input.text(TEXT_BYTES_MAX)?.to_owned());
            let (addresses, relays) = (places(&mut input)?, places(&mut input)?);
            let peer = Peer { key, addresses, relays };
            roster.push(Provider { peer, deal, operator, network, zone, grant: Vec::new(), meter: None });
        }
        input.end()?;
        Ok(Self { owner, overlay, roster })
    }
}

fn places(input: &mut Reader<'_>) -> Result<Vec<SocketAddr>, CborError> {
    let mut places = Vec::new();
    for _ in 0..input.array(PLACES_MAX)? {
        let at = input.at();
        let place = input.text(TEXT_BYTES_MAX)?.parse();
        places.push(place.map_err(|_| CborError::Value { at, what: "address", expected: 1, found: 0 })?);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_returns_from_its_bytes_and_no_others_are_one() {
        let place = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let provider = |at: u8| Provider {
            peer: Peer { key: NodeKey([at; 32]), addresses: vec![place(1), place(2)], relays: vec![place(3)] },
            deal: at.into(),
            operator: [at; 20],
            network: "10.0.0.0/24".into(),
            zone: "attic".into(),
            grant: Vec::new(),
            meter: None,
        };
        let seat = Seat {
            owner: Address::repeat_byte(1),
            overlay: B256::repeat_byte(2),
            roster: (1..7).map(provider).collect(),
        };
        let bytes = seat.encode().unwrap();
        assert_eq!(Seat::decode(&bytes), Ok(seat.clone()));
        for end in 0..bytes.len() {
            Seat::decode(&bytes[..end]).expect_err("a lost end");
        }
        Seat::decode(&[&bytes[..], &[0]].concat()).expect_err("something behind it");
        let many = Seat { roster: vec![provider(1); DEALS_MAX + 1], ..seat };
        assert_eq!(many.encode(), None);
    }
}
