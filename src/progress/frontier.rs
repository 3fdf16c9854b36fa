//! The frontier of the outputs: up to which epoch all of them is committed.
//!
//! Shape: the records of the dataflow's progress, as they come, in; an epoch that never falls out.
//!
//! Invariants: it is the least epoch over all shards, each of which has one; what it covers stands
//! in the outputs before the end that is asked of them after it was read (`Passing`), though a
//! transaction may hide it still.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{Progress, RecordError, Store};
use crate::{
    kafka::{Asker, Kafka, KafkaError, Next, PartitionReader, Readers, Taken},
    spec::ShardId,
    time::Epoch,
};

/// How long it may take to pass the ends of the outputs, else they are asked for anew: what stood
/// there at first may have been compacted away since; their topics need a `min.compaction.lag.ms`
/// of more than this.
pub const PASSING_TIME_MAX: Duration = Duration::from_secs(10);

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
pub struct Progressing {
    topic: String,
    readers: Readers,
    partition: PartitionReader,
    /// By key what stands.
    records: BTreeMap<String, Progress>,
    shards: u16,
    /// Where it ended at first, and whether everything up to there was read.
    end: u64,
    is_whole: bool,
}

/// How often the client tells up to where it has fetched, in ms.
const BETWEEN_WORDS_MS: &str = "50";

impl Progressing {
    /// Follows a dataflow of so many shards.
    ///
    /// # Errors
    /// When brokers do not let it.
    pub fn new(kafka: &Kafka, dataflow: &str, shards: u16) -> Result<Self, FrontierError> {
        let topic = Store::progress_topic(dataflow);
        let (begin, end) = kafka.asker()?.extent(&topic, 0)?;
        let from = [(topic.clone(), 0, begin)];
        let (readers, mut partitions) =
            kafka.read_and_tell(&from, Some(BETWEEN_WORDS_MS), || {})?;
        let partition = partitions.pop().expect("one was asked for");
        let records = BTreeMap::new();
        let is_whole = begin >= end;
        Ok(Progressing { topic, readers, partition, records, shards, end, is_whole })
    }

    /// Takes what has come, and raises the epoch to what is committed of all shards.
    ///
    /// # Errors
    /// When the progress cannot be read.
    pub fn take(&mut self, epoch: &AtomicU64) -> Result<(), FrontierError> {
        self.readers.serve()?;
        // What was fetched stands in the queue, and is taken now.
        let is_fetched = self.is_whole || self.readers.has_fetched(&self.topic, 0, self.end);
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
        self.is_whole |= is_fetched;
        if is_new {
            epoch.fetch_max(least(self.records.values(), self.shards), Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Progressing {
    /// Whether everything that stood there at first was taken; before, less may be known.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Of each partition of the events up to where all shards hold it; empty where some hold
    /// nothing.
    pub fn held(&self) -> Vec<u64> {
        let of_shard = |shard| {
            let of_it = self.records.values().filter(|record| record.ownership.has(ShardId(shard)));
            of_it.max_by_key(|record| (record.epoch, record.generation))
        };
        let Some(records) = (0..self.shards).map(of_shard).collect::<Option<Vec<_>>>() else {
            return Vec::new();
        };
        let mut held: Option<Vec<u64>> = None;
        for record in records {
            let of_it = record.events.offsets();
            held = Some(match held {
                None => of_it.collect(),
                Some(held) => held.into_iter().zip(of_it).map(|(a, b)| a.min(b)).collect(),
            });
        }
        held.unwrap_or_default()
    }
}

/// An epoch on its way to be known of whole topics: where each of their partitions ended after the
/// epoch was committed, and whether a reader has taken everything up to there.
pub struct Passing {
    epoch: Epoch,
    begun: Instant,
    ends: Vec<(u64, bool)>,
}

/// How far a reader is with a partition.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// The offset behind the record that was taken last.
    pub next: u64,
    /// Whether all that was fetched was taken, when this was looked at last.
    pub is_drained: bool,
}

impl Passing {
    /// Asks for the ends of partitions; `None` where one is not said at once.
    pub fn begin<'p>(
        epoch: Epoch,
        asker: &Asker,
        mut partitions: impl Iterator<Item = &'p PartitionReader>,
    ) -> Option<Passing> {
        let ends = partitions.try_fold(Vec::new(), |mut ends, reader| {
            ends.push((asker.end_now(reader.topic(), reader.partition())?, false));
            Some(ends)
        });
        Some(Passing { epoch, begun: Instant::now(), ends: ends? })
    }

    /// Which epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether each partition was fetched up to its end; to be asked before what was fetched is
    /// taken. What was fetched before stands in the queues, and is taken then.
    pub fn fetched<'p>(
        &self,
        readers: &Readers,
        partitions: impl Iterator<Item = &'p PartitionReader>,
    ) -> Vec<bool> {
        let ends = self.ends.iter().zip(partitions);
        let fetched = ends.map(|((end, _), reader)| {
            readers.has_fetched(reader.topic(), reader.partition(), *end)
        });
        fetched.collect()
    }

    /// Notes what was taken after that.
    pub fn took(&mut self, fetched: &[bool], read: impl Iterator<Item = Read>) {
        // What was to be passed may be compacted away by later, and not what took its place be
        // read.
        let is_in_time = self.begun.elapsed() < PASSING_TIME_MAX;
        for ((end, is_passed), (is_fetched, read)) in
            self.ends.iter_mut().zip(fetched.iter().zip(read))
        {
            let is_behind = read.next >= *end || (*is_fetched && read.is_drained);
            *is_passed |= is_in_time && is_behind;
        }
    }

    /// Whether all ends are passed: everything up to the epoch was taken.
    pub fn is_passed(&self) -> bool {
        self.ends.iter().all(|(_, is_passed)| *is_passed)
    }

    /// Whether it has taken too long. What is read already is not compacted away any more.
    pub fn is_over(&self) -> bool {
        self.begun.elapsed() >= PASSING_TIME_MAX && !self.is_passed()
    }
}

/// The epoch in which a record of an output changed; `None` where it does not say one.
pub fn epoch_of(taken: &Taken<'_>) -> Option<Epoch> {
    str::from_utf8(taken.header("epoch")?).ok()?.parse().ok()
}

/// The epoch up to which all shards are committed; 0 where some have none.
fn least<'r>(records: impl Iterator<Item = &'r Progress> + Clone, shards: u16) -> Epoch {
    let of_shard = |shard| {
        let of_it = records.clone().filter(|record| record.ownership.has(ShardId(shard)));
        of_it.map(|record| record.epoch).max().unwrap_or(0)
    };
    (0..shards).map(of_shard).min().unwrap_or(0)
}
