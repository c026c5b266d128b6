//! Assemble a receipt: an event's evidence from its log, and what ties the checkpoint to the network key.

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_sol_types::{SolCall as _, SolEvent as _, SolValue as _};
use commonware_runtime::Storage;
use hodei_audit::{Cohort, LogError, Signed};
use hodei_ledger::account::{Account, AccountError, Order};
use hodei_types::{
    abi::{ANCHORS, IAnchors, IProviders, PROVIDERS},
    ack::Ack,
    chain::{AnchorProof, Chain, ChainError, LOG_BLOCKS_MAX, Log, LogFilter},
    checkpoint::{Registration, anchor_leaf},
    merkle::{self, MerkleError},
    receipt::{Anchored, Checkpointed, Path, Receipt},
    transport::NodeKey,
};

/// Gas of anchoring 32 bytes: intrinsic cost, calldata and one log, with room.
const ANCHOR_GAS: u64 = 120_000;

/// Why there is no receipt.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AssembleError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("event {0} is in no anchored checkpoint yet: try again in a second")]
    Early(u64),
    #[error("the ledger's anchor proof does not fit: {0}")]
    Proof(#[from] MerkleError),
    #[error("provider {0} is not registered")]
    Unregistered(NodeKey),
}

/// Signs and anchors what a log holds, as a cohort of one; `None` if all of it is anchored.
///
/// What was signed and not anchored, because the last attempt failed or the process died, is posted again.
/// One caller per log, at most once a second: each is a transaction of `account`.
pub async fn anchor<E: Storage>(
    account: &Account,
    log: &hodei_audit::Log<E>,
) -> Result<Option<(Signed, u64)>, AssembleError> {
    let grown = log.checkpoint().await?;
    let Some(signed) = grown.or_else(|| log.unanchored()) else { return Ok(None) };
    let leaf = Bytes::from(Cohort::lone(&signed).root().to_vec());
    let call = IAnchors::anchorCall { leaf }.abi_encode();
    let settled = account.execute(&Order::call(ANCHORS, call, ANCHOR_GAS)).await?;
    log.anchored(&signed, settled.height).await?;
    Ok(Some((signed, settled.height)))
}

/// The receipt of event `sequence`, whose checkpoint must be anchored (by [`anchor`], or by another task).
pub async fn assemble<E: Storage>(
    chain: &dyn Chain,
    log: &hodei_audit::Log<E>,
    genesis: B256,
    sequence: u64,
) -> Result<Receipt, AssembleError> {
    let (signed, height) = log.anchor_of(sequence).await?.ok_or(AssembleError::Early(sequence))?;
    let cohort = Cohort::lone(&signed);
    let data = cohort.root().to_vec();
    let proof = chain.anchor(height, anchor_leaf(&data).into()).await?;
    let evidence = log.evidence(sequence, signed.size).await?;
    Ok(Receipt {
        genesis,
        event: evidence.event,
        salt: evidence.salt,
        log: signed.log,
        checkpoint: Checkpointed {
            size: signed.size,
            root: signed.root,
            path: evidence.path,
            signature: signed.signature,
        },
        cohort: cohort.path(&signed.log).unwrap_or_default(),
        anchor: anchored(data, &anchor_leaf(&cohort.root()[..]), proof)?,
        acks: Vec::new(),
        providers: Vec::new(),
    })
}

/// Adds the acks that a put's event commits to, in its order, and each signer's registration.
pub async fn with_promises(
    chain: &dyn Chain,
    mut receipt: Receipt,
    acks: &[(NodeKey, Ack)],
) -> Result<Receipt, AssembleError> {
    for (node, ack) in acks {
        receipt.acks.push(ack.encode());
        receipt.providers.push(registration(chain, node).await?);
    }
    Ok(receipt)
}

/// What a put's event says of its acks: the root over them in this order.
pub fn acks_root(acks: &[(NodeKey, Ack)]) -> B256 {
    let leaves: Vec<B256> = acks.iter().map(|(_, ack)| merkle::leaf(&ack.encode())).collect();
    merkle::root(&leaves)
}

/// A provider's registration with its own anchored path, from the block that last changed it.
async fn registration(chain: &dyn Chain, node: &NodeKey) -> Result<Anchored, AssembleError> {
    let mut to = chain.head().await?.height;
    loop {
        let from = to.saturating_sub(LOG_BLOCKS_MAX - 1);
        let topic1 = Some(B256::from(node.0));
        let filter = LogFilter { from, to, address: Some(PROVIDERS), topic1, ..LogFilter::default() };
        // A block's anchor is of the last change in it: so is the last log.
        for log in chain.logs(filter).await?.iter().rev() {
            if let Some(found) = registered(log, node)? {
                let leaf = found.leaf();
                let proof = chain.anchor(log.height, leaf.clone().into()).await?;
                return anchored(found.encode(), &leaf, proof);
            }
        }
        match from.checked_sub(1) {
            Some(before) => to = before,
            None => return Err(AssembleError::Unregistered(*node)),
        }
    }
}

/// What a log says of a node's registration; `None` if something else.
fn registered(log: &Log, node: &NodeKey) -> Result<Option<Registration>, AssembleError> {
    let topics = log.topics.iter().copied();
    let (operator, version, offer) = match log.topics.first() {
        Some(&IProviders::Registered::SIGNATURE_HASH) => {
            let event = IProviders::Registered::decode_raw_log(topics, &log.data).map_err(invalid)?;
            (event.operator, 1, event.offer)
        }
        Some(&IProviders::Updated::SIGNATURE_HASH) => {
            let event = IProviders::Updated::decode_raw_log(topics, &log.data).map_err(invalid)?;
            (event.operator, event.version, event.offer)
        }
        Some(&IProviders::Withdrawn::SIGNATURE_HASH) => return Err(AssembleError::Unregistered(*node)),
        _ => return Ok(None),
    };
    Ok(Some(Registration { node: *node, operator, version, offer: keccak256(offer.abi_encode()) }))
}

fn invalid(error: alloy_sol_types::Error) -> AssembleError {
    ChainError::Invalid(error.to_string()).into()
}

/// Joins a ledger's proof with what it is of. The anchor root ends the preimage.
fn anchored(data: Vec<u8>, leaf: &[u8], proof: AnchorProof) -> Result<Anchored, AssembleError> {
    let path = Path::new(proof.index, proof.size, proof.path)?;
    let root = path.root(merkle::leaf(leaf))?;
    Ok(Anchored {
        data,
        path,
        preimage: [&proof.preimage[..], root.as_slice()].concat(),
        headers: proof.headers.iter().map(|header| header.to_vec()).collect(),
        finalization: proof.finalization.to_vec(),
    })
}
