//! One node with its edges and what stands at their other ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::node::{Edge, Node, NodeId, NodeType};
use crate::store::{Memory, ReadError};

/// A node and its surroundings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// The node.
    pub node: Node,
    /// Whether it has a vector; else it waits for one.
    pub has_vector: bool,
    /// Its edges, heaviest first.
    pub edges: Vec<Edge>,
    /// The nodes at their other ends.
    pub ends: BTreeMap<NodeId, End>,
}

/// The other end of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Kind of node.
    pub node_type: NodeType,
    /// Its title, or the beginning of its text.
    pub title: String,
}

/// Longest beginning of a text, in characters.
const TITLE_CHARS: usize = 60;

impl Memory {
    /// A node with its edges; `None` when it is not there.
    pub fn show(&self, id: NodeId) -> Result<Option<Shown>, ReadError> {
        let Some(node) = self.node(id)? else {
            return Ok(None);
        };
        let mut edges = self.edges(id)?;
        edges.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let others = edges
            .iter()
            .map(|edge| if edge.src == id { edge.dst } else { edge.src });
        let others: Vec<NodeId> = others.collect();
        let mut ends = BTreeMap::new();
        for other in self.nodes(&others)? {
            let title = other.metadata.title.filter(|title| !title.is_empty());
            let title = title.unwrap_or_else(|| beginning(&other.text));
            ends.insert(
                other.id,
                End {
                    node_type: other.node_type,
                    title,
                },
            );
        }
        Ok(Some(Shown {
            has_vector: self.snapshot()?.has_vector(id)?,
            node,
            edges,
            ends,
        }))
    }
}

fn beginning(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(TITLE_CHARS).collect()
}
