//! `weir router replay`: every decision of a log made again and compared, bit for bit.
//!
//! Scores that came later and a line that a crash cut short are no decisions: they are counted and skipped. Reading on:
//! weir-gateway's `replay.rs`, and weir-lab's `decision_log.rs` for what a line is.

use crate::args::{Output, ReplayArgs};
use crate::fail::Failure;
use crate::output::{error, good};
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use weir_gateway::record::{Record, replay};
use weir_lab::decision_log::Line;
use weir_router::Router;

/// Differences that are shown; the rest is counted.
const SHOWN: usize = 20;

/// What the lines of a log were.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    decided: usize,
    different: usize,
    /// The first of these, in words.
    differences: Vec<String>,
    pinned: usize,
    failed: usize,
    feedback: usize,
    cut: usize,
}

pub(crate) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let router = Router::new(crate::router::artifact(args.artifact.as_deref())?)?;
    let log = args.log.display();
    let file = File::open(&args.log)
        .map_err(|cause| Failure::new(format!("cannot read {log}: {cause}")))?;
    let counts = repeat(BufReader::new(file), &router)
        .map_err(|cause| Failure::new(format!("{log}{cause}")))?;
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&counts)?),
        Output::Text => print(&counts),
    }
    match counts.different {
        0 => Ok(()),
        _ => Err(Failure::said()),
    }
}

fn print(counts: &Counts) {
    for difference in &counts.differences {
        anstream::println!("{difference}");
    }
    let verdict = match counts.different {
        0 => good("repeated:"),
        _ => error("not repeated:"),
    };
    anstream::println!("{verdict} {counts}");
}

/// Repeats every decision of a log. An error begins with the line's number.
fn repeat(mut log: impl BufRead, router: &Router) -> Result<Counts, String> {
    let mut counts = Counts::default();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = log.read_until(b'\n', &mut line);
        if read.map_err(|cause| format!(":{number}: cannot be read: {cause}"))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match Line::read(&line) {
            Ok(Line::Decision(record)) => counts.add(&record, router),
            Ok(Line::Feedback(_)) => counts.feedback += 1,
            Ok(Line::Cut) => counts.cut += 1,
            Err(cause) => return Err(format!(":{number}: this line is no decision: {cause}")),
        }
    }
    Ok(counts)
}

impl Counts {
    fn add(&mut self, record: &Record, router: &Router) {
        if record.choice.is_none() {
            // Without a choice something was executed only because the client named the model.
            match record.executed {
                Some(_) => self.pinned += 1,
                None => self.failed += 1,
            }
            return;
        }
        self.decided += 1;
        if let Err(mismatch) = replay(record, router) {
            self.different += 1;
            if self.different <= SHOWN {
                self.differences.push(weir_plan::chain(&mismatch));
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (decided, different) = (self.decided, self.different);
        write!(f, "{decided} decisions, {different} differ")?;
        let others: Vec<String> = [
            (self.pinned, "pinned a model"),
            (self.failed, "failed before a decision"),
            (self.feedback, "are scores"),
            (self.cut, "are cut short"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        if others.is_empty() {
            return Ok(());
        }
        write!(f, " (of the other rows {})", others.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn row(change: impl FnOnce(&mut Value)) -> String {
        let mut row = serde_json::to_value(Record::default()).unwrap();
        change(&mut row);
        format!("{row}\n")
    }

    fn pinned() -> String {
        row(|row| {
            row["executed"] = json!({
                "arm": null, "recall": "none", "model": "m", "pool": "p", "context_tokens": 0, "sampling": null,
                "temperature": null, "top_p": null, "client_set": ["model"], "fallback_to_cloud": false,
                "turns_cut": 0,
            });
        })
    }

    fn counted(log: &[u8]) -> Counts {
        repeat(log, &Router::builtin()).unwrap()
    }

    #[test]
    fn scores_failures_and_pinned_rows_are_counted_apart() {
        let failed = row(|row| row["outcome"]["error"] = json!("bad_input"));
        let score = "{\"feedback_for\":\"d\",\"score\":4.0,\"label\":null}\n";
        let log = [pinned().as_str(), score, "\n", &failed, score].concat();
        let expected = Counts {
            pinned: 1,
            failed: 1,
            feedback: 2,
            ..Counts::default()
        };
        assert_eq!(counted(log.as_bytes()), expected);
    }

    #[test]
    fn a_decision_of_another_artifact_is_told_and_counted() {
        let decided = row(|row| {
            row["decision_id"] = json!("d-1");
            row["choice"] = json!({
                "inputs": {"permitted": [], "latencyS": [], "cost": [], "perSecond": 0.0, "perCostUnit": 0.0,
                    "floor": 0.0, "nearTieMargin": 0.0, "draw": 0.0},
                "outcome": {"arm": 0, "greedy": 0, "sampling": 0, "qualities": [], "probabilities": [],
                    "propensity": 1.0, "explored": false},
                "mask": [],
            });
        });
        let counts = counted(decided.as_bytes());
        assert_eq!((counts.decided, counts.different), (1, 1));
        assert!(counts.differences[0].contains("d-1"), "{counts:?}");
        let told = serde_json::to_value(&counts).unwrap();
        assert_eq!(told["different"], 1);
    }

    #[test]
    fn a_line_that_a_crash_cut_is_skipped_also_in_the_middle_of_a_letter() {
        let whole = row(|row| row["query"] = json!({"text": "é"}));
        let inside = whole.find('é').unwrap() + 1;
        for cut in [&whole.as_bytes()[..40], &whole.as_bytes()[..inside]] {
            for log in [
                [pinned().as_bytes(), cut].concat(),
                [cut, b"\n", pinned().as_bytes()].concat(),
            ] {
                let counts = counted(&log);
                assert_eq!((counts.pinned, counts.cut), (1, 1));
            }
        }
    }

    #[test]
    fn a_line_that_is_something_else_is_an_error_with_its_number() {
        let log = [pinned().as_str(), "{\"colour\": 1}\n"].concat();
        let error = repeat(log.as_bytes(), &Router::builtin()).unwrap_err();
        assert!(error.starts_with(":2: this line is no decision"), "{error}");
    }
}
