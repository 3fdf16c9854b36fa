//! Copies: events with one key that came by several partitions, where they meet.
//!
//! Shape: events that stand in their partitions in; those that are to be held out.
//!
//! Invariants: of events with one key and one value of the shard key one is held, the first that
//! came. Events with one key and other values of the shard key all stand: they may be held by
//! workers that know nothing of each other.
//!
//! Not here: copies that came by one partition (`dataflow::dedupe`).

use super::{State, row_of};
use crate::{
    dataflow::{
        index::{Index, Place},
        slab::RowId,
    },
    row::Columns,
    spec::Spec,
};

/// What is held, by event key and shard key.
pub(super) struct Copies {
    key: Columns,
    rows: Index,
    met: Met,
}

/// Events that met one that is held with their key and their value of the shard key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// They said the same.
    pub equal: u64,
    /// They said something else, and are not held.
    pub other: u64,
}

impl Copies {
    pub(super) fn new(spec: &Spec) -> Copies {
        let key = spec.event_columns(&[spec.events.key, spec.events.shard_key]);
        Copies { key, rows: Index::default(), met: Met::default() }
    }

    /// A row that is held goes.
    pub(super) fn remove(&mut self, event: &[u8], row: RowId) {
        self.rows.remove(self.key.hash(event), |number| number == row.number());
    }

    /// A row that is held stands elsewhere now.
    pub(super) fn replace(&mut self, event: &[u8], row: RowId, again: RowId) {
        let is_it = |number| number == row.number();
        if let Place::Taken(number) = self.rows.place(self.key.hash(event), is_it) {
            *number = again.number();
        }
    }
}

impl State {
    /// Lets events with one key meet though they came by several partitions; from before the first
    /// event on.
    pub fn dedupe_by_shard(&mut self) {
        assert_eq!(self.events, 0, "no event was held without");
        self.copies = Some(Copies::new(&self.spec));
    }

    /// Appends an event, unless it meets one that is held.
    pub(super) fn hold(&mut self, event: &[u8]) -> Option<RowId> {
        let Some(Copies { key, rows, .. }) = &self.copies else {
            return Some(self.slab.push(event));
        };
        let hash = key.hash(event);
        let held = rows.get(hash, |number| key.equal(row_of(&self.slab, number), event));
        let held = held.and_then(RowId::from_word);
        // One that says something else and is corrected no more counts as gone.
        let is_equal = held.and_then(|row| match self.slab.row(row).starts_with(event) {
            false if self.is_past(row) => None,
            is_equal => Some(is_equal),
        });
        let State { copies: Some(Copies { rows, met, .. }), slab, .. } = self else {
            unreachable!("it was there before");
        };
        match is_equal {
            Some(true) => met.equal += 1,
            Some(false) => met.other += 1,
            None => {
                let id = slab.push(event);
                let is_it = |number| held.is_some_and(|held| held.number() == number);
                match rows.place(hash, is_it) {
                    Place::Taken(number) => *number = id.number(),
                    Place::Free(place) => place.insert(id.number()),
                }
                return Some(id);
            }
        }
        None
    }

    /// How many copies met what is held since this was asked last.
    pub fn take_met(&mut self) -> Met {
        self.copies.as_mut().map(|copies| std::mem::take(&mut copies.met)).unwrap_or_default()
    }
}
