//! Turn a compose file into apps of one project, which reach each other by the names of their services.
//!
//! ```text
//! Compose ─ of ─► Stack: a Spec per service ─ connect, with what images expose ─► Specs that reach each other
//! ```
//! What the file says and nothing here does is refused with its line, before anybody is asked for anything; what is done
//! otherwise than docker does is noted.

mod door;
mod given;
mod reach;
mod service;
#[cfg(test)]
mod tests;

pub use given::{Beside, Found};

use crate::{
    app::{Draft, Spec},
    compose::{Broken, Compose, Condition, Note, Service, Source},
};
use hodei_types::{app::is_name, market::Class};
use std::collections::BTreeMap;

/// Apps of one compose file.
#[derive(Clone, Debug)]
pub struct Stack {
    pub project: String,
    /// Those that others wait for first.
    pub members: Vec<Member>,
    /// What is not done, or done otherwise than docker does, in the order of lines.
    pub notes: Vec<Note>,
}

/// A service as the app it is.
#[derive(Clone, Debug)]
pub struct Member {
    /// As the file has it.
    pub service: Service,
    pub spec: Spec,
}

impl Member {
    /// `PROJECT-SERVICE`, a label of DNS.
    pub fn app(&self) -> &str {
        &self.spec.name
    }
}

impl Stack {
    /// What is to run of a file; `terms` are said for all services, and win over the file's. `beside` reads files of the
    /// project that services are given.
    pub fn of(compose: &Compose, project: &str, terms: &Draft, beside: Beside<'_>) -> Result<Self, Broken> {
        let mut notes = compose.notes.clone();
        if let Some(note) = notes.iter().find(|note| note.is_later) {
            let (key, rule) = note.words.split_once(": ").unwrap_or(("the file", &note.words));
            return Err(broken(note.line, key, "said", rule));
        }
        let project = project_of(compose, project)?;
        let mut members: Vec<Member> = Vec::new();
        let mut names: BTreeMap<String, &Service> = BTreeMap::new();
        for service in &compose.services {
            let app = format!("{project}-{}", label(&service.name));
            let key = format!("services.{}", service.name);
            if !is_name(&app) {
                let rule = "PROJECT-SERVICE is a label of DNS: 1 to 63 of a-z, 0-9 and -, with no - first or last";
                return Err(broken(service.line, &key, &format!("{app:?}"), rule));
            }
            if let Some(other) = names.insert(app.clone(), service) {
                let rule =
                    format!("line {} is that app already, as {}: call one of them otherwise", other.line, other.name);
                return Err(broken(service.line, &key, &format!("{app:?}"), &rule));
            }
            let spec = service::spec((compose, service), app, terms, (&mut *beside, &mut notes))?;
            members.push(Member { service: service.clone(), spec });
        }
        alone(&members)?;
        waited(&members)?;
        notes.sort();
        notes.dedup();
        Ok(Self { project, members, notes })
    }
}

/// Refuses a volume that two services would write.
fn alone(members: &[Member]) -> Result<(), Broken> {
    let mut written: BTreeMap<&str, &Member> = BTreeMap::new();
    for member in members {
        for mount in &member.service.mounts {
            let Source::Volume(name) = &mount.source else { continue };
            if let Some(other) = written.insert(name, member) {
                let key = format!("services.{}.volumes", member.service.name);
                let rule = format!(
                    "not yet: it is a disk of one host, and {} writes it: let one service have it",
                    other.service.name
                );
                return Err(broken(mount.line, &key, &format!("volume {name:?}"), &rule));
            }
        }
    }
    Ok(())
}

/// Refuses what nobody could wait for.
fn waited(members: &[Member]) -> Result<(), Broken> {
    for member in members {
        for on in &member.service.depends_on {
            let key = format!("services.{}.depends_on", member.service.name);
            if on.condition == Condition::Completed {
                let rule = "not yet: what ends is not waited for: let the image do it before it serves";
                return Err(broken(on.line, &key, "service_completed_successfully", rule));
            }
            let other = members.iter().find(|other| other.service.name == on.service);
            if other.is_some_and(|other| other.spec.terms.class == Class::Deferrable as u8) {
                let rule = "its order may wait for an offer, and what waits for it would run without: say class: instant there";
                return Err(broken(on.line, &key, &format!("{:?}", on.service), rule));
            }
        }
    }
    Ok(())
}

fn project_of(compose: &Compose, project: &str) -> Result<String, Broken> {
    let name = label(project);
    if is_name(&name) {
        return Ok(name);
    }
    let line = compose.services.first().map_or(1, |service| service.line);
    Err(broken(line, "the project", &format!("{project:?}"), "a label of DNS: say one as name: shop, or by -p shop"))
}

/// As a label of DNS may have it.
fn label(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.', ' '], "-").trim_matches('-').to_owned()
}

fn broken(line: usize, key: &str, found: &str, rule: &str) -> Broken {
    Broken { file: None, line, key: key.to_owned(), found: found.to_owned(), rule: rule.to_owned(), nearest: None }
}

fn note(line: usize, key: &str, words: &str) -> Note {
    Note { line, words: format!("{key}: {words}"), is_later: false }
}
