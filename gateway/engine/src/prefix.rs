//! `Prefix`: how a prompt begins, so that it goes to a replica that has read that beginning before.
//!
//! An engine keeps the keys and values of what it has read and reads only what follows. The text of a prompt is cut into blocks,
//! and a block's number stands for everything up to its end; `Held` remembers which numbers a replica was sent. Numbers only:
//! no text is kept. Guessing wrong costs time and nothing else. Reading on: `replica.rs`, which chooses by it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Bytes of a block: about the tokens at which engines themselves cut (16 to 128).
pub(crate) const BLOCK_BYTES: usize = 256;

/// How a prompt begins, block by block.
#[derive(Clone, Debug)]
pub struct Prefix {
    hasher: DefaultHasher,
    session: Option<u64>,
    blocks: Vec<u64>,
    filled: usize,
}

impl Prefix {
    /// An empty prompt of a tenant, in a session when the client names one. Two tenants never count as having the same beginning.
    pub fn new(tenant: &str, session: Option<&str>) -> Self {
        let mut hasher = DefaultHasher::new();
        tenant.hash(&mut hasher);
        let session = session.map(|session| {
            let mut hasher = hasher.clone();
            session.hash(&mut hasher);
            hasher.finish()
        });
        Self {
            hasher,
            session,
            blocks: Vec::new(),
            filled: 0,
        }
    }

    /// Goes on with the next message: who speaks, and what.
    pub fn push(&mut self, role: &str, text: &str) {
        for part in [role, "\n", text, "\n"] {
            self.bytes(part.as_bytes());
        }
    }

    fn bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.filled));
            self.hasher.write(now);
            self.filled += now.len();
            bytes = rest;
            if self.filled == BLOCK_BYTES {
                self.blocks.push(self.hasher.finish());
                self.filled = 0;
            }
        }
    }

    /// Length of the prompt in blocks, the last one that is not full included.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len() + usize::from(self.filled > 0)
    }
}

/// What a replica was sent, as far as it may still have it: at most `2 * capacity` numbers, the oldest forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Held {
    young: HashSet<u64>,
    old: HashSet<u64>,
    surplus: usize,
}

impl Held {
    /// Blocks at the beginning of the prompt that the replica has read. Of a session whose text is another now, such as one
    /// whose oldest turns were cut, half is taken to be known.
    pub(crate) fn matched(&self, prefix: &Prefix) -> usize {
        // Whoever has a block has those before it, so the last one can be sought by halves.
        let matched = prefix.blocks.partition_point(|block| self.has(*block));
        let in_session = prefix.session.is_some_and(|session| self.has(session));
        matched.max(if in_session { prefix.len() / 2 } else { 0 })
    }

    /// Blocks that were new to the replica, more than to the one of its pool that was sent the fewest.
    pub(crate) fn surplus(&self) -> usize {
        self.surplus
    }

    /// Counts the surplus anew from `blocks` on.
    pub(crate) fn forgive(&mut self, blocks: usize) {
        self.surplus = self.surplus.saturating_sub(blocks);
    }

    /// The replica is sent the prompt.
    pub(crate) fn add(&mut self, prefix: &Prefix, capacity: usize) {
        self.surplus = (self.surplus + prefix.len() - self.matched(prefix)).min(capacity);
        for number in prefix.blocks.iter().chain(&prefix.session) {
            self.old.remove(number);
            self.young.insert(*number);
        }
        if self.young.len() > capacity {
            self.old = std::mem::take(&mut self.young);
        }
    }

    /// The replica has lost what it had.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn has(&self, number: u64) -> bool {
        self.young.contains(&number) || self.old.contains(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(tenant: &str, session: Option<&str>, messages: &[&str]) -> Prefix {
        let mut prefix = Prefix::new(tenant, session);
        for message in messages {
            prefix.push("user", message);
        }
        prefix
    }

    #[test]
    fn what_was_sent_is_known_as_far_as_it_is_the_same_and_to_its_tenant_alone() {
        let (long, other) = ("a".repeat(1000), "b".repeat(1000));
        let mut held = Held::default();
        held.add(&prompt("acme", None, &[&long, &other]), 64);
        let matched = |messages: &[&str]| held.matched(&prompt("acme", None, messages));
        assert_eq!(
            matched(&[&long, &other]),
            7,
            "2,014 bytes are 7 full blocks"
        );
        assert_eq!(matched(&[&long, &other, "and then?"]), 7);
        assert_eq!(matched(&[&long, "something else"]), 3);
        assert_eq!(matched(&[&other, &long]), 0);
        assert_eq!(held.matched(&prompt("globex", None, &[&long])), 0);
        assert_eq!(prompt("acme", None, &[&long]).len(), 4);
    }

    #[test]
    fn a_session_is_known_again_when_its_oldest_turn_was_cut() {
        let (first, second) = ("a".repeat(1000), "b".repeat(2000));
        let mut held = Held::default();
        held.add(&prompt("acme", Some("s"), &[&first, &second]), 64);
        let cut = prompt("acme", Some("s"), &[&second]);
        assert_eq!((held.matched(&cut), cut.len()), (4, 8));
        assert_eq!(held.matched(&prompt("acme", Some("t"), &[&second])), 0);
        assert_eq!(held.matched(&prompt("acme", None, &[&second])), 0);
    }

    #[test]
    fn the_oldest_is_forgotten_and_what_is_used_stays() {
        let used = "u".repeat(1000);
        let mut held = Held::default();
        for number in 0..100 {
            held.add(&prompt("acme", None, &[&used]), 16);
            held.add(&prompt("acme", None, &[&format!("{number} {used}")]), 16);
            assert!(held.young.len() + held.old.len() <= 2 * 16 + 4, "{number}");
        }
        assert_eq!(held.matched(&prompt("acme", None, &[&used])), 3);
        assert_eq!(
            held.matched(&prompt("acme", None, &[&format!("3 {used}")])),
            0
        );
        held.clear();
        assert_eq!(held.matched(&prompt("acme", None, &[&used])), 0);
    }
}
