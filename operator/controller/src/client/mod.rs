//! The cluster as people change it from a command line, with their own rights: their kubeconfig, or the service account of
//! a pod.
//!
//! Connects, and says what went wrong. Reading on: `rollouts.rs` and `keys.rs`, a file for each command.

mod keys;
mod rollouts;

pub use keys::{CreatedKey, GatewayKeys, ListedKey};
pub use rollouts::GatewayRollouts;

use kube::api::{Api, PatchParams};
use kube::{Client, Config};
use weir_crds::InferenceGateway;

/// Who writes what people write here.
const FIELD_MANAGER: &str = "weir.dev/cli";

/// Why something cannot be shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
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
    /// The gateway knows no keys.
    #[error(
        "InferenceGateway {gateway} takes no API keys: set auth.apiKeysSecretRef, in place of auth.anonymous if that stands there, its Secret need not be there yet"
    )]
    NoSecret {
        /// The gateway.
        gateway: String,
    },
    /// There is a key of this name.
    #[error(
        "{tenant} has a key {key_id} already: revoke it first, or give the new one another name"
    )]
    KeyIsThere {
        /// Whose.
        tenant: String,
        /// The key's name.
        key_id: String,
    },
    /// There is no key of this name.
    #[error(
        "{tenant} has no key {key_id} in Secret {secret}: weir keys list {gateway} shows those that are there"
    )]
    NoKey {
        /// The gateway.
        gateway: String,
        /// Its Secret.
        secret: String,
        /// Whose.
        tenant: String,
        /// The key's name.
        key_id: String,
    },
    /// An entry of such a name would be no key.
    #[error("{0}")]
    KeyName(String),
}

/// The cluster of the present kubeconfig or pod, one namespace of it.
#[derive(Clone)]
pub struct ClusterClient {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl ClusterClient {
    /// Finds the cluster; without a namespace its own default.
    ///
    /// # Errors
    /// When no cluster is configured.
    pub async fn connect(namespace: Option<&str>) -> Result<Self, ClientError> {
        let config = Config::infer()
            .await
            .map_err(|error| ClientError::Config(Box::new(error)))?;
        let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
        let client =
            Client::try_from(config).map_err(|error| ClientError::Config(Box::new(error)))?;
        Ok(Self { client, namespace })
    }

    async fn gateway(&self, gateway: &str) -> Result<InferenceGateway, ClientError> {
        let gateways: Api<InferenceGateway> = Api::namespaced(self.client.clone(), &self.namespace);
        gateways.get(gateway).await.map_err(|error| match error {
            // Another reason than this one says that the kind is not there.
            kube::Error::Api(status) if status.reason == "NotFound" => ClientError::NoGateway {
                gateway: gateway.to_owned(),
                namespace: self.namespace.clone(),
            },
            error => self.failed(format!("read InferenceGateway {gateway}"), error),
        })
    }

    fn failed(&self, what: String, error: kube::Error) -> ClientError {
        let namespace = self.namespace.clone();
        match error {
            kube::Error::Api(status) => ClientError::Refused {
                what,
                namespace,
                message: status.message,
            },
            source => ClientError::Api {
                what,
                namespace,
                source: Box::new(source),
            },
        }
    }
}

fn patch_params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

impl std::fmt::Debug for ClusterClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterClient")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
