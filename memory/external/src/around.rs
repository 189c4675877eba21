//! The part of the graph that attention sees: the hits of a search and what they lead to, fetched hop by hop.
//!
//! Of each node the heaviest links are followed, hubs damped, as the embedded store's walk does; what a hop reaches is cut
//! to [`HOP_MAX`] nodes. Within what was fetched, weir-memory's own walk and attention decide.

use std::collections::{HashMap, HashSet};

use neo4rs::query;
use weir_memory::outside::Part;
use weir_memory::{
    Edge, Filter, Node, NodeId, Query, Recall, RecallLimits, SHARED_TENANT, SearchResult,
};
use weir_memory_live::MemoryError;

use crate::error::StoreError;
use crate::neo4j::Broken;
use crate::row;
use crate::search::{Finding, allowed_types};
use crate::store::ExternalMemory;
use crate::write::strange;

/// Links followed from one node in one hop.
const LINKS_MAX: usize = 64;

/// Nodes that one hop adds to what is fetched.
const HOP_MAX: usize = 256;

impl ExternalMemory {
    /// Spreads attention from the hits of a search. The nodes that it found, and their rows by id.
    pub(crate) async fn recall_around(
        &self,
        query: &Query,
        finding: &Finding,
        limits: &RecallLimits,
    ) -> Result<(Recall, HashMap<NodeId, Node>), MemoryError> {
        let SearchResult { hits, .. } = &finding.result;
        let seeds = limits.seeds.min(limits.nodes_max);
        let mut known: Vec<NodeId> = hits.iter().take(seeds).map(|hit| hit.id).collect();
        if known.is_empty() {
            return Ok((Recall::default(), HashMap::new()));
        }
        let mut from = known.clone();
        for _ in 0..limits.hops {
            from = self.reached(&from, &known, &query.filter).await?;
            known.extend(&from);
        }
        let (rows, edges, newest, vectors) = tokio::try_join!(
            self.stored(&known),
            self.edges_among(&known),
            self.newest(),
            self.inner.qdrant.vectors(&known)
        )?;
        let mut nodes = HashMap::with_capacity(rows.len());
        let mut part = Part {
            dimensions: self.inner.config.dimensions,
            nodes: Vec::with_capacity(rows.len()),
            edges,
            newest,
            idf: finding.idf.clone(),
        };
        let mut vectors = vectors;
        for row in rows {
            let vector = vectors.remove(&row.node.id);
            let vector = vector.filter(|(version, _)| *version == row.version);
            let vector = vector.and_then(|(_, vector)| vector);
            nodes.insert(row.node.id, row.node.clone());
            part.nodes.push((row.node, vector, row.degree));
        }
        let recall = part.recall(&self.inner.weights, (query, &finding.result), limits);
        Ok((recall, nodes))
    }

    /// The nodes one step from `from` that are not known and that the filter lets through, heaviest first.
    async fn reached(
        &self,
        from: &[NodeId],
        known: &[NodeId],
        filter: &Filter,
    ) -> Result<Vec<NodeId>, StoreError> {
        if from.is_empty() {
            return Ok(Vec::new());
        }
        let label = &self.inner.label;
        let statement = format!(
            "UNWIND $from AS start MATCH (n:{label} {{id: start}}) \
             CALL {{ WITH n MATCH (n)-[e:{label}]-(m:{label}) \
               WHERE m <> n AND m.tenant IN $tenants AND m.type IN $types \
                 AND (size($domains) = 0 OR m.domain IN $domains) AND NOT m.id IN $hidden \
               WITH m, e.weight / sqrt(COUNT {{ (m)-[:{label}]->() }} + COUNT {{ (m)<-[:{label}]-() }}) AS pull \
               ORDER BY pull DESC, m.id LIMIT {LINKS_MAX} RETURN m.id AS id, pull }} \
             WITH id, sum(pull) AS pull WHERE id IS NOT NULL AND NOT id IN $known \
             RETURN id ORDER BY pull DESC, id LIMIT {HOP_MAX}"
        );
        let types = allowed_types(filter).map(|node_type| node_type.as_str().to_owned());
        let statement = query(&statement)
            .param("from", row::ids(from))
            .param("known", row::ids(known))
            .param("hidden", row::ids(&filter.hidden))
            .param(
                "tenants",
                vec![filter.tenant.clone(), SHARED_TENANT.to_owned()],
            )
            .param("types", types.collect::<Vec<_>>())
            .param("domains", filter.domains.clone());
        let what = "walk the graph";
        let rows = self.inner.neo4j.rows(what, statement).await?;
        let ids: Result<_, Broken> = rows.iter().map(|row| row::id(row, "id")).collect();
        ids.map_err(|broken| strange(what, broken))
    }

    /// Rows by id; one that is gone is missing.
    pub(crate) async fn stored(&self, ids: &[NodeId]) -> Result<Vec<row::Stored>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let (label, what) = (&self.inner.label, "read nodes");
        let returned = row::returned(label);
        let statement =
            format!("UNWIND $ids AS wanted MATCH (n:{label} {{id: wanted}}) {returned}");
        let statement = query(&statement).param("ids", row::ids(ids));
        let rows = self.inner.neo4j.rows(what, statement).await?;
        let stored: Result<_, Broken> = rows.iter().map(row::stored).collect();
        stored.map_err(|broken| strange(what, broken))
    }

    /// The nodes of some hits, in the order of `ids`; one that is gone or was written anew since it was found is missing.
    pub(crate) async fn nodes(
        &self,
        finding: &Finding,
        ids: &[NodeId],
    ) -> Result<Vec<Node>, StoreError> {
        let rows = self.stored(ids).await?.into_iter();
        let same = rows.filter(|row| finding.versions.get(&row.node.id) == Some(&row.version));
        let mut by_id: HashMap<NodeId, Node> = same.map(|row| (row.node.id, row.node)).collect();
        Ok(ids.iter().filter_map(|id| by_id.remove(id)).collect())
    }

    async fn edges_among(&self, ids: &[NodeId]) -> Result<Vec<Edge>, StoreError> {
        let (label, what) = (&self.inner.label, "read edges");
        let statement = format!(
            "UNWIND $ids AS start MATCH (a:{label} {{id: start}})-[e:{label}]->(b:{label}) \
             WHERE b.id IN $ids {}",
            row::EDGES_RETURNED
        );
        let unique: HashSet<NodeId> = ids.iter().copied().collect();
        let statement = query(&statement).param("ids", row::ids(&unique));
        let rows = self.inner.neo4j.rows(what, statement).await?;
        let edges: Result<_, Broken> = rows.iter().map(row::edge).collect();
        edges.map_err(|broken| strange(what, broken))
    }

    /// Time of the newest node in Unix milliseconds; 0 when there is none.
    async fn newest(&self) -> Result<u64, StoreError> {
        let (label, what) = (&self.inner.label, "read the newest time");
        let statement = format!(
            "MATCH (n:{label}) WHERE n.time >= 0 RETURN n.time AS time ORDER BY n.time DESC LIMIT 1"
        );
        let rows = self.inner.neo4j.rows(what, query(&statement)).await?;
        let time = rows.first().map(|row| row.get::<Option<i64>>("time"));
        let time = time
            .transpose()
            .map_err(|error| strange(what, error.into()))?;
        Ok(time
            .flatten()
            .and_then(|time| u64::try_from(time).ok())
            .unwrap_or(0))
    }
}
