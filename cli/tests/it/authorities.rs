//! `WEIR_CA_BUNDLE`: a gateway whose certificate an authority of its own signed is believed by who names that one.

use crate::support::Stage;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

const ANSWER: &str = r#"{"choices": [{"message": {"content": "Yes, here."}}]}"#;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn server(&self) -> ServerConfig {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }
}

/// Answers every question over TLS with a certificate of the authority; its address.
fn gateway(authority: &Authority) -> String {
    let config = Arc::new(authority.server());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Who does not believe the certificate breaks the connection off.
            let _ = answer(stream.unwrap(), Arc::clone(&config));
        }
    });
    format!("https://localhost:{port}")
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let (mut request, mut bytes) = (Vec::new(), [0; 4096]);
    while !is_whole(&request) {
        match tls.read(&mut bytes)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&bytes[..count]),
        }
    }
    let length = ANSWER.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    tls.write_all(head.as_bytes())?;
    tls.write_all(ANSWER.as_bytes())?;
    tls.conn.send_close_notify();
    tls.flush()
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

/// Asks with this file of authorities, or none: whether there was an answer, and what was said.
fn ask(stage: &Stage, url: &str, bundle: Option<&Path>) -> (bool, String) {
    let mut command = stage.command(&["ask", "Are you there?", "--url", url, "--output", "json"]);
    command.env_remove("WEIR_CA_BUNDLE");
    if let Some(bundle) = bundle {
        command.env("WEIR_CA_BUNDLE", bundle);
    }
    let output = command.output().unwrap();
    let all = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&all).into_owned();
    (output.status.success(), said)
}

#[test]
fn a_gateway_of_an_own_authority_is_believed_by_who_names_it_and_by_nobody_else() {
    let (stage, own, other) = (Stage::new(), Authority::new(), Authority::new());
    let url = gateway(&own);
    let (others, both) = (stage.path("other.crt"), stage.path("both.crt"));
    std::fs::write(&others, other.0.pem()).unwrap();
    std::fs::write(&both, other.0.pem() + &own.0.pem()).unwrap();
    let (answered, said) = ask(&stage, &url, Some(&both));
    assert!(answered && said.contains("Yes, here."), "{said}");
    for bundle in [None, Some(others.as_path()), Some(Path::new(""))] {
        let (answered, said) = ask(&stage, &url, bundle);
        assert!(!answered && said.contains("cannot ask https://"), "{said}");
        assert!(said.to_lowercase().contains("certificate"), "{said}");
    }
}

#[test]
fn a_bundle_that_holds_no_authority_is_named_before_anything_is_asked() {
    let stage = Stage::new();
    let (missing, damaged) = (stage.path("missing.crt"), stage.path("damaged.crt"));
    let pem = Authority::new().0.pem();
    std::fs::write(&damaged, pem.replace("MI", "!!")).unwrap();
    for bundle in [&missing, &damaged] {
        let (answered, said) = ask(&stage, "https://localhost:9", Some(bundle));
        assert!(!answered, "{said}");
        let named = format!("WEIR_CA_BUNDLE names {}", bundle.display());
        assert!(said.contains(&named), "{said}");
    }
}
