//! `weir status`: a running gateway as `kubectl get` would print it.

use crate::args::{Output, StatusArgs};
use crate::fail::Failure;
use crate::output::{age, columns, short_count, warning};
use weir_local::{Home, Instance, PoolStatus, Status};

pub(crate) async fn run(args: &StatusArgs) -> Result<(), Failure> {
    let home = Home::from_env()?;
    let instance = Instance::find(&home, args.which.name.as_deref()).await?;
    let status = instance.status().await?;
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&status)?),
        Output::Text => anstream::println!("{}", text(&status)),
    }
    Ok(())
}

/// The whole status as text.
pub(crate) fn text(status: &Status) -> String {
    let mut parts = vec![gateway(status), pools(&status.pools)];
    if let Some(memory) = &status.memory {
        let head = [
            "MEMORY",
            "KIND",
            "NODES",
            "EDGES",
            "VECTORS",
            "PENDING",
            "EMBEDDING",
        ];
        let row = vec![
            memory.name.clone(),
            memory.kind.clone(),
            memory.nodes.to_string(),
            memory.edges.to_string(),
            memory.vectors.to_string(),
            memory.vectors_pending.to_string(),
            memory.embedding.clone(),
        ];
        parts.push(columns(&head, vec![row]));
        if memory.vectors_refused > 0 {
            parts.push(warning(format!(
                "the embedder refuses {} passages; their words find them, `weir logs` says why",
                memory.vectors_refused
            )));
        }
        if let Some(index) = &memory.index {
            parts.push(format!(
                "searches find {} of the truly nearest passages (efSearch {}, measured {})",
                index.recall, index.ef_search, index.measured_at
            ));
        }
        if memory.summaries > 0 {
            parts.push(format!("{} of the nodes are summaries", memory.summaries));
        }
        if memory.pruned_edges + memory.pruned_traces > 0 {
            parts.push(format!(
                "upkeep let go of {} edges and {} traces",
                memory.pruned_edges, memory.pruned_traces
            ));
        }
    }
    let sha256 = status
        .router
        .sha256
        .get(..12)
        .unwrap_or_default()
        .to_owned();
    let router = vec![status.router.version.clone(), sha256];
    parts.push(columns(&["ROUTER", "SHA256"], vec![router]));
    if let Some(reason) = &status.reload_refused {
        parts.push(warning(format!(
            "the files changed and are not served: {reason}"
        )));
    }
    for pool in status.pools.iter().filter(|pool| !pool.ready) {
        if let Some(error) = &pool.last_error {
            parts.push(warning(error));
        }
    }
    parts.join("\n\n")
}

fn gateway(status: &Status) -> String {
    let head = ["GATEWAY", "URL", "READY", "PHASE", "PID", "AGE"];
    let row = vec![
        status.gateway.clone(),
        if status.address.is_empty() {
            "-".into()
        } else {
            status.address.clone()
        },
        truth(status.ready),
        format!("{:?}", status.phase),
        status.pid.to_string(),
        age(&status.started),
    ];
    columns(&head, vec![row])
}

/// Pools, smallest model first.
pub(crate) fn pools(pools: &[PoolStatus]) -> String {
    let head = [
        "POOL", "MODEL", "TIER", "PRIVACY", "ENGINE", "READY", "REASON", "SIZE", "CONTEXT",
        "TOK/S", "RESTARTS", "LICENSE",
    ];
    let rows = pools.iter().map(|pool| {
        let speed = pool
            .performance
            .map(|p| format!("{:.0}", p.decode_tokens_per_second));
        vec![
            pool.name.clone(),
            pool.model.clone(),
            word(&pool.tier),
            word(&pool.privacy),
            pool.engine.clone(),
            truth(pool.ready),
            pool.reason.clone(),
            short_count(pool.parameters),
            pool.context_tokens.to_string(),
            speed.unwrap_or_else(|| "-".into()),
            pool.restarts.to_string(),
            pool.license.clone().unwrap_or_else(|| "-".into()),
        ]
    });
    columns(&head, rows.collect())
}

/// An enum's word as a stack writes it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "-".into(),
    }
}

fn truth(value: bool) -> String {
    if value { "True".into() } else { "False".into() }
}
