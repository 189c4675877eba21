//! Whose tokens a gateway takes beside API keys.

use serde::{Deserialize, Serialize};

/// Tokens (JWT) that open a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JwtPlan {
    /// What `iss` must be, byte for byte.
    pub issuer: String,
    /// One of these must be in `aud`.
    pub audiences: Vec<String>,
    /// Where the issuer's public keys come from.
    pub keys: JwtKeys,
    /// The claim that names the tenant: one of `GatewayPlan::tenants`, or nothing is opened.
    pub tenant_claim: String,
    /// The claim that names the user within the tenant.
    pub user_claim: String,
}

/// Where an issuer's public keys come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JwtKeys {
    /// Fetched here, and again as they age.
    Url(String),
    /// This document, a JWK Set (RFC 7517).
    Inline(String),
}
