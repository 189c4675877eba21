//! Types that several kinds use: how far data may travel, where a model runs, references to secrets.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a request's data travels: `local`, `onPrem`, `cloud`, in this order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Privacy {
    /// Stays on this machine or in this namespace.
    Local,
    /// Stays on the organisation's own machines.
    OnPrem,
    /// May leave the organisation.
    Cloud,
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Tier {
    /// On the user's own device.
    Device,
    /// Near the user.
    Edge,
    /// In a data centre.
    Server,
}

/// A reference to an object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A reference to one entry of a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Entry of the Secret that holds the value.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A reference to certificate authorities in one entry of a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Entry of the Secret that holds the certificates, PEM.
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_key() -> String {
    "apiKey".into()
}

fn default_ca_key() -> String {
    "ca.crt".into()
}

impl Privacy {
    /// The word in a document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::OnPrem => "onPrem",
            Self::Cloud => "cloud",
        }
    }
}

impl Tier {
    /// The word in a document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Edge => "edge",
            Self::Server => "server",
        }
    }
}

impl std::fmt::Display for Privacy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
