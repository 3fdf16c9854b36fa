//! Dead letters in Kafka: looked at, and brought back as events once they are repaired.
//!
//! Shape: the topic of the dead letters in; letters by a filter, or events in their old partitions,
//! out.
//!
//! Invariants: a letter is brought back once: the event and the note that says so are one
//! transaction, under an id that one replay has at a time, and a replay reads the notes once it has
//! taken the id. It goes to the partition from which it came, under its old key: equal IDs must
//! meet.

use std::collections::{BTreeSet, HashMap};

use super::lead::{Names, StartError, look};
use crate::{
    kafka::{Kafka, KafkaError, Outgoing, Taken, WriteError, Writer},
    sink::kafka::{Topic, Topics},
    spec::Spec,
};

/// Most letters and bytes that one transaction brings back.
const LETTERS_MAX: usize = 1_000;
const BYTES_MAX: usize = 4 << 20;

/// A letter, as it stands in its topic.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// Where it stands.
    pub partition: u32,
    /// See there.
    pub offset: u64,
    /// Why its event was none: a reason's stable name.
    pub reason: String,
    /// The column at fault; empty where none is.
    pub column: String,
    /// Where the event stood.
    pub event_topic: String,
    /// See there.
    pub event_partition: u32,
    /// See there.
    pub event_offset: u64,
    /// When the event was written, in ms since 1970.
    pub time_ms: i64,
    /// The event's key.
    pub key: Option<Vec<u8>>,
    /// The event, byte for byte.
    pub value: Vec<u8>,
    /// How many bytes key and event had, where they are not all here.
    pub cut: Option<u64>,
}

/// Which letters.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of these reasons; of all where there is none.
    pub reasons: Vec<String>,
    /// Of these columns; of all where there is none.
    pub columns: Vec<String>,
    /// Of events of this partition.
    pub event_partition: Option<u32>,
}

/// The letters of a dataflow.
pub struct Letters<'k> {
    kafka: &'k Kafka,
    spec: &'k Spec,
    topics: Topics,
}

/// What is brought back: all letters of a filter as they came, or those that were repaired.
pub enum Repaired {
    /// As they came.
    AsTheyCame(Filter),
    /// By where a letter stands, what the event is to be.
    Values(HashMap<(u32, u64), Vec<u8>>),
}

/// What a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Letters that are events again.
    pub replayed: u64,
    /// Letters that were so before.
    pub before: u64,
    /// Repaired values whose letter is not there.
    pub missing: u64,
    /// Letters that do not hold all of their event, and were not repaired.
    pub cut: u64,
}

/// Why letters cannot be looked at or brought back.
#[derive(Debug, thiserror::Error)]
pub enum LettersError {
    /// The topics are not those of the dataflow.
    #[error(transparent)]
    Topics(#[from] StartError),
    /// The brokers failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Another replay has begun.
    #[error(
        "another replay of this dataflow's dead letters has begun, or this one stood still for \
         longer than brokers wait; what it had not brought back yet is not: run it again"
    )]
    Fenced,
}

/// The topic that says which letters were brought back.
pub fn replayed_topic(dataflow: &str) -> String {
    format!("{dataflow}_replayed")
}

impl Filter {
    /// Whether a letter is among them.
    pub fn takes(&self, letter: &Letter) -> bool {
        let is_of = |wanted: &[String], is: &String| wanted.is_empty() || wanted.contains(is);
        is_of(&self.reasons, &letter.reason)
            && is_of(&self.columns, &letter.column)
            && self.event_partition.is_none_or(|partition| partition == letter.event_partition)
    }
}

impl Letter {
    fn of(partition: u32, taken: &Taken<'_>) -> Letter {
        let header = |name: &str| {
            let value = taken.header(name).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        Letter {
            partition,
            offset: taken.offset(),
            reason: header("reason"),
            column: header("column"),
            event_topic: header("topic"),
            event_partition: header("partition").parse().unwrap_or_default(),
            event_offset: header("offset").parse().unwrap_or_default(),
            time_ms: header("timestamp").parse().unwrap_or_default(),
            key: taken.key().map(<[u8]>::to_vec),
            value: taken.value().unwrap_or_default().to_vec(),
            cut: header("cut").parse().ok(),
        }
    }
}

impl<'k> Letters<'k> {
    /// The letters of a dataflow.
    ///
    /// # Errors
    /// When its topics are not there.
    pub fn open(
        kafka: &'k Kafka,
        spec: &'k Spec,
        names: &Names,
    ) -> Result<Letters<'k>, LettersError> {
        let topics = look(kafka, spec, names)?;
        Ok(Letters { kafka, spec, topics })
    }

    /// Hands out the letters that stand now, until `take` has enough.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn each(&self, mut take: impl FnMut(Letter) -> bool) -> Result<(), LettersError> {
        let Topic { name, partitions, .. } = &self.topics.dead_letters;
        for partition in 0..*partitions {
            let mut is_enough = false;
            self.kafka.scan(name, partition, 0, &mut |taken| {
                is_enough = !take(Letter::of(partition, &taken));
                !is_enough
            })?;
            if is_enough {
                break;
            }
        }
        Ok(())
    }

    /// One letter; `None` where none stands.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn one(&self, partition: u32, offset: u64) -> Result<Option<Letter>, LettersError> {
        let Topic { name, partitions, .. } = &self.topics.dead_letters;
        if partition >= *partitions {
            return Ok(None);
        }
        let mut found = None;
        self.kafka.scan(name, partition, offset, &mut |taken| {
            found = (taken.offset() == offset).then(|| Letter::of(partition, &taken));
            false
        })?;
        Ok(found)
    }

    /// Brings letters back as events, each once, however often this is asked.
    ///
    /// # Errors
    /// When brokers fail, or another replay has begun; those that were brought back are told next
    /// time.
    pub fn replay(&self, repaired: &Repaired) -> Result<Replayed, LettersError> {
        let (mut writer, mut notes) = self.take_over()?;
        let (mut done, mut seen, mut bytes) = (Replayed::default(), 0, 0);
        let mut batch: Vec<Letter> = Vec::new();
        let mut failed = None;
        self.each(|mut letter| {
            match repaired {
                Repaired::AsTheyCame(filter) if !filter.takes(&letter) => return true,
                Repaired::AsTheyCame(_) => {}
                Repaired::Values(values) => match values.get(&(letter.partition, letter.offset)) {
                    Some(value) => letter.value.clone_from(value),
                    None => return true,
                },
            }
            seen += 1;
            if notes.contains(&note(&letter)) {
                done.before += 1;
                return true;
            }
            if letter.cut.is_some() && matches!(repaired, Repaired::AsTheyCame(_)) {
                done.cut += 1;
                return true;
            }
            bytes += letter.value.len();
            batch.push(letter);
            if batch.len() >= LETTERS_MAX || bytes >= BYTES_MAX {
                match self.commit(&mut writer, &mut notes, &batch) {
                    Ok(replayed) => done.replayed += replayed,
                    Err(error) => failed = Some(error),
                }
                batch.clear();
                bytes = 0;
            }
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        done.replayed += self.commit(&mut writer, &mut notes, &batch)?;
        if let Repaired::Values(values) = repaired {
            done.missing = values.len() as u64 - seen;
        }
        Ok(done)
    }

    /// Brings some back in one transaction, with as many writers as it takes; returns how many it
    /// has.
    fn commit(
        &self,
        writer: &mut Writer,
        notes: &mut BTreeSet<String>,
        batch: &[Letter],
    ) -> Result<u64, LettersError> {
        let mut in_doubt = 0;
        loop {
            // Another replay may have brought back some of them meanwhile.
            let left: Vec<&Letter> =
                batch.iter().filter(|letter| !notes.contains(&note(letter))).collect();
            if left.is_empty() {
                return Ok(in_doubt);
            }
            match writer.write(|send| self.send(&left, send)) {
                Ok(()) => return Ok(left.len() as u64),
                Err(WriteError::Fenced { .. }) => return Err(LettersError::Fenced),
                Err(WriteError::Hopeless(error)) => return Err(error.into()),
                Err(WriteError::Unknown { .. }) => {
                    // A transaction is there whole or not at all.
                    in_doubt = left.len() as u64;
                    (*writer, *notes) = self.take_over()?;
                }
            }
        }
    }

    /// Ends an elder replay, then reads what was brought back.
    fn take_over(&self) -> Result<(Writer, BTreeSet<String>), LettersError> {
        let name = replayed_topic(&self.spec.name);
        if self.kafka.asker()?.identities(std::slice::from_ref(&name))?.is_empty() {
            return Err(StartError::NoTopics { topics: format!("\"{name}\"") }.into());
        }
        let writer = self.kafka.writer(&format!("{}-replay", self.spec.name))?;
        let notes = self.kafka.read_to_end(&name, 0)?.0.into_iter();
        let notes = notes.map(|record| String::from_utf8_lossy(&record.key).into_owned());
        Ok((writer, notes.collect()))
    }

    fn send(&self, batch: &[&Letter], send: &mut crate::kafka::Send<'_>) -> Result<(), WriteError> {
        let replayed = replayed_topic(&self.spec.name);
        for letter in batch {
            send(Outgoing {
                topic: &self.topics.events.name,
                partition: letter.event_partition % self.topics.events.partitions,
                key: letter.key.as_deref(),
                value: Some(&letter.value),
                headers: &[],
            })?;
            send(Outgoing {
                topic: &replayed,
                partition: 0,
                key: Some(note(letter).as_bytes()),
                value: Some(b"{}"),
                headers: &[],
            })?;
        }
        Ok(())
    }
}

/// Under which key it is said that a letter was brought back.
fn note(letter: &Letter) -> String {
    format!("{}-{}", letter.partition, letter.offset)
}
