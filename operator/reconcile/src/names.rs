//! Names, labels, ports and places that the operator, the gateways and their pods agree on.
//!
//! Nothing here is decided at run time: whoever needs a name asks this file.

use std::collections::BTreeMap;

/// Field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "weir.dev/operator";
/// Label of everything the operator made.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "weir");
/// Label of a pool's objects, with its name.
pub const POOL_LABEL: &str = "weir.dev/pool";
/// Label of a gateway's objects, with its name.
pub const GATEWAY_LABEL: &str = "weir.dev/gateway";
/// Label of a memory's objects, with its name.
pub const MEMORY_LABEL: &str = "weir.dev/memory";
/// Label of the verified bytes of a router artifact, with the start of their digest.
pub const ROUTER_LABEL: &str = "weir.dev/router";
/// Label with which people show Secrets and ConfigMaps to Weir, with its value.
pub const WATCHED: &str = "weir.dev/watch=true";
/// Port of an engine.
pub const ENGINE_PORT: u16 = 8080;
/// Port of a gateway.
pub const GATEWAY_PORT: u16 = 8080;
/// Port of a memory service.
pub const MEMORY_PORT: u16 = 7444;
/// Port where a memory service answers probes and scrapes.
pub const MEMORY_HEALTH_PORT: u16 = 8081;
/// Where certificates are mounted.
pub const TLS_FOLDER: &str = "/etc/weir/tls";
/// Where a gateway's pod sees the certificate that it shows to clients.
pub const HTTPS_FOLDER: &str = "/etc/weir/https";
/// Where the slow part of the plan is mounted.
pub const PLAN_FOLDER: &str = "/etc/weir/plan";
/// Entry of the plan's Secret.
pub const PLAN_KEY: &str = "plan.json";
/// Where a process keeps its state.
pub const STATE_FOLDER: &str = "/var/lib/weir";
/// Where a download finds certificate authorities.
pub const CA_FOLDER: &str = "/etc/weir/ca";
/// Their ConfigMap's entry of those that it trusts beside the public ones.
pub const CA_KEY: &str = "ca-bundle.crt";
/// Their ConfigMap's entry of the one by which it knows the operator.
pub const OPERATOR_CA_KEY: &str = "operator-ca.crt";
/// Name of the init container that downloads a model.
pub const FETCH_CONTAINER: &str = "fetch";
/// Name of the container that serves a model.
pub const ENGINE_CONTAINER: &str = "engine";

/// Name of a pool's Deployment, Service, disruption budget and network policy.
pub fn pool(name: &str) -> String {
    format!("{name}-engine")
}

/// Name of a gateway's Deployment, Service, ServiceAccount and so on.
pub fn gateway(name: &str) -> String {
    format!("{name}-gateway")
}

/// Name of the ConfigMap of a download's certificate authorities beside a Deployment or StatefulSet called `name`.
pub fn authorities(name: &str) -> String {
    format!("{name}-ca")
}

/// Name of the Secret with a gateway's certificate (`ca.crt`, `tls.crt`, `tls.key`).
pub fn gateway_tls(name: &str) -> String {
    format!("{name}-gateway-tls")
}

/// Name of the Secret with the slow part of a gateway's plan.
pub fn gateway_plan(name: &str) -> String {
    format!("{name}-gateway-plan")
}

/// Name of a memory's StatefulSet, Service, claim and so on.
pub fn memory(name: &str) -> String {
    format!("{name}-memory")
}

/// Name of the Secret with a memory's certificate (`ca.crt`, `tls.crt`, `tls.key`).
pub fn memory_tls(name: &str) -> String {
    format!("{name}-memory-tls")
}

/// Name of the ConfigMap that keeps a router version's verified bytes.
pub fn router(sha256: &str) -> String {
    let digits = sha256.get(..32).unwrap_or(sha256);
    format!("weir-router-{digits}")
}

/// Base URL of a pool's Service, reachable from every namespace.
pub fn pool_url(name: &str, namespace: &str) -> String {
    let service = pool(name);
    format!("http://{service}.{namespace}.svc:{ENGINE_PORT}")
}

/// Base URL of a memory's Service, as its certificate names it.
pub fn memory_url(name: &str, namespace: &str) -> String {
    let service = memory(name);
    format!("https://{service}.{namespace}.svc:{MEMORY_PORT}")
}

/// The labels that select one custom resource's pods.
pub fn selector(label: &str, name: &str) -> BTreeMap<String, String> {
    let own = (label.to_owned(), name.to_owned());
    let managed = (MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    BTreeMap::from([own, managed])
}

/// The same labels as the scale subresource wants them.
pub fn selector_text(label: &str, name: &str) -> String {
    let pairs = selector(label, name).into_iter();
    let pairs: Vec<String> = pairs
        .map(|(label, value)| format!("{label}={value}"))
        .collect();
    pairs.join(",")
}
