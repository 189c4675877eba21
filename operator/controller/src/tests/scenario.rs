//! The cluster of one namespace with a rollout, and a context in which a test reconciles it.

use super::conversation::in_time;
use crate::apply::Applier;
use crate::artifacts::Artifacts;
use crate::authority::Keeper;
use crate::cache::Caches;
use crate::cluster::Cluster;
use crate::context::Context;
use crate::control::server::Hub;
use crate::events::Events;
use crate::key::{Key, Kind};
use crate::lease::Leadership;
use crate::pki::Identity;
use crate::reach::Reaches;
use crate::router_rollout::Attempts;
use crate::status::Statuses;
use crate::{publisher, router_rollout};
use kube::Client;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use weir_crds::{InferenceGateway, ModelPool, RouterRollout, RouterVersion};

/// Of the leader.
pub(super) const EPOCH: u64 = 3;

/// The cluster of one namespace: caches that the test fills, and an API server that says what is expected.
pub(super) struct Scenario {
    pub(super) context: Context,
    rollouts: Writer<RouterRollout>,
    _leads: watch::Sender<Leadership>,
}

pub(super) fn object<K: serde::de::DeserializeOwned>(kind: &str, name: &str, rest: &Value) -> K {
    let mut document = json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "demo", "uid": name, "generation": 1,
                     "labels": {"app": "demo"}},
    });
    for (field, value) in rest.as_object().unwrap() {
        document[field] = value.clone();
    }
    serde_json::from_value(document).unwrap()
}

pub(super) fn digest(version: &str) -> String {
    version.replace('v', "a").repeat(32)
}

pub(super) fn version(name: &str) -> RouterVersion {
    let rest = json!({
        "spec": {"artifact": {"configMap": {"name": name}}, "sha256": digest(name)},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Verified", "message": "",
                    "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    object("RouterVersion", name, &rest)
}

pub(super) fn gateway(active: &str) -> InferenceGateway {
    let rest = json!({
        "spec": {"pools": {"matchLabels": {"app": "demo"}}, "router": {"version": "v2"},
                 "auth": {"anonymous": {}}},
        "status": {"router": {"active": active, "activeSha256": digest(active), "attempts": 0}},
    });
    object("InferenceGateway", "support", &rest)
}

fn pool() -> ModelPool {
    let rest = json!({"spec": {"model": {"name": "small"}, "tier": "edge", "privacy": "local",
                               "engine": {"external": {"url": "http://small"}}}});
    object("ModelPool", "small", &rest)
}

pub(super) fn rollout() -> RouterRollout {
    let rest = json!({
        "spec": {
            "gateway": "support", "action": "Continue",
            "from": {"version": "v1", "sha256": digest("v1")},
            "to": {"version": "v2", "sha256": digest("v2")},
            "shadow": {"requests": 10}, "gate": {},
            "canary": {"steps": [25, 50], "requestsPerStep": 100},
        },
        "status": {"phase": "Canary", "step": 1, "weight": 25, "reason": "Collecting"},
    });
    object("RouterRollout", "support-v2-1", &rest)
}

pub(super) fn filled<K>(objects: Vec<K>) -> Writer<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let mut writer = Writer::default();
    for object in objects {
        writer.apply_watcher_event(&Event::Apply(object));
    }
    writer
}

impl Scenario {
    pub(super) fn new(client: Client, hub: Arc<Hub>, rollouts: Vec<RouterRollout>) -> Self {
        Self::with(client, hub, rollouts, gateway("v1"), vec![])
    }

    /// The same with this gateway, and with what Weir has made.
    pub(super) fn with(
        client: Client,
        hub: Arc<Hub>,
        rollouts: Vec<RouterRollout>,
        gateway: InferenceGateway,
        made: Vec<Value>,
    ) -> Self {
        let rollouts = filled(rollouts);
        let mut caches = Caches::of(made);
        caches.pools = filled(vec![pool()]).as_reader();
        caches.routers = filled(vec![version("v1"), version("v2")]).as_reader();
        caches.gateways = filled(vec![gateway]).as_reader();
        caches.rollouts = rollouts.as_reader();
        let leads = watch::Sender::new(Leadership::Leader { epoch: EPOCH });
        let cluster = Cluster::new(client, leads.subscribe());
        let own = Identity {
            uri: "weir://weir-system/operator".into(),
            dns: Vec::new(),
        };
        let events = Events::new(cluster.clone(), "me");
        let context = Context {
            caches: Arc::new(caches),
            stacks: Arc::default(),
            applier: Applier::new(cluster.clone()),
            statuses: Statuses::new(cluster.clone(), events),
            hub,
            keeper: Arc::new(Keeper::new(cluster.clone(), "weir-system", own)),
            reaches: Arc::new(Reaches::new().unwrap()),
            benchmarks: Arc::default(),
            descriptions: Arc::default(),
            attempts: Attempts::default(),
            started_with: weir_reconcile::Platform::default(),
            ca_bundle: Arc::default(),
            artifacts: Arc::new(Artifacts::new(Arc::default(), Arc::default())),
            artifact_hosts: Vec::new(),
            cluster,
        };
        Self {
            context,
            rollouts,
            _leads: leads,
        }
    }

    /// Names the gateways that were told another plan.
    pub(super) fn publish(&self) -> Vec<String> {
        let (caches, hub) = (&self.context.caches, &self.context.hub);
        publisher::publish(caches, &caches.stack("demo"), hub, ("demo", EPOCH))
    }

    pub(super) async fn look(&self) -> Option<Duration> {
        let key = Key::new(Kind::RouterRollout, "demo", "support-v2-1");
        in_time(router_rollout::reconcile(&self.context, &key))
            .await
            .unwrap()
    }

    /// The API server's watch tells of the rollout with this status.
    pub(super) fn watch_tells(&mut self, patch: &Value) {
        let mut document = serde_json::to_value(rollout()).unwrap();
        for (field, value) in patch["status"].as_object().unwrap() {
            document["status"][field] = value.clone();
        }
        let told = serde_json::from_value(document).unwrap();
        self.rollouts.apply_watcher_event(&Event::Apply(told));
    }
}
