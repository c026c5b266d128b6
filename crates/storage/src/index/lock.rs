//! Keep a version from being removed before its time.

use super::IndexError;
use hodei_types::cbor::{Reader, Writer};

/// How strictly a version is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Who may bypass it can.
    Governance = 1,
    /// Nobody can, not even the owner.
    Compliance = 2,
}

/// Until when a version is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub mode: Mode,
    pub until_ms: u64,
}

/// What keeps a version; at least one of the two is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    pub retention: Option<Retention>,
    /// On, or off again: without end while it is on.
    pub hold: Option<bool>,
}

impl Lock {
    /// Whether the version may go at `now_ms`; `bypass` is the right to end governance early.
    pub fn is_open(&self, now_ms: u64, bypass: bool) -> bool {
        let is_kept = self
            .retention
            .is_some_and(|retention| retention.until_ms > now_ms && !(bypass && retention.mode == Mode::Governance));
        !is_kept && self.hold != Some(true)
    }

    /// Whether `next` may take the retention's place: the same or stricter always, anything once it is over.
    pub fn allows(&self, next: Option<Retention>, now_ms: u64, bypass: bool) -> bool {
        let Some(held) = self.retention.filter(|held| held.until_ms > now_ms) else { return true };
        if held.mode == Mode::Governance && bypass {
            return true;
        }
        next.is_some_and(|next| next.mode == held.mode && next.until_ms >= held.until_ms)
    }

    pub(super) fn write(&self, out: &mut Writer) {
        let (mode, until_ms) = self.retention.map_or((0, 0), |held| (held.mode as u64, held.until_ms));
        let hold = match self.hold {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        };
        out.array(3).uint(mode).uint(until_ms).uint(hold);
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, IndexError> {
        input.tuple(3)?;
        let (mode, until_ms, hold) = (input.uint()?, input.uint()?, input.uint()?);
        let retention = match (mode, until_ms) {
            (0, 0) => None,
            (1, until_ms) => Some(Retention { mode: Mode::Governance, until_ms }),
            (2, until_ms) => Some(Retention { mode: Mode::Compliance, until_ms }),
            _ => return Err(IndexError::Shape("a retention's mode is governance or compliance")),
        };
        let hold = match hold {
            0 => None,
            1 => Some(false),
            2 => Some(true),
            _ => return Err(IndexError::Shape("a legal hold is on or off")),
        };
        if retention.is_none() && hold.is_none() {
            return Err(IndexError::Shape("a lock that keeps nothing"));
        }
        Ok(Self { retention, hold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1000;

    fn kept(mode: Mode) -> Lock {
        Lock { retention: Some(Retention { mode, until_ms: 2 * NOW }), hold: None }
    }

    #[test]
    fn compliance_ends_with_time_only() {
        let lock = kept(Mode::Compliance);
        assert!(!lock.is_open(NOW, true));
        assert!(lock.is_open(2 * NOW, false));
        assert!(!lock.allows(None, NOW, true));
        assert!(!lock.allows(Some(Retention { mode: Mode::Governance, until_ms: 9 * NOW }), NOW, true));
        assert!(!lock.allows(Some(Retention { mode: Mode::Compliance, until_ms: NOW + 1 }), NOW, true), "shorter");
        assert!(lock.allows(Some(Retention { mode: Mode::Compliance, until_ms: 3 * NOW }), NOW, false), "longer");
        assert!(lock.allows(None, 2 * NOW, false));
    }

    #[test]
    fn governance_yields_to_a_bypass() {
        let lock = kept(Mode::Governance);
        assert!(!lock.is_open(NOW, false));
        assert!(lock.is_open(NOW, true));
        assert!(!lock.allows(None, NOW, false));
        assert!(!lock.allows(Some(Retention { mode: Mode::Compliance, until_ms: 9 * NOW }), NOW, false));
        assert!(lock.allows(Some(Retention { mode: Mode::Compliance, until_ms: NOW + 1 }), NOW, true));
    }

    #[test]
    fn a_hold_yields_to_nothing() {
        let lock = Lock { retention: None, hold: Some(true) };
        assert!(!lock.is_open(u64::MAX, true));
        assert!(Lock { hold: Some(false), ..lock }.is_open(0, false));
    }
}
