//! The manifest: everything about an artifact that is not a weight.
//!
//! Checks that need only the manifest are here; those that need the graph are in
//! [`super::onnx`].

use serde::{Deserialize, Serialize};

use super::{ArtifactError, Compression};
use crate::arms::ArmTable;
use crate::guard::Certificate;
use crate::network::{HIDDEN, Layout, Normaliser};
use crate::novelty::Profile;
use crate::schema::{FeatureSchema, FeatureSpec};
use crate::train::Evaluation;

/// The format this build writes; readers refuse others.
const FORMAT: u32 = 1;

/// The temperature of untrained artifacts, in quality points.
const TAU: f64 = 0.1;

/// What an artifact says about itself. Stored as JSON under `weir.manifest`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Format of manifest and graph.
    pub format: u32,
    /// [`FeatureSchema::hash`] of the build that wrote it.
    pub schema_hash: String,
    /// The features behind that hash, so that a mismatch can be explained.
    pub features: Vec<FeatureSpec>,
    /// Entries of the hidden state.
    pub hidden: usize,
    /// Offset and scale of every input column.
    pub normaliser: Normaliser,
    /// Columns without variance in training, by name; their scale is 0.
    pub frozen: Vec<String>,
    /// Arms and sampling classes, in the order of the heads; the answer in hand stands between.
    pub arms: ArmTable,
    /// Softmax temperature of the policy, in quality points.
    pub tau: f64,
    /// How its weights are made small; absent when they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// How it was trained; absent for constant heads.
    pub training: Option<Training>,
    /// How it did on held-out questions; absent until evaluated.
    pub hold_out: Option<Evaluation>,
    /// What is promised of the least capable model's answers; absent until calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// What requests were like in training; absent for constant heads and in artifacts of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Licence of the weights.
    pub licence: String,
}

/// A summary of one training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Training {
    /// Questions.
    pub questions: usize,
    /// Outcomes over all questions.
    pub outcomes: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Passes over the questions, found by cross-validation.
    pub epochs: usize,
    /// Quality points one second was worth.
    pub per_second: f64,
    /// Quality points one cost unit was worth.
    pub per_cost_unit: f64,
    /// SHA-256 of the training log as this crate writes it, lower-case hex.
    pub data_sha256: String,
}

impl Manifest {
    pub(super) fn untrained(arms: &ArmTable, normaliser: &Normaliser) -> Self {
        let schema = FeatureSchema::current();
        let names = Layout::column_names(schema);
        let frozen = names
            .into_iter()
            .zip(&normaliser.scale)
            .filter(|(_, scale)| **scale == 0.0);
        Self {
            format: FORMAT,
            schema_hash: schema.hash().to_owned(),
            features: schema.features().to_vec(),
            hidden: HIDDEN,
            normaliser: normaliser.clone(),
            frozen: frozen.map(|(name, _)| name).collect(),
            arms: arms.clone(),
            tau: TAU,
            compression: None,
            training: None,
            hold_out: None,
            certificate: None,
            profile: None,
            licence: "Apache-2.0".to_owned(),
        }
    }

    pub(crate) fn trained(
        arms: &ArmTable,
        normaliser: &Normaliser,
        (tau, compression): (f64, Compression),
        (training, profile): (Training, Profile),
    ) -> Self {
        Self {
            tau,
            profile: Some(profile),
            compression: (!compression.is_none()).then_some(compression),
            training: Some(training),
            ..Self::untrained(arms, normaliser)
        }
    }

    /// Refuses what this build cannot serve.
    pub(super) fn check(&self) -> Result<(), ArtifactError> {
        if self.format != FORMAT {
            let what = format!("it has format {}, this version reads {FORMAT}", self.format);
            return Err(ArtifactError::Inconsistent { what });
        }
        self.check_schema()?;
        let width = Layout::of(FeatureSchema::current()).width();
        let Normaliser { offset, scale } = &self.normaliser;
        let finite = offset.iter().chain(scale).all(|value| value.is_finite());
        if offset.len() != width || scale.len() != width || !finite {
            let what = format!("its normaliser does not hold {width} finite columns");
            return Err(ArtifactError::Inconsistent { what });
        }
        if !(self.tau > 0.0 && self.tau.is_finite()) {
            let what = format!("its temperature tau is {}, which is not positive", self.tau);
            return Err(ArtifactError::Inconsistent { what });
        }
        let of_certificate = self.certificate.as_ref().and_then(Certificate::fault);
        let of_profile = self.profile.as_ref();
        let of_profile = of_profile.and_then(|profile| profile.fault(&self.normaliser));
        if let Some(what) = of_certificate.or(of_profile) {
            return Err(ArtifactError::Inconsistent { what });
        }
        self.check_arms()
    }

    fn check_schema(&self) -> Result<(), ArtifactError> {
        let current = FeatureSchema::current();
        if self.schema_hash == current.hash() && self.features == current.features() {
            return Ok(());
        }
        Err(ArtifactError::Schema {
            found: short(&self.schema_hash),
            expected: short(current.hash()),
            differences: differences(&self.features, current.features()),
        })
    }

    /// Every model must have the same arms, or ranks could not stand in for pools.
    fn check_arms(&self) -> Result<(), ArtifactError> {
        let ArmTable {
            arms,
            models,
            sampling,
        } = &self.arms;
        let inconsistent = |what| Err(ArtifactError::Inconsistent { what });
        if arms.is_empty() || sampling.is_empty() {
            return inconsistent("it has no arms or no sampling classes".to_owned());
        }
        let of_lowest = arms.iter().filter(|arm| arm.rank == 0).count();
        if of_lowest.checked_mul(*models) != Some(arms.len()) {
            return inconsistent(format!(
                "its {} arms are not the same for each model",
                arms.len()
            ));
        }
        let expected = self.arms.with_models(*models).arms;
        match expected.iter().find(|arm| !arms.contains(arm)) {
            Some(arm) => inconsistent(format!("its arms lack {arm}, which other models have")),
            None => Ok(()),
        }
    }
}

fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// Names what is missing, unknown, changed or elsewhere.
fn differences(found: &[FeatureSpec], expected: &[FeatureSpec]) -> String {
    let by_name =
        |list: &[FeatureSpec], name: &str| list.iter().find(|spec| spec.name == name).cloned();
    let absent = expected
        .iter()
        .filter(|spec| by_name(found, &spec.name).is_none());
    let unknown = found
        .iter()
        .filter(|spec| by_name(expected, &spec.name).is_none());
    let changed = expected
        .iter()
        .filter(|spec| by_name(found, &spec.name).is_some_and(|other| other != **spec));
    let mut names: Vec<String> = Vec::new();
    names.extend(absent.map(|spec| format!("{} is absent", spec.name)));
    names.extend(unknown.map(|spec| format!("{} is not known here", spec.name)));
    names.extend(changed.map(|spec| format!("{} is defined differently", spec.name)));
    if names.is_empty() {
        return "the order of the features differs".to_owned();
    }
    names.truncate(20);
    names.join(", ")
}
