//! Pack where a provider is reached.

use alloy_primitives::Bytes;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::ADDRESSES_MAX;

/// The text of `Offer.addresses`: 18 bytes each, in order; more than [`ADDRESSES_MAX`] are cut.
pub fn pack_addresses(addresses: &[SocketAddr]) -> Bytes {
    let mut out = Vec::with_capacity(18 * addresses.len());
    for address in addresses.iter().take(ADDRESSES_MAX) {
        let ip = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        out.extend_from_slice(&ip.octets());
        out.extend_from_slice(&address.port().to_be_bytes());
    }
    out.into()
}

/// Reads `Offer.addresses`; `None` if the length is not a multiple of 18 or too long.
pub fn unpack_addresses(packed: &[u8]) -> Option<Vec<SocketAddr>> {
    if !packed.len().is_multiple_of(18) || packed.len() > 18 * ADDRESSES_MAX {
        return None;
    }
    Some(
        packed
            .chunks_exact(18)
            .map(|chunk| {
                let ip: [u8; 16] = chunk[..16].try_into().expect("16 of 18 bytes");
                let ip = Ipv6Addr::from(ip).to_canonical();
                SocketAddr::new(ip, u16::from_be_bytes([chunk[16], chunk[17]]))
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_packing() {
        let given: Vec<SocketAddr> = vec!["127.0.0.1:4000".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()];
        assert_eq!(unpack_addresses(&pack_addresses(&given)), Some(given));
        assert_eq!(unpack_addresses(&[0; 17]), None);
        assert_eq!(unpack_addresses(&[0; 18 * 9]), None);
    }
}
