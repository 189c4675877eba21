//! The image has inside what it takes to reach other machines: a name is looked up and a certificate verified by a process of it.
//!
//! The model hub is given a name that the cluster answers: a Service that leads to it. Its certificate is good for that name.

use crate::told::say;
use crate::world::{Namespace, World};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// `models.weir-hub.svc` is in the certificate that testenv/cluster/models.py makes.
const NAMESPACE: &str = "weir-hub";
const NAME: &str = "models";

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace(NAMESPACE).await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    let world = namespace.world;
    let port = hub_by_name(namespace).await?;
    let url = format!("https://{NAME}.{NAMESPACE}.svc:{port}/models/tiny-random.gguf");
    let authority = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hub-ca"},
        "data": {"ca.crt": world.hub.ca},
    });
    namespace.apply_object(&authority).await?;
    let believed = json!([{"name": "WEIR_CA_BUNDLE", "value": "/ca/ca.crt"}]);
    let (phase, told) = fetch(namespace, ("believed", &url), believed).await?;
    ensure!(phase == "Succeeded", "{url} was not fetched: {told}");
    let (phase, told) = fetch(namespace, ("unknown", &url), json!([])).await?;
    say!("{told}");
    ensure!(
        phase == "Failed" && told.contains("certificate"),
        "an authority that nobody named was believed, or this is not said: {phase}: {told}"
    );
    Ok(())
}

/// A Service that leads to the hub; its port.
async fn hub_by_name(namespace: &Namespace<'_>) -> Result<u16> {
    let hub = namespace.world.hub.url.split("://").nth(1);
    let (host, port) = hub
        .and_then(|hub| hub.rsplit_once(':'))
        .context("the hub's address")?;
    let port: u16 = port.parse()?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
        "spec": {"ports": [{"name": "https", "port": port}]},
    });
    let service = namespace.apply_object(&service).await?;
    let address = service.data["spec"]["clusterIP"].as_str();
    let address: IpAddr = address.context("a Service has an address")?.parse()?;
    let endpoints = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4", "endpoints": [{"addresses": [host], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    namespace.apply_object(&endpoints).await?;
    // The node is this machine, and hears of the endpoints a moment later.
    let leads = namespace.world.until(Duration::from_secs(30), async || {
        TcpStream::connect((address, port)).await?;
        Ok(Some(()))
    });
    leads.await.context("the Service leads nowhere")?;
    Ok(port)
}

/// Runs `weir model fetch` in a pod of the image until it ends: the pod's phase, and the last that it said.
async fn fetch(
    namespace: &Namespace<'_>,
    (name, url): (&str, &str),
    environment: Value,
) -> Result<(String, String)> {
    let world = namespace.world;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "fetch", "image": format!("weir.local/weir:{}", world.tag), "imagePullPolicy": "Never",
                "args": ["model", "fetch", url, "--to", "/model/tiny-random.gguf"],
                "env": environment,
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "model", "mountPath": "/model"}, {"name": "ca", "mountPath": "/ca"},
                ],
            }],
            "volumes": [
                {"name": "model", "emptyDir": {}}, {"name": "ca", "configMap": {"name": "hub-ca"}},
            ],
        },
    });
    namespace.apply_object(&pod).await?;
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &namespace.name);
    let ended = world.until(Duration::from_secs(90), async || {
        let status = api.get(name).await?.status.unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        if !["Succeeded", "Failed"].contains(&phase.as_str()) {
            return Ok(None);
        }
        let containers = status.container_statuses.unwrap_or_default();
        let ended = containers
            .into_iter()
            .find_map(|container| container.state?.terminated);
        Ok(ended.map(|ended| (phase, ended.message.unwrap_or_default())))
    });
    ended
        .await
        .with_context(|| format!("the pod {name} does not end"))
}
