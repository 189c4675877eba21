//! An artifact with a certificate on a gateway: who answers, what the row says, and that it repeats and can be evaluated.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking, plan, pool};
use serde_json::json;
use weir_gateway::record::{Record, replay};
use weir_plan::{Exploration, GatewayPlan};
use weir_router::guard::Certificate;
use weir_router::{ArmTable, Artifact, Router};

/// Prefers the smaller of two models, which is expected to be right in `right` of its answers and may answer from `least`.
pub(crate) fn certified(right: f32, least: f64) -> Router {
    let table = ArmTable::standard(2);
    let quality = |arm: &weir_router::Arm| {
        if arm.rank == 0 {
            1.0 + 4.0 * right
        } else {
            2.0
        }
    };
    let qualities: Vec<f32> = table.arms.iter().map(quality).collect();
    let certificate = Certificate {
        temperature: 1.0,
        threshold: least,
        alpha: 0.25,
        delta: 0.1,
        share: 0.4,
        answers: 300,
        models: 2,
        data_sha256: "0".repeat(64),
    };
    let artifact = Artifact::constant(&table, &qualities);
    let artifact = artifact.with_manifest(|manifest| manifest.certificate = Some(certificate));
    Router::new(artifact).unwrap()
}

/// Of two models, with this share of decisions that explore.
async fn start((small, big): (&Echo, &Echo), router: Router, floor: f64) -> World {
    let plan = GatewayPlan {
        exploration: Exploration {
            floor,
            near_tie_margin: 0.0,
        },
        ..plan(vec![pool("small", &[small]), pool("big", &[big])])
    };
    World::start(plan, router).await
}

#[tokio::test]
async fn answers_below_the_certified_confidence_are_given_by_the_biggest_model() {
    let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let router = certified(0.7, 0.8);
    let world = start((&small, &big), router.clone(), 0.2).await;
    let mut held_back = 0;
    for _ in 0..20 {
        let reply = world.chat(&asking("auto", "hi")).await;
        assert_eq!(reply.header("x-weir-model"), "big-model");
        let row = world.row_of(reply).await;
        let outcome = &row["choice"]["outcome"];
        assert_eq!(
            outcome["held"],
            json!([0]),
            "no recall, so one arm of it is permitted: {outcome}"
        );
        let certain = outcome["propensity"].as_f64().unwrap();
        assert!((certain - 1.0).abs() < 1e-9, "{outcome}");
        held_back += usize::from(outcome["heldBack"] == 0);
        let record: Record = serde_json::from_value(row).unwrap();
        replay(&record, &router).expect("bit for bit");
        // Another threshold is another policy, and another artifact.
        assert!(replay(&record, &certified(0.7, 0.6)).is_err());
    }
    assert!(small.bodies().is_empty(), "also while it explores");
    assert!(held_back >= 10, "{held_back}");
    let metrics = world.get("/metrics").await.text().await;
    assert!(
        metrics.contains(&format!("weir_router_held_back_total {held_back}")),
        "{metrics}"
    );
}

#[tokio::test]
async fn confident_answers_are_given_by_the_small_model_and_a_pool_that_is_away_by_the_next_best() {
    let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let world = start((&small, &big), certified(0.9, 0.8), 0.2).await;
    let mut answered = 0;
    for _ in 0..20 {
        let reply = world.chat(&asking("auto", "hi")).await;
        answered += usize::from(reply.header("x-weir-model") == "small-model");
    }
    assert!(answered >= 12, "{answered} of 20, and the rest explores");
    // The biggest model is away: an answer that is not certified is better than none.
    let away = Echo::start(Mode::Refuse(503)).await;
    let world = start((&small, &away), certified(0.7, 0.8), 0.0).await;
    let reply = world.chat(&asking("auto", "hi")).await;
    assert_eq!(reply.header("x-weir-model"), "small-model");
    let row = world.row_of(reply).await;
    assert_eq!(row["failover"][0]["pool"], "big");
    assert_eq!(row["choice"]["outcome"]["heldBack"], 0);
}
