//! A model file's header, as downloaded from anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_models::gguf::GgufFacts;

fuzz_target!(|bytes: &[u8]| {
    let _ = GgufFacts::from_bytes(bytes);
});
