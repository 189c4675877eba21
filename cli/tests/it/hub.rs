//! `weir up` with a model of the hub that is not on this machine yet.

use crate::server::{Server, answer};
use crate::support::{Stage, until};
use weir_testenv::{TINY_RANDOM, component, engine};

/// A stack whose one pool has a model of the hub.
fn with_model_of_the_hub() -> Stage {
    let stage = Stage::new();
    let file = stage.path("none.gguf");
    let text = stage.stack_of(&["small"], &file, "");
    let source = format!("file://{}", file.display());
    stage.replace_stack(&text.replace(&source, "hf://owner/repo/tiny.gguf"));
    stage
}

/// The environment in which this server is the hub and nothing was downloaded yet.
fn environment(stage: &Stage, hub: &Server) -> [(&'static str, String); 2] {
    let cache = stage.path("cache").to_string_lossy().into_owned();
    let hub = format!("http://{}", hub.address);
    [("WEIR_CACHE", cache), ("HF_ENDPOINT", hub)]
}

#[test]
fn a_model_of_the_hub_is_downloaded_line_by_line_kept_and_served() {
    let (Some(model), Some(engine)) = (component(TINY_RANDOM), engine()) else {
        return;
    };
    let bytes = std::fs::read(model).unwrap();
    let hub = Server::start(vec![answer("200 OK", "etag: \"1\"\r\n", &bytes)]);
    let mut stage = with_model_of_the_hub();
    let environment = environment(&stage, &hub);
    stage.up_with(|up| {
        up.envs(environment).arg("--llama-server").arg(engine);
    });
    let asked = hub.asked.recv().unwrap();
    let path = "GET /owner/repo/resolve/main/tiny.gguf ";
    assert!(asked.starts_with(path), "{asked}");
    let kept = stage.path("cache/models/hub/owner--repo/main/tiny.gguf");
    assert_eq!(std::fs::read(kept).unwrap(), bytes);

    until("the end is told", || {
        stage.said().contains("curl ").then_some(())
    });
    let said = stage.said();
    let all = "503.78 KiB";
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("fetch "))
        .collect();
    let [begin, tenths @ .., end] = lines.as_slice() else {
        panic!("{said}");
    };
    assert_eq!(*begin, format!("  fetch small: {all}"));
    assert_eq!(*end, format!("+ fetch small: {all}"));
    assert!((1..10).contains(&tenths.len()), "{said}");
    for tenth in tenths {
        assert!(
            tenth.contains(&format!(" of {all} (")) && tenth.ends_with(" %)"),
            "{said}"
        );
    }

    let asked = stage.weir(&["ask", "Say hello.", "--max-tokens", "4"]);
    assert!(
        asked.status.success(),
        "{}",
        String::from_utf8_lossy(&asked.stderr)
    );
    assert!(stage.weir(&["down", "--now"]).status.success());
    assert_eq!(stage.ended(), Some(0));
}

#[test]
fn what_the_hub_lacks_is_refused_with_what_it_has() {
    let listing = br#"{"siblings": [{"rfilename": "README.md"}, {"rfilename": "other.gguf"}]}"#;
    let hub = Server::start(vec![
        answer("404 Not Found", "", b""),
        answer("200 OK", "content-type: application/json\r\n", listing),
    ]);
    let stage = with_model_of_the_hub();
    let (stack, engine) = (stage.stack(), stage.script("exit 7"));
    let words = [
        "up",
        "-f",
        stack.to_str().unwrap(),
        "--llama-server",
        &engine,
    ];
    let mut up = stage.command(&words);
    let output = up.envs(environment(&stage, &hub)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = "ModelPool/small: download hf://owner/repo/tiny.gguf: the hub answered 404 Not Found: the repository has no \
                    file tiny.gguf; it has other.gguf";
    assert!(said.contains(expected), "{said}");
    assert!(!said.contains("fetch small"), "nothing came: {said}");
    assert!(
        !stage
            .path("cache/models/hub/owner--repo/main/tiny.gguf")
            .exists()
    );
}
