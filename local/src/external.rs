//! External pools: whether their servers accept connections, looked at now and then so that `weir status` says it without a
//! question that somebody pays for; and whether one that embeds makes vectors of the right length.
//!
//! Requests do not wait for this: whom the gateway asks is decided by its breakers (`weir-engine`).

use crate::event::{Event, Events};
use crate::probe;
use crate::stack::Loaded;
use crate::stage::name_of;
use crate::stage_error::StageError;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use weir_engine::Engines;
use weir_plan::EngineKind;
use weir_reconcile::Observed;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Longest wait for the first vector of an embedder.
const VECTOR_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the server cannot be reached; `None` when it can.
pub(crate) type Reach = watch::Receiver<Option<String>>;

/// Looks whether the external pools can be reached, and goes on looking.
pub(crate) async fn follow_all(loaded: &Loaded) -> BTreeMap<String, Reach> {
    let pools = loaded.stack.used(&loaded.gateway).into_iter();
    let external = pools.filter_map(|pool| match &pool.spec.engine {
        weir_crds::Engine::External(engine) => Some((name_of(pool), &engine.url)),
        weir_crds::Engine::LlamaCpp(_) | weir_crds::Engine::Vllm(_) => None,
    });
    let looks = external.map(|(name, url)| async move { (name, follow(url).await) });
    let looks = futures_util::future::join_all(looks).await;
    looks.into_iter().collect()
}

/// Asks an external pool that embeds for one vector, so that a wrong length is said now and not with every passage. One
/// that does not answer is no reason to refuse the stack: words find passages meanwhile.
pub(crate) async fn try_embedder(
    loaded: &Loaded,
    engines: &Engines,
    events: &Events,
) -> Result<(), StageError> {
    let plan = weir_reconcile::plan(&loaded.stack, loaded.name(), &Observed::default());
    let Ok(plan) = plan else {
        // What is wrong is said with its file and line when the plan is made from what was observed.
        return Ok(());
    };
    let (Some(pool), Some(memory)) = (plan.embedder(), &plan.memory) else {
        return Ok(());
    };
    let [endpoint] = pool.endpoints.as_slice() else {
        return Ok(());
    };
    if pool.engine != EngineKind::External {
        return Ok(());
    }
    let deadline = Instant::now() + VECTOR_TIMEOUT;
    match probe::embeds(engines, pool, endpoint, memory.dimensions, deadline).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(unfit)) => Err(StageError::Embedder {
            name: pool.name.clone(),
            reason: unfit.to_string(),
        }),
        Err(error) => {
            let name = &memory.name;
            let what =
                format!("memory {name}: {error}; until it embeds, words alone find passages");
            events(Event::Warning(what));
            Ok(())
        }
    }
}

/// Looks once, then goes on looking while somebody holds the result.
async fn follow(url: &str) -> Reach {
    let address = address(url);
    let (publish, reach) = watch::channel(look(&address).await);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = publish.closed() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            publish.send_replace(look(&address).await);
        }
    });
    reach
}

async fn look(address: &str) -> Option<String> {
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(format!("connect to {address}: {error}")),
        Err(_) => {
            let seconds = CONNECT_TIMEOUT.as_secs();
            Some(format!(
                "connect to {address}: no answer within {seconds} s"
            ))
        }
    }
}

/// Host and port of a base URL.
fn address(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let host = rest.split('/').next().unwrap_or_default();
    let after_address = host.rsplit(']').next().unwrap_or_default();
    match (after_address.contains(':'), scheme) {
        (true, _) => host.to_owned(),
        (false, "https") => format!("{host}:443"),
        (false, _) => format!("{host}:80"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_port_has_its_schemes() {
        for (url, expected) in [
            ("https://api.example.com/openai", "api.example.com:443"),
            ("http://gpu.lan", "gpu.lan:80"),
            ("http://gpu.lan:8000/", "gpu.lan:8000"),
            ("http://[::1]:8000", "[::1]:8000"),
            ("https://[2001:db8::1]", "[2001:db8::1]:443"),
        ] {
            assert_eq!(address(url), expected);
        }
    }
}
