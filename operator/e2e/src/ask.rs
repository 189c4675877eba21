//! Asking a gateway through its Service, as any client does.

use anyhow::{Context, Result, bail};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

/// Longest that one request may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A gateway's address with a key.
#[derive(Clone)]
pub(crate) struct Gateway {
    client: reqwest::Client,
    base: String,
    key: Option<String>,
}

impl Gateway {
    /// Each request gets a connection of its own, so that every one of them finds its way anew.
    pub(crate) fn new(base: String, key: Option<&str>) -> Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            // Whose certificate it is is looked at apart, where that matters.
            .danger_accept_invalid_certs(true)
            .tls_info(true)
            .pool_max_idle_per_host(0)
            .timeout(TIMEOUT)
            .build()?;
        let key = key.map(str::to_owned);
        Ok(Self { client, base, key })
    }

    /// Whether a process answers at all.
    pub(crate) async fn is_alive(&self) -> bool {
        let answer = self
            .client
            .get(format!("{}/healthz", self.base))
            .send()
            .await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// The certificate that a new connection shows, in DER.
    pub(crate) async fn certificate(&self) -> Result<Vec<u8>> {
        let answer = self.client.get(format!("{}/healthz", self.base));
        let answer = answer.send().await?;
        let shown = answer.extensions().get::<reqwest::tls::TlsInfo>();
        let shown = shown.and_then(|shown| shown.peer_certificate());
        shown.map(<[u8]>::to_vec).context("no certificate is shown")
    }

    /// Asks `model`; the answer's body.
    pub(crate) async fn chat(&self, model: &str, question: &str, tokens: u32) -> Result<Value> {
        let body = json!({
            "model": model, "max_tokens": tokens, "temperature": 0,
            "messages": [{"role": "user", "content": question}], "weir": {"explain": true},
        });
        self.post("/v1/chat/completions", &body).await
    }

    /// Posts JSON and reads JSON; any other status than 200 is an error that shows the body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let (status, text) = self.try_post(path, body).await?;
        if status != StatusCode::OK {
            bail!("{path} answered {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("{path} answered {text}"))
    }

    /// Posts JSON; status and body, whatever they are.
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> Result<(StatusCode, String)> {
        self.post_with(path, &[], body).await
    }

    /// Posts JSON with further headers; status and body, whatever they are.
    pub(crate) async fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<(StatusCode, String)> {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.post(url).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    /// Gets a path; status and body, whatever they are.
    pub(crate) async fn get(&self, path: &str) -> Result<(StatusCode, String)> {
        let url = format!("{}{path}", self.base);
        self.send(self.client.get(url)).await
    }

    async fn send(&self, mut request: reqwest::RequestBuilder) -> Result<(StatusCode, String)> {
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let answer = request.send().await?;
        Ok((answer.status(), answer.text().await?))
    }

    /// The same gateway for somebody with another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }
}
