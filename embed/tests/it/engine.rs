//! What a llama.cpp server counts.

use serde_json::{Value, json};
use std::path::Path;
use weir_testenv::LlamaServer;

/// A running server that is asked for token counts.
pub(crate) struct Engine(LlamaServer);

impl Engine {
    /// Starts the server for `model`; nothing when there is no server.
    pub(crate) fn start(model: &Path) -> Option<Self> {
        LlamaServer::start(model, 2048).map(Self)
    }

    /// `usage.prompt_tokens` of a conversation.
    pub(crate) fn prompt_tokens(&self, turns: &[(&str, &str)]) -> u64 {
        let messages: Vec<Value> = turns
            .iter()
            .map(|(role, content)| json!({"role": role, "content": content}))
            .collect();
        let answer = self.post(
            "/v1/chat/completions",
            &json!({"messages": messages, "max_tokens": 1}),
        );
        answer["usage"]["prompt_tokens"]
            .as_u64()
            .unwrap_or_else(|| panic!("{answer}"))
    }

    /// Number of tokens of a text inside a prompt.
    pub(crate) fn tokens(&self, text: &str) -> usize {
        let body = json!({"content": text, "add_special": false, "parse_special": true});
        let answer = self.post("/tokenize", &body);
        answer["tokens"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .len()
    }

    /// Tokens that the chat template puts around messages in these roles.
    pub(crate) fn template_tokens(&self, roles: &[String]) -> usize {
        let messages = roles
            .iter()
            .map(|role| json!({"role": role, "content": "x"}));
        let body = json!({"messages": messages.collect::<Vec<_>>()});
        let prompt = self.post("/apply-template", &body)["prompt"].clone();
        let body = json!({"content": prompt, "add_special": true, "parse_special": true});
        let answer = self.post("/tokenize", &body);
        answer["tokens"].as_array().unwrap().len() - roles.len()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.0.call("POST", path, &body.to_string()).unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }
}
