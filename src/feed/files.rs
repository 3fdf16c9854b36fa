//! Files as a system of record: documents as they stand, and what happens to them.
//!
//! Shape: files that grow in; what they say of documents out.
//!
//! Invariants: what was said before the feed began is one snapshot: the files are read as they are,
//! and compared as a whole; a snapshot of which a line was refused, or has no end yet, deletes
//! nothing, since that line may be the one that names a document.

use std::path::PathBuf;

use serde_json::Value;

use super::{Desk, FeedError, System, SystemError, Trouble};
use crate::{
    reference::{
        document::{self, Raw},
        reconcile::Version,
    },
    source::{AtEnd, FileError, Lines},
};

/// Files of documents and changes.
pub struct Files {
    documents: PathBuf,
    changes: Option<PathBuf>,
    at_end: AtEnd,
    /// As they were opened for the last comparison.
    open: Vec<Lines>,
}

impl Files {
    /// Files that are to be read: once to their ends, or as they grow.
    pub fn new(documents: PathBuf, changes: Option<PathBuf>, once: bool) -> Files {
        let at_end = if once { AtEnd::Stop } else { AtEnd::Follow };
        Files { documents, changes, at_end, open: Vec::new() }
    }

    /// Opens the files at their begin.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn reopen(&mut self) -> Result<(), FileError> {
        self.open = vec![Lines::open("documents file", &self.documents, self.at_end)?];
        if let Some(changes) = &self.changes {
            self.open.push(Lines::open("changes file", changes, self.at_end)?);
        }
        Ok(())
    }

    /// Says what came to the files.
    fn read(&mut self, desk: &mut Desk<'_>) -> Result<(), FeedError> {
        for lines in &mut self.open {
            while let Some(line) = lines.next_line()? {
                match document::raw(line) {
                    Ok(Raw { id, source: Some(source) }) => {
                        desk.say(&id, Version::default(), source);
                    }
                    Ok(Raw { id, source: None }) => desk.say_gone(&id),
                    Err(_) => desk.refuse(None),
                }
            }
        }
        Ok(())
    }
}

impl System for Files {
    fn identity(&mut self) -> Result<Value, SystemError> {
        // Whatever the files are, they are what is to be in the log.
        Ok(Value::Null)
    }

    fn compare(&mut self, _: &Value, desk: &mut Desk<'_>) -> Result<(), Trouble> {
        let refused = desk.fed().refused;
        self.reopen().map_err(FeedError::from)?;
        desk.begin_comparison(None);
        desk.reconcile().forget_versions();
        self.read(desk)?;
        let is_whole = desk.fed().refused == refused && !self.open[0].has_part();
        desk.end_comparison(is_whole);
        Ok(())
    }

    fn look(&mut self, desk: &mut Desk<'_>) -> Result<bool, Trouble> {
        let before = desk.fed().read;
        self.read(desk)?;
        Ok(desk.fed().read > before)
    }
}
