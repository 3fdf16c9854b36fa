//! The dataflow: from events and documents to views.
//!
//! Shape:
//!
//! ```text
//!            a partition each          a worker each: the records of its shards
//! events ─▶ dedupe ─▶ stands ─────┐   ┌────────────────────────────────────────┐
//!              │                  ├──▶│ enrich ─▶ latest                        │──▶ counts
//!              ▼                  │   └────┬───────────────────────────────────┘    each view a
//!           repeats, taken     claims     ▼                                         collection
//!                                      changes of records
//! ```
//!
//! Invariants: pure: no clock, file, socket, randomness, environment or thread. The same inputs
//! give the same collections at the end, however they are cut into epochs, on any number of
//! workers, in any order across partitions (P12).
//!
//! Not here: bytes (`source::decode`, `reference::project`), files and progress (`engine`, `sink`).
//!
//! `fused` is what runs; `stock` says the same in plain differential operators, to be held against
//! it.

mod count;
mod dedupe;
mod fused;
mod index;
mod slab;
pub mod stock;

use std::{cell::RefCell, rc::Rc};

use differential_dataflow::VecCollection;
use serde::{Deserialize, Serialize};
use timely::dataflow::Stream;

use crate::{row::Value, spec::ViewId, time::Epoch};

pub use dedupe::{Dedupe, Verdict};
pub use fused::{
    Addressed, After, Bundle, Met, Outbox, RecordChange, RecordRef, Resume, Spread, State, Touched,
    worker_of,
};
pub use slab::RowId;

/// How often a datum is added, or taken away.
pub type Diff = isize;

/// A collection at the engine's time.
pub type Collection<'s, D> = VecCollection<'s, Epoch, D, Diff>;

/// One group of a view of counts and its numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CountsRow {
    /// The view.
    pub view: ViewId,
    /// The group's values, in the order of the view's `by`.
    pub group: Vec<Option<Value>>,
    /// The numbers, in the order of the view's `counts`.
    pub numbers: Vec<i64>,
}

/// Builds a dataflow over its inputs: records are kept in `state`, the counts come out.
pub fn build<'s>(
    bundles: Stream<'s, Epoch, Vec<Addressed>>,
    state: Rc<RefCell<State>>,
    spread: Spread,
) -> Collection<'s, CountsRow> {
    count::count(fused::keep_records(bundles, state, spread))
}
