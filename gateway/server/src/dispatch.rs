//! Step 7: send a prompt to a pool and read its answer, whole or up to the hold.
//!
//! Which replica of the pool answers, and retries among them, are weir-engine's. Next step: `verdict.rs`.

use crate::ask::Ask;
use crate::prompt::Prompt;
use crate::record::TokenCounts;
use crate::speed::Sample;
use crate::tally::Tally;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};
use weir_engine::{ChatEvent, ChatRequest, ChatStream, EngineError, Engines};
use weir_memory::context::Context;
use weir_plan::{EngineKind, Pool};

/// Tokens of a stream that are held until the verdict.
pub const HOLD_TOKENS: u32 = 24;
/// vLLM's field for a part of its cache.
pub(crate) const CACHE_SALT: &str = "cache_salt";
/// Longest answer when the client names no limit.
pub const COMPLETION_TOKENS_MAX: u32 = 512;

/// How much of an answer is read before it is judged or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// All of it.
    Whole,
    /// The first [`HOLD_TOKENS`]; a shorter answer is whole.
    Verdict,
    /// The first token: no verdict is possible, so there is nothing to wait for.
    First,
}

impl Hold {
    /// Tokens at which the prefix is taken.
    fn tokens(self) -> u32 {
        match self {
            Self::Whole | Self::Verdict => HOLD_TOKENS,
            Self::First => 1,
        }
    }
}

/// How an answer is sampled: what the client set, else the router's class and the model's card.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sampling {
    pub(crate) class: String,
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
    pub(crate) seed: Option<u64>,
}

/// What to try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) arm: usize,
    /// The router's sampling class.
    pub(crate) class: usize,
    pub(crate) seed: Option<u64>,
    pub(crate) hold: Hold,
    /// When the whole answer must be there.
    pub(crate) deadline: Instant,
}

/// One attempt at an answer: what was sent, and what has arrived.
#[derive(Debug)]
pub(crate) struct Try {
    /// The arm that was executed.
    pub(crate) arm: usize,
    pub(crate) rank: usize,
    pub(crate) class: usize,
    pub(crate) hold: Hold,
    pub(crate) sampling: Sampling,
    pub(crate) context: Context,
    pub(crate) prompt_tokens: u32,
    pub(crate) turns_cut: usize,
    /// Whether the prompt was counted or estimated.
    pub(crate) token_counts: TokenCounts,
    /// Milliseconds spent on context and prompt.
    pub(crate) prompt_ms: f64,
    pub(crate) taken: Taken,
}

/// What has been read of an answer.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) tally: Tally,
    /// The tally at the hold, when the answer went on after it.
    pub(crate) prefix: Option<Tally>,
    /// Every event so far, in order.
    pub(crate) events: Vec<ChatEvent>,
    /// What is still to come; `None` when the answer is whole.
    pub(crate) rest: Option<ChatStream>,
    /// Time spent waiting for a place, or for the first replica of a pool at zero.
    pub(crate) held: Duration,
    pub(crate) started: Instant,
    /// Seconds until the first event.
    pub(crate) first_s: f64,
}

impl Try {
    /// Whether the answer has ended.
    pub(crate) fn whole(&self) -> bool {
        self.taken.rest.is_none()
    }
}

/// What the estimate of the pool's speed learns from a whole answer.
pub(crate) fn sample(tally: &Tally, prompt_tokens: u32, first_s: f64, total_s: f64) -> Sample {
    let used = tally.used(prompt_tokens);
    let ended = tally.finish_reason.as_deref() == Some("stop");
    match tally.timings {
        Some(timings) => Sample {
            prompt_tokens: timings.prompt_tokens,
            prefill_s: timings.prompt_ms / 1e3,
            completion_tokens: used.completion_tokens,
            decode_s: timings.completion_ms / 1e3,
            ended,
        },
        None => Sample {
            prompt_tokens: used.prompt_tokens.saturating_sub(used.cached_tokens),
            prefill_s: first_s,
            completion_tokens: used.completion_tokens,
            decode_s: total_s - first_s,
            ended,
        },
    }
}

/// Asks a pool and reads as much as `hold` says.
pub(crate) async fn dispatch(
    engines: &Engines,
    pool: &Pool,
    request: ChatRequest,
    hold: Hold,
) -> Result<Taken, EngineError> {
    let asked = Instant::now();
    let pool = engines.warm(pool, request.deadline).await?;
    let sent = Instant::now();
    let stream = engines.chat(&pool, request).await?;
    let started = sent + stream.queued();
    let first_s = started.elapsed().as_secs_f64();
    let mut taken = Taken {
        tally: Tally::default(),
        prefix: None,
        events: Vec::new(),
        rest: Some(stream),
        held: started - asked,
        started,
        first_s,
    };
    taken.read(hold).await?;
    Ok(taken)
}

impl Taken {
    async fn read(&mut self, hold: Hold) -> Result<(), EngineError> {
        while let Some(stream) = &mut self.rest {
            let Some(event) = stream.next().await else {
                self.rest = None;
                break;
            };
            self.push(event?, hold.tokens());
            if self.prefix.is_some() && hold != Hold::Whole {
                break;
            }
        }
        Ok(())
    }

    /// Adds an event. The prefix is what stood there at `limit` tokens, unless the answer ended with them.
    fn push(&mut self, event: ChatEvent, limit: u32) {
        self.tally.add(&event);
        self.events.push(event);
        let reached = self.prefix.is_none() && self.tally.tokens >= limit;
        if reached && self.tally.finish_reason.is_none() {
            self.prefix = Some(self.tally.clone());
        }
    }
}

/// The body for a pool: the prompt, the sampling, and everything else the client sent.
pub(crate) fn body(
    ask: &Ask,
    pool: &Pool,
    prompt: &Prompt,
    sampling: &Sampling,
) -> Map<String, Value> {
    let mut body = ask.client.passed.clone();
    let messages = prompt
        .messages
        .iter()
        .map(|message| Value::Object(message.object.clone()));
    let room = pool.context_tokens.saturating_sub(prompt.tokens).max(1);
    let most = ask
        .client
        .max_tokens
        .unwrap_or(COMPLETION_TOKENS_MAX)
        .min(room);
    body.insert("messages".to_owned(), messages.collect());
    body.insert("max_tokens".to_owned(), json!(most));
    body.insert("temperature".to_owned(), json!(sampling.temperature));
    body.insert("top_p".to_owned(), json!(sampling.top_p));
    if let Some(seed) = sampling.seed {
        body.insert("seed".to_owned(), json!(seed));
    }
    // llama.cpp refuses log-probabilities in a stream with tools; such answers are not judged.
    if ask.client.tools {
        body.remove("top_logprobs");
    } else {
        body.insert("logprobs".to_owned(), json!(true));
    }
    if !ask.client.logprobs {
        body.remove("top_logprobs");
    }
    add_card(&mut body, pool);
    add_salt(&mut body, ask, pool);
    body
}

/// Adds the salt of the tenant, where the engine knows salts.
pub(crate) fn add_salt(body: &mut Map<String, Value>, ask: &Ask, pool: &Pool) {
    let salt = cache_salt(ask, pool);
    body.extend(salt.map(|salt| (CACHE_SALT.to_owned(), Value::String(salt))));
}

/// By what an engine keeps what it has read of one tenant apart from another's, so that nobody learns by the time of an answer what
/// somebody else asked; a client's own salt divides its tenant's further. `None` for engines that know no salt.
pub(crate) fn cache_salt(ask: &Ask, pool: &Pool) -> Option<String> {
    let own = ask.client.passed.get(CACHE_SALT);
    let own = own.and_then(Value::as_str).unwrap_or_default();
    pool.cache_salt.then(|| {
        // The length parts them: no tenant and salt are another tenant's and another salt.
        let tenant = &ask.caller.tenant;
        let salted = format!("{}:{tenant}{own}", tenant.len());
        hex::encode(Sha256::digest(salted))
    })
}

/// What the model's card says beyond OpenAI's fields, where the client does not say it: only what the pool declares,
/// because an engine that does not know a field may refuse it. `repeat_penalty` is llama.cpp's name, the other is that
/// of vLLM and its kin.
pub(crate) fn add_card(body: &mut Map<String, Value>, pool: &Pool) {
    let penalty = match pool.engine {
        EngineKind::LlamaCpp => "repeat_penalty",
        EngineKind::External => "repetition_penalty",
    };
    let card = [
        ("min_p", pool.sampling.min_p),
        (penalty, pool.sampling.repetition_penalty),
    ];
    for (field, value) in card {
        if let Some(value) = value {
            body.entry(field).or_insert(json!(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Caller;
    use crate::message::{Message, Role};
    use weir_plan::SamplingDefaults;

    fn token(text: &str) -> ChatEvent {
        ChatEvent {
            delta: Some(text.to_owned()),
            logprobs: vec![-0.5],
            ..ChatEvent::default()
        }
    }

    fn taken() -> Taken {
        Taken {
            tally: Tally::default(),
            prefix: None,
            events: Vec::new(),
            rest: None,
            held: Duration::ZERO,
            started: Instant::now(),
            first_s: 0.0,
        }
    }

    #[test]
    fn the_prefix_is_taken_once_and_at_the_hold() {
        let mut taken = taken();
        for _ in 0..5 {
            taken.push(token("x"), 3);
        }
        assert_eq!(taken.prefix.map(|tally| tally.tokens), Some(3));
        assert_eq!((taken.tally.tokens, taken.events.len()), (5, 5));
    }

    #[test]
    fn an_answer_shorter_than_the_hold_has_no_prefix() {
        let mut taken = taken();
        taken.push(token("x"), 2);
        let last = ChatEvent {
            finish_reason: Some("stop".to_owned()),
            ..token("y")
        };
        taken.push(last, 2);
        assert!(taken.prefix.is_none());
    }

    #[test]
    fn each_engine_is_sent_what_the_card_declares_by_the_name_it_knows() {
        let declared = SamplingDefaults {
            temperature: None,
            min_p: Some(0.5),
            repetition_penalty: Some(1.25),
        };
        for (engine, penalty) in [
            (EngineKind::LlamaCpp, "repeat_penalty"),
            (EngineKind::External, "repetition_penalty"),
        ] {
            let mut pool = Pool {
                engine,
                ..crate::fixture::pool("small")
            };
            let mut body = Map::new();
            add_card(&mut body, &pool);
            assert!(body.is_empty(), "{engine:?} declares nothing");
            pool.sampling = declared;
            body.insert("min_p".to_owned(), json!(0.25));
            add_card(&mut body, &pool);
            let expected = json!({"min_p": 0.25, penalty: 1.25});
            assert_eq!(Value::Object(body), expected, "the client's min_p stays");
        }
    }

    #[test]
    fn the_body_holds_the_clients_fields_and_never_more_tokens_than_fit() {
        let mut ask = Ask::question("hi", Caller::default());
        ask.client.passed.insert("stop".to_owned(), json!(["x"]));
        ask.client
            .passed
            .insert("top_logprobs".to_owned(), json!(4));
        let prompt = Prompt {
            messages: vec![Message::new(Role::User, "hi")],
            tokens: 400,
            turns_cut: 0,
        };
        let sampling = Sampling {
            class: "precise".to_owned(),
            temperature: 0.0,
            top_p: 1.0,
            seed: Some(7),
        };
        let body = body(&ask, &crate::fixture::pool("small"), &prompt, &sampling);
        assert_eq!(
            body["max_tokens"], 112,
            "512 tokens of context less the prompt"
        );
        assert_eq!(body["stop"], json!(["x"]));
        assert_eq!(
            (&body["seed"], &body["logprobs"]),
            (&json!(7), &json!(true))
        );
        assert!(!body.contains_key("top_logprobs"));
    }
}
