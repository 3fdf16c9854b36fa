//! The frontier of the outputs: up to which epoch all of them is committed.
//!
//! Shape: the records of the dataflow's progress, as they come, in; an epoch that never falls out.
//!
//! Invariants: it is the least epoch over all shards, each of which has one; what it covers stands
//! in the outputs before the end that is asked of them after it was read, though a transaction may
//! hide it still.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    kafka::{Kafka, KafkaError, Next, PartitionReader, Readers},
    progress::{Progress, RecordError, Store},
    spec::ShardId,
    time::Epoch,
};

/// Why the progress cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FrontierError {
    /// The brokers failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// What stands there is no record.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Follows the progress of a dataflow.
pub(super) struct Progressing {
    topic: String,
    readers: Readers,
    partition: PartitionReader,
    /// By key what stands.
    records: BTreeMap<String, Progress>,
    shards: u16,
}

impl Progressing {
    /// Follows a dataflow of so many shards.
    ///
    /// # Errors
    /// When brokers do not let it.
    pub(super) fn new(kafka: &Kafka, dataflow: &str, shards: u16) -> Result<Self, FrontierError> {
        let topic = Store::progress_topic(dataflow);
        let begin = kafka.asker()?.extent(&topic, 0)?.0;
        let (readers, mut partitions) = kafka.read(&[(topic.clone(), 0, begin)], || {})?;
        let partition = partitions.pop().expect("one was asked for");
        Ok(Progressing { topic, readers, partition, records: BTreeMap::new(), shards })
    }

    /// Takes what has come, and raises the epoch to what is committed of all shards.
    ///
    /// # Errors
    /// When the progress cannot be read.
    pub(super) fn take(&mut self, epoch: &AtomicU64) -> Result<(), FrontierError> {
        self.readers.serve()?;
        let mut is_new = false;
        loop {
            match self.partition.look()? {
                Next::Nothing => break,
                Next::End => {}
                Next::Record(taken) => {
                    is_new = true;
                    let key = String::from_utf8_lossy(taken.key().unwrap_or_default()).into_owned();
                    match taken.value() {
                        None => drop(self.records.remove(&key)),
                        Some(value) => {
                            let record = Progress::parse(&self.topic, taken.offset(), value)?;
                            self.records.insert(key, record);
                        }
                    }
                }
            }
        }
        if is_new {
            epoch.fetch_max(least(self.records.values(), self.shards), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The epoch up to which all shards are committed; 0 where some have none.
fn least<'r>(records: impl Iterator<Item = &'r Progress> + Clone, shards: u16) -> Epoch {
    let of_shard = |shard| {
        let of_it = records.clone().filter(|record| record.ownership.has(ShardId(shard)));
        of_it.map(|record| record.epoch).max().unwrap_or(0)
    };
    (0..shards).map(of_shard).min().unwrap_or(0)
}
