//! Weir's own per-request settings: the `weir` object of a body, or `x-weir-*` headers.
//!
//! Owns their names and values. Must not decide what they lead to: privacy and budget are masks (`masks.rs`), memory is
//! `recall.rs`, citations are `prompt.rs`.

use crate::ask::AskError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use weir_engine::Priority;
use weir_plan::Privacy;

/// The kinds of device that the router can tell apart.
const DEVICE_CLASSES: [&str; 3] = ["device", "edge", "server"];

/// Weir's own settings of one request. Absent means: as the gateway's plan says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Weir")]
pub struct Extension {
    /// Milliseconds the whole answer may take: slower arms are masked, and the request ends then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub budget_ms: Option<u64>,
    /// How far the request's data may travel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("enum" = ["local", "onPrem", "cloud", null]))]
    pub privacy: Option<Privacy>,
    /// The kind of device that asks, a feature of the router: `device`, `edge` or `server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["device", "edge", "server", null]))]
    pub device_class: Option<String>,
    /// The subject the question belongs to: a feature of the router and what guardrails match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Names a conversation, for logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What of the memory may be recalled.
    pub memory: MemoryUse,
    /// Whether an answer that was kept may be given, and this one be kept.
    pub cache: CacheUse,
    /// Whether somebody waits for the answer: `low` is for work in the background.
    pub priority: Urgency,
    /// Whether the model is asked to cite context blocks by number.
    pub citations: bool,
    /// Whether the response says how it was decided.
    pub explain: bool,
}

/// What of the memory may be recalled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    expecting = "send \"on\", \"off\", or an object with some of store, domains and types"
)]
pub enum MemoryUse {
    /// Everything the tenant may see.
    #[default]
    On,
    /// Nothing.
    Off,
    /// Nodes that pass the filter.
    #[serde(untagged)]
    Filtered(MemoryFilter),
}

/// Whether an answer that was kept may be given, and this one be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheUse {
    /// Both, where the gateway keeps answers.
    #[default]
    On,
    /// Neither.
    NoStore,
}

/// Who goes first where a model has more to do than it works on at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// Somebody waits.
    #[default]
    Normal,
    /// Nobody does: its turn comes when no other request wants the place.
    Low,
}

impl From<Urgency> for Priority {
    fn from(urgency: Urgency) -> Self {
        match urgency {
            Urgency::Normal => Self::Normal,
            Urgency::Low => Self::Low,
        }
    }
}

/// Narrows what may be recalled; an empty list does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryFilter {
    /// Name of the memory store, refused when the gateway has another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Only nodes of these domains.
    pub domains: Vec<String>,
    /// Only nodes of these types, for example `doc`.
    pub types: Vec<String>,
}

impl Extension {
    /// Reads `x-weir-budget-ms`, `-privacy`, `-device-class`, `-domain`, `-session`, `-memory`, `-cache`, `-priority`, `-citations`
    /// and `-explain` from header pairs with lower-case names; others are not ours and are skipped.
    pub fn from_headers<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, AskError> {
        let mut fields = Map::new();
        for (name, value) in headers {
            let Some(field) = name.strip_prefix("x-weir-") else {
                continue;
            };
            let field = field.replace('-', "_");
            let value = match field.as_str() {
                "budget_ms" | "citations" | "explain" => {
                    serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))
                }
                "privacy" | "device_class" | "domain" | "session" | "memory" | "cache"
                | "priority" => Value::from(value),
                _ => continue,
            };
            Self::default()
                .overlaid(Value::Object(Map::from_iter([(
                    field.clone(),
                    value.clone(),
                )])))
                .map_err(|error| AskError {
                    param: name.to_owned(),
                    ..error
                })?;
            fields.insert(field, value);
        }
        Self::default().overlaid(Value::Object(fields))
    }

    /// These settings with the fields of `object` put over them.
    pub(crate) fn overlaid(self, object: Value) -> Result<Self, AskError> {
        let Value::Object(fields) = object else {
            return Err(crate::ask::wrong("weir", &object, "an object"));
        };
        let mut merged = match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        merged.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
        let merged: Self = crate::ask::read(&Value::Object(merged), "weir")?;
        if merged.budget_ms == Some(0) {
            let message = "budget_ms is 0: send at least 1";
            return Err(AskError::new("weir.budget_ms", message));
        }
        let class = merged.device_class.as_deref();
        match class.filter(|class| !DEVICE_CLASSES.contains(class)) {
            Some(class) => Err(crate::ask::wrong(
                "weir.device_class",
                &Value::from(class),
                "device, edge or server",
            )),
            None => Ok(merged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_body_wins_over_headers_field_by_field() {
        let headers = Extension::from_headers([
            ("x-weir-privacy", "onPrem"),
            ("x-weir-budget-ms", "900"),
            ("x-weir-explain", "true"),
            ("x-request-id", "7"),
            ("x-weir-decision", "not a setting"),
        ])
        .expect("valid headers");
        assert_eq!(headers.budget_ms, Some(900));
        let merged = headers
            .overlaid(json!({"privacy": "local"}))
            .expect("valid");
        assert_eq!(merged.privacy, Some(Privacy::Local));
        assert_eq!(merged.budget_ms, Some(900));
        assert!(merged.explain);
    }

    #[test]
    fn memory_is_on_off_or_filtered() {
        let read = |value: Value| Extension::default().overlaid(json!({"memory": value}));
        assert_eq!(read(json!("off")).expect("valid").memory, MemoryUse::Off);
        let filter = MemoryFilter {
            domains: vec!["python".into()],
            ..MemoryFilter::default()
        };
        let filtered = read(json!({"domains": ["python"]})).expect("valid").memory;
        assert_eq!(filtered, MemoryUse::Filtered(filter));
        assert!(read(json!("sometimes")).is_err());
        assert!(read(json!({"colour": "red"})).is_err());
    }

    #[test]
    fn the_cache_is_on_or_left_alone() {
        let read = |value: &str| Extension::from_headers([("x-weir-cache", value)]);
        assert_eq!(read("on").expect("valid").cache, CacheUse::On);
        assert_eq!(read("no-store").expect("valid").cache, CacheUse::NoStore);
        let low = Extension::from_headers([("x-weir-priority", "low")]);
        assert_eq!(low.expect("valid").priority, Urgency::Low);
        let error = read("off").expect_err("refused");
        assert_eq!(error.param, "x-weir-cache");
        assert!(error.message.contains("no-store"), "{}", error.message);
    }

    #[test]
    fn a_device_class_is_one_of_three() {
        let read = |class| Extension::default().overlaid(json!({"device_class": class}));
        for class in DEVICE_CLASSES {
            assert_eq!(
                read(class).expect("known").device_class.as_deref(),
                Some(class)
            );
        }
        let error = read("toaster").expect_err("refused");
        assert_eq!(error.param, "weir.device_class");
        let says = "weir.device_class is \"toaster\": send device, edge or server";
        assert_eq!(error.message, says);
    }

    #[test]
    fn a_bad_header_is_named() {
        let error = Extension::from_headers([("x-weir-privacy", "mars")]).expect_err("refused");
        assert_eq!(error.param, "x-weir-privacy");
    }
}
