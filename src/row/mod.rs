//! Packed rows: how events and documents are held and compared.
//!
//! Shape: a `Row` is the bytes of one event or one document, laid out by a `Layout` that comes from
//! the spec; a `Key` is one or more columns that identify something, a `Rank` columns in whose
//! order things stand.
//!
//! Invariants: one content has one row (normalized before it is packed), so equal rows are equal
//! events; a row is shared, never changed.
//!
//! Not here: names of columns and which layout a row has: who holds a row knows its place.

pub mod columns;
pub mod json;
pub mod kind;
pub mod layout;
pub mod record;
pub mod rows;
mod shared;
pub mod value;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use columns::Columns;
pub use kind::{Kind, Misfit};
pub use layout::{ColumnId, Layout, RowBuilder};
pub use record::{Joined, LookupId, Record};
pub use rows::Rows;
pub use value::Value;

use shared::Shared;

/// The packed columns of one event or document. Rows have an order, but none that means anything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Row(Shared<[u8]>);

impl Row {
    /// Shares the bytes that a `RowBuilder` packed.
    pub fn of_bytes(bytes: &[u8]) -> Row {
        Row(Shared::of_bytes(bytes))
    }

    /// The bytes, for the `Layout` that packed them.
    pub fn bytes(&self) -> &[u8] {
        self.0.content()
    }

    fn hash(&self) -> u64 {
        self.0.hash()
    }
}

/// Says the size alone: rows hold personal data, which must not reach a log or a panic (P11).
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} bytes)", self.bytes().len())
    }
}

/// Columns that identify: an event, a document, a row of a view, a group. Keys have an order, but
/// none that means anything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(Shared<[u8]>);

impl Key {
    /// The key of values.
    pub fn of<'a>(values: impl IntoIterator<Item = Option<Value<&'a str>>>) -> Key {
        Key(Shared::of_bytes(&ordered_bytes(values)))
    }

    /// The key that consists of these bytes.
    pub fn of_bytes(bytes: &[u8]) -> Key {
        Key(Shared::of_bytes(bytes))
    }

    /// Appends the bytes of which a key of these values would consist.
    pub fn append<'a>(
        values: impl IntoIterator<Item = Option<Value<&'a str>>>,
        bytes: &mut Vec<u8>,
    ) {
        values.into_iter().for_each(|value| push_ordered(bytes, value));
    }

    /// The bytes of the key.
    pub fn bytes(&self) -> &[u8] {
        self.0.content()
    }

    /// The number of which alone it was made; `None` where it was made of anything else.
    pub fn integer(&self) -> Option<i128> {
        let [1, number @ ..] = self.bytes() else { return None };
        let number: [u8; 9] = number.try_into().ok()?;
        let mut wide = [0; 16];
        wide[7..].copy_from_slice(&number);
        Some(i128::from_be_bytes(wide) - (1 << 63))
    }

    /// The hash of the key that consists of these bytes.
    pub fn hash_of_bytes(bytes: &[u8]) -> u64 {
        shared::hash_of_bytes(bytes)
    }

    /// The XXH3 hash of the key's bytes: the same on every machine, for ever, since shards go by
    /// it.
    pub fn hash(&self) -> u64 {
        self.0.hash()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.content().len())
    }
}

/// Columns by which things stand in order: from left to right, an absent value lowest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rank(Box<[u8]>);

impl Rank {
    /// The rank of values.
    pub fn of<'a>(values: impl IntoIterator<Item = Option<Value<&'a str>>>) -> Rank {
        Rank(ordered_bytes(values).into())
    }
}

impl fmt::Debug for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rank({} bytes)", self.0.len())
    }
}

/// Values as bytes whose order is the order of the values.
fn ordered_bytes<'a>(values: impl IntoIterator<Item = Option<Value<&'a str>>>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    for value in values {
        push_ordered(&mut bytes, value);
    }
    bytes
}

/// Appends a value so that comparing bytes compares values, whatever follows.
fn push_ordered(bytes: &mut Vec<u8>, value: Option<Value<&str>>) {
    let Some(value) = value else { return bytes.push(0) };
    bytes.push(1);
    match value {
        Value::Uuid(uuid) => bytes.extend_from_slice(&uuid),
        Value::Day(day) => bytes.extend_from_slice(&day.packed().to_be_bytes()),
        Value::Moment(moment) => bytes.extend_from_slice(&moment.packed().to_be_bytes()),
        // Every column lies in -2^63..2^64, so 9 bytes hold it after the shift into the positive.
        Value::Integer(number) => {
            bytes.extend_from_slice(&(number + (1 << 63)).to_be_bytes()[7..]);
        }
        // The end mark 0,0 sorts below every continuation, since a zero inside is written 0,255.
        Value::Text(text) => {
            for byte in text.bytes() {
                bytes.push(byte);
                if byte == 0 {
                    bytes.push(255);
                }
            }
            bytes.extend_from_slice(&[0, 0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Day;

    #[test]
    fn rows_and_keys_never_print_their_content() {
        let key = Key::of([Some(Value::Text("Иванов"))]);
        assert!(!format!("{key:?}").contains("Иванов"));
        assert!(!format!("{:?}", Value::Text("Иванов")).contains("Иванов"));
    }

    fn value() -> impl Strategy<Value = Option<Value>> {
        prop_oneof![
            Just(None),
            any::<i64>().prop_map(|n| Some(Value::Integer(n.into()))),
            any::<u64>().prop_map(|n| Some(Value::Integer(n.into()))),
        ]
    }

    fn text() -> impl Strategy<Value = Option<Value>> {
        prop_oneof![
            Just(None),
            "[\u{0}\u{1}a\u{ff}я]{0,4}".prop_map(|t| Some(Value::Text(t.into()))),
        ]
    }

    proptest! {
        #[test]
        fn rank_order_is_value_order(
            a in (text(), value(), text()),
            b in (text(), value(), text()),
        ) {
            let rank = |(x, y, z): &(Option<Value>, Option<Value>, Option<Value>)| {
                Rank::of([x, y, z].map(|v| v.as_ref().map(Value::borrowed)))
            };
            prop_assert_eq!(rank(&a).cmp(&rank(&b)), a.cmp(&b));
        }
    }

    #[test]
    fn days_order_by_calendar() {
        let day = |y, m, d| Rank::of([Day::new(y, m, d).map(Value::Day)]);
        assert!(day(2025, 1, 31) < day(2025, 2, 1));
        assert!(day(2024, 12, 31) < day(2025, 1, 1));
    }
}
