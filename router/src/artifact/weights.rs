//! The weights as a file stores them: full or low rank, as floats or in 8 bits.
//!
//! What decides is the network they expand to ([`Weights::network`]): factors are multiplied out and bytes turned into
//! floats once, when an artifact is loaded, so that a decision costs the same whatever the file holds.

use serde::{Deserialize, Serialize};

use super::ArtifactError;
use crate::cell::{Cell, expand_low_rank};
use crate::network::{Heads, Layout, Network, Normaliser};
use crate::schema::{FeatureSchema, Step};

/// Greatest byte; -128 is not used, so that signs are symmetric.
const BYTE_MAX: f32 = 127.0;

/// How the weights of a network are made small (Kusupati et al. 2018, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Compression {
    /// Rank of the input matrix W; absent when it is not factored.
    pub rank_input: Option<usize>,
    /// Rank of the recurrent matrix U; absent when it is not factored.
    pub rank_state: Option<usize>,
    /// Share of the entries of W and U (or of their factors) that are zero.
    pub sparsity: f64,
    /// Whether every matrix is stored in 8 bits.
    pub int8: bool,
}

impl Compression {
    /// Whether anything is made smaller.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses what cannot be for a state of `hidden` entries.
    pub(crate) fn check(&self, hidden: usize) -> Result<(), String> {
        for (name, rank) in [("input", self.rank_input), ("state", self.rank_state)] {
            if let Some(rank) = rank
                && !(1..=hidden).contains(&rank)
            {
                return Err(format!(
                    "the rank of the {name} matrix is {rank}, it goes from 1 to {hidden}"
                ));
            }
        }
        if !(0.0..1.0).contains(&self.sparsity) {
            return Err(format!(
                "the sparsity is {}, it goes from 0 to less than 1",
                self.sparsity
            ));
        }
        Ok(())
    }
}

/// One matrix or vector, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Tensor {
    /// As floats.
    Float(Vec<f32>),
    /// Each value is its byte times `scale`: one multiplication in f32, whose result IEEE 754 fixes, so that every
    /// engine works with the same floats.
    Int8 {
        /// Value of one.
        scale: f32,
        /// The bytes.
        bytes: Vec<i8>,
    },
}

impl Tensor {
    /// Rounds values to bytes; the greatest becomes 127.
    pub fn int8(values: &[f32]) -> Self {
        let greatest = values.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
        let scale = greatest / BYTE_MAX;
        let scale = if scale.is_normal() { scale } else { 1.0 };
        let byte = |value: &f32| (value / scale).round().clamp(-BYTE_MAX, BYTE_MAX) as i8;
        Self::Int8 {
            scale,
            bytes: values.iter().map(byte).collect(),
        }
    }

    /// The values.
    pub fn values(&self) -> Vec<f32> {
        match self {
            Self::Float(values) => values.clone(),
            Self::Int8 { scale, bytes } => {
                bytes.iter().map(|byte| f32::from(*byte) * scale).collect()
            }
        }
    }

    /// Entries.
    pub fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Int8 { bytes, .. } => bytes.len(),
        }
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries that are zero.
    pub fn zeros(&self) -> usize {
        match self {
            Self::Float(values) => values.iter().filter(|value| **value == 0.0).count(),
            Self::Int8 { bytes, .. } => bytes.iter().filter(|byte| **byte == 0).count(),
        }
    }
}

/// Every weight of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Entries of the state.
    pub hidden: usize,
    /// W of the feature columns, `columns` x `hidden`, or its left factor, `columns` x rank.
    pub w: Tensor,
    /// W of the step one-hot, or its left factor.
    pub step: Tensor,
    /// Right factor of W, rank x `hidden`.
    pub w_right: Option<Tensor>,
    /// U, `hidden` x `hidden`, or its left factor.
    pub u: Tensor,
    /// Right factor of U, rank x `hidden`.
    pub u_right: Option<Tensor>,
    /// Gate bias.
    pub gate_bias: Vec<f32>,
    /// Candidate bias.
    pub candidate_bias: Vec<f32>,
    /// As in [`Cell`].
    pub zeta: f32,
    /// As in [`Cell`].
    pub nu: f32,
    /// Weights of the heads, `hidden` x heads.
    pub heads: Tensor,
    /// One bias per head.
    pub heads_bias: Vec<f32>,
}

impl Weights {
    /// Weights that say `bias` whatever the request.
    pub(super) fn constant(hidden: usize, bias: Vec<f32>) -> Self {
        let zeros = |count: usize| Tensor::Float(vec![0.0; count]);
        Self {
            hidden,
            w: zeros(Layout::of(FeatureSchema::current()).width() * hidden),
            step: zeros(Step::ALL.len() * hidden),
            w_right: None,
            u: zeros(hidden * hidden),
            u_right: None,
            gate_bias: vec![0.0; hidden],
            candidate_bias: vec![0.0; hidden],
            zeta: 0.0,
            nu: 0.0,
            heads: zeros(bias.len() * hidden),
            heads_bias: bias,
        }
    }

    /// The network they expand to.
    pub(super) fn network(&self, normaliser: &Normaliser) -> Network {
        let w = [self.w.values(), self.step.values()].concat();
        let cell = Cell {
            w: expanded(w, self.w_right.as_ref(), self.hidden),
            u: expanded(self.u.values(), self.u_right.as_ref(), self.hidden),
            gate_bias: self.gate_bias.clone(),
            candidate_bias: self.candidate_bias.clone(),
            zeta: self.zeta,
            nu: self.nu,
        };
        Network {
            layout: Layout::of(FeatureSchema::current()),
            normaliser: normaliser.clone(),
            cell,
            heads: Heads {
                weights: transposed(&self.heads.values(), self.heads_bias.len()),
                bias: self.heads_bias.clone(),
            },
        }
    }

    /// The matrices that can be thinned: W and U, or their factors.
    fn recurrent(&self) -> impl Iterator<Item = &Tensor> {
        let right = [self.w_right.as_ref(), self.u_right.as_ref()];
        [&self.w, &self.step, &self.u]
            .into_iter()
            .chain(right.into_iter().flatten())
    }

    /// Entries of W and U, or of their factors, and how many of them are zero.
    pub fn entries(&self) -> (usize, usize) {
        self.recurrent().fold((0, 0), |(all, zero), tensor| {
            (all + tensor.len(), zero + tensor.zeros())
        })
    }

    /// Refuses weights that are not as thin as a manifest says.
    pub(super) fn check_sparsity(&self, compression: &Compression) -> Result<(), ArtifactError> {
        let (entries, zeros) = self.entries();
        if (zeros as f64) < (compression.sparsity * entries as f64).floor() {
            let what = format!(
                "its manifest says that {} of the recurrent weights are zero, {zeros} of {entries} are",
                compression.sparsity
            );
            return Err(ArtifactError::Inconsistent { what });
        }
        Ok(())
    }
}

fn expanded(left: Vec<f32>, right: Option<&Tensor>, hidden: usize) -> Vec<f32> {
    match right {
        None => left,
        Some(right) => expand_low_rank(&left, &right.values(), right.len() / hidden.max(1)),
    }
}

/// Row-major `rows` x `columns` to `columns` x `rows`.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let column = |column: usize| values.iter().skip(column).step_by(columns).copied();
    (0..columns).flat_map(column).collect()
}
