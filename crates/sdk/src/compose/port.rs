//! Read ports: `8080:80`, `127.0.0.1:8080:80/tcp`, ranges, and the long form.

use super::{
    at::At,
    broken::{Broken, Note},
    keys,
};
use std::net::IpAddr;

/// Ports a service may have, ranges counted one by one.
pub const PORTS_MAX: usize = 256;

const RULE: &str = "[[IP:]PUBLISHED:]TARGET[/tcp], as \"8080:80\", ports 1 to 65535, ranges as \"8000-8009:8000-8009\"";

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

/// What a port is known for, where that is something else than HTTP.
pub(crate) fn speaks(port: u16) -> Option<&'static str> {
    OTHERS.iter().find(|(number, _)| *number == port).map(|(_, name)| *name)
}

/// A port of a container that is reached from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub line: usize,
    /// The address of the door, where one is said.
    pub host: Option<IpAddr>,
    /// The door's port; any that is free without it.
    pub published: Option<u16>,
    /// The container's.
    pub target: u16,
    pub name: Option<String>,
    /// As `http`, where that is said.
    pub app_protocol: Option<String>,
}

impl Port {
    /// Whether both cannot be at one door.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let is_any = |host: &Option<IpAddr>| host.is_none_or(|host| host.is_unspecified());
        let is_one = self.host == other.host || is_any(&self.host) || is_any(&other.host);
        self.published.is_some() && self.published == other.published && is_one
    }
}

pub(super) fn ports(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Vec<Port>, Broken> {
    let mut ports = Vec::new();
    for item in at.items()? {
        match item.scalar() {
            Some(text) => ports.extend(short(&item, text)?),
            None => ports.extend(long(&item, notes)?),
        }
        if ports.len() > PORTS_MAX {
            return Err(item.broken(format!("at most {PORTS_MAX} ports a service"), None));
        }
    }
    Ok(ports)
}

/// Ports that services reach of each other.
pub(super) fn expose(at: &At<'_>) -> Result<Vec<u16>, Broken> {
    let mut ports = Vec::new();
    for item in at.items()? {
        let text = item.text()?;
        let (range, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
        tcp(&item, protocol)?;
        let (first, last) =
            span(range).ok_or_else(|| item.broken("a port or a range, as \"8080\" or \"8000-8009\"", None))?;
        ports.extend(first..=last);
        if ports.len() > PORTS_MAX {
            return Err(item.broken(format!("at most {PORTS_MAX} ports a service"), None));
        }
    }
    Ok(ports)
}

fn tcp(at: &At<'_>, protocol: &str) -> Result<(), Broken> {
    if protocol.eq_ignore_ascii_case("tcp") {
        return Ok(());
    }
    let nearest = at.scalar().map(|text| format!("{:?}", text.split('/').next().unwrap_or_default()));
    let rule = "streams are carried to a container, so its ports are tcp: remove it where the service works without";
    Err(at.broken(rule, nearest.filter(|nearest| !nearest.contains("udp"))))
}

/// First and last of a range.
fn span(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| is_number && *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

fn pairs(at: &At<'_>, published: &str, target: &str) -> Result<Vec<(Option<u16>, u16)>, Broken> {
    let broken = || at.broken(RULE, None);
    let (first, last) = span(target).ok_or_else(broken)?;
    if usize::from(last - first) >= PORTS_MAX {
        return Err(at.broken(format!("at most {PORTS_MAX} ports a service"), None));
    }
    if published.is_empty() {
        return Ok((first..=last).map(|port| (None, port)).collect());
    }
    let (from, to) = span(published).ok_or_else(broken)?;
    if to - from != last - first {
        let rule = "a range is published as one that is as long";
        return Err(at.broken(rule, Some(format!("\"{from}:{first}\""))));
    }
    Ok((first..=last).map(|port| (Some(from + (port - first)), port)).collect())
}

fn address(at: &At<'_>, text: &str) -> Result<IpAddr, Broken> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| at.broken("an address of the door, as 127.0.0.1", Some("\"127.0.0.1\"".into())))
}

fn short(at: &At<'_>, text: &str) -> Result<Vec<Port>, Broken> {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    tcp(at, protocol)?;
    let (rest, target) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (host, published) = rest.rsplit_once(':').map_or((None, rest), |(host, port)| (Some(host), port));
    let host = host.map(|host| address(at, host)).transpose()?;
    let port = |(published, target)| Port { line: at.line, host, published, target, name: None, app_protocol: None };
    Ok(pairs(at, published, target)?.into_iter().map(port).collect())
}

fn long(at: &At<'_>, notes: &mut Vec<Note>) -> Result<Vec<Port>, Broken> {
    let (mut target, mut published, mut host, mut name, mut app_protocol) = ("", "", None, None, None);
    for (key, at) in at.fields(&keys::PORT, notes)? {
        match key {
            "target" => target = at.text()?,
            "published" => published = at.text()?,
            "host_ip" => host = Some(address(&at, at.text()?)?),
            "protocol" => tcp(&at, at.text()?)?,
            "name" => name = Some(at.said()?.to_owned()),
            "app_protocol" => app_protocol = Some(at.said()?.to_owned()),
            _ => {}
        }
    }
    if target.is_empty() {
        return Err(at.broken("a port has a target, as target: 80", None));
    }
    let line = at.line;
    let port = |(published, target)| Port {
        line,
        host,
        published,
        target,
        name: name.clone(),
        app_protocol: app_protocol.clone(),
    };
    Ok(pairs(at, published, target)?.into_iter().map(port).collect())
}
