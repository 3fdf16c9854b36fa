//! The progress record of a writer.
//!
//! Shape: JSON, for people who look too:
//!
//! ```text
//! {"generation":3,"worker":1,"of":2,"epoch":1764108000123,"settled":4711,
//!  "settled_ms":1764108000123,
//!  "events":{"topic":"attendance_events","id":"GbZ...",
//!            "bounds":[[120,119,1764108000100,"9c..."],[0]]},
//!  "reference":{"topic":"attendance_reference","id":"Qm...",
//!               "bounds":[[4711,4710,1764107999000,"07..."]]},
//!  "says":{"waiting":0,"resident_bytes":52428800}}
//! ```
//!
//! A bound is the offset that comes next, and of the record before it offset, time and hash.
//!
//! Invariants: a record speaks of all shards of its worker (`Ownership`), since a worker seals an
//! epoch for all of them together: one record a transaction, not one a shard.

use serde::{Deserialize, Serialize};

use crate::{
    source::{Bound, Input, Last, PartitionId, Vector},
    spec::ShardId,
    time::Epoch,
};

/// What a writer left in the transaction of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The start under which it wrote.
    pub generation: u64,
    /// Whose shards it speaks of.
    #[serde(flatten)]
    pub ownership: Ownership,
    /// Everything of these shards up to this epoch is written.
    pub epoch: Epoch,
    /// Below this offset of the reference log these shards owe no correction.
    pub settled: u64,
    /// What stands in the reference log from there on was written after this time, by the clock of
    /// who looked, in ms since 1970 (`SettledSince`). 0 where it is not known.
    #[serde(default)]
    pub settled_ms: i64,
    /// Up to where the epoch holds the events.
    pub events: TopicBounds,
    /// Up to where it holds the reference log; `None` where the dataflow has no lookups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<TopicBounds>,
    /// For people; nothing rests on it.
    #[serde(default)]
    pub says: Says,
}

/// What a worker says of itself, as it was when the epoch was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Says {
    /// Records of its shards that wait for corrections.
    pub waiting: u64,
    /// Memory that its process holds.
    pub resident_bytes: u64,
}

/// Which shards a worker has: those whose number modulo `of` is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// The worker's number among all workers.
    pub worker: u32,
    /// The number of all workers.
    pub of: u32,
}

/// Up to where an epoch holds the partitions of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicBounds {
    /// The topic's name.
    pub topic: String,
    /// Its identity.
    pub id: String,
    /// By partition.
    pub bounds: Vec<BoundForm>,
}

/// A bound as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BoundForm {
    /// With the record before it.
    After(u64, u64, i64, String),
    /// Nothing was read.
    Nothing([u64; 1]),
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is none.
    #[error(
        "the record of topic \"{topic}\" at offset {offset} is none that tributary writes; take \
         the right to write there from who wrote it, delete that record if it has a key of its \
         own, else give the dataflow another name, and with it new outputs"
    )]
    None {
        /// The topic.
        topic: String,
        /// Where.
        offset: u64,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A later version wrote it.
    #[error(
        "the last start of this dataflow was of a later version of tributary, whose records (form \
         {form} in topic \"{topic}\") this one does not know; run that version"
    )]
    Later {
        /// The topic.
        topic: String,
        /// The form of its records.
        form: u32,
    },
}

impl Ownership {
    /// Whether a shard is among them.
    pub fn has(self, shard: ShardId) -> bool {
        u32::from(shard.0) % self.of == self.worker
    }
}

impl From<&Bound> for BoundForm {
    fn from(bound: &Bound) -> BoundForm {
        match bound.last {
            Some(Last { offset, time_ms, hash }) => {
                BoundForm::After(bound.offset, offset, time_ms, format!("{hash:016x}"))
            }
            None => BoundForm::Nothing([bound.offset]),
        }
    }
}

impl From<&BoundForm> for Bound {
    fn from(form: &BoundForm) -> Bound {
        match form {
            BoundForm::After(offset, last, time_ms, hash) => {
                // A hash that is none fits no record, so the topic counts as another.
                let hash = u64::from_str_radix(hash, 16).unwrap_or_default();
                let last = Some(Last { offset: *last, time_ms: *time_ms, hash });
                Bound { offset: *offset, last }
            }
            BoundForm::Nothing([offset]) => Bound { offset: *offset, last: None },
        }
    }
}

impl TopicBounds {
    /// The bounds of a topic's partitions within a vector.
    pub fn events(topic: &str, id: &str, partitions: u32, vector: &Vector) -> TopicBounds {
        let of = |partition| vector.get(&Input::Events(PartitionId(partition)));
        TopicBounds::of(topic, id, (0..partitions).map(of))
    }

    /// The bound of the reference log within a vector.
    pub fn reference(topic: &str, id: &str, vector: &Vector) -> TopicBounds {
        TopicBounds::of(topic, id, [vector.get(&Input::Reference)].into_iter())
    }

    /// By partition, up to where it is held.
    pub fn offsets(&self) -> impl Iterator<Item = u64> {
        self.bounds.iter().map(|form| Bound::from(form).offset)
    }

    fn of<'v>(
        topic: &str,
        id: &str,
        bounds: impl Iterator<Item = Option<&'v Bound>>,
    ) -> TopicBounds {
        let form = |bound: Option<&Bound>| BoundForm::from(bound.unwrap_or(&Bound::default()));
        TopicBounds {
            topic: topic.to_owned(),
            id: id.to_owned(),
            bounds: bounds.map(form).collect(),
        }
    }
}

impl Progress {
    /// Reads a record's value.
    ///
    /// # Errors
    /// When it is no progress record.
    pub fn parse(topic: &str, offset: u64, value: &[u8]) -> Result<Progress, RecordError> {
        serde_json::from_slice(value).map_err(|source| RecordError::None {
            topic: topic.to_owned(),
            offset,
            source,
        })
    }

    /// The record's key. It is never used by another start: a record under a key of its own stands
    /// until those of other starts have passed it, whoever has its shards now.
    pub fn key(&self) -> String {
        format!("{}-{}", self.generation, self.ownership.worker)
    }

    /// The record's value.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values have a JSON")
    }

    /// The offsets that its epoch holds.
    pub fn vector(&self) -> Vector {
        let events = self.events.bounds.iter().enumerate();
        let of = |(place, form): (usize, &BoundForm)| {
            (Input::Events(PartitionId(place as u32)), Bound::from(form))
        };
        let reference = self.reference.iter().flat_map(|reference| &reference.bounds);
        events.map(of).chain(reference.map(|form| (Input::Reference, Bound::from(form)))).collect()
    }
}
