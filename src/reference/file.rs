//! Files of documents: as they stand at the start, and what happens to them later.
//!
//! Shape: a file of documents, optionally one of changes; statements out: of changes that are read
//! once each after the event line that it says; of files that are followed as they come.
//!
//! Invariants: statements come in the order of the files, since a document is what its `_id` last
//! said; a change never comes before an earlier line's, so one whose `after` is smaller, missing or
//! no number comes with the line before it.
//!
//! Not here: counting event lines (`engine`).

use std::{path::Path, sync::Arc};

use super::{
    ReferenceError, Statement,
    document::{self, Line},
    project::Projector,
};
use crate::{
    source::{AtEnd, Input, Lines},
    spec::Spec,
};

/// The documents and their changes, read side by side with the events.
pub struct ReferenceFiles {
    projector: Projector,
    documents: Option<Lines>,
    changes: Option<Lines>,
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
        at_end: AtEnd,
    ) -> Result<ReferenceFiles, ReferenceError> {
        let open = |what| move |path| Lines::open(what, path, at_end);
        Ok(ReferenceFiles {
            projector: Projector::new(spec),
            documents: documents.map(open("documents file")).transpose()?,
            changes: changes.map(open("changes file")).transpose()?,
            ahead: None,
            counts: Counts::default(),
        })
    }

    /// Hands out the documents, all that there are.
    ///
    /// # Errors
    /// When the file cannot be read on.
    pub fn snapshot(&mut self, take: &mut dyn FnMut(Statement)) -> Result<(), ReferenceError> {
        self.read_documents(u64::MAX, take).map(|_| ())
    }

    /// Hands out what came to both files since, of at most so many lines: each as it comes,
    /// whatever `after` says. Returns whether there may be more already.
    ///
    /// # Errors
    /// When a file cannot be read on.
    pub fn follow(
        &mut self,
        most: u64,
        take: &mut dyn FnMut(Input, Statement),
    ) -> Result<bool, ReferenceError> {
        let more_documents =
            self.read_documents(most, &mut |statement| take(Input::Documents, statement))?;
        let mut left = most;
        while self.read_change(0, &mut left)? {
            let (_, statement) = self.ahead.take().expect("a change was read");
            take(Input::Changes, statement);
        }
        Ok(more_documents || left == 0)
    }

    /// How many lines and bytes of both files were read.
    pub fn read(&self) -> (u64, u64) {
        let files = [&self.documents, &self.changes].into_iter().flatten();
        files.fold((0, 0), |(lines, bytes), file| (lines + file.number(), bytes + file.bytes()))
    }

    /// How many lines of each input were read.
    pub fn bounds(&self) -> impl Iterator<Item = (Input, u64)> {
        let inputs = [(Input::Documents, &self.documents), (Input::Changes, &self.changes)];
        inputs.into_iter().filter_map(|(input, file)| Some((input, file.as_ref()?.number())))
    }

    fn read_documents(
        &mut self,
        most: u64,
        take: &mut dyn FnMut(Statement),
    ) -> Result<bool, ReferenceError> {
        let Some(documents) = &mut self.documents else { return Ok(false) };
        for _ in 0..most {
            let Some(line) = documents.next_line()? else { return Ok(false) };
            match document::read(line, &self.projector) {
                Ok(Line { statement, .. }) => {
                    self.counts.documents += 1;
                    take(statement);
                }
                Err(_) => self.counts.refused += 1,
            }
        }
        Ok(true)
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
        let (mut last, mut lines_left) = (0, u64::MAX);
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
                None if self.read_change(last, &mut lines_left)? => {}
                None => return Ok(None),
            }
        }
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Reads up to the next change into `ahead`, at most so many lines; returns whether there is
    /// one.
    fn read_change(&mut self, last: u64, lines_left: &mut u64) -> Result<bool, ReferenceError> {
        let Some(changes) = &mut self.changes else { return Ok(false) };
        while *lines_left > 0 {
            let Some(line) = changes.next_line()? else { break };
            *lines_left -= 1;
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
