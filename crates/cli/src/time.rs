//! Show moments.

pub(crate) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as u64)
}

/// `2026-11-21 05:43:46.120 UTC` of milliseconds since 1970.
pub(crate) fn utc(ms: u64) -> String {
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let seconds = in_day / 1000;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:03} UTC",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        in_day % 1000,
    )
}

/// `2026-11-21 05:43 UTC` of milliseconds since 1970; `the year 9999 and later` beyond.
pub(crate) fn minute(ms: u64) -> String {
    const LAST_MS: u64 = 253_370_764_800_000;
    if ms >= LAST_MS {
        return "the year 9999 and later".into();
    }
    format!("{} UTC", &utc(ms)[..16])
}

/// Howard Hinnant's civil_from_days, for days since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// A day of the calendar, in UTC: days since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(u64);

impl Day {
    /// The last that is written with four digits.
    const LAST: u64 = 2_932_896;

    /// That of a moment, in milliseconds since 1970.
    pub(crate) fn of(ms: u64) -> Self {
        Self((ms / 86_400_000).min(Self::LAST))
    }

    pub(crate) fn first_of_month(self) -> Self {
        let (_, _, day) = civil(self.0);
        Self((self.0 + 1).saturating_sub(day))
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Its first second, since 1970.
    pub(crate) fn secs(self) -> u64 {
        self.0 * 86_400
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = civil(self.0);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl std::str::FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A year begins on or after so many days, and no day is more than a leap year later.
        let year: u64 = text.get(..4).and_then(|year| year.parse().ok()).unwrap_or(0);
        let first = year.saturating_sub(1970) * 365;
        let leaps = year.saturating_sub(1970) / 4 + 2;
        let mut days = (first..=first + leaps + 366).map(Self);
        // Written one way: what a day of that year is shown as.
        days.find(|day| day.to_string() == text && day.0 <= Self::LAST)
            .ok_or_else(|| format!("expected a day from 1970 on, as 2026-11-30; found {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_as_it_is_written_and_no_other_way() {
        for text in ["1970-01-01", "2000-02-29", "2026-11-30", "2099-12-31", "2400-12-31", "9999-12-31"] {
            assert_eq!(text.parse::<Day>().map(|day| day.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "",
            "2026-11-31",
            "2025-02-29",
            "26-11-30",
            "2026-1-1",
            "1969-12-31",
            "2026-11-30 ",
            "2026/11/30",
            "é026-11-30",
        ] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
        let day: Day = "2026-11-23".parse().unwrap();
        assert_eq!(day.first_of_month().to_string(), "2026-11-01");
        assert_eq!("2026-12-31".parse::<Day>().unwrap().next().to_string(), "2027-01-01");
        assert_eq!(day, Day::of(day.secs() * 1000 + 86_399_999));
    }

    #[test]
    fn days_that_calendars_get_wrong() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000 UTC");
        assert_eq!(utc(951_782_399_999), "2000-02-28 23:59:59.999 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00.000 UTC");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00.000 UTC");
    }
}
