//! Pay for bytes by the words of a hash chain bound on the ledger, a MiB a word.
//!
//! The hash chain is that of [`tab`](crate::tab): a chain's id stands in each of its steps where a tab's does, its payee
//! where a provider does, so that a word is of no use in another chain. The payer's numbers are never used again, and so
//! neither is an id whose words are known.
//!
//! ```text
//! payer: open (anchor, ticks) ─► the ledger binds ticks · price
//! payer ─word 1─► payee ─► a MiB ─► word 2 ─► …          36 bytes each, no signature
//! payee: claim (last index, last word) ─► pay, less what is burned
//! ```
//! Upon opening, payer and payee stand beside each other on the ledger. It suits who knows each other anyway: a tenant and
//! its host's egress. It hides nobody behind a circuit; that takes blind tickets, which are no part of this.

use alloy_primitives::{Address, B256, keccak256};

use crate::tab::{Chain, Tick, TickError, follows};

/// MiB of a ticket of the pool.
pub const TICKET_TICKS: [u32; 3] = [1, 8, 64];
/// Ticks of a chain at most, and so hashes of a claim.
pub const CHAIN_TICKS_MAX: u32 = 64;
/// A chain's claims end so many windows after it was opened: one to use it in, one to claim in.
pub const CHAIN_WINDOWS: u64 = 2;

const ID_TAG: &[u8; 16] = b"hodei-pool-----1";

/// The id of a chain: keccak of tag 16 ‖ network's chain id u64 ‖ payer 20 ‖ payee 20 ‖ number u64, big-endian.
pub fn chain_id(network: u64, payer: Address, payee: Address, number: u64) -> B256 {
    let parts = [&ID_TAG[..], &network.to_be_bytes(), payer.as_slice(), payee.as_slice(), &number.to_be_bytes()];
    keccak256(parts.concat())
}

/// The words of a chain, from the payer's secret seed: `anchor`, and `tick(i)` for the first i ticks. `None` unless
/// `ticks` is 1 to [`CHAIN_TICKS_MAX`]. A seed may serve many chains.
pub fn prepare_chain(seed: &[u8; 32], id: B256, payee: Address, ticks: u32) -> Option<Chain> {
    // A tab's chains of one seed differ by their leaves' numbers, ours by their ids.
    let seed = zeroize::Zeroizing::new(blake3::keyed_hash(seed, id.as_slice()).into());
    if ticks > CHAIN_TICKS_MAX { None } else { Chain::prepare(&seed, id, side(payee), 0, ticks) }
}

/// Checks that `given` pays for more than `known` (the anchor is tick 0), by at most [`CHAIN_TICKS_MAX`] hashes.
pub fn follows_word(id: B256, payee: Address, known: &Tick, given: &Tick) -> Result<(), TickError> {
    follows(id, side(payee), known, given, CHAIN_TICKS_MAX)
}

fn side(payee: Address) -> B256 {
    B256::left_padding_from(payee.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYER: Address = Address::repeat_byte(1);
    const PAYEE: Address = Address::repeat_byte(2);

    #[test]
    fn a_word_pays_in_its_own_chain_alone() {
        let id = chain_id(7, PAYER, PAYEE, 3);
        let chain = prepare_chain(&[9; 32], id, PAYEE, 8).unwrap();
        let (zero, five, eight) = (chain.tick(0).unwrap(), chain.tick(5).unwrap(), chain.tick(8).unwrap());
        assert_eq!((zero.value, chain.ticks()), (chain.anchor(), 8));
        assert_eq!(follows_word(id, PAYEE, &zero, &five), Ok(()));
        assert_eq!(follows_word(id, PAYEE, &five, &eight), Ok(()));
        assert!(follows_word(id, PAYEE, &eight, &five).is_err(), "words that were given pay no more");
        assert!(follows_word(id, PAYER, &zero, &five).is_err(), "to another");
        let ids = [chain_id(8, PAYER, PAYEE, 3), chain_id(7, PAYEE, PAYEE, 3), chain_id(7, PAYER, PAYEE, 4)];
        for other in ids {
            assert_ne!(other, id);
            assert!(follows_word(other, PAYEE, &zero, &five).is_err());
            assert_ne!(prepare_chain(&[9; 32], other, PAYEE, 8).unwrap().anchor(), chain.anchor());
        }
        assert_ne!(prepare_chain(&[8; 32], id, PAYEE, 8).unwrap().tick(8), chain.tick(8), "another seed");
    }

    #[test]
    fn a_chain_has_a_bounded_length() {
        let id = chain_id(7, PAYER, PAYEE, 0);
        assert!(prepare_chain(&[1; 32], id, PAYEE, 0).is_none());
        assert!(prepare_chain(&[1; 32], id, PAYEE, CHAIN_TICKS_MAX + 1).is_none());
        let longest = prepare_chain(&[1; 32], id, PAYEE, CHAIN_TICKS_MAX).unwrap();
        let all = longest.tick(CHAIN_TICKS_MAX).unwrap();
        assert_eq!(follows_word(id, PAYEE, &longest.tick(0).unwrap(), &all), Ok(()));
        let beyond = Tick { index: CHAIN_TICKS_MAX + 1, ..all };
        assert!(matches!(follows_word(id, PAYEE, &longest.tick(0).unwrap(), &beyond), Err(TickError::Far { .. })));
    }
}
