//! Choose the moment within a window at which its proof is sent.
//!
//! A window may be proven at any moment until it ends, for the same pay. Until it is, the roots of the provider's deals
//! do not change on the ledger: who waits holds up owners that post new ones. So what is preferred ends with a margin
//! before the window does, and then the proof is sent whatever was preferred.

use crate::{
    caps::{Caps, Conditions},
    config::ConfigError,
};
use hodei_types::abi::IDeals;
use serde::{Deserialize, Serialize};

/// The margin is a quarter of the window, and at least so much: windows that are not longer are proven at once.
const MARGIN_MS_MIN: u64 = 600_000;
const HOUR_S: u64 = 3_600;

/// When a node rather proves: section `[prove]` of `node.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prove {
    /// `soonest`: as soon as what follows is so; `latest`: when the margin before the window's end begins.
    pub at: At,
    /// Hours of the day, UTC, 0 to 23; none: any.
    pub hours_utc: Vec<u8>,
    /// While the machine is on mains.
    pub only_on_power: bool,
    /// While the network is not metered, by what `[caps]` states of it.
    pub only_unmetered: bool,
}

/// Which end of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum At {
    #[default]
    Soonest,
    Latest,
}

/// Whether a window's proof is sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    Now,
    /// Not yet, and why; at most so long, in milliseconds of the ledger's active clock.
    Later {
        why: String,
        left_ms: u64,
    },
}

/// What of a window is left for proving, whatever is preferred, of its length; both in milliseconds.
pub fn margin_ms(window_ms: u64) -> u64 {
    (window_ms / 4).max(MARGIN_MS_MIN)
}

impl Prove {
    /// Refuses what cannot be meant. `caps` may state whether the network is metered.
    pub fn check(&self, caps: Option<&Caps>) -> Result<(), ConfigError> {
        let value = |key, found: String, expected| -> Result<(), ConfigError> {
            Err(ConfigError::Value { key, found, expected })
        };
        if self.hours_utc.len() > 24 || self.hours_utc.iter().any(|hour| *hour > 23) {
            return value("prove.hours_utc", format!("{:?}", self.hours_utc), "hours of 0 to 23, at most 24 of them");
        }
        if self.only_unmetered && !caps.is_some_and(Caps::is_metered_stated) {
            let expected = "also `metered` or `metered_command` in [caps]: the system is not asked";
            return value("prove.only_unmetered", "true".into(), expected);
        }
        if self.at == At::Latest && self.wishes() {
            let expected = "\"soonest\" beside hours_utc, only_on_power or only_unmetered";
            return value("prove.at", "\"latest\"".into(), expected);
        }
        Ok(())
    }

    fn wishes(&self) -> bool {
        !self.hours_utc.is_empty() || self.only_on_power || self.only_unmetered
    }

    /// Whether it proves as soon as a window wants it.
    pub fn is_at_once(&self) -> bool {
        self.at == At::Soonest && !self.wishes()
    }

    /// Whether the proof of this open window is sent at `now_s`, seconds since 1970, in these conditions.
    pub fn due(&self, window: &IDeals::Window, now_s: u64, conditions: &Conditions) -> Due {
        let length_ms = window.endsMs.saturating_sub(window.openedMs);
        let left_ms = window.endsMs.saturating_sub(window.clockMs).saturating_sub(margin_ms(length_ms));
        let why = if left_ms == 0 {
            None
        } else if self.at == At::Latest {
            Some("it proves late in the window".to_owned())
        } else {
            self.unmet(now_s, conditions)
        };
        why.map_or(Due::Now, |why| Due::Later { why, left_ms })
    }

    fn unmet(&self, now_s: u64, conditions: &Conditions) -> Option<String> {
        let hour = u8::try_from(now_s / HOUR_S % 24).unwrap_or_default();
        if !self.hours_utc.is_empty() && !self.hours_utc.contains(&hour) {
            return Some(format!("it is {hour}:00 to {hour}:59 UTC, none of the hours it proves in"));
        }
        // What is not known is not as wished: the margin's beginning proves all the same.
        if self.only_on_power && !conditions.power.is_some_and(|power| power.charging) {
            return Some("the machine is not on mains".into());
        }
        if self.only_unmetered && conditions.metered != Some(false) {
            return Some("the network is not known to be unmetered".into());
        }
        None
    }

    /// The preference in words, for people.
    pub fn told(&self) -> String {
        if self.at == At::Latest {
            return "when a quarter of the window is left, at least ten minutes".into();
        }
        let mut wishes = Vec::new();
        if !self.hours_utc.is_empty() {
            let hours: Vec<String> = self.hours_utc.iter().map(ToString::to_string).collect();
            wishes.push(format!("in hours {} UTC", hours.join(", ")));
        }
        if self.only_on_power {
            wishes.push("on mains".into());
        }
        if self.only_unmetered {
            wishes.push("on an unmetered network".into());
        }
        match wishes.is_empty() {
            true => "as soon as a window opens".into(),
            false => format!(
                "{}; at the latest when a quarter of the window is left, at least ten minutes",
                wishes.join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{caps::Power, config::Config};

    const DAY_MS: u64 = 86_400_000;
    const MINUTE_MS: u64 = 60_000;

    fn at(clock_ms: u64, length_ms: u64) -> IDeals::Window {
        IDeals::Window {
            index: 4,
            clockMs: 7_000 + clock_ms,
            openedMs: 7_000,
            endsMs: 7_000 + length_ms,
            height: 9,
            seed: Default::default(),
        }
    }

    /// Every preference there is, with the worst conditions for it.
    fn preferences() -> Vec<Prove> {
        let mut all = vec![Prove { at: At::Latest, ..Prove::default() }];
        for bits in 0..8 {
            let hours_utc = if bits & 1 == 1 { vec![3, 4] } else { Vec::new() };
            all.push(Prove { hours_utc, only_on_power: bits & 2 == 2, only_unmetered: bits & 4 == 4, at: At::Soonest });
        }
        all
    }

    #[test]
    fn whatever_is_preferred_a_window_is_proven_before_its_margin_is_used_up() {
        let never = Conditions { power: Some(Power { charging: false, battery_percent: 1 }), metered: Some(true) };
        for prove in preferences() {
            for length in [10_000, 10 * MINUTE_MS, 60 * MINUTE_MS, DAY_MS, 30 * DAY_MS] {
                for conditions in [never, Conditions::default()] {
                    // A node that looks each minute, at noon of the real clock, which runs as fast or faster.
                    let mut clock = 0;
                    while prove.due(&at(clock, length), 12 * HOUR_S, &conditions) != Due::Now {
                        clock += MINUTE_MS;
                        assert!(clock < length, "{prove:?} let a window of {length} ms end");
                    }
                    let left = length - clock;
                    assert!(left + MINUTE_MS > margin_ms(length).min(length), "{prove:?}: {left} ms left of {length}");
                }
            }
        }
    }

    #[test]
    fn what_is_preferred_is_waited_for_and_then_taken() {
        let early = at(MINUTE_MS, DAY_MS);
        let good = Conditions { power: Some(Power { charging: true, battery_percent: 50 }), metered: Some(false) };
        let soonest = Prove::default();
        assert!(soonest.is_at_once());
        assert_eq!(soonest.due(&early, 0, &Conditions::default()), Due::Now);

        let night = Prove { hours_utc: vec![22, 23, 0], ..Prove::default() };
        assert!(!night.is_at_once());
        let later = night.due(&early, 21 * HOUR_S + 3_599, &good);
        assert!(
            matches!(&later, Due::Later { why, left_ms } if why.contains("21:00") && *left_ms == DAY_MS * 3 / 4 - MINUTE_MS)
        );
        assert_eq!(night.due(&early, 22 * HOUR_S, &good), Due::Now);
        assert_eq!(night.due(&early, 5 * 24 * HOUR_S + 3_599, &good), Due::Now, "the first hour of a day");

        let plugged = Prove { only_on_power: true, only_unmetered: true, ..Prove::default() };
        assert_eq!(plugged.due(&early, 0, &good), Due::Now);
        for bad in [Conditions { power: None, ..good }, Conditions { metered: Some(true), ..good }] {
            assert!(matches!(plugged.due(&early, 0, &bad), Due::Later { .. }));
        }
        let latest = Prove { at: At::Latest, ..Prove::default() };
        assert!(matches!(latest.due(&at(DAY_MS * 3 / 4 - 1, DAY_MS), 0, &good), Due::Later { left_ms: 1, .. }));
        assert_eq!(latest.due(&at(DAY_MS * 3 / 4, DAY_MS), 0, &good), Due::Now);
    }

    #[test]
    fn preferences_that_cannot_be_meant_are_refused() {
        let parse = |text: &str| Config::parse(&format!("{text}[provider]\n"));
        let read = |text: &str| parse(text).map_err(|error| error.to_string()).map(|config| config.check().is_ok());
        assert_eq!(read("[prove]\nhours_utc = [22, 23, 0]\nonly_on_power = true\n"), Ok(true));
        assert_eq!(read("[prove]\nat = \"latest\"\n"), Ok(true));
        assert_eq!(read("[prove]\nonly_unmetered = true\n[caps]\nmetered = false\n"), Ok(true));
        for text in ["hours_utc = [24]\n", "only_unmetered = true\n", "at = \"latest\"\nonly_on_power = true\n"] {
            assert_eq!(read(&format!("[prove]\n{text}")), Ok(false), "{text}");
        }
        let told = read("[prove]\nhour_utc = [1]\n").unwrap_err();
        assert!(told.contains("hour_utc") && told.contains("line 2"), "{told}");
    }
}
