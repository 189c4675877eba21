//! ruvector-core in the benchmark of nearest neighbours: its HNSW index as such, and the database around it.
//!
//! Behind the cargo feature `ruvector`, because it brings two dozen crates that nothing else needs. Both run in this process
//! on the calling thread. Neither is asked to delete: the index as such only forgets the name of what was deleted.

use anyhow::Context;
use ruvector_core::index::VectorIndex;
use ruvector_core::index::hnsw::HnswIndex;
use ruvector_core::types::{DbOptions, HnswConfig};
use ruvector_core::{DistanceMetric, SearchQuery, VectorDB, VectorEntry};
use std::path::Path;

/// What is named with the results.
pub const VERSION: &str = "2.4.0";

/// One of the two.
pub enum RuVector {
    /// Vectors and links in memory only.
    Index(HnswIndex),
    /// With a file, and an index that is built again at every open.
    Database(VectorDB),
}

impl RuVector {
    /// The index over `vectors`, whose places are their names.
    ///
    /// # Errors
    /// Its own.
    pub fn index(vectors: &[Vec<f32>], config: HnswConfig) -> anyhow::Result<Self> {
        let dimensions = vectors.first().context("no vectors")?.len();
        let mut index = HnswIndex::new(dimensions, DistanceMetric::Cosine, config)?;
        for (place, vector) in vectors.iter().enumerate() {
            index.add(place.to_string(), vector.clone())?;
        }
        Ok(Self::Index(index))
    }

    /// The database in `file` with the same.
    ///
    /// # Errors
    /// Its own.
    pub fn database(file: &Path, vectors: &[Vec<f32>], config: HnswConfig) -> anyhow::Result<Self> {
        let database = VectorDB::new(DbOptions {
            dimensions: vectors.first().context("no vectors")?.len(),
            distance_metric: DistanceMetric::Cosine,
            storage_path: file.display().to_string(),
            hnsw_config: Some(config),
            quantization: None,
        })?;
        let entries: Vec<VectorEntry> = (vectors.iter().enumerate())
            .map(|(place, vector)| VectorEntry {
                id: Some(place.to_string()),
                vector: vector.clone(),
                metadata: None,
            })
            .collect();
        database.insert_batch(entries)?;
        Ok(Self::Database(database))
    }

    /// Places of the `k` nearest.
    ///
    /// # Errors
    /// Its own.
    pub fn nearest(&self, query: &[f32], k: usize, ef: usize) -> anyhow::Result<Vec<usize>> {
        let found = match self {
            Self::Index(index) => index.search_with_ef(query, k, ef)?,
            Self::Database(database) => database.search(SearchQuery {
                vector: query.to_vec(),
                k,
                filter: None,
                ef_search: Some(ef),
            })?,
        };
        let places = found.iter().map(|found| found.id.parse());
        Ok(places.collect::<Result<_, _>>()?)
    }
}
