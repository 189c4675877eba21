//! The randomised incomplete design: which arms are tried on which question, each with a known probability.
//!
//! Arms are drawn without replacement by randomised systematic sampling (Madow 1949): `count` arms exactly, and each arm
//! with exactly the inclusion probability that [`inclusion`] gives, whatever the order. The reference arms that reports
//! compare with are drawn more often. The design never looks at the question, only at its id.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use weir_router::{ArmTable, RecallMode};

/// One trial of a question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trial {
    /// Index into the arm table.
    pub arm: usize,
    /// Index of the sampling class, uniform.
    pub sampling: usize,
    /// Seed for the engine.
    pub seed: u64,
    /// Probability that the design tries this arm on a question.
    pub probability: f64,
}

/// Probability of each arm to be among the `count` tried on a question; they sum to `count`.
pub(crate) fn inclusion(table: &ArmTable, count: usize) -> Vec<f64> {
    let weights: Vec<f64> = table
        .arms
        .iter()
        .map(|arm| {
            let biggest = arm.rank + 1 == table.models;
            let smallest = arm.rank == 0 && !biggest;
            match (arm.recall, arm.context_tokens) {
                (RecallMode::Vector, 400..) if biggest => 2.5,
                (RecallMode::Vector, 400..) if !smallest => 1.5,
                (RecallMode::None, _) => 1.2,
                _ if smallest => 0.6,
                _ => 1.0,
            }
        })
        .collect();
    let count = (count as f64).min(weights.len() as f64);
    let mut certain = vec![false; weights.len()];
    loop {
        let taken = certain.iter().filter(|c| **c).count() as f64;
        let rest: f64 = weights
            .iter()
            .zip(&certain)
            .filter(|(_, c)| !**c)
            .map(|(w, _)| w)
            .sum();
        let share = |weight: f64| {
            if rest > 0.0 {
                weight * (count - taken) / rest
            } else {
                1.0
            }
        };
        let more = (0..weights.len()).find(|&i| !certain[i] && share(weights[i]) > 1.0);
        match more {
            Some(index) => certain[index] = true,
            None => {
                return weights
                    .iter()
                    .zip(&certain)
                    .map(|(weight, certain)| {
                        if *certain {
                            1.0
                        } else {
                            share(*weight).min(1.0)
                        }
                    })
                    .collect();
            }
        }
    }
}

/// The trials of one question, in the order in which to run them: the same for the same arguments.
pub(crate) fn trials(table: &ArmTable, count: usize, seed: u64, question: &str) -> Vec<Trial> {
    let probabilities = inclusion(table, count);
    let mut rng = generator(seed, question);
    let mut order: Vec<usize> = (0..table.arms.len()).collect();
    order.shuffle(&mut rng);
    let mut next: f64 = rng.random();
    let mut sum = 0.0;
    let mut trials = Vec::new();
    for arm in order {
        sum += probabilities[arm];
        if sum > next {
            next += 1.0;
            trials.push(Trial {
                arm,
                sampling: rng.random_range(0..table.sampling.len()),
                seed: u64::from(rng.random::<u32>()),
                probability: probabilities[arm],
            });
        }
    }
    trials.shuffle(&mut rng);
    trials
}

/// A generator of its own for each question, so that adding a question changes no other.
fn generator(seed: u64, question: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(question.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTIONS: usize = 4000;

    #[test]
    fn inclusion_probabilities_sum_to_the_number_of_trials() {
        for models in 1..=4 {
            let table = ArmTable::standard(models);
            for count in 1..=table.arms.len() {
                let probabilities = inclusion(&table, count);
                let sum: f64 = probabilities.iter().sum();
                assert!(
                    (sum - count as f64).abs() < 1e-9,
                    "{models} models, {count} trials: {sum}"
                );
                assert!(
                    probabilities.iter().all(|p| *p > 0.0 && *p <= 1.0),
                    "{probabilities:?}"
                );
            }
        }
    }

    #[test]
    fn arms_are_tried_as_often_as_their_probability_says_and_never_twice() {
        let table = ArmTable::standard(3);
        let probabilities = inclusion(&table, 5);
        let mut counts = vec![0.0; table.arms.len()];
        for index in 0..QUESTIONS {
            let mut arms: Vec<usize> = trials(&table, 5, 3, &format!("q{index}"))
                .iter()
                .map(|t| t.arm)
                .collect();
            assert_eq!(arms.len(), 5, "question {index}");
            arms.sort_unstable();
            arms.dedup();
            assert_eq!(arms.len(), 5);
            for arm in arms {
                counts[arm] += 1.0 / QUESTIONS as f64;
            }
        }
        for (arm, (count, probability)) in counts.iter().zip(&probabilities).enumerate() {
            assert!(
                (count - probability).abs() < 0.03,
                "arm {arm}: {count} for {probability}"
            );
        }
        let reference = table.find(RecallMode::Vector, 2, 400).unwrap();
        assert!(probabilities[reference] > 0.7);
    }

    #[test]
    fn the_same_question_gets_the_same_trials() {
        let table = ArmTable::standard(3);
        assert_eq!(trials(&table, 5, 1, "a"), trials(&table, 5, 1, "a"));
        assert_ne!(trials(&table, 5, 1, "a"), trials(&table, 5, 2, "a"));
    }
}
