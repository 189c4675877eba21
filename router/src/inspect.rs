//! An artifact as facts to print: what `weir router inspect` shows as a table or as JSON.
//!
//! It computes nothing a decision depends on.

use serde::Serialize;

use crate::arms::{Arm, SamplingClass};
use crate::artifact::{Artifact, Compression, Training};
use crate::guard::Certificate;
use crate::novelty::Profile;
use crate::train::Evaluation;

/// Everything worth knowing about an artifact.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Digest of the file.
    pub sha256: String,
    /// Size of the file.
    pub bytes: usize,
    /// Hash of the features it was trained on.
    pub schema_hash: String,
    /// Features of that schema.
    pub features: usize,
    /// Input columns without variance in training.
    pub frozen: Vec<String>,
    /// Entries of the hidden state.
    pub hidden: usize,
    /// How its weights are made small.
    pub compression: Compression,
    /// Entries of W and U, or of their factors, as the file stores them.
    pub entries: usize,
    /// Those of them that are zero.
    pub zeros: usize,
    /// Weight of a new candidate where the cell's gate is closed.
    pub zeta: f32,
    /// Weight of a new candidate everywhere.
    pub nu: f32,
    /// Models of the ladder.
    pub models: usize,
    /// Arms with their heads.
    pub arms: Vec<ArmHead>,
    /// Sampling classes.
    pub sampling: Vec<SamplingClass>,
    /// Softmax temperature in quality points.
    pub tau: f64,
    /// Whether every head ignores the request.
    pub constant: bool,
    /// How it was trained.
    pub training: Option<Training>,
    /// How it did on held-out questions.
    pub hold_out: Option<Evaluation>,
    /// What is promised of the least capable model's answers.
    pub certificate: Option<Certificate>,
    /// Distance from the requests of training beyond which one is unusual.
    pub unusual_from: Option<f64>,
    /// Kinds of questions in training, with their shares.
    pub kinds: Vec<(String, f64)>,
    /// Licence of the weights.
    pub licence: String,
}

/// One arm and the size of its head.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArmHead {
    /// The arm.
    #[serde(flatten)]
    pub arm: Arm,
    /// Expected quality at an all-zero state.
    pub bias: f32,
    /// Euclidean norm of its weights: how much the request matters.
    pub weight_norm: f32,
}

impl Artifact {
    /// Everything worth knowing about this artifact.
    pub fn inspect(&self) -> Inspection {
        let (manifest, network) = (self.manifest(), self.network());
        let heads = network.heads.weights.chunks_exact(network.cell.hidden());
        let norm = |row: &[f32]| row.iter().map(|weight| weight * weight).sum::<f32>().sqrt();
        let rows = manifest
            .arms
            .arms
            .iter()
            .zip(heads)
            .zip(&network.heads.bias);
        let arms = rows.map(|((arm, row), bias)| ArmHead {
            arm: *arm,
            bias: *bias,
            weight_norm: norm(row),
        });
        let (entries, zeros) = self.weights().entries();
        let profile = manifest.profile.iter();
        let kinds = profile.flat_map(Profile::kinds);
        Inspection {
            compression: manifest.compression.unwrap_or_default(),
            entries,
            zeros,
            sha256: self.sha256().to_owned(),
            bytes: self.to_bytes().len(),
            schema_hash: manifest.schema_hash.clone(),
            features: manifest.features.len(),
            frozen: manifest.frozen.clone(),
            hidden: manifest.hidden,
            zeta: network.cell.zeta,
            nu: network.cell.nu,
            models: manifest.arms.models,
            arms: arms.collect(),
            sampling: manifest.arms.sampling.clone(),
            tau: manifest.tau,
            constant: network.heads.weights.iter().all(|weight| *weight == 0.0),
            training: manifest.training.clone(),
            hold_out: manifest.hold_out.clone(),
            certificate: manifest.certificate.clone(),
            unusual_from: manifest.profile.as_ref().map(Profile::threshold),
            kinds: kinds.map(|kind| (kind.name.clone(), kind.share)).collect(),
            licence: manifest.licence.clone(),
        }
    }
}
