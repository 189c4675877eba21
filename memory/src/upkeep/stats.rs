//! How much of what a memory holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::store::{Memory, ReadError};

/// What a memory holds, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Name of the model that makes the vectors.
    pub embedding_model: String,
    /// Length of a vector.
    pub dimensions: usize,
    /// Number of the last write.
    pub generation: u64,
    /// Nodes.
    pub nodes: u64,
    /// Nodes with a vector.
    pub vectors: u64,
    /// Nodes that wait for one.
    pub pending: u64,
    /// Edges.
    pub edges: u64,
    /// Documents that were read in.
    pub documents: u64,
    /// Nodes by type.
    pub types: BTreeMap<String, u64>,
    /// Nodes by tenant.
    pub tenants: BTreeMap<String, u64>,
    /// Nodes by where they come from.
    pub sources: BTreeMap<String, u64>,
    /// Edges by relation.
    pub relations: BTreeMap<String, RelationStats>,
    /// Edges of a node.
    pub degrees: Degrees,
}

/// The edges of one relation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RelationStats {
    /// How many.
    pub edges: u64,
    /// Mean of their weights.
    pub mean_weight: f64,
}

/// How many edges nodes have, in both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Degrees {
    /// Nodes without an edge.
    pub none: u64,
    /// Half of the nodes have at most this many.
    pub median: u64,
    /// 99 of 100 nodes have at most this many.
    pub p99: u64,
    /// The most.
    pub max: u64,
}

impl Memory {
    /// Counts everything, in one pass over the rows.
    pub fn stats(&self) -> Result<Stats, ReadError> {
        let snapshot = self.snapshot()?;
        let rows = snapshot.rows()?;
        let mut stats = Stats {
            embedding_model: self.config().embedding_model.clone(),
            dimensions: self.config().dimensions,
            generation: snapshot.generation,
            nodes: rows.nodes,
            vectors: rows.vectors,
            pending: rows.pending,
            edges: rows.edges,
            documents: rows.documents,
            ..Stats::default()
        };
        for node in snapshot.nodes()? {
            let node = node?;
            let count = |of: &mut BTreeMap<String, u64>, name: &str| {
                *of.entry(name.to_owned()).or_default() += 1;
            };
            count(&mut stats.types, node.node_type.as_str());
            count(&mut stats.tenants, &node.tenant);
            count(&mut stats.sources, node.source.as_str());
        }
        for edge in snapshot.edges()? {
            let edge = edge?;
            let relation = stats.relations.entry(edge.rel).or_default();
            relation.edges += 1;
            // The sum first; it becomes a mean below.
            relation.mean_weight += f64::from(edge.weight);
        }
        for relation in stats.relations.values_mut() {
            relation.mean_weight /= relation.edges as f64;
        }
        let mut degrees: Vec<u64> = self
            .degrees()
            .iter()
            .map(|(_, degree)| *degree as u64)
            .collect();
        degrees.sort_unstable();
        let at = |share: f64| {
            let place = (degrees.len().saturating_sub(1) as f64 * share).round() as usize;
            degrees.get(place).copied().unwrap_or_default()
        };
        stats.degrees = Degrees {
            none: degrees.partition_point(|degree| *degree == 0) as u64,
            median: at(0.5),
            p99: at(0.99),
            max: at(1.0),
        };
        Ok(stats)
    }
}
