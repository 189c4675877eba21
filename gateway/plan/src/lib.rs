//! `GatewayPlan`: everything a gateway knows about the world, as plain data.
//!
//! The operator (or `weir up`, in process) makes a plan from the custom resources and the observed endpoints with one
//! pure function, `operator/reconcile/src/plan.rs`; the gateway serves it and never asks an API server. This crate owns
//! the shape of that message and nothing else: no I/O, no async, no decisions. Reading on: `pool.rs`, `policy.rs`.

mod chain;
mod jwt;
mod policy;
mod pool;

pub use chain::chain;
pub use jwt::{JwtKeys, JwtPlan};
pub use policy::{
    ANONYMOUS, ApiKey, Auth, Beyond, Budgets, Exploration, Guardrail, GuardrailAction, Limits,
    LogSink, Logs, Objective, PrivacyLimits, QueryText, Scope, TenantLimits, TracesPlan,
};
pub use pool::{
    Cost, Endpoint, EngineKind, Performance, Pool, Privacy, SamplingDefaults, Secret, Tier,
    TokenizerApi, Vocabulary, WhenCold,
};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the plan's format that this build writes.
///
/// A gateway serves plans one minor version older or newer and refuses others by name.
pub const FORMAT: PlanFormat = PlanFormat { major: 1, minor: 0 };

/// Version of the plan's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFormat {
    /// Changes when older gateways cannot serve the plan.
    pub major: u32,
    /// Changes when fields are added.
    pub minor: u32,
}

/// Where a plan stands in the order of plans: later `(epoch, counter)` wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revision {
    /// Grows with every change of the publisher.
    pub epoch: u64,
    /// Grows with every plan of one publisher.
    pub counter: u64,
}

/// Everything one gateway serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayPlan {
    /// Format of this message.
    pub format: PlanFormat,
    /// Order among plans.
    pub revision: Revision,
    /// Name of the `InferenceGateway`.
    pub gateway: String,
    /// Pools in ascending order of capability: the index of a pool is its rank.
    pub pools: Vec<Pool>,
    /// The memory to recall from, if the gateway names one.
    pub memory: Option<MemoryPlan>,
    /// The router version to decide with; `None` means the default artifact that Weir ships.
    pub router: Option<RouterPlan>,
    /// The version that is tried beside it, while a rollout runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidatePlan>,
    /// How time and money are weighed against quality.
    pub objective: Objective,
    /// How much the router explores.
    pub exploration: Exploration,
    /// Rules that override the router, first match wins.
    pub guardrails: Vec<Guardrail>,
    /// How far a request may go.
    pub privacy: PrivacyLimits,
    /// What holds for single tenants, by name. It only narrows what holds for all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<String, TenantLimits>,
    /// Who may ask.
    pub auth: Auth,
    /// Whose tokens open beside the keys of `auth`; `None` where no token does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtPlan>,
    /// How answers are kept; `None` where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CachePlan>,
    /// Bounds on size, time and concurrency.
    pub limits: Limits,
    /// What is written down about decisions.
    pub logs: Logs,
    /// Where the times of requests go; nowhere without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<TracesPlan>,
}

/// The memory a gateway recalls from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryPlan {
    /// Name of the `MemoryStore`.
    pub name: String,
    /// Name of the embedding model, part of the store's identity.
    pub embedding_model: String,
    /// Length of a vector.
    pub dimensions: usize,
    /// Address of the memory service, `https://...`; `None` for a store that the gateway's process opens itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Where vectors come from.
    pub embedder: EmbedderPlan,
    /// Nodes that the search hands to attention.
    pub seeds: usize,
    /// Hops walked from the seeds.
    pub hops: usize,
    /// Largest subgraph attention sees.
    pub nodes_max: usize,
    /// How what is recalled together is summarised; `None` where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summaries: Option<SummariesPlan>,
}

/// How what is recalled together is summarised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SummariesPlan {
    /// Name of the pool, one of [`GatewayPlan::pools`], that writes summaries.
    pub pool: String,
    /// Least attention of a node, relative to the node with the most, for it to be summarised.
    pub min_attention: f32,
}

/// Where vectors come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EmbedderPlan {
    /// In process, from a source that the gateway's host resolved to files.
    InProcess {
        /// A directory with `model.safetensors`, `tokenizer.json` and `config.json`.
        source: String,
    },
    /// A pool's `/v1/embeddings`. The pool stands here and not in [`GatewayPlan::pools`]: it answers no questions, so the
    /// router must not choose it.
    Pool(Box<Pool>),
}

/// How answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachePlan {
    /// Answers that this process keeps.
    pub entries_max: u32,
    /// How long one is given again.
    pub ttl_ms: u64,
    /// Whether one is also given to a question that differs in nothing but how it is written.
    #[serde(default)]
    pub near_duplicates: bool,
}

/// A router version by name and content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterPlan {
    /// Name of the `RouterVersion`.
    pub version: String,
    /// SHA-256 of the artifact, lower-case hexadecimal. The bytes travel beside the plan.
    pub sha256: String,
}

/// A router version that is tried beside the active one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CandidatePlan {
    /// The version; `None` means the default artifact that Weir ships.
    pub router: Option<RouterPlan>,
    /// Name of the `RouterRollout`: evidence is counted under it, and users are assigned by it.
    pub rollout: String,
    /// The rollout's uid: one that is made again under its name begins to count at zero.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Who gets the candidate's answers.
    pub phase: CandidatePhase,
}

/// Who gets a candidate's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CandidatePhase {
    /// Nobody: both versions decide, the active one is dispatched.
    Shadow,
    /// A share of users.
    Canary {
        /// Percent of users.
        weight: u32,
    },
}

impl CandidatePhase {
    /// Percent of users that the candidate is dispatched to.
    pub fn weight(self) -> u32 {
        match self {
            Self::Shadow => 0,
            Self::Canary { weight } => weight,
        }
    }
}

impl RouterPlan {
    /// What the default artifact of Weir is called where a version's name is expected.
    pub const BUILTIN: &str = "builtin";
}

impl GatewayPlan {
    /// The least that can be served: these pools, for whoever asks, by the default router, which explores nothing. Requests stay
    /// on this machine, and nothing is remembered or written down.
    pub fn least(gateway: &str, pools: Vec<Pool>) -> Self {
        Self {
            format: FORMAT,
            revision: Revision::default(),
            gateway: gateway.to_owned(),
            pools,
            memory: None,
            router: None,
            candidate: None,
            objective: Objective::default(),
            exploration: Exploration {
                floor: 0.0,
                near_tie_margin: 0.0,
            },
            guardrails: Vec::new(),
            privacy: PrivacyLimits {
                default: Privacy::Local,
                max: Privacy::Local,
            },
            tenants: BTreeMap::new(),
            auth: Auth::Anonymous,
            jwt: None,
            cache: None,
            limits: Limits::default(),
            logs: Logs {
                sink: LogSink::None,
                query_text: QueryText::None,
            },
            traces: None,
        }
    }

    /// The pool that serves `model`, with its rank.
    pub fn pool_for_model(&self, model: &str) -> Option<(usize, &Pool)> {
        self.pools
            .iter()
            .enumerate()
            .find(|(_, pool)| pool.model == model)
    }

    /// How far a request of a tenant may travel: the least of what it says, of what the gateway allows and of what the
    /// tenant is allowed.
    pub fn privacy_of(&self, tenant: &str, asked: Option<Privacy>) -> Privacy {
        let tenant = self.tenants.get(tenant);
        let max = tenant.map_or(self.privacy.max, |tenant| {
            tenant.privacy_max.min(self.privacy.max)
        });
        asked.unwrap_or(self.privacy.default).min(max)
    }

    /// The pool that makes the memory's vectors, whoever asks it.
    pub fn vectors_from(&self) -> Option<&Pool> {
        match &self.memory.as_ref()?.embedder {
            EmbedderPlan::Pool(pool) => Some(pool),
            EmbedderPlan::InProcess { .. } => None,
        }
    }

    /// The pool that this process asks for vectors: one that embeds for a memory which the process opens itself. A memory
    /// service asks for vectors on its own.
    pub fn embedder(&self) -> Option<&Pool> {
        let memory = self.memory.as_ref()?;
        memory.service.is_none().then(|| self.vectors_from())?
    }

    /// Every pool that is asked for something: those that answer, then the one that embeds, whoever asks it.
    pub fn served(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().chain(self.vectors_from())
    }

    /// One of [`GatewayPlan::served`] by its name.
    pub fn served_mut(&mut self, name: &str) -> Option<&mut Pool> {
        let embedder = match self.memory.as_mut().map(|memory| &mut memory.embedder) {
            Some(EmbedderPlan::Pool(pool)) => Some(&mut **pool),
            _ => None,
        };
        let mut served = self.pools.iter_mut().chain(embedder);
        served.find(|pool| pool.name == name)
    }
}

impl PlanFormat {
    /// Whether a gateway built with [`FORMAT`] can serve a plan written in this format.
    pub fn is_served(self) -> bool {
        self.major == FORMAT.major && self.minor.abs_diff(FORMAT.minor) <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuzzer_begins_with_plans_that_are_read_and_written_back() {
        let whole = include_str!("../../../fuzz/seeds/plan/whole.json");
        let least = include_str!("../../../fuzz/seeds/plan/least.json");
        for text in [whole, least] {
            let plan: GatewayPlan = serde_json::from_str(text).expect("a plan");
            let again = serde_json::to_string(&plan).expect("plain data");
            assert_eq!(serde_json::from_str::<GatewayPlan>(&again).ok(), Some(plan));
        }
    }

    #[test]
    fn the_fuzzers_whole_plan_has_every_field() {
        let whole = include_str!("../../../fuzz/seeds/plan/whole.json");
        let plan: GatewayPlan = serde_json::from_str(whole).expect("a plan");
        // Every field is named, so that a new one does not compile before somebody has thought of the seed.
        let GatewayPlan {
            format: _,
            revision: _,
            gateway: _,
            pools,
            memory,
            router,
            candidate,
            objective: _,
            exploration: _,
            guardrails,
            privacy: _,
            tenants,
            auth: _,
            jwt,
            cache,
            limits: _,
            logs: _,
            traces,
        } = &plan;
        assert!(memory.is_some() && router.is_some() && candidate.is_some());
        assert!(!guardrails.is_empty() && !tenants.is_empty());
        assert!(cache.is_some() && jwt.is_some() && traces.is_some());
        let Pool {
            name: _,
            model: _,
            upstream_model: _,
            tier: _,
            privacy: _,
            engine: _,
            context_tokens: _,
            slots: _,
            parameters: _,
            sampling: _,
            cost: _,
            performance: _,
            tokenizer,
            vocabulary,
            endpoints,
            authorities,
            when_cold,
            cache_salt,
            hedge_after_ms,
        } = &pools[0];
        assert!(
            tokenizer.is_some()
                && vocabulary.is_some()
                && authorities.is_some()
                && when_cold.is_some()
                && *cache_salt
                && hedge_after_ms.is_some()
        );
        assert!(!endpoints.is_empty());
    }

    #[test]
    fn formats_one_minor_apart_are_served_and_others_refused() {
        assert!(FORMAT.is_served());
        assert!(
            PlanFormat {
                major: FORMAT.major,
                minor: FORMAT.minor + 1
            }
            .is_served()
        );
        assert!(
            !PlanFormat {
                major: FORMAT.major,
                minor: FORMAT.minor + 2
            }
            .is_served()
        );
        assert!(
            !PlanFormat {
                major: FORMAT.major + 1,
                minor: FORMAT.minor
            }
            .is_served()
        );
    }

    #[test]
    fn a_pool_of_an_older_plan_is_not_brought_up_by_demand() {
        let older = r#"{"name": "small", "model": "m", "upstreamModel": "m", "tier": "edge", "privacy": "local",
            "engine": "llamaCpp", "contextTokens": 2048, "slots": 1, "parameters": 0, "sampling": {}, "tokenizer": null,
            "cost": {"promptPerMillion": 0.0, "completionPerMillion": 0.0}, "endpoints": [],
            "performance": {"prefillTokensPerSecond": 1.0, "decodeTokensPerSecond": 1.0}}"#;
        let mut pool: Pool = serde_json::from_str(older).unwrap();
        assert_eq!(pool.when_cold, None);
        pool.when_cold = Some(WhenCold::Spill);
        let written = serde_json::to_string(&pool).unwrap();
        assert!(written.ends_with(r#""whenCold":"spill"}"#), "{written}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = Secret::new("sk-very-secret");
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert_eq!(secret.expose(), "sk-very-secret");
    }
}
