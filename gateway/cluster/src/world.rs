//! What is served, and what an offered plan, a list of endpoints or an artifact does to it.
//!
//! One task owns a `World`, so nothing here is locked. Whatever is refused, what was served before stays. Where plans come
//! from is `first.rs` and `control.rs`.

use crate::artifact::{ArtifactError, Artifacts};
use crate::last_good::LastGood;
use crate::memory::{MemoryService, RemoteMemory};
use crate::plan_json::{self, PlanJsonError};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use weir_gateway::gateway::PlanError;
use weir_gateway::{Assets, Gateway, MemoryAsset};
use weir_plan::{Endpoint, GatewayPlan, Pool, Revision, RouterPlan, chain};
use weir_router::Router;

/// What this gateway serves, if it has had a plan yet.
pub(crate) struct World {
    served: Option<Served>,
    /// Whether what is served came from a file, which has the slow part of an operator's plan.
    is_slow: bool,
    /// Lists of endpoints that came by themselves, by pool.
    lists: HashMap<String, List>,
    /// Routers that the plan names, by digest, as far as their artifacts were had.
    routers: HashMap<String, Router>,
    artifacts: Artifacts,
    last_good: Option<LastGood>,
    state: Option<PathBuf>,
    /// The memory service of the plan, once there was one.
    memory: Option<Arc<RemoteMemory>>,
    tls: Option<PathBuf>,
    /// Whether plans come from an operator.
    follows: bool,
    /// Told when the first plan is served.
    first: watch::Sender<Option<Gateway>>,
}

struct Served {
    gateway: Gateway,
    /// As it was offered, with the endpoints of now.
    plan: GatewayPlan,
    router: Router,
    /// What the router that decides is called; `None` for the default one.
    version: Option<RouterPlan>,
}

struct List {
    revision: Revision,
    endpoints: Vec<Endpoint>,
}

/// Where a world keeps things.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(crate) artifacts: Artifacts,
    pub(crate) last_good: Option<LastGood>,
    pub(crate) state: Option<PathBuf>,
    /// The folder of the certificates that memory services ask for.
    pub(crate) tls: Option<PathBuf>,
}

/// Why something offered is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It cannot be read.
    #[error("the plan {0}")]
    Plan(PlanJsonError),
    /// A newer one is served.
    #[error("the plan {}.{} is older than {}.{}, which is served", offered.epoch, offered.counter, serves.epoch, serves.counter)]
    Older { offered: Revision, serves: Revision },
    /// It contradicts itself.
    #[error("the plan cannot be served")]
    Invalid(#[from] PlanError),
    /// A list of endpoints cannot be read.
    #[error("the endpoints of pool {pool:?} are no list of endpoints")]
    Endpoints { pool: String },
}

impl Refusal {
    /// A short, fixed name for metrics and `/readyz`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Plan(error) => error.reason(),
            Self::Older { .. } => "older",
            Self::Invalid(_) => "invalid",
            Self::Endpoints { .. } => "endpoints",
        }
    }
}

impl World {
    /// A world without a plan; the receiver is told of the gateway that the first one makes.
    pub(crate) fn new(places: Places, follows: bool) -> (Self, watch::Receiver<Option<Gateway>>) {
        let (first, made) = watch::channel(None);
        let world = Self {
            served: None,
            is_slow: false,
            lists: HashMap::new(),
            routers: HashMap::new(),
            artifacts: places.artifacts,
            last_good: places.last_good,
            state: places.state,
            memory: None,
            tls: places.tls,
            follows,
            first,
        };
        (world, made)
    }

    /// The plan that is served.
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.served.as_ref().map(|served| served.plan.revision)
    }

    /// The gateway, once there is one.
    pub(crate) fn gateway(&self) -> Option<&Gateway> {
        self.served.as_ref().map(|served| &served.gateway)
    }

    /// The digest of an artifact that the plan names and that is not to be had here.
    pub(crate) fn missing(&self) -> Option<&str> {
        let mut named = versions(&self.served.as_ref()?.plan);
        let missing = named.find(|named| !self.routers.contains_key(&named.sha256));
        missing.map(|named| named.sha256.as_str())
    }

    /// The operator lives, and this is its newest plan. That confirms what is served only if it is the same: a gateway
    /// that could not take the newest one over serves something that may have been called back.
    pub(crate) fn newest(&self, revision: Revision) {
        if let Some(served) = self.served.as_ref()
            && served.plan.revision == revision
        {
            served.gateway.plan_confirmed();
        }
    }

    /// A plan came from the operator.
    pub(crate) fn offer(&mut self, revision: Revision, json: &[u8]) -> Result<(), Refusal> {
        let offered = plan_json::parse(json)
            .map_err(Refusal::Plan)
            .and_then(|plan| self.serve(GatewayPlan { revision, ..plan }, false));
        self.note(offered)
    }

    /// A plan came from a file.
    pub(crate) fn offer_read(&mut self, plan: GatewayPlan) -> Result<(), Refusal> {
        let offered = self.serve(plan, true);
        self.note(offered)
    }

    fn note(&self, offered: Result<(), Refusal>) -> Result<(), Refusal> {
        if let (Err(refusal), Some(gateway)) = (&offered, self.gateway()) {
            gateway.plan_refused(refusal.reason());
        }
        offered
    }

    /// The endpoints of one pool changed: requests are routed to them from now on. A list older than the one that is known
    /// changes nothing.
    pub(crate) fn endpoints(
        &mut self,
        pool: &str,
        revision: Revision,
        json: &[u8],
    ) -> Result<(), Refusal> {
        // The error would quote what stands in the list, which may be a key.
        let endpoints: Vec<Endpoint> =
            serde_json::from_slice(json).map_err(|_| Refusal::Endpoints {
                pool: pool.to_owned(),
            })?;
        let newer = |known: &List| known.revision > revision;
        if self.lists.get(pool).is_some_and(newer) {
            tracing::warn!(pool, ?revision, "older endpoints than those that are known");
            return Ok(());
        }
        if let Some(served) = &mut self.served
            && let Some(known) = served.plan.served_mut(pool)
        {
            known.endpoints.clone_from(&endpoints);
            served.gateway.set_endpoints(pool, endpoints.clone());
            let replicas = endpoints.len();
            tracing::info!(pool, replicas, "the endpoints of a pool changed");
        }
        let list = List {
            revision,
            endpoints,
        };
        self.lists.insert(pool.to_owned(), list);
        Ok(())
    }

    /// The bytes of an artifact came. They are used when they are what the plan asks for.
    pub(crate) fn artifact(&mut self, sha256: &str, bytes: &[u8]) -> Result<(), ArtifactError> {
        let router = self.artifacts.take(sha256, bytes)?;
        let Some(served) = &self.served else {
            return Ok(());
        };
        if versions(&served.plan).any(|named| named.sha256 == sha256) {
            let plan = served.plan.clone();
            self.routers.insert(sha256.to_owned(), router);
            // The same plan was served before, so it is not refused now.
            if let Err(error) = self.apply(plan) {
                tracing::error!(%error, "the plan with its own router was refused");
            }
        }
        Ok(())
    }

    fn serve(&mut self, mut plan: GatewayPlan, is_slow: bool) -> Result<(), Refusal> {
        if let Some(serves) = self.revision() {
            let offered = plan.revision;
            if offered < serves {
                return Err(Refusal::Older { offered, serves });
            }
            // The operator's whole plan completes the part of it that a file had.
            if offered == serves && (is_slow || !self.is_slow) {
                return Ok(());
            }
        }
        self.keep_endpoints(&mut plan);
        self.load_routers(&plan);
        self.apply(plan)?;
        self.is_slow = is_slow;
        let Some(served) = &self.served else {
            return Ok(());
        };
        served.gateway.plan_taken();
        let names: Vec<&str> = served
            .plan
            .served()
            .map(|pool| pool.name.as_str())
            .collect();
        self.lists.retain(|name, _| names.contains(&name.as_str()));
        let named: Vec<&str> = versions(&served.plan)
            .map(|named| named.sha256.as_str())
            .collect();
        self.routers
            .retain(|sha256, _| named.contains(&sha256.as_str()));
        if let Some(last_good) = &self.last_good
            && let Err(error) = last_good.write(&served.plan)
        {
            tracing::error!(
                error = chain(&error),
                "a start without the operator would not find this plan"
            );
        }
        Ok(())
    }

    /// A plan names no endpoints for pools whose endpoints travel by themselves: those that are known stay.
    fn keep_endpoints(&self, plan: &mut GatewayPlan) {
        let served = self.served.as_ref();
        let empty: Vec<String> = plan
            .served()
            .filter(|pool| pool.endpoints.is_empty())
            .map(|pool| pool.name.clone())
            .collect();
        for name in empty {
            let Some(pool) = plan.served_mut(&name) else {
                continue;
            };
            if let Some(list) = self.lists.get(&name) {
                pool.endpoints.clone_from(&list.endpoints);
            } else if let Some(known) = served
                .and_then(|served| served.plan.served().find(|known| known.name == name))
                .filter(|known| is_same(known, pool))
            {
                pool.endpoints.clone_from(&known.endpoints);
            }
        }
    }

    /// Loads what the plan names and is here.
    fn load_routers(&mut self, plan: &GatewayPlan) {
        for RouterPlan { version, sha256 } in versions(plan) {
            if self.routers.contains_key(sha256) {
                continue;
            }
            match self.artifacts.find(sha256) {
                Some(router) => {
                    self.routers.insert(sha256.clone(), router);
                }
                None => tracing::warn!(version, sha256, "a router version's artifact is not here"),
            }
        }
    }

    /// The router that decides and what it is called: the one that a plan names, or the present one while that is not to
    /// be had.
    fn active(&self, plan: &GatewayPlan) -> (Router, Option<RouterPlan>) {
        let Some(wanted) = &plan.router else {
            return (Router::builtin(), None);
        };
        match (self.routers.get(&wanted.sha256), &self.served) {
            (Some(router), _) => (router.clone(), Some(wanted.clone())),
            (None, Some(served)) => (served.router.clone(), served.version.clone()),
            (None, None) => (Router::builtin(), None),
        }
    }

    /// The router of the version that is tried, if it is here. While the router that decides is not the one of the plan
    /// nothing is tried: what would be counted is not about the two versions of the rollout.
    fn candidate(&self, plan: &GatewayPlan, decides: Option<&RouterPlan>) -> Option<Router> {
        let candidate = plan.candidate.as_ref()?;
        if plan.router.as_ref() != decides {
            return None;
        }
        match &candidate.router {
            Some(wanted) => self.routers.get(&wanted.sha256).cloned(),
            None => Some(Router::builtin()),
        }
    }

    /// The memory service that a plan names; the present one where it is the same. A gateway in a cluster opens no store
    /// itself.
    fn memory_of(&self, plan: &GatewayPlan) -> Option<Arc<RemoteMemory>> {
        let service = MemoryService::of(plan.memory.as_ref()?, self.tls.clone()?)?;
        let present = self.memory.as_ref();
        match present.filter(|memory| *memory.service() == service) {
            Some(memory) => Some(Arc::clone(memory)),
            None => Some(Arc::new(RemoteMemory::new(service))),
        }
    }

    fn apply(&mut self, plan: GatewayPlan) -> Result<(), PlanError> {
        let (router, version) = self.active(&plan);
        let memory = self.memory_of(&plan);
        if plan.memory.is_some() && memory.is_none() {
            tracing::warn!(
                "the plan's memory is no service, or there are no certificates to ask it with: nothing is recalled"
            );
        }
        let service = memory.clone();
        let assets = Assets {
            memory: service.map(|service| MemoryAsset::Service(service)),
            router: router.clone(),
            candidate: self.candidate(&plan, version.as_ref()),
            counters: HashMap::new(),
            state_dir: self.state.clone(),
        };
        // What is served names the router that decides, also while that is not the one of the plan.
        let shown = GatewayPlan {
            router: version.clone(),
            memory: plan.memory.clone().filter(|_| memory.is_some()),
            ..plan.clone()
        };
        let gateway = match self.served.take() {
            Some(served) => {
                if let Err(error) = served.gateway.apply(shown, assets) {
                    self.served = Some(served);
                    return Err(error);
                }
                served.gateway
            }
            None => Gateway::new(shown, assets)?,
        };
        self.memory = memory;
        if self.follows {
            gateway.follow_operator();
        }
        let (epoch, counter) = (plan.revision.epoch, plan.revision.counter);
        tracing::info!(epoch, counter, pools = plan.pools.len(), "a plan is served");
        self.served = Some(Served {
            gateway: gateway.clone(),
            plan,
            router,
            version,
        });
        gateway.router_missing(self.missing().map(str::to_owned));
        if self.first.borrow().is_none() {
            self.first.send_replace(Some(gateway));
        }
        Ok(())
    }
}

/// The router versions that a plan names.
fn versions(plan: &GatewayPlan) -> impl Iterator<Item = &RouterPlan> {
    let candidate = plan.candidate.as_ref();
    let tried = candidate.and_then(|candidate| candidate.router.as_ref());
    plan.router.iter().chain(tried)
}

/// Whether the endpoints of one of two pools of the same name are good for the other.
pub(crate) fn is_same(one: &Pool, other: &Pool) -> bool {
    one.model == other.model
        && one.upstream_model == other.upstream_model
        && one.privacy == other.privacy
        && one.engine == other.engine
}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests;
