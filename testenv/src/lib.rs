//! Real components for tests: where they are, and what a test does without them.
//!
//! A test asks for a model, the engine or the corpus. One that is absent is said on standard error and the test returns,
//! having checked nothing; where `WEIR_TEST_REQUIRE_ENGINE` is set (`make test`, CI) it fails instead. Nothing is fetched
//! here: that is `fetch.py`, next to this crate. Tests and benchmarks depend on it, nothing that is shipped
//! (`checks/layers.sh`), and it depends on nothing. Go on with `llama_server.rs`.

mod llama_server;
mod neo4j;
mod tls_server;

pub use llama_server::LlamaServer;
pub use neo4j::Neo4j;
pub use tls_server::UntrustedTlsServer;

use std::io::Write;
use std::path::{Path, PathBuf};

/// SmolLM2, the smallest chat model.
pub const SMOLLM2: &str = "models/smollm2-135m-instruct-q4_1.gguf";
/// Qwen2.5-Coder, a chat model with another vocabulary.
pub const QWEN: &str = "models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";
/// Two layers of random weights, for load: it answers with exactly the tokens that a request allows.
pub const TINY_RANDOM: &str = "models/tiny-random.gguf";
/// MiniLM, the embedder: a folder.
pub const MINILM: &str = "models/all-minilm-l6-v2";

/// Set, and neither empty nor `0`: an absent component fails its test.
const REQUIRE: &str = "WEIR_TEST_REQUIRE_ENGINE";

/// A file or folder under `~/.cache/weir`, where `make components` puts it.
///
/// # Panics
/// It is absent and required.
pub fn component(path: &str) -> Option<PathBuf> {
    let cache = std::env::home_dir().map(|home| home.join(".cache/weir"));
    let found = cache.map(|cache| cache.join(path));
    found
        .filter(|found| found.exists())
        .or_else(|| absent(&format!("~/.cache/weir/{path}"), "run `make components`"))
}

/// llama.cpp's server: the one in `PATH`, else that of `make components`.
///
/// # Panics
/// It is absent and required.
pub fn engine() -> Option<PathBuf> {
    in_path("llama-server").or_else(|| component("bin/llama-server"))
}

/// SmolLM2, when the engine that serves it is there too.
///
/// # Panics
/// One of them is absent and required.
pub fn servable_model() -> Option<PathBuf> {
    engine().and_then(|_| component(SMOLLM2))
}

/// The pages of Python 3.11's documentation: Debian's python3.11-doc, else the copy of `make components`.
///
/// # Panics
/// They are absent and required.
pub fn corpus() -> Option<PathBuf> {
    let installed = PathBuf::from("/usr/share/doc/python3.11/html");
    // Container images leave documentation out and keep its folders.
    let installed = Some(installed).filter(|pages| pages.join("library").is_dir());
    installed.or_else(|| component("corpus/python-docs"))
}

/// A file of the published data that may lie in `shared/data` of a folder above the checkout.
///
/// Never required: it is not ours to fetch.
pub fn shared_data(path: &str) -> Option<PathBuf> {
    let path = Path::new("shared/data").join(path);
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = above.map(|folder| folder.join(&path)).find(|p| p.exists());
    if found.is_none() {
        say_skipped(&path.display().to_string(), "put it above the checkout");
    }
    found
}

/// A program that a package of this machine brings, such as `openssl`.
///
/// # Panics
/// It is absent and required.
pub fn program(name: &str) -> Option<PathBuf> {
    in_path(name).or_else(|| absent(name, "install it"))
}

/// A program of this machine.
fn in_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Nothing, after a loud line.
fn absent<T>(what: &str, remedy: &str) -> Option<T> {
    let required = std::env::var_os(REQUIRE).is_some_and(|set| !set.is_empty() && set != "0");
    assert!(
        !required,
        "{what} is absent and {REQUIRE} is set: {remedy}, or unset it"
    );
    say_skipped(what, remedy);
    None
}

/// The runner captures what `eprintln!` prints and shows it for failed tests only; this goes past it.
fn say_skipped(what: &str, remedy: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("this test");
    let line = format!("SKIPPED {test}: {what} is absent, so it checked nothing: {remedy}\n");
    // Where standard error is closed there is nobody to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_the_path_and_a_folder_is_none() {
        assert!(in_path("sh").is_some_and(|path| path.ends_with("sh")));
        assert_eq!(in_path("no-such-program-of-weir"), None);
        assert_eq!(in_path("."), None);
    }

    #[test]
    fn the_random_model_gives_every_token_that_a_request_allows() {
        let Some(model) = component(TINY_RANDOM) else {
            return;
        };
        let Some(server) = LlamaServer::start(&model, 2048) else {
            return;
        };
        let body =
            r#"{"messages": [{"role": "user", "content": "Was ist älter?"}], "max_tokens": 700}"#;
        let (status, answer) = server.call("POST", "/v1/chat/completions", body).unwrap();
        assert_eq!(status, 200, "{answer}");
        assert!(answer.contains(r#""completion_tokens":700"#), "{answer}");
        assert!(answer.contains(r#""finish_reason":"length""#), "{answer}");
    }

    #[test]
    fn a_server_answers_until_it_is_dropped() {
        let Some(server) = LlamaServer::with_smollm2(256) else {
            return;
        };
        let (status, models) = server.call("GET", "/v1/models", "").unwrap();
        assert_eq!(status, 200, "{models}");
        let address = server.address();
        drop(server);
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
