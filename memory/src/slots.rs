//! Slots as keys: maps of a few slots among many, for one recall.
//!
//! Slots are small numbers that nobody outside chooses, so one multiplication spreads them well enough (Knuth, "The Art of
//! Computer Programming", 6.4).

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// Values by slot.
pub(crate) type SlotMap<V> = HashMap<u32, V, BuildHasherDefault<SlotHasher>>;

/// Some slots.
pub(crate) type SlotSet = HashSet<u32, BuildHasherDefault<SlotHasher>>;

/// 2^64 over the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Spreads slots.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, slot: u32) {
        let product = (self.0 ^ u64::from(slot)).wrapping_mul(GOLDEN);
        // A map looks at the upper and at the lower bits, and the product has the best ones on top.
        self.0 = product.rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_kept_apart() {
        let map: SlotMap<u32> = (0..100_000).map(|slot| (slot, slot + 1)).collect();
        assert_eq!(map.len(), 100_000);
        assert!((0..100_000).all(|slot| map[&slot] == slot + 1));
        let set: SlotSet = [7, 7, 9].into_iter().collect();
        assert_eq!(set.len(), 2);
    }
}
