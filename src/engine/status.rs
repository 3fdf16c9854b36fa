//! Status: how far a dataflow over Kafka is, as its topics say.
//!
//! Shape: the lead record, the progress and the ends of the inputs in, twice; plain numbers out.
//!
//! Not here: what a process says while it commits nothing (`metrics`).

use std::{
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    lead::{Names, StartError},
    loss,
};
use crate::{
    kafka::Kafka,
    progress::{Accepted, Lead, Progress, Recovery, Says, Store, StoreError},
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
    /// How fast it goes, where that was asked for.
    pub rates: Option<Rates>,
}

/// What happened to the events while it was looked.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    /// For how long it was looked.
    pub seconds: f64,
    /// How many came.
    pub came: u64,
    /// How many all writers came to hold.
    pub held: u64,
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
    /// What it said of itself then.
    #[serde(flatten)]
    pub says: Says,
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
    /// Up to where all shards hold it; `None` before each was committed.
    pub held: Option<u64>,
    /// Offsets that are not held: at most as many records.
    pub lag: u64,
}

/// Asks the brokers how far a dataflow is; where `over` is not nothing, again after so long, to
/// know how fast it goes.
///
/// # Errors
/// When they do not answer, or topics are not there.
pub fn status(
    kafka: &Kafka,
    spec: &Spec,
    names: &Names,
    over: Duration,
) -> Result<Status, StartError> {
    let (begun, before) = (Instant::now(), look(kafka, spec, names)?);
    if over.is_zero() {
        return Ok(before);
    }
    thread::sleep(over);
    let (looked, mut status) = (Instant::now(), look(kafka, spec, names)?);
    let events = |status: &Status, count: &dyn Fn(&InputStatus) -> u64| -> u64 {
        status.inputs.iter().filter(|input| input.topic == names.events).map(count).sum()
    };
    let grown = |count: &dyn Fn(&InputStatus) -> u64| {
        events(&status, count).saturating_sub(events(&before, count))
    };
    let came = grown(&|input| input.end);
    let held = grown(&|input| input.held.unwrap_or(input.begin));
    status.rates = Some(Rates { seconds: (looked - begun).as_secs_f64(), came, held });
    Ok(status)
}

fn look(kafka: &Kafka, spec: &Spec, names: &Names) -> Result<Status, StartError> {
    let store = Store::new(kafka.clone(), &spec.name);
    let topics = super::lead::look(kafka, spec, names)?;
    let lead = store.lead()?;
    let generation = lead.as_ref().map_or(0, |lead| lead.generation);
    let all = store.progress()?;
    let mut current: Vec<&Progress> = Vec::new();
    for record in all.iter().filter(|record| record.generation == generation) {
        current.retain(|held| held.ownership != record.ownership);
        current.push(record);
    }
    current.sort_by_key(|record| record.ownership.worker);
    // By the shard that is furthest behind, whichever start brought it there.
    let accepted = lead.as_ref().map_or_else(Accepted::default, |lead| lead.accepted.clone());
    let recovery = Recovery::of(&all, spec.shards, &accepted).map_err(StoreError::from)?;
    let least = recovery.chain.first().filter(|_| !recovery.epochs.contains(&0));
    let held = |input: Input| Some(least?.1.get(&input)?.offset);
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
        says: record.says,
    };
    let writers = current.iter().map(writer).collect();
    Ok(Status { lead, writers, inputs, dead_letters, rates: None })
}
