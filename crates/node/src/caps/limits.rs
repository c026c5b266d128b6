//! Count what was carried, pace it, and say why a provider rests.

use serde::{Deserialize, Serialize};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

const DAY_S: u64 = 86_400;
/// A turn further away than this is not waited for: the client is told to come again.
const TURN_MAX: Duration = Duration::from_secs(1);

/// What is allowed of transfer and in which states of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in a day of UTC, and in a month of it; 0: no such limit.
    pub transfer_bytes_per_day: u64,
    pub transfer_bytes_per_month: u64,
    pub only_unmetered: bool,
    pub only_charging: bool,
    /// Not below this, unless it charges.
    pub min_battery_percent: u8,
}

/// What is known of the machine now; `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    pub power: Option<Power>,
    pub metered: Option<bool>,
}

/// How a machine is powered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Power {
    /// It charges, or runs on mains.
    pub charging: bool,
    /// 100 where there is no battery.
    pub battery_percent: u8,
}

/// Bytes carried in this day and this month of UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub day: u64,
    pub month: u64,
}

impl Limits {
    /// Why nothing is served now, after so much was carried; `None`: it may serve.
    pub fn rest(&self, now: &Conditions, carried: Totals) -> Option<String> {
        for (bytes, most, this, next) in [
            (carried.day, self.transfer_bytes_per_day, "today", "tomorrow"),
            (carried.month, self.transfer_bytes_per_month, "this month", "next month"),
        ] {
            if most > 0 && bytes >= most {
                return Some(format!("{bytes} bytes were carried {this}, of at most {most}: it goes on {next}, UTC"));
            }
        }
        if self.only_charging || self.min_battery_percent > 0 {
            let Some(power) = now.power else { return Some("it was not told yet how it is powered".into()) };
            if self.only_charging && !power.charging {
                return Some("it is not charging".into());
            }
            if !power.charging && power.battery_percent < self.min_battery_percent {
                let (found, least) = (power.battery_percent, self.min_battery_percent);
                return Some(format!("the battery has {found} %, of at least {least} %"));
            }
        }
        if self.only_unmetered {
            match now.metered {
                None => return Some("it was not told yet whether the network is metered".into()),
                Some(true) => return Some("the network is metered".into()),
                Some(false) => {}
            }
        }
        None
    }

    /// Until when nothing more is carried, in seconds since 1970 as `now_s` is; `None` where no cap of transfer is reached.
    pub fn until_s(&self, carried: Totals, now_s: u64) -> Option<u64> {
        let today = now_s / DAY_S;
        let is_reached = |bytes: u64, most: u64| most > 0 && bytes >= most;
        if is_reached(carried.month, self.transfer_bytes_per_month) {
            let next = (today + 1..=today + 31).find(|day| month(*day) > month(today))?;
            return Some(next * DAY_S);
        }
        is_reached(carried.day, self.transfer_bytes_per_day).then_some((today + 1) * DAY_S)
    }
}

/// Bytes carried on one day and in one month, over restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    day: u64,
    bytes: u64,
    /// Months since January 1970.
    #[serde(default)]
    month: u64,
    #[serde(default)]
    month_bytes: u64,
}

impl Carried {
    /// Adds what was carried until now, in seconds since 1970; what day and month came to.
    pub fn add(&mut self, bytes: u64, now_s: u64) -> Totals {
        let (day, month) = (now_s / DAY_S, month(now_s / DAY_S));
        // A clock set back opens no new allowance.
        if day > self.day {
            (self.day, self.bytes) = (day, 0);
        }
        if month > self.month {
            (self.month, self.month_bytes) = (month, 0);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.month_bytes = self.month_bytes.saturating_add(bytes);
        Totals { day: self.bytes, month: self.month_bytes }
    }
}

/// Months of the Gregorian calendar since January 1970, of days since then.
fn month(day: u64) -> u64 {
    // A clock beyond the year 9999 is none.
    let (mut left, mut months) = (day.min(2_932_896), 0u64);
    loop {
        let year = 1970 + months / 12;
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match months % 12 {
            1 => 28 + u64::from(is_leap),
            3 | 5 | 8 | 10 => 30,
            _ => 31,
        };
        if left < days {
            return months;
        }
        (left, months) = (left - days, months + 1);
    }
}

/// Lets bytes through at a rate: each taker is told when its turn is, which is when what was let through before it has
/// had its time. So the average is kept, and a single shard goes as fast as the line.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    /// 0: no limit.
    bytes_per_s: u64,
    /// When all that was let through has had its time, counted as the caller counts.
    free_at: Duration,
}

impl Pace {
    /// Bytes a second from now on; 0: no limit.
    pub fn set(&self, bytes_per_s: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes_per_s = bytes_per_s;
    }

    /// Takes a turn for so many bytes at `now`, counted from any one moment: how long to wait for it. `Err`: it is too
    /// far away, none was taken, and this is how long to stay away.
    pub fn take(&self, bytes: u64, now: Duration) -> Result<Duration, Duration> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.bytes_per_s == 0 {
            return Ok(Duration::ZERO);
        }
        let wait = turns.free_at.saturating_sub(now);
        if wait > TURN_MAX {
            return Err(wait);
        }
        turns.free_at = turns.free_at.max(now) + turns.time(bytes);
        Ok(wait)
    }

    /// Gives a turn back, or what of it was not used: those bytes did not flow.
    pub fn give_back(&self, bytes: u64) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.free_at = turns.free_at.saturating_sub(turns.time(bytes));
    }
}

impl Turns {
    /// What so many bytes take at this rate; nothing without one.
    fn time(&self, bytes: u64) -> Duration {
        let micros = (u128::from(bytes) * 1_000_000).checked_div(self.bytes_per_s.into()).unwrap_or(0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Totals {
        Totals::default()
    }

    #[test]
    fn a_cap_of_transfer_says_until_when_it_has_a_node_rest() {
        let limits = Limits { transfer_bytes_per_day: 10, transfer_bytes_per_month: 100, ..Limits::default() };
        // The last but one of January 1970, in the afternoon.
        let now_s = 29 * DAY_S + 50_000;
        let until = |day, month| limits.until_s(Totals { day, month }, now_s);
        assert_eq!([until(9, 99), until(10, 99)], [None, Some(30 * DAY_S)]);
        assert_eq!([until(0, 100), until(10, 100)], [Some(31 * DAY_S); 2], "the later of both");
        assert_eq!(Limits::default().until_s(Totals { day: 9, month: 9 }, now_s), None);
    }

    #[test]
    fn each_limit_alone_brings_a_provider_to_rest() {
        let power = |charging, battery_percent| Some(Power { charging, battery_percent });
        let good = Conditions { power: power(true, 100), metered: Some(false) };
        let unknown = Conditions::default();
        assert_eq!(Limits::default().rest(&unknown, Totals { day: u64::MAX, month: u64::MAX }), None);
        let charging = Limits { only_charging: true, ..Limits::default() };
        let battery = Limits { min_battery_percent: 40, ..Limits::default() };
        let unmetered = Limits { only_unmetered: true, ..Limits::default() };
        for (limits, bad, word) in [
            (charging, Conditions { power: power(false, 100), ..good }, "charging"),
            (battery, Conditions { power: power(false, 39), ..good }, "39 %"),
            (unmetered, Conditions { metered: Some(true), ..good }, "metered"),
        ] {
            assert_eq!(limits.rest(&good, none()), None);
            assert!(limits.rest(&bad, none()).unwrap().contains(word));
            assert!(limits.rest(&unknown, none()).unwrap().contains("not told"));
        }
        let low = Conditions { power: power(true, 1), metered: None };
        assert_eq!(battery.rest(&low, none()), None, "it charges, and nobody asked for the network");
    }

    #[test]
    fn a_day_s_transfer_is_counted_until_the_next_day_over_restarts() {
        let limits = Limits { transfer_bytes_per_day: 100, ..Limits::default() };
        let rest = |totals| limits.rest(&Conditions::default(), totals);
        let mut carried = Carried::default();
        let noon = 10 * DAY_S + DAY_S / 2;
        assert_eq!(carried.add(60, noon).day, 60);
        let kept = serde_json::to_string(&carried).unwrap();
        let mut carried: Carried = serde_json::from_str(&kept).unwrap();
        assert!(rest(carried.add(40, noon + 1)).unwrap().contains("tomorrow"));
        assert_eq!(carried.add(0, noon - DAY_S).day, 100, "a clock set back opens nothing");
        let totals = carried.add(1, noon + DAY_S);
        assert_eq!((totals, rest(totals)), (Totals { day: 1, month: 101 }, None));
        // A file of before months were counted.
        assert!(serde_json::from_str::<Carried>("{\"day\":3,\"bytes\":5}").is_ok());
    }

    #[test]
    fn a_month_s_transfer_ends_with_the_calendar_s_month() {
        let limits = Limits { transfer_bytes_per_month: 100, ..Limits::default() };
        let rest = |totals| limits.rest(&Conditions::default(), totals);
        // 2024-02-29 is day 19,782, and the last of its month.
        let leap_day = 19_782 * DAY_S;
        let mut carried = Carried::default();
        assert_eq!(rest(carried.add(99, leap_day - 20 * DAY_S)), None);
        assert!(rest(carried.add(1, leap_day + DAY_S - 1)).unwrap().contains("next month"));
        assert_eq!(carried.add(0, leap_day + DAY_S).month, 0, "the first of March");
        assert_eq!((month(0), month(30), month(31), month(364), month(365)), (0, 0, 1, 11, 12));
        assert_eq!(month(19_783), (2024 - 1970) * 12 + 2);
        assert_eq!(month(u64::MAX), (9999 - 1970) * 12 + 11);
    }

    #[test]
    fn a_rate_is_kept_over_many_turns_and_far_turns_are_not_taken() {
        let pace = Pace::default();
        assert_eq!(pace.take(u64::MAX, Duration::ZERO), Ok(Duration::ZERO), "no limit");
        pace.set(1_000_000);
        let (mut now, mut carried, mut refused) = (Duration::from_secs(5), 0u64, 0);
        let begun = now;
        while now < begun + Duration::from_secs(100) {
            match pace.take(262_144, now) {
                Ok(wait) => {
                    assert!(wait <= TURN_MAX);
                    carried += 262_144;
                }
                Err(wait) => {
                    assert!(wait > TURN_MAX);
                    refused += 1;
                    now += wait;
                }
            }
        }
        // A hundred seconds, what waits for its turn, and the shard that is on its way.
        assert!((100_000_000..=102_000_000).contains(&carried), "{carried}");
        assert!(refused > 0);
        assert_eq!(pace.take(1, Duration::from_secs(1_000)), Ok(Duration::ZERO), "an idle line waits for nobody");
    }

    #[test]
    fn a_turn_that_was_not_used_is_the_next_one_s() {
        let pace = Pace::default();
        pace.give_back(1 << 20);
        pace.set(1_000);
        let now = Duration::from_secs(9);
        for _ in 0..10 {
            assert_eq!(pace.take(1 << 20, now), Ok(Duration::ZERO));
            assert!(pace.take(1, now).is_err());
            pace.give_back(1 << 20);
        }
        assert_eq!(pace.take(10_000, now), Ok(Duration::ZERO));
        pace.give_back(9_500);
        assert_eq!(pace.take(0, now), Ok(Duration::from_millis(500)), "what flowed of it has its time");
    }
}
