//! Decide whether a device may serve at this moment, and say why not.
//!
//! What the system knows (charging, battery, a metered network) the app alone can tell. Until it has, caps that need it
//! keep the device at rest.

use hodei_node::caps::{self, Limits, Power, Totals};
use serde::{Deserialize, Serialize};

/// No smaller space holds a useful store.
pub(crate) const SPACE_BYTES_MIN: u64 = 64 << 20;

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

    /// Why the device rests now, after it carried so much; `None`: it may serve.
    pub(crate) fn rest(&self, conditions: Option<Conditions>, carried: Totals) -> Option<String> {
        let known = caps::Conditions {
            power: conditions.map(|now| Power { charging: now.charging, battery_percent: now.battery_percent }),
            metered: conditions.map(|now| now.metered),
        };
        self.limits().rest(&known, carried)
    }

    fn limits(&self) -> Limits {
        Limits {
            transfer_bytes_per_day: self.transfer_bytes_per_day,
            transfer_bytes_per_month: 0,
            only_unmetered: self.only_unmetered,
            only_charging: self.only_charging,
            min_battery_percent: self.min_battery_percent,
        }
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
        let much = Totals { day: u64::MAX, month: u64::MAX };
        assert_eq!(caps().rest(None, much), None, "nothing is asked");
        let none = Totals::default();
        let day = Caps { transfer_bytes_per_day: 1, ..caps() };
        assert!(day.rest(None, much).unwrap().contains("tomorrow") && day.rest(None, none).is_none());
        let rests = |caps: Caps, now: Conditions| caps.rest(Some(now), none);
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
            assert!(caps.rest(None, none).unwrap().contains("not told"));
        }
        let low = Conditions { charging: true, battery_percent: 1, metered: false };
        assert_eq!(rests(battery, low), None, "it charges");
    }

    #[test]
    fn caps_that_cannot_be_kept_are_refused() {
        assert!(caps().check().is_ok());
        assert!(Caps { space_bytes: SPACE_BYTES_MIN - 1, ..caps() }.check().is_err());
        assert!(Caps { min_battery_percent: 101, ..caps() }.check().is_err());
    }
}
