//! The reference log: all documents, and what happened to them, in a compacted topic.
//!
//! Shape: records in their order in; statements out. A record's key is `<source>:<_id>`; its value
//! `{"document": {...}}`, with nothing in it but what the spec takes, and none once the document is
//! gone. The record of key `<source>:` is the mark of its feed, `{"complete": true, "feed": "1f"}`:
//! whether the first snapshot is complete, and which feed began last.
//!
//! Invariants: what cannot be read changes nothing and is counted; who reads the log from its begin
//! knows of each document what was said of it last.
//!
//! Not here: who writes it (`feed`).

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Content, Projector, ReferenceError, Statement, document::DEPTH_MAX, file::Counts};
use crate::{
    kafka::PartitionReader,
    row::json,
    source::{
        Bound, Limit,
        kafka::{Bounded, Handed},
    },
    spec::Spec,
};

/// What a source's feed says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Whether the source's first snapshot is complete.
    pub complete: bool,
    /// Which feed began last; each has a name of its own.
    #[serde(default)]
    pub feed: String,
}

impl Mark {
    /// The record's value.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values have a JSON")
    }

    /// Reads the record's value; what is none says nothing.
    pub fn parse(value: &[u8]) -> Mark {
        serde_json::from_slice(value).unwrap_or_default()
    }
}

/// Between a source's name and a document's `_id`.
pub const SEPARATOR: char = ':';

/// The reference log of a dataflow, as it is read.
pub struct ReferenceLog {
    records: Bounded,
    projector: Projector,
    counts: Counts,
    complete: BTreeSet<Box<str>>,
}

/// What a record of the log says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// What a document now says, or that it is gone.
    Document(Statement),
    /// What a source's feed says of itself.
    Mark(Box<str>, Mark),
}

/// Whether a record says that the first snapshot of a source is complete.
pub fn is_snapshot_complete(key: Option<&[u8]>, value: Option<&[u8]>) -> bool {
    let is_mark = key
        .is_some_and(|key| key.iter().position(|b| *b == SEPARATOR as u8) == Some(key.len() - 1));
    is_mark && value.is_some_and(|value| Mark::parse(value).complete)
}

/// The value of a document's record.
pub fn value(pruned: &[u8]) -> Vec<u8> {
    [br#"{"document":"#, pruned, b"}"].concat()
}

/// Reads one record; `None` where it is none.
pub fn read(key: &[u8], value: Option<&[u8]>, projector: &Projector) -> Option<Said> {
    let key = str::from_utf8(key).ok()?;
    let (source, id) = key.split_once(SEPARATOR)?;
    if id.is_empty() {
        return value.map(|value| Said::Mark(source.into(), Mark::parse(value)));
    }
    let content = match value {
        None => Content::Deleted,
        Some(value) => {
            let mut document = None;
            let fields = |name: &str, token: &'_ RawValue| {
                if name == "document" {
                    document = Some(token.to_owned());
                }
            };
            json::read_object(value, DEPTH_MAX, fields).ok()?;
            let document = document.filter(|token| token.get().starts_with('{'))?;
            Content::Claims(projector.claims(key, &document)?)
        }
    };
    Some(Said::Document(Statement { id: key.into(), content }))
}

impl ReferenceLog {
    /// The log that `reader` reads from an offset on.
    pub fn new(spec: &Arc<Spec>, reader: PartitionReader, from: u64) -> ReferenceLog {
        ReferenceLog {
            records: Bounded::new(reader, from, true),
            projector: Projector::new(Arc::clone(spec)),
            counts: Counts::default(),
            complete: BTreeSet::new(),
        }
    }

    /// Hands out statements with their offsets; returns how many records and bytes were read, and
    /// whether there may be more already.
    ///
    /// # Errors
    /// When the log cannot be read on.
    pub fn read(
        &mut self,
        limit: Limit,
        take: &mut dyn FnMut(u64, Statement),
    ) -> Result<(u64, u64, bool), ReferenceError> {
        let ReferenceLog { records, projector, counts, complete } = self;
        let read = records.read(limit, &mut |Handed { offset, key, value, .. }| match read(
            key.unwrap_or_default(),
            value,
            projector,
        ) {
            Some(Said::Document(statement)) => {
                counts.documents += 1;
                take(offset, statement);
            }
            Some(Said::Mark(source, mark)) => {
                if mark.complete {
                    complete.insert(source);
                }
            }
            None => counts.refused += 1,
        });
        Ok(read?)
    }

    /// From now on hands out nothing at or past a bound; `None` lifts it.
    pub fn stop_at(&mut self, stop: Option<Bound>) {
        self.records.stop_at(stop);
    }

    /// Whether everything up to that bound was handed out.
    pub fn is_at_stop(&self) -> bool {
        self.records.is_at_stop()
    }

    /// Whether everything that is committed was handed out.
    pub fn is_at_end(&self) -> bool {
        self.records.is_at_end()
    }

    /// Up to where it was read.
    pub fn bound(&self) -> Bound {
        self.records.bound()
    }

    /// The sources whose first snapshot is complete.
    pub fn complete(&self) -> &BTreeSet<Box<str>> {
        &self.complete
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}
