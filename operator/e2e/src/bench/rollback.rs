//! From the evidence that decides against a candidate to the gateway that asks it nothing more.
//!
//! The candidate sends everybody to a pool that refuses every request. What the gateway counts is counted here too, answer
//! by answer, and put to the gate itself: the first answer with which it decides is the deciding evidence. Between that and
//! the plan without the candidate lie the gateway's report, the operator's decision, the status it writes and the plan it
//! sends.

use crate::cluster::{Cluster, Stack, pool_object};
use crate::process::Gateway;
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, JoinSet};
use weir_crds::InferenceGateway;
use weir_e2e::outside::{Manner, Outside};
use weir_router::gate::evidence::RolloutEvidence;
use weir_router::gate::{self, Action, Evidence, Phase, Policy};
use weir_router::{Arm, ArmTable, Artifact};

/// Between two requests; each is sent whether or not the one before was answered.
const GAP: Duration = Duration::from_millis(10);
/// The version that serves, and the one that is tried.
const SERVES: &str = "serves";
const FAILS: &str = "fails";
/// Percent of users that are given to the candidate.
const WEIGHT: u32 = 50;
const SHADOW_REQUESTS: u64 = 20;
const REQUESTS_PER_STEP: u64 = 200;
const ERROR_RATE_MAX: f64 = 0.05;
const CONFIDENCE: f64 = 0.95;
const LATENCY_RATIO_MAX: f64 = 20.0;

/// A stack in which one version fails, ready to be measured.
pub(crate) struct Rollback {
    pub(crate) stack: Stack,
    _pools: [Outside; 2],
}

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    at: Timestamp,
    milliseconds: f64,
    failed: bool,
}

impl Rollback {
    /// A pool that answers and one that refuses, a version that prefers either, and a gateway that begins with the first.
    pub(crate) async fn prepare(cluster: &Cluster, namespace: &str) -> Result<Self> {
        cluster.namespace(namespace).await?;
        let sound = Outside::start("127.0.0.1", Manner::Prompt).await?;
        let broken = Outside::start("127.0.0.1", Manner::Refusing).await?;
        for (name, server) in [("broken", &broken), ("sound", &sound)] {
            let engine = json!({"external": {"url": server.url}});
            let pool = pool_object(name, engine, 1);
            cluster.apply(Some(namespace), &pool).await?;
        }
        // Of models of one size the first by name has the lowest rank.
        for (version, rank) in [(SERVES, 1), (FAILS, 0)] {
            for object in router_version(version, rank) {
                cluster.apply(Some(namespace), &object).await?;
            }
        }
        let router = json!({
            "version": SERVES,
            "exploration": {"floor": 0.0, "nearTieMargin": 0.0},
            "rollout": {
                "shadow": {"requests": SHADOW_REQUESTS},
                "canary": {"steps": [WEIGHT], "requestsPerStep": REQUESTS_PER_STEP},
                "gate": {
                    "confidence": CONFIDENCE, "errorRateMax": ERROR_RATE_MAX,
                    "p99LatencyRatioMax": LATENCY_RATIO_MAX,
                },
            },
        });
        Ok(Self {
            stack: cluster.gateway(namespace, &router).await?,
            _pools: [sound, broken],
        })
    }

    /// Milliseconds from the deciding evidence to the plan without the candidate, of so many attempts.
    pub(crate) async fn measure(&self, gateway: &mut Gateway, attempts: usize) -> Result<Vec<f64>> {
        let mut times = Vec::with_capacity(attempts);
        let traffic = Traffic::start(gateway.url());
        for attempt in 1..=attempts {
            let measured = self.attempt(gateway, &traffic).await;
            times.push(measured.with_context(|| format!("attempt {attempt} of {attempts}"))?);
        }
        Ok(times)
    }

    async fn attempt(&self, gateway: &mut Gateway, traffic: &Traffic) -> Result<f64> {
        gateway.forget();
        self.name(FAILS).await?;
        let begun =
            gateway.next_plan(|plan| plan["candidate"]["phase"]["canary"]["weight"] == WEIGHT);
        let begun = begun.await.context("the candidate gets no share")?;
        let taken_out = gateway.next_plan(|plan| plan["candidate"].is_null());
        let taken_out = taken_out.await.context("the candidate is not taken out")?;
        let decided =
            deciding(&traffic.ended(begun)).context("what was answered does not decide")?;
        // What was taken out is tried again when the spec has named the active version meanwhile.
        self.name(SERVES).await?;
        self.forgotten().await?;
        Ok(taken_out.duration_since(decided).as_secs_f64() * 1e3)
    }

    fn gateways(&self) -> Api<InferenceGateway> {
        Api::namespaced(self.stack.client.clone(), &self.stack.namespace)
    }

    async fn name(&self, version: &str) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"router": {"version": version}}}));
        let (gateways, params) = (self.gateways(), PatchParams::default());
        gateways.patch("bench", &params, &patch).await?;
        Ok(())
    }

    /// Waits until the status speaks of no candidate.
    async fn forgotten(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let status = self.gateways().get("bench").await?.status;
            let router = status.and_then(|status| status.router);
            let router = router.context("the gateway's status says nothing of its router")?;
            ensure!(router.active == SERVES, "{} serves", router.active);
            if router.candidate.is_none() {
                return Ok(());
            }
            ensure!(
                started.elapsed() < Duration::from_secs(30),
                "the candidate stays in the status"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A version that expects the best answers of the models of one rank of two, with its file.
fn router_version(version: &str, rank: usize) -> [Value; 2] {
    let table = ArmTable::standard(2);
    let quality = |arm: &Arm| if arm.rank == rank { 5.0 } else { 1.0 };
    let qualities: Vec<f32> = table.arms.iter().map(quality).collect();
    let artifact = Artifact::constant(&table, &qualities);
    let file = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": version, "labels": {"weir.dev/watch": "true"}},
        "binaryData": {"router.onnx": ByteString(artifact.to_bytes().to_vec())},
    });
    let object = json!({
        "apiVersion": weir_crds::API_VERSION, "kind": "RouterVersion", "metadata": {"name": version},
        "spec": {
            "artifact": {"configMap": {"name": version, "key": "router.onnx"}},
            "sha256": artifact.sha256(),
        },
    });
    [file, object]
}

/// When the gate decides against the candidate, from what has ended since it got its share. All of the candidate's
/// requests failed and none of the active version's did.
fn deciding(ended: &[Ended]) -> Option<Timestamp> {
    let policy = Policy {
        shadow_requests: SHADOW_REQUESTS,
        steps: vec![WEIGHT],
        requests_per_step: REQUESTS_PER_STEP,
        p99_latency_ratio_max: LATENCY_RATIO_MAX,
        error_rate_max: ERROR_RATE_MAX,
        confidence: CONFIDENCE,
        deadline: None,
        quality: None,
    };
    let mut sums = RolloutEvidence::default();
    ended.iter().find_map(|request| {
        let version = if request.failed {
            sums.candidate.errors += 1;
            &mut sums.candidate
        } else {
            &mut sums.active
        };
        version.requests += 1;
        version.latency.record(request.milliseconds);
        let evidence = Evidence {
            sums: sums.clone(),
            heard: Some(Duration::ZERO),
            ..Evidence::default()
        };
        let decision = gate::next(1, &policy, &evidence, Action::Continue, Duration::ZERO);
        (decision.phase == Phase::RolledBack).then_some(request.at)
    })
}

/// Questions of ever new users, until it is dropped.
struct Traffic {
    ended: Arc<Mutex<Vec<Ended>>>,
    sender: JoinHandle<()>,
}

impl Traffic {
    fn start(url: &str) -> Self {
        let ended = Arc::new(Mutex::new(Vec::new()));
        let (kept, url) = (Arc::clone(&ended), format!("{url}/v1/chat/completions"));
        let sender = tokio::spawn(async move {
            let client = reqwest::Client::new();
            let mut ticks = tokio::time::interval(GAP);
            let mut open = JoinSet::new();
            for user in 0_u64.. {
                ticks.tick().await;
                while open.try_join_next().is_some() {}
                let body = json!({
                    "model": "auto", "max_tokens": 4, "user": format!("user-{user}"),
                    "messages": [{"role": "user", "content": "What comes next?"}],
                });
                let (kept, request) = (Arc::clone(&kept), client.post(&url).json(&body));
                open.spawn(async move {
                    let started = Instant::now();
                    let answer = request.send().await;
                    let failed = !answer.is_ok_and(|answer| answer.status().is_success());
                    let ended = Ended {
                        at: Timestamp::now(),
                        milliseconds: started.elapsed().as_secs_f64() * 1e3,
                        failed,
                    };
                    kept.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(ended);
                });
            }
        });
        Self { ended, sender }
    }

    /// What has ended since then, in the order of its ends.
    fn ended(&self, since: Timestamp) -> Vec<Ended> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recent = std::mem::take(&mut *ended);
        recent.retain(|request| request.at >= since);
        recent.sort_by_key(|request| request.at);
        recent
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(second: i64, failed: bool) -> Ended {
        Ended {
            at: Timestamp::from_second(second).unwrap(),
            milliseconds: 2.0,
            failed,
        }
    }

    #[test]
    fn a_few_failures_decide_and_answers_do_not() {
        let fine: Vec<Ended> = (0..200).map(|second| ended(second, false)).collect();
        assert_eq!(deciding(&fine), None);
        let mixed: Vec<Ended> = (0..200)
            .map(|second| ended(second, second % 2 == 1))
            .collect();
        let decided = deciding(&mixed).unwrap();
        let before: Vec<Ended> = mixed
            .iter()
            .copied()
            .filter(|one| one.at < decided)
            .collect();
        assert!(before.len() > 2, "decided after {} answers", before.len());
        assert_eq!(deciding(&before), None);
    }
}
