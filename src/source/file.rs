//! Files of events: newline-delimited, one partition a file.
//!
//! Shape: a path in; its lines out, the offset being the line from 0.
//!
//! Not here: what a line is (`lines`), what it means (`decode`).

use std::path::Path;

use super::{AtEnd, Limit, Lines, PartitionId, Reached, Record, Source, SourceError};

/// A file of events.
pub struct FileSource {
    partition: PartitionId,
    lines: Lines,
}

impl FileSource {
    /// Opens a file as a partition.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(
        partition: PartitionId,
        path: &Path,
        at_end: AtEnd,
    ) -> Result<FileSource, SourceError> {
        Ok(FileSource { partition, lines: Lines::open("events file", path, at_end)? })
    }
}

impl Source for FileSource {
    fn partition(&self) -> PartitionId {
        self.partition
    }

    fn read(
        &mut self,
        limit: Limit,
        take: &mut dyn FnMut(Record<'_>),
    ) -> Result<Reached, SourceError> {
        let (begin, before) = (self.lines.number(), self.lines.bytes());
        let mut more = true;
        while more
            && self.lines.number() - begin < limit.records
            && self.lines.bytes() - before < limit.bytes
        {
            let offset = self.lines.number();
            match self.lines.next_line()? {
                Some(bytes) => take(Record { offset, key: None, time_ms: None, bytes }),
                None => more = false,
            }
        }
        Ok(Reached {
            bound: self.lines.number().into(),
            records: self.lines.number() - begin,
            bytes: self.lines.bytes() - before,
            more,
            ended: !more && self.lines.at_end() == AtEnd::Stop,
        })
    }
}
