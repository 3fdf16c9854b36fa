//! The slab: packed rows, appended and never moved.
//!
//! Shape: a row goes in with a header of words, a `RowId` comes out; rows are read by it for ever.
//!
//! Invariants: ids grow in the order in which rows were appended; no row moves, so growing copies
//! nothing; a row lies within one chunk.
//!
//! Not here: what words and rows mean (`dataflow::fused`, `dataflow::dedupe`).

use std::num::NonZeroU32;

/// Where a row stands, in units of `UNIT` bytes: 32 GiB can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
const CHUNK: usize = 1 << 20;
const UNITS_OF_CHUNK: usize = CHUNK / UNIT;

const WORD: usize = size_of::<u32>();

/// Rows of one length of header.
pub(super) struct Slab {
    header_bytes: usize,
    /// A chunk of a long row is followed by empty ones, so that numbers stay places.
    chunks: Vec<Vec<u8>>,
}

impl Slab {
    /// An empty slab whose rows have so many words before them.
    pub(super) fn new(header_words: usize) -> Slab {
        Slab { header_bytes: header_words * WORD, chunks: Vec::new() }
    }

    /// Appends a row under a header of zeros.
    ///
    /// # Panics
    /// When 32 GiB are full.
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
        let number = u32::try_from(place * UNITS_OF_CHUNK + start / UNIT);
        let number = number.expect("a worker holds at most 32 GiB of rows: use more workers");
        RowId(NonZeroU32::new(number).expect("the first unit is nobody's"))
    }

    /// Makes room for so many bytes; returns which chunk has it.
    fn begin_chunk(&mut self, bytes: usize) -> usize {
        let place = self.chunks.len();
        // The first unit of all is nobody's, since 0 is no row.
        let used = if place == 0 { UNIT } else { 0 };
        let length = CHUNK.max(used + bytes);
        let mut chunk = Vec::with_capacity(length);
        chunk.resize(used, 0);
        self.chunks.push(chunk);
        self.chunks.extend((CHUNK..length).step_by(CHUNK).map(|_| Vec::new()));
        place
    }

    /// The row, and whatever stands behind it: its layout knows where it ends.
    pub(super) fn row(&self, id: RowId) -> &[u8] {
        let (chunk, start) = place(id);
        &self.chunks[chunk][start + self.header_bytes..]
    }

    /// A word of the row's header.
    pub(super) fn word(&self, id: RowId, word: usize) -> u32 {
        let (chunk, start) = place(id);
        let bytes = &self.chunks[chunk][start + word * WORD..][..WORD];
        u32::from_le_bytes(bytes.try_into().expect("a word is 4 bytes"))
    }

    /// Sets a word of the row's header.
    pub(super) fn set_word(&mut self, id: RowId, word: usize, value: u32) {
        let (chunk, start) = place(id);
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
        let (mut chunk, mut at) = row.map_or((0, UNIT), |row| {
            let (chunk, start) = place(row);
            let bytes = self.header_bytes + length(self.row(row));
            (chunk, start + bytes.next_multiple_of(UNIT))
        });
        while at >= self.chunks.get(chunk)?.len() {
            (chunk, at) = (chunk + 1, 0);
        }
        RowId::from_word((chunk * UNITS_OF_CHUNK + at / UNIT) as u32)
    }
}

fn place(RowId(number): RowId) -> (usize, usize) {
    let number = number.get() as usize;
    (number / UNITS_OF_CHUNK, number % UNITS_OF_CHUNK * UNIT)
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
        assert!(ids.is_sorted());
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
}
