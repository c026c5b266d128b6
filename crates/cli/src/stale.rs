//! Tell what a recovery kit lacks of what is here now.
//!
//! Buckets are found by the main key whenever they were made; a budget's key and the keys of the S3 door follow from
//! nothing, and a kit has those of its making.

use crate::{
    context::Contexts,
    earnings::counted,
    fault::{self, Fault, Result},
    purse::Purse,
};
use alloy_primitives::Address;
use hodei_gateway::s3::{Key, Keys};
use hodei_types::kit::Kit;

/// Keys of the S3 door that are named one by one.
const NAMED_MAX: usize = 5;

/// Told where something is made that no kit holds yet.
pub(crate) fn hint(what: &str) -> String {
    format!("A recovery kit made before does not hold {what}: make a new one with `hodei key backup FILE`.")
}

/// How a kit stands to the wallet here of the identity it is of.
pub(crate) struct Here {
    pub(crate) purse: Option<Purse>,
    /// Where there is such a wallet, and it can be read.
    pub(crate) lacks: Option<Vec<String>>,
    /// What could not be compared, and why: nothing here that is broken keeps a kit from being judged.
    pub(crate) notes: Vec<String>,
}

/// Compares a kit with the first wallet here that is of its identity and can be read.
pub(crate) fn compare(kit: &Kit, owner: Address, asked: Option<&str>, contexts: &Contexts) -> Here {
    let mut here = Here { purse: None, lacks: None, notes: Vec::new() };
    let note = |what: &str, fault: Fault| {
        let at = fault.at.map_or(String::new(), |at| format!(" ({at})"));
        format!("{what} was not compared with the kit: {}{at}", fault.message)
    };
    let known = contexts.names().unwrap_or_else(|fault| {
        here.notes.push(note("what is here", fault));
        Vec::new()
    });
    let network = kit.network_key.to_string();
    let others = known.into_iter().filter(|name| Some(name.as_str()) != asked);
    for name in asked.map(str::to_owned).into_iter().chain(others) {
        let what = format!("context {name}");
        let context = match contexts.open(Some(&name)) {
            Ok((_, context)) => context,
            // A demo that has ended left no wallet.
            Err(fault) if fault.code.id == fault::NO_CONTEXT.id => continue,
            Err(fault) => {
                here.notes.push(note(&what, fault));
                continue;
            }
        };
        if context.network_key != network {
            continue;
        }
        let purse = Purse::at(&context.wallet);
        let lacks = match purse.owner() {
            Ok(found) if found != owner => continue,
            Ok(_) => lacks(kit, &purse),
            Err(fault) => Err(fault),
        };
        match lacks {
            Ok(lacks) => {
                (here.purse, here.lacks) = (Some(purse), Some(lacks));
                break;
            }
            Err(fault) => here.notes.push(note(&what, fault)),
        }
    }
    here
}

/// What is otherwise in a kit than in a wallet, in words.
pub(crate) fn lacks(kit: &Kit, purse: &Purse) -> Result<Vec<String>> {
    let mut lacks = Vec::new();
    if let Some(here) = purse.budget_key()?
        && kit.spender.as_ref() != Some(&here)
    {
        lacks.push("it lacks the key of the budget that is set here".to_owned());
    }
    let here = purse.kept_files()?;
    let none = Vec::new();
    for name in here.keys().chain(kit.files.keys().filter(|name| !here.contains_key(*name))) {
        let (now, then) = (here.get(name).unwrap_or(&none), kit.files.get(name).unwrap_or(&none));
        if now != then {
            lacks.extend(of_door(now, then));
        }
    }
    Ok(lacks)
}

/// What differs between two files of keys of the S3 door.
fn of_door(now: &[u8], then: &[u8]) -> Vec<String> {
    let read = |bytes: &[u8]| serde_json::from_slice::<Keys>(bytes).unwrap_or_default();
    let (now, then) = (read(now), read(then));
    let beyond = |more: &[Key], less: &[Key]| -> Vec<String> {
        let is_same =
            |one: &Key, other: &Key| one.access_key_id == other.access_key_id && one.disabled == other.disabled;
        let only = more.iter().filter(|one| !less.iter().any(|other| is_same(one, other)));
        only.map(|one| one.access_key_id.clone()).collect()
    };
    let (made, gone) = (beyond(&now.keys, &then.keys), beyond(&then.keys, &now.keys));
    let list = |ids: &[String]| {
        let more = if ids.len() > NAMED_MAX { " …" } else { "" };
        format!("{}: {}{more}", counted(ids.len() as u64, "key"), ids[..ids.len().min(NAMED_MAX)].join(", "))
    };
    let mut told = Vec::new();
    if !made.is_empty() {
        told.push(format!("it lacks what the S3 door has now, {}", list(&made)));
    }
    if !gone.is_empty() {
        told.push(format!("it would bring back what the S3 door had then, {}", list(&gone)));
    }
    if told.is_empty() {
        told.push("it has older users, quotas or rights of the S3 door".into());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{context::Context, paths::Paths};
    use alloy_primitives::B256;
    use hodei_types::{
        key::SecretKey,
        network::{GROUP_KEY_BYTES, NetworkKey},
    };
    use std::{collections::BTreeMap, path::PathBuf};

    fn kit(main: &SecretKey, purse: &Purse) -> Kit {
        Kit {
            network_key: NetworkKey { genesis: B256::ZERO, group: [0; GROUP_KEY_BYTES] },
            name: "home".into(),
            members: Vec::new(),
            main: main.clone(),
            spender: purse.budget_key().unwrap(),
            files: purse.kept_files().unwrap(),
            made_ms: 1,
        }
    }

    fn keys(ids: &[&str]) -> Vec<u8> {
        let key = |id: &&str| serde_json::json!({ "access_key_id": id, "secret_access_key": "0123456789abcdef", "user": "a", "created_ms": 1 });
        let keys: Vec<_> = ids.iter().map(key).collect();
        serde_json::json!({ "version": 1, "users": [], "keys": keys }).to_string().into_bytes()
    }

    #[test]
    fn what_was_made_after_a_kit_is_named() {
        let folder: PathBuf = std::env::temp_dir().join(format!("hodei-stale-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let main = Purse::fresh().unwrap();
        let purse = Purse::create(folder.clone(), &main, None).unwrap();
        assert!(!purse.is_kit_stale().unwrap(), "no kit was made");
        std::fs::write(folder.join("s3-keys.json"), keys(&["ONE", "TWO"])).unwrap();
        let first = kit(&main, &purse);
        purse.note_kit(&first).unwrap();
        assert!(lacks(&first, &purse).unwrap().is_empty() && !purse.is_kit_stale().unwrap());

        std::fs::write(folder.join("s3-keys.json"), keys(&["TWO", "SIX"])).unwrap();
        purse.spender().unwrap();
        assert!(purse.is_kit_stale().unwrap());
        let told = lacks(&first, &purse).unwrap();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("budget") && told[1].contains("SIX") && told[2].contains("ONE"), "{told:?}");
        let none = Kit { spender: None, files: BTreeMap::new(), ..first };
        assert_eq!(lacks(&none, &purse).unwrap().len(), 2);

        let second = kit(&main, &purse);
        purse.note_kit(&second).unwrap();
        assert!(lacks(&second, &purse).unwrap().is_empty() && !purse.is_kit_stale().unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_kit_is_judged_whatever_is_broken_here() {
        let folder: PathBuf = std::env::temp_dir().join(format!("hodei-stale-broken-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let main = Purse::fresh().unwrap();
        let wallet = folder.join("wallet");
        let purse = Purse::create(wallet.clone(), &main, None).unwrap();
        let (kit, owner) = (kit(&main, &purse), purse.owner().unwrap());
        let [config, data, state] = ["config", "data", "state"].map(|name| folder.join(name));
        let contexts = Contexts::of(&Paths { config: config.clone(), data, state });
        let none = compare(&kit, owner, None, &contexts);
        assert!(none.purse.is_none() && none.lacks.is_none() && none.notes.is_empty(), "{:?}", none.notes);

        let context = Context {
            network_key: kit.network_key.to_string(),
            wallet: wallet.clone(),
            doors: BTreeMap::new(),
            node: None,
            genesis: None,
            demo: false,
            member: Vec::new(),
        };
        contexts.save("home", &context).unwrap();
        let whole = compare(&kit, owner, Some("home"), &contexts);
        assert!(whole.purse.is_some() && whole.lacks == Some(Vec::new()) && whole.notes.is_empty());
        // A context that is none, and one that is not there, keep the others from nothing.
        std::fs::write(config.join("contexts/broken.toml"), "network_key = 7").unwrap();
        let beside = compare(&kit, owner, Some("absent"), &contexts);
        assert!(beside.lacks == Some(Vec::new()), "{:?}", beside.notes);
        assert!(beside.notes.len() == 2 && beside.notes[1].contains("broken"), "{:?}", beside.notes);
        std::fs::remove_file(config.join("contexts/broken.toml")).unwrap();
        // Nor does a wallet of which a key is no key, or that is gone.
        std::fs::write(wallet.join("spender.key"), "no key").unwrap();
        let broken = compare(&kit, owner, None, &contexts);
        assert!(broken.lacks.is_none() && broken.notes.len() == 1, "{:?}", broken.notes);
        std::fs::remove_dir_all(&wallet).unwrap();
        let gone = compare(&kit, owner, None, &contexts);
        assert!(gone.lacks.is_none() && gone.notes.len() == 1 && gone.notes[0].contains("home"), "{:?}", gone.notes);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
