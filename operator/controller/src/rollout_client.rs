//! What `weir rollout` does in a cluster: reads a gateway's attempts and sets the action of the newest one.
//!
//! A client for people, with their own rights (their kubeconfig, or the service account in a pod). It writes nothing but
//! `spec.action`; what follows from it is the operator's business (`weir-reconcile`'s `router_rollout`).

use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, Config};
use serde_json::json;
use weir_crds::{InferenceGateway, RolloutAction, RouterRollout};

/// Who writes `spec.action`.
const FIELD_MANAGER: &str = "weir.dev/cli";

/// Why a rollout cannot be shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum RolloutClientError {
    /// No cluster is configured.
    #[error("find a cluster: neither a kubeconfig nor a service account is usable")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The API server did not answer as one.
    #[error("{what} in namespace {namespace}")]
    Api {
        /// What was attempted.
        what: String,
        /// Where.
        namespace: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// The API server refused.
    #[error("{what} in namespace {namespace}: {message}")]
    Refused {
        /// What was attempted.
        what: String,
        /// Where.
        namespace: String,
        /// The API server's words.
        message: String,
    },
    /// No such gateway.
    #[error(
        "there is no InferenceGateway {gateway} in namespace {namespace}: kubectl get inferencegateways -n {namespace} lists those that are there"
    )]
    NoGateway {
        /// The gateway.
        gateway: String,
        /// Where.
        namespace: String,
    },
    /// Nothing to change.
    #[error(
        "InferenceGateway {gateway} has no rollout that runs: change its router.version to begin one"
    )]
    NothingRuns {
        /// The gateway.
        gateway: String,
    },
}

/// A gateway's rollouts.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayRollouts {
    /// The gateway.
    pub gateway: InferenceGateway,
    /// Its attempts, the newest first.
    pub attempts: Vec<RouterRollout>,
}

/// The cluster's rollouts, of one namespace.
#[derive(Clone)]
pub struct RolloutClient {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl RolloutClient {
    /// The cluster of the present kubeconfig or pod; without a namespace its own default.
    ///
    /// # Errors
    /// When no cluster is configured.
    pub async fn connect(namespace: Option<&str>) -> Result<Self, RolloutClientError> {
        let config = Config::infer()
            .await
            .map_err(|error| RolloutClientError::Config(Box::new(error)))?;
        let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
        let client = Client::try_from(config)
            .map_err(|error| RolloutClientError::Config(Box::new(error)))?;
        Ok(Self { client, namespace })
    }

    /// A gateway and its attempts.
    ///
    /// # Errors
    /// When the API server has no such gateway, or does not answer.
    pub async fn of(&self, gateway: &str) -> Result<GatewayRollouts, RolloutClientError> {
        let gateways: Api<InferenceGateway> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = gateways.get(gateway).await.map_err(|error| match error {
            // Another reason than this one says that the kind is not there.
            kube::Error::Api(status) if status.reason == "NotFound" => {
                RolloutClientError::NoGateway {
                    gateway: gateway.to_owned(),
                    namespace: self.namespace.clone(),
                }
            }
            error => self.failed(format!("read InferenceGateway {gateway}"), error),
        })?;
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
    ) -> Result<RouterRollout, RolloutClientError> {
        let of = self.of(gateway).await?;
        let name = of
            .running()
            .and_then(|rollout| rollout.metadata.name.clone())
            .ok_or_else(|| RolloutClientError::NothingRuns {
                gateway: gateway.to_owned(),
            })?;
        let patch = Patch::Merge(json!({"spec": {"action": action}}));
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.rollouts()
            .patch(&name, &params, &patch)
            .await
            .map_err(|error| self.failed(format!("change RouterRollout {name}"), error))
    }

    fn rollouts(&self) -> Api<RouterRollout> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn failed(&self, what: String, error: kube::Error) -> RolloutClientError {
        let namespace = self.namespace.clone();
        match error {
            kube::Error::Api(status) => RolloutClientError::Refused {
                what,
                namespace,
                message: status.message,
            },
            source => RolloutClientError::Api {
                what,
                namespace,
                source: Box::new(source),
            },
        }
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

impl std::fmt::Debug for RolloutClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RolloutClient")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
