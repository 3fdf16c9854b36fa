//! The operator's word to a feed that is held.
//!
//! Shape: a source's part of the log in; why its feed is held out, and a word back.

use super::{FeedError, Log};
use crate::{
    kafka::{KafkaError, Outgoing, WriteError},
    reference::log::{Hold, Mark, Word},
};

/// Why a source's feed is held, where it is.
///
/// # Errors
/// When the log cannot be read.
pub fn held(log: &Log) -> Result<Option<Hold>, KafkaError> {
    let (key, mut mark) = (log.key(""), Mark::default());
    log.kafka.scan(&log.topic, 0, 0, &mut |taken| {
        if taken.key() == Some(key.as_bytes()) {
            mark = taken.value().map(Mark::parse).unwrap_or_default();
        }
        true
    })?;
    Ok(mark.hold)
}

/// Gives the word for a hold. Given twice it is no other.
///
/// # Errors
/// When brokers do not take it.
pub fn give_word(log: &Log, hold: &Hold) -> Result<(), FeedError> {
    let (key, value) = (log.word_key(), Word { accepts: hold.id.clone() }.to_json());
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
