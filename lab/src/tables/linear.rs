//! A linear classifier of text for several models at once: what can be known of a score from the words alone.
//!
//! Features are the words and pairs of neighbouring words of a text, hashed. Fitted by AdaGrad (Duchi, Hazan, Singer
//! 2011) on cross entropy; how strongly weights are held back is chosen on a fifth of the training texts. The same texts
//! and seed give the same weights.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Buckets that words are hashed into.
const BUCKETS: usize = 1 << 16;

const EPOCHS: usize = 6;
const RATE: f64 = 0.1;
const BIAS_RATE: f64 = 0.02;

/// Penalties that are tried, by the square of a weight.
const PENALTIES: [f64; 4] = [0.001, 0.003, 0.01, 0.03];

/// A text as features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    buckets: Vec<u32>,
}

/// The classifier.
#[derive(Clone, Debug)]
pub struct Linear {
    outputs: usize,
    /// `outputs` weights a bucket.
    weights: Vec<f64>,
    biases: Vec<f64>,
}

impl Words {
    /// The words of a text. Numbers count as one word, whatever their digits: the digit they are is left to the pairs.
    pub fn of(text: &str) -> Self {
        let lower = text.to_lowercase();
        let mut words: Vec<&str> = Vec::new();
        let mut rest = lower.as_str();
        while let Some(first) = rest.chars().next() {
            let of_kind = |c: char| match kind(first) {
                Kind::Other => false,
                of => kind(c) == of,
            };
            let end = rest.find(|c| !of_kind(c)).unwrap_or(rest.len());
            let (word, left) = rest.split_at(end.max(first.len_utf8()));
            if kind(first) != Kind::Space {
                words.push(if kind(first) == Kind::Digit {
                    "0"
                } else {
                    word
                });
            }
            rest = left;
        }
        let single = words.iter().map(|word| bucket(word, ""));
        let pairs = words.windows(2).map(|pair| bucket(pair[0], pair[1]));
        let mut buckets: Vec<u32> = single.chain(pairs).collect();
        buckets.sort_unstable();
        buckets.dedup();
        Self { buckets }
    }

    /// Value of each feature: texts of any length weigh the same.
    fn value(&self) -> f64 {
        1.0 / (self.buckets.len().max(1) as f64).sqrt()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Space,
    Other,
}

fn kind(c: char) -> Kind {
    if c.is_numeric() {
        Kind::Digit
    } else if c.is_alphabetic() {
        Kind::Letter
    } else if c.is_whitespace() {
        Kind::Space
    } else {
        Kind::Other
    }
}

/// FNV-1a over both words with a byte between that no text has.
fn bucket(one: &str, other: &str) -> u32 {
    let bytes = one.bytes().chain([0xff]).chain(other.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) % BUCKETS as u64) as u32
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
    fn texts_are_words_and_pairs() {
        assert_eq!(Words::of("a b"), Words::of("  A\nb "));
        assert_eq!(Words::of("7 apples"), Words::of("42 apples"));
        assert_ne!(
            Words::of("a b"),
            Words::of("b a"),
            "the order is in the pairs"
        );
        assert_eq!(Words::of("x+y").buckets.len(), 5);
        assert!(Words::of("").buckets.is_empty());
        assert_eq!(Words::of("für äß").buckets.len(), 3);
    }

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
