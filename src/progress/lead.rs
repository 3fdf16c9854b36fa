//! The lead record: which start is in force, and what all starts must agree on.
//!
//! Shape: JSON, alone in its topic; only who holds the lead's transactional id writes it.
//!
//! Invariants: the generation grows with every start. The greatest number of workers that there
//! ever were is named before they write, so a start can fence all their writers. What outputs hold
//! depends on the number of shards, the hash that cuts them, and the partitions of the outputs: a
//! start that differs in one of them is refused.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::RecordError;
use crate::spec::{
    DedupeBy,
    changes::{Change, changes},
};

/// The hash that cuts the key space into shards; another one needs another name.
pub const SHARD_HASH: &str = "xxh3-64";

/// The form of this record and of those of progress, and which writers a worker has; another one is
/// a newer number. 1: one writer a worker.
pub const FORM: u32 = 2;

/// What the start that is in force said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lead {
    /// The form of the records of who wrote it (`FORM`).
    #[serde(default)]
    pub form: u32,
    /// Which start it is, from 1.
    pub generation: u64,
    /// A name that the start drew: one whose record did not come through must not take for its own
    /// what a rival wrote, which may say the same in all else.
    #[serde(default)]
    pub name: String,
    /// The greatest number of workers that any start had, this one included.
    #[serde(alias = "writers")]
    pub workers: u32,
    /// The dataflow.
    pub dataflow: String,
    /// A hash of its spec, as it is written.
    pub spec: String,
    /// That spec, so that a start can say what has changed since; elder versions left it out, and
    /// so are very long ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Arc<str>>,
    /// The number of shards.
    pub shards: u16,
    /// The hash that cuts them.
    pub shard_hash: String,
    /// Where events with one key meet: in their shard too since the events were given more
    /// partitions.
    pub dedupe: DedupeBy,
    /// By partition of the events, the offset from which their state is made: what stood before it
    /// was gone when a start went on. As many as the operator has agreed to; none before the first
    /// start went on.
    pub events_from: Vec<u64>,
    /// Of the last ones of these, which are of events that never stood in the topic, how many
    /// events there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<u64>,
    /// The same of the reference log.
    pub reference_from: u64,
    /// What was accepted to be lost.
    #[serde(default)]
    pub accepted: Accepted,
    /// What is written, in order.
    pub outputs: Vec<Output>,
}

/// What the operator has accepted to be lost: what an elder start recorded of those inputs is not
/// what there is of them now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Of the events, in the order in which it was accepted.
    pub events: Vec<AcceptedLoss>,
    /// Of the reference log, what was taken instead last.
    pub reference: Option<Retaken>,
}

/// The documents were taken as they are, since what was read of the reference log may be gone: what
/// elder starts recorded of it says nothing any more, and every record is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retaken {
    /// By which start.
    pub start: u64,
    /// Up to where the log was committed then.
    pub end: u64,
    /// When, by the brokers' clock, in ms since 1970.
    #[serde(default)]
    pub time_ms: i64,
}

/// A loss of a partition of the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedLoss {
    /// The partition.
    pub partition: u32,
    /// By which start.
    pub start: u64,
    /// From where on it is read since.
    pub from: u64,
    /// Whether all that it holds is new; else only what stood before is gone.
    pub is_new: bool,
}

/// A topic that is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its name.
    pub topic: String,
    /// Its identity.
    pub id: String,
    /// Number of its partitions.
    pub partitions: u32,
}

/// Which start it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartId {
    /// Its number.
    pub generation: u64,
    /// The name that it drew.
    pub name: String,
}

impl StartId {
    /// That the start of a lead record has taken over from this one, if it has.
    pub fn superseded_by(&self, lead: &Lead) -> Option<Superseded> {
        let is_other = lead.generation >= self.generation && lead.name != self.name;
        is_other.then_some(Superseded { ours: self.generation, theirs: lead.generation })
    }
}

/// Another start is in force: this one is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "start {theirs} of the dataflow has taken over from this one, {ours}; this process writes \
     nothing more, and must not be started again beside it"
)]
pub struct Superseded {
    /// This start.
    pub ours: u64,
    /// The one in force.
    pub theirs: u64,
}

/// In what a start differs from those before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// In one thing.
    #[error("{what} was {before}, and would be {now}; {remedy}")]
    One {
        /// What differs.
        what: String,
        /// What it was.
        before: String,
        /// What it would be.
        now: String,
        /// What to do.
        remedy: &'static str,
    },
    /// In what the spec says.
    #[error(
        "the spec says something else than what the outputs rest on:{}\nput back what it said, or \
         make the dataflow anew from history, under another name, and switch to it: `tributary \
         backfill SPEC --as NAME`, see docs/history.md",
        .0.iter().map(|change| format!("\n  {change}")).collect::<String>()
    )]
    Spec(Vec<Change>),
}

const NEW_OUTPUTS: &str = "what stands in the outputs rests on it: give the dataflow another name, \
                           and with it new outputs";

/// The part of a lead record that every version reads.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Form {
    form: u32,
}

impl Lead {
    /// Reads a record's value.
    ///
    /// # Errors
    /// When it is none, or one of a later version.
    pub fn parse(topic: &str, offset: u64, value: &[u8]) -> Result<Lead, RecordError> {
        let topic = topic.to_owned();
        // A later version may say something else under each of the other names.
        match serde_json::from_slice(value) {
            Ok(Form { form }) if form > FORM => Err(RecordError::Later { topic, form }),
            Ok(_) | Err(_) => serde_json::from_slice(value).map_err(|source| RecordError::None {
                topic,
                offset,
                source,
            }),
        }
    }

    /// The record's value.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values have a JSON")
    }

    /// Which start it is of.
    pub fn id(&self) -> StartId {
        StartId { generation: self.generation, name: self.name.clone() }
    }

    /// The lead record of the next start, which has so much in common with this one that it may
    /// write the same outputs.
    ///
    /// # Errors
    /// With what it has not.
    pub fn next(&self, now: Lead) -> Result<Lead, Difference> {
        let differs = |what: String, before: String, now: String, remedy| {
            Err(Difference::One { what, before, now, remedy })
        };
        let text = |text: &str| format!("\"{text}\"");
        let texts = self.text.as_ref().zip(now.text.as_ref());
        let changed = texts.and_then(|(before, now)| changes(before, now));
        // A text that says the same in other words is as good.
        if self.spec != now.spec && changed.as_ref().is_none_or(|changes| !changes.is_empty()) {
            if let Some(changes) = changed {
                return Err(Difference::Spec(changes));
            }
            let remedy = "put back its text as it was, comments and spaces too; a spec that says \
                          something else needs new outputs: give the dataflow another name";
            return differs("the spec's hash".to_owned(), self.spec.clone(), now.spec, remedy);
        }
        if self.shards != now.shards {
            let (before, now) = (self.shards.to_string(), now.shards.to_string());
            return differs("the number of shards".to_owned(), before, now, NEW_OUTPUTS);
        }
        if self.shard_hash != now.shard_hash {
            let (before, now) = (text(&self.shard_hash), text(&now.shard_hash));
            return differs("the hash that cuts shards".to_owned(), before, now, NEW_OUTPUTS);
        }
        for (before, output) in self.outputs.iter().zip(&now.outputs) {
            let topic = &output.topic;
            if before.topic != output.topic {
                let (before, now) = (text(&before.topic), text(&output.topic));
                return differs("an output's topic".to_owned(), before, now, NEW_OUTPUTS);
            }
            if before.partitions != output.partitions {
                let what = format!("the number of partitions of \"{topic}\"");
                let (before, now) = (before.partitions.to_string(), output.partitions.to_string());
                return differs(what, before, now, NEW_OUTPUTS);
            }
            if before.id != output.id {
                let what = format!("the identity of topic \"{topic}\"");
                let remedy = "it was deleted and made again, and what stood there is lost: give \
                              the dataflow another name, and with it new outputs";
                return differs(what, text(&before.id), text(&output.id), remedy);
            }
        }
        let workers = self.workers.max(now.workers);
        Ok(Lead { generation: self.generation + 1, workers, ..now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead() -> Lead {
        Lead {
            form: FORM,
            generation: 1,
            name: "a".to_owned(),
            workers: 4,
            dataflow: "d".to_owned(),
            spec: "1".to_owned(),
            text: None,
            shards: 64,
            shard_hash: SHARD_HASH.to_owned(),
            dedupe: DedupeBy::Partition,
            events_from: vec![0; 6],
            history: Vec::new(),
            reference_from: 0,
            accepted: Accepted::default(),
            outputs: vec![Output { topic: "d_e".to_owned(), id: "i".to_owned(), partitions: 6 }],
        }
    }

    #[test]
    fn generations_grow_and_the_greatest_number_of_workers_is_kept() {
        let next = lead().next(Lead { workers: 2, ..lead() }).expect("nothing differs");
        assert_eq!((next.generation, next.workers), (2, 4));
        let more = next.next(Lead { workers: 9, ..lead() }).expect("nothing differs");
        assert_eq!((more.generation, more.workers), (3, 9));
    }

    #[test]
    fn start_is_superseded_by_whoever_drew_another_name() {
        let ours = lead().id();
        let by = |generation, name: &str| {
            let theirs = Lead { generation, name: name.to_owned(), ..lead() };
            ours.superseded_by(&theirs).map(|superseded| superseded.theirs)
        };
        assert_eq!(by(1, "a"), None);
        assert_eq!((by(1, "b"), by(2, "b")), (Some(1), Some(2)));
        assert_eq!(by(0, "b"), None, "an elder one takes nothing over");
    }

    #[test]
    fn record_of_a_later_version_is_named() {
        let read = |value: &[u8]| Lead::parse("d_lead", 7, value);
        assert_eq!(read(&lead().to_json()).expect("it is one"), lead());
        let one = serde_json::to_string(&Lead { form: 1, ..lead() }).expect("it is plain");
        let one = one.replace("\"workers\"", "\"writers\"");
        assert_eq!(read(one.as_bytes()).expect("of an earlier version").workers, 4);
        let later = br#"{"form": 3, "generation": "another kind of thing"}"#;
        let said = read(later).expect_err("it is later").to_string();
        assert!(said.contains("a later version") && said.contains("run that version"), "{said}");
        let said = read(b"[]").expect_err("it is none").to_string();
        assert!(said.contains("\"d_lead\" at offset 7"), "{said}");
    }

    #[test]
    fn spec_that_says_something_else_is_told_in_words() {
        let text = include_str!("../../dataflows/attendance.toml");
        let of = |spec: &str, text: &str| Lead {
            spec: spec.to_owned(),
            text: Some(text.into()),
            ..lead()
        };
        let next = |now: &str| of("1", text).next(of("2", now));
        let same = next(&text.replace("# Who is marked.\n", "")).expect("it means the same");
        assert_eq!(same.spec, "2");
        let other = next(&text.replace("edu_course", "course")).expect_err("it differs");
        let said = other.to_string();
        assert!(said.contains("\n  lookup \"student\", column \"COURSE\": path was"), "{said}");
        assert!(said.contains("a backfill of COURSE") && said.contains("another name"), "{said}");
        // What was not kept cannot be told.
        let elder = Lead { text: None, ..of("1", text) };
        let said = elder.next(of("2", text)).expect_err("nobody knows").to_string();
        assert!(said.contains("the spec's hash was 1"), "{said}");
    }

    #[test]
    fn what_outputs_rest_on_must_stay() {
        let other = |change: &dyn Fn(&mut Lead)| {
            let mut other = lead();
            change(&mut other);
            lead().next(other).expect_err("it differs").to_string()
        };
        assert!(other(&|lead| lead.spec = "2".to_owned()).contains("spec"));
        assert!(other(&|lead| lead.shards = 32).contains("was 64, and would be 32"));
        assert!(other(&|lead| lead.shard_hash = "other".to_owned()).contains("hash"));
        assert!(other(&|lead| lead.outputs[0].partitions = 7).contains("was 6, and would be 7"));
        assert!(other(&|lead| lead.outputs[0].id = "j".to_owned()).contains("made again"));
    }
}
