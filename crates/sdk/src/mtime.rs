//! Remember when the file behind an object was changed.
//!
//! In the object's metadata, as rclone does: seconds since 1970, with a fraction.

use hodei_storage::index::Entry;

/// The metadata's name.
pub const NAME: &str = "mtime";

/// When the file behind an object was changed, where that is remembered.
pub fn mtime_ms(entry: &Entry) -> Option<u64> {
    let text = entry.meta.get(NAME)?;
    let (secs, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(secs) || !digits(part) {
        return None;
    }
    let part: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    secs.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
}

/// When a file that is made of an object shall have been changed.
pub fn changed_ms(entry: &Entry) -> u64 {
    mtime_ms(entry).unwrap_or(entry.modified_ms)
}

/// A moment as the metadata has it.
pub fn text(ms: u64) -> String {
    format!("{}.{:03}000000", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_others_write_it() {
        let entry = |text: &str| Entry {
            modified_ms: 9,
            meta: [(NAME.to_owned(), text.to_owned())].into(),
            ..Entry::default()
        };
        for (text, ms) in [("7.123000000", 7_123), ("7.5", 7_500), ("7", 7_000), ("7.", 7_000), ("7.1239", 7_123)] {
            assert_eq!(mtime_ms(&entry(text)), Some(ms), "{text}");
        }
        for text in ["", "soon", "-1.5", "7.5s", "99999999999999999999"] {
            assert_eq!((mtime_ms(&entry(text)), changed_ms(&entry(text))), (None, 9), "{text}");
        }
        assert_eq!(text(7_123), "7.123000000");
    }
}
