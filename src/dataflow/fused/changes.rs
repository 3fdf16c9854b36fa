//! What an epoch changed in the views of records: of each row what it was and what it is.
//!
//! Shape: changes of `enriched` and of each latest view, by row and version numbers.
//!
//! Invariants: a key of a view changes at most once an epoch: what came and went within it is not
//! seen. Memory is kept from epoch to epoch, so that a steady state allocates nothing.
//!
//! Not here: what rows and versions say (`state`).

use super::documents::VersionId;
use crate::dataflow::slab::RowId;

/// Which view a change is of: every enriched view at once, or one of the latest views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Enriched,
    /// By position among the latest views.
    Latest(usize),
}

/// The changes of an epoch. Each is its view, then row and versions before, then those after; row 0
/// is none.
#[derive(Debug)]
pub(super) struct Changes {
    lookups: usize,
    words: Vec<u32>,
}

/// A row with the versions with which it is meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<'c> {
    pub(super) row: RowId,
    versions: &'c [u32],
}

impl Sent<'_> {
    /// The version of a lookup's document.
    pub(super) fn version(&self, lookup: usize) -> VersionId {
        VersionId(self.versions[lookup])
    }
}

impl Changes {
    pub(super) fn new(lookups: usize) -> Changes {
        Changes { lookups, words: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.words.clear();
    }

    /// Adds a change; returns its place.
    pub(super) fn push(
        &mut self,
        changed: Changed,
        before: Option<(RowId, &[VersionId])>,
        after: (RowId, &[VersionId]),
    ) -> usize {
        let place = self.words.len();
        self.words.push(match changed {
            Changed::Enriched => 0,
            Changed::Latest(view) => 1 + view as u32,
        });
        match before {
            Some((row, versions)) => self.push_sent(row, versions),
            None => self.words.extend(std::iter::repeat_n(0, 1 + self.lookups)),
        }
        self.push_sent(after.0, after.1);
        place
    }

    fn push_sent(&mut self, row: RowId, versions: &[VersionId]) {
        self.words.push(row.number());
        self.words.extend(versions.iter().map(|version| version.0));
    }

    /// Something else comes after what was before the change at `place`.
    pub(super) fn replace_after(&mut self, place: usize, row: RowId, versions: &[VersionId]) {
        let after = place + 2 + self.lookups;
        self.words[after] = row.number();
        for (word, version) in self.words[after + 1..].iter_mut().zip(versions) {
            *word = version.0;
        }
    }

    /// The changes, in the order in which they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Changed, Option<Sent<'_>>, Sent<'_>)> {
        let half = 1 + self.lookups;
        self.words.chunks_exact(self.stride()).map(move |words| {
            let changed = match words[0] {
                0 => Changed::Enriched,
                view => Changed::Latest(view as usize - 1),
            };
            let sent = |words: &'_ [u32]| RowId::from_word(words[0]);
            let (before, after) = words[1..].split_at(half);
            let before = sent(before).map(|row| Sent { row, versions: &before[1..] });
            let row = sent(after).expect("something always stands after a change");
            (changed, before, Sent { row, versions: &after[1..] })
        })
    }

    fn stride(&self) -> usize {
        1 + 2 * (1 + self.lookups)
    }
}
