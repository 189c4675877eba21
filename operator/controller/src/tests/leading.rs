//! Who leads, by what the lease says.

use super::conversation::{Exchange, call, conversation, in_time};
use crate::cluster::Cluster;
use crate::lease::{ADDRESS, Election, Leadership, Term, Timing};
use http::{Method, StatusCode};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const ALL: &str = "/apis/coordination.k8s.io/v1/namespaces/demo/leases";
const ONE: &str = "/apis/coordination.k8s.io/v1/namespaces/demo/leases/weir-operator";

fn lease(holder: Option<&str>, transitions: u32) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "weir-operator", "namespace": "demo", "resourceVersion": "3",
                     "annotations": {ADDRESS: "10.0.0.9:7443"}},
        "spec": {"holderIdentity": holder, "leaseTransitions": transitions, "leaseDurationSeconds": 12,
                 "renewTime": "2026-01-01T00:00:00.000000Z"},
    })
}

fn get() -> Exchange {
    call(Method::GET, ONE)
}

fn put() -> Exchange {
    call(Method::PUT, ONE).answers(lease(Some("me"), 0))
}

fn election(client: Client) -> Election {
    Election {
        api: Api::namespaced(client, "demo"),
        name: "weir-operator".into(),
        identity: "me".into(),
        address: "10.0.0.1:7443".into(),
        timing: Timing::default(),
        term: Term::default(),
    }
}

/// Runs a candidate until it saw `wanted`, ends it, and gives what it sent.
async fn stand(expected: Vec<Exchange>, wanted: Leadership) -> Vec<Value> {
    let count = expected.len();
    let (client, calls) = conversation(expected);
    let stop = CancellationToken::new();
    let (sender, mut seen) = watch::channel(Leadership::Follower { leader: None });
    let run = tokio::spawn(election(client).run(sender, stop.clone()));
    in_time(seen.wait_for(|now| *now == wanted)).await.unwrap();
    stop.cancel();
    in_time(run).await.unwrap();
    calls.ended();
    (0..count).map(|call| calls.body(call)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_back_is_taken_with_a_higher_epoch_and_given_back_at_the_end() {
    let expected = vec![
        get().answers(lease(None, 4)),
        put(),
        get().answers(lease(Some("me"), 5)),
        put(),
    ];
    let sent = stand(expected, Leadership::Leader { epoch: 5 }).await;
    assert_eq!(sent[1]["spec"]["leaseTransitions"], 5);
    assert_eq!(sent[1]["metadata"]["annotations"][ADDRESS], "10.0.0.1:7443");
    assert_eq!(sent[3]["spec"]["holderIdentity"], Value::Null);
    assert_eq!(sent[3]["spec"]["leaseTransitions"], 5);
}

#[tokio::test(start_paused = true)]
async fn a_holder_is_followed_and_its_address_known() {
    let expected = vec![get().answers(lease(Some("other"), 4))];
    let leader = Some("10.0.0.9:7443".to_owned());
    stand(expected, Leadership::Follower { leader }).await;
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_does_not_renew_is_followed_until_its_time_is_over() {
    // Once a second it is looked at; what it wrote as its time does not count, only that it does not change.
    let mut expected: Vec<Exchange> = (0..=12)
        .map(|_| get().answers(lease(Some("other"), 4)))
        .collect();
    expected.extend([put(), get().answers(lease(Some("me"), 5)), put()]);
    stand(expected, Leadership::Leader { epoch: 5 }).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_starts_at_an_epoch_that_no_plan_has_reached() {
    let mut empty = lease(None, 0);
    empty["spec"] = Value::Null;
    let lost = [
        vec![
            get().refuses(StatusCode::NOT_FOUND, "NotFound", ""),
            call(Method::POST, ALL).answers(lease(Some("me"), 1)),
        ],
        // Helm has made it again.
        vec![get().answers(empty), put()],
    ];
    for expected in lost {
        let (client, _calls) = conversation(expected);
        let (sender, mut seen) = watch::channel(Leadership::Follower { leader: None });
        let run = tokio::spawn(election(client).run(sender, CancellationToken::new()));
        let leads = in_time(seen.wait_for(|now| now.epoch().is_some()))
            .await
            .unwrap()
            .clone();
        run.abort();
        assert!(leads.epoch().unwrap() > 500_000, "{leads:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_again_starts_above_the_epoch_that_was_seen() {
    let far_ahead = 1_000_000_000;
    let expected = vec![
        get().answers(lease(Some("other"), far_ahead)),
        get().refuses(StatusCode::NOT_FOUND, "NotFound", ""),
        call(Method::POST, ALL).answers(lease(Some("me"), 1)),
        get().answers(lease(Some("me"), far_ahead + 1)),
        put(),
    ];
    let epoch = u64::from(far_ahead) + 1;
    let sent = stand(expected, Leadership::Leader { epoch }).await;
    assert_eq!(sent[2]["spec"]["leaseTransitions"], epoch);
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_race_follows() {
    let expected = vec![
        get().answers(lease(None, 4)),
        call(Method::PUT, ONE).refuses(StatusCode::CONFLICT, "Conflict", "changed"),
        get().answers(lease(Some("other"), 5)),
    ];
    let leader = Some("10.0.0.9:7443".to_owned());
    stand(expected, Leadership::Follower { leader }).await;
}

/// A leader whose API server takes this long to write its lease, and then answers no more.
async fn lead_until_nothing_answers(
    writes_in: Duration,
) -> (
    watch::Receiver<Leadership>,
    JoinHandle<()>,
    CancellationToken,
) {
    let never = Duration::from_secs(3600);
    let mut expected = vec![get().answers(lease(None, 4)), put().takes(writes_in)];
    expected.extend((0..20).map(|_| get().takes(never)));
    let (client, _calls) = conversation(expected);
    let (sender, mut seen) = watch::channel(Leadership::Follower { leader: None });
    let stop = CancellationToken::new();
    let run = tokio::spawn(election(client).run(sender, stop.clone()));
    in_time(seen.wait_for(|now| now.epoch() == Some(5)))
        .await
        .unwrap();
    (seen, run, stop)
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_leading_before_another_may_take_over() {
    // The record may have been written as soon as that was asked for, long before the answer came.
    let asked = tokio::time::Instant::now();
    let (mut seen, run, _stop) = lead_until_nothing_answers(Duration::from_secs(2)).await;
    in_time(seen.wait_for(|now| now.epoch().is_none()))
        .await
        .unwrap();
    let led = asked.elapsed();
    let rounding = Duration::from_millis(100);
    assert!(led <= Timing::default().deadline + rounding, "{led:?}");
    run.abort();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_stopped_does_not_wait_for_an_api_server_that_is_away() {
    let (_seen, run, stop) = lead_until_nothing_answers(Duration::ZERO).await;
    stop.cancel();
    in_time(run).await.unwrap();
}

/// A process that was stopped goes on with what it was about to write before it looks at its Lease again.
#[tokio::test(start_paused = true)]
async fn a_leader_that_was_stopped_for_longer_than_its_term_writes_nothing() {
    let (client, calls) = conversation(vec![get().answers(lease(None, 4)), put()]);
    let term = Term::default();
    let election = Election {
        term: term.clone(),
        ..election(client.clone())
    };
    let (sender, mut seen) = watch::channel(Leadership::Follower { leader: None });
    let cluster = Cluster::new(client, sender.subscribe()).during(term);
    let run = tokio::spawn(election.run(sender, CancellationToken::new()));
    in_time(seen.wait_for(|now| now.epoch() == Some(5)))
        .await
        .unwrap();
    assert_eq!(cluster.epoch(), Ok(5));
    run.abort();
    tokio::time::advance(Timing::default().deadline).await;
    assert!(
        seen.borrow().epoch().is_some(),
        "nobody has told it otherwise"
    );
    assert!(cluster.may_write().is_err());
    calls.ended();
}
