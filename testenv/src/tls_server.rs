//! A TLS server whose certificate nobody trusts: OpenSSL's own, with a key that is made for it and deleted with it.
//!
//! The certificate is right but for its issuer, so a client that refuses it does so for want of trust. It answers no HTTP
//! request that this repository sends.

use crate::llama_server::free_address;
use crate::program;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait until it listens.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A running server.
#[derive(Debug)]
pub struct UntrustedTlsServer {
    process: Child,
    address: SocketAddr,
    identity: PathBuf,
}

impl UntrustedTlsServer {
    /// Starts one, or nothing where `openssl` is absent.
    ///
    /// # Panics
    /// `openssl` is absent and required, or does not do what it is asked.
    pub fn start() -> Option<Self> {
        let openssl = program("openssl")?;
        let address = free_address();
        let name = format!("weir-tls-{}-{}.pem", std::process::id(), address.port());
        let identity = std::env::temp_dir().join(name);
        make_identity(&openssl, &identity);
        let process = Command::new(openssl)
            .args(["s_server", "-www", "-accept", &address.to_string()])
            .arg("-cert")
            .arg(&identity)
            .arg("-key")
            .arg(&identity)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("an openssl that was found can be started");
        let server = Self {
            process,
            address,
            identity,
        };
        server.wait_until_listening();
        Some(server)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    fn wait_until_listening(&self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            assert!(
                Instant::now() < deadline,
                "openssl did not listen after {PATIENCE:?}"
            );
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for UntrustedTlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.identity);
    }
}

/// Writes a key and its self-signed certificate into one file.
fn make_identity(openssl: &Path, file: &Path) {
    let made = Command::new(openssl)
        .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(file)
        .arg("-out")
        .arg(file)
        .output()
        .expect("an openssl that was found can be started");
    assert!(
        made.status.success(),
        "openssl made no certificate: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}
