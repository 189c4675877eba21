//! `weir up` with `auth.jwt`: tokens of the issuer whose keys stand in the stack open the gateway, others do not.

use crate::support::Stage;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use weir_testenv::{TINY_RANDOM, component, engine};

fn token(key: &KeyPair, audience: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = json!({
        "iss": "https://login.example.com/", "aud": audience, "tenant": "acme", "sub": "ada",
        "exp": now.as_secs() + 600,
    });
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!(
        "{}.{}",
        part(json!({"alg": "EdDSA", "kid": "k1"})),
        part(claims)
    );
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

#[test]
fn tokens_of_the_issuer_open_a_gateway_on_this_machine_and_others_do_not() {
    let (Some(_), Some(model)) = (engine(), component(TINY_RANDOM)) else {
        return;
    };
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let x = URL_SAFE_NO_PAD.encode(key.der_bytes());
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": x}]}).to_string();
    let auth = json!({"jwt": {
        "issuer": "https://login.example.com/", "audiences": ["weir"], "jwks": {"inline": keys},
    }});
    let mut stage = Stage::new();
    let text = stage.stack_of(&["small"], &model, "");
    let text = text.replace("{anonymous: {}}", &auth.to_string());
    std::fs::write(stage.stack(), text + "  tenants: [{name: acme}]\n").unwrap();
    stage.up();
    let ask = |opens_with: Option<&str>| {
        let mut ask = stage.command(&["ask", "May I?", "--max-tokens", "4"]);
        match opens_with {
            Some(token) => ask.env("WEIR_API_KEY", token),
            None => ask.env_remove("WEIR_API_KEY"),
        };
        let output = ask.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    let (opened, said) = ask(Some(&token(&key, "weir")));
    assert!(opened, "{said}\n{}", stage.said());
    let another = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let forged = token(&another, "weir");
    for refused in [Some(token(&key, "payroll")), Some(forged), None] {
        let (opened, said) = ask(refused.as_deref());
        assert!(!opened && said.contains("401"), "{refused:?}: {said}");
    }
}
