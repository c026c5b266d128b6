//! Count a lifecycle's days.

use s3s::dto::{Timestamp, TimestampFormat};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// How long a rule's day is, and how often rules are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// 24 h; a network whose windows are shorter, as the demo's, may have its days as short.
    pub day: Duration,
    /// Between two looks at the buckets that have rules.
    pub every: Duration,
}

impl Default for Calendar {
    fn default() -> Self {
        Self { day: Duration::from_millis(DAY_MS), every: Duration::from_secs(3600) }
    }
}

impl Calendar {
    /// Days as long as this, looked at twice in each.
    pub fn of_day(day: Duration) -> Self {
        Self { day, every: (day / 2).max(Duration::from_secs(1)) }
    }

    /// So many days after `ms`; whole days end at midnight GMT, as at S3.
    pub(super) fn after(&self, ms: u64, days: i32) -> u64 {
        let day = self.day.as_millis() as u64;
        let due = ms.saturating_add(day.saturating_mul(u64::from(days.unsigned_abs())));
        if day == DAY_MS { due.div_ceil(DAY_MS).saturating_mul(DAY_MS) } else { due }
    }

    pub(super) fn is_midnight(ms: u64) -> bool {
        ms.is_multiple_of(DAY_MS)
    }

    /// Milliseconds since 1970; `None` before.
    pub(super) fn ms(date: &Timestamp) -> Option<u64> {
        let mut text = Vec::new();
        date.format(TimestampFormat::EpochSeconds, &mut text).ok()?;
        let secs: f64 = String::from_utf8(text).ok()?.parse().ok()?;
        (secs >= 0.0).then_some((secs * 1000.0) as u64)
    }

    pub(super) fn now_ms() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_end_at_midnight_unless_they_are_short() {
        let calendar = Calendar::default();
        assert_eq!(calendar.after(0, 1), DAY_MS);
        assert_eq!(calendar.after(1, 1), 2 * DAY_MS);
        assert_eq!(calendar.after(DAY_MS / 2, 3), 4 * DAY_MS);
        assert_eq!(Calendar::of_day(Duration::from_secs(10)).after(7, 3), 30_007);
        assert_eq!(calendar.after(u64::MAX - 1, i32::MAX), u64::MAX, "the end of time is no panic");
    }

    #[test]
    fn a_date_is_milliseconds() {
        let date = Timestamp::parse(TimestampFormat::DateTime, "2017-09-27T00:00:00Z").unwrap();
        assert_eq!(Calendar::ms(&date), Some(1_506_470_400_000));
        assert!(Calendar::is_midnight(1_506_470_400_000) && !Calendar::is_midnight(1_506_470_400_001));
        let before = Timestamp::parse(TimestampFormat::DateTime, "1969-12-31T00:00:00Z").unwrap();
        assert_eq!(Calendar::ms(&before), None);
    }
}
