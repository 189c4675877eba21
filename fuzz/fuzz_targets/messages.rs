//! The messages of a chat request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use weir_gateway::message::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        let _ = Message::parse_all(Some(value));
    }
});
