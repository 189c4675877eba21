//! Rows: how a node and an edge look in Neo4j.
//!
//! What is searched by stands in properties of its own, the rest of the metadata in one as JSON. A change here needs
//! another [`crate::schema::FORMAT`].

use neo4rs::{BoltType, Row};
use weir_memory::{Edge, EdgeId, EdgeMetadata, Metadata, NewNode, Node, NodeId};

use crate::neo4j::{Broken, map};

/// A node with what is known of its point.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) node: Node,
    /// Grows with every change that its point must follow.
    pub(crate) version: i64,
    /// Whether it waits for a vector.
    pub(crate) bare: bool,
    /// A vector that its point may not have yet.
    pub(crate) vector: Option<Vec<f32>>,
    /// What its vector was when it was last set, so that the same one again changes nothing.
    pub(crate) vector_sum: Option<i64>,
    /// Edges at it.
    pub(crate) degree: usize,
}

/// The columns of [`stored`], for a node called `n` with the labels and relationships `label`.
pub(crate) fn columns(label: &str) -> String {
    format!(
        "n.id AS id, n.tenant AS tenant, n.text AS text, n.type AS type, n.source AS source, n.meta AS meta, \
         n.stamp AS stamp, n.version AS version, n.vector AS vector, n.vector_sum AS vector_sum, \
         n:{label}_bare AS bare, COUNT {{ (n)-[:{label}]->() }} + COUNT {{ (n)<-[:{label}]-() }} AS degree"
    )
}

/// Gives the columns of [`stored`] for nodes called `n`. One that is removed while it is read has lost some, and is left out.
pub(crate) fn returned(label: &str) -> String {
    format!(
        "WITH {} \
         WHERE NOT any(value IN [id, tenant, text, type, source, meta, stamp, version] WHERE value IS NULL) RETURN *",
        columns(label)
    )
}

/// Gives the columns of [`edge`] for edges called `e` from `a` to `b`, but for those that are removed while they are read.
pub(crate) const EDGES_RETURNED: &str = "WITH a.id AS src, b.id AS dst, e.rel AS rel, e.weight AS weight, e.meta AS meta \
     WHERE NOT any(value IN [src, dst, rel, weight, meta] WHERE value IS NULL) RETURN *";

/// A node from its columns.
pub(crate) fn stored(row: &Row) -> Result<Stored, Broken> {
    let id: NodeId = id(row, "id")?;
    let damaged =
        |what: &str| Broken::Strange(format!("the row of node {id} has a damaged {what}"));
    let (node_type, source): (String, String) = (row.get("type")?, row.get("source")?);
    let meta: String = row.get("meta")?;
    let metadata: Metadata = serde_json::from_str(&meta).map_err(|_| damaged("metadata"))?;
    let vector: Option<String> = row.get("vector")?;
    let vector = match vector.as_deref().map(vector_of) {
        Some(None) => return Err(damaged("vector")),
        Some(decoded) => decoded,
        None => None,
    };
    Ok(Stored {
        node: Node {
            id,
            tenant: row.get("tenant")?,
            text: row.get("text")?,
            node_type: node_type.parse().map_err(|_| damaged("type"))?,
            source: source.parse().map_err(|_| damaged("source"))?,
            metadata,
            stamp: u64::try_from(row.get::<i64>("stamp")?).unwrap_or(0),
        },
        version: row.get("version")?,
        bare: row.get("bare")?,
        vector,
        vector_sum: row.get("vector_sum")?,
        degree: usize::try_from(row.get::<i64>("degree")?).unwrap_or(0),
    })
}

/// The properties of a node, without its versions.
pub(crate) fn properties(
    new: &NewNode,
    metadata: &Metadata,
    (vector, vector_sum): (Option<&[f32]>, Option<i64>),
) -> BoltType {
    let meta = serde_json::to_string(metadata).expect("metadata are strings, numbers and lists");
    map([
        ("id", new.id.to_string().into()),
        ("tenant", new.tenant.as_str().into()),
        ("text", new.text.as_str().into()),
        ("type", new.node_type.as_str().into()),
        ("source", new.source.as_str().into()),
        ("domain", metadata.domain.clone().into()),
        ("subject", metadata.subject.clone().into()),
        ("time", integer(metadata.timestamp.unwrap_or(0))),
        ("meta", meta.into()),
        ("vector", vector.map(vector_text).into()),
        ("vector_sum", vector_sum.into()),
    ])
}

/// An edge from the columns `src`, `dst`, `rel`, `weight` and `meta`.
pub(crate) fn edge(row: &Row) -> Result<Edge, Broken> {
    let (src, dst): (NodeId, NodeId) = (id(row, "src")?, id(row, "dst")?);
    let rel: String = row.get("rel")?;
    let meta: String = row.get("meta")?;
    let metadata: EdgeMetadata = serde_json::from_str(&meta)
        .map_err(|_| Broken::Strange(format!("the edge {src} to {dst} has damaged metadata")))?;
    let weight: f64 = row.get("weight")?;
    Ok(Edge {
        id: EdgeId::derived(src, dst, &rel),
        src,
        dst,
        rel,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it was an f32 when it was written"
        )]
        weight: weight as f32,
        metadata,
    })
}

/// An id from a column.
pub(crate) fn id(row: &Row, column: &str) -> Result<NodeId, Broken> {
    let text: String = row.get(column)?;
    let parsed = text.parse();
    parsed.map_err(|_| Broken::Strange(format!("a row has an id that is no UUID in {column}")))
}

/// Ids as a parameter.
pub(crate) fn ids<'a>(ids: impl IntoIterator<Item = &'a NodeId>) -> BoltType {
    let ids: Vec<String> = ids.into_iter().map(NodeId::to_string).collect();
    ids.into()
}

/// A number as a parameter; larger ones than fit do not occur.
pub(crate) fn integer(value: u64) -> BoltType {
    i64::try_from(value).unwrap_or(i64::MAX).into()
}

/// A sum over the bits of a vector.
pub(crate) fn sum(unit: &[f32]) -> i64 {
    // FNV-1a.
    let bits = unit.iter().flat_map(|value| value.to_le_bytes());
    let hash = bits.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.cast_signed()
}

/// A vector as text, which loses no bit.
pub(crate) fn vector_text(vector: &[f32]) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn vector_of(text: &str) -> Option<Vec<f32>> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    let (values, rest) = bytes.as_chunks::<4>();
    let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
    rest.is_empty().then(|| values.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_comes_back_bit_for_bit() {
        let vector = [0.1_f32, -1.0, f32::MIN_POSITIVE, 3.5e30];
        assert_eq!(
            vector_of(&vector_text(&vector)).as_deref(),
            Some(&vector[..])
        );
        assert_eq!(vector_of("AAAA"), None);
        assert_eq!(vector_of("?"), None);
    }

    #[test]
    fn vectors_that_differ_in_one_bit_have_other_sums() {
        assert_eq!(sum(&[1.0, 0.5]), sum(&[1.0, 0.5]));
        assert_ne!(
            sum(&[1.0, 0.5]),
            sum(&[1.0, f32::from_bits(0.5_f32.to_bits() + 1)])
        );
    }
}
