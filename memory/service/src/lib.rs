//! The memory service: one process that owns a store and its embedder.
