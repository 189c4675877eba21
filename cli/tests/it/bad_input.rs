//! What can be wrong before anything is served: one clear message, exit code 1, nothing left behind.

use crate::support::Stage;
use weir_testenv::servable_model;

#[test]
fn a_missing_model_is_named() {
    let stage = Stage::new();
    stage.write_stack(&["small"], &stage.path("none.gguf"), "");
    let engine = stage.script("exit 0");
    let (code, said) = stage.up_fails(&["--llama-server", &engine]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("ModelPool/small") && said.contains("none.gguf"),
        "{said}"
    );
}

#[test]
fn a_truncated_model_is_refused_before_an_engine_sees_it() {
    let Some(model) = servable_model() else {
        return;
    };
    let stage = Stage::new();
    let cut = stage.path("cut.gguf");
    let bytes = std::fs::read(model).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    stage.write_stack(&["small"], &cut, "");
    let engine = stage.script("exit 0");
    let (code, said) = stage.up_fails(&["--llama-server", &engine]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cut.gguf"), "{said}");
}

#[test]
fn a_wrong_checksum_is_refused() {
    let stage = Stage::new();
    let file = stage.path("m.gguf");
    std::fs::write(&file, "not these bytes").unwrap();
    let sha256 = format!("    sha256: {}\n", "0".repeat(64));
    stage.write_stack(&["small"], &file, &sha256);
    let engine = stage.script("exit 0");
    let (code, said) = stage.up_fails(&["--llama-server", &engine]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.to_lowercase().contains("sha"), "{said}");
    assert!(file.exists(), "a local file is not ours to delete");
}

#[test]
fn a_port_in_use_is_said_before_engines_start() {
    let stage = Stage::new();
    stage.write_stack(&["small"], &stage.path("none.gguf"), "");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, said) = stage.up_fails(&["--port", &port]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&port) && said.contains("--port"), "{said}");
}

#[test]
fn an_engine_that_is_not_there_says_what_to_install() {
    let stage = Stage::new();
    stage.write_stack(&["small"], &stage.path("none.gguf"), "");
    let (code, said) = stage.up_fails(&["--llama-server", "/no/such/llama-server"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("/no/such/llama-server"), "{said}");
}

#[test]
fn an_engine_that_exits_at_start_shows_its_last_words() {
    let Some(model) = servable_model() else {
        return;
    };
    let stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    let engine = stage.script("echo loading; echo 'out of luck' >&2; exit 7");
    let (code, said) = stage.up_fails(&["--llama-server", &engine]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("exit code 7") && said.contains("out of luck"),
        "{said}"
    );
    stage.no_process_left();
}

#[test]
fn an_engine_that_hangs_is_given_up() {
    let Some(model) = servable_model() else {
        return;
    };
    let stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    let engine = stage.script("echo thinking; exec sleep 600");
    let (code, said) = stage.up_fails(&["--llama-server", &engine, "--start-timeout", "1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("within 1 s") && said.contains("--start-timeout"),
        "{said}"
    );
    stage.no_process_left();
}

#[test]
fn a_router_artifact_that_is_another_one_is_refused() {
    let stage = Stage::new();
    stage.write_stack(&["small"], &stage.path("none.gguf"), "");
    std::fs::write(stage.path("router.onnx"), "another").unwrap();
    let version = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: RouterVersion\nmetadata: {{name: v7}}\nspec:\n  \
         artifact: {{url: 'file://./router.onnx'}}\n  sha256: '{}'\n",
        "0".repeat(64)
    );
    stage.extend_stack("  router: {version: v7}\n", &version);
    let (code, said) = stage.up_fails(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("RouterVersion/v7") && said.contains("SHA-256"),
        "{said}"
    );
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
