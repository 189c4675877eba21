//! `weir router replay`: every decision of a log made again and compared, bit for bit.

use crate::args::ReplayArgs;
use crate::fail::Failure;
use crate::output::{error, good};
use std::fs::File;
use std::io::{BufRead, BufReader};
use weir_gateway::record::{Record, replay};
use weir_router::Router;

/// Differences that are printed; the rest is counted.
const SHOWN: usize = 20;

pub(crate) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let router = Router::new(crate::router::artifact(args.artifact.as_deref())?)?;
    let log = args.log.display();
    let file = File::open(&args.log)
        .map_err(|cause| Failure::new(format!("cannot read {log}: {cause}")))?;
    let (mut decided, mut pinned, mut different) = (0_usize, 0_usize, 0_usize);
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|cause| Failure::new(format!("cannot read {log}: {cause}")))?;
        if line.trim().is_empty() {
            continue;
        }
        let record: Record = serde_json::from_str(&line).map_err(|cause| {
            let number = index + 1;
            Failure::new(format!("{log}:{number}: this line is no decision: {cause}"))
        })?;
        if record.choice.is_none() {
            pinned += 1;
            continue;
        }
        decided += 1;
        if let Err(mismatch) = replay(&record, &router) {
            different += 1;
            if different <= SHOWN {
                anstream::println!("{}", weir_local::chain(&mismatch));
            }
        }
    }
    let counts = format!("{decided} decisions, {different} differ ({pinned} rows pinned a model)");
    if different == 0 {
        anstream::println!("{} {counts}", good("repeated:"));
        return Ok(());
    }
    anstream::println!("{} {counts}", error("not repeated:"));
    Err(Failure::said())
}
