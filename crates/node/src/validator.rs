//! Decide whether this node votes, and start its member of the ledger.
//!
//! A share is used at once only beside the journal of what it signed: `keys/share.used` says on which machine
//! it was. Upon a missing journal the node follows without a vote until what it may have signed is past. Upon
//! another machine it follows until its operator says with `after_loss` that this key signs nowhere else: two
//! processes with one share could sign two histories, and nothing on this machine alone can exclude that.
//! `after_loss` also ends the wait where the halted chain needs this very vote.

use crate::{
    config,
    home::{Home, HomeError, replace},
    keys::{self, KeyError, Keys},
};
use commonware_codec::{Copying, Decode as _, DecodeExt as _};
use commonware_cryptography::{Signer as _, bls12381::primitives::group::Share, ed25519};
use commonware_runtime::{Spawner as _, Supervisor as _, tokio::Context};
use hodei_ledger::{block::PublicKey, genesis::Genesis};
use hodei_validator::{PREFIX, Peer, StartError, Validator};
use std::{path::PathBuf, sync::Arc};

/// Why a member of the ledger did not start.
#[derive(Debug, thiserror::Error)]
pub enum ValidatorError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error("keys/share.key is missing: this node is in the genesis file as a validator; or set `validator.observer`")]
    NoShare,
    #[error("keys/share.key holds no share of a key")]
    NotAShare,
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Opens the network and starts every station.
pub(crate) async fn start(
    context: Context,
    home: &Home,
    config: &config::Validator,
    keys: &Keys,
    genesis: &Arc<Genesis>,
) -> Result<Validator, ValidatorError> {
    let signer = ed25519::PrivateKey::decode(Copying(keys.node.bytes().as_slice())).expect("32 bytes are a seed");
    let me = signer.public_key();
    let listed = genesis.participants().position(&me).is_some();
    let usable = if config.observer { None } else { usable_share(home, config.after_loss)? };
    if listed && usable.is_none() && !config.observer && keys::share(home)?.is_none() {
        return Err(ValidatorError::NoShare);
    }
    let held = matches!(usable, Some((_, Use::OnceThatIsPast)));
    if matches!(usable, Some((_, Use::AtOnce))) {
        mark_used(home)?;
    }
    let observers = config.observers.iter().filter_map(|(key, address)| {
        let key = hex::decode(key).ok()?;
        Some(Peer { key: PublicKey::decode_cfg(Copying(key.as_slice()), &()).ok()?, address: address.clone() })
    });
    let member = hodei_validator::Config {
        genesis: genesis.clone(),
        signer,
        share: usable.map(|(share, _)| share),
        held,
        listen: config.listen,
        observers: observers.collect(),
        sync: config.sync,
    };
    let mark = context.child("share");
    let running = hodei_validator::start(context, member).await?;
    if held {
        let (hold, home) = (running.hold().clone(), home.clone());
        mark.spawn(move |_| async move {
            hold.freed().await;
            // Unmarked it would only wait again after its next start.
            if let Err(error) = mark_used(&home) {
                tracing::warn!(%error, "the share's journal is not marked");
            }
        });
    }
    Ok(running)
}

/// When a share may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    AtOnce,
    OnceThatIsPast,
}

/// The share and when it may be used; `None` if there is none, or it was used on another machine.
fn usable_share(home: &Home, after_loss: bool) -> Result<Option<(Share, Use)>, ValidatorError> {
    let Some(bytes) = keys::share(home)? else { return Ok(None) };
    let share = Share::decode(Copying(bytes.as_slice())).map_err(|_| ValidatorError::NotAShare)?;
    // The same text lies beside the journal: whoever empties or replaces the store takes it away too.
    let beside = std::fs::read_to_string(beside_file(home)).unwrap_or_default();
    match std::fs::read_to_string(used_file(home)) {
        Err(_) => Ok(Some((share, Use::AtOnce))),
        Ok(host) if host == beside && host.trim() == this_host() => Ok(Some((share, Use::AtOnce))),
        Ok(_) if after_loss => {
            tracing::warn!("the share is used again without its journal, as `after_loss` says");
            Ok(Some((share, Use::AtOnce)))
        }
        Ok(host) if host.trim() == this_host() => {
            tracing::warn!(
                "the journal of what this share signed is not here: following without a vote until that is past"
            );
            Ok(Some((share, Use::OnceThatIsPast)))
        }
        Ok(_) => {
            tracing::error!(
                "this share was used on another machine: following without a vote. \
                 If it signs nowhere else any more, set `validator.after_loss`"
            );
            Ok(None)
        }
    }
}

/// Before the first vote, and beside the journal first: a start that fails in between leaves a usable share.
fn mark_used(home: &Home) -> Result<(), ValidatorError> {
    let beside = beside_file(home);
    if let Some(folder) = beside.parent() {
        std::fs::create_dir_all(folder).map_err(|source| HomeError::Io { path: folder.into(), source })?;
    }
    let text = format!("{}\n", this_host());
    replace(&beside, text.as_bytes(), 0o600)?;
    Ok(replace(&used_file(home), text.as_bytes(), 0o600)?)
}

fn beside_file(home: &Home) -> PathBuf {
    home.store().join(format!("{PREFIX}-share")).join("used")
}

fn used_file(home: &Home) -> PathBuf {
    home.keys().join("share.used")
}

/// The machine's id, or its name where it has none.
fn this_host() -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let known = |text: &String| !text.is_empty();
    read("/etc/machine-id")
        .filter(known)
        .or_else(|| read("/etc/hostname").filter(known))
        .unwrap_or_else(|| "unknown".into())
}
