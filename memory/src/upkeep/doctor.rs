//! The check-up: what is wrong with a memory, what is worth a look, and what can be repaired.
//!
//! Looks first and repairs only when asked to. Wrong is what the store should never hold (an edge without an end, a
//! summary of what has changed); worth a look is what may be meant (nodes without edges, hubs, near duplicates). Rows that
//! cannot be read keep a store from opening and are found by `damaged_rows` on its file.

use serde::{Deserialize, Serialize};

use super::twins::Twins;
use crate::node::{Edge, NodeId, NodeType};
use crate::recall::DEGREE_MAX;
use crate::store::{EdgeKey, Memory, ReadError, Repairs, Snapshot, WriteError};
use crate::summaries::SUMMARISES;

/// Examples that are named of each kind.
const EXAMPLES_MAX: usize = 5;

/// What a check-up found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// Nodes that were looked at.
    pub nodes: u64,
    /// Edges that were looked at.
    pub edges: u64,
    /// Every check, those that found nothing too.
    pub checks: Vec<Check>,
}

/// One thing that was looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What: `dangling edges`.
    pub name: String,
    /// How many were found.
    pub found: usize,
    /// Whether one is something wrong, and not only worth a look.
    pub wrong: bool,
    /// The first few.
    pub examples: Vec<String>,
    /// What can be done about it.
    pub remedy: String,
    /// How many were repaired.
    pub repaired: usize,
}

impl Diagnosis {
    /// Whether something is wrong that was not repaired.
    pub fn is_wrong(&self) -> bool {
        let wrong = |check: &Check| check.wrong && check.repaired < check.found;
        self.checks.iter().any(wrong)
    }
}

/// Everything that was found, before it is put into words.
#[derive(Default)]
struct Findings {
    repairs: Repairs,
    orphans: Vec<NodeId>,
    hubs: Vec<(NodeId, usize)>,
    twins: Vec<(NodeId, NodeId)>,
    pending: u64,
}

impl Memory {
    /// Looks for everything that is wrong or worth a look; with `repair`, repairs what can be repaired without a choice.
    pub fn doctor(&self, repair: bool) -> Result<Diagnosis, WriteError> {
        let snapshot = self.snapshot().map_err(WriteError::Stored)?;
        let rows = snapshot.rows().map_err(WriteError::Stored)?;
        let findings = self.find(&snapshot).map_err(WriteError::Stored)?;
        drop(snapshot);
        let repaired = match repair {
            true => self.repair(&findings.repairs)?,
            false => [0; 5],
        };
        Ok(Diagnosis {
            nodes: rows.nodes,
            edges: rows.edges,
            checks: findings.checks(repaired),
        })
    }

    fn find(&self, snapshot: &Snapshot) -> Result<Findings, ReadError> {
        let mut findings = Findings {
            pending: snapshot.rows()?.pending,
            ..Findings::default()
        };
        let mut twins = Twins::default();
        for node in snapshot.nodes()? {
            let node = node?;
            // A trace and a summary repeat what stands elsewhere.
            if !matches!(node.node_type, NodeType::Trace | NodeType::Summary) {
                twins.add(&node);
            }
            if !snapshot.has_vector(node.id)? && !snapshot.is_pending(node.id)? {
                findings.repairs.forgotten.push(node.id);
            }
        }
        findings.edges(snapshot)?;
        for id in snapshot.vector_ids()? {
            let id = id?;
            if !snapshot.has_node(id)? {
                findings.repairs.lone_vectors.push(id);
            }
        }
        for document in snapshot.documents()? {
            let document = document?;
            for id in &document.passages {
                if !snapshot.has_node(*id)? {
                    findings
                        .repairs
                        .documents
                        .push((document.tenant, document.key));
                    break;
                }
            }
        }
        for (id, degree) in self.degrees() {
            match degree {
                0 => findings.orphans.push(id),
                1..=DEGREE_MAX => {}
                _ => findings.hubs.push((id, degree)),
            }
        }
        findings
            .hubs
            .sort_unstable_by_key(|(id, degree)| (usize::MAX - degree, *id));
        findings.twins = twins.pairs(self)?;
        Ok(findings)
    }
}

impl Findings {
    /// Edges without an end, and summaries of what changed or went since.
    fn edges(&mut self, snapshot: &Snapshot) -> Result<(), ReadError> {
        for edge in snapshot.edges()? {
            let edge = edge?;
            if edge.rel == SUMMARISES
                && self.repairs.stale_summaries.last() != Some(&edge.src)
                && is_stale(snapshot, &edge)?
            {
                self.repairs.stale_summaries.push(edge.src);
            }
            if !snapshot.has_node(edge.src)? || !snapshot.has_node(edge.dst)? {
                let key: EdgeKey = (edge.src, edge.dst, edge.rel);
                self.repairs.dangling_edges.push(key);
            }
        }
        Ok(())
    }

    fn checks(&self, repaired: [usize; 5]) -> Vec<Check> {
        let Repairs {
            dangling_edges,
            stale_summaries,
            lone_vectors,
            forgotten,
            documents,
        } = &self.repairs;
        let [edges, summaries, vectors, waiting, lists] = repaired;
        let wrong = |check: Check, repaired: usize, remedy: &str| Check {
            wrong: true,
            repaired,
            remedy: format!("--repair {remedy}"),
            ..check
        };
        let edge = |(src, dst, rel): &EdgeKey| format!("{src} {rel} {dst}");
        let document = |(tenant, key): &(String, String)| format!("{key} of {tenant}");
        let id = |id: &NodeId| id.to_string();
        let hub = |(id, degree): &(NodeId, usize)| format!("{id} with {degree}");
        let pair = |(one, other): &(NodeId, NodeId)| format!("{one} and {other}");
        vec![
            wrong(
                check("dangling edges", dangling_edges, edge),
                edges,
                "removes them",
            ),
            wrong(
                check("stale summaries", stale_summaries, id),
                summaries,
                "removes them",
            ),
            wrong(
                check("vectors without a node", lone_vectors, id),
                vectors,
                "removes them",
            ),
            wrong(
                check("nodes that no vector is made for", forgotten, id),
                waiting,
                "has one made",
            ),
            wrong(
                check("documents with passages that are gone", documents, document),
                lists,
                "takes them out of the lists",
            ),
            Check {
                remedy: "a gateway that serves the memory computes them".to_owned(),
                found: usize::try_from(self.pending).unwrap_or(usize::MAX),
                ..check("vectors that are pending", &[], id)
            },
            Check {
                remedy: "only words and vectors find them".to_owned(),
                ..check("nodes without an edge", &self.orphans, id)
            },
            Check {
                remedy: format!("`weir memory prune` keeps the best {DEGREE_MAX} edges of each"),
                ..check("hubs", &self.hubs, hub)
            },
            Check {
                remedy: "a prompt takes one of them; remove the other where it is not wanted"
                    .to_owned(),
                ..check("near duplicates", &self.twins, pair)
            },
        ]
    }
}

/// Whether a summary was made from something else than its source says now. Where its edge does not say what it was made from,
/// any later write at the source counts.
fn is_stale(snapshot: &Snapshot, edge: &Edge) -> Result<bool, ReadError> {
    let summary = snapshot.node(edge.src)?;
    if summary.is_none_or(|node| node.node_type != NodeType::Summary) {
        return Ok(false);
    }
    let Some(source) = snapshot.node(edge.dst)? else {
        return Ok(true);
    };
    Ok(match &edge.metadata.source_digest {
        Some(digest) => *digest != source.digest(),
        None => source.stamp > snapshot.stamp(edge.src)?,
    })
}

fn check<T>(name: &str, found: &[T], words: impl Fn(&T) -> String) -> Check {
    Check {
        name: name.to_owned(),
        found: found.len(),
        examples: found.iter().take(EXAMPLES_MAX).map(words).collect(),
        ..Check::default()
    }
}
