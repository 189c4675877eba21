//! The decision log on disk: what a row holds when a request never got far, and what becomes of rows that are lost.

use crate::echo::{Echo, Mode};
use crate::world::{World, asking, assets, plan, pool, prefers};
use serde_json::Value;
use std::path::Path;
use weir_gateway::ask::{Ask, Caller};
use weir_gateway::extension::{MemoryFilter, MemoryUse};
use weir_gateway::gateway::{Assets, Gateway};
use weir_plan::{GatewayPlan, LogSink, QueryText};

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
    assert!(gateway.answer(ask).await.is_err());
    drop(gateway);
    let log = std::fs::read_to_string(folder.path().join("decisions.jsonl")).unwrap();
    let row: Value = serde_json::from_str(log.trim_end()).unwrap();
    assert_eq!(row["outcome"]["error"], "bad_input");
    assert_eq!(row["query"]["text"], "where is it?");
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
