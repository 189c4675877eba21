//! A router: an artifact bound to a ladder of pools, and the state of one request.
//!
//! Nothing here remembers a request: state and inputs come in, decisions go out. The decisions
//! themselves are in [`crate::choose`] and [`crate::judge`].

use std::sync::Arc;

use thiserror::Error;

use crate::arms::ArmTable;
use crate::artifact::Artifact;
use crate::network::{Heads, Network};
use crate::novelty::Reading;
use crate::schema::StepFeatures;

/// What the router has learned about one request.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub(crate) hidden: Vec<f32>,
}

/// An artifact ready to decide. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Router {
    artifact: Arc<Artifact>,
    network: Arc<Network>,
    table: Arc<ArmTable>,
    cold_start: bool,
}

/// Why an artifact cannot decide.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RouterError {
    /// Its arm table has no arms.
    #[error("load a router: the artifact has no arms; train it on at least one model")]
    NoArms,
}

impl Router {
    /// A router for the ladder the artifact was trained on.
    pub fn new(artifact: Artifact) -> Result<Self, RouterError> {
        if artifact.manifest().arms.arms.is_empty() {
            return Err(RouterError::NoArms);
        }
        let network = Arc::new(artifact.network().clone());
        let table = Arc::new(artifact.manifest().arms.clone());
        Ok(Self {
            artifact: Arc::new(artifact),
            network,
            table,
            cold_start: false,
        })
    }

    /// The default router of this build.
    pub fn builtin() -> Self {
        Self::new(Artifact::builtin()).expect("the default artifact has arms")
    }

    /// This router for a ladder of `pools` models, by relative rank.
    ///
    /// A ladder of another length than the artifact's starts cold: a rank that falls between two
    /// trained ones takes the interpolated heads, and near ties are judged more widely.
    pub fn bind(&self, pools: usize) -> Self {
        let trained = &self.artifact.manifest().arms;
        if pools == trained.models || pools == 0 {
            return Self {
                network: Arc::new(self.artifact.network().clone()),
                table: Arc::new(trained.clone()),
                cold_start: false,
                ..self.clone()
            };
        }
        let table = trained.with_models(pools);
        let heads = rebound(&self.artifact.network().heads, trained, &table);
        let network = Network {
            heads,
            ..self.artifact.network().clone()
        };
        let (network, table) = (Arc::new(network), Arc::new(table));
        Self {
            artifact: Arc::clone(&self.artifact),
            network,
            table,
            cold_start: true,
        }
    }

    /// Whether the ladder differs from the one the artifact was trained on.
    pub fn cold_start(&self) -> bool {
        self.cold_start
    }

    /// The arms, of the ladder this router is bound to.
    pub fn arms(&self) -> &ArmTable {
        &self.table
    }

    /// The artifact, with its manifest and digest.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// The state before anything is known.
    pub fn start(&self) -> State {
        State {
            hidden: vec![0.0; self.network.cell.hidden()],
        }
    }

    /// Reads one step's features into the state. Allocates nothing.
    pub fn observe(&self, state: &mut State, features: &StepFeatures) {
        self.network.observe(&mut state.hidden, features);
    }

    /// A request beside those of training, from what is known of it before the choice; `None` where the artifact has no
    /// profile of them.
    pub fn compare(&self, steps: &[StepFeatures]) -> Option<Reading> {
        let manifest = self.artifact.manifest();
        let profile = manifest.profile.as_ref()?;
        Some(profile.read(&manifest.normaliser, steps))
    }

    /// Expected quality of an arm, 1 to 5.
    pub(crate) fn arm_quality(&self, state: &State, arm: usize) -> f64 {
        self.network.heads.value(arm, &state.hidden).clamp(1.0, 5.0)
    }

    /// Expected quality of the answer in hand, 1 to 5.
    pub(crate) fn answer_quality(&self, state: &State) -> f64 {
        self.network
            .heads
            .value(self.table.arms.len(), &state.hidden)
            .clamp(1.0, 5.0)
    }

    /// The sampling class of highest expected quality; the first of equals.
    pub(crate) fn best_sampling(&self, state: &State) -> usize {
        let first = self.table.arms.len() + 1;
        let value = |class: usize| self.network.heads.value(first + class, &state.hidden);
        (1..self.table.sampling.len()).fold(0, |best, class| {
            if value(class) > value(best) {
                class
            } else {
                best
            }
        })
    }
}

/// The heads for another ladder: arms by relative rank, interpolated between trained ranks.
fn rebound(heads: &Heads, trained: &ArmTable, bound: &ArmTable) -> Heads {
    let hidden = heads.weights.len() / heads.bias.len();
    let mut weights = Vec::with_capacity((bound.arms.len() + 1) * hidden);
    let mut bias = Vec::with_capacity(bound.arms.len() + 1);
    for arm in &bound.arms {
        let (low, high, share) = relative_rank(arm.rank, bound.models, trained.models);
        let row = |rank| {
            trained
                .find(arm.recall, rank, arm.context_tokens)
                .expect("tables of one shape")
        };
        let (low, high) = (row(low), row(high));
        let mix = |a: f32, b: f32| a * (1.0 - share) + b * share;
        let of = |row: usize| &heads.weights[row * hidden..][..hidden];
        weights.extend(of(low).iter().zip(of(high)).map(|(a, b)| mix(*a, *b)));
        bias.push(mix(heads.bias[low], heads.bias[high]));
    }
    let rest = trained.arms.len();
    weights.extend(&heads.weights[rest * hidden..]);
    bias.extend(&heads.bias[rest..]);
    Heads { weights, bias }
}

/// The two trained ranks around a bound one, and the share of the upper. A single pool counts as
/// the most capable, so that nothing is asked of it again.
fn relative_rank(rank: usize, bound: usize, trained: usize) -> (usize, usize, f32) {
    let top = trained - 1;
    if bound <= 1 {
        return (top, top, 0.0);
    }
    let position = (rank * top) as f32 / (bound - 1) as f32;
    let low = (position.floor() as usize).min(top);
    (low, (low + 1).min(top), position - low as f32)
}
