//! The format of an export: JSON Lines, one header, then a node, an edge or a document a line.
//!
//! Owns the shape of the lines and nothing else. A line says what it is by its only key:
//! `{"memory": {...}}`, `{"node": {...}}`, `{"edge": {...}}`, `{"document": {...}}`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::node::{EdgeMetadata, Metadata, NodeId, NodeSource, NodeType};

/// Version of the lines below.
pub(super) const FORMAT: u32 = 1;

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    Memory(Header),
    Node(NodeLine<'a>),
    Edge(EdgeLine<'a>),
    Document(DocumentLine<'a>),
}

/// The first line: whose vectors these are, and how many lines of each kind follow.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: u32,
    pub(super) dimensions: usize,
    pub(super) embedding_model: String,
    /// Number of the last write that the export has seen.
    #[serde(default)]
    pub(super) generation: u64,
    pub(super) nodes: u64,
    pub(super) edges: u64,
    #[serde(default)]
    pub(super) documents: u64,
}

/// A node with its vector, where it has one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeLine<'a> {
    pub(super) id: NodeId,
    pub(super) tenant: Cow<'a, str>,
    #[serde(rename = "type", default)]
    pub(super) node_type: NodeType,
    #[serde(default)]
    pub(super) source: NodeSource,
    pub(super) text: Cow<'a, str>,
    #[serde(default)]
    pub(super) metadata: Cow<'a, Metadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) vector: Option<Vector>,
}

/// An edge.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EdgeLine<'a> {
    pub(super) src: NodeId,
    pub(super) dst: NodeId,
    pub(super) rel: Cow<'a, str>,
    pub(super) weight: f32,
    #[serde(default)]
    pub(super) metadata: Cow<'a, EdgeMetadata>,
}

/// Which nodes are the passages of a document, so that reading it in again changes nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentLine<'a> {
    pub(super) tenant: Cow<'a, str>,
    pub(super) key: Cow<'a, str>,
    pub(super) passages: Cow<'a, [NodeId]>,
}

/// A vector: base64 of little-endian `f32`, which loses no bit; read also as a list of numbers.
pub(super) struct Vector(pub(super) Vec<f32>);

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self
            .0
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a vector as base64 or as a list of numbers")]
        enum Written {
            Text(String),
            Numbers(Vec<f32>),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Numbers(values) => return Ok(Self(values)),
            Written::Text(text) => text,
        };
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        let (values, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            let what = format!(
                "a vector of {} bytes is no list of 32-bit numbers",
                bytes.len()
            );
            return Err(serde::de::Error::custom(what));
        }
        Ok(Self(
            values
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
        ))
    }
}
