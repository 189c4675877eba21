//! Requests beside those that the router was trained on: in the row, in metrics, and for the operator.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking, plan, pool, prefers};
use weir_gateway::record::{Record, replay};
use weir_router::Router;

/// A metric with its labels, or 0 where it was never counted.
fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

#[tokio::test]
async fn requests_unlike_training_are_marked_in_the_row_counted_and_reported_as_drift() {
    let echo = Echo::start(Mode::Echo).await;
    let pools = ["small", "middle", "big"].map(|name| pool(name, &[&echo]));
    let world = World::start(plan(pools.to_vec()), Router::builtin()).await;
    assert_eq!(
        world.gateway.familiarity_report(),
        None,
        "nothing was asked yet"
    );
    let strange = "{\"id\": 17, \"rows\": [1, 2, 3]} 9 * 9 = 81; ".repeat(12);
    let row = world
        .row_of(world.chat(&asking("auto", &strange)).await)
        .await;
    assert_eq!(row["novelty"]["unusual"], true, "{}", row["novelty"]);
    let record: Record = serde_json::from_value(row).unwrap();
    replay(&record, &Router::builtin()).expect("bit for bit");
    let mut other = record.clone();
    other.novelty.as_mut().unwrap().distance += 1e-12;
    assert!(
        replay(&other, &Router::builtin()).is_err(),
        "it is a part of the row"
    );
    for _ in 0..299 {
        world.chat(&asking("auto", &strange)).await.text().await;
    }
    let metrics = world.get("/metrics").await.text().await;
    assert_eq!(value(&metrics, "weir_router_compared_total "), 300.0);
    assert_eq!(value(&metrics, "weir_router_unusual_total "), 300.0);
    for of in ["features", "unusual"] {
        let name = format!("weir_router_drift{{of=\"{of}\"}} ");
        assert_eq!(value(&metrics, &name), 1.0, "{of}: {metrics}");
    }
    let report = world.gateway.familiarity_report().unwrap();
    assert_eq!(report.sha256, Router::builtin().artifact().sha256());
    assert!(
        (220.0..230.0).contains(&report.window.requests),
        "{report:?}"
    );
    let ready = world.get("/readyz").await.json().await;
    let findings = ready["router"]["drift"]["findings"].as_array().unwrap();
    assert!(
        findings.iter().any(|one| one["of"] == "unusual"),
        "{findings:?}"
    );
    // What an artifact without a profile answers, and what begins again with another.
    world.apply(plan(pools.to_vec()), prefers(0, 3));
    let row = world
        .row_of(world.chat(&asking("auto", &strange)).await)
        .await;
    assert!(row["novelty"].is_null());
    assert_eq!(world.gateway.familiarity_report(), None);
    assert_eq!(world.gateway.drift(), None);
}
