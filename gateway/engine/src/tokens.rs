//! Asking an engine how many tokens something has, as its own tokenizer counts.
//!
//! A question beside the requests: it takes no slot of the engine, is no load of the pool, and what comes of it changes no
//! breaker. When to ask and what to do without an answer is the gateway's `counts.rs`. It asks only pools whose plan says
//! how, and sends them nothing but the text that is counted.

use crate::client::{Call, read_json};
use crate::engines::Engines;
use crate::error::EngineError;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use std::time::Instant;
use weir_plan::{Pool, TokenizerApi};

const TOKENIZE: &str = "/tokenize";
const APPLY_TEMPLATE: &str = "/apply-template";
/// Largest answer that is read: a million tokens by number.
const ANSWER_MAX: usize = 16 << 20;

/// llama.cpp lists the tokens.
#[derive(Deserialize)]
struct WireTokens {
    tokens: Vec<IgnoredAny>,
}

/// vLLM counts them too.
#[derive(Deserialize)]
struct WireCount {
    count: u32,
}

#[derive(Deserialize)]
struct WirePrompt {
    prompt: String,
}

impl Engines {
    /// Tokens of a text as it stands inside a prompt.
    ///
    /// # Errors
    /// No replica could be asked, or the one that was did not say.
    pub async fn text_tokens(
        &self,
        pool: &Pool,
        text: &str,
        until: Instant,
    ) -> Result<u32, EngineError> {
        match api(pool)? {
            TokenizerApi::LlamaCpp => self.llama_cpp_tokens(pool, text, false, until).await,
            TokenizerApi::Vllm => {
                let model = &pool.upstream_model;
                let body = json!({"model": model, "prompt": text, "add_special_tokens": false});
                let counted: WireCount = self.aside(pool, TOKENIZE, &body, until).await?;
                Ok(counted.count)
            }
        }
    }

    /// Tokens of a conversation of `(role, text)` in the model's chat template, ready for an answer.
    ///
    /// # Errors
    /// No replica could be asked, or the one that was did not say. A template that refuses the roles is an
    /// [`EngineError::Status`].
    pub async fn chat_tokens(
        &self,
        pool: &Pool,
        turns: &[(&str, &str)],
        until: Instant,
    ) -> Result<u32, EngineError> {
        let message = |(role, text): &(&str, &str)| json!({"role": role, "content": text});
        let messages: Vec<Value> = turns.iter().map(message).collect();
        match api(pool)? {
            TokenizerApi::LlamaCpp => {
                let body = json!({"messages": messages});
                let rendered: WirePrompt = self.aside(pool, APPLY_TEMPLATE, &body, until).await?;
                self.llama_cpp_tokens(pool, &rendered.prompt, true, until)
                    .await
            }
            TokenizerApi::Vllm => {
                let body = json!({"model": pool.upstream_model, "messages": messages});
                let counted: WireCount = self.aside(pool, TOKENIZE, &body, until).await?;
                Ok(counted.count)
            }
        }
    }

    /// `whole` is a whole prompt, which begins with what the model begins every prompt with.
    async fn llama_cpp_tokens(
        &self,
        pool: &Pool,
        text: &str,
        whole: bool,
        until: Instant,
    ) -> Result<u32, EngineError> {
        let body = json!({"content": text, "add_special": whole, "parse_special": true});
        let listed: WireTokens = self.aside(pool, TOKENIZE, &body, until).await?;
        Ok(u32::try_from(listed.tokens.len()).unwrap_or(u32::MAX))
    }

    async fn aside<T: DeserializeOwned>(
        &self,
        pool: &Pool,
        path: &str,
        body: &Value,
        until: Instant,
    ) -> Result<T, EngineError> {
        let nobody = || EngineError::NoEndpoint {
            pool: pool.name.clone(),
        };
        let target = self.replicas().aside(pool).ok_or_else(nobody)?;
        let body = body.to_string().into();
        let call = Call { path, body, until };
        let response = self.client().post(&target, call).await?;
        read_json(&target, response, (ANSWER_MAX, "a token count"), until).await
    }
}

fn api(pool: &Pool) -> Result<TokenizerApi, EngineError> {
    let vocabulary = pool.vocabulary.as_ref();
    let api = vocabulary.map(|vocabulary| vocabulary.api);
    api.ok_or_else(|| EngineError::BadEndpoint {
        pool: pool.name.clone(),
        what: "the plan does not say how it counts tokens",
    })
}
