//! What an engine is asked: texts of a length, questions, and prompts that share their blocks.

use super::engine::{Engine, MatrixError};
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use weir_engine::{ChatRequest, Engines, Priority, Timings};
use weir_plan::Pool;

/// A text is made of these: frequent enough to be a token each in most vocabularies.
const WORDS: [&str; 24] = [
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "on",
    "are", "by", "this", "have", "from", "or", "an", "they", "which", "you",
];

/// Words by which the length of a word in tokens is measured.
const SAMPLE: usize = 16;

/// Tokens of the blocks that prompts share, and of the question after them.
const BLOCKS_TOKENS: u32 = 1024;
const QUESTION_TOKENS: f64 = 16.0;

/// Asks one engine.
pub(super) struct Asking {
    engines: Engines,
    pool: Pool,
    patience: Duration,
}

/// Tokens of a word, and of the template around a text.
pub(super) struct Lengths {
    word: f64,
    template: f64,
}

/// One request, as the engine and the client saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// Tokens of the prompt, those of the cache included.
    pub(super) prompt_tokens: f64,
    /// Tokens of the prompt that were computed a second.
    pub(super) prefill_per_second: f64,
    /// Tokens that were generated a second.
    pub(super) decode_per_second: f64,
    /// Milliseconds from the request to its first text.
    pub(super) first_token_ms: f64,
    /// Share of the prompt that was computed, from 0 to 1.
    computed: f64,
}

#[cfg(test)]
impl Answered {
    /// A request that generated so many tokens a second.
    pub(super) fn example(decode_per_second: f64) -> Self {
        Self {
            prompt_tokens: 100.0,
            prefill_per_second: 200.0,
            decode_per_second,
            first_token_ms: 500.0,
            computed: 1.0,
        }
    }
}

/// `words` words, others for another number.
pub(super) fn text(number: usize, words: usize) -> String {
    let word = |index: usize| WORDS[(index * 7 + index / WORDS.len() + number) % WORDS.len()];
    (0..words).map(word).collect::<Vec<_>>().join(" ")
}

impl Lengths {
    /// How many words make a prompt of that many tokens, template included.
    pub(super) fn words_of(&self, prompt_tokens: u32) -> Result<usize, MatrixError> {
        let words = (f64::from(prompt_tokens) - self.template) / self.word;
        if words.is_nan() || words < 1.0 {
            return Err(MatrixError::Short(prompt_tokens));
        }
        Ok(words as usize)
    }
}

impl Asking {
    pub(super) fn to(engine: &Engine, patience: Duration) -> Self {
        Self {
            engines: engine.engines().clone(),
            pool: engine.pool().clone(),
            patience,
        }
    }

    /// How long words and the template are for this model.
    pub(super) async fn lengths(&self) -> Result<Lengths, MatrixError> {
        let few = self.measured(&text(0, SAMPLE / 2), 1).await?.prompt_tokens;
        let many = self.measured(&text(0, SAMPLE), 1).await?.prompt_tokens;
        let word = (many - few) / (SAMPLE / 2) as f64;
        let template = many - word * SAMPLE as f64;
        Ok(Lengths { word, template })
    }

    /// A prompt of one text that nothing of is cached, and exactly so many tokens in answer.
    pub(super) async fn measured(&self, text: &str, tokens: u32) -> Result<Answered, MatrixError> {
        let body = json!({
            "messages": [{"role": "user", "content": text}],
            "max_tokens": tokens, "ignore_eos": true, "cache_prompt": false, "temperature": 0,
        });
        Ok(self.send(body).await?.1)
    }

    /// A question: the text of the answer, and what it took.
    pub(super) async fn question(
        &self,
        question: &str,
        max_tokens: u32,
    ) -> Result<(String, Answered), MatrixError> {
        let body = json!({
            "messages": [{"role": "user", "content": question}],
            "max_tokens": max_tokens, "cache_prompt": false, "temperature": 0,
        });
        self.send(body).await
    }

    /// The mean share of a prompt that is computed, over questions after the first about the same blocks, which stand before the
    /// question in a message of their own, or behind it.
    pub(super) async fn computed_again(
        &self,
        questions: usize,
        lengths: &Lengths,
        blocks_first: bool,
    ) -> Result<f64, MatrixError> {
        let blocks = text(1, lengths.words_of(BLOCKS_TOKENS)?);
        let question_words = (QUESTION_TOKENS / lengths.word).ceil() as usize;
        let mut computed = 0.0;
        for number in 0..questions {
            let question = format!("{}?", text(number + 2, question_words));
            let messages = match blocks_first {
                true => json!([
                    {"role": "user", "content": blocks}, {"role": "user", "content": question},
                ]),
                false => json!([{"role": "user", "content": format!("{question}\n\n{blocks}")}]),
            };
            let body = json!({"messages": messages, "max_tokens": 1, "cache_prompt": true});
            let answered = self.send(body).await?.1;
            if number > 0 {
                computed += answered.computed;
            }
        }
        Ok(computed / (questions - 1).max(1) as f64)
    }

    async fn send(&self, body: Value) -> Result<(String, Answered), MatrixError> {
        let body = match body {
            Value::Object(body) => body,
            _ => Map::new(),
        };
        let started = Instant::now();
        let request = ChatRequest {
            body,
            prefix: None,
            priority: Priority::Normal,
            deadline: started + self.patience,
        };
        let mut stream = self.engines.chat(&self.pool, request).await?;
        let (mut first, mut said, mut timings) = (None, String::new(), None);
        while let Some(event) = stream.next().await {
            let event = event?;
            if event.aside || event.delta.as_ref().is_some_and(|text| !text.is_empty()) {
                first.get_or_insert_with(|| started.elapsed());
            }
            said.push_str(event.delta.as_deref().unwrap_or_default());
            timings = event.timings.or(timings);
        }
        // An answer without text is there when it ends.
        let first = first.unwrap_or_else(|| started.elapsed());
        let timings = timings.ok_or(MatrixError::NoTimings)?;
        Ok((said, answered(timings, first)))
    }
}

fn answered(timings: Timings, first: Duration) -> Answered {
    let rate = |tokens: u32, ms: f64| f64::from(tokens) * 1e3 / ms;
    let prompt_tokens = f64::from(timings.prompt_tokens) + f64::from(timings.cached_tokens);
    Answered {
        prompt_tokens,
        prefill_per_second: rate(timings.prompt_tokens, timings.prompt_ms),
        decode_per_second: rate(timings.completion_tokens, timings.completion_ms),
        first_token_ms: first.as_secs_f64() * 1e3,
        computed: f64::from(timings.prompt_tokens) / prompt_tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_length_and_differ_from_the_first_word_on() {
        assert_eq!(text(0, 100).split(' ').count(), 100);
        assert_ne!(text(0, 1), text(1, 1));
        assert_eq!(text(3, 50), text(3, 50));
    }

    #[test]
    fn what_was_cached_is_part_of_the_prompt_and_not_of_its_speed() {
        let timings = Timings {
            prompt_tokens: 20,
            cached_tokens: 380,
            prompt_ms: 100.0,
            completion_tokens: 8,
            completion_ms: 400.0,
        };
        let answered = answered(timings, Duration::from_millis(120));
        assert_eq!(answered.prompt_tokens, 400.0);
        assert_eq!(answered.prefill_per_second, 200.0);
        assert_eq!(answered.decode_per_second, 20.0);
        assert_eq!(answered.first_token_ms, 120.0);
        assert_eq!(answered.computed, 0.05);
    }
}
