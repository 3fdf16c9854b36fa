//! Records: an event with the documents that were found for it.
//!
//! Shape: one event row and a place for each lookup of the spec.
//!
//! Not here: which lookups there are, and what a record looks like outside (`spec::plan`).

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Row, shared::Shared};

/// A lookup's position among the lookups of its spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LookupId(pub u16);

/// An event with the documents found for it, however they are held.
pub trait Joined {
    /// The packed event.
    fn event(&self) -> &[u8];

    /// The packed document that a lookup found; `None` while unmatched, or where none is asked for.
    fn document(&self, lookup: LookupId) -> Option<&[u8]>;
}

/// An event for which nothing was looked up.
impl Joined for [u8] {
    fn event(&self) -> &[u8] {
        self
    }

    fn document(&self, _lookup: LookupId) -> Option<&[u8]> {
        None
    }
}

/// An event and, for each lookup, the document that it names, while one is known.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Record(Shared<Found>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Found {
    event: Row,
    /// By lookup; `None` while unmatched, or where the lookup does not apply.
    documents: Box<[Option<Row>]>,
}

impl Record {
    /// An event for which nothing was looked up yet.
    pub fn bare(event: Row, lookups: usize) -> Record {
        Record::of(Found { event, documents: vec![None; lookups].into() })
    }

    /// The same record with a document found.
    pub fn with_document(&self, lookup: LookupId, document: &Row) -> Record {
        let mut found = self.0.content().clone();
        found.documents[usize::from(lookup.0)] = Some(document.clone());
        Record::of(found)
    }

    fn of(found: Found) -> Record {
        let documents = found.documents.iter().map(|row| row.as_ref().map_or(0, Row::hash));
        let hash = documents.fold(found.event.hash(), |hash, document| {
            (hash.rotate_left(23) ^ document).wrapping_mul(MIX)
        });
        Record(Shared::new(hash, Arc::new(found)))
    }
}

impl Joined for Record {
    fn event(&self) -> &[u8] {
        self.0.content().event.bytes()
    }

    fn document(&self, lookup: LookupId) -> Option<&[u8]> {
        self.0.content().documents[usize::from(lookup.0)].as_ref().map(Row::bytes)
    }
}

/// An odd number of well mixed bits (the golden ratio's), so that the order of documents counts.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.0.content().documents.iter().flatten().count();
        write!(f, "Record({:?}, {found} documents)", self.0.content().event)
    }
}
