//! Exact token counts of models whose file is elsewhere: their engines are asked for what a prompt needs.
//!
//! A prompt is made by pure functions with a counter that estimates what it does not know and notes it. [`Counts::settled`]
//! makes it, asks the engine for everything noted at once, and makes it again, until nothing is estimated or the time is
//! over. Texts come again (system prompts, passages of the memory) and are counted once. It asks the pool that it is given
//! and no other; which pools may be given is the caller's matter: those that the request may reach. Without an answer the
//! estimate stands, the log row says so, and the engine is left alone for a while.

use crate::rescue::logged;
use futures_util::{StreamExt, stream};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use weir_embed::{CountQuestion, TokenCache, TokenCounter};
use weir_engine::{EngineError, Engines};
use weir_plan::Pool;

/// Time for all questions about one prompt.
const ASK_TIME: Duration = Duration::from_millis(150);
/// How often a prompt is made again: what fits changes with the counts, and with it what is counted.
const ROUNDS: usize = 4;
/// Questions of one round; what is beyond waits for the next one.
const QUESTIONS_MAX: usize = 64;
/// Questions that an engine is asked at the same time.
const AT_ONCE: usize = 8;
/// How long an engine that did not answer is not asked.
const REST: Duration = Duration::from_secs(5);
/// Stands for the text of a message where only its role matters. One token in every vocabulary.
const LETTER: &str = "x";

/// What engines said about tokens. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    cache: TokenCache,
    /// Until when pools are not asked, by name.
    resting: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Counts {
    /// A counter for one prompt of a pool's model.
    pub(crate) fn counter(&self, pool: &Pool) -> TokenCounter {
        match &pool.vocabulary {
            Some(vocabulary) => TokenCounter::asking(&self.cache, &vocabulary.model),
            None => TokenCounter::estimate(),
        }
    }

    /// Makes something with a counter of `pool`, again where it had to estimate what the engine can tell.
    pub(crate) async fn settled<T>(
        &self,
        engines: &Engines,
        (pool, counter): (&Pool, &TokenCounter),
        deadline: Instant,
        make: impl Fn() -> T,
    ) -> T {
        counter.begin_again();
        let mut made = make();
        let until = deadline.min(Instant::now() + ASK_TIME);
        for _ in 0..ROUNDS {
            let missed = counter.missed();
            if missed.is_empty() || !self.ask(engines, (pool, counter), &missed, until).await {
                break;
            }
            counter.begin_again();
            made = make();
        }
        made
    }

    /// Whether the engine answered something, so that it is worth to count again.
    async fn ask(
        &self,
        engines: &Engines,
        (pool, counter): (&Pool, &TokenCounter),
        questions: &[CountQuestion],
        until: Instant,
    ) -> bool {
        if pool.endpoints.is_empty() || self.is_resting(pool) {
            return false;
        }
        let asked = questions.iter().take(QUESTIONS_MAX);
        let asked: Vec<_> = asked
            .map(|question| answer(engines, pool, question, until))
            .collect();
        let mut answers = std::pin::pin!(stream::iter(asked).buffer_unordered(AT_ONCE));
        let mut learned = false;
        while let Some((question, answer)) = answers.next().await {
            match answer {
                Ok(tokens) => counter.learn(question, tokens),
                Err(error) => {
                    tracing::debug!(
                        pool = pool.name,
                        error = logged(&error),
                        "tokens are estimated"
                    );
                    // One that answers, and not everything in time, knows more the next time.
                    if !learned || !matches!(error, EngineError::TimedOut { .. }) {
                        let until = Instant::now() + REST;
                        self.resting().insert(pool.name.clone(), until);
                    }
                    return learned;
                }
            }
            learned = true;
        }
        learned
    }

    fn is_resting(&self, pool: &Pool) -> bool {
        let now = Instant::now();
        let mut resting = self.resting();
        resting.retain(|_, until| *until > now);
        resting.contains_key(&pool.name)
    }

    fn resting(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question with its answer.
async fn answer<'a>(
    engines: &Engines,
    pool: &Pool,
    question: &'a CountQuestion,
    until: Instant,
) -> (&'a CountQuestion, Result<Option<u32>, EngineError>) {
    (question, tokens(engines, pool, question, until).await)
}

/// `None` where the model's template refuses the roles.
async fn tokens(
    engines: &Engines,
    pool: &Pool,
    question: &CountQuestion,
    until: Instant,
) -> Result<Option<u32>, EngineError> {
    let roles = match question {
        CountQuestion::Text(text) => return engines.text_tokens(pool, text, until).await.map(Some),
        CountQuestion::Template(roles) => roles,
    };
    let turns: Vec<(&str, &str)> = roles.iter().map(|role| (role.as_str(), LETTER)).collect();
    let letters = u32::try_from(turns.len()).unwrap_or(u32::MAX);
    match engines.chat_tokens(pool, &turns, until).await {
        Ok(tokens) => Ok(Some(tokens.saturating_sub(letters))),
        // llama.cpp says 400 or 500 when a template raises an exception, vLLM 400.
        Err(EngineError::Status {
            status: 400 | 422 | 500,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}
