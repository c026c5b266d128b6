//! Tell what a recovery kit lacks of what is here now.
//!
//! Buckets are found by the main key whenever they were made; a budget's key and the keys of the S3 door follow from
//! nothing, and a kit has those of its making.

use crate::{context::Contexts, earnings::counted, fault::Result, purse::Purse};
use alloy_primitives::Address;
use hodei_gateway::s3::{Key, Keys};
use hodei_types::kit::Kit;

/// Keys of the S3 door that are named one by one.
const NAMED_MAX: usize = 5;

/// Told where something is made that no kit holds yet.
pub(crate) fn hint(what: &str) -> String {
    format!("A recovery kit made before does not hold {what}: make a new one with `hodei key backup FILE`.")
}

/// The wallet here of the identity a kit is of, if there is one.
pub(crate) fn purse_of(kit: &Kit, owner: Address, asked: Option<&str>, contexts: &Contexts) -> Result<Option<Purse>> {
    let network = kit.network_key.to_string();
    for name in asked.map(str::to_owned).into_iter().chain(contexts.names()?) {
        let Ok((_, context)) = contexts.open(Some(&name)) else { continue };
        let purse = Purse::at(&context.wallet);
        if context.network_key == network && purse.owner().is_ok_and(|here| here == owner) {
            return Ok(Some(purse));
        }
    }
    Ok(None)
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
}
