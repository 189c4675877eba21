//! Features to state to head values: input layout, normalisation, cell and heads.
//!
//! The input is one disjoint block of columns per step (the values, then a missing flag for each
//! optional feature) and a one-hot of the step. The heads are linear in the state, in one matrix:
//! expected quality of every arm, expected quality of the answer in hand, one row per sampling
//! class. Decisions over them are in [`crate::choose`] and [`crate::judge`].

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::schema::{FeatureSchema, Step, StepFeatures};

/// Entries of the hidden state of the networks Weir trains.
pub const HIDDEN: usize = 32;

/// Normalised values beyond this many deviations are cut off there.
pub const CLIP: f32 = 4.0;

/// Where each step's values and flags stand in the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    blocks: [Range<usize>; Step::ALL.len()],
}

impl Layout {
    /// The layout of a schema.
    pub fn of(schema: &FeatureSchema) -> Self {
        let mut end = 0;
        let blocks = Step::ALL.map(|step| {
            let start = end;
            end += schema
                .of(step)
                .map(|spec| 1 + usize::from(spec.optional))
                .sum::<usize>();
            start..end
        });
        Self { blocks }
    }

    /// Columns of one step.
    pub fn block(&self, step: Step) -> Range<usize> {
        self.blocks[step.index()].clone()
    }

    /// Columns of all steps; the one-hot of the step follows them.
    pub fn width(&self) -> usize {
        self.blocks[Step::ALL.len() - 1].end
    }

    /// The name of a column, as the manifest lists the frozen ones.
    pub fn column_names(schema: &FeatureSchema) -> Vec<String> {
        let of_step = |step: Step| {
            let values = schema.of(step).map(|spec| spec.name.clone());
            let optional = schema.of(step).filter(|spec| spec.optional);
            values.chain(optional.map(|spec| format!("{} is missing", spec.name)))
        };
        Step::ALL.into_iter().flat_map(of_step).collect()
    }
}

/// Offset and scale of every column; a scale of 0 freezes a column that had no variance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Normaliser {
    /// Subtracted first.
    pub offset: Vec<f32>,
    /// Then multiplied, then clipped at [`CLIP`].
    pub scale: Vec<f32>,
}

impl Normaliser {
    /// Leaves every column of the input as it is.
    pub fn identity(width: usize) -> Self {
        Self {
            offset: vec![0.0; width],
            scale: vec![1.0; width],
        }
    }

    /// One normalised value.
    pub fn apply(&self, column: usize, raw: f32) -> f32 {
        ((raw - self.offset[column]) * self.scale[column]).clamp(-CLIP, CLIP)
    }
}

/// The raw columns of one step: values with defaults filled in, then the missing flags.
///
/// Values that are not finite count as missing and absent ones too, so a row read from a log
/// written by somebody else cannot upset the arithmetic.
pub fn raw_columns<'a>(
    schema: &'a FeatureSchema,
    layout: &Layout,
    features: &'a StepFeatures,
) -> impl Iterator<Item = (usize, f32)> + 'a {
    let value = |index: usize| features.values.get(index).copied().flatten();
    let value = move |index: usize| value(index).filter(|value| value.is_finite());
    let specs = schema.of(features.step).enumerate();
    let filled = specs
        .clone()
        .map(move |(index, spec)| value(index).unwrap_or(spec.default));
    let optional = specs.filter(|(_, spec)| spec.optional);
    let flags = optional.map(move |(index, _)| f32::from(u8::from(value(index).is_none())));
    layout.block(features.step).zip(filled.chain(flags))
}

/// The heads as one matrix: arms first, then the answer in hand, then the sampling classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Heads {
    /// One row of `hidden` weights per head value.
    pub weights: Vec<f32>,
    /// One bias per head value.
    pub bias: Vec<f32>,
}

impl Heads {
    /// One head value in f64, summed in a fixed order.
    pub fn value(&self, row: usize, state: &[f32]) -> f64 {
        let weights = &self.weights[row * state.len()..][..state.len()];
        let products = weights
            .iter()
            .zip(state)
            .map(|(w, h)| f64::from(*w) * f64::from(*h));
        f64::from(self.bias[row]) + products.sum::<f64>()
    }
}

/// Everything between the features and the head values.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Columns of the input.
    pub layout: Layout,
    /// Normalisation of the columns.
    pub normaliser: Normaliser,
    /// The recurrence; its inputs are the columns and the step one-hot.
    pub cell: Cell,
    /// The heads.
    pub heads: Heads,
}

impl Network {
    /// Reads one step's features into the state. Allocates nothing.
    pub fn observe(&self, state: &mut [f32], features: &StepFeatures) {
        let one_hot = (self.layout.width() + features.step.index(), 1.0);
        let columns = raw_columns(FeatureSchema::current(), &self.layout, features)
            .map(|(column, raw)| (column, self.normaliser.apply(column, raw)))
            .filter(|(_, value)| *value != 0.0);
        self.cell.step(columns.chain([one_hot]), state);
    }
}
