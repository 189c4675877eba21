//! What a transaction will write: decided from the rows that it read, as the embedded store decides.
//!
//! Pure: nothing here asks a server. What carries it out is `write.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use neo4rs::BoltType;
use weir_memory::{
    Access, Edge, EdgeId, EdgeMetadata, Metadata, NewEdge, NewNode, Node, NodeId, NodeType,
    WriteError, outside,
};

use super::Done;
use crate::neo4j::map;
use crate::row::{self, Stored};

/// Source, target and relation.
pub(super) type EdgeKey = (NodeId, NodeId, String);

/// What is stored, as far as an edit looks at it, and as it will be.
#[derive(Default)]
pub(super) struct View {
    pub(super) nodes: HashMap<NodeId, Stored>,
    pub(super) edges: HashMap<EdgeKey, Edge>,
}

impl View {
    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(|stored| &stored.node)
    }
}

/// A row to be written.
pub(super) struct Row {
    pub(super) new: NewNode,
    pub(super) metadata: Metadata,
    pub(super) vector: Option<Vec<f32>>,
    pub(super) vector_sum: Option<i64>,
    pub(super) bare: bool,
    /// Whether its content changed, and not only its vector.
    pub(super) stamped: bool,
}

impl Row {
    pub(super) fn parameter(&self) -> BoltType {
        let vector = (self.vector.as_deref(), self.vector_sum);
        map([
            ("id", self.new.id.to_string().into()),
            (
                "properties",
                row::properties(&self.new, &self.metadata, vector),
            ),
            ("stamped", self.stamped.into()),
        ])
    }
}

/// What a transaction will write.
pub(super) struct Decided {
    pub(super) version: i64,
    /// Unix time in milliseconds.
    pub(super) now: u64,
    pub(super) removed: BTreeSet<NodeId>,
    /// Nodes whose content changed.
    pub(super) changed: BTreeSet<NodeId>,
    pub(super) rows: BTreeMap<NodeId, Row>,
    pub(super) edges: BTreeMap<EdgeKey, Edge>,
    /// Ends of changed knowledge edges.
    pub(super) stamped: BTreeSet<NodeId>,
    pub(super) done: Done,
}

impl Decided {
    pub(super) fn new(version: i64) -> Self {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
        let elapsed = elapsed.unwrap_or_default().as_millis();
        Self {
            version,
            now: u64::try_from(elapsed).unwrap_or(u64::MAX),
            removed: BTreeSet::new(),
            changed: BTreeSet::new(),
            rows: BTreeMap::new(),
            edges: BTreeMap::new(),
            stamped: BTreeSet::new(),
            done: Done::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.rows.is_empty() && self.edges.is_empty()
    }

    pub(super) fn remove(&mut self, id: NodeId, view: &mut View) {
        self.removed.insert(id);
        view.nodes.remove(&id);
        (view.edges).retain(|(src, dst, _), _| *src != id && *dst != id);
    }

    pub(super) fn put_node(
        &mut self,
        access: Option<&Access>,
        new: &NewNode,
        view: &mut View,
    ) -> Result<(), WriteError> {
        let before = view.nodes.get(&new.id);
        if let Some(access) = access {
            access.check_put(new, before.map(|stored| &stored.node))?;
        }
        let unit = new.vector.as_deref().and_then(outside::normalised);
        let sum = unit.as_deref().map(row::sum);
        let written = &mut self.done.written;
        let unchanged = before.is_some_and(|before| new.is_stored_as(&before.node));
        match before {
            Some(_) if unchanged => written.unchanged += 1,
            Some(_) => {
                written.updated += 1;
                self.changed.insert(new.id);
            }
            None => written.inserted += 1,
        }
        let same_vector =
            sum.is_none() || before.is_some_and(|before| before.vector_sum == sum && !before.bare);
        if unchanged && same_vector {
            return Ok(());
        }
        let known = before.and_then(|before| before.node.metadata.timestamp);
        let metadata = Metadata {
            timestamp: (new.metadata.timestamp)
                .or(known.filter(|_| unchanged))
                .or(Some(self.now)),
            ..new.metadata.clone()
        };
        let same_text =
            before.is_some_and(|before| before.node.indexed_text() == new.indexed_text());
        let kept = before.filter(|_| same_text && unit.is_none());
        let row = Row {
            vector: kept.map_or(unit, |kept| kept.vector.clone()),
            vector_sum: kept.map_or(sum, |kept| kept.vector_sum),
            bare: kept.map_or(sum.is_none(), |kept| kept.bare),
            stamped: !unchanged || self.rows.get(&new.id).is_some_and(|row| row.stamped),
            metadata,
            new: new.clone(),
        };
        view.nodes.insert(new.id, stored_as(&row, self.version));
        self.rows.insert(new.id, row);
        Ok(())
    }

    pub(super) fn put_edge(
        &mut self,
        access: Option<&Access>,
        (place, new): (usize, &NewEdge),
        view: &mut View,
    ) -> Result<(), WriteError> {
        let ends = [view.node(new.src), view.node(new.dst)];
        if let Some(access) = access {
            access.check_join((place, new), ends)?;
        }
        for (id, end) in [new.src, new.dst].into_iter().zip(ends) {
            if end.is_none() {
                let rel = new.rel.clone();
                return Err(WriteError::UnknownNode { id, rel });
            }
        }
        let is_knowledge = (ends.iter().flatten()).all(|node| node.node_type != NodeType::Trace);
        let key = (new.src, new.dst, new.rel.clone());
        if view
            .edges
            .get(&key)
            .is_some_and(|old| new.is_stored_as(old))
        {
            return Ok(());
        }
        let says_source = match ends {
            [Some(src), Some(dst)] if outside::says_source(src, &new.rel) => {
                outside::check_source(new, [src, dst])?;
                true
            }
            _ => false,
        };
        let edge = Edge {
            id: EdgeId::derived(new.src, new.dst, &new.rel),
            src: new.src,
            dst: new.dst,
            rel: new.rel.clone(),
            weight: new.weight,
            metadata: EdgeMetadata {
                timestamp: new.metadata.timestamp.or(Some(self.now)),
                ..new.metadata.clone()
            },
        };
        if says_source {
            self.stamped.insert(new.src);
        } else if is_knowledge {
            self.stamped.extend([new.src, new.dst]);
        }
        self.done.written.edges += 1;
        view.edges.insert(key.clone(), edge.clone());
        self.edges.insert(key, edge);
        Ok(())
    }
}

/// How a row that is written will be read.
fn stored_as(row: &Row, version: i64) -> Stored {
    Stored {
        node: Node {
            id: row.new.id,
            tenant: row.new.tenant.clone(),
            text: row.new.text.clone(),
            node_type: row.new.node_type,
            source: row.new.source,
            metadata: row.metadata.clone(),
            stamp: 0,
        },
        version,
        bare: row.bare,
        vector: row.vector.clone(),
        vector_sum: row.vector_sum,
        degree: 0,
    }
}
