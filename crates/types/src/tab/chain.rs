//! Reveal one value of a hash chain for each tick.
//!
//! Value n of a chain of n ticks is drawn from the tab's seed: BLAKE3 derive-key of seed 32 ‖ provider 32 ‖ leaf number
//! u32. Each value before it is keccak(tag 16 ‖ tab 32 ‖ provider 32 ‖ value 32); value 0 is the anchor. Tab and provider
//! are hashed at each step, so that a value is of no use elsewhere. All integers big-endian.

use super::TICKS_MAX;
use alloy_primitives::{B256, keccak256};
use zeroize::{Zeroize as _, Zeroizing};

const SEED_CONTEXT: &str = "hodei 2026 tick chain seed v1";
const TAG: &[u8; 16] = b"hodei-tick-----1";
/// Values kept of a prepared chain are so far apart: 2 kB a chain, and at most 63 hashes for any value.
const STRIDE: u32 = 64;

/// How many ticks were paid in all, and the chain's value that proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    pub index: u32,
    pub value: B256,
}

/// Why one tick does not follow from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TickError {
    #[error("tick {given} is not above tick {known}, which is known")]
    Old { known: u32, given: u32 },
    #[error("tick {given} is more than {most} above tick {known}: reveal one between them first")]
    Far { known: u32, given: u32, most: u32 },
    #[error("the value of tick {0} is not of this chain")]
    Value(u32),
}

/// The value before `value` in the chain of `provider` under `tab`.
pub fn step(tab: B256, provider: B256, value: B256) -> B256 {
    let mut bytes = [0; 112];
    bytes[..16].copy_from_slice(TAG);
    bytes[16..48].copy_from_slice(tab.as_slice());
    bytes[48..80].copy_from_slice(provider.as_slice());
    bytes[80..].copy_from_slice(value.as_slice());
    keccak256(bytes)
}

/// Checks that `given` is further along the chain than `known` (its anchor is tick 0), by at most `steps_max`: each
/// costs a hash. That it is within its leaf's ticks is for the caller to check.
pub fn follows(tab: B256, provider: B256, known: &Tick, given: &Tick, steps_max: u32) -> Result<(), TickError> {
    let steps = given.index.saturating_sub(known.index);
    if steps == 0 {
        return Err(TickError::Old { known: known.index, given: given.index });
    }
    if steps > steps_max {
        return Err(TickError::Far { known: known.index, given: given.index, most: steps_max });
    }
    let back = (0..steps).fold(given.value, |value, _| step(tab, provider, value));
    if back == known.value { Ok(()) } else { Err(TickError::Value(given.index)) }
}

/// A chain as who knows its seed holds it.
#[derive(Clone)]
pub struct Chain {
    tab: B256,
    provider: B256,
    ticks: u32,
    /// Values 0, 64, 128, … below the last, and the last.
    marks: Vec<B256>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chain({} ticks from {})", self.ticks, self.anchor())
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.marks.iter_mut().for_each(|mark| mark.0.zeroize());
    }
}

impl Chain {
    /// The chain of leaf `number`, for `ticks` ticks: as many hashes. `None` unless `ticks` is 1 to [`TICKS_MAX`].
    pub fn prepare(seed: &[u8; 32], tab: B256, provider: B256, number: u32, ticks: u32) -> Option<Self> {
        if ticks == 0 || ticks > TICKS_MAX {
            return None;
        }
        let mut input = Zeroizing::new([0; 68]);
        input[..32].copy_from_slice(seed);
        input[32..64].copy_from_slice(provider.as_slice());
        input[64..].copy_from_slice(&number.to_be_bytes());
        let mut value = B256::new(blake3::derive_key(SEED_CONTEXT, &*input));
        let mut marks = Vec::with_capacity((ticks / STRIDE) as usize + 2);
        marks.push(value);
        for index in (0..ticks).rev() {
            value = step(tab, provider, value);
            if index % STRIDE == 0 {
                marks.push(value);
            }
        }
        marks.reverse();
        Some(Self { tab, provider, ticks, marks })
    }

    /// Value 0, which the leaf commits to.
    pub fn anchor(&self) -> B256 {
        self.marks[0]
    }

    /// Ticks it can pay.
    pub fn ticks(&self) -> u32 {
        self.ticks
    }

    /// What pays for the first `index` ticks in all; `None` above the last. At most 63 hashes.
    pub fn tick(&self, index: u32) -> Option<Tick> {
        if index > self.ticks {
            return None;
        }
        let mark = index.div_ceil(STRIDE);
        let at = mark.saturating_mul(STRIDE).min(self.ticks);
        let known = self.marks[mark as usize];
        let value = (index..at).fold(known, |value, _| step(self.tab, self.provider, value));
        Some(Tick { index, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAB: B256 = B256::repeat_byte(1);
    const NODE: B256 = B256::repeat_byte(2);

    #[test]
    fn every_value_of_a_chain_is_one_step_from_the_next() {
        for ticks in [1, 2, 63, 64, 65, 128, 200] {
            let chain = Chain::prepare(&[3; 32], TAB, NODE, 4, ticks).unwrap();
            assert_eq!((chain.ticks(), chain.tick(0).unwrap().value), (ticks, chain.anchor()));
            for index in 0..ticks {
                let (here, next) = (chain.tick(index).unwrap(), chain.tick(index + 1).unwrap());
                assert_eq!((here.index, here.value), (index, step(TAB, NODE, next.value)), "{index} of {ticks}");
                assert_eq!(follows(TAB, NODE, &here, &next, 1), Ok(()));
            }
            assert_eq!(chain.tick(ticks + 1), None);
        }
    }

    #[test]
    fn a_tick_follows_from_its_own_chain_alone_and_within_the_steps_allowed() {
        let chain = Chain::prepare(&[3; 32], TAB, NODE, 4, 100).unwrap();
        let (known, given) = (chain.tick(10).unwrap(), chain.tick(74).unwrap());
        assert_eq!(follows(TAB, NODE, &known, &given, 64), Ok(()));
        let far = TickError::Far { known: 10, given: 74, most: 63 };
        assert_eq!(follows(TAB, NODE, &known, &given, 63), Err(far));
        assert_eq!(follows(TAB, NODE, &given, &known, 64), Err(TickError::Old { known: 74, given: 10 }));
        assert_eq!(follows(TAB, NODE, &given, &given, 64), Err(TickError::Old { known: 74, given: 74 }));
        let wrong = Err(TickError::Value(74));
        assert_eq!(follows(NODE, NODE, &known, &given, 64), wrong, "another tab");
        assert_eq!(follows(TAB, TAB, &known, &given, 64), wrong, "another provider");
        let near = Tick { index: 75, ..given };
        assert_eq!(follows(TAB, NODE, &known, &near, 100), Err(TickError::Value(75)), "a value that pays for less");
        let last = Tick { index: u32::MAX, value: given.value };
        assert!(matches!(follows(TAB, NODE, &known, &last, TICKS_MAX), Err(TickError::Far { .. })));
    }

    #[test]
    fn chains_differ_by_seed_tab_provider_and_leaf_and_have_a_bounded_length() {
        let anchor = |seed: u8, tab, node, number| Chain::prepare(&[seed; 32], tab, node, number, 3).unwrap().anchor();
        let first = anchor(3, TAB, NODE, 4);
        for other in
            [anchor(4, TAB, NODE, 4), anchor(3, NODE, NODE, 4), anchor(3, TAB, TAB, 4), anchor(3, TAB, NODE, 5)]
        {
            assert_ne!(first, other);
        }
        assert!(Chain::prepare(&[3; 32], TAB, NODE, 4, 0).is_none());
        assert!(Chain::prepare(&[3; 32], TAB, NODE, 4, TICKS_MAX + 1).is_none());
        let longest = Chain::prepare(&[3; 32], TAB, NODE, 4, TICKS_MAX).unwrap();
        let (zero, last) = (longest.tick(0).unwrap(), longest.tick(TICKS_MAX).unwrap());
        assert_eq!(follows(TAB, NODE, &zero, &last, TICKS_MAX), Ok(()));
        assert!(!format!("{longest:?}").contains(&format!("{}", last.value)), "the seed is not printed");
    }
}
