//! The vectors of the queries asked most recently.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Queries that are remembered: 1.5 MiB of vectors at 384 dimensions.
const QUERIES_MAX: usize = 1024;
/// A longer query is unlikely to come twice and would make the cache large.
const QUERY_BYTES_MAX: usize = 4096;

/// Text to vector, the one used least recently goes first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    vectors: HashMap<Arc<str>, (Arc<[f32]>, u64)>,
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
}

impl Recent {
    pub(super) fn get(&mut self, text: &str) -> Option<Arc<[f32]>> {
        let (vector, used) = self.vectors.get_mut(text)?;
        let name = self.by_use.remove(used)?;
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, name);
        Some(Arc::clone(vector))
    }

    pub(super) fn put(&mut self, text: Arc<str>, vector: Arc<[f32]>) {
        if text.len() > QUERY_BYTES_MAX {
            return;
        }
        self.uses += 1;
        if let Some((_, used)) = self.vectors.insert(Arc::clone(&text), (vector, self.uses)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.uses, text);
        if self.vectors.len() > QUERIES_MAX
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.vectors.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{QUERIES_MAX, Recent};

    #[test]
    fn query_used_least_recently_is_forgotten_first() {
        let mut recent = Recent::default();
        for number in 0..QUERIES_MAX {
            recent.put(number.to_string().into(), [number as f32].into());
        }
        assert!(recent.get("0").is_some());
        recent.put("new".into(), [0.0].into());
        assert!(recent.get("0").is_some(), "just used");
        assert!(recent.get("1").is_none(), "the oldest use");
        assert_eq!(recent.vectors.len(), QUERIES_MAX);
        assert_eq!(recent.by_use.len(), QUERIES_MAX);
    }
}
