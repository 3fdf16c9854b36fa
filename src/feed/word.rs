//! What feeds say of themselves in the log, and the operator's word to one that is held.
//!
//! Shape: the log in; how each feed is out, and a word back.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{FeedError, Log};
use crate::{
    kafka::{Kafka, KafkaError, Outgoing, WriteError},
    reference::log::{Hold, Mark, SEPARATOR, Word},
};

/// What the feeds of a log say of themselves, by source.
///
/// # Errors
/// When the log cannot be read.
pub fn marks(kafka: &Kafka, topic: &str) -> Result<BTreeMap<String, Mark>, KafkaError> {
    let mut marks = BTreeMap::new();
    kafka.scan(topic, 0, 0, &mut |taken| {
        let key = taken.key().and_then(|key| str::from_utf8(key).ok());
        let source = key.and_then(|key| key.strip_suffix(SEPARATOR));
        if let (Some(source), Some(value)) = (source, taken.value())
            && !source.contains(SEPARATOR)
        {
            marks.insert(source.to_owned(), Mark::parse(value));
        }
        true
    })?;
    Ok(marks)
}

/// How long a feed that another one has fenced waits for one that does not say that it has ended:
/// no question to a system takes longer, and between two each writes its mark.
pub const SILENCE: Duration = Duration::from_secs(20 * 60);

/// Between looks whether the other one has ended.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// Waits until the last feed of a source has ended, or has written nothing for `SILENCE`, or this
/// one is to end.
///
/// # Errors
/// When the log cannot be read for good.
pub fn await_silence(log: &Log, end: &AtomicBool) -> Result<(), KafkaError> {
    let (prefix, mut read_to) = (log.key(""), 0);
    let mut heard = Instant::now();
    while !end.load(Ordering::Relaxed) && heard.elapsed() < SILENCE {
        let (looked, mut has_ended) = (Instant::now(), false);
        let read = log.kafka.scan(&log.topic, 0, read_to, &mut |taken| {
            let key = taken.key().and_then(|key| str::from_utf8(key).ok());
            if let Some(id) = key.and_then(|key| key.strip_prefix(&*prefix)) {
                heard = looked;
                let mark = taken.value().filter(|_| id.is_empty()).map(Mark::parse);
                has_ended = mark.is_some_and(|mark| mark.has_ended);
            }
            true
        });
        match read {
            Ok(_) if has_ended => return Ok(()),
            Ok(to) => read_to = to,
            // While nothing can be heard nobody is silent.
            Err(error) if error.may_pass() => heard = looked,
            Err(error) => return Err(error),
        }
        while looked.elapsed() < BETWEEN_LOOKS && !end.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Why a source's feed is held, where it is.
///
/// # Errors
/// When the log cannot be read.
pub fn held(log: &Log) -> Result<Option<Hold>, KafkaError> {
    Ok(marks(&log.kafka, &log.topic)?.remove(&log.source).and_then(|mark| mark.hold))
}

/// Gives the word for a hold. Given twice it is no other.
///
/// # Errors
/// When brokers do not take it.
pub fn give_word(log: &Log, hold: &Hold) -> Result<(), FeedError> {
    let word = Word { accepts: hold.id.clone(), deletions: hold.deletions };
    let (key, value) = (log.word_key(), word.to_json());
    let record = Outgoing {
        topic: &log.topic,
        partition: 0,
        key: Some(key.as_bytes()),
        value: Some(&value),
        headers: &[],
    };
    loop {
        let mut writer = log.kafka.writer(&format!("{}-{}-word", log.topic, log.source))?;
        match writer.write(|send| send(record)) {
            Ok(()) => return Ok(()),
            Err(WriteError::Unknown { .. } | WriteError::Fenced { .. }) => {}
            Err(WriteError::Hopeless(error)) => return Err(error.into()),
        }
    }
}
