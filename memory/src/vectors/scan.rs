//! Scans: the same arithmetic over many slots, in the instructions of this processor.
//!
//! [`Cosines`] compares vectors, [`Looks`] looks at codes, and [`Compare`] puts cosines in the place of looks. Which slots
//! there are to scan and what follows is `vectors.rs`.

use pulp::{Simd, WithSimd};

use super::codes::{Codes, Question};
use super::rows::{Rows, dot};
use super::walk::Accept;

/// Cosines of a query to all accepted slots, by slot.
pub(super) struct Cosines<'a> {
    pub(super) rows: &'a Rows,
    pub(super) query: &'a [f32],
    pub(super) accept: Accept<'a>,
}

impl WithSimd for Cosines<'_> {
    type Output = Vec<(u32, f32)>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let mut found = Vec::with_capacity(self.accept.present.len());
        for (slot, row) in (0_u32..).zip(self.rows.iter()) {
            if self.accept.passes(slot) {
                found.push((slot, dot(simd, self.query, row)));
            }
        }
        found
    }
}

/// A look at all accepted slots, by slot.
pub(super) struct Looks<'a> {
    pub(super) codes: &'a Codes,
    pub(super) question: &'a Question,
    pub(super) accept: Accept<'a>,
}

impl WithSimd for Looks<'_> {
    type Output = Vec<(u32, f32)>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        let slots = self.accept.present.len();
        let mut found = Vec::with_capacity(slots);
        for slot in 0..slots as u32 {
            if self.accept.passes(slot) {
                found.push((slot, self.codes.look(self.question, slot)));
            }
        }
        found
    }
}

/// The cosine in the place of each look.
pub(super) struct Compare<'a> {
    pub(super) rows: &'a Rows,
    pub(super) query: &'a [f32],
    pub(super) looks: Vec<(u32, f32)>,
}

impl WithSimd for Compare<'_> {
    type Output = Vec<(u32, f32)>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let mut looks = self.looks;
        for (slot, look) in &mut looks {
            *look = dot(simd, self.query, self.rows.row(*slot));
        }
        looks
    }
}
