//! ModelPool: what has to exist for one model to be served, and what is known of it.
//!
//! `validate` finds what only a cluster cannot do, `build` says which objects there should be, `endpoints` which pods can
//! generate, `status` what people see, `autoscale` how many replicas there should be. None of them asks or waits.

mod build;
mod scale;
mod status;

pub use crate::pods::{Facts, endpoints, is_fetching};
pub(crate) use build::drain_seconds;
pub use build::{TEMPLATE_ANNOTATION, TEMPLATE_HASH_ANNOTATION, build, template_hash};
pub use scale::{Load, ScaleMemory, autoscale, other_scale_manager};
pub use status::{Benchmark, FetchProgress, Observed, Reach, status};

use crate::keys::entries;
use crate::plan::{ModelFacts, ObservedPool};
use crate::stack::Stack;
use crate::validate::{On, Problem, secrets, validate as validate_stack};
use weir_crds::{Engine, ModelPool};
use weir_plan::{Endpoint, Performance, Secret};

/// The server of an external engine, as requests reach it.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Its address and key.
    pub endpoint: Endpoint,
    /// The authorities that it is believed by, PEM; without them the public ones.
    pub authorities: Option<String>,
    /// The name by which it knows the pool's model.
    pub model: String,
}

/// The server of a pool with an external engine.
pub fn server(pool: &ModelPool, stack: &Stack) -> Option<Server> {
    let Engine::External(engine) = &pool.spec.engine else {
        return None;
    };
    let entry = |secret: &str, key: &str| {
        let value = entries(stack.secret(secret)?).remove(key)?;
        String::from_utf8(value).ok()
    };
    let key = engine.api_key_secret_ref.as_ref();
    let key = key.and_then(|reference| entry(&reference.name, &reference.key));
    let authorities = engine.ca_secret_ref.as_ref();
    let model = engine.model_name.as_ref().unwrap_or(&pool.spec.model.name);
    Some(Server {
        endpoint: Endpoint {
            url: engine.url.trim_end_matches('/').to_owned(),
            api_key: key.map(Secret::new),
        },
        authorities: authorities.and_then(|reference| entry(&reference.name, &reference.key)),
        model: model.clone(),
    })
}

/// Every problem of a pool: of the stack, and what a cluster cannot do.
pub fn validate(pool: &ModelPool, stack: &Stack) -> Vec<Problem> {
    let own = pool.metadata.name.as_deref().unwrap_or_default();
    let mut problems: Vec<Problem> = validate_stack(stack)
        .into_iter()
        .filter(|problem| problem.kind == "ModelPool" && problem.name == own)
        .collect();
    problems.extend(secrets::of_download(stack, pool));
    let source = pool.spec.model.source.as_deref().unwrap_or_default();
    let on = On::new("ModelPool", &pool.metadata.name, "spec");
    if source.starts_with("file://") {
        let message = format!("{source} is a file of the machine that runs `weir up`");
        let instead =
            "write hf://, https:// or s3://, or pvc://CLAIM/PATH of a volume in this namespace";
        problems.push(on.problem("model.source", "SourceUnreachable", message, instead.into()));
    }
    if embeds(pool, stack) && matches!(pool.spec.engine, Engine::Vllm(_)) {
        let message = "a MemoryStore embeds with this pool, which engine.vllm is not started for";
        let instead = "use engine.llamaCpp or engine.external".into();
        problems.push(on.problem("engine", "EngineCannotEmbed", message.into(), instead));
    }
    problems
}

/// Whether some memory of the stack embeds with the pool.
pub fn embeds(pool: &ModelPool, stack: &Stack) -> bool {
    let own = pool.metadata.name.as_ref();
    let mut stores = stack.memories.iter();
    stores.any(|store| own.is_some() && store.spec.embedding.pool.as_ref() == own)
}

/// What the plan reads of a pool in a cluster: its endpoints, and what its status says of the model.
pub fn observed(pool: &ModelPool, endpoints: Vec<Endpoint>) -> ObservedPool {
    let status = pool.status.as_ref();
    let model = status.and_then(|status| status.model.as_ref());
    let facts = model.and_then(|model| {
        Some(ModelFacts {
            parameters: model.parameters?,
            context_tokens: model.context_tokens?,
        })
    });
    let speed = status.and_then(|status| status.performance.as_ref());
    ObservedPool {
        endpoints,
        facts,
        performance: speed.map(|speed| Performance {
            prefill_tokens_per_second: speed.prefill_tokens_per_second,
            decode_tokens_per_second: speed.decode_tokens_per_second,
        }),
        tokenizer: None,
        digest: model.and_then(|model| model.digest.clone()),
    }
}
