//! Nodes of one tenant that say the same in almost the same words.
//!
//! Candidates come from MinHash signatures in bands (Broder, "On the resemblance and containment of documents", 1997;
//! bands: Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3), so that no two texts are compared
//! that share nothing. What counts as a near duplicate is decided as for a prompt (`context.rs`).

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::context::near_duplicates;
use crate::node::{Node, NodeId};
use crate::store::{Memory, ReadError};

/// Hash functions of a signature: bands times rows.
const BANDS: usize = 8;

/// Hashes of a band. Texts that share nine tenths of their runs meet in a band almost surely, half of them one time in three.
const ROWS: usize = 4;

/// Words of a run.
const RUN_WORDS: usize = 3;

/// Nodes after it in a bucket that a node is compared with: a text that stands a thousand times is found anyway.
const NEIGHBOURS: usize = 8;

/// Collects signatures, node by node.
#[derive(Default)]
pub(super) struct Twins {
    ids: Vec<NodeId>,
    /// Tenant, band and what the band hashes to as one number, and the place of the node in `ids`.
    buckets: Vec<(u64, usize)>,
}

impl Twins {
    /// Takes a node in; only nodes of one tenant are compared.
    pub(super) fn add(&mut self, node: &Node) {
        let Some(signature) = signature(&node.text) else {
            return;
        };
        for (band, hashes) in signature.chunks(ROWS).enumerate() {
            let mut hasher = DefaultHasher::new();
            (&node.tenant, band, hashes).hash(&mut hasher);
            self.buckets.push((hasher.finish(), self.ids.len()));
        }
        self.ids.push(node.id);
    }

    /// The pairs that are near duplicates indeed.
    pub(super) fn pairs(mut self, memory: &Memory) -> Result<Vec<(NodeId, NodeId)>, ReadError> {
        self.buckets.sort_unstable();
        let mut candidates = BTreeSet::new();
        for bucket in self.buckets.chunk_by(|a, b| a.0 == b.0) {
            for (at, (_, one)) in bucket.iter().enumerate() {
                let others = bucket[at + 1..].iter().take(NEIGHBOURS);
                candidates.extend(others.map(|(_, other)| (*one, *other)));
            }
        }
        let mut pairs = Vec::new();
        for (one, other) in candidates {
            if let [one, other] = memory.nodes(&[self.ids[one], self.ids[other]])?.as_slice()
                && near_duplicates(&one.text, &other.text)
            {
                pairs.push((one.id, other.id));
            }
        }
        Ok(pairs)
    }
}

/// The least hash of the text's runs under each hash function; `None` for a text without words.
fn signature(text: &str) -> Option<[u64; BANDS * ROWS]> {
    let words: Vec<String> = text
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    if words.is_empty() {
        return None;
    }
    let mut least = [u64::MAX; BANDS * ROWS];
    for run in words.windows(RUN_WORDS.min(words.len())) {
        let mut hasher = DefaultHasher::new();
        run.hash(&mut hasher);
        let hash = hasher.finish();
        for (function, least) in least.iter_mut().enumerate() {
            *least = (*least).min(mix(hash ^ mix(function as u64 + 1)));
        }
    }
    Some(least)
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood, 2014): one more hash function for each number mixed in.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
