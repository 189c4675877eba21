//! What is called when something is applied.

use super::conversation::{Exchange, call, conversation, in_time};
use crate::apply::{Applied, Applier, ApplyError, Owner};
use crate::cache::Caches;
use crate::cluster::Cluster;
use crate::drift::{APPLIED, hash};
use crate::lease::Leadership;
use http::{Method, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

const PATH: &str = "/api/v1/namespaces/demo/services/small-engine";

fn owner() -> Owner {
    Owner {
        namespace: "demo".into(),
        uid: "u1".into(),
    }
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name, "namespace": "demo",
            "labels": {"app.kubernetes.io/managed-by": "weir", "weir.dev/pool": "small"},
            "ownerReferences": [{"apiVersion": "weir.dev/v1alpha1", "kind": "ModelPool", "name": "small",
                                 "uid": "u1", "controller": true}],
        },
        "spec": {"ports": [{"port": 8080}]},
    })
}

/// The object as the API server has it after it was applied.
fn live(name: &str) -> Value {
    let mut live = service(name);
    live["metadata"]["annotations"] = json!({APPLIED: hash(&service(name))});
    live["metadata"]["uid"] = "s1".into();
    live["metadata"]["resourceVersion"] = "5".into();
    live["spec"]["ports"][0]["protocol"] = "TCP".into();
    live
}

fn applier(client: Client, leadership: Leadership) -> Applier {
    Applier::new(Cluster::new(
        client,
        watch::Sender::new(leadership).subscribe(),
    ))
}

async fn apply(
    cached: Vec<Value>,
    desired: Vec<Value>,
    expected: Vec<Exchange>,
) -> Result<Applied, ApplyError> {
    let (client, calls) = conversation(expected);
    let applier = applier(client, Leadership::Leader { epoch: 1 });
    let caches = Caches::of(cached);
    let applied = in_time(applier.apply(&caches, &owner(), desired)).await;
    calls.ended();
    applied
}

fn get() -> Exchange {
    call(Method::GET, PATH)
}

fn patch() -> Exchange {
    call(Method::PATCH, PATH).with("fieldManager=weir.dev%2Foperator")
}

#[tokio::test]
async fn what_is_missing_is_created_without_force() {
    let expected = vec![
        get().refuses(StatusCode::NOT_FOUND, "NotFound", ""),
        patch().with("!force").answers(live("small-engine")),
    ];
    let applied = apply(vec![], vec![service("small-engine")], expected)
        .await
        .unwrap();
    assert_eq!(applied.written.len(), 1);
    assert_eq!(applied.refusals, []);
}

/// An API server without a group answers in plain text, so that neither call has a reason that kube knows.
#[tokio::test]
async fn a_kind_that_the_cluster_does_not_know_is_a_refusal_that_says_so() {
    let unknown = "Failed to parse error data";
    let expected = vec![
        get().refuses(StatusCode::NOT_FOUND, unknown, "404 page not found"),
        patch().refuses(StatusCode::NOT_FOUND, unknown, "404 page not found"),
    ];
    let applied = apply(vec![], vec![service("small-engine")], expected)
        .await
        .unwrap();
    let [refusal] = &applied.refusals[..] else {
        panic!("{:?}", applied.refusals)
    };
    assert_eq!(refusal.reason, "KindMissing");
    let said = &refusal.message;
    assert!(
        said.starts_with("Service small-engine: this cluster does not know Service of v1"),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_in_step_costs_no_call() {
    let applied = apply(
        vec![live("small-engine")],
        vec![service("small-engine")],
        vec![],
    )
    .await;
    assert!(applied.unwrap().written.is_empty());
}

#[tokio::test]
async fn an_object_that_was_listed_and_does_not_say_its_kind_is_in_step_too() {
    let (client, calls) = conversation(vec![]);
    let applier = applier(client, Leadership::Leader { epoch: 1 });
    let caches = Caches::of_kind(
        "Service",
        vec![{
            let mut listed = live("small-engine");
            listed.as_object_mut().unwrap().remove("kind");
            listed.as_object_mut().unwrap().remove("apiVersion");
            listed
        }],
    );
    let owner = owner();
    let applied = in_time(applier.apply(&caches, &owner, vec![service("small-engine")])).await;
    assert!(applied.unwrap().written.is_empty());
    calls.ended();
}

#[tokio::test]
async fn a_field_that_is_asked_for_no_more_is_written_though_the_rest_is_there() {
    let mut before = live("small-engine");
    before["metadata"]["annotations"][APPLIED] = "of something with another field".into();
    let expected = vec![patch().answers(live("small-engine"))];
    let applied = apply(vec![before], vec![service("small-engine")], expected)
        .await
        .unwrap();
    assert_eq!(applied.written.len(), 1);
}

#[tokio::test]
async fn an_object_of_somebody_else_is_not_touched() {
    let mut foreign = live("small-engine");
    foreign["metadata"]["ownerReferences"] = json!([]);
    foreign["metadata"]["labels"] = json!({});
    let expected = vec![get().answers(foreign)];
    let applied = apply(vec![], vec![service("small-engine")], expected)
        .await
        .unwrap();
    assert_eq!(applied.refusals[0].reason, "NameTaken");
}

#[tokio::test]
async fn an_object_of_a_namesake_is_not_touched_until_it_is_gone() {
    let mut former = live("small-engine");
    former["metadata"]["ownerReferences"][0]["uid"] = "u0".into();
    let applied = apply(vec![former], vec![service("small-engine")], vec![])
        .await
        .unwrap();
    assert_eq!(applied.refusals[0].reason, "NameTaken");
}

#[tokio::test]
async fn what_outlived_its_owner_is_taken_over() {
    let mut kept = live("small-engine");
    kept["metadata"]["ownerReferences"] = Value::Null;
    let expected = vec![get().answers(kept), patch().answers(live("small-engine"))];
    let applied = apply(vec![], vec![service("small-engine")], expected)
        .await
        .unwrap();
    assert_eq!((applied.written.len(), applied.refusals.len()), (1, 0));
}

#[tokio::test]
async fn a_first_conflict_is_settled_and_a_second_one_is_said() {
    let mut edited = live("small-engine");
    edited["spec"]["ports"][0]["port"] = 9.into();
    let conflict = || {
        patch()
            .with("!force")
            .refuses(StatusCode::CONFLICT, "Conflict", "kubectl has .spec.ports")
    };
    let (client, calls) = conversation(vec![
        conflict(),
        patch().with("force=true").answers(live("small-engine")),
        conflict(),
    ]);
    let applier = applier(client, Leadership::Leader { epoch: 1 });
    let caches = Caches::of(vec![edited]);
    let owner = owner();
    let apply = || applier.apply(&caches, &owner, vec![service("small-engine")]);
    let first = in_time(apply()).await.unwrap();
    assert!(first.corrected[0].contains("kubectl has .spec.ports"));
    let second = in_time(apply()).await.unwrap();
    assert_eq!(second.refusals[0].reason, "FieldConflict");
    calls.ended();
}

#[tokio::test]
async fn what_is_asked_for_no_more_is_deleted_by_its_uid() {
    let expected = vec![
        call(Method::DELETE, "/api/v1/namespaces/demo/services/former").answers(live("former")),
    ];
    let cached = vec![live("small-engine"), live("former")];
    let (client, calls) = conversation(expected);
    let applier = applier(client, Leadership::Leader { epoch: 1 });
    let (caches, owner) = (Caches::of(cached), owner());
    let applied = applier.apply(&caches, &owner, vec![service("small-engine")]);
    in_time(applied).await.unwrap();
    calls.ended();
    assert_eq!(calls.body(0)["preconditions"]["uid"], "s1");
}

#[tokio::test]
async fn nothing_is_deleted_while_something_is_refused() {
    let expected = vec![
        get().refuses(StatusCode::NOT_FOUND, "NotFound", ""),
        patch().refuses(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            "spec.ports: too many",
        ),
    ];
    let cached = vec![live("former")];
    let applied = apply(cached, vec![service("small-engine")], expected)
        .await
        .unwrap();
    assert_eq!(applied.refusals[0].reason, "Invalid");
    assert!(applied.refusals[0].message.contains("too many"));
}

#[tokio::test]
async fn an_api_server_in_trouble_is_asked_again_later() {
    let expected = vec![get().refuses(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "etcd")];
    let applied = apply(vec![], vec![service("small-engine")], expected).await;
    assert!(matches!(applied, Err(ApplyError::Api { step: "read", .. })));
}

#[tokio::test]
async fn who_does_not_lead_does_not_write() {
    let (client, calls) = conversation(vec![]);
    let applier = applier(client, Leadership::Follower { leader: None });
    let mut edited = live("small-engine");
    edited["spec"]["ports"][0]["port"] = 9.into();
    let caches = Caches::of(vec![edited, live("former")]);
    let applied = in_time(applier.apply(&caches, &owner(), vec![service("small-engine")])).await;
    assert!(matches!(applied, Err(ApplyError::NotLeading(_))));
    calls.ended();
}
