//! From the caches to what gateways are told: a plan per gateway, made again whenever its namespace changed.
//!
//! Only the leader makes plans. Changes that come together are answered together: a short wait, longer where making a
//! plan takes long, so that a storm of changes costs a bounded share of one processor. A gateway whose stack does not
//! fit together, or that is paused, keeps its last plan; its conditions say why. It still hears where its pools' pods are, also from
//! a leader that did not make that plan: which pools it names is in the copy that the gateway starts with. A gateway that was
//! told another plan is reconciled, which writes that copy.

use crate::cache::{Caches, listed};
use crate::context::Stacks;
use crate::control::caller::GatewayId;
use crate::control::plans::{Former, artifacts};
use crate::control::server::Hub;
use crate::inference_gateway::plan_on_disk;
use crate::key::{Key, Kind};
use crate::lease::Leadership;
use crate::queue::Queue;
use crate::router_rollout;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_crds::{InferenceGateway, RouterRollout};
use weir_plan::{Endpoint, GatewayPlan, Revision};
use weir_reconcile::condition::is_paused;
use weir_reconcile::{
    Stack, inference_gateway, model_pool, names, plan, still_accepted, still_may_ask,
};

/// Shortest wait for more changes.
const GATHER: Duration = Duration::from_millis(20);
/// Longest wait for more changes.
const GATHER_MAX: Duration = Duration::from_millis(500);

/// Namespaces whose plans may be out of date.
#[derive(Default)]
pub(crate) struct Dirty {
    namespaces: Mutex<BTreeSet<String>>,
    marked: Notify,
}

impl Dirty {
    /// Something in a namespace changed.
    pub(crate) fn mark(&self, namespace: &str) {
        let mut all = self
            .namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.insert(namespace.to_owned());
        drop(all);
        self.marked.notify_one();
    }

    fn take(&self) -> BTreeSet<String> {
        let mut all = self
            .namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *all)
    }
}

/// Publishes until `stop`.
pub(crate) async fn run(
    (caches, stacks, hub): (Arc<Caches>, Arc<Stacks>, Arc<Hub>),
    (dirty, queue): (Arc<Dirty>, Arc<Queue>),
    mut leadership: watch::Receiver<Leadership>,
    stop: CancellationToken,
) {
    let mut gather = GATHER;
    let mut led = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = dirty.marked.notified() => {}
            _ = leadership.changed() => {}
        }
        tokio::time::sleep(gather).await;
        let epoch = leadership.borrow_and_update().epoch();
        let mut namespaces = dirty.take();
        if epoch != led {
            led = epoch;
            let gateways = caches.gateways.state();
            namespaces.extend(gateways.iter().filter_map(|gateway| gateway.namespace()));
        }
        let Some(epoch) = epoch else {
            continue;
        };
        let start = Instant::now();
        for namespace in namespaces {
            let stack = stacks.get(&caches, &namespace);
            for gateway in publish(&caches, &stack, &hub, (&namespace, epoch)) {
                queue.add(Key::new(Kind::InferenceGateway, &namespace, &gateway));
            }
        }
        gather = (start.elapsed() * 2).clamp(GATHER, GATHER_MAX);
    }
}

/// Publishes the plan of every gateway of a namespace. Says which of them are told another one than before.
pub(crate) fn publish(
    caches: &Caches,
    stack: &Stack,
    hub: &Hub,
    (namespace, epoch): (&str, u64),
) -> Vec<String> {
    if stack.gateways.is_empty() {
        return Vec::new();
    }
    let endpoints = endpoints(caches, namespace);
    let rollouts = listed(&caches.rollouts, namespace);
    let mut told = Vec::new();
    for gateway in &stack.gateways {
        let id = GatewayId {
            namespace: namespace.to_owned(),
            name: gateway.name_any(),
        };
        let revision = || hub.plans.get(&id).map(|published| published.revision);
        let before = revision();
        publish_one(
            (caches, hub),
            (gateway, stack),
            (&id, epoch),
            (&endpoints, &rollouts),
        );
        if revision() != before {
            told.push(id.name);
        }
    }
    told
}

fn publish_one(
    (caches, hub): (&Caches, &Hub),
    (gateway, stack): (&InferenceGateway, &Stack),
    (id, epoch): (&GatewayId, u64),
    (endpoints, rollouts): (&BTreeMap<String, Vec<Endpoint>>, &[RouterRollout]),
) {
    if is_paused(&gateway.metadata) {
        let change = |plan: &mut GatewayPlan| plan.candidate = None;
        keep((caches, hub), (id, epoch), endpoints, change);
        return;
    }
    let mut observed = inference_gateway::observed(gateway, stack, endpoints, Revision::default());
    observed.routers = router_rollout::served(gateway, stack, rollouts);
    let routers = observed.routers.as_ref();
    let is_tried = routers.is_some_and(|routers| routers.candidate.is_some());
    match plan(stack, &id.name, &observed) {
        Ok(plan) => {
            let in_cluster = inference_gateway::pools_in_cluster(&plan, stack);
            let in_cluster = in_cluster.iter().map(|pool| pool.name.clone()).collect();
            if hub.plans.publish(id, epoch, (plan, &in_cluster)) {
                metrics::counter!("weir_plans_published_total").increment(1);
                tracing::debug!(gateway = %id.uri(), "published");
            }
        }
        Err(problems) => {
            tracing::debug!(gateway = %id.uri(), problems = problems.len(), "no new plan");
            let change = |plan: &mut GatewayPlan| {
                plan.candidate = plan.candidate.take().filter(|_| is_tried);
                plan.auth = still_may_ask(stack, gateway, &plan.auth);
                plan.jwt = still_accepted(gateway, plan.jwt.as_ref());
            };
            keep((caches, hub), (id, epoch), endpoints, change);
        }
    }
}

/// Keeps the last plan of a gateway for which none can be made now, but for what may not wait: a candidate that nobody tries
/// any more goes, keys that were taken back open nothing, and pods are where they are now.
fn keep(
    (caches, hub): (&Caches, &Hub),
    (id, epoch): (&GatewayId, u64),
    endpoints: &BTreeMap<String, Vec<Endpoint>>,
    change: impl FnOnce(&mut GatewayPlan),
) {
    if hub.plans.amend(id, epoch, change) {
        metrics::counter!("weir_plans_published_total").increment(1);
        tracing::info!(gateway = %id.uri(), "the last plan goes on, with other keys or without its candidate");
    }
    let former = || {
        let plan = plan_on_disk(caches, &id.namespace, &id.name)?;
        let pools = inference_gateway::pools_of_slow_plan(&plan, &id.namespace);
        Some(Former {
            pools: pools.map(str::to_owned).collect(),
            artifacts: artifacts(&plan),
        })
    };
    if hub.plans.move_endpoints(id, epoch, endpoints, former) {
        metrics::counter!("weir_plans_published_total").increment(1);
        tracing::debug!(gateway = %id.uri(), "published endpoints");
    }
}

/// The endpoints of the pools of a namespace, by pool.
pub(crate) fn endpoints(caches: &Caches, namespace: &str) -> BTreeMap<String, Vec<Endpoint>> {
    let mut pods: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
    for pod in caches.pods.state() {
        let of_namespace = pod.metadata.namespace.as_deref() == Some(namespace);
        if let Some(pool) = pod.labels().get(names::POOL_LABEL).filter(|_| of_namespace) {
            pods.entry(pool.clone()).or_default().push((*pod).clone());
        }
    }
    let pools = pods.into_iter();
    pools
        .map(|(pool, pods)| (pool, model_pool::endpoints(&pods)))
        .collect()
}
