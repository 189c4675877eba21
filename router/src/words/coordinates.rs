//! A few coordinates of a text: its place along the directions in which training texts differ most.
//!
//! Latent semantic analysis (Deerwester et al. 1990): words weighed by how rare they are, texts of length 1, and the
//! leading right singular vectors of that matrix by randomised subspace iteration (Halko, Martinsson, Tropp 2011). Fitted
//! on training texts only; the same texts and seed give the same coordinates.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{BUCKETS, Words};
use crate::linear::orthonormalise;
use crate::statistics::normal;

/// Rounds of the iteration; more changes nothing that a learner would notice.
const ROUNDS: usize = 4;

/// Texts that a word must occur in.
const TEXTS_MIN: u32 = 2;

/// The directions.
#[derive(Debug, Clone)]
pub struct Coordinates {
    dimensions: usize,
    /// Row of each bucket in `basis`, and its weight; `None` for words that are not known.
    rows: Vec<Option<(u32, f32)>>,
    /// `dimensions` numbers a row.
    basis: Vec<f64>,
}

impl Coordinates {
    /// The `dimensions` leading directions of some texts.
    pub fn fit(texts: &[&Words], dimensions: usize, seed: u64) -> Self {
        let mut counts = vec![0_u32; BUCKETS];
        for text in texts {
            text.buckets
                .iter()
                .for_each(|bucket| counts[*bucket as usize] += 1);
        }
        let mut known = 0;
        let row = |count: &u32| {
            (*count >= TEXTS_MIN).then(|| {
                known += 1;
                let rarity = (texts.len() as f32 / *count as f32).ln();
                (known - 1, rarity)
            })
        };
        let rows: Vec<Option<(u32, f32)>> = counts.iter().map(row).collect();
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let basis = (0..known as usize * dimensions).map(|_| normal(rng));
        let mut coordinates = Self {
            dimensions,
            rows,
            basis: basis.collect(),
        };
        let sparse: Vec<Vec<(u32, f64)>> = texts.iter().map(|text| coordinates.row(text)).collect();
        for _ in 0..ROUNDS {
            orthonormalise(&mut coordinates.basis, dimensions);
            let places: Vec<Vec<f64>> = sparse.iter().map(|row| coordinates.place(row)).collect();
            coordinates.basis.fill(0.0);
            for (row, place) in sparse.iter().zip(&places) {
                for &(word, weight) in row {
                    let target = &mut coordinates.basis[word as usize * dimensions..][..dimensions];
                    target
                        .iter_mut()
                        .zip(place)
                        .for_each(|(sum, value)| *sum += weight * value);
                }
            }
        }
        orthonormalise(&mut coordinates.basis, dimensions);
        coordinates
    }

    /// The coordinates of a text; words that no training text had count for nothing.
    pub fn of(&self, text: &Words) -> Vec<f32> {
        let place = self.place(&self.row(text));
        place.into_iter().map(|value| value as f32).collect()
    }

    /// The known words of a text, weighed, as a vector of length 1.
    fn row(&self, text: &Words) -> Vec<(u32, f64)> {
        let known = text.buckets.iter().filter_map(|b| self.rows[*b as usize]);
        let mut row: Vec<(u32, f64)> = known.map(|(row, w)| (row, f64::from(w))).collect();
        let length = row.iter().map(|(_, w)| w * w).sum::<f64>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|(_, weight)| *weight /= length);
        }
        row
    }

    fn place(&self, row: &[(u32, f64)]) -> Vec<f64> {
        let mut place = vec![0.0; self.dimensions];
        for &(word, weight) in row {
            let direction = &self.basis[word as usize * self.dimensions..][..self.dimensions];
            place
                .iter_mut()
                .zip(direction)
                .for_each(|(sum, value)| *sum += weight * value);
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_about_the_same_lie_together() {
        let text = |index: usize| {
            let topics = [
                ["sum", "product", "integer"],
                ["river", "mountain", "valley"],
            ];
            let topic = topics[index % 2];
            let (one, other) = (topic[index / 2 % 3], topic[(index / 2 + 1) % 3]);
            Words::of(&format!("{one} and {other}"))
        };
        let texts: Vec<Words> = (0..60).map(text).collect();
        let all: Vec<&Words> = texts.iter().collect();
        let coordinates = Coordinates::fit(&all, 2, 1);
        let place = |text: &str| coordinates.of(&Words::of(text));
        let cosine = |a: &[f32], b: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let (sum, product, river) = (place("sum"), place("product"), place("river"));
        assert!(cosine(&sum, &product) > 0.9, "{sum:?} {product:?}");
        assert!(cosine(&sum, &river) < 0.5, "{sum:?} {river:?}");
        assert_eq!(place("unheard"), [0.0, 0.0]);
        let again = Coordinates::fit(&all, 2, 1);
        assert_eq!(again.of(&texts[0]), coordinates.of(&texts[0]));
    }
}
