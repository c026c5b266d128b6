//! Let services of a common network reach each other by name.

use super::{Member, Stack, broken, note, service::asked};
use crate::{
    app::Runs,
    compose::{Broken, Health, Note, Service},
    image::Config,
};
use hodei_types::{
    app::{
        container::{LINKS_MAX, PORTS_MAX, Reach},
        is_name,
    },
    transport::NodeKey,
};
use std::collections::{BTreeMap, BTreeSet};

/// A service is on this one where it names none.
const DEFAULT: &str = "default";

impl Stack {
    /// Fills in what only images say, one for each member: their ports, and their tests. `viewer` tells by which key the
    /// ledger knows an app, before it is deployed as after.
    pub fn connect(&mut self, images: &[&Config], viewer: impl Fn(&str) -> NodeKey) -> Result<(), Broken> {
        let mut ports = Vec::new();
        for (member, image) in self.members.iter_mut().zip(images) {
            test(member, image)?;
            ports.push(heard(member, image)?);
        }
        let mut all = Vec::new();
        for (at, member) in self.members.iter().enumerate() {
            all.push(reaches(member, &ports[at], self.members.iter().zip(&ports), &viewer, &mut self.notes)?);
        }
        for (member, reaches) in self.members.iter_mut().zip(all) {
            if let Runs::Container(contained) = &mut member.spec.runs {
                contained.reaches = reaches;
            }
        }
        self.notes.sort();
        self.notes.dedup();
        Ok(())
    }
}

/// The image's test, at the times that the file says.
fn test(member: &mut Member, image: &Config) -> Result<(), Broken> {
    let Some(Health::Asked(probe)) = &member.service.health else { return Ok(()) };
    if probe.test.is_some() {
        return Ok(());
    }
    let Some(check) = image.health.as_ref().filter(|check| !check.test.is_empty()) else {
        let key = format!("services.{}.healthcheck", member.service.name);
        return Err(broken(
            member.service.line,
            &key,
            "without a test",
            "the image has none either: say test: [CMD, …]",
        ));
    };
    if let Runs::Container(contained) = &mut member.spec.runs {
        contained.health = Some(asked(probe, check.test.clone()));
    }
    Ok(())
}

/// Where a service may be reached: what is published, said as expose, and exposed by its image.
fn heard(member: &Member, image: &Config) -> Result<BTreeSet<u16>, Broken> {
    let service = &member.service;
    let published = service.ports.iter().map(|port| port.target);
    let door = match &member.spec.runs {
        Runs::Container(contained) => contained.port.filter(|port| *port != 0),
        Runs::Component(_) => None,
    };
    let ports: BTreeSet<u16> =
        published.chain(service.expose.iter().copied()).chain(image.ports.iter().copied()).chain(door).collect();
    if ports.len() > PORTS_MAX {
        let rule = format!("at most {PORTS_MAX} ports of a service are reached: expose fewer");
        return Err(broken(
            service.line,
            &format!("services.{}.expose", service.name),
            &ports.len().to_string(),
            &rule,
        ));
    }
    Ok(ports)
}

fn networks(service: &Service) -> BTreeMap<&str, &[String]> {
    if service.networks.is_empty() {
        return [(DEFAULT, &[][..])].into();
    }
    service.networks.iter().map(|on| (on.network.as_str(), &on.aliases[..])).collect()
}

/// What one service reaches of all.
fn reaches<'a>(
    member: &Member,
    own: &BTreeSet<u16>,
    all: impl Iterator<Item = (&'a Member, &'a BTreeSet<u16>)>,
    viewer: &impl Fn(&str) -> NodeKey,
    notes: &mut Vec<Note>,
) -> Result<Vec<Reach>, Broken> {
    let service = &member.service;
    let here = networks(service);
    let mut named: BTreeMap<&str, (&Member, Vec<u16>)> = BTreeMap::new();
    for (other, ports) in all.filter(|(other, _)| other.app() != member.app()) {
        let there = networks(&other.service);
        let common = there.iter().filter(|(network, _)| here.contains_key(*network));
        let aliases: Vec<&[String]> = common.map(|(_, aliases)| *aliases).collect();
        if aliases.is_empty() {
            continue;
        }
        let key = format!("services.{}", other.service.name);
        if ports.is_empty() {
            let words = "no service reaches it: neither the file nor its image says a port: say it as expose";
            notes.push(note(other.service.line, &key, words));
            continue;
        }
        // An address of the container's own loopback stands for the other: what hears at all addresses needs the port alone.
        let free: Vec<u16> = ports.difference(own).copied().collect();
        let taken = ports.intersection(own).next();
        let needs = service.depends_on.iter().find(|on| on.service == other.service.name);
        if let Some(port) = taken {
            let words = format!("it hears at {port} as {} does, and is not reached there from it", service.name);
            match needs {
                Some(on) if free.is_empty() => {
                    let rule = format!("{words}: let one of them hear at another port");
                    let key = format!("services.{}.depends_on", service.name);
                    return Err(broken(on.line, &key, &format!("{:?}", other.service.name), &rule));
                }
                _ => notes.push(note(other.service.line, &key, &words)),
            }
        }
        if free.is_empty() {
            continue;
        }
        let names = aliases.into_iter().flatten().chain([&other.service.name]);
        for name in names {
            if !is_name(name) {
                let rule = "by this name others reach it: 1 to 63 of a-z, 0-9 and -";
                let nearest = Some(super::label(name)).filter(|label| is_name(label)).map(|label| format!("{label:?}"));
                return Err(Broken { nearest, ..broken(other.service.line, &key, &format!("{name:?}"), rule) });
            }
            let first = named.insert(name, (other, free.clone()));
            if let Some((first, _)) = first.filter(|(first, _)| first.app() != other.app()) {
                let rule = format!("{} is called so too: a name is one service's", first.service.name);
                return Err(broken(other.service.line, &key, &format!("{name:?}"), &rule));
            }
        }
    }
    if named.len() > LINKS_MAX {
        let rule = format!("at most {LINKS_MAX} names of others: put it on a network of those that it needs");
        let key = format!("services.{}.networks", service.name);
        return Err(broken(service.line, &key, &format!("{} names", named.len()), &rule));
    }
    let reach = |(name, (other, ports)): (&str, (&Member, Vec<u16>))| Reach {
        name: name.to_owned(),
        app: viewer(other.app()),
        ports,
    };
    Ok(named.into_iter().map(reach).collect())
}
