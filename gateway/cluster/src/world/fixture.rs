//! Plans and artifacts for unit tests.

use weir_plan::{Endpoint, EngineKind, GatewayPlan, Pool, Revision, SamplingDefaults};
use weir_router::{ArmTable, Artifact};

pub(crate) fn revision(counter: u64) -> Revision {
    Revision { epoch: 1, counter }
}

pub(crate) fn pool(name: &str, urls: &[&str]) -> Pool {
    Pool {
        model: format!("{name}-model"),
        upstream_model: format!("{name}-model"),
        engine: EngineKind::LlamaCpp,
        context_tokens: 2048,
        sampling: SamplingDefaults {
            temperature: Some(0.3),
            ..SamplingDefaults::default()
        },
        endpoints: urls.iter().map(|url| Endpoint::keyless(url)).collect(),
        ..Pool::local(name)
    }
}

/// A plan 1.1 of this gateway over one pool `small` at `http://small:8080`.
pub(crate) fn plan(gateway: &str) -> GatewayPlan {
    GatewayPlan {
        revision: revision(1),
        ..GatewayPlan::least(gateway, vec![pool("small", &["http://small:8080"])])
    }
}

/// An artifact that expects this quality of every arm, with its digest.
pub(crate) fn artifact(quality: f32) -> (String, Vec<u8>) {
    let table = ArmTable::standard(1);
    let artifact = Artifact::constant(&table, &vec![quality; table.arms.len()]);
    (artifact.sha256().to_owned(), artifact.to_bytes().to_vec())
}
