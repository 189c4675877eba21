//! What is learned without a network: nearest neighbours and ridge regression from features to every arm's quality.

use super::sample::Dataset;
use crate::linear::{Ridge, RidgeSums};

/// Numbers of neighbours that are tried.
const NEIGHBOURS: [usize; 5] = [5, 10, 20, 40, 80];

/// Rows that choose among them.
const PROBES: usize = 400;

/// Penalties that are tried, by the square of a weight.
const PENALTIES: [f64; 5] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];

/// Features of questions, with what each arm gave on them.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    pub(super) features: Vec<Vec<f32>>,
    pub(super) targets: Vec<Vec<f64>>,
}

impl Rows {
    /// A log: the columns of all steps before the choice, and each arm as tried or estimated.
    pub(super) fn of(data: &Dataset) -> Self {
        let arms = data.table.arms.len();
        let samples = data.samples.iter();
        let targets = samples.map(|sample| (0..arms).map(|arm| sample.known(arm)).collect());
        Self {
            features: features(data),
            targets: targets.collect(),
        }
    }
}

/// The columns of all steps before the choice, one row per question.
pub(super) fn features(data: &Dataset) -> Vec<Vec<f32>> {
    let of = |sample: &super::sample::Sample| {
        let mut row = vec![0.0; data.columns];
        for &(column, value) in sample.steps.iter().flatten().flatten() {
            if let Some(entry) = row.get_mut(column) {
                *entry = value as f32;
            }
        }
        row
    };
    data.samples.iter().map(of).collect()
}

/// Nearest neighbours by Euclidean distance.
pub(super) struct Neighbours<'a> {
    rows: &'a Rows,
    count: usize,
}

impl<'a> Neighbours<'a> {
    /// Chooses the number of neighbours by the squared error on training rows that do not count themselves.
    pub(super) fn fit(rows: &'a Rows) -> Self {
        let step = rows.features.len().div_ceil(PROBES).max(1);
        let mut errors = [0.0; NEIGHBOURS.len()];
        for probe in (0..rows.features.len()).step_by(step) {
            let nearest = nearest(rows, &rows.features[probe], Some(probe));
            for (error, count) in errors.iter_mut().zip(NEIGHBOURS) {
                let expected = mean(rows, &nearest[..count.min(nearest.len())]);
                let pairs = expected.iter().zip(&rows.targets[probe]);
                *error += pairs.map(|(e, t)| (e - t) * (e - t)).sum::<f64>();
            }
        }
        let best = (0..NEIGHBOURS.len()).min_by(|a, b| errors[*a].total_cmp(&errors[*b]));
        Self {
            rows,
            count: NEIGHBOURS[best.unwrap_or(0)],
        }
    }

    /// Expected quality of every arm.
    pub(super) fn expect(&self, features: &[f32]) -> Vec<f64> {
        let nearest = nearest(self.rows, features, None);
        mean(self.rows, &nearest[..self.count.min(nearest.len())])
    }
}

/// The nearest rows, nearest first, at most as many as are ever asked for.
fn nearest(rows: &Rows, features: &[f32], without: Option<usize>) -> Vec<usize> {
    let others = (0..rows.features.len()).filter(|index| Some(*index) != without);
    let mut ranked: Vec<(f32, usize)> = others
        .map(|index| (distance(&rows.features[index], features), index))
        .collect();
    let order = |a: &(f32, usize), b: &(f32, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    let most = NEIGHBOURS[NEIGHBOURS.len() - 1];
    if ranked.len() > most {
        ranked.select_nth_unstable_by(most, order);
        ranked.truncate(most);
    }
    ranked.sort_unstable_by(order);
    ranked.into_iter().map(|(_, index)| index).collect()
}

/// Squared Euclidean distance, in lanes that a compiler can keep side by side.
fn distance(one: &[f32], other: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let (ones, rest) = one.as_chunks::<8>();
    let (others, other_rest) = other.as_chunks::<8>();
    for (a, b) in ones.iter().zip(others) {
        for lane in 0..8 {
            let difference = a[lane] - b[lane];
            lanes[lane] += difference * difference;
        }
    }
    let pairs = rest.iter().zip(other_rest);
    lanes.iter().sum::<f32>() + pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f32>()
}

fn mean(rows: &Rows, of: &[usize]) -> Vec<f64> {
    let arms = rows.targets.first().map_or(0, Vec::len);
    let mut sums = vec![0.0; arms];
    for &index in of {
        sums.iter_mut()
            .zip(&rows.targets[index])
            .for_each(|(sum, target)| *sum += target / of.len() as f64);
    }
    sums
}

/// Ridge regression, one for each arm.
pub(super) struct Linear {
    arms: Vec<Ridge>,
}

impl Linear {
    /// Chooses the penalty by the squared error on every fifth row, then fits all.
    pub(super) fn fit(rows: &Rows) -> Self {
        let (probes, rest): (Vec<usize>, Vec<usize>) =
            (0..rows.features.len()).partition(|index| index % 5 == 4);
        let width = 1 + rows.features.first().map_or(0, Vec::len);
        let arms = rows.targets.first().map_or(0, Vec::len);
        let mut sums = vec![RidgeSums::new(width); arms];
        add(&mut sums, rows, &rest);
        let error = |penalty: f64| -> f64 {
            let fitted = Self::with(&sums, penalty);
            let of = |index: &usize| {
                let expected = fitted.expect(&rows.features[*index]);
                let pairs = expected.iter().zip(&rows.targets[*index]);
                pairs.map(|(e, t)| (e - t) * (e - t)).sum::<f64>()
            };
            probes.iter().map(of).sum()
        };
        let errors = PENALTIES.map(error);
        let best = (0..PENALTIES.len()).min_by(|a, b| errors[*a].total_cmp(&errors[*b]));
        add(&mut sums, rows, &probes);
        Self::with(&sums, PENALTIES[best.unwrap_or(0)])
    }

    fn with(sums: &[RidgeSums], penalty: f64) -> Self {
        Self {
            arms: sums.iter().map(|sums| sums.fit(penalty)).collect(),
        }
    }

    /// Expected quality of every arm.
    pub(super) fn expect(&self, features: &[f32]) -> Vec<f64> {
        let row = with_constant(features);
        self.arms.iter().map(|ridge| ridge.at(&row)).collect()
    }
}

fn add(sums: &mut [RidgeSums], rows: &Rows, which: &[usize]) {
    for &index in which {
        let row = with_constant(&rows.features[index]);
        for (sums, target) in sums.iter_mut().zip(&rows.targets[index]) {
            sums.add(&row, *target, 1.0);
        }
    }
}

fn with_constant(features: &[f32]) -> Vec<f64> {
    let features = features.iter().map(|value| f64::from(*value));
    [1.0].into_iter().chain(features).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two arms: the first follows the first feature, the second is the same everywhere.
    fn rows() -> Rows {
        let x = |index: usize| (index as f32 * 0.37).sin();
        Rows {
            features: (0..200).map(|i| vec![x(i), x(7 * i + 3)]).collect(),
            targets: (0..200).map(|i| vec![3.0 + f64::from(x(i)), 2.0]).collect(),
        }
    }

    #[test]
    fn both_find_what_a_feature_says() {
        let rows = rows();
        let (neighbours, linear) = (Neighbours::fit(&rows), Linear::fit(&rows));
        for (feature, low, high) in [(-0.8_f32, 1.9, 2.6), (0.8, 3.4, 4.1)] {
            for expected in [
                neighbours.expect(&[feature, 0.0]),
                linear.expect(&[feature, 0.0]),
            ] {
                assert!(
                    (low..high).contains(&expected[0]),
                    "{feature}: {expected:?}"
                );
                assert!((expected[1] - 2.0).abs() < 0.05, "{expected:?}");
            }
        }
    }

    #[test]
    fn a_row_is_not_its_own_neighbour() {
        let rows = rows();
        assert_eq!(nearest(&rows, &rows.features[11], None)[0], 11);
        assert!(!nearest(&rows, &rows.features[11], Some(11)).contains(&11));
    }
}
