//! Plans and endpoints down, reports up, and what is left when the operator is gone.

use crate::echo::Echo;
use crate::node::{Files, plan, pool};
use crate::operator::{Operator, load};
use std::time::{Duration, Instant};
use weir_plan::FORMAT;

#[tokio::test]
async fn a_newer_plan_is_served_and_an_older_one_or_another_format_is_not() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(3, vec![pool("small", &[&echo])]));
    let operator = Operator::start(&files.authority);
    let node = files.start(&operator.url()).await;
    assert_eq!(operator.hello(1).await.serves.unwrap().counter, 3);
    operator.send_plan(&plan(4, vec![pool("other", &[&echo])]));
    node.until_served(4).await;
    node.until_ready(|_, body| body["plan"]["stale"] == false)
        .await;
    assert!(
        !node
            .get("/v1/models")
            .await
            .headers()
            .contains_key("x-weir-plan-stale")
    );
    operator.send_plan(&plan(2, vec![pool("older", &[&echo])]));
    let refused = |reason| move |_, body: &serde_json::Value| body["plan"]["refused"] == reason;
    node.until_ready(refused("older")).await;
    let mut newer = plan(5, vec![pool("newer", &[&echo])]);
    newer.format.major = FORMAT.major + 1;
    operator.send_plan(&newer);
    let body = node.until_ready(refused("format")).await;
    assert_eq!(body["plan"]["revision"]["counter"], 4);
    assert_eq!(node.ask("other-model").await.as_deref(), Ok("small"));
    let refusals = node
        .metric("weir_plans_refused_total{reason=\"format\"}")
        .await;
    assert_eq!(refusals, Some(1.0));
    operator
        .report(|report| report.serves.is_some_and(|serves| serves.counter == 4))
        .await;
    newer.format = FORMAT;
    operator.send_plan(&newer);
    let body = node.until_served(5).await;
    assert_eq!(body["plan"]["refused"], serde_json::Value::Null);
}

#[tokio::test]
async fn new_endpoints_are_routed_to_at_once_and_a_running_answer_ends_where_it_began() {
    let (files, one, two) = (
        Files::new(),
        Echo::start("one").await,
        Echo::start("two").await,
    );
    files.mount_plan(&plan(3, vec![pool("small", &[&one])]));
    let operator = Operator::start(&files.authority);
    operator.send_plan(&plan(4, vec![pool("small", &[])]));
    let node = files.start(&operator.url()).await;
    node.until_served(4).await;
    assert_eq!(
        node.ask("small-model").await.as_deref(),
        Ok("one"),
        "the Service still"
    );
    one.hold(true);
    let running = node.send("small-model", true).await;
    assert_eq!(running.status(), 200);
    let since = Instant::now();
    operator.send_endpoints("small", 1, &[&two.url]);
    while node.ask("small-model").await.as_deref() != Ok("two") {
        assert!(
            since.elapsed() < Duration::from_secs(1),
            "the change is slow"
        );
    }
    let asked = one.requests();
    for _ in 0..8 {
        assert_eq!(node.ask("small-model").await.as_deref(), Ok("two"));
    }
    assert_eq!(one.requests(), asked);
    one.hold(false);
    let text = running.text().await.unwrap();
    assert!(text.contains("one") && text.contains("[DONE]"), "{text}");
}

#[tokio::test]
async fn a_killed_operator_leaves_a_gateway_that_serves_and_is_heard_again_when_it_is_back() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(3, vec![pool("small", &[&echo])]));
    let operator = Operator::start(&files.authority);
    let address = operator.address;
    let node = files.start(&operator.url()).await;
    assert_eq!(node.ask("small-model").await.as_deref(), Ok("small"));
    let before = operator
        .report(|report| load(report, "small").requests == 1)
        .await;
    let hello = operator.hello(1).await;
    operator.kill();
    let body = node
        .until_ready(|_, body| body["plan"]["stale"] == true)
        .await;
    assert_eq!(body["ready"], true);
    assert_eq!(node.ask("small-model").await.as_deref(), Ok("small"));
    let operator = Operator::start_at(address, &files.authority, &files.authority.server());
    operator.send_plan(&plan(3, vec![pool("small", &[&echo])]));
    node.until_ready(|_, body| body["plan"]["stale"] == false)
        .await;
    let again = operator.hello(1).await;
    assert_eq!(again.boot, hello.boot, "the same process");
    assert_eq!(again.serves.unwrap().counter, 3);
    let after = operator
        .report(|report| load(report, "small").requests == 2)
        .await;
    assert_eq!(
        (load(&before, "small").errors, load(&after, "small").errors),
        (0, 0)
    );
}

/// A key that was taken back is one reason for the operator to write a plan that a gateway cannot hear of.
#[tokio::test]
async fn a_gateway_that_is_cut_off_takes_a_newer_mounted_plan_and_goes_on_with_the_stream() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(3, vec![pool("small", &[&echo])]));
    let operator = Operator::start(&files.authority);
    let address = operator.address;
    operator.send_plan(&plan(4, vec![pool("small", &[])]));
    operator.send_endpoints("small", 4, &[&echo.url]);
    let node = files.start(&operator.url()).await;
    node.until_served(4).await;
    operator.kill();
    node.until_ready(|_, body| body["plan"]["stale"] == true)
        .await;
    files.mount_plan(&plan(5, vec![pool("other", &[&echo])]));
    node.until_served(5).await;
    assert_eq!(node.ask("small-model").await, Err(404));
    assert_eq!(node.ask("other-model").await.as_deref(), Ok("small"));
    let operator = Operator::start_at(address, &files.authority, &files.authority.server());
    operator.send_plan(&plan(5, vec![pool("other", &[])]));
    node.until_ready(|_, body| body["plan"]["stale"] == false)
        .await;
    assert_eq!(node.ask("other-model").await.as_deref(), Ok("small"));
    operator.send_plan(&plan(6, vec![pool("third", &[&echo])]));
    node.until_served(6).await;
}

#[tokio::test]
async fn reports_say_what_goes_on_and_add_up() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    let away = pool("away", &[]);
    files.mount_plan(&plan(3, vec![pool("small", &[&echo]), away]));
    let operator = Operator::start(&files.authority);
    let node = files.start(&operator.url()).await;
    echo.hold(true);
    let running = node.send("small-model", true).await;
    operator
        .report(|report| load(report, "small").in_flight == 1)
        .await;
    assert_eq!(node.ask("away-model").await, Err(503));
    let report = operator
        .report(|report| load(report, "away").errors == 1)
        .await;
    assert_eq!(load(&report, "away").requests, 1);
    echo.hold(false);
    running.text().await.unwrap();
    let report = operator
        .report(|report| load(report, "small").in_flight == 0)
        .await;
    assert_eq!(
        (
            load(&report, "small").requests,
            load(&report, "small").errors
        ),
        (1, 0)
    );
}
