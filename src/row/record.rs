//! Records: an event with the documents that were found for it.
//!
//! Shape: one event row and a place for each lookup of the spec.
//!
//! Not here: which lookups there are, and what a record looks like outside (`spec::plan`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Row;

/// A lookup's position among the lookups of its spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LookupId(pub u16);

/// An event and, for each lookup, the document that it names, while one is known.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Record {
    /// The event.
    pub event: Row,
    /// By lookup; `None` while unmatched, or where the lookup does not apply.
    pub documents: Box<[Option<Row>]>,
}

impl Record {
    /// An event for which nothing was looked up yet.
    pub fn bare(event: Row, lookups: usize) -> Record {
        Record { event, documents: vec![None; lookups].into() }
    }

    /// The same record with a document found.
    pub fn with_document(&self, lookup: LookupId, document: &Row) -> Record {
        let mut record = self.clone();
        record.documents[usize::from(lookup.0)] = Some(document.clone());
        record
    }

    /// The document that a lookup found.
    pub fn document(&self, lookup: LookupId) -> Option<&Row> {
        self.documents[usize::from(lookup.0)].as_ref()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.documents.iter().flatten().count();
        write!(f, "Record({:?}, {found} documents)", self.event)
    }
}
