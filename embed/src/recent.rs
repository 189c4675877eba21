//! What was used most recently, a bounded number of entries: vectors of questions and counts of tokens.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Questions whose vectors are kept: 1.5 MiB of vectors at 384 dimensions.
pub const QUESTIONS_MAX: usize = 1024;

/// A longer question is unlikely to come twice and would make the cache large.
pub const QUESTION_BYTES_MAX: usize = 4096;

/// Keys to values, at most `MAX`; the entry used least recently goes first.
#[derive(Debug)]
pub struct Recent<K, V, const MAX: usize> {
    values: HashMap<K, (V, u64)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
}

impl<K, V, const MAX: usize> Default for Recent<K, V, MAX> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone, const MAX: usize> Recent<K, V, MAX> {
    /// The value of a key, which counts as used now.
    pub fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (value, used) = self.values.get_mut(key)?;
        let key = self.by_use.remove(used)?;
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(value.clone())
    }

    /// Keeps a value, the newest one of its key.
    pub fn put(&mut self, key: K, value: V) {
        self.uses += 1;
        if let Some((_, used)) = self.values.insert(key.clone(), (value, self.uses)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.uses, key);
        if self.values.len() > MAX
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn entry_used_least_recently_is_forgotten_first() {
        let mut recent = Recent::<_, _, 8>::default();
        for number in 0..8 {
            recent.put(number, number * 10);
        }
        assert_eq!(recent.get(&0), Some(0));
        recent.put(8, 80);
        assert_eq!(recent.get(&0), Some(0), "just used");
        assert_eq!(recent.get(&1), None, "the oldest use");
        recent.put(8, 81);
        assert_eq!(recent.get(&8), Some(81), "the newest value");
        assert_eq!(recent.values.len(), 8);
        assert_eq!(recent.by_use.len(), 8);
    }
}
