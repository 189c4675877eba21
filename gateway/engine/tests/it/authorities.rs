//! Pools whose certificates an authority of their own signed.

use crate::doubles::{Does, Double, ask, pool, read};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use weir_engine::{EngineError, Engines};
use weir_plan::Pool;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn acceptor(&self) -> TlsAcceptor {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Secured in front of a double: the URL.
    async fn in_front_of(&self, double: &Double) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let behind = double.url.strip_prefix("http://").unwrap().to_owned();
        let acceptor = self.acceptor();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    let mut secured = acceptor.accept(socket).await.ok()?;
                    let mut plain = TcpStream::connect(behind).await.ok()?;
                    tokio::io::copy_bidirectional(&mut secured, &mut plain)
                        .await
                        .ok()
                });
            }
        });
        url
    }
}

fn believing(url: &str, authorities: Option<String>) -> Pool {
    Pool {
        authorities,
        ..pool(&[url])
    }
}

#[tokio::test]
async fn a_pool_is_believed_by_its_own_authorities_alone() {
    let double = Double::start(Does::Answers { chunk: 64 }).await;
    let (own, other) = (Authority::new(), Authority::new());
    let url = own.in_front_of(&double).await;
    let both = format!("{}{}", other.0.pem(), own.0.pem());
    for (authorities, is_believed) in [
        (None, false),
        (Some(other.0.pem()), false),
        (Some(own.0.pem()), true),
        (Some(other.0.pem()), false),
        (Some(both), true),
    ] {
        let engines = Engines::new();
        let pool = believing(&url, authorities);
        engines.set_pools([&pool]);
        match ask(&engines, &pool).await {
            Ok(stream) => {
                assert!(is_believed);
                assert_eq!(read(stream).await.0, "hello world");
            }
            Err(error) => {
                assert!(!is_believed, "{error}");
                assert!(matches!(error, EngineError::Untrusted { .. }), "{error:?}");
            }
        }
    }
}

#[tokio::test]
async fn other_authorities_are_taken_over_by_a_client_that_runs() {
    let double = Double::start(Does::Answers { chunk: 64 }).await;
    let (own, other) = (Authority::new(), Authority::new());
    let url = own.in_front_of(&double).await;
    let engines = Engines::new();
    let before = believing(&url, Some(other.0.pem()));
    engines.set_pools([&before]);
    assert!(ask(&engines, &before).await.is_err());
    let after = believing(&url, Some(own.0.pem()));
    engines.set_pools([&after]);
    assert!(ask(&engines, &after).await.is_ok());
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_named_as_such() {
    let double = Double::start(Does::Answers { chunk: 64 }).await;
    let url = Authority::new().in_front_of(&double).await;
    let pool = believing(&url, Some("no certificate".to_owned()));
    let error = ask(&Engines::new(), &pool).await.err().unwrap();
    assert!(
        matches!(error, EngineError::BadEndpoint { .. }),
        "{error:?}"
    );
    assert_eq!(double.requests(), 0);
}
