//! An engine's event stream. Where the chunks are cut must not matter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_engine::sse::SseDecoder;

fn events(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut decoder = SseDecoder::default();
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(&chunk);
        while let Ok(Some(event)) = decoder.next_event() {
            events.push(event.to_vec());
        }
    }
    events.extend(decoder.finish().map(|event| event.to_vec()));
    events
}

fuzz_target!(|bytes: &[u8]| {
    let whole = events(std::iter::once(bytes.to_vec()));
    let single = events(bytes.iter().map(|byte| vec![*byte]));
    assert_eq!(whole, single);
});
