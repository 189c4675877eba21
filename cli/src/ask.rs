//! `weir ask`: one question through the HTTP API, as any client would ask it; the answer as it comes, then its route.

use crate::args::{AskArgs, Output};
use crate::client::client;
use crate::fail::Failure;
use crate::route;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;
use weir_gateway::record::Record;
use weir_local::{Home, Instance};
use weir_plan::Privacy;

/// Longest wait for an answer; the gateway's own limit is shorter.
const TIMEOUT: Duration = Duration::from_secs(600);

pub(crate) async fn run(args: AskArgs) -> Result<(), Failure> {
    let base = match &args.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => running(&args).await?,
    };
    let conversation = Conversation {
        client: client(TIMEOUT)?,
        base,
        api_key: args.api_key.clone(),
    };
    match args.output {
        Output::Json => conversation.whole(&args).await,
        Output::Text => conversation.streamed(&args).await,
    }
}

async fn running(args: &AskArgs) -> Result<String, Failure> {
    let instance = Instance::find(&Home::from_env()?, args.which.name.as_deref()).await?;
    if instance.control.address.is_empty() {
        let gateway = &instance.control.gateway;
        return Err(Failure::new(format!(
            "gateway {gateway:?} is still starting: see `weir status`"
        )));
    }
    Ok(instance.control.address)
}

/// A gateway and how to speak to it.
struct Conversation {
    client: reqwest::Client,
    base: String,
    api_key: Option<String>,
}

impl Conversation {
    async fn streamed(&self, args: &AskArgs) -> Result<(), Failure> {
        let response = self.ask(args, true).await?;
        let decision = decision_id(&response);
        let mut bytes = response.bytes_stream();
        let mut events = Events::default();
        let mut out = anstream::stdout().lock();
        while let Some(chunk) = bytes.next().await {
            for event in events.take_in(&chunk?) {
                if let Some(error) = event.get("error") {
                    writeln!(out)?;
                    return Err(Failure::new(format!(
                        "the answer broke off: {}",
                        message(error)
                    )));
                }
                if let Some(text) = event
                    .pointer("/choices/0/delta/content")
                    .and_then(Value::as_str)
                {
                    write!(out, "{text}")?;
                    out.flush()?;
                }
            }
        }
        writeln!(out)?;
        if let Some(record) = self.decision(decision).await {
            anstream::eprintln!("\n{}", route::text(&record));
        }
        Ok(())
    }

    async fn whole(&self, args: &AskArgs) -> Result<(), Failure> {
        let response = self.ask(args, false).await?;
        let decision = decision_id(&response);
        let answer: Value = response.json().await?;
        let decision = self.decision(decision).await;
        let both = json!({"response": answer, "decision": decision});
        anstream::println!("{}", serde_json::to_string_pretty(&both)?);
        Ok(())
    }

    async fn ask(&self, args: &AskArgs, stream: bool) -> Result<reqwest::Response, Failure> {
        let url = format!("{}/v1/chat/completions", self.base);
        let request = self
            .authorised(self.client.post(&url))
            .json(&body(args, stream));
        let response = request.send().await.map_err(|error| {
            Failure::new(format!(
                "cannot ask {}: {}",
                self.base,
                weir_plan::chain(&error)
            ))
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        let parsed: Value = serde_json::from_str(&text).unwrap_or_default();
        let said = parsed.get("error").map_or(text, message);
        Err(Failure::new(format!(
            "the gateway answered {status}: {said}"
        )))
    }

    /// Everything that was recorded about the answer; a pinned model's row has less.
    async fn decision(&self, id: Option<String>) -> Option<Record> {
        let url = format!("{}/v1/decisions/{}", self.base, id?);
        let response = self.authorised(self.client.get(url)).send().await.ok()?;
        response.error_for_status().ok()?.json().await.ok()
    }

    fn authorised(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }
}

fn body(args: &AskArgs, stream: bool) -> Value {
    let mut weir = json!({"citations": args.citations});
    if let Some(domain) = &args.domain {
        weir["domain"] = json!(domain);
    }
    if let Some(privacy) = args.privacy {
        weir["privacy"] = json!(match privacy {
            Privacy::Local => "local",
            Privacy::OnPrem => "onPrem",
            Privacy::Cloud => "cloud",
        });
    }
    if args.no_memory {
        weir["memory"] = json!("off");
    }
    let mut body = json!({
        "model": args.model,
        "stream": stream,
        "messages": [{"role": "user", "content": args.question}],
        "weir": weir,
    });
    if let Some(tokens) = args.max_tokens {
        body["max_tokens"] = json!(tokens);
    }
    body
}

fn decision_id(response: &reqwest::Response) -> Option<String> {
    Some(
        response
            .headers()
            .get("x-weir-decision")?
            .to_str()
            .ok()?
            .to_owned(),
    )
}

fn message(error: &Value) -> String {
    error
        .get("message")
        .and_then(Value::as_str)
        .unwrap_or("no reason was given")
        .to_owned()
}

/// Server-sent events out of chunks that may end anywhere.
#[derive(Default)]
struct Events {
    rest: Vec<u8>,
}

impl Events {
    fn take_in(&mut self, chunk: &[u8]) -> Vec<Value> {
        self.rest.extend_from_slice(chunk);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let data = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii);
            events.extend(data.and_then(|data| serde_json::from_slice(data).ok()));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whole_wherever_a_chunk_ends() {
        let stream =
            b"data: {\"a\": \"\xc3\xa9\"}\r\n\r\n: comment\n\ndata: {\"b\": 2}\n\ndata: [DONE]\n\n";
        for cut in 0..stream.len() {
            let mut events = Events::default();
            let mut seen = events.take_in(&stream[..cut]);
            seen.extend(events.take_in(&stream[cut..]));
            assert_eq!(seen, [json!({"a": "é"}), json!({"b": 2})], "cut at {cut}");
        }
    }
}
