//! What is promised of a running installation, one file a promise.

pub(crate) mod faults;
pub(crate) mod idle;
pub(crate) mod mistakes;
pub(crate) mod rollouts;
pub(crate) mod scale;
pub(crate) mod stack;
pub(crate) mod uninstall;
pub(crate) mod upgrade;

use crate::world::Namespace;
use anyhow::Result;

/// Two pools of a random model and a gateway, for scenarios that need answers and no sense in them.
const LOAD: &str = include_str!("../../stacks/load.yaml");

/// Applies [`LOAD`] and waits until all of it is Ready.
async fn serve_load(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(LOAD).await?;
    for pool in ["steady", "moving"] {
        namespace
            .ready(("ModelPool", pool), ("True", ""), 120)
            .await?;
    }
    namespace
        .ready(("InferenceGateway", "load"), ("True", ""), 120)
        .await
        .map(drop)
}
