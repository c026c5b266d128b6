//! Halt the chain at the worst of times, and let its clock catch up at any pace.

use alloy_sol_types::SolCall;
use hodei_types::abi::{DEALS, IDeals};

use super::{
    scene::{Scene, coins, scene, scene_by},
    world::{COIN, Person, World, params},
};
use crate::execute::Params;

/// What one block may say to have passed at most; a chain catches up in such steps.
const STEP_MS: u64 = 15_000;

/// A provider that owes a proof, in the last second of the window.
fn nearly_late() -> (Scene, IDeals::Challenge) {
    let mut scene = scene(64);
    let challenge = scene.world.challenge(scene.host.node);
    let ends = |scene: &Scene| scene.world.view(DEALS, IDeals::windowCall {});
    while ends(&scene).endsMs - ends(&scene).clockMs > 1000 {
        scene.world.idle(1);
    }
    assert_eq!(scene.world.window(), challenge.window);
    (scene, challenge)
}

fn answer(scene: &mut Scene, challenge: &IDeals::Challenge) {
    assert_eq!(scene.world.window(), challenge.window, "the window waited");
    let proof = scene.host.prove(&challenge.samples).into();
    let call = IDeals::proveCall { provider: scene.host.node, window: challenge.window, proof }.abi_encode();
    scene.world.must(scene.host.operator.address, DEALS, 0, call);
    while scene.world.window() == challenge.window {
        scene.world.idle(1);
    }
    let standing = scene.world.standing(scene.host.node);
    assert_eq!((standing.misses, standing.proven), (0, 1));
    assert_eq!(scene.collateral(), coins(100));
    scene.world.audit();
}

#[test]
fn who_answers_after_a_halt_is_in_time() {
    for gap_ms in [10_000, 86_400_000] {
        let (mut scene, challenge) = nearly_late();
        scene.world.block_after(gap_ms, &[]);
        // It needs some blocks to notice.
        scene.world.idle(12);
        answer(&mut scene, &challenge);
    }
}

#[test]
fn no_window_passes_while_the_chain_catches_up_at_full_pace() {
    let (mut scene, challenge) = nearly_late();
    // A day in steps, in a second of the world's time; every third leader states less than a halt, to hurry.
    for block in 0..5760u64 {
        scene.world.block_after(if block % 3 == 2 { 9_999 } else { STEP_MS }, &[]);
    }
    scene.world.block_after(4_000, &[]);
    scene.world.idle(10);
    answer(&mut scene, &challenge);
}

#[test]
fn an_answer_that_waited_through_a_hiccup_counts() {
    let (mut scene, challenge) = nearly_late();
    let proof = scene.host.prove(&challenge.samples).into();
    let call = IDeals::proveCall { provider: scene.host.node, window: challenge.window, proof }.abi_encode();
    let tx = scene.world.tx(
        scene.host.operator.address,
        alloy_primitives::TxKind::Call(DEALS),
        alloy_primitives::U256::ZERO,
        call,
    );
    let done = scene.world.block_after(9_000, &[tx]).remove(0).unwrap();
    assert!(done.success, "{}", done.output);
    scene.world.idle(1);
    assert_eq!(scene.world.window(), challenge.window + 1, "a hiccup delays a window's end by a block");
    assert_eq!(scene.world.standing(scene.host.node).misses, 0);
}

#[test]
fn windows_end_on_a_chain_that_is_always_slow() {
    let mut world = World::new(&[Person::new(1).address]);
    for _ in 0..30 {
        world.block_after(9_000, &[]);
    }
    // 90 s of the active clock, and a block more for each of nine windows of 10 s.
    assert!((6..=9).contains(&world.window()), "{}", world.window());
}

#[test]
fn a_silent_provider_is_not_saved_by_a_halt() {
    let (mut scene, _) = nearly_late();
    scene.world.block_after(86_400_000, &[]);
    scene.miss(3);
    assert_eq!((scene.world.standing(scene.host.node).misses, scene.collateral()), (3, coins(90)));
}

#[test]
fn windows_shorter_than_blocks_still_leave_a_block_to_answer_in() {
    let rules = Params { window_ms: 1, ..params() };
    let Scene { mut world, host, .. } = scene_by(rules, COIN, 4);
    for _ in 0..20 {
        world.prove(&host);
    }
    let standing = world.standing(host.node);
    assert_eq!((standing.proven, standing.misses), (20, 0));
    world.audit();
}
