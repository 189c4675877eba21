//! The request: surfaces, answer, records.
