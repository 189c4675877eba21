//! The certified guard: which answers of the least capable model are expected to be good enough to be given at all.
//!
//! `weir router calibrate --out` writes a [`Certificate`] into an artifact ([`crate::calibrate`] has the arithmetic and its
//! sources); [`crate::choose`] applies it to every choice. It is a part of the policy: probability that the certificate
//! takes from an arm goes to an arm of the biggest permitted model, so that propensities in a log stay true.

use serde::{Deserialize, Serialize};

use crate::arms::Arm;
use crate::calibrate::at_temperature;

/// What is promised of the answers of the least capable model, and where it is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Makes expected scores honest: [`crate::calibrate::temperature`].
    pub temperature: f64,
    /// Least confidence, at that temperature, with which the least capable model may answer.
    pub threshold: f64,
    /// At most this share of the answers it gives then is wrong,
    pub alpha: f64,
    /// but for this probability.
    pub delta: f64,
    /// Share of the requests of the sample that it might answer.
    pub share: f64,
    /// Answers of the sample.
    pub answers: usize,
    /// Models of the ladder it was made on. On another one answers are held back by the same threshold, and nothing is
    /// promised.
    pub models: usize,
    /// SHA-256 of the outcome log it was made from, lower-case hex.
    pub data_sha256: String,
}

/// What a certificate does to one choice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    /// Permitted arms of the least capable model that are not confident enough.
    pub(crate) arms: Vec<usize>,
    /// The arm that is chosen instead.
    pub(crate) instead: usize,
}

impl Certificate {
    /// The probability that an answer of this expected quality, 1 to 5, is right.
    pub fn confidence(&self, quality: f64) -> f64 {
        at_temperature((quality - 1.0) / 4.0, self.temperature)
    }

    /// Whether the least capable model may give an answer of this expected quality.
    pub fn allows(&self, quality: f64) -> bool {
        self.confidence(quality) >= self.threshold
    }

    /// What does not hold of numbers that came from outside.
    pub(crate) fn fault(&self) -> Option<String> {
        let shares = [
            ("threshold", self.threshold),
            ("alpha", self.alpha),
            ("delta", self.delta),
            ("share", self.share),
        ];
        let no_share = shares
            .into_iter()
            .find(|(_, value)| !(0.0..=1.0).contains(value));
        if let Some((field, value)) = no_share {
            return Some(format!(
                "the {field} of its certificate is {value}, not in 0 to 1"
            ));
        }
        let temperature = self.temperature;
        let is_usable = temperature.is_finite() && temperature > 0.0;
        (!is_usable).then(|| {
            format!("the temperature of its certificate is {temperature}, which is not positive")
        })
    }

    /// The arms that are held back, given the utility of each (`None` is not permitted), and the best arm of the biggest
    /// permitted model. Nothing is held back where nothing bigger is permitted.
    pub(crate) fn held(
        &self,
        arms: &[Arm],
        qualities: &[f64],
        utilities: &[Option<f64>],
    ) -> Option<Held> {
        let permitted = || (0..arms.len()).filter_map(|arm| Some((arm, utilities[arm]?)));
        let biggest = permitted().map(|(arm, _)| arms[arm].rank).max()?;
        let held: Vec<usize> = permitted()
            .map(|(arm, _)| arm)
            .filter(|arm| arms[*arm].rank == 0 && !self.allows(qualities[*arm]))
            .collect();
        if biggest == 0 || held.is_empty() {
            return None;
        }
        let of_biggest = permitted().filter(|(arm, _)| arms[*arm].rank == biggest);
        // The first of equals, as everywhere.
        let instead = of_biggest.reduce(|best, one| if one.1 > best.1 { one } else { best })?;
        Some(Held {
            arms: held,
            instead: instead.0,
        })
    }
}

impl Held {
    /// Gives the probability of the arms that are held back to the one instead.
    pub(crate) fn move_probability(&self, probabilities: &mut [f64]) {
        for arm in &self.arms {
            let taken = std::mem::take(&mut probabilities[*arm]);
            probabilities[self.instead] += taken;
        }
    }

    /// Whether an arm is held back.
    pub(crate) fn holds(&self, arm: usize) -> bool {
        self.arms.contains(&arm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arms::ArmTable;

    fn certificate(threshold: f64) -> Certificate {
        Certificate {
            temperature: 1.0,
            threshold,
            alpha: 0.25,
            delta: 0.1,
            share: 0.5,
            answers: 200,
            models: 3,
            data_sha256: "0".repeat(64),
        }
    }

    #[test]
    fn the_temperature_makes_the_confidence_milder_and_the_threshold_counts_itself() {
        let mut of = certificate(0.75);
        assert!((of.confidence(4.0) - 0.75).abs() < 1e-12);
        assert!(of.allows(4.01) && !of.allows(3.99));
        of.temperature = 2.0;
        assert!(!of.allows(4.01), "confidence {}", of.confidence(4.01));
    }

    #[test]
    fn only_the_least_capable_model_is_held_back_and_only_where_a_bigger_one_is_permitted() {
        let table = ArmTable::standard(3);
        let qualities = vec![2.0; table.arms.len()];
        let mut utilities: Vec<Option<f64>> = vec![Some(2.0); table.arms.len()];
        utilities[12] = Some(2.5);
        let held = certificate(0.9).held(&table.arms, &qualities, &utilities);
        let held = held.expect("nobody is confident");
        assert_eq!(held.arms, [0, 1, 2, 3, 4]);
        assert_eq!(held.instead, 12, "the best arm of the biggest model");
        utilities[10..].fill(None);
        let held = certificate(0.9).held(&table.arms, &qualities, &utilities);
        assert_eq!(held.map(|held| held.instead), Some(5));
        utilities[5..].fill(None);
        assert_eq!(
            certificate(0.9).held(&table.arms, &qualities, &utilities),
            None
        );
    }

    #[test]
    fn probability_moves_and_none_is_lost() {
        let held = Held {
            arms: vec![0, 2],
            instead: 3,
        };
        let mut probabilities = vec![0.5, 0.1, 0.25, 0.15];
        held.move_probability(&mut probabilities);
        assert_eq!(probabilities, [0.0, 0.1, 0.0, 0.9]);
    }

    #[test]
    fn numbers_that_are_none_are_named() {
        assert_eq!(certificate(0.9).fault(), None);
        let fault = certificate(f64::NAN).fault().unwrap_or_default();
        assert!(fault.contains("threshold"), "{fault}");
        let mut of = certificate(0.9);
        of.temperature = 0.0;
        assert!(of.fault().unwrap_or_default().contains("temperature"));
    }
}
