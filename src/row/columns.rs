//! Columns of packed rows, hashed and compared where they stand.
//!
//! Shape: some columns of a layout, in an order of their own; a hash, an equality and an order of
//! rows by them alone.
//!
//! Invariants: the same as of the values: slots are as wide as their kind, big-endian and counted
//! from the least value, so comparing bytes compares values; an absent value is lowest.
//!
//! Not here: keys that outlive a row or meet those of another layout (`row::Key`).

use std::cmp::Ordering;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{ColumnId, Kind, Layout};

/// Some columns of one layout.
#[derive(Clone, Debug)]
pub struct Columns {
    parts: Vec<Part>,
    /// Bytes that are hashed, where all columns are of fixed width and they are few.
    hashed_bytes: Option<usize>,
}

#[derive(Clone, Debug)]
struct Part {
    start: usize,
    end: usize,
    /// The byte and bit that say whether the column is present; `None` where it always is.
    presence: Option<(usize, u8)>,
    is_text: bool,
}

/// Most bytes that are put together on the stack to be hashed at once.
const HASHED_BYTES_MAX: usize = 64;

impl Columns {
    /// These columns of `layout`, in this order; `is_optional` says which may be absent.
    pub fn new(
        layout: &Layout,
        columns: &[ColumnId],
        is_optional: impl Fn(ColumnId) -> bool,
    ) -> Columns {
        let parts: Vec<Part> = columns
            .iter()
            .map(|column| {
                let (slot, byte, bit) = layout.slot(*column);
                let presence = is_optional(*column).then_some((byte, bit));
                let is_text = matches!(layout.kind(*column), Kind::Text { .. });
                Part { start: slot.start, end: slot.end, presence, is_text }
            })
            .collect();
        let bytes: usize = parts.iter().map(|part| 1 + part.end - part.start).sum();
        let few = bytes <= HASHED_BYTES_MAX && !parts.iter().any(|part| part.is_text);
        Columns { parts, hashed_bytes: few.then_some(bytes) }
    }

    /// A hash of what the row at the beginning of `row` says in these columns.
    pub fn hash(&self, row: &[u8]) -> u64 {
        let Some(bytes) = self.hashed_bytes else { return self.hash_piecewise(row) };
        let (mut together, mut filled) = ([0; HASHED_BYTES_MAX], 0);
        for part in &self.parts {
            together[filled] = u8::from(part.is_present(row));
            let slot = part.slot(row);
            together[filled + 1..filled + 1 + slot.len()].copy_from_slice(slot);
            filled += 1 + slot.len();
        }
        xxh3_64(&together[..bytes])
    }

    fn hash_piecewise(&self, row: &[u8]) -> u64 {
        let mut hasher = Xxh3::new();
        for part in &self.parts {
            let content = part.content(row);
            hasher.update(&[u8::from(part.is_present(row))]);
            hasher.update(&(content.len() as u64).to_le_bytes());
            hasher.update(content);
        }
        hasher.digest()
    }

    /// Whether two rows say the same in these columns.
    pub fn equal(&self, a: &[u8], b: &[u8]) -> bool {
        self.parts.iter().all(|part| {
            part.is_present(a) == part.is_present(b) && part.content(a) == part.content(b)
        })
    }

    /// How two rows stand in the order of these columns, from left to right.
    pub fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        for part in &self.parts {
            let by_presence = part.is_present(a).cmp(&part.is_present(b));
            let order = by_presence.then_with(|| part.content(a).cmp(part.content(b)));
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }

    /// The first bytes of the first column, so that most comparisons need no more: where two rows
    /// differ in it, the lower number is the lower row.
    pub fn prefix(&self, row: &[u8]) -> u64 {
        let Some(part) = self.parts.first() else { return 0 };
        let content = part.content(row);
        let (mut first, taken) = ([0; 8], content.len().min(8));
        first[..taken].copy_from_slice(&content[..taken]);
        // An absent value is lowest, and equal there to a present one of zeros: no order is lost.
        u64::from_be_bytes(first)
    }

    /// Appends what a row says in these columns, so that equal values give equal bytes.
    pub fn append(&self, row: &[u8], bytes: &mut Vec<u8>) {
        for part in &self.parts {
            if part.presence.is_some() {
                bytes.push(u8::from(part.is_present(row)));
            }
            let content = part.content(row);
            if part.is_text {
                bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
            }
            bytes.extend_from_slice(content);
        }
    }
}

impl Part {
    fn is_present(&self, row: &[u8]) -> bool {
        self.presence.is_none_or(|(byte, bit)| row[byte] & bit != 0)
    }

    fn slot<'r>(&self, row: &'r [u8]) -> &'r [u8] {
        &row[self.start..self.end]
    }

    fn content<'r>(&self, row: &'r [u8]) -> &'r [u8] {
        let slot = self.slot(row);
        if self.is_text {
            let (start, length) = super::layout::text_place(slot);
            &row[start..start + length]
        } else {
            slot
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::row::{Key, Rank, RowBuilder, Value};

    /// Values of three columns, the last of any text.
    type Values = (Option<i64>, Option<u8>, Option<String>);

    fn layout() -> Layout {
        Layout::new([
            Kind::Integer { low: i64::MIN.into(), high: i64::MAX.into() },
            Kind::Integer { low: -100, high: 155 },
            Kind::Text { bytes_max: 100 },
        ])
    }

    fn values((a, b, c): &Values) -> [Option<Value<&str>>; 3] {
        let b = b.map(|b| Value::Integer(i128::from(b) - 100));
        [a.map(|a| Value::Integer(a.into())), b, c.as_deref().map(Value::Text)]
    }

    fn row(content: &Values) -> Vec<u8> {
        let (layout, mut bytes) = (layout(), Vec::new());
        let mut builder = RowBuilder::new(&layout, &mut bytes);
        for (place, value) in values(content).into_iter().enumerate() {
            if let Some(value) = value {
                builder.put(ColumnId(place as u16), value);
            }
        }
        bytes
    }

    fn any_values() -> impl Strategy<Value = Values> {
        let integer =
            prop_oneof![Just(None), (-2i64..3).prop_map(Some), any::<i64>().prop_map(Some)];
        let text = prop_oneof![Just(None), "[\u{0}aя]{0,3}".prop_map(Some)];
        (integer, proptest::option::of(98u8..103), text)
    }

    proptest! {
        #[test]
        fn columns_agree_with_keys_and_ranks(a in any_values(), b in any_values()) {
            let (row_a, row_b) = (row(&a), row(&b));
            for chosen in [&[0u16, 1][..], &[1, 2], &[2, 0, 1], &[1]] {
                let ids: Vec<ColumnId> = chosen.iter().map(|id| ColumnId(*id)).collect();
                let columns = Columns::new(&layout(), &ids, |_| true);
                let (all_a, all_b) = (values(&a), values(&b));
                let of_a = || chosen.iter().map(|id| all_a[usize::from(*id)]);
                let of_b = || chosen.iter().map(|id| all_b[usize::from(*id)]);
                let same = Key::of(of_a()) == Key::of(of_b());
                let order = Rank::of(of_a()).cmp(&Rank::of(of_b()));
                prop_assert_eq!(columns.equal(&row_a, &row_b), same);
                prop_assert_eq!(columns.compare(&row_a, &row_b), order);
                prop_assert!(!same || columns.hash(&row_a) == columns.hash(&row_b));
                let by_prefix = columns.prefix(&row_a).cmp(&columns.prefix(&row_b));
                prop_assert!(by_prefix == Ordering::Equal || by_prefix == order);
                let bytes = |row: &[u8]| {
                    let mut out = Vec::new();
                    columns.append(row, &mut out);
                    out
                };
                prop_assert_eq!(bytes(&row_a) == bytes(&row_b), same);
            }
        }
    }
}
