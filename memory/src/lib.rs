//! The world model: nodes, edges, search, attention, context, ingest.
