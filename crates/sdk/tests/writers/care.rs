//! Kill a custodian at any moment of its looks while a provider leaves: nothing is lost, unsaid or unposted.
//!
//! Between copying and saying where, between that and posting, between posting and the end of the deal: each process begins
//! with what the one before left with the providers and on the ledger, and nothing else. The owner is away all the time.

use crate::{
    BUCKET, COIN, SECOND, Scene, coins,
    fleet::{HOSTS, Wire},
    ledger::Door,
    machine::{Disk, Mood},
    operator,
    process::{Ours, Payer, content, get, open, put},
    seeds,
};
use alloy_sol_types::SolCall as _;
use commonware_runtime::{Clock as _, Handle, Runner as _, Spawner as _, Supervisor as _, deterministic::Runner};
use hodei_ledger::account::{Account, Order};
use hodei_sdk::{
    condition::Condition,
    custody::{Charge, Notes, SETTLES, Step, Tended, Wage},
};
use hodei_types::abi::{DEALS, IDeals, IProviders, PROVIDERS};
use std::sync::Arc;

/// Who leaves.
const LEAVER: usize = 4;
const OBJECTS: usize = 3;
const KILLS: u64 = 12;
/// Looks that nobody disturbs until everything must be done: the ledger's line drops a question now and then.
const LOOKS: u64 = 20;

/// One look of a process that then ends; what it found, unless it failed.
fn look(scene: &Scene, charge: &Charge, disk: &Disk, wire: &Wire) -> Handle<Option<Tended>> {
    let (world, charge, disk, wire) = (scene.world.clone(), charge.clone(), disk.clone(), wire.clone());
    scene.context.child("custodian").spawn(move |context| async move {
        let cloud = open(context.child("opening"), &world, Payer::Custodian, disk, wire).await;
        let looked = cloud.tend(&charge, &mut Notes::default(), None, &|_: Step| {}).await;
        // What cannot be posted now the next one posts.
        let _ = cloud.close().await;
        looked.ok()
    })
}

async fn retire(scene: &Scene, host: usize) {
    let (ledger, dice) = (&scene.world.ledger, &scene.world.dice);
    let door = Door::new(ledger, scene.context.child("door"), dice, &Mood::default(), 0);
    let account = Account::new(Arc::new(door), &operator(host)).unwrap();
    let call = IProviders::retireCall { node: scene.fleet.signer(host).node().0.into() };
    account.execute(&Order::call(PROVIDERS, call.abi_encode(), 3_000_000)).await.unwrap();
}

/// Somebody who was never there reads everything.
async fn check(scene: &Scene, reader: u64, when: &str) {
    let reader: Ours = scene.cloud(&scene.process(reader, Payer::Owner)).await;
    for number in 0..OBJECTS {
        let (key, mut tries) = (format!("key {number}"), 0);
        let found = loop {
            match get(&reader, &key).await {
                Ok(found) => break found,
                Err(error) => {
                    tries += 1;
                    assert!(tries < 5, "{key} cannot be read {when}: {error}");
                    scene.context.sleep(SECOND * 5).await;
                }
            }
        };
        let (bytes, _) = found.unwrap_or_else(|| panic!("{key} is gone {when}"));
        assert!(bytes == content(number, 900_000), "{key} is something else {when}");
    }
}

fn storm(seed: u64) {
    Runner::seeded(seed).start(|context| async move {
        let scene = Scene::new(context).await;
        let (ledger, dice) = (scene.world.ledger.clone(), scene.world.dice.clone());
        let charge = {
            let owner = scene.cloud(&scene.process(0, Payer::Owner)).await;
            for number in 0..OBJECTS {
                let (key, mut tries) = (format!("key {number}"), 0);
                while let Err(error) = put(&owner, &key, content(number, 900_000), Condition::default()).await {
                    tries += 1;
                    assert!(error.is_temporary() && tries < 20, "{key}: {error}");
                    scene.context.sleep(SECOND * 5).await;
                }
            }
            // Until what was replaced on the way is released.
            scene.context.sleep(SECOND * 150).await;
            let wage = Wage { per_gib: 100 * u128::from(COIN), per_day: u128::from(COIN) };
            owner.appoint(BUCKET, Payer::Custodian.address(), Some(wage), coins(1)).await.unwrap();
            owner.set_release(BUCKET, true).await.unwrap();
            let charge = owner.charge(BUCKET).await.unwrap();
            owner.close().await.unwrap();
            charge
        };
        let (bucket, provider) = (charge.bucket, scene.fleet.signer(LEAVER).node().0.into());
        let leaving = ledger.view(DEALS, &IDeals::findCall { bucket, provider });
        retire(&scene, LEAVER).await;

        let (disk, wire) = (Disk::default(), scene.wire(52));
        for _ in 0..KILLS {
            let running = look(&scene, &charge, &disk, &wire);
            scene.context.sleep(dice.ms(0..SETTLES.as_millis() as u64 + 5_000)).await;
            running.abort();
            scene.context.sleep(dice.ms(1..3_000)).await;
        }
        check(&scene, 41, "after the kills").await;
        let mut looks = 0;
        loop {
            let looked = look(&scene, &charge, &disk, &wire).await.expect("nobody kills it");
            let is_done = |tended: &Tended| tended.due == 0 && tended.leaving_deals == 0 && tended.failures.is_empty();
            if looked.as_ref().is_some_and(is_done) {
                break;
            }
            looks += 1;
            assert!(looks < LOOKS, "seed {seed}: it does not come to an end: {looked:?}");
            scene.context.sleep(SECOND).await;
        }

        // The one that left is free; of all others the ledger has what they hold, to the last leaf.
        assert_eq!(ledger.view(DEALS, &IDeals::getCall { deal: leaving }).state, 3, "seed {seed}");
        let deals = ledger.view(DEALS, &IDeals::ofBucketCall { bucket });
        assert_eq!(deals.len(), HOSTS - 1, "seed {seed}: no deal but the one ended");
        for deal in deals {
            let known = ledger.view(DEALS, &IDeals::getCall { deal });
            let host = (0..HOSTS).find(|host| scene.fleet.signer(*host).node().0 == known.provider.0);
            let stands = scene.fleet.stands(host.expect("one of ours"), deal).await;
            assert_eq!(
                stands,
                Some((known.sequence, known.leaves)),
                "seed {seed}: what deal {deal} holds is not posted"
            );
        }
        // It was paid for what it brought, and of the reserve alone: nobody else was there to open a deal with.
        let custodian = Payer::Custodian.address();
        let earned = ledger.view(DEALS, &IDeals::earnedCall { bucket, custodian });
        let reserve = ledger.view(DEALS, &IDeals::reserveCall { bucket });
        assert!(!earned.is_zero() && earned + reserve == coins(1), "seed {seed}: {earned} paid, {reserve} left");
        scene.fleet.power_off(LEAVER);
        check(&scene, 42, "without who left").await;
        scene.fleet.power_off((LEAVER + 1) % HOSTS);
        check(&scene, 43, "without one more").await;
    });
}

#[test]
fn a_custodian_that_is_killed_at_any_moment_leaves_nothing_unsaid_or_unposted() {
    (0..seeds(8)).for_each(storm);
}
