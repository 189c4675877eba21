//! A token of a caller, and after its line a key set of an issuer: read or refused, and no token opens that no key signed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use weir_gateway::jwt::compact::{Compact, is_token};
use weir_gateway::jwt::key_set::KeySet;
use weir_gateway::jwt::verify;
use weir_plan::{JwtKeys, JwtPlan, Privacy, TenantLimits};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (token, document) = text.split_once('\n').unwrap_or((&text, ""));
    let _ = is_token(token);
    let Ok(keys) = KeySet::parse(document.as_bytes()) else {
        return;
    };
    let Ok(token) = Compact::parse(token) else {
        return;
    };
    let plan = JwtPlan {
        issuer: "i".to_owned(),
        audiences: vec!["a".to_owned()],
        keys: JwtKeys::Inline(String::new()),
        tenant_claim: "t".to_owned(),
        user_claim: "u".to_owned(),
    };
    let acme = TenantLimits::within(Privacy::Local);
    let tenants = BTreeMap::from([("acme".to_owned(), acme)]);
    assert!(verify(&token, &keys, (&plan, &tenants), 0.0).is_err(), "a signature was guessed");
});
