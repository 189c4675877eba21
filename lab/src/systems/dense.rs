//! The naive baseline, pinned: plain dense retrieval and one fixed model, without a gateway.
//!
//! Cosine top ten of the question's vector, whole passages in that order, as many as fit the model's context beside the
//! answer; one fixed instruction; greedy. No router, no graph, no words, no budget. This is what most tutorials build.

use super::SystemsError;
use super::row::Answered;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use weir_embed::{EmbedQueue, TokenCounter};
use weir_engine::{ChatRequest, Engines, Priority, Usage};
use weir_gateway::gateway::{Assets, MemoryAsset};
use weir_memory::{Filter, Memory, NodeId, Query};
use weir_plan::{GatewayPlan, Pool};
use weir_router::RecallMode;

const PASSAGES: usize = 10;
const INSTRUCTION: &str = "Answer the question using the passages.";
/// Tokens kept free for the chat template.
const TEMPLATE_TOKENS: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(300);

pub(super) struct Dense {
    pool: Pool,
    engines: Engines,
    memory: Memory,
    embed: EmbedQueue,
    counter: TokenCounter,
    tenant: String,
}

impl Dense {
    pub(super) fn new(
        plan: &GatewayPlan,
        assets: &Assets,
        tenant: &str,
    ) -> Result<Self, SystemsError> {
        let pool = plan.pools.get(plan.pools.len() / 2);
        let pool = pool
            .cloned()
            .ok_or(SystemsError::Missing("at least one pool"))?;
        let engines = Engines::new();
        engines.set_pools(&plan.pools);
        let counter = assets.counters.get(&pool.name).cloned();
        let Some(MemoryAsset::Open { store, embed }) = &assets.memory else {
            return Err(SystemsError::Missing("a memory"));
        };
        let embed = embed.clone();
        Ok(Self {
            engines,
            memory: store.clone(),
            embed: embed.ok_or(SystemsError::Missing("an embedder in process"))?,
            counter: counter.unwrap_or_else(TokenCounter::estimate),
            tenant: tenant.to_owned(),
            pool,
        })
    }

    pub(super) fn note(&self) -> String {
        format!(
            "naive: {} with the {PASSAGES} whole passages of highest cosine (as many as fit {} tokens), greedy, no router",
            self.pool.model, self.pool.context_tokens
        )
    }

    /// Embeds the question, so that it is cached afterwards, and says how long that took.
    pub(super) async fn embed_seconds(&self, question: &str) -> f64 {
        let started = Instant::now();
        let _ = self.vector(question).await;
        started.elapsed().as_secs_f64()
    }

    /// The question's vector; `None` when the embedder failed.
    pub(super) async fn vector(&self, question: &str) -> Option<Vec<f32>> {
        self.embed
            .embed(question)
            .await
            .ok()
            .map(|vector| vector.to_vec())
    }

    /// The passages of highest cosine, best first.
    pub(super) async fn ranked(&self, question: &str, hidden: &[NodeId]) -> Vec<NodeId> {
        let query = Query {
            vector: self.vector(question).await,
            filter: Filter {
                tenant: self.tenant.clone(),
                hidden: hidden.to_vec(),
                ..Filter::default()
            },
            k: PASSAGES,
            ..Query::default()
        };
        let found = self.memory.search(&query).unwrap_or_default();
        found.hits.iter().map(|hit| hit.id).collect()
    }

    pub(super) async fn ask(
        &self,
        question: &str,
        hidden: &[NodeId],
        max_tokens: u32,
    ) -> Result<Answered, String> {
        let started = Instant::now();
        let ids = self.ranked(question, hidden).await;
        let nodes = self.memory.nodes(&ids).map_err(|e| e.to_string())?;
        let passages: Vec<String> = ids
            .iter()
            .filter_map(|id| nodes.iter().find(|node| node.id == *id))
            .map(|node| node.text.clone())
            .collect();
        let prompt = self.prompt(question, &passages, max_tokens);
        let retrieval_s = started.elapsed().as_secs_f64();
        let (text, usage) = self.chat(&prompt, max_tokens).await?;
        let latency_s = started.elapsed().as_secs_f64();
        let price = self.pool.cost;
        Ok(Answered {
            text,
            model: self.pool.model.clone(),
            recall: RecallMode::Vector,
            latency_s,
            llm_s: latency_s - retrieval_s,
            retrieval_s,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            cost: price.of(usage.prompt_tokens.into(), usage.completion_tokens.into()),
            second_attempt: false,
        })
    }

    fn prompt(&self, question: &str, passages: &[String], max_tokens: u32) -> String {
        let room = (self.pool.context_tokens.saturating_sub(max_tokens) as usize)
            .saturating_sub(TEMPLATE_TOKENS + self.counter.count(question));
        let (mut prompt, mut used) = (format!("{INSTRUCTION}\n\n"), 0);
        for passage in passages {
            used += self.counter.count(passage) + 2;
            if used > room {
                break;
            }
            prompt.push_str(passage);
            prompt.push_str("\n\n");
        }
        prompt + "Question: " + question
    }

    async fn chat(&self, prompt: &str, max_tokens: u32) -> Result<(String, Usage), String> {
        let body = json!({
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens, "temperature": 0, "cache_prompt": false,
        });
        let Value::Object(body): Value = body else {
            return Err("no body".to_owned());
        };
        let request = ChatRequest {
            body: Map::from_iter(body),
            prefix: None,
            priority: Priority::Normal,
            deadline: Instant::now() + TIMEOUT,
        };
        let mut stream = self
            .engines
            .chat(&self.pool, request)
            .await
            .map_err(|e| e.to_string())?;
        let (mut text, mut usage) = (String::new(), None);
        while let Some(event) = stream.next().await {
            let event = event.map_err(|e| e.to_string())?;
            text.push_str(event.delta.as_deref().unwrap_or_default());
            usage = event.usage.or(usage);
        }
        Ok((text, usage.ok_or("the engine sent no usage")?))
    }
}
