//! Sinks: where views and dead letters go.
//!
//! Shape: sealed epochs in, in order, each with the updates of all views that fell to this worker
//! and its dead letters.
//!
//! Invariants: a sink is handed each epoch once, whole, after no more can come to it; within an
//! epoch a row of a view has at most one retraction and one insertion; what a sink takes is plain
//! rows, never a collection.
//!
//! Not here: when an epoch is sealed, and which worker has a row (`engine`).

pub mod contents;
pub mod dead_letters;
pub mod file;
pub mod kafka;
pub mod render;
pub mod update_log;

use std::path::PathBuf;

use crate::{
    dataflow::{After, CountsRow, Diff, State},
    source::DeadLetter,
    time::{Epoch, Frontier},
};

pub use contents::{Contents, Records};
pub use file::{FileShare, Folder};
pub use kafka::KafkaSink;
pub use update_log::UpdateLog;

/// What one sealed epoch brought to one worker.
pub struct Sealed<'e> {
    /// The epoch.
    pub epoch: Epoch,
    /// Holds what it changed in records: `State::changes`.
    pub records: &'e State,
    /// Consolidated updates of views of counts, retractions before insertions.
    pub counts: &'e [(CountsRow, Diff)],
    /// Dead letters, those of a partition by offset.
    pub dead_letters: &'e [DeadLetter],
    /// How things stand after it; `None` where this worker was told nothing new.
    pub after: Option<After<'e>>,
}

/// Takes sealed epochs.
pub trait Sink {
    /// Takes one epoch; epochs come in order.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn write(&mut self, sealed: Sealed<'_>) -> Result<(), SinkError>;

    /// Whether it takes another epoch now; if not, what it has is to be written first.
    fn has_room(&self) -> bool {
        true
    }

    /// All epochs that the frontier has sealed were written.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn advance(&mut self, frontier: Frontier) -> Result<(), SinkError>;
}

/// Why a sink did not take an epoch, or did not publish.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The output folder cannot be used.
    #[error("cannot use output folder \"{path}\"; give one that can be made and written to")]
    Folder {
        /// The folder, as it was named.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another run writes there.
    #[error("output folder \"{path}\" is in use by another run; wait for its end, or give another")]
    InUse {
        /// The folder, as it was named.
        path: PathBuf,
    },
    /// A file cannot be written; nothing was published.
    #[error("cannot write \"{name}\" in output folder \"{path}\"; nothing was published there")]
    Unwritten {
        /// The folder, as it was named.
        path: PathBuf,
        /// The output.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The update log cannot be written on.
    #[error(
        "cannot write on to update log {name}; what stands there up to its last \"sealed\" line is \
         whole: make room, or a reader that stays, and start again"
    )]
    Log {
        /// What people call it.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The outputs in Kafka cannot be written on.
    #[error(transparent)]
    Kafka(#[from] kafka::KafkaSinkError),
    /// A written file did not get its name.
    #[error(
        "cannot place \"{name}\" in output folder \"{path}\"; no results stand there, of this run \
         or an earlier one: mend the folder and run again"
    )]
    Unplaced {
        /// The folder, as it was named.
        path: PathBuf,
        /// The output.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl SinkError {
    /// A dead letter cannot be kept.
    pub fn unwritten_dead_letters(folder: &std::path::Path, source: std::io::Error) -> SinkError {
        let name = file::DEAD_LETTERS.to_owned();
        SinkError::Unwritten { path: folder.to_owned(), name, source }
    }
}
