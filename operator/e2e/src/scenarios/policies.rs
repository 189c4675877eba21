//! Who may connect to what, tried from pods: the cluster enforces the NetworkPolicies that the chart and the operator make.
//!
//! A pod with the label of Weir's own proves of each port that somebody listens there; what others find closed is then closed to them.

use super::stack;
use crate::told::say;
use crate::world::{Namespace, World};
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::time::Duration;

const AWAY: &str = "e2e-policies-away";
/// The pod of a namespace that nobody knows.
const STRANGER: &str = "stranger";
/// The pod that looks as if the operator had made it.
const OWN: &str = "own";

/// A port of a pod, as an address, and whether it is for everybody.
struct Port {
    of: &'static str,
    address: String,
    open: bool,
}

pub(crate) async fn run(world: &World) -> Result<()> {
    let away = world.namespace(AWAY).await?;
    let namespace = world.namespace("e2e-policies").await?;
    let result = steps(&namespace, &away).await;
    let result = namespace.finish(result).await;
    away.finish(result).await
}

async fn steps(namespace: &Namespace<'_>, away: &Namespace<'_>) -> Result<()> {
    let world = namespace.world;
    probe(away, STRANGER, &json!({})).await?;
    probe(namespace, STRANGER, &json!({})).await?;
    let own = json!({"app.kubernetes.io/managed-by": "weir"});
    probe(namespace, OWN, &own).await?;
    let (_, gateway) = stack::serves(namespace).await?;
    stack::answers_from_its_memory(namespace, &gateway).await?;

    for port in ports(namespace).await? {
        expect((namespace, OWN), &port, true).await?;
        for from in [(namespace, STRANGER), (away, STRANGER)] {
            expect(from, &port, port.open).await?;
        }
        let whom = if port.open { "everybody" } else { "Weir's own" };
        say!("{} lets in {whom}", port.of);
    }

    let narrowed = metrics_for_one_namespace(namespace, away).await;
    let restored = crate::install::charts(world, &[]).await;
    narrowed.context("networkPolicy.metricsFrom")?;
    restored
}

/// Every port that pods of Weir have. The operator's metrics are the last.
async fn ports(namespace: &Namespace<'_>) -> Result<Vec<Port>> {
    let world = namespace.world;
    let of = async |label: &str| -> Result<String> {
        let pods = namespace.pods(label).await?;
        address(pods.first()).with_context(|| format!("no pod with {label} has an address"))
    };
    let engine = of("weir.dev/pool=small").await?;
    let memory = of("weir.dev/memory=kb").await?;
    let gateway = of("weir.dev/gateway=support").await?;
    let leader = crate::operators::leader(world).await?;
    let operators = crate::operators::pods(world).await?;
    let leads =
        |pod: &&Pod| pod.metadata.name.as_deref() == Some(crate::operators::pod_of(&leader));
    let operator = address(operators.iter().find(leads)).context("nobody leads")?;
    let port = |of, address: &str, port: u16, open| Port {
        of,
        address: format!("{address}:{port}"),
        open,
    };
    Ok(vec![
        port("a gateway", &gateway, 8080, true),
        port("an engine", &engine, 8080, false),
        port("a memory", &memory, 7444, false),
        port("a memory's port for probes", &memory, 8081, true),
        port("the operator's port for gateways", &operator, 7443, false),
        port("the operator's metrics", &operator, 8081, true),
    ])
}

/// With `networkPolicy.metricsFrom` the operator's metrics are for whom it names, and for `helm test`.
async fn metrics_for_one_namespace(namespace: &Namespace<'_>, away: &Namespace<'_>) -> Result<()> {
    let world = namespace.world;
    let ports = ports(namespace).await?;
    let metrics = ports.last().context("there are ports")?;
    let peer =
        r"networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.kubernetes\.io/metadata\.name";
    crate::install::charts(world, &[&format!("{peer}={AWAY}")]).await?;
    expect((namespace, STRANGER), metrics, false).await?;
    expect((namespace, OWN), metrics, false).await?;
    expect((away, STRANGER), metrics, true).await?;
    crate::install::helm_test(world).await
}

/// Waits until a pod finds a port open, or closed: rules follow pods and policies a moment later.
async fn expect((from, pod): (&Namespace<'_>, &str), port: &Port, expected: bool) -> Result<()> {
    let seen = from.world.until(Duration::from_secs(20), async || {
        let connects = connects(from, pod, &port.address).await?;
        Ok((connects == expected).then_some(()))
    });
    let found = if expected { "closed" } else { "open" };
    seen.await.with_context(|| {
        let Namespace { name, .. } = from;
        format!(
            "{pod} of {name} finds {} ({}) {found}",
            port.of, port.address
        )
    })
}

/// Whether a pod's connection comes about.
async fn connects(from: &Namespace<'_>, pod: &str, address: &str) -> Result<bool> {
    let exec = [
        "-n", &from.name, "exec", pod, "--", "/probe", "connect", address,
    ];
    match from.world.tool("kubectl", &exec).await {
        Ok(_) => Ok(true),
        Err(error) if format!("{error:#}").contains("dial tcp") => Ok(false),
        Err(error) => Err(error),
    }
}

/// A pod that looks at the cluster, with these labels, once it runs.
async fn probe(namespace: &Namespace<'_>, name: &str, labels: &Value) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "probe", "image": "weir.local/probe:dev", "imagePullPolicy": "Never", "args": ["wait"],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    });
    namespace.apply_object(&pod).await?;
    let ready = format!("pod/{name}");
    let wait = [
        "-n",
        &namespace.name,
        "wait",
        "--for=condition=Ready",
        &ready,
        "--timeout=60s",
    ];
    namespace.world.tool("kubectl", &wait).await.map(drop)
}

/// Where a pod is reached.
pub(super) fn address(pod: Option<&Pod>) -> Option<String> {
    pod?.status.as_ref()?.pod_ip.clone()
}
