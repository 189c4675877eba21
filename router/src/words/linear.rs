//! A linear classifier of text for several models at once: what can be known of a score from the words alone.
//!
//! Fitted by AdaGrad (Duchi, Hazan, Singer
//! 2011) on cross entropy; how strongly weights are held back is chosen on a fifth of the training texts. The same texts
//! and seed give the same weights.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{BUCKETS, Words};

const EPOCHS: usize = 6;
const RATE: f64 = 0.1;
const BIAS_RATE: f64 = 0.02;

/// Penalties that are tried, by the square of a weight.
const PENALTIES: [f64; 4] = [0.001, 0.003, 0.01, 0.03];

/// The classifier.
#[derive(Clone, Debug)]
pub struct Linear {
    outputs: usize,
    /// `outputs` weights a bucket.
    weights: Vec<f64>,
    biases: Vec<f64>,
}

impl Linear {
    /// Fits a classifier to scores from 0 to 1, one for each output, with the penalty that does best on a fifth of the
    /// texts.
    pub fn fit(texts: &[(&Words, &[f64])], seed: u64) -> Self {
        let mut shuffled = texts.to_vec();
        shuffled.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let (held_out, rest) = shuffled.split_at(shuffled.len() / 5);
        let losses = PENALTIES.map(|penalty| Self::fit_with(rest, penalty, seed).loss(held_out));
        let best = losses
            .iter()
            .enumerate()
            .min_by(|(_, a), (_, b)| a.total_cmp(b));
        Self::fit_with(texts, PENALTIES[best.map_or(0, |(index, _)| index)], seed)
    }

    fn fit_with(texts: &[(&Words, &[f64])], penalty: f64, seed: u64) -> Self {
        let outputs = texts.first().map_or(0, |(_, scores)| scores.len());
        let mut linear = Self {
            outputs,
            weights: vec![0.0; BUCKETS * outputs],
            biases: vec![0.0; outputs],
        };
        let mut squares = vec![1e-6; BUCKETS * outputs];
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..texts.len()).collect();
        for _ in 0..EPOCHS {
            order.shuffle(&mut rng);
            for &index in &order {
                let (words, scores) = texts[index];
                let expected = linear.scores(words);
                let value = words.value();
                for output in 0..outputs {
                    let error = expected[output] - scores[output];
                    linear.biases[output] -= BIAS_RATE * error;
                    for &bucket in &words.buckets {
                        let at = bucket as usize * outputs + output;
                        let slope = error * value + penalty * linear.weights[at];
                        squares[at] += slope * slope;
                        linear.weights[at] -= RATE * slope / f64::sqrt(squares[at]);
                    }
                }
            }
        }
        linear
    }

    /// Expected score of each output.
    pub fn scores(&self, words: &Words) -> Vec<f64> {
        let mut sums = vec![0.0; self.outputs];
        for &bucket in &words.buckets {
            let weights = &self.weights[bucket as usize * self.outputs..][..self.outputs];
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += weight;
            }
        }
        let value = words.value();
        let sums = sums.into_iter().zip(&self.biases);
        sums.map(|(sum, bias)| 1.0 / (1.0 + (-(bias + value * sum)).exp()))
            .collect()
    }

    /// Mean cross entropy.
    fn loss(&self, texts: &[(&Words, &[f64])]) -> f64 {
        let of = |(words, scores): &(&Words, &[f64])| {
            let pairs = self.scores(words).into_iter().zip(scores.iter());
            let entropy = pairs.map(|(p, score)| {
                let p = p.clamp(1e-9, 1.0 - 1e-9);
                -(score * p.ln() + (1.0 - score) * (1.0 - p).ln())
            });
            entropy.sum::<f64>()
        };
        texts.iter().map(of).sum::<f64>() / texts.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_decides_is_found_and_seeds_repeat() {
        let texts: Vec<(Words, [f64; 2])> = (0..400)
            .map(|index| {
                let hard = index % 2 == 0;
                let text = format!(
                    "{} question {}",
                    if hard { "prove" } else { "name" },
                    index % 7
                );
                (Words::of(&text), [f64::from(u8::from(!hard)), 1.0])
            })
            .collect();
        let rows: Vec<(&Words, &[f64])> = texts.iter().map(|(w, s)| (w, s.as_slice())).collect();
        let fitted = Linear::fit(&rows, 1);
        let [prove, name] = ["prove it", "name it"].map(|text| fitted.scores(&Words::of(text)));
        assert!(prove[0] < 0.4 && name[0] > 0.6, "{prove:?} {name:?}");
        assert!(prove[1] > 0.8, "{prove:?}");
        let again = Linear::fit(&rows, 1);
        assert_eq!(again.scores(&texts[0].0), fitted.scores(&texts[0].0));
    }
}
