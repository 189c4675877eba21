//! A router artifact: ONNX with a manifest. One that is accepted must read back as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_router::Artifact;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(artifact) = Artifact::from_bytes(bytes) {
        let again = Artifact::from_bytes(artifact.to_bytes());
        assert_eq!(
            again.map(|a| a.sha256().to_owned()).ok().as_deref(),
            Some(artifact.sha256())
        );
    }
});
