//! Write a piece of the chain to a file that the network key alone verifies.

use hodei_ledger::{
    history::{Checker, HEAD_BYTES, HistoryError, Kind, frame, head},
    light::{LightError, Verifier},
};
use hodei_types::{
    chain::{Chain, ChainError},
    network::NetworkKey,
};
use std::io::Write;

/// Why nothing whole was written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("what a member answered is refused: {0}")]
    Refused(#[from] HistoryError),
    #[error("the network key is unusable: {0}")]
    Key(#[from] LightError),
    #[error("the file cannot be written: {0}")]
    Write(#[from] std::io::Error),
}

/// Writes the blocks from `from` to the first certified one at or above `to`; returns the last height.
///
/// Every block is checked before it is written, as whoever reads the file will check it.
pub async fn export(
    chain: &dyn Chain,
    key: &NetworkKey,
    from: u64,
    to: u64,
    file: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let head: [u8; HEAD_BYTES] = head(key.genesis, from).try_into().expect("a head has one length");
    let mut checker = Checker::new(Verifier::new(key)?, &head)?;
    file.write_all(&head)?;
    let mut known = 0;
    for height in from.. {
        if known < height {
            known = chain.wait(height - 1).await?.height;
        }
        let kept = chain.kept(height).await?;
        checker.block(&kept.block)?;
        file.write_all(&frame(Kind::Block, &kept.block))?;
        if let Some(finalization) = kept.finalization {
            checker.certificate(&finalization)?;
            file.write_all(&frame(Kind::Certificate, &finalization))?;
            if height >= to {
                break;
            }
        }
    }
    file.write_all(&frame(Kind::End, &[]))?;
    file.flush()?;
    Ok(checker.end()?)
}
