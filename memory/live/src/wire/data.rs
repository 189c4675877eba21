//! Nodes, edges, hits and filters as messages, both directions of each.

use bytes::Bytes;
use weir_memory::{
    Access, EdgeMetadata, Filter, Hit, Metadata, NewEdge, NewNode, Node, NodeId, NodeType,
    RecallLimits, Recalled, UnknownName,
};
use weir_proto::memory::v1;

use super::Read;

/// A message that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// A part that every message of its kind has.
    #[error("the message has no {0}")]
    Missing(&'static str),
    /// An id of another length.
    #[error("an id has {0} bytes, not 16")]
    Id(usize),
    /// A name that this version does not know.
    #[error(transparent)]
    Name(#[from] UnknownName),
}

impl BadMessage {
    pub(super) fn missing(part: &'static str) -> Self {
        Self::Missing(part)
    }
}

pub(super) fn id(id: NodeId) -> Bytes {
    Bytes::copy_from_slice(&id.as_u128().to_be_bytes())
}

pub(super) fn read_id(bytes: &[u8]) -> Read<NodeId> {
    let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| BadMessage::Id(bytes.len()))?;
    Ok(NodeId::from_u128(u128::from_be_bytes(bytes)))
}

/// A bound that travels in 32 bits.
pub(super) fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// A count that was sent.
pub(super) fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

pub(super) fn filter(filter: Filter) -> v1::Filter {
    let types = filter.types.into_iter();
    v1::Filter {
        tenant: filter.tenant,
        domains: filter.domains,
        types: types.map(|kind| kind.as_str().to_owned()).collect(),
    }
}

pub(super) fn read_filter(message: Option<v1::Filter>) -> Read<Filter> {
    let message = message.ok_or(BadMessage::missing("filter"))?;
    let types = message.types.iter().map(|name| name.parse::<NodeType>());
    Ok(Filter {
        tenant: message.tenant,
        domains: message.domains,
        types: types.collect::<Result<_, _>>()?,
        hidden: Vec::new(),
    })
}

pub(super) fn limits(limits: RecallLimits) -> v1::Limits {
    v1::Limits {
        seeds: number(limits.seeds),
        hops: u32::from(limits.hops),
        nodes_max: number(limits.nodes_max),
    }
}

pub(super) fn read_limits(message: Option<v1::Limits>) -> Read<RecallLimits> {
    let message = message.ok_or(BadMessage::missing("limits"))?;
    Ok(RecallLimits {
        seeds: message.seeds as usize,
        hops: u8::try_from(message.hops).unwrap_or(u8::MAX),
        nodes_max: message.nodes_max as usize,
    })
}

pub(super) fn access(access: Access) -> v1::Access {
    v1::Access {
        tenant: access.tenant,
        admin: access.admin,
    }
}

pub(super) fn read_access(message: Option<v1::Access>) -> Read<Access> {
    let message = message.ok_or(BadMessage::missing("access"))?;
    Ok(Access {
        tenant: message.tenant,
        admin: message.admin,
    })
}

pub(super) fn hit(hit: &Hit) -> v1::Hit {
    v1::Hit {
        id: id(hit.id),
        cosine: hit.cosine,
        bm25: hit.bm25,
        strength: hit.strength,
    }
}

pub(super) fn read_hit(message: &v1::Hit) -> Read<Hit> {
    Ok(Hit {
        id: read_id(&message.id)?,
        cosine: message.cosine,
        bm25: message.bm25,
        strength: message.strength,
    })
}

pub(super) fn recalled(recalled: &Recalled) -> v1::Recalled {
    v1::Recalled {
        id: id(recalled.id),
        score: recalled.score,
        cosine: recalled.cosine,
        depth: u32::from(recalled.depth),
    }
}

pub(super) fn read_recalled(message: &v1::Recalled) -> Read<Recalled> {
    Ok(Recalled {
        id: read_id(&message.id)?,
        score: message.score,
        cosine: message.cosine,
        depth: u8::try_from(message.depth).unwrap_or(u8::MAX),
    })
}

pub(super) fn node(node: Node) -> v1::Node {
    v1::Node {
        id: id(node.id),
        tenant: node.tenant,
        text: node.text,
        r#type: node.node_type.as_str().to_owned(),
        source: node.source.as_str().to_owned(),
        metadata: Some(metadata(node.metadata)),
        stamp: node.stamp,
    }
}

pub(super) fn read_nodes(messages: Vec<v1::Node>) -> Read<Vec<Node>> {
    messages.into_iter().map(read_node).collect()
}

fn read_node(message: v1::Node) -> Read<Node> {
    Ok(Node {
        id: read_id(&message.id)?,
        tenant: message.tenant,
        text: message.text,
        node_type: message.r#type.parse()?,
        source: message.source.parse()?,
        metadata: read_metadata(message.metadata),
        stamp: message.stamp,
    })
}

pub(super) fn new_node(node: NewNode) -> v1::NewNode {
    v1::NewNode {
        id: id(node.id),
        tenant: node.tenant,
        text: node.text,
        r#type: node.node_type.as_str().to_owned(),
        source: node.source.as_str().to_owned(),
        metadata: Some(metadata(node.metadata)),
        vector: node.vector.map(|values| v1::Vector { values }),
    }
}

pub(super) fn read_new_node(message: v1::NewNode) -> Read<NewNode> {
    Ok(NewNode {
        id: read_id(&message.id)?,
        tenant: message.tenant,
        text: message.text,
        node_type: message.r#type.parse()?,
        source: message.source.parse()?,
        metadata: read_metadata(message.metadata),
        vector: message.vector.map(|vector| vector.values),
    })
}

fn metadata(metadata: Metadata) -> v1::Metadata {
    v1::Metadata {
        timestamp_ms: metadata.timestamp,
        tags: metadata.tags,
        language: metadata.language,
        domain: metadata.domain,
        version: metadata.version,
        score: metadata.score,
        subject: metadata.subject,
        title: metadata.title,
        uri: metadata.uri,
    }
}

fn read_metadata(message: Option<v1::Metadata>) -> Metadata {
    let message = message.unwrap_or_default();
    Metadata {
        timestamp: message.timestamp_ms,
        tags: message.tags,
        language: message.language,
        domain: message.domain,
        version: message.version,
        score: message.score,
        subject: message.subject,
        title: message.title,
        uri: message.uri,
    }
}

pub(super) fn edge(edge: NewEdge) -> v1::Edge {
    v1::Edge {
        src: id(edge.src),
        dst: id(edge.dst),
        rel: edge.rel,
        weight: edge.weight,
        timestamp_ms: edge.metadata.timestamp,
        created_by: edge.metadata.created_by,
        confidence: edge.metadata.confidence,
        evidence: edge.metadata.evidence,
        source_digest: edge.metadata.source_digest,
    }
}

pub(super) fn read_edge(message: v1::Edge) -> Read<NewEdge> {
    Ok(NewEdge {
        src: read_id(&message.src)?,
        dst: read_id(&message.dst)?,
        rel: message.rel,
        weight: message.weight,
        metadata: EdgeMetadata {
            timestamp: message.timestamp_ms,
            created_by: message.created_by,
            confidence: message.confidence,
            evidence: message.evidence,
            source_digest: message.source_digest,
        },
    })
}
