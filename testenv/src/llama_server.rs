//! A llama.cpp server of the test's own: started on a free port, ready when it is handed out, ended when it is dropped.
//!
//! It speaks HTTP/1.0 in a few lines, so that this crate needs no client; tests of a client bring theirs. Which model a
//! test may use is decided in `lib.rs`.

use crate::{SMOLLM2, component, engine};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a server that loads, and for one answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// A running server.
#[derive(Debug)]
pub struct LlamaServer {
    process: Child,
    address: SocketAddr,
}

impl LlamaServer {
    /// A server of SmolLM2 whose one slot takes `context_tokens`, or nothing where the engine or the model is absent.
    ///
    /// # Panics
    /// One of them is absent and required, or the server does not start.
    pub fn with_smollm2(context_tokens: u32) -> Option<Self> {
        Self::start(&component(SMOLLM2)?, context_tokens)
    }

    /// A server of `model` whose one slot takes `context_tokens`, or nothing where the engine is absent.
    ///
    /// # Panics
    /// The engine is absent and required, or the server does not start.
    pub fn start(model: &Path, context_tokens: u32) -> Option<Self> {
        Self::with_slots(model, context_tokens, 1)
    }

    /// The same with so many slots, which share `context_tokens`.
    ///
    /// # Panics
    /// As [`LlamaServer::start`].
    pub fn with_slots(model: &Path, context_tokens: u32, slots: u32) -> Option<Self> {
        let address = free_address();
        let process = Command::new(engine()?)
            .arg("-m")
            .arg(model)
            .args(["--host", &address.ip().to_string()])
            .args(["--port", &address.port().to_string()])
            .args(["-c", &context_tokens.to_string()])
            .args(["-np", &slots.to_string(), "-t", "1", "--jinja"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a llama-server that was found can be started");
        let mut server = Self { process, address };
        server.wait_until_healthy();
        Some(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Status and body of one request; an empty `body` sends none.
    ///
    /// # Errors
    /// The connection failed or was silent for two minutes.
    pub fn call(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nhost: engine\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status.unwrap_or(0), body.to_owned()))
    }

    fn wait_until_healthy(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !matches!(self.call("GET", "/health", ""), Ok((200, _))) {
            let ended = self.process.try_wait();
            assert!(
                matches!(ended, Ok(None)),
                "the engine ended at start: {ended:?}"
            );
            assert!(
                Instant::now() < deadline,
                "the engine was not healthy after {PATIENCE:?}"
            );
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address of this machine that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("this machine has a free port")
}
