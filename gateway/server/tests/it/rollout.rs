//! Two versions of the router on one gateway: who is dispatched, what is counted, and what the gate makes of it.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking, asking_with, assets, plan, pool, prefers};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;
use weir_gateway::evidence::RolloutReport;
use weir_gateway::gateway::Assets;
use weir_plan::{CandidatePhase, CandidatePlan, GatewayPlan, RouterPlan};
use weir_router::Router;
use weir_router::gate::{Action, Decision, Evidence, Phase, Policy, Reason, next};

/// The active version asks the pool `small`, the candidate the pool `big`.
pub(crate) struct Trial {
    pub(crate) world: World,
    small: Echo,
    pub(crate) big: Echo,
}

fn version(name: &str) -> RouterPlan {
    RouterPlan {
        version: name.to_owned(),
        sha256: "0".repeat(64),
    }
}

/// What is demanded of a canary of one step, of its latency and errors alone.
pub(crate) fn policy() -> Policy {
    Policy {
        shadow_requests: 0,
        steps: vec![25],
        requests_per_step: 100,
        p99_latency_ratio_max: 1.1,
        error_rate_max: 0.01,
        confidence: 0.95,
        deadline: None,
        quality: None,
    }
}

fn trying(small: &Echo, big: &Echo, phase: CandidatePhase) -> GatewayPlan {
    GatewayPlan {
        router: Some(version("v1")),
        candidate: Some(CandidatePlan {
            router: Some(version("v2")),
            rollout: "test-v2-1".to_owned(),
            uid: "1".to_owned(),
            phase,
        }),
        ..plan(vec![pool("small", &[small]), pool("big", &[big])])
    }
}

fn both(candidate: Option<Router>) -> Assets {
    Assets {
        candidate,
        ..assets(prefers(0, 2), None)
    }
}

impl Trial {
    pub(crate) async fn start(phase: CandidatePhase) -> Self {
        Self::of(phase, Some(prefers(1, 2))).await
    }

    pub(crate) async fn of(phase: CandidatePhase, candidate: Option<Router>) -> Self {
        let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
        let world = World::with_assets(trying(&small, &big, phase), both(candidate)).await;
        Self { world, small, big }
    }

    pub(crate) fn plan(&self, phase: CandidatePhase) -> GatewayPlan {
        trying(&self.small, &self.big, phase)
    }

    pub(crate) fn serve(&self, plan: GatewayPlan) {
        self.world
            .gateway
            .apply(plan, both(Some(prefers(1, 2))))
            .unwrap();
    }

    /// The model that answers a user.
    async fn model_for(&self, user: usize) -> String {
        let reply = self.ask(user, &json!({})).await;
        reply.header("x-weir-model").to_owned()
    }

    pub(crate) async fn ask(&self, user: usize, more: &Value) -> crate::world::Reply {
        let mut body = asking_with("auto", "hi", more);
        body["user"] = format!("user-{user}").into();
        self.world.chat(&body).await
    }

    /// Asks as this many users, many at a time, and reads every answer to its end.
    async fn ask_all(&self, users: std::ops::Range<usize>, more: &Value) {
        let ask = |user| async move {
            self.ask(user, more).await.text().await;
        };
        let users = futures_util::stream::iter(users);
        users.for_each_concurrent(64, ask).await;
    }

    pub(crate) fn report(&self) -> RolloutReport {
        self.world.gateway.rollout_report().unwrap()
    }

    /// What the gate makes of it, at its first canary step.
    fn judged(&self) -> Decision {
        let now = Duration::from_secs(1);
        let evidence = Evidence {
            sums: self.report().evidence,
            heard: Some(now),
            listening: now,
            began: now,
            regret: Vec::new(),
        };
        next(1, &policy(), &evidence, Action::Continue, now)
    }
}

#[tokio::test]
async fn in_the_shadow_both_versions_decide_and_only_the_active_one_is_dispatched() {
    let trial = Trial::start(CandidatePhase::Shadow).await;
    trial.ask_all(0..20, &json!({})).await;
    assert_eq!(
        (trial.small.bodies().len(), trial.big.bodies().len()),
        (20, 0)
    );
    let evidence = trial.report().evidence;
    assert_eq!((evidence.shadowed, evidence.disagreements), (20, 20));
    assert_eq!(
        (evidence.active.requests, evidence.candidate.requests),
        (0, 0)
    );
    let row = trial.world.row_of(trial.ask(1, &json!({})).await).await;
    assert_eq!(row["router"]["version"], "v1");
    let rollout = &row["rollout"];
    assert_eq!(
        (&rollout["dispatched"], &rollout["weight"]),
        (&json!("active"), &json!(0))
    );
    let shadow = &rollout["shadow"];
    assert_eq!(
        (&shadow["router"]["version"], &shadow["agrees"]),
        (&json!("v2"), &json!(false))
    );
    assert_ne!(shadow["arm"], row["executed"]["arm"]);
    assert_eq!(
        shadow["choice"]["inputs"]["draw"],
        row["choice"]["inputs"]["draw"]
    );
    assert_eq!(shadow["choice"]["outcome"]["propensity"], 1.0);
}

#[tokio::test]
async fn versions_that_would_answer_in_the_same_way_do_not_disagree() {
    let trial = Trial::of(CandidatePhase::Shadow, Some(prefers(0, 2))).await;
    trial.ask_all(0..5, &json!({})).await;
    let evidence = trial.report().evidence;
    assert_eq!((evidence.shadowed, evidence.disagreements), (5, 0));
}

#[tokio::test]
async fn a_canary_answers_its_share_of_users_and_keeps_them() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 25 }).await;
    let mut tried = Vec::new();
    for user in 0..200 {
        let model = trial.model_for(user).await;
        assert_eq!(trial.model_for(user).await, model, "user {user}");
        tried.push(model == "big-model");
    }
    let share = tried.iter().filter(|tried| **tried).count();
    assert!((30..=70).contains(&share), "{share} of 200");
    trial.serve(trial.plan(CandidatePhase::Canary { weight: 50 }));
    for (user, tried) in tried.iter().enumerate().filter(|(_, tried)| **tried) {
        assert_eq!(trial.model_for(user).await == "big-model", *tried);
    }
    let evidence = trial.report().evidence;
    let counted = evidence.active.requests + evidence.candidate.requests;
    assert_eq!(counted, evidence.shadowed, "a changed weight counts on");
    assert_eq!(
        evidence.candidate.latency.total(),
        evidence.candidate.requests
    );
    assert_eq!((evidence.candidate.errors, evidence.candidate.open), (0, 0));
}

#[tokio::test]
async fn a_kept_answer_counts_for_no_version() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 50 }).await;
    let cache = Some(weir_plan::CachePlan {
        entries_max: 10,
        ttl_ms: 60_000,
        near_duplicates: false,
    });
    trial.serve(GatewayPlan {
        cache,
        ..trial.plan(CandidatePhase::Canary { weight: 50 })
    });
    for cached in ["miss", "hit", "hit"] {
        let reply = trial.ask(1, &json!({})).await;
        assert_eq!(reply.header("x-weir-cache"), cached);
        reply.text().await;
    }
    let report = trial.report();
    let (active, candidate) = (&report.evidence.active, &report.evidence.candidate);
    assert_eq!(report.evidence.shadowed, 3, "both decided each time");
    assert_eq!(active.requests + candidate.requests, 1);
    assert_eq!(active.latency.total() + candidate.latency.total(), 1);
    assert_eq!((active.open, candidate.open), (0, 0));
}

#[tokio::test]
async fn a_conversation_without_a_user_keeps_its_version() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 50 }).await;
    let asked = |session: &str| asking_with("auto", "hi", &json!({"weir": {"session": session}}));
    let mut models = std::collections::BTreeSet::new();
    for session in 0..16 {
        let first = trial.world.chat(&asked(&session.to_string())).await;
        let second = trial.world.chat(&asked(&session.to_string())).await;
        assert_eq!(first.header("x-weir-model"), second.header("x-weir-model"));
        models.insert(first.header("x-weir-model").to_owned());
    }
    assert_eq!(models.len(), 2);
}

#[tokio::test]
async fn the_row_of_a_candidate_s_answer_is_replayed_with_the_candidate() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 100 }).await;
    let reply = trial.ask(1, &json!({})).await;
    let id = reply.header("x-weir-decision").to_owned();
    let row = trial.world.row_of(reply).await;
    assert_eq!(row["router"]["version"], "v2");
    assert_eq!(row["rollout"]["dispatched"], "candidate");
    assert_eq!(row["rollout"]["shadow"]["router"]["version"], "v1");
    let record = trial.world.gateway.decision(&id).unwrap();
    weir_gateway::record::replay(&record, &prefers(1, 2)).unwrap();
}

#[tokio::test]
async fn a_plan_that_nobody_confirms_dispatches_no_candidate() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 100 }).await;
    assert_eq!(trial.model_for(1).await, "big-model");
    trial.world.gateway.follow_operator();
    assert_eq!(trial.model_for(1).await, "small-model");
    let counted = trial.report().evidence;
    assert_eq!((counted.shadowed, counted.candidate.requests), (1, 1));
    let metrics = trial.world.get("/metrics").await.text().await;
    assert!(metrics.contains("weir_plan_stale 1"), "{metrics}");
    trial.world.gateway.plan_confirmed();
    assert_eq!(trial.model_for(1).await, "big-model");
}

#[tokio::test]
async fn a_candidate_that_cannot_be_loaded_leaves_the_active_version_alone() {
    let trial = Trial::of(CandidatePhase::Canary { weight: 100 }, None).await;
    assert_eq!(trial.model_for(1).await, "small-model");
    assert_eq!(trial.world.gateway.rollout_report(), None);
    let metrics = trial.world.get("/metrics").await.text().await;
    assert!(
        metrics.contains("weir_rollout_candidate_missing 1"),
        "{metrics}"
    );
    assert!(metrics.contains("weir_rollout_weight 100"), "{metrics}");
}

#[tokio::test]
async fn pinned_models_are_in_no_rollout() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 100 }).await;
    let row = trial
        .world
        .row_of(trial.world.chat(&asking("small-model", "hi")).await)
        .await;
    assert_eq!(
        (&row["rollout"], &row["router"]["version"]),
        (&Value::Null, &json!("v1"))
    );
    assert_eq!(trial.report().evidence.shadowed, 0);
}

#[tokio::test]
async fn a_request_that_dies_or_whose_client_leaves_is_counted() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 100 }).await;
    trial.big.set(Mode::HangInTheMiddle);
    let reply = trial.ask(1, &json!({"stream": true})).await;
    assert_eq!(trial.report().evidence.candidate.open, 1);
    drop(reply);
    trial.big.until_open(0).await;
    let ended = || async {
        while trial.report().evidence.candidate.open > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended())
        .await
        .unwrap();
    let left = trial.report().evidence.candidate;
    assert_eq!(
        (left.requests, left.errors, left.latency.total()),
        (1, 0, 1)
    );
    trial.big.set(Mode::BreakInTheMiddle);
    trial.ask(1, &json!({"stream": true})).await.text().await;
    let broken = trial.report().evidence.candidate;
    assert_eq!((broken.requests, broken.errors), (2, 1));
}

#[tokio::test]
async fn a_candidate_whose_answers_break_is_rolled_back() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 25 }).await;
    trial.big.set(Mode::BreakInTheMiddle);
    let mut asked = 0;
    let decision = loop {
        trial
            .ask_all(asked..asked + 10, &json!({"stream": true}))
            .await;
        asked += 10;
        let decision = trial.judged();
        if decision.phase.ended() || asked >= 400 {
            break decision;
        }
    };
    assert_eq!(
        (decision.phase, decision.reason),
        (Phase::RolledBack, Reason::ErrorRate)
    );
    assert!(asked <= 200, "{asked}");
}

#[tokio::test]
async fn a_candidate_that_is_slow_is_rolled_back() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 25 }).await;
    trial.small.set(Mode::Slow(20));
    trial.big.set(Mode::Slow(400));
    trial.ask_all(0..1_600, &json!({})).await;
    let decision = trial.judged();
    assert_eq!(decision.reason, Reason::Latency, "{}", decision.message);
    assert_eq!((decision.phase, decision.weight), (Phase::RolledBack, 0));
}
