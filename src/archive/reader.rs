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
}

impl Archived {
    /// The records of a partition from an offset on, up to the begin of a segment or the end.
    pub fn new(store: Arc<Store>, partition: &Partition, from: u64, to: u64) -> Archived {
        let is_needed = |segment: &&Segment| from < segment.to && segment.from < to;
        let segments = partition.segments.iter().filter(is_needed).cloned();
        Archived { store, segments: segments.collect(), open: None, from, to }
    }

    /// Opens the next segment; whether there was one.
    fn open_next(&mut self) -> Result<bool, ArchiveError> {
        let Some(segment) = self.segments.pop_front() else { return Ok(false) };
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
    let fault = |what: String| ArchiveError::Fault {
        archive: store.place().to_owned(),
        path: segment.path.clone(),
        what,
    };
    let bytes = store.read(&segment.path)?.ok_or_else(|| fault("gone".to_owned()))?;
    if bytes.len() as u64 != segment.bytes {
        return Err(fault(format!("of {} bytes, and had {}", bytes.len(), segment.bytes)));
    }
    match check(&bytes) == segment.check {
        true => Ok(bytes),
        false => Err(fault("damaged: it is not what its checksum says".to_owned())),
    }
}

/// That a file is what its manifest says, and still cannot be read.
fn unreadable(
    store: &Store,
    segment: &Segment,
    error: parquet::errors::ParquetError,
) -> ArchiveError {
    ArchiveError::Fault {
        archive: store.place().to_owned(),
        path: segment.path.clone(),
        what: format!("of another kind than this version reads: {error}"),
    }
}
