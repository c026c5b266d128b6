//! Fix the bytes that are signed outside of a transaction, each under a tag of its own.

use alloy_primitives::{Address, B256};

/// What a node key signs to be registered by `operator`: 16 + 8 + 20 + 32 bytes.
pub fn operator_consent(chain_id: u64, operator: Address, node: B256) -> Vec<u8> {
    let tag = b"hodei-operator-1";
    [&tag[..], &chain_id.to_be_bytes(), operator.as_slice(), node.as_slice()].concat()
}

/// What a spending account signs (its keccak) to let `owner` take its coin back: 16 + 8 + 20 + 20 bytes.
pub fn spender_consent(chain_id: u64, owner: Address, spender: Address) -> Vec<u8> {
    let tag = b"hodei-spender--1";
    [&tag[..], &chain_id.to_be_bytes(), owner.as_slice(), spender.as_slice()].concat()
}

/// What both sides of a deal sign about its content: 16 + 8 × 5 + 32 bytes. The provider's signature over it is
/// its ack of `position`: `root` commits to every shard id, and is durable when signed. The holder signs its
/// keccak.
pub fn root_statement(chain_id: u64, deal: u64, sequence: u64, position: u64, root: B256, leaves: u64) -> Vec<u8> {
    let tag = b"hodei-root-----1";
    [
        &tag[..],
        &chain_id.to_be_bytes(),
        &deal.to_be_bytes(),
        &sequence.to_be_bytes(),
        &position.to_be_bytes(),
        root.as_slice(),
        &leaves.to_be_bytes(),
    ]
    .concat()
}

/// What a node key signs when its operator declines a shard: 16 + 8 × 3 + 32 + 1 bytes.
pub fn decline_statement(chain_id: u64, deal: u64, id: B256, time_ms: u64, ground: u8) -> Vec<u8> {
    let tag = b"hodei-decline--1";
    [&tag[..], &chain_id.to_be_bytes(), &deal.to_be_bytes(), id.as_slice(), &time_ms.to_be_bytes(), &[ground]].concat()
}

/// What a watcher's node key signs of a lease whose host it does not reach: 16 + 8 × 4 bytes.
pub fn unreachable_statement(chain_id: u64, lease: u64, generation: u64, round: u64) -> Vec<u8> {
    let tag = b"hodei-unreach--1";
    [&tag[..], &chain_id.to_be_bytes(), &lease.to_be_bytes(), &generation.to_be_bytes(), &round.to_be_bytes()].concat()
}

/// What a host's node key signs to refute that: 16 + 8 × 3 bytes.
pub fn alive_statement(chain_id: u64, lease: u64, generation: u64) -> Vec<u8> {
    let tag = b"hodei-alive----1";
    [&tag[..], &chain_id.to_be_bytes(), &lease.to_be_bytes(), &generation.to_be_bytes()].concat()
}

/// What the owner of a lease on call signs (its keccak), or a budget of his: all its calls so far cost that many wei,
/// 16 + 8 × 2 + 16 bytes.
pub fn voucher_statement(chain_id: u64, lease: u64, total: u128) -> Vec<u8> {
    let tag = b"hodei-voucher--1";
    [&tag[..], &chain_id.to_be_bytes(), &lease.to_be_bytes(), &total.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_bind_every_field() {
        let root = B256::repeat_byte(7);
        let base = root_statement(1, 2, 3, 4, root, 5);
        assert_eq!(base.len(), 16 + 40 + 32);
        for other in [
            root_statement(9, 2, 3, 4, root, 5),
            root_statement(1, 9, 3, 4, root, 5),
            root_statement(1, 2, 9, 4, root, 5),
            root_statement(1, 2, 3, 9, root, 5),
            root_statement(1, 2, 3, 4, B256::ZERO, 5),
            root_statement(1, 2, 3, 4, root, 9),
        ] {
            assert_ne!(base, other);
        }
        let base = unreachable_statement(1, 2, 3, 4);
        assert_eq!((base.len(), alive_statement(1, 2, 3).len()), (16 + 32, 16 + 24));
        let others = [[9, 2, 3, 4], [1, 9, 3, 4], [1, 2, 9, 4], [1, 2, 3, 9]];
        for [chain, lease, generation, round] in others {
            assert_ne!(base, unreachable_statement(chain, lease, generation, round));
        }
        for [chain, lease, generation] in [[9, 2, 3], [1, 9, 3], [1, 2, 9]] {
            assert_ne!(alive_statement(1, 2, 3), alive_statement(chain, lease, generation));
            assert_ne!(voucher_statement(1, 2, 3), voucher_statement(chain, lease, generation.into()));
        }
        assert_eq!(voucher_statement(1, 2, 3).len(), 16 + 32);
    }
}
