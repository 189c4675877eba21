//! Editing a JSON body in place: what goes in as JSON must come out as JSON.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use weir_engine::json_span::{with_string, without};

fuzz_target!(|bytes: &[u8]| {
    let body = Bytes::copy_from_slice(bytes);
    let cut = without(&body, &[&["weir"], &["choices", "logprobs"]]);
    let named = with_string(&body, "model", "a \"model\"");
    if serde_json::from_slice::<Value>(bytes).is_ok_and(|value| value.is_object()) {
        assert!(serde_json::from_slice::<Value>(&cut).is_ok());
        let named = serde_json::from_slice::<Value>(&named).expect("still JSON");
        assert_eq!(named["model"], "a \"model\"");
    }
});
