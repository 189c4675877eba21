//! Judges' labels of a canary's answers: who may give them, what they are counted for, and what the gate makes of them.

use crate::rollout::{Trial, policy};
use crate::world::{World, asking_with, key};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use weir_plan::{Auth, CandidatePhase, GatewayPlan, Scope};
use weir_router::gate::regret::RegretEvidence;
use weir_router::gate::{Action, Decision, Evidence, Phase, Policy, Quality, Reason, next};

/// The id of the decision of a user's request, and whether the candidate decided it.
async fn answered(trial: &Trial, user: usize) -> (String, bool) {
    let reply = trial.ask(user, &json!({})).await;
    let id = reply.header("x-weir-decision").to_owned();
    let tried = reply.header("x-weir-model") == "big-model";
    reply.text().await;
    (id, tried)
}

async fn label(world: &World, id: &str, score: f64, propensity: Option<f64>) -> (u16, Value) {
    let mut body = json!({"decision_id": id, "score": score});
    if let Some(propensity) = propensity {
        body["propensity"] = propensity.into();
    }
    let reply = world.post("/v1/feedback", &body).await;
    (reply.status.as_u16(), reply.json().await)
}

fn judged(trial: &Trial) -> RegretEvidence {
    trial.report().regret
}

/// What the gate makes of it at its only step.
fn decided(trial: &Trial) -> Decision {
    let policy = Policy {
        steps: vec![50],
        p99_latency_ratio_max: 100.0,
        confidence: 0.8,
        quality: Some(Quality {
            regret_max: 0.5,
            disagreements_per_step: 100,
            disagreements_max: 3_000,
        }),
        ..policy()
    };
    let now = Duration::from_secs(1);
    let report = trial.report();
    let evidence = Evidence {
        sums: report.evidence,
        regret: vec![report.regret],
        heard: Some(now),
        listening: now,
        began: now,
    };
    next(1, &policy, &evidence, Action::Continue, now)
}

/// Asks as this many users and gives every answer a label: the active version's answers are worth 4.
async fn judge_all(trial: &Trial, users: std::ops::Range<usize>, candidate: f64) {
    for user in users {
        let (id, tried) = answered(trial, user).await;
        let score = if tried { candidate } else { 4.0 };
        let (status, said) = label(&trial.world, &id, score, Some(1.0)).await;
        assert_eq!((status, &said["counted"]), (200, &json!(true)), "{said}");
    }
}

#[tokio::test]
async fn a_label_of_a_disagreement_is_in_the_report_and_counts_once() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 50 }).await;
    let (id, _) = answered(&trial, 1).await;
    let before = judged(&trial);
    assert_eq!(
        (before.compared, before.disagreements, before.labelled),
        (1, 1, 0)
    );
    let voluntary = label(&trial.world, &id, 2.0, None).await;
    assert_eq!((voluntary.0, &voluntary.1["counted"]), (200, &json!(false)));
    assert_eq!(
        judged(&trial),
        before,
        "voluntary scores never enter a gate"
    );

    let (status, said) = label(&trial.world, &id, 4.0, Some(0.5)).await;
    assert_eq!(
        (status, &said["recorded"], &said["counted"]),
        (200, &json!(true), &json!(true))
    );
    let once = judged(&trial);
    assert_eq!(once.labelled, 1);
    assert_eq!(once.share_judged().map(|(share, _)| share), Some(2.0));
    let (status, said) = label(&trial.world, &id, 1.0, Some(0.5)).await;
    assert_eq!((status, &said["counted"]), (200, &json!(false)));
    assert_eq!(judged(&trial), once, "the second word counts nothing");
    let record = trial.world.gateway.decision(&id).unwrap();
    assert_eq!(record.quality.unwrap().propensity, Some(0.5));
    let metrics = trial.world.get("/metrics").await.text().await;
    assert!(metrics.contains("weir_rollout_labels_total 1"), "{metrics}");
}

#[tokio::test]
async fn labels_of_unknown_decisions_and_impossible_propensities_are_refused() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 50 }).await;
    let (id, _) = answered(&trial, 1).await;
    let (status, _) = label(&trial.world, "no-such-decision", 4.0, Some(1.0)).await;
    assert_eq!(status, 404);
    for propensity in [0.0, 0.009, 1.01, -1.0] {
        let (status, said) = label(&trial.world, &id, 4.0, Some(propensity)).await;
        assert_eq!(
            (status, &said["error"]["param"]),
            (400, &json!("propensity"))
        );
    }
    assert_eq!(judged(&trial).labelled, 0);
}

#[tokio::test]
async fn only_judges_give_labels_and_they_do_for_every_tenant() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 50 }).await;
    let plan = GatewayPlan {
        auth: Auth::ApiKeys(vec![
            key("acme", "sk-acme", &[Scope::Ask]),
            key("quality", "sk-judge", &[Scope::Judge]),
        ]),
        ..trial.plan(CandidatePhase::Canary { weight: 50 })
    };
    trial.serve(plan);
    let send = async |path: &str, key: &str, body: &Value| {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str())];
        let body = body.to_string();
        trial.world.send(Method::POST, path, &headers, body).await
    };
    let asked = asking_with("auto", "hi", &json!({}));
    let reply = send("/v1/chat/completions", "sk-acme", &asked).await;
    let id = reply.header("x-weir-decision").to_owned();
    reply.text().await;
    let given = json!({"decision_id": id, "score": 4, "propensity": 1});
    let refused = send("/v1/feedback", "sk-acme", &given).await;
    assert_eq!(refused.status.as_u16(), 403);
    let refused = refused.json().await;
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("`judge`"),
        "{refused}"
    );
    assert_eq!(judged(&trial).labelled, 0);
    let taken = send("/v1/feedback", "sk-judge", &given).await;
    assert_eq!(taken.json().await["counted"], true);
    let asks = send("/v1/chat/completions", "sk-judge", &asked).await;
    assert_eq!(asks.status.as_u16(), 403, "a judge asks nothing");
    let bearer = [("authorization", "Bearer sk-judge")];
    let path = format!("/v1/decisions/{id}");
    let row = trial.world.send(Method::GET, &path, &bearer, "").await;
    assert_eq!(row.json().await["rollout"]["shadow"]["agrees"], false);
}

#[tokio::test]
async fn where_versions_agree_nothing_has_to_be_judged_and_in_the_shadow_nothing_is_compared() {
    let trial = Trial::of(
        CandidatePhase::Canary { weight: 50 },
        Some(crate::world::prefers(0, 2)),
    )
    .await;
    let (id, _) = answered(&trial, 1).await;
    let (status, said) = label(&trial.world, &id, 4.0, Some(1.0)).await;
    assert_eq!((status, &said["counted"]), (200, &json!(false)));
    let evidence = judged(&trial);
    assert_eq!((evidence.compared, evidence.disagreements), (1, 0));

    let trial = Trial::start(CandidatePhase::Shadow).await;
    let (id, _) = answered(&trial, 1).await;
    let (_, said) = label(&trial.world, &id, 4.0, Some(1.0)).await;
    assert_eq!(said["counted"], false);
    assert_eq!(judged(&trial), RegretEvidence::default());
}

#[tokio::test]
async fn an_answer_that_failed_has_the_lowest_score_without_a_judge() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 99 }).await;
    trial.big.set(crate::echo::Mode::BreakInTheMiddle);
    trial.ask(1, &json!({"stream": true})).await.text().await;
    let evidence = judged(&trial);
    assert_eq!((evidence.disagreements, evidence.labelled), (1, 1));
    assert!(evidence.regret() > 0.0, "{evidence:?}");
}

#[tokio::test]
async fn labels_alone_promote_an_equal_candidate_and_take_a_worse_one_out() {
    let trial = Trial::start(CandidatePhase::Canary { weight: 50 }).await;
    judge_all(&trial, 0..40, 2.5).await;
    let few = decided(&trial);
    assert_eq!((few.phase, few.reason), (Phase::Canary, Reason::Collecting));
    judge_all(&trial, 40..200, 2.5).await;
    let worse = decided(&trial);
    assert_eq!(
        (worse.phase, worse.reason),
        (Phase::RolledBack, Reason::Regret),
        "{}",
        worse.message
    );
    let regret = judged(&trial).regret();
    assert!((regret - 1.5).abs() < 0.4, "{regret}");

    let trial = Trial::start(CandidatePhase::Canary { weight: 50 }).await;
    judge_all(&trial, 0..300, 4.0).await;
    let equal = judged(&trial);
    let bounds = Policy {
        quality: Some(Quality {
            regret_max: 0.5,
            disagreements_per_step: 100,
            disagreements_max: 3_000,
        }),
        ..policy()
    }
    .bounds(&[equal]);
    assert!(bounds[0].low < 0.0 && bounds[0].high < 0.5, "{bounds:?}");
}
