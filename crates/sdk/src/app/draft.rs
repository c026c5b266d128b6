//! Read what a person wants of an app, from flags or from `app.toml`, key by key.
//!
//! ```toml
//! name = "hello"
//! component = "hello.wasm"
//! replicas = 3
//! cpu = "0.1"
//! memory = "128MiB"
//! regions = ["local"]
//! term = "24h"
//! budget = "1.5"
//! ```
//! An unknown key is an error with its line, so that a typing mistake never silently means the default.

use super::volume::VolumeDraft;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest file that is read.
pub const FILE_BYTES_MAX: usize = 64 << 10;

/// What was said; nothing of it is checked yet, and what was not said has a default in [`Spec`](super::Spec).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Draft {
    /// What it is called, a label of DNS; without it as the component's file.
    pub name: Option<String>,
    /// The component's file: `.wasm` or `.wat`, relative to this file.
    pub component: Option<String>,
    /// In its place an image: its reference, an archive, a layout's folder, or one that is built.
    pub image: Option<String>,
    /// What is started, in place of the image's, word by word.
    pub entrypoint: Option<Vec<String>>,
    /// What that is started with, in place of the image's, word by word.
    pub command: Option<Vec<String>>,
    /// Variables besides the image's.
    pub env: Option<BTreeMap<String, String>>,
    /// Folder it starts in; the image's without it.
    pub workdir: Option<String>,
    /// Who it runs as; the image's without it.
    pub user: Option<String>,
    /// Where it answers HTTP, 0 for nowhere; the image's only one without it.
    pub port: Option<u64>,
    /// How it is asked whether it is well; as the image says without it.
    pub health: Option<Health>,
    /// `"always"`, `"on-failure"` or `"never"`; always without it.
    pub restart: Option<String>,
    /// From being asked to stop to being killed, as `"10s"`.
    pub stop: Option<String>,
    /// Whether it may write only to its temporary folders.
    pub read_only: Option<bool>,
    /// How many of it run at once, 1 to 64; 1 without it.
    pub replicas: Option<u64>,
    /// CPUs of each replica, as `"0.25"`; `"0.1"` without it.
    pub cpu: Option<String>,
    /// Memory of each replica, as `"256MiB"`, which it is without it.
    pub memory: Option<String>,
    /// Disk of each replica, as `"1GiB"`; none without it.
    pub disk: Option<String>,
    /// Disks of a container that outlive it and its host; then it runs once.
    pub volumes: Option<Vec<VolumeDraft>>,
    /// From one snapshot of these to the next, as `"60s"`, which it is without it.
    pub snapshot: Option<String>,
    /// The bucket that snapshots are kept in; on this machine without it.
    pub bucket: Option<String>,
    /// Rate of each replica, in or out, as `"8Mbit"`; none is held without it.
    pub bandwidth: Option<String>,
    /// What each replica may move in an hour, in or out, as `"1GiB"`; none is held without it.
    pub transfer: Option<String>,
    /// Fuel of one request at most, about an instruction each.
    pub request_fuel: Option<u64>,
    /// Memory of one request at most; not above `memory`.
    pub request_memory: Option<String>,
    /// Time of one request at most, as `"30s"`, to five minutes.
    pub request_deadline: Option<String>,
    /// Bytes of a request's body and of its answer's at most, as `"16MiB"`.
    pub request_body: Option<String>,
    /// Regions it may run in; all without it.
    pub regions: Option<Vec<String>>,
    /// The one country it may run in, as `"ES"`; any without it.
    pub country: Option<String>,
    /// The kind of place it may run in at least, as declared: `"home"`, `"office"` or `"datacentre"`; home without it.
    pub tier: Option<String>,
    /// Renewable part of the power, as declared, in percent at least; none without it.
    pub renewable: Option<u64>,
    /// Most coins a replica may cost an hour; without it a twentieth above what the plan found.
    pub price_max: Option<String>,
    /// Replicas on one host at most, 0 for no limit; 1 without it.
    pub per_host: Option<u64>,
    /// Replicas with one operator at most; no limit without it.
    pub per_operator: Option<u64>,
    /// Replicas on one network at most; no limit without it.
    pub per_network: Option<u64>,
    /// `"instant"`, `"deferrable"`, `"preemptible"` or `"on-call"`; instant without it.
    pub class: Option<String>,
    /// On call: calls of a billed millisecond that are paid ahead; a million without it.
    pub calls: Option<u64>,
    /// How long a deferrable order waits, as `"1h"`.
    pub patience: Option<String>,
    /// How long it is paid ahead, as `"24h"`, which it is without it.
    pub term: Option<String>,
    /// Most coins that are bound for it; no limit without it.
    pub budget: Option<String>,
    /// Coins a host has as collateral at least; any host without it.
    pub collateral_min: Option<String>,
    /// The reservation it runs in: its order's number; the open book without it.
    pub within: Option<u64>,
    /// Availability its hosts promise with a bond at least, as `"99.9%"`; none without it.
    pub availability: Option<String>,
    /// Further hosts that keep a copy of what it runs, 0 to 4; none without it.
    pub spares: Option<u64>,
}

/// How a container is asked whether it is well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// A command, word by word, that ends with 0 where it is well; none switches the image's off.
    pub test: Vec<String>,
    /// From one to the next, as `"30s"`, which it is without it.
    pub every: Option<String>,
    /// Of one, as `"30s"`, which it is without it.
    pub timeout: Option<String>,
    /// Failures in a row that make it unwell; 3 without it.
    pub retries: Option<u64>,
    /// After its start failures do not count for so long; none without it.
    pub start: Option<String>,
}

/// On which line each key stands; empty for flags.
pub type Lines = BTreeMap<String, usize>;

/// Why a file is no draft.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {words}")]
pub struct Unread {
    pub line: usize,
    pub words: String,
}

impl Draft {
    /// Reads `app.toml`, with the lines its keys stand on.
    pub fn parse(text: &str) -> Result<(Self, Lines), Unread> {
        if text.len() > FILE_BYTES_MAX {
            let words = format!("{} bytes, at most {FILE_BYTES_MAX} are read", text.len());
            return Err(Unread { line: 1, words });
        }
        let unread = |error: toml::de::Error| Unread {
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            words: error.message().trim().replace('\n', " "),
        };
        let draft = toml::from_str(text).map_err(unread)?;
        Ok((draft, Self::lines(text).map_err(unread)?))
    }

    /// On which lines keys stand, whichever they are.
    pub(super) fn lines(text: &str) -> Result<Lines, toml::de::Error> {
        let table = toml::de::DeTable::parse(text)?.into_inner();
        let lines = table.keys().map(|key| (key.get_ref().to_string(), line_of(text, key.span().start)));
        Ok(lines.collect())
    }

    /// Whether it says something of a key.
    pub fn says(&self, key: &str) -> bool {
        toml::Table::try_from(self).is_ok_and(|said| said.contains_key(key))
    }

    /// The same, with what only the file says.
    pub fn or(self, file: Self) -> Self {
        Self {
            name: self.name.or(file.name),
            component: self.component.or(file.component),
            image: self.image.or(file.image),
            entrypoint: self.entrypoint.or(file.entrypoint),
            command: self.command.or(file.command),
            workdir: self.workdir.or(file.workdir),
            user: self.user.or(file.user),
            port: self.port.or(file.port),
            health: self.health.or(file.health),
            restart: self.restart.or(file.restart),
            stop: self.stop.or(file.stop),
            read_only: self.read_only.or(file.read_only),
            env: match (self.env, file.env) {
                (Some(own), Some(mut both)) => {
                    both.extend(own);
                    Some(both)
                }
                (own, both) => own.or(both),
            },
            replicas: self.replicas.or(file.replicas),
            cpu: self.cpu.or(file.cpu),
            memory: self.memory.or(file.memory),
            disk: self.disk.or(file.disk),
            volumes: self.volumes.or(file.volumes),
            snapshot: self.snapshot.or(file.snapshot),
            bucket: self.bucket.or(file.bucket),
            bandwidth: self.bandwidth.or(file.bandwidth),
            transfer: self.transfer.or(file.transfer),
            request_fuel: self.request_fuel.or(file.request_fuel),
            request_memory: self.request_memory.or(file.request_memory),
            request_deadline: self.request_deadline.or(file.request_deadline),
            request_body: self.request_body.or(file.request_body),
            regions: self.regions.or(file.regions),
            country: self.country.or(file.country),
            tier: self.tier.or(file.tier),
            renewable: self.renewable.or(file.renewable),
            price_max: self.price_max.or(file.price_max),
            per_host: self.per_host.or(file.per_host),
            per_operator: self.per_operator.or(file.per_operator),
            per_network: self.per_network.or(file.per_network),
            class: self.class.or(file.class),
            calls: self.calls.or(file.calls),
            patience: self.patience.or(file.patience),
            term: self.term.or(file.term),
            budget: self.budget.or(file.budget),
            collateral_min: self.collateral_min.or(file.collateral_min),
            within: self.within.or(file.within),
            availability: self.availability.or(file.availability),
            spares: self.spares.or(file.spares),
        }
    }
}

/// Line of an offset, from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_its_lines() {
        let (draft, lines) = Draft::parse("# mine\nname = \"hello\"\n\nreplicas = 3\nregions = [\"local\"]\n").unwrap();
        assert_eq!((draft.name.as_deref(), draft.replicas), (Some("hello"), Some(3)));
        assert_eq!(draft.regions, Some(vec!["local".to_owned()]));
        assert_eq!((lines["name"], lines["replicas"], lines["regions"]), (2, 4, 5));
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line() {
        let error = Draft::parse("name = \"a\"\nreplica = 3\n").unwrap_err();
        assert_eq!(error.line, 2);
        assert!(error.words.contains("replica") && error.words.contains("replicas"), "{error}");
        assert_eq!(Draft::parse("name = \"a\"\nreplicas = \"3\"\n").unwrap_err().line, 2);
        assert!(Draft::parse(&" ".repeat(FILE_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn every_key_is_in_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/deploy.md");
        let page = std::fs::read_to_string(path).unwrap();
        let keys = page.split("\n## ").find(|part| part.starts_with("app.toml")).expect("a part of its own");
        let listed: Vec<&str> = keys.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let known = Draft::parse("none = 1").unwrap_err().words;
        let known: Vec<&str> = known.split('`').skip(3).step_by(2).collect();
        assert_eq!(listed, known, "as the error of an unknown key lists them");
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let flags = Draft { replicas: Some(5), ..Draft::default() };
        let file = Draft { replicas: Some(1), cpu: Some("2".into()), ..Draft::default() };
        let both = flags.or(file);
        assert_eq!((both.replicas, both.cpu.as_deref()), (Some(5), Some("2")));
        assert!(both.says("replicas") && both.says("cpu") && !both.says("memory"));
    }
}
