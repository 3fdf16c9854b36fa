//! The index: from a hash to the rows, or other numbers, that have it.
//!
//! Shape: a number goes in under the hash of its key; it is found by hash and a comparison of keys.
//!
//! Invariants: keys stay where they are: an entry is a number and half of the hash. There are many
//! small tables, so that none takes long to grow.
//!
//! Not here: keys, and what the numbers mean.

use hashbrown::{HashTable, hash_table::Entry};

/// Numbers by the hashes of their keys.
#[derive(Debug)]
pub(super) struct Index {
    tables: Box<[HashTable<Slot>]>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u32,
    /// The lower half of the hash.
    hash: u32,
}

/// A table holds a 256th of the numbers: of 5 million it grows by copying 20,000.
const TABLES: usize = 256;

impl Default for Index {
    fn default() -> Index {
        Index { tables: (0..TABLES).map(|_| HashTable::new()).collect() }
    }
}

impl Index {
    /// The number under `hash` that is the one; `is_it` compares keys.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let half = hash as u32;
        let same = |slot: &Slot| slot.hash == half && is_it(slot.number);
        self.tables[table(hash)].find(spread(half), same).map(|slot| slot.number)
    }

    /// The place of the number under `hash` that is the one, where it can be changed; a new one
    /// holds what `make` gives. Says whether it is new.
    pub(super) fn find_or_insert(
        &mut self,
        hash: u64,
        mut is_it: impl FnMut(u32) -> bool,
        make: impl FnOnce() -> u32,
    ) -> (&mut u32, bool) {
        let half = hash as u32;
        let same = |slot: &Slot| slot.hash == half && is_it(slot.number);
        let rehash = |slot: &Slot| spread(slot.hash);
        match self.tables[table(hash)].entry(spread(half), same, rehash) {
            Entry::Occupied(slot) => (&mut slot.into_mut().number, false),
            Entry::Vacant(free) => {
                let slot = free.insert(Slot { number: make(), hash: half });
                (&mut slot.into_mut().number, true)
            }
        }
    }

    /// All numbers, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.tables.iter().flatten().map(|slot| slot.number)
    }

    /// How many numbers there are.
    pub(super) fn len(&self) -> usize {
        self.tables.iter().map(HashTable::len).sum()
    }
}

/// By the upper bits, which place nothing within a table.
fn table(hash: u64) -> usize {
    (hash >> 56) as usize
}

/// A table looks at the lowest and the highest bits, so both must depend on all that is kept.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_apart_by_their_keys_alone() {
        let keys: Vec<u64> = (0..10_000).collect();
        let mut index = Index::default();
        for round in 0..2 {
            for (number, key) in keys.iter().enumerate() {
                // Few hashes, many keys.
                let hash = ((key % 100) << 56) | (key % 7);
                let is_it = |other: u32| keys[other as usize] == *key;
                let (found, new) = index.find_or_insert(hash, is_it, || number as u32);
                assert_eq!((*found, new), (number as u32, round == 0));
                assert_eq!(index.find(hash, is_it), Some(number as u32));
                assert_eq!(index.find(hash + 1000, is_it), None);
            }
        }
        assert_eq!(index.len(), keys.len());
        assert_eq!(index.iter().map(u64::from).sum::<u64>(), keys.iter().sum::<u64>());
    }
}
