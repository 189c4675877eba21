//! Points follow rows: what a mark says is behind is written to Qdrant, and the mark goes last.
//!
//! One at a time in this process. A mark is taken away only where the row is still of the version whose point was
//! written, a point is removed only where it is not newer than the removal: so whatever ends in between, or comes in
//! between, is done again and nothing is undone.

use std::collections::{HashMap, HashSet};

use neo4rs::{BoltType, query};
use qdrant_client::qdrant::{
    DenseVector, NamedVectors, PointStruct, SparseVector, Value, Vector, Vectors, vector, vectors,
};
use weir_memory::{NodeId, outside};

use crate::error::StoreError;
use crate::neo4j::{Broken, map};
use crate::qdrant::{DENSE, Gone, WORDS, point_id};
use crate::row::{self, Stored};
use crate::store::ExternalMemory;
use crate::write::strange;

/// Rows that follow together.
const BATCH: usize = 256;

impl ExternalMemory {
    /// Lets the points of these nodes follow.
    pub(crate) async fn follow(&self, ids: &[NodeId]) -> Result<(), StoreError> {
        for ids in ids.chunks(BATCH) {
            let _one_at_a_time = self.inner.following.lock().await;
            self.follow_some(Some(ids)).await?;
        }
        Ok(())
    }

    /// Lets every point follow.
    pub(crate) async fn follow_all(&self) -> Result<(), StoreError> {
        loop {
            let _one_at_a_time = self.inner.following.lock().await;
            if self.follow_some(None).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Lets some points follow: those of `ids`, or of the first that are behind. How many did.
    async fn follow_some(&self, ids: Option<&[NodeId]>) -> Result<usize, StoreError> {
        let gone = self.gone(ids).await?;
        self.inner.qdrant.remove(&gone).await?;
        self.forget_gone(&gone).await?;
        let pending = self.pending(ids).await?;
        let kept = self.kept_vectors(&pending).await?;
        let points = pending.iter().map(|row| point(row, kept.get(&row.node.id)));
        self.inner.qdrant.upsert(points.collect()).await?;
        let lost: HashSet<NodeId> = (pending.iter())
            .filter(|row| !row.bare && row.vector.is_none())
            .filter(|row| !kept.contains_key(&row.node.id))
            .map(|row| row.node.id)
            .collect();
        self.clear(&pending, &lost).await?;
        Ok(gone.len() + pending.len())
    }

    async fn gone(&self, ids: Option<&[NodeId]>) -> Result<Vec<Gone>, StoreError> {
        let mark = format!("{}_gone", self.inner.label);
        let statement = marked((&mark, &mark), ids, "n.id AS id, n.version AS version");
        let what = "look for removed nodes";
        let rows = self.inner.neo4j.rows(what, statement).await?;
        let gone = rows.iter().map(|row| {
            let (id, version) = (row::id(row, "id")?, row.get("version")?);
            Ok(Gone { id, version })
        });
        let gone: Result<_, Broken> = gone.collect();
        gone.map_err(|broken| strange(what, broken))
    }

    async fn forget_gone(&self, gone: &[Gone]) -> Result<(), StoreError> {
        if gone.is_empty() {
            return Ok(());
        }
        let label = &self.inner.label;
        let rows = gone.iter().map(|gone| versioned(gone.id, gone.version));
        let statement = format!(
            "UNWIND $rows AS r MATCH (g:{label}_gone {{id: r.id}}) WHERE g.version = r.version DELETE g"
        );
        let statement = query(&statement).param("rows", rows.collect::<Vec<_>>());
        let what = "forget removed nodes";
        self.inner.neo4j.rows(what, statement).await.map(drop)
    }

    async fn pending(&self, ids: Option<&[NodeId]>) -> Result<Vec<Stored>, StoreError> {
        let label = &self.inner.label;
        let mark = format!("{label}_pending");
        let statement = marked((&mark, label), ids, &row::columns(label));
        let what = "look for pending nodes";
        let rows = self.inner.neo4j.rows(what, statement).await?;
        let stored: Result<_, Broken> = rows.iter().map(row::stored).collect();
        stored.map_err(|broken| strange(what, broken))
    }

    /// Vectors that stay as they are in points that are written anew.
    async fn kept_vectors(
        &self,
        pending: &[Stored],
    ) -> Result<HashMap<NodeId, Vec<f32>>, StoreError> {
        let wanted = pending.iter();
        let wanted = wanted.filter(|row| !row.bare && row.vector.is_none());
        let wanted: Vec<NodeId> = wanted.map(|row| row.node.id).collect();
        let found = self.inner.qdrant.vectors(&wanted).await?;
        let found = found.into_iter();
        Ok(found
            .filter_map(|(id, (_, vector))| Some((id, vector?)))
            .collect())
    }

    /// Takes the marks away; nodes whose vector is nowhere wait for another.
    async fn clear(&self, pending: &[Stored], lost: &HashSet<NodeId>) -> Result<(), StoreError> {
        let label = &self.inner.label;
        for (is_lost, more) in [(false, ""), (true, "SET n:{}_bare REMOVE n.vector_sum")] {
            let rows: Vec<BoltType> = (pending.iter())
                .filter(|row| lost.contains(&row.node.id) == is_lost)
                .map(|row| versioned(row.node.id, row.version))
                .collect();
            if rows.is_empty() {
                continue;
            }
            let more = more.replace("{}", label);
            let statement = format!(
                "UNWIND $rows AS r MATCH (n:{label} {{id: r.id}}) WHERE n.version = r.version \
                 REMOVE n:{label}_pending, n.vector, n.since {more}"
            );
            let statement = query(&statement).param("rows", rows);
            self.inner.neo4j.rows("clear marks", statement).await?;
        }
        Ok(())
    }
}

/// The nodes with a mark that are among `ids`, found by `keyed`, or the first of all.
fn marked((mark, keyed): (&str, &str), ids: Option<&[NodeId]>, columns: &str) -> neo4rs::Query {
    match ids {
        Some(ids) => {
            let statement = format!(
                "UNWIND $ids AS wanted MATCH (n:{keyed} {{id: wanted}}) WHERE n:{mark} RETURN {columns}"
            );
            query(&statement).param("ids", row::ids(ids))
        }
        None => query(&format!("MATCH (n:{mark}) RETURN {columns} LIMIT {BATCH}")),
    }
}

fn versioned(id: NodeId, version: i64) -> BoltType {
    map([("id", id.to_string().into()), ("version", version.into())])
}

/// The point of a row.
fn point(row: &Stored, kept: Option<&Vec<f32>>) -> PointStruct {
    let node = &row.node;
    let (indices, values) = outside::sparse(&node.indexed_text()).into_iter().unzip();
    let words = vector::Vector::Sparse(SparseVector { values, indices });
    let mut named = HashMap::from([(WORDS.to_owned(), vector_of(words))]);
    if let Some(dense) = row.vector.as_ref().or(kept) {
        let dense = vector::Vector::Dense(DenseVector {
            data: dense.clone(),
        });
        named.insert(DENSE.to_owned(), vector_of(dense));
    }
    let mut payload: HashMap<String, Value> = HashMap::from([
        ("tenant".to_owned(), node.tenant.as_str().into()),
        ("type".to_owned(), node.node_type.as_str().into()),
        ("version".to_owned(), row.version.into()),
    ]);
    if let Some(domain) = &node.metadata.domain {
        payload.insert("domain".to_owned(), domain.as_str().into());
    }
    PointStruct {
        id: Some(point_id(node.id)),
        payload,
        vectors: Some(Vectors {
            vectors_options: Some(vectors::VectorsOptions::Vectors(NamedVectors {
                vectors: named,
            })),
        }),
    }
}

fn vector_of(vector: vector::Vector) -> Vector {
    Vector {
        vector: Some(vector),
        ..Vector::default()
    }
}
