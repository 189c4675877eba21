//! `RouterVersion`: an immutable, verified router artifact.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]
#![expect(clippy::duplicated_attributes, reason = "printer columns share a type")]

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
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
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
}

/// Where an artifact is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// An ONNX file of at most 128 KiB: file://PATH, relative to the stack file with file://./ .
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^file://.+$')")
        .message("must say where the artifact is: write file://PATH"))]
    pub url: String,
}

/// What is known about an artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouterVersionStatus {
    /// Ready first.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}
