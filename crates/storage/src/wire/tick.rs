//! Pay a provider for what was read, and hear where it counts.
//!
//! A tick is the next value of the hash chain that a tab on the ledger commits to for this provider. The leaf of that
//! commitment goes with a reader's first tick to a provider: it shows that the chain is paid for, and at what price.

use super::WireError;
use hodei_types::cbor::{Reader, Writer};

/// Of a leaf and its path through a tab's tree, as `types::tab` writes it.
const OPENING_BYTES_MAX: usize = 32 + 4 + 16 + 10 * 40;

/// One step of a chain, or several at once; one that is known already asks where the provider counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    pub tab: [u8; 32],
    /// Number of the tab's leaf.
    pub leaf: u32,
    /// Ticks in all; 0, with the anchor, pays nothing.
    pub index: u32,
    /// The chain's value there.
    pub value: [u8; 32],
    /// What the tab commits to for this provider; empty if it knows.
    pub opening: Vec<u8>,
}

/// What a provider counts of a tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tab {
    /// Ticks of that leaf in all, and the value that shows it.
    pub taken: u32,
    pub value: [u8; 32],
    /// Given under this tab so far, whatever became of it, beyond what ticks of other leaves paid.
    pub served_bytes: u64,
    /// Given before a tick is missed.
    pub credit_bytes: u64,
}

impl Tick {
    pub(super) fn write(&self, out: &mut Writer) {
        out.bytes(&self.tab).uint(self.leaf.into()).uint(self.index.into()).bytes(&self.value).bytes(&self.opening);
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (tab, leaf, index) = (input.fixed()?, number(input, "leaf")?, number(input, "tick")?);
        let (value, opening) = (input.fixed()?, input.bytes(OPENING_BYTES_MAX)?.to_vec());
        Ok(Self { tab, leaf, index, value, opening })
    }
}

impl Tab {
    pub(super) fn write(&self, out: &mut Writer) {
        out.uint(self.taken.into()).bytes(&self.value).uint(self.served_bytes).uint(self.credit_bytes);
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (taken, value) = (number(input, "tick")?, input.fixed()?);
        Ok(Self { taken, value, served_bytes: input.uint()?, credit_bytes: input.uint()? })
    }
}

fn number(input: &mut Reader<'_>, what: &'static str) -> Result<u32, WireError> {
    u32::try_from(input.uint()?).map_err(|_| WireError::Limit(what))
}
