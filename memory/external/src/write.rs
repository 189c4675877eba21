//! Writing: one transaction in Neo4j, then the points of what it wrote.
//!
//! The transaction holds the store's node, so that one is done after the other, reads the rows that it is about, decides
//! as the embedded store does what changes (`write/decided.rs`), and writes that. A row is marked pending in the
//! transaction that writes it; a removed one leaves a mark of its own.

mod decided;

use std::collections::BTreeSet;

use neo4rs::{BoltType, query};
use weir_memory::upkeep::Erased;
use weir_memory::{
    Access, Edge, NewEdge, NewNode, NodeId, SUMMARISES, WriteError, Written, outside,
};
use weir_memory_live::MemoryError;

use crate::error::{Server, StoreError};
use crate::neo4j::{Broken, Transaction, map};
use crate::row;
use crate::store::ExternalMemory;
use decided::{Decided, Row, View};

/// Everything that one transaction does, in this order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edit {
    /// On whose behalf; `None` for this process itself, which may do everything.
    pub(crate) access: Option<Access>,
    /// Nodes to remove, with their edges.
    pub(crate) remove: Vec<NodeId>,
    /// A subject to erase, in one tenant or in all.
    pub(crate) erase: Option<(String, Option<String>)>,
    /// Nodes to write.
    pub(crate) nodes: Vec<NewNode>,
    /// Edges to write.
    pub(crate) edges: Vec<NewEdge>,
}

/// What a transaction did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) written: Written,
    pub(crate) erased: Erased,
    /// Nodes whose points must follow.
    pub(crate) touched: Vec<NodeId>,
}

impl ExternalMemory {
    /// Performs an edit, durable when it returns, and lets the points follow where that can be had now.
    pub(crate) async fn edit(&self, edit: &Edit) -> Result<Done, MemoryError> {
        self.check_open()?;
        for node in &edit.nodes {
            outside::check_node(node, self.inner.config.dimensions)?;
        }
        for edge in &edit.edges {
            outside::check_edge(edge)?;
        }
        let work = || self.perform(edit);
        let done = self.inner.neo4j.transact("write", work).await??;
        self.wrote(done.written.generation);
        if self.state().away.is_none() {
            match self.follow(&done.touched).await {
                Ok(()) => return Ok(done),
                Err(error) => tracing::debug!("points follow later: {error}"),
            }
        }
        self.wake();
        Ok(done)
    }

    /// As [`ExternalMemory::edit`], for values that were checked; a refusal keeps its kind.
    pub(crate) async fn edit_unchecked(&self, edit: &Edit) -> Result<Done, WriteError> {
        let elsewhere = |error: StoreError| WriteError::Elsewhere(error.to_string());
        let work = || self.perform(edit);
        let done = self.inner.neo4j.transact("write", work).await;
        let done = done.map_err(elsewhere)??;
        self.follow(&done.touched).await.map_err(elsewhere)?;
        Ok(done)
    }

    /// As [`ExternalMemory::edit`] for a subject, answered when its points are gone too.
    pub(crate) async fn erase_all(&self, edit: &Edit) -> Result<Erased, MemoryError> {
        let done = self.edit(edit).await?;
        self.follow_all().await.map_err(|error| {
            MemoryError::Away(format!(
                "{error}: the rows are erased, their vectors will be when it answers; ask again for a receipt"
            ))
        })?;
        Ok(done.erased)
    }

    /// Stores vectors. One is ignored when its node is gone or changed since its text was handed out.
    pub(crate) async fn put_vectors(
        &self,
        vectors: &[(NodeId, Vec<f32>)],
    ) -> Result<usize, MemoryError> {
        self.check_open()?;
        let dimensions = self.inner.config.dimensions;
        let mut rows = Vec::with_capacity(vectors.len());
        for (id, vector) in vectors {
            let unit = outside::unit_vector(*id, vector, dimensions)?;
            let version = self.handed_out().remove(id);
            rows.push((*id, unit, version));
        }
        let work = || self.perform_vectors(&rows);
        let stored = self.inner.neo4j.transact("set vectors", work).await??;
        if let Err(error) = self.follow(&stored).await {
            tracing::debug!("points follow later: {error}");
            self.wake();
        }
        Ok(stored.len())
    }

    fn wrote(&self, generation: u64) {
        let mut state = self.state();
        state.generation = state.generation.max(generation);
    }

    async fn perform_vectors(
        &self,
        vectors: &[(NodeId, Vec<f32>, Option<i64>)],
    ) -> Result<Vec<NodeId>, Broken> {
        let label = &self.inner.label;
        let mut open = self.inner.neo4j.begin().await?;
        let generation = self.lock(&mut open).await?;
        let rows: Vec<BoltType> = vectors
            .iter()
            .map(|(id, unit, version)| {
                map([
                    ("id", id.to_string().into()),
                    ("vector", row::vector_text(unit).into()),
                    ("sum", row::sum(unit).into()),
                    ("version", (*version).into()),
                ])
            })
            .collect();
        let statement = format!(
            "UNWIND $rows AS r MATCH (n:{label} {{id: r.id}}) \
             WHERE r.version IS NULL OR (n.version = r.version AND n:{label}_bare) \
             SET n.vector = r.vector, n.vector_sum = r.sum, n.version = $version, n:{label}_pending, \
               n.since = coalesce(n.since, timestamp()) \
             REMOVE n:{label}_bare RETURN n.id AS id"
        );
        let statement = query(&statement)
            .param("rows", rows)
            .param("version", generation + 1);
        let stored = open.rows(statement).await?;
        let stored: Vec<NodeId> = stored
            .iter()
            .map(|row| row::id(row, "id"))
            .collect::<Result<_, _>>()?;
        if !stored.is_empty() {
            self.count(&mut open, generation + 1).await?;
        }
        open.commit().await?;
        Ok(stored)
    }

    async fn perform(&self, edit: &Edit) -> Result<Done, Broken> {
        let mut open = self.inner.neo4j.begin().await?;
        let generation = self.lock(&mut open).await?;
        let mut decided = Decided::new(generation + 1);
        let mut view = self.read(&mut open, edit).await?;
        for id in &edit.remove {
            let stored = view.nodes.get(id).map(|stored| &stored.node);
            let may = match &edit.access {
                Some(access) => access.may_remove(*id, stored)?,
                None => stored.is_some(),
            };
            if may && stored.is_some() {
                decided.done.written.removed += 1;
                decided.remove(*id, &mut view);
            }
        }
        if let Some((subject, tenant)) = &edit.erase {
            self.doom(
                &mut open,
                (subject.as_str(), tenant.as_deref()),
                &mut decided,
            )
            .await?;
        }
        for new in &edit.nodes {
            decided.put_node(edit.access.as_ref(), new, &mut view)?;
        }
        for (place, new) in edit.edges.iter().enumerate() {
            decided.put_edge(edit.access.as_ref(), (place, new), &mut view)?;
        }
        let came: BTreeSet<NodeId> = edit.nodes.iter().map(|node| node.id).collect();
        self.drop_outdated(&mut open, &came, &mut decided).await?;
        let mut done = self.apply(&mut open, decided, generation).await?;
        open.commit().await?;
        done.erased.generation = done.written.generation;
        Ok(done)
    }

    /// Takes the store's node, so that no other write comes in between; the number of the last write.
    async fn lock(&self, open: &mut Transaction) -> Result<i64, Broken> {
        let name = self.inner.config.collection.as_str();
        let take = query("MATCH (s:WeirStore {name: $name}) SET s.writer = 1").param("name", name);
        open.rows(take).await?;
        let read = query("MATCH (s:WeirStore {name: $name}) RETURN s.generation AS generation");
        let rows = open.rows(read.param("name", name)).await?;
        let row = rows.first();
        let row = row.ok_or_else(|| Broken::Strange("the store's node is gone".to_owned()))?;
        Ok(row.get("generation")?)
    }

    async fn count(&self, open: &mut Transaction, generation: i64) -> Result<(), Broken> {
        let statement = query(
            "MATCH (s:WeirStore {name: $name}) SET s.generation = $generation REMOVE s.writer",
        )
        .param("name", self.inner.config.collection.as_str())
        .param("generation", generation);
        open.rows(statement).await.map(drop)
    }

    /// The rows that an edit is about.
    async fn read(&self, open: &mut Transaction, edit: &Edit) -> Result<View, Broken> {
        let label = &self.inner.label;
        let ends = edit.edges.iter().flat_map(|edge| [edge.src, edge.dst]);
        let ids: BTreeSet<NodeId> = (edit.remove.iter().copied())
            .chain(edit.nodes.iter().map(|node| node.id))
            .chain(ends)
            .collect();
        let mut view = View::default();
        if !ids.is_empty() {
            let columns = row::columns(label);
            let statement =
                format!("UNWIND $ids AS id MATCH (n:{label} {{id: id}}) RETURN {columns}");
            let rows = open
                .rows(query(&statement).param("ids", row::ids(&ids)))
                .await?;
            for row in &rows {
                let stored = row::stored(row)?;
                view.nodes.insert(stored.node.id, stored);
            }
        }
        if !edit.edges.is_empty() {
            let keys: Vec<BoltType> = edit.edges.iter().map(edge_key).collect();
            let statement = format!(
                "UNWIND $keys AS r \
                 MATCH (a:{label} {{id: r.src}})-[e:{label} {{rel: r.rel}}]->(b:{label} {{id: r.dst}}) \
                 RETURN r.src AS src, r.dst AS dst, r.rel AS rel, e.weight AS weight, e.meta AS meta"
            );
            let rows = open.rows(query(&statement).param("keys", keys)).await?;
            for row in &rows {
                let edge = row::edge(row)?;
                view.edges
                    .insert((edge.src, edge.dst, edge.rel.clone()), edge);
            }
        }
        Ok(view)
    }

    /// Finds what is about a subject, and the summaries and traces that may repeat it, also by way of other summaries.
    async fn doom(
        &self,
        open: &mut Transaction,
        (subject, tenant): (&str, Option<&str>),
        decided: &mut Decided,
    ) -> Result<(), Broken> {
        let label = &self.inner.label;
        let statement = format!(
            "MATCH (n:{label} {{subject: $subject}}) WHERE $tenant IS NULL OR n.tenant = $tenant \
             RETURN n.id AS id, NOT n:{label}_bare AS has_vector"
        );
        let statement = query(&statement)
            .param("subject", subject)
            .param("tenant", tenant);
        let erased = &mut decided.done.erased;
        let mut fresh = Vec::new();
        for row in &open.rows(statement).await? {
            let id = row::id(row, "id")?;
            erased.nodes += 1;
            erased.vectors += usize::from(row.get::<bool>("has_vector")?);
            decided.removed.insert(id);
            fresh.push(id);
        }
        let statement = format!(
            "UNWIND $ids AS id MATCH (n:{label} {{id: id}})-[e:{label}]-(m:{label}) \
             WHERE m.type = 'trace' OR (m.type = 'summary' AND e.rel = '{SUMMARISES}' AND startNode(e) = m) \
             RETURN DISTINCT m.id AS id, m.type AS type, NOT m:{label}_bare AS has_vector"
        );
        while !fresh.is_empty() {
            let statement = query(&statement).param("ids", row::ids(&fresh));
            fresh.clear();
            for row in &open.rows(statement).await? {
                let id = row::id(row, "id")?;
                if !decided.removed.insert(id) {
                    continue;
                }
                match row.get::<String>("type")?.as_str() {
                    "trace" => erased.traces += 1,
                    _ => erased.summaries += 1,
                }
                erased.vectors += usize::from(row.get::<bool>("has_vector")?);
                fresh.push(id);
            }
        }
        erased.ids = decided.removed.iter().copied().collect();
        erased.erased_at = decided.now;
        Ok(())
    }

    /// Summaries of what changed or goes go too, and the summaries of these. One that came in the same write was made from what
    /// the write brings.
    async fn drop_outdated(
        &self,
        open: &mut Transaction,
        came: &BTreeSet<NodeId>,
        decided: &mut Decided,
    ) -> Result<(), Broken> {
        let label = &self.inner.label;
        let statement = format!(
            "UNWIND $ids AS id MATCH (n:{label} {{id: id}})<-[e:{label} {{rel: '{SUMMARISES}'}}]-(s:{label}) \
             WHERE s.type = 'summary' RETURN DISTINCT s.id AS id"
        );
        let mut fresh: BTreeSet<NodeId> =
            decided.changed.union(&decided.removed).copied().collect();
        while !fresh.is_empty() {
            let statement = query(&statement).param("ids", row::ids(&fresh));
            fresh.clear();
            for row in &open.rows(statement).await? {
                let id = row::id(row, "id")?;
                if !came.contains(&id) && decided.removed.insert(id) {
                    fresh.insert(id);
                }
            }
        }
        Ok(())
    }

    /// Writes what was decided.
    async fn apply(
        &self,
        open: &mut Transaction,
        decided: Decided,
        generation: i64,
    ) -> Result<Done, Broken> {
        let mut done = decided.done.clone();
        if decided.is_empty() {
            done.written.generation = u64::try_from(generation).unwrap_or(0);
            return Ok(done);
        }
        let next = decided.version;
        done.erased.edges = self.apply_removals(open, &decided).await?;
        self.apply_nodes(open, &decided).await?;
        self.apply_edges(open, &decided).await?;
        self.count(open, next).await?;
        done.written.generation = u64::try_from(next).unwrap_or(0);
        let written = decided.rows.into_keys();
        done.touched = written.chain(decided.removed).collect();
        Ok(done)
    }

    /// Removes nodes; how many edges went with them.
    async fn apply_removals(
        &self,
        open: &mut Transaction,
        decided: &Decided,
    ) -> Result<usize, Broken> {
        if decided.removed.is_empty() {
            return Ok(0);
        }
        let label = &self.inner.label;
        let ids = || row::ids(&decided.removed);
        let stamp = format!(
            "UNWIND $ids AS id MATCH (n:{label} {{id: id}})-[e:{label}]-(m:{label}) \
             WHERE n.type <> 'trace' AND m.type <> 'trace' \
               AND NOT (n.type = 'summary' AND e.rel = '{SUMMARISES}' AND startNode(e) = n) SET m.stamp = $version"
        );
        let stamp = query(&stamp).param("ids", ids());
        open.rows(stamp.param("version", decided.version)).await?;
        let edges = format!(
            "UNWIND $ids AS id MATCH (n:{label} {{id: id}})-[e:{label}]-() RETURN count(DISTINCT e) AS edges"
        );
        let rows = open.rows(query(&edges).param("ids", ids())).await?;
        let edges = rows.first().map(|row| row.get::<i64>("edges"));
        let edges = edges.transpose()?.unwrap_or(0);
        let remove = format!(
            "UNWIND $ids AS id MATCH (n:{label} {{id: id}}) DETACH DELETE n \
             MERGE (g:{label}_gone {{id: id}}) \
             SET g.version = $version, g.since = coalesce(g.since, timestamp())"
        );
        let remove = query(&remove).param("ids", ids());
        open.rows(remove.param("version", decided.version)).await?;
        Ok(usize::try_from(edges).unwrap_or(0))
    }

    async fn apply_nodes(&self, open: &mut Transaction, decided: &Decided) -> Result<(), Broken> {
        if decided.rows.is_empty() {
            return Ok(());
        }
        let label = &self.inner.label;
        let rows: Vec<BoltType> = decided.rows.values().map(Row::parameter).collect();
        let statement = format!(
            "UNWIND $rows AS r MERGE (n:{label} {{id: r.id}}) \
             WITH n, r, coalesce(n.since, timestamp()) AS since, coalesce(n.stamp, 0) AS stamp \
             SET n = r.properties, n.version = $version, n.since = since, \
               n.stamp = CASE WHEN r.stamped THEN $version ELSE stamp END, n:{label}_pending \
             WITH n, r \
             OPTIONAL MATCH (g:{label}_gone {{id: r.id}}) DELETE g"
        );
        let statement = query(&statement)
            .param("rows", rows)
            .param("version", decided.version);
        open.rows(statement).await?;
        for (bare, verb) in [(true, "SET"), (false, "REMOVE")] {
            let of = decided.rows.values().filter(|row| row.bare == bare);
            let ids: Vec<NodeId> = of.map(|row| row.new.id).collect();
            if !ids.is_empty() {
                let statement =
                    format!("UNWIND $ids AS id MATCH (n:{label} {{id: id}}) {verb} n:{label}_bare");
                open.rows(query(&statement).param("ids", row::ids(&ids)))
                    .await?;
            }
        }
        Ok(())
    }

    async fn apply_edges(&self, open: &mut Transaction, decided: &Decided) -> Result<(), Broken> {
        let label = &self.inner.label;
        if !decided.edges.is_empty() {
            let rows: Vec<BoltType> = decided.edges.values().map(edge_parameter).collect();
            let statement = format!(
                "UNWIND $rows AS r MATCH (a:{label} {{id: r.src}}) MATCH (b:{label} {{id: r.dst}}) \
                 MERGE (a)-[e:{label} {{rel: r.rel}}]->(b) SET e.weight = r.weight, e.meta = r.meta"
            );
            open.rows(query(&statement).param("rows", rows)).await?;
        }
        if !decided.stamped.is_empty() {
            let statement =
                format!("UNWIND $ids AS id MATCH (n:{label} {{id: id}}) SET n.stamp = $version");
            let statement = query(&statement)
                .param("ids", row::ids(&decided.stamped))
                .param("version", decided.version);
            open.rows(statement).await?;
        }
        Ok(())
    }
}

fn edge_key(edge: &NewEdge) -> BoltType {
    map([
        ("src", edge.src.to_string().into()),
        ("dst", edge.dst.to_string().into()),
        ("rel", edge.rel.as_str().into()),
    ])
}

fn edge_parameter(edge: &Edge) -> BoltType {
    let meta = serde_json::to_string(&edge.metadata).expect("metadata are strings and numbers");
    map([
        ("src", edge.src.to_string().into()),
        ("dst", edge.dst.to_string().into()),
        ("rel", edge.rel.as_str().into()),
        ("weight", f64::from(edge.weight).into()),
        ("meta", meta.into()),
    ])
}

/// An answer that this memory did not write.
pub(crate) fn strange(what: &'static str, broken: Broken) -> StoreError {
    let server = Server::Neo4j;
    match broken {
        Broken::Strange(why) => StoreError::Strange { server, what, why },
        Broken::Refused(error) => StoreError::Strange {
            server,
            what,
            why: error.to_string(),
        },
        Broken::Server(_) => StoreError::Away(server),
    }
}
