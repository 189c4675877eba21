//! What the gateway has seen of each pool's speed: moving averages that the forecast reads.
//!
//! Owns the estimate and nothing else. What a decision used is recorded with it (`ChoiceInputs`), so a replay never
//! asks here. Read on in `forecast.rs`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use weir_plan::{Performance, Pool};

/// Weight of the newest sample.
const ALPHA: f64 = 0.2;
/// Tokens an answer is expected to have before any was seen.
const COMPLETION_TOKENS: f64 = 64.0;
/// Fewer tokens than this say more about the clock than about the engine.
const SAMPLE_TOKENS: u32 = 4;

/// Expected speed of one request at a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Prompt tokens a second.
    pub prefill: f64,
    /// Completion tokens a second.
    pub decode: f64,
    /// Tokens of an answer.
    pub completion_tokens: f64,
}

/// One finished answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Prompt tokens that were computed, cached ones excluded.
    pub prompt_tokens: u32,
    /// Seconds until the first token.
    pub prefill_s: f64,
    /// Tokens of the answer.
    pub completion_tokens: u32,
    /// Seconds from the first token to the last.
    pub decode_s: f64,
    /// Whether the answer ended by itself, so that its length counts.
    pub ended: bool,
}

/// The estimates of all pools.
#[derive(Debug, Default)]
pub struct Speeds {
    pools: Mutex<HashMap<String, (Performance, Speed)>>,
}

impl Speed {
    /// The speed before anything was seen.
    pub fn measured(performance: Performance) -> Self {
        Self {
            prefill: performance.prefill_tokens_per_second.max(1e-3),
            decode: performance.decode_tokens_per_second.max(1e-3),
            completion_tokens: COMPLETION_TOKENS,
        }
    }

    /// The speed after one more answer.
    #[must_use]
    pub fn after(self, sample: &Sample) -> Self {
        let toward = |old: f64, new: f64| old + ALPHA * (new - old);
        let rate = |old: f64, tokens: u32, seconds: f64| {
            let usable = tokens >= SAMPLE_TOKENS && seconds > 1e-6 && seconds.is_finite();
            if usable {
                toward(old, f64::from(tokens) / seconds)
            } else {
                old
            }
        };
        Self {
            prefill: rate(self.prefill, sample.prompt_tokens, sample.prefill_s),
            decode: rate(
                self.decode,
                sample.completion_tokens.saturating_sub(1),
                sample.decode_s,
            ),
            completion_tokens: if sample.ended {
                toward(self.completion_tokens, f64::from(sample.completion_tokens))
            } else {
                self.completion_tokens
            },
        }
    }
}

impl Speeds {
    /// The present estimate for a pool. A new measurement in the plan starts it anew.
    pub fn of(&self, pool: &Pool) -> Speed {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        match pools.get(&pool.name) {
            Some((from, speed)) if *from == pool.performance => *speed,
            _ => Speed::measured(pool.performance),
        }
    }

    /// Learns from a finished answer.
    pub fn learn(&self, pool: &Pool, sample: &Sample) {
        let speed = self.of(pool).after(sample);
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.insert(pool.name.clone(), (pool.performance, speed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_moves_toward_what_was_seen() {
        let start = Speed::measured(Performance::default());
        let seen = Sample {
            prompt_tokens: 400,
            prefill_s: 1.0,
            completion_tokens: 21,
            decode_s: 1.0,
            ended: true,
        };
        let speed = start.after(&seen);
        assert!((speed.prefill - 160.0).abs() < 1e-9, "{speed:?}");
        assert!((speed.decode - 12.0).abs() < 1e-9, "{speed:?}");
        assert!(speed.completion_tokens < start.completion_tokens);
    }

    #[test]
    fn a_sample_without_time_or_tokens_changes_nothing() {
        let start = Speed::measured(Performance::default());
        assert_eq!(start.after(&Sample::default()), start);
    }
}
