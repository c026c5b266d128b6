//! Save and restore the keys that cannot be replaced.

use crate::{
    args::{KeyFile, KeyRestore},
    context::{Contexts, check_name},
    fault::{self, Fault, Result},
    out::Out,
    paths::{Paths, write_whole},
    purse::{self, Purse},
};
use serde_json::json;
use std::path::Path;

/// `hodei key backup`: the context's main key under a passphrase; read back before it is called done.
pub(crate) fn backup(args: &KeyFile, asked: Option<&str>, passphrase: Option<&Path>, paths: &Paths, out: Out) -> Result<()> {
    let (name, context) = Contexts::of(paths).open(asked)?;
    if args.file.exists() {
        return Err(Fault::new(&fault::EXISTS, "that file exists, and a backup never replaces one", "choose another name")
            .at(args.file.display()));
    }
    let purse = Purse::at(&context.wallet);
    // A sealed wallet's passphrase is proven by opening it; a new one is typed twice.
    let passphrase = if purse.is_sealed() { purse::passphrase(passphrase) } else { purse::new_passphrase(passphrase) }?;
    let main = purse.main(|| Ok(passphrase.clone()))?;
    let sealed = purse::seal(&main, &passphrase)?;
    let path = std::path::absolute(&args.file).map_err(|error| Fault::io(&args.file, "finding the file", &error))?;
    write_whole(&path, &sealed, 0o600)?;
    let back = std::fs::read(&path).map_err(|error| Fault::io(&path, "reading the backup", &error))?;
    if purse::unseal(&back, &passphrase, &path)? != main {
        return Err(Fault::new(&fault::FOLDER, "the backup reads back as something else", "write it to another disk").at(path.display()));
    }
    let owner = purse.owner()?;
    out.result(
        format!("wrote the main key of {name} ({owner}) to {}, and read it back", path.display()),
        &json!({ "schema": "hodei.key.backup/1", "context": name, "account": owner.to_string(), "file": path }),
    );
    out.say("Without the passphrase it is worth nothing; with it, it is your money and your data.");
    out.next(format!("hodei key restore {} --context-name NAME", path.display()));
    Ok(())
}

/// `hodei key restore`: a wallet for a context whose wallet is gone, or a copy of a context under a new name.
pub(crate) fn restore(args: &KeyRestore, asked: Option<&str>, passphrase: Option<&Path>, paths: &Paths, out: Out) -> Result<()> {
    let contexts = Contexts::of(paths);
    let (name, mut context) = contexts.open(asked)?;
    let path = &args.backup.file;
    let file = std::fs::read(path).map_err(|error| Fault::io(path, "reading the backup", &error))?;
    let passphrase = purse::passphrase(passphrase)?;
    let main = purse::unseal(&file, &passphrase, path)?;
    let name = match &args.context_name {
        None => {
            Purse::create(context.wallet.clone(), &main, Some(&passphrase))?;
            name
        }
        Some(fresh) => {
            check_name(fresh)?;
            if contexts.names()?.contains(fresh) {
                return Err(Fault::new(&fault::EXISTS, format!("there is a context `{fresh}` already"), "choose another name"));
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
