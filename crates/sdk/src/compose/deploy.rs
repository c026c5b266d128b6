//! Read `deploy`: how many replicas there are, what each may use, and how they are replaced.

use super::{
    amount::{CPUS, DURATION, SIZE, cpu_milli, duration_ms, size_bytes},
    at::At,
    broken::{Broken, Note},
    health::Restart,
    keys,
};
use hodei_types::market::REPLICAS_MAX;

/// Processes and threads of a container at most.
pub const PIDS_MAX: u64 = 32_768;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Deploy {
    pub(super) replicas: Option<u64>,
    pub(super) cpu_milli: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) pids: Option<u64>,
    pub(super) update: Option<Update>,
    pub(super) again: Option<Again>,
}

/// How replicas are replaced by those of a newer file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub order: UpdateOrder,
    /// So many at once; 0 for all.
    pub parallelism: u64,
    pub delay_ms: u64,
    pub failure_action: FailureAction,
    /// How long a new replica must stand.
    pub monitor_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateOrder {
    StartFirst,
    StopFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureAction {
    Pause,
    Continue,
    Rollback,
}

/// Docker's.
impl Default for Update {
    fn default() -> Self {
        Self {
            order: UpdateOrder::StopFirst,
            parallelism: 1,
            delay_ms: 0,
            failure_action: FailureAction::Pause,
            monitor_ms: 5_000,
        }
    }
}

/// When a container that ended begins anew, and how soon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Again {
    pub when: Restart,
    pub delay_ms: u64,
    /// After so long it counts as having begun.
    pub window_ms: u64,
}

pub(super) fn replicas(at: &At<'_>) -> Result<u64, Broken> {
    at.number(1..=u64::from(REPLICAS_MAX))
}

pub(super) fn pids(at: &At<'_>) -> Result<u64, Broken> {
    at.number(1..=PIDS_MAX)
}

pub(super) fn deploy(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Deploy, Broken> {
    let mut deploy = Deploy::default();
    for (key, at) in at.fields(&keys::DEPLOY, notes)? {
        match key {
            "mode" if at.scalar() == Some("replicated") => {}
            "mode" => {
                let rule = "so many replicas as are said: there is no fixed number of hosts";
                return Err(at.broken(rule, Some("\"replicated\"".into())));
            }
            "replicas" => deploy.replicas = Some(replicas(&at)?),
            "resources" => {
                for (key, at) in at.fields(&keys::RESOURCES, notes)? {
                    match key {
                        "limits" => limits(&at, &mut deploy, notes)?,
                        _ => drop(at.fields(&keys::RESERVATIONS, notes)?),
                    }
                }
            }
            "update_config" => deploy.update = Some(update(&at, notes)?),
            "restart_policy" => deploy.again = Some(again(&at, notes)?),
            _ => {}
        }
    }
    Ok(deploy)
}

fn limits(at: &At<'_>, deploy: &mut Deploy, notes: &mut Vec<Note>) -> Result<(), Broken> {
    for (key, at) in at.fields(&keys::LIMITS, notes)? {
        match key {
            "cpus" => deploy.cpu_milli = Some(at.read(cpu_milli, CPUS)?),
            "memory" => deploy.memory_bytes = Some(at.read(size_bytes, SIZE)?),
            _ => deploy.pids = Some(pids(&at)?),
        }
    }
    Ok(())
}

fn update(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Update, Broken> {
    let mut update = Update::default();
    for (key, at) in at.fields(&keys::UPDATE, notes)? {
        match key {
            "order" => {
                let orders = [("start-first", UpdateOrder::StartFirst), ("stop-first", UpdateOrder::StopFirst)];
                update.order = at.one_of(&orders)?;
            }
            "parallelism" => update.parallelism = at.number(0..=u64::from(REPLICAS_MAX))?,
            "delay" => update.delay_ms = at.read(duration_ms, DURATION)?,
            "failure_action" => {
                update.failure_action = at.one_of(&[
                    ("pause", FailureAction::Pause),
                    ("continue", FailureAction::Continue),
                    ("rollback", FailureAction::Rollback),
                ])?;
            }
            _ => update.monitor_ms = at.read(duration_ms, DURATION)?,
        }
    }
    Ok(update)
}

fn again(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Again, Broken> {
    let mut again = Again { when: Restart::Always, ..Again::default() };
    let mut times = None;
    for (key, at) in at.fields(&keys::RESTART, notes)? {
        match key {
            "condition" => {
                let conditions =
                    [("none", Restart::Never), ("on-failure", Restart::Failure(None)), ("any", Restart::Always)];
                again.when = at.one_of(&conditions)?;
            }
            "delay" => again.delay_ms = at.read(duration_ms, DURATION)?,
            "max_attempts" => times = Some((at.number(1..=1000)?, at)),
            _ => again.window_ms = at.read(duration_ms, DURATION)?,
        }
    }
    match (again.when, times) {
        (Restart::Failure(_), Some((times, _))) => again.when = Restart::Failure(Some(times)),
        (_, Some((_, at))) => return Err(at.broken("only with condition: on-failure it is counted", None)),
        _ => {}
    }
    Ok(again)
}
