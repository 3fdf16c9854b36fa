//! What feeds say of themselves in the log, and the operator's word to one that is held.
//!
//! Shape: the log in; how each feed is out, and a word back.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{FeedError, Log, follow::BETWEEN_MARKS};
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

/// How long a feed that another one has fenced waits for that one to be silent: each writes its mark
/// far more often.
pub const SILENCE: Duration = BETWEEN_MARKS.saturating_mul(3);

/// Between looks whether the other one is.
const BETWEEN_LOOKS: Duration = Duration::from_secs(15);

/// Waits until no feed of a source has marked the log for `SILENCE`, or it is to end.
///
/// # Errors
/// When the log cannot be read.
pub fn await_silence(log: &Log, end: &AtomicBool) -> Result<(), KafkaError> {
    failpoint!("feed-silent", |_| Ok(()));
    let key = log.key("");
    let mut read_to = log.kafka.asker()?.extent(&log.topic, 0)?.1;
    let (mut heard, mut looked) = (Instant::now(), Instant::now());
    while !end.load(Ordering::Relaxed) && heard.elapsed() < SILENCE {
        thread::sleep(Duration::from_millis(100));
        if looked.elapsed() < BETWEEN_LOOKS.min(SILENCE / 4) {
            continue;
        }
        looked = Instant::now();
        read_to = log.kafka.scan(&log.topic, 0, read_to, &mut |taken| {
            if taken.key() == Some(key.as_bytes()) {
                heard = looked;
            }
            true
        })?;
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
