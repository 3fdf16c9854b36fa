//! What the log says of its sources: whether their first snapshots are complete, and which parts of
//! their documents it keeps.
//!
//! Shape: records of the log, in order, in; whether a dataflow can go by it out.
//!
//! Invariants: the newest mark of a source counts. A source of which there is no mark yet is not
//! complete.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Deserialize;

use super::{Projector, ReferenceError, log::SEPARATOR};
use crate::spec::Spec;

/// What readers of a log need of a mark, whatever else a later feed has it say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Kept {
    /// Whether the first snapshot is complete.
    complete: bool,
    /// The paths of a document that are kept; where none is named, it is not known.
    #[serde(default)]
    keeps: BTreeSet<String>,
}

/// The sources of a log, as a dataflow sees them.
#[derive(Clone)]
pub struct Sources {
    spec: Arc<Spec>,
    said: BTreeMap<Box<str>, Kept>,
}

impl Kept {
    /// Reads a mark; what is none says nothing.
    pub fn parse(mark: &[u8]) -> Kept {
        serde_json::from_slice(mark).unwrap_or_default()
    }
}

impl Sources {
    /// Of a log of which nothing was read.
    pub fn new(spec: &Arc<Spec>) -> Sources {
        Sources { spec: Arc::clone(spec), said: BTreeMap::new() }
    }

    /// Takes a record of the log; returns of which source it is a mark.
    pub fn take<'k>(&mut self, key: Option<&'k [u8]>, value: Option<&[u8]>) -> Option<&'k str> {
        let (source, id) = str::from_utf8(key?).ok()?.split_once(SEPARATOR)?;
        if source.is_empty() {
            return None;
        }
        match (id, value) {
            ("", Some(mark)) => {
                self.said.insert(source.into(), Kept::parse(mark));
                Some(source)
            }
            _ => {
                if value.is_some() && !self.said.contains_key(source) {
                    self.said.insert(source.into(), Kept::default());
                }
                None
            }
        }
    }

    /// Whether the first snapshot of a source, or that with which more is kept than before, is
    /// complete.
    pub fn is_complete(&self, source: &str) -> bool {
        self.said.get(source).is_some_and(|mark| mark.complete)
    }

    /// The sources whose first snapshot the dataflow needs and that have none complete: those that
    /// its lookups name, and all that there are where a lookup names none.
    pub fn awaited(&self) -> Vec<&str> {
        let mut needed = self.spec.sources();
        if self.spec.lookups.iter().any(|lookup| lookup.from.is_empty()) {
            needed.extend(self.said.keys().map(|source| &**source));
        }
        needed.into_iter().filter(|source| !self.is_complete(source)).collect()
    }

    /// Whether a dataflow may begin: each source that it needs is complete, and at least one is
    /// there.
    pub fn may_begin(&self) -> bool {
        !self.said.is_empty() && self.awaited().is_empty()
    }

    /// What the spec takes of a source's documents and the log does not hold.
    fn missing(&self, source: &str) -> BTreeSet<String> {
        let Some(Kept { keeps, .. }) = self.said.get(source) else { return BTreeSet::new() };
        if keeps.is_empty() {
            return BTreeSet::new();
        }
        let takes = Projector::of_source(Arc::clone(&self.spec), source).paths();
        takes.difference(keeps).cloned().collect()
    }

    /// Whether the log holds all that the spec takes of a source's documents.
    ///
    /// # Errors
    /// With what it does not hold.
    pub fn hold_enough_of(&self, source: &str) -> Result<(), ReferenceError> {
        let missing = self.missing(source);
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.into_iter().collect::<Vec<_>>().join(", ");
        Err(ReferenceError::Lacking { source_name: source.to_owned(), missing })
    }

    /// The same, of each.
    ///
    /// # Errors
    /// As there, of the first.
    pub fn hold_enough(&self) -> Result<(), ReferenceError> {
        self.said.keys().try_for_each(|source| self.hold_enough_of(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"
name = "sources"
[events]
key = "ID"
shard_key = "ID"
time = "AT"
zone = "UTC"
[events.columns]
ID = { type = "integer", range = "0..1000000" }
AT = { type = "datetime", range = "2015-01-01..2149-12-31" }
[lookups.person]
key = { path = "N" }
matches = "ID"
FROM
[lookups.person.columns]
NAME = { type = "text", path = "NAME" }
[views.all]
kind = "enriched"
"#;

    fn sources(from: &str) -> Sources {
        let spec = Spec::parse(std::path::Path::new("x.toml"), &SPEC.replace("FROM", from));
        Sources::new(&Arc::new(spec.expect("it is sound")))
    }

    #[test]
    fn newest_mark_of_each_source_counts() {
        let mut any = sources("");
        assert!(!any.may_begin() && any.awaited().is_empty());
        let (complete, begun) = (Some(&br#"{"complete":true}"#[..]), Some(&b"{}"[..]));
        assert_eq!(any.take(Some(b"a:"), complete), Some("a"));
        assert!(any.may_begin());
        // Another one has begun.
        assert_eq!(any.take(Some(b"b:1"), Some(br#"{"document":{}}"#)), None);
        assert_eq!((any.may_begin(), any.awaited()), (false, vec!["b"]));
        any.take(Some(b"b:"), complete);
        assert!(any.may_begin());
        any.take(Some(b"a:"), begun);
        assert_eq!(any.awaited(), ["a"]);
        assert_eq!(any.take(Some(b":a"), complete), None, "a word is of no source");
        // Where lookups name them, the others do not matter.
        let mut named = sources(r#"from = ["a", "c"]"#);
        named.take(Some(b"a:"), complete);
        named.take(Some(b"b:"), begun);
        assert_eq!(named.awaited(), ["c"]);
        named.take(Some(b"c:"), complete);
        assert!(named.may_begin());
    }

    #[test]
    fn log_must_hold_what_the_spec_takes() {
        let mut sources = sources("");
        sources.take(Some(b"a:"), Some(br#"{"complete":true}"#));
        sources.hold_enough().expect("it is not known what is kept");
        sources.take(Some(b"a:"), Some(br#"{"complete":true,"keeps":["N"]}"#));
        let said = sources.hold_enough().expect_err("the name is missing").to_string();
        assert!(said.contains("NAME") && said.contains("\"a\""), "{said}");
        sources.take(Some(b"a:"), Some(br#"{"complete":true,"keeps":["N","NAME"]}"#));
        sources.hold_enough().expect("all is kept");
    }
}
