//! Layouts: where each column stands in a packed row.
//!
//! Shape: `[presence bits][slots of fixed width, in column order][text, in column order]`.
//!
//! Invariants: absent columns have a clear bit and a zero slot, and text stands in column order, so
//! one content has one sequence of bytes; a slot is as wide as its kind's range needs.
//!
//! Not here: what a column is called, and reading it from JSON (`row::kind`).

use super::{Kind, Value};
use crate::time::{Day, Moment};

/// A column's position among the columns of its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub u16);

/// Offsets and widths of the columns of one sort of row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    slots: Vec<Slot>,
    fixed_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    kind: Kind,
    offset: usize,
    width: usize,
}

impl Layout {
    /// Lays out columns of these kinds, in this order.
    pub fn new(kinds: impl IntoIterator<Item = Kind>) -> Layout {
        let kinds: Vec<Kind> = kinds.into_iter().collect();
        let mut offset = kinds.len().div_ceil(8);
        let mut slots = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let width = kind.width();
            slots.push(Slot { kind, offset, width });
            offset += width;
        }
        Layout { slots, fixed_bytes: offset }
    }

    /// Bytes of a row before its text.
    pub fn fixed_bytes(&self) -> usize {
        self.fixed_bytes
    }

    /// The kind of a column.
    pub fn kind(&self, column: ColumnId) -> &Kind {
        &self.slots[usize::from(column.0)].kind
    }

    /// Where a column stands: its slot, and the byte and bit that say whether it is present.
    pub(super) fn slot(&self, column: ColumnId) -> (std::ops::Range<usize>, usize, u8) {
        let place = usize::from(column.0);
        let slot = &self.slots[place];
        (slot.offset..slot.offset + slot.width, place / 8, 1 << (place % 8))
    }

    /// Bytes of the row at the beginning of `bytes`, its text included.
    pub fn row_bytes(&self, bytes: &[u8]) -> usize {
        let is_text = |slot: &&Slot| matches!(slot.kind, Kind::Text { .. });
        let texts = self.slots.iter().filter(is_text).map(|slot| {
            let (start, length) = text_place(&bytes[slot.offset..slot.offset + slot.width]);
            start + length
        });
        texts.fold(self.fixed_bytes, usize::max)
    }

    /// What the row at the beginning of `bytes` says in a column; `None` where it says nothing.
    pub fn get<'r>(&self, bytes: &'r [u8], column: ColumnId) -> Option<Value<&'r str>> {
        let place = usize::from(column.0);
        if bytes[place / 8] & (1 << (place % 8)) == 0 {
            return None;
        }
        let slot = &self.slots[place];
        let written = &bytes[slot.offset..slot.offset + slot.width];
        Some(match &slot.kind {
            Kind::Uuid => Value::Uuid(written.try_into().expect("a UUID's slot is 16 bytes")),
            Kind::Integer { low, .. } => Value::Integer(i128::from(unsigned(written)) + low),
            Kind::Day { .. } => Value::Day(Day::from_packed(unsigned(written) as u32)),
            Kind::Moment { .. } => Value::Moment(Moment::from_packed(unsigned(written))),
            Kind::Text { .. } => {
                let (start, length) = text_place(written);
                let text = str::from_utf8(&bytes[start..start + length]);
                Value::Text(text.expect("a row's text was packed from text"))
            }
        })
    }
}

/// A row in the making, at the end of `bytes`. Each column is put at most once; text in column
/// order, so that one content has one sequence of bytes.
pub struct RowBuilder<'l> {
    layout: &'l Layout,
    bytes: &'l mut Vec<u8>,
    /// Where the row begins.
    start: usize,
    /// The first column that may still be text.
    next_text: usize,
}

impl<'l> RowBuilder<'l> {
    /// Begins a row in which every column is absent; what stands in `bytes` stays before it.
    pub fn new(layout: &'l Layout, bytes: &'l mut Vec<u8>) -> RowBuilder<'l> {
        let start = bytes.len();
        bytes.resize(start + layout.fixed_bytes, 0);
        RowBuilder { layout, bytes, start, next_text: 0 }
    }

    /// Says a column's value, which must be of the column's kind and in its range.
    ///
    /// # Panics
    /// When text comes out of order or a value is not of its column's kind: both are our mistake.
    pub fn put(&mut self, column: ColumnId, value: Value<&str>) {
        let place = usize::from(column.0);
        let slot = &self.layout.slots[place];
        let row = &mut self.bytes[self.start..];
        row[place / 8] |= 1 << (place % 8);
        let written = &mut row[slot.offset..slot.offset + slot.width];
        match (value, &slot.kind) {
            (Value::Uuid(bytes), Kind::Uuid) => written.copy_from_slice(&bytes),
            (Value::Integer(number), Kind::Integer { low, .. }) => {
                write_unsigned(written, (number - low) as u64);
            }
            (Value::Day(day), Kind::Day { .. }) => write_unsigned(written, day.packed().into()),
            (Value::Moment(moment), Kind::Moment { .. }) => {
                write_unsigned(written, moment.packed());
            }
            (Value::Text(text), Kind::Text { .. }) => {
                assert!(place >= self.next_text, "text is packed in column order");
                self.next_text = place + 1;
                let start = (self.bytes.len() - self.start) as u64;
                let row = &mut self.bytes[self.start..];
                let written = &mut row[slot.offset..slot.offset + slot.width];
                write_unsigned(written, start << 32 | text.len() as u64);
                self.bytes.extend_from_slice(text.as_bytes());
            }
            (value, kind) => panic!("a value of {value:?} in a column of {}", kind.name()),
        }
    }
}

fn write_unsigned(slot: &mut [u8], number: u64) {
    let width = slot.len();
    slot.copy_from_slice(&number.to_be_bytes()[8 - width..]);
}

/// Where in its row a text stands, and its length.
pub(super) fn text_place(slot: &[u8]) -> (usize, usize) {
    let place = unsigned(slot);
    ((place >> 32) as usize, (place as u32) as usize)
}

/// The number in a slot of any kind but a UUID's.
fn unsigned(slot: &[u8]) -> u64 {
    match *slot {
        [one] => u64::from(one),
        [a, b] => u64::from(u16::from_be_bytes([a, b])),
        [a, b, c, d] => u64::from(u32::from_be_bytes([a, b, c, d])),
        _ => u64::from_be_bytes(slot.try_into().expect("slots are 1, 2, 4 or 8 bytes wide")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_what_one_gets() {
        let day = Day::new(2025, 8, 13).expect("real");
        let layout = Layout::new([
            Kind::Uuid,
            Kind::Integer { low: -5, high: 10 },
            Kind::Integer { low: 0, high: u64::MAX.into() },
            Kind::Text { bytes_max: 100 },
            Kind::Day { low: Day::MIN, high: Day::MAX },
            Kind::Moment { low: Day::MIN, high: Day::MAX },
            Kind::Text { bytes_max: 100 },
            Kind::Integer { low: i64::MIN.into(), high: i64::MAX.into() },
            Kind::Text { bytes_max: 100 },
        ]);
        let values = [
            Some(Value::Uuid([7; 16])),
            Some(Value::Integer(-5)),
            Some(Value::Integer(u64::MAX.into())),
            Some(Value::Text("Семёнов")),
            None,
            Some(Value::Moment(Moment::end_of(day))),
            Some(Value::Text("")),
            Some(Value::Integer(i64::MIN.into())),
            None,
        ];
        let mut bytes = b"before".to_vec();
        let mut builder = RowBuilder::new(&layout, &mut bytes);
        for (place, value) in values.iter().enumerate() {
            if let Some(value) = value {
                builder.put(ColumnId(place as u16), *value);
            }
        }
        let row = &bytes[6..];
        assert_eq!(layout.row_bytes(row), row.len());
        for (place, value) in values.iter().enumerate() {
            assert_eq!(layout.get(row, ColumnId(place as u16)), *value, "column {place}");
        }
    }
}
