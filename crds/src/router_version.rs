//! `RouterVersion`: an immutable, verified router artifact.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A router artifact by place and digest.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "RouterVersion",
    plural = "routerversions",
    shortname = "rv",
    category = "weir",
    namespaced,
    status = "RouterVersionStatus",
    derive = "PartialEq",
    doc = "A router artifact by place and digest. The spec is immutable.",
    validation = Rule::new("self.metadata.name != 'builtin'")
        .message("builtin is what the artifact that Weir ships is called: give the version another name"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Regret",
        type_ = "number",
        json_path = ".status.holdout.qualityRegret"
    ),
    printcolumn(
        name = "Speedup",
        type_ = "number",
        json_path = ".status.holdout.speedup"
    ),
    printcolumn(name = "Used-By", type_ = "integer", json_path = ".status.usedByCount"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(
        name = "Decisions",
        type_ = "integer",
        json_path = ".spec.trainedFrom.decisions",
        priority = 1
    ),
    printcolumn(
        name = "Trained-To",
        type_ = "string",
        json_path = ".spec.trainedFrom.to",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(validation = Rule::new("self == oldSelf")
    .message("a RouterVersion is immutable: create another one and name it in the gateway's router.version"))]
#[serde(rename_all = "camelCase")]
pub struct RouterVersionSpec {
    /// Where the artifact is.
    pub artifact: Artifact,
    /// SHA-256 of the artifact, lower-case hexadecimal, always checked.
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-f]{64}$')")
        .message("must be 64 lower-case hexadecimal digits: write what `weir router inspect FILE` prints"))]
    pub sha256: String,
    /// What it was trained from; shown, not interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_from: Option<TrainedFrom>,
}

/// Where an artifact is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.configMap) != has(self.url)")
    .message("needs exactly one of configMap, url: write configMap: {name: NAME} in a cluster, url: https://HOST/PATH anywhere, or url: file://PATH in local mode"))]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// A ConfigMap of the same namespace that holds the artifact under binaryData. In a cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKeyRef>,
    /// An ONNX file of at most 128 KiB. https://HOST/PATH, in a cluster of the hosts that the operator is allowed to ask
    /// (`artifactHosts` of its chart); or file://PATH, relative to the stack file with file://./, in local mode only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^(file://.+|https://[^/@]+/.+)$')")
        .message("must say where the artifact is: write https://HOST/PATH without a name or password, file://PATH in local mode, or configMap in a cluster"))]
    pub url: Option<String>,
}

/// A reference to one entry of a ConfigMap of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Entry that holds the artifact.
    #[serde(default = "ConfigMapKeyRef::default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What an artifact was trained from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrainedFrom {
    /// Decisions in the log.
    pub decisions: u64,
    /// First of them, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub from: Option<String>,
    /// Last of them, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub to: Option<String>,
}

/// What is known about an artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouterVersionStatus {
    /// Hash of the features it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_schema: Option<String>,
    /// Models of the ladder it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<u32>,
    /// How it did on held-out questions, by its own manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holdout: Option<Holdout>,
    /// Gateways that serve it or are about to.
    #[serde(default)]
    pub used_by_count: u32,
    /// Ready first.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// How an artifact did on held-out questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Holdout {
    /// Quality of always asking the biggest model, less the router's (1 to 5).
    pub quality_regret: f64,
    /// Upper end of its confidence interval.
    pub upper: f64,
    /// Seconds of the fixed middle model over the router's.
    pub speedup: f64,
}

impl ConfigMapKeyRef {
    fn default_key() -> String {
        "router.onnx".into()
    }
}
