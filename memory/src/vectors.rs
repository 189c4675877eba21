//! Vectors: one flat array, scanned exactly.
//!
//! Rows are normalised on the way in, so a dot product is a cosine. Exact up to the size where an
//! approximate index pays (about 15,000 rows); no filter logic here beyond the mask it is handed,
//! no storage.

use pulp::{Arch, Simd, WithSimd};

/// A flat array of unit vectors, one row a slot.
#[derive(Debug)]
pub(crate) struct Vectors {
    dimensions: usize,
    values: Vec<f32>,
    present: Vec<bool>,
    count: usize,
    arch: Arch,
}

impl Vectors {
    /// No rows of `dimensions` values.
    pub(crate) fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            values: Vec::new(),
            present: Vec::new(),
            count: 0,
            arch: Arch::new(),
        }
    }

    /// Length of a row.
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Number of slots that hold a vector.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Puts a unit vector of the right length into `slot`.
    pub(crate) fn set(&mut self, slot: u32, unit: &[f32]) {
        let at = slot as usize;
        if self.present.len() <= at {
            self.present.resize(at + 1, false);
            self.values.resize((at + 1) * self.dimensions, 0.0);
        }
        self.values[at * self.dimensions..(at + 1) * self.dimensions].copy_from_slice(unit);
        self.count += usize::from(!self.present[at]);
        self.present[at] = true;
    }

    /// Takes the vector out of `slot`.
    pub(crate) fn clear(&mut self, slot: u32) {
        if let Some(present) = self.present.get_mut(slot as usize) {
            self.count -= usize::from(*present);
            *present = false;
        }
    }

    /// The vector of `slot`.
    pub(crate) fn get(&self, slot: u32) -> Option<&[f32]> {
        let at = slot as usize;
        let present = self.present.get(at).copied().unwrap_or(false);
        present.then(|| &self.values[at * self.dimensions..(at + 1) * self.dimensions])
    }

    /// Cosines of the unit vector `query` to every allowed slot that has a vector, by slot.
    pub(crate) fn cosines(&self, query: &[f32], allowed: &[bool]) -> Vec<(u32, f32)> {
        self.arch.dispatch(Scan {
            vectors: self,
            query,
            allowed,
        })
    }

    /// Cosine of two unit vectors.
    pub(crate) fn cosine(&self, left: &[f32], right: &[f32]) -> f32 {
        self.arch.dispatch(Dot { left, right })
    }
}

/// `vector` at length 1, or `None` when it has no direction.
pub(crate) fn normalised(vector: &[f32]) -> Option<Vec<f32>> {
    let norm = vector
        .iter()
        .map(|value| f64::from(*value).powi(2))
        .sum::<f64>()
        .sqrt();
    if !norm.is_finite() || norm < f64::from(f32::MIN_POSITIVE) {
        return None;
    }
    Some(
        vector
            .iter()
            .map(|value| (f64::from(*value) / norm) as f32)
            .collect(),
    )
}

struct Scan<'a> {
    vectors: &'a Vectors,
    query: &'a [f32],
    allowed: &'a [bool],
}

impl WithSimd for Scan<'_> {
    type Output = Vec<(u32, f32)>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let rows = self.vectors.values.chunks_exact(self.vectors.dimensions);
        let mut found = Vec::with_capacity(self.vectors.count);
        for (slot, row) in rows.enumerate() {
            if self.vectors.present[slot] && self.allowed[slot] {
                found.push((slot as u32, dot(simd, self.query, row)));
            }
        }
        found
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
fn dot<S: Simd>(simd: S, left: &[f32], right: &[f32]) -> f32 {
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
