//! A gateway whose only pool is somebody else's server: no engine of ours, no model on this machine.

use crate::support::Stage;
use std::net::TcpListener;

/// Writes a stack with an external pool at `port`; `auth` is the gateway's.
fn write_external(stage: &Stage, port: u16, auth: &str, documents: &str) {
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ModelPool\nmetadata: {{name: far, labels: {{stack: it}}}}\nspec:\n  \
         model: {{name: far-model}}\n  tier: server\n  privacy: local\n  \
         engine: {{external: {{url: 'http://127.0.0.1:{port}'}}}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: InferenceGateway\nmetadata: {{name: it}}\nspec:\n  listen: {{port: 0}}\n  \
         pools: {{matchLabels: {{stack: it}}}}\n  auth: {auth}\n{documents}"
    );
    std::fs::write(stage.stack(), text).unwrap();
}

#[test]
fn the_status_follows_whether_an_external_server_can_be_reached() {
    let mut stage = Stage::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    write_external(&stage, port, "{anonymous: {}}", "");
    let status = stage.up();
    assert_eq!(status["pools"][0]["reason"], "External", "{status:#}");
    drop(server);
    let status = stage.status_when("the loss is seen", |status| {
        status["pools"][0]["reason"] == "Unreachable"
    });
    assert_eq!(status["pools"][0]["ready"], false);
    assert_eq!(status["ready"], false, "nobody can answer");
    let why = status["pools"][0]["lastError"].as_str().unwrap();
    assert!(why.contains(&port.to_string()), "{why}");
    let _server = TcpListener::bind(("127.0.0.1", port)).unwrap();
    stage.status_when("the return is seen", |status| {
        status["pools"][0]["reason"] == "External"
    });
    assert!(stage.weir(&["down", "--now"]).status.success());
    assert_eq!(stage.ended(), Some(0));
}

#[test]
fn the_shown_command_carries_the_key_that_a_request_needs() {
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n\
                  stringData: {team.one: 0123456789abcdef0123456789abcdef}\n";
    let shown = |auth: &str, documents: &str| {
        let mut stage = Stage::new();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        write_external(&stage, port, auth, documents);
        stage.up();
        assert!(stage.weir(&["down", "--now"]).status.success());
        assert_eq!(stage.ended(), Some(0));
        let said = stage.said();
        assert!(said.contains("curl "), "{said}");
        said.contains("-H \"Authorization: Bearer $WEIR_API_KEY\"")
    };
    assert!(shown("{apiKeysSecretRef: {name: keys}}", secret));
    assert!(!shown("{anonymous: {}}", ""));
}

#[test]
fn the_log_of_a_gateway_that_runs_is_not_touched_by_a_second_start() {
    let stage = Stage::new();
    write_external(&stage, 9, "{anonymous: {}}", "");
    let state = weir_local::Home::at(stage.path("home"), stage.path("cache")).gateway("it");
    state.create().unwrap();
    let owner = state.lock().unwrap();
    assert!(owner.is_some());
    let (code, said) = stage.up_fails(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(!state.log("gateway").exists(), "{said}");
}
