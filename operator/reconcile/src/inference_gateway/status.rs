//! What people see of a gateway, from what was observed of it and from the status of what it uses.

use super::familiar;
use crate::condition::{Seen, Verdict};
use crate::keys::{self, KeyError, api_keys, tenants_without_keys};
use crate::model_pool;
use crate::names::{self, GATEWAY_LABEL, GATEWAY_PORT, selector_text};
use crate::pods;
use crate::stack::Stack;
use crate::validate::{ADD_KEY, Problem, nobody_may_ask};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_crds::{
    Condition, Engine, GatewayRouterStatus, InferenceGateway, InferenceGatewayStatus, ModelPool,
    RolloutPhase, RouterRolloutStatus,
};
use weir_plan::{ANONYMOUS, RouterPlan};
use weir_router::drift::Drift;

/// What was observed of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// Its Deployment, as applied.
    pub deployment: Option<Deployment>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Its Service.
    pub service: Option<Service>,
    /// What its rollouts come to (`router_rollout.rs`); without it the version that the spec names decides.
    pub router: Option<GatewayRouterStatus>,
    /// The status of the rollout that `router` names.
    pub rollout: Option<RouterRolloutStatus>,
    /// How its requests differ from those that its router was trained on; without it nobody can tell.
    pub drift: Option<Drift>,
    /// What is wrong with the certificate of its Secret.
    pub certificate_fault: Option<String>,
    /// What the API server said when it refused an object.
    pub refused: Option<String>,
}

/// The status of a gateway.
pub fn status(
    gateway: &InferenceGateway,
    stack: &Stack,
    observed: &Observed,
    (problems, now): (&[Problem], Timestamp),
) -> InferenceGatewayStatus {
    let before = gateway.status.clone().unwrap_or_default();
    let seen = Seen {
        before: &before.conditions,
        generation: gateway.metadata.generation,
        now,
    };
    let name = gateway.metadata.name.as_deref().unwrap_or_default();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let staying = pods::staying(&observed.pods, "");
    let ready_pods = staying.iter().filter(|pod| pods::is_ready(pod)).count();
    let pools = wrong_at(problems, "spec.pools").unwrap_or_else(|| pools_ready(gateway, stack));
    let memory = wrong_at(problems, "spec.memory").or_else(|| memory_ready(gateway, stack));
    let router = router_ready(gateway, stack);
    let keys = keys_accepted(gateway, stack, now);
    let tokens_open = gateway.spec.auth.jwt.is_some();
    let nobody = keys.as_ref().filter(|(keys, _)| *keys == 0 && !tokens_open);
    let nobody = nobody.map(|(_, verdict)| verdict);
    let used: Vec<&Verdict> = [Some(&pools), memory.as_ref(), Some(&router), nobody]
        .into_iter()
        .flatten()
        .collect();
    let certificate = certificate_ready(gateway, stack, observed);
    let first = (problems, certificate.as_ref());
    let ready = ready((gateway, observed), first, (count(ready_pods), &used));
    let mut verdicts = vec![("Ready", ready), ("PoolsReady", pools)];
    verdicts.extend(memory.map(|verdict| ("MemoryReady", verdict)));
    verdicts.push(("RouterReady", router));
    verdicts.extend(certificate.map(|verdict| ("CertificateReady", verdict)));
    verdicts.extend(keys.map(|(_, verdict)| (keys::ACCEPTED, verdict)));
    verdicts.extend(tenants_known(gateway, stack).map(|verdict| ("TenantsKnown", verdict)));
    verdicts.extend(rollout_healthy(observed).map(|verdict| ("RolloutHealthy", verdict)));
    let drift = observed.drift.as_ref();
    verdicts.extend(drift.map(|drift| ("TrafficFamiliar", familiar::verdict(drift))));
    let named = || GatewayRouterStatus {
        active: gateway
            .spec
            .router
            .version
            .clone()
            .unwrap_or_else(|| RouterPlan::BUILTIN.to_owned()),
        ..GatewayRouterStatus::default()
    };
    InferenceGatewayStatus {
        url: Some(url(gateway, observed)),
        replicas: count(staying.iter().filter(|pod| !pods::is_over(pod)).count()),
        ready_replicas: count(ready_pods),
        selector: Some(selector_text(GATEWAY_LABEL, name)),
        router: Some(observed.router.clone().unwrap_or_else(named)),
        conditions: seen.conditions(verdicts),
    }
}

/// Where clients reach the gateway: by a route's first host name, else at the load balancer, else in the cluster.
fn url(gateway: &InferenceGateway, observed: &Observed) -> String {
    let expose = &gateway.spec.expose;
    let route = expose
        .http_route
        .as_ref()
        .and_then(|route| route.hostnames.first());
    if let Some(host) = route.filter(|host| !host.starts_with('*')) {
        // Whether the route's listener speaks TLS is its own business; mostly it does.
        return format!("https://{host}");
    }
    let status = observed
        .service
        .as_ref()
        .and_then(|service| service.status.as_ref());
    let ingress =
        status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref()?.first());
    let outside = ingress.and_then(|ingress| ingress.hostname.as_ref().or(ingress.ip.as_ref()));
    let name = names::gateway(gateway.metadata.name.as_deref().unwrap_or_default());
    let namespace = gateway.metadata.namespace.as_deref().unwrap_or_default();
    let host = match outside {
        Some(host) if host.contains(':') => format!("[{host}]"),
        Some(host) => host.clone(),
        None => format!("{name}.{namespace}.svc"),
    };
    let scheme = match expose.tls_secret_ref {
        Some(_) => "https",
        None => "http",
    };
    format!("{scheme}://{host}:{GATEWAY_PORT}")
}

/// The condition `Ready` of something that a gateway uses, when it is about its spec as it is now.
pub(crate) fn ready_condition(
    conditions: &[Condition],
    generation: Option<i64>,
) -> Option<&Condition> {
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")?;
    (ready.observed_generation >= generation).then_some(ready)
}

/// What is wrong with the part of the spec that starts with `field`.
fn wrong_at(problems: &[Problem], field: &str) -> Option<Verdict> {
    let found = problems
        .iter()
        .filter(|problem| problem.field.starts_with(field));
    let found: Vec<Problem> = found.cloned().collect();
    Some(Verdict::of_problems(found.first()?, &found))
}

fn pools_ready(gateway: &InferenceGateway, stack: &Stack) -> Verdict {
    let mut waiting = Vec::new();
    let pools = stack.used(gateway);
    for pool in &pools {
        let name = pool.metadata.name.as_deref().unwrap_or_default();
        let conditions = pool
            .status
            .as_ref()
            .map_or(&[][..], |status| &status.conditions);
        match ready_condition(conditions, pool.metadata.generation) {
            Some(condition) if condition.status == "True" => {}
            Some(condition) => waiting.push(format!("{name} ({})", condition.reason)),
            None => waiting.push(format!("{name} (not reconciled yet)")),
        }
    }
    match (waiting.len(), pools.len()) {
        (_, 0) => Verdict::no(
            "NoPools",
            "no ModelPool carries the labels that the gateway selects",
        ),
        (0, all) => {
            let hasty = cut_short(gateway, &pools);
            Verdict::yes("AllReady", format!("{all} of {all} pools are ready{hasty}"))
        }
        (some, all) => {
            let reason = if some == all {
                "NoneReady"
            } else {
                "SomeNotReady"
            };
            let text = format!(
                "not ready: {}: see `kubectl describe mp`",
                waiting.join(", ")
            );
            Verdict::no(reason, text)
        }
    }
}

/// What to do for pools whose replicas end before the longest request of the gateway has; empty for none.
fn cut_short(gateway: &InferenceGateway, pools: &[&ModelPool]) -> String {
    let longest = gateway
        .spec
        .limits
        .request_timeout
        .milliseconds()
        .div_ceil(1000);
    let ends_before = |pool: &&&ModelPool| {
        let drain = model_pool::drain_seconds(&pool.spec);
        let is_ours = !matches!(pool.spec.engine, Engine::External(_));
        is_ours && u64::try_from(drain).is_ok_and(|drain| drain < longest)
    };
    let found = pools.iter().filter(ends_before);
    let names: Vec<&str> = found
        .filter_map(|pool| pool.metadata.name.as_deref())
        .collect();
    if names.is_empty() {
        return String::new();
    }
    format!(
        "; requests may take {longest} s and replicas that go end sooner: set spec.drain: {longest}s of {}",
        names.join(", ")
    )
}

fn memory_ready(gateway: &InferenceGateway, stack: &Stack) -> Option<Verdict> {
    let wanted = gateway.spec.memory.as_deref()?;
    let Some(memory) = stack.memory(wanted) else {
        let text = format!("no MemoryStore is called {wanted}: answers are given without recall");
        return Some(Verdict::no("MemoryStoreNotFound", text));
    };
    let conditions = memory
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    Some(
        match ready_condition(conditions, memory.metadata.generation) {
            Some(condition) if condition.status == "True" => Verdict::yes("Ready", wanted),
            Some(condition) => Verdict::no(
                &condition.reason,
                format!(
                    "MemoryStore {wanted} is not ready, answers are given without recall: {}",
                    condition.message
                ),
            ),
            None => Verdict::unknown(
                "NotReconciled",
                format!("MemoryStore {wanted} was not looked at yet"),
            ),
        },
    )
}

fn router_ready(gateway: &InferenceGateway, stack: &Stack) -> Verdict {
    let Some(wanted) = gateway.spec.router.version.as_deref() else {
        return Verdict::yes("Builtin", "the artifact that Weir ships decides");
    };
    let Some(version) = stack.router(wanted) else {
        let text = format!("no RouterVersion is called {wanted}");
        return Verdict::no("RouterVersionNotFound", text);
    };
    let conditions = version
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    match ready_condition(conditions, version.metadata.generation) {
        Some(condition) if condition.status == "True" => Verdict::yes("Ready", wanted),
        Some(condition) => Verdict::no(
            &condition.reason,
            format!("RouterVersion {wanted} is not ready: {}", condition.message),
        ),
        None => Verdict::unknown(
            "NotReconciled",
            format!("RouterVersion {wanted} was not looked at yet"),
        ),
    }
}

/// Whether there is a certificate to show to clients. Processes that have one keep it while the Secret holds none.
fn certificate_ready(
    gateway: &InferenceGateway,
    stack: &Stack,
    observed: &Observed,
) -> Option<Verdict> {
    let name = &gateway.spec.expose.tls_secret_ref.as_ref()?.name;
    let create = format!(
        "create it with `kubectl create secret tls {name} --cert=FILE --key=FILE` and the label {}",
        names::WATCHED
    );
    if stack.secret(name).is_none() {
        let text = format!("no Secret is called {name}: {create}");
        return Some(Verdict::no("SecretNotFound", text));
    }
    Some(match &observed.certificate_fault {
        Some(fault) => Verdict::no(
            "SecretMalformed",
            format!(
                "Secret {name} holds no certificate to answer with: {fault}: {create}; connections get the last good \
                 one meanwhile"
            ),
        ),
        None => Verdict::yes(
            "Https",
            format!("HTTPS with the certificate of Secret {name}"),
        ),
    })
}

/// Keys that are accepted, and whether all entries of their Secret are. An entry that is no key opens nothing and stops
/// nothing, so Ready depends on it only where no key is left and no token opens.
fn keys_accepted(
    gateway: &InferenceGateway,
    stack: &Stack,
    now: Timestamp,
) -> Option<(usize, Verdict)> {
    let reference = gateway.spec.auth.api_keys_secret_ref.as_ref()?;
    let Some(secret) = stack.secret(&reference.name) else {
        return Some((0, keys_gone(gateway, &reference.name, now)));
    };
    let (keys, errors) = api_keys(secret);
    let (accepted, all) = (keys.len(), keys.len() + errors.len());
    let verdict = if all == 0 {
        let nobody = nobody_may_ask(&reference.name);
        Verdict::no("SecretEmpty", format!("{nobody}: {ADD_KEY}"))
    } else if errors.is_empty() {
        Verdict::yes(
            "AllAccepted",
            format!("{accepted} of {all} entries are keys"),
        )
    } else {
        let says = |error: &KeyError| format!("{error}: {}", error.instead());
        let says: Vec<String> = errors.iter().map(says).collect();
        let text = format!(
            "{} of {all} entries of Secret {} are left out: {}",
            errors.len(),
            reference.name,
            says.join("; ")
        );
        Verdict::no("SecretMalformed", text)
    };
    Some((accepted, verdict))
}

/// What became of the keys of a Secret that is gone, or not shown.
fn keys_gone(gateway: &InferenceGateway, secret: &str, now: Timestamp) -> Verdict {
    let gone = format!(
        "Secret {secret} is gone, or lacks the label {}",
        names::WATCHED
    );
    let until = keys::kept_until(gateway, now);
    if keys::are_withdrawn(gateway) || now >= until {
        let text = format!("{gone}, so nobody may ask: create it again with the label");
        return Verdict::no(keys::WITHDRAWN, text);
    }
    let text = format!(
        "{gone}: the keys it last had open until {until}, then nobody may ask; create it again with the label"
    );
    Verdict::unknown(keys::GONE, text)
}

/// Whether somebody can ask as each tenant that the spec names. Ready does not depend on it: a tenant may come later than
/// its rules.
fn tenants_known(gateway: &InferenceGateway, stack: &Stack) -> Option<Verdict> {
    let all = gateway.spec.tenants.len();
    if all == 0 {
        return None;
    }
    let strangers = tenants_without_keys(stack, gateway);
    if strangers.is_empty() {
        return Some(Verdict::yes(
            "AllKnown",
            format!("{all} of {all} tenants can ask"),
        ));
    }
    let instead = match &gateway.spec.auth.api_keys_secret_ref {
        None => format!("everybody asks as tenant {ANONYMOUS}: name that one"),
        Some(keys) => {
            format!(
                "add an entry TENANT.KEYID to Secret {}, or mend the name",
                keys.name
            )
        }
    };
    let text = format!("nobody can ask as {}: {instead}", strangers.join(", "));
    Some(Verdict::no("TenantWithoutKey", text))
}

/// How the attempt stands at which the gateway's version is tried, or was in vain; nothing is said without one.
fn rollout_healthy(observed: &Observed) -> Option<Verdict> {
    let router = observed.router.as_ref()?;
    let (name, phase) = (router.rollout.as_deref()?, router.phase?);
    let status = observed.rollout.clone().unwrap_or_default();
    let text = format!("RouterRollout {name}: {}", status.message);
    Some(match phase {
        RolloutPhase::RolledBack | RolloutPhase::Aborted => Verdict::no(
            &status.reason,
            format!(
                "{text}: version {} decides; name it in spec.router.version before trying again",
                router.active
            ),
        ),
        RolloutPhase::Inconclusive => Verdict::unknown(&status.reason, text),
        RolloutPhase::Shadow | RolloutPhase::Canary | RolloutPhase::Active => {
            Verdict::yes(&status.reason, text)
        }
    })
}

fn ready(
    (gateway, observed): (&InferenceGateway, &Observed),
    (problems, certificate): (&[Problem], Option<&Verdict>),
    (ready_pods, used): (i32, &[&Verdict]),
) -> Verdict {
    let stopping: Vec<Problem> = (problems.iter())
        .filter(|problem| !problem.left_out)
        .cloned()
        .collect();
    if let Some(problem) = stopping.first() {
        return Verdict::of_problems(problem, &stopping);
    }
    // Its pods wait for it, which would only look as if they were slow.
    if let Some(missing) = certificate.filter(|verdict| !verdict.is_true()) {
        return missing.clone();
    }
    if let Some(why) = &observed.refused {
        return Verdict::no("Refused", why.clone());
    }
    let desired = i32::try_from(gateway.spec.replicas).unwrap_or(i32::MAX);
    if desired == 0 {
        return Verdict::yes("ScaledToZero", "spec.replicas is 0");
    }
    if ready_pods < desired {
        let text = format!("{ready_pods} of {desired} processes answer");
        let trouble = pods::trouble(&pods::staying(&observed.pods, ""));
        return match trouble {
            Some(trouble) => Verdict::no(trouble.reason, format!("{text}: {}", trouble.message)),
            None => Verdict::no("Starting", text),
        };
    }
    if !pods::is_settled(observed.deployment.as_ref(), desired) {
        return Verdict::no(
            "Updating",
            "processes of the gateway as it was are being replaced",
        );
    }
    match used.iter().find(|verdict| !verdict.is_true()) {
        Some(verdict) => Verdict::no(&verdict.reason, verdict.message.clone()),
        None => Verdict::yes(
            "Serving",
            format!("{desired} of {desired} processes answer"),
        ),
    }
}
