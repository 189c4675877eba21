//! `POST /v1/completions`: a prompt, answered as text. A pinned model completes it; `auto` answers it as a question.
//!
//! Owns what the body may hold and the shape of a routed answer. A pinned body goes to its engine's same path as it came.
//! Reading on: `chat.rs`.

use super::asked::{self, Asked};
use super::chat::{self, unix_seconds, usage, weir};
use super::chunks::Wanted;
use super::stream::{self, Shape};
use super::{Shared, body};
use crate::answer::{Answer, Decided};
use crate::ask::{AskError, ModelChoice, wrong};
use crate::rescue::Rescue;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use weir_engine::ChatEvent;

const PATH: &str = "/v1/completions";
/// Most alternatives to a token that may be asked for.
const LOGPROBS_MAX: u64 = 5;
/// What belongs to a chat, and would be ignored here.
const CHAT_ONLY: [&str; 7] = [
    "messages",
    "tools",
    "tool_choice",
    "response_format",
    "max_completion_tokens",
    "top_logprobs",
    "parallel_tool_calls",
];

/// What the answer's shape needs of the request.
#[derive(Clone, Copy, Debug)]
struct Prompt {
    /// Its length in characters.
    length: usize,
    /// How many alternatives to each token are wanted, where log-probabilities are.
    alternatives: Option<usize>,
}

pub(crate) async fn complete(
    State(surfaces): Shared,
    request: Request,
) -> Result<Response, Rescue> {
    let read = |bytes: Bytes| {
        let (chat, prompt) = translate(body::object(&bytes)?)?;
        Ok((chat, (prompt, bytes)))
    };
    let (asked, (prompt, bytes)) = asked::ask(surfaces, request, read).await?;
    let answered = match asked.ask.model {
        ModelChoice::Pinned(_) => chat::pass(asked, PATH, bytes).await,
        ModelChoice::Auto => answer(asked, prompt).await,
    };
    answered.map_err(|error| error.renamed(&[("messages", "prompt")]))
}

async fn answer(asked: Asked, prompt: Prompt) -> Result<Response, Rescue> {
    let wanted = Wanted::of(&asked.ask);
    if asked.ask.client.stream {
        let streamed = stream::routed(asked).await?;
        let chunks = TextChunks {
            decision: streamed.decision.clone(),
            created: unix_seconds(),
            wanted,
            prompt,
            written: 0,
        };
        return Ok(streamed.respond(chunks));
    }
    let (answer, headers) = chat::whole(asked).await?;
    Ok((headers, Json(completion(&answer, prompt, wanted))).into_response())
}

/// The chat of one user turn that a body asks for.
fn translate(mut body: Map<String, Value>) -> Result<(Map<String, Value>, Prompt), AskError> {
    for field in CHAT_ONLY {
        if body.get(field).is_some_and(|value| !value.is_null()) {
            let message = format!("{field} is not served at {PATH}: use /v1/chat/completions");
            return Err(AskError::new(field, message));
        }
    }
    let mut take = |field: &str| body.remove(field).filter(|value| !value.is_null());
    let prompt = prompt(take("prompt"))?;
    for (field, only, expected) in [
        ("echo", json!(false), "false: the prompt is not sent back"),
        ("best_of", json!(1), "1: one request gets one answer"),
        ("suffix", json!(""), "none: text is not filled in"),
    ] {
        if let Some(value) = take(field).filter(|value| *value != only) {
            return Err(wrong(field, &value, expected));
        }
    }
    let alternatives = match take("logprobs") {
        None => None,
        Some(value) => match value.as_u64().filter(|count| *count <= LOGPROBS_MAX) {
            Some(count) => usize::try_from(count).ok(),
            None => return Err(wrong("logprobs", &value, "a whole number from 0 to 5")),
        },
    };
    if let Some(count) = alternatives {
        body.insert("logprobs".to_owned(), json!(true));
        if count > 0 {
            body.insert("top_logprobs".to_owned(), json!(count));
        }
    }
    let asked = Prompt {
        length: prompt.chars().count(),
        alternatives,
    };
    let messages = json!([{"role": "user", "content": prompt}]);
    body.insert("messages".to_owned(), messages);
    Ok((body, asked))
}

fn prompt(prompt: Option<Value>) -> Result<String, AskError> {
    let expected = "a string, or a list with one string";
    let text = match prompt {
        None => {
            let message = format!("prompt is missing: send {expected}");
            return Err(AskError::new("prompt", message));
        }
        Some(Value::String(text)) => text,
        Some(Value::Array(mut list)) if list.len() == 1 && list[0].is_string() => {
            match list.swap_remove(0) {
                Value::String(text) => text,
                other => return Err(wrong("prompt", &other, expected)),
            }
        }
        Some(other) => return Err(wrong("prompt", &other, expected)),
    };
    if text.trim().is_empty() {
        return Err(AskError::new("prompt", "prompt is empty: send a text"));
    }
    Ok(text)
}

fn completion(answer: &Answer, prompt: Prompt, wanted: Wanted) -> Value {
    let text = answer.message.get("content").and_then(Value::as_str);
    let tokens = answer
        .logprobs
        .as_ref()
        .and_then(|logprobs| logprobs["content"].as_array());
    let mut written = 0;
    let logprobs = prompt.logprobs(tokens, &mut written);
    let choice = json!({
        "index": 0, "text": text.unwrap_or_default(), "logprobs": logprobs,
        "finish_reason": answer.finish_reason,
    });
    let mut body = frame(&answer.decision, unix_seconds(), &json!([choice]));
    body["usage"] = usage(answer.usage);
    if wanted.weir {
        body["weir"] = weir(&answer.decision);
    }
    body
}

fn frame(decision: &Decided, created: u64, choices: &Value) -> Value {
    json!({
        "id": format!("cmpl-{}", decision.id), "object": "text_completion", "created": created,
        "model": decision.model, "choices": choices,
    })
}

impl Prompt {
    /// OpenAI's older shape of log-probabilities; `written` counts the characters of the answer so far.
    fn logprobs(self, tokens: Option<&Vec<Value>>, written: &mut usize) -> Value {
        let (Some(alternatives), Some(tokens)) = (self.alternatives, tokens) else {
            return Value::Null;
        };
        let text = |token: &Value| token["token"].as_str().unwrap_or_default().to_owned();
        let (mut texts, mut logprobs) = (Vec::new(), Vec::new());
        let (mut tops, mut offsets) = (Vec::new(), Vec::new());
        for token in tokens {
            offsets.push(self.length + *written);
            *written += text(token).chars().count();
            texts.push(text(token));
            logprobs.push(token["logprob"].clone());
            let others = token["top_logprobs"].as_array().into_iter().flatten();
            let others = others.map(|other| (text(other), other["logprob"].clone()));
            tops.push(Map::from_iter(others.take(alternatives)));
        }
        let tops = if alternatives == 0 {
            Value::Null
        } else {
            json!(tops)
        };
        json!({"tokens": texts, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets})
    }
}

/// Writes a routed answer as chunks of text.
struct TextChunks {
    decision: Decided,
    created: u64,
    wanted: Wanted,
    prompt: Prompt,
    /// Characters of the answer so far.
    written: usize,
}

impl TextChunks {
    fn chunk(&self, choices: &Value, more: Option<(&str, Value)>) -> String {
        let mut chunk = frame(&self.decision, self.created, choices);
        if let Some((field, value)) = more {
            chunk[field] = value;
        }
        format!("data: {chunk}\n\n")
    }
}

impl Shape for TextChunks {
    fn begin(&mut self) -> Bytes {
        Bytes::new()
    }

    fn event(&mut self, event: &ChatEvent) -> Option<Bytes> {
        let mut sent = String::new();
        if event.delta.is_some() || event.finish_reason.is_some() {
            let wanted = self.prompt.alternatives.is_some() && !event.logprobs.is_empty();
            let raw = wanted.then(|| serde_json::from_slice::<Value>(&event.raw).ok());
            let raw = raw.flatten().unwrap_or_default();
            let tokens = raw.pointer("/choices/0/logprobs/content");
            let tokens = tokens.and_then(Value::as_array);
            let choice = json!({
                "index": 0, "text": event.delta.as_deref().unwrap_or_default(),
                "logprobs": self.prompt.logprobs(tokens, &mut self.written),
                "finish_reason": event.finish_reason,
            });
            sent.push_str(&self.chunk(&json!([choice]), None));
        }
        if let Some(used) = event.usage.filter(|_| self.wanted.usage) {
            sent.push_str(&self.chunk(&json!([]), Some(("usage", usage(used)))));
        }
        (!sent.is_empty()).then(|| sent.into())
    }

    fn end(&mut self) -> Bytes {
        let weir = || self.chunk(&json!([]), Some(("weir", weir(&self.decision))));
        let weir = self.wanted.weir.then(weir).unwrap_or_default();
        format!("{weir}data: [DONE]\n\n").into()
    }

    fn broken(&mut self, error: &Rescue) -> Bytes {
        error.event().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<(Map<String, Value>, Prompt), AskError> {
        let Value::Object(body) = body else {
            panic!("the test's body is an object")
        };
        translate(body)
    }

    #[test]
    fn a_prompt_becomes_a_chat_of_one_turn_and_the_rest_is_kept() {
        for prompt in [json!("hi"), json!(["hi"])] {
            let body = json!({"model": "auto", "prompt": prompt, "stop": ["x"], "logprobs": 2,
                "echo": false, "suffix": null, "best_of": 1});
            let (chat, asked) = read(body).expect("a valid body");
            let expected = json!({"model": "auto", "stop": ["x"], "logprobs": true, "top_logprobs": 2,
                "messages": [{"role": "user", "content": "hi"}]});
            assert_eq!(Value::Object(chat), expected);
            assert_eq!((asked.length, asked.alternatives), (2, Some(2)));
        }
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        for (field, value) in [
            ("prompt", json!(null)),
            ("prompt", json!(["a", "b"])),
            ("prompt", json!([1, 2])),
            ("prompt", json!([])),
            ("prompt", json!(" ")),
            ("echo", json!(true)),
            ("suffix", json!("end")),
            ("best_of", json!(2)),
            ("logprobs", json!(6)),
            ("logprobs", json!(true)),
            ("messages", json!([])),
            ("tools", json!([])),
            ("response_format", json!({"type": "text"})),
        ] {
            let mut body = json!({"model": "auto", "prompt": "hi"});
            body[field] = value.clone();
            let error = read(body).expect_err(field);
            assert_eq!(error.param, field, "{value}");
        }
    }

    #[test]
    fn log_probabilities_have_openais_older_shape_with_offsets_in_characters() {
        let prompt = Prompt {
            length: 3,
            alternatives: Some(1),
        };
        let token = |text: &str| {
            json!({"token": text, "logprob": -0.5,
            "top_logprobs": [{"token": text, "logprob": -0.5}, {"token": "x", "logprob": -2.0}]})
        };
        let (mut written, tokens) = (0, vec![token("é!"), token("b")]);
        let logprobs = prompt.logprobs(Some(&tokens), &mut written);
        assert_eq!(logprobs["text_offset"], json!([3, 5]));
        assert_eq!(logprobs["top_logprobs"][0], json!({"é!": -0.5}));
        assert_eq!((written, &logprobs["tokens"]), (3, &json!(["é!", "b"])));
        let plain = Prompt {
            alternatives: None,
            ..prompt
        };
        assert_eq!(plain.logprobs(Some(&tokens), &mut written), Value::Null);
    }
}
