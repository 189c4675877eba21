//! Codes: each vector once more, in a byte a dimension, for a first look.
//!
//! A look reads a quarter of what the comparison of two rows reads and says within which bounds their cosine is
//! ([`Codes::margin`]), so that only those vectors are compared exactly that can be among the nearest: the answer is that of
//! a comparison of all. The graph is built and walked by codes alone. Padding is zero and adds nothing to a product.

use super::product::{BLOCK, Product};
use super::rows::Flat;

/// Largest code of a row.
const CODE_MAX: f32 = 127.0;

/// Largest code of a query: sixteen bits are read as fast as eight, which leaves the rounding of the row.
const QUERY_CODE_MAX: usize = 4_095;

/// More than rounding to `f32` takes from a cosine of unit vectors.
const ROUNDING: f32 = 1e-5;

/// Codes of vectors by slot: a value is its code times the row's scale.
#[derive(Debug)]
pub(super) struct Codes {
    rows: Flat<i8>,
    scales: Vec<f32>,
    /// Length of what rounding took from a row.
    errors: Vec<f32>,
    product: Product,
}

/// A query as it is compared with codes.
#[derive(Debug)]
pub(super) struct Question {
    codes: Vec<i16>,
    scale: f32,
    error: f32,
}

impl Codes {
    /// None, of vectors of `dimensions` values.
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            rows: Flat::new(dimensions.next_multiple_of(BLOCK)),
            scales: Vec::new(),
            errors: Vec::new(),
            product: Product::new(),
        }
    }

    /// Codes of the unit vector in `slot`.
    pub(super) fn put(&mut self, slot: u32, unit: &[f32]) {
        self.extend(slot as usize + 1);
        let scale = largest(unit) / CODE_MAX;
        let row = self.rows.row_mut(slot);
        let mut error = 0.0;
        for (code, value) in row.iter_mut().zip(unit) {
            // Within bounds: no value is larger than the largest.
            *code = (value / scale).round() as i8;
            error += f64::from(value - f32::from(*code) * scale).powi(2);
        }
        self.scales[slot as usize] = scale;
        self.errors[slot as usize] = error.sqrt() as f32;
    }

    /// Makes rows of zeros until there are `count`.
    pub(super) fn extend(&mut self, count: usize) {
        self.rows.extend(count);
        if self.scales.len() < count {
            self.scales.resize(count, 0.0);
            self.errors.resize(count, 0.0);
        }
    }

    /// Makes room for `count` rows in all.
    pub(super) fn reserve(&mut self, count: usize) {
        self.rows.reserve(count);
        self.scales.reserve(count.saturating_sub(self.scales.len()));
        self.errors.reserve(count.saturating_sub(self.errors.len()));
    }

    /// The unit vector `query` as it is compared with these.
    pub(super) fn question(&self, query: &[f32]) -> Question {
        let width = self.rows.width();
        // So that the sum of all products is no more than an `i32` holds.
        let most = QUERY_CODE_MAX.min(i32::MAX as usize / (CODE_MAX as usize * width));
        let scale = largest(query) / most as f32;
        let mut codes = vec![0; width];
        let mut error = 0.0;
        for (code, value) in codes.iter_mut().zip(query) {
            *code = (value / scale).round() as i16;
            error += f64::from(value - f32::from(*code) * scale).powi(2);
        }
        Question {
            codes,
            scale,
            error: error.sqrt() as f32,
        }
    }

    /// The row of `slot` as a query.
    pub(super) fn question_of(&self, slot: u32) -> Question {
        Question {
            codes: self.rows.row(slot).iter().copied().map(i16::from).collect(),
            scale: self.scales[slot as usize],
            error: 0.0,
        }
    }

    /// About the cosine of a query and the vector of `slot`. Fast where it is inlined into code for this processor.
    #[inline(always)]
    pub(super) fn look(&self, question: &Question, slot: u32) -> f32 {
        let sum = self.product.of_query(&question.codes, self.rows.row(slot));
        sum as f32 * (question.scale * self.scales[slot as usize])
    }

    /// About the cosine of the vectors of two slots.
    #[inline(always)]
    pub(super) fn look_between(&self, one: u32, other: u32) -> f32 {
        let sum = self
            .product
            .of_rows(self.rows.row(one), self.rows.row(other));
        sum as f32 * (self.scales[one as usize] * self.scales[other as usize])
    }

    /// How far a look may be from the cosine: `q r - q' r' = q (r - r') + (q - q') r'`, and `q` and `r` have length 1.
    pub(super) fn margin(&self, question: &Question, slot: u32) -> f32 {
        let error = self.errors[slot as usize];
        error + question.error * (1.0 + error) + ROUNDING
    }
}

/// The largest magnitude; never zero.
fn largest(values: &[f32]) -> f32 {
    let magnitudes = values.iter().map(|value| value.abs());
    magnitudes.fold(f32::MIN_POSITIVE, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(values: &[f32]) -> Vec<f32> {
        crate::vectors::normalised(values).unwrap()
    }

    fn cosine(one: &[f32], other: &[f32]) -> f64 {
        let products = one.iter().zip(other);
        products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    fn values() -> impl Strategy<Value = Vec<f32>> {
        // Some of very different sizes, as rounding to a byte likes them least.
        let value = prop_oneof![-1.0_f32..1.0, -0.01_f32..0.01, 5.0_f32..9.0];
        prop::collection::vec(value, 50).prop_filter("a direction", |values| {
            values.iter().any(|v| v.abs() > 1e-3)
        })
    }

    proptest! {
        #[test]
        fn a_cosine_is_within_the_margin_of_its_look(one in values(), other in values()) {
            let (one, other) = (unit(&one), unit(&other));
            let mut codes = Codes::new(50);
            codes.put(2, &one);
            codes.put(0, &other);
            let question = codes.question(&one);
            for (slot, of) in [(2, &one), (0, &other)] {
                let off = f64::from(codes.look(&question, slot)) - cosine(&one, of);
                let margin = f64::from(codes.margin(&question, slot));
                prop_assert!(off.abs() <= margin && margin < 0.2, "{off} {margin}");
            }
            let between = codes.look_between(2, 0);
            prop_assert_eq!(between, codes.look(&codes.question_of(2), 0));
            prop_assert!((f64::from(between) - cosine(&one, &other)).abs() < 0.4);
        }
    }

    #[test]
    fn the_largest_rows_do_not_overflow() {
        for dimensions in [3, 384, 4_096, 16_384] {
            let mut codes = Codes::new(dimensions);
            let equal = unit(&vec![1.0; dimensions]);
            codes.put(0, &equal);
            let look = codes.look(&codes.question(&equal), 0);
            assert!((look - 1.0).abs() < 0.01, "{dimensions}: {look}");
        }
    }
}
