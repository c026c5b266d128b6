//! Check a service level, and tell what a breach of it pays.

use alloy_primitives::U256;

use super::{BP, Level, TermsError};

/// Availability that may be promised, in hundredths of a percent.
pub const AVAILABILITY_BP: std::ops::RangeInclusive<u16> = 9_000..=9_999;
/// Seconds until a lease is taken up, at most an hour.
pub const START_SECS_MAX: u16 = 3_600;
/// Seconds until a lost replica runs elsewhere, at most half a day. Less than watching takes is promised at one's own risk.
pub const RESTORE_SECS_MAX: u16 = 43_200;
/// A host that shows itself so soon after it was accused, on the active clock, was not down: a true answer takes no longer,
/// and so the word of two watchers alone takes no bond. What goes beyond was time in which it did not answer.
pub const GRACE_MS: u64 = 30_000;

/// What of a level was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Breach {
    Availability = 1,
    Start = 2,
    Restore = 3,
}

impl Breach {
    pub const ALL: [Self; 3] = [Self::Availability, Self::Start, Self::Restore];

    /// None for a number that stands for none.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|breach| *breach as u8 == number)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::Start => "start",
            Self::Restore => "restore",
        }
    }
}

impl Level {
    /// Refuses a level outside of the limits, by the name of the first field that is.
    pub fn check(&self) -> Result<(), TermsError> {
        let field = |is_good: bool, name: &'static str| if is_good { Ok(()) } else { Err(TermsError::Field(name)) };
        field(AVAILABILITY_BP.contains(&self.availabilityBp), "availabilityBp")?;
        field((1..=START_SECS_MAX).contains(&self.startSecs), "startSecs")?;
        field((1..=RESTORE_SECS_MAX).contains(&self.restoreSecs), "restoreSecs")?;
        field((1..=BP).contains(&u64::from(self.payBp)), "payBp")
    }

    /// Milliseconds of a window in which a replica may be down.
    pub fn down_ms_max(&self, window_ms: u64) -> u64 {
        let down_bp = BP.saturating_sub(self.availabilityBp.into());
        (u128::from(window_ms) * u128::from(down_bp) / u128::from(BP)) as u64
    }

    /// Wei that a breach pays, and a lease binds: the promised part of what the lease pays in a window, or in its order's
    /// term where that is shorter; rounded down.
    pub fn pay(&self, rate: u128, window_ms: u64, term_secs: u64) -> u128 {
        let secs = (window_ms / 1000).min(term_secs);
        let whole = U256::from(rate) * U256::from(secs) * U256::from(self.payBp);
        whole.checked_div(U256::from(BP)).unwrap_or_default().saturating_to()
    }
}

/// Hundredths of a percent of what is written as `99.9%`, or without the sign, with two decimals at most.
pub fn read_percent(text: &str) -> Option<u16> {
    let text = text.strip_suffix('%').unwrap_or(text);
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number =
        |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole, 3) || !is_number(part, 2) {
        return None;
    }
    let part: u16 = format!("{part:0<2}").parse().ok()?;
    whole.parse::<u16>().ok()?.checked_mul(100)?.checked_add(part)
}

/// `99.9%`.
pub fn show_percent(bp: u16) -> String {
    let text = format!("{}.{:02}", bp / 100, bp % 100);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn level() -> Level {
        Level { availabilityBp: 9_990, startSecs: 30, restoreSecs: 300, payBp: 1_000 }
    }

    #[test]
    fn a_level_outside_of_the_limits_is_refused_by_its_field() {
        assert_eq!(level().check(), Ok(()));
        type Change = fn(&mut Level);
        let cases: [(&str, Change); 8] = [
            ("availabilityBp", |level| level.availabilityBp = 8_999),
            ("availabilityBp", |level| level.availabilityBp = 10_000),
            ("startSecs", |level| level.startSecs = 0),
            ("startSecs", |level| level.startSecs = 3_601),
            ("restoreSecs", |level| level.restoreSecs = 0),
            ("restoreSecs", |level| level.restoreSecs = 43_201),
            ("payBp", |level| level.payBp = 0),
            ("payBp", |level| level.payBp = 10_001),
        ];
        for (field, change) in cases {
            let mut bad = level();
            change(&mut bad);
            assert_eq!(bad.check(), Err(TermsError::Field(field)));
        }
    }

    #[test]
    fn three_nines_of_a_day_leave_86_seconds_and_a_breach_pays_a_part_of_its_pay() {
        assert_eq!(level().down_ms_max(DAY_MS), 86_400);
        assert_eq!(Level { availabilityBp: 9_999, ..level() }.down_ms_max(DAY_MS), 8_640);
        assert_eq!(level().pay(500, DAY_MS, u64::MAX), 500 * 86_400 / 10);
        assert_eq!(level().pay(500, DAY_MS, 600), 500 * 60, "of a term that is shorter");
        assert_eq!(level().pay(9, 1_000, 60), 0, "rounded down");
        assert!(level().pay(u128::MAX >> 32, u64::MAX, u64::MAX) > 0);
    }

    #[test]
    fn percents_are_read_as_they_are_shown() {
        for (text, bp) in [("99.9%", 9_990), ("99.99%", 9_999), ("90%", 9_000), ("0.05%", 5), ("100%", 10_000)] {
            assert_eq!((read_percent(text), show_percent(bp).as_str()), (Some(bp), text));
        }
        assert_eq!((read_percent("99.9"), read_percent("12.50%")), (Some(9_990), Some(1_250)));
        for text in ["", "%", "99.", ".5", "99.999", "-1", "1e2", "1000", "99,9", "9 %"] {
            assert_eq!(read_percent(text), None, "{text:?}");
        }
    }

    #[test]
    fn breaches_have_numbers_and_names() {
        assert!(Breach::ALL.into_iter().all(|breach| Breach::of(breach as u8) == Some(breach)));
        assert_eq!((Breach::of(0), Breach::of(4), Breach::Restore.name()), (None, None, "restore"));
    }
}
