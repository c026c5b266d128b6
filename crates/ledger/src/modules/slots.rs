//! Derive storage slots, and pack fields into words.

use alloy_primitives::{Address, B256, U256, keccak256};

use super::ctx::{Ctx, Stop};

/// The first slot of what `tag` and `parts` name: keccak(tag ‖ parts). Records take the slots that follow.
pub(crate) fn base(tag: u8, parts: &[&[u8]]) -> U256 {
    let mut input = Vec::with_capacity(65);
    input.push(tag);
    for part in parts {
        input.extend_from_slice(part);
    }
    keccak256(input).into()
}

/// `base` moved by `i` slots; wraps, as keccak images may stand at the end.
pub(crate) fn at(base: U256, i: u64) -> U256 {
    base.wrapping_add(U256::from(i))
}

/// Four 64-bit fields in one word.
pub(crate) fn pack(fields: [u64; 4]) -> U256 {
    U256::from_limbs(fields)
}

pub(crate) fn unpack(word: U256) -> [u64; 4] {
    word.into_limbs()
}

/// Two 128-bit fields in one word.
pub(crate) fn pack_wide(low: u128, high: u128) -> U256 {
    U256::from(low) | (U256::from(high) << 128)
}

pub(crate) fn unpack_wide(word: U256) -> (u128, u128) {
    let limbs = word.into_limbs();
    let join = |low: u64, high: u64| u128::from(low) | (u128::from(high) << 64);
    (join(limbs[0], limbs[1]), join(limbs[2], limbs[3]))
}

/// An address and 64 bits beside it.
pub(crate) fn pack_address(address: Address, beside: u64) -> U256 {
    U256::from_be_slice(address.as_slice()) | (U256::from(beside) << 192)
}

pub(crate) fn unpack_address(word: U256) -> (Address, u64) {
    (Address::from_word(B256::from(word)), word.into_limbs()[3])
}

/// A string of at most 31 bytes in one word, its length in the last byte.
pub(crate) fn pack_text(text: &str) -> U256 {
    let mut word = [0; 32];
    let bytes = text.as_bytes();
    let len = bytes.len().min(31);
    word[..len].copy_from_slice(&bytes[..len]);
    word[31] = len as u8;
    U256::from_be_bytes(word)
}

pub(crate) fn unpack_text(word: U256) -> String {
    let bytes = word.to_be_bytes::<32>();
    String::from_utf8_lossy(&bytes[..usize::from(bytes[31]).min(31)]).into_owned()
}

/// Writes `bytes` into the slots from `base`, the length first, and clears what a longer value left.
pub(crate) fn store_bytes(ctx: &mut Ctx<'_, '_>, base: U256, bytes: &[u8]) -> Result<(), Stop> {
    let me = ctx.me;
    let old: u64 = ctx.load(me, base)?.saturating_to();
    ctx.store(me, base, U256::from(bytes.len()))?;
    for (i, chunk) in bytes.chunks(32).enumerate() {
        let mut word = [0; 32];
        word[..chunk.len()].copy_from_slice(chunk);
        ctx.store(me, at(base, 1 + i as u64), U256::from_be_bytes(word))?;
    }
    for i in (bytes.len() as u64).div_ceil(32)..old.min(BYTES_MAX).div_ceil(32) {
        ctx.store(me, at(base, 1 + i), U256::ZERO)?;
    }
    Ok(())
}

/// What [`store_bytes`] wrote.
pub(crate) fn load_bytes(ctx: &mut Ctx<'_, '_>, account: Address, base: U256) -> Result<Vec<u8>, Stop> {
    let len: u64 = ctx.load(account, base)?.saturating_to();
    let len = len.min(BYTES_MAX);
    let mut out = Vec::with_capacity(len as usize + 32);
    for i in 0..len.div_ceil(32) {
        out.extend_from_slice(&ctx.load(account, at(base, 1 + i))?.to_be_bytes::<32>());
    }
    out.truncate(len as usize);
    Ok(out)
}

/// No module stores longer values.
const BYTES_MAX: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_from_words() {
        assert_eq!(unpack(pack([1, u64::MAX, 3, 4])), [1, u64::MAX, 3, 4]);
        assert_eq!(unpack_wide(pack_wide(u128::MAX, 7)), (u128::MAX, 7));
        let address = Address::repeat_byte(0xab);
        assert_eq!(unpack_address(pack_address(address, 9)), (address, 9));
        for text in ["", "eu-west", "0123456789012345678901234567890"] {
            assert_eq!(unpack_text(pack_text(text)), text);
        }
    }
}
