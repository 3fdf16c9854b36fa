//! Staging: events that never stood in the topic become a partition of the archive.
//!
//! Shape: events in their order in; segments, and what a manifest says of them, out.
//!
//! Invariants: nothing of it counts before a manifest names it.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use super::{
    ArchiveError, Partition, Segment, Store,
    segment::{Made, Writer},
};
use crate::{source::Handed, spec::Spec};

/// How large a segment may become, about.
const SEGMENT_BYTES: usize = 32 << 20;

/// A partition in the making.
pub struct Stage<'s> {
    store: &'s Store,
    spec: &'s Arc<Spec>,
    folder: String,
    writer: Option<Writer>,
    next: u64,
    made: Partition,
}

impl<'s> Stage<'s> {
    /// The partition of this number among those that never stood in the topic.
    pub fn new(store: &'s Store, spec: &'s Arc<Spec>, number: usize) -> Stage<'s> {
        let (folder, made) = (format!("history/{number}"), Partition::empty(0));
        Stage { store, spec, folder, writer: None, next: 0, made }
    }

    /// How many events it has.
    pub fn events(&self) -> u64 {
        self.next
    }

    /// Takes the next event; `time_ms`: when it was made, in ms since 1970.
    ///
    /// # Errors
    /// When the store fails.
    pub fn push(&mut self, key: &[u8], value: &[u8], time_ms: i64) -> Result<(), ArchiveError> {
        let from = self.next;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                self.writer.insert(Writer::new(from, self.spec).expect(super::keeper::WRITABLE))
            }
        };
        let (key, value) = (Some(key), Some(value));
        let record = Handed { offset: from, time_ms, key, value };
        writer.push(record).expect(super::keeper::WRITABLE);
        self.next += 1;
        if writer.bytes() >= SEGMENT_BYTES {
            self.end_segment()?;
        }
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn finish(mut self) -> Result<Partition, ArchiveError> {
        self.end_segment()?;
        Ok(self.made)
    }

    fn end_segment(&mut self) -> Result<(), ArchiveError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let Made { bytes, segment, bound } = writer.finish().expect(super::keeper::WRITABLE);
        let Segment { from, to, .. } = segment;
        let own = RandomState::new().hash_one((from, to));
        let path = format!("{}/{from:020}-{to:020}-{own:016x}.parquet", self.folder);
        self.store.write(&path, bytes)?;
        self.made.segments.push(Segment { path, ..segment });
        self.made.bound = (&bound).into();
        Ok(())
    }
}
