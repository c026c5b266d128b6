//! Live through months with fleets of phones that come, go and sleep, and lose nothing.
//!
//! `cargo test --release -p hodei-sim --test fleet -- --ignored --nocapture` runs ten thousand through a year.

mod device;
mod duty;
mod law;
mod plan;
mod world;

use device::Life;
use duty::{Duty, Kind, Mix, State, live};
use hodei_types::code::Shape;
use plan::{Outcome, Plan};
use world::World;

/// What the study behind the shapes computed for 10-of-30 on phones of half a year, restored below 20, outages included:
/// GB moved for each TB and month, and repairs of an object in a year.
const COMPUTED: (f64, f64) = (935.0, 4.3);

fn plan(devices: u32, days: u64, buckets: u32, groups: u32) -> Plan {
    Plan {
        devices,
        networks: 100,
        days,
        buckets,
        groups,
        stripes: 64,
        shard_bytes: 256 << 10,
        roster: 60,
        shape: Shape::new(10, 30, 2).expect("a shape of this house"),
        life: Life::PHONE,
        repairers: 20,
        repair_bytes_per_sec: 5_000_000,
        // The largest network for five days, and the two largest together for three.
        strikes: vec![(days / 3, 1, 5), (days * 2 / 3, 2, 3)],
        seed: 1,
    }
}

/// GB moved for each TB and month; repairs of a group in a year.
fn rates(outcome: &Outcome, days: u64) -> (f64, f64) {
    let moved = (outcome.read_bytes + outcome.sent_bytes) as f64 / outcome.user_bytes as f64 * 1000.0;
    let repairs = outcome.repairs as f64 / outcome.groups as f64;
    (moved * 30.4 / days as f64, repairs * 365.0 / days as f64)
}

fn tell(outcome: &Outcome, days: u64) {
    let (moved, repairs) = rates(outcome, days);
    let of_looks = |count: u64| 100.0 * count as f64 / outcome.looks as f64;
    println!(
        "{} groups, {:.2} TB, {days} days: {} lost, least margin {}; {} devices ended; {} repairs",
        outcome.groups,
        outcome.user_bytes as f64 / 1e12,
        outcome.lost,
        outcome.least,
        outcome.ended,
        outcome.repairs
    );
    println!(
        "moved {moved:.0} GB a TB and month, computed {:.0}; repairs {repairs:.1} a year, computed {:.1}",
        COMPUTED.0, COMPUTED.1
    );
    println!(
        "fewer than k awake at {:.1} % of looks, fewer than k that could be woken at {:.3} %; put off {}, queued {} at most",
        of_looks(outcome.asleep),
        of_looks(outcome.unreadable),
        outcome.put_off,
        outcome.queued
    );
    println!(
        "most shards of a stripe at one device {}, one operator {}, in one network {}",
        outcome.at_device, outcome.at_operator, outcome.in_network
    );
}

/// What must hold of a fleet that is repaired.
fn holds(outcome: &Outcome, shape: &Shape) {
    assert_eq!(outcome.lost, 0, "{outcome:?}");
    assert!(outcome.repairs > 0 && outcome.least > 0, "{outcome:?}");
    assert_eq!(outcome.at_device, 1, "{outcome:?}");
    // Whoever returns still has what was rebuilt elsewhere meanwhile: that counts here.
    assert!(outcome.at_operator.max(outcome.in_network) < shape.k(), "{outcome:?}");
}

#[test]
fn two_months_of_phones_lose_nothing_and_move_what_was_computed() {
    let plan = plan(500, 60, 20, 20);
    let shape = plan.shape;
    let outcome = World::new(plan.clone()).run();
    tell(&outcome, 60);
    holds(&outcome, &shape);
    let (moved, _) = rates(&outcome, 60);
    assert!(moved < COMPUTED.0 * 1.5, "{moved} GB a TB and month");
    assert_eq!(World::new(plan).run(), outcome, "a seed is a run");
}

#[test]
fn without_repair_as_much_is_lost_as_is_computed() {
    // Everybody lives sixty days and is never away: after sixty days each is gone with 1 - 1/e.
    let life = Life { days: 60.0, outage_every_days: 1e9, ..Life::PHONE };
    let plan = Plan { repairers: 0, strikes: Vec::new(), life, ..plan(20_000, 60, 3000, 1) };
    let (k, n) = (u64::from(plan.shape.k()), u64::from(plan.shape.n()));
    let outcome = World::new(plan).run();
    let gone = 1.0 - (-1.0f64).exp();
    let choose = |of: u64| (1..=of).map(|i| ((n - of + i) as f64 / i as f64).ln()).sum::<f64>();
    let exactly = |of: u64| (choose(of) + of as f64 * gone.ln() + (n - of) as f64 * (1.0 - gone).ln()).exp();
    let computed: f64 = (n - k + 1..=n).map(exactly).sum();
    let measured = outcome.lost as f64 / outcome.groups as f64;
    assert!((measured - computed).abs() < 0.05, "{measured} of all, computed {computed}");
}

#[test]
fn shards_of_devices_that_sleep_are_gathered_over_a_day() {
    // Awake for an hour a day, devices are never ten at once: that shards are gathered over a day is what saves them.
    let life = Life { awake_hours: (1, 2), ..Life::PHONE };
    let outcome = World::new(Plan { life, ..plan(500, 60, 20, 20) }).run();
    assert!(outcome.asleep * 10 > outcome.looks * 9, "{outcome:?}");
    assert_eq!(outcome.lost, 0, "{outcome:?}");
}

/// Fleets by who is in them: name, Androids and machines that are always on in a hundred.
const FLEETS: [(&str, u32, u32); 7] = [
    ("iPhones", 0, 0),
    ("Androids", 100, 0),
    ("half and half", 50, 0),
    ("a fifth always on", 40, 20),
    ("two fifths always on", 30, 40),
    ("three fifths always on", 20, 60),
    ("four fifths always on", 10, 80),
];

fn told(name: &str, duty: &Duty) {
    let (worst, mean, best) = duty.span();
    let percent = |part: u64, of: u64| if of == 0 { 0.0 } else { 100.0 * part as f64 / of as f64 };
    let kinds = |part: &[u64; 3], of: &[u64; 3]| [0, 1, 2].map(|kind| percent(part[kind], of[kind]));
    println!("{name}: readable at worst {worst:.1} %, on average {mean:.1} %, at best {best:.1} %");
    println!("  by hour {:?}", [0, 3, 6, 9, 12, 15, 18, 21].map(|hour| duty.at(hour).round() as u32));
    println!("  the first asked serves, iPhone, Android, always on: {:.1?} %", kinds(&duty.served, &duty.asked));
    println!(
        "  days without a proof: {:.2?} %, third in a row: {:.3?} %",
        kinds(&duty.unproven, &duty.windows),
        kinds(&duty.thirds, &duty.windows)
    );
    for (at, state) in State::ALL.iter().enumerate() {
        let all: u64 = duty.asked_in.iter().sum();
        println!(
            "  {state:?}: {:.1} % of the first asked, serves {:.0} %",
            percent(duty.asked_in[at], all),
            percent(duty.served_in[at], duty.asked_in[at])
        );
    }
}

/// What must hold of a fleet of such a mix, whatever the seed.
fn served_as_ruled(duty: &Duty, mix: Mix) {
    let of = |state: State| State::ALL.iter().position(|one| *one == state).expect("one of them");
    let (has_phones, has_machines) = (mix.always < 100, mix.always > 0);
    for state in State::ALL {
        let is_there = match state {
            State::Front | State::Plugged | State::Pocket => has_phones,
            State::On => has_machines,
            State::Off => true,
        };
        assert_eq!(duty.asked_in[of(state)] > 0, is_there, "{state:?} is asked: {:?}", duty.asked_in);
    }
    for state in [State::Front, State::On] {
        assert_eq!(duty.served_in[of(state)], duty.asked_in[of(state)], "{state:?} serves");
    }
    for state in [State::Pocket, State::Off] {
        assert_eq!(duty.served_in[of(state)], 0, "{state:?} does not");
    }
    let plugged = duty.served_in[of(State::Plugged)] as f64 / duty.asked_in[of(State::Plugged)].max(1) as f64;
    match (mix.android, mix.always) {
        (0, _) => assert_eq!(plugged, 0.0, "an iPhone that is plugged in does not"),
        // On a charger for five to nine hours, of which it serves six: 84 in a hundred (docs/simulation.md).
        (100, 0) => assert!((0.80..0.88).contains(&plugged), "Androids that are plugged in: {plugged}"),
        _ => assert!(plugged > 0.0 && plugged < 1.0, "some that are plugged in: {plugged}"),
    }
    for hour in 0..24 {
        let looks = duty.looks[hour] as f64;
        let (measured, computed) = (duty.readable[hour] as f64 / looks, duty.computed[hour] / looks);
        assert!((measured - computed).abs() < 0.06, "hour {hour}: {measured} readable, computed {computed}");
    }
}

#[test]
fn phones_serve_at_night_or_in_hands_and_machines_that_stay_on_close_the_gap() {
    let world = World::new(plan(2000, 1, 150, 4));
    let of = |android, always, is_world| {
        let mix = Mix { android, always, is_world };
        let duty = live(&world, mix, 7, 3);
        served_as_ruled(&duty, mix);
        duty
    };
    let (iphones, androids) = (of(0, 0, false), of(100, 0, false));
    assert!(iphones.span().2 < 1.0, "iPhones alone are never read: {:?}", iphones.span());
    assert!(androids.at(1) > 95.0 && androids.at(15) < 1.0, "by night {}, by day {}", androids.at(1), androids.at(15));
    // Phones in all zones of time are no help of their own: a quarter of them serves at any hour.
    let world_wide = of(100, 0, true);
    assert!(world_wide.span().0 > androids.span().0 && world_wide.span().2 < androids.span().2);
    let worst = [20, 40, 60, 80].map(|always| of((100 - always) / 2, always, false).span().0);
    assert!(worst.is_sorted() && worst[0] < 20.0 && worst[2] > 99.0, "{worst:?}");
    // Serving is rare; proving is not.
    let kind = |kind: Kind| Kind::ALL.iter().position(|one| *one == kind).expect("one of them");
    let unproven = |duty: &Duty, of: usize| duty.unproven[of] as f64 / duty.windows[of] as f64;
    let (iphone, android) = (unproven(&iphones, kind(Kind::Iphone)), unproven(&androids, kind(Kind::Android)));
    assert!((0.02..0.09).contains(&iphone) && (0.005..0.04).contains(&android), "{iphone} {android}");
    assert_eq!(of(50, 0, false), of(50, 0, false), "a seed is a run");
}

#[test]
#[ignore = "a recorded run: some minutes"]
fn two_weeks_of_four_thousand_devices_by_what_they_do() {
    let seeds = std::env::var("HODEI_SEEDS").map_or(1, |seeds| seeds.parse().expect("a number of seeds"));
    for seed in 1..=seeds {
        let world = World::new(Plan { seed, ..plan(4000, 1, 150, 6) });
        for is_world in [false, true] {
            for (name, android, always) in FLEETS {
                let mix = Mix { android, always, is_world };
                let duty = live(&world, mix, 14, seed);
                served_as_ruled(&duty, mix);
                let zones = if is_world { "all zones of time" } else { "one zone of time" };
                told(&format!("seed {seed}, {zones}, {name}"), &duty);
            }
        }
    }
}

#[test]
#[ignore = "a recorded run: some minutes"]
fn a_year_of_ten_thousand_phones() {
    let plan = plan(10_000, 365, 500, 40);
    let shape = plan.shape;
    let begun = std::time::Instant::now();
    let outcome = World::new(plan).run();
    tell(&outcome, 365);
    println!("in {} s", begun.elapsed().as_secs());
    holds(&outcome, &shape);
}
