//! Kill a custodian at any moment of its looks while a provider leaves: nothing is lost, unsaid or unposted.
//!
//! Between copying and saying where, between that and posting, between posting and the end of the deal: each process begins
//! with what the one before left with the providers and on the ledger, and nothing else. The owner is away all the time.

use crate::{
    BUCKET, COIN, SECOND, Scene, coins,
    fleet::{HOSTS, Rests, Wire},
    ledger::{CHAIN_ID, Door},
    machine::{Disk, Mood},
    operator,
    process::{Ours, Payer, content, get, open, put},
    seeds,
};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall as _;
use commonware_runtime::{Clock as _, Handle, Runner as _, Spawner as _, Supervisor as _, deterministic::Runner};
use hodei_ledger::account::{Account, Order};
use hodei_sdk::{
    Fault,
    bucket::Buckets,
    condition::Condition,
    custody::{Charge, Notes, SETTLES, Step, Tended, Wage},
    plan::Wish,
    repair::{Ask, Survey},
};
use hodei_types::{
    abi::{BUCKETS, DEALS, IBuckets, IDeals, IProviders, PROVIDERS},
    ack::Statement,
};
use std::{sync::Arc, time::Duration};

/// Who leaves.
const LEAVER: usize = 4;
const OBJECTS: usize = 3;
const KILLS: u64 = 12;
/// Looks that nobody disturbs until everything must be done: the ledger's line drops a question now and then.
pub(crate) const LOOKS: u64 = 20;
/// Times at most that it is asked whether a custodian brought something by now.
const PEEKS: u64 = 300;

/// One look of a process that then ends; what it found, unless it failed.
pub(crate) fn look(scene: &Scene, charge: &Charge, disk: &Disk, wire: &Wire) -> Handle<Option<Tended>> {
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
pub(crate) async fn check(scene: &Scene, reader: u64, when: &str) {
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

/// Objects in a bucket with a custodian that may end deals; then its owner goes away.
pub(crate) async fn entrusted(scene: &Scene) -> Charge {
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
}

/// The deal of a bucket with who leaves.
fn leaving(scene: &Scene, bucket: B256) -> u64 {
    let provider = scene.fleet.signer(LEAVER).node().0.into();
    scene.world.ledger.view(DEALS, &IDeals::findCall { bucket, provider })
}

/// Of all open deals the ledger has what they hold, to the last leaf.
async fn check_posted(scene: &Scene, bucket: B256, seed: u64) {
    let ledger = &scene.world.ledger;
    let deals = ledger.view(DEALS, &IDeals::ofBucketCall { bucket });
    assert_eq!(deals.len(), HOSTS - 1, "seed {seed}: no deal but the one ended");
    for deal in deals {
        let known = ledger.view(DEALS, &IDeals::getCall { deal });
        let host = (0..HOSTS).find(|host| scene.fleet.signer(*host).node().0 == known.provider.0);
        let stands = scene.fleet.stands(host.expect("one of ours"), deal).await;
        assert_eq!(stands, Some((known.sequence, known.leaves)), "seed {seed}: what deal {deal} holds is not posted");
    }
}

fn storm(seed: u64) {
    Runner::seeded(seed).start(|context| async move {
        let scene = Scene::new(context).await;
        let (ledger, dice) = (scene.world.ledger.clone(), scene.world.dice.clone());
        let charge = entrusted(&scene).await;
        let (bucket, leaving) = (charge.bucket, leaving(&scene, charge.bucket));
        let escrow = ledger.view(DEALS, &IDeals::getCall { deal: leaving }).escrow;
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
        check_posted(&scene, bucket, seed).await;
        // It was paid for what it brought, and of the reserve alone, to which the ended deal's escrow came: nobody else was
        // there to open a deal with.
        let custodian = Payer::Custodian.address();
        let earned = ledger.view(DEALS, &IDeals::earnedCall { bucket, custodian });
        let reserve = ledger.view(DEALS, &IDeals::reserveCall { bucket });
        assert!(!earned.is_zero() && escrow > 0, "seed {seed}: {earned} paid, {escrow} were in the deal");
        assert_eq!(earned + reserve, coins(1) + U256::from(escrow), "seed {seed}: {earned} paid, {reserve} left");
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

/// Whether a deal that stays holds something of which the ledger knows nothing yet.
async fn is_behind(scene: &Scene, bucket: B256, leaving: u64) -> bool {
    let ledger = &scene.world.ledger;
    for deal in ledger.view(DEALS, &IDeals::ofBucketCall { bucket }).into_iter().filter(|deal| *deal != leaving) {
        let known = ledger.view(DEALS, &IDeals::getCall { deal });
        let host = (0..HOSTS).find(|host| scene.fleet.signer(*host).node().0 == known.provider.0);
        let stands = scene.fleet.stands(host.expect("one of ours"), deal).await;
        if stands.is_some_and(|(sequence, _)| sequence > known.sequence) {
            return true;
        }
    }
    false
}

/// One that looks on and on, beside another that is killed when it brought something; whether that was left unposted.
fn beside_another(seed: u64) -> bool {
    Runner::seeded(seed).start(|context| async move {
        let scene = Scene::new(context).await;
        let (ledger, dice) = (scene.world.ledger.clone(), scene.world.dice.clone());
        let charge = entrusted(&scene).await;
        let (bucket, leaving) = (charge.bucket, leaving(&scene, charge.bucket));
        let stays: Ours = scene.cloud(&scene.process(53, Payer::Custodian)).await;
        assert!(!is_behind(&scene, bucket, leaving).await, "seed {seed}: the owner left nothing unposted");
        let (mut notes, mut looks) = (Notes::default(), 0);
        // Its first look is over before anything lacks.
        while stays.tend(&charge, &mut notes, None, &|_: Step| {}).await.is_err() {
            looks += 1;
            assert!(looks < LOOKS, "seed {seed}: it cannot look");
            scene.context.sleep(SECOND).await;
        }
        retire(&scene, LEAVER).await;
        let (disk, wire) = (Disk::default(), scene.wire(52));
        let running = look(&scene, &charge, &disk, &wire);
        for _ in 0..PEEKS {
            scene.context.sleep(dice.ms(50..300)).await;
            if is_behind(&scene, bucket, leaving).await {
                break;
            }
        }
        running.abort();
        // What it handed in before has come to the ledger.
        scene.context.sleep(SECOND * 3).await;
        let is_left = is_behind(&scene, bucket, leaving).await;
        let mut looks = 0;
        while ledger.view(DEALS, &IDeals::getCall { deal: leaving }).state != 3 {
            let looked = stays.tend(&charge, &mut notes, None, &|_: Step| {}).await;
            looks += 1;
            assert!(looks < LOOKS, "seed {seed}: it does not come to an end: {looked:?}");
        }
        // What it did itself is on its way at most; the other does nothing any more.
        let mut tries = 0;
        while stays.close().await.is_err() {
            tries += 1;
            assert!(tries < LOOKS, "seed {seed}: what it did cannot be posted");
        }
        check_posted(&scene, bucket, seed).await;
        scene.fleet.power_off(LEAVER);
        check(&scene, 44, "without who left").await;
        is_left
    })
}

#[test]
fn who_leaves_is_held_until_what_another_custodian_brought_before_it_was_killed_is_posted() {
    let left = (0..seeds(8)).filter(|seed| beside_another(*seed)).count();
    assert!(left > 0, "none was killed with something unposted: this shows nothing");
}

/// Looks on until who leaves is let go; `seen` is shown what each look found.
async fn until_let_go(scene: &Scene, charge: &Charge, seed: u64, mut seen: impl FnMut(&Result<Tended, Fault>)) {
    let leaving = leaving(scene, charge.bucket);
    let custodian: Ours = scene.cloud(&scene.process(53, Payer::Custodian)).await;
    let (mut notes, mut looks) = (Notes::default(), 0);
    while scene.world.ledger.view(DEALS, &IDeals::getCall { deal: leaving }).state != 3 {
        let looked = custodian.tend(charge, &mut notes, None, &|_: Step| {}).await;
        seen(&looked);
        looks += 1;
        assert!(looks < LOOKS, "seed {seed}: it does not come to an end: {looked:?}");
        scene.context.sleep(SECOND).await;
    }
}

/// One provider says that it has whatever it is asked for.
fn boaster(seed: u64) {
    Runner::seeded(seed).start(|context| async move {
        let scene = Scene::new(context).await;
        let charge = entrusted(&scene).await;
        scene.fleet.boast((LEAVER + 2) % HOSTS);
        retire(&scene, LEAVER).await;
        let (mut moved, mut is_clean) = (0, true);
        until_let_go(&scene, &charge, seed, |looked| {
            // A look that failed on the way may have brought some and not said where.
            if let Ok(tended) = looked {
                assert!(!is_clean || tended.found_shards == 0, "seed {seed}: nobody brought any and said nothing");
                moved += tended.moved_shards;
            }
            is_clean &= looked.as_ref().is_ok_and(|tended| tended.failures.is_empty());
        })
        .await;
        assert!(moved > 0, "seed {seed}: nothing was brought from who leaves");
        scene.fleet.power_off(LEAVER);
        scene.fleet.power_off((LEAVER + 1) % HOSTS);
        check(&scene, 45, "without who left and one more").await;
    });
}

#[test]
fn a_bare_yes_keeps_no_shard_from_being_brought_from_who_leaves() {
    (0..seeds(4)).for_each(boaster);
}

/// One provider answers, proves, and takes nothing new.
fn beside_one_that_rests(seed: u64, rests: Rests) {
    Runner::seeded(seed).start(|context| async move {
        let scene = Scene::new(context).await;
        let charge = entrusted(&scene).await;
        scene.fleet.rest((LEAVER + 2) % HOSTS, rests);
        retire(&scene, LEAVER).await;
        let mut moved = 0;
        until_let_go(&scene, &charge, seed, |looked| {
            if let Ok(tended) = looked {
                let is_vain = tended.read_bytes > 0 && tended.sent_bytes == 0 && tended.found_shards == 0;
                assert!(!is_vain, "seed {seed}: it read for nobody: {tended:?}");
                let is_held_up = tended.failures.iter().any(|why| why.contains("busy for"));
                assert!(!is_held_up, "seed {seed}: who rests held it up: {tended:?}");
                moved += tended.moved_shards;
            }
        })
        .await;
        assert!(moved > 0, "seed {seed}: nothing was brought from who leaves");
        scene.fleet.power_off(LEAVER);
        scene.fleet.power_off((LEAVER + 1) % HOSTS);
        check(&scene, 46, "without who left and one more, beside one that rests").await;
    });
}

#[test]
fn who_rests_holds_up_no_custodian_whether_it_says_so_or_not() {
    (0..seeds(4)).for_each(|seed| beside_one_that_rests(seed, Rests::Says));
    (0..seeds(4)).for_each(|seed| beside_one_that_rests(seed, Rests::Hides));
}

/// Three of four are gone or leave and take nothing, and what lacks is made when nobody else is on offer; then somebody is.
fn short_of_takers(seed: u64) {
    Runner::seeded(seed).start(|context| async move {
        let zones = ["old-attic", "old-cellar", "new", "old-office", "old-barn", "absent"];
        let wish = Wish { code: Some((2, 4)), regions: vec!["old".into()], ..Wish::default() };
        let scene = Scene::with(context, zones, &wish).await;
        let ledger = scene.world.ledger.clone();
        let (stays, leaves, gone, newcomer, absent) = (0, 1, [3, 4], 2, 5);
        let charge = entrusted(&scene).await;
        let deals = || ledger.view(DEALS, &IDeals::ofBucketCall { bucket: charge.bucket });
        assert_eq!(deals().len(), 4, "seed {seed}: two of the six are not the bucket's");
        scene.fleet.rest(leaves, Rests::Hides);
        retire(&scene, leaves).await;
        [newcomer, absent].into_iter().chain(gone).for_each(|host| scene.fleet.power_off(host));

        let custodian: Ours = scene.cloud(&scene.process(55, Payer::Custodian)).await;
        let mut notes = Notes::default();
        // One alone takes shards, and no sheet is laid with one alone: what it is brought stays unsaid.
        let alone = custodian.tend(&charge, &mut notes, None, &|_: Step| {}).await;
        let alone = alone.unwrap_or_else(|error| panic!("seed {seed}: what cannot be said ends the look: {error}"));
        assert!(alone.restored_shards + alone.moved_shards > 0, "seed {seed}: nothing is made: {alone:?}");
        assert!(!alone.failures.is_empty() && deals().len() == 4, "seed {seed}: it is not told: {alone:?}");

        scene.fleet.power_on(newcomer).await;
        let (mut looks, mut found) = (0, 0);
        let whole = loop {
            let looked = custodian.tend(&charge, &mut notes, None, &|_: Step| {}).await;
            if let Ok(tended) = &looked {
                found += tended.found_shards;
                if tended.due == 0 && tended.failures.is_empty() {
                    break tended.stripes.clone();
                }
            }
            looks += 1;
            assert!(looks < LOOKS, "seed {seed}: it does not come to an end: {looked:?}");
            scene.context.sleep(SECOND).await;
        };
        assert!(found > 0, "seed {seed}: what was brought before is said now");
        assert_eq!((whole.whole, whole.lost), (whole.all(), 0), "seed {seed}: {whole:?}");
        let provider = scene.fleet.signer(newcomer).node().0.into();
        let joined = ledger.view(DEALS, &IDeals::findCall { bucket: charge.bucket, provider });
        assert!(deals().contains(&joined), "seed {seed}: who is new has a deal");
        scene.fleet.power_off(leaves);
        check(&scene, 47, "without all that were gone").await;
        scene.fleet.power_off(stays);
        check(&scene, 48, "with who is new alone").await;
    });
}

#[test]
fn where_one_alone_still_takes_shards_a_custodian_opens_a_deal_before_it_says_where_they_are() {
    (0..seeds(4)).for_each(short_of_takers);
}

/// What the owner finds; the ledger's line drops a question now and then.
pub(crate) async fn surveyed(scene: &Scene, owner: &Ours) -> Survey {
    let mut tries = 0;
    loop {
        match owner.survey(BUCKET, &Ask::default(), |_, _| {}).await {
            Ok(survey) => return survey,
            Err(error) => {
                tries += 1;
                assert!(tries < LOOKS, "it cannot be looked at: {error}");
                scene.context.sleep(SECOND).await;
            }
        }
    }
}

#[test]
fn a_survey_tells_who_rests_and_counts_on_what_it_gives_alone() {
    Runner::seeded(2).start(|context| async move {
        let scene = Scene::new(context).await;
        entrusted(&scene).await;
        let owner: Ours = scene.cloud(&scene.process(54, Payer::Owner)).await;
        let node = scene.fleet.signer(LEAVER).node();
        let mut whole = Vec::new();
        for rests in [None, Some(Rests::Says), Some(Rests::Shut)] {
            if let Some(rests) = rests {
                scene.fleet.rest(LEAVER, rests);
            }
            let survey = surveyed(&scene, &owner).await;
            let seat = survey.seats.iter().find(|seat| seat.node() == node).expect("it has a deal");
            assert_eq!(seat.rest.map(|rest| rest.gives), rests.map(|rests| rests == Rests::Says), "{seat:?}");
            assert_eq!(
                seat.rest.is_some(),
                seat.rest.is_some_and(|rest| rest.until_ms.is_some()),
                "it says for how long"
            );
            assert_eq!((seat.answers, seat.is_gone(), seat.takes()), (true, false, rests.is_none()), "{seat:?}");
            assert_eq!(survey.lost(), 0);
            let told = owner.resting(&owner.offers().await.unwrap(), SECOND * 5).await;
            assert_eq!(told.contains_key(&node), rests.is_some(), "{told:?}");
            whole.push((survey.stripes.whole, seat.there > 0));
            assert_eq!(seat.kept > 0, rests == Some(Rests::Shut), "what it keeps meanwhile is no loss: {seat:?}");
        }
        assert_eq!(whole[0], whole[1], "it gives what it has");
        assert!(whole[2].0 < whole[0].0 && !whole[2].1, "what it does not give is no margin: {whole:?}");
    });
}

#[test]
fn one_that_falls_silent_in_the_middle_of_a_look_is_waited_for_once() {
    Runner::seeded(3).start(|context| async move {
        let scene = Scene::new(context).await;
        let charge = entrusted(&scene).await;
        retire(&scene, LEAVER).await;
        let custodian: Ours = scene.cloud(&scene.process(55, Payer::Custodian)).await;
        // It says that it is there, and nothing more.
        scene.fleet.silence_after((LEAVER + 2) % HOSTS, 2);
        let start = scene.context.current();
        let looked = custodian.tend(&charge, &mut Notes::default(), None, &|_: Step| {}).await;
        let took = scene.context.current().duration_since(start).unwrap();
        // Half a minute for it, the settling, and the wait until all is posted; asked at each step it was minutes.
        assert!(took < Duration::from_secs(150), "{took:?}: {looked:?}");
    });
}

#[test]
fn what_is_not_a_custodians_to_post_keeps_nothing_else_from_being_posted() {
    Runner::seeded(1).start(|context| async move {
        let scene = Scene::new(context).await;
        let charge = entrusted(&scene).await;
        let (bucket, ledger) = (charge.bucket, scene.world.ledger.clone());
        let door =
            |name| Arc::new(Door::new(&ledger, scene.context.child(name), &scene.world.dice, &Mood::default(), 0));
        let buckets = Buckets::new(Payer::Custodian.wallet(door("custodian")));
        let deals = ledger.view(DEALS, &IDeals::ofBucketCall { bucket });
        let known = |deal| ledger.view(DEALS, &IDeals::getCall { deal });
        // As its provider signs it after it let go of something, or took more.
        let next = |deal: u64, leaves: fn(u64) -> u64| {
            let known = known(deal);
            let host = (0..HOSTS).find(|host| scene.fleet.signer(*host).node().0 == known.provider.0);
            let (sequence, leaves) = (known.sequence + 1, leaves(known.leaves));
            let statement = Statement { deal, sequence, position: 0, root: known.root.0, leaves };
            (deal, scene.fleet.signer(host.expect("one of ours")).ack(CHAIN_ID, statement))
        };
        let before: Vec<u64> = deals.iter().map(|deal| known(*deal).sequence).collect();
        let acks = [next(deals[0], |leaves| leaves - 1), next(deals[1], |leaves| leaves + 1)].into();
        assert!(buckets.post(&acks).await.unwrap().is_empty(), "what is its owner's to post is not tried again");
        assert_eq!((known(deals[0]).sequence, known(deals[1]).sequence), (before[0], before[1] + 1));
        let dismiss = IBuckets::dismissCall { id: bucket, custodian: Payer::Custodian.address() };
        let owner = Payer::Owner.wallet(door("owner")).spender();
        owner.execute(&Order::call(BUCKETS, dismiss.abi_encode(), 3_000_000)).await.unwrap();
        let acks = [next(deals[2], |leaves| leaves + 1)].into();
        assert!(buckets.post(&acks).await.unwrap().is_empty(), "who was dismissed leaves it to others");
        assert_eq!(known(deals[2]).sequence, before[2]);
    });
}
