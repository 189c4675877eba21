//! Step 5: an answer that was given before, to the same request made of the same.
//!
//! The key is a digest of everything that an answer is made of: whose it is and how far it may travel, the conversation, what
//! the client set, the chosen arm with its model and sampling, the version of the router that accepts the answer, and what was
//! recalled, each node with its stamp. A write that changes a recalled node, or an edge of it, changes the stamp. What is not
//! kept: answers with tools or log-probabilities, those sampled freely, those of another pool than the chosen one, measurements,
//! and what a client asks not to be. Where two whole answers are wanted for one key at a time, the second waits for the first.
//!
//! Where the plan wants it, an answer is also given to a near duplicate of its question (`near_duplicate.rs`) for which all else is the
//! same and every source of the answer was recalled again, with the same stamp.
//!
//! Owns what is kept and for how long. Where a request is asked and what becomes of a kept answer is `answer.rs`.

use crate::choose::Chosen;
use crate::extension::CacheUse;
use crate::message::Role;
use crate::near_duplicate::canonical;
use crate::prepare::Prepared;
use crate::record::{ExecutedRow, Record, Source};
use quick_cache::unsync::Cache;
use quick_cache::{UnitWeighter, Weighter};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use weir_engine::Usage;
use weir_memory::NodeId;
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
    /// Its sources with their stamps; near duplicates of its question must recall them too.
    stamped: Vec<Stamped>,
    since: Instant,
}

/// A node that was recalled, and what its stamp was.
type Stamped = (NodeId, u64);

/// What a request is found by.
#[derive(Debug)]
struct Keys {
    exact: Key,
    near: Option<Near>,
}

/// What a near duplicate of a request is found by.
#[derive(Debug)]
struct Near {
    key: Key,
    recalled: Vec<Stamped>,
}

/// What is kept for a request.
#[derive(Debug)]
pub(crate) enum Found {
    /// Its answer, or that to a near duplicate.
    Answer { kept: Arc<KeptAnswer>, near: bool },
    /// Nothing yet.
    Nothing(Work),
}

/// An answer that is being made, to be kept. While it is, others who want it whole wait; dropping it lets them go on.
#[derive(Debug)]
pub(crate) struct Work {
    cache: AnswerCache,
    keys: Keys,
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
    /// Of these, those whose question was written in another way.
    pub(crate) near_hits: u64,
    /// Requests that were not, and whose answers may be kept.
    pub(crate) misses: u64,
    /// Answers in it.
    pub(crate) entries: usize,
}

#[derive(Debug)]
struct Held {
    kept: Cache<Key, Arc<KeptAnswer>, Size>,
    /// Keys of `kept` by those of near duplicates. One whose answer has gone leads nowhere.
    near: Cache<Key, Key>,
    working: HashMap<Key, watch::Receiver<()>>,
    /// How often something was forgotten.
    forgotten: u64,
    hits: u64,
    near_hits: u64,
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
            near: Cache::with_weighter(0, entries.into(), UnitWeighter),
            working: HashMap::new(),
            forgotten: 0,
            hits: 0,
            near_hits: 0,
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
            held.near.set_capacity(entries.into());
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
        let keys = keys(prepared, chosen, plan.near_duplicates)?;
        let ttl = Duration::from_millis(plan.ttl_ms);
        let shared = if whole {
            self.shared(keys, ttl)
        } else {
            Ok(self.alone(keys, ttl))
        };
        let found = match shared {
            Ok(found) => found,
            Err((keys, mut working)) => {
                let until = prepared.deadline();
                // It ends with an error, since nothing is ever sent.
                let _ended = tokio::time::timeout_at(until.into(), working.changed()).await;
                self.alone(keys, ttl)
            }
        };
        let mut held = self.held();
        match &found {
            Found::Answer { near, .. } => {
                held.hits += 1;
                held.near_hits += u64::from(*near);
            }
            Found::Nothing(_) => held.misses += 1,
        }
        Some(found)
    }

    /// What is kept, or work that nobody waits for.
    fn alone(&self, keys: Keys, ttl: Duration) -> Found {
        let mut held = self.held();
        match held.found(&keys, ttl) {
            Some(found) => found,
            None => Found::Nothing(held.work(self, keys)),
        }
    }

    /// What is kept, or work that others wait for; an error where somebody does that work, who is to be waited for.
    fn shared(&self, keys: Keys, ttl: Duration) -> Result<Found, (Keys, watch::Receiver<()>)> {
        let mut held = self.held();
        if let Some(found) = held.found(&keys, ttl) {
            return Ok(found);
        }
        if let Some(working) = held.working.get(&keys.exact) {
            return Err((keys, working.clone()));
        }
        let (awaited, working) = watch::channel(());
        held.working.insert(keys.exact, working);
        let mut work = held.work(self, keys);
        work.awaited = Some(awaited);
        Ok(Found::Nothing(work))
    }

    /// Forgets everything, since any answer may repeat what is to be gone; how many answers that were.
    pub(crate) fn forget(&self) -> usize {
        let mut held = self.held();
        held.forgotten += 1;
        let forgotten = held.kept.len();
        held.kept.clear();
        held.near.clear();
        forgotten
    }

    pub(crate) fn counts(&self) -> AnswerCounts {
        let held = self.held();
        AnswerCounts {
            hits: held.hits,
            near_hits: held.near_hits,
            misses: held.misses,
            entries: held.kept.len(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The answer to a request, or else to a near duplicate of it that was made of what is recalled now.
    fn found(&mut self, keys: &Keys, ttl: Duration) -> Option<Found> {
        if let Some(kept) = self.fresh(&keys.exact, ttl) {
            return Some(Found::Answer { kept, near: false });
        }
        let near = keys.near.as_ref()?;
        let other = *self.near.get(&near.key)?;
        let kept = self.fresh(&other, ttl)?;
        let mut sources = kept.stamped.iter();
        let is_made_of_it = sources.all(|source| near.recalled.contains(source));
        is_made_of_it.then_some(Found::Answer { kept, near: true })
    }

    /// What is kept, if it is not too old.
    fn fresh(&mut self, key: &Key, ttl: Duration) -> Option<Arc<KeptAnswer>> {
        self.kept
            .remove_if(key, |answer| answer.since.elapsed() >= ttl);
        self.kept.get(key).cloned()
    }

    /// Work that nobody waits for.
    fn work(&self, cache: &AnswerCache, keys: Keys) -> Work {
        Work {
            cache: cache.clone(),
            keys,
            awaited: None,
            forgotten: self.forgotten,
        }
    }
}

impl Near {
    /// These sources with their stamps; `None` where one is not of what was recalled.
    fn stamped(&self, sources: &[Source]) -> Option<Vec<Stamped>> {
        let stamped = sources.iter().map(|source| {
            let id: NodeId = source.id.parse().ok()?;
            self.recalled.iter().find(|(node, _)| *node == id).copied()
        });
        stamped.collect()
    }
}

impl Work {
    /// Keeps the answer that a finished row tells of, if it is one that may be given again.
    pub(crate) fn keep(mut self, row: &Record, text: &str, usage: Usage) {
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
        // Near duplicates find it only where it is known what it was made of.
        let near = self.keys.near.take();
        let near = near.and_then(|near| Some((near.key, near.stamped(&row.sources)?)));
        let (near, stamped) = near.unzip();
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
            stamped: stamped.unwrap_or_default(),
            since: Instant::now(),
        };
        let mut held = self.cache.held();
        if held.forgotten == self.forgotten {
            held.kept.insert(self.keys.exact, Arc::new(answer));
            if let Some(near) = near {
                held.near.insert(near, self.keys.exact);
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.awaited.is_some() {
            self.cache.held().working.remove(&self.keys.exact);
        }
    }
}

/// What the answer of the chosen arm would be made of; `None` where it may not be kept. With `near_duplicates` also what it
/// would be made of for one.
fn keys(prepared: &Prepared, chosen: &Chosen, near_duplicates: bool) -> Option<Keys> {
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
    let recalled = recalled.iter();
    let recalled: Vec<Stamped> = recalled
        .map(|candidate| (candidate.node.id, candidate.node.stamp))
        .collect();
    let last = ask.messages.iter().rposition(|m| m.role == Role::User);
    let is_text = |at: usize| {
        ask.messages[at]
            .object
            .get("content")
            .is_some_and(Value::is_string)
    };
    let asked = last.filter(|at| is_text(*at));
    let conversation = |question: &str| -> Vec<Value> {
        let messages = ask.messages.iter().enumerate();
        let with_question = messages.map(|(at, message)| {
            let mut object = message.object.clone();
            if Some(at) == asked {
                object.insert("content".to_owned(), json!(question));
            }
            Value::Object(object)
        });
        with_question.collect()
    };
    let mut passed = client.passed.clone();
    // Names who asks, not what.
    passed.remove("user");
    let mut made_of = json!({
        "tenant": ask.caller.tenant, "privacy": serving.privacy(ask),
        // What an answer may be followed by: one that was accepted since nothing else was permitted is no other's.
        "budget_ms": ask.weir.budget_ms, "over_budget": ask.over_budget,
        "messages": conversation(&prepared.question.text), "passed": passed, "max_tokens": client.max_tokens,
        "citations": ask.weir.citations,
        "recall": arm.recall, "context_tokens": arm.context_tokens, "nodes": recalled,
        "sampling": [json!(sampling.class), json!(sampling.temperature), json!(sampling.top_p)],
        "pool": {
            "name": pool.name, "model": pool.model, "upstream": pool.upstream_model, "engine": pool.engine,
            "context_tokens": pool.context_tokens, "sampling": pool.sampling, "tokenizer": pool.tokenizer,
            "vocabulary": pool.vocabulary,
        },
        "router": deciding.router.artifact().sha256(),
    });
    let digest = |made_of: &Value| Key::from(Sha256::digest(made_of.to_string()));
    let exact = digest(&made_of);
    let may_be_near = near_duplicates && asked.is_some();
    let form = may_be_near.then(|| canonical(&prepared.question.text));
    let near = form.flatten().map(|form| {
        made_of["messages"] = json!(conversation(&form));
        // Which of them the answer was made of is looked at where one is found. No exact key has none.
        made_of["nodes"] = Value::Null;
        Near {
            key: digest(&made_of),
            recalled,
        }
    });
    Some(Keys { exact, near })
}
