//! A plan from the wire or the disk: what is read must be written back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_plan::GatewayPlan;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(plan) = serde_json::from_slice::<GatewayPlan>(bytes) {
        let text = serde_json::to_vec(&plan).expect("a plan is plain data");
        assert_eq!(
            serde_json::from_slice::<GatewayPlan>(&text).ok(),
            Some(plan)
        );
    }
});
