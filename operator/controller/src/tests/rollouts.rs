//! A rollout over the real control stream: what a gateway reports ends in a status, and that in the plan it is told.

use super::control::{Gateway, authority, channel, connect, id, operator};
use super::conversation::{call, conversation, in_time};
use super::scenario::{EPOCH, Scenario, digest, gateway, rollout};
use crate::control::server::Hub;
use crate::lease::Leadership;
use crate::router_rollout::{Attempts, Reports};
use crate::{publisher, router_rollout};
use http::{Method, StatusCode};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use weir_plan::{CandidatePhase, GatewayPlan};
use weir_proto::control::v1::operator_message::Message;
use weir_proto::control::v1::{
    GatewayMessage, RegretEvidence, Report, RolloutEvidence, VersionEvidence, gateway_message,
};
use weir_reconcile::router_rollout::GatewayReport;

const ROLLOUTS: &str = "/apis/weir.dev/v1alpha1/namespaces/demo/routerrollouts";
const STATUS: &str = "/apis/weir.dev/v1alpha1/namespaces/demo/routerrollouts/support-v2-1/status";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/demo/events";

impl Gateway {
    async fn plan(&mut self) -> GatewayPlan {
        loop {
            if let Message::Plan(plan) = self.next().await {
                return serde_json::from_slice(&plan.plan_json).unwrap();
            }
        }
    }

    /// Reports this many requests of each version, of the candidate's so many failed.
    async fn counted(&self, requests: u64, errors: u64) {
        self.counted_as(("support-v2-1", 1), requests, errors).await;
    }

    /// The same of the rollout with this uid, in this counting.
    async fn counted_as(&self, (uid, counting): (&str, u64), requests: u64, errors: u64) {
        let counted = counted((uid, counting), requests, errors);
        self.reports(counted).await;
    }

    async fn reports(&self, rollout: RolloutEvidence) {
        let report = Report {
            rollouts: vec![rollout],
            ..Report::default()
        };
        let message = Some(gateway_message::Message::Report(report));
        self.up.send(GatewayMessage { message }).await.unwrap();
    }
}

fn counted((uid, counting): (&str, u64), requests: u64, errors: u64) -> RolloutEvidence {
    let version = |errors| {
        Some(VersionEvidence {
            requests,
            errors,
            open: 0,
            latency_ms_buckets: [vec![0; 40], vec![requests]].concat(),
        })
    };
    RolloutEvidence {
        rollout: "support-v2-1".into(),
        active: version(0),
        candidate: version(errors),
        shadowed: requests * 2,
        disagreements: 0,
        uid: uid.into(),
        counting,
        regret: None,
    }
}

/// As many labels by which the candidate's answers are two points worse, of users in as many groups.
fn judged(labels: u64) -> RegretEvidence {
    let each = 750_000;
    let weight = each * i64::try_from(labels).unwrap();
    let groups = usize::try_from(labels).unwrap();
    RegretEvidence {
        compared: labels,
        disagreements: labels,
        labelled: labels,
        disagreeing: weight,
        stood_for: weight,
        stood_for_variance: 0,
        weights: vec![each; groups],
        terms: vec![each * 2; groups],
    }
}

async fn heard(hub: &Hub, requests: u64) {
    in_time(async {
        let arrived = || {
            let all = hub.ledger().evidence(&id(), "support-v2-1");
            all.first().is_some_and(|(_, _, evidence)| {
                evidence
                    .candidate
                    .as_ref()
                    .is_some_and(|candidate| candidate.requests == requests)
            })
        };
        while !arrived() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_candidate_whose_reports_are_errors_is_rolled_back_and_out_of_the_next_plan() {
    let authority = authority();
    let operator = operator(&authority, Leadership::Leader { epoch: EPOCH }).await;
    let answer = serde_json::to_value(rollout()).unwrap();
    let (client, calls) = conversation(vec![
        call(Method::PATCH, STATUS).answers(answer.clone()),
        call(Method::POST, EVENTS).answers(json!({"metadata": {}, "eventTime": null})),
        call(Method::PATCH, STATUS).answers(answer),
        call(Method::POST, EVENTS).answers(json!({"metadata": {}, "eventTime": null})),
    ]);
    let mut scenario = Scenario::new(client, operator.hub.clone(), vec![rollout()]);
    scenario.publish();
    let channel = channel(&authority, operator.address, Some(&id().uri())).await;
    let mut gateway = in_time(connect(channel)).await.unwrap();
    let trying = gateway.plan().await;
    let candidate = trying.candidate.unwrap();
    assert_eq!(candidate.phase, CandidatePhase::Canary { weight: 25 });
    assert_eq!(candidate.router.unwrap().sha256, digest("v2"));

    gateway.counted(20, 0).await;
    heard(&operator.hub, 20).await;
    assert!(scenario.look().await.is_some(), "it goes on");
    assert_eq!(calls.body(0)["status"].get("phase"), None, "still a canary");
    scenario.watch_tells(&calls.body(0));

    gateway.counted(80, 60).await;
    heard(&operator.hub, 80).await;
    assert_eq!(scenario.look().await, None, "it has ended");
    let status = &calls.body(2)["status"];
    assert_eq!(
        (&status["phase"], &status["weight"], &status["reason"]),
        (&json!("RolledBack"), &json!(0), &json!("ErrorRate"))
    );
    calls.ended();
    scenario.watch_tells(&calls.body(2));
    scenario.publish();
    let after = gateway.plan().await;
    assert_eq!(after.candidate, None);
    assert_eq!(after.router.unwrap().version, "v1");
    assert!(after.revision > trying.revision);
}

/// Nothing speaks against the candidate but what judges said, and only where the attempt asks for labels.
#[tokio::test]
async fn a_candidate_that_judges_find_worse_is_rolled_back_with_the_numbers() {
    for asks in [false, true] {
        let authority = authority();
        let operator = operator(&authority, Leadership::Leader { epoch: EPOCH }).await;
        let mut attempt = rollout();
        attempt.spec.gate.regret_max = asks.then_some(0.5);
        let answer = serde_json::to_value(&attempt).unwrap();
        let (client, calls) = conversation(vec![
            call(Method::PATCH, STATUS).answers(answer),
            call(Method::POST, EVENTS).answers(json!({"metadata": {}, "eventTime": null})),
        ]);
        let scenario = Scenario::new(client, operator.hub.clone(), vec![attempt]);
        scenario.publish();
        let channel = channel(&authority, operator.address, Some(&id().uri())).await;
        let gateway = in_time(connect(channel)).await.unwrap();
        let report = RolloutEvidence {
            regret: Some(judged(100)),
            ..counted(("support-v2-1", 1), 80, 0)
        };
        gateway.reports(report).await;
        heard(&operator.hub, 80).await;
        assert_eq!(
            scenario.look().await.is_none(),
            asks,
            "it ends where labels decide"
        );
        let status = &calls.body(0)["status"];
        if asks {
            assert_eq!(
                (&status["phase"], &status["reason"]),
                (&json!("RolledBack"), &json!("Regret"))
            );
            let regret = &status["evidence"]["regret"];
            assert_eq!(
                (&regret["estimate"], &regret["labelled"]),
                (&json!(2.0), &json!(100))
            );
            let told = calls.body(1);
            assert_eq!(
                (&told["reason"], &told["type"]),
                (&json!("Regret"), &json!("Warning"))
            );
            let note = told["note"].as_str().unwrap();
            assert!(
                note.contains("2.000 points less") && note.contains("0.5 is allowed"),
                "{note}"
            );
        } else {
            assert_eq!(status["evidence"].get("regret"), None);
            assert_eq!(status["ledger"]["processes"][0]["regret"]["labelled"], 0);
        }
        calls.ended();
    }
}

/// A gateway that began to count at zero has fewer requests than before, and its errors count all the same.
#[tokio::test]
async fn errors_count_when_a_process_began_to_count_again_and_those_of_a_former_rollout_never() {
    let authority = authority();
    let operator = operator(&authority, Leadership::Leader { epoch: EPOCH }).await;
    let answer = serde_json::to_value(rollout()).unwrap();
    let event = || call(Method::POST, EVENTS).answers(json!({"metadata": {}, "eventTime": null}));
    let (client, calls) = conversation(vec![
        call(Method::PATCH, STATUS).answers(answer.clone()),
        event(),
        call(Method::PATCH, STATUS).answers(answer),
        event(),
    ]);
    let mut scenario = Scenario::new(client, operator.hub.clone(), vec![rollout()]);
    scenario.publish();
    let channel = channel(&authority, operator.address, Some(&id().uri())).await;
    let mut gateway = in_time(connect(channel)).await.unwrap();
    assert_eq!(gateway.plan().await.candidate.unwrap().uid, "support-v2-1");

    gateway.counted_as(("another", 1), 70, 70).await;
    heard(&operator.hub, 70).await;
    assert!(scenario.look().await.is_some(), "it is not about this one");
    scenario.watch_tells(&calls.body(0));
    gateway.counted_as(("support-v2-1", 2), 90, 0).await;
    heard(&operator.hub, 90).await;
    assert!(scenario.look().await.is_some(), "nothing failed");

    gateway.counted_as(("support-v2-1", 3), 80, 60).await;
    heard(&operator.hub, 80).await;
    assert_eq!(scenario.look().await, None, "it has ended");
    let status = &calls.body(2)["status"];
    assert_eq!(status["phase"], "RolledBack");
    assert_eq!(status["evidence"]["candidate"]["requests"], 170);
    calls.ended();
}

#[tokio::test]
async fn a_status_that_the_cache_does_not_show_yet_is_not_taken_back() {
    let answer = serde_json::to_value(rollout()).unwrap();
    let (client, calls) = conversation(vec![
        call(Method::PATCH, STATUS).answers(answer.clone()),
        call(Method::POST, EVENTS).answers(json!({"metadata": {}, "eventTime": null})),
        call(Method::PATCH, STATUS).answers(answer),
    ]);
    let authority = authority();
    let operator = operator(&authority, Leadership::Leader { epoch: EPOCH }).await;
    let scenario = Scenario::new(client, operator.hub.clone(), vec![rollout()]);
    let channel = channel(&authority, operator.address, Some(&id().uri())).await;
    let gateway = in_time(connect(channel)).await.unwrap();
    gateway.counted(80, 60).await;
    heard(&operator.hub, 80).await;
    for _ in 0..2 {
        assert_eq!(scenario.look().await, None);
    }
    for body in [0, 2] {
        assert_eq!(calls.body(body)["status"]["phase"], "RolledBack");
    }
    calls.ended();
}

#[tokio::test]
async fn another_version_begins_an_attempt_and_one_that_was_begun_already_is_no_error() {
    let exists = || {
        let exists = "routerrollouts \"support-v2-1\" already exists";
        call(Method::POST, ROLLOUTS).refuses(StatusCode::CONFLICT, "AlreadyExists", exists)
    };
    let (client, calls) = conversation(vec![
        call(Method::POST, ROLLOUTS).answers(serde_json::to_value(rollout()).unwrap()),
        exists(),
    ]);
    let scenario = Scenario::new(client, Arc::default(), vec![]);
    let gateway = gateway("v1");
    let stack = scenario.context.caches.stack("demo");
    let now = scenario.context.now();
    let desired = weir_reconcile::router_rollout::rollouts(&gateway, &stack, &[], now).unwrap();
    for _ in 0..2 {
        let applied = router_rollout::apply(&scenario.context, &gateway, &desired);
        in_time(applied).await.unwrap();
    }
    calls.ended();
    let begun = calls.body(0);
    assert_eq!(begun["metadata"]["name"], "support-v2-1");
    let owner = &begun["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["name"], &owner["controller"]),
        (
            &json!("InferenceGateway"),
            &json!(gateway.name_any()),
            &json!(true)
        )
    );
    assert_eq!(begun["spec"]["from"]["version"], "v1");
}

#[tokio::test]
async fn a_stack_that_does_not_fit_together_keeps_no_candidate_in_the_plan() {
    let (client, _) = conversation(vec![]);
    let mut scenario = Scenario::new(client, Arc::default(), vec![rollout()]);
    scenario.publish();
    let told = || {
        let told = scenario.context.hub.plans.get(&id()).unwrap();
        serde_json::from_slice::<GatewayPlan>(told.plan.as_ref().unwrap()).unwrap()
    };
    assert!(told().candidate.is_some());
    let mut stack = scenario.context.caches.stack("demo");
    stack.routers.clear();
    let hub = scenario.context.hub.clone();
    let publish = |scenario: &Scenario| {
        publisher::publish(&scenario.context.caches, &stack, &hub, ("demo", EPOCH));
    };
    publish(&scenario);
    assert!(told().candidate.is_some(), "the attempt goes on");
    scenario.watch_tells(&json!({"status": {"phase": "RolledBack", "weight": 0}}));
    publish(&scenario);
    let told = scenario.context.hub.plans.get(&id()).unwrap();
    let plan: GatewayPlan = serde_json::from_slice(told.plan.as_ref().unwrap()).unwrap();
    assert_eq!(plan.candidate, None);
    assert!(!told.artifacts.contains(&digest("v2")));
}

#[tokio::test]
async fn a_paused_attempt_says_so_and_its_candidate_answers_nobody() {
    let answer = serde_json::to_value(rollout()).unwrap();
    let (client, calls) = conversation(vec![call(Method::PATCH, STATUS).answers(answer)]);
    let mut paused = rollout();
    let annotations = paused.annotations_mut();
    annotations.insert(weir_crds::PAUSED.into(), "true".into());
    let scenario = Scenario::new(client, Arc::default(), vec![paused]);
    scenario.publish();
    let told = scenario.context.hub.plans.get(&id()).unwrap();
    let plan: GatewayPlan = serde_json::from_slice(told.plan.as_ref().unwrap()).unwrap();
    assert_eq!(plan.candidate, None);
    assert_eq!(scenario.look().await, None);
    let condition = &calls.body(0)["status"]["conditions"][0];
    assert_eq!(condition["type"], "Paused");
    assert_eq!(condition["reason"], "Annotation");
    calls.ended();
}

/// What these pods report, each of one process.
fn reports(pods: &[&str]) -> Reports {
    let report = |pod: &&str| {
        let report = GatewayReport {
            pod: (*pod).to_owned(),
            boot: "1".into(),
            ..GatewayReport::default()
        };
        (report, Duration::ZERO)
    };
    Reports {
        reports: pods.iter().map(report).collect(),
        pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
    }
}

#[tokio::test]
async fn a_status_is_written_at_once_when_a_process_is_gone_or_the_pause_is_over() {
    let attempts = Attempts::default();
    let at = (EPOCH, Timestamp::from_second(1_800_000_000).unwrap());
    let (status, _) = attempts.step(&rollout(), &reports(&["a", "b"]), at);
    attempts.wrote(&rollout());
    let mut shown = rollout();
    shown.status = Some(status);
    let (_, write) = attempts.step(&shown, &reports(&["a", "b"]), at);
    assert!(!write, "nothing is new");

    let mut paused = shown.clone();
    let conditions = &mut paused.status.as_mut().unwrap().conditions;
    conditions.push(conditions[0].clone());
    let (_, write) = attempts.step(&paused, &reports(&["a", "b"]), at);
    assert!(write, "it does not say any more that it is paused");

    let (status, write) = attempts.step(&shown, &reports(&["b"]), at);
    assert_eq!(status.ledger.gone[0].pod, "a");
    assert!(write, "nobody reports for it any more");
    let (_, write) = attempts.step(&shown, &reports(&["b"]), at);
    assert!(write, "the write failed, and nobody else knows of it");
    let mut written = shown.clone();
    written.status = Some(status);
    let (_, write) = attempts.step(&written, &reports(&["b"]), at);
    assert!(!write, "everything is written");
}
