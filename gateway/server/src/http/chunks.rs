//! Chunks of a chat or a plain completion as the engine wrote them, less what the client did not ask for.
//!
//! Log-probabilities and usage that only Weir wanted are cut out by byte span; no other byte is written anew. Reading on:
//! `stream.rs`.

use super::chat::weir;
use super::stream::Shape;
use crate::answer::Decided;
use crate::ask::Ask;
use crate::rescue::Rescue;
use crate::serving::Serving;
use crate::stream::chunk;
use bytes::Bytes;
use serde_json::json;
use weir_engine::{ChatEvent, json_span};

const USAGE: &[u8] = b"\"usage\"";

/// What the client asked for beyond the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) logprobs: bool,
    pub(crate) usage: bool,
    /// Where the answer comes from and how it was decided.
    pub(crate) weir: bool,
}

/// What of the engine's chunks the client wants.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    logprobs: bool,
    usage: bool,
    /// The engine's own times, which a routed answer has only beside the usage.
    timings: bool,
    /// The model's name here, when the engine knows it by another.
    model: Option<String>,
    /// What the last chunk says of the decision.
    decision: Option<Decided>,
}

impl Chunks {
    /// Of a pinned model: all that the engine sends, but usage only when it was asked for.
    pub(crate) fn passed(ask: &Ask) -> Self {
        Self {
            logprobs: true,
            usage: ask.client.include_usage,
            timings: true,
            model: None,
            decision: None,
        }
    }

    /// Of a routed answer.
    pub(crate) fn routed(wanted: Wanted, serving: &Serving, decision: &Decided) -> Self {
        let pool = serving.plan.pool_for_model(&decision.model);
        let renamed = pool.is_some_and(|(_, pool)| pool.model != pool.upstream_model);
        Self {
            logprobs: wanted.logprobs,
            usage: wanted.usage,
            timings: wanted.usage,
            model: renamed.then(|| decision.model.clone()),
            decision: wanted.weir.then(|| decision.clone()),
        }
    }
}

impl Wanted {
    pub(crate) fn of(ask: &Ask) -> Self {
        Self {
            logprobs: ask.client.logprobs,
            usage: ask.client.include_usage,
            weir: ask.weir.explain || ask.weir.citations,
        }
    }
}

impl Shape for Chunks {
    fn begin(&mut self) -> Bytes {
        Bytes::new()
    }

    fn event(&mut self, event: &ChatEvent) -> Option<Bytes> {
        let mut cut: Vec<&[&str]> = Vec::new();
        if !self.logprobs {
            cut.push(&["choices", "*", "logprobs"]);
        }
        if !self.usage {
            if event.usage.is_some() && is_usage_only(event) {
                return None;
            }
            // Some engines say on every event that it has none.
            if event.usage.is_some() || names_usage(&event.raw) {
                cut.push(&["usage"]);
            }
        }
        if !self.timings {
            cut.push(&["usage"]);
            cut.push(&["timings"]);
        }
        let mut raw = event.raw.clone();
        if !cut.is_empty() {
            raw = json_span::without(&raw, &cut);
        }
        if let Some(model) = &self.model {
            raw = json_span::with_string(&raw, "model", model);
        }
        Some([b"data: ", &raw[..], b"\n\n"].concat().into())
    }

    fn end(&mut self) -> Bytes {
        let weir = self.decision.as_ref().map(weir_event);
        format!("{}data: [DONE]\n\n", weir.unwrap_or_default()).into()
    }

    fn broken(&mut self, error: &Rescue) -> Bytes {
        error.event().into()
    }
}

/// The chunk before the end, sent only to clients that asked for citations or an explanation.
fn weir_event(decision: &Decided) -> String {
    let mut event = chunk(decision, &json!([]));
    event["weir"] = weir(decision);
    format!("data: {event}\n\n")
}

fn names_usage(raw: &[u8]) -> bool {
    raw.windows(USAGE.len()).any(|window| window == USAGE)
}

fn is_usage_only(event: &ChatEvent) -> bool {
    let said = event.delta.is_some() || event.aside || !event.logprobs.is_empty();
    !said && event.finish_reason.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Caller;
    use weir_engine::Usage;

    fn event(raw: &'static str, usage: Option<Usage>) -> ChatEvent {
        ChatEvent {
            raw: Bytes::from_static(raw.as_bytes()),
            usage,
            ..ChatEvent::default()
        }
    }

    fn routed(all: bool, model: Option<&str>) -> Chunks {
        Chunks {
            logprobs: all,
            usage: all,
            timings: all,
            model: model.map(str::to_owned),
            decision: None,
        }
    }

    #[test]
    fn what_only_weir_asked_for_is_cut_and_the_rest_is_untouched() {
        let mut plain = routed(false, None);
        let raw =
            r#"{"choices":[{"delta":{"content":"é 1.0"},"logprobs":{"content":[]}}], "x":1.50}"#;
        let sent = plain.event(&event(raw, None)).unwrap();
        let expected = "data: {\"choices\":[{\"delta\":{\"content\":\"é 1.0\"}}], \"x\":1.50}\n\n";
        assert_eq!(sent, expected.as_bytes());
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":1}}"#;
        assert_eq!(plain.event(&event(usage, Some(Usage::default()))), None);
    }

    #[test]
    fn what_the_client_asked_for_stays_and_the_model_has_its_name_here() {
        let raw = r#"{"model":"up","choices":[{"logprobs":{}}],"usage":{"prompt_tokens":1}}"#;
        let mut all = routed(true, Some("smol"));
        let sent = all.event(&event(raw, Some(Usage::default()))).unwrap();
        assert_eq!(
            sent,
            format!("data: {}\n\n", raw.replace("up", "smol")).as_bytes()
        );
    }

    #[test]
    fn usage_that_an_engine_sends_unasked_is_cut_from_a_pinned_stream_and_nothing_else_is() {
        let mut passed = Chunks::passed(&Ask::question("hi", Caller::default()));
        let raw = r#"{"choices":[{"text":"","finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":1},"timings":{"n":1}}"#;
        let last = ChatEvent {
            finish_reason: Some("stop".to_owned()),
            ..event(raw, Some(Usage::default()))
        };
        let sent = passed.event(&last).unwrap();
        let kept = raw.replace(r#","usage":{"prompt_tokens":1}"#, "");
        assert_eq!(sent, format!("data: {kept}\n\n").as_bytes());
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":1}}"#;
        assert_eq!(passed.event(&event(usage, Some(Usage::default()))), None);
    }
}
