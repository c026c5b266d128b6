//! Bind a store to the one network it was made for.
//!
//! Upon a first start, the genesis hash and the network's name are written beside the databases; upon each
//! later one they are compared. A store of another network would open, disagree with every peer, and at worst
//! vote there: it is refused by name instead.

use alloy_primitives::B256;
use commonware_runtime::{Blob as _, Buf as _, Error, ReadOptions, Storage, WriteOptions};

use crate::genesis::Genesis;

const BLOB: &[u8] = b"genesis";
/// A hash, and a name of at most 64 bytes.
const BYTES_MAX: u64 = 32 + 64;

/// Why a store was refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "this folder holds network {there:?} (genesis {there_hash}), but the genesis file is of {here:?} ({here_hash})"
    )]
    OtherNetwork { there: String, there_hash: B256, here: String, here_hash: B256 },
    #[error("the record of which network this folder holds is broken: {0} bytes")]
    Broken(u64),
    #[error("the store cannot be read or written: {0}")]
    Storage(#[from] Error),
}

/// Binds the partitions beginning with `prefix` to `genesis`, or refuses.
pub async fn bind<E: Storage>(context: &E, prefix: &str, genesis: &Genesis) -> Result<(), StoreError> {
    let partition = format!("{prefix}-network");
    let (blob, len) = context.open(&partition, BLOB).await?;
    let here_hash = genesis.hash();
    if len == 0 {
        let record = [here_hash.as_slice(), genesis.name.as_bytes()].concat();
        blob.write_at(0, record, WriteOptions::default()).await?;
        blob.sync().await?;
        return Ok(());
    }
    if !(32..=BYTES_MAX).contains(&len) {
        return Err(StoreError::Broken(len));
    }
    let read = blob.read_at(0, len as usize, ReadOptions::default()).await?;
    let mut record = vec![0; len as usize];
    read.coalesce().copy_to_slice(&mut record);
    let there_hash = B256::from_slice(&record[..32]);
    if there_hash == here_hash {
        return Ok(());
    }
    let there = String::from_utf8_lossy(&record[32..]).into_owned();
    Err(StoreError::OtherNetwork { there, there_hash, here: genesis.name.clone(), here_hash })
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_runtime::{Runner as _, deterministic};

    #[test]
    fn another_networks_store_is_refused_naming_both() {
        deterministic::Runner::default().start(|context| async move {
            let ours = crate::genesis::tests::sample();
            let mut theirs = ours.clone();
            theirs.name = "elsewhere".into();
            bind(&context, "a", &ours).await.unwrap();
            bind(&context, "a", &ours).await.unwrap();
            bind(&context, "b", &theirs).await.unwrap();
            let refused = bind(&context, "a", &theirs).await.unwrap_err().to_string();
            for said in
                ["\"elsewhere\"", &format!("{:?}", ours.name), &ours.hash().to_string(), &theirs.hash().to_string()]
            {
                assert!(refused.contains(said), "{refused}");
            }
        });
    }
}
