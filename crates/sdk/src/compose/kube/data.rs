//! Read ConfigMaps and Secrets.

use super::{
    super::{
        at::At,
        broken::{Broken, Note},
    },
    keys,
    object::{Kind, Object},
};
use std::collections::BTreeMap;

/// Texts by their keys, none for bytes that are no text.
pub(super) type Data = BTreeMap<String, Option<String>>;

/// What environments and files are taken from, by the names of objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Stores {
    pub(super) configs: BTreeMap<String, Data>,
    pub(super) secrets: BTreeMap<String, Data>,
}

impl Stores {
    /// Of that kind the one of that name.
    pub(super) fn get(&self, is_secret: bool, name: &str) -> Option<&Data> {
        if is_secret { self.secrets.get(name) } else { self.configs.get(name) }
    }

    pub(super) fn add(&mut self, object: &Object<'_>, notes: &mut Vec<Note>) -> Result<(), Broken> {
        let is_secret = object.kind == Kind::Secret;
        let table = if is_secret { &keys::SECRET } else { &keys::DATA };
        let mut data = Data::new();
        let mut written = Vec::new();
        for (key, at) in object.fields(table, notes)? {
            match key {
                "data" if is_secret => bytes(&at, &mut data)?,
                "binaryData" => bytes(&at, &mut data)?,
                "data" | "stringData" => written.push(at),
                _ => {}
            }
        }
        // What is written out wins over what is encoded, wherever it stands.
        for at in written {
            for (name, at) in at.entries()? {
                check(name, &at)?;
                // A key without a value is one of no bytes.
                let text = if at.is_null() { "" } else { at.text()? };
                data.insert(name.to_owned(), Some(text.to_owned()));
            }
        }
        let all = if is_secret { &mut self.secrets } else { &mut self.configs };
        all.insert(object.name.to_owned(), data);
        Ok(())
    }
}

fn bytes(at: &At<'_>, data: &mut Data) -> Result<(), Broken> {
    for (name, at) in at.entries()? {
        check(name, &at)?;
        let text: String = if at.is_null() { String::new() } else { at.text()?.split_whitespace().collect() };
        // What it says is not shown: it may be a secret.
        let broken = || Broken { found: "another text".into(), ..at.broken("base64, as base64 -w0 prints it", None) };
        let bytes = base64_simd::STANDARD.decode_to_vec(text.as_bytes()).map_err(|_| broken())?;
        data.insert(name.to_owned(), String::from_utf8(bytes).ok());
    }
    Ok(())
}

fn check(name: &str, at: &At<'_>) -> Result<(), Broken> {
    let is_key = (1..=253).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !name.starts_with("..")
        && name != ".";
    if is_key {
        return Ok(());
    }
    let found = super::super::broken::quote(name);
    Err(Broken { found, ..at.broken("keys are 1 to 253 letters, digits, -, _ and .", None) })
}
