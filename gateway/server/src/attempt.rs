//! One forced answer: the lab's way through production's context, prompt and dispatch.
//!
//! No choice, no verdict, no row. The flow that decides is `answer.rs`.

use crate::dispatch::{Hold, Order};
use crate::error::AnswerError;
use crate::fill::cost_of;
use crate::fill::sources;
use crate::gateway::Gateway;
use crate::prepare::Prepared;
use crate::record::Source;
use crate::verdict::features;
use std::time::{Duration, Instant};
use weir_router::StepFeatures;

/// One whole answer of a forced arm.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The answer.
    pub text: String,
    /// Mean log-probability of its tokens.
    pub mean_logprob: Option<f32>,
    /// That of its least likely token.
    pub min_logprob: Option<f32>,
    /// Why it ended.
    pub finish_reason: String,
    /// Seconds until its first token.
    pub ttft_s: f64,
    /// Seconds until its end.
    pub latency_s: f64,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
    /// Price.
    pub cost: f64,
    /// What the verdict would read of it.
    pub answer: StepFeatures,
    /// What the verdict of a stream would read at the hold; `None` for a shorter answer.
    pub prefix: Option<StepFeatures>,
    /// The context blocks of its prompt.
    pub sources: Vec<Source>,
}

impl Gateway {
    /// One whole answer of a forced arm and sampling class: the lab's way through production's code.
    pub async fn attempt(
        &self,
        prepared: &Prepared,
        arm: usize,
        sampling: usize,
        seed: Option<u64>,
    ) -> Result<Attempt, AnswerError> {
        let table = prepared.deciding.router.arms();
        let in_table = arm < table.arms.len() && sampling < table.sampling.len();
        let has_pool = in_table && table.arms[arm].rank < prepared.serving.plan.pools.len();
        if !has_pool {
            return Err(AnswerError::NoSuchArm { arm, sampling });
        }
        // One preparation serves many attempts, so the deadline counts from here.
        let limit = Duration::from_millis(prepared.serving.plan.limits.request_timeout_ms);
        let deadline = Instant::now() + limit;
        let order = Order {
            arm,
            class: sampling,
            seed,
            hold: Hold::Whole,
            deadline,
        };
        let tried = self.try_arm(prepared, order).await?;
        let latency_s = tried.taken.started.elapsed().as_secs_f64();
        let pool = &prepared.serving.plan.pools[tried.rank];
        let usage = tried.taken.tally.used(tried.prompt_tokens);
        let prefix = tried
            .taken
            .prefix
            .as_ref()
            .map(|prefix| features(prefix, &tried, table));
        let answer = features(&tried.taken.tally, &tried, table);
        let sources = sources(&tried);
        let tally = tried.taken.tally;
        Ok(Attempt {
            mean_logprob: tally.mean_logprob(),
            min_logprob: tally.min_logprob,
            finish_reason: tally.finish_reason.clone().unwrap_or_default(),
            ttft_s: tried.taken.first_s,
            latency_s,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            cost: cost_of(pool, usage),
            answer,
            prefix,
            sources,
            text: tally.text,
        })
    }
}
