//! SIGTERM: not ready, still answering, then gone without having lost a request.

use crate::echo::Echo;
use crate::node::{Files, Node, plan, pool};
use crate::operator::{Operator, load};
use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weir_gateway::Stop;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_told_to_leave_loses_no_request() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(1, vec![pool("small", &[&echo]), pool("slow", &[])]));
    let slow = Echo::start("slow").await;
    let operator = Operator::start(&files.authority);
    operator.send_endpoints("slow", 1, &[&slow.url]);
    let stop = Stop::on_signals().unwrap();
    let target = weir_gateway_cluster::Operator {
        url: operator.url(),
        tls: files.tls(),
    };
    let node = Node::start_with(files.options(Some(target)), stop.clone()).await;
    node.until_ready(|_, body| body["pools"][1]["replicas"] == 1)
        .await;
    slow.hold(true);
    let streaming = node.send("slow-model", true).await;
    // Whoever routes needs some time to hear that the gateway is not ready; requests come meanwhile.
    let routed = AtomicBool::new(true);
    let clients = join_all((0..8).map(|_| async {
        let mut asked = 0_u64;
        while routed.load(Ordering::SeqCst) {
            assert_eq!(node.ask("small-model").await.as_deref(), Ok("small"));
            asked += 1;
        }
        asked
    }));
    let leaving = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        kill(Pid::this(), Signal::SIGTERM).unwrap();
        let body = node.until_ready(|status, _| status == 503).await;
        assert_eq!(body["draining"], true);
        tokio::time::sleep(Duration::from_millis(100)).await;
        routed.store(false, Ordering::SeqCst);
    };
    let (asked, ()) = tokio::join!(clients, leaving);
    let asked: u64 = asked.iter().sum();
    let url = format!("{}/healthz", node.url);
    while reqwest::get(&url).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    slow.hold(false);
    let text = streaming.text().await.unwrap();
    assert!(text.contains("[DONE]"), "{text}");
    node.left().await.unwrap();
    operator.ended(1).await;
    let report = operator.report(|_| true).await;
    let (small, slow) = (load(&report, "small"), load(&report, "slow"));
    assert_eq!(
        (small.requests, slow.requests),
        (asked, 1),
        "the last numbers are told"
    );
    assert_eq!((small.errors, slow.errors, slow.in_flight), (0, 0, 0));
    // One that had not left by now would end with the next signal.
    assert!(!stop.now.is_cancelled());
    kill(Pid::this(), Signal::SIGTERM).unwrap();
    stop.now.cancelled().await;
}

#[tokio::test]
async fn connections_are_closed_one_by_one_while_the_gateway_leaves() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(1, vec![pool("small", &[&echo])]));
    let node = Node::start(files.options(None)).await;
    node.until_served(1).await;
    assert!(
        !node
            .get("/v1/models")
            .await
            .headers()
            .contains_key("connection")
    );
    node.stop.drain.cancel();
    node.until_ready(|status, _| status == 503).await;
    assert_eq!(
        node.get("/v1/models").await.headers()["connection"],
        "close"
    );
    node.left().await.unwrap();
}
