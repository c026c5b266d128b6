//! Let one prove in each window and be reached by nobody, and find it gone round, restored elsewhere and paid no more.

use crate::{
    BUCKET, HOSTS, Scene,
    care::{LOOKS, check, entrusted, look, surveyed},
    ledger::Door,
    machine::{Disk, Mood},
    process::Payer,
    seeds,
};
use commonware_runtime::{Runner as _, Supervisor as _, deterministic::Runner};
use hodei_sdk::{
    Fault,
    plan::Wish,
    recode::Options,
    repair::{Ask, State, UNREACHED_WINDOWS},
};
use hodei_types::{
    abi::{DEALS, IDeals},
    code::Spread,
};
use std::sync::Arc;

/// Who is behind a relay that is gone.
const SILENT: usize = 3;
/// Times that the owner repairs at most until nothing needs the deal any more.
const REPAIRS: u64 = 3;

fn unreached(seed: u64) {
    Runner::seeded(seed).start(|context| async move {
        let zones = ["old-attic", "old-cellar", "new", "old-office", "old-barn", "newer"];
        let wish = Wish { code: Some((2, 4)), regions: vec!["old".into()], ..Wish::default() };
        let scene = Scene::with(context, zones, &wish).await;
        let ledger = scene.world.ledger.clone();
        let charge = entrusted(&scene).await;
        let node = scene.fleet.signer(SILENT).node();
        let deal = ledger.view(DEALS, &IDeals::findCall { bucket: charge.bucket, provider: node.0.into() });
        let open = ledger.view(DEALS, &IDeals::getCall { deal }).state;
        scene.fleet.power_off(SILENT);

        // Each look is of a process of its own: what it remembers is on its disk.
        let (disk, wire) = (Disk::default(), scene.wire(52));
        let door = Door::new(&ledger, scene.context.child("owner"), &scene.world.dice, &Mood::default(), 0);
        let owner = scene.cloud_of(Payer::Owner.wallet(Arc::new(door))).await;
        let (mut restored, mut states) = (Vec::new(), Vec::new());
        for window in 0..UNREACHED_WINDOWS {
            if window > 0 {
                ledger.pass_window();
            }
            let mut made = 0;
            for looks in 0.. {
                assert!(looks < LOOKS, "seed {seed}: it does not come to an end");
                // The ledger's line drops a question now and then.
                let Some(tended) = look(&scene, &charge, &disk, &wire).await.expect("nobody kills it") else {
                    continue;
                };
                // A look that failed may have brought some: the next one finds them.
                made += tended.restored_shards + tended.found_shards;
                if tended.due == 0 {
                    break;
                }
            }
            restored.push(made > 0);
            let survey = surveyed(&scene, &owner).await;
            states.push(survey.seats.iter().find(|seat| seat.node() == node).expect("it has a deal").state);
        }
        assert_eq!(restored, [false, false, true], "seed {seed}: made again elsewhere in the third window");
        assert_eq!(states, [State::Away, State::Away, State::Unreached], "seed {seed}");

        // A bucket that is bought now has no deal with it, and where there is none without it the plan says so.
        let anywhere = owner.plan(&Wish { regions: Vec::new(), ..wish.clone() }).await.unwrap();
        let nodes: Vec<_> = anywhere.parts.iter().map(|part| part.offer.node).collect();
        assert!(nodes.len() == HOSTS - 1 && !nodes.contains(&node), "seed {seed}: {nodes:?}");
        let spread = Spread { operators: 4, ..Spread::default() };
        let refused = owner.plan(&Wish { spread, ..wish }).await.unwrap_err();
        assert!(matches!(refused, Fault::RoomAway(_)), "seed {seed}: {refused}");

        // The owner ends the deal, and its pay with it.
        let state = || ledger.view(DEALS, &IDeals::getCall { deal }).state;
        for _ in 0..REPAIRS {
            let survey = surveyed(&scene, &owner).await;
            let planned = owner.plan_repair(BUCKET, survey, &Ask::default(), 30).await.unwrap();
            assert_eq!(planned.gone, [deal], "seed {seed}");
            owner.begin_repair(BUCKET, &planned).await.unwrap();
            owner.repair(BUCKET, &planned, Options::default()).await.unwrap();
            let now = surveyed(&scene, &owner).await;
            assert_eq!((now.stripes.whole, now.lost()), (now.stripes.all(), 0), "seed {seed}: {:?}", now.stripes);
            owner.end_repair(BUCKET, &planned, &now).await.unwrap();
            if state() != open {
                break;
            }
        }
        assert_ne!(state(), open, "seed {seed}: it is paid on");
        check(&scene, 49, "without whom nobody reaches").await;
    });
}

#[test]
fn who_proves_and_is_never_reached_is_gone_round_restored_elsewhere_and_paid_no_more() {
    (0..seeds(2)).for_each(unreached);
}
