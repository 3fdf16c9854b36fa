//! Layouts: where each column stands in a packed row.
//!
//! Shape: `[presence bits][slots of fixed width, in column order][text, in column order]`.
//!
//! Invariants: absent columns have a clear bit and a zero slot, and text stands in column order, so
//! one content has one sequence of bytes; a slot is as wide as its kind's range needs.
//!
//! Not here: what a column is called, and reading it from JSON (`row::kind`).

use super::{Kind, Row, Value, shared::Shared};
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

    /// What a row says in a column; `None` where it says nothing.
    pub fn get<'r>(&self, row: &'r Row, column: ColumnId) -> Option<Value<&'r str>> {
        let (place, bytes) = (usize::from(column.0), row.bytes());
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
                let place = unsigned(written);
                let (start, length) = ((place >> 32) as usize, (place as u32) as usize);
                let text = str::from_utf8(&bytes[start..start + length]);
                Value::Text(text.expect("a row's text was packed from text"))
            }
        })
    }
}

/// A row in the making. Columns must be put in column order, each at most once.
pub struct RowBuilder<'l> {
    layout: &'l Layout,
    bytes: Vec<u8>,
    next: usize,
}

impl<'l> RowBuilder<'l> {
    /// A row in which every column is absent.
    pub fn new(layout: &'l Layout) -> RowBuilder<'l> {
        RowBuilder { layout, bytes: vec![0; layout.fixed_bytes], next: 0 }
    }

    /// Says a column's value, which must be of the column's kind and in its range.
    ///
    /// # Panics
    /// When columns come out of order or a value is not of its column's kind: both are our mistake.
    pub fn put(&mut self, column: ColumnId, value: Value<&str>) {
        let place = usize::from(column.0);
        assert!(place >= self.next, "columns are packed in order, each once");
        self.next = place + 1;
        self.bytes[place / 8] |= 1 << (place % 8);
        let slot = &self.layout.slots[place];
        let written: u128 = match (value, &slot.kind) {
            (Value::Uuid(bytes), Kind::Uuid) => u128::from_be_bytes(bytes),
            (Value::Integer(number), Kind::Integer { low, .. }) => (number - low) as u128,
            (Value::Day(day), Kind::Day { .. }) => day.packed().into(),
            (Value::Moment(moment), Kind::Moment { .. }) => moment.packed().into(),
            (Value::Text(text), Kind::Text { .. }) => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(text.as_bytes());
                (start as u128) << 32 | text.len() as u128
            }
            (value, kind) => panic!("a value of {value:?} in a column of {}", kind.name()),
        };
        let end = slot.offset + slot.width;
        self.bytes[slot.offset..end].copy_from_slice(&written.to_be_bytes()[16 - slot.width..]);
    }

    /// The finished row.
    pub fn finish(self) -> Row {
        Row(Shared::of_bytes(self.bytes))
    }
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
        let mut builder = RowBuilder::new(&layout);
        for (place, value) in values.iter().enumerate() {
            if let Some(value) = value {
                builder.put(ColumnId(place as u16), *value);
            }
        }
        let row = builder.finish();
        for (place, value) in values.iter().enumerate() {
            assert_eq!(layout.get(&row, ColumnId(place as u16)), *value, "column {place}");
        }
    }
}
