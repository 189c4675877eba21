//! What a gateway begins with: the mounted plan, the last good one, or none.

use crate::echo::Echo;
use crate::node::{Files, Node, nobody, plan, pool};
use crate::operator::Operator;
use std::os::unix::fs::PermissionsExt;
use weir_gateway::Stop;
use weir_gateway_cluster::{RunError, bind};

#[tokio::test]
async fn the_mounted_plan_is_served_while_the_operator_is_away_and_said_to_be_stale() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(3, vec![pool("small", &[&echo])]));
    let node = files.start(&nobody()).await;
    let reply = node.send("small-model", false).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["x-weir-plan-stale"], "true");
    let (status, body) = node.ready().await;
    assert_eq!(
        (status, &body["plan"]["stale"]),
        (200, &true.into()),
        "{body}"
    );
    assert_eq!(body["plan"]["revision"]["counter"], 3);
    assert_eq!(node.metric("weir_plan_stale").await, Some(1.0));
}

#[tokio::test]
async fn a_restart_without_the_operator_serves_the_newest_plan_that_was_ever_served() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(3, vec![pool("small", &[&echo])]));
    let operator = Operator::start(&files.authority);
    operator.send_plan(&plan(5, vec![pool("small", &[]), pool("big", &[&echo])]));
    let node = files.start(&operator.url()).await;
    node.until_served(5).await;
    let mode = std::fs::metadata(files.last_good())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "a plan holds keys");
    node.kill().await;
    operator.kill();
    let node = files.start(&nobody()).await;
    node.until_served(5).await;
    assert_eq!(node.ask("big-model").await.as_deref(), Ok("small"));
    assert_eq!(node.ask("small-model").await.as_deref(), Ok("small"));
}

#[tokio::test]
async fn a_damaged_last_good_plan_is_ignored_and_the_mounted_one_served() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(3, vec![pool("small", &[&echo])]));
    let node = files.start(&nobody()).await;
    node.until_served(3).await;
    node.kill().await;
    let damaged = std::fs::read_to_string(files.last_good()).unwrap();
    let damaged = damaged.replace("\"counter\":3", "\"counter\":9");
    std::fs::write(files.last_good(), damaged).unwrap();
    let node = files.start(&nobody()).await;
    node.until_served(3).await;
    node.kill().await;
    std::fs::remove_file(files.plan()).unwrap();
    let node = files.start(&nobody()).await;
    node.until_served(3).await;
}

#[tokio::test]
async fn a_gateway_without_a_plan_lives_and_serves_the_first_one_that_comes() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    std::fs::write(files.plan(), "{").unwrap();
    let operator = Operator::start(&files.authority);
    let node = files.start(&operator.url()).await;
    let hello = operator.hello(1).await;
    assert_eq!(
        (hello.serves, hello.pod.as_str()),
        (None, "support-gateway-0")
    );
    assert_eq!(node.get("/healthz").await.status(), 200);
    let refused = node.send("auto", false).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    operator.send_plan(&plan(1, vec![pool("small", &[&echo])]));
    node.until_served(1).await;
    node.until_ready(|_, body| body["plan"]["stale"] == false)
        .await;
    assert_eq!(node.ask("small-model").await.as_deref(), Ok("small"));
}

#[tokio::test]
async fn without_an_operator_the_plan_must_be_there_and_is_never_stale() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    std::fs::write(files.plan(), "[1]").unwrap();
    let bound = bind(files.options(None)).await.unwrap();
    let error = bound.run(Stop::default()).await.unwrap_err();
    assert!(matches!(error, RunError::NoPlan(_)), "{error}");
    assert!(error.to_string().contains("names no format"), "{error}");
    files.mount_plan(&plan(1, vec![pool("small", &[&echo])]));
    let node = Node::start(files.options(None)).await;
    node.until_served(1).await;
    node.until_ready(|_, body| body["plan"]["stale"] == false)
        .await;
}
