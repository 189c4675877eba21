//! An issuer of tokens: its keys, and a real HTTP server for their document.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RsaEncoding, RsaKeyPair,
};
use ring::{hmac, signature};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir_plan::{JwtKeys, JwtPlan};

/// A key that signs tokens.
pub(crate) struct Signer {
    pub(crate) kid: &'static str,
    pub(crate) alg: &'static str,
    pair: Pair,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    /// Made once: ring makes none.
    Rsa(RsaKeyPair),
}

/// Serves a document, or what stands in its place, and counts how often it is asked.
pub(crate) struct Issuer {
    pub(crate) url: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

impl Signer {
    pub(crate) fn new(kid: &'static str, alg: &'static str) -> Self {
        let random = SystemRandom::new();
        let ecdsa = |kind| {
            let made = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
            Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(kind, made.as_ref(), &random).unwrap())
        };
        let pair = match alg {
            "ES256" => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            "EdDSA" => {
                let made = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
            }
            _ => Pair::Rsa(RsaKeyPair::from_pkcs8(include_bytes!("rsa.pk8")).unwrap()),
        };
        Self { kid, alg, pair }
    }

    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Ecdsa(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)})
            }
            Pair::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key())})
            }
            Pair::Rsa(pair) => {
                let public = signature::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": base64url(public.n), "e": base64url(public.e)})
            }
        };
        jwk["kid"] = self.kid.into();
        jwk
    }

    fn sign(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, signed).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(signed).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let encoding: &dyn RsaEncoding = match self.alg {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    _ => &signature::RSA_PSS_SHA512,
                };
                let mut bytes = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, signed, &mut bytes).unwrap();
                bytes
            }
        }
    }

    /// A token for acme's Ann with these changes of its claims.
    pub(crate) fn token(&self, changes: &Value) -> String {
        let header = json!({"alg": self.alg, "kid": self.kid, "typ": "JWT"});
        self.token_with(&header, changes)
    }

    pub(crate) fn token_with(&self, header: &Value, changes: &Value) -> String {
        let signed = unsigned(header, changes);
        let signature = base64url(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// Header and claims of a token.
pub(crate) fn unsigned(header: &Value, changes: &Value) -> String {
    let mut claims = json!({
        "iss": "https://login.example", "aud": "weir", "exp": now() + 300,
        "sub": "ann", "tenant": "acme",
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let part = |value: &Value| base64url(value.to_string());
    format!("{}.{}", part(header), part(&claims))
}

/// A token signed with a shared secret.
pub(crate) fn shared(secret: &[u8], kid: &str) -> String {
    let signed = unsigned(&json!({"alg": "HS256", "kid": kid}), &json!({}));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = base64url(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

pub(crate) fn jwks(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({"keys": keys}).to_string()
}

/// Tokens of the issuer whose keys these are.
pub(crate) fn jwt_plan(keys: JwtKeys) -> JwtPlan {
    JwtPlan {
        issuer: "https://login.example".to_owned(),
        audiences: vec!["weir".to_owned()],
        keys,
        tenant_claim: "tenant".to_owned(),
        user_claim: "sub".to_owned(),
    }
}

impl Issuer {
    pub(crate) async fn start(document: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let issuer = Self {
            url,
            answer: Arc::default(),
            asked: Arc::default(),
        };
        issuer.publish(document);
        let (answer, asked) = (Arc::clone(&issuer.answer), Arc::clone(&issuer.asked));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().unwrap().clone();
                let mut head = [0; 4096];
                if stream.read(&mut head).await.is_ok() {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        issuer
    }

    pub(crate) fn publish(&self, document: &str) {
        let length = document.len();
        self.answer_with(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{document}"
        ));
    }

    /// Answers with these bytes from now on; with none it closes the connection.
    pub(crate) fn answer_with(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn plan(&self) -> JwtPlan {
        jwt_plan(JwtKeys::Url(self.url.clone()))
    }
}
