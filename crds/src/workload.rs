//! What kinds with pods share: quantities, resources, where a pod may run.
//!
//! Deliberately no PodSpec: each field here is one that Weir passes on and tests. Local mode has no pods and reads none
//! of it.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]

use crate::common::NameRef;
use k8s_openapi::api::core::v1::Toleration;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// An amount as Kubernetes writes it: `500m`, `2`, `4Gi`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(String);

/// What a container may and must get, by the names of Kubernetes: cpu, memory, `nvidia.com/gpu`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(
    "self.requests.all(name, !(name in self.limits) || !isQuantity(self.requests[name]) || \
     !isQuantity(self.limits[name]) || quantity(self.requests[name]).compareTo(quantity(self.limits[name])) <= 0)"
).message("a request exceeds its limit: write a limit at least as large as the request, or remove it")
    .field_path(".limits"))]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler sets aside.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,
    /// What the container may never exceed.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}

/// Where pods may run, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodOptions {
    /// Labels a node must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pods put up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// RuntimeClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// ServiceAccount of the pods, which get no token of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Secrets to pull images with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<NameRef>,
}

/// Suffixes and what they multiply by. <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
const SCALES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

impl Quantity {
    /// An amount as it is written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The amount, `None` when the text is no quantity.
    pub fn amount(&self) -> Option<f64> {
        let text = self.0.as_str();
        let scaled = SCALES.iter().find_map(|(suffix, scale)| {
            let number: f64 = text.strip_suffix(suffix)?.parse().ok()?;
            Some(number * scale)
        });
        let amount = scaled.or_else(|| text.parse().ok())?;
        amount.is_finite().then_some(amount)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "x-kubernetes-validations": [{
                "rule": "isQuantity(self) && quantity(self).compareTo(quantity('0')) >= 0",
                "message": "must be an amount that is not negative: write for example \"2\", 500m or 4Gi"
            }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_suffix() {
        for (text, amount) in [
            ("3", 3.0),
            ("500m", 0.5),
            ("1.5", 1.5),
            ("4Gi", 4_294_967_296.0),
            ("2k", 2000.0),
            ("1e3", 1000.0),
        ] {
            assert_eq!(Quantity::new(text).amount(), Some(amount), "{text}");
        }
        for text in ["", "three", "1 Gi", "inf", "Gi"] {
            assert_eq!(Quantity::new(text).amount(), None, "{text}");
        }
    }
}
