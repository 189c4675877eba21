//! Repeating recorded decisions: a row and its artifact give the same choice and verdict, bit for bit.
//!
//! Pure. What a row holds is `record.rs`; `weir router replay` reads whole logs with this.

use crate::record::{NoveltyRow, Record};
use weir_router::{ChooseError, JudgeError, Router, State};

/// Why a row and a router do not repeat each other.
#[derive(Debug, thiserror::Error)]
pub enum ReplayMismatch {
    /// The row was written by another artifact.
    #[error("decision {id} was made by artifact {recorded}, this router is {present}")]
    Artifact {
        /// The decision.
        id: String,
        /// Digest in the row.
        recorded: String,
        /// Digest of the router at hand.
        present: String,
    },
    /// The decision could not be made again.
    #[error("decision {id} cannot choose again")]
    Choose {
        /// The decision.
        id: String,
        /// Why.
        source: ChooseError,
    },
    /// The verdict could not be reached again.
    #[error("decision {id} cannot judge again")]
    Judge {
        /// The decision.
        id: String,
        /// Why.
        source: JudgeError,
    },
    /// A decision came out differently.
    #[error("decision {id}: the {decision} came out as {present}, the row says {recorded}")]
    Differs {
        /// The decision.
        id: String,
        /// `novelty`, `choice` or `verdict`.
        decision: &'static str,
        /// What the row says.
        recorded: String,
        /// What came out now.
        present: String,
    },
}

/// Repeats both decisions of a row, and how unusual it was, bit for bit. Rows of pinned models hold no decision and always agree.
///
/// `router` is the artifact as loaded; it is bound to the row's ladder here.
pub fn replay(record: &Record, router: &Router) -> Result<(), ReplayMismatch> {
    let Some(choice) = &record.choice else {
        return Ok(());
    };
    let id = || record.decision_id.clone();
    if router.artifact().sha256() != record.router.artifact_sha256 {
        return Err(ReplayMismatch::Artifact {
            id: id(),
            recorded: record.router.artifact_sha256.clone(),
            present: router.artifact().sha256().to_owned(),
        });
    }
    let router = router.bind(record.router.models);
    let mut state: State = router.start();
    for features in &record.features {
        router.observe(&mut state, features);
    }
    if record.novelty.is_some() {
        let again = NoveltyRow::of(&router, &record.features);
        same(&id, "novelty", &record.novelty, &again)?;
    }
    let again = router
        .choose(&state, &choice.inputs)
        .map_err(|source| ReplayMismatch::Choose { id: id(), source })?;
    same(&id, "choice", &choice.outcome, &again)?;
    let Some(verdict) = &record.verdict else {
        return Ok(());
    };
    router.observe(&mut state, &verdict.features);
    let again = router
        .judge(&state, &verdict.inputs)
        .map_err(|source| ReplayMismatch::Judge { id: id(), source })?;
    same(&id, "verdict", &verdict.outcome, &again)
}

fn same<T: PartialEq + std::fmt::Debug>(
    id: &dyn Fn() -> String,
    decision: &'static str,
    recorded: &T,
    present: &T,
) -> Result<(), ReplayMismatch> {
    if recorded == present {
        return Ok(());
    }
    let (recorded, present) = (format!("{recorded:?}"), format!("{present:?}"));
    Err(ReplayMismatch::Differs {
        id: id(),
        decision,
        recorded,
        present,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ChoiceRow, RouterRow, VerdictRow};
    use weir_router::{AnswerFacts, ArmTable, Artifact, ChoiceInputs, QueryFacts, VerdictInputs};

    fn decided(router: &Router, draw: f64) -> Record {
        let arms = router.arms().arms.len();
        let facts = QueryFacts {
            text: "How do I copy a file in Python?",
            ..QueryFacts::default()
        };
        let features = vec![facts.features()];
        let mut state = router.start();
        router.observe(&mut state, &features[0]);
        let inputs = ChoiceInputs {
            permitted: vec![true; arms],
            latency_s: (0..arms).map(|arm| 0.1 + arm as f64 / 3.0).collect(),
            cost: vec![1.0 / 7.0; arms],
            per_second: 0.05,
            per_cost_unit: 0.1,
            floor: 0.01,
            near_tie_margin: 0.02,
            draw,
        };
        let outcome = router.choose(&state, &inputs).expect("a choice");
        let answer = AnswerFacts {
            mean_logprob: Some(-0.7),
            tokens: 12,
            ..AnswerFacts::default()
        };
        let answer = answer.features();
        router.observe(&mut state, &answer);
        let models = router.arms().models;
        let judged = VerdictInputs {
            rank: 0,
            permitted: (0..models).map(|rank| rank > 0).collect(),
            latency_s: vec![1.0 / 3.0; models],
            cost: vec![0.0; models],
            per_second: 0.05,
            per_cost_unit: 0.1,
            floor: 0.01,
            draw,
            arm: 0,
        };
        let verdict = router.judge(&state, &judged).expect("a verdict");
        Record {
            decision_id: "d".to_owned(),
            router: RouterRow {
                artifact_sha256: router.artifact().sha256().to_owned(),
                models,
                ..RouterRow::default()
            },
            features,
            choice: Some(ChoiceRow {
                chosen: None,
                tau: None,
                inputs,
                outcome,
                mask: vec![None; arms],
            }),
            verdict: Some(VerdictRow {
                features: answer,
                inputs: judged,
                outcome: verdict,
                asked: None,
                error: None,
            }),
            ..Record::default()
        }
    }

    #[test]
    fn a_row_read_back_from_its_line_repeats_both_decisions() {
        let router = Router::builtin();
        for draw in [0.0, 0.1, 1.0 / 3.0, 0.77, 0.999] {
            let line = serde_json::to_string(&decided(&router, draw)).expect("a row is JSON");
            let row: Record = serde_json::from_str(&line).expect("and reads back");
            replay(&row, &router).expect("the same decisions");
        }
    }

    #[test]
    fn a_changed_row_and_another_artifact_are_noticed() {
        let router = Router::builtin();
        let mut row = decided(&router, 0.5);
        row.choice
            .as_mut()
            .expect("has a choice")
            .outcome
            .propensity += 1e-12;
        let error = replay(&row, &router).expect_err("the choice differs");
        assert!(
            matches!(
                error,
                ReplayMismatch::Differs {
                    decision: "choice",
                    ..
                }
            ),
            "{error}"
        );
        let table = ArmTable::standard(3);
        let other = Artifact::constant(&table, &vec![2.0; table.arms.len()]);
        let other = Router::new(other).expect("has arms");
        let error = replay(&decided(&router, 0.5), &other).expect_err("another artifact");
        assert!(matches!(error, ReplayMismatch::Artifact { .. }), "{error}");
    }
}
