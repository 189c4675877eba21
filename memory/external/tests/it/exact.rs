//! The oracle: plain maps, every node compared, no index. It shares with the stores how a text becomes terms, and nothing
//! else: the scores and their fusion are written a second time here, from the same sources.

use std::collections::{BTreeMap, HashMap};

use weir_memory::{Filter, NewEdge, NewNode, NodeId, NodeType, SHARED_TENANT, outside};

/// Saturation and length normalisation of BM25 (Robertson and Zaragoza, 2009).
const K1: f32 = 1.2;
const B: f32 = 0.75;

/// Nodes of each ranking that are fused.
const POOL_MIN: usize = 256;

pub(crate) struct Held {
    pub(crate) new: NewNode,
    unit: Option<Vec<f32>>,
    terms: HashMap<Box<str>, u16>,
    length: f32,
}

/// What a search must find: cosine, BM25 and strength by node, strongest first.
pub(crate) type Ranked = Vec<(NodeId, Option<f32>, Option<f32>, f32)>;

#[derive(Default)]
pub(crate) struct Exact {
    pub(crate) nodes: BTreeMap<NodeId, Held>,
    pub(crate) edges: BTreeMap<(NodeId, NodeId, String), f32>,
    /// Length that counts as mean; `None` for the true mean of all texts.
    pub(crate) mean_length: Option<f32>,
}

impl Exact {
    pub(crate) fn put(&mut self, new: NewNode) {
        let before = self.nodes.get(&new.id);
        let kept = before.filter(|before| before.new.indexed_text() == new.indexed_text());
        let kept = kept.and_then(|before| before.unit.clone());
        let terms: HashMap<Box<str>, u16> =
            outside::terms(&new.indexed_text()).into_iter().collect();
        let held = Held {
            unit: new.vector.as_deref().map(unit).or(kept),
            length: terms.values().map(|count| f32::from(*count)).sum(),
            terms,
            new,
        };
        self.nodes.insert(held.new.id, held);
    }

    pub(crate) fn link(&mut self, edge: &NewEdge) {
        let key = (edge.src, edge.dst, edge.rel.clone());
        self.edges.insert(key, edge.weight);
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, id: NodeId) -> bool {
        self.edges
            .retain(|(src, dst, _), _| *src != id && *dst != id);
        self.nodes.remove(&id).is_some()
    }

    /// Whether writing it changes what is there, vectors aside.
    pub(crate) fn changes(&self, new: &NewNode) -> bool {
        self.nodes.get(&new.id).is_some_and(|held| {
            let without_vector = |node: &NewNode| NewNode {
                vector: None,
                ..node.clone()
            };
            without_vector(&held.new) != without_vector(new)
        })
    }

    /// Whether the first may be a summary's edge to the second.
    pub(crate) fn may_join(&self, src: NodeId, dst: NodeId, rel: &str) -> bool {
        let (src, dst) = (&self.nodes[&src].new, &self.nodes[&dst].new);
        let is_source = rel == "summarises" && src.node_type == NodeType::Summary;
        !is_source || dst.tenant == src.tenant || dst.tenant == SHARED_TENANT
    }

    /// The summaries by what they were made from.
    pub(crate) fn summaries_by_source(&self) -> BTreeMap<NodeId, Vec<NodeId>> {
        let mut summaries: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for (src, dst, rel) in self.edges.keys() {
            if rel == "summarises" && self.nodes[src].new.node_type == NodeType::Summary {
                summaries.entry(*dst).or_default().push(*src);
            }
        }
        summaries
    }

    /// The summaries of these nodes, and the summaries of those, but for what stays.
    pub(crate) fn outdated(
        by_source: &BTreeMap<NodeId, Vec<NodeId>>,
        changed: &[NodeId],
        stay: &[NodeId],
    ) -> Vec<NodeId> {
        let (mut open, mut found) = (changed.to_vec(), Vec::new());
        while let Some(id) = open.pop() {
            for summary in by_source.get(&id).into_iter().flatten() {
                if !stay.contains(summary) && !found.contains(summary) {
                    found.push(*summary);
                    open.push(*summary);
                }
            }
        }
        found
    }

    /// Removes what is about a subject with the traces and summaries made from it; what is gone.
    pub(crate) fn erase(&mut self, subject: &str) -> Vec<NodeId> {
        let about = self.nodes.values();
        let about = about.filter(|held| held.new.metadata.subject.as_deref() == Some(subject));
        let mut doomed: Vec<NodeId> = about.map(|held| held.new.id).collect();
        let mut at = 0;
        while let Some(id) = doomed.get(at).copied() {
            at += 1;
            for (src, dst, rel) in self.edges.keys() {
                let other = match (*src == id, *dst == id) {
                    (true, _) => *dst,
                    (_, true) => *src,
                    _ => continue,
                };
                let goes = match self.nodes[&other].new.node_type {
                    NodeType::Trace => true,
                    NodeType::Summary => rel == "summarises" && *src == other,
                    _ => false,
                };
                if goes && !doomed.contains(&other) {
                    doomed.push(other);
                }
            }
        }
        for id in &doomed {
            self.remove(*id);
        }
        doomed.sort_unstable();
        doomed
    }

    pub(crate) fn vectors(&self) -> usize {
        self.nodes
            .values()
            .filter(|held| held.unit.is_some())
            .count()
    }

    pub(crate) fn passes(filter: &Filter, new: &NewNode) -> bool {
        let by_type = match filter.types.as_slice() {
            [] => new.node_type != NodeType::Trace,
            types => types.contains(&new.node_type),
        };
        let by_domain = filter.domains.is_empty()
            || (new.metadata.domain.as_ref()).is_some_and(|domain| filter.domains.contains(domain));
        let by_tenant = new.tenant == filter.tenant || new.tenant == SHARED_TENANT;
        by_type && by_domain && by_tenant && !filter.hidden.contains(&new.id)
    }

    /// Every node that is fused, strongest first, for a search of `k` hits.
    pub(crate) fn search(
        &self,
        (text, vector): (&str, &[f32]),
        filter: &Filter,
        k: usize,
    ) -> Ranked {
        let asked = unit(vector);
        let pool = POOL_MIN.max(4 * k);
        let allowed: Vec<&Held> = self
            .nodes
            .values()
            .filter(|held| Self::passes(filter, &held.new))
            .collect();
        let by_vector: BTreeMap<NodeId, f32> = (allowed.iter())
            .filter_map(|held| Some((held.new.id, dot(held.unit.as_ref()?, &asked))))
            .collect();
        let by_words: BTreeMap<NodeId, f32> = (self.bm25(text, &allowed)).into_iter().collect();
        let mut ids = best(&by_vector, pool);
        ids.extend(best(&by_words, pool));
        ids.sort_unstable();
        ids.dedup();
        let cosines = ids.iter().filter_map(|id| by_vector.get(id));
        let cosines = Spread::of(&cosines.copied().collect::<Vec<_>>());
        let words = ids
            .iter()
            .map(|id| by_words.get(id).copied().unwrap_or(0.0));
        let words = Spread::of(&words.collect::<Vec<_>>());
        let weight = if by_vector.is_empty() { 1.0 } else { 0.5 };
        let mut ranked: Ranked = (ids.into_iter())
            .map(|id| {
                let (cosine, bm25) = (by_vector.get(&id).copied(), by_words.get(&id).copied());
                let by_cosine = cosine.map_or(0.0, |cosine| cosines.z(cosine));
                (
                    id,
                    cosine,
                    bm25,
                    by_cosine + weight * words.z(bm25.unwrap_or(0.0)),
                )
            })
            .collect();
        ranked.sort_by(|a, b| b.3.total_cmp(&a.3).then(a.0.cmp(&b.0)));
        ranked
    }

    /// Cosine and BM25 of one node.
    pub(crate) fn scores(
        &self,
        id: NodeId,
        (text, vector): (&str, &[f32]),
    ) -> (Option<f32>, Option<f32>) {
        let held = &self.nodes[&id];
        let asked = unit(vector);
        let cosine = held.unit.as_ref().map(|own| dot(own, &asked));
        let bm25 = self.bm25(text, &[held]).first().map(|(_, score)| *score);
        (cosine, bm25)
    }

    fn bm25(&self, text: &str, allowed: &[&Held]) -> Vec<(NodeId, f32)> {
        let all = self.nodes.len() as f32;
        let total: f32 = self.nodes.values().map(|held| held.length).sum();
        let mean = self.mean_length.unwrap_or((total / all).max(1.0));
        let mut sums: BTreeMap<NodeId, f32> = BTreeMap::new();
        for (term, _) in outside::terms(text) {
            let holds = |held: &&Held| held.terms.contains_key(&term);
            let containing = self.nodes.values().filter(holds).count() as f32;
            let idf = (1.0 + (all - containing + 0.5) / (containing + 0.5)).ln();
            for held in allowed {
                if let Some(count) = held.terms.get(&term) {
                    let tf = f32::from(*count);
                    let norm = K1 * (1.0 - B + B * held.length / mean);
                    *sums.entry(held.new.id).or_default() += idf * tf * (K1 + 1.0) / (tf + norm);
                }
            }
        }
        sums.into_iter().collect()
    }
}

fn best(scores: &BTreeMap<NodeId, f32>, count: usize) -> Vec<NodeId> {
    let mut order: Vec<(NodeId, f32)> = scores.iter().map(|(id, score)| (*id, *score)).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    order.into_iter().take(count).map(|(id, _)| id).collect()
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter().map(|value| value / norm).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

struct Spread {
    mean: f32,
    deviation: f32,
}

impl Spread {
    fn of(values: &[f32]) -> Self {
        let count = values.len().max(1) as f32;
        let mean = values.iter().sum::<f32>() / count;
        let squares = values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f32>();
        Self {
            mean,
            deviation: (squares / count).sqrt(),
        }
    }

    fn z(&self, value: f32) -> f32 {
        match self.deviation < 1e-6 {
            true => 0.0,
            false => (value - self.mean) / self.deviation,
        }
    }
}
