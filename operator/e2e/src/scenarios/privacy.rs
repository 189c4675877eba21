//! A pool beyond the permitted privacy is never asked, whatever a request says: its server counts connections.
//!
//! The router prefers that pool and finds no answer good enough, so that every way leads there but for the permission. First the gateway
//! does not permit it to anybody, then to all but one tenant.

use super::{GATEWAY, LOOKS, serves};
use crate::ask::Gateway;
use crate::told::say;
use crate::world::{Namespace, World};
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use weir_e2e::outside::{Manner, Outside};
use weir_router::{Arm, ArmTable, Artifact};

const STACK: &str = include_str!("../../stacks/privacy.yaml");
const CHAT: &str = "/v1/chat/completions";
/// Each request is sent so often, since each of two processes takes some.
const TIMES: usize = 6;
/// A key of the tenant that may not reach the pool, and of one that may.
const NARROW: &str = "e2e-narrow-0123456789abcdef0123456789abcdef";
const WIDE: &str = "e2e-wide-0123456789abcdef0123456789abcdef";

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-privacy").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    let far = namespace.world.outside(Manner::Prompt).await?;
    let table = ArmTable::standard(2);
    let quality = |arm: &Arm| if arm.rank == 1 { 4.5 } else { 2.0 };
    let qualities: Vec<f32> = table.arms.iter().map(quality).collect();
    let greedy = Artifact::constant_with_answer(&table, &qualities, 1.0);
    super::router_version(namespace, "greedy", &greedy).await?;
    namespace.apply(&STACK.replace("{far}", &far.url)).await?;
    serves(namespace, &["near", "far"]).await?;
    let gateway = namespace.gateway(GATEWAY, None).await?;

    every_way(&gateway).await?;
    // With nobody else there to ask, the temptation is greatest.
    namespace.scale("ModelPool", "near", 0).await?;
    namespace
        .ready(("ModelPool", "near"), ("True", "ScaledToZero"), 120)
        .await?;
    // A gateway that can ask nobody may have left its Service too.
    let asks = async || match gateway.try_post(CHAT, &ask("auto", &json!({}))).await {
        Ok((StatusCode::OK, text)) => Some(text),
        _ => None,
    };
    // The gateway hears of it at the same time as the pool's status.
    let heard = namespace.world.until(Duration::from_secs(30), async || {
        Ok(asks().await.is_none().then_some(()))
    });
    heard.await.context("the pool at zero answers")?;
    for _ in 0..TIMES {
        if let Some(text) = asks().await {
            bail!("nobody was left, and yet: {text}");
        }
    }
    let (gateways, operators) = came(namespace, &far).await?;
    say!("{gateways} connections from gateways, {operators} from operators");
    ensure!(
        gateways == 0,
        "the pool beyond the limit saw {gateways} connections"
    );
    ensure!(
        operators > 0,
        "who counts no connection at all proves nothing"
    );

    of_one_tenant(namespace, (&far, &gateway))
        .await
        .context("of one tenant")
}

/// What one tenant may not, another one may: the permission is all that keeps the first away.
async fn of_one_tenant(
    namespace: &Namespace<'_>,
    (far, gateway): (&Outside, &Gateway),
) -> Result<()> {
    namespace.scale("ModelPool", "near", 1).await?;
    let keys = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "keys", "labels": {"weir.dev/watch": "true"}},
        "stringData": {"narrow.app": NARROW, "wide.app": WIDE},
    });
    namespace.apply_object(&keys).await?;
    let policy = json!({"spec": {
        "privacy": {"default": "cloud", "max": "cloud"},
        "auth": {"anonymous": null, "apiKeysSecretRef": {"name": "keys"}},
        "tenants": [{"name": "narrow", "privacyMax": "local"}],
    }});
    namespace.patch("InferenceGateway", GATEWAY, policy).await?;
    serves(namespace, &["near", "far"]).await?;
    // Each process asks for a key once it serves the plan with the tenants.
    let asks = namespace.world.until(Duration::from_secs(60), async || {
        for _ in 0..LOOKS {
            let (status, _) = gateway.try_post(CHAT, &ask("auto", &json!({}))).await?;
            if status != StatusCode::UNAUTHORIZED {
                return Ok(None);
            }
        }
        Ok(Some(()))
    });
    asks.await.context("nobody is asked for a key")?;
    every_way(&gateway.with_key(NARROW)).await?;
    let (gateways, _) = came(namespace, far).await?;
    say!("a tenant that may not: {gateways} connections from gateways");
    ensure!(
        gateways == 0 && far.requests() == 0,
        "the tenant's limit was {gateways} connections and {} requests wide",
        far.requests()
    );

    let wide = gateway.with_key(WIDE);
    let answer = wide.post(CHAT, &ask("auto", &json!({}))).await?;
    let (gateways, _) = came(namespace, far).await?;
    ensure!(
        answer["model"] == "far" && gateways > 0 && far.requests() > 0,
        "with {gateways} connections another tenant was answered {answer}"
    );
    Ok(())
}

/// Every way of asking by which the pool might be reached, with every attempt to widen the permission.
async fn every_way(gateway: &Gateway) -> Result<()> {
    let wide = json!({"privacy": "cloud"});
    let finance = json!({"privacy": "cloud", "domain": "finance"});
    let headers = [
        ("x-weir-privacy", "cloud"),
        ("x-weir-domain", "finance"),
        ("x-weir-device-class", "server"),
        ("x-weir-budget-ms", "60000"),
    ];
    for _ in 0..TIMES {
        for body in [
            ask("auto", &json!({})),
            ask("auto", &wide),
            ask("auto", &finance),
        ] {
            for stream in [false, true] {
                let mut body = body.clone();
                body["stream"] = stream.into();
                for headers in [&headers[..0], &headers[..]] {
                    let (status, text) = gateway.post_with(CHAT, headers, &body).await?;
                    ensure!(status == StatusCode::OK, "{body} answered {status}: {text}");
                }
            }
        }
        let named = json!({"model_id": "far", "prompt": "Are you there?"});
        for (path, body) in [
            (CHAT, ask("far", &json!({}))),
            (CHAT, ask("far", &wide)),
            ("/generate", named),
        ] {
            let (status, text) = gateway.post_with(path, &headers, &body).await?;
            ensure!(
                status == StatusCode::FORBIDDEN,
                "{path} {body} answered {status}: {text}"
            );
        }
    }
    Ok(())
}

fn ask(model: &str, weir: &Value) -> Value {
    json!({
        "model": model, "max_tokens": 4, "weir": weir,
        "messages": [{"role": "user", "content": "Are you there?"}],
    })
}

/// Connections that gateways have opened, and those of the operator, which looks now and then whether the server is there.
async fn came(namespace: &Namespace<'_>, far: &Outside) -> Result<(usize, usize)> {
    let operators = addresses(&crate::operators::pods(namespace.world).await?);
    let (operators, others): (Vec<IpAddr>, Vec<IpAddr>) = far
        .peers()
        .into_iter()
        .partition(|peer| operators.contains(peer));
    Ok((others.len(), operators.len()))
}

fn addresses(pods: &[Pod]) -> BTreeSet<IpAddr> {
    let of = |pod: &Pod| -> Option<IpAddr> { pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok() };
    pods.iter().filter_map(of).collect()
}
