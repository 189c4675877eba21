//! A graph attention network to compare with: layers over `[W h_i || W h_j || e_ij]`.
//!
//! The dynamic form (Brody, Alon and Yahav, "How Attentive are Graph Attention Networks?", 2022) with four heads on the
//! same subgraphs, with the same features and the vectors themselves, trained with the same loss on the same questions: a
//! quarter of them is held out and says when to stop. Some forty thousand numbers instead of some hundred.

use super::RetrievalError;
use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weir_memory::{
    AttentionWeights, LabelledQuestion, Memory, NodeId, Query, RecallLimits, Subgraph,
};

const HEADS: usize = 4;
/// Numbers of a node in a layer, of all heads together.
const HIDDEN: usize = 32;
const LAYERS: usize = 2;
const SLOPE: f64 = 0.2;
const STEP: f64 = 3e-3;
const EPOCHS_MAX: usize = 6;
/// Epochs without a better held-out loss after which training ends.
const PATIENCE: usize = 2;
/// One question in this many is held out.
const HELD_OUT: usize = 4;
/// Questions of one step.
const BATCH: usize = 8;

/// A subgraph as tensors, and the nodes it has.
pub(super) struct Asked {
    ids: Vec<NodeId>,
    vectors: Tensor,
    question: Tensor,
    features: Tensor,
    sources: Tensor,
    targets: Tensor,
    edges: Tensor,
}

/// A subgraph whose answer is known.
struct Example {
    asked: Asked,
    gold: Tensor,
    others: Tensor,
}

/// The network.
pub(super) struct Gat {
    variables: Vec<Var>,
    vectors: Tensor,
    question: Tensor,
    features: Tensor,
    layers: Vec<Layer>,
    score: Tensor,
    score_features: Tensor,
}

struct Layer {
    source: Tensor,
    target: Tensor,
    edge: Tensor,
    attention: Tensor,
}

/// Relations that have a number of their own among an edge's features, each in two directions.
const RELATIONS: [&str; 6] = [
    "hyperlink",
    "mentions",
    "cites",
    "entity",
    "same_topic",
    "follows",
];

impl Asked {
    /// The subgraph that recall would see.
    pub(super) fn of(memory: &Memory, query: &Query) -> std::result::Result<Self, RetrievalError> {
        let found = memory.search(query)?;
        let (weights, limits) = (AttentionWeights::by_hand(), RecallLimits::default());
        let seen = memory.subgraph(&weights, query, &found, &limits);
        let (ids, graph) = seen.map_err(RetrievalError::Memory)?;
        Ok(Self::tensors(memory, query, ids, &graph)?)
    }

    fn tensors(memory: &Memory, query: &Query, ids: Vec<NodeId>, graph: &Subgraph) -> Result<Self> {
        let cpu = &Device::Cpu;
        let dimensions = memory.config().dimensions;
        let empty = || vec![0.0_f32; dimensions];
        let vectors = ids
            .iter()
            .flat_map(|id| memory.vector(*id).unwrap_or_else(empty));
        let question = query.vector.clone().unwrap_or_else(empty);
        // What only seeds have is 0 elsewhere.
        let width = graph.seeds().next().map_or(0, <[f64]>::len);
        let mut features: Vec<f32> = Vec::new();
        let mut seeds = graph.seeds();
        for node in graph.nodes() {
            features.extend(node.iter().map(|value| *value as f32));
            let seed = seeds.next();
            features.push(if seed.is_some() { 1.0 } else { 0.0 });
            features.extend((0..width).map(|at| seed.map_or(0.0, |seed| seed[at] as f32)));
        }
        let (mut sources, mut targets, mut edges) = (Vec::new(), Vec::new(), Vec::new());
        for edge in graph.edges() {
            sources.push(u32::try_from(edge.source).unwrap_or(u32::MAX));
            targets.push(u32::try_from(edge.target).unwrap_or(u32::MAX));
            edges.extend(edge.features.iter().map(|value| *value as f32));
            let (relation, forwards) = &graph.heads()[edge.head];
            for known in RELATIONS {
                for way in [true, false] {
                    let same = known == relation && way == *forwards;
                    edges.push(if same { 1.0 } else { 0.0 });
                }
            }
        }
        let count = ids.len();
        let edge_count = sources.len();
        Ok(Self {
            vectors: Tensor::from_iter(vectors, cpu)?.reshape((count, dimensions))?,
            question: Tensor::new(question, cpu)?.reshape((1, dimensions))?,
            features: Tensor::new(features, cpu)?.reshape((count, ()))?,
            sources: Tensor::new(sources, cpu)?,
            targets: Tensor::new(targets, cpu)?,
            edges: Tensor::new(edges, cpu)?.reshape((edge_count, ()))?,
            ids,
        })
    }
}

impl Gat {
    /// Trains on the questions of `sets`.
    pub(super) fn train(
        sets: &[(&Memory, &[LabelledQuestion])],
        seed: u64,
    ) -> std::result::Result<Self, RetrievalError> {
        let mut examples = Vec::new();
        for (memory, questions) in sets {
            for question in *questions {
                let asked = Asked::of(memory, &question.query)?;
                examples.extend(Example::of(asked, &question.gold)?);
            }
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        examples.shuffle(&mut random);
        let held_out = examples.split_off(examples.len() - examples.len() / HELD_OUT);
        Ok(Self::fitted(&examples, &held_out, &mut random)?)
    }

    fn fitted(examples: &[Example], held_out: &[Example], random: &mut ChaCha8Rng) -> Result<Self> {
        let mut gat = Self::new(&examples[0].asked, random)?;
        let parameters = ParamsAdamW {
            lr: STEP,
            weight_decay: 0.01,
            ..ParamsAdamW::default()
        };
        let mut optimiser = AdamW::new(gat.variables.clone(), parameters)?;
        let mut best = (gat.loss(held_out)?, gat.values()?, 0);
        let mut order: Vec<usize> = (0..examples.len()).collect();
        for epoch in 1..=EPOCHS_MAX {
            order.shuffle(random);
            for batch in order.chunks(BATCH) {
                let losses = batch.iter().map(|at| examples[*at].loss(&gat));
                let losses = losses.collect::<Result<Vec<_>>>()?;
                optimiser.backward_step(&Tensor::stack(&losses, 0)?.mean_all()?)?;
            }
            let loss = gat.loss(held_out)?;
            if loss < best.0 {
                best = (loss, gat.values()?, epoch);
            } else if epoch >= best.2 + PATIENCE {
                break;
            }
        }
        for (variable, value) in gat.variables.iter_mut().zip(&best.1) {
            variable.set(value)?;
        }
        Ok(gat)
    }

    fn new(shape: &Asked, random: &mut ChaCha8Rng) -> Result<Self> {
        let mut variables = Vec::new();
        let mut drawn = |rows: usize, columns: usize| -> Result<Tensor> {
            let scale = (rows as f32).sqrt().recip();
            let values = (0..rows * columns).map(|_| random.random_range(-scale..scale));
            let variable = Var::from_tensor(
                &Tensor::from_iter(values, &Device::Cpu)?.reshape((rows, columns))?,
            )?;
            variables.push(variable.clone());
            Ok(variable.as_tensor().clone())
        };
        let (dimensions, features) = (shape.vectors.dim(1)?, shape.features.dim(1)?);
        let (vectors, question) = (drawn(dimensions, HIDDEN)?, drawn(dimensions, HIDDEN)?);
        let of_features = drawn(features, HIDDEN)?;
        let mut layers = Vec::new();
        for _ in 0..LAYERS {
            layers.push(Layer {
                source: drawn(HIDDEN, HIDDEN)?,
                target: drawn(HIDDEN, HIDDEN)?,
                edge: drawn(shape.edges.dim(1)?, HIDDEN)?,
                attention: drawn(1, HIDDEN)?.reshape((1, HEADS, HIDDEN / HEADS))?,
            });
        }
        Ok(Self {
            vectors,
            question,
            features: of_features,
            layers,
            score: drawn(HIDDEN, 1)?,
            score_features: drawn(features, 1)?,
            variables,
        })
    }

    fn values(&self) -> Result<Vec<Tensor>> {
        self.variables
            .iter()
            .map(|variable| variable.copy())
            .collect()
    }

    fn loss(&self, examples: &[Example]) -> Result<f32> {
        let mut sum = 0.0;
        for example in examples {
            sum += example.loss(self)?.to_scalar::<f32>()?;
        }
        Ok(sum / examples.len().max(1) as f32)
    }

    /// The nodes of a question's subgraph, best first.
    pub(super) fn ranked(&self, asked: &Asked) -> Result<Vec<NodeId>> {
        let logits = self.logits(asked)?.to_vec1::<f32>()?;
        let mut order: Vec<(f32, NodeId)> = logits.into_iter().zip(asked.ids.clone()).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Ok(order.into_iter().map(|(_, id)| id).collect())
    }

    fn logits(&self, asked: &Asked) -> Result<Tensor> {
        let of_vectors = asked.vectors.matmul(&self.vectors)?;
        let of_features = asked.features.matmul(&self.features)?;
        let of_question = asked.question.matmul(&self.question)?;
        let mut hidden = (of_vectors + of_features)?
            .broadcast_add(&of_question)?
            .tanh()?;
        for layer in &self.layers {
            hidden = (&hidden + layer.messages(asked, &hidden)?.tanh()?)?;
        }
        let logits =
            (hidden.matmul(&self.score)? + asked.features.matmul(&self.score_features)?)?;
        logits.squeeze(1)
    }
}

impl Layer {
    /// What comes to each node from its neighbours.
    fn messages(&self, asked: &Asked, hidden: &Tensor) -> Result<Tensor> {
        let (nodes, edges) = (hidden.dim(0)?, asked.sources.dim(0)?);
        if edges == 0 {
            return hidden.zeros_like();
        }
        let from = hidden
            .matmul(&self.source)?
            .index_select(&asked.sources, 0)?;
        let to = hidden
            .matmul(&self.target)?
            .index_select(&asked.targets, 0)?;
        let mixed = (&from + to + asked.edges.matmul(&self.edge)?)?;
        // max(x, slope x)
        let leaky = ((mixed.relu()? * (1.0 - SLOPE))? + (mixed * SLOPE)?)?;
        let heads = leaky.reshape((edges, HEADS, HIDDEN / HEADS))?;
        let logits = heads.broadcast_mul(&self.attention)?.sum(D::Minus1)?;
        let highest = logits.max_keepdim(0)?.detach();
        let exponentials = logits.broadcast_sub(&highest)?.exp()?;
        let zeros = Tensor::zeros((nodes, HEADS), DType::F32, &Device::Cpu)?;
        let sums = zeros.index_add(&asked.targets, &exponentials, 0)?;
        let sums = (sums.index_select(&asked.targets, 0)? + 1e-12)?;
        let shares = (exponentials / sums)?.reshape((edges, HEADS, 1))?;
        let messages = from
            .reshape((edges, HEADS, HIDDEN / HEADS))?
            .broadcast_mul(&shares)?;
        let zeros = Tensor::zeros((nodes, HIDDEN), DType::F32, &Device::Cpu)?;
        zeros.index_add(&asked.targets, &messages.reshape((edges, HIDDEN))?, 0)
    }
}

impl Example {
    /// `None` when the subgraph has none of the gold nodes, or nothing else.
    fn of(asked: Asked, gold: &[NodeId]) -> Result<Option<Self>> {
        let places = 0..u32::try_from(asked.ids.len()).unwrap_or(u32::MAX);
        let is_gold = |place: &u32| gold.contains(&asked.ids[*place as usize]);
        let (gold, others): (Vec<u32>, Vec<u32>) = places.partition(is_gold);
        if gold.is_empty() || others.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            gold: Tensor::new(gold, &Device::Cpu)?,
            others: Tensor::new(others, &Device::Cpu)?,
            asked,
        }))
    }

    /// Each gold node against all that are not.
    fn loss(&self, gat: &Gat) -> Result<Tensor> {
        let logits = gat.logits(&self.asked)?;
        let gold = logits.index_select(&self.gold, 0)?;
        let others = logits.index_select(&self.others, 0)?.log_sum_exp(0)?;
        let above = gold.broadcast_sub(&others)?;
        // -log sigmoid(x) = log(1 + exp(-x)), of which exp may not overflow.
        let loss = (above.neg()?.clamp(-30.0, 30.0)?.exp()? + 1.0)?.log()?;
        loss.mean_all()
    }
}
