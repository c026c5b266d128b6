//! Reach the ledger: by this node's own copy of it, or through members that are followed.

use crate::{config::Config, home::Home, keys::Keys, node::Network};
use commonware_runtime::{Supervisor as _, tokio::Context};
use hodei_ledger::{client::Client, light::Verifier};
use hodei_link::Link;
use hodei_types::{
    chain::Chain,
    transport::{NodeKey, Peer},
};
use std::sync::Arc;

/// Why the ledger cannot be reached at all.
#[derive(Debug, thiserror::Error)]
pub enum ChainStartError {
    #[error("`follow` is empty and this node is no validator: name at least one member of the network")]
    Nobody,
    #[error("this program was built without feature `full`: it can follow the ledger, not validate")]
    NotFull,
    #[error("the network's key is no point of the curve")]
    NetworkKey,
    #[error("a member of the ledger needs the genesis file, not only the network's key")]
    NoGenesis,
    #[cfg(feature = "full")]
    #[error(transparent)]
    Validator(#[from] crate::validator::ValidatorError),
}

/// The ledger's door, and whatever runs behind it.
pub(crate) struct Started {
    pub(crate) door: Arc<dyn Chain>,
    #[cfg(feature = "full")]
    pub(crate) member: Option<hodei_validator::Validator>,
}

impl Started {
    /// Resolves when the node's own copy of the ledger stops; never while it only follows.
    pub(crate) async fn ended(&mut self) {
        #[cfg(feature = "full")]
        if let Some(member) = &mut self.member {
            return member.ended().await;
        }
        std::future::pending().await
    }
}

/// Starts the member this node is, or a client of those it follows.
pub(crate) async fn start(
    context: Context,
    home: &Home,
    config: &Config,
    keys: &Keys,
    network: &Network,
    link: &Link,
) -> Result<Started, ChainStartError> {
    if let Some(validator) = &config.validator {
        #[cfg(feature = "full")]
        {
            let genesis = network.genesis.as_ref().ok_or(ChainStartError::NoGenesis)?;
            let member = crate::validator::start(context, home, validator, keys, genesis).await?;
            return Ok(Started { door: member.chain(), member: Some(member) });
        }
        #[cfg(not(feature = "full"))]
        {
            let _ = (validator, home, keys);
            return Err(ChainStartError::NotFull);
        }
    }
    let peers: Vec<Peer> = config
        .follow
        .iter()
        .filter_map(|followed| {
            let key: [u8; 32] = hex::decode(&followed.key).ok()?.try_into().ok()?;
            Some(Peer::at(NodeKey(key), followed.addresses.clone()))
        })
        .collect();
    if peers.is_empty() {
        return Err(ChainStartError::Nobody);
    }
    let verifier = Verifier::new(&network.key).map_err(|_| ChainStartError::NetworkKey)?;
    let client = Client::new(link.clone(), context.child("client"), peers, verifier);
    Ok(Started {
        door: Arc::new(client),
        #[cfg(feature = "full")]
        member: None,
    })
}
