//! A token in its compact form, `header.claims.signature` (RFC 7515, section 7.1), taken apart. Nothing is believed here.

use super::TokenError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest token that is read.
pub const TOKEN_MAX: usize = 16 << 10;

/// All that are accepted of any key: none of shared keys, and not `none`.
const ALGORITHMS: [&str; 9] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
];

/// A token that was taken apart.
#[derive(Debug)]
pub struct Compact<'a> {
    pub(crate) header: Header,
    /// What was signed.
    pub(crate) signed: &'a str,
    claims: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// What a token says of itself. `jku`, `jwk`, `x5u` and `x5c`, by which it would bring its own key, are not read.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    #[serde(default)]
    pub(crate) kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

/// Whether a credential has the shape of a token: three parts, of which the first begins a JSON object.
pub fn is_token(credential: &str) -> bool {
    let mut parts = credential.split('.');
    let header = decoded(parts.next().unwrap_or_default());
    header.is_ok_and(|header| header.starts_with(b"{")) && parts.count() == 2
}

impl<'a> Compact<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// What cannot be read, or says of itself what is never accepted.
    pub fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_MAX {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header = serde_json::from_slice(&decoded(header)?);
        let header: Header = header.map_err(|_| TokenError::Malformed)?;
        let is_known = ALGORITHMS.contains(&header.alg.as_str());
        if !is_known || header.crit.is_some() || !header.is_of_access() {
            return Err(TokenError::Algorithm);
        }
        Ok(Self {
            header,
            signed,
            claims: decoded(claims)?,
            signature: decoded(signature)?,
        })
    }

    /// What the token claims.
    pub(crate) fn claims(&self) -> Result<Map<String, Value>, TokenError> {
        serde_json::from_slice(&self.claims).map_err(|_| TokenError::Malformed)
    }
}

impl Header {
    /// Whether its `typ` is that of a token for access, or of no kind: the same key may sign logouts and proofs.
    fn is_of_access(&self) -> bool {
        let Some(kind) = &self.typ else {
            return true;
        };
        let kind = kind.to_ascii_lowercase();
        let kind = kind.strip_prefix("application/").unwrap_or(&kind);
        ["jwt", "at+jwt"].contains(&kind)
    }
}

fn decoded(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(header: &str) -> String {
        format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header))
    }

    #[test]
    fn what_is_no_token_is_told_from_what_is() {
        let good = with_header(r#"{"alg":"RS256","kid":"a"}"#);
        assert!(is_token(&good) && Compact::parse(&good).is_ok());
        for other in [
            "sk-0123456789abcdef",
            "a.b.c",
            "",
            "..",
            "eyJ",
            "eyJ.a",
            "eyJ.a.b.c.d",
        ] {
            assert!(!is_token(other), "{other}");
        }
    }

    #[test]
    fn tokens_that_cannot_be_read_or_ask_for_more_are_refused() {
        let long = format!(
            "{}{}",
            with_header(r#"{"alg":"RS256"}"#),
            "A".repeat(TOKEN_MAX)
        );
        for (token, expected) in [
            ("eyJhIjoxfQ.e30.AA".to_owned(), TokenError::Malformed),
            ("eyJ=.e30.AA".to_owned(), TokenError::Malformed),
            (with_header("[]"), TokenError::Malformed),
            (long, TokenError::Malformed),
            (
                with_header(r#"{"alg":"RS256","alg":"none"}"#),
                TokenError::Malformed,
            ),
            (with_header(r#"{"alg":"none"}"#), TokenError::Algorithm),
            (with_header(r#"{"alg":"HS256"}"#), TokenError::Algorithm),
            (
                with_header(r#"{"alg":"RS256","crit":["b64"]}"#),
                TokenError::Algorithm,
            ),
            (
                with_header(r#"{"alg":"RS256","typ":"logout+jwt"}"#),
                TokenError::Algorithm,
            ),
        ] {
            assert_eq!(Compact::parse(&token).err(), Some(expected), "{token}");
        }
        for typ in ["JWT", "at+jwt", "application/at+JWT"] {
            let token = with_header(&format!(r#"{{"alg":"RS256","typ":"{typ}"}}"#));
            assert!(Compact::parse(&token).is_ok(), "{typ}");
        }
    }
}
