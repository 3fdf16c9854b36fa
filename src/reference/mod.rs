//! The reference: documents of the systems of record, and what they claim.
//!
//! Shape: lines of documents and changes in; claims with +1 and -1 out, one claim for each lookup
//! whose documents a document is among.
//!
//! Invariants: a document is what its `_id` last said; the claims that were handed out add up to
//! exactly those of the documents as they stand; what cannot be read changes nothing and is
//! counted.
//!
//! Not here: which of two documents has a key (`dataflow::fused`), and joining.

pub mod document;
pub mod file;
pub mod log;
pub mod project;
pub mod reconcile;
pub mod sources;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{
    kafka::KafkaError,
    row::{Key, LookupId, Row},
    source::{FileError, SourceError},
};

pub use document::{Content, Statement};
pub use file::ReferenceFiles;
pub use log::ReferenceLog;
pub use project::Projector;
pub use sources::Sources;

/// What a document says of one key of one lookup: "key 21284 of `student` is mine, and this is what
/// I say of it".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The lookup whose key it claims.
    pub lookup: LookupId,
    /// The key.
    pub key: Key,
    /// The document, by its `_id`, with its source before it where it has one; of several with one
    /// key the smallest, by code points, has it.
    pub document: Box<str>,
    /// What it says in the lookup's columns.
    pub row: Row,
}

/// The documents as they stand: by `_id`, what they claim.
#[derive(Debug, Default)]
pub struct Documents {
    claims: HashMap<Box<str>, Vec<Claim>>,
}

impl Documents {
    /// The keys that a document has, and those that a statement gives it.
    pub fn touched<'d>(
        &'d self,
        statement: &'d Statement,
    ) -> impl Iterator<Item = (LookupId, &'d Key)> {
        let given = match &statement.content {
            Content::Deleted => [].iter(),
            Content::Claims(claims) => claims.iter(),
        };
        let held = self.claims.get(&statement.id).into_iter().flatten();
        held.chain(given).map(|claim| (claim.lookup, &claim.key))
    }

    /// Takes what a document now says; hands out the claims that end (-1) and begin (+1).
    pub fn apply(&mut self, statement: Statement, take: &mut dyn FnMut(Claim, isize)) {
        let Statement { id, content } = statement;
        let after = match content {
            Content::Deleted => Vec::new(),
            Content::Claims(claims) => claims,
        };
        let before = self.claims.remove(&id).unwrap_or_default();
        if before != after {
            before.into_iter().for_each(|claim| take(claim, -1));
            after.iter().for_each(|claim| take(claim.clone(), 1));
        }
        if !after.is_empty() {
            self.claims.insert(id, after);
        }
    }
}

/// Why the reference cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// A file of documents or changes failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The reference log failed.
    #[error(transparent)]
    Log(#[from] SourceError),
    /// It could not be read ahead.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The log does not hold of documents what the spec takes of them.
    #[error(
        "the reference log does not hold {missing} of the documents of source \"{source_name}\": \
         another dataflow's spec says what its feed keeps; give this dataflow a reference log of \
         its own (`reference` in the configuration), or run the feed with this spec (`tributary \
         feed --once`), and start again"
    )]
    Lacking {
        /// The source.
        source_name: String,
        /// Paths of documents.
        missing: String,
    },
}
