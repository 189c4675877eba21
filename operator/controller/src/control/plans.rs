//! What each gateway is told: its plan and, apart from it, the endpoints of the pools that the operator runs.
//!
//! A revision is (epoch of the leader, counter) and grows only when something changed: a plan that says the same is no
//! new plan, and a pod that comes or goes changes one pool's endpoints and nothing else. Which plan is right is decided
//! in `operator/reconcile`.

use crate::control::caller::GatewayId;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use weir_plan::{EmbedderPlan, Endpoint, GatewayPlan, Pool, Revision};
use weir_proto::control::v1 as proto;

/// What one gateway is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Published {
    pub(crate) revision: Revision,
    /// The plan as JSON, with its revision; `None` while this leader could make none and tells of pods only.
    pub(crate) plan: Option<Bytes>,
    /// Lists of endpoints as JSON, each with its own revision, by pool.
    pub(crate) endpoints: BTreeMap<String, (Revision, Bytes)>,
    /// Digests of the artifacts that the plan names.
    pub(crate) artifacts: BTreeSet<String>,
}

/// What a plan names that another leader made.
#[derive(Debug, Default)]
pub(crate) struct Former {
    /// Its pools that the operator runs.
    pub(crate) pools: BTreeSet<String>,
    /// Digests of its artifacts.
    pub(crate) artifacts: BTreeSet<String>,
}

/// Hears what a gateway is told; `None` while nothing is known.
pub(crate) type Subscription = watch::Receiver<Option<Arc<Published>>>;

/// The plans of every gateway.
#[derive(Default)]
pub(crate) struct Plans {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counter: u64,
    gateways: HashMap<GatewayId, Entry>,
}

struct Entry {
    sender: watch::Sender<Option<Arc<Published>>>,
    /// The plan without endpoints and revision, to compare with.
    body: Option<GatewayPlan>,
}

impl Plans {
    /// Publishes a plan when it says something new. True when it does. The endpoints of the pools `in_cluster` travel apart.
    pub(crate) fn publish(
        &self,
        gateway: &GatewayId,
        epoch: u64,
        (mut plan, in_cluster): (GatewayPlan, &BTreeSet<String>),
    ) -> bool {
        let lists = take_endpoints(&mut plan, in_cluster);
        plan.revision = Revision::default();
        let mut state = self.lock();
        let State { counter, gateways } = &mut *state;
        let entry = gateways.entry(gateway.clone()).or_default();
        let before = entry.sender.borrow().clone();
        let before = before.as_deref().filter(|b| b.revision.epoch == epoch);
        let mut next_revision = || next(counter, epoch);
        let mut published = match before {
            Some(before) if entry.body.as_ref() == Some(&plan) => before.clone(),
            _ => {
                let revision = next_revision();
                let artifacts = artifacts(&plan);
                entry.body = Some(plan.clone());
                plan.revision = revision;
                Published {
                    revision,
                    plan: Some(json(&plan)),
                    endpoints: before.map(|b| b.endpoints.clone()).unwrap_or_default(),
                    artifacts,
                }
            }
        };
        published
            .endpoints
            .retain(|pool, _| lists.contains_key(pool));
        for (pool, list) in lists {
            tell(&mut published.endpoints, (pool, &list), &mut next_revision);
        }
        if before == Some(&published) {
            return false;
        }
        entry.sender.send_replace(Some(Arc::new(published)));
        true
    }

    /// Changes the plan that a gateway was told last, while no new plan can be made. True when it says something new then.
    pub(crate) fn amend(
        &self,
        gateway: &GatewayId,
        epoch: u64,
        change: impl FnOnce(&mut GatewayPlan),
    ) -> bool {
        let mut state = self.lock();
        let State { counter, gateways } = &mut *state;
        let Some(entry) = gateways.get_mut(gateway) else {
            return false;
        };
        let before = entry.sender.borrow().clone();
        let before = before.filter(|before| before.revision.epoch == epoch);
        let (Some(before), Some(plan)) = (before, &mut entry.body) else {
            return false;
        };
        let mut amended = plan.clone();
        change(&mut amended);
        if amended == *plan {
            return false;
        }
        plan.clone_from(&amended);
        let revision = next(counter, epoch);
        let plan = GatewayPlan {
            revision,
            ..amended
        };
        entry.sender.send_replace(Some(Arc::new(Published {
            revision,
            plan: Some(json(&plan)),
            endpoints: before.endpoints.clone(),
            artifacts: artifacts(&plan),
        })));
        true
    }

    /// Tells where the pools of the plan are that a gateway was told last, while no new plan can be made. True when that is
    /// news. When that plan was another leader's, `former` says what it names.
    pub(crate) fn move_endpoints(
        &self,
        gateway: &GatewayId,
        epoch: u64,
        now: &BTreeMap<String, Vec<Endpoint>>,
        former: impl FnOnce() -> Option<Former>,
    ) -> bool {
        let mut state = self.lock();
        let State { counter, gateways } = &mut *state;
        let before = gateways.get(gateway);
        let before = before.and_then(|entry| entry.sender.borrow().clone());
        let before = before.filter(|before| before.revision.epoch == epoch);
        let (mut published, pools) = match &before {
            Some(before) => (
                (**before).clone(),
                before.endpoints.keys().cloned().collect(),
            ),
            None => {
                let Some(former) = former() else {
                    return false;
                };
                let published = Published {
                    revision: next(counter, epoch),
                    artifacts: former.artifacts,
                    ..Published::default()
                };
                (published, former.pools)
            }
        };
        for pool in pools {
            let list = now.get(&pool).map_or(&[][..], Vec::as_slice);
            let told = &mut published.endpoints;
            tell(told, (pool, list), || next(counter, epoch));
        }
        if before.as_deref() == Some(&published) {
            return false;
        }
        let entry = gateways.entry(gateway.clone()).or_default();
        if before.is_none() {
            // What this process may have published in an earlier term is not what the gateway serves.
            entry.body = None;
        }
        entry.sender.send_replace(Some(Arc::new(published)));
        true
    }

    /// Hears what a gateway is told from now on.
    pub(crate) fn subscribe(&self, gateway: &GatewayId) -> Subscription {
        let mut state = self.lock();
        let entry = state.gateways.entry(gateway.clone()).or_default();
        entry.sender.subscribe()
    }

    /// What a gateway is told now.
    pub(crate) fn get(&self, gateway: &GatewayId) -> Option<Arc<Published>> {
        let state = self.lock();
        state.gateways.get(gateway)?.sender.borrow().clone()
    }

    /// The plan that this leader told a gateway last, with its revision and without the endpoints of pods.
    pub(crate) fn plan_of(&self, gateway: &GatewayId, epoch: u64) -> Option<GatewayPlan> {
        let state = self.lock();
        let entry = state.gateways.get(gateway)?;
        let revision = entry.sender.borrow().as_ref()?.revision;
        let body = entry.body.clone().filter(|_| revision.epoch == epoch)?;
        Some(GatewayPlan { revision, ..body })
    }

    /// A revision above all that this leader told, for a plan that it can only change and not make.
    pub(crate) fn draw(&self, epoch: u64) -> Revision {
        next(&mut self.lock().counter, epoch)
    }

    /// Forgets gateways that are gone and to which nobody listens.
    pub(crate) fn retain(&self, lives: impl Fn(&GatewayId) -> bool) {
        let mut state = self.lock();
        state
            .gateways
            .retain(|gateway, entry| lives(gateway) || entry.sender.receiver_count() > 0);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            sender: watch::Sender::new(None),
            body: None,
        }
    }
}

fn next(counter: &mut u64, epoch: u64) -> Revision {
    *counter += 1;
    let counter = *counter;
    Revision { epoch, counter }
}

/// Puts in where a pool is, with a revision of its own when that is news.
fn tell(
    told: &mut BTreeMap<String, (Revision, Bytes)>,
    (pool, list): (String, &[Endpoint]),
    revision: impl FnOnce() -> Revision,
) {
    let list = json(&list);
    if told.get(&pool).is_none_or(|(_, same)| *same != list) {
        told.insert(pool, (revision(), list));
    }
}

/// A subscriber's messages: what it was not told yet.
#[derive(Debug, Default)]
pub(crate) struct Told {
    plan: Option<Revision>,
    endpoints: BTreeMap<String, Revision>,
}

impl Told {
    /// The messages that bring the subscriber up to date, the plan first.
    pub(crate) fn catch_up(&mut self, published: &Published) -> Vec<proto::OperatorMessage> {
        use proto::operator_message::Message;
        let mut messages = Vec::new();
        if let Some(plan) = &published.plan
            && self.plan != Some(published.revision)
        {
            self.plan = Some(published.revision);
            messages.push(Message::Plan(proto::Plan {
                revision: Some(revision(published.revision)),
                plan_json: plan.clone(),
            }));
        }
        self.endpoints
            .retain(|pool, _| published.endpoints.contains_key(pool));
        for (pool, (at, list)) in &published.endpoints {
            if self.endpoints.insert(pool.clone(), *at) == Some(*at) {
                continue;
            }
            messages.push(Message::Endpoints(proto::Endpoints {
                revision: Some(revision(*at)),
                pool: pool.clone(),
                endpoints_json: list.clone(),
            }));
        }
        let message = |message| proto::OperatorMessage {
            message: Some(message),
        };
        messages.into_iter().map(message).collect()
    }
}

/// Digests of the artifacts that a plan names.
pub(crate) fn artifacts(plan: &GatewayPlan) -> BTreeSet<String> {
    let candidate = plan.candidate.as_ref();
    let tried = candidate.and_then(|candidate| candidate.router.as_ref());
    let named = plan.router.iter().chain(tried);
    named.map(|router| router.sha256.clone()).collect()
}

/// A revision on the wire.
pub(crate) fn revision(revision: Revision) -> proto::Revision {
    proto::Revision {
        epoch: revision.epoch,
        counter: revision.counter,
    }
}

/// Takes the endpoints of the pools that the operator runs out of a plan; an external pool's address stays.
fn take_endpoints(
    plan: &mut GatewayPlan,
    in_cluster: &BTreeSet<String>,
) -> BTreeMap<String, Vec<Endpoint>> {
    let embedder = plan
        .memory
        .as_mut()
        .and_then(|memory| match &mut memory.embedder {
            EmbedderPlan::Pool(pool) => Some(&mut **pool),
            EmbedderPlan::InProcess { .. } => None,
        });
    let pools = plan.pools.iter_mut().chain(embedder);
    let ours = pools.filter(|pool| in_cluster.contains(&pool.name));
    ours.map(|pool: &mut Pool| (pool.name.clone(), std::mem::take(&mut pool.endpoints)))
        .collect()
}

fn json(value: &impl serde::Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("a plan is plain data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> GatewayId {
        GatewayId {
            namespace: "demo".into(),
            name: "support".into(),
        }
    }

    fn publish(plans: &Plans, epoch: u64, plan: GatewayPlan) -> bool {
        let in_cluster = BTreeSet::from(["small".to_owned()]);
        plans.publish(&id(), epoch, (plan, &in_cluster))
    }

    fn plan(endpoints: &[&str], floor: f64) -> GatewayPlan {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|url| serde_json::json!({"url": url, "apiKey": null}))
            .collect();
        let pool = |name: &str, engine: &str, endpoints: serde_json::Value| {
            serde_json::json!({
                "name": name, "model": name, "upstreamModel": name, "tier": "edge", "privacy": "local",
                "engine": engine, "contextTokens": 2048, "slots": 1, "parameters": 0, "sampling": {},
                "tokenizer": null, "cost": {"promptPerMillion": 0.0, "completionPerMillion": 0.0},
                "performance": {"prefillTokensPerSecond": 1.0, "decodeTokensPerSecond": 1.0}, "endpoints": endpoints,
            })
        };
        serde_json::from_value(serde_json::json!({
            "format": weir_plan::FORMAT, "revision": {"epoch": 0, "counter": 0}, "gateway": "support",
            "pools": [pool("small", "llamaCpp", endpoints.into()),
                      pool("away", "external", serde_json::json!([{"url": "https://away", "apiKey": null}]))],
            "memory": null, "router": null, "objective": weir_plan::Objective::default(),
            "exploration": {"floor": floor, "nearTieMargin": 0.02}, "guardrails": [],
            "privacy": {"default": "local", "max": "local"}, "auth": "anonymous",
            "limits": weir_plan::Limits::default(), "logs": weir_plan::Logs::default(),
        }))
        .unwrap()
    }

    fn kinds(messages: &[proto::OperatorMessage]) -> Vec<&'static str> {
        use proto::operator_message::Message;
        let kind = |message: &proto::OperatorMessage| match message.message {
            Some(Message::Plan(_)) => "plan",
            Some(Message::Endpoints(_)) => "endpoints",
            _ => "other",
        };
        messages.iter().map(kind).collect()
    }

    #[test]
    fn a_plan_that_says_the_same_has_no_new_revision() {
        let plans = Plans::default();
        assert!(publish(&plans, 7, plan(&["http://a"], 0.01)));
        let first = plans.get(&id()).unwrap();
        assert!(!publish(&plans, 7, plan(&["http://a"], 0.01)));
        assert_eq!(plans.get(&id()).unwrap(), first);
        assert!(publish(&plans, 7, plan(&["http://a"], 0.02)));
        let second = plans.get(&id()).unwrap();
        assert!(second.revision > first.revision);
        assert_eq!(second.endpoints, first.endpoints);
    }

    #[test]
    fn a_pod_that_comes_changes_the_endpoints_of_its_pool_alone() {
        let plans = Plans::default();
        publish(&plans, 7, plan(&[], 0.01));
        let mut told = Told::default();
        let first = told.catch_up(&plans.get(&id()).unwrap());
        assert_eq!(
            kinds(&first),
            ["plan", "endpoints"],
            "an empty list is said too"
        );
        publish(&plans, 7, plan(&["http://a"], 0.01));
        let second = told.catch_up(&plans.get(&id()).unwrap());
        assert_eq!(kinds(&second), ["endpoints"]);
        assert!(told.catch_up(&plans.get(&id()).unwrap()).is_empty());
    }

    #[test]
    fn external_addresses_stay_in_the_plan_and_pods_do_not() {
        let plans = Plans::default();
        publish(&plans, 7, plan(&["http://a"], 0.01));
        let published = plans.get(&id()).unwrap();
        let sent: GatewayPlan = serde_json::from_slice(published.plan.as_ref().unwrap()).unwrap();
        assert_eq!(sent.revision, published.revision);
        assert!(sent.pools[0].endpoints.is_empty());
        assert_eq!(sent.pools[1].endpoints[0].url, "https://away");
        assert_eq!(published.endpoints.keys().collect::<Vec<_>>(), ["small"]);
    }

    #[test]
    fn a_new_leader_publishes_again_with_its_epoch() {
        let plans = Plans::default();
        publish(&plans, 7, plan(&["http://a"], 0.01));
        let before = plans.get(&id()).unwrap().revision;
        assert!(publish(&plans, 8, plan(&["http://a"], 0.01)));
        let after = plans.get(&id()).unwrap();
        assert!(after.revision > before);
        assert!(after.endpoints.values().all(|(at, _)| at.epoch == 8));
    }

    fn moved(plans: &Plans, epoch: u64, url: &str, former: Option<Former>) -> bool {
        let endpoint = Endpoint::keyless(url);
        let now = BTreeMap::from([("small".to_owned(), vec![endpoint])]);
        plans.move_endpoints(&id(), epoch, &now, || former)
    }

    #[test]
    fn a_new_leader_without_a_plan_tells_of_the_pods_of_the_former_ones() {
        let former = || Former {
            pools: BTreeSet::from(["small".to_owned()]),
            artifacts: BTreeSet::from(["aa".to_owned()]),
        };
        let plans = Plans::default();
        assert!(!moved(&plans, 8, "http://b", None), "no plan is known");
        assert!(plans.lock().gateways.is_empty(), "nothing is kept of it");
        publish(&plans, 7, plan(&["http://a"], 0.01));
        assert!(moved(&plans, 8, "http://b", Some(former())));
        assert!(!moved(&plans, 8, "http://b", Some(former())), "no news");
        let mut told = Told::default();
        let first = told.catch_up(&plans.get(&id()).unwrap());
        assert_eq!(kinds(&first), ["endpoints"], "the plan is not its own");
        assert_eq!(plans.get(&id()).unwrap().artifacts, former().artifacts);
        let close = |plan: &mut GatewayPlan| plan.auth = weir_plan::Auth::ApiKeys(Vec::new());
        assert!(!plans.amend(&id(), 8, close), "it knows no plan");
        assert!(moved(&plans, 8, "http://c", None), "it knows the pools");

        assert!(publish(&plans, 8, plan(&["http://c"], 0.01)));
        let own = told.catch_up(&plans.get(&id()).unwrap());
        assert_eq!(kinds(&own), ["plan", "endpoints"]);
    }

    #[test]
    fn what_is_amended_has_a_new_revision_and_only_when_it_says_something_new() {
        let plans = Plans::default();
        publish(&plans, 7, plan(&["http://a"], 0.01));
        let before = plans.get(&id()).unwrap();
        assert!(!plans.amend(&id(), 7, |plan| plan.candidate = None));
        let close = |plan: &mut GatewayPlan| plan.auth = weir_plan::Auth::ApiKeys(Vec::new());
        assert!(plans.amend(&id(), 7, close));
        assert!(!plans.amend(&id(), 7, close), "no news");
        let after = plans.get(&id()).unwrap();
        let sent: GatewayPlan = serde_json::from_slice(after.plan.as_ref().unwrap()).unwrap();
        assert_eq!(sent.auth, weir_plan::Auth::ApiKeys(Vec::new()));
        assert!(after.revision > before.revision && sent.revision == after.revision);
        assert_eq!(after.endpoints, before.endpoints);
        assert!(
            !plans.amend(&id(), 8, |plan| plan.gateway.clear()),
            "another's plan"
        );
    }
}
