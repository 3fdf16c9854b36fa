//! Reading a partition from the archive.
//!
//! Shape: the segments of a partition in; its records from an offset on, in order, out.
//!
//! Invariants: a segment's bytes are held against the manifest's checksum before any record of it
//! is handed out; what is damaged or gone is named, and nothing behind it is handed out.
//!
//! Not here: where reading stops (`source::kafka`).

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{
    ArchiveError, Store,
    manifest::{Partition, Segment, check},
    segment::Reader,
};
use crate::source::{Earlier, Handed, SourceError};

/// The records of a partition, as they were archived.
pub struct Archived {
    store: Arc<Store>,
    segments: VecDeque<Segment>,
    /// The segment that is read.
    open: Option<(Segment, Reader)>,
    /// Records below it are passed over.
    from: u64,
    to: u64,
    /// Up to where the segments that were opened hold the partition.
    reached: u64,
}

impl Archived {
    /// The records of a partition from an offset on, up to the begin of a segment or the end.
    pub fn new(store: Arc<Store>, partition: &Partition, from: u64, to: u64) -> Archived {
        let is_needed = |segment: &&Segment| from < segment.to && segment.from < to;
        let segments = partition.segments.iter().filter(is_needed).cloned();
        Archived { store, segments: segments.collect(), open: None, from, to, reached: from }
    }

    /// Opens the next segment; whether there was one.
    fn open_next(&mut self) -> Result<bool, ArchiveError> {
        let next = self.segments.pop_front();
        // What stands between would be missing without a word.
        let begins = next.as_ref().map_or(self.to, |segment| segment.from);
        if self.reached < begins {
            return Err(ArchiveError::Fault {
                archive: self.store.place().to_owned(),
                path: next.map_or_else(|| "manifests".to_owned(), |segment| segment.path),
                what: format!("without what stands from {} to {begins}", self.reached),
            });
        }
        let Some(segment) = next else { return Ok(false) };
        self.reached = self.reached.max(segment.to);
        let bytes = read(&self.store, &segment)?;
        let reader =
            Reader::new(bytes).map_err(|error| unreadable(&self.store, &segment, error))?;
        self.open = Some((segment, reader));
        Ok(true)
    }

    /// The next record; `None` behind the last.
    ///
    /// # Errors
    /// When a file is damaged or gone, or the store fails.
    pub fn next_record(&mut self) -> Result<Option<Handed<'_>>, ArchiveError> {
        loop {
            if self.open.is_none() && !self.open_next()? {
                return Ok(None);
            }
            // What is handed out borrows the reader, so it is looked first whether there is any.
            let (segment, reader) = self.open.as_mut().expect("it was opened");
            let ahead = reader.look().map_err(|error| unreadable(&self.store, segment, error))?;
            match ahead {
                None => self.open = None,
                Some(offset) if offset < self.from => drop(reader.take()),
                Some(_) => break,
            }
        }
        Ok(self.open.as_mut().and_then(|(_, reader)| reader.take()))
    }
}

impl Earlier for Archived {
    fn next(&mut self) -> Result<Option<Handed<'_>>, SourceError> {
        self.next_record().map_err(|error| SourceError::Earlier(Box::new(error)))
    }

    fn to(&self) -> u64 {
        self.to
    }
}

/// The bytes of a segment, if they are those that the manifest names.
///
/// # Errors
/// When they are not, or cannot be read.
pub fn read(store: &Store, segment: &Segment) -> Result<Bytes, ArchiveError> {
    let fault = |what: String| fault(store, segment, what);
    let bytes = store.read(&segment.path)?.ok_or_else(|| fault("gone".to_owned()))?;
    if bytes.len() as u64 != segment.bytes {
        return Err(fault(format!("of {} bytes, and had {}", bytes.len(), segment.bytes)));
    }
    match check(&bytes) == segment.check {
        true => Ok(bytes),
        false => Err(fault("damaged: it is not what its checksum says".to_owned())),
    }
}

/// Holds a segment against its manifest: its bytes, and its records against the range that it is
/// of.
///
/// # Errors
/// When they differ, or it cannot be read.
pub fn verify(store: &Store, segment: &Segment) -> Result<(), ArchiveError> {
    let unreadable = |error| unreadable(store, segment, error);
    let mut reader = Reader::new(read(store, segment)?).map_err(unreadable)?;
    let (mut next, mut rows) = (segment.from, 0);
    while let Some(offset) = reader.look().map_err(unreadable)? {
        if offset < next || offset >= segment.to {
            return Err(fault(
                store,
                segment,
                "of other offsets than its manifest says".to_owned(),
            ));
        }
        (next, rows) = (offset + 1, rows + 1);
        reader.take();
    }
    match rows == segment.rows {
        true => Ok(()),
        false => Err(fault(store, segment, format!("of {rows} records, and had {}", segment.rows))),
    }
}

fn fault(store: &Store, segment: &Segment, what: String) -> ArchiveError {
    ArchiveError::Fault { archive: store.place().to_owned(), path: segment.path.clone(), what }
}

/// That a file is what its manifest says, and still cannot be read.
pub(super) fn unreadable(
    store: &Store,
    segment: &Segment,
    error: parquet::errors::ParquetError,
) -> ArchiveError {
    fault(store, segment, format!("of another kind than this version reads: {error}"))
}
