//! Sources: where events come from.
//!
//! Shape: a source is one input partition; asked for at most so many records or bytes, it hands out
//! each with its offset, in the partition's order.
//!
//! Invariants: a source knows bytes and offsets, never a collection nor a column; offsets strictly
//! grow; what was handed out is never handed out again by the same source.
//!
//! Not here: what the bytes mean (`source::decode`), when an epoch is cut (`engine`).

pub mod dead_letter;
pub mod decode;
mod fast;
pub mod file;
mod lines;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use dead_letter::{DeadLetter, Reason, Refusal};
pub use decode::Decoder;
pub use lines::{AtEnd, FileError, LINE_BYTES_MAX, Lines};

/// An input partition: its number among all partitions of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId(pub u32);

/// One of the inputs of a run, each a sequence of records with offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Input {
    /// A partition of the events.
    Events(PartitionId),
    /// The documents as they stood at the start, and as they were added since.
    Documents,
    /// What happened to the documents later.
    Changes,
}

/// For every input of a run how many of its records an epoch and those before it hold: the offset
/// of the first that they do not.
pub type Vector = BTreeMap<Input, u64>;

/// Where an event stands: its partition, and its offset there (of a file the line, from 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The input partition.
    pub partition: PartitionId,
    /// The offset within it.
    pub offset: u64,
}

/// One input partition.
pub trait Source {
    /// Which partition this is.
    fn partition(&self) -> PartitionId;

    /// Hands out the next records, until there are none for now or a limit is reached.
    ///
    /// # Errors
    /// When the partition cannot be read on.
    fn read(
        &mut self,
        limit: Limit,
        take: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<Reached, SourceError>;
}

/// How much to hand out at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Most records.
    pub records: u64,
    /// No further record once this many bytes were handed out.
    pub bytes: u64,
}

/// Where a source stands after it handed out records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The offset that comes next.
    pub offset: u64,
    /// Records handed out this time.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether there may be more already.
    pub more: bool,
    /// Whether the partition has ended for good.
    pub ended: bool,
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file of events failed.
    #[error(transparent)]
    File(#[from] FileError),
}
