//! A row of the decision log, as replay reads it: written back the same, and decided again or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::LazyCell;
use weir_gateway::record::{Record, replay};
use weir_router::{Artifact, Router};

const ARTIFACT: &[u8] = include_bytes!("../../router/artifacts/default.onnx");

thread_local! {
    static ROUTER: LazyCell<Router> = const {
        LazyCell::new(|| {
            let artifact = Artifact::from_bytes(ARTIFACT).expect("the committed artifact");
            Router::new(artifact).expect("the committed artifact")
        })
    };
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut row) = serde_json::from_slice::<Record>(bytes) else {
        return;
    };
    let text = serde_json::to_vec(&row).expect("a row is plain data");
    assert_eq!(serde_json::from_slice::<Record>(&text).ok().as_ref(), Some(&row));
    ROUTER.with(|router| {
        row.router.artifact_sha256 = router.artifact().sha256().to_owned();
        let _ = replay(&row, router);
    });
});
