//! Pack where a provider is reached.

use crate::transport::Reach;
use alloy_primitives::Bytes;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::ADDRESSES_MAX;

/// One address: 16 bytes of IP, IPv4 mapped into IPv6, and 2 of port.
const ADDRESS_BYTES: usize = 18;
/// The longest text of `Offer.addresses`: as many addresses as may be, and the byte that counts direct ones.
pub const REACH_BYTES_MAX: usize = 1 + ADDRESS_BYTES * ADDRESSES_MAX;

/// The text of `Offer.addresses` for somebody who is reached directly: 18 bytes each, in order; more than
/// [`ADDRESSES_MAX`] are cut.
pub fn pack_addresses(addresses: &[SocketAddr]) -> Bytes {
    let mut out = Vec::with_capacity(ADDRESS_BYTES * addresses.len());
    append(&mut out, addresses.iter().take(ADDRESSES_MAX));
    out.into()
}

/// The text of `Offer.addresses`. Without relays as [`pack_addresses`] has it; else one byte, how many of the
/// addresses are direct, then these, then the relays. More than [`ADDRESSES_MAX`] together are cut: direct ones
/// first, so that a relay is left.
pub fn pack_reach(reach: &Reach) -> Bytes {
    if reach.relays.is_empty() {
        return pack_addresses(&reach.addresses);
    }
    let relays = &reach.relays[..reach.relays.len().min(ADDRESSES_MAX)];
    let direct = &reach.addresses[..reach.addresses.len().min(ADDRESSES_MAX - relays.len())];
    let mut out = Vec::with_capacity(REACH_BYTES_MAX);
    out.push(u8::try_from(direct.len()).expect("at most ADDRESSES_MAX"));
    append(&mut out, direct.iter().chain(relays));
    out.into()
}

/// Reads `Offer.addresses`; `None` for another spelling than [`pack_reach`]'s or one that is too long.
pub fn unpack_reach(packed: &[u8]) -> Option<Reach> {
    if packed.len() > REACH_BYTES_MAX {
        return None;
    }
    let (direct, rest) = match packed.len() % ADDRESS_BYTES {
        0 => (packed.len() / ADDRESS_BYTES, packed),
        1 => (usize::from(packed[0]), &packed[1..]),
        _ => return None,
    };
    let mut addresses: Vec<SocketAddr> = rest.chunks_exact(ADDRESS_BYTES).map(address).collect();
    let tagged = rest.len() != packed.len();
    // A byte that counts says that relays follow: without any it would be a second spelling.
    if addresses.len() > ADDRESSES_MAX || direct > addresses.len() || tagged && direct == addresses.len() {
        return None;
    }
    let relays = addresses.split_off(direct);
    Some(Reach { addresses, relays })
}

fn append<'a>(out: &mut Vec<u8>, addresses: impl Iterator<Item = &'a SocketAddr>) {
    for address in addresses {
        let ip = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        out.extend_from_slice(&ip.octets());
        out.extend_from_slice(&address.port().to_be_bytes());
    }
}

fn address(chunk: &[u8]) -> SocketAddr {
    let ip: [u8; 16] = chunk[..16].try_into().expect("16 of 18 bytes");
    SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), u16::from_be_bytes([chunk[16], chunk[17]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(count: usize) -> Vec<SocketAddr> {
        let any = ["127.0.0.1:4000", "[2001:db8::1]:1"].map(|text| text.parse().unwrap());
        any.into_iter().cycle().take(count).collect()
    }

    #[test]
    fn what_is_packed_is_read_back() {
        for (direct, relays) in [(0, 0), (2, 0), (8, 0), (0, 1), (1, 2), (4, 4), (0, 8), (7, 1)] {
            let reach = Reach { addresses: some(direct), relays: some(relays) };
            assert_eq!(unpack_reach(&pack_reach(&reach)), Some(reach));
        }
        assert_eq!(pack_reach(&Reach { addresses: some(2), relays: vec![] }), pack_addresses(&some(2)));
    }

    #[test]
    fn too_many_leave_room_for_a_relay() {
        let cut = unpack_reach(&pack_reach(&Reach { addresses: some(9), relays: some(1) })).unwrap();
        assert_eq!((cut.addresses.len(), cut.relays.len()), (7, 1));
    }

    #[test]
    fn other_spellings_are_refused() {
        assert_eq!(unpack_reach(&[0; 17]), None);
        assert_eq!(unpack_reach(&[0; 20]), None);
        assert_eq!(unpack_reach(&[0; 18 * 9]), None);
        assert_eq!(unpack_reach(&[0; 1 + 18 * 9]), None);
        assert_eq!(unpack_reach(&[0]), None, "counts, and names no relay");
        let mut packed = pack_reach(&Reach { addresses: some(1), relays: some(1) }).to_vec();
        for wrong in [2, 3, 255] {
            packed[0] = wrong;
            assert_eq!(unpack_reach(&packed), None, "{wrong} direct addresses of two, and a relay");
        }
    }
}
