//! Files of documents: as they stand at the start, and what happens to them later.
//!
//! Shape: a file of documents, optionally one of changes; statements out, each with the number of
//! event lines after which it holds.
//!
//! Invariants: statements come in the order of the files, since a document is what its `_id` last
//! said; a change never comes before an earlier line's, so one whose `after` is smaller, missing or
//! no number comes with the line before it.
//!
//! Not here: counting event lines (`engine`).

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    ReferenceError, Statement,
    document::{self, Line},
    project::Projector,
};
use crate::{source::file::read_line, spec::Spec};

/// The documents and their changes, read side by side with the events.
pub struct ReferenceFiles {
    projector: Projector,
    documents: Option<LineReader>,
    changes: Option<LineReader>,
    /// A change that was read and is not due yet.
    ahead: Option<(u64, Statement)>,
    counts: Counts,
}

/// How many lines were taken, and how many refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Documents taken.
    pub documents: u64,
    /// Changes taken.
    pub changes: u64,
    /// Lines refused, of both.
    pub refused: u64,
}

impl ReferenceFiles {
    /// Opens the files; without documents nothing is known at the start.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(
        spec: Arc<Spec>,
        documents: Option<&Path>,
        changes: Option<&Path>,
    ) -> Result<ReferenceFiles, ReferenceError> {
        Ok(ReferenceFiles {
            projector: Projector::new(spec),
            documents: documents.map(LineReader::open).transpose()?,
            changes: changes.map(LineReader::open).transpose()?,
            ahead: None,
            counts: Counts::default(),
        })
    }

    /// Hands out the documents as they stand at the start.
    ///
    /// # Errors
    /// When the file cannot be read on.
    pub fn snapshot(&mut self, take: &mut dyn FnMut(Statement)) -> Result<(), ReferenceError> {
        let Some(documents) = &mut self.documents else { return Ok(()) };
        while let Some(line) = documents.next()? {
            match document::read(line, &self.projector) {
                Ok(Line { statement, .. }) => {
                    self.counts.documents += 1;
                    take(statement);
                }
                Err(_) => self.counts.refused += 1,
            }
        }
        Ok(())
    }

    /// Hands out the changes that happened before event line `line`; returns the line before which
    /// the next one happens, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read on.
    pub fn changes_until(
        &mut self,
        line: u64,
        take: &mut dyn FnMut(Statement),
    ) -> Result<Option<u64>, ReferenceError> {
        let mut last = 0;
        loop {
            match self.ahead.take() {
                Some((after, statement)) if after <= line => {
                    last = after;
                    take(statement);
                }
                Some((after, statement)) => {
                    self.ahead = Some((after, statement));
                    return Ok(Some(after));
                }
                None if self.read_change(last)? => {}
                None => return Ok(None),
            }
        }
    }

    /// Hands out all changes that are left, whatever line they wait for.
    ///
    /// # Errors
    /// When the file cannot be read on.
    pub fn changes_left(&mut self, take: &mut dyn FnMut(Statement)) -> Result<(), ReferenceError> {
        self.changes_until(u64::MAX, take).map(|_| ())
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn read_change(&mut self, last: u64) -> Result<bool, ReferenceError> {
        let Some(changes) = &mut self.changes else { return Ok(false) };
        while let Some(line) = changes.next()? {
            match document::read(line, &self.projector) {
                Ok(Line { statement, after }) => {
                    self.counts.changes += 1;
                    self.ahead = Some((after.unwrap_or(0).max(last), statement));
                    return Ok(true);
                }
                Err(_) => self.counts.refused += 1,
            }
        }
        Ok(false)
    }
}

struct LineReader {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    lines: u64,
}

impl LineReader {
    fn open(path: &Path) -> Result<LineReader, ReferenceError> {
        let file = File::open(path)
            .map_err(|source| ReferenceError::Unopened { path: path.to_owned(), source })?;
        let reader = BufReader::new(file);
        Ok(LineReader { path: path.to_owned(), reader, line: Vec::new(), lines: 0 })
    }

    fn next(&mut self) -> Result<Option<&[u8]>, ReferenceError> {
        let read = read_line(&mut self.reader, &mut self.line).map_err(|source| {
            ReferenceError::Unreadable { path: self.path.clone(), line: self.lines, source }
        })?;
        self.lines += 1;
        Ok((read > 0).then_some(&self.line[..]))
    }
}
