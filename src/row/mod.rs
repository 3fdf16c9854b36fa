//! Packed rows: how events and documents are held and compared.
//!
//! Shape: a `Row` is the bytes of one event or one document, laid out by a `Layout` that comes from
//! the spec; a `Key` is the bytes of one or more columns, in an order that bytes can be compared in.
//!
//! Invariants: one content has one row (normalized before it is packed), so equal rows are equal
//! events; a row is shared, never changed.
//!
//! Not here: names of columns and which layout a row has: who holds a row knows its place.

pub mod json;
pub mod kind;
pub mod layout;
pub mod record;
pub mod value;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

pub use kind::{Kind, Misfit};
pub use layout::{ColumnId, Layout, RowBuilder};
pub use record::{LookupId, Record};
pub use value::Value;

/// The packed columns of one event or document.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Row(Arc<[u8]>);

impl Row {
    /// The bytes, for the `Layout` that packed them.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Says the size alone: rows hold personal data, which must not reach a log or a panic (P11).
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} bytes)", self.0.len())
    }
}

/// Columns as bytes whose order is the order of the values: the key of a lookup, a view or a group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The key of values given in order; an absent value comes before every other.
    pub fn of<'a>(values: impl IntoIterator<Item = Option<Value<&'a str>>>) -> Key {
        let mut bytes = Vec::with_capacity(32);
        for value in values {
            push_ordered(&mut bytes, value);
        }
        Key(bytes.into())
    }

    /// The bytes, for hashing to a shard.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
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
        fn key_order_is_value_order(a in (text(), value(), text()), b in (text(), value(), text())) {
            let key = |(x, y, z): &(Option<Value>, Option<Value>, Option<Value>)| {
                Key::of([x, y, z].map(|v| v.as_ref().map(Value::borrowed)))
            };
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
        }
    }

    #[test]
    fn days_order_by_calendar() {
        let day = |y, m, d| Key::of([Day::new(y, m, d).map(Value::Day)]);
        assert!(day(2025, 1, 31) < day(2025, 2, 1));
        assert!(day(2024, 12, 31) < day(2025, 1, 1));
    }
}
