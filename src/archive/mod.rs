//! The archive: the events of a dataflow, kept beyond what their topic holds.
//!
//! Shape: segments, each a Parquet file of records of one input partition within a range of
//! offsets, as they were read; numbered manifests, each a list of the segments that count. A start
//! reads the newest manifest and its segments, and then the topic from there on.
//!
//! Invariants: a segment holds every committed record of its range, key and value byte for byte,
//! so whoever reads the archive reads what the topic held. A segment is never changed; a manifest
//! is created only where none of its number is, and the greatest number counts. What a manifest
//! names is known by its checksum: a file that is torn, changed or gone is found before anything of
//! it is used.
//!
//! Not here: what a record means, and which of equal records stands (`dataflow::dedupe`).
//! Documents: the reference log is compacted and never cut, so it is its own archive.
//!
//! In reading order: `store` (files, by name), `manifest`, `columns` and `segment` (one file),
//! `reader` (a partition, segment by segment), `keeper` (who writes), `copy` and
//! `stage` (for another dataflow).

pub mod columns;
pub mod copy;
pub mod keeper;
pub mod manifest;
pub mod reader;
pub mod segment;
pub mod stage;
pub mod store;

pub use keeper::Keeper;
pub use manifest::{Manifest, Partition, Segment, Topic};
pub use reader::Archived;
pub use store::{Store, StoreError};

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file is not what its manifest says.
    #[error(
        "file \"{path}\" of archive \"{archive}\" is {what}; put back a copy of it, or let what it \
         held be read from the topic, where that still has it (`--archive-faults pass`)"
    )]
    Fault {
        /// The archive.
        archive: String,
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A manifest is of a later version.
    #[error(
        "the archive \"{archive}\" was written by a later version of tributary (form {form} in \
         \"{path}\"); run that version"
    )]
    Later {
        /// The archive.
        archive: String,
        /// The manifest.
        path: String,
        /// Its form.
        form: u32,
    },
    /// Another start writes the archive.
    #[error(
        "start {theirs} of the dataflow keeps the archive by now; this one, {ours}, writes nothing \
         more there"
    )]
    Superseded {
        /// This start.
        ours: u64,
        /// The other.
        theirs: u64,
    },
    /// It is of other topics.
    #[error(
        "the archive \"{archive}\" is of topic \"{topic}\" as it was before it was made anew or \
         given other records; give the dataflow another archive, or move this one away"
    )]
    OtherTopic {
        /// The archive.
        archive: String,
        /// The topic.
        topic: String,
    },
    /// The brokers failed.
    #[error(transparent)]
    Kafka(#[from] crate::kafka::KafkaError),
}

impl ArchiveError {
    /// Whether it waits for the operator's word or hand.
    pub fn is_for_operator(&self) -> bool {
        use ArchiveError::{Fault, Later, OtherTopic};
        matches!(self, Fault { .. } | Later { .. } | OtherTopic { .. })
    }
}

#[cfg(test)]
mod tests;
