//! Dead letters: events that are no records, kept as they came.
//!
//! Shape: reason, column, place, the original bytes.
//!
//! Invariants: a dead letter never touches a view (P6); its bytes reach the dead-letter sink alone,
//! never a log or an error (P11).
//!
//! Not here: where they are kept (`sink::dead_letters`).

use std::fmt;

use super::Place;

/// Why an event is no record. The name is stable: people filter by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Longer than `bytes_max`.
    TooLong,
    /// Not UTF-8.
    NotUtf8,
    /// Not JSON.
    NotJson,
    /// Nested deeper than `depth_max`.
    TooDeep,
    /// JSON, but no object.
    NotObject,
    /// A column that every event must have is missing or null.
    Missing,
    /// A column is not written as its type asks.
    WrongForm,
    /// A column lies outside its range.
    OutOfRange,
    /// Made longer before its record was written than the horizon allows.
    BehindHorizon,
    /// An event with this key and other columns came before.
    KeyTaken,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 10] = [
        Reason::TooLong,
        Reason::NotUtf8,
        Reason::NotJson,
        Reason::TooDeep,
        Reason::NotObject,
        Reason::Missing,
        Reason::WrongForm,
        Reason::OutOfRange,
        Reason::BehindHorizon,
        Reason::KeyTaken,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Reason::TooLong => "too_long",
            Reason::NotUtf8 => "not_utf8",
            Reason::NotJson => "not_json",
            Reason::TooDeep => "too_deep",
            Reason::NotObject => "not_object",
            Reason::Missing => "missing",
            Reason::WrongForm => "wrong_form",
            Reason::OutOfRange => "out_of_range",
            Reason::BehindHorizon => "behind_horizon",
            Reason::KeyTaken => "key_taken",
        }
    }
}

/// Why an event is no record, and which column is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The column's position among the events' columns, where one is at fault.
    pub column: Option<crate::row::ColumnId>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Refusal { reason, column: None }
    }
}

/// An event that is no record.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it stood.
    pub place: Place,
    /// Why it is none.
    pub refusal: Refusal,
    /// The event, byte for byte; its beginning where it is larger than what can be kept.
    pub bytes: Box<[u8]>,
    /// How many bytes it had.
    pub size: usize,
    /// The key of its record, where the input has one.
    pub key: Option<Box<[u8]>>,
    /// When the record was written, in ms since 1970, where the input says so.
    pub time_ms: Option<i64>,
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeadLetter { place, refusal, bytes, .. } = self;
        write!(f, "DeadLetter({place:?}, {refusal:?}, {} bytes)", bytes.len())
    }
}
