//! The dataflow: from events and documents to views, as differential collections.
//!
//! Shape:
//!
//! ```text
//! events ─▶ dedupe ─▶ enrich (a lookup after the other) ─▶ latest ─▶ counts
//!              │         ▲                                            each view a collection
//!              ▼         │
//!            taken    reference ◀─ claims
//! ```
//!
//! Invariants: pure: no clock, file, socket, randomness, environment or thread. The same inputs
//! give the same collections at the end, however they are cut into epochs, on any number of
//! workers, in any order across partitions (P12).
//!
//! Not here: bytes (`source::decode`, `reference::project`), files and progress (`engine`, `sink`).

pub mod build;
mod count;
mod dedupe;
mod enrich;
mod latest;
mod reference;

use differential_dataflow::VecCollection;
use serde::{Deserialize, Serialize};

use crate::{
    row::{Record, Row, Value},
    source::Place,
    time::Epoch,
};

pub use build::{Views, build};

/// How often a datum is added, or taken away.
pub type Diff = isize;

/// A collection at the engine's time.
pub type Collection<'s, D> = VecCollection<'s, Epoch, D, Diff>;

/// A decoded event and where it stood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Event {
    /// Its partition and offset.
    pub place: Place,
    /// Its columns.
    pub row: Row,
}

/// One row of a view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ViewRow {
    /// Of a view of records.
    Record(Record),
    /// Of a view of counts.
    Counts(CountsRow),
}

/// One group and its numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CountsRow {
    /// The group's values, in the order of the view's `by`.
    pub group: Vec<Option<Value>>,
    /// The numbers, in the order of the view's `counts`.
    pub numbers: Vec<i64>,
}
