//! Principal coordinates of dense vectors: their place along the directions in which training vectors differ most.
//!
//! The leading eigenvectors of the covariance, by subspace iteration. Fitted on training vectors only; the same vectors
//! and seed give the same coordinates. Used for what a table's prompts mean; no request is decided by this.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::linear::orthonormalise;
use crate::statistics::normal;

/// Rounds of the iteration; more changes nothing that a learner would notice.
const ROUNDS: usize = 8;

/// The directions.
#[derive(Debug, Clone)]
pub struct Principal {
    mean: Vec<f64>,
    /// One number per coordinate for each entry of a vector, entry by entry.
    basis: Vec<f64>,
    coordinates: usize,
}

impl Principal {
    /// The leading directions of some vectors, which are all of one length.
    pub fn fit(vectors: &[&[f32]], coordinates: usize, seed: u64) -> Self {
        let width = vectors.first().map_or(0, |vector| vector.len());
        let coordinates = coordinates.min(width);
        let count = vectors.len().max(1) as f64;
        let mut mean = vec![0.0; width];
        for vector in vectors {
            let entries = mean.iter_mut().zip(*vector);
            entries.for_each(|(sum, value)| *sum += f64::from(*value) / count);
        }
        let mut covariance = vec![0.0; width * width];
        for vector in vectors {
            let centred: Vec<f64> = vector
                .iter()
                .zip(&mean)
                .map(|(value, mean)| f64::from(*value) - mean)
                .collect();
            for (row, one) in centred.iter().enumerate() {
                let sums = covariance[row * width..][..width].iter_mut();
                sums.zip(&centred)
                    .for_each(|(sum, other)| *sum += one * other);
            }
        }
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut basis: Vec<f64> = (0..width * coordinates).map(|_| normal(rng)).collect();
        for _ in 0..ROUNDS {
            orthonormalise(&mut basis, coordinates);
            basis = product(&covariance, &basis, coordinates);
        }
        orthonormalise(&mut basis, coordinates);
        Self {
            mean,
            basis,
            coordinates,
        }
    }

    /// The coordinates of a vector.
    pub fn of(&self, vector: &[f32]) -> Vec<f32> {
        let mut place = vec![0.0; self.coordinates];
        let rows = self.basis.chunks_exact(self.coordinates.max(1));
        for ((value, mean), row) in vector.iter().zip(&self.mean).zip(rows) {
            let centred = f64::from(*value) - mean;
            place
                .iter_mut()
                .zip(row)
                .for_each(|(sum, weight)| *sum += centred * weight);
        }
        place.into_iter().map(|value| value as f32).collect()
    }
}

/// A square matrix times one of `columns` columns, both row by row.
fn product(matrix: &[f64], other: &[f64], columns: usize) -> Vec<f64> {
    let width = other.len() / columns.max(1);
    let mut result = vec![0.0; other.len()];
    for (row, entries) in matrix.chunks_exact(width.max(1)).enumerate() {
        let target = &mut result[row * columns..][..columns];
        for (value, line) in entries.iter().zip(other.chunks_exact(columns.max(1))) {
            target
                .iter_mut()
                .zip(line)
                .for_each(|(sum, one)| *sum += value * one);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_directions_come_first_and_the_mean_is_nowhere() {
        let vectors: Vec<[f32; 3]> = (0..500)
            .map(|i| {
                let (a, b, c) = (
                    (i as f32 * 0.7).sin(),
                    (i as f32 * 1.3).cos(),
                    (i as f32 * 2.1).sin(),
                );
                [5.0 + 3.0 * a, 0.1 * c, -2.0 + b]
            })
            .collect();
        let rows: Vec<&[f32]> = vectors.iter().map(<[f32; 3]>::as_slice).collect();
        let principal = Principal::fit(&rows, 2, 1);
        let place = principal.of(&[8.0, 0.0, -2.0]);
        assert!(
            (place[0].abs() - 3.0).abs() < 0.1 && place[1].abs() < 0.2,
            "{place:?}"
        );
        let place = principal.of(&[5.0, 9.0, -1.0]);
        assert!(
            (place[1].abs() - 1.0).abs() < 0.3 && place[0].abs() < 0.3,
            "{place:?}"
        );
        assert_eq!(
            principal.of(&[5.0, 9.0, -1.0]),
            Principal::fit(&rows, 2, 1).of(&[5.0, 9.0, -1.0])
        );
        assert_eq!(Principal::fit(&rows, 9, 1).of(&[1.0, 1.0, 1.0]).len(), 3);
    }
}
