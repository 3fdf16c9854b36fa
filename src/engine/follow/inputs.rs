//! What a worker reads of inputs that grow: partitions of events, and on one worker the reference.
//!
//! Shape: at most so many records in; events and claims to the dataflow, bounds with them, out.
//!
//! Not here: when an epoch is cut (`follow`), how far an earlier run came (`replay`).

use std::{collections::HashSet, sync::Arc};

use super::super::{
    EngineError, Shared,
    flow::{Flow, FusedFlow},
    worker::{EPOCH_BYTES, Partition},
};
use crate::{
    dataflow::Touched,
    reference::{Documents, ReferenceError, ReferenceFiles, ReferenceLog, file::Counts},
    source::{AtEnd, Bound, Input, Limit, Vector},
};

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

impl Load {
    pub(super) fn is_nothing(self) -> bool {
        self.lines == 0
    }

    pub(super) fn plus(self, other: Load) -> Load {
        Load { lines: self.lines + other.lines, bytes: self.bytes + other.bytes }
    }

    /// Whether it is what so many full epochs hold.
    pub(super) fn is_at_least(self, epochs: u64, epoch_lines: u64) -> bool {
        self.lines >= epochs * epoch_lines || self.bytes >= epochs * EPOCH_BYTES
    }
}

/// Documents, and changes as they come.
pub(super) enum Reference {
    Files(GrowingFiles),
    Log(GrowingLog),
}

/// Documents in files.
pub(super) struct GrowingFiles {
    files: ReferenceFiles,
    documents: Documents,
    /// The documents of which a change spoke: it counts more than a line of the documents file,
    /// whichever is read first, for a start reads that file before all changes.
    changed: HashSet<Box<str>>,
    /// How many lines of each file were read when that was last said.
    said: Vec<(Input, u64)>,
}

/// Documents in the reference log.
pub(super) struct GrowingLog {
    log: ReferenceLog,
    documents: Documents,
    /// From this offset on it is told which keys a record touches; `None` where nothing is owed.
    owed_from: Option<u64>,
    said: Bound,
}

impl Reference {
    pub(super) fn files(shared: &Shared) -> Result<Reference, ReferenceError> {
        let (job, spec) = (&shared.job, Arc::clone(&shared.job.spec));
        let (documents, changes) = (job.documents.as_deref(), job.changes.as_deref());
        let files = ReferenceFiles::open(spec, documents, changes, AtEnd::Follow)?;
        let documents = Documents::default();
        let changed = HashSet::new();
        Ok(Reference::Files(GrowingFiles { files, documents, changed, said: Vec::new() }))
    }

    pub(super) fn log(log: ReferenceLog, owed_from: Option<u64>) -> Reference {
        let said = Bound::default();
        Reference::Log(GrowingLog { log, documents: Documents::default(), owed_from, said })
    }

    /// Reads what came, at most so many lines; returns whether there may be more already, and what
    /// was read.
    pub(super) fn read_on(
        &mut self,
        most: u64,
        flow: &mut FusedFlow,
    ) -> Result<(bool, Load), ReferenceError> {
        match self {
            Reference::Files(files) => files.read_on(most, flow),
            Reference::Log(log) => log.read_on(most, flow),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        match self {
            Reference::Files(files) => files.files.counts(),
            Reference::Log(log) => log.log.counts(),
        }
    }

    /// Whether a first epoch may hold what was read: of files, once there is nothing more for now;
    /// of the log, once it was read to its end and the first snapshots are complete.
    pub(super) fn is_complete(&self, more: bool) -> bool {
        match self {
            Reference::Files(_) => !more,
            Reference::Log(log) => log.log.is_at_end() && log.log.sources().may_begin(),
        }
    }

    /// The sources whose first snapshot is awaited, once there is nothing more to read for now;
    /// where any would do, none is named.
    pub(super) fn awaited(&self) -> Option<Vec<&str>> {
        match self {
            Reference::Log(log) if log.log.is_at_end() && !log.log.sources().may_begin() => {
                Some(log.log.sources().awaited())
            }
            _ => None,
        }
    }

    /// Reads up to where an earlier run came; `None` lifts that.
    pub(super) fn stop_at(&mut self, vector: Option<&Vector>) {
        if let Reference::Log(log) = self {
            let bound =
                |vector: &Vector| vector.get(&Input::Reference).copied().unwrap_or_default();
            log.log.stop_at(vector.map(bound));
            if vector.is_none() {
                // What comes from now on is corrected as it comes.
                log.owed_from = None;
            }
        }
    }

    /// Holds where another dataflow has come to; `None` lifts it.
    pub(super) fn hold_at(&mut self, vector: Option<&Vector>) {
        if let Reference::Log(log) = self {
            let bound =
                |vector: &Vector| vector.get(&Input::Reference).copied().unwrap_or_default();
            log.log.hold_at(vector.map(bound));
        }
    }

    pub(super) fn is_at_stop(&self) -> bool {
        match self {
            Reference::Files(_) => true,
            Reference::Log(log) => log.log.is_at_stop(),
        }
    }
}

impl GrowingFiles {
    fn read_on(&mut self, most: u64, flow: &mut FusedFlow) -> Result<(bool, Load), ReferenceError> {
        let GrowingFiles { files, documents, changed, said } = self;
        let before = files.read();
        let more = files.follow(most, &mut |input, statement| {
            if input == Input::Changes {
                changed.insert(statement.id.clone());
            } else if changed.contains(&statement.id) {
                return;
            }
            documents.apply(statement, &mut |claim, diff| flow.claim(claim, diff));
        })?;
        let read = files.read();
        let load = Load { lines: read.0 - before.0, bytes: read.1 - before.1 };
        let bounds: Vec<(Input, u64)> = files.bounds().collect();
        if bounds != *said {
            bounds.iter().for_each(|(input, lines)| flow.bound(*input, (*lines).into()));
            *said = bounds;
        }
        Ok((more, load))
    }
}

impl GrowingLog {
    fn read_on(&mut self, most: u64, flow: &mut FusedFlow) -> Result<(bool, Load), ReferenceError> {
        let GrowingLog { log, documents, owed_from, said } = self;
        let limit = Limit { records: most, bytes: EPOCH_BYTES };
        let (lines, bytes, more) = log.read(limit, &mut |offset, statement| {
            if owed_from.is_some_and(|from| offset >= from) {
                let touched = documents.touched(&statement);
                touched.for_each(|(lookup, key)| {
                    flow.touch(Touched { lookup, key: key.clone(), offset });
                });
            }
            documents.apply(statement, &mut |claim, diff| flow.claim(claim, diff));
        })?;
        if log.bound() != *said {
            *said = log.bound();
            flow.bound(Input::Reference, *said);
        }
        Ok((more, Load { lines, bytes }))
    }
}

/// Reads partitions up to where an earlier run came; `None` lifts that.
pub(super) fn stop_at(partitions: &mut [Partition], vector: Option<&Vector>) {
    for partition in partitions {
        let input = Input::Events(partition.id());
        let bound = |vector: &Vector| vector.get(&input).copied().unwrap_or_default();
        partition.stop_at(vector.map(bound));
    }
}

/// Holds partitions where another dataflow has come to; `None` lifts that.
pub(super) fn hold_at(partitions: &mut [Partition], vector: Option<&Vector>) {
    for partition in partitions {
        // What the other dataflow does not read holds nothing up.
        let input = Input::Events(partition.id());
        partition.hold_at(vector.and_then(|vector| vector.get(&input).copied()));
    }
}

/// Serves the connections of what is read, where there are any.
pub(super) fn serve(readers: Option<&crate::kafka::Readers>) -> Result<(), EngineError> {
    let served = readers.map_or(Ok(()), crate::kafka::Readers::serve);
    served.map_err(|error| crate::source::SourceError::from(error).into())
}
