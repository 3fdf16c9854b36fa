//! History: a dataflow that was made anew from it, held against the one that readers are shown, and
//! shown instead.
//!
//! Shape: two dataflows of one family (over the same inputs, each with outputs of its own) in; what
//! is other between them, readers that are switched, or outputs that are gone, out.
//!
//! Invariants: both are compared where they hold the same of every input; readers are shown one
//! dataflow or the other, and whoever dies while he switches them is followed by one who goes on or
//! back; what readers are shown is never taken away.
//!
//! Not here: making one (`tributary backfill`, which is a run of the engine over what is there).
//!
//! In reading order: `known` (a dataflow, as its lead says), `stage` (what it is made from, beside
//! topic and archive), `hold` (standing still together), `compare` and `counts` (what is other),
//! `switch` (which one is shown), `retire` (taking one away); and `why` (how a record came to its
//! values).

pub mod compare;
mod counts;
pub mod hold;
pub mod known;
pub mod retire;
pub mod stage;
pub mod switch;
pub mod why;

use crate::{
    archive::ArchiveError,
    kafka::{KafkaError, WriteError},
    load::{LoadError, MigrationError, ServerError},
    progress::StoreError,
    source::SourceError,
};

/// Why two dataflows could not be compared, or readers not be switched.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The brokers failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A word could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What starts left cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// ClickHouse failed.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Its tables did.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The migrations cannot be read.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A dataflow was never started.
    #[error("dataflow \"{dataflow}\" has written nothing yet; {remedy}")]
    NotThere {
        /// The dataflow.
        dataflow: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A view's topic is not there, or cut otherwise.
    #[error(
        "topics \"{one}\" and \"{other}\" have not the same number of partitions, {partitions:?}: \
         rows are compared partition by partition; a backfill makes its topics so"
    )]
    Partitions {
        /// A topic.
        one: String,
        /// The other.
        other: String,
        /// How many each has.
        partitions: (u32, u32),
    },
    /// A dataflow does not do in time what is waited for.
    #[error("waited {seconds} s in vain: {what}; {remedy}")]
    TooLate {
        /// For how long.
        seconds: u64,
        /// What was waited for.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// It was to end before it was done.
    #[error("was asked to end before it was done")]
    Interrupted,
    /// A dataflow moved on while it was compared.
    #[error(
        "dataflow \"{dataflow}\" moved on while it was compared: it was started again, or another \
         comparison began; compare again"
    )]
    Moved {
        /// The dataflow.
        dataflow: String,
    },
    /// Somebody else switches readers.
    #[error(
        "somebody else has switched readers of \"{family}\" meanwhile: look who they are shown \
         (`tributary status`), and start again"
    )]
    Overtaken {
        /// The family.
        family: String,
    },
    /// There is nothing to go back to.
    #[error("readers of \"{family}\" were never switched: there is nothing to go back to")]
    NeverSwitched {
        /// The family.
        family: String,
    },
    /// What was typed is no ID of an event.
    #[error("\"{id}\" is no value of column {column}, which is the ID of an event")]
    NoId {
        /// What was typed.
        id: String,
        /// The column.
        column: String,
    },
    /// Somebody else makes the same.
    #[error(
        "somebody else has made the archive of \"{dataflow}\" meanwhile: run one backfill of a \
         name at a time; start again, it goes on from that one"
    )]
    Twice {
        /// The dataflow.
        dataflow: String,
    },
    /// Two dataflows cut their keys otherwise.
    #[error(
        "\"{one}\" and \"{other}\" cannot be compared: {what} is another, so their rows lie in \
         other partitions; look at their tables instead"
    )]
    OtherShards {
        /// A dataflow.
        one: String,
        /// The other.
        other: String,
        /// What differs.
        what: &'static str,
    },
    /// A dataflow is of another family.
    #[error(
        "dataflow \"{dataflow}\" is none of \"{family}\": it was started from a spec of the name \
         \"{of}\"; name one that was made with this file"
    )]
    OtherFamily {
        /// The dataflow.
        dataflow: String,
        /// The family that was meant.
        family: String,
        /// Its own.
        of: String,
    },
    /// It is what readers are shown.
    #[error(
        "dataflow \"{dataflow}\" is what readers are shown, or may be, and is not taken away; \
         {remedy}"
    )]
    Shown {
        /// The dataflow.
        dataflow: String,
        /// What to do.
        remedy: String,
    },
    /// Objects that readers are to be shown are not there.
    #[error(
        "view \"{object}\" is not in ClickHouse, or was replaced, and whose it is now is not \
         known; `tributary init --as {dataflow}` makes what is missing; of one that was replaced, \
         put back what `tributary check --as {dataflow}` says"
    )]
    NoObject {
        /// Its name.
        object: String,
        /// Whose it is.
        dataflow: String,
    },
    /// Nobody knows whether readers are switched in ClickHouse.
    #[error(
        "whether ClickHouse shows \"{dataflow}\" by now is not known, and it has not shown so for \
         {seconds} s: start again, it goes on from what is there; or go back, --rollback"
    )]
    Unexchanged {
        /// The dataflow.
        dataflow: String,
        /// How long it was looked for.
        seconds: u64,
    },
}

fn not_there(dataflow: &str, remedy: &'static str) -> HistoryError {
    HistoryError::NotThere { dataflow: dataflow.to_owned(), remedy }
}
