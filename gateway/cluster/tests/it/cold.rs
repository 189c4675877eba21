//! Pools at zero, through the stream: requests wait or another pool answers, and the operator hears of both.

use crate::echo::Echo;
use crate::node::{Files, plan, pool, prefers};
use crate::operator::{Operator, load};
use weir_plan::{Pool, WhenCold};

fn cold(name: &str, when: WhenCold) -> Pool {
    Pool {
        when_cold: Some(when),
        ..pool(name, &[])
    }
}

#[tokio::test]
async fn requests_wait_until_the_operator_has_brought_up_a_replica() {
    let (files, echo) = (Files::new(), Echo::start("small").await);
    files.mount_plan(&plan(1, vec![cold("small", WhenCold::Hold)]));
    let operator = Operator::start(&files.authority);
    operator.send_endpoints("small", 1, &[]);
    let node = files.start(&operator.url()).await;
    operator.hello(1).await;
    let (status, body) = node.ready().await;
    assert_eq!(
        (status, &body["pools"][0]["cold"]),
        (200, &true.into()),
        "who is not ready gets no demand"
    );
    let bring_up = async {
        let report = operator
            .report(|report| load(report, "small").waiting == 2)
            .await;
        assert_eq!(load(&report, "small").wanted, 2);
        operator.send_endpoints("small", 2, &[&echo.url]);
    };
    let (pinned, routed, ()) = tokio::join!(node.ask("small-model"), node.ask("auto"), bring_up);
    assert_eq!(
        (pinned.as_deref(), routed.as_deref()),
        (Ok("small"), Ok("small"))
    );
    let report = operator
        .report(|report| load(report, "small").requests == 2)
        .await;
    assert_eq!(load(&report, "small").errors, 0);
}

#[tokio::test]
async fn a_warm_pool_answers_while_the_wanted_one_is_brought_up() {
    let (files, small, big) = (
        Files::new(),
        Echo::start("small").await,
        Echo::start("big").await,
    );
    let mut spills = plan(
        1,
        vec![pool("small", &[&small]), cold("big", WhenCold::Spill)],
    );
    files.mount_router(&mut spills, &prefers(1));
    files.mount_plan(&spills);
    let operator = Operator::start(&files.authority);
    let node = files.start(&operator.url()).await;
    assert_eq!(node.ask("auto").await.as_deref(), Ok("small"));
    let report = operator
        .report(|report| load(report, "big").wanted == 1)
        .await;
    assert_eq!(
        (load(&report, "big").waiting, load(&report, "small").wanted),
        (0, 0)
    );
    operator.send_endpoints("big", 1, &[&big.url]);
    let up = |_, body: &serde_json::Value| body["pools"][1]["replicas"] == 1;
    node.until_ready(up).await;
    assert_eq!(node.ask("auto").await.as_deref(), Ok("big"));
}
