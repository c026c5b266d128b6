//! Name every background loop, and say what it is doing.
//!
//! A loop that fails keeps its last error beside its name until a pass succeeds; a loop can be paused and
//! slowed from outside without being restarted. `/status` and `hodei status` list what is here.

use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Longest text kept of what a loop is doing or of its error.
const TEXT_BYTES_MAX: usize = 512;

/// All loops of a node, by name.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Mutex<BTreeMap<&'static str, Status>>>);

/// One loop's state, as shown to people.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Status {
    /// What it is doing now, one phrase.
    pub doing: String,
    /// Passes finished since the start.
    pub passes: u64,
    /// The last pass's error, if it failed.
    pub error: Option<String>,
    /// Failed passes since the start.
    pub failures: u64,
    /// Seconds since 1970 of the last pass.
    pub last_pass_s: u64,
    /// Waits while set.
    pub paused: bool,
    /// Extra wait after each pass, in milliseconds.
    pub delay_ms: u64,
    /// The loop has ended; nothing of its work happens any more.
    pub ended: bool,
}

/// A loop's own handle: it reports through it, and obeys it.
#[derive(Debug)]
pub struct Task {
    name: &'static str,
    tasks: Tasks,
}

impl Tasks {
    /// Enters a loop under a name of its own; a restarted loop takes its name over.
    pub fn enter(&self, name: &'static str) -> Task {
        self.locked().insert(name, Status { doing: "starting".into(), ..Status::default() });
        Task { name, tasks: self.clone() }
    }

    /// Every loop with its state, in the order of names.
    pub fn list(&self) -> BTreeMap<&'static str, Status> {
        self.locked().clone()
    }

    /// Pauses or slows a loop; false when no loop has that name.
    pub fn throttle(&self, name: &str, paused: bool, delay: Duration) -> bool {
        match self.locked().get_mut(name) {
            Some(status) => {
                status.paused = paused;
                status.delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                true
            }
            None => false,
        }
    }

    /// Names of loops that ended or whose last pass failed.
    pub fn unwell(&self) -> Vec<&'static str> {
        let locked = self.locked();
        locked.iter().filter(|(_, s)| s.ended || s.error.is_some()).map(|(name, _)| *name).collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<&'static str, Status>> {
        // Only plain assignments happen under this lock, so a poisoned one holds no half-made state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task {
    /// Says what happens now.
    pub fn doing(&self, what: impl Into<String>) {
        let what = clip(what.into());
        self.change(|status| status.doing = what);
    }

    /// A pass succeeded.
    pub fn passed(&self) {
        self.change(|status| {
            status.passes += 1;
            status.error = None;
            status.last_pass_s = now_s();
        });
    }

    /// A pass failed; the loop goes on.
    pub fn failed(&self, error: &dyn std::fmt::Display) {
        let text = clip(error.to_string());
        tracing::warn!(task = self.name, error = %text, "pass failed");
        self.change(|status| {
            status.passes += 1;
            status.failures += 1;
            status.error = Some(text);
            status.last_pass_s = now_s();
        });
    }

    /// How long to wait before the next pass, as asked from outside; `None` while paused.
    pub fn delay(&self) -> Option<Duration> {
        let locked = self.tasks.locked();
        let status = locked.get(self.name)?;
        (!status.paused).then(|| Duration::from_millis(status.delay_ms))
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        if let Some(status) = self.tasks.locked().get_mut(self.name) {
            change(status);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.change(|status| {
            status.ended = true;
            status.doing = "ended".into();
        });
    }
}

fn clip(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stands_until_a_pass_succeeds() {
        let tasks = Tasks::default();
        let task = tasks.enter("prove");
        task.failed(&"no validator answered");
        assert_eq!(tasks.unwell(), ["prove"]);
        assert_eq!(tasks.list()["prove"].failures, 1);
        task.passed();
        assert!(tasks.unwell().is_empty());
        drop(task);
        assert!(tasks.list()["prove"].ended, "a loop that died is shown");
        assert_eq!(tasks.unwell(), ["prove"]);
    }

    #[test]
    fn loops_are_paused_and_slowed_by_name() {
        let tasks = Tasks::default();
        let task = tasks.enter("scrub");
        assert_eq!(task.delay(), Some(Duration::ZERO));
        assert!(tasks.throttle("scrub", false, Duration::from_secs(2)));
        assert_eq!(task.delay(), Some(Duration::from_secs(2)));
        assert!(tasks.throttle("scrub", true, Duration::ZERO));
        assert_eq!(task.delay(), None);
        assert!(!tasks.throttle("scrab", true, Duration::ZERO));
    }

    #[test]
    fn texts_are_bounded() {
        assert!(clip("é".repeat(1000)).len() <= TEXT_BYTES_MAX + '…'.len_utf8());
    }
}
