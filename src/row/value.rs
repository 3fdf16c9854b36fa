//! Values: what one column of one row says.
//!
//! Shape: a closed set of kinds; `Value<&str>` borrows from a row, `Value` owns its text.
//!
//! Invariants: values of one column are of one kind, so their derived order is the column's order.
//!
//! Not here: absence, which is `Option<Value>`; names of columns (`spec`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::{Day, Moment};

/// One value; `T` is how text is held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Value<T = Box<str>> {
    /// A UUID, in the order of its text.
    Uuid([u8; 16]),
    /// Any integer of 64 bits, signed or not.
    Integer(i128),
    /// A calendar day.
    Day(Day),
    /// A wall-clock moment.
    Moment(Moment),
    /// Text in UTF-8.
    Text(T),
}

impl<T: AsRef<str>> Value<T> {
    /// The same value with its text borrowed.
    pub fn borrowed(&self) -> Value<&str> {
        match self {
            Value::Uuid(bytes) => Value::Uuid(*bytes),
            Value::Integer(number) => Value::Integer(*number),
            Value::Day(day) => Value::Day(*day),
            Value::Moment(moment) => Value::Moment(*moment),
            Value::Text(text) => Value::Text(text.as_ref()),
        }
    }

    /// The same value with text of its own.
    pub fn owned(&self) -> Value {
        match self.borrowed() {
            Value::Text(text) => Value::Text(text.into()),
            Value::Uuid(bytes) => Value::Uuid(bytes),
            Value::Integer(number) => Value::Integer(number),
            Value::Day(day) => Value::Day(day),
            Value::Moment(moment) => Value::Moment(moment),
        }
    }
}

/// The value as people read it; `row::json` writes it as JSON.
impl<T: AsRef<str>> fmt::Display for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Uuid(bytes) => uuid::Uuid::from_bytes(*bytes).as_hyphenated().fmt(f),
            Value::Integer(number) => number.fmt(f),
            Value::Day(day) => day.fmt(f),
            Value::Moment(moment) => moment.fmt(f),
            Value::Text(text) => text.as_ref().fmt(f),
        }
    }
}

/// Says the kind alone: values may be personal data and must not reach a log or a panic (P11).
impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Value::Uuid(_) => "Uuid",
            Value::Integer(_) => "Integer",
            Value::Day(_) => "Day",
            Value::Moment(_) => "Moment",
            Value::Text(_) => "Text",
        })
    }
}
