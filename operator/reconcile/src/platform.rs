//! What the operator was started with, as far as the objects it makes depend on it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Images and addresses that resources do not name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Platform {
    /// Image of this binary, with the entry point `/weir`.
    pub image: String,
    /// Image of llama.cpp's server for pools that name none.
    pub llama_cpp_image: String,
    /// Image of vLLM for pools that name none.
    pub vllm_image: String,
    /// Namespace of the operator, from where it may connect to pods.
    pub operator_namespace: String,
    /// Where gateways and downloads reach the operator, `https://HOST:PORT`.
    pub operator_address: String,
    /// Certificates of the operator's own authority, by which downloads know it, PEM. No pod template depends on them.
    #[serde(default)]
    pub operator_ca: String,
    /// Further certificate authorities that downloads trust, PEM.
    #[serde(default)]
    pub ca_bundle: Option<String>,
    /// Variables of every process that connects to the outside: HTTPS_PROXY, NO_PROXY, HF_ENDPOINT and the like.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}
