//! The topic of events, as clicks are written to it.
//!
//! Shape: clicks in; each durable in the topic when `append` has returned, one transaction a batch.
//!
//! Invariants: one process writes: whoever takes over fences its elder by the transactional id, and
//! says in the topic of the lead record that it leads the journal; an elder that finds that record
//! ends. That it was fenced is not enough for that: brokers also fence who was silent for long, and
//! an elder that was cut off takes the id again before it knows. A batch of which nobody knows
//! whether it was written is looked for in the topic: it is there as a whole or not at all, and
//! then it is written again. So a click is written once, whatever breaks. Where somebody else wrote
//! meanwhile, it is not written again, for it was not judged by that, and nothing is judged until
//! all of that is visible.
//!
//! Not here: what a click says (`desk`), and who reads it (the engine).

use std::{
    collections::HashSet,
    error::Error,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_64;

use uuid::Uuid;

use super::{
    desk::{Appended, ClickLog, Failed, Set, event},
    shown::Shown,
};
use crate::{
    kafka::{Asker, Kafka, KafkaError, Outgoing, SmallTopic, WriteError, Writer, patiently},
    progress::Store,
};

/// How old what is known of the topic's ends may be: a batch in doubt is looked for from there on.
const ENDS_AGE_MAX: Duration = Duration::from_secs(10);

/// Between tries to find out what became of a batch.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// Said by who still asks the brokers.
const WHO: &str = "the journal";

/// The key of the record that says which journal leads.
const JOURNAL_KEY: &[u8] = b"journal";

/// That record: the journal that took over last, which has a name of its own.
#[derive(Serialize, Deserialize)]
struct Claim {
    journal: Uuid,
}

/// The topic, held by this process alone.
pub struct EventTopic {
    kafka: Kafka,
    id: String,
    topic: String,
    /// That this journal leads.
    claim: Claimed,
    /// `None` once it is not known what became of the last batch.
    writer: Option<Writer>,
    asker: Asker,
    /// Of each partition an end that it once had, when that was asked for, and what was written
    /// here since.
    ends: Vec<u64>,
    asked: Instant,
    written: HashSet<Uuid>,
    shown: Arc<Shown>,
    /// Whether the process is to end: then nothing more is waited for.
    end: Arc<AtomicBool>,
}

/// Why clicks are not written.
#[derive(Debug, thiserror::Error)]
pub enum EventTopicError {
    /// Another one leads.
    #[error(
        "another journal of this dataflow has taken over; one runs at a time, do not start this \
         one again"
    )]
    Superseded,
    /// The topic is not there.
    #[error("topic \"{topic}\" is not there: `tributary init` makes it")]
    NoTopic {
        /// The topic.
        topic: String,
    },
    /// The topic was made anew: what was confirmed there is gone.
    #[error(
        "topic \"{topic}\" was made anew: clicks that were confirmed before are not in it; start \
         the journal again, and it takes the topic as it is"
    )]
    OtherTopic {
        /// The topic.
        topic: String,
    },
    /// The brokers failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// They refused what they would refuse again, or it is not waited for any more.
    #[error("clicks are not written")]
    Write(#[source] WriteError),
    /// It was to end, and nothing more is written.
    #[error("clicks are not written: the process ends")]
    Ending,
    /// Others wrote events while it was not known what became of these.
    #[error("clicks are not written: others wrote meanwhile, and they are to be judged anew")]
    Overtaken,
}

/// What became of a batch.
enum Became {
    Written,
    /// It is not there, and never will be.
    Nothing,
    /// The same, and others wrote meanwhile, which it was not judged by.
    Overtaken,
    /// Another journal leads; whether it is written.
    Superseded(bool),
}

impl EventTopic {
    /// Takes the topic for this process: no elder journal writes there from now on, and nothing is
    /// judged before all that stands there now is shown.
    ///
    /// # Errors
    /// When the topic is not there, or the brokers do not grant it.
    pub fn take_over(
        kafka: &Kafka,
        dataflow: &str,
        topic: &str,
        shown: Arc<Shown>,
        end: Arc<AtomicBool>,
    ) -> Result<EventTopic, EventTopicError> {
        let asker = kafka.asker()?;
        let found = asker.identities(&[topic.to_owned()])?;
        let Some((_, identity, partitions)) = found.into_iter().next() else {
            return Err(EventTopicError::NoTopic { topic: topic.to_owned() });
        };
        let (id, lead) = (format!("{dataflow}-journal"), Store::lead_topic(dataflow));
        let name = Uuid::from_u64_pair(random(), random());
        let (writer, at) = loop {
            let mut writer = kafka.writer(&id)?;
            // No elder says anything any more: whatever is said behind this, a younger one says.
            let at = asker.extent(&lead, 0)?.1;
            match claim(&mut writer, &lead, name) {
                Ok(()) => break (Some(writer), at),
                Err(WriteError::Hopeless(error)) => return Err(error.into()),
                Err(error) if end.load(Ordering::Relaxed) => {
                    return Err(EventTopicError::Write(error));
                }
                // Another one may be taking over just now: the last to say so leads.
                Err(error) => warn!("{error}: takes over again"),
            }
            thread::sleep(BETWEEN_TRIES);
        };
        let of_events = (topic.to_owned(), identity);
        let claim = Claimed { kafka: kafka.clone(), lead, name, at, events: of_events };
        let (asked, written) = (Instant::now(), HashSet::new());
        let ends = ends(&asker, topic, partitions)?;
        shown.expect_events(ends.clone());
        let (kafka, topic) = (kafka.clone(), topic.to_owned());
        Ok(EventTopic { kafka, id, topic, claim, writer, asker, ends, asked, written, shown, end })
    }

    /// How it is known whether this journal still leads.
    pub fn claim(&self) -> Claimed {
        self.claim.clone()
    }

    /// Which partition a click goes to: one key is always in one.
    fn partition(&self, click: &Set) -> u32 {
        (xxh3_64(click.id.as_bytes()) % self.ends.len() as u64) as u32
    }

    /// Asks anew for the ends, where they were asked for long ago. Elder ones are right as well.
    fn look_at_ends(&mut self) {
        if self.asked.elapsed() < ENDS_AGE_MAX {
            return;
        }
        let partitions = 0..self.ends.len() as u32;
        let asked = partitions.map(|partition| self.asker.end_now(&self.topic, partition));
        let Some(ends) = asked.collect() else { return };
        self.ends = ends;
        self.asked = Instant::now();
        self.written.clear();
    }

    /// Writes a batch in one transaction.
    fn write(&mut self, clicks: &[Set]) -> Result<(), WriteError> {
        self.look_at_ends();
        let mut writer = self.writer.take().expect("there is one while nothing is in doubt");
        writer.write(|take| {
            for click in clicks {
                let key = click.id.hyphenated().to_string();
                take(Outgoing {
                    topic: &self.topic,
                    partition: self.partition(click),
                    key: Some(key.as_bytes()),
                    value: Some(&event(click)),
                    headers: &[],
                })?;
            }
            Ok(())
        })?;
        self.writer = Some(writer);
        self.written.extend(clicks.iter().map(|click| click.id));
        Ok(())
    }

    /// Finds out what became of a batch, however long the brokers are away.
    fn look_for(&mut self, clicks: &[Set]) -> Result<Became, KafkaError> {
        let is_to_stop = || self.end.load(Ordering::Relaxed);
        // From then on nothing of it is on its way.
        let make = || self.kafka.writer(&self.id);
        self.writer = Some(patiently(WHO, is_to_stop, KafkaError::may_pass, make)?);
        let look = || Ok(self.claim.leads(&self.kafka.read_to_end(&self.claim.lead, 0)?));
        let leads = patiently(WHO, is_to_stop, KafkaError::may_pass, look)?;
        let batch: HashSet<Uuid> = clicks.iter().map(|click| click.id).collect();
        let (mut is_there, mut is_alone) = (false, true);
        for (partition, from) in (0..).zip(&self.ends) {
            let look = || {
                let mut found = Vec::new();
                self.kafka.scan(&self.topic, partition, *from, &mut |taken| {
                    found.push(taken.key().and_then(|key| Uuid::try_parse_ascii(key).ok()));
                    true
                })?;
                Ok(found)
            };
            for id in patiently(WHO, is_to_stop, KafkaError::may_pass, look)? {
                let is_of_batch = id.is_some_and(|id| batch.contains(&id));
                is_there |= is_of_batch;
                is_alone &= is_of_batch || id.is_some_and(|id| self.written.contains(&id));
            }
        }
        if !leads {
            return Ok(Became::Superseded(is_there));
        }
        if !is_alone {
            let look = || ends(&self.asker, &self.topic, self.ends.len() as u32);
            let ends = patiently(WHO, is_to_stop, KafkaError::may_pass, look)?;
            info!("others wrote events meanwhile: waits until these are visible");
            self.shown.expect_events(ends);
        }
        Ok(match (is_there, is_alone) {
            (true, _) => Became::Written,
            (false, true) => Became::Nothing,
            (false, false) => Became::Overtaken,
        })
    }
}

/// Under which name a journal has said that it leads.
#[derive(Clone)]
pub struct Claimed {
    kafka: Kafka,
    lead: String,
    name: Uuid,
    /// Below this offset elders have said so.
    at: u64,
    /// The topic of events as it was then: its name and identity.
    events: (String, String),
}

impl Claimed {
    /// Why this journal is to end, where that is known: another one leads by now, or the topic is
    /// not the one that was taken over.
    pub fn lost(&self) -> Option<EventTopicError> {
        if self.kafka.read_so_far(&self.lead, 0).is_ok_and(|records| !self.leads(&records)) {
            return Some(EventTopicError::Superseded);
        }
        let (topic, known) = &self.events;
        let asked = self.kafka.asker().and_then(|a| a.identities(std::slice::from_ref(topic)));
        let found = asked.ok()?.into_iter().next();
        let is_same = found.is_some_and(|(_, identity, _)| identity == *known);
        (!is_same).then(|| EventTopicError::OtherTopic { topic: topic.clone() })
    }

    /// Whether nobody has said so after this one. What is not seen, since an open transaction hides
    /// it, says nothing.
    fn leads(&self, records: &SmallTopic) -> bool {
        let last = claims(records).last();
        last.is_none_or(|(offset, claim)| claim.journal == self.name || offset < self.at)
    }
}

/// The claims of journals that a topic has, with their offsets.
fn claims(records: &SmallTopic) -> impl Iterator<Item = (u64, Claim)> {
    let of_journals = records.0.iter().filter(|record| record.key == JOURNAL_KEY);
    of_journals.filter_map(|record| {
        let claim = serde_json::from_slice(record.value.as_ref()?).ok()?;
        Some((record.offset, claim))
    })
}

/// A number that nobody else has drawn.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Says that the journal of that name leads.
fn claim(writer: &mut Writer, lead: &str, name: Uuid) -> Result<(), WriteError> {
    let value = serde_json::to_vec(&Claim { journal: name }).expect("plain data has a JSON");
    writer.write(|send| {
        let (key, value) = (Some(JOURNAL_KEY), Some(&value[..]));
        send(Outgoing { topic: lead, partition: 0, key, value, headers: &[] })
    })
}

/// Where partitions end.
fn ends(asker: &Asker, topic: &str, partitions: u32) -> Result<Vec<u64>, KafkaError> {
    (0..partitions).map(|partition| Ok(asker.extent(topic, partition)?.1)).collect()
}

impl ClickLog for EventTopic {
    fn append(&mut self, clicks: &[Set]) -> Appended {
        let written = || Appended { durable: clicks.len(), failed: None };
        let failed = |failed| Appended { durable: 0, failed: Some(failed) };
        if self.writer.is_none() {
            // It was to end before it was known who leads.
            return failed(Failed::Once(Box::new(EventTopicError::Ending)));
        }
        loop {
            let Err(error) = self.write(clicks) else { return written() };
            warn!(
                clicks = clicks.len(),
                cause = error.source().map(ToString::to_string),
                "looks whether clicks were written: {error}"
            );
            // Nothing is written before it is known, and who leads with it.
            let became = loop {
                match self.look_for(clicks) {
                    Ok(became) => break became,
                    Err(error) if self.end.load(Ordering::Relaxed) => {
                        return failed(Failed::Once(Box::new(error)));
                    }
                    Err(error) => {
                        let cause = error.source().map(ToString::to_string);
                        warn!(cause, "whether clicks were written is not known yet: {error}");
                        thread::sleep(BETWEEN_TRIES);
                    }
                }
            };
            let is_to_end = self.end.load(Ordering::Relaxed);
            let is_hopeless = matches!(&error, WriteError::Hopeless(cause) if !cause.may_pass());
            return match became {
                Became::Superseded(is_written) => Appended {
                    durable: if is_written { clicks.len() } else { 0 },
                    failed: Some(Failed::ForGood(Box::new(EventTopicError::Superseded))),
                },
                Became::Written => {
                    info!(clicks = clicks.len(), "they were");
                    written()
                }
                Became::Overtaken => failed(Failed::Once(Box::new(EventTopicError::Overtaken))),
                Became::Nothing if is_hopeless || is_to_end => {
                    failed(Failed::Once(Box::new(EventTopicError::Write(error))))
                }
                Became::Nothing => {
                    info!(clicks = clicks.len(), "they were not, and are written again");
                    continue;
                }
            };
        }
    }
}
