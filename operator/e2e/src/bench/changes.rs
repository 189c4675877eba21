//! From a change in the API server to the gateway that serves it, one change at a time.
//!
//! A pod's readiness is flipped by its status, a price by the pool's spec. A gateway tells of a plan, not of what is in
//! it: the plan it keeps on its disk says whether the change was in that one. The controller manager's EndpointSlice, which
//! every Service of Kubernetes routes by, is the peer.

use crate::cluster::{POOL_OF_PODS, Stack, external};
use crate::node::Node;
use crate::process::{Gateway, What};
use anyhow::{Result, bail};
use futures_util::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two changes: what one of them sets in motion ends before the next.
const PAUSE: Duration = Duration::from_millis(150);
/// A slice that did not change by then counts as never changed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses that lead nowhere (RFC 5737).
const ADDRESSES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

/// Milliseconds; infinite for what never arrived.
pub(crate) struct Times {
    /// From before the request was sent.
    pub(crate) sent: Vec<f64>,
    /// From when it was answered.
    pub(crate) answered: Vec<f64>,
    /// From before the request was sent to the EndpointSlice, seen by a watch.
    pub(crate) slices: Vec<f64>,
}

impl Times {
    fn with_capacity(count: usize) -> Self {
        Self {
            sent: Vec::with_capacity(count),
            answered: Vec::with_capacity(count),
            slices: Vec::with_capacity(count),
        }
    }
}

/// Milliseconds, or what a missing change counts as.
fn ms(from: jiff::Timestamp, to: Option<jiff::Timestamp>) -> f64 {
    to.map_or(f64::INFINITY, |to| {
        to.duration_since(from).as_secs_f64() * 1000.0
    })
}

/// One of two pods becomes unready and ready again.
pub(crate) async fn flips(
    (stack, node, pods): (&Stack, &Node, &[String]),
    gateway: &mut Gateway,
    count: usize,
) -> Result<Times> {
    let [steady, moving] = pods else {
        bail!("two pods are needed, there are {}", pods.len());
    };
    let mut slices = slices(stack);
    node.report(stack, (steady, ADDRESSES[0]), true).await?;
    node.report(stack, (moving, ADDRESSES[1]), true).await?;
    gateway.next(|what| is_pods(what, 2)).await;
    ready(&mut slices, 2).await;
    let mut times = Times::with_capacity(count);
    for flip in 0..count {
        tokio::time::sleep(PAUSE).await;
        gateway.forget();
        let up = flip % 2 == 1;
        let replicas = if up { 2 } else { 1 };
        let sent = Timestamp::now();
        node.report(stack, (moving, ADDRESSES[1]), up).await?;
        let answered = Timestamp::now();
        let served = gateway.next(|what| is_pods(what, replicas)).await;
        let served = served.map(|news| news.at);
        times.sent.push(ms(sent, served));
        times.answered.push(ms(answered, served));
        times
            .slices
            .push(ms(sent, ready(&mut slices, replicas).await));
    }
    node.report(stack, (moving, ADDRESSES[1]), true).await?;
    Ok(times)
}

fn is_pods(what: &What, replicas: usize) -> bool {
    *what == What::Endpoints(POOL_OF_PODS.into(), replicas)
}

/// When the pool's EndpointSlices changed, and how many endpoints were ready then.
fn slices(stack: &Stack) -> mpsc::UnboundedReceiver<(Timestamp, usize)> {
    let api: Api<EndpointSlice> = Api::namespaced(stack.client.clone(), &stack.namespace);
    let label = format!("kubernetes.io/service-name={POOL_OF_PODS}-engine");
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let params = WatchParams::default().labels(&label);
        let Ok(events) = api.watch(&params, "0").await else {
            return;
        };
        let mut events = pin!(events);
        while let Some(Ok(event)) = events.next().await {
            let (WatchEvent::Added(slice) | WatchEvent::Modified(slice)) = event else {
                continue;
            };
            let is_ready = |conditions: &k8s_openapi::api::discovery::v1::EndpointConditions| {
                conditions.ready == Some(true)
            };
            let endpoints = slice.endpoints.iter();
            let ready = endpoints.filter(|one| one.conditions.as_ref().is_some_and(is_ready));
            if sender.send((Timestamp::now(), ready.count())).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn ready(
    slices: &mut mpsc::UnboundedReceiver<(Timestamp, usize)>,
    wanted: usize,
) -> Option<Timestamp> {
    let wait = async {
        loop {
            let (at, ready) = slices.recv().await?;
            if ready == wanted {
                return Some(at);
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.ok().flatten()
}

/// The price of one external pool after the other changes.
pub(crate) async fn prices(
    (stack, pools): (&Stack, usize),
    gateway: &mut Gateway,
    count: usize,
) -> Result<Times> {
    let api = stack.pools();
    let mut times = Times::with_capacity(count);
    for change in 0..count {
        tokio::time::sleep(PAUSE).await;
        gateway.forget();
        // Far apart, so that their place in a list is no advantage.
        let pool = external(change * 617 % pools);
        let price = u32::try_from(change + 1)?;
        let patch = json!({"spec": {"cost": {"completionPerMillion": price}}});
        let sent = Timestamp::now();
        api.patch(&pool, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        let answered = Timestamp::now();
        let served = gateway.next_plan(|plan| is_priced(plan, (&pool, price)));
        let served = served.await;
        times.sent.push(ms(sent, served));
        times.answered.push(ms(answered, served));
    }
    Ok(times)
}

/// Whether the plan has this pool at this price.
fn is_priced(plan: &Value, (pool, price): (&str, u32)) -> bool {
    let pools = plan["pools"].as_array().into_iter().flatten();
    let mut named = pools.filter(|one| one["name"] == pool);
    named.any(|one| one["cost"]["completionPerMillion"] == f64::from(price))
}
