//! What can be wrong before anything is served: one clear message, exit code 1, no process left behind, and all that an
//! earlier gateway kept as it was.

use crate::memory;
use crate::support::Stage;
use std::collections::BTreeMap;
use std::path::Path;
use weir_router::{ArmTable, Artifact, FeatureSchema};
use weir_testenv::servable_model;

/// A memory whose vectors come from a pool that cannot be asked, so that a start loads no embedder.
const MEMORY: &str = "apiVersion: weir.dev/v1alpha1
kind: ModelPool
metadata: {name: vectors, labels: {stack: it}}
spec:
  model: {name: far-vectors}
  tier: server
  privacy: local
  engine: {external: {url: 'http://127.0.0.1:9'}}
---
apiVersion: weir.dev/v1alpha1
kind: MemoryStore
metadata: {name: kb}
spec:
  embedding: {model: far-vectors, pool: vectors, dimensions: 8}
";

/// What a failed start may not change.
#[derive(Debug, PartialEq)]
struct State {
    /// The memory, every node and edge.
    memory: String,
    /// Files of the state folder, by name.
    files: BTreeMap<String, Vec<u8>>,
}

/// A stack with one pool, whose model has `fields` beside its source, after a gateway of it has served: there is a passage in
/// its memory and a decision in its log.
fn lived_in(model: &Path, fields: &str) -> Stage {
    let stage = Stage::new();
    stage.write_stack(&["small"], model, fields);
    stage.extend_stack("  memory: kb\n", MEMORY);
    std::fs::copy(stage.stack(), stage.path("before.yaml")).unwrap();
    let page = stage.path("weir.md");
    std::fs::write(&page, "# Weirs\n\nA weir is a low wall.\n").unwrap();
    of_memory(&stage, &["ingest", page.to_str().unwrap()]);
    std::fs::write(stage.path("home/it/decisions.jsonl"), "{}\n").unwrap();
    stage
}

/// What `weir memory ...` prints of the stack as it was.
fn of_memory(stage: &Stage, args: &[&str]) -> String {
    let stack = stage.path("before.yaml");
    let args = [args, &["-f", stack.to_str().unwrap()]].concat();
    let (code, out, err) = memory::said(stage, &args);
    assert_eq!(code, Some(0), "{args:?}: {err}");
    out
}

fn state(stage: &Stage) -> State {
    let memory = of_memory(stage, &["export"]);
    let entries = std::fs::read_dir(stage.path("home/it")).unwrap();
    let files = entries.map(Result::unwrap);
    let files = files.filter(|entry| entry.path().is_file()).map(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        (name, std::fs::read(file.path()).unwrap())
    });
    State {
        files: files.collect(),
        memory,
    }
}

/// What `weir up` said, which must fail and change nothing.
fn refused(stage: &Stage, args: &[&str]) -> String {
    let before = state(stage);
    assert!(before.memory.contains("a low wall"), "{before:?}");
    assert_eq!(before.files["decisions.jsonl"], b"{}\n");
    let (code, said) = stage.up_fails(args);
    assert_eq!(code, Some(1), "{said}");
    stage.no_process_left();
    assert_eq!(state(stage), before, "{said}");
    said
}

#[test]
fn a_missing_model_is_named() {
    let stage = lived_in(Path::new("/none.gguf"), "");
    let engine = stage.script("exit 0");
    let said = refused(&stage, &["--llama-server", &engine]);
    let named = "ModelPool/small: model file /none.gguf does not exist";
    assert!(said.contains(named), "{said}");
}

#[test]
fn a_truncated_model_is_refused_before_an_engine_sees_it() {
    let Some(model) = servable_model() else {
        return;
    };
    let folder = Stage::new();
    let cut = folder.path("cut.gguf");
    let bytes = std::fs::read(model).unwrap();
    let half = &bytes[..bytes.len() / 2];
    std::fs::write(&cut, half).unwrap();
    let stage = lived_in(&cut, "");
    let engine = stage.script("echo the engine was started >&2; exit 7");
    let said = refused(&stage, &["--llama-server", &engine]);
    let (cut, has) = (cut.display(), half.len());
    let cause =
        format!("model file {cut} is cut short: it has {has} bytes, its header needs at least");
    assert!(
        said.contains("ModelPool/small") && said.contains(&cause),
        "{said}"
    );
    assert!(said.contains("fetch it again"), "{said}");
    assert!(!said.contains("the engine was started"), "{said}");
}

#[test]
fn a_wrong_checksum_is_refused() {
    let folder = Stage::new();
    let file = folder.path("m.gguf");
    std::fs::write(&file, "not these bytes").unwrap();
    let expected = "0".repeat(64);
    let stage = lived_in(&file, &format!("    sha256: '{expected}'\n"));
    let engine = stage.script("exit 0");
    let said = refused(&stage, &["--llama-server", &engine]);
    let asked = format!("but {expected} is asked for");
    assert!(
        said.contains("m.gguf has sha256 ") && said.contains(&asked),
        "{said}"
    );
    assert!(file.exists(), "a local file is not ours to delete");
}

#[test]
fn a_port_in_use_is_said_before_engines_start() {
    let stage = lived_in(Path::new("/none.gguf"), "");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = refused(&stage, &["--port", &port]);
    assert!(said.contains(&port) && said.contains("--port"), "{said}");
}

#[test]
fn an_engine_that_is_not_there_says_what_to_install() {
    let stage = lived_in(Path::new("/none.gguf"), "");
    let said = refused(&stage, &["--llama-server", "/no/such/llama-server"]);
    assert!(said.contains("/no/such/llama-server"), "{said}");
}

#[test]
fn an_engine_that_exits_at_start_shows_its_last_words() {
    let Some(model) = servable_model() else {
        return;
    };
    let stage = lived_in(&model, "");
    let engine = stage.script("echo loading; echo 'out of luck' >&2; exit 7");
    let said = refused(&stage, &["--llama-server", &engine]);
    assert!(
        said.contains("exit code 7") && said.contains("out of luck"),
        "{said}"
    );
}

#[test]
fn an_engine_that_hangs_is_given_up() {
    let Some(model) = servable_model() else {
        return;
    };
    let stage = lived_in(&model, "");
    let engine = stage.script("echo thinking; exec sleep 600");
    let said = refused(&stage, &["--llama-server", &engine, "--start-timeout", "1"]);
    assert!(
        said.contains("within 1 s") && said.contains("--start-timeout"),
        "{said}"
    );
}

#[test]
fn an_unknown_field_is_refused_with_the_field_that_was_meant() {
    let stage = lived_in(Path::new("/none.gguf"), "");
    let text = std::fs::read_to_string(stage.stack()).unwrap();
    stage.replace_stack(&text.replace("contextTokens", "contextToken"));
    let said = refused(&stage, &[]);
    let meant = "stack.yaml:13: ModelPool/small: spec.engine.llamaCpp.contextToken: unknown field: did you mean contextTokens?";
    assert!(said.contains(meant), "{said}");
}

/// Adds the router version v7 to a stack: these bytes, under this digest.
fn with_router(stage: &Stage, bytes: &[u8], sha256: &str) {
    std::fs::write(stage.path("router.onnx"), bytes).unwrap();
    let version = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: RouterVersion\nmetadata: {{name: v7}}\nspec:\n  \
         artifact: {{url: 'file://./router.onnx'}}\n  sha256: '{sha256}'\n---\n"
    );
    let text = std::fs::read_to_string(stage.stack()).unwrap();
    let text = text.replace("  memory: kb\n", "  memory: kb\n  router: {version: v7}\n");
    stage.replace_stack(&(version + &text));
}

#[test]
fn a_router_artifact_that_is_another_one_is_refused() {
    let stage = lived_in(Path::new("/none.gguf"), "");
    with_router(&stage, b"another", &"0".repeat(64));
    let said = refused(&stage, &[]);
    assert!(
        said.contains("RouterVersion/v7") && said.contains("SHA-256"),
        "{said}"
    );
}

#[test]
fn a_router_artifact_with_another_feature_schema_is_refused_naming_both() {
    let stage = lived_in(Path::new("/none.gguf"), "");
    let another = "ab".repeat(32);
    let artifact =
        Artifact::constant(&ArmTable::standard(1), &[3.0; 15]).with_manifest(|manifest| {
            manifest.schema_hash.clone_from(&another);
            manifest.features[0].name = "query.moon_phase".to_owned();
        });
    with_router(&stage, artifact.to_bytes(), artifact.sha256());
    let said = refused(&stage, &[]);
    let (theirs, ours) = (&another[..12], &FeatureSchema::current().hash()[..12]);
    let both = format!("its feature schema {theirs} is not this build's {ours}");
    assert!(
        said.contains("RouterVersion/v7") && said.contains(&both),
        "{said}"
    );
    assert!(
        said.contains("query.moon_phase is not known here"),
        "{said}"
    );
    assert!(said.contains("train it again with this version"), "{said}");
}

#[test]
fn commands_say_that_nothing_runs() {
    let stage = Stage::new();
    for command in [
        &["status"][..],
        &["down"],
        &["ask", "hello"],
        &["memory", "search", "x"],
    ] {
        let output = stage.weir(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("weir up -f"), "{command:?}: {said}");
    }
    assert_eq!(stage.weir(&["no-such-command"]).status.code(), Some(2));
}
