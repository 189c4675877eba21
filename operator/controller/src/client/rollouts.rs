//! What `weir rollout` does: reads a gateway's attempts and sets the action of the newest one.
//!
//! Nothing is written but `spec.action`; what follows from it is the operator's business (`weir-reconcile`'s
//! `router_rollout`).

use super::{ClientError, ClusterClient, patch_params};
use kube::api::{Api, ListParams, Patch};
use serde_json::json;
use weir_crds::{InferenceGateway, RolloutAction, RouterRollout};

/// A gateway's rollouts.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayRollouts {
    /// The gateway.
    pub gateway: InferenceGateway,
    /// Its attempts, the newest first.
    pub attempts: Vec<RouterRollout>,
}

impl ClusterClient {
    /// A gateway and its attempts.
    ///
    /// # Errors
    /// When the API server has no such gateway, or does not answer.
    pub async fn rollouts_of(&self, gateway: &str) -> Result<GatewayRollouts, ClientError> {
        let found = self.gateway(gateway).await?;
        let rollouts = self.rollouts().list(&ListParams::default()).await;
        let rollouts =
            rollouts.map_err(|error| self.failed("list RouterRollouts".into(), error))?;
        let mut attempts = rollouts.items;
        attempts.retain(|rollout| rollout.spec.gateway == gateway);
        attempts.sort_by(|a, b| {
            let begun = |of: &RouterRollout| of.metadata.creation_timestamp.clone();
            begun(b).cmp(&begun(a))
        });
        Ok(GatewayRollouts {
            gateway: found,
            attempts,
        })
    }

    /// Sets the action of the attempt that runs, and returns that attempt.
    ///
    /// # Errors
    /// When none runs, or the API server does not take it.
    pub async fn act(
        &self,
        gateway: &str,
        action: RolloutAction,
    ) -> Result<RouterRollout, ClientError> {
        let of = self.rollouts_of(gateway).await?;
        let name = of
            .running()
            .and_then(|rollout| rollout.metadata.name.clone())
            .ok_or_else(|| ClientError::NothingRuns {
                gateway: gateway.to_owned(),
            })?;
        let patch = Patch::Merge(json!({"spec": {"action": action}}));
        self.rollouts()
            .patch(&name, &patch_params(), &patch)
            .await
            .map_err(|error| self.failed(format!("change RouterRollout {name}"), error))
    }

    fn rollouts(&self) -> Api<RouterRollout> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

impl GatewayRollouts {
    /// The attempt that runs.
    pub fn running(&self) -> Option<&RouterRollout> {
        let runs = |rollout: &&RouterRollout| {
            let phase = rollout.status.as_ref().and_then(|status| status.phase);
            !phase.is_some_and(weir_crds::RolloutPhase::ended)
        };
        self.attempts.iter().find(runs)
    }
}
