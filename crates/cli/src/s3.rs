//! Open the S3 door, and say who may use it.
//!
//! Keys are in `s3-keys.json` in the wallet's folder: a door that runs acts on what it says at once.

use crate::{
    args::{S3Key, S3KeyAdd, S3KeyRemove, S3KeyRotate, S3Serve},
    budget,
    context::{Context, Contexts},
    earnings::counted,
    fault::{self, Fault, Result},
    out::{Out, bytes},
    serve::stopped,
    session::{Session, is_dialable, sdk_fault},
    stale,
};
use hodei_gateway::s3::{
    AccessLog, Config, Key, Keyring, Keys, KeysError, Objects, Principal, Quota, Scope, Tls, held, serve, website,
};
use hodei_node::keys::Secret;
use hodei_sdk::{plan::Wish, usage::Usage};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};
use tokio::net::TcpListener;

/// Beside the wallet's keys.
const FILE: &str = "s3-keys.json";

/// The keys of a wallet's door.
pub(crate) fn keyring(wallet: &Path) -> Result<Keyring> {
    Keyring::open(wallet.join(FILE)).map_err(refused)
}

/// `hodei s3 serve`
pub(crate) async fn run(args: &S3Serve, session: &Session, out: Out) -> Result<()> {
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::open(certificate, key).map_err(|error| {
            Fault::new(&fault::SETTINGS, error, "name a PEM file of the certificate, and one of its key")
        })?),
        _ => None,
    };
    let is_open = |address: &std::net::SocketAddr| !address.ip().is_loopback();
    if tls.is_none() && is_open(&args.listen)
        || args.website.as_ref().is_some_and(|address| is_open(address) && tls.is_none())
    {
        let help = "name a certificate with --tls-cert and --tls-key, or listen on 127.0.0.1";
        return Err(Fault::new(&fault::SETTINGS, "off this machine S3 is spoken over TLS alone", help).at(args.listen));
    }
    let keyring = keyring(&session.context.wallet)?;
    if keyring.read().map_err(refused)?.users.is_empty() {
        return Err(Fault::new(&fault::S3_KEYS, "nobody has a key to this door", "make one: hodei s3 key add NAME"));
    }
    let log = match &args.access_log {
        Some(path) => Some(AccessLog::open(path).map_err(|error| Fault::io(path, "opening the access log", &error))?),
        None => None,
    };
    let stop = stopped(args.process.until_stdin_closes)?;
    let cloud = session.cloud().await?;
    let follower = budget::follow(session.purse.clone(), cloud.clone(), out);
    let objects = Objects::new(cloud, Wish::default(), keyring);
    let bind = async |address| {
        let listener = TcpListener::bind(address).await;
        let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
        bound.map_err(|error| Fault::new(&fault::NODE, format!("{address}: {error}"), "choose another address"))
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (address, listener) = bind(args.listen).await?;
    let config = Config { domains: args.domains.clone(), tls, log };
    let site = match args.website {
        Some(address) => {
            let (address, listener) = bind(address).await?;
            let site = tokio::spawn(website::serve(listener, objects.clone(), config.clone()));
            Some((format!("{scheme}://{address}"), site))
        }
        None => None,
    };
    let endpoint = format!("{scheme}://{address}");
    let lifecycles = tokio::spawn(objects.clone().keep_lifecycles());
    let door = tokio::spawn(serve(listener, objects, config));
    let website = site.as_ref().map(|(url, _)| url.clone());
    // Who listens at all addresses of a machine is reached at one of them.
    let is_open = address.ip().is_unspecified();
    let reached = session.own_address(address).filter(|own| is_open && is_dialable(*own, address));
    let reached = reached.map(|reached| format!("{scheme}://{reached}"));
    out.result(
        match &reached {
            Some(reached) => format!("S3 answers at all addresses of this machine: {endpoint}, from others {reached}"),
            None if is_open => format!("S3 answers at all addresses of this machine: {endpoint}"),
            None => format!("S3 answers at {endpoint}"),
        },
        &json!({ "schema": "hodei.s3.ready/1", "endpoint": endpoint, "website": website, "reached": reached }),
    );
    stop.await;
    door.abort();
    lifecycles.abort();
    follower.abort();
    if let Some((_, site)) = site {
        site.abort();
    }
    Ok(())
}

/// `hodei s3 key …`: no network is needed.
pub(crate) fn key(args: &S3Key, asked: Option<&str>, contexts: &Contexts, out: Out) -> Result<()> {
    let (_, context): (String, Context) = contexts.open(asked)?;
    let keyring = keyring(&context.wallet)?;
    match args {
        S3Key::Add(args) => add(args, &keyring, out),
        S3Key::List(_) => list(&keyring.read().map_err(refused)?, None, out),
        S3Key::Rotate(args) => rotate(args, &keyring, out),
        S3Key::Remove(args) => remove(args, &keyring, out),
    }
}

fn add(args: &S3KeyAdd, keyring: &Keyring, out: Out) -> Result<()> {
    let id = hex::encode(random()?);
    let scope = Scope { read_only: args.read_only, within: args.within.clone() };
    let key = fresh_key(&id, scope)?;
    let limit =
        |asked: Option<u64>, before: Option<u64>| asked.map_or(before, |most| Some(most).filter(|most| *most > 0));
    let made = keyring.change(|keys| {
        let known = keys
            .users
            .iter()
            .find(|user| user.name == args.user && user.tenant == args.tenant)
            .map(|user| user.id.clone());
        let user = keys.user(Principal {
            id: known.unwrap_or(id),
            name: args.user.clone(),
            email: args.email.clone(),
            tenant: args.tenant.clone(),
            quota: None,
        })?;
        let before = user.quota.unwrap_or_default();
        let quota =
            Quota { bytes: limit(args.quota_bytes, before.bytes), objects: limit(args.quota_objects, before.objects) };
        user.quota = Some(quota).filter(|quota| *quota != Quota::default());
        let user = user.clone();
        keys.keys.push(Key { user: user.id.clone(), ..key.clone() });
        Ok(user)
    });
    tell(&key, &made.map_err(refused)?, out);
    Ok(())
}

fn tell(key: &Key, user: &Principal, out: Out) {
    out.result(
        format!(
            "access key {}\nsecret     {}\nof         {} ({})",
            key.access_key_id, key.secret_access_key, user.name, user.id
        ),
        &json!({
            "schema": "hodei.s3.key/1", "access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key,
            "user_id": user.id, "display_name": user.name, "tenant": user.tenant, "email": user.email,
            "read_only": key.scope.read_only, "within": key.scope.within,
        }),
    );
    out.say("The secret is not shown again.");
    out.say(stale::hint("this key"));
    out.next("hodei s3 serve");
}

/// `hodei s3 key list --held`
pub(crate) async fn list_held(session: &Session, out: Out) -> Result<()> {
    let keyring = keyring(&session.context.wallet)?;
    let held = held(&session.cloud().await?, &keyring).await.map_err(sdk_fault)?;
    list(&keyring.read().map_err(refused)?, Some(&held), out)
}

/// `1.5 MiB and 3 objects`, of a quota or of what is held.
fn amount(most: &Quota) -> String {
    let parts = [most.bytes.map(bytes), most.objects.map(|count| counted(count, "object"))];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// What a user may hold, and does where that was counted.
fn quota_text(quota: Option<&Quota>, held: Option<&Usage>) -> String {
    let holds = held.map(|held| Quota { bytes: Some(held.bytes), objects: Some(held.objects) });
    match (holds, quota) {
        (None, None) => "no quota".into(),
        (None, Some(quota)) => format!("quota {}", amount(quota)),
        (Some(holds), None) => format!("holds {}, no quota", amount(&holds)),
        (Some(holds), Some(quota)) => format!("holds {} of a quota of {}", amount(&holds), amount(quota)),
    }
}

fn list(keys: &Keys, held: Option<&BTreeMap<String, Usage>>, out: Out) -> Result<()> {
    for key in &keys.keys {
        let user = keys.users.iter().find(|user| user.id == key.user);
        let name = user.map_or("", |user| user.name.as_str());
        let what = match (key.disabled, key.until_ms) {
            (true, _) => "disabled",
            (_, Some(_)) => "until replaced",
            _ => "works",
        };
        let rights = if key.scope.read_only { "reads" } else { "reads and writes" };
        let place = if key.scope.within.is_empty() { "everywhere".into() } else { key.scope.within.join(", ") };
        let quota = user.and_then(|user| user.quota.as_ref());
        let usage = held.map(|held| held.get(&key.user).copied().unwrap_or_default());
        let limit = quota_text(quota, usage.as_ref());
        let mut row = json!({
            "schema": "hodei.s3.key.row/1", "access_key_id": key.access_key_id, "user_id": key.user,
            "display_name": name, "tenant": user.map_or("", |user| user.tenant.as_str()),
            "created_ms": key.created_ms, "disabled": key.disabled, "until_ms": key.until_ms,
            "read_only": key.scope.read_only, "within": key.scope.within,
            "quota_bytes": quota.and_then(|quota| quota.bytes), "quota_objects": quota.and_then(|quota| quota.objects),
        });
        if let Some(usage) = usage {
            (row["held_bytes"], row["held_objects"]) = (json!(usage.bytes), json!(usage.objects));
        }
        out.result(format!("{}  {name}  {what}  {rights}  {place}  {limit}", key.access_key_id), &row);
    }
    if keys.keys.is_empty() {
        out.say("Nobody has a key to this door. Make one: hodei s3 key add NAME");
    }
    Ok(())
}

fn rotate(args: &S3KeyRotate, keyring: &Keyring, out: Out) -> Result<()> {
    known(keyring, &args.key)?;
    let fresh = fresh_key("", Scope::default())?;
    let made = keyring.change(|keys| {
        let at = find(keys, &args.key)?;
        let old = &mut keys.keys[at];
        let fresh = Key { user: old.user.clone(), scope: old.scope.clone(), ..fresh };
        let until = fresh.created_ms.saturating_add(args.grace * 1000);
        old.until_ms = Some(old.until_ms.map_or(until, |before| before.min(until)));
        if args.grace == 0 {
            keys.keys.remove(at);
        }
        let user = keys.users.iter().find(|user| user.id == fresh.user).cloned();
        keys.keys.push(fresh.clone());
        Ok((fresh, user))
    });
    if let (key, Some(user)) = made.map_err(refused)? {
        tell(&key, &user, out);
    }
    Ok(())
}

fn remove(args: &S3KeyRemove, keyring: &Keyring, out: Out) -> Result<()> {
    known(keyring, &args.key)?;
    let now = keyring.change(|keys| {
        let at = find(keys, &args.key)?;
        if args.disable || args.enable {
            keys.keys[at].disabled = args.disable;
            return Ok(if args.disable { "disabled" } else { "enabled" });
        }
        keys.keys.remove(at);
        Ok("removed")
    });
    let now = now.map_err(refused)?;
    out.result(
        format!("{}: {now}", args.key),
        &json!({ "schema": "hodei.s3.key.change/1", "access_key_id": args.key, "now": now }),
    );
    Ok(())
}

/// Tells at once of a key that is not there.
fn known(keyring: &Keyring, id: &str) -> Result<()> {
    match find(&keyring.read().map_err(refused)?, id) {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::new(&fault::NO_KEY, error, "see what there is: hodei s3 key list")),
    }
}

fn find(keys: &Keys, id: &str) -> std::result::Result<usize, KeysError> {
    let at = keys.keys.iter().position(|key| key.access_key_id == id);
    at.ok_or_else(|| KeysError::Refused(format!("there is no key {id}")))
}

fn random() -> Result<[u8; 32]> {
    let secret = Secret::generate().map_err(|error| Fault::new(&fault::INTERNAL, error, "try again"))?;
    Ok(*secret.bytes())
}

fn fresh_key(user: &str, scope: Scope) -> Result<Key> {
    Ok(Key {
        access_key_id: format!("HODEI{}", hex::encode_upper(&random()?[..8])),
        secret_access_key: hex::encode(&random()?[..20]),
        user: user.into(),
        created_ms: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64),
        disabled: false,
        until_ms: None,
        scope,
    })
}

/// A user with a key of his own, as a demo has them: `values` for programs.
pub(crate) fn introduce(keyring: &Keyring, name: &str, email: &str, tenant: &str) -> Result<Value> {
    let id = hex::encode(random()?);
    let key = fresh_key(&id, Scope::default())?;
    let user = Principal { id, name: name.into(), email: email.into(), tenant: tenant.into(), quota: None };
    let made = keyring.change(|keys| {
        keys.user(user.clone())?;
        keys.keys.push(key.clone());
        Ok(())
    });
    made.map_err(refused)?;
    let mut value = json!({
        "access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key, "user_id": user.id,
        "display_name": user.name, "email": user.email,
    });
    if !tenant.is_empty() {
        value["tenant"] = json!(tenant);
    }
    Ok(value)
}

fn refused(error: KeysError) -> Fault {
    let help = match &error {
        KeysError::Refused(_) => "see what there is: hodei s3 key list",
        KeysError::Open { .. } => "set its permissions to 600, and rotate the keys if others read it",
        _ => "mend the file, or move it away and make new keys",
    };
    Fault::new(&fault::S3_KEYS, error, help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_told_with_what_is_held_of_it() {
        let quota = Quota { bytes: Some(3 << 20), objects: Some(1) };
        let held = Usage { bytes: 512, objects: 2 };
        assert_eq!(quota_text(None, None), "no quota");
        assert_eq!(quota_text(Some(&quota), None), "quota 3.0 MiB and 1 object");
        assert_eq!(quota_text(None, Some(&held)), "holds 512 B and 2 objects, no quota");
        let of_count = Quota { bytes: None, objects: Some(9) };
        assert_eq!(quota_text(Some(&of_count), Some(&held)), "holds 512 B and 2 objects of a quota of 9 objects");
    }
}
