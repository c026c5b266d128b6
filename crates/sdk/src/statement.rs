//! Check a provider's signed word that it declines a shard, with nothing but the network key.

use hodei_ledger::genesis::chain_id;
use hodei_types::{
    decline::{BadDecline, Decline, DeclineError, Declined},
    network::NetworkKey,
    transport::NodeKey,
};

/// Why bytes are no word of that provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStatement {
    #[error("not in its one encoding: {0}")]
    Form(#[from] DeclineError),
    #[error("{0} on this network")]
    Signature(#[from] BadDecline),
}

/// What `node` declines by `statement`, which it signed on the network of that key. Nobody is asked: who that node is, and
/// whether it holds the shard all the same, is not said by it.
pub fn check(statement: &[u8], node: &NodeKey, key: &NetworkKey) -> Result<Decline, BadStatement> {
    let declined = Declined::decode(statement)?;
    declined.verify(chain_id(&key.genesis), node)?;
    Ok(declined.decline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use hodei_types::{ack::Signer, decline::Ground, slice::ShardId};

    #[test]
    fn a_word_is_its_nodes_and_its_networks_and_of_no_other_letter() {
        let key = NetworkKey { genesis: B256::repeat_byte(3), group: [7; 96] };
        let signer = Signer::new(&[5; 32]);
        let decline = Decline { deal: 0, id: ShardId([1; 32]), time_ms: 1_800_000_000_000, ground: Ground::Court };
        let statement = decline.sign(chain_id(&key.genesis), &signer).encode();
        assert_eq!(check(&statement, &signer.node(), &key), Ok(decline));
        let other = NetworkKey { genesis: B256::repeat_byte(4), group: [7; 96] };
        assert!(matches!(check(&statement, &signer.node(), &other), Err(BadStatement::Signature(_))));
        assert!(matches!(check(&statement, &NodeKey([9; 32]), &key), Err(BadStatement::Signature(_))));
        for at in 0..statement.len() {
            let mut changed = statement.clone();
            changed[at] ^= 1;
            assert!(check(&changed, &signer.node(), &key).is_err(), "byte {at}");
        }
        assert!(check(&statement[1..], &signer.node(), &key).is_err());
    }
}
