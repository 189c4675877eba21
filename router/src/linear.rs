//! Least squares and bases: a positive definite system solved by elimination, ridge regression made of it, and
//! orthonormal columns.
//!
//! Small and dense; everything that is fitted beside the network is fitted with this.

/// A linear function of a row of features, fitted by ridge regression.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ridge {
    weights: Vec<f64>,
}

/// The sums a ridge regression is fitted from. Rows may be added at any time.
#[derive(Debug, Clone, PartialEq)]
pub struct RidgeSums {
    /// Products of features, row by row.
    products: Vec<f64>,
    /// Products of features and target.
    targets: Vec<f64>,
}

impl RidgeSums {
    /// Sums of no rows yet, for rows of `width` features. The first feature should be a constant 1: it is not shrunk.
    pub fn new(width: usize) -> Self {
        Self {
            products: vec![0.0; width * width],
            targets: vec![0.0; width],
        }
    }

    /// Adds a row with its target, `weight` times.
    pub fn add(&mut self, features: &[f64], target: f64, weight: f64) {
        let width = self.targets.len();
        for (row, &one) in features.iter().enumerate() {
            let scaled = weight * one;
            let products = &mut self.products[row * width..][..width];
            for (sum, &other) in products.iter_mut().zip(features) {
                *sum += scaled * other;
            }
            self.targets[row] += scaled * target;
        }
    }

    /// The function that minimises squared errors plus `penalty` times the squared weights.
    pub fn fit(&self, penalty: f64) -> Ridge {
        let width = self.targets.len();
        let row = |row: usize| {
            let mut values = self.products[row * width..][..width].to_vec();
            // The constant is shrunk only as much as keeps a system without rows solvable.
            values[row] += if row == 0 { 1e-9 } else { penalty.max(1e-9) };
            values.push(self.targets[row]);
            values
        };
        Ridge {
            weights: solve((0..width).map(row).collect()),
        }
    }
}

impl Ridge {
    /// The function's value at a row.
    pub fn at(&self, features: &[f64]) -> f64 {
        let products = self.weights.iter().zip(features);
        products.map(|(weight, feature)| weight * feature).sum()
    }
}

/// Solves a positive definite system, each row with its right side last, by elimination.
pub(crate) fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let size = rows.len();
    for pivot in 0..size {
        let (done, rest) = rows.split_at_mut(pivot + 1);
        let head = &done[pivot];
        for row in rest {
            let factor = row[pivot] / head[pivot];
            row.iter_mut()
                .zip(head)
                .for_each(|(value, above)| *value -= factor * above);
        }
    }
    let mut solution = vec![0.0; size];
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size)
            .map(|column| rows[row][column] * solution[column])
            .sum();
        solution[row] = (rows[row][size] - known) / rows[row][row];
    }
    solution
}

/// Gram and Schmidt, twice for what rounding leaves: the columns of a row-major matrix become orthogonal and of length 1.
pub(crate) fn orthonormalise(basis: &mut [f64], columns: usize) {
    for column in 0..columns {
        for other in (0..column).chain(0..column) {
            let product: f64 = basis
                .chunks_exact(columns)
                .map(|row| row[column] * row[other])
                .sum();
            basis
                .chunks_exact_mut(columns)
                .for_each(|row| row[column] -= product * row[other]);
        }
        let squares = basis
            .chunks_exact(columns)
            .map(|row| row[column] * row[column]);
        let length = squares.sum::<f64>().sqrt();
        let scale = if length > 1e-12 { 1.0 / length } else { 0.0 };
        basis
            .chunks_exact_mut(columns)
            .for_each(|row| row[column] *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_linear_function_is_found_again(
            weights in prop::collection::vec(-3.0_f64..3.0, 3),
            rows in prop::collection::vec(prop::collection::vec(-2.0_f64..2.0, 2), 30),
        ) {
            let mut sums = RidgeSums::new(3);
            let of = |row: &[f64]| [1.0, row[0], row[1]];
            for row in &rows {
                let features = of(row);
                let target = features.iter().zip(&weights).map(|(f, w)| f * w).sum();
                sums.add(&features, target, 1.0);
            }
            let ridge = sums.fit(1e-9);
            for row in &rows {
                let features = of(row);
                let expected: f64 = features.iter().zip(&weights).map(|(f, w)| f * w).sum();
                prop_assert!((ridge.at(&features) - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn a_large_penalty_leaves_the_mean() {
        let mut sums = RidgeSums::new(2);
        for (feature, target) in [(-1.0, 2.0), (1.0, 4.0)] {
            sums.add(&[1.0, feature], target, 1.0);
        }
        let ridge = sums.fit(1e12);
        assert!((ridge.at(&[1.0, 50.0]) - 3.0).abs() < 1e-6);
    }

    #[test]
    fn directions_are_orthogonal_and_of_length_1() {
        let mut basis: Vec<f64> = (0..30).map(|i| f64::from(i * i).sin()).collect();
        orthonormalise(&mut basis, 3);
        for (a, b) in [(0, 0), (0, 1), (1, 2), (2, 2)] {
            let product: f64 = basis.chunks_exact(3).map(|row| row[a] * row[b]).sum();
            let expected = f64::from(u8::from(a == b));
            assert!((product - expected).abs() < 1e-9, "{a} {b}: {product}");
        }
    }
}
