//! Reading a plan from JSON: what is wrong with it is named, its content never shown.
//!
//! A plan holds keys, so errors say where and of which kind, not what stands there. The format is read first, so that a
//! plan of another generation is refused as such and not for a field that it lacks. Pure. Reading on: `world.rs`.

use serde::Deserialize;
use serde_json::error::Category;
use weir_plan::{FORMAT, GatewayPlan, PlanFormat};

/// Why bytes are no plan that this gateway serves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanJsonError {
    /// Not JSON, or cut short.
    #[error("is no JSON (line {line}, column {column})")]
    NotJson { line: usize, column: usize },
    /// JSON that does not say which format it has.
    #[error("names no format: a plan begins with \"format\": {{\"major\", \"minor\"}}")]
    NoFormat,
    /// Written by another generation of Weir.
    #[error(
        "has format {}.{}, this gateway serves {}.{} and one minor beside it",
        found.major, found.minor, FORMAT.major, FORMAT.minor
    )]
    Format { found: PlanFormat },
    /// A field is missing or has another type.
    #[error("does not have the shape of a plan (line {line}, column {column}){hint}")]
    Shape {
        line: usize,
        column: usize,
        hint: String,
    },
}

#[derive(Deserialize)]
struct Head {
    format: PlanFormat,
}

impl PlanJsonError {
    /// A short, fixed name for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NotJson { .. } | Self::NoFormat | Self::Shape { .. } => "unreadable",
            Self::Format { .. } => "format",
        }
    }
}

/// Reads a plan that this gateway serves.
pub(crate) fn parse(json: &[u8]) -> Result<GatewayPlan, PlanJsonError> {
    let head: Head = serde_json::from_slice(json).map_err(|error| match error.classify() {
        Category::Data => PlanJsonError::NoFormat,
        _ => not_json(&error),
    })?;
    if !head.format.is_served() {
        let found = head.format;
        return Err(PlanJsonError::Format { found });
    }
    serde_json::from_slice(json).map_err(|error| match error.classify() {
        Category::Data => PlanJsonError::Shape {
            line: error.line(),
            column: error.column(),
            hint: hint(&error),
        },
        _ => not_json(&error),
    })
}

fn not_json(error: &serde_json::Error) -> PlanJsonError {
    let (line, column) = (error.line(), error.column());
    PlanJsonError::NotJson { line, column }
}

/// The name of a field that is missing. Other messages quote values, which may be keys.
fn hint(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let field = text
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next());
    field
        .map(|field| format!(": field {field:?} is missing"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> PlanJsonError {
        parse(json.as_bytes()).expect_err("is refused")
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cut = refused(r#"{"format": {"major": 1,"#);
        assert_eq!(
            cut,
            PlanJsonError::NotJson {
                line: 1,
                column: 23
            }
        );
        assert_eq!(refused("[]"), PlanJsonError::NoFormat);
        assert_eq!(refused(r#"{"format": "1.0"}"#), PlanJsonError::NoFormat);
        let found = PlanFormat {
            major: FORMAT.major + 1,
            minor: 0,
        };
        let newer = format!(
            r#"{{"format": {{"major": {}, "minor": 0}}, "shape": "new"}}"#,
            found.major
        );
        assert_eq!(refused(&newer), PlanJsonError::Format { found });
        let lacks = refused(r#"{"format": {"major": 1, "minor": 0}}"#).to_string();
        assert!(lacks.contains(r#"field "revision" is missing"#), "{lacks}");
    }

    #[test]
    fn an_error_never_shows_what_stands_in_the_plan() {
        let json = r#"{"format": {"major": 1, "minor": 0}, "revision": "sk-very-secret"}"#;
        let error = refused(json);
        assert!(
            matches!(error, PlanJsonError::Shape { line: 1, .. }),
            "{error:?}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
