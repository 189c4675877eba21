//! Labels: questions whose answers are known, and links that stand in for them.
//!
//! A masked link is a question that needs nobody to write it: a passage is hidden, its own words ask,
//! and what it links to is the answer. Owns no training: `train.rs` does that.

use super::optimise::SplitMix;
use crate::node::{NodeId, SHARED_TENANT};
use crate::search::{Filter, Query};
use crate::store::{Memory, ReadError};
use crate::summaries::SUMMARISES;

/// Words of a hidden passage that ask.
const WORDS_MAX: usize = 48;

/// Relations that say where a passage stands, not what it is about.
const STRUCTURAL: [&str; 3] = ["follows", "same_topic", SUMMARISES];

/// A question with the nodes that answer it.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledQuestion {
    /// The question, with its vector where there is one; `k` hits become seeds.
    pub query: Query,
    /// The nodes that recall should put first.
    pub gold: Vec<NodeId>,
}

impl Memory {
    /// Up to `most` questions from links: each hides a node, asks with its words and vector, and has
    /// the end of one of its links as gold. Drawn with `seed`, one link of a node at most.
    ///
    /// # Errors
    /// A row cannot be read.
    pub fn masked_links(
        &self,
        tenant: &str,
        most: usize,
        seed: u64,
    ) -> Result<Vec<LabelledQuestion>, ReadError> {
        let filter = Filter {
            tenant: tenant.to_owned(),
            ..Filter::default()
        };
        let mut random = SplitMix(seed);
        let mut ids = self.ids(&filter);
        random.shuffle(&mut ids);
        let mut questions = Vec::new();
        for id in ids {
            if questions.len() == most {
                break;
            }
            let Some(node) = self.node(id)? else {
                continue;
            };
            let mut ends: Vec<NodeId> = (self.edges(id)?.into_iter())
                .filter(|edge| edge.src == id && edge.dst != id)
                .filter(|edge| !STRUCTURAL.contains(&edge.rel.as_str()))
                .map(|edge| edge.dst)
                .collect();
            random.shuffle(&mut ends);
            let Some(gold) = self.first_visible(&ends, tenant)? else {
                continue;
            };
            let text = node.indexed_text();
            let words: Vec<&str> = text.split_whitespace().take(WORDS_MAX).collect();
            let query = Query {
                text: words.join(" "),
                vector: self.vector(id),
                filter: Filter {
                    hidden: vec![id],
                    ..filter.clone()
                },
                k: crate::RecallLimits::default().seeds,
                ..Query::default()
            };
            let gold = vec![gold];
            questions.push(LabelledQuestion { query, gold });
        }
        Ok(questions)
    }

    /// The unit vector of a node, when it has one.
    pub fn vector(&self, id: NodeId) -> Option<Vec<f32>> {
        let index = self.index();
        let slot = index.slot(id)?;
        index.vectors.get(slot).map(<[f32]>::to_vec)
    }

    fn first_visible(&self, ids: &[NodeId], tenant: &str) -> Result<Option<NodeId>, ReadError> {
        for node in self.nodes(ids)? {
            if [tenant, SHARED_TENANT].contains(&node.tenant.as_str()) {
                return Ok(Some(node.id));
            }
        }
        Ok(None)
    }
}
