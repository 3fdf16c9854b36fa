//! The slab: packed rows, appended and never moved, let go chunk by chunk from the oldest.
//!
//! Shape: a row goes in with a header of words, a `RowId` comes out; rows are read by it until they
//! are let go.
//!
//! Invariants: ids grow in the order in which rows were appended, and begin again from 0 beyond the
//! greatest: which of two is older is asked of the slab (`order`), never of the numbers; no row
//! moves, so growing copies nothing; a row lies within one chunk. An id of a row that was let go is
//! told from those that stand (`has`) as long as the row that names it stands.
//!
//! Not here: what words and rows mean (`dataflow::fused`, `dataflow::dedupe`).

use std::{cmp::Ordering, collections::VecDeque, num::NonZeroU32};

/// Where a row stands, in units of `UNIT` bytes: 32 GiB can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowId(NonZeroU32);

impl RowId {
    /// The number in a header's word or an index; 0 is no row.
    pub(super) fn from_word(word: u32) -> Option<RowId> {
        NonZeroU32::new(word).map(RowId)
    }

    /// The number behind an id, 0 for none.
    pub(super) fn to_word(id: Option<RowId>) -> u32 {
        id.map_or(0, |RowId(number)| number.get())
    }

    pub(super) fn number(self) -> u32 {
        self.0.get()
    }
}

/// Rows begin at multiples of this.
const UNIT: usize = 8;
/// Bytes of a chunk; a row that is longer gets a chunk of its own, as long as it needs.
const CHUNK: usize = if cfg!(test) { 1 << 12 } else { 1 << 20 };
const UNITS_OF_CHUNK: usize = CHUNK / UNIT;
/// After so many chunks numbers begin again.
const CHUNKS_OF_CYCLE: usize = (1 << 32) / UNITS_OF_CHUNK;
/// Once rows were let go, those that stand lie within so many units: half of what can be told
/// apart.
const WINDOW: u32 = 1 << 31;

const WORD: usize = size_of::<u32>();

/// Rows of one length of header.
pub(super) struct Slab {
    header_bytes: usize,
    /// A chunk of a long row is followed by empty ones, so that numbers stay places.
    chunks: VecDeque<Vec<u8>>,
    /// How many chunks were let go before these.
    gone: usize,
}

impl Slab {
    /// An empty slab whose rows have so many words before them.
    pub(super) fn new(header_words: usize) -> Slab {
        Slab { header_bytes: header_words * WORD, chunks: VecDeque::new(), gone: 0 }
    }

    /// Appends a row under a header of zeros.
    ///
    /// # Panics
    /// When 32 GiB are full; once rows were let go, 16 GiB.
    pub(super) fn push(&mut self, row: &[u8]) -> RowId {
        let bytes = (self.header_bytes + row.len()).next_multiple_of(UNIT);
        // The last one with bytes: those behind it belong to its long row.
        let last = self.chunks.iter().rposition(|chunk| !chunk.is_empty());
        let has_room = |place: &usize| self.chunks[*place].len() + bytes <= CHUNK;
        let place = last.filter(has_room).unwrap_or_else(|| self.begin_chunk(bytes));
        let chunk = &mut self.chunks[place];
        let start = chunk.len();
        chunk.resize(start + self.header_bytes, 0);
        chunk.extend_from_slice(row);
        chunk.resize(start + bytes, 0);
        let most = if self.gone == 0 { CHUNKS_OF_CYCLE } else { WINDOW as usize / UNITS_OF_CHUNK };
        let gib = (most * CHUNK) >> 30;
        assert!(place < most, "a worker holds at most {gib} GiB of rows: use more workers");
        let number = (self.gone + place) % CHUNKS_OF_CYCLE * UNITS_OF_CHUNK + start / UNIT;
        RowId(NonZeroU32::new(number as u32).expect("the first unit of a cycle is nobody's"))
    }

    /// Makes room for so many bytes; returns which chunk has it.
    fn begin_chunk(&mut self, bytes: usize) -> usize {
        let place = self.chunks.len();
        // The first unit of a cycle is nobody's, since 0 is no row.
        let used = self.unused(place);
        let length = CHUNK.max(used + bytes);
        let mut chunk = Vec::with_capacity(length);
        chunk.resize(used, 0);
        self.chunks.push_back(chunk);
        self.chunks.extend((CHUNK..length).step_by(CHUNK).map(|_| Vec::new()));
        place
    }

    /// How many bytes at the begin of a chunk are nobody's.
    fn unused(&self, place: usize) -> usize {
        if (self.gone + place).is_multiple_of(CHUNKS_OF_CYCLE) { UNIT } else { 0 }
    }

    /// The row, and whatever stands behind it: its layout knows where it ends.
    pub(super) fn row(&self, id: RowId) -> &[u8] {
        let (chunk, start) = self.place(id);
        &self.chunks[chunk][start + self.header_bytes..]
    }

    /// A word of the row's header.
    pub(super) fn word(&self, id: RowId, word: usize) -> u32 {
        let (chunk, start) = self.place(id);
        let bytes = &self.chunks[chunk][start + word * WORD..][..WORD];
        u32::from_le_bytes(bytes.try_into().expect("a word is 4 bytes"))
    }

    /// Sets a word of the row's header.
    pub(super) fn set_word(&mut self, id: RowId, word: usize, value: u32) {
        let (chunk, start) = self.place(id);
        self.chunks[chunk][start + word * WORD..][..WORD].copy_from_slice(&value.to_le_bytes());
    }

    /// The rows in the order of their ids; `length` says how long the row at the begin of some
    /// bytes is.
    pub(super) fn iter(&self, length: impl Fn(&[u8]) -> usize) -> impl Iterator<Item = RowId> {
        let mut last = None;
        std::iter::from_fn(move || {
            last = self.following(last, &length);
            last
        })
    }

    /// The row after one, or the first.
    pub(super) fn following(
        &self,
        row: Option<RowId>,
        length: impl Fn(&[u8]) -> usize,
    ) -> Option<RowId> {
        let (mut chunk, mut at) = row.map_or((0, self.unused(0)), |row| {
            let (chunk, start) = self.place(row);
            let bytes = self.header_bytes + length(self.row(row));
            (chunk, start + bytes.next_multiple_of(UNIT))
        });
        while at >= self.chunks.get(chunk)?.len() {
            chunk += 1;
            at = self.unused(chunk);
        }
        let number = (self.gone + chunk) % CHUNKS_OF_CYCLE * UNITS_OF_CHUNK + at / UNIT;
        RowId::from_word(number as u32)
    }

    /// Whether a row stands that some row that stands, or that was appended after it, names.
    pub(super) fn has(&self, id: RowId) -> bool {
        self.gone == 0 || id.number().wrapping_sub(self.first_number()) < WINDOW
    }

    /// In which order two rows that stand were appended.
    pub(super) fn order(&self, row: RowId, other: RowId) -> Ordering {
        self.place(row).cmp(&self.place(other))
    }

    /// Whether a row was appended before another; both stand.
    pub(super) fn is_older(&self, row: RowId, other: RowId) -> bool {
        self.order(row, other).is_lt()
    }

    /// The rows of the oldest chunk, where nothing is appended to it any more; `length` says how
    /// long a row is.
    pub(super) fn oldest(&self, length: impl Fn(RowId) -> usize) -> Vec<RowId> {
        let mut rows = Vec::new();
        if self.chunks.iter().skip(1).all(Vec::is_empty) {
            return rows;
        }
        loop {
            let last = rows.last().copied();
            let next = self.following(last, |_| last.map_or(0, &length));
            match next.filter(|row| self.place(*row).0 == 0) {
                Some(row) => rows.push(row),
                None => return rows,
            }
        }
    }

    /// Lets go the oldest chunk, and what belongs to its long row.
    pub(super) fn let_go_oldest(&mut self) {
        self.chunks.pop_front();
        self.gone += 1;
        while self.chunks.front().is_some_and(Vec::is_empty) {
            self.chunks.pop_front();
            self.gone += 1;
        }
    }

    fn first_number(&self) -> u32 {
        (self.gone % CHUNKS_OF_CYCLE * UNITS_OF_CHUNK) as u32
    }

    fn place(&self, RowId(number): RowId) -> (usize, usize) {
        let number = number.get().wrapping_sub(self.first_number()) as usize;
        (number / UNITS_OF_CHUNK, number % UNITS_OF_CHUNK * UNIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_length_stay_where_they_are() {
        let lengths = [1, 8, 100, CHUNK - 8, 7, CHUNK, 2 * CHUNK + 1, 3, 9];
        let mut slab = Slab::new(3);
        let content = |place: usize| {
            let mut row = vec![place as u8 + 1; lengths[place]];
            row[0] = place as u8;
            row
        };
        let ids: Vec<RowId> = (0..lengths.len()).map(|place| slab.push(&content(place))).collect();
        let in_order = |pair: &[RowId]| slab.is_older(pair[0], pair[1]);
        assert!(ids.windows(2).all(in_order) && !slab.is_older(ids[1], ids[1]));
        for (place, id) in ids.iter().enumerate() {
            slab.set_word(*id, 2, place as u32 + 7);
        }
        for (place, id) in ids.iter().enumerate() {
            assert_eq!(slab.row(*id)[..lengths[place]], content(place));
            assert_eq!((slab.word(*id, 1), slab.word(*id, 2)), (0, place as u32 + 7));
        }
        let walked: Vec<RowId> = slab.iter(|row| lengths[usize::from(row[0])]).collect();
        assert_eq!(walked, ids);
    }

    #[test]
    fn oldest_rows_go_and_numbers_begin_again() {
        // Begins a few chunks before numbers do so.
        let mut slab = Slab { gone: CHUNKS_OF_CYCLE - 3, ..Slab::new(1) };
        let long = |number: u32| number % 97 == 5;
        let length = |number: u32| if long(number) { CHUNK + 9 } else { 60 };
        let number_of = |row: &[u8]| u32::from_le_bytes(row[..4].try_into().unwrap_or_default());
        let length_of = |row: &[u8]| length(number_of(row));
        let (mut standing, mut gone) = (VecDeque::new(), Vec::new());
        for number in 0..2_000_u32 {
            let mut row = vec![7; length(number)];
            row[..4].copy_from_slice(&number.to_le_bytes());
            let id = slab.push(&row);
            let is_newer = |(last, _): &(RowId, u32)| slab.is_older(*last, id);
            assert!(standing.back().is_none_or(is_newer));
            standing.push_back((id, number));
            if standing.len() > 300 {
                for row in slab.oldest(|row| length_of(slab.row(row))) {
                    assert_eq!(standing.pop_front().map(|(id, _)| id), Some(row));
                    gone.push(row);
                }
                slab.let_go_oldest();
            }
            let walked: Vec<RowId> = slab.iter(length_of).collect();
            assert_eq!(walked.len(), standing.len());
            for (id, number) in &standing {
                assert!(slab.has(*id));
                assert_eq!(slab.row(*id)[..4], number.to_le_bytes());
            }
            assert!(gone.iter().all(|id| !slab.has(*id)));
        }
        assert!(slab.gone > CHUNKS_OF_CYCLE && gone.len() > 1_000);
    }
}
