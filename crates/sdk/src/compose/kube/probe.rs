//! Read probes as the one test of a container.

use super::{
    super::{
        at::At,
        broken::{Broken, Note},
        health::{Health, Probe},
    },
    keys,
};

/// Longest times and counts that a probe may say.
const SECS_MAX: u64 = 86_400;

/// A probe as it stands.
struct Said<'a> {
    at: At<'a>,
    command: Option<Vec<String>>,
    delay_secs: u64,
    period_secs: u64,
    timeout_secs: u64,
    failures: u64,
}

/// The test of probes in this order: of being alive, being ready, having started. The image's own where none has a command.
pub(super) fn health(probes: [Option<&At<'_>>; 3], notes: &mut Vec<Note>) -> Result<Option<Health>, Broken> {
    let [alive, ready, started] = probes.map(|at| at.map(|at| said(at, notes)).transpose());
    let (alive, ready, started) = (alive?, ready?, started?);
    // Having started is asked only until it has.
    let start_secs = started.as_ref().map_or(0, |probe| probe.delay_secs + probe.period_secs * probe.failures);
    let mut all = [alive, ready, started].into_iter().flatten().filter(|probe| probe.command.is_some());
    let Some(first) = all.next() else { return Ok(None) };
    for other in all.filter(|other| other.command != first.command) {
        let words = format!("a container has one test: {} is asked in its place", first.at.path);
        notes.push(other.at.note(&words));
    }
    if first.at.path.ends_with(".readinessProbe") {
        notes.push(first.at.note("a container that fails it is started again, too"));
    }
    Ok(Some(Health::Asked(Probe {
        test: first.command,
        interval_ms: first.period_secs * 1000,
        timeout_ms: first.timeout_secs * 1000,
        retries: first.failures,
        start_period_ms: start_secs.max(first.delay_secs) * 1000,
        ..Probe::default()
    })))
}

fn said<'a>(at: &At<'a>, notes: &mut Vec<Note>) -> Result<Said<'a>, Broken> {
    let mut said = Said { at: at.clone(), command: None, delay_secs: 0, period_secs: 10, timeout_secs: 1, failures: 3 };
    let mut ways = 0;
    for (key, at) in at.fields_or(&keys::PROBE, notes, "")? {
        match key {
            "exec" => {
                ways += 1;
                for (_, at) in at.fields_or(&keys::EXEC, notes, "")? {
                    said.command = Some(at.texts()?).filter(|words| !words.is_empty());
                }
                if said.command.is_none() {
                    return Err(at.broken("a command, as command: [\"true\"]", None));
                }
            }
            "httpGet" | "tcpSocket" | "grpc" => ways += 1,
            "initialDelaySeconds" => said.delay_secs = at.number(0..=SECS_MAX)?,
            "periodSeconds" => said.period_secs = at.number(1..=SECS_MAX)?,
            "timeoutSeconds" => said.timeout_secs = at.number(1..=SECS_MAX)?,
            "failureThreshold" => said.failures = at.number(1..=1000)?,
            _ => {}
        }
    }
    if ways != 1 {
        return Err(at.broken("one of exec, httpGet, tcpSocket, grpc", None));
    }
    Ok(said)
}
