//! What every pod of Weir has in common: Pod Security `restricted`, probes, volumes, resources, where it may run.

use crate::names;
use crate::platform::Platform;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, HostPathVolumeSource, Lifecycle, LifecycleHandler,
    LocalObjectReference, ObjectFieldSelector, PersistentVolumeClaimVolumeSource,
    PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile, SecretKeySelector,
    SecretVolumeSource, SecurityContext, SleepAction, TopologySpreadConstraint, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use weir_crds::{PodOptions, Resources};

/// The user that every process runs as.
const USER: i64 = 65532;

/// A pod without its containers.
pub(crate) fn spec(options: Option<&PodOptions>, labels: &BTreeMap<String, String>) -> PodSpec {
    let nowhere = PodOptions::default();
    let options = options.unwrap_or(&nowhere);
    let some = |list: Vec<LocalObjectReference>| (!list.is_empty()).then_some(list);
    let secrets = options
        .image_pull_secrets
        .iter()
        .map(|secret| LocalObjectReference {
            name: secret.name.clone(),
        });
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: some(secrets.collect()),
        node_selector: (!options.node_selector.is_empty()).then(|| options.node_selector.clone()),
        priority_class_name: options.priority_class_name.clone(),
        runtime_class_name: options.runtime_class_name.clone(),
        service_account_name: options.service_account_name.clone(),
        tolerations: (!options.tolerations.is_empty()).then(|| options.tolerations.clone()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        topology_spread_constraints: Some(vec![TopologySpreadConstraint {
            label_selector: Some(LabelSelector {
                match_labels: Some(labels.clone()),
                ..LabelSelector::default()
            }),
            max_skew: 1,
            topology_key: "kubernetes.io/hostname".into(),
            when_unsatisfiable: "ScheduleAnyway".into(),
            ..TopologySpreadConstraint::default()
        }]),
        ..PodSpec::default()
    }
}

/// A container that may do nothing but compute.
pub(crate) fn container(name: &str, image: &str) -> Container {
    Container {
        name: name.into(),
        image: Some(image.into()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                ..Capabilities::default()
            }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

/// What a container gets: what is asked for, and `defaults` of requests where nothing is.
pub(crate) fn requirements(
    asked: Option<&Resources>,
    defaults: &[(&str, &str)],
) -> ResourceRequirements {
    let nothing = Resources::default();
    let asked = asked.unwrap_or(&nothing);
    let amounts = |map: &BTreeMap<String, weir_crds::Quantity>| -> BTreeMap<String, Quantity> {
        let amounts = map.iter();
        amounts
            .map(|(name, amount)| (name.clone(), Quantity(amount.as_str().to_owned())))
            .collect()
    };
    let limits = amounts(&asked.limits);
    let mut requests = amounts(&asked.requests);
    for (name, amount) in defaults {
        // A limit alone is its own request, by Kubernetes' rule.
        if !limits.contains_key(*name) {
            let amount = Quantity((*amount).to_owned());
            requests.entry((*name).to_owned()).or_insert(amount);
        }
    }
    ResourceRequirements {
        requests: (!requests.is_empty()).then_some(requests),
        limits: (!limits.is_empty()).then_some(limits),
        claims: None,
    }
}

/// A probe of an HTTP path every `period` seconds, failed after `failures` in a row.
pub(crate) fn probe(path: &str, port: u16, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(i32::from(port)),
            scheme: Some("HTTP".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

/// The same over HTTPS; whose certificate it is does not matter.
pub(crate) fn over_https(mut probe: Probe) -> Probe {
    if let Some(get) = &mut probe.http_get {
        get.scheme = Some("HTTPS".into());
    }
    probe
}

/// A port that a container listens at.
pub(crate) fn port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: i32::from(port),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

/// Answers for a while after the pod was told to end. The native action: images have no shell.
pub(crate) fn sleep_before_stop(seconds: i64) -> Lifecycle {
    Lifecycle {
        pre_stop: Some(LifecycleHandler {
            sleep: Some(SleepAction { seconds }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    }
}

/// Variables with fixed values.
pub(crate) fn variables(values: &BTreeMap<String, String>) -> Vec<EnvVar> {
    let values = values.iter();
    values.map(|(name, value)| variable(name, value)).collect()
}

/// A variable with a fixed value.
pub(crate) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.into()),
        value_from: None,
    }
}

/// A variable with an entry of a Secret.
pub(crate) fn secret_variable(name: &str, secret: &str, key: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.into(),
                key: key.into(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// A variable with what the pod's own metadata says.
pub(crate) fn own(name: &str, field: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: field.into(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// A folder that goes with the pod; in memory when `in_memory`.
pub(crate) fn scratch(name: &str, in_memory: bool) -> Volume {
    Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: in_memory.then(|| "Memory".into()),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// The files of a Secret; without it the pod waits, unless it is `optional`.
pub(crate) fn secret(name: &str, secret: &str, optional: bool) -> Volume {
    Volume {
        name: name.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.into()),
            optional: optional.then_some(true),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Adds certificate authorities to a download: the volume, and its place in `container`. Those of the operator's
/// configuration are trusted when there are any.
pub(crate) fn authorities(
    container: &mut Container,
    config_map: &str,
    platform: &Platform,
) -> Volume {
    let mounts = container.volume_mounts.get_or_insert_default();
    mounts.push(mount("ca", names::CA_FOLDER, true));
    if platform.ca_bundle.is_some() {
        let path = format!("{}/{}", names::CA_FOLDER, names::CA_KEY);
        let variables = container.env.get_or_insert_default();
        variables.push(variable("WEIR_CA_BUNDLE", &path));
    }
    Volume {
        name: "ca".into(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.into(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A claim.
pub(crate) fn claim(name: &str, claim: &str, read_only: bool) -> Volume {
    Volume {
        name: name.into(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.into(),
            read_only: read_only.then_some(true),
        }),
        ..Volume::default()
    }
}

/// A folder of the node.
pub(crate) fn host_path(name: &str, path: &str) -> Volume {
    Volume {
        name: name.into(),
        host_path: Some(HostPathVolumeSource {
            path: path.into(),
            type_: Some("DirectoryOrCreate".into()),
        }),
        ..Volume::default()
    }
}

/// Where a container sees a volume.
pub(crate) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}
