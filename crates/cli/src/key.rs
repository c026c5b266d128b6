//! Save and restore the keys that cannot be replaced.
//!
//! A recovery kit is one file under a passphrase: the main key, the network's key, where its members answered, a
//! budget's key, and small files of the wallet. It is rehearsed when it is made: read back, opened, and every
//! bucket opened with nothing but what is in it.

use crate::{
    args::{KeyFile, KeyRestore},
    context::{Context, Contexts, Member, check_name},
    fault::{self, Fault, Result},
    out::Out,
    paths::{Paths, write_whole},
    purse::{self, Purse},
    rehearsal::{self, Rehearsed},
    session::Session,
    slot::Slot,
    stale::{self, Here},
};
use alloy_primitives::Address;
use hodei_types::{
    kit::{self, Kit},
    network::NetworkKey,
    transport::{NodeKey, Peer},
};
use serde_json::{Value, json};
use std::path::Path;
use zeroize::Zeroizing;

/// `hodei key backup`: the kit of the context's identity; rehearsed before it is called done.
pub(crate) fn backup(args: &KeyFile, global: &crate::args::Global, paths: &Paths, out: Out) -> Result<()> {
    let contexts = Contexts::of(paths);
    let (name, context) = contexts.open(global.context.as_deref())?;
    let path = std::path::absolute(&args.file).map_err(|error| Fault::io(&args.file, "finding the file", &error))?;
    if path.exists() {
        return Err(Fault::new(
            &fault::EXISTS,
            "that file exists, and a kit never replaces one",
            "choose another name",
        )
        .at(path.display()));
    }
    let purse = Purse::at(&context.wallet);
    // A sealed wallet's passphrase is proven by opening it; a new one is typed twice.
    let file = global.passphrase_file.as_deref();
    let passphrase = if purse.is_sealed() { purse::passphrase(file) } else { purse::new_passphrase(file) }?;
    let made = gather(&name, &context, &purse, &passphrase)?;
    let sealed = purse::seal_kit(&made, &passphrase)?;
    write_whole(&path, &sealed, 0o600)?;
    let back = open(&path, &passphrase)?;
    if back != made {
        return Err(Fault::new(&fault::FOLDER, "the kit reads back as something else", "write it to another disk")
            .at(path.display()));
    }
    let owner = purse.owner()?;
    out.say(format!("wrote the recovery kit of {name} ({owner}) to {}, and read it back", path.display()));
    let rehearsed = rehearse(&name, &context, &back)?;
    // One that was not tried is not known to open anything: until `hodei key check` tried it, a kit is wanted still.
    if matches!(rehearsed, Rehearsed::Opened(_)) {
        purse.note_kit(&made)?;
    }
    told("hodei.key.backup/1", "it alone opens", &name, owner, (Some(&path), None), &rehearsed, out);
    out.say("Without the passphrase it is worth nothing; with it, it is your money and your data. Keep it on another machine.");
    out.next(format!("hodei key check {}", path.display()));
    Ok(())
}

/// `hodei key check`: rehearses a kit again; nothing is restored.
pub(crate) fn check(args: &KeyFile, global: &crate::args::Global, paths: &Paths, out: Out) -> Result<()> {
    let passphrase = purse::passphrase(global.passphrase_file.as_deref())?;
    let kit = open(&args.file, &passphrase)?;
    let owner = owner_of(&kit)?;
    // Before anybody is asked: it needs nothing but the kit and what is here, however much of that is broken.
    let here = stale::compare(&kit, owner, global.context.as_deref(), &Contexts::of(paths));
    let tried = context_of(&kit, paths, &kit.name, &[]).and_then(|context| rehearse(&kit.name, &context, &kit));
    let (rehearsed, failed) = match tried {
        Ok(Rehearsed::Unreachable(why)) => {
            let told = format!("the kit opens, but none of its {} members answered: {why}", kit.members.len());
            let fault = Fault::new(&fault::UNREACHABLE, told, "try again, or make a new kit").at(args.file.display());
            (Rehearsed::Unreachable(why), Some(fault))
        }
        Ok(rehearsed) => (rehearsed, None),
        Err(fault) => (Rehearsed::Failed(fault.message.clone()), Some(fault)),
    };
    told(
        "hodei.key.check/1",
        "the kit alone opens",
        &kit.name,
        owner,
        (Some(&args.file), Some(&here)),
        &rehearsed,
        out,
    );
    match (&here.lacks, &here.purse) {
        (Some(lacks), _) if !lacks.is_empty() => {
            out.say("make a new kit, which holds what is here now: hodei key backup FILE");
        }
        // One that could not be tried when it was made counts from now on.
        (Some(_), Some(purse)) if failed.is_none() => {
            if let Err(fault) = purse.note_kit(&kit) {
                out.say(format!("note: that this kit is a whole one is not written down here: {}", fault.message));
            }
        }
        _ => {}
    }
    failed.map_or(Ok(()), Err)
}

/// `hodei key restore`: an identity on a machine that has nothing but the kit; or, of a key sealed alone, a
/// wallet for a context whose wallet is gone, or a copy of it under a new name.
pub(crate) fn restore(args: &KeyRestore, global: &crate::args::Global, paths: &Paths, out: Out) -> Result<()> {
    let path = &args.backup.file;
    let file = read(path)?;
    if !Kit::is_kit(&file) {
        return restore_key(&file, args, global, paths, out);
    }
    let passphrase = purse::passphrase(global.passphrase_file.as_deref())?;
    let kit = unseal(&file, path, &passphrase)?;
    let contexts = Contexts::of(paths);
    let name = args.context_name.as_ref().unwrap_or(&kit.name);
    check_name(name)?;
    if contexts.names()?.contains(name) {
        return Err(Fault::new(
            &fault::EXISTS,
            format!("there is a context `{name}` already"),
            "choose another name with --context-name",
        ));
    }
    let context = context_of(&kit, paths, name, &args.members)?;
    let purse = Purse::create(context.wallet.clone(), &kit.main, Some(&passphrase))?;
    purse.put_back(&kit)?;
    purse.note_kit(&kit)?;
    contexts.save(name, &context)?;
    let owner = purse.owner()?;
    out.say(format!("restored account {owner}, sealed, as context {name}"));
    let rehearsed = rehearse(name, &context, &kit)?;
    told("hodei.key.restore/1", "it opens", name, owner, (None, None), &rehearsed, out);
    out.next(match kit.spender {
        Some(_) => format!("hodei -C {name} data list"),
        None => format!("hodei -C {name} wallet budget set 10"),
    });
    Ok(())
}

/// A main key sealed alone, as kits were before they held the network.
fn restore_key(file: &[u8], args: &KeyRestore, global: &crate::args::Global, paths: &Paths, out: Out) -> Result<()> {
    let contexts = Contexts::of(paths);
    let (name, mut context) = contexts.open(global.context.as_deref())?;
    let passphrase = purse::passphrase(global.passphrase_file.as_deref())?;
    let main = purse::unseal(file, &passphrase, &args.backup.file)?;
    let name = match &args.context_name {
        None => {
            Purse::create(context.wallet.clone(), &main, Some(&passphrase))?;
            name
        }
        Some(fresh) => {
            check_name(fresh)?;
            if contexts.names()?.contains(fresh) {
                return Err(Fault::new(
                    &fault::EXISTS,
                    format!("there is a context `{fresh}` already"),
                    "choose another name",
                ));
            }
            context.wallet = paths.data.join("wallets").join(fresh);
            context.demo = false;
            Purse::create(context.wallet.clone(), &main, Some(&passphrase))?;
            contexts.save(fresh, &context)?;
            fresh.clone()
        }
    };
    let owner = Purse::at(&context.wallet).owner()?;
    out.result(
        format!("restored the main key of account {owner}, sealed, for context {name}"),
        &json!({ "schema": "hodei.key.restore/1", "context": name, "account": owner.to_string() }),
    );
    out.next(format!("hodei -C {name} wallet balance"));
    Ok(())
}

fn gather(name: &str, context: &Context, purse: &Purse, passphrase: &Zeroizing<String>) -> Result<Kit> {
    let network_key: NetworkKey = context.network_key.parse().map_err(|error| {
        Fault::new(&fault::NETWORK_KEY, error, "correct `network_key` in the context's file")
            .at(format!("context {name}"))
    })?;
    let made = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(Kit {
        network_key,
        name: name.into(),
        members: crate::session::peers(name, context)?,
        main: purse.main(|| Ok(passphrase.clone()))?,
        spender: purse.budget_key()?,
        files: purse.kept_files()?,
        made_ms: made.map_or(0, |since| since.as_millis() as u64),
    })
}

/// The context a kit makes.
fn context_of(kit: &Kit, paths: &Paths, name: &str, members: &[String]) -> Result<Context> {
    let named: Vec<Peer> = members.iter().map(|text| member(text)).collect::<Result<_>>()?;
    let peers = if named.is_empty() { &kit.members } else { &named };
    let member = |peer: &Peer| Member { key: peer.key.to_string(), addresses: peer.addresses.clone() };
    Ok(Context {
        network_key: kit.network_key.to_string(),
        wallet: paths.data.join("wallets").join(name),
        doors: Default::default(),
        node: None,
        genesis: None,
        demo: false,
        member: peers.iter().map(member).collect(),
    })
}

/// `KEY@ADDRESS`.
fn member(text: &str) -> Result<Peer> {
    let read = || {
        let (key, address) = text.split_once('@')?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(key, &mut bytes).ok()?;
        Some(Peer::at(NodeKey(bytes), vec![address.parse().ok()?]))
    };
    read().ok_or_else(|| {
        Fault::new(&fault::USAGE, "that is no member", "copy it from another member's context file or `hodei node run`")
            .between("64 hex digits, @, and an address as 10.0.0.1:4433", format!("{text:?}"))
    })
}

/// Opens every bucket with a kit's content alone.
fn rehearse(name: &str, context: &Context, kit: &Kit) -> Result<Rehearsed> {
    // Its own identity on the wire, in a folder that goes: what is here already is not to help.
    let scratch = rehearsal::Scratch::new()?;
    let slot = Slot::take(scratch.path())?;
    let context = Context { wallet: scratch.path().to_owned(), demo: false, ..context.clone() };
    crate::start(slot.home.store(), None, |runtime| async {
        let session = Session::reach(runtime, name.to_owned(), context, None, slot).await?;
        let rehearsed = rehearsal::rehearse(&session, &kit.main).await;
        session.close().await;
        rehearsed
    })
}

/// Beside the kit's file stands what it lacks of a wallet that is here, where there is one.
fn told(
    schema: &str,
    opens: &str,
    name: &str,
    owner: Address,
    (file, here): (Option<&Path>, Option<&Here>),
    rehearsed: &Rehearsed,
    out: Out,
) {
    let mut value = json!({ "schema": schema, "context": name, "account": owner.to_string() });
    if let Some(file) = file {
        value["file"] = json!(file);
    }
    if let Some(Here { lacks, notes, .. }) = here {
        // Left out where nothing here could be compared.
        if let Some(lacks) = lacks {
            value["lacks"] = json!(lacks);
        }
        value["not_compared"] = json!(notes);
    }
    let mut text = match rehearsed {
        Rehearsed::Unreachable(why) => {
            value["rehearsed"] = json!(false);
            format!("not rehearsed: the network did not answer ({why}); `hodei key check FILE` does it later")
        }
        Rehearsed::Failed(why) => {
            value["rehearsed"] = json!(false);
            format!("the kit opens with this passphrase, but its rehearsal failed: {why}")
        }
        Rehearsed::Opened(buckets) => {
            value["rehearsed"] = json!(true);
            let rows = buckets.iter().map(|bucket| json!({ "bucket": bucket.name, "objects": bucket.objects, "versions": bucket.versions, "size_bytes": bucket.size_bytes }));
            value["buckets"] = Value::Array(rows.collect());
            let objects: u64 = buckets.iter().map(|bucket| bucket.objects).sum();
            format!("{opens} {} buckets with {objects} objects, each bucket's first read back", buckets.len())
        }
    };
    let lines = here.into_iter().flat_map(|here| here.lacks.iter().flatten().chain(&here.notes));
    lines.for_each(|one| text.push_str(&format!("\n{one}")));
    out.result(text, &value);
}

fn owner_of(kit: &Kit) -> Result<Address> {
    hodei_sdk::wallet::address(&kit.main)
        .ok_or_else(|| Fault::new(&fault::WALLET, "the kit's key is not one of an account", "use another kit"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let io = |error| Fault::io(path, "reading the kit", &error);
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > kit::FILE_BYTES_MAX as u64 {
        return Err(Fault::new(
            &fault::WALLET,
            "it is too long for a recovery kit",
            "name the file that `hodei key backup` wrote",
        )
        .at(path.display())
        .between(format!("at most {} bytes", kit::FILE_BYTES_MAX), format!("{length} bytes")));
    }
    std::fs::read(path).map_err(io)
}

fn open(path: &Path, passphrase: &str) -> Result<Kit> {
    unseal(&read(path)?, path, passphrase)
}

fn unseal(file: &[u8], path: &Path, passphrase: &str) -> Result<Kit> {
    Kit::open(file, passphrase).map_err(|error| {
        Fault::new(&fault::WALLET, error, "type the passphrase again, or use another kit").at(path.display())
    })
}
