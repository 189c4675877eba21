//! Plans and artifacts for unit tests.

use std::collections::BTreeMap;
use weir_plan::{
    Auth, Cost, Endpoint, EngineKind, Exploration, FORMAT, GatewayPlan, Limits, LogSink, Logs,
    Objective, Performance, Pool, Privacy, PrivacyLimits, QueryText, Revision, SamplingDefaults,
    Tier,
};
use weir_router::{ArmTable, Artifact};

pub(crate) fn revision(counter: u64) -> Revision {
    Revision { epoch: 1, counter }
}

pub(crate) fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        url: url.to_owned(),
        api_key: None,
    }
}

pub(crate) fn pool(name: &str, urls: &[&str]) -> Pool {
    Pool {
        name: name.to_owned(),
        model: format!("{name}-model"),
        upstream_model: format!("{name}-model"),
        tier: Tier::Edge,
        privacy: Privacy::Local,
        engine: EngineKind::LlamaCpp,
        context_tokens: 2048,
        slots: 1,
        parameters: 0,
        sampling: SamplingDefaults {
            temperature: Some(0.3),
            ..SamplingDefaults::default()
        },
        cost: Cost::default(),
        performance: Performance::default(),
        tokenizer: None,
        endpoints: urls.iter().map(|url| endpoint(url)).collect(),
        authorities: None,
        when_cold: None,
    }
}

/// A plan 1.1 of this gateway over one pool `small` at `http://small:8080`.
pub(crate) fn plan(gateway: &str) -> GatewayPlan {
    GatewayPlan {
        format: FORMAT,
        revision: revision(1),
        gateway: gateway.to_owned(),
        pools: vec![pool("small", &["http://small:8080"])],
        memory: None,
        router: None,
        candidate: None,
        objective: Objective::default(),
        exploration: Exploration::default(),
        guardrails: Vec::new(),
        privacy: PrivacyLimits {
            default: Privacy::Local,
            max: Privacy::Local,
        },
        tenants: BTreeMap::new(),
        auth: Auth::Anonymous,
        limits: Limits::default(),
        logs: Logs {
            sink: LogSink::None,
            query_text: QueryText::None,
        },
    }
}

/// An artifact that expects this quality of every arm, with its digest.
pub(crate) fn artifact(quality: f32) -> (String, Vec<u8>) {
    let table = ArmTable::standard(1);
    let artifact = Artifact::constant(&table, &vec![quality; table.arms.len()]);
    (artifact.sha256().to_owned(), artifact.to_bytes().to_vec())
}
