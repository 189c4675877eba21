//! Where every weight stands: in the vector that is trained and in the dense one that is evaluated.
//!
//! The trained vector holds factors: W and U as products of two when low rank, and the heads of arms as sums of rows
//! that arms share. The dense vector holds what they come to; forward and backward passes see it only.

use std::ops::Range;

use super::Compression;
use super::sample::Dataset;
use crate::arms::ArmTable;
use crate::network::HIDDEN;
use crate::schema::Step;

/// What carries from step to step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// The FastGRNN cell.
    FastGrnn,
    /// The FastGRNN cell, its state emptied before every step: it sees one step at a time.
    Reset,
    /// A perceptron with one hidden layer over the columns of all steps so far.
    Perceptron,
}

/// What the heads are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadKind {
    /// Expected quality of every arm, of the answer in hand, and a row per sampling class.
    Quality,
    /// One logit per model, then context, temperature and `top_p` ([`super::mission`]).
    Mission,
}

/// A matrix in the trained vector: itself, or two factors one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Factored {
    /// Rows of the matrix.
    pub(super) rows: usize,
    /// Columns of the matrix.
    pub(super) columns: usize,
    /// Columns of the left factor; `None` when the matrix is not factored.
    pub(super) rank: Option<usize>,
    /// First value.
    pub(super) start: usize,
}

impl Factored {
    /// The matrix, or its left factor.
    pub(super) fn left(&self) -> Range<usize> {
        self.start..self.start + self.rows * self.rank.unwrap_or(self.columns)
    }

    /// The right factor; empty when the matrix is not factored.
    pub(super) fn right(&self) -> Range<usize> {
        let start = self.left().end;
        start..start + self.rank.unwrap_or(0) * self.columns
    }

    fn end(&self) -> usize {
        self.right().end
    }

    fn size(&self) -> usize {
        self.rows * self.columns
    }
}

/// Where everything stands.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) body: Body,
    pub(super) hidden: usize,
    /// Columns, then the step one-hot.
    pub(super) inputs: usize,
    pub(super) w: Factored,
    pub(super) u: Factored,
    /// For each fused head row, the factor rows it is the sum of.
    pub(super) factors: Vec<Vec<usize>>,
    /// Arms' own rows.
    pub(super) own: Range<usize>,
    /// Factor rows whose bias starts at the mean quality.
    pub(super) means: Vec<usize>,
    pub(super) factor_rows: usize,
    pub(super) arms: usize,
    models: usize,
}

impl Shape {
    /// Sizes of a FastGRNN of full rank whose heads are qualities.
    pub(super) fn new(table: &ArmTable, columns: usize, hidden: usize) -> Self {
        let heads = QualityHeads::of(table);
        let shape = Self {
            body: Body::FastGrnn,
            hidden,
            inputs: columns + Step::ALL.len(),
            w: Factored {
                rows: 0,
                columns: hidden,
                rank: None,
                start: 0,
            },
            u: Factored {
                rows: hidden,
                columns: hidden,
                rank: None,
                start: 0,
            },
            factors: heads.factors,
            means: vec![0, heads.own.end],
            own: heads.own,
            factor_rows: heads.rows,
            arms: table.arms.len(),
            models: table.models,
        };
        shape.placed(&Compression::default())
    }

    /// The shape of a network that learns from `data`.
    pub(super) fn of(data: &Dataset, kind: (Body, HeadKind), compression: &Compression) -> Self {
        let full = Self::new(&data.table, data.columns, HIDDEN);
        full.with(kind, compression)
    }

    /// This shape with another body and other heads, and its matrices factored.
    pub(super) fn with(
        mut self,
        (body, heads): (Body, HeadKind),
        compression: &Compression,
    ) -> Self {
        if heads == HeadKind::Mission {
            let rows = self.models + 3;
            self.factors = (0..rows).map(|row| vec![row]).collect();
            self.own = 0..0;
            self.means = Vec::new();
            self.factor_rows = rows;
        }
        if body == Body::Perceptron {
            // As many weights as the recurrent cell has: without U, more hidden entries.
            let (per_entry, fixed) = (self.inputs + 1 + self.factor_rows, self.factor_rows);
            self.hidden = ((self.len() - fixed) as f64 / per_entry as f64).round() as usize;
        }
        self.body = body;
        self.placed(compression)
    }

    fn placed(mut self, compression: &Compression) -> Self {
        let hidden = self.hidden;
        self.w = Factored {
            rows: self.inputs,
            columns: hidden,
            rank: compression.rank_input,
            start: 0,
        };
        self.u = Factored {
            rows: if self.body == Body::Perceptron {
                0
            } else {
                hidden
            },
            columns: hidden,
            rank: compression.rank_state,
            start: self.w.end(),
        };
        self
    }

    /// Gates beside the candidate: the perceptron has none.
    fn gates(&self) -> usize {
        if self.body == Body::Perceptron {
            0
        } else {
            self.hidden
        }
    }

    /// Everything between the matrices and the heads: biases of gate and candidate, zeta, nu.
    fn between(&self) -> usize {
        self.gates() + self.hidden + if self.gates() > 0 { 2 } else { 0 }
    }

    /// Weights of W and U, as trained.
    pub(super) fn matrices(&self) -> usize {
        self.u.end()
    }

    /// Values between the matrices and the heads, as trained.
    pub(super) fn constants(&self) -> Range<usize> {
        self.matrices()..self.matrices() + self.between()
    }

    /// Where U stands in the dense vector; W is before it.
    pub(super) fn dense_u(&self) -> usize {
        self.w.size()
    }

    /// Where [`Self::constants`] stand in the dense vector.
    pub(super) fn dense_constants(&self) -> Range<usize> {
        let start = self.dense_u() + self.u.size();
        start..start + self.between()
    }

    pub(super) fn gate_bias(&self) -> usize {
        self.dense_constants().start
    }

    pub(super) fn candidate_bias(&self) -> usize {
        self.gate_bias() + self.gates()
    }

    pub(super) fn zeta(&self) -> usize {
        self.candidate_bias() + self.hidden
    }

    pub(super) fn nu(&self) -> usize {
        self.zeta() + 1
    }

    /// First head row of the dense vector.
    pub(super) fn heads_start(&self) -> usize {
        self.dense_constants().end
    }

    /// Weights and bias of one head row.
    pub(super) fn row_len(&self) -> usize {
        self.hidden + 1
    }

    /// Trained values.
    pub(super) fn len(&self) -> usize {
        self.constants().end + self.factor_rows * self.row_len()
    }

    /// Dense values.
    pub(super) fn dense_len(&self) -> usize {
        self.heads_start() + self.heads() * self.row_len()
    }

    /// Entries that carry from step to step: the perceptron's sums stand behind its hidden entries.
    pub(super) fn state_len(&self) -> usize {
        if self.body == Body::Perceptron {
            2 * self.hidden
        } else {
            self.hidden
        }
    }

    /// Head rows after summing factors.
    pub(super) fn heads(&self) -> usize {
        self.factors.len()
    }

    /// The row of the answer in hand.
    pub(super) fn answer(&self) -> usize {
        self.arms
    }

    /// The row of a sampling class.
    pub(super) fn sampling_row(&self, class: usize) -> usize {
        self.arms + 1 + class
    }

    /// A factor row of the trained vector.
    pub(super) fn factor(&self, row: usize) -> Range<usize> {
        let start = self.constants().end + row * self.row_len();
        start..start + self.row_len()
    }

    /// A head row of the dense vector.
    pub(super) fn head(&self, row: usize) -> Range<usize> {
        let start = self.heads_start() + row * self.row_len();
        start..start + self.row_len()
    }
}

/// How the heads of arms share rows: one every arm has, one per recall, one per rank, one per context size and a small
/// one of its own, so that what is learned about a model under one recall helps under another.
struct QualityHeads {
    factors: Vec<Vec<usize>>,
    own: Range<usize>,
    rows: usize,
}

impl QualityHeads {
    fn of(table: &ArmTable) -> Self {
        let (arms, sampling) = (table.arms.len(), table.sampling.len());
        let mut contexts: Vec<u32> = table.arms.iter().map(|arm| arm.context_tokens).collect();
        contexts.sort_unstable();
        contexts.dedup();
        // Rows: 0 for every arm, 3 recalls, ranks, contexts, arms' own, the answer, samplings.
        let ranks = 4;
        let context_rows = ranks + table.models;
        let own = context_rows + contexts.len()..context_rows + contexts.len() + arms;
        let of_arm = |(index, arm): (usize, &crate::Arm)| {
            let context = contexts.binary_search(&arm.context_tokens).unwrap_or(0);
            let recall = 1 + arm.recall as usize;
            vec![
                0,
                recall,
                ranks + arm.rank,
                context_rows + context,
                own.start + index,
            ]
        };
        let mut factors: Vec<Vec<usize>> = table.arms.iter().enumerate().map(of_arm).collect();
        factors.extend((own.end..=own.end + sampling).map(|row| vec![row]));
        let rows = own.end + 1 + sampling;
        Self { factors, own, rows }
    }
}
