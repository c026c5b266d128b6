//! Work off `extends`: a service that is another one of the file, and more.

use super::{
    at::At,
    broken::{Broken, Note},
    keys,
    tree::{Entry, NODES_MAX, Node, Value},
};
use crate::nearest::nearest;
use std::collections::BTreeMap;

/// Services that extend each other in a row.
const CHAIN_MAX: usize = 16;

/// Each service with all that it extends; of what is said twice its own wins.
pub(super) fn extend(services: &At<'_>, notes: &mut Vec<Note>) -> Result<Vec<Entry>, Broken> {
    let all = services.entries()?;
    let by_name: BTreeMap<&str, &At<'_>> = all.iter().map(|(name, at)| (*name, at)).collect();
    let mut nodes = 0;
    let mut extended = Vec::new();
    for (name, at) in &all {
        let mut node = (*at.node).clone();
        let mut chain = vec![*name];
        let mut last = (*at).clone();
        while let Some((base, said)) = base(&last, notes)? {
            let names: Vec<&str> = by_name.keys().copied().collect();
            let missing = || said.broken("a service of this file", nearest(base, &names));
            let next = by_name.get(base).ok_or_else(missing)?;
            if chain.contains(&base) || chain.len() > CHAIN_MAX {
                let rule = format!(
                    "no service extends itself, nor {CHAIN_MAX} others in a row: {} → {base}",
                    chain.join(" → ")
                );
                return Err(said.broken(rule, None));
            }
            chain.push(base);
            nodes += next.node.weight().nodes;
            if nodes > NODES_MAX {
                return Err(said.broken(format!("with all that is extended at most {NODES_MAX} values are read"), None));
            }
            node = over(next.node, node, &[]);
            last = (*next).clone();
        }
        if let Value::Map(entries) = &mut node.value {
            entries.retain(|entry| entry.key != "extends");
        }
        extended.push(Entry { line: at.line, key: (*name).to_owned(), node });
    }
    Ok(extended)
}

/// What a service extends, and where it says so.
fn base<'a>(at: &At<'a>, notes: &mut Vec<Note>) -> Result<Option<(&'a str, At<'a>)>, Broken> {
    if !at.is_map() {
        return Ok(None);
    }
    let Some((_, said)) = at.entries()?.into_iter().find(|(key, at)| *key == "extends" && !at.is_null()) else {
        return Ok(None);
    };
    if let Some(base) = said.scalar() {
        return Ok(Some((base, said)));
    }
    let service = said.fields(&keys::EXTENDS, notes)?.pop();
    let (_, at) = service.ok_or_else(|| said.broken("service: NAME", None))?;
    Ok(Some((at.said()?, at)))
}

/// Keys whose lists are one thing, and replaced as one.
const WHOLE: [&str; 4] = ["command", "entrypoint", "test", "profiles"];
/// Keys that may be said as a list of `NAME=value` or as a mapping.
const PAIRS: [&str; 3] = ["environment", "args", "extra_hosts"];

/// `own` over `base`, at a path.
fn over(base: &Node, own: Node, path: &[&str]) -> Node {
    let key = path.last().copied().unwrap_or_default();
    let Node { line, value } = own;
    let value = match (&base.value, value) {
        (_, Value::Null) => base.value.clone(),
        (Value::Map(base), Value::Map(own)) => Value::Map(maps(base, own, path)),
        (Value::List(base), Value::Map(own)) if PAIRS.contains(&key) => Value::Map(maps(&mapped(base), own, path)),
        (Value::Map(base), Value::List(own)) if PAIRS.contains(&key) => Value::Map(maps(base, mapped(&own), path)),
        (Value::List(base), Value::List(own)) if !WHOLE.contains(&key) => {
            let is_said = |node: &Node| own.iter().any(|other| same(key, node, other));
            Value::List(base.iter().filter(|node| !is_said(node)).cloned().chain(own.iter().cloned()).collect())
        }
        (_, own) => own,
    };
    Node { line, value }
}

fn maps(base: &[Entry], own: Vec<Entry>, path: &[&str]) -> Vec<Entry> {
    let mut own: BTreeMap<String, Entry> = own.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    let mut all: Vec<Entry> = Vec::new();
    for entry in base.iter().filter(|entry| !(path.is_empty() && entry.key == "extends")) {
        all.push(match own.remove(&entry.key) {
            None => entry.clone(),
            Some(Entry { line, key, node }) => {
                let below: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
                let node = over(&entry.node, node, &below);
                Entry { line, key, node }
            }
        });
    }
    all.extend(own.into_values());
    all
}

/// A list of `NAME=value` as a mapping; of what is said twice the last.
fn mapped(list: &[Node]) -> Vec<Entry> {
    let mut all: BTreeMap<String, Entry> = BTreeMap::new();
    for node in list {
        let Value::Scalar(text) = &node.value else { continue };
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Value::Scalar(value.to_owned())),
            None => (text.as_str(), Value::Null),
        };
        let node = Node { line: node.line, value };
        all.insert(key.to_owned(), Entry { line: node.line, key: key.to_owned(), node });
    }
    all.into_values().collect()
}

/// Whether two things of a list are one: the same, or mounted at the same path.
fn same(key: &str, one: &Node, other: &Node) -> bool {
    match (key, target(one), target(other)) {
        ("volumes", Some(one), Some(other)) => one == other,
        _ => one.value == other.value,
    }
}

fn target(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(text) => {
            let mut parts = text.split(':');
            let first = parts.next()?;
            Some(parts.next().unwrap_or(first))
        }
        _ => match &node.get("target")?.node.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        },
    }
}
