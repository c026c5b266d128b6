//! Take audit checkpoints into the block's anchor root.
//!
//! An anchored leaf is a log, not a slot: what is overwritten each second could not be proven a second later.
//! The block's anchor tree holds each posted leaf in receipt order, then one leaf per provider whose
//! registration changed in the block, in order of its last change, so that a receipt can prove who stood
//! behind a node key.
//!
//! Invariants: a block's leaves are those its successful calls posted, in their order, and no others; a node has
//! one registration leaf a block, its last; no posted leaf can pass for a registration, nor the other way round.

use alloy_primitives::{Address, B256, Bytes, Log, keccak256};
use alloy_sol_types::{SolEvent, SolValue};
use hodei_types::{
    abi::{ANCHOR_BYTES_MAX, ANCHORS, IAnchors, IProviders, PROVIDERS},
    checkpoint::{Registration, anchor_leaf, registration_leaf},
    transport::NodeKey,
};

use super::ctx::{Ctx, Stop, revert};

/// A leaf costs every validator a place in the anchor tree, hashed twice.
const GAS_LEAF: u64 = 2_000;

pub(super) fn call(ctx: &mut Ctx<'_, '_>) -> Result<Vec<u8>, Stop> {
    match ctx.decode::<IAnchors::IAnchorsCalls>(&[])? {
        IAnchors::IAnchorsCalls::anchor(call) => {
            ctx.writes()?;
            ctx.charge(GAS_LEAF)?;
            if call.leaf.is_empty() || call.leaf.len() > ANCHOR_BYTES_MAX {
                return Err(revert(IAnchors::BadLeaf { bytesMax: ANCHOR_BYTES_MAX.try_into().unwrap_or_default() }));
            }
            ctx.emit(ANCHORS, &IAnchors::Anchored { leaf: call.leaf })?;
            Ok(Vec::new())
        }
    }
}

/// Leaf data of a block's anchor tree, from its logs in receipt order.
pub(crate) fn leaves<'a>(logs: impl Iterator<Item = &'a Log>) -> Vec<Bytes> {
    let mut posted = Vec::new();
    let mut registered: Vec<(B256, Vec<u8>)> = Vec::new();
    for log in logs {
        if log.address == ANCHORS {
            if let Ok(event) = IAnchors::Anchored::decode_log_data(&log.data) {
                posted.push(Bytes::from(anchor_leaf(&event.leaf)));
            }
        } else if log.address == PROVIDERS
            && let Some((node, leaf)) = registration(log)
        {
            registered.retain(|(other, _)| *other != node);
            registered.push((node, leaf));
        }
    }
    posted.extend(registered.into_iter().map(|(_, leaf)| Bytes::from(registration_leaf(&leaf))));
    posted
}

/// A node that was forgotten has operator zero and no offer.
fn registration(log: &Log) -> Option<(B256, Vec<u8>)> {
    let leaf = |node: B256, operator: Address, version: u64, offer: B256| {
        (node, Registration { node: NodeKey(node.0), operator, version, offer }.encode())
    };
    match *log.topics().first()? {
        IProviders::Registered::SIGNATURE_HASH => {
            let event = IProviders::Registered::decode_log_data(&log.data).ok()?;
            Some(leaf(event.node, event.operator, 1, keccak256(event.offer.abi_encode())))
        }
        IProviders::Updated::SIGNATURE_HASH => {
            let event = IProviders::Updated::decode_log_data(&log.data).ok()?;
            Some(leaf(event.node, event.operator, event.version, keccak256(event.offer.abi_encode())))
        }
        IProviders::Withdrawn::SIGNATURE_HASH => {
            let event = IProviders::Withdrawn::decode_log_data(&log.data).ok()?;
            Some(leaf(event.node, Address::ZERO, 0, B256::ZERO))
        }
        _ => None,
    }
}
