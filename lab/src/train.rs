//! `weir router train`: from an outcome log to an artifact and a report that says what it is worth.
//!
//! The learning is `weir_router::train`, a pure function; this is the file work around it. The report compares the router
//! with the policies that `weir_router::train::evaluate` knows, and with itself trained on permuted labels: a router
//! that learned nothing from its log would not notice the difference.

use crate::outcomes::{self, Design, OutcomesError, Row};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use weir_router::train::{
    Estimate, Evaluation, TrainError, TrainOptions, TrainReport, evaluate, permuted,
    train as train_router,
};

/// What to train on, and where results go.
#[derive(Clone, Debug)]
pub struct TrainCommand {
    /// The outcome log.
    pub log: PathBuf,
    /// The artifact to write.
    pub artifact: PathBuf,
    /// The report to write: this path with `.md` and with `.json`.
    pub report: PathBuf,
    /// How to train.
    pub options: TrainOptions,
}

/// Why nothing was trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainCommandError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] OutcomesError),
    /// The log does not begin with its design.
    #[error(
        "{0} is no outcome log: it does not begin with its design; make one with `weir router collect`"
    )]
    NoDesign(String),
    /// The log is too small or contradicts itself.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A result cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What was trained.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainSummary {
    /// The log.
    pub log: String,
    /// Models by rank.
    pub models: Vec<String>,
    /// SHA-256 of the artifact.
    pub artifact_sha256: String,
    /// Size of the artifact.
    pub artifact_bytes: usize,
    /// Passes over the questions.
    pub epochs: usize,
    /// Input columns without variance.
    pub frozen: Vec<String>,
    /// Hold-out numbers.
    pub evaluation: Evaluation,
    /// Hold-out numbers after the labels were permuted within each arm.
    pub permuted: Evaluation,
}

/// Trains, evaluates, writes artifact and report.
pub fn train(command: &TrainCommand) -> Result<TrainSummary, TrainCommandError> {
    let rows = outcomes::read(&command.log)?;
    let shown = command.log.display().to_string();
    let Some(Row::Design(design)) = rows.first() else {
        return Err(TrainCommandError::NoDesign(shown));
    };
    let episodes = outcomes::to_episodes(&rows);
    let (artifact, report) = train_router(&episodes, &design.arms, &command.options)?;
    let evaluation = evaluate(&episodes, &design.arms, &command.options)?;
    let shuffled = permuted(&episodes, command.options.seed);
    let permuted_labels = evaluate(&shuffled, &design.arms, &command.options)?;
    let artifact = artifact.with_manifest(|manifest| manifest.hold_out = Some(evaluation.clone()));
    let bytes = artifact.to_bytes();
    let summary = summary(shown, design, report, (evaluation, permuted_labels), bytes);
    write(&command.artifact, bytes)?;
    write(
        &command.report.with_extension("md"),
        summary.markdown().as_bytes(),
    )?;
    let json = serde_json::to_string_pretty(&summary).expect("a summary is plain data") + "\n";
    write(&command.report.with_extension("json"), json.as_bytes())?;
    Ok(summary)
}

fn summary(
    log: String,
    design: &Design,
    report: TrainReport,
    (evaluation, permuted): (Evaluation, Evaluation),
    bytes: &[u8],
) -> TrainSummary {
    use sha2::Digest;
    TrainSummary {
        log,
        models: design.models.clone(),
        artifact_sha256: hex::encode(sha2::Sha256::digest(bytes)),
        artifact_bytes: bytes.len(),
        epochs: report.epochs,
        frozen: report.frozen,
        evaluation,
        permuted,
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainCommandError> {
    let failed = |source| TrainCommandError::Write {
        path: path.display().to_string(),
        source,
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, bytes).map_err(failed)
}

impl TrainSummary {
    /// The report as Markdown.
    pub fn markdown(&self) -> String {
        let held = &self.evaluation;
        let mut text = format!(
            "# Training report\n\nLog `{}`: {} questions, {} outcomes; models {}; {} folds by question.\n\
             Artifact: {} bytes, sha256 `{}`, {} passes.\n\n{}.\n\n",
            self.log,
            held.questions,
            held.outcomes,
            self.models.join(", "),
            held.folds,
            self.artifact_bytes,
            self.artifact_sha256,
            self.epochs,
            held.finding,
        );
        text.push_str("| policy, held out | quality | seconds | utility |\n|---|---|---|---|\n");
        let routed = self
            .permuted
            .systems
            .iter()
            .find(|system| system.name == "routed");
        for (system, suffix) in held
            .systems
            .iter()
            .map(|s| (s, ""))
            .chain(routed.map(|s| (s, ", permuted labels")))
        {
            let _ = writeln!(
                text,
                "| {}{suffix} | {} | {} | {} |",
                system.name,
                shown(&system.quality),
                shown(&system.latency_s),
                shown(&system.utility)
            );
        }
        let _ = write!(
            text,
            "\n| difference | value |\n|---|---|\n| quality_regret against always biggest | {} |\n\
             | utility_regret against the oracle | {} |\n| utility gained over best single | {} |\n\
             | utility gained over random | {} |\n| speed-up against fixed mid | {} |\n\
             | second attempts | {:.3} |\n\n| route | share |\n|---|---|\n",
            shown(&held.quality_regret),
            shown(&held.utility_regret),
            shown(&held.gain_over_best_single),
            shown(&held.gain_over_random),
            shown(&held.speed_up),
            held.second_attempts,
        );
        for route in &held.routes {
            let _ = writeln!(text, "| {} | {:.3} |", route.arm, route.share);
        }
        let _ = writeln!(
            text,
            "\nColumns without variance, frozen at zero: {}.",
            if self.frozen.is_empty() {
                "none".to_owned()
            } else {
                self.frozen.join(", ")
            }
        );
        text
    }
}

impl std::fmt::Display for TrainSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.markdown())
    }
}

fn shown(estimate: &Estimate) -> String {
    format!(
        "{:.3} ({:.3} to {:.3})",
        estimate.value, estimate.low, estimate.high
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_outcome_log_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log.jsonl");
        std::fs::write(&log, "").unwrap();
        let artifact = folder.path().join("router.onnx");
        let command = TrainCommand {
            log,
            artifact: artifact.clone(),
            report: folder.path().join("report"),
            options: TrainOptions::default(),
        };
        let error = train(&command).unwrap_err().to_string();
        assert!(error.contains("log.jsonl is no outcome log"), "{error}");
        assert!(!artifact.exists());
    }
}
