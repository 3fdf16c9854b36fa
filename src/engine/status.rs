//! Status: how far a dataflow over Kafka is, as its topics say.
//!
//! Shape: the lead record, the progress and the ends of the inputs in; plain numbers out.
//!
//! Not here: what a process says of itself (`metrics`).

use serde::Serialize;

use super::{
    lead::{Names, StartError},
    loss,
};
use crate::{
    kafka::Kafka,
    progress::{Lead, Progress, Store},
    source::{Input, PartitionId},
    spec::Spec,
    time::Epoch,
};

/// How far a dataflow is.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The start that was last; `None` before the first.
    pub lead: Option<Lead>,
    /// The writers of that start, once each has committed something.
    pub writers: Vec<Writer>,
    /// The inputs.
    pub inputs: Vec<InputStatus>,
    /// Dead letters that stand in their topic, those that a transaction left behind included.
    pub dead_letters: u64,
}

/// A writer of the start.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Writer {
    /// Its number.
    pub worker: u32,
    /// Everything of its shards up to this epoch is committed.
    pub epoch: Epoch,
    /// Below this offset of the reference log it owes no correction.
    pub settled: u64,
}

/// An input.
#[derive(Clone, Debug, Serialize)]
pub struct InputStatus {
    /// Its topic and partition.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Where it begins and ends.
    pub begin: u64,
    /// See there.
    pub end: u64,
    /// Up to where all writers hold it; `None` before the first commit.
    pub held: Option<u64>,
    /// Offsets that are not held: at most as many records.
    pub lag: u64,
}

/// Asks the brokers how far a dataflow is.
///
/// # Errors
/// When they do not answer, or topics are not there.
pub fn status(kafka: &Kafka, spec: &Spec, names: &Names) -> Result<Status, StartError> {
    let store = Store::new(kafka.clone(), &spec.name);
    let topics = super::lead::look(kafka, spec, names)?.0;
    let lead = store.lead()?;
    let generation = lead.as_ref().map_or(0, |lead| lead.generation);
    let all = store.progress()?;
    let mut current: Vec<&Progress> = Vec::new();
    for record in all.iter().filter(|record| record.generation == generation) {
        current.retain(|held| held.ownership != record.ownership);
        current.push(record);
    }
    current.sort_by_key(|record| record.ownership.worker);
    // A start that has not committed yet goes on from what those before it did.
    let holders: Vec<&Progress> = match current.is_empty() {
        true => all.iter().max_by_key(|record| record.epoch).into_iter().collect(),
        false => current.clone(),
    };
    let held = |input: Input| {
        let of = |record: &&Progress| record.vector().get(&input).map(|bound| bound.offset);
        holders.iter().filter_map(of).min()
    };
    let asker = kafka.asker()?;
    let extents = loss::Extents::ask(&asker, &topics)?;
    let events = (0..topics.events.partitions)
        .map(|p| (&topics.events.name, p, Input::Events(PartitionId(p))));
    let reference = topics.reference.iter().map(|topic| (&topic.name, 0, Input::Reference));
    let inputs =
        events.chain(reference).zip(extents.0).map(|((topic, partition, input), extent)| {
            let (begin, end) = extent;
            let held = held(input);
            let lag = end.saturating_sub(held.unwrap_or(begin).max(begin));
            InputStatus { topic: topic.clone(), partition, begin, end, held, lag }
        });
    let inputs = inputs.collect();
    let mut dead_letters = 0;
    for partition in 0..topics.dead_letters.partitions {
        let (begin, end) = asker.extent(&topics.dead_letters.name, partition)?;
        dead_letters += end - begin;
    }
    let writer = |record: &&Progress| Writer {
        worker: record.ownership.worker,
        epoch: record.epoch,
        settled: record.settled,
    };
    let writers = current.iter().map(writer).collect();
    Ok(Status { lead, writers, inputs, dead_letters })
}
