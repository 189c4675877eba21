//! What a memory promises to those who use it.

mod python_docs;
