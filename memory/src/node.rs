//! Nodes and edges: what a memory holds, as plain data.
//!
//! Owns the shapes and the identities derived from content. No storage, no index: `store.rs` keeps
//! these, and never hands out a shape that is not defined here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::{Uuid, uuid};

/// The tenant whose nodes every tenant sees.
pub const SHARED_TENANT: &str = "shared";

/// Namespace of every identity that is derived from a name, so that the same document gives the
/// same ids everywhere.
const NAMESPACE: Uuid = uuid!("6d0c5c1e-4b8e-5a0f-9d53-0b7f6f0e2a41");

/// Separates the parts of a name that an identity is derived from; it occurs in no path and no
/// tenant.
const SEPARATOR: char = '\u{1f}';

/// Longest evidence of an edge, in characters: a sentence, not a passage.
pub const EVIDENCE_CHARS_MAX: usize = 320;

/// Identity of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Uuid);

impl NodeId {
    /// A fresh identity.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The identity of the `part`-th passage at `place` in `tenant`: the same arguments give the
    /// same id (UUID v5).
    pub fn derived(tenant: &str, place: &str, part: usize) -> Self {
        let name = format!("{tenant}{SEPARATOR}{place}{SEPARATOR}{part}");
        Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }

    /// The identity of the summary of these nodes, in whichever order: whoever makes it, it is written once.
    pub fn of_summary(tenant: &str, sources: &[Self]) -> Self {
        let mut sources = sources.to_vec();
        sources.sort_unstable();
        let mut name = format!("{tenant}{SEPARATOR}summary");
        for source in sources {
            name.push(SEPARATOR);
            name.push_str(&source.to_string());
        }
        Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }

    /// The identity as a number, which is how the store orders nodes.
    pub fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// The identity with the number that [`NodeId::as_u128`] gave.
    pub fn from_u128(value: u128) -> Self {
        Self(Uuid::from_u128(value))
    }
}

impl From<Uuid> for NodeId {
    fn from(value: Uuid) -> Self {
        Self(value)
    }
}

impl From<NodeId> for Uuid {
    fn from(value: NodeId) -> Self {
        value.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NodeId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Identity of an edge. One pair of nodes has at most one edge of a relation, so the id follows
/// from the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EdgeId(Uuid);

impl EdgeId {
    /// The identity of the edge `src -rel-> dst`.
    pub fn derived(src: NodeId, dst: NodeId, rel: &str) -> Self {
        let name = format!("{src}{SEPARATOR}{rel}{SEPARATOR}{dst}");
        Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }
}

impl fmt::Display for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What kind of thing a node is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum NodeType {
    /// A passage of a document.
    #[default]
    Doc,
    /// Something a user or an agent asked to remember.
    Memory,
    /// A question with its answer. Recalled only when a filter names this type: an answer is not a
    /// fact.
    Trace,
    /// What a tool returned.
    ToolResult,
    /// A compression of other nodes.
    Summary,
}

impl NodeType {
    /// Every type, in the order of their declaration.
    pub const ALL: [Self; 5] = [
        Self::Doc,
        Self::Memory,
        Self::Trace,
        Self::ToolResult,
        Self::Summary,
    ];

    /// The name that rows, filters and context blocks use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Doc => "doc",
            Self::Memory => "memory",
            Self::Trace => "trace",
            Self::ToolResult => "tool_result",
            Self::Summary => "summary",
        }
    }
}

impl FromStr for NodeType {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == name)
            .ok_or_else(|| UnknownName(name.to_owned()))
    }
}

/// A name that is none of a node's types or sources.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no type or source of a node")]
pub struct UnknownName(pub String);

/// Who a node comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeSource {
    /// A knowledge base: ingested documents.
    #[default]
    Kb,
    /// A person.
    User,
    /// A program acting for a person.
    Agent,
    /// Weir itself.
    System,
}

impl NodeSource {
    /// Every source, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Kb, Self::User, Self::Agent, Self::System];

    /// The name that rows use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kb => "kb",
            Self::User => "user",
            Self::Agent => "agent",
            Self::System => "system",
        }
    }
}

impl FromStr for NodeSource {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let mut all = Self::ALL.into_iter();
        all.find(|source| source.as_str() == name)
            .ok_or_else(|| UnknownName(name.to_owned()))
    }
}

/// What is known about a node beside its text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Unix time in milliseconds. `None` in a new node means the time of writing; a stored node
    /// always has one.
    pub timestamp: Option<u64>,
    /// Free labels, shown with the node in a prompt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// BCP 47 language tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Field of knowledge; filters select by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Version of the thing described.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A quality given from outside, such as a user's vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// The person or thing the node is about; what erasure selects by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Heading of the passage; searched together with the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where the text stands: a path or address, with the anchor of its section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// A node as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Identity.
    pub id: NodeId,
    /// Who owns it; nodes of [`SHARED_TENANT`] are seen by all.
    pub tenant: String,
    /// The text itself, without the title.
    pub text: String,
    /// Kind of node.
    pub node_type: NodeType,
    /// Who it comes from.
    pub source: NodeSource,
    /// What else is known.
    pub metadata: Metadata,
    /// Grows with every change of the content and of a knowledge edge at this node, and with
    /// nothing else: caches of answers that used the node are keyed by it.
    pub stamp: u64,
}

impl Node {
    /// What the indexes see: the title line, if there is one, then the text.
    pub fn indexed_text(&self) -> String {
        indexed_text(&self.metadata, &self.text)
    }

    /// A digest of its title and text: the same on every machine (UUID v5).
    pub fn digest(&self) -> String {
        Uuid::new_v5(&NAMESPACE, self.indexed_text().as_bytes()).to_string()
    }
}

/// A node to be written. An existing node of the same id is replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct NewNode {
    /// Identity; [`NodeId::random`] for something new.
    pub id: NodeId,
    /// Owner.
    pub tenant: String,
    /// The text, without the title.
    pub text: String,
    /// Kind of node.
    pub node_type: NodeType,
    /// Who it comes from.
    pub source: NodeSource,
    /// What else is known.
    pub metadata: Metadata,
    /// The embedding of [`NewNode::indexed_text`], of the store's dimensions and any length; `None`
    /// leaves the node pending until [`crate::Memory::set_vectors`].
    pub vector: Option<Vec<f32>>,
}

impl NewNode {
    /// A document passage from a knowledge base with a fresh id; change the fields that differ.
    pub fn new(tenant: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: NodeId::random(),
            tenant: tenant.into(),
            text: text.into(),
            node_type: NodeType::default(),
            source: NodeSource::default(),
            metadata: Metadata::default(),
            vector: None,
        }
    }

    /// What the indexes will see: the title line, if there is one, then the text.
    pub fn indexed_text(&self) -> String {
        indexed_text(&self.metadata, &self.text)
    }

    /// Whether writing it would change nothing: equal in all but the time, unless it states one. Vectors do not count.
    pub fn is_stored_as(&self, stored: &Node) -> bool {
        let timestamp = self.metadata.timestamp.or(stored.metadata.timestamp);
        stored.tenant == self.tenant
            && stored.text == self.text
            && stored.node_type == self.node_type
            && stored.source == self.source
            && stored.metadata
                == Metadata {
                    timestamp,
                    ..self.metadata.clone()
                }
    }
}

fn indexed_text(metadata: &Metadata, text: &str) -> String {
    match metadata.title.as_deref() {
        Some(title) if !title.is_empty() => format!("{title}\n{text}"),
        _ => text.to_owned(),
    }
}

/// What is known about an edge beside its weight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EdgeMetadata {
    /// Unix time in milliseconds. `None` in a new edge means the time of writing.
    pub timestamp: Option<u64>,
    /// Who made it: `ingest`, `router`, `agent`, `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// How sure its maker was, 0 to 1; absent means sure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// The sentence that carries the link or the mention, at most [`EVIDENCE_CHARS_MAX`] characters; absent where no sentence
    /// says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// [`Node::digest`] of what a summary was made from, on its edge to that. A write whose source says something else by then
    /// is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<String>,
}

/// An edge as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Identity, derived from the two ends and the relation.
    pub id: EdgeId,
    /// Where it starts.
    pub src: NodeId,
    /// Where it ends.
    pub dst: NodeId,
    /// Relation: an open vocabulary (`hyperlink`, `follows`, `mentions`, `entity`, `cites`,
    /// `same_topic`, `agent_step`, ...).
    pub rel: String,
    /// Strength, above zero.
    pub weight: f32,
    /// What else is known.
    pub metadata: EdgeMetadata,
}

/// An edge to be written. An existing edge of the same ends and relation is replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEdge {
    /// Where it starts; must exist or be in the same batch.
    pub src: NodeId,
    /// Where it ends; must exist or be in the same batch.
    pub dst: NodeId,
    /// Relation.
    pub rel: String,
    /// Strength, finite and above zero.
    pub weight: f32,
    /// What else is known.
    pub metadata: EdgeMetadata,
}

impl NewEdge {
    /// An edge of weight 1.
    pub fn new(src: NodeId, dst: NodeId, rel: impl Into<String>) -> Self {
        Self {
            src,
            dst,
            rel: rel.into(),
            weight: 1.0,
            metadata: EdgeMetadata::default(),
        }
    }

    /// Whether writing it would change nothing: equal in all but the time, unless it states one.
    pub fn is_stored_as(&self, stored: &Edge) -> bool {
        let timestamp = self.metadata.timestamp.or(stored.metadata.timestamp);
        stored.weight == self.weight
            && stored.metadata
                == EdgeMetadata {
                    timestamp,
                    ..self.metadata.clone()
                }
    }
}
