//! A llama.cpp server of the test's own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{component, skipped};

/// A running server; ends with the test.
pub(crate) struct Engine {
    process: Child,
    port: u16,
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Engine {
    /// Starts the server for `model` and waits until it is ready; nothing when there is no server.
    pub(crate) fn start(model: &Path) -> Option<Self> {
        let program = program()?;
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new(program)
            .arg("-m")
            .arg(model)
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["-c", "2048", "-np", "1", "-t", "1", "--jinja"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut engine = Self { process, port };
        let deadline = Instant::now() + Duration::from_secs(120);
        while !matches!(engine.call("GET", "/health", ""), Ok((200, _))) {
            let ended = engine.process.try_wait().unwrap();
            assert!(ended.is_none(), "the engine ended at start: {ended:?}");
            assert!(
                Instant::now() < deadline,
                "the engine was not ready after two minutes"
            );
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Some(engine)
    }

    /// `usage.prompt_tokens` of a conversation.
    pub(crate) fn prompt_tokens(&self, turns: &[(&str, &str)]) -> u64 {
        let messages: Vec<Value> = turns
            .iter()
            .map(|(role, content)| json!({"role": role, "content": content}))
            .collect();
        let answer = self.post(
            "/v1/chat/completions",
            &json!({"messages": messages, "max_tokens": 1}),
        );
        answer["usage"]["prompt_tokens"]
            .as_u64()
            .unwrap_or_else(|| panic!("{answer}"))
    }

    /// Number of tokens of a text inside a prompt.
    pub(crate) fn tokens(&self, text: &str) -> usize {
        let body = json!({"content": text, "add_special": false, "parse_special": true});
        let answer = self.post("/tokenize", &body);
        answer["tokens"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .len()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call("POST", path, &body.to_string()).unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    fn call(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nhost: engine\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status, body.to_owned()))
    }
}

/// `llama-server` in `PATH`, else that of `testenv`.
fn program() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&folders).map(|folder| folder.join("llama-server"));
    let found = in_path.into_iter().find(|path| path.is_file());
    found.or_else(|| component("bin/llama-server")).or_else(|| {
        skipped("llama-server");
        None
    })
}
