//! A few coordinates of the question's embedding.
//!
//! Principal components would have to be fitted on a corpus and would tie an artifact to it.
//! These are fixed random directions instead, drawn once from a seeded generator: they keep
//! distances in expectation (Johnson and Lindenstrauss 1984) and need nothing but the seed, which
//! stands in the schema's unit and thereby in its hash.

use super::Row;

/// How many coordinates enter the features.
pub(super) const COORDINATES: usize = 8;

const LIMIT: f32 = 8.0;
const SEED: u64 = 0x5745_4952; // "WEIR"
const UNIT: &str = "signed random direction, splitmix64 seed 0x57454952, unit variance";

pub(super) const ROWS: &[Row] = &[
    ("coordinate_0", UNIT, -LIMIT, LIMIT, 0.0, true),
    ("coordinate_1", UNIT, -LIMIT, LIMIT, 0.0, true),
    ("coordinate_2", UNIT, -LIMIT, LIMIT, 0.0, true),
    ("coordinate_3", UNIT, -LIMIT, LIMIT, 0.0, true),
    ("coordinate_4", UNIT, -LIMIT, LIMIT, 0.0, true),
    ("coordinate_5", UNIT, -LIMIT, LIMIT, 0.0, true),
    ("coordinate_6", UNIT, -LIMIT, LIMIT, 0.0, true),
    ("coordinate_7", UNIT, -LIMIT, LIMIT, 0.0, true),
];

/// The coordinates of an embedding of any length: sums of its entries with random signs.
///
/// For a unit vector each has variance 1 over the choice of signs, whatever the dimension.
pub(super) fn coordinates(embedding: &[f32]) -> [f32; COORDINATES] {
    let mut sums = [0.0; COORDINATES];
    for (index, value) in embedding.iter().enumerate() {
        let bits = splitmix64(SEED.wrapping_add(index as u64));
        for (coordinate, sum) in sums.iter_mut().enumerate() {
            let negative = bits >> coordinate & 1 == 1;
            *sum += if negative { -value } else { *value };
        }
    }
    sums
}

/// Steele, Lea and Flood 2014, the finaliser of SplittableRandom.
fn splitmix64(seed: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
