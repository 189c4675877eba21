//! Rows: the vectors themselves, one flat array, and the arithmetic on them. Their codes are in `codes.rs`.
//!
//! Rows are unit vectors, so a dot product is a cosine. Knows neither which slots hold a vector nor which may be seen: what
//! was in a slot stays readable until it is overwritten.

use pulp::{Arch, Simd, WithSimd};

/// Bytes of a cache line: the first row starts at one, and so does every row whose bytes are a multiple of it.
const LINE: usize = 64;

/// A flat array of rows of one width, a row a slot.
#[derive(Debug)]
pub(super) struct Flat<T> {
    width: usize,
    values: Vec<T>,
    /// Where the first row starts in `values`.
    start: usize,
    count: usize,
}

impl<T: Copy + Default> Flat<T> {
    /// No rows of `width` values.
    pub(super) fn new(width: usize) -> Self {
        Self {
            width,
            values: Vec::new(),
            start: 0,
            count: 0,
        }
    }

    /// Length of a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The row of a slot that was written or extended to.
    #[inline(always)]
    pub(super) fn row(&self, slot: u32) -> &[T] {
        let at = self.start + slot as usize * self.width;
        &self.values[at..at + self.width]
    }

    /// The same, to write it.
    pub(super) fn row_mut(&mut self, slot: u32) -> &mut [T] {
        let at = self.start + slot as usize * self.width;
        &mut self.values[at..at + self.width]
    }

    /// All rows in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[T]> {
        self.values[self.start..].chunks_exact(self.width)
    }

    /// Makes rows of zeros until there are `count`.
    pub(super) fn extend(&mut self, count: usize) {
        if count <= self.count {
            return;
        }
        let values = count * self.width;
        if self.start + values > self.values.capacity() {
            self.reserve(count.max(2 * self.count));
        }
        self.values.resize(self.start + values, T::default());
        self.count = count;
    }

    /// Makes room for `count` rows in all.
    pub(super) fn reserve(&mut self, count: usize) {
        let slack = LINE / size_of::<T>();
        if self.start + count * self.width <= self.values.capacity() {
            return;
        }
        let mut values: Vec<T> = Vec::with_capacity(count * self.width + slack);
        let start = values.as_ptr().align_offset(LINE).min(slack);
        values.resize(start, T::default());
        values.extend_from_slice(&self.values[self.start..]);
        (self.values, self.start) = (values, start);
    }
}

/// The vectors, one a slot.
#[derive(Debug)]
pub(crate) struct Rows {
    flat: Flat<f32>,
    arch: Arch,
}

impl Rows {
    /// No rows of `dimensions` values.
    pub(crate) fn new(dimensions: usize) -> Self {
        Self {
            flat: Flat::new(dimensions),
            arch: Arch::new(),
        }
    }

    /// Length of a row.
    pub(crate) fn dimensions(&self) -> usize {
        self.flat.width()
    }

    /// The instructions of this processor.
    pub(crate) fn arch(&self) -> Arch {
        self.arch
    }

    /// The row of a slot that was written or extended to.
    #[inline(always)]
    pub(crate) fn row(&self, slot: u32) -> &[f32] {
        self.flat.row(slot)
    }

    /// All rows in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.flat.iter()
    }

    /// Writes the row of `slot`, making rows of zeros up to it.
    pub(crate) fn put(&mut self, slot: u32, unit: &[f32]) {
        self.extend(slot as usize + 1);
        self.flat.row_mut(slot).copy_from_slice(unit);
    }

    /// Makes rows of zeros until there are `count`.
    pub(crate) fn extend(&mut self, count: usize) {
        self.flat.extend(count);
    }

    /// Makes room for `count` rows in all.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.flat.reserve(count);
    }

    /// Cosine of two unit vectors.
    pub(crate) fn cosine(&self, left: &[f32], right: &[f32]) -> f32 {
        self.arch.dispatch(Dot { left, right })
    }
}

struct Dot<'a> {
    left: &'a [f32],
    right: &'a [f32],
}

impl WithSimd for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        dot(simd, self.left, self.right)
    }
}

/// Four sums run side by side, because one would wait for each multiplication to finish.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, left: &[f32], right: &[f32]) -> f32 {
    let (left, left_tail) = S::as_simd_f32s(left);
    let (right, right_tail) = S::as_simd_f32s(right);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (left_blocks, left_rest) = left.as_chunks::<4>();
    let (right_blocks, right_rest) = right.as_chunks::<4>();
    for (a, b) in left_blocks.iter().zip(right_blocks) {
        for lane in 0..4 {
            sums[lane] = simd.mul_add_e_f32s(a[lane], b[lane], sums[lane]);
        }
    }
    for (a, b) in left_rest.iter().zip(right_rest) {
        sums[0] = simd.mul_add_e_f32s(*a, *b, sums[0]);
    }
    let sum = simd.add_f32s(
        simd.add_f32s(sums[0], sums[1]),
        simd.add_f32s(sums[2], sums[3]),
    );
    let tail: f32 = left_tail.iter().zip(right_tail).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sum) + tail
}

/// A digest of bytes that come eight at a time. Each step maps the state one to one, so any change of a single word
/// changes the digest for certain, and any other change but for one chance in 2^64. Not for adversaries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    #[inline(always)]
    pub(super) fn word(&mut self, word: u64) {
        // An odd factor and a rotation are both invertible.
        self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(0xd6e8_feb8_6659_fd93);
    }

    pub(super) fn finish(mut self) -> u64 {
        self.word(0);
        self.0 ^ (self.0 >> 32)
    }

    /// Of any bytes and their number.
    pub(super) fn of_bytes(bytes: &[u8]) -> u64 {
        let mut digest = Self::new();
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            digest.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        digest.word(u64::from_le_bytes(last));
        digest.word(bytes.len() as u64);
        digest.finish()
    }

    /// Of a vector, by its bits.
    pub(super) fn of_vector(values: &[f32]) -> u64 {
        let mut digest = Self::new();
        let (pairs, rest) = values.as_chunks::<2>();
        for [low, high] in pairs {
            digest.word(u64::from(low.to_bits()) | u64::from(high.to_bits()) << 32);
        }
        for value in rest {
            digest.word(u64::from(value.to_bits()));
        }
        digest.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_values_while_the_array_grows_and_start_at_cache_lines() {
        let mut rows = Rows::new(16);
        for slot in 0..500_u32 {
            rows.put(slot, &[slot as f32; 16]);
        }
        rows.reserve(5_000);
        assert_eq!(rows.iter().count(), 500);
        for slot in 0..500_u32 {
            assert_eq!(rows.row(slot), [slot as f32; 16]);
            assert_eq!(rows.row(slot).as_ptr().align_offset(LINE), 0);
        }
    }

    #[test]
    fn every_bit_changes_the_digest() {
        let bytes: Vec<u8> = (0..61).collect();
        let whole = Digest::of_bytes(&bytes);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Digest::of_bytes(&changed), whole, "bit {bit}");
        }
        assert_ne!(Digest::of_bytes(&bytes[..60]), whole);
    }
}
