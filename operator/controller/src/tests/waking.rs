//! Who hears of what: a change, another authority, pods that move.

use super::control::id;
use super::conversation::{call, conversation, in_time};
use super::scenario::{digest, filled, gateway, object, version};
use crate::cache::Caches;
use crate::change::Change;
use crate::cluster::Cluster;
use crate::control::relay::OwnTls;
use crate::control::server::Hub;
use crate::key::{Key, Kind};
use crate::lease::Leadership;
use crate::publisher;
use crate::queue::Queue;
use crate::readers::readers;
use crate::{autoscale, run};
use http::Method;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_crds::ModelPool;
use weir_plan::GatewayPlan;
use weir_reconcile::inference_gateway::slow_plan;
use weir_reconcile::names;

fn pool(engine: &Value) -> ModelPool {
    let rest = json!({"spec": {"model": {"name": "small", "source": "hf://o/r/f.gguf"}, "tier": "edge",
                               "privacy": "local", "engine": engine}});
    object("ModelPool", "small", &rest)
}

fn external() -> ModelPool {
    pool(
        &json!({"external": {"url": "http://small", "apiKeySecretRef": {"name": "token", "key": "t"}}}),
    )
}

fn caches(pool: ModelPool) -> Caches {
    caches_with(pool, vec![])
}

fn caches_with(pool: ModelPool, made: Vec<Value>) -> Caches {
    let mut caches = Caches::of(made);
    caches.pools = filled(vec![pool]).as_reader();
    caches.routers = filled(vec![version("v1"), version("v2")]).as_reader();
    caches.gateways = filled(vec![gateway("v1")]).as_reader();
    caches
}

fn key(kind: Kind, name: &str) -> Key {
    Key::new(kind, "demo", name)
}

#[test]
fn a_secret_that_a_pool_names_wakes_the_gateways_whose_plans_carry_it() {
    let change = Change::named("Secret", "demo", "token");
    let expected = [
        key(Kind::ModelPool, "small"),
        key(Kind::InferenceGateway, "support"),
    ];
    assert_eq!(readers(&change, &caches(external())), expected);
    let other = Change::named("Secret", "demo", "other");
    assert_eq!(readers(&other, &caches(external())), []);
}

#[test]
fn kept_bytes_wake_their_version_and_the_gateways_that_start_with_them() {
    let label = (names::ROUTER_LABEL.to_owned(), String::new());
    let change = Change {
        labels: BTreeMap::from([label]),
        ..Change::named("ConfigMap", "demo", &names::router(&digest("v2")))
    };
    let expected = [
        key(Kind::RouterVersion, "v2"),
        key(Kind::InferenceGateway, "support"),
    ];
    assert_eq!(readers(&change, &caches(external())), expected);
}

fn pod(ip: &str) -> Pod {
    let labels = BTreeMap::from([(names::POOL_LABEL, "small")]);
    serde_json::from_value(json!({
        "metadata": {"name": "small-engine-1", "namespace": "demo", "labels": labels},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}
    }))
    .unwrap()
}

#[test]
fn pods_that_move_are_told_while_no_new_plan_can_be_made() {
    let mut pods = filled(vec![pod("10.0.0.1")]);
    let mut caches = caches(pool(&json!({"llamaCpp": {}})));
    caches.pods = pods.as_reader();
    let (hub, stack) = (Hub::default(), caches.stack("demo"));
    publisher::publish(&caches, &stack, &hub, ("demo", 3));
    let first = hub.plans.get(&id()).unwrap();

    let (mut wrong, mut paused) = (stack.clone(), stack);
    wrong.routers.clear();
    let annotations = paused.gateways[0].annotations_mut();
    annotations.insert(weir_crds::PAUSED.into(), "true".into());
    for (stack, ip) in [(wrong, "10.0.0.2"), (paused, "10.0.0.3")] {
        pods.apply_watcher_event(&Event::Apply(pod(ip)));
        publisher::publish(&caches, &stack, &hub, ("demo", 3));
        let told = hub.plans.get(&id()).unwrap();
        assert_eq!(told.revision, first.revision, "the plan is the same");
        let list = String::from_utf8(told.endpoints["small"].1.to_vec()).unwrap();
        assert!(list.contains(ip), "{list}");
    }
}

#[test]
fn pods_that_move_are_told_by_a_leader_that_did_not_make_the_plan() {
    let engine = json!({"llamaCpp": {}});
    let mut before = caches(pool(&engine));
    before.pods = filled(vec![pod("10.0.0.1")]).as_reader();
    let (hub, stack) = (Hub::default(), before.stack("demo"));
    publisher::publish(&before, &stack, &hub, ("demo", 3));
    let first = hub.plans.get(&id()).unwrap();
    let plan: GatewayPlan = serde_json::from_slice(first.plan.as_ref().unwrap()).unwrap();
    let plan = slow_plan(&plan, "demo");
    let on_disk = Secret {
        metadata: ObjectMeta {
            name: Some(names::gateway_plan("support")),
            namespace: Some("demo".into()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(
            names::PLAN_KEY.to_owned(),
            ByteString(serde_json::to_vec(&plan).unwrap()),
        )])),
        ..Secret::default()
    };

    let (mut wrong, mut paused) = (stack.clone(), stack);
    wrong.routers.clear();
    let annotations = paused.gateways[0].annotations_mut();
    annotations.insert(weir_crds::PAUSED.into(), "true".into());
    for stack in [wrong, paused] {
        let made = vec![serde_json::to_value(&on_disk).unwrap()];
        let mut caches = caches_with(pool(&engine), made);
        caches.pods = filled(vec![pod("10.0.0.2")]).as_reader();
        let hub = Hub::default();
        publisher::publish(&caches, &stack, &hub, ("demo", 4));
        let told = hub.plans.get(&id()).unwrap();
        assert_eq!(told.plan, None, "the gateway keeps the one it has");
        assert_eq!(told.artifacts, first.artifacts);
        let (revision, list) = &told.endpoints["small"];
        assert!(*revision > first.endpoints["small"].0);
        let list = String::from_utf8(list.to_vec()).unwrap();
        assert!(list.contains("10.0.0.2"), "{list}");
        assert_eq!(told.endpoints.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn everything_is_looked_at_again_when_the_authority_is_another() {
    let queue = Arc::new(Queue::default());
    let caches = Arc::new(caches(external()));
    let all = caches.keys().len();
    let leads = watch::Sender::new(Leadership::Leader { epoch: 3 });
    let tls = watch::Sender::new(OwnTls::default());
    let causes = (leads.subscribe(), tls.subscribe());
    let looks = run::look_at_everything(caches, queue.clone(), causes, CancellationToken::new());
    let looks = tokio::spawn(looks);
    let drain = async || {
        for _ in 0..all {
            let key = in_time(queue.next()).await;
            queue.done(&key);
        }
    };
    drain().await;
    tls.send_modify(|tls| tls.key = "its own key is renewed".into());
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(queue.len(), 0);
    tls.send_modify(|tls| tls.trusted = "another".into());
    drain().await;
    looks.abort();
}

/// A 0 that is written to `/scale` is a field that nobody owns, and then nobody can tell who writes the next one.
#[tokio::test]
async fn the_first_write_and_each_to_zero_claim_the_replicas() {
    const POOL: &str = "/apis/weir.dev/v1alpha1/namespaces/demo/modelpools/small";
    const SCALE: &str = "/apis/weir.dev/v1alpha1/namespaces/demo/modelpools/small/scale";
    let written = || serde_json::to_value(external()).unwrap();
    let scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {}});
    let apply = || {
        call(Method::PATCH, POOL)
            .with("force=true")
            .answers(written())
    };
    let (client, calls) = conversation(vec![
        apply(),
        call(Method::PATCH, SCALE).answers(scale),
        apply(),
    ]);
    let leads = watch::Sender::new(Leadership::Leader { epoch: 1 });
    let cluster = Cluster::new(client, leads.subscribe());
    let mut claimed = false;
    for replicas in [1, 2, 0] {
        let pool = external();
        let written = autoscale::scale(&cluster, &pool, (replicas, &mut claimed));
        in_time(written).await.unwrap();
    }
    calls.ended();
}

#[tokio::test]
async fn who_does_not_lead_scales_nothing() {
    let (client, calls) = conversation(vec![]);
    let leads = watch::Sender::new(Leadership::Follower { leader: None });
    let cluster = Cluster::new(client, leads.subscribe());
    let written = autoscale::scale(&cluster, &external(), (3, &mut false)).await;
    written.unwrap();
    calls.ended();
}
