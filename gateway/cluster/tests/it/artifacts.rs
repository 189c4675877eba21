//! Router artifacts by digest: from beside the plan, from the operator, from the disk, and never the wrong bytes.

use crate::echo::Echo;
use crate::node::{Files, named, nobody, plan, pool, prefers};
use crate::operator::Operator;
use serde_json::{Value, json};

#[tokio::test]
async fn an_artifact_beside_the_mounted_plan_decides() {
    let (files, small, big) = (
        Files::new(),
        Echo::start("small").await,
        Echo::start("big").await,
    );
    for (counter, rank, text) in [(1, 1, "big"), (2, 0, "small")] {
        let mut plan = plan(
            counter,
            vec![pool("small", &[&small]), pool("big", &[&big])],
        );
        files.mount_router(&mut plan, &prefers(rank));
        files.mount_plan(&plan);
        let node = files.start(&nobody()).await;
        assert_eq!(node.ask("auto").await.as_deref(), Ok(text));
        node.kill().await;
    }
}

#[tokio::test]
async fn an_artifact_is_fetched_by_digest_wrong_bytes_are_refused_and_the_right_ones_kept() {
    let (files, small, big) = (
        Files::new(),
        Echo::start("small").await,
        Echo::start("big").await,
    );
    let (first, second) = (prefers(0), prefers(1));
    let mut mounted = plan(1, vec![pool("small", &[&small]), pool("big", &[&big])]);
    files.mount_router(&mut mounted, &first);
    files.mount_plan(&mounted);
    let operator = Operator::start(&files.authority);
    operator.serve_artifact(second.sha256(), first.to_bytes());
    let mut newer = mounted.clone();
    newer.revision.counter = 2;
    newer.router = Some(named(&second));
    operator.send_plan(&newer);
    let node = files.start(&operator.url()).await;
    let body = node.until_served(2).await;
    assert_eq!(body["router"]["missing"], json!(second.sha256()));
    assert_eq!(operator.asked(1).await, [second.sha256()]);
    assert_eq!(
        node.ask("auto").await.as_deref(),
        Ok("small"),
        "the present one decides on"
    );
    assert_eq!(node.metric("weir_router_missing").await, Some(1.0));
    operator.serve_artifact(second.sha256(), second.to_bytes());
    let body = node
        .until_ready(|_, body| body["router"]["missing"] == Value::Null)
        .await;
    assert_eq!(body["router"]["sha256"], json!(second.sha256()));
    assert_eq!(node.ask("auto").await.as_deref(), Ok("big"));
    node.kill().await;
    operator.kill();
    let node = files.start(&nobody()).await;
    node.until_served(2).await;
    assert_eq!(
        node.ask("auto").await.as_deref(),
        Ok("big"),
        "kept on the disk"
    );
}
