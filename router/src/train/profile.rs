//! What the requests of a log are like, for the artifact: [`crate::novelty`].
//!
//! Covariance is pulled towards uncorrelated columns as if as many more questions as there are columns had shown none. The
//! threshold and the shares of kinds come from questions that were held out, fold by fold, with a profile of the others.

use std::collections::BTreeMap;

use super::optimise::{folds, part};
use super::sample::fit_normaliser;
use super::{Episode, TrainOptions};
use crate::network::Normaliser;
use crate::novelty::{FALSE_ALARMS, KINDS_MAX, Kind, Profile, distance, nearest, values, whitened};
use crate::schema::Step;

/// The profile of a log; `normaliser` is the artifact's, fitted on the same episodes.
pub(super) fn fit(
    episodes: &[&Episode],
    normaliser: &Normaliser,
    options: &TrainOptions,
) -> Profile {
    let names = kinds(episodes);
    let ids: Vec<&str> = episodes.iter().map(|e| e.question.as_str()).collect();
    let fold_of = folds(&ids, options.folds, options.seed);
    let mut distances = Vec::with_capacity(episodes.len());
    let mut counts = vec![0.0; names.len()];
    for fold in 0..options.folds.max(2) {
        let training = part(episodes, &fold_of, (fold, false));
        let own = fit_normaliser(&training);
        let profile = of(&training, &own, &names);
        for episode in part(episodes, &fold_of, (fold, true)) {
            let white = whitened(&profile.whitening, &columns(episode, &own));
            distances.push(distance(&white));
            if let Some(kind) = nearest(&profile.kinds, &white) {
                counts[kind] += 1.0;
            }
        }
    }
    let mut profile = of(episodes, normaliser, &names);
    profile.threshold = upper(&mut distances);
    let all = distances.len().max(1) as f64;
    let shares = profile.kinds.iter_mut().zip(counts);
    shares.for_each(|(kind, count)| kind.share = count / all);
    profile
}

/// The distance that the next request like these exceeds with probability [`FALSE_ALARMS`] at most (Vovk et al. 2005,
/// conformal prediction).
fn upper(distances: &mut [f64]) -> f64 {
    distances.sort_by(f64::total_cmp);
    let count = distances.len();
    let rank = ((1.0 - FALSE_ALARMS) * (count + 1) as f64).ceil() as usize;
    distances
        .get(rank.clamp(1, count.max(1)) - 1)
        .copied()
        .unwrap_or(1.0)
}

/// The kinds of a log, most frequent first; none where all questions are of one.
fn kinds(episodes: &[&Episode]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for episode in episodes {
        *counts.entry(kind(episode)).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(KINDS_MAX);
    if counts.len() < 2 {
        return Vec::new();
    }
    counts
        .into_iter()
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// What a source begins with.
fn kind(episode: &Episode) -> &str {
    episode.source.split('/').next().unwrap_or_default()
}

fn columns(episode: &Episode, normaliser: &Normaliser) -> Vec<f32> {
    values(normaliser, |step| match step {
        Step::Query => Some(&episode.query),
        Step::Search => episode.search.as_ref(),
        Step::Recall => episode.recall.as_ref(),
        Step::Answer => None,
    })
}

/// Covariance and centres of these episodes. A kind that has none of them has its centre at the mean.
fn of(episodes: &[&Episode], normaliser: &Normaliser, names: &[String]) -> Profile {
    let rows: Vec<Vec<f32>> = episodes.iter().map(|e| columns(e, normaliser)).collect();
    let whitening = whitening(&rows);
    let centre = |name: &String| {
        let of_kind = episodes.iter().zip(&rows);
        let of_kind = of_kind.filter(|(episode, _)| kind(episode) == name);
        let mut sum = vec![0.0_f64; rows.first().map_or(0, Vec::len)];
        let mut count = 0.0_f64;
        for (_, row) in of_kind {
            count += 1.0;
            let white = whitened(&whitening, row);
            sum.iter_mut().zip(white).for_each(|(sum, one)| *sum += one);
        }
        let mean = sum.iter().map(|sum| (sum / count.max(1.0)) as f32);
        Kind {
            name: name.clone(),
            share: 0.0,
            centre: mean.collect(),
        }
    };
    Profile {
        kinds: names.iter().map(centre).collect(),
        whitening,
        threshold: 1.0,
    }
}

/// The inverse of the lower triangular root of the covariance, row by row.
fn whitening(rows: &[Vec<f32>]) -> Vec<f32> {
    let width = rows.first().map_or(0, Vec::len);
    let mut covariance = vec![vec![0.0_f64; width]; width];
    for row in rows {
        for (at, one) in row.iter().enumerate() {
            for (sum, other) in covariance[at].iter_mut().zip(&row[..=at]) {
                *sum += f64::from(*one) * f64::from(*other);
            }
        }
    }
    let count = (rows.len() + width).max(1) as f64;
    for (at, row) in covariance.iter_mut().enumerate() {
        row[at] += width as f64;
        row.iter_mut().for_each(|sum| *sum /= count);
    }
    let inverse = inverted(&root(&covariance));
    let triangle = inverse.iter().enumerate();
    triangle
        .flat_map(|(at, row)| row[..=at].iter().map(|value| *value as f32))
        .collect()
}

/// Cholesky's lower triangular root of a positive definite matrix, of which the lower triangle is read.
fn root(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let size = matrix.len();
    let mut root = vec![vec![0.0_f64; size]; size];
    for row in 0..size {
        for column in 0..=row {
            let products = root[row].iter().zip(&root[column]).take(column);
            let left = matrix[row][column] - products.map(|(a, b)| a * b).sum::<f64>();
            root[row][column] = if row == column {
                left.sqrt()
            } else {
                left / root[column][column]
            };
        }
    }
    root
}

/// The inverse of a lower triangular matrix.
fn inverted(triangle: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let size = triangle.len();
    let mut inverse = vec![vec![0.0_f64; size]; size];
    for column in 0..size {
        inverse[column][column] = 1.0 / triangle[column][column];
        for row in column + 1..size {
            let known: f64 = (column..row)
                .map(|at| triangle[row][at] * inverse[at][column])
                .sum();
            inverse[row][column] = -known / triangle[row][row];
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitened_rows_are_uncorrelated_and_of_variance_one() {
        let rows: Vec<Vec<f32>> = (0..4000)
            .map(|index| {
                let (a, b) = ((index as f32 * 0.7).sin(), (index as f32 * 1.3).cos());
                vec![a * 1.414, (a + 0.3 * b) * 1.355]
            })
            .collect();
        let triangle = whitening(&rows);
        assert_eq!(triangle.len(), 3);
        let white: Vec<Vec<f64>> = rows.iter().map(|row| whitened(&triangle, row)).collect();
        let mean = |a: usize, b: usize| {
            white.iter().map(|row| row[a] * row[b]).sum::<f64>() / white.len() as f64
        };
        assert!((mean(0, 0) - 1.0).abs() < 0.02, "{}", mean(0, 0));
        assert!((mean(1, 1) - 1.0).abs() < 0.05, "{}", mean(1, 1));
        assert!(mean(0, 1).abs() < 0.03, "{}", mean(0, 1));
    }

    #[test]
    fn the_threshold_leaves_one_in_twenty_beyond_it() {
        let mut distances: Vec<f64> = (1..=99).rev().map(f64::from).collect();
        assert!((upper(&mut distances) - 95.0).abs() < 1e-12);
        assert!(
            (upper(&mut [3.0, 2.0]) - 3.0).abs() < 1e-12,
            "as far as is known"
        );
    }
}
