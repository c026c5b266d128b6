//! Read how a service's health is asked, and when it begins anew.

use super::{
    amount::{DURATION, duration_ms},
    at::At,
    broken::{Broken, Note},
    keys,
};

/// How a container says that it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not at all, whatever its image says.
    Off,
    /// By a command in it.
    Asked(Probe),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The command; the image's own without it.
    pub test: Option<Vec<String>>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// Failures in a row after which it is not well.
    pub retries: u64,
    /// Time in which failures don't count.
    pub start_period_ms: u64,
    /// In that time asked so often.
    pub start_interval_ms: u64,
}

/// Docker's.
impl Default for Probe {
    fn default() -> Self {
        Self {
            test: None,
            interval_ms: 30_000,
            timeout_ms: 30_000,
            retries: 3,
            start_period_ms: 0,
            start_interval_ms: 5_000,
        }
    }
}

/// When a container that ended begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    #[default]
    Never,
    Always,
    /// When it failed; after so many times no more.
    Failure(Option<u64>),
    /// Always, but if somebody stopped it.
    UnlessStopped,
}

pub(super) fn health(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Health, Broken> {
    let mut probe = Probe::default();
    let mut is_off = false;
    for (key, at) in at.fields(&keys::HEALTH, notes)? {
        match key {
            "test" => match test(&at)? {
                Some(test) => probe.test = Some(test),
                None => is_off = true,
            },
            "interval" => probe.interval_ms = some_time(&at)?,
            "timeout" => probe.timeout_ms = some_time(&at)?,
            "retries" => probe.retries = at.number(1..=1000)?,
            "start_period" => probe.start_period_ms = at.read(duration_ms, DURATION)?,
            "start_interval" => probe.start_interval_ms = some_time(&at)?,
            "disable" => is_off |= at.flag()?,
            _ => {}
        }
    }
    Ok(if is_off { Health::Off } else { Health::Asked(probe) })
}

fn some_time(at: &At<'_>) -> Result<u64, Broken> {
    at.read(|text| duration_ms(text).filter(|ms| *ms > 0), DURATION)
}

/// The command; none for none.
fn test(at: &At<'_>) -> Result<Option<Vec<String>>, Broken> {
    let shell = |text: &str| Some(["/bin/sh", "-c", text].map(str::to_owned).to_vec());
    if at.scalar().is_some() {
        return Ok(shell(at.said()?));
    }
    let words = at.texts()?;
    let nearest =
        || Some(format!("[\"CMD\"{}]", words.iter().take(3).map(|word| format!(", {word:?}")).collect::<String>()));
    match words.split_first() {
        Some((first, [])) if first == "NONE" => Ok(None),
        Some((first, rest)) if first == "CMD" && !rest.is_empty() => Ok(Some(rest.to_vec())),
        Some((first, [text])) if first == "CMD-SHELL" => Ok(shell(text)),
        _ => Err(at.broken("a text, or a list that begins with CMD, CMD-SHELL with one text, or NONE", nearest())),
    }
}

pub(super) fn restart(at: &At<'_>) -> Result<Restart, Broken> {
    let times = at.scalar().and_then(|text| text.strip_prefix("on-failure:"));
    if let Some(times) = times {
        let number = times.parse::<u64>().ok().filter(|times| (1..=1000).contains(times));
        let broken = || at.broken("on-failure:N with 1 to 1000", Some("\"on-failure:3\"".into()));
        return Ok(Restart::Failure(Some(number.ok_or_else(broken)?)));
    }
    at.one_of(&[
        ("no", Restart::Never),
        ("always", Restart::Always),
        ("on-failure", Restart::Failure(None)),
        ("unless-stopped", Restart::UnlessStopped),
    ])
}
