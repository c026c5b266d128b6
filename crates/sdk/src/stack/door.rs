//! Choose the port of a service that answers HTTP at the door.

use super::{broken, note};
use crate::compose::{Broken, Note, Port, Service};
use std::collections::BTreeSet;

/// Ports that by common usage speak something else than HTTP, and what.
const OTHERS: [(u16, &str); 20] = [
    (21, "FTP"),
    (22, "SSH"),
    (25, "SMTP"),
    (53, "DNS"),
    (110, "POP3"),
    (143, "IMAP"),
    (389, "LDAP"),
    (443, "TLS"),
    (465, "SMTP"),
    (587, "SMTP"),
    (993, "IMAP"),
    (1433, "SQL Server"),
    (1883, "MQTT"),
    (3306, "MySQL"),
    (5432, "PostgreSQL"),
    (5672, "AMQP"),
    (6379, "Redis"),
    (9092, "Kafka"),
    (11211, "memcached"),
    (27017, "MongoDB"),
];

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
    let other = OTHERS.iter().find(|(number, _)| *number == port.target).map(|(_, name)| *name);
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
