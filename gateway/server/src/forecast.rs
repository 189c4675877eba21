//! What each arm will cost in seconds and money: the measured half of the objective.
//!
//! Pure. Nothing here is learned by the router; `choose.rs` puts the result into `ChoiceInputs`, which is recorded.

use crate::speed::Speed;
use weir_plan::{Cost, Pool};
use weir_router::{Arm, RecallMode};

/// Tokens of our own instruction and of the message around the context blocks.
pub const CONTEXT_OVERHEAD: u32 = 48;

/// A pool as the forecast sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoolForecast {
    /// Expected speed of one request.
    pub speed: Speed,
    /// Prices.
    pub cost: Cost,
    /// Requests all replicas together work on at the same time, at least 1.
    pub places: f64,
    /// Requests in flight.
    pub load: f64,
    /// Tokens of the conversation for this pool's tokenizer.
    pub prompt_tokens: u32,
}

/// Expected seconds and cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Seconds until the whole answer is there.
    pub latency_s: f64,
    /// Cost units.
    pub cost: f64,
}

impl PoolForecast {
    /// The pool with `load` requests in flight.
    pub fn new(pool: &Pool, speed: Speed, load: usize, prompt_tokens: u32) -> Self {
        let replicas = pool.endpoints.len().max(1);
        #[expect(clippy::cast_precision_loss, reason = "counts of requests are small")]
        let (replicas, load) = (replicas as f64, load as f64);
        let places = replicas * f64::from(pool.slots.max(1));
        Self {
            speed,
            cost: pool.cost,
            places,
            load,
            prompt_tokens,
        }
    }

    /// Seconds and cost of an answer with `context_tokens` of context and at most `max_tokens` of completion.
    ///
    /// `wait + prompt / prefill + completion / decode`; requests beyond the places wait for their share of one answer.
    pub fn expect(&self, context_tokens: u32, max_tokens: Option<u32>) -> Expected {
        let overhead = if context_tokens == 0 {
            0
        } else {
            CONTEXT_OVERHEAD
        };
        let prompt = f64::from(self.prompt_tokens) + f64::from(context_tokens + overhead);
        let completion = self
            .speed
            .completion_tokens
            .min(max_tokens.map_or(f64::MAX, f64::from));
        let answer_s = prompt / self.speed.prefill + completion / self.speed.decode;
        let ahead = (self.load + 1.0 - self.places).max(0.0);
        Expected {
            latency_s: answer_s * (1.0 + ahead / self.places),
            cost: self.cost.of(prompt, completion),
        }
    }
}

/// Seconds and cost per arm; arms of a rank without a pool get zeros (they are masked).
pub fn forecast(arms: &[Arm], pools: &[PoolForecast], max_tokens: Option<u32>) -> Vec<Expected> {
    arms.iter()
        .map(|arm| match pools.get(arm.rank) {
            Some(pool) => {
                let context = if arm.recall == RecallMode::None {
                    0
                } else {
                    arm.context_tokens
                };
                pool.expect(context, max_tokens)
            }
            None => Expected {
                latency_s: 0.0,
                cost: 0.0,
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(load: f64) -> PoolForecast {
        PoolForecast {
            speed: Speed {
                prefill: 100.0,
                decode: 10.0,
                completion_tokens: 50.0,
            },
            cost: Cost {
                prompt_per_million: 1e6,
                completion_per_million: 2e6,
            },
            places: 2.0,
            load,
            prompt_tokens: 100,
        }
    }

    #[test]
    fn an_answer_takes_its_prompt_and_its_tokens() {
        let expected = pool(0.0).expect(0, None);
        assert_eq!(
            expected,
            Expected {
                latency_s: 1.0 + 5.0,
                cost: 100.0 + 100.0
            }
        );
        assert_eq!(pool(0.0).expect(0, Some(10)).latency_s, 2.0);
    }

    #[test]
    fn context_costs_its_tokens_and_the_words_around_it() {
        let with = pool(0.0).expect(200, None).latency_s;
        assert!((with - (3.48 + 5.0)).abs() < 1e-9, "{with}");
    }

    #[test]
    fn a_full_pool_is_slower_and_a_free_place_is_not() {
        assert_eq!(pool(1.0).expect(0, None), pool(0.0).expect(0, None));
        assert_eq!(pool(3.0).expect(0, None).latency_s, 6.0 * 2.0);
    }
}
