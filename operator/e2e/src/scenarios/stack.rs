//! A stack becomes Ready and answers from its memory, and everything that a person reads about it is there.

use crate::ask::Gateway;
use crate::told::say;
use crate::world::{Namespace, World};
use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

const STACK: &str = include_str!("../../stacks/answers.yaml");
const KEY: &str = "e2e-key-0123456789abcdef0123456789abcdef";
const FACT: &str =
    "The gate of the harbour of Zorblax is painted turquoise, because its keeper likes the sea.";

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-stack").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    let (url, gateway) = serves(namespace).await?;
    says_what_it_serves(namespace).await?;
    ensure!(
        url.contains("support-gateway.e2e-stack.svc"),
        "status.url is {url:?}"
    );

    answers_from_its_memory(namespace, &gateway).await?;
    let stranger = namespace
        .gateway("support", Some("another-key-0123456789abcdef"))
        .await?;
    let body = json!({"model": "auto", "messages": [{"role": "user", "content": "Hello"}]});
    let (status, _) = stranger.try_post("/v1/chat/completions", &body).await?;
    ensure!(
        status == StatusCode::UNAUTHORIZED,
        "a wrong key is answered with {status}"
    );

    let store = namespace.world.until(Duration::from_secs(90), async || {
        let store = namespace.weir("MemoryStore").await?.get("kb").await?;
        let nodes = store.data["status"]["nodes"].as_u64();
        Ok((nodes == Some(1)).then_some(store))
    });
    store
        .await
        .context("status.nodes of the memory does not become 1")?;
    let counted = ["kind", "nodes", "edges", "vectors"];
    super::restored(namespace, ("MemoryStore", "kb"), &counted).await?;
    survives_a_new_memory_pod(namespace, &gateway).await?;
    prints_its_columns(namespace).await
}

/// Applies the stack and waits until all of it is Ready: the gateway's address as its status has it, and the gateway for somebody with
/// a key.
pub(super) async fn serves(namespace: &Namespace<'_>) -> Result<(String, Gateway)> {
    let labels = json!({"weir.dev/watch": "true"});
    namespace
        .secret("keys", labels, ("acme.e2e.ask-memory", KEY))
        .await?;
    namespace.apply(STACK).await?;
    for object in [("ModelPool", "small"), ("MemoryStore", "kb")] {
        namespace.ready(object, ("True", ""), 180).await?;
    }
    let gateway = namespace
        .ready(("InferenceGateway", "support"), ("True", ""), 180)
        .await?;
    let url = gateway.data["status"]["url"].as_str().unwrap_or_default();
    let gateway = namespace.gateway("support", Some(KEY)).await?;
    Ok((url.to_owned(), gateway))
}

/// The file's header is in the status at once, the measured speed soon after.
async fn says_what_it_serves(namespace: &Namespace<'_>) -> Result<()> {
    let measured = namespace.world.until(Duration::from_secs(60), async || {
        let pool = namespace.weir("ModelPool").await?.get("small").await?;
        let speed = pool.data["status"]["performance"]["decodeTokensPerSecond"].as_f64();
        Ok(speed.is_some_and(|speed| speed > 0.0).then_some(pool))
    });
    let pool = measured.await.context("status.performance is not there")?;
    let model = &pool.data["status"]["model"];
    ensure!(model["architecture"] == "llama", "status.model is {model}");
    let bytes = model["bytes"].as_u64().unwrap_or_default();
    ensure!(bytes > 50 << 20, "status.model is {model}");
    Ok(())
}

/// A passage is written, gets its vector and is behind an answer: the gateway reaches the memory and an engine.
pub(super) async fn answers_from_its_memory(
    namespace: &Namespace<'_>,
    gateway: &Gateway,
) -> Result<()> {
    let nodes = json!({"nodes": [{"text": FACT, "metadata": {"title": "Harbours"}}]});
    // As clients do: what enforces NetworkPolicies may cut a new pod's connection off while it learns of the pod.
    let written = namespace.world.until(Duration::from_secs(20), async || {
        let (status, text) = gateway.try_post("/v1/memory/nodes", &nodes).await?;
        let away = status == StatusCode::SERVICE_UNAVAILABLE;
        ensure!(
            away || status == StatusCode::OK,
            "the memory answered {status}: {text}"
        );
        Ok((!away).then_some(text))
    });
    let written: Value = serde_json::from_str(&written.await.context("nothing is written")?)?;
    ensure!(written["inserted"] == 1, "the memory answered {written}");
    let sought = json!({"query": "Which colour has the gate of Zorblax?", "k": 3});
    let found = namespace.world.until(Duration::from_secs(60), async || {
        let found = gateway.post("/v1/memory/search", &sought).await?;
        Ok(found["hits"][0]["cosine"].is_number().then_some(found))
    });
    let found = found.await.context("the passage gets no vector")?;
    ensure!(found["hits"][0]["text"] == FACT, "the search found {found}");
    // Engines that were measured while the machine was busy are thought too slow for a prompt with passages, until they answer.
    let question = "Which colour has the gate of the harbour of Zorblax?";
    let mut answer = Value::Null;
    let recalled = namespace.world.until(Duration::from_secs(120), async || {
        answer = gateway.chat("auto", question, 32).await?;
        let sources = answer["weir"]["sources"].to_string();
        Ok(sources.contains("Harbours").then_some(()))
    });
    let recalled = recalled.await;
    let content = answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_default();
    say!("{content}");
    ensure!(!content.is_empty(), "an empty answer: {answer}");
    recalled.with_context(|| format!("the answer does not have the source: {answer}"))?;
    Ok(())
}

/// What was acknowledged is there after the memory's pod was killed, and questions are answered in the meantime.
async fn survives_a_new_memory_pod(namespace: &Namespace<'_>, gateway: &Gateway) -> Result<()> {
    ensure!(
        namespace.delete_pods("weir.dev/memory=kb", true).await? == 1,
        "the memory has one pod"
    );
    gateway
        .chat("auto", "What is a harbour?", 8)
        .await
        .context("without its memory")?;
    let sought = json!({"query": "gate of Zorblax", "k": 3});
    let found = namespace.world.until(Duration::from_secs(60), async || {
        let (status, text) = gateway.try_post("/v1/memory/search", &sought).await?;
        Ok((status == StatusCode::OK && text.contains("turquoise")).then_some(()))
    });
    found.await.context("the passage is lost with its pod")
}

async fn prints_its_columns(namespace: &Namespace<'_>) -> Result<()> {
    let printed = |kind: &'static str| async move {
        let arguments = ["-n", &namespace.name, "get", kind];
        namespace.world.tool("kubectl", &arguments).await
    };
    let (pool, store, gateway) = (
        printed("mp").await?,
        printed("ms").await?,
        printed("ig").await?,
    );
    say!("{pool}{store}{gateway}");
    ensure!(
        pool.contains("edge") && pool.contains("llamaCpp"),
        "mp prints {pool}"
    );
    ensure!(store.contains("embedded"), "ms prints {store}");
    for (kind, told, columns) in [
        (
            "mp",
            &pool,
            "NAME TIER ENGINE MODEL READY DESIRED TOK/S REASON AGE",
        ),
        (
            "ms",
            &store,
            "NAME KIND NODES EDGES RECALL READY REASON AGE",
        ),
        (
            "ig",
            &gateway,
            "NAME URL ROUTER CANDIDATE PHASE WEIGHT READY REASON AGE",
        ),
    ] {
        let header = told.lines().next().unwrap_or_default();
        let header = header.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(header == columns, "{kind} prints the columns {header}");
    }
    ensure!(
        gateway.contains("http://") && gateway.contains("builtin"),
        "ig prints {gateway}"
    );
    Ok(())
}
