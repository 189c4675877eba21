//! What a running gateway makes of changed files: some changes need another start, some another engine, and the newest
//! change counts.

use crate::support::{Stage, until};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use weir_testenv::servable_model;

fn rewrite(stage: &Stage, old: &str, new: &str) {
    let text = std::fs::read_to_string(stage.stack()).unwrap();
    assert!(text.contains(old), "{old}: {text}");
    std::fs::write(stage.stack(), text.replace(old, new)).unwrap();
}

fn refused(stage: &mut Stage) -> String {
    let status = stage.status_when("the change is refused", |status| {
        status["reloadRefused"].is_string()
    });
    assert_eq!(status["ready"], true, "the last good stack is served");
    status["reloadRefused"].as_str().unwrap().to_owned()
}

fn external(stage: &Stage, server: &TcpListener) {
    let url = format!("http://{}", server.local_addr().unwrap());
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ModelPool\nmetadata: {{name: far, labels: {{stack: it}}}}\nspec:\n  \
         model: {{name: far-model}}\n  tier: server\n  privacy: local\n  engine: {{external: {{url: '{url}'}}}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: InferenceGateway\nmetadata: {{name: it}}\nspec:\n  \
         listen: {{address: 127.0.0.1, port: 0}}\n  pools: {{matchLabels: {{stack: it}}}}\n  auth: {{anonymous: {{}}}}\n"
    );
    std::fs::write(stage.stack(), text).unwrap();
}

#[test]
fn an_address_and_an_immutable_field_do_not_change_under_a_running_gateway() {
    let mut stage = Stage::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    external(&stage, &server);
    stage.up();

    rewrite(&stage, "address: 127.0.0.1", "address: 127.0.0.2");
    let why = refused(&mut stage);
    assert!(
        why.contains("127.0.0.2") && why.contains("weir up"),
        "{why}"
    );
    rewrite(&stage, "address: 127.0.0.2", "address: 127.0.0.1");
    stage.status_when("the change is taken back", |status| {
        status["reloadRefused"].is_null()
    });

    rewrite(&stage, "far-model", "other-model");
    let why = refused(&mut stage);
    assert!(
        why.contains("ModelPool/far") && why.contains("create another ModelPool"),
        "{why}"
    );
    assert!(stage.weir(&["down", "--now"]).status.success());
    assert_eq!(stage.ended(), Some(0));
}

#[test]
fn the_newest_change_is_served_while_an_older_one_still_waits() {
    if servable_model().is_none() {
        return;
    }
    let mut stage = Stage::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    external(&stage, &server);
    stage.up();

    // A model on a server that accepts and says nothing: getting it ready takes as long as it likes.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let slow = format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: ModelPool\nmetadata: {{name: slow, labels: {{stack: it}}}}\nspec:\n  \
         model: {{name: slow-model, source: 'https://{}/m.gguf'}}\n  tier: device\n  privacy: local\n  \
         engine: {{llamaCpp: {{}}}}\n",
        silent.local_addr().unwrap()
    );
    let before = std::fs::read_to_string(stage.stack()).unwrap();
    std::fs::write(stage.stack(), format!("{before}{slow}")).unwrap();
    let _held = until("the model is asked for", || silent.accept().ok());
    let since = Instant::now();
    std::fs::write(stage.stack(), before.replace("tier: server", "tier: edge")).unwrap();
    stage.status_when("the newer change is served", |status| {
        status["pools"][0]["tier"] == "edge"
    });
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "{:?}",
        since.elapsed()
    );
    assert!(stage.weir(&["down", "--now"]).status.success());
    assert_eq!(stage.ended(), Some(0));
}

#[test]
fn a_model_file_that_was_replaced_gets_another_process_with_the_next_change() {
    let Some(model) = servable_model() else {
        return;
    };
    let mut stage = Stage::new();
    let file = stage.path("m.gguf");
    std::fs::copy(&model, &file).unwrap();
    stage.write_stack(&["small"], &file, "");
    let pid = |status: &Value| status["pools"][0]["pid"].clone();
    let before = pid(&stage.up());

    rewrite(&stage, "tier: device", "tier: edge");
    let same = stage.status_when("the change is served", |status| {
        status["pools"][0]["tier"] == "edge"
    });
    assert_eq!(pid(&same), before, "the same file keeps its process");

    touch(&file);
    rewrite(&stage, "tier: edge", "tier: device");
    let other = stage.status_when("the change is served", |status| {
        status["pools"][0]["tier"] == "device" && status["pools"][0]["ready"] == true
    });
    assert_ne!(pid(&other), before);
    assert!(stage.weir(&["down", "--now"]).status.success());
    assert_eq!(stage.ended(), Some(0));
    stage.no_process_left();
}

fn touch(file: &Path) {
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
}
