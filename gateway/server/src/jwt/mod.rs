//! Who asks, by a token of an issuer: a JSON Web Token (RFC 7519) as RFC 8725 wants it checked.
//!
//! What is accepted is decided by the plan and by the issuer's keys, never by the token: a key says which algorithms are its
//! own, all of them asymmetric, and nothing in a token says where to find a key. Nothing here shows a token or a claim.
//! `compact.rs` takes a token apart, `key_set.rs` reads keys and checks signatures, `issuer.rs` keeps the keys.

pub mod compact;
mod fetch;
mod issuer;
pub mod key_set;

pub(crate) use issuer::{Counts, Issuer};

use compact::Compact;
use key_set::KeySet;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;
use weir_plan::{JwtPlan, TenantLimits};

/// How far the clocks of issuer and gateway may differ.
pub const LEEWAY_SECONDS: f64 = 30.0;
/// Longest user name that is taken over.
const USER_MAX: usize = 512;

/// Who a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// One that the plan names.
    pub tenant: String,
    /// The user within the tenant.
    pub user: Option<String>,
    /// Name of the issuer's key, as its document has it.
    pub key_id: Option<String>,
}

/// Why a token opens nothing. Never says what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url with JSON in the first two, or too long.
    #[error("the token cannot be read: send one of the issuer as it was issued")]
    Malformed,
    /// `alg` is `none`, one of shared keys, one that the key is not for, or `crit` demands what is not understood.
    #[error(
        "the token's algorithm or kind is not accepted: tokens are signed with RS, PS, ES or EdDSA"
    )]
    Algorithm,
    /// The issuer has no such key.
    #[error("the token's key is not one of its issuer's: ask for a new token")]
    UnknownKey,
    /// The signature is another's.
    #[error("the token's signature is wrong")]
    Signature,
    /// `iss` is another's.
    #[error("the token's issuer is not the one of this gateway")]
    Issuer,
    /// `aud` is for others.
    #[error("the token is not for this gateway: ask the issuer for one with its audience")]
    Audience,
    /// `exp` is missing or no number.
    #[error("the token has no end: `exp` must be there")]
    NoExpiry,
    /// `exp` is over.
    #[error("the token has expired: ask for a new one")]
    Expired,
    /// `nbf` is to come.
    #[error("the token is not valid yet: check the clocks")]
    Early,
    /// The tenant's claim is missing or no text.
    #[error(
        "the token names no tenant: its issuer must put it in the claim that the gateway reads"
    )]
    NoTenant,
    /// The plan does not name the tenant.
    #[error("the token's tenant is not known to this gateway")]
    UnknownTenant,
    /// No key of the issuer is known.
    #[error("the issuer's keys cannot be had now: try again shortly")]
    KeysAway(Duration),
}

impl TokenError {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::NoExpiry => "no_expiry",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::NoTenant => "no_tenant",
            Self::UnknownTenant => "unknown_tenant",
            Self::KeysAway(_) => "keys_away",
        }
    }
}

/// Who a token speaks for, at `now` in seconds since 1970.
///
/// # Errors
/// Why it opens nothing. [`TokenError::UnknownKey`] may change with the issuer's keys.
pub fn verify(
    token: &Compact<'_>,
    keys: &KeySet,
    (plan, tenants): (&JwtPlan, &BTreeMap<String, TenantLimits>),
    now: f64,
) -> Result<Subject, TokenError> {
    let key = keys.key_of(&token.header)?;
    key.verify(token)?;
    let claims = token.claims()?;
    check(&claims, plan, now)?;
    let tenant = text(&claims, &plan.tenant_claim).ok_or(TokenError::NoTenant)?;
    if !tenants.contains_key(tenant) {
        return Err(TokenError::UnknownTenant);
    }
    let user = text(&claims, &plan.user_claim).filter(|user| user.len() <= USER_MAX);
    Ok(Subject {
        tenant: tenant.to_owned(),
        user: user.map(str::to_owned),
        key_id: key.id.clone(),
    })
}

fn check(claims: &Map<String, Value>, plan: &JwtPlan, now: f64) -> Result<(), TokenError> {
    if text(claims, "iss") != Some(plan.issuer.as_str()) {
        return Err(TokenError::Issuer);
    }
    let is_ours = |audience: &Value| {
        let audience = audience.as_str();
        audience.is_some_and(|one| plan.audiences.iter().any(|ours| ours == one))
    };
    let for_us = match claims.get("aud") {
        Some(Value::Array(audiences)) => audiences.iter().any(is_ours),
        Some(audience) => is_ours(audience),
        None => false,
    };
    if !for_us {
        return Err(TokenError::Audience);
    }
    let expiry = claims.get("exp").and_then(Value::as_f64);
    if now >= expiry.ok_or(TokenError::NoExpiry)? + LEEWAY_SECONDS {
        return Err(TokenError::Expired);
    }
    match claims.get("nbf").map(Value::as_f64) {
        None => Ok(()),
        Some(Some(begin)) if now + LEEWAY_SECONDS >= begin => Ok(()),
        Some(_) => Err(TokenError::Early),
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use weir_plan::JwtKeys;

    fn plan() -> JwtPlan {
        JwtPlan {
            issuer: "https://login.example".into(),
            audiences: vec!["weir".into(), "models".into()],
            keys: JwtKeys::Inline(String::new()),
            tenant_claim: "tenant".into(),
            user_claim: "sub".into(),
        }
    }

    #[test]
    fn claims_are_checked_as_the_plan_says() {
        let good = json!({"iss": "https://login.example", "aud": "weir", "exp": 1000});
        let cases = [
            (json!({}), Ok(())),
            (json!({"aud": ["other", "models"]}), Ok(())),
            (json!({"aud": "other"}), Err(TokenError::Audience)),
            (json!({"aud": ["other"]}), Err(TokenError::Audience)),
            (json!({"aud": null}), Err(TokenError::Audience)),
            (json!({"aud": {"weir": true}}), Err(TokenError::Audience)),
            (
                json!({"iss": "https://login.example/"}),
                Err(TokenError::Issuer),
            ),
            (
                json!({"iss": ["https://login.example"]}),
                Err(TokenError::Issuer),
            ),
            (json!({"exp": null}), Err(TokenError::NoExpiry)),
            (json!({"exp": "1000"}), Err(TokenError::NoExpiry)),
            (json!({"exp": 971}), Ok(())),
            (json!({"exp": 970}), Err(TokenError::Expired)),
            (json!({"nbf": 1030}), Ok(())),
            (json!({"nbf": 1031}), Err(TokenError::Early)),
            (json!({"nbf": "900"}), Err(TokenError::Early)),
        ];
        for (change, expected) in cases {
            let mut claims = good.clone();
            for (name, value) in change.as_object().unwrap() {
                claims[name] = value.clone();
            }
            let found = check(claims.as_object().unwrap(), &plan(), 1000.0);
            assert_eq!(found, expected, "{change}");
        }
    }
}
