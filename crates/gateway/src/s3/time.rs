//! Tell the time as S3 does: in seconds, of which the index keeps milliseconds.

use s3s::dto::{Timestamp, TimestampFormat};
use std::time::{Duration, SystemTime};

pub(super) fn timestamp(ms: u64) -> Timestamp {
    (SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).into()
}

/// As text; a time outside of the years with four digits has none.
fn text(time: &Timestamp, format: TimestampFormat) -> String {
    let mut text = Vec::new();
    match time.format(format, &mut text) {
        Ok(()) => String::from_utf8(text).unwrap_or_default(),
        Err(_) => String::new(),
    }
}

/// Since 1970; what was before is 0.
pub(super) fn millis(time: &Timestamp) -> u64 {
    let secs: f64 = text(time, TimestampFormat::EpochSeconds).parse().unwrap_or_default();
    (secs * 1000.0).round() as u64
}

pub(super) fn http_date(time: &Timestamp) -> String {
    text(time, TimestampFormat::HttpDate)
}

/// A header's date, `Sat, 31 Jan 2026 12:00:00 GMT` or with an offset for the zone, as `x-amz-date` has it,
/// `20260131T120000Z`; nothing of a year without four digits.
pub(super) fn basic(date: &str) -> Option<String> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(time.strftime("%Y%m%dT%H%M%SZ").to_string()).filter(|text| text.len() == 16)
}

pub(super) fn parse_http_date(text: &str) -> Option<Timestamp> {
    Timestamp::parse(TimestampFormat::HttpDate, text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_survive() {
        for ms in [0, 1, 999, 1_795_000_000_123, 5_000_000_000_001] {
            assert_eq!(millis(&timestamp(ms)), ms);
        }
        let text = "Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(http_date(&parse_http_date(text).unwrap()), text);
        for text in [text, "Wed, 21 Oct 2015 07:28:00 -0000", "Wed, 21 Oct 2015 09:28:00 +0200"] {
            assert_eq!(basic(text).as_deref(), Some("20151021T072800Z"), "{text}");
        }
        assert_eq!(basic("yesterday"), None);
    }
}
