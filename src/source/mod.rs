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
pub mod kafka;
mod lines;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kafka::KafkaError;

pub use dead_letter::{DeadLetter, Reason, Refusal};
pub use decode::Decoder;
pub use kafka::{Earlier, Handed};
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
    /// The reference log: documents, and what happened to them.
    Reference,
}

/// Up to where an epoch and those before it hold an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The offset of the first record that they do not hold.
    pub offset: u64,
    /// The last one that they hold, where the input can be emptied and filled anew: another record
    /// at its offset shows that this happened.
    pub last: Option<Last>,
}

/// What a record is known by without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Where it stands.
    pub offset: u64,
    /// When it was written, in ms since 1970.
    pub time_ms: i64,
    /// A hash of its key and value.
    pub hash: u64,
}

impl SourceError {
    /// The fault of what is kept elsewhere of a topic, where it is one of that kind.
    pub fn of_earlier<E: std::error::Error + 'static>(&self) -> Option<&E> {
        match self {
            SourceError::Earlier(error) => error.downcast_ref(),
            _ => None,
        }
    }
}

impl From<u64> for Bound {
    fn from(offset: u64) -> Bound {
        Bound { offset, last: None }
    }
}

/// For every input of a run up to where an epoch holds it.
pub type Vector = BTreeMap<Input, Bound>;

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
        take: &mut dyn FnMut(Record<'_>),
    ) -> Result<Reached, SourceError>;

    /// From now on hands out nothing at or past a bound that an earlier run has read up to; `None`
    /// lifts it. Of inputs that are read from their begin at every start there is none.
    fn stop_at(&mut self, _stop: Option<Bound>) {}

    /// Whether everything up to that bound was handed out.
    fn is_at_stop(&self) -> bool {
        false
    }

    /// From now on hands out nothing at or past a bound that another reader has come to; `None`
    /// lifts it. Only of inputs that are read beside others.
    fn hold_at(&mut self, _hold: Option<Bound>) {}

    /// Whether everything that was there, when this was looked at last, was handed out.
    fn is_at_end(&self) -> bool {
        false
    }
}

/// A record of an input partition.
#[derive(Clone, Copy)]
pub struct Record<'r> {
    /// Where it stands.
    pub offset: u64,
    /// Its key; `None` where the input has none.
    pub key: Option<&'r [u8]>,
    /// When it was written, in ms since 1970; `None` where the input does not say.
    pub time_ms: Option<i64>,
    /// The event.
    pub bytes: &'r [u8],
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
    /// Up to where the partition was read.
    pub bound: Bound,
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
    /// The brokers failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// What is kept elsewhere of a topic failed.
    #[error(transparent)]
    Earlier(Box<dyn std::error::Error + Send + Sync>),
    /// A topic holds other records than it did.
    #[error(
        "partition {partition} of topic \"{topic}\" does not hold the record at offset {offset} \
         that was read there: the topic was made again, or its log was cut, and it was filled anew \
         meanwhile; start again: the start says what is gone and what to do"
    )]
    OtherTopic {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// Where the record stood.
        offset: u64,
    },
}
