//! Read the variables of a container: said, or taken from ConfigMaps and Secrets.

use super::{
    super::{
        at::At,
        broken::{Broken, Note},
    },
    data::{Data, Stores},
    fill::fill,
    keys,
};
use crate::nearest::nearest;
use std::collections::BTreeMap;

/// Variables by their names.
pub(super) type Variables = BTreeMap<String, String>;

/// What a reference names: the ConfigMap or Secret, and whether it may be missing.
struct Named<'a> {
    name: &'a str,
    key: Option<&'a str>,
    is_optional: bool,
}

/// All variables of a container; those said one by one win, and may use what was said before them.
pub(super) fn variables(
    env: Option<&At<'_>>,
    from: Option<&At<'_>>,
    stores: &Stores,
    (room, notes): (&mut usize, &mut Vec<Note>),
) -> Result<Variables, Broken> {
    let mut all = Variables::new();
    for item in from.map(At::items).transpose()?.into_iter().flatten() {
        whole(&item, stores, &mut all, (&mut *room, &mut *notes))?;
    }
    for item in env.map(At::items).transpose()?.into_iter().flatten() {
        let (mut name, mut value, mut taken) = (None, None, None);
        for (key, at) in item.fields_or(&keys::ENV, notes, "")? {
            match key {
                "name" => name = Some(at),
                "value" => value = Some(at),
                _ => taken = Some(at),
            }
        }
        let name = name.ok_or_else(|| item.broken("a variable has a name", None))?;
        if value.is_some() && taken.is_some() {
            return Err(item.broken("value or valueFrom, not both", None));
        }
        let text = match (&value, &taken) {
            (Some(at), _) => fill(at.text()?, &all, room).map_err(|fault| fault.at(None, at.line, &at.path))?,
            (None, Some(at)) => match one(at, stores, notes)? {
                Some(text) => charged(text, room, at)?,
                None => continue,
            },
            (None, None) => String::new(),
        };
        put(&name, name.said()?, text, &mut all)?;
    }
    Ok(all)
}

fn put(at: &At<'_>, name: &str, text: String, all: &mut Variables) -> Result<(), Broken> {
    if name.is_empty() || name.contains(['\0', '=']) || text.contains('\0') {
        return Err(at.broken("a name without =, and a value, neither with zero bytes", None));
    }
    all.insert(name.to_owned(), text);
    Ok(())
}

/// A copy that is counted.
fn charged(text: &str, room: &mut usize, at: &At<'_>) -> Result<String, Broken> {
    *room = room.checked_sub(text.len()).ok_or_else(|| at.broken("variables bring more text than is read", None))?;
    Ok(text.to_owned())
}

fn named<'a>(at: &At<'a>, has_key: bool, notes: &mut Vec<Note>) -> Result<Named<'a>, Broken> {
    let (mut name, mut key, mut is_optional) = (None, None, false);
    let table = if has_key { &keys::KEY_REF } else { &keys::REF };
    for (field, at) in at.fields_or(table, notes, "")? {
        match field {
            "name" => name = Some(at.said()?),
            "key" => key = Some(at.said()?),
            _ => is_optional = at.flag()?,
        }
    }
    let name = name.ok_or_else(|| at.broken("it says the name of what it takes from", None))?;
    if has_key && key.is_none() {
        return Err(at.broken("it says the key that it takes", None));
    }
    Ok(Named { name, key, is_optional })
}

/// The object that a reference names, if it may be missing perhaps none.
pub(super) fn store<'a>(
    at: &At<'_>,
    stores: &'a Stores,
    (is_secret, name, is_optional): (bool, &str, bool),
) -> Result<Option<&'a Data>, Broken> {
    let found = stores.get(is_secret, name);
    if found.is_some() || is_optional {
        return Ok(found);
    }
    let (kind, names): (_, Vec<&str>) = match is_secret {
        true => ("Secret", stores.secrets.keys().map(String::as_str).collect()),
        false => ("ConfigMap", stores.configs.keys().map(String::as_str).collect()),
    };
    let rule = format!("a {kind} of these files: add it, or say optional: true");
    Err(Broken { found: super::super::broken::quote(name), ..at.broken(rule, nearest(name, &names)) })
}

/// The value that a reference takes; none where it may be missing, and is.
fn one<'a>(at: &At<'_>, stores: &'a Stores, notes: &mut Vec<Note>) -> Result<Option<&'a str>, Broken> {
    let mut sources = at.fields_or(&keys::VALUE_FROM, notes, "")?;
    let (Some((kind, at)), None) = (sources.pop(), sources.pop()) else {
        return Err(at.broken("one of configMapKeyRef, secretKeyRef", None));
    };
    let Named { name, key, is_optional } = named(&at, true, notes)?;
    let key = key.unwrap_or_default();
    let Some(data) = store(&at, stores, (kind == "secretKeyRef", name, is_optional))? else { return Ok(None) };
    match data.get(key) {
        Some(Some(text)) => Ok(Some(text)),
        Some(None) => Err(at.broken("a text: a variable has no other bytes", None)),
        None if is_optional => Ok(None),
        None => {
            let names: Vec<&str> = data.keys().map(String::as_str).collect();
            let rule = format!("a key of {name}: add it there, or say optional: true");
            Err(Broken { found: super::super::broken::quote(key), ..at.broken(rule, nearest(key, &names)) })
        }
    }
}

/// All of a ConfigMap or Secret.
fn whole(
    item: &At<'_>,
    stores: &Stores,
    all: &mut Variables,
    (room, notes): (&mut usize, &mut Vec<Note>),
) -> Result<(), Broken> {
    let (mut prefix, mut sources) = ("", Vec::new());
    for (key, at) in item.fields_or(&keys::ENV_FROM, notes, "")? {
        match key {
            "prefix" => prefix = at.text()?,
            _ => sources.push((key == "secretRef", at)),
        }
    }
    let (Some((is_secret, at)), None) = (sources.pop(), sources.pop()) else {
        return Err(item.broken("one of configMapRef, secretRef", None));
    };
    let Named { name, is_optional, .. } = named(&at, false, notes)?;
    for (key, text) in store(&at, stores, (is_secret, name, is_optional))?.into_iter().flatten() {
        let Some(text) = text else {
            return Err(at.broken(format!("texts: {key} of {name} has other bytes, and a variable has none"), None));
        };
        let key = charged(&format!("{prefix}{key}"), room, &at)?;
        put(&at, &key, charged(text, room, &at)?, all)?;
    }
    Ok(())
}
