//! Editing a JSON body in place: what comes out reads as the edited value would, and nothing else of it has changed.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use weir_engine::json_span::{with_member, with_string, without};

/// Bodies are edited to a depth of 64; serde_json reads deeper ones.
const DEPTH_MAX: usize = 60;
const MODEL: &str = "a \"model\"";

fn depth(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(depth).max().unwrap_or(0),
        Value::Object(object) => object.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn read(bytes: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(bytes).expect("an object stays one")
}

fuzz_target!(|bytes: &[u8]| {
    let body = Bytes::copy_from_slice(bytes);
    let cut = without(&body, &[&["weir"], &["choices", "*", "logprobs"]]);
    let named = with_string(&body, "model", MODEL);
    let asked = with_member(&body, "stream_options", "{}");
    let Ok(Value::Object(mut value)) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    if value.values().map(depth).max().unwrap_or(0) > DEPTH_MAX {
        return;
    }
    let mut expected = value.clone();
    if let Some(model) = expected.get_mut("model") {
        *model = MODEL.into();
    }
    assert_eq!(read(&named), expected);
    let mut expected = value.clone();
    expected.insert("stream_options".to_owned(), Value::Object(Map::new()));
    assert_eq!(read(&asked), expected);
    value.remove("weir");
    if let Some(Value::Array(choices)) = value.get_mut("choices") {
        for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
            choice.remove("logprobs");
        }
    }
    assert_eq!(read(&cut), value);
});
