//! Who may ask a gateway: holders of API keys, of an issuer's tokens, or everybody.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]

use crate::common::NameRef;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may ask.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.anonymous) != (has(self.apiKeysSecretRef) || has(self.jwt))")
    .message("needs apiKeysSecretRef, jwt or both, or anonymous alone: write anonymous: {} only where everybody may ask"))]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Holders of a key of this Secret. Each entry's name is TENANT.KEYID or TENANT.KEYID.SCOPES, its value the key;
    /// SCOPES are ask, memory, judge and admin joined by '-', without them ask and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_keys_secret_ref: Option<NameRef>,
    /// Holders of a token of this issuer, a JSON Web Token, for ask and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Everybody, as tenant `anonymous`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Anonymous>,
}

/// Everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Anonymous {}

/// Tokens that open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// What a token's `iss` must be, letter for letter.
    #[schemars(length(min = 1, max = 1024))]
    pub issuer: String,
    /// A token's `aud` must hold one of these.
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new("size(self) > 0")
        .message("an issuer's tokens for other services would open too: name at least one audience, for example weir"))]
    pub audiences: Vec<String>,
    /// The issuer's public keys.
    pub jwks: JwtKeys,
    /// The claim, a text, that names the tenant: one of `tenants`, or the token opens nothing.
    #[serde(default = "Jwt::default_tenant_claim")]
    #[schemars(length(min = 1, max = 253))]
    pub tenant_claim: String,
    /// The claim, a text, that names the user in the place of the request's own `user`. A token may lack it.
    #[serde(default = "Jwt::default_user_claim")]
    #[schemars(length(min = 1, max = 253))]
    pub user_claim: String,
}

/// The public keys of an issuer, a JWK Set. Of its keys those for RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384
/// and EdDSA (Ed25519) count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.url) != has(self.inline)")
    .message("needs exactly one of url, inline: write the address of the issuer's keys, or the keys themselves"))]
#[serde(rename_all = "camelCase")]
pub struct JwtKeys {
    /// Where the gateway's processes fetch it, and look for changes: https://, or http:// on the loopback address alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^(https://[^/@?# ]+|http://(localhost|127[.]0[.]0[.]1)(:[0-9]+)?)(/[^# ]*)?$')")
        .message("must be an https:// URL without user or fragment, or http:// of 127.0.0.1: write for example https://login.example.com/keys"))]
    pub url: Option<String>,
    /// The document itself, where no issuer can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub inline: Option<String>,
}

impl Jwt {
    fn default_tenant_claim() -> String {
        "tenant".into()
    }

    fn default_user_claim() -> String {
        "sub".into()
    }
}
