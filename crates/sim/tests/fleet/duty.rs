//! Follow devices of people through their days: when each may serve, when it may only prove, when neither.
//!
//! What a state allows is what the platforms' rules leave (docs/simulation.md names them). How long people have an app in
//! front and a phone plugged in is assumed here, and said there.

use crate::{device::HOUR_MS, world::World};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

const MINUTE_MS: u64 = 60_000;
const DAY: u64 = 24 * 60;
/// Of a service that Android lets run beside other apps in a day, in minutes.
const SERVICE_MINUTES: u64 = 6 * 60;
/// Between two times at which Android lets a phone that lies still reach the network, at most, in minutes.
const DOZE_EVERY: u64 = 6 * 60;
/// A plugged-in iPhone that lies still gets some minutes to prove; it is left alone for so long before.
const IDLE_MINUTES: u64 = 60;
/// Days in a hundred on which somebody opens the app, and nights on which the phone is plugged in.
const OPENS: u32 = 80;
const PLUGS: u32 = 85;
/// Days in a hundred on which a device is off, broken or without a network.
const OFF: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Iphone,
    Android,
    /// A machine that stays plugged in and on: a NAS, a set-top box, a computer.
    Always,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Iphone, Self::Android, Self::Always];
}

/// What a device is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The app is what its user looks at.
    Front,
    /// On a charger and on Wi-Fi, with nobody at it.
    Plugged,
    /// On its battery, the app not in front.
    Pocket,
    On,
    Off,
}

impl State {
    pub(crate) const ALL: [Self; 5] = [Self::Front, Self::Plugged, Self::Pocket, Self::On, Self::Off];
}

/// Who is in a fleet, in devices of a hundred; the others are iPhones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) android: u32,
    pub(crate) always: u32,
    /// People live in all zones of time, not in one.
    pub(crate) is_world: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Duty {
    /// Groups looked at, and readable, by the hour of the day (UTC, which is local time where all live in one zone).
    pub(crate) looks: [u64; 24],
    pub(crate) readable: [u64; 24],
    /// What the binomial distribution says of the share of shards that is served at each look, summed.
    pub(crate) computed: [f64; 24],
    /// Times the holder of a group's first shard was asked, and served: by kind.
    pub(crate) asked: [u64; 3],
    pub(crate) served: [u64; 3],
    /// The same by what it was doing.
    pub(crate) asked_in: [u64; 5],
    pub(crate) served_in: [u64; 5],
    /// Windows of a day, and those in which nothing let a device prove, by kind; third such windows in a row.
    pub(crate) windows: [u64; 3],
    pub(crate) unproven: [u64; 3],
    pub(crate) thirds: [u64; 3],
}

/// One day of a device, in minutes of its own time: from, to.
struct Day {
    fronts: Vec<(u64, u64)>,
    /// Begins in the evening; what is behind midnight is behind [`DAY`].
    plugged: Option<(u64, u64)>,
    is_off: bool,
}

impl Day {
    fn draw(rng: &mut StdRng) -> Self {
        let chance = |percent: u32, rng: &mut StdRng| rng.random_range(0..100u32) < percent;
        let (opens, plugs, is_off) = (chance(OPENS, rng), chance(PLUGS, rng), chance(OFF, rng));
        let sessions = if opens { rng.random_range(1..=6u64) } else { 0 };
        // Half an hour a day on average, where it is opened at all.
        let fronts = (0..sessions).map(|_| {
            let from = rng.random_range(7 * 60..23 * 60);
            (from, from + rng.random_range(1..=16u64))
        });
        let fronts = fronts.collect();
        let from = rng.random_range(21 * 60..25 * 60);
        let long = rng.random_range(5 * 60..=9 * 60u64);
        Self { fronts, plugged: plugs.then_some((from, from + long)), is_off }
    }
}

/// A device's days, drawn before they are looked at.
struct Calendar {
    kind: Kind,
    /// Minutes by which its own time is ahead.
    ahead: u64,
    days: Vec<Day>,
}

impl Calendar {
    fn draw(kind: Kind, ahead: u64, days: u64, rng: &mut StdRng) -> Self {
        Self { kind, ahead, days: (0..days + 3).map(|_| Day::draw(rng)).collect() }
    }

    /// Where a charger's interval that holds this minute began, if one does.
    fn plugged_since(&self, minute: u64) -> Option<u64> {
        let day = minute / DAY;
        [day.checked_sub(1), Some(day)].into_iter().flatten().find_map(|day| {
            let (from, to) = self.days.get(day as usize)?.plugged?;
            let (from, to) = (day * DAY + from, day * DAY + to);
            (from..to).contains(&minute).then_some(from)
        })
    }

    /// By its own time.
    fn state(&self, minute: u64) -> State {
        let Some(day) = self.days.get((minute / DAY) as usize) else { return State::Off };
        if day.is_off {
            return State::Off;
        }
        if self.kind == Kind::Always {
            return State::On;
        }
        let at = minute % DAY;
        if day.fronts.iter().any(|(from, to)| (*from..*to).contains(&at)) {
            return State::Front;
        }
        if self.plugged_since(minute).is_some() { State::Plugged } else { State::Pocket }
    }

    /// Whether it gives and takes shards then.
    fn serves(&self, minute: u64) -> bool {
        match (self.state(minute), self.kind) {
            (State::Front | State::On, _) => true,
            (State::Plugged, Kind::Android) => {
                self.plugged_since(minute).is_some_and(|since| minute - since < SERVICE_MINUTES)
            }
            _ => false,
        }
    }

    /// Whether it may send some kilobytes then.
    fn proves(&self, minute: u64) -> bool {
        match (self.state(minute), self.kind) {
            (State::Front | State::On, _) | (State::Plugged, Kind::Android) => true,
            (State::Plugged, Kind::Iphone) => {
                self.plugged_since(minute).is_some_and(|since| minute - since == IDLE_MINUTES)
            }
            (State::Pocket, Kind::Android) => minute.is_multiple_of(DOZE_EVERY),
            _ => false,
        }
    }
}

/// Chance that at least `least` of `of` do what each does with chance `p`.
fn at_least(least: u64, of: u64, p: f64) -> f64 {
    let choose = |some: u64| (1..=some).map(|i| ((of - some + i) as f64 / i as f64).ln()).sum::<f64>();
    let exactly = |some: u64| match (p <= 0.0, p >= 1.0) {
        (true, _) => f64::from(u8::from(some == 0)),
        (_, true) => f64::from(u8::from(some == of)),
        _ => (choose(some) + some as f64 * p.ln() + (of - some) as f64 * (1.0 - p).ln()).exp(),
    };
    (least..=of).map(exactly).sum::<f64>().min(1.0)
}

/// Looks at a fleet's groups each hour, `world` being who holds what.
pub(crate) fn live(world: &World, mix: Mix, days: u64, seed: u64) -> Duty {
    let mut rng = StdRng::seed_from_u64(seed);
    let calendars: Vec<Calendar> = world
        .devices
        .iter()
        .map(|_| {
            let drawn = rng.random_range(0..100u32);
            let kind = match drawn {
                drawn if drawn < mix.always => Kind::Always,
                drawn if drawn < mix.always + mix.android => Kind::Android,
                _ => Kind::Iphone,
            };
            let ahead = if mix.is_world { rng.random_range(0..24u64) * 60 } else { 0 };
            Calendar::draw(kind, ahead, days, &mut rng)
        })
        .collect();
    let mut duty = Duty {
        looks: [0; 24],
        readable: [0; 24],
        computed: [0.0; 24],
        asked: [0; 3],
        served: [0; 3],
        asked_in: [0; 5],
        served_in: [0; 5],
        windows: [0; 3],
        unproven: [0; 3],
        thirds: [0; 3],
    };
    let (k, n) = (usize::from(world.plan.shape.k()), u64::from(world.plan.shape.n()));
    for hour in 0..days * 24 {
        // The first night began on the evening before.
        let minute = DAY + hour * HOUR_MS / MINUTE_MS + rng.random_range(0..60u64);
        let serving: Vec<bool> = calendars.iter().map(|one| one.serves(minute + one.ahead)).collect();
        // Of all shards, not of all devices: those in small networks hold more of them.
        let held = world.groups.iter().flat_map(|group| &group.slots);
        let serve = held.clone().filter(|device| serving[**device as usize]).count();
        let share = serve as f64 / held.count().max(1) as f64;
        let (of_day, computed) = ((hour % 24) as usize, at_least(k as u64, n, share));
        for group in &world.groups {
            let there = group.slots.iter().filter(|device| serving[**device as usize]).count();
            duty.looks[of_day] += 1;
            duty.readable[of_day] += u64::from(there >= k);
            duty.computed[of_day] += computed;
            let first = group.slots[0] as usize;
            let (kind, state) = (calendars[first].kind, calendars[first].state(minute + calendars[first].ahead));
            let kind = Kind::ALL.iter().position(|one| *one == kind).expect("one of them");
            let state = State::ALL.iter().position(|one| *one == state).expect("one of them");
            duty.asked[kind] += 1;
            duty.asked_in[state] += 1;
            duty.served[kind] += u64::from(serving[first]);
            duty.served_in[state] += u64::from(serving[first]);
        }
    }
    for one in &calendars {
        let kind = Kind::ALL.iter().position(|kind| *kind == one.kind).expect("one of them");
        let mut in_row = 0u64;
        for day in 0..days {
            let is_proven = ((day + 1) * DAY..(day + 2) * DAY).any(|minute| one.proves(minute + one.ahead));
            in_row = if is_proven { 0 } else { in_row + 1 };
            duty.windows[kind] += 1;
            duty.unproven[kind] += u64::from(!is_proven);
            duty.thirds[kind] += u64::from(in_row == 3);
        }
    }
    duty
}

impl Duty {
    /// Share of groups that can be read at an hour of the day, in percent.
    pub(crate) fn at(&self, hour: usize) -> f64 {
        100.0 * self.readable[hour] as f64 / self.looks[hour].max(1) as f64
    }

    /// The same at its worst hour, on average, and at its best.
    pub(crate) fn span(&self) -> (f64, f64, f64) {
        let hours: Vec<f64> = (0..24).map(|hour| self.at(hour)).collect();
        let worst = hours.iter().copied().fold(100.0, f64::min);
        (worst, hours.iter().sum::<f64>() / 24.0, hours.iter().copied().fold(0.0, f64::max))
    }
}
