//! The artifact: one file that holds a network and says what it is.
//!
//! An artifact is an ONNX model of a single step (`x`, `h`, `step` in; `h_next`, `heads` out) with
//! the manifest as JSON in its metadata, so that any tool reads the arithmetic and Weir reads the
//! meaning. [`onnx`] owns the bytes of the graph, [`Weights`] what they hold; this file owns the manifest, the checks and
//! the digest. What decides in production is the native evaluation of these weights
//! ([`crate::network`]).

mod manifest;
pub mod onnx;
mod weights;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::arms::ArmTable;
use crate::cell::HIDDEN_MAX;
use crate::network::{HIDDEN, Layout, Network, Normaliser};
use crate::schema::FeatureSchema;
pub use manifest::{Manifest, Training};
pub use weights::{Compression, Tensor, Weights};

/// The largest artifact that is read or written.
pub const BYTES_MAX: usize = 128 * 1024;

/// Trained on `artifacts/outcomes.jsonl`, a ladder of three models.
const DEFAULT: &[u8] = include_bytes!("../artifacts/default.onnx");

/// The most arms and sampling classes an artifact may have.
const HEADS_MAX: usize = 512;

/// A network, its manifest and the bytes both came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    manifest: Manifest,
    weights: Weights,
    network: Network,
    bytes: Vec<u8>,
    sha256: String,
}

/// Why bytes are not a usable artifact.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// More than [`BYTES_MAX`].
    #[error("read a router artifact: {bytes} bytes, at most {BYTES_MAX} are read")]
    TooBig {
        /// Size of the file.
        bytes: usize,
    },
    /// Not an ONNX model.
    #[error(
        "read a router artifact: the file is not an ONNX model; train one with `weir router train`"
    )]
    NotOnnx(#[source] prost::DecodeError),
    /// An ONNX model that Weir did not write.
    #[error("read a router artifact: {what}; only models written by `weir router train` are read")]
    Graph {
        /// What is missing or different.
        what: String,
    },
    /// A manifest that is not the JSON expected.
    #[error("read a router artifact: its manifest does not parse")]
    Manifest(#[source] serde_json::Error),
    /// A manifest that does not fit its network.
    #[error("read a router artifact: {what}")]
    Inconsistent {
        /// What does not fit.
        what: String,
    },
    /// Trained for other features than this build measures.
    #[error(
        "read a router artifact: its feature schema {found} is not this build's {expected}: \
         {differences}; train it again with this version"
    )]
    Schema {
        /// Hash in the artifact.
        found: String,
        /// Hash of this build.
        expected: String,
        /// The features that differ, by name.
        differences: String,
    },
}

impl Artifact {
    /// The committed default of this build; `docs/router.md` says how it was made.
    pub(crate) fn builtin() -> Self {
        Self::from_bytes(DEFAULT)
            .expect("the committed artifact was trained on this build's features")
    }

    /// An artifact that expects the same quality of an arm whatever the request, and accepts every
    /// answer. Arms beyond `qualities` count as quality 1.
    pub fn constant(table: &ArmTable, qualities: &[f32]) -> Self {
        Self::constant_with_answer(table, qualities, 5.0)
    }

    /// As [`Artifact::constant`], expecting quality `answer` of every answer in hand.
    pub fn constant_with_answer(table: &ArmTable, qualities: &[f32], answer: f32) -> Self {
        let arms = table.arms.len();
        let mut bias = vec![0.0; arms + 1 + table.sampling.len()];
        for (arm, bias) in bias[..arms].iter_mut().enumerate() {
            *bias = qualities.get(arm).copied().unwrap_or(1.0);
        }
        bias[arms] = answer;
        let width = Layout::of(FeatureSchema::current()).width();
        let manifest = Manifest::untrained(table, &Normaliser::identity(width));
        Self::assemble(manifest, Weights::constant(HIDDEN, bias))
    }

    /// Puts a manifest and weights into one file.
    pub(crate) fn assemble(manifest: Manifest, weights: Weights) -> Self {
        let bytes = onnx::write(&manifest, &weights);
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Self {
            network: weights.network(&manifest.normaliser),
            manifest,
            weights,
            bytes,
            sha256,
        }
    }

    /// This artifact with another manifest around the same weights.
    #[must_use]
    pub fn with_manifest(self, change: impl FnOnce(&mut Manifest)) -> Self {
        let mut manifest = self.manifest;
        change(&mut manifest);
        Self::assemble(manifest, self.weights)
    }

    /// Reads an artifact and checks that this build can evaluate it.
    ///
    /// Bytes from anywhere: reads at most [`BYTES_MAX`] and never panics.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArtifactError> {
        if bytes.len() > BYTES_MAX {
            return Err(ArtifactError::TooBig { bytes: bytes.len() });
        }
        let model = onnx::Model::decode(bytes)?;
        let manifest: Manifest =
            serde_json::from_str(model.manifest()?).map_err(ArtifactError::Manifest)?;
        manifest.check()?;
        let heads = manifest.arms.arms.len() + 1 + manifest.arms.sampling.len();
        let hidden = manifest.hidden;
        if hidden == 0 || hidden > HIDDEN_MAX || heads > HEADS_MAX {
            let what = format!("{hidden} hidden entries and {heads} heads are beyond what is read");
            return Err(ArtifactError::Inconsistent { what });
        }
        let compression = manifest.compression.unwrap_or_default();
        compression
            .check(hidden)
            .map_err(|what| ArtifactError::Inconsistent { what })?;
        let weights = model.weights(&manifest)?;
        weights.check_sparsity(&compression)?;
        let sha256 = hex::encode(Sha256::digest(bytes));
        Ok(Self {
            network: weights.network(&manifest.normaliser),
            manifest,
            weights,
            bytes: bytes.to_vec(),
            sha256,
        })
    }

    /// The file.
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the artifact says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the file, lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The weights as the file stores them.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The network, for other engines and tests.
    pub fn network(&self) -> &Network {
        &self.network
    }
}
