//! Decide whether a provider may serve at this moment, how fast, and why not.
//!
//! Nothing here looks at a clock, a battery or a network: what was carried, the time and what is known of the machine
//! come from the caller, [`power`] and [`keep`] for a node, the app for a device of a pool.

pub(crate) mod keep;
mod limits;
pub mod power;

pub use limits::{Carried, Conditions, Limits, Pace, Power, Totals};

use crate::{config::ConfigError, provider::Provider};
use commonware_runtime::Storage;
use serde::{Deserialize, Serialize};

/// Slower than this a shard would take longer than its client waits.
const RATE_BYTES_PER_S_MIN: u64 = 16 << 10;
/// Words of a command that is asked whether the network is metered.
const COMMAND_WORDS_MAX: usize = 32;

/// What a node gives at most: section `[caps]` of `node.toml`. Beyond a cap it rests: it takes and gives no shards, and
/// proves what it holds all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// Bytes of shards given a second, on average over some shards; 0: no such limit.
    pub upload_bytes_per_s: u64,
    /// Bytes of shards taken a second, the same way.
    pub download_bytes_per_s: u64,
    /// Bytes of shards in and out in a day of UTC; 0: no such limit.
    pub transfer_bytes_per_day: u64,
    /// Bytes of shards in and out in a calendar month of UTC; 0: no such limit.
    pub transfer_bytes_per_month: u64,
    /// On battery: `serve` or `stop`.
    pub on_battery: Then,
    /// On battery, below so many percent, it stops whatever `on_battery` says; 0 to 100.
    pub min_battery_percent: u8,
    /// On a metered network: `serve` or `stop`.
    pub on_metered: Then,
    /// Whether the network is metered. The system is not asked: its owner states it here, or by a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metered: Option<bool>,
    /// Program and arguments, run each minute: metered where it ends with 0, unmetered with 1, unknown otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metered_command: Vec<String>,
}

/// What a node does in a state of its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    #[default]
    Serve,
    Stop,
}

impl Caps {
    /// Refuses what cannot be kept.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value =
            |key, found: &dyn ToString, expected| Err(ConfigError::Value { key, found: found.to_string(), expected });
        for (key, rate) in [
            ("caps.upload_bytes_per_s", self.upload_bytes_per_s),
            ("caps.download_bytes_per_s", self.download_bytes_per_s),
        ] {
            if (1..RATE_BYTES_PER_S_MIN).contains(&rate) {
                return value(key, &rate, "0 for no such limit, or at least 16384");
            }
        }
        if self.min_battery_percent > 100 {
            return value("caps.min_battery_percent", &self.min_battery_percent, "0 to 100");
        }
        if self.metered.is_some() && !self.metered_command.is_empty() {
            return value("caps.metered", &"stated twice", "either `metered` or `metered_command`");
        }
        if self.on_metered == Then::Stop && !self.is_metered_stated() {
            let expected = "also `metered = true` or false, or `metered_command`: the system is not asked";
            return value("caps.on_metered", &"\"stop\"", expected);
        }
        let is_odd = self.metered_command.first().is_some_and(String::is_empty);
        if self.metered_command.len() > COMMAND_WORDS_MAX || is_odd {
            let found = format!("{} words", self.metered_command.len());
            return value("caps.metered_command", &found, "a program and at most 31 arguments");
        }
        Ok(())
    }

    /// Whether somebody says if the network is metered.
    pub fn is_metered_stated(&self) -> bool {
        self.metered.is_some() || !self.metered_command.is_empty()
    }

    fn limits(&self) -> Limits {
        Limits {
            transfer_bytes_per_day: self.transfer_bytes_per_day,
            transfer_bytes_per_month: self.transfer_bytes_per_month,
            only_unmetered: self.on_metered == Then::Stop,
            only_charging: self.on_battery == Then::Stop,
            min_battery_percent: self.min_battery_percent,
        }
    }

    /// The caps that are set, for people; empty where none is.
    pub fn told(&self) -> Vec<String> {
        let mut told = Vec::new();
        for (bytes, what) in [
            (self.upload_bytes_per_s, "bytes a second given"),
            (self.download_bytes_per_s, "bytes a second taken"),
            (self.transfer_bytes_per_day, "bytes a day"),
            (self.transfer_bytes_per_month, "bytes a month"),
        ] {
            if bytes > 0 {
                told.push(format!("at most {bytes} {what}"));
            }
        }
        if self.on_battery == Then::Stop {
            told.push("stops on battery".into());
        } else if self.min_battery_percent > 0 {
            told.push(format!("stops on battery below {} %", self.min_battery_percent));
        }
        if self.on_metered == Then::Stop {
            told.push("stops on a metered network".into());
        }
        told
    }
}

/// Keeps a provider within its caps, step by step.
#[derive(Clone, Debug)]
pub struct Keeper {
    caps: Caps,
    carried: Carried,
    seen: u64,
}

/// What the last step found, for `status`.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub caps: Caps,
    pub totals: Totals,
    pub conditions: Conditions,
    /// Why it rests; `None`: it serves.
    pub rest: Option<String>,
    /// Until when at least, in seconds since 1970, where that is known.
    pub until_s: Option<u64>,
}

impl Keeper {
    /// Goes on with what was carried before.
    pub fn new(caps: Caps, carried: Carried) -> Self {
        Self { caps, carried, seen: 0 }
    }

    /// Counts what the provider carried since the last step, and has it rest or serve; `now_s` since 1970.
    pub fn step<E: Storage>(&mut self, provider: &Provider<E>, conditions: Conditions, now_s: u64) -> Option<String> {
        let total = provider.carried_bytes();
        let totals = self.carried.add(total.saturating_sub(self.seen), now_s);
        self.seen = total;
        let limits = self.caps.limits();
        let (rest, until_s) = (limits.rest(&conditions, totals), limits.until_s(totals, now_s));
        provider.take_caps(Kept { caps: self.caps.clone(), totals, conditions, rest: rest.clone(), until_s });
        rest
    }

    /// What was carried, to be written down.
    pub fn carried(&self) -> Carried {
        self.carried
    }
}

impl Kept {
    /// For `/status`.
    pub(crate) fn status(&self) -> serde_json::Value {
        let power = self.conditions.power;
        serde_json::json!({
            "active": self.caps.told(),
            "settings": self.caps,
            "rests": self.rest,
            "rests_until_s": self.until_s,
            "carried_today_bytes": self.totals.day,
            "carried_this_month_bytes": self.totals.month,
            "on_battery": power.map(|power| !power.charging),
            "battery_percent": power.map(|power| power.battery_percent),
            "metered": self.conditions.metered,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(text: &str) -> Result<(), String> {
        let config =
            Config::parse(&format!("name = \"a\"\n[caps]\n{text}[provider]\n")).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())
    }

    #[test]
    fn caps_are_read_and_what_cannot_be_kept_is_refused_by_its_key() {
        let all = "upload_bytes_per_s = 1000000\ndownload_bytes_per_s = 2000000\ntransfer_bytes_per_day = 1\n\
            transfer_bytes_per_month = 30\non_battery = \"stop\"\nmin_battery_percent = 40\non_metered = \"stop\"\n\
            metered = true\n";
        assert_eq!(read(all), Ok(()));
        assert_eq!(read("on_metered = \"stop\"\nmetered_command = [\"is-metered\"]\n"), Ok(()));
        for (text, key) in [
            ("upload_bytes_per_s = 100\n", "caps.upload_bytes_per_s"),
            ("download_bytes_per_s = 1\n", "caps.download_bytes_per_s"),
            ("min_battery_percent = 101\n", "caps.min_battery_percent"),
            ("on_metered = \"stop\"\n", "caps.on_metered"),
            ("metered = true\nmetered_command = [\"is-metered\"]\n", "caps.metered"),
            ("metered_command = [\"\"]\n", "caps.metered_command"),
        ] {
            assert!(read(text).is_err_and(|told| told.contains(key)), "{text}");
        }
    }

    #[test]
    fn a_cap_that_is_no_cap_is_refused_with_its_line() {
        let told = read("upload_bytes_per_s = 0\nuplaod_bytes_per_s = 1\n").unwrap_err();
        assert!(told.contains("uplaod_bytes_per_s") && told.contains("line 4"), "{told}");
        let told = read("on_battery = \"pause\"\n").unwrap_err();
        assert!(told.contains("pause") && told.contains("line 3"), "{told}");
    }

    #[test]
    fn only_caps_that_are_set_are_told() {
        assert!(Caps::default().told().is_empty());
        let caps = Caps { transfer_bytes_per_month: 7, on_battery: Then::Stop, ..Caps::default() };
        assert_eq!(caps.told(), ["at most 7 bytes a month", "stops on battery"]);
    }
}
