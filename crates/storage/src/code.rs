//! Make n shards of which any k restore a stripe, and find bytes in them.
//!
//! Reed-Solomon over GF(2⁸), systematic: the first k shards are the data. The matrix is the Vandermonde one
//! made systematic, as in `reed-solomon-erasure` 6 (tests compare), whose C kernel multiplies. That kernel is
//! compiled for Haswell, so the processor is asked before the first call and a table in plain Rust does
//! the work where it would fault. Work goes by columns, so that what is being summed stays in cache.

use std::ops::Range;

use hodei_types::code::{SHARD_ALIGN, SHARD_BYTES};
use reed_solomon_erasure::galois_8;

use crate::seal::{FRAME_BYTES, FRAME_PLAIN_BYTES, TAG_BYTES};

/// Bytes of each shard worked on at a time.
const COLUMN_BYTES: usize = 16 * 1024;

/// Why a stripe was not restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    #[error("{have} shards of the {k} needed")]
    TooFew { have: usize, k: u8 },
    #[error("shard {0} is given twice, is none of this code, or has another length")]
    BadShard(u8),
}

/// Codes stripes of one shape.
#[derive(Clone, Debug)]
pub struct Codec {
    k: u8,
    n: u8,
    /// (n - k) rows of k.
    parity: Vec<u8>,
    kernel: Kernel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    C,
    Table,
}

impl Kernel {
    /// The C objects are built with `-march=haswell` on x86-64, and for the baseline elsewhere.
    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        let able = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("lzcnt")
            && std::arch::is_x86_feature_detected!("movbe");
        #[cfg(not(target_arch = "x86_64"))]
        let able = true;
        if able { Self::C } else { Self::Table }
    }

    /// out = c · input, or out += c · input.
    fn multiply(self, c: u8, input: &[u8], out: &mut [u8], add: bool) {
        match (self, add) {
            (Self::C, false) => galois_8::mul_slice(c, input, out),
            (Self::C, true) => galois_8::mul_slice_xor(c, input, out),
            (Self::Table, _) => {
                let mut table = [0; 256];
                for (x, product) in table.iter_mut().enumerate() {
                    *product = galois_8::mul(c, x as u8);
                }
                for (out, x) in out.iter_mut().zip(input) {
                    *out = table[usize::from(*x)] ^ if add { *out } else { 0 };
                }
            }
        }
    }
}

impl Codec {
    /// Panics unless 1 ≤ k < n: shapes are checked where they enter.
    pub fn new(k: u8, n: u8) -> Self {
        assert!(1 <= k && k < n, "{k}-of-{n} is no code");
        let wide = usize::from(k);
        let vandermonde: Vec<Vec<u8>> =
            (0..n).map(|row| (0..wide).map(|column| galois_8::exp(row, column)).collect()).collect();
        let top = invert(vandermonde[..wide].to_vec()).expect("a Vandermonde square has an inverse");
        let parity = vandermonde[wide..].iter().flat_map(|row| times(row, &top)).collect();
        Self { k, n, parity, kernel: Kernel::detect() }
    }

    pub fn k(&self) -> u8 {
        self.k
    }

    pub fn n(&self) -> u8 {
        self.n
    }

    /// Computes the n - k parity shards of k data shards, both laid end to end.
    ///
    /// Panics if the lengths are not those of k and n - k equal shards.
    pub fn encode(&self, data: &[u8], parity: &mut [u8]) {
        let (k, extra) = (usize::from(self.k), usize::from(self.n - self.k));
        let len = data.len() / k;
        assert!(data.len() == len * k && parity.len() == len * extra, "shards of one length");
        let mut from = 0;
        while from < len {
            let to = (from + COLUMN_BYTES).min(len);
            for (row, out) in parity.chunks_exact_mut(len).enumerate() {
                for (column, input) in data.chunks_exact(len).enumerate() {
                    let c = self.parity[row * k + column];
                    self.kernel.multiply(c, &input[from..to], &mut out[from..to], column > 0);
                }
            }
            from = to;
        }
    }

    /// Computes the shards `wanted` from any k of a stripe's (or the same range of each), end to end into
    /// `out`. More than k are allowed, the first k distinct ones are used; data shards cost least.
    pub fn restore(&self, have: &[(u8, &[u8])], wanted: &[u8], out: &mut [u8]) -> Result<(), CodeError> {
        let k = usize::from(self.k);
        let len = have.first().map_or(0, |(_, shard)| shard.len());
        let mut seen = [false; 256];
        for (index, shard) in have {
            let known = std::mem::replace(&mut seen[usize::from(*index)], true);
            if known || *index >= self.n || shard.len() != len {
                return Err(CodeError::BadShard(*index));
            }
        }
        let Some(have) = have.get(..k) else { return Err(CodeError::TooFew { have: have.len(), k: self.k }) };
        if let Some(bad) = wanted.iter().find(|wanted| **wanted >= self.n) {
            return Err(CodeError::BadShard(*bad));
        }
        assert!(out.len() == len * wanted.len(), "room for the shards wanted");
        if len == 0 {
            return Ok(());
        }
        let square = have.iter().map(|(index, _)| self.row(*index)).collect();
        let inverse = invert(square).expect("any k rows of the code are independent");
        let rows: Vec<Vec<u8>> = wanted.iter().map(|index| times(&self.row(*index), &inverse)).collect();
        let mut from = 0;
        while from < len {
            let to = (from + COLUMN_BYTES).min(len);
            for (row, out) in rows.iter().zip(out.chunks_exact_mut(len)) {
                for (column, (_, input)) in have.iter().enumerate() {
                    self.kernel.multiply(row[column], &input[from..to], &mut out[from..to], column > 0);
                }
            }
            from = to;
        }
        Ok(())
    }

    fn row(&self, index: u8) -> Vec<u8> {
        let k = usize::from(self.k);
        if index < self.k {
            return (0..k).map(|column| u8::from(column == usize::from(index))).collect();
        }
        let from = usize::from(index - self.k) * k;
        self.parity[from..from + k].to_vec()
    }
}

/// row · matrix.
fn times(row: &[u8], matrix: &[Vec<u8>]) -> Vec<u8> {
    let columns = matrix.first().map_or(0, Vec::len);
    let mut out = vec![0; columns];
    for (factor, line) in row.iter().zip(matrix) {
        for (out, value) in out.iter_mut().zip(line) {
            *out ^= galois_8::mul(*factor, *value);
        }
    }
    out
}

/// Gauss-Jordan; `None` if the square is singular.
fn invert(mut square: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let size = square.len();
    let mut inverse: Vec<Vec<u8>> =
        (0..size).map(|row| (0..size).map(|column| u8::from(row == column)).collect()).collect();
    for column in 0..size {
        let pivot = (column..size).find(|row| square[*row][column] != 0)?;
        square.swap(column, pivot);
        inverse.swap(column, pivot);
        let scale = galois_8::div(1, square[column][column]);
        for value in square[column].iter_mut().chain(&mut inverse[column]) {
            *value = galois_8::mul(*value, scale);
        }
        let (line, beside) = (square[column].clone(), inverse[column].clone());
        for row in (0..size).filter(|row| *row != column) {
            let factor = square[row][column];
            let values = square[row].iter_mut().chain(&mut inverse[row]);
            for (value, other) in values.zip(line.iter().chain(&beside)) {
                *value ^= galois_8::mul(factor, *other);
            }
        }
    }
    Some(inverse)
}

/// Where a part's bytes are: frames laid end to end, cut into stripes of k shards, the last one shrunk to
/// what is left in steps of 4 KiB a shard, never to fewer shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    k: u8,
    size: u64,
}

/// A run of bytes inside one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub stripe: u32,
    /// A data shard: less than k.
    pub shard: u8,
    pub offset: u32,
    pub len: u32,
}

impl Geometry {
    /// Of a part of `size` plaintext bytes.
    ///
    /// Panics beyond 2³² stripes, which no limit of ours lets in.
    pub fn new(k: u8, size: u64) -> Self {
        assert!(k > 0 && size < u64::from(u32::MAX) * u64::from(SHARD_BYTES), "a part within limits");
        Self { k, size }
    }

    /// Frames; an empty part has one, so that its end is authenticated.
    pub fn frames(&self) -> u64 {
        self.size.div_ceil(FRAME_PLAIN_BYTES as u64).max(1)
    }

    /// Bytes of all frames.
    pub fn sealed_bytes(&self) -> u64 {
        self.size + self.frames() * TAG_BYTES as u64
    }

    /// Bytes of frame `number` as sealed.
    pub fn frame_bytes(&self, number: u64) -> usize {
        let from = number * FRAME_BYTES as u64;
        (self.sealed_bytes().saturating_sub(from)).min(FRAME_BYTES as u64) as usize
    }

    pub fn stripes(&self) -> u32 {
        self.sealed_bytes().div_ceil(self.stripe_bytes()) as u32
    }

    /// Bytes of each shard of a stripe.
    pub fn shard_bytes(&self, stripe: u32) -> u32 {
        let left = self.sealed_bytes().saturating_sub(u64::from(stripe) * self.stripe_bytes());
        let needed = left.div_ceil(self.k.into()).min(SHARD_BYTES.into()) as u32;
        needed.next_multiple_of(SHARD_ALIGN)
    }

    /// Sealed bytes in a stripe, before padding.
    pub fn stripe_len(&self, stripe: u32) -> u64 {
        self.sealed_bytes().saturating_sub(u64::from(stripe) * self.stripe_bytes()).min(self.stripe_bytes())
    }

    /// Sealed bytes of a full stripe.
    pub fn stripe_bytes(&self) -> u64 {
        u64::from(self.k) * u64::from(SHARD_BYTES)
    }

    /// The frames that `range` of the plaintext is in, and where it begins in the first one. `None` if the
    /// range is empty or not inside.
    pub fn frames_of(&self, range: Range<u64>) -> Option<(Range<u64>, usize)> {
        if range.start >= range.end || range.end > self.size {
            return None;
        }
        let plain = FRAME_PLAIN_BYTES as u64;
        Some((range.start / plain..(range.end - 1) / plain + 1, (range.start % plain) as usize))
    }

    /// The pieces that frames `frames` consist of, in order.
    pub fn pieces(&self, frames: Range<u64>) -> Vec<Piece> {
        let mut at = frames.start * FRAME_BYTES as u64;
        let end = (frames.end * FRAME_BYTES as u64).min(self.sealed_bytes());
        let mut pieces = Vec::new();
        while at < end {
            let stripe = (at / self.stripe_bytes()) as u32;
            let shard_bytes = u64::from(self.shard_bytes(stripe));
            let inside = at % self.stripe_bytes();
            let (shard, offset) = (inside / shard_bytes, inside % shard_bytes);
            let len = (shard_bytes - offset).min(end - at);
            pieces.push(Piece { stripe, shard: shard as u8, offset: offset as u32, len: len as u32 });
            at += len;
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reed_solomon_erasure::galois_8::ReedSolomon;

    fn random(len: usize, mut seed: u64) -> Vec<u8> {
        (0..len)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 33) as u8
            })
            .collect()
    }

    #[test]
    fn the_code_is_the_crates_code_by_either_kernel() {
        for (k, n, len) in [(1, 2, 100), (3, 6, 40_000), (16, 24, 5000), (10, 30, 333), (16, 32, 4096)] {
            let data = random(usize::from(k) * len, u64::from(n));
            let mut shards: Vec<Vec<u8>> = data.chunks(len).map(<[u8]>::to_vec).collect();
            shards.resize(n.into(), vec![0; len]);
            ReedSolomon::new(k.into(), (n - k).into()).unwrap().encode(&mut shards).unwrap();
            for kernel in [Kernel::detect(), Kernel::Table] {
                let codec = Codec { kernel, ..Codec::new(k, n) };
                let mut parity = vec![1; usize::from(n - k) * len];
                codec.encode(&data, &mut parity);
                assert_eq!(parity, shards[k.into()..].concat(), "{k}-of-{n} {kernel:?}");
            }
        }
    }

    #[test]
    fn any_k_shards_restore_any_others() {
        let (k, n, len) = (3u8, 6u8, 20_000);
        let data = random(usize::from(k) * len, 4);
        let codec = Codec::new(k, n);
        let mut all = data.clone();
        all.resize(usize::from(n) * len, 0);
        let (head, tail) = all.split_at_mut(data.len());
        codec.encode(head, tail);
        let shard = |i: u8| &all[usize::from(i) * len..][..len];
        for a in 0..n {
            for b in (0..n).filter(|b| *b != a) {
                for c in (0..n).filter(|c| *c != a && *c != b) {
                    let have = [(a, shard(a)), (b, shard(b)), (c, shard(c))];
                    let wanted = [0, 2, 4, 5];
                    let mut out = vec![0; wanted.len() * len];
                    codec.restore(&have, &wanted, &mut out).unwrap();
                    assert_eq!(out, wanted.map(|i| shard(i).to_vec()).concat(), "from {a} {b} {c}");
                }
            }
        }
        let mut out = vec![0; len];
        assert_eq!(
            codec.restore(&[(0, shard(0)), (1, shard(1))], &[2], &mut out),
            Err(CodeError::TooFew { have: 2, k: 3 })
        );
        let twice = [(0, shard(0)), (0, shard(0)), (1, shard(1))];
        assert_eq!(codec.restore(&twice, &[2], &mut out), Err(CodeError::BadShard(0)));
        let short = [(0, shard(0)), (1, &shard(1)[1..]), (2, shard(2))];
        assert_eq!(codec.restore(&short, &[3], &mut out), Err(CodeError::BadShard(1)));
    }

    #[test]
    fn pieces_cover_a_part_once_and_in_order() {
        let full = FRAME_PLAIN_BYTES as u64;
        for k in [1u8, 3, 16] {
            let stripe = u64::from(k) * 4 * full;
            for size in
                [0, 1, 4096, full - 1, full, full + 1, stripe - 1, stripe, stripe + 1, 3 * stripe + 7 * full + 5]
            {
                let part = Geometry::new(k, size);
                let frames: u64 = (0..part.frames()).map(|frame| part.frame_bytes(frame) as u64).sum();
                assert_eq!(frames, part.sealed_bytes());
                let pieces = part.pieces(0..part.frames());
                assert_eq!(pieces.iter().map(|piece| u64::from(piece.len)).sum::<u64>(), part.sealed_bytes());
                let mut expected = (0, 0, 0);
                for piece in &pieces {
                    let Piece { stripe, shard, offset, len } = *piece;
                    assert_eq!((stripe, shard, offset), expected);
                    assert!(shard < k && offset + len <= part.shard_bytes(stripe));
                    let shard_full = offset + len == part.shard_bytes(stripe);
                    expected = match (shard_full, shard + 1 == k) {
                        (false, _) => (stripe, shard, offset + len),
                        (true, false) => (stripe, shard + 1, 0),
                        (true, true) => (stripe + 1, 0, 0),
                    };
                }
                for stripe in 0..part.stripes() {
                    let bytes = part.shard_bytes(stripe);
                    assert!(bytes.is_multiple_of(SHARD_ALIGN) && (SHARD_ALIGN..=SHARD_BYTES).contains(&bytes));
                    assert!(u64::from(bytes) * u64::from(k) >= part.stripe_len(stripe));
                }
                if size > 0 {
                    let (frames, skip) = part.frames_of(size - 1..size).unwrap();
                    assert_eq!(frames.start * full + skip as u64, size - 1);
                }
                assert_eq!(part.frames_of(size..size + 1), None);
            }
        }
    }
}
