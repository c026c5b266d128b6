//! Decide whether a device may serve at this moment, and say why not.
//!
//! What the system knows (charging, battery, a metered network) the app alone can tell. Until it has, caps that need it
//! keep the device at rest.

use serde::{Deserialize, Serialize};

/// No smaller space holds a useful store.
pub(crate) const SPACE_BYTES_MIN: u64 = 64 << 20;
const DAY_S: u64 = 86_400;

/// What the user allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, uniffi::Record)]
pub struct Caps {
    /// Bytes of disk for what is kept, at least 64 MiB.
    pub space_bytes: u64,
    /// Bytes of shards in and out in a day of UTC; 0: no such limit.
    pub transfer_bytes_per_day: u64,
    pub only_unmetered: bool,
    pub only_charging: bool,
    /// Not below this, unless it charges; 0 to 100.
    pub min_battery_percent: u8,
}

/// What the system told the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Conditions {
    pub charging: bool,
    pub battery_percent: u8,
    pub metered: bool,
}

impl Caps {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.space_bytes < SPACE_BYTES_MIN {
            return Err(format!("expected a space of at least {SPACE_BYTES_MIN} bytes, found {}", self.space_bytes));
        }
        if self.min_battery_percent > 100 {
            return Err(format!("expected a battery of 0 to 100 percent, found {}", self.min_battery_percent));
        }
        Ok(())
    }

    /// Why the device rests now, after it carried `today` bytes; `None`: it may serve.
    pub(crate) fn rest(&self, conditions: Option<Conditions>, today: u64) -> Option<String> {
        if self.transfer_bytes_per_day > 0 && today >= self.transfer_bytes_per_day {
            let most = self.transfer_bytes_per_day;
            return Some(format!("{today} bytes were carried today, of at most {most}: it goes on tomorrow, UTC"));
        }
        let needs_told = self.only_unmetered || self.only_charging || self.min_battery_percent > 0;
        let Some(now) = conditions else {
            return needs_told.then(|| "the app has not told yet how the device is powered and connected".into());
        };
        if self.only_charging && !now.charging {
            return Some("it is not charging".into());
        }
        if !now.charging && now.battery_percent < self.min_battery_percent {
            let (found, least) = (now.battery_percent, self.min_battery_percent);
            return Some(format!("the battery has {found} %, of at least {least} %"));
        }
        if self.only_unmetered && now.metered {
            return Some("the network is metered".into());
        }
        None
    }
}

/// Bytes carried on one day, over restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    day: u64,
    bytes: u64,
}

impl Carried {
    /// Adds what was carried until now; what the day came to.
    pub(crate) fn add(&mut self, bytes: u64, now_s: u64) -> u64 {
        let day = now_s / DAY_S;
        // A clock set back opens no new allowance.
        if day > self.day {
            *self = Self { day, bytes: 0 };
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps() -> Caps {
        Caps {
            space_bytes: SPACE_BYTES_MIN,
            transfer_bytes_per_day: 0,
            only_unmetered: false,
            only_charging: false,
            min_battery_percent: 0,
        }
    }

    #[test]
    fn each_cap_alone_brings_the_device_to_rest() {
        let good = Conditions { charging: true, battery_percent: 100, metered: false };
        assert_eq!(caps().rest(None, u64::MAX), None, "nothing is asked");
        let rests = |caps: Caps, now: Conditions| caps.rest(Some(now), 0);
        let charging = Caps { only_charging: true, ..caps() };
        let battery = Caps { min_battery_percent: 40, ..caps() };
        let unmetered = Caps { only_unmetered: true, ..caps() };
        for (caps, bad, word) in [
            (charging, Conditions { charging: false, ..good }, "charging"),
            (battery.clone(), Conditions { charging: false, battery_percent: 39, ..good }, "39 %"),
            (unmetered, Conditions { metered: true, ..good }, "metered"),
        ] {
            assert_eq!(rests(caps.clone(), good), None);
            assert!(rests(caps.clone(), bad).unwrap().contains(word));
            assert!(caps.rest(None, 0).unwrap().contains("not told"));
        }
        let low = Conditions { charging: true, battery_percent: 1, metered: false };
        assert_eq!(rests(battery, low), None, "it charges");
    }

    #[test]
    fn a_day_s_transfer_is_counted_until_the_next_day_over_restarts() {
        let caps = Caps { transfer_bytes_per_day: 100, ..caps() };
        let mut carried = Carried::default();
        let noon = 10 * DAY_S + DAY_S / 2;
        assert_eq!(carried.add(60, noon), 60);
        let kept = serde_json::to_string(&carried).unwrap();
        let mut carried: Carried = serde_json::from_str(&kept).unwrap();
        let today = carried.add(40, noon + 1);
        assert!(caps.rest(None, today).unwrap().contains("tomorrow"));
        assert_eq!(carried.add(0, noon - DAY_S), 100, "a clock set back opens nothing");
        let today = carried.add(1, noon + DAY_S);
        assert_eq!((today, caps.rest(None, today)), (1, None));
    }

    #[test]
    fn caps_that_cannot_be_kept_are_refused() {
        assert!(caps().check().is_ok());
        assert!(Caps { space_bytes: SPACE_BYTES_MIN - 1, ..caps() }.check().is_err());
        assert!(Caps { min_battery_percent: 101, ..caps() }.check().is_err());
    }
}
