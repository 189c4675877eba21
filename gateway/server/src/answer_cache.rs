//! Step 5: an answer that was given before, to the same request made of the same.
//!
//! The key is a digest of everything that an answer is made of: whose it is and how far it may travel, the conversation, what
//! the client set, the chosen arm with its model and sampling, the version of the router that accepts the answer, and what was
//! recalled, each node with its stamp. A write that changes a recalled node, or an edge of it, changes the stamp. What is not
//! kept: answers with tools or log-probabilities, those sampled freely, those of another pool than the chosen one, measurements,
//! and what a client asks not to be. Where two whole answers are wanted for one key at a time, the second waits for the first.
//!
//! Owns what is kept and for how long. Where a request is asked and what becomes of a kept answer is `answer.rs`.

use crate::choose::Chosen;
use crate::extension::CacheUse;
use crate::message::Role;
use crate::prepare::Prepared;
use crate::record::{ExecutedRow, Record, Source};
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use weir_engine::Usage;
use weir_plan::CachePlan;
use weir_router::RecallMode;

/// Above this temperature another answer is wanted each time.
const TEMPERATURE_MAX: f32 = 0.5;
/// Bytes that count as one answer.
const ENTRY_BYTES: usize = 4096;

/// What an answer is made of, as SHA-256.
type Key = [u8; 32];

/// The answers of one gateway. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct AnswerCache {
    held: Arc<Mutex<Held>>,
}

/// An answer that was given.
#[derive(Debug)]
pub(crate) struct KeptAnswer {
    /// The decision that it was made by.
    pub(crate) decision: String,
    pub(crate) executed: ExecutedRow,
    pub(crate) sources: Vec<Source>,
    pub(crate) text: String,
    pub(crate) finish_reason: String,
    pub(crate) usage: Usage,
    since: Instant,
}

/// What is kept for a request.
#[derive(Debug)]
pub(crate) enum Found {
    /// Its answer.
    Answer(Arc<KeptAnswer>),
    /// Nothing yet.
    Nothing(Work),
}

/// An answer that is being made, to be kept. While it is, others who want it whole wait; dropping it lets them go on.
#[derive(Debug)]
pub(crate) struct Work {
    cache: AnswerCache,
    key: Key,
    /// Ends with this; `None` where nobody waits.
    awaited: Option<watch::Sender<()>>,
    /// What had been forgotten when it began: an answer that is older than an erasure is not kept after it.
    forgotten: u64,
}

/// How the cache does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerCounts {
    /// Requests that were answered from it.
    pub(crate) hits: u64,
    /// Requests that were not, and whose answers may be kept.
    pub(crate) misses: u64,
    /// Answers in it.
    pub(crate) entries: usize,
}

#[derive(Debug)]
struct Held {
    kept: Cache<Key, Arc<KeptAnswer>, Size>,
    working: HashMap<Key, watch::Receiver<()>>,
    /// How often something was forgotten.
    forgotten: u64,
    hits: u64,
    misses: u64,
}

#[derive(Clone, Debug)]
struct Size;

impl Weighter<Key, Arc<KeptAnswer>> for Size {
    fn weight(&self, _: &Key, answer: &Arc<KeptAnswer>) -> u64 {
        let sources = answer.sources.iter().map(|source| {
            let texts = [&source.title, &source.uri].into_iter().flatten();
            size_of::<Source>() + source.id.len() + texts.map(String::len).sum::<usize>()
        });
        let bytes = size_of::<KeptAnswer>() + answer.text.len() + sources.sum::<usize>();
        bytes.div_ceil(ENTRY_BYTES) as u64
    }
}

impl AnswerCache {
    /// As large as the plan says; empty, and to stay so, where it says nothing.
    pub(crate) fn new(plan: Option<CachePlan>) -> Self {
        let entries = plan.map_or(0, |plan| plan.entries_max);
        let held = Held {
            kept: Cache::with_weighter(0, entries.into(), Size),
            working: HashMap::new(),
            forgotten: 0,
            hits: 0,
            misses: 0,
        };
        Self {
            held: Arc::new(Mutex::new(held)),
        }
    }

    /// As large as the plan says from now on.
    pub(crate) fn resize(&self, plan: Option<CachePlan>) {
        let entries = plan.map_or(0, |plan| plan.entries_max);
        let mut held = self.held();
        if held.kept.capacity() != u64::from(entries) {
            held.kept.set_capacity(entries.into());
        }
    }

    /// The answer to a request, or the work on it; `None` where none is kept for it. One who wants it `whole` waits for
    /// another who is working on the same, once and not beyond the request's time.
    pub(crate) async fn find(
        &self,
        prepared: &Prepared,
        chosen: &Chosen,
        whole: bool,
    ) -> Option<Found> {
        let plan = prepared.serving.plan.cache?;
        let key = key(prepared, chosen)?;
        let ttl = Duration::from_millis(plan.ttl_ms);
        let shared = whole.then(|| self.shared(key, ttl));
        let found = match shared {
            None => self.alone(key, ttl),
            Some(Ok(found)) => found,
            Some(Err(mut working)) => {
                let until = prepared.deadline();
                // It ends with an error, since nothing is ever sent.
                let _ended = tokio::time::timeout_at(until.into(), working.changed()).await;
                self.alone(key, ttl)
            }
        };
        let mut held = self.held();
        match &found {
            Found::Answer(_) => held.hits += 1,
            Found::Nothing(_) => held.misses += 1,
        }
        Some(found)
    }

    /// What is kept, or work that nobody waits for.
    fn alone(&self, key: Key, ttl: Duration) -> Found {
        let mut held = self.held();
        match held.fresh(&key, ttl) {
            Some(answer) => Found::Answer(answer),
            None => Found::Nothing(held.work(self, key)),
        }
    }

    /// What is kept, or work that others wait for; an error where somebody does that work, who is to be waited for.
    fn shared(&self, key: Key, ttl: Duration) -> Result<Found, watch::Receiver<()>> {
        let mut held = self.held();
        if let Some(answer) = held.fresh(&key, ttl) {
            return Ok(Found::Answer(answer));
        }
        if let Some(working) = held.working.get(&key) {
            return Err(working.clone());
        }
        let (awaited, working) = watch::channel(());
        held.working.insert(key, working);
        let mut work = held.work(self, key);
        work.awaited = Some(awaited);
        Ok(Found::Nothing(work))
    }

    /// Forgets everything, since any answer may repeat what is to be gone; how many answers that were.
    pub(crate) fn forget(&self) -> usize {
        let mut held = self.held();
        held.forgotten += 1;
        let forgotten = held.kept.len();
        held.kept.clear();
        forgotten
    }

    pub(crate) fn counts(&self) -> AnswerCounts {
        let held = self.held();
        AnswerCounts {
            hits: held.hits,
            misses: held.misses,
            entries: held.kept.len(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// What is kept, if it is not too old.
    fn fresh(&mut self, key: &Key, ttl: Duration) -> Option<Arc<KeptAnswer>> {
        self.kept
            .remove_if(key, |answer| answer.since.elapsed() >= ttl);
        self.kept.get(key).cloned()
    }

    /// Work that nobody waits for.
    fn work(&self, cache: &AnswerCache, key: Key) -> Work {
        Work {
            cache: cache.clone(),
            key,
            awaited: None,
            forgotten: self.forgotten,
        }
    }
}

impl Work {
    /// Keeps the answer that a finished row tells of, if it is one that may be given again.
    pub(crate) fn keep(self, row: &Record, text: &str, usage: Usage) {
        let second_failed = row
            .verdict
            .as_ref()
            .is_some_and(|verdict| verdict.error.is_some());
        let finish_reason = row.outcome.finish_reason.as_deref();
        let is_whole = matches!(finish_reason, Some("stop" | "length")) && !text.is_empty();
        if second_failed || !is_whole || !row.failover.is_empty() || row.outcome.error.is_some() {
            return;
        }
        let (Some(executed), Some(finish_reason)) = (row.executed.clone(), finish_reason) else {
            return;
        };
        let answer = KeptAnswer {
            decision: row.decision_id.clone(),
            executed,
            sources: row.sources.clone(),
            text: text.to_owned(),
            finish_reason: finish_reason.to_owned(),
            // None of its prompt is computed again.
            usage: Usage {
                cached_tokens: usage.prompt_tokens,
                ..usage
            },
            since: Instant::now(),
        };
        let mut held = self.cache.held();
        if held.forgotten == self.forgotten {
            held.kept.insert(self.key, Arc::new(answer));
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.awaited.is_some() {
            self.cache.held().working.remove(&self.key);
        }
    }
}

/// What the answer of the chosen arm would be made of; `None` where it may not be kept.
fn key(prepared: &Prepared, chosen: &Chosen) -> Option<Key> {
    let (ask, serving) = (&prepared.ask, &prepared.serving);
    let client = &ask.client;
    let deciding = &prepared.deciding;
    let arm = deciding.router.arms().arms[chosen.arm];
    let pool = &serving.plan.pools[arm.rank];
    let sampling = deciding.sampling(client, chosen.choice.sampling, pool, None);
    let aside = client.tools || client.logprobs || !ask.hidden.is_empty();
    if aside || ask.weir.cache == CacheUse::NoStore || sampling.temperature > TEMPERATURE_MAX {
        return None;
    }
    let recalled = match arm.recall {
        RecallMode::None => &[][..],
        RecallMode::Vector => &prepared.remembered.vector,
        RecallMode::Graph => &prepared.remembered.graph,
    };
    let nodes: Vec<Value> = (recalled.iter())
        .map(|candidate| json!([candidate.node.id, candidate.node.stamp]))
        .collect();
    let last = ask.messages.iter().rposition(|m| m.role == Role::User);
    let messages: Vec<Value> = (ask.messages.iter().enumerate())
        .map(|(at, message)| {
            let mut object = message.object.clone();
            if Some(at) == last && object.get("content").is_some_and(Value::is_string) {
                object.insert("content".to_owned(), json!(prepared.question.text));
            }
            Value::Object(object)
        })
        .collect();
    let mut passed = client.passed.clone();
    // Names who asks, not what.
    passed.remove("user");
    let made_of = json!({
        "tenant": ask.caller.tenant, "privacy": serving.privacy(ask),
        // What an answer may be followed by: one that was accepted since nothing else was permitted is no other's.
        "budget_ms": ask.weir.budget_ms, "over_budget": ask.over_budget,
        "messages": messages, "passed": passed, "max_tokens": client.max_tokens,
        "citations": ask.weir.citations,
        "recall": arm.recall, "context_tokens": arm.context_tokens, "nodes": nodes,
        "sampling": [json!(sampling.class), json!(sampling.temperature), json!(sampling.top_p)],
        "pool": {
            "name": pool.name, "model": pool.model, "upstream": pool.upstream_model, "engine": pool.engine,
            "context_tokens": pool.context_tokens, "sampling": pool.sampling, "tokenizer": pool.tokenizer,
            "vocabulary": pool.vocabulary,
        },
        "router": deciding.router.artifact().sha256(),
    });
    Some(Sha256::digest(made_of.to_string()).into())
}
