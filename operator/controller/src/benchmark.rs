//! How fast a pool reads and writes, measured once after its engines were loaded.
//!
//! Two short questions to one ready replica that is idle: one answered with a single token, one with a few more; the
//! difference is the speed of writing. llama.cpp reports its own times, which are taken when they are there. A
//! measurement holds for as long as the pods that it measured; new pods are measured again.

use crate::cache::{Caches, listed};
use crate::control::server::Hub;
use crate::key::{Key, Kind};
use crate::queue::Queue;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_crds::{Engine, ModelPool};
use weir_reconcile::model_pool::{Benchmark, embeds, endpoints};

/// How often pools are looked over for one to measure.
const EVERY: Duration = Duration::from_secs(3);
/// Longest measurement.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Wait after a failure.
const RETRY: Duration = Duration::from_secs(300);
/// Tokens of the longer answer.
const TOKENS: u32 = 17;
/// Largest answer that is read.
const ANSWER_MAX: usize = 1 << 20;

/// About a hundred tokens for any vocabulary.
const TEXT: &str = "A river is measured where it falls over a low wall. The height of the water above the crest tells how \
    much of it passes, whatever the weather does upstream. Keepers write the number down each morning, and after some \
    years they know the dry months from the wet ones. List three things that a keeper could learn from such a book, and \
    say for each of them in one short sentence why it matters to a village that lives by the mill.";

/// Measurements by pool.
#[derive(Default)]
pub(crate) struct Benchmarks(Mutex<HashMap<Key, Entry>>);

#[derive(Default)]
struct Entry {
    measured: Option<Benchmark>,
    tried: Option<Instant>,
}

/// Why a pool could not be measured; tried again later.
#[derive(Debug, thiserror::Error)]
enum BenchmarkError {
    #[error("ask {url}: {source}")]
    Ask {
        url: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{url} answered {status}")]
    Refused {
        url: String,
        status: http::StatusCode,
    },
    #[error("{0} did not answer in time")]
    TooSlow(String),
    #[error("the answer says nothing about tokens")]
    NoTokens,
}

impl Benchmarks {
    /// What was measured last.
    pub(crate) fn get(&self, key: &Key) -> Option<Benchmark> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key)?.measured.clone()
    }

    /// Measures pools, one at a time, until `stop`.
    pub(crate) async fn run(
        self: Arc<Self>,
        (caches, hub, queue): (Arc<Caches>, Arc<Hub>, Arc<Queue>),
        leads: impl Fn() -> bool,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if !leads() {
                continue;
            }
            for (key, url, model) in self.due(&caches, &hub) {
                let measured = tokio::select! {
                    () = stop.cancelled() => return,
                    measured = measure(&url, &model) => measured,
                };
                match measured {
                    Ok(measured) => {
                        self.note(&key, Some(measured));
                        queue.add(key);
                    }
                    Err(error) => {
                        tracing::warn!(pool = %key, %error, "a pool was not measured");
                        self.note(&key, None);
                    }
                }
            }
        }
    }

    fn note(&self, key: &Key, measured: Option<Benchmark>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all.entry(key.clone()).or_default();
        entry.tried = Some(Instant::now());
        if measured.is_some() {
            entry.measured = measured;
        }
    }

    /// Pools to measure: key, address of a replica, model.
    fn due(&self, caches: &Caches, hub: &Hub) -> Vec<(Key, String, String)> {
        let mut due = Vec::new();
        let pools = caches.pools.state();
        {
            let alive: std::collections::HashSet<Key> = pools.iter().map(|p| key(p)).collect();
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|key, _| alive.contains(key));
        }
        for pool in pools {
            if matches!(pool.spec.engine, Engine::External(_)) {
                continue;
            }
            let key = key(&pool);
            let pods = caches.pods_with(&key.namespace, "weir.dev/pool", &key.name);
            let (Some(endpoint), Some(loaded)) = (endpoints(&pods).first().cloned(), oldest(&pods))
            else {
                continue;
            };
            let busy = hub
                .ledger()
                .loads(&key.namespace, &key.name)
                .iter()
                .any(|load| load.load.in_flight > 0);
            if busy || !self.is_due(&key, &pool, loaded) || embeds_any(caches, &pool) {
                continue;
            }
            due.push((key, endpoint.url, pool.spec.model.name.clone()));
        }
        due
    }

    fn is_due(&self, key: &Key, pool: &ModelPool, loaded: Timestamp) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all.get(key);
        if entry
            .and_then(|entry| entry.tried)
            .is_some_and(|at| at.elapsed() < RETRY)
        {
            return false;
        }
        let here = entry.and_then(|entry| entry.measured.as_ref());
        let here = here.map(|measured| measured.measured_at);
        let status = pool.status.as_ref();
        let said = status.and_then(|status| status.performance.as_ref());
        let said = said.map(|performance| performance.measured_at.0);
        here.max(said).is_none_or(|measured| measured < loaded)
    }
}

fn key(pool: &ModelPool) -> Key {
    let namespace = pool.namespace().unwrap_or_default();
    Key::new(Kind::ModelPool, &namespace, &pool.name_any())
}

fn embeds_any(caches: &Caches, pool: &ModelPool) -> bool {
    let namespace = pool.namespace().unwrap_or_default();
    let stack = weir_reconcile::Stack {
        memories: listed(&caches.memories, &namespace),
        ..weir_reconcile::Stack::default()
    };
    embeds(pool, &stack)
}

/// When the oldest of the pods was made.
fn oldest(pods: &[Pod]) -> Option<Timestamp> {
    let made = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    made.filter_map(ResourceExt::creation_timestamp)
        .map(|time| time.0)
        .min()
}

async fn measure(url: &str, model: &str) -> Result<Benchmark, BenchmarkError> {
    let both = async {
        let short = ask(url, model, 1).await?;
        let long = ask(url, model, TOKENS).await?;
        rates(&short, &long).ok_or(BenchmarkError::NoTokens)
    };
    let both = tokio::time::timeout(TIMEOUT, both).await;
    let (prefill, decode) = both.map_err(|_| BenchmarkError::TooSlow(url.to_owned()))??;
    Ok(Benchmark {
        prefill_tokens_per_second: prefill,
        decode_tokens_per_second: decode,
        measured_at: Timestamp::now(),
    })
}

/// An answer and how long it took.
struct Answer {
    body: Value,
    took: Duration,
}

async fn ask(url: &str, model: &str, tokens: u32) -> Result<Answer, BenchmarkError> {
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| BenchmarkError::Ask {
        url: url.to_owned(),
        source,
    };
    // A text that was never seen is read in full, whatever the engine has cached.
    let text = format!("{:016x} {TEXT}", rand::random::<u64>());
    let body = json!({
        "model": model, "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens, "temperature": 0, "cache_prompt": false,
    });
    let request = http::Request::post(format!("{url}/v1/chat/completions"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes::Bytes::from(body.to_string())))
        .map_err(|source| fail(source.into()))?;
    let client: Client<_, Full<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let start = Instant::now();
    let answer = client.request(request).await;
    let answer = answer.map_err(|source| fail(source.into()))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(BenchmarkError::Refused {
            url: url.to_owned(),
            status,
        });
    }
    let body = http_body_util::Limited::new(answer.into_body(), ANSWER_MAX);
    let body = body.collect().await.map_err(fail)?.to_bytes();
    let took = start.elapsed();
    let body = serde_json::from_slice(&body).map_err(|source| fail(source.into()))?;
    Ok(Answer { body, took })
}

/// Tokens a second, read and written.
fn rates(short: &Answer, long: &Answer) -> Option<(f64, f64)> {
    let timings = &long.body["timings"];
    let rate = |tokens: &str, ms: &str| {
        let (tokens, ms) = (timings[tokens].as_f64()?, timings[ms].as_f64()?);
        (tokens > 0.0 && ms > 0.0).then(|| tokens * 1e3 / ms)
    };
    let own = rate("prompt_n", "prompt_ms").zip(rate("predicted_n", "predicted_ms"));
    if own.is_some() {
        return own;
    }
    let read = short.body["usage"]["prompt_tokens"].as_f64()?;
    let written = |answer: &Answer| answer.body["usage"]["completion_tokens"].as_f64();
    let more = written(long)? - written(short)?;
    let longer = long.took.checked_sub(short.took)?.as_secs_f64();
    let sound = read > 0.0 && more > 0.0 && longer > 0.0 && !short.took.is_zero();
    sound.then(|| (read / short.took.as_secs_f64(), more / longer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: Value, ms: u64) -> Answer {
        Answer {
            body,
            took: Duration::from_millis(ms),
        }
    }

    #[test]
    fn an_engines_own_times_are_taken_first() {
        let timings = json!({"timings": {"prompt_n": 100, "prompt_ms": 400.0, "predicted_n": 16, "predicted_ms": 400.0}});
        let measured = rates(&answer(json!({}), 1), &answer(timings, 1));
        assert_eq!(measured, Some((250.0, 40.0)));
    }

    #[test]
    fn without_them_the_longer_answer_minus_the_shorter_is_the_writing() {
        let usage = |completion: u32| json!({"usage": {"prompt_tokens": 100, "completion_tokens": completion}});
        let measured = rates(&answer(usage(1), 500), &answer(usage(17), 900)).unwrap();
        assert!((measured.0 - 200.0).abs() < 1e-9 && (measured.1 - 40.0).abs() < 1e-9);
        let unsound = rates(&answer(usage(1), 500), &answer(usage(17), 400));
        assert_eq!(unsound, None);
    }
}
