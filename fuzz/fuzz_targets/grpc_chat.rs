//! A chat over gRPC: whatever the message, the body that is made of it is a JSON object that asks no more than it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use serde_json::{Map, Value};
use std::time::Instant;
use weir_gateway::ask::{Ask, Caller};
use weir_gateway::extension::Extension;
use weir_gateway::grpc::chat_body;
use weir_proto::gateway::v1::ChatRequest;

fuzz_target!(|bytes: &[u8]| {
    let Ok(asked) = ChatRequest::decode(bytes) else {
        return;
    };
    let stream = asked.messages.len() % 2 == 0;
    let (model, narrowed) = (asked.model.clone(), asked.weir.clone());
    let Ok(body) = chat_body(asked, stream) else {
        return;
    };
    let body: Map<String, Value> = serde_json::from_slice(&body).expect("a body is a JSON object");
    assert_eq!(body["stream"], stream);
    assert_eq!(body["model"], model);
    let privacy = narrowed.and_then(|weir| weir.privacy);
    let kept = body.get("weir").and_then(|weir| weir.get("privacy"));
    assert_eq!(kept.and_then(Value::as_str), privacy.as_deref());
    let _ = Ask::parse(body, Extension::default(), Caller::default(), Instant::now());
});
