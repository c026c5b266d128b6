//! Name one of the objects a key has had.

use super::IndexError;
use std::{fmt, str::FromStr};

/// Hexadecimal digits of a version that has an id.
const DIGITS: usize = 32;

/// A version of a key. At most one has no id: the one put while the bucket's versioning was off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    #[default]
    Null,
    /// Ids of one key ascend with time; what follows the time is random.
    Id([u8; 16]),
}

impl Version {
    /// The id of a version made at `now_ms`, above `newest` whatever the clocks of its writers say.
    pub fn after(newest: Self, now_ms: u64, random: [u8; 8]) -> Self {
        let mut tick = now_ms << 16;
        if let Self::Id(id) = newest {
            let last = id.first_chunk().map_or(0, |tick| u64::from_be_bytes(*tick));
            tick = tick.max(last.saturating_add(1));
        }
        let mut id = [0; 16];
        id[..8].copy_from_slice(&tick.to_be_bytes());
        id[8..].copy_from_slice(&random);
        Self::Id(id)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Id(id) => id.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

impl FromStr for Version {
    type Err = IndexError;

    fn from_str(text: &str) -> Result<Self, IndexError> {
        const REFUSED: IndexError = IndexError::Shape("a version is 32 hexadecimal digits, or null");
        if text == "null" {
            return Ok(Self::Null);
        }
        let is_lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != DIGITS || !text.bytes().all(is_lower) {
            return Err(REFUSED);
        }
        let id = u128::from_str_radix(text, 16).map_err(|_| REFUSED)?;
        Ok(Self::Id(id.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_it_is_written() {
        let version = Version::after(Version::Null, 1_700_000_000_000, [7; 8]);
        assert_eq!(version.to_string().parse(), Ok(version));
        assert_eq!("null".parse(), Ok(Version::Null));
        for text in ["", "nul", "7", &"A".repeat(32), &"g".repeat(32), &"+".repeat(32)] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_ascend_although_a_clock_goes_back() {
        let first = Version::after(Version::Null, 2000, [255; 8]);
        let second = Version::after(first, 1000, [0; 8]);
        assert!(second.to_string() > first.to_string());
        assert!(Version::after(second, 3000, [0; 8]).to_string() > second.to_string());
    }
}
