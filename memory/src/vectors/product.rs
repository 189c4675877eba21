//! Products of codes: the arithmetic of every look, in the widest instructions that multiply small numbers in pairs.
//!
//! Written out for processors with AVX2, since what a compiler makes of the plain loop uses half of each register. All ways give the
//! same number: integers have no rounding. Whole blocks of [`BLOCK`] codes are multiplied.

#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;

/// Codes that are multiplied together: rows are padded to a multiple of it.
pub(super) const BLOCK: usize = 32;

/// Codes in a register.
#[cfg(target_arch = "x86_64")]
const LANES: usize = BLOCK / 2;

/// What this processor has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    #[cfg(target_arch = "x86_64")]
    wide: Option<V3>,
}

impl Product {
    pub(super) fn new() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            wide: V3::try_new(),
        }
    }

    /// The sum of the products of a query's codes and a row's, wrapping. Fast where it is inlined into code for this processor.
    #[inline(always)]
    pub(super) fn of_query(self, query: &[i16], row: &[i8]) -> i32 {
        #[cfg(target_arch = "x86_64")]
        if let Some(wide) = self.wide {
            let query = query.as_chunks::<LANES>().0;
            return pairs(wide, query.iter().map(|codes| pulp::cast(*codes)), row);
        }
        plain(query, row)
    }

    /// The same of the codes of two rows.
    #[inline(always)]
    pub(super) fn of_rows(self, one: &[i8], other: &[i8]) -> i32 {
        #[cfg(target_arch = "x86_64")]
        if let Some(wide) = self.wide {
            let one = one.as_chunks::<LANES>().0;
            let one = one
                .iter()
                .map(|codes| wide.convert_i8x16_to_i16x16(pulp::cast(*codes)));
            return pairs(wide, one, other);
        }
        plain(one, other)
    }
}

/// The sum of the products of codes and a row's, one after the other.
#[inline(always)]
fn plain<T: Copy + Into<i32>>(codes: &[T], row: &[i8]) -> i32 {
    let products = codes.iter().zip(row);
    products.fold(0, |sum, (a, b)| {
        sum.wrapping_add((*a).into().wrapping_mul(i32::from(*b)))
    })
}

/// The sum of the products of registers of codes and a row's.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn pairs(wide: V3, query: impl Iterator<Item = pulp::i16x16>, row: &[i8]) -> i32 {
    let mut sums = wide.splat_i32x8(0);
    for (query, row) in query.zip(row.as_chunks::<LANES>().0) {
        let row = wide.convert_i8x16_to_i16x16(pulp::cast(*row));
        let products = wide.multiply_wrapping_add_adjacent_i16x16(query, row);
        sums = wide.wrapping_add_i32x8(sums, products);
    }
    let sums: [i32; 8] = pulp::cast(sums);
    sums.into_iter().fold(0, i32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Codes of whole blocks.
    fn codes() -> impl Strategy<Value = (Vec<i16>, Vec<i8>, Vec<i8>)> {
        let of = |blocks: usize| {
            let length = blocks * BLOCK;
            (
                prop::collection::vec(-4_095_i16..=4_095, length),
                prop::collection::vec(any::<i8>(), length),
                prop::collection::vec(any::<i8>(), length),
            )
        };
        (0_usize..14).prop_flat_map(of)
    }

    proptest! {
        #[test]
        fn every_way_gives_the_sum_of_the_products((query, one, other) in codes()) {
            let product = Product::new();
            let sum = |a: &mut dyn Iterator<Item = i64>, b: &[i8]| -> i64 {
                a.zip(b).map(|(a, b)| a * i64::from(*b)).sum()
            };
            let of_query = sum(&mut query.iter().map(|code| i64::from(*code)), &one);
            prop_assert_eq!(i64::from(product.of_query(&query, &one)), of_query);
            prop_assert_eq!(i64::from(plain(&query, &one)), of_query);
            let of_rows = sum(&mut one.iter().map(|code| i64::from(*code)), &other);
            prop_assert_eq!(i64::from(product.of_rows(&one, &other)), of_rows);
            prop_assert_eq!(i64::from(plain(&one, &other)), of_rows);
        }
    }
}
