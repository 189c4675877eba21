//! What judges say decides: of versions that are as fast and fail as seldom, an equal one takes over, a worse one is taken out,
//! and one that nobody judges is held and told.
//!
//! Both pools serve the same model. What their answers are worth is what this scenario says through `/v1/feedback` with a key
//! that may do nothing else; the versions prefer one pool or the other.

use super::rollouts::{begun, ends, name, print, promote, says, status};
use super::steering;
use crate::ask::Gateway;
use crate::told::say;
use crate::world::{Namespace, World};
use anyhow::{Context, Result, bail, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use weir_router::{Arm, ArmTable, Artifact};

const ASKS: &str = "e2e-asks-0123456789abcdef0123456789abcdef";
const JUDGES: &str = "e2e-judges-0123456789abcdef0123456789abcdef";
/// Requests at the same time.
const WORKERS: usize = 8;
/// A decision is known to the process that took it, and each try finds one by chance.
const TRIES: usize = 60;
/// Points that a candidate's answers may be worth less.
const REGRET_MAX: f64 = 0.5;

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-regret").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    let keys = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "keys", "labels": {"weir.dev/watch": "true"}},
        "stringData": {"acme.app.ask": ASKS, "quality.judge.judge": JUDGES},
    });
    namespace.apply_object(&keys).await?;
    namespace.apply(super::LOAD).await?;
    let patch = json!({"spec": {
        "auth": {"anonymous": null, "apiKeysSecretRef": {"name": "keys"}},
        "router": {"exploration": {"floor": 0.0, "nearTieMargin": 0.0}},
    }});
    namespace.patch("InferenceGateway", "load", patch).await?;
    demand(namespace, &json!({})).await?;
    // Of models of one size the first by name has the lowest rank: moving, then steady.
    version(namespace, "first", (0, 4.5)).await?;
    version(namespace, "equal", (1, 4.5)).await?;
    version(namespace, "worse", (0, 4.4)).await?;
    version(namespace, "unjudged", (0, 4.3)).await?;
    super::serves(namespace, &["steady", "moving"]).await?;
    let asks = namespace.gateway("load", Some(ASKS)).await?;
    let known = namespace.world.until(Duration::from_secs(60), async || {
        asks.chat("auto", "Who are you?", 4).await.map(Some)
    });
    known.await.context("the keys open nothing")?;
    only_judges_label(&asks).await?;
    promote(namespace, "first").await?;
    an_equal_version_takes_over(namespace, &asks)
        .await
        .context("an equal version")?;
    a_worse_version_is_taken_out(namespace, &asks)
        .await
        .context("a worse version")?;
    one_that_nobody_judges_is_held(namespace, &asks)
        .await
        .context("a version that nobody judges")
}

/// Sets what the next attempt has to show, with these demands of its gate besides.
async fn demand(namespace: &Namespace<'_>, more: &Value) -> Result<()> {
    let mut gate = json!({
        "confidence": 0.8, "p99LatencyRatioMax": 20.0, "errorRateMax": 0.05, "regretMax": REGRET_MAX,
    });
    for (field, value) in more.as_object().context("demands are an object")? {
        gate[field] = value.clone();
    }
    let policy = json!({
        "shadow": {"requests": 20},
        "canary": {"steps": [25], "requestsPerStep": 40, "disagreementsPerStep": 100},
        "gate": gate,
    });
    let patch = json!({"spec": {"router": {"rollout": policy}}});
    namespace
        .patch("InferenceGateway", "load", patch)
        .await
        .map(drop)
}

/// A version that expects this quality of the models of one rank of two, and a point less of the others'.
async fn version(
    namespace: &Namespace<'_>,
    version: &str,
    (rank, best): (usize, f32),
) -> Result<()> {
    let table = ArmTable::standard(2);
    let quality = |arm: &Arm| if arm.rank == rank { best } else { best - 1.0 };
    let qualities: Vec<f32> = table.arms.iter().map(quality).collect();
    super::router_version(namespace, version, &Artifact::constant(&table, &qualities)).await
}

async fn only_judges_label(asks: &Gateway) -> Result<()> {
    let answer = asks.chat("auto", "Who may judge this?", 4).await?;
    let label = json!({"decision_id": answer["weir"]["decision_id"], "score": 5, "propensity": 1});
    let (status, text) = asks.try_post("/v1/feedback", &label).await?;
    ensure!(
        status == StatusCode::FORBIDDEN && text.contains("judge"),
        "a key that may only ask labels: {status} {text}"
    );
    Ok(())
}

async fn an_equal_version_takes_over(namespace: &Namespace<'_>, asks: &Gateway) -> Result<()> {
    name(namespace, "equal").await?;
    let rollout = begun(namespace, "equal").await?;
    let traffic = Traffic::start(asks, Some((4.0, 4.0)));
    let ended = ends(namespace, &rollout, "Active", 300).await;
    traffic.end(namespace).await?;
    let status = ended?;
    ensure!(status["reason"] == "Passed", "its status is {status}");
    let regret = &status["evidence"]["regret"];
    let upper = regret["upper"].as_f64().context("an upper bound")?;
    let labels = regret["labelled"].as_u64().context("labels")?;
    say!("{rollout} passed with a regret of at most {upper} by {labels} labels");
    ensure!(
        upper <= REGRET_MAX && labels >= 100,
        "it took over with the regret {regret}"
    );
    says(namespace, "equal", |router| router["candidate"].is_null()).await
}

/// Its answers are worth a point less than the active version's, of four.
async fn a_worse_version_is_taken_out(namespace: &Namespace<'_>, asks: &Gateway) -> Result<()> {
    name(namespace, "worse").await?;
    let rollout = begun(namespace, "worse").await?;
    let traffic = Traffic::start(asks, Some((3.0, 4.0)));
    let ended = ends(namespace, &rollout, "RolledBack", 300).await;
    traffic.end(namespace).await?;
    let status = ended?;
    ensure!(status["reason"] == "Regret", "its status is {status}");
    let message = status["message"].as_str().unwrap_or_default();
    say!("{rollout}: {message}");
    ensure!(
        message.contains("points less than those of the active version"),
        "it does not say why: {message}"
    );
    let estimate = status["evidence"]["regret"]["estimate"].as_f64();
    ensure!(
        estimate.is_some_and(|estimate| (0.5..1.5).contains(&estimate)),
        "a regret of one point is estimated as {estimate:?}"
    );
    let told = |router: &Value| router["phase"] == "RolledBack" && router["regret"].is_number();
    says(namespace, "equal", told).await
}

/// Everything is there but labels: the weight is held, and after the deadline the phase says so. A person ends it.
async fn one_that_nobody_judges_is_held(namespace: &Namespace<'_>, asks: &Gateway) -> Result<()> {
    demand(namespace, &json!({"deadline": "20s"})).await?;
    name(namespace, "unjudged").await?;
    let rollout = begun(namespace, "unjudged").await?;
    let traffic = Traffic::start(asks, None);
    let mut last = Value::Null;
    let held = namespace.world.until(Duration::from_secs(240), async || {
        last = status(namespace, &rollout).await?;
        let message = last["message"].as_str().unwrap_or_default();
        let is_told = last["reason"] == "DeadlineExceeded"
            && message.contains("0 of 100 labelled disagreements");
        Ok(is_told.then_some(()))
    });
    let held = held.await;
    traffic.end(namespace).await?;
    held.with_context(|| format!("that labels are missing is not told: {last}"))?;
    ensure!(
        last["phase"] == "Inconclusive" && last["weight"] == 25,
        "it is not held at its weight: {last}"
    );
    steering::act(namespace, "abort", (&rollout, "is taken out")).await?;
    ends(namespace, &rollout, "Aborted", 60).await.map(drop)
}

/// Questions without a pause, and a label for each answer where somebody judges.
struct Traffic {
    stop: Stop,
    workers: Vec<JoinHandle<Result<usize>>>,
    started: Instant,
}

/// Ends the questions when it is dropped, as after a step that failed.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Traffic {
    /// `scores` are what answers of `moving` and `steady` are worth.
    fn start(asks: &Gateway, scores: Option<(f64, f64)>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let worker = |number: usize| {
            let (asks, stop) = (asks.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut answers = 0;
                while !stop.load(Ordering::Relaxed) {
                    let question = format!("Question {answers} of {number}: what comes next?");
                    let answer = asks.chat("auto", &question, 4).await?;
                    answers += 1;
                    if let Some(scores) = scores {
                        label(&asks.with_key(JUDGES), &answer, scores).await?;
                    }
                }
                Ok(answers)
            })
        };
        let workers = (0..WORKERS).map(worker).collect();
        Self {
            stop: Stop(stop),
            workers,
            started: Instant::now(),
        }
    }

    /// Ends them; an error names one that failed.
    async fn end(self, namespace: &Namespace<'_>) -> Result<()> {
        let seconds = self.started.elapsed().as_secs_f64();
        drop(self.stop);
        let mut answers = 0;
        for worker in self.workers {
            answers += worker.await??;
        }
        say!("{answers} requests in {seconds:.1} s, none failed");
        print(namespace).await
    }
}

/// What a judge says of an answer.
async fn label(judge: &Gateway, answer: &Value, (moving, steady): (f64, f64)) -> Result<()> {
    let score = match answer["model"].as_str() {
        Some("moving") => moving,
        Some("steady") => steady,
        _ => bail!("nobody knows who answered: {answer}"),
    };
    let given = json!({
        "decision_id": answer["weir"]["decision_id"], "score": score, "propensity": 1,
    });
    for _ in 0..TRIES {
        let (status, text) = judge.try_post("/v1/feedback", &given).await?;
        match status {
            StatusCode::OK => return Ok(()),
            StatusCode::NOT_FOUND => {}
            _ => bail!("a label is answered with {status}: {text}"),
        }
    }
    bail!("no process knows the decision of {answer}")
}
