//! Judge how far an address is good: on one machine, in one place, anywhere.
//!
//! Who passes on addresses that others named, and who dials them, leaves out those that nobody else could mean: a service
//! on the dialler's own machine, a router at its home.

use std::net::{IpAddr, SocketAddr};

/// How far an address is good: on one machine, in one place, anywhere; `None` if for nobody.
fn reach(address: SocketAddr) -> Option<u8> {
    let ip = address.ip().to_canonical();
    if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]) {
        return None;
    }
    let is_near = match ip {
        IpAddr::V4(v4) => {
            v4.is_private() || v4.is_link_local() || (v4.octets()[0] == 100 && v4.octets()[1] & 192 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    Some(if ip.is_loopback() { 0 } else { 2 - u8::from(is_near) })
}

/// Whether who reaches somebody at its `own` addresses may reach that address: it is good at least as far as those are. Who
/// has none of its own is reached from anywhere.
pub fn is_reachable(address: SocketAddr, own: &[SocketAddr]) -> bool {
    let needed = own.iter().filter_map(|own| reach(*own)).max().unwrap_or(2);
    reach(address).is_some_and(|reach| reach >= needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_good_at_least_as_far_as_those_beside_it() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let (loopback, home, public) = (at("127.0.0.1:1"), at("192.168.1.2:1"), at("203.0.113.7:1"));
        for (address, own, is_good) in [
            (loopback, vec![at("[::1]:9")], true),
            (home, vec![loopback], true),
            (loopback, vec![home], false),
            (at("10.1.2.3:1"), vec![home, loopback], true),
            (home, vec![home, public], false),
            (at("100.64.3.2:1"), vec![public], false),
            (at("[fd00::1]:1"), vec![public], false),
            (at("169.254.0.1:1"), vec![public], false),
            (at("[2001:db8::1]:1"), vec![public], true),
            (public, vec![], true),
            (home, vec![], false),
            (at("203.0.113.7:0"), vec![loopback], false),
            (at("0.0.0.0:1"), vec![loopback], false),
            (at("224.0.0.1:1"), vec![loopback], false),
            (at("[ff02::1]:1"), vec![loopback], false),
            (at("[::ffff:127.0.0.1]:1"), vec![home], false),
        ] {
            assert_eq!(is_reachable(address, &own), is_good, "{address} beside {own:?}");
        }
    }
}
