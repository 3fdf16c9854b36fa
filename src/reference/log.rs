//! The reference log: all documents, and what happened to them, in a compacted topic.
//!
//! Shape: records in their order in; statements out. A record's key is `<source>:<_id>`; its value
//! `{"version": 7, "document": {...}}`, with nothing in it but what the spec takes, and none once
//! the document is gone. The record of key `<source>:` is the mark of its feed, `{"complete": true,
//! "feed": "1f"}`: whether the first snapshot is complete, which feed began last, and whether it
//! is held. The record of key `:<source>` is the operator's word to a feed that is.
//!
//! Invariants: what cannot be read changes nothing and is counted; who reads the log from its begin
//! knows of each document what was said of it last.
//!
//! Not here: who writes it (`feed`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{
    Content, Projector, ReferenceError, Sources, Statement,
    document::DEPTH_MAX,
    file::Counts,
    reconcile::{Spent, Version},
};
use crate::{
    kafka::{Kafka, PartitionReader},
    row::json,
    source::{
        Bound, Limit,
        kafka::{Bounded, Handed},
    },
    spec::Spec,
};

/// What a source's feed says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Whether the source's first snapshot is complete.
    pub complete: bool,
    /// The paths of a document that are kept; where none is named, it is not known.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keeps: BTreeSet<String>,
    /// Which feed began last; each has a name of its own.
    #[serde(default)]
    pub feed: String,
    /// Which collection of the system the log's documents are of, in the system's own terms.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub identity: Value,
    /// Up to where that collection was taken, in the system's own terms.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub positions: Value,
    /// What of its guard against deletions is used up.
    #[serde(default)]
    pub spent: Spent,
    /// Whether that feed has ended as it was to.
    #[serde(default)]
    pub has_ended: bool,
    /// Why it waits for the operator's word, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// How it was last.
    #[serde(default)]
    pub state: FeedState,
}

/// Why a feed waits for the operator's word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// Its name: a word is for one hold.
    pub id: String,
    /// Why.
    pub why: Why,
    /// Which collection stands there.
    pub identity: Value,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// How many documents would be written, of those that are other or new,
    pub upserts: u64,
    /// how many deleted,
    pub deletions: u64,
    /// of how many that are held.
    pub held: u64,
}

/// Why the operator's word is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The system holds another collection than the one that the log is of.
    OtherCollection,
    /// More would be deleted than may be without a word.
    Deletions,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::OtherCollection => {
                "another collection stands where the one was that the log is of: it was made again \
                 or restored, or an alias was switched"
            }
            Why::Deletions => "more documents are gone than may be deleted without a word",
        })
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hold { why, upserts, deletions, held, .. } = self;
        write!(f, "{why}; {upserts} documents are new or other, {deletions} of {held} are gone")
    }
}

/// How a feed was when it last wrote its mark. Times are in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FeedState {
    /// When the mark was written.
    pub at: u64,
    /// When the system last answered as it should.
    pub answered: u64,
    /// When all was last compared.
    pub compared: u64,
    /// How many documents the log holds.
    pub documents: u64,
    /// How many are gone and not deleted yet.
    #[serde(default)]
    pub pending: u64,
    /// How many were refused since the feed began.
    pub refused: u64,
    /// Why the system does not answer, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// The operator's word to a feed that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// The hold that it is for.
    pub accepts: String,
    /// How many deletions it lets through.
    pub deletions: u64,
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

impl Word {
    /// The record's value.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values have a JSON")
    }

    /// Reads the record's value; what is none is no word.
    pub fn parse(value: &[u8]) -> Option<Word> {
        serde_json::from_slice(value).ok()
    }
}

/// Between a source's name and a document's `_id`.
pub const SEPARATOR: char = ':';

/// The reference log of a dataflow, as it is read.
pub struct ReferenceLog {
    records: Bounded,
    projector: Projector,
    counts: Counts,
    sources: Sources,
    ahead: Ahead,
}

/// What the log says further on than it was read.
struct Ahead {
    kafka: Kafka,
    topic: String,
    is_shown: bool,
    /// Up to where it was looked, by source: less is kept there for a while, and later enough
    /// again.
    looked_to: BTreeMap<Box<str>, u64>,
}

/// What a record of the log says.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// What a document now says, or that it is gone.
    Document(Statement),
    /// What a source's feed says of itself, or the operator to it.
    Mark,
}

/// The value of a document's record; without a version where its system has none.
pub fn value(version: Version, document: &[u8]) -> Vec<u8> {
    let head = match version {
        Version(0) => r#"{"document":"#.to_owned(),
        Version(version) => format!(r#"{{"version":{version},"document":"#),
    };
    [head.as_bytes(), document, b"}"].concat()
}

/// What the value of a document's record says; `None` where it is none.
pub fn parts(value: &[u8]) -> Option<(Version, &RawValue)> {
    let (mut version, mut document) = (Version::default(), None);
    let fields = |name: &str, token| match name {
        "version" => version = Version(number(token).unwrap_or_default()),
        "document" => document = Some(token),
        _ => {}
    };
    json::read_object(value, DEPTH_MAX, fields).ok()?;
    let document = document.filter(|token: &&RawValue| token.get().starts_with('{'))?;
    Some((version, document))
}

fn number(token: &RawValue) -> Option<u64> {
    token.get().parse().ok()
}

/// Reads one record; `None` where it is none.
pub fn read(key: &[u8], value: Option<&[u8]>, projector: &Projector) -> Option<Said> {
    let key = str::from_utf8(key).ok()?;
    let (source, id) = key.split_once(SEPARATOR)?;
    if source.is_empty() || id.is_empty() && value.is_some() {
        return Some(Said::Mark);
    }
    if id.is_empty() {
        return None;
    }
    let content = match value {
        None => Content::Deleted,
        Some(value) => Content::Claims(projector.claims(Some(source), key, parts(value)?.1)?),
    };
    Some(Said::Document(Statement { id: key.into(), content }))
}

impl ReferenceLog {
    /// The log that `reader` reads from an offset on, in that topic; `is_shown`: documents that
    /// were read of it stand in the outputs.
    pub fn new(
        spec: &Arc<Spec>,
        (kafka, topic): (Kafka, String),
        reader: PartitionReader,
        from: u64,
        is_shown: bool,
    ) -> ReferenceLog {
        ReferenceLog {
            records: Bounded::new(None, Some(reader), from, true),
            projector: Projector::new(Arc::clone(spec)),
            counts: Counts::default(),
            sources: Sources::new(spec),
            ahead: Ahead { kafka, topic, is_shown, looked_to: BTreeMap::new() },
        }
    }

    /// Hands out statements with their offsets; returns how many records and bytes were read, and
    /// whether there may be more already.
    ///
    /// # Errors
    /// When the log cannot be read on, or a feed keeps less of a source's documents from here on
    /// than the spec takes; nothing that follows is handed out then.
    pub fn read(
        &mut self,
        limit: Limit,
        take: &mut dyn FnMut(u64, Statement),
    ) -> Result<(u64, u64, bool), ReferenceError> {
        let ReferenceLog { records, projector, counts, sources, ahead } = self;
        let mut sound = Ok(());
        let read = records.read(limit, &mut |Handed { offset, key, value, .. }| {
            if sound.is_err() {
                return;
            }
            if let Some(source) = sources.take(key, value)
                && let Err(lacking) = sources.hold_enough_of(source)
            {
                sound = ahead.hold_enough_of(source, offset, sources, lacking);
                if sound.is_err() {
                    return;
                }
            }
            match read(key.unwrap_or_default(), value, projector) {
                Some(Said::Document(statement)) => {
                    counts.documents += 1;
                    take(offset, statement);
                }
                Some(Said::Mark) => {}
                None => counts.refused += 1,
            }
        });
        sound.and(Ok(read?))
    }

    /// From now on hands out nothing at or past a bound; `None` lifts it.
    pub fn stop_at(&mut self, stop: Option<Bound>) {
        self.records.stop_at(stop);
    }

    /// Hands out nothing at or past a bound that another reader has come to; `None` lifts it.
    pub fn hold_at(&mut self, hold: Option<Bound>) {
        self.records.hold_at(hold);
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

    /// What the log says of its sources, as far as it was read.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl Ahead {
    /// Whether a later mark of the source says that enough is kept again; else `lacking`. Who reads
    /// what was written long ago is not to stop at what has long been mended.
    fn hold_enough_of(
        &mut self,
        source: &str,
        offset: u64,
        so_far: &Sources,
        lacking: ReferenceError,
    ) -> Result<(), ReferenceError> {
        if self.looked_to.get(source).is_some_and(|looked_to| offset < *looked_to) {
            return Ok(());
        }
        let mut later = so_far.clone();
        let end = self.kafka.scan(&self.topic, 0, offset + 1, &mut |taken| {
            later.take(taken.key(), taken.value());
            true
        })?;
        // Until all is compared again documents are as they were cut down. Whoever has shown
        // nothing yet waits for that anyway.
        let is_whole = !self.is_shown || later.is_complete(source);
        if later.hold_enough_of(source).is_err() || !is_whole {
            return Err(lacking);
        }
        self.looked_to.insert(source.into(), end);
        Ok(())
    }
}
