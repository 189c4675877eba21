//! The snapshot: the graph as bytes, so that a store need not build it again at every open.
//!
//! It holds links, ids and digests of vectors, never the vectors: these are rows of the store. Nothing in it is trusted. It
//! is read only when its digest, its format and its identity fit, every link is checked, and a node keeps its place only
//! when its vector has the digest that it was linked with; the others wait as if they had just changed. So a snapshot of
//! any age serves, and one that is damaged costs a build and nothing else. Reading and writing the file is
//! `store/linker.rs`.
//!
//! Little-endian: `WEIRHNSW`, format `u32`, dimensions `u32`, links `u32`, efConstruction `u32`, digest of the model's name
//! `u64`, generation `u64`, number of nodes `u32`; a node is its id `u128` (0 for one that is gone), the digest of its
//! vector `u64`, the number of its layers `u8`, and for each layer the number of links `u16` and the places of their
//! targets in this list `u32`; the digest of all this `u64`.

use std::collections::HashSet;
use std::path::PathBuf;

use super::Vectors;
use super::hnsw::{Hnsw, HnswParameters, LAYERS_MAX, NONE};
use super::rows::Digest;

const MAGIC: &[u8; 8] = b"WEIRHNSW";

const FORMAT: u32 = 1;

/// Fewest bytes of a node.
const NODE_BYTES_MIN: usize = 16 + 8 + 1 + 2;

/// Largest part of the nodes, one in this many, that may have changed before a build is the cheaper way.
const CHANGED_PART: usize = 4;

/// Why a snapshot of the vectors' graph was not read or not written. The graph is built from the vectors then, while
/// searches compare all of them: slower for a while, and never wrong.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file cannot be read.
    #[error("cannot read the graph snapshot {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the graph snapshot {}; the next start builds the graph again", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not what was written.
    #[error("the graph snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// Written by another version of this crate.
    #[error("the graph snapshot has format {found}, this build reads format {FORMAT}")]
    Format {
        /// The format found.
        found: u32,
    },
    /// Made for other vectors or another shape.
    #[error("the graph snapshot was made with {what} {found}, not {wanted}")]
    Foreign {
        /// What differs.
        what: &'static str,
        /// In the snapshot.
        found: u64,
        /// In the store.
        wanted: u64,
    },
    /// Of a store that went further than this one.
    #[error(
        "the graph snapshot is of generation {found}, the store is at {store}: it was put back to an older state"
    )]
    Newer {
        /// Generation of the snapshot.
        found: u64,
        /// Generation of the store.
        store: u64,
    },
    /// Too little of it is still true.
    #[error("{changed} of {nodes} vectors changed since the graph snapshot was made")]
    Outdated {
        /// Nodes that are gone or have another vector.
        changed: usize,
        /// Nodes of the snapshot.
        nodes: usize,
    },
}

/// What a snapshot must have in common with a store.
#[derive(Clone, Debug)]
pub(crate) struct GraphIdentity {
    dimensions: u32,
    links: u32,
    ef_construction: u32,
    model: u64,
}

impl GraphIdentity {
    pub(crate) fn new(dimensions: usize, model: &str, parameters: &HnswParameters) -> Self {
        let parameters = parameters.clamped();
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            dimensions: number(dimensions),
            links: number(parameters.links),
            ef_construction: number(parameters.ef_construction),
            model: Digest::of_bytes(model.as_bytes()),
        }
    }
}

/// What a snapshot says.
#[derive(Debug)]
pub(crate) struct Snapshot {
    generation: u64,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    id: u128,
    digest: u64,
    /// By layer, as places in the list of nodes.
    links: Vec<Vec<u32>>,
}

impl Snapshot {
    /// Reads what [`Vectors::snapshot`] wrote for a store of this identity.
    pub(crate) fn decode(bytes: &[u8], identity: &GraphIdentity) -> Result<Self, SnapshotError> {
        let (body, digest) = bytes
            .split_last_chunk::<8>()
            .filter(|(body, _)| body.starts_with(MAGIC))
            .ok_or(SnapshotError::Damaged("it does not begin as one"))?;
        let mut reader = Reader(&body[MAGIC.len()..]);
        let found = reader.u32()?;
        if found != FORMAT {
            return Err(SnapshotError::Format { found });
        }
        if Digest::of_bytes(body) != u64::from_le_bytes(*digest) {
            return Err(SnapshotError::Damaged("its digest is another"));
        }
        for (what, wanted) in [
            ("dimensions", identity.dimensions),
            ("links", identity.links),
            ("efConstruction", identity.ef_construction),
        ] {
            foreign(what, reader.u32()?.into(), wanted.into())?;
        }
        foreign("a model of digest", reader.u64()?, identity.model)?;
        let generation = reader.u64()?;
        let count = reader.u32()? as usize;
        if count > reader.0.len() / NODE_BYTES_MIN {
            return Err(SnapshotError::Damaged("it has fewer nodes than it says"));
        }
        let nodes: Vec<Node> = (0..count)
            .map(|_| reader.node(identity.links as usize))
            .collect::<Result<_, _>>()?;
        if !reader.0.is_empty() {
            return Err(SnapshotError::Damaged("it goes on after its nodes"));
        }
        check(&nodes)?;
        Ok(Self { generation, nodes })
    }
}

fn foreign(what: &'static str, found: u64, wanted: u64) -> Result<(), SnapshotError> {
    if found == wanted {
        return Ok(());
    }
    Err(SnapshotError::Foreign {
        what,
        found,
        wanted,
    })
}

/// Every id once, every link to another node that is on the layer, and no link twice.
fn check(nodes: &[Node]) -> Result<(), SnapshotError> {
    let mut ids = HashSet::with_capacity(nodes.len());
    let mut seen = vec![(0_usize, 0_usize); nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        if node.id != 0 && !ids.insert(node.id) {
            return Err(SnapshotError::Damaged("an id is there twice"));
        }
        for (layer, links) in node.links.iter().enumerate() {
            for to in links {
                let to = *to as usize;
                if to == at
                    || nodes
                        .get(to)
                        .is_none_or(|target| target.links.len() <= layer)
                {
                    return Err(SnapshotError::Damaged("a link leads nowhere"));
                }
                if std::mem::replace(&mut seen[to], (at + 1, layer)) == (at + 1, layer) {
                    return Err(SnapshotError::Damaged("a link is there twice"));
                }
            }
        }
    }
    Ok(())
}

/// The rest of the bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let (first, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(SnapshotError::Damaged("it ends too early"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn u32(&mut self) -> Result<u32, SnapshotError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, SnapshotError> {
        self.take().map(u64::from_le_bytes)
    }

    fn node(&mut self, width: usize) -> Result<Node, SnapshotError> {
        let id = u128::from_le_bytes(self.take()?);
        let digest = self.u64()?;
        let [layers] = self.take()?;
        if layers == 0 || usize::from(layers) > LAYERS_MAX {
            return Err(SnapshotError::Damaged("a node has no layer or too many"));
        }
        let mut links = Vec::with_capacity(usize::from(layers));
        for layer in 0..layers {
            let count = usize::from(u16::from_le_bytes(self.take()?));
            let width = if layer == 0 { 2 * width } else { width };
            if count > width {
                return Err(SnapshotError::Damaged("a node has too many links"));
            }
            links.push(
                (0..count)
                    .map(|_| self.u32())
                    .collect::<Result<Vec<u32>, _>>()?,
            );
        }
        Ok(Node { id, digest, links })
    }
}

impl Vectors {
    /// The graph as bytes; `None` when there is none. `id` is that of the node in a slot, unless it is gone.
    pub(crate) fn snapshot(
        &self,
        identity: &GraphIdentity,
        generation: u64,
        id: impl Fn(u32) -> Option<u128>,
    ) -> Option<Vec<u8>> {
        let graph = self.graph.as_ref()?;
        let mut places = vec![NONE; graph.slots()];
        let nodes: Vec<u32> = graph.nodes().collect();
        for (place, slot) in (0_u32..).zip(&nodes) {
            places[*slot as usize] = place;
        }
        let mut bytes = MAGIC.to_vec();
        for number in [
            FORMAT,
            identity.dimensions,
            identity.links,
            identity.ef_construction,
        ] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(identity.model.to_le_bytes());
        bytes.extend(generation.to_le_bytes());
        bytes.extend((nodes.len() as u32).to_le_bytes());
        for slot in nodes {
            bytes.extend(id(slot).unwrap_or(0).to_le_bytes());
            bytes.extend(graph.digest(slot).to_le_bytes());
            let level = graph.level(slot);
            bytes.push(level as u8 + 1);
            for layer in 0..=level {
                let links = graph.links(layer, slot);
                bytes.extend((links.len() as u16).to_le_bytes());
                for to in links {
                    bytes.extend(places[*to as usize].to_le_bytes());
                }
            }
        }
        bytes.extend(Digest::of_bytes(&bytes).to_le_bytes());
        Some(bytes)
    }

    /// Takes the graph from a snapshot, where this store is large enough for one. `slot` is that of an id, `slots` the
    /// number of slots in use. What is not as it was when it was linked waits to be linked again.
    pub(crate) fn adopt(
        &mut self,
        snapshot: &Snapshot,
        (generation, slots): (u64, usize),
        slot: impl Fn(u128) -> Option<u32>,
    ) -> Result<(), SnapshotError> {
        if self.graph.is_none() {
            return Ok(());
        }
        if snapshot.generation > generation {
            return Err(SnapshotError::Newer {
                found: snapshot.generation,
                store: generation,
            });
        }
        // A node that is gone gets a slot that nobody uses, until it is removed as any other.
        let mut unused = slots as u32;
        let mut changed = Vec::new();
        let mut places = Vec::with_capacity(snapshot.nodes.len());
        for node in &snapshot.nodes {
            let found = slot(node.id);
            let same = found.and_then(|slot| self.get(slot)).map(Digest::of_vector);
            places.push(found.unwrap_or_else(|| {
                unused += 1;
                unused - 1
            }));
            if same != Some(node.digest) {
                changed.extend(places.last().copied());
            }
        }
        if changed.len() > snapshot.nodes.len() / CHANGED_PART {
            return Err(SnapshotError::Outdated {
                changed: changed.len(),
                nodes: snapshot.nodes.len(),
            });
        }
        let slots = unused as usize;
        self.rows.extend(slots);
        self.codes.extend(slots);
        self.present.resize(slots.max(self.present.len()), false);
        let mut graph = Hnsw::new(self.parameters);
        for (node, place) in snapshot.nodes.iter().zip(&places) {
            let on_layer = |links: &Vec<u32>| links.iter().map(|to| places[*to as usize]).collect();
            let links: Vec<Vec<u32>> = node.links.iter().map(on_layer).collect();
            graph.restore(*place, node.digest, &links);
            self.waiting.remove(place);
        }
        self.waiting
            .extend(changed.into_iter().map(|slot| (slot, 0)));
        self.graph = Some(graph);
        self.relinked = 0;
        Ok(())
    }
}
