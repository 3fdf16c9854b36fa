//! Dedupe: of the events of one partition with one key the first stands.
//!
//! Shape: packed rows in the partition's order in; for each whether it stands, repeats what stands,
//! or says something else under a key that is taken.
//!
//! Invariants: equal keys share a partition, so the first that is seen is the first there is, and
//! no verdict is ever taken back. Keys are compared whole, the rest of a row by 64 bits of its
//! hash.
//!
//! Not here: what becomes of an event that does not stand (`engine`).

use xxhash_rust::xxh3::xxh3_64;

use super::{
    index::{Index, Place},
    slab::{RowId, Slab},
};
use crate::{row::Columns, spec::Spec};

/// The keys of one partition.
pub struct Dedupe {
    key: Columns,
    /// The first events: in the header the hash of the row, then the key.
    first: Slab,
    index: Index,
    key_bytes: Vec<u8>,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the first with its key.
    Stands,
    /// It says what the first with its key says.
    Repeats,
    /// It says something else than the first with its key.
    Taken,
}

impl Dedupe {
    /// Knows no key yet.
    pub fn new(spec: &Spec) -> Dedupe {
        Dedupe {
            key: spec.event_columns(&[spec.events.key]),
            first: Slab::new(2),
            index: Index::default(),
            key_bytes: Vec::new(),
        }
    }

    /// Judges the next event of the partition.
    pub fn judge(&mut self, row: &[u8]) -> Verdict {
        let Dedupe { key, first, index, key_bytes } = self;
        key_bytes.clear();
        key.append(row, key_bytes);
        let is_it = |number| {
            let known = first.row(RowId::from_word(number).expect("rows are never number 0"));
            known.starts_with(key_bytes)
        };
        let content = xxh3_64(row);
        let halves = [(content >> 32) as u32, content as u32];
        match index.place(xxh3_64(key_bytes), is_it) {
            Place::Taken(number) => {
                let known = RowId::from_word(*number).expect("rows are never number 0");
                let same = [first.word(known, 0), first.word(known, 1)] == halves;
                if same { Verdict::Repeats } else { Verdict::Taken }
            }
            Place::Free(free) => {
                let id = first.push(key_bytes);
                first.set_word(id, 0, halves[0]);
                first.set_word(id, 1, halves[1]);
                free.insert(id.number());
                Verdict::Stands
            }
        }
    }

    /// How many keys are known.
    pub fn keys(&self) -> usize {
        self.index.len()
    }
}
