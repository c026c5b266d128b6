//! Weigh a window's proof on the chain, from a phone to a tebibyte.

use crate::{
    host::{CAPACITY, Host, frame, post, proof},
    world::{COIN, World},
};
use alloy_primitives::Address;
use commonware_runtime::{
    Runner as _, Supervisor as _,
    deterministic::{Context, Runner},
};
use hodei_storage::prove::{Change, Tree, prove};
use hodei_types::{abi::DEALS, ack::Statement, slice::ShardId};

/// The largest of a put's shards.
const SHARD: usize = 256 << 10;
const LEAVES: u16 = (SHARD / 1024) as u16;

/// A deal's tree of as many shards. They are one shard many times: a proof is as long whatever is in it.
fn tree(shards: u32, id: ShardId) -> Tree {
    let mut tree = Tree::default();
    for _ in 0..shards {
        tree.apply(Change::Append { id, leaves: LEAVES }).unwrap();
    }
    tree
}

/// Bytes handed in and gas of one window of a provider with `deals` deals of `shards` shards each.
async fn weigh(context: &Context, deals: usize, shards: u32) -> (u64, u64) {
    let (owner, operator) = (Address::repeat_byte(0xaa), Address::repeat_byte(1));
    let mut world = World::new(&[owner, operator], 1);
    let host = Host::new(context, 1, operator).await;
    host.register(&mut world);
    let shard: Vec<u8> = (0..SHARD).map(|at| ((at * 31) >> 3) as u8).collect();
    let tree = tree(shards, ShardId::of(&shard));
    let capacity = (u64::from(shards) * SHARD as u64).max(CAPACITY);
    let mut opened = Vec::new();
    for salt in 0..deals {
        opened.extend(world.deals(owner, salt as u8, &[host.node], capacity, 100_000 * COIN));
    }
    for deal in &opened {
        let position = tree.last_position().unwrap();
        let statement =
            Statement { deal: *deal, sequence: tree.sequence(), position, root: tree.root(), leaves: tree.leaves() };
        world.must(owner, DEALS, 0, post(&host.state(statement)));
    }
    let mut weights = Vec::new();
    for _ in 0..3 {
        let challenge = world.asked(host.node);
        assert_eq!(challenge.totalLeaves, opened.len() as u64 * tree.leaves());
        let mut body = Vec::new();
        for sample in &challenge.samples {
            let drawn = tree.find(&sample.root.0, sample.leaves, sample.leaf).unwrap();
            frame(&mut body, &prove(&drawn, &shard).unwrap());
        }
        let bytes = body.len() as u64;
        let applied = world.must(operator, DEALS, 0, proof(host.node, challenge.window, body));
        weights.push((bytes, applied.gas_used));
        let number = world.window().index;
        while world.window().index == number {
            world.idle();
        }
    }
    assert_eq!(world.standing(host.node).proven, 3);
    assert_eq!(weights[0].0, weights[2].0, "the same each window");
    weights[2]
}

#[test]
fn a_window_weighs_what_the_documents_say() {
    Runner::default().start(|context| async move {
        // 16 GiB of a phone, and a tebibyte in four deals.
        for (name, deals, shards, bytes) in [("16 GiB", 1, 1 << 16, 20 * 1967), ("1 TiB", 4, 1 << 20, 20 * 2127)] {
            let (found, gas) = weigh(&context.child("weighed"), deals, shards).await;
            let tib = deals as f64 * f64::from(shards) * SHARD as f64 / (1u64 << 40) as f64;
            println!(
                "{name}: {found} bytes and {gas} gas a window; a TiB and day, of daily windows, {:.0} bytes",
                found as f64 / tib
            );
            assert_eq!(found, bytes);
            // Beyond the bytes themselves, an eighth at most.
            let floor = 21_000 + 40 * found;
            assert!(gas < floor + floor / 8, "{gas} gas, {floor} of them for the bytes");
        }
    });
}
