//! What a reconcile wants to exist: objects of Kubernetes, complete, ready for server-side apply.

use crate::names;
use crate::platform::Platform;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;
use std::collections::BTreeMap;

/// One desired object.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// Identity of pods.
    ServiceAccount(Box<ServiceAccount>),
    /// Data that is no secret.
    ConfigMap(Box<ConfigMap>),
    /// Data that is.
    Secret(Box<Secret>),
    /// A volume.
    PersistentVolumeClaim(Box<PersistentVolumeClaim>),
    /// An address.
    Service(Box<Service>),
    /// Who may connect.
    NetworkPolicy(Box<NetworkPolicy>),
    /// How many pods may be evicted at a time.
    PodDisruptionBudget(Box<PodDisruptionBudget>),
    /// Interchangeable pods.
    Deployment(Box<Deployment>),
    /// Pods with a place of their own.
    StatefulSet(Box<StatefulSet>),
    /// A route of the Gateway API, whose types come from a CRD.
    HttpRoute(Box<Value>),
}

impl Object {
    /// The kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ServiceAccount(_) => "ServiceAccount",
            Self::ConfigMap(_) => "ConfigMap",
            Self::Secret(_) => "Secret",
            Self::PersistentVolumeClaim(_) => "PersistentVolumeClaim",
            Self::Service(_) => "Service",
            Self::NetworkPolicy(_) => "NetworkPolicy",
            Self::PodDisruptionBudget(_) => "PodDisruptionBudget",
            Self::Deployment(_) => "Deployment",
            Self::StatefulSet(_) => "StatefulSet",
            Self::HttpRoute(_) => "HTTPRoute",
        }
    }

    /// `apiVersion` of the object.
    pub fn api_version(&self) -> &'static str {
        match self {
            Self::ServiceAccount(_)
            | Self::ConfigMap(_)
            | Self::Secret(_)
            | Self::PersistentVolumeClaim(_)
            | Self::Service(_) => "v1",
            Self::NetworkPolicy(_) => "networking.k8s.io/v1",
            Self::PodDisruptionBudget(_) => "policy/v1",
            Self::Deployment(_) | Self::StatefulSet(_) => "apps/v1",
            Self::HttpRoute(_) => "gateway.networking.k8s.io/v1",
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        let metadata = match self {
            Self::HttpRoute(route) => {
                return route["metadata"]["name"].as_str().unwrap_or_default();
            }
            Self::ServiceAccount(object) => &object.metadata,
            Self::ConfigMap(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::PersistentVolumeClaim(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::NetworkPolicy(object) => &object.metadata,
            Self::PodDisruptionBudget(object) => &object.metadata,
            Self::Deployment(object) => &object.metadata,
            Self::StatefulSet(object) => &object.metadata,
        };
        metadata.name.as_deref().unwrap_or_default()
    }

    /// The object as server-side apply sends it.
    pub fn to_json(&self) -> Value {
        let json = match self {
            Self::HttpRoute(route) => return (**route).clone(),
            Self::ServiceAccount(object) => serde_json::to_value(object),
            Self::ConfigMap(object) => serde_json::to_value(object),
            Self::Secret(object) => serde_json::to_value(object),
            Self::PersistentVolumeClaim(object) => serde_json::to_value(object),
            Self::Service(object) => serde_json::to_value(object),
            Self::NetworkPolicy(object) => serde_json::to_value(object),
            Self::PodDisruptionBudget(object) => serde_json::to_value(object),
            Self::Deployment(object) => serde_json::to_value(object),
            Self::StatefulSet(object) => serde_json::to_value(object),
        };
        json.expect("types of Kubernetes are plain data")
    }
}

/// The ConfigMap of a download's certificate authorities, beside an object called `name`: what is configured, and the
/// operator's own for a download that reports to it.
pub(crate) fn authorities(
    owner: &Owner<'_>,
    name: &str,
    (platform, reports): (&Platform, bool),
) -> Option<Object> {
    let bundle = platform.ca_bundle.clone();
    let bundle = bundle.map(|bundle| (names::CA_KEY.to_owned(), bundle));
    let own = reports.then(|| {
        let key = names::OPERATOR_CA_KEY.to_owned();
        (key, platform.operator_ca.clone())
    });
    let data: BTreeMap<String, String> = bundle.into_iter().chain(own).collect();
    (!data.is_empty()).then(|| {
        Object::ConfigMap(Box::new(ConfigMap {
            metadata: owner.owned(names::authorities(name)),
            data: Some(data),
            ..ConfigMap::default()
        }))
    })
}

/// Whose object it is: metadata of everything that one custom resource makes.
pub(crate) struct Owner<'a> {
    pub(crate) kind: &'static str,
    pub(crate) label: &'static str,
    pub(crate) metadata: &'a ObjectMeta,
}

impl Owner<'_> {
    /// Name of the custom resource.
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Metadata of an object that goes when the custom resource goes.
    pub(crate) fn owned(&self, name: String) -> ObjectMeta {
        let reference = OwnerReference {
            api_version: weir_crds::API_VERSION.into(),
            kind: self.kind.into(),
            name: self.name().to_owned(),
            uid: self.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        ObjectMeta {
            owner_references: Some(vec![reference]),
            ..self.kept(name)
        }
    }

    /// Metadata of an object that stays when the custom resource goes.
    pub(crate) fn kept(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: self.metadata.namespace.clone(),
            labels: Some(names::selector(self.label, self.name())),
            ..ObjectMeta::default()
        }
    }
}
