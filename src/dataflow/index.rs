//! The index: from a hash to the rows, or other numbers, that have it.
//!
//! Shape: a number goes in under the hash of its key; it is found by hash and a comparison of keys.
//!
//! Invariants: keys stay where they are: an entry is a number and half of the hash. There are many
//! small tables, so that none takes long to grow.
//!
//! Not here: keys, and what the numbers mean.

use hashbrown::{
    HashTable,
    hash_table::{Entry, VacantEntry},
};

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

/// Where the number of a key stands, or would stand.
pub(super) enum Place<'i> {
    /// There is one, which can be changed.
    Taken(&'i mut u32),
    /// There is none.
    Free(Free<'i>),
}

/// A place without a number.
pub(super) struct Free<'i> {
    slot: VacantEntry<'i, Slot>,
    hash: u32,
}

impl Free<'_> {
    /// Puts a number there.
    pub(super) fn insert(self, number: u32) {
        self.slot.insert(Slot { number, hash: self.hash });
    }
}

/// A table holds a 256th of the numbers: of 5 million it grows by copying 20,000.
const TABLES: usize = 256;

impl Default for Index {
    fn default() -> Index {
        Index { tables: (0..TABLES).map(|_| HashTable::new()).collect() }
    }
}

impl Index {
    /// The place of the number under `hash` that is the one, or the free place for it.
    pub(super) fn place(&mut self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Place<'_> {
        let half = hash as u32;
        let same = |slot: &Slot| slot.hash == half && is_it(slot.number);
        let rehash = |slot: &Slot| spread(slot.hash);
        match self.tables[table(hash)].entry(spread(half), same, rehash) {
            Entry::Occupied(slot) => Place::Taken(&mut slot.into_mut().number),
            Entry::Vacant(slot) => Place::Free(Free { slot, hash: half }),
        }
    }

    /// The number under `hash` that is the one.
    pub(super) fn get(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let half = hash as u32;
        let same = |slot: &Slot| slot.hash == half && is_it(slot.number);
        self.tables[table(hash)].find(spread(half), same).map(|slot| slot.number)
    }

    /// Takes out the number under `hash` that is the one.
    pub(super) fn remove(&mut self, hash: u64, mut is_it: impl FnMut(u32) -> bool) {
        let half = hash as u32;
        let same = |slot: &Slot| slot.hash == half && is_it(slot.number);
        if let Ok(found) = self.tables[table(hash)].find_entry(spread(half), same) {
            found.remove();
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
                match index.place(hash, is_it) {
                    Place::Free(free) => {
                        assert_eq!(round, 0);
                        free.insert(number as u32);
                    }
                    Place::Taken(found) => assert_eq!((*found, round), (number as u32, 1)),
                }
                assert!(matches!(index.place(hash + 1000, is_it), Place::Free(_)));
            }
        }
        assert_eq!(index.len(), keys.len());
        index.remove((17 << 56) | 3, |other| keys[other as usize] == 17);
        index.remove((17 << 56) | 3, |other| keys[other as usize] == 18);
        assert_eq!(index.len(), keys.len() - 1);
        let free = index.place((17 << 56) | 3, |other| keys[other as usize] == 17);
        let Place::Free(free) = free else { panic!("17 was taken out") };
        free.insert(17);
        assert_eq!(index.iter().map(u64::from).sum::<u64>(), keys.iter().sum::<u64>());
    }
}
