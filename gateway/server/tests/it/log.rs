//! The decision log on disk: what a row holds when a request never got far, and what becomes of rows that are lost.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking, asking_with, assets, plan, pool, prefers};
use serde_json::{Value, json};
use std::path::Path;
use weir_gateway::ask::{Ask, Caller};
use weir_gateway::extension::{MemoryFilter, MemoryUse};
use weir_gateway::gateway::{Assets, Gateway};
use weir_plan::{GatewayPlan, Guardrail, GuardrailAction, LogSink, QueryText};

fn logging(echo: &Echo, folder: &Path) -> (GatewayPlan, Assets) {
    let mut plan = plan(vec![pool("small", &[echo])]);
    plan.logs.sink = LogSink::File;
    plan.logs.query_text = QueryText::Full;
    let assets = Assets {
        state_dir: Some(folder.to_path_buf()),
        ..assets(prefers(0, 1), None)
    };
    (plan, assets)
}

#[tokio::test]
async fn a_request_that_was_refused_early_still_has_its_question_on_disk() {
    let echo = Echo::start(Mode::Echo).await;
    let folder = tempfile::tempdir().unwrap();
    let (plan, assets) = logging(&echo, folder.path());
    let gateway = Gateway::new(plan, assets).unwrap();
    let mut ask = Ask::question("where is it?", Caller::default());
    let filter = MemoryFilter {
        store: Some("elsewhere".to_owned()),
        ..MemoryFilter::default()
    };
    ask.weir.memory = MemoryUse::Filtered(filter);
    assert!(gateway.answer(gateway.serving(), ask).await.is_err());
    drop(gateway);
    let log = std::fs::read_to_string(folder.path().join("decisions.jsonl")).unwrap();
    let row: Value = serde_json::from_str(log.trim_end()).unwrap();
    assert_eq!(row["outcome"]["error"], "bad_input");
    assert_eq!(row["query"]["text"], "where is it?");
}

#[tokio::test]
async fn a_row_says_by_name_what_the_router_chose_and_what_it_takes_to_compute_it_again() {
    let (small, big) = (Echo::start(Mode::Echo).await, Echo::start(Mode::Echo).await);
    let mut plan = plan(vec![pool("small", &[&small]), pool("big", &[&big])]);
    plan.guardrails = vec![Guardrail {
        name: "careful".to_owned(),
        domains: vec!["medical".to_owned()],
        then: GuardrailAction::UseBiggest,
    }];
    let router = prefers(0, 2);
    let tau = router.artifact().manifest().tau;
    let world = World::start(plan, router).await;
    for (domain, executed) in [("law", "small"), ("medical", "big")] {
        let more = json!({"temperature": 0.5, "weir": {"domain": domain}});
        let reply = world.chat(&asking_with("auto", "hi", &more)).await;
        let row = world.row_of(reply).await;
        let choice = &row["choice"];
        assert_eq!(choice["tau"], json!(tau));
        let chosen = &choice["chosen"];
        assert_eq!(
            (&chosen["pool"], &chosen["model"]),
            (&json!("small"), &json!("small-model"))
        );
        assert_eq!(chosen["temperature"], 0.5);
        assert_eq!(row["executed"]["pool"], executed);
        for field in [
            "recall",
            "context_tokens",
            "sampling",
            "temperature",
            "top_p",
            "fallback_to_cloud",
        ] {
            assert!(!chosen[field].is_null(), "{field}");
            assert_eq!(chosen[field], row["executed"][field], "{field}");
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn rows_that_a_full_disk_refuses_are_counted() {
    let echo = Echo::start(Mode::Echo).await;
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("decisions.jsonl")).unwrap();
    let (plan, assets) = logging(&echo, folder.path());
    let world = World::with_assets(plan, assets).await;
    let metrics = world.get("/metrics").await.text().await;
    assert!(metrics.contains("weir_log_rows_lost_total 0"), "{metrics}");
    world.chat(&asking("auto", "hi")).await.text().await;
    let counted = async {
        let line = "weir_log_rows_lost_total 1";
        while !world.get("/metrics").await.text().await.contains(line) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), counted)
        .await
        .unwrap();
}
