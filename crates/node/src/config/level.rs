//! State what a machine promises to who asks for a service level.

use super::{Coins, ConfigError};
use hodei_types::market::{Level, TermsError, read_percent, show_percent};
use serde::{Deserialize, Serialize};

/// A promise with a bond: orders that ask for availability go where it is promised, and a breach pays its tenant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Promise {
    /// Part of each window that a replica is there, from 90 % to 99.99 %.
    pub availability: Percent,
    /// Within so many seconds a lease is taken up; components that take longer to compile are no breach.
    pub start_secs: u16,
    /// Within so many seconds after this host was last reached a lost replica runs elsewhere. Watching takes some three minutes.
    pub restore_secs: u16,
    /// Part of a window's pay that a breach pays.
    pub pay: Percent,
    /// What answers for it. Each lease that asks binds what a breach of it pays.
    pub bond: Coins,
}

impl Default for Promise {
    fn default() -> Self {
        Self { availability: Percent(9_900), start_secs: 60, restore_secs: 300, pay: Percent(1_000), bond: Coins(0) }
    }
}

impl Promise {
    pub fn level(&self) -> Level {
        let Self { availability, start_secs, restore_secs, pay, .. } = *self;
        Level { availabilityBp: availability.0, startSecs: start_secs, restoreSecs: restore_secs, payBp: pay.0 }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let value =
            |key, found: &dyn ToString, expected| Err(ConfigError::Value { key, found: found.to_string(), expected });
        match self.level().check() {
            Err(TermsError::Field("availabilityBp")) => {
                value("compute.level.availability", &self.availability, "90% to 99.99%")
            }
            Err(TermsError::Field("startSecs")) => value("compute.level.start_secs", &self.start_secs, "1 to 3600"),
            Err(TermsError::Field("restoreSecs")) => {
                value("compute.level.restore_secs", &self.restore_secs, "1 to 43200")
            }
            Err(_) => value("compute.level.pay", &self.pay, "0.01% to 100%"),
            Ok(()) if self.bond.0 == 0 => value("compute.level.bond", &self.bond, "coins that answer for it"),
            Ok(()) => Ok(()),
        }
    }
}

/// Hundredths of a percent, written as `99.9%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u16);

impl std::str::FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no part: expected one such as \"99.9%\", with two decimals at most");
        read_percent(text).map(Self).ok_or_else(wrong)
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&show_percent(self.0))
    }
}

impl Serialize for Percent {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Compute, Config};

    #[test]
    fn a_level_is_written_as_people_say_it_and_read_back() {
        let text = "[compute]\nlevel = { availability = \"99.9%\", start_secs = 30, pay = \"12.5%\", bond = \"2\" }\n";
        let config = Config::parse(text).unwrap();
        config.check().unwrap();
        let promise = config.compute.clone().unwrap().level.unwrap();
        let level = Level { availabilityBp: 9_990, startSecs: 30, restoreSecs: 300, payBp: 1_250 };
        assert_eq!((promise.level(), promise.bond.0), (level, 2 * crate::config::COIN));
        assert_eq!(Config::parse(&config.text()).unwrap(), config);
        assert_eq!(Compute::default().level, None, "nothing is promised unasked");
    }

    #[test]
    fn a_level_that_the_ledger_would_refuse_is_refused_by_its_key() {
        for (key, line) in [
            ("compute.level.availability", "availability = \"80%\", bond = \"1\""),
            ("compute.level.start_secs", "start_secs = 0, bond = \"1\""),
            ("compute.level.restore_secs", "restore_secs = 50000, bond = \"1\""),
            ("compute.level.pay", "pay = \"101%\", bond = \"1\""),
            ("compute.level.bond", "availability = \"99%\""),
        ] {
            let config = Config::parse(&format!("[compute]\nlevel = {{ {line} }}\n")).unwrap();
            let told = config.check().expect_err(line).to_string();
            assert!(told.contains(&format!("`{key}`")), "{line}: {told}");
        }
        assert!(Config::parse("[compute]\nlevel = { availability = \"much\" }\n").is_err());
    }
}
