//! Manifests: which segments count.
//!
//! Shape: `manifests/<number>.json`, for people who look too:
//!
//! ```text
//! {"check":"5f...","manifest":{"form":1,"number":7,"generation":3,"start":"9c...",
//!  "written_ms":1764108000123,"dataflow":"attendance",
//!  "events":{"topic":"attendance_events","id":"GbZ...","partitions":[
//!    {"from":0,"bound":[120,119,1764108000100,"9c..."],"segments":[
//!      {"path":"events/0/00000000000000000000-9c1e.parquet","from":0,"to":120,"rows":118,
//!       "bytes":9000,"first_ms":1764107000000,"last_ms":1764108000100,"check":"c0..."}]}]}}}
//! ```
//!
//! A bound is the offset that comes next, and of the last record before it offset, time and hash;
//! `check` is the XXH3-128 of a file's bytes, here of the manifest as it is written.
//!
//! Invariants: a partition's segments follow each other without a gap, from `from` to its bound.
//! A manifest that is gone is not noticed: the one before counts, which is as good, and shorter.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use super::{ArchiveError, Store, StoreError};
use crate::{progress::BoundForm, source::Bound};

/// The form of manifests and segments; another one is a newer number.
pub const FORM: u32 = 1;

/// The folder of the manifests.
pub(super) const FOLDER: &str = "manifests";

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `FORM`.
    pub form: u32,
    /// Its number, from 1; the greatest counts.
    pub number: u64,
    /// Which start of the dataflow wrote it,
    pub generation: u64,
    /// and the name that it drew.
    pub start: String,
    /// When, in ms since 1970, by the clock of who wrote it.
    pub written_ms: i64,
    /// The dataflow.
    pub dataflow: String,
    /// The events.
    pub events: Topic,
}

/// What it holds of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// Its identity.
    pub id: String,
    /// By partition.
    pub partitions: Vec<Partition>,
    /// Events that never stood in the topic: of files or another system, from which the dataflow
    /// was made. Each is read as a partition behind those of the topic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Partition>,
}

/// What it holds of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// From which offset on.
    pub from: u64,
    /// Up to where.
    pub bound: BoundForm,
    /// In their order.
    pub segments: Vec<Segment>,
    /// What stands before a loss that was accepted: kept, and read by no start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aside: Vec<Segment>,
}

/// A file of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its name.
    pub path: String,
    /// It holds every record from this offset on,
    pub from: u64,
    /// and below this one.
    pub to: u64,
    /// How many.
    pub rows: u64,
    /// How large the file is.
    pub bytes: u64,
    /// When the earliest of them was written, in ms since 1970,
    pub first_ms: i64,
    /// and the latest.
    pub last_ms: i64,
    /// The checksum of the file.
    pub check: String,
}

/// A manifest as it is written.
#[derive(Serialize, Deserialize)]
struct Written<'m> {
    check: String,
    #[serde(borrow)]
    manifest: &'m RawValue,
}

/// The part of a manifest that every version reads.
#[derive(Deserialize)]
struct Form {
    form: u32,
}

/// The checksum of bytes.
pub fn check(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

impl Partition {
    /// Nothing of a partition yet, of which all is to be kept from an offset on.
    pub fn empty(from: u64) -> Partition {
        let bound = (&Bound::from(from)).into();
        Partition { from, bound, segments: Vec::new(), aside: Vec::new() }
    }

    /// Leaves out a segment and those behind it.
    pub fn end_before(&mut self, place: usize) {
        let from = self.segments[place].from;
        self.segments.truncate(place);
        self.bound = (&Bound::from(from)).into();
    }

    /// Up to where it is held.
    pub fn bound(&self) -> Bound {
        (&self.bound).into()
    }
}

impl Topic {
    /// Its partitions, and behind them what never stood in it.
    pub fn all(&self) -> impl Iterator<Item = &Partition> {
        self.partitions.iter().chain(&self.history)
    }

    /// One of them.
    pub fn get(&self, partition: u32) -> Option<&Partition> {
        let place = partition as usize;
        let behind = place.checked_sub(self.partitions.len());
        behind.map_or_else(|| self.partitions.get(place), |place| self.history.get(place))
    }

    /// Nothing of a topic yet.
    pub fn empty(topic: &str, id: &str, from: impl Iterator<Item = u64>) -> Topic {
        let partitions = from.map(Partition::empty).collect();
        Topic { topic: topic.to_owned(), id: id.to_owned(), partitions, history: Vec::new() }
    }
}

impl Manifest {
    /// All segments that it names, those that no start reads too.
    pub fn named(&self) -> impl Iterator<Item = &Segment> {
        self.events.all().flat_map(|p| p.segments.iter().chain(&p.aside))
    }

    /// What it is known by.
    pub fn check(&self) -> String {
        check(&serde_json::to_vec(self).expect("plain values have a JSON"))
    }

    /// All segments that starts read.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.events.all().flat_map(|partition| &partition.segments)
    }

    /// The manifest that counts; `None` in an archive that holds nothing.
    ///
    /// # Errors
    /// When it cannot be read, is damaged or of a later version.
    pub fn newest(store: &Store) -> Result<Option<Manifest>, ArchiveError> {
        let numbers = Manifest::numbers(store)?;
        let Some(newest) = numbers.last() else { return Ok(None) };
        Manifest::read(store, *newest).map(Some)
    }

    /// The numbers of the manifests that there are, smallest first.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn numbers(store: &Store) -> Result<Vec<u64>, StoreError> {
        let found = store.list(FOLDER)?;
        Ok(found.iter().filter_map(|found| number(&found.path)).collect())
    }

    /// The manifest of a number.
    ///
    /// # Errors
    /// When it cannot be read, is damaged or of a later version.
    pub fn read(store: &Store, number: u64) -> Result<Manifest, ArchiveError> {
        let path = Manifest::path(number);
        let fault = |what: String| ArchiveError::Fault {
            archive: store.place().to_owned(),
            path: path.clone(),
            what,
        };
        let bytes = store.read(&path)?.ok_or_else(|| fault("gone".to_owned()))?;
        let written: Written<'_> = serde_json::from_slice(&bytes)
            .map_err(|error| fault(format!("no manifest: {error}")))?;
        let text = written.manifest.get();
        if check(text.as_bytes()) != written.check {
            return Err(fault("damaged: it is not what its checksum says".to_owned()));
        }
        match serde_json::from_str(text) {
            Ok(Form { form }) if form > FORM => {
                Err(ArchiveError::Later { archive: store.place().to_owned(), path, form })
            }
            _ => serde_json::from_str(text).map_err(|error| fault(format!("no manifest: {error}"))),
        }
    }

    /// Writes it, if there is none of its number; whether it did.
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn create(&self, store: &Store) -> Result<bool, StoreError> {
        let manifest = serde_json::value::to_raw_value(self).expect("plain values have a JSON");
        let check = check(manifest.get().as_bytes());
        let written = serde_json::to_vec(&Written { check, manifest: &manifest });
        let written = written.expect("plain values have a JSON");
        store.create(&Manifest::path(self.number), written.into())
    }

    /// The file of a number.
    pub fn path(number: u64) -> String {
        format!("{FOLDER}/{number:020}.json")
    }
}

/// The number in a manifest's name.
pub(super) fn number(path: &str) -> Option<u64> {
    path.strip_prefix(FOLDER)?.strip_prefix('/')?.strip_suffix(".json")?.parse().ok()
}
