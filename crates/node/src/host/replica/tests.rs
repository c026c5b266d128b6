//! Lead a replica through what may befall it.

use super::*;
use alloy_sol_types::SolValue;

pub(in crate::host) fn lease(id: u64) -> ILeases::Lease {
    let mut lease = ILeases::Lease::abi_decode(&[0; 32 * 64]).expect("all of its fields may be zero");
    (lease.id, lease.order, lease.state, lease.rate) = (id, 1, 1, 1);
    lease
}

/// No vouchers.
fn none() -> Vouchers {
    Vouchers::open(std::env::temp_dir()).expect("it is there")
}

#[test]
fn the_log_keeps_the_last_and_goes_on_where_a_look_ended() {
    let replica = Replica::new(&lease(1), &none());
    replica.print("one");
    let first = replica.look(Some(0));
    assert_eq!((first.log.as_slice(), first.log_end), (b"one\n".as_slice(), 4));
    replica.print("two");
    assert_eq!(replica.look(Some(first.log_end)).log, b"two\n");
    assert_eq!(replica.look(None).log, b"");
    replica.print(&"x".repeat(LOG_BYTES_MAX + 5));
    let last = replica.look(Some(0));
    assert_eq!((last.log.len(), last.log_end), (LOG_BYTES_MAX, 8 + LOG_BYTES_MAX as u64 + 6));
    assert_eq!(replica.look(Some(u64::MAX)).log, b"");
}

#[test]
fn what_was_noted_is_not_noted_again() {
    let replica = Replica::new(&lease(1), &none());
    assert_eq!(replica.unnoted(), None);
    let readings = Readings { fuel: 5, bytes_in: 1, bytes_out: 2, ..Readings::default() };
    replica.count(&readings, None, b"");
    replica.count(&readings, Some("fuel"), b"");
    assert_eq!(replica.unnoted(), Some((2, 10, 2, 4)));
    assert_eq!((replica.unnoted(), replica.look(None).failures), (None, 1));
}
