//! Whose tokens a gateway takes, from its spec.

use crate::validate::{On, Problem};
use weir_crds::{InferenceGateway, Jwt};
use weir_plan as plan;

/// Whose tokens open a gateway.
pub(crate) fn accepted(gateway: &InferenceGateway) -> Option<plan::JwtPlan> {
    let jwt = gateway.spec.auth.jwt.as_ref()?;
    Some(plan::JwtPlan {
        issuer: jwt.issuer.clone(),
        audiences: jwt.audiences.clone(),
        keys: keys(jwt),
        tenant_claim: jwt.tenant_claim.clone(),
        user_claim: jwt.user_claim.clone(),
    })
}

fn keys(jwt: &Jwt) -> plan::JwtKeys {
    match (&jwt.jwks.url, &jwt.jwks.inline) {
        (Some(url), _) => plan::JwtKeys::Url(url.clone()),
        (None, inline) => plan::JwtKeys::Inline(inline.clone().unwrap_or_default()),
    }
}

/// Whose tokens still open that did `before`, whatever else is wrong with the stack: what was changed or taken back is closed,
/// and nothing is opened.
pub fn still_accepted(
    gateway: &InferenceGateway,
    before: Option<&plan::JwtPlan>,
) -> Option<plan::JwtPlan> {
    accepted(gateway).filter(|now| Some(now) == before)
}

/// What is wrong with keys that stand in the spec.
pub(crate) fn problems(gateway: &InferenceGateway) -> Option<Problem> {
    let jwt = gateway.spec.auth.jwt.as_ref()?;
    let document = jwt.jwks.inline.as_deref()?;
    let read: Result<serde_json::Value, _> = serde_json::from_str(document);
    let message = match &read {
        Err(error) => format!("not JSON: line {} column {}", error.line(), error.column()),
        Ok(set) if set["keys"].as_array().is_none_or(Vec::is_empty) => "no keys are in it".into(),
        Ok(set) if set["keys"].as_array().into_iter().flatten().any(is_private) => {
            "it holds a private or shared key, which nobody but the issuer may know".into()
        }
        Ok(_) => return None,
    };
    let on = On::new("InferenceGateway", &gateway.metadata.name, "spec.auth");
    let instead = "write the document that the issuer publishes: {\"keys\": [...]}".into();
    Some(on.problem("jwt.jwks.inline", "JwksMalformed", message, instead))
}

/// Whether a key of a set is one that signs.
fn is_private(key: &serde_json::Value) -> bool {
    !key["d"].is_null() || !key["k"].is_null()
}
