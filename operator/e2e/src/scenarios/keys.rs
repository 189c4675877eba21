//! Keys come and go by `weir keys`, and a tenant's budget holds at all processes of a gateway together.

use super::policies::address;
use super::{GATEWAY, LOAD, LOOKS, serves};
use crate::ask::Gateway;
use crate::told::say;
use crate::world::{Namespace, World};
use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";
/// Processes of the gateway in the stack.
const PROCESSES: u32 = 2;
/// Requests of the tenant in a minute, at all of them together.
const BUDGET: u32 = 12;

pub(crate) async fn run(world: &World) -> Result<()> {
    let namespace = world.namespace("e2e-keys").await?;
    let result = steps(&namespace).await;
    namespace.finish(result).await
}

async fn steps(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(LOAD).await?;
    let auth = json!({"anonymous": null, "apiKeysSecretRef": {"name": "keys"}});
    let tenants = json!([{"name": "acme", "requestsPerMinute": BUDGET}]);
    let patch = json!({"spec": {"auth": auth, "tenants": tenants}});
    namespace.patch("InferenceGateway", GATEWAY, patch).await?;
    let missing = ("False", "SecretNotFound");
    namespace
        .ready(("InferenceGateway", GATEWAY), missing, 60)
        .await?;

    let acme = create(namespace, "acme.app").await?;
    let other = create(namespace, "other.app").await?;
    serves(namespace, &["steady", "moving"]).await?;
    let gateway = namespace.gateway(GATEWAY, Some(&other)).await?;
    both_processes_answer(namespace, &gateway).await?;
    opens(namespace, &gateway, StatusCode::OK).await?;
    is_listed_without_itself(namespace, &acme).await?;
    holds_at_all_processes(&gateway.with_key(&acme)).await?;
    let (status, text) = asks(&gateway).await?;
    ensure!(status == StatusCode::OK, "another tenant: {status} {text}");

    weir(namespace, &["revoke", GATEWAY, "other.app"]).await?;
    opens(namespace, &gateway, StatusCode::UNAUTHORIZED).await
}

/// A gateway is Ready with one process; its budget is spread over both. What is sent to its Service reaches the second one a moment
/// after that is ready.
async fn both_processes_answer(namespace: &Namespace<'_>, gateway: &Gateway) -> Result<()> {
    let api = namespace.weir("InferenceGateway").await?;
    let both = namespace.world.until(Duration::from_secs(120), async || {
        let gateway = api.get(GATEWAY).await?;
        Ok((gateway.data["status"]["readyReplicas"] == PROCESSES).then_some(()))
    });
    both.await
        .context("one process of the gateway does not answer")?;
    let reached = namespace.world.until(Duration::from_secs(60), async || {
        for _ in 0..LOOKS {
            asks(gateway).await?;
        }
        for pod in namespace
            .pods(&format!("weir.dev/gateway={GATEWAY}"))
            .await?
        {
            let address = address(Some(&pod)).context("a ready pod has no address")?;
            let process = Gateway::new(format!("http://{address}:8080"), None)?;
            let (_, counted) = process.get("/metrics").await?;
            let of_chat =
                |line: &str| line.starts_with("weir_requests_total") && line.contains(CHAT);
            if !counted.lines().any(of_chat) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    });
    reached
        .await
        .context("requests to the Service reach one process only")
}

/// Makes a key with `weir keys create`.
async fn create(namespace: &Namespace<'_>, name: &str) -> Result<String> {
    let made = weir(namespace, &["create", GATEWAY, name, "--output", "json"]).await?;
    let made: Value = serde_json::from_str(&made)?;
    let key = made["key"].as_str().context("no key is printed")?;
    Ok(key.to_owned())
}

async fn is_listed_without_itself(namespace: &Namespace<'_>, key: &str) -> Result<()> {
    let listed = weir(namespace, &["list", GATEWAY]).await?;
    let row = |line: &str| line.starts_with("acme") && line.contains("app") && line.contains("ask");
    ensure!(
        listed.lines().any(row) && !listed.contains(key),
        "weir keys list says {listed}"
    );
    Ok(())
}

/// More than the budget is asked at once, over connections of their own, which reach both processes.
async fn holds_at_all_processes(acme: &Gateway) -> Result<()> {
    let started = Instant::now();
    let mut answered = 0;
    for _ in 0..3 * BUDGET {
        match asks(acme).await? {
            (StatusCode::OK, _) => answered += 1,
            (StatusCode::TOO_MANY_REQUESTS, text) => ensure!(
                text.contains("budget of requests a minute is used up"),
                "it is refused with {text}"
            ),
            (status, text) => ensure!(false, "{status} {text}"),
        }
    }
    // What came back meanwhile, and the first look at the key.
    let refilled = started.elapsed().as_secs_f64() / 60.0 * f64::from(BUDGET);
    let most = f64::from(BUDGET) + refilled + 1.0;
    say!(
        "{answered} of {} requests within a budget of {BUDGET}",
        3 * BUDGET
    );
    ensure!(
        answered > BUDGET / PROCESSES && f64::from(answered) <= most,
        "{answered} requests were answered, at most {most:.1} may be, and more than one process's part"
    );
    Ok(())
}

/// Waits until each process of the gateway answers a key like this.
async fn opens(namespace: &Namespace<'_>, gateway: &Gateway, expected: StatusCode) -> Result<()> {
    let mut last = None;
    let opens = namespace.world.until(Duration::from_secs(60), async || {
        for _ in 0..LOOKS {
            let (status, _) = asks(gateway).await?;
            last = Some(status);
            if status != expected {
                return Ok(None);
            }
        }
        Ok(Some(()))
    });
    let opens = opens.await;
    opens.with_context(|| format!("the key is answered {last:?}, not {expected}"))
}

async fn asks(gateway: &Gateway) -> Result<(StatusCode, String)> {
    let body = json!({
        "model": "steady", "max_tokens": 1,
        "messages": [{"role": "user", "content": "May I?"}],
    });
    gateway.try_post(CHAT, &body).await
}

/// What `weir keys` prints.
async fn weir(namespace: &Namespace<'_>, arguments: &[&str]) -> Result<String> {
    let all = [&["keys"], arguments, &["-n", &namespace.name]].concat();
    let ended = namespace.world.weir(&all).await?;
    let told = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "weir {}: {told}", all.join(" "));
    Ok(String::from_utf8(ended.stdout)?)
}
