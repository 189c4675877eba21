//! Services, network policies and disruption budgets, which every kind with pods has.

use crate::names::{self, MANAGED_BY};
use crate::object::{Object, Owner};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

fn pods(owner: &Owner<'_>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(names::selector(owner.label, owner.name())),
        ..LabelSelector::default()
    }
}

/// A Service of one port to the owner's pods, which says that it speaks `app_protocol`.
pub(crate) fn service(
    owner: &Owner<'_>,
    name: String,
    (port, app_protocol): (u16, Option<&str>),
    kind: &str,
) -> Object {
    Object::Service(Box::new(Service {
        metadata: owner.owned(name),
        spec: Some(ServiceSpec {
            type_: Some(kind.into()),
            selector: Some(names::selector(owner.label, owner.name())),
            ports: Some(vec![ServicePort {
                name: Some("main".into()),
                port: i32::from(port),
                target_port: Some(IntOrString::Int(i32::from(port))),
                protocol: Some("TCP".into()),
                app_protocol: app_protocol.map(Into::into),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }))
}

/// At most one of the owner's pods is evicted at a time.
pub(crate) fn budget(owner: &Owner<'_>, name: String) -> Object {
    Object::PodDisruptionBudget(Box::new(PodDisruptionBudget {
        metadata: owner.owned(name),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(pods(owner)),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }))
}

/// Lets Weir's own pods of the namespace and the operator connect to `port`, everybody to `open`, where nothing private is
/// shown, and nobody to any other.
pub(crate) fn policy_for_weir(
    owner: &Owner<'_>,
    name: String,
    (port, open): (u16, Option<u16>),
    operator_namespace: &str,
) -> Object {
    let label = |key: &str, value: &str| LabelSelector {
        match_labels: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
        ..LabelSelector::default()
    };
    let own = NetworkPolicyPeer {
        pod_selector: Some(label(MANAGED_BY.0, MANAGED_BY.1)),
        ..NetworkPolicyPeer::default()
    };
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(label("kubernetes.io/metadata.name", operator_namespace)),
        ..NetworkPolicyPeer::default()
    };
    let mut rules = vec![rule(port, Some(vec![own, operator]))];
    rules.extend(open.map(|open| rule(open, None)));
    policy(owner, name, rules)
}

/// Lets everybody connect to `port`, and to no other.
pub(crate) fn policy_for_all(owner: &Owner<'_>, name: String, port: u16) -> Object {
    policy(owner, name, vec![rule(port, None)])
}

fn rule(port: u16, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from,
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(i32::from(port))),
            protocol: Some("TCP".into()),
            ..NetworkPolicyPort::default()
        }]),
    }
}

fn policy(owner: &Owner<'_>, name: String, rules: Vec<NetworkPolicyIngressRule>) -> Object {
    Object::NetworkPolicy(Box::new(NetworkPolicy {
        metadata: owner.owned(name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods(owner)),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(rules),
            ..NetworkPolicySpec::default()
        }),
    }))
}
