//! The plan: everything one gateway serves, made from resources and what was observed of them.
//!
//! A pure function, called by `weir up` in process and by the operator in a cluster. What a field of a resource does
//! to a gateway can be read here, one line a field.

use crate::jwt;
use crate::keys::who_may_ask;
use crate::model_pool;
use crate::stack::Stack;
use crate::validate::{On, Problem, name, validate};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use weir_crds::{self as crds, InferenceGateway, MemoryStore, ModelPool};
use weir_plan::{
    Auth, Beyond, Budgets, CachePlan, CandidatePlan, Cost, EmbedderPlan, Endpoint, EngineKind,
    Exploration, FORMAT, GatewayPlan, Guardrail, GuardrailAction, Limits, LogSink, Logs,
    MemoryPlan, Objective, Performance, Pool, Privacy, PrivacyLimits, QueryText, Revision,
    RouterPlan, SamplingDefaults, SummariesPlan, TenantLimits, Tier, TokenizerApi, TracesPlan,
    Vocabulary, WhenCold,
};

/// What was observed of the world that a plan speaks about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// Pools by name. A pool that is missing has no endpoints and no facts.
    pub pools: BTreeMap<String, ObservedPool>,
    /// Folder of the embedder's files, by MemoryStore; without it the store's `embedding.source` is passed on.
    pub embedders: BTreeMap<String, String>,
    /// Address of the memory service, by MemoryStore; without it the gateway's process opens the store itself.
    pub services: BTreeMap<String, String>,
    /// Whether somebody brings replicas up and down, as the operator does and `weir up` does not.
    pub is_scaled: bool,
    /// Processes of the gateway that share its limits, at least one.
    pub replicas: u32,
    /// Order among plans.
    pub revision: Revision,
    /// The versions of the router that serve; without them the one that the spec names does, at once.
    pub routers: Option<ServedRouters>,
}

/// The versions of the router that a gateway serves, where rollouts decide it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServedRouters {
    /// The version that decides; `None` means the default artifact that Weir ships.
    pub active: Option<RouterPlan>,
    /// The version that is tried.
    pub candidate: Option<CandidatePlan>,
}

/// What was observed of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedPool {
    /// Replicas that can generate now. An external pool's endpoint is its URL and needs no observation.
    pub endpoints: Vec<Endpoint>,
    /// What the model's file says.
    pub facts: Option<ModelFacts>,
    /// Measured speed; without it a cautious guess.
    pub performance: Option<Performance>,
    /// File whose vocabulary and chat template count tokens exactly.
    pub tokenizer: Option<String>,
    /// Digest of the model's file.
    pub digest: Option<String>,
}

/// What a model's file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelFacts {
    /// Weights.
    pub parameters: u64,
    /// Longest context the model was trained for.
    pub context_tokens: u32,
}

/// The plan of one gateway.
///
/// # Errors
/// Every problem that keeps this gateway from working; problems of objects it does not use do not matter to it, nor do
/// those that only leave something out.
pub fn plan(
    stack: &Stack,
    gateway: &str,
    observed: &Observed,
) -> Result<GatewayPlan, Vec<Problem>> {
    let Some(gateway) = stack.gateway(gateway) else {
        return Err(vec![no_gateway(stack, gateway)]);
    };
    let problems: Vec<Problem> = validate(stack)
        .into_iter()
        .filter(|problem| concerns(stack, gateway, problem) && !problem.left_out)
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let spec = &gateway.spec;
    let memory = spec
        .memory
        .as_deref()
        .and_then(|memory| stack.memory(memory));
    let ServedRouters { active, candidate } = observed
        .routers
        .clone()
        .unwrap_or_else(|| named_router(stack, gateway));
    Ok(GatewayPlan {
        format: FORMAT,
        revision: observed.revision,
        gateway: name(&gateway.metadata.name).to_owned(),
        pools: pools(stack, gateway, observed),
        memory: memory.map(|memory| memory_plan(stack, memory, observed)),
        router: active,
        candidate,
        objective: Objective {
            per_second: spec.router.objective.per_second,
            per_cost_unit: spec.router.objective.per_cost_unit,
        },
        exploration: Exploration {
            floor: spec.router.exploration.floor,
            near_tie_margin: spec.router.exploration.near_tie_margin,
        },
        guardrails: spec.guardrails.iter().map(guardrail).collect(),
        privacy: PrivacyLimits {
            default: privacy(spec.privacy.default),
            max: privacy(spec.privacy.max),
        },
        tenants: (spec.tenants.iter())
            .map(|one| tenant(one, spec.privacy.max, observed.replicas))
            .collect(),
        // Without its Secret, whose keys open no more, nobody may.
        auth: who_may_ask(stack, gateway).unwrap_or(Auth::ApiKeys(Vec::new())),
        jwt: jwt::accepted(gateway),
        cache: spec.cache.as_ref().map(cache),
        limits: Limits {
            request_timeout_ms: spec.limits.request_timeout.milliseconds(),
            body_max_bytes: spec.limits.body_max.bytes(),
            in_flight_max: share(spec.limits.in_flight_max, observed.replicas),
            queue_max: share(spec.limits.queue_max, observed.replicas),
        },
        logs: logs(&spec.logs),
        traces: spec.traces.as_ref().map(|traces| TracesPlan {
            endpoint: traces.endpoint.trim_end_matches('/').to_owned(),
            sample_ratio: traces.sample_ratio,
        }),
    })
}

/// One process's share of a limit that all processes have together, rounded up so that none has nothing.
fn share(limit: u32, replicas: u32) -> u32 {
    limit.div_ceil(replicas.max(1))
}

/// The version that the spec names, serving at once.
fn named_router(stack: &Stack, gateway: &InferenceGateway) -> ServedRouters {
    let named = gateway.spec.router.version.as_deref();
    let router = named.and_then(|named| stack.router(named));
    ServedRouters {
        active: router.map(|router| RouterPlan {
            version: name(&router.metadata.name).to_owned(),
            sha256: router.spec.sha256.clone(),
        }),
        candidate: None,
    }
}

fn no_gateway(stack: &Stack, wanted: &str) -> Problem {
    let names: Vec<&str> = stack
        .gateways
        .iter()
        .map(|gateway| name(&gateway.metadata.name))
        .collect();
    let message = format!("no InferenceGateway is called {wanted:?}");
    let instead = match names.as_slice() {
        [] => "add an InferenceGateway to the stack".into(),
        names => format!("name {}", names.join(" or ")),
    };
    let called = Some(wanted.to_owned());
    On::new("InferenceGateway", &called, "metadata").problem(
        "name",
        "InferenceGatewayNotFound",
        message,
        instead,
    )
}

/// Whether a problem's object is one that the gateway uses.
pub(crate) fn concerns(stack: &Stack, gateway: &InferenceGateway, problem: &Problem) -> bool {
    let spec = &gateway.spec;
    let is = |wanted: Option<&str>| wanted == Some(problem.name.as_str());
    match problem.kind.as_str() {
        "InferenceGateway" => is(gateway.metadata.name.as_deref()),
        "ModelPool" => stack
            .used(gateway)
            .iter()
            .any(|pool| is(pool.metadata.name.as_deref())),
        "MemoryStore" => is(spec.memory.as_deref()),
        "Secret" => {
            let keys = spec.auth.api_keys_secret_ref.as_ref();
            keys.is_some_and(|reference| is(Some(&reference.name)))
        }
        _ => false,
    }
}

/// The answering pools in ascending order of capability: by the model's weights, in file order where they are equal. A
/// model of unknown size counts as bigger than every known one, since what Weir cannot see into is mostly a large
/// model behind somebody's API.
fn pools(stack: &Stack, gateway: &InferenceGateway, observed: &Observed) -> Vec<Pool> {
    let answering = stack.answering(gateway).into_iter();
    let mut pools: Vec<Pool> = answering
        .map(|resource| pool(stack, resource, observed))
        .collect();
    pools.sort_by_key(|pool| {
        if pool.parameters == 0 {
            u64::MAX
        } else {
            pool.parameters
        }
    });
    pools
}

fn pool(stack: &Stack, resource: &ModelPool, observed: &Observed) -> Pool {
    let unknown = ObservedPool::default();
    let seen = observed.pools.get(name(&resource.metadata.name));
    let seen = seen.unwrap_or(&unknown);
    let spec = &resource.spec;
    let model = &spec.model.name;
    let (engine, context_tokens, slots) = match &spec.engine {
        crds::Engine::LlamaCpp(engine) => {
            (EngineKind::LlamaCpp, engine.context_tokens, engine.slots)
        }
        // vLLM takes what any server takes that speaks OpenAI's API, under the names that are common among them.
        crds::Engine::Vllm(engine) => (
            EngineKind::External,
            engine.max_model_len,
            engine.max_num_seqs,
        ),
        crds::Engine::External(engine) => {
            (EngineKind::External, engine.context_tokens, engine.slots)
        }
    };
    let trained_for = seen.facts.map_or(0, |facts| facts.context_tokens);
    let known = seen.facts.map_or(0, |facts| facts.parameters);
    let parameters = match &spec.engine {
        crds::Engine::LlamaCpp(_) => None,
        crds::Engine::Vllm(engine) => engine.parameters,
        crds::Engine::External(engine) => engine.parameters,
    };
    let (upstream_model, endpoints, authorities) = match model_pool::server(resource, stack) {
        Some(server) => (server.model, vec![server.endpoint], server.authorities),
        None => (model.clone(), seen.endpoints.clone(), None),
    };
    Pool {
        name: name(&resource.metadata.name).to_owned(),
        model: model.clone(),
        upstream_model,
        tier: tier(spec.tier),
        privacy: privacy(spec.privacy),
        engine,
        context_tokens: match trained_for {
            0 => context_tokens,
            trained_for => context_tokens.min(trained_for),
        },
        slots,
        parameters: parameters.unwrap_or(known),
        sampling: sampling(&spec.sampling),
        cost: Cost {
            prompt_per_million: spec.cost.prompt_per_million,
            completion_per_million: spec.cost.completion_per_million,
        },
        performance: seen.performance.unwrap_or_default(),
        tokenizer: seen.tokenizer.clone(),
        vocabulary: vocabulary(resource, seen),
        endpoints,
        authorities,
        when_cold: observed
            .is_scaled
            .then(|| spec.autoscaling.as_ref().map(when_cold))
            .flatten(),
        cache_salt: matches!(spec.engine, crds::Engine::Vllm(_)),
        hedge_after_ms: spec.hedge_after.map(crds::Duration::milliseconds),
    }
}

/// How the engine counts tokens. Only engines that Weir starts are asked: another server may not know how, and would be
/// handed words just to count them.
fn vocabulary(resource: &ModelPool, seen: &ObservedPool) -> Option<Vocabulary> {
    let api = match &resource.spec.engine {
        crds::Engine::LlamaCpp(_) => TokenizerApi::LlamaCpp,
        crds::Engine::Vllm(_) => TokenizerApi::Vllm,
        crds::Engine::External(_) => return None,
    };
    // Where the file's digest is not known, its source tells models apart; as a digest, since a URL may hold a password.
    let source = resource.spec.model.source.as_deref().unwrap_or_default();
    let by_source = || format!("source:{}", hex::encode(Sha256::digest(source)));
    Some(Vocabulary {
        api,
        model: seen.digest.clone().unwrap_or_else(by_source),
    })
}

fn when_cold(scaling: &crds::Autoscaling) -> WhenCold {
    match scaling.when_cold {
        crds::WhenCold::Hold => WhenCold::Hold,
        crds::WhenCold::Spill => WhenCold::Spill,
    }
}

fn memory_plan(stack: &Stack, memory: &MemoryStore, observed: &Observed) -> MemoryPlan {
    let spec = &memory.spec;
    let own = name(&memory.metadata.name);
    let embedder = spec.embedding.pool.as_deref();
    let embedder = match embedder.and_then(|pool| stack.pool(pool)) {
        Some(resource) => EmbedderPlan::Pool(Box::new(pool(stack, resource, observed))),
        None => EmbedderPlan::InProcess {
            source: observed
                .embedders
                .get(own)
                .or(spec.embedding.source.as_ref())
                .cloned()
                .unwrap_or_default(),
        },
    };
    MemoryPlan {
        name: own.to_owned(),
        embedding_model: spec.embedding.model.clone(),
        dimensions: spec.embedding.dimensions as usize,
        service: observed.services.get(own).cloned(),
        embedder,
        seeds: spec.attention.seeds as usize,
        hops: spec.attention.hops as usize,
        nodes_max: spec.attention.nodes_max as usize,
        summaries: spec.write_back.summaries.as_ref().map(summaries),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a share has a few digits")]
fn summaries(summaries: &crds::Summaries) -> SummariesPlan {
    SummariesPlan {
        pool: summaries.pool.clone(),
        min_attention: summaries.min_attention as f32,
    }
}

/// What a tenant may do at one of so many processes. Its budgets are what all have together, so each has its part.
fn tenant(tenant: &crds::Tenant, max: crds::Privacy, replicas: u32) -> (String, TenantLimits) {
    let part = |limit: f64| limit / f64::from(replicas.max(1));
    let limits = TenantLimits {
        privacy_max: privacy(tenant.privacy_max.unwrap_or(max)),
        budgets: Budgets {
            requests_per_minute: tenant.requests_per_minute.map(|limit| part(limit.into())),
            tokens_per_minute: tenant.tokens_per_minute.map(|limit| part(limit.into())),
            cost_per_day: tenant.cost_per_day.map(part),
        },
        beyond: match tenant.over_budget {
            None | Some(crds::OverBudget::Reject) => Beyond::Reject,
            Some(crds::OverBudget::Degrade) => Beyond::Degrade,
        },
    };
    (tenant.name.clone(), limits)
}

fn guardrail(guardrail: &crds::Guardrail) -> Guardrail {
    Guardrail {
        name: guardrail.name.clone(),
        domains: guardrail.when.domains.clone(),
        then: match guardrail.then {
            crds::GuardrailAction::UseBiggest => GuardrailAction::UseBiggest,
        },
    }
}

fn cache(cache: &crds::AnswerCache) -> CachePlan {
    CachePlan {
        entries_max: cache.entries_max,
        ttl_ms: cache.ttl.milliseconds(),
        near_duplicates: cache.near_duplicates,
    }
}

/// Narrows to single precision, which is what engines read.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a sampling parameter has two digits"
)]
fn sampling(sampling: &crds::Sampling) -> SamplingDefaults {
    SamplingDefaults {
        temperature: sampling.temperature.map(|value| value as f32),
        min_p: sampling.min_p.map(|value| value as f32),
        repetition_penalty: sampling.repetition_penalty.map(|value| value as f32),
    }
}

fn tier(tier: crds::Tier) -> Tier {
    match tier {
        crds::Tier::Device => Tier::Device,
        crds::Tier::Edge => Tier::Edge,
        crds::Tier::Server => Tier::Server,
    }
}

fn privacy(privacy: crds::Privacy) -> Privacy {
    match privacy {
        crds::Privacy::Local => Privacy::Local,
        crds::Privacy::OnPrem => Privacy::OnPrem,
        crds::Privacy::Cloud => Privacy::Cloud,
    }
}

fn logs(logs: &crds::Logs) -> Logs {
    Logs {
        sink: match logs.sink {
            crds::LogSink::Stdout => LogSink::Stdout,
            crds::LogSink::File => LogSink::File,
            crds::LogSink::None => LogSink::None,
        },
        query_text: match logs.query_text {
            crds::QueryText::Full => QueryText::Full,
            crds::QueryText::Hashed => QueryText::Hashed,
            crds::QueryText::None => QueryText::None,
        },
    }
}
