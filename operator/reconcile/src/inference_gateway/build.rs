//! The objects of a gateway: Secret of the plan, ServiceAccount, Service, route, network policy, disruption budget,
//! Deployment.

use crate::names::{
    self, GATEWAY_LABEL, GATEWAY_PORT, HTTPS_FOLDER, PLAN_FOLDER, PLAN_KEY, STATE_FOLDER,
    TLS_FOLDER,
};
use crate::network;
use crate::object::{Object, Owner};
use crate::platform::Platform;
use crate::pod;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;
use std::collections::BTreeMap;
use weir_crds::{HttpRoute, InferenceGateway, ServiceType};
use weir_plan::GatewayPlan;

/// Name of the container.
const CONTAINER: &str = "gateway";

/// What a gateway needs for its end beside the longest request: five seconds before it is told to end and five after, in
/// which requests still come, and time to spare.
const LEAVE_SECONDS: i64 = 20;

/// What a gateway starts from with the operator away.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// The slow part of its plan; `None` while the stack is wrong and none was ever made.
    pub plan: Option<&'a GatewayPlan>,
    /// Bytes of the router artifacts that the plan names, by SHA-256.
    pub artifacts: &'a BTreeMap<String, Vec<u8>>,
}

/// The objects of a gateway.
pub fn build(
    gateway: &InferenceGateway,
    platform: &Platform,
    material: Material<'_>,
) -> Vec<Object> {
    let owner = Owner {
        kind: "InferenceGateway",
        label: GATEWAY_LABEL,
        metadata: &gateway.metadata,
    };
    let name = names::gateway(owner.name());
    let expose = &gateway.spec.expose;
    let service = match expose.service {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let protocol = expose.tls_secret_ref.as_ref().map(|_| "https");
    let mut objects: Vec<Object> = plan_secret(&owner, material).into_iter().collect();
    objects.extend([
        Object::ServiceAccount(Box::new(ServiceAccount {
            metadata: owner.owned(name.clone()),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        })),
        network::service(&owner, name.clone(), (GATEWAY_PORT, protocol), service),
        network::policy_for_all(&owner, name.clone(), GATEWAY_PORT),
        network::budget(&owner, name),
        deployment(gateway, &owner, platform),
    ]);
    let route = expose.http_route.as_ref();
    objects.extend(route.map(|wanted| http_route(&owner, wanted)));
    objects
}

fn plan_secret(owner: &Owner<'_>, material: Material<'_>) -> Option<Object> {
    let plan = serde_json::to_vec(material.plan?).expect("a plan is plain data");
    let mut data = BTreeMap::from([(PLAN_KEY.to_owned(), ByteString(plan))]);
    for (sha256, bytes) in material.artifacts {
        data.insert(format!("{sha256}.onnx"), ByteString(bytes.clone()));
    }
    Some(Object::Secret(Box::new(Secret {
        metadata: owner.owned(names::gateway_plan(owner.name())),
        data: Some(data),
        type_: Some("Opaque".into()),
        ..Secret::default()
    })))
}

fn deployment(gateway: &InferenceGateway, owner: &Owner<'_>, platform: &Platform) -> Object {
    let labels = names::selector(GATEWAY_LABEL, owner.name());
    let replicas = i32::try_from(gateway.spec.replicas).unwrap_or(i32::MAX);
    Object::Deployment(Box::new(Deployment {
        metadata: owner.owned(names::gateway(owner.name())),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            revision_history_limit: Some(2),
            selector: LabelSelector {
                match_labels: Some(labels),
                ..LabelSelector::default()
            },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: template(gateway, owner, platform),
            ..DeploymentSpec::default()
        }),
        status: None,
    }))
}

fn template(gateway: &InferenceGateway, owner: &Owner<'_>, platform: &Platform) -> PodTemplateSpec {
    let labels = names::selector(GATEWAY_LABEL, owner.name());
    let mut spec = pod::spec(gateway.spec.pod.as_ref(), &labels);
    let account = spec.service_account_name.take();
    spec.service_account_name = account.or_else(|| Some(names::gateway(owner.name())));
    let request = gateway.spec.limits.request_timeout.milliseconds();
    let request = i64::try_from(request.div_ceil(1000)).unwrap_or(i64::MAX);
    spec.termination_grace_period_seconds = Some(request.saturating_add(LEAVE_SECONDS));
    spec.containers = vec![container(gateway, platform)];
    let mut volumes = vec![
        pod::secret("tls", &names::gateway_tls(owner.name()), false),
        // Without a plan a gateway waits for the operator's; without the volume its pod would not even start.
        pod::secret("plan", &names::gateway_plan(owner.name()), true),
        pod::scratch("state", false),
        pod::scratch("tmp", false),
    ];
    // Without the certificate a pod waits for it: nobody is answered in the clear meanwhile.
    let certificate = gateway.spec.expose.tls_secret_ref.as_ref();
    volumes.extend(certificate.map(|secret| pod::secret("https", &secret.name, false)));
    spec.volumes = Some(volumes);
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        }),
        spec: Some(spec),
    }
}

fn container(gateway: &InferenceGateway, platform: &Platform) -> Container {
    let mut args = vec!["gateway".to_owned()];
    let pairs = [
        ("--plan", format!("{PLAN_FOLDER}/{PLAN_KEY}")),
        ("--tls", TLS_FOLDER.to_owned()),
        ("--operator", platform.operator_address.clone()),
        ("--state", STATE_FOLDER.to_owned()),
        ("--listen", format!("0.0.0.0:{GATEWAY_PORT}")),
    ];
    for (flag, value) in pairs {
        args.extend([flag.to_owned(), value]);
    }
    let mut mounts = vec![
        pod::mount("tls", TLS_FOLDER, true),
        pod::mount("plan", PLAN_FOLDER, true),
        pod::mount("state", STATE_FOLDER, false),
        pod::mount("tmp", "/tmp", false),
    ];
    let is_https = gateway.spec.expose.tls_secret_ref.is_some();
    if is_https {
        args.extend(["--https".to_owned(), HTTPS_FOLDER.to_owned()]);
        mounts.push(pod::mount("https", HTTPS_FOLDER, true));
    }
    let probe = |path, period, failures| {
        let probe = pod::probe(path, GATEWAY_PORT, period, failures);
        if is_https {
            pod::over_https(probe)
        } else {
            probe
        }
    };
    let mut env = pod::variables(&platform.environment);
    env.push(pod::own("POD_NAME", "metadata.name"));
    env.push(pod::own("POD_NAMESPACE", "metadata.namespace"));
    Container {
        command: Some(vec!["/weir".into()]),
        args: Some(args),
        env: Some(env),
        // By its name a PodMonitor tells how to ask.
        ports: Some(vec![pod::port(
            if is_https { "https" } else { "main" },
            GATEWAY_PORT,
        )]),
        startup_probe: Some(probe("/healthz", 1, 60)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        // Those who find the gateway by its Service learn of its end in this time; then it ends what is in flight.
        lifecycle: Some(pod::sleep_before_stop(5)),
        resources: Some(pod::requirements(
            gateway.spec.resources.as_ref(),
            &[("cpu", "250m"), ("memory", "256Mi")],
        )),
        volume_mounts: Some(mounts),
        ..pod::container(CONTAINER, &platform.image)
    }
}

fn http_route(owner: &Owner<'_>, wanted: &HttpRoute) -> Object {
    let name = names::gateway(owner.name());
    let metadata = owner.owned(name.clone());
    let parent = &wanted.parent_ref;
    let mut reference = json!({ "name": parent.name });
    if let Some(namespace) = &parent.namespace {
        reference["namespace"] = json!(namespace);
    }
    if let Some(section) = &parent.section_name {
        reference["sectionName"] = json!(section);
    }
    let mut spec = json!({
        "parentRefs": [reference],
        "rules": [{ "backendRefs": [{ "name": name, "port": GATEWAY_PORT }] }],
    });
    if !wanted.hostnames.is_empty() {
        spec["hostnames"] = json!(wanted.hostnames);
    }
    Object::HttpRoute(Box::new(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata,
        "spec": spec,
    })))
}
