//! Who asks: API keys, scopes and the anonymous mode. Tokens of an issuer are read in `jwt/`.
//!
//! Keys are known by their SHA-256 only and compared in constant time, every key every time, so that neither content
//! nor number of keys shows in the timing. Decides nothing else. Reading on: `rescue.rs` for what a refusal looks like.

use crate::gateway::{Gateway, Serving};
use crate::jwt::compact::is_token;
use crate::jwt::{Subject, TokenError};
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use weir_plan::{ANONYMOUS, ApiKey, Auth, Scope};

/// Who asks and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) tenant: String,
    /// Name of the key; `None` where none was asked for.
    pub(crate) key_id: Option<String>,
    /// The user within the tenant, where a token names it.
    pub(crate) user: Option<String>,
    scopes: Vec<Scope>,
}

/// Why a caller is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    #[error("no API key or token: send it as `Authorization: Bearer KEY`")]
    Missing,
    #[error("the API key is not known to this gateway: check it, or ask its owner for a new one")]
    Unknown,
    #[error("the API key lacks the scope `{}`: ask its owner for a key that has it", .0.as_str())]
    Scope(Scope),
}

/// Why a caller is refused, by what it showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Key(AuthError),
    Token(TokenError),
}

impl Gateway {
    /// Who sent these headers: by a key, or else by a token.
    pub(crate) async fn identity(
        &self,
        serving: &Serving,
        headers: &HeaderMap,
    ) -> Result<Identity, Refused> {
        let plan = &serving.plan;
        let by_key = Identity::of(&plan.auth, headers);
        let may_be_token = by_key == Err(AuthError::Unknown) && plan.jwt.is_some();
        let shown = bearer(headers).ok();
        match shown.filter(|shown| may_be_token && is_token(shown)) {
            Some(token) => {
                let subject = self.issuer().subject(token, plan).await;
                subject.map(Identity::of_token).map_err(Refused::Token)
            }
            None => by_key.map_err(Refused::Key),
        }
    }
}

impl Identity {
    /// Whose key these headers show.
    fn of(auth: &Auth, headers: &HeaderMap) -> Result<Self, AuthError> {
        let keys = match auth {
            Auth::Anonymous => {
                let scopes = vec![Scope::Ask, Scope::Memory, Scope::Judge, Scope::Admin];
                return Ok(Self {
                    tenant: ANONYMOUS.to_owned(),
                    key_id: None,
                    user: None,
                    scopes,
                });
            }
            Auth::ApiKeys(keys) => keys,
        };
        let key = find(keys, bearer(headers)?).ok_or(AuthError::Unknown)?;
        Ok(Self {
            tenant: key.tenant.clone(),
            key_id: Some(key.key_id.clone()),
            user: None,
            scopes: key.scopes.clone(),
        })
    }

    /// Who a token speaks for; it may do what a key without scopes may.
    fn of_token(subject: Subject) -> Self {
        let key_id = subject.key_id.unwrap_or_default();
        Self {
            tenant: subject.tenant,
            key_id: Some(format!("jwt:{key_id}")),
            user: subject.user,
            scopes: vec![Scope::Ask, Scope::Memory],
        }
    }

    /// Whether the key has a scope; an admin key has all.
    pub(crate) fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    pub(crate) fn require(self, scope: Scope) -> Result<Self, AuthError> {
        if self.has(scope) {
            Ok(self)
        } else {
            Err(AuthError::Scope(scope))
        }
    }
}

/// The credential of the headers: a key or a token.
fn bearer(headers: &HeaderMap) -> Result<&str, AuthError> {
    let value = headers.get(header::AUTHORIZATION);
    let value = value.and_then(|value| value.to_str().ok()?.split_once(' '));
    let (scheme, credential) = value.ok_or(AuthError::Missing)?;
    let credential = credential.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || credential.is_empty() {
        return Err(AuthError::Missing);
    }
    Ok(credential)
}

fn find<'a>(keys: &'a [ApiKey], presented: &str) -> Option<&'a ApiKey> {
    let digest = hex::encode(Sha256::digest(presented.as_bytes()));
    let mut found = 0u64;
    for (position, key) in (1u64..).zip(keys) {
        let equal: Choice = key.sha256.as_bytes().ct_eq(digest.as_bytes());
        found.conditional_assign(&position, equal);
    }
    let index = usize::try_from(found).ok()?.checked_sub(1)?;
    keys.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> Auth {
        let key = |tenant: &str, key: &str, scopes: &[Scope]| ApiKey {
            tenant: tenant.to_owned(),
            key_id: "k".to_owned(),
            sha256: hex::encode(Sha256::digest(key.as_bytes())),
            scopes: scopes.to_vec(),
        };
        Auth::ApiKeys(vec![
            key("acme", "sk-a", &[Scope::Ask]),
            key("globex", "sk-g", &[Scope::Memory]),
            key("ops", "sk-o", &[Scope::Admin]),
        ])
    }

    fn sent(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn every_key_names_its_tenant() {
        for (key, tenant) in [("sk-a", "acme"), ("sk-g", "globex"), ("sk-o", "ops")] {
            let identity = Identity::of(&auth(), &sent(&format!("bearer {key}"))).unwrap();
            assert_eq!(identity.tenant, tenant);
        }
    }

    #[test]
    fn a_missing_or_wrong_key_is_refused_without_being_quoted() {
        for (value, expected) in [
            ("Bearer sk-wrong", AuthError::Unknown),
            ("Bearer ", AuthError::Missing),
            ("Basic sk-a", AuthError::Missing),
            ("sk-a", AuthError::Missing),
        ] {
            let error = Identity::of(&auth(), &sent(value)).unwrap_err();
            assert_eq!(error, expected, "{value}");
            assert!(!error.to_string().contains("sk-"));
        }
        assert_eq!(
            Identity::of(&auth(), &HeaderMap::new()),
            Err(AuthError::Missing)
        );
    }

    #[test]
    fn scopes_bound_what_a_key_may_do_and_admin_has_all() {
        let asker = Identity::of(&auth(), &sent("Bearer sk-a")).unwrap();
        assert_eq!(
            asker.clone().require(Scope::Memory),
            Err(AuthError::Scope(Scope::Memory))
        );
        assert!(asker.require(Scope::Ask).is_ok());
        let admin = Identity::of(&auth(), &sent("Bearer sk-o")).unwrap();
        assert!(admin.has(Scope::Memory) && admin.has(Scope::Ask));
        assert!(
            Identity::of(&Auth::Anonymous, &HeaderMap::new())
                .unwrap()
                .has(Scope::Admin)
        );
    }
}
