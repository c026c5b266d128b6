//! Choose the port of a service that answers HTTP at the door.

use super::{broken, note};
use crate::compose::{Broken, Note, Port, Service, speaks};
use std::collections::BTreeSet;

/// Where a service answers HTTP to who is outside; 0 for nowhere, as where it publishes nothing.
pub(super) fn port(service: &Service, notes: &mut Vec<Note>) -> Result<u16, Broken> {
    let key = format!("services.{}.ports", service.name);
    let said = service.hodei.terms.port.and_then(|port| u16::try_from(port).ok());
    let targets: BTreeSet<u16> = service.ports.iter().map(|port| port.target).collect();
    let door = said.or(targets.first().copied().filter(|_| targets.len() == 1));
    for port in &service.ports {
        if door != Some(port.target) {
            let rule = "one port of a service is published, and answers HTTP: say which as x-hodei: {port: 80}, and move \
                        what other services reach to expose";
            return Err(broken(port.line, &key, &port.target.to_string(), rule));
        }
        speaks_http(port, &key)?;
        let app = &service.name;
        let words = format!("it is published at {app}'s URL by `hodei app serve`, whatever port is said before the :");
        if port.published.is_some() {
            notes.push(note(port.line, &key, &words));
        }
    }
    Ok(door.unwrap_or(0))
}

fn speaks_http(port: &Port, key: &str) -> Result<(), Broken> {
    let other = speaks(port.target);
    let other = match port.app_protocol.as_deref() {
        Some("http") => None,
        Some(said) => Some(said),
        None => other,
    };
    let Some(other) = other else { return Ok(()) };
    let found = format!("{}, {other}", port.target);
    let rule = "only HTTP is published so far: say it as expose, where other services reach it; or app_protocol: http, if \
                it is";
    Err(broken(port.line, key, &found, rule))
}
