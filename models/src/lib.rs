//! Model files: fetch, checksum, progress, GGUF facts.
