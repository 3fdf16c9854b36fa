//! A dataflow that was started, as its lead record says.
//!
//! Shape: its name in; its spec, where its views stand, and how far it is, out.
//!
//! Invariants: what is asked of it is asked of its own spec, not of the one that somebody names
//! beside it, as far as the lead record bears that.

use std::{collections::BTreeMap, path::Path};

use super::HistoryError;
use crate::{
    engine::view_topics,
    kafka::Kafka,
    load::Load,
    progress::{Lead, Progress, Store},
    source::{Bound, Input, PartitionId, Vector},
    spec::{ShardId, Spec},
    time::Epoch,
};

/// A dataflow.
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its records.
    pub store: Store,
    /// What its last start said.
    pub lead: Lead,
    /// Its spec, as that start said it.
    spec: Option<Spec>,
}

/// How far all shards of a dataflow are.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The least epoch of all,
    pub epoch: Epoch,
    /// its vector, of the inputs that others over the same topics have too,
    pub vector: Vector,
    /// and the record that says so.
    pub record: Progress,
    /// The newest of all.
    pub newest: Epoch,
    /// Whether all are at one vector.
    pub is_one: bool,
    /// Whether no correction is owed.
    pub is_settled: bool,
    /// Whether it holds all that never stood in the topic.
    pub is_whole: bool,
}

impl Known {
    /// The dataflow of a name, over the inputs of a family.
    ///
    /// # Errors
    /// When it was never started, is of another family, or brokers fail.
    pub fn of(
        kafka: &Kafka,
        family: &str,
        name: &str,
        remedy: &'static str,
    ) -> Result<Known, HistoryError> {
        let not_there = || HistoryError::NotThere { dataflow: name.to_owned(), remedy };
        if kafka.asker()?.identities(&[Store::lead_topic(name)])?.is_empty() {
            return Err(not_there());
        }
        let store = Store::new(kafka.clone(), name);
        let lead = store.lead()?.ok_or_else(not_there)?;
        let text = lead.text.as_deref();
        let spec = text.and_then(|text| Spec::parse(Path::new("lead"), text).ok());
        if let Some(spec) = spec.as_ref().filter(|spec| spec.family != family) {
            let (dataflow, family) = (name.to_owned(), family.to_owned());
            return Err(HistoryError::OtherFamily { dataflow, family, of: spec.family.clone() });
        }
        Ok(Known { name: name.to_owned(), store, lead, spec })
    }

    /// Whether its start said of which family it is.
    pub fn says_its_family(&self) -> bool {
        self.spec.is_some()
    }

    /// Its own spec, or the one that is named, where its start did not say it.
    pub fn spec<'s>(&'s self, named: &'s Spec) -> &'s Spec {
        self.spec.as_ref().unwrap_or(named)
    }

    /// Its views whose records stand in a topic.
    pub fn views(&self, named: &Spec) -> Vec<String> {
        Load::views(self.spec(named)).map(str::to_owned).collect()
    }

    /// By view, where its records stand.
    pub fn topics(&self, named: &Spec) -> BTreeMap<String, String> {
        view_topics(self.spec(named), &self.name)
    }

    /// How far it is; `None` before each shard has written.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn standing(&self) -> Result<Option<Standing>, HistoryError> {
        let records = self.store.progress()?;
        let of_shard = |shard| {
            let of_it = records.iter().filter(|record| record.ownership.has(ShardId(shard)));
            of_it.max_by_key(|record| (record.epoch, record.generation))
        };
        let all = (0..self.lead.shards).map(of_shard).collect::<Option<Vec<&Progress>>>();
        let Some(all) = all else { return Ok(None) };
        let Some(least) = all.iter().min_by_key(|record| record.epoch) else { return Ok(None) };
        let vector = self.shared(least);
        let is_settled = |record: &&Progress| {
            let bound = record.vector().get(&Input::Reference).map_or(0, |bound| bound.offset);
            record.settled >= bound
        };
        Ok(Some(Standing {
            epoch: least.epoch,
            newest: all.iter().map(|record| record.epoch).max().unwrap_or(0),
            is_one: all.iter().all(|record| are_equal(&self.shared(record), &vector)),
            is_settled: all.iter().all(is_settled),
            is_whole: all.iter().all(|record| self.is_whole(record)),
            record: (*least).clone(),
            vector,
        }))
    }

    /// How many partitions its topic of events has.
    fn partitions(&self) -> u32 {
        (self.lead.events_from.len() - self.lead.history.len().min(self.lead.events_from.len()))
            as u32
    }

    /// The inputs that another dataflow over the same topics has too.
    fn shared(&self, record: &Progress) -> Vector {
        let partitions = self.partitions();
        let mut vector = record.vector();
        vector.retain(|input, _| match input {
            Input::Events(PartitionId(partition)) => *partition < partitions,
            _ => true,
        });
        vector
    }

    /// Whether all that never stood in the topic is held.
    fn is_whole(&self, record: &Progress) -> bool {
        let (vector, behind) = (record.vector(), self.partitions());
        (behind..).zip(&self.lead.history).all(|(partition, end)| {
            let bound = vector.get(&Input::Events(PartitionId(partition)));
            bound.is_some_and(|bound| bound.offset >= *end)
        })
    }
}

/// Whether one bound holds all that another does: offsets may differ by what is no record.
fn holds(one: &Bound, other: &Bound) -> bool {
    let is_same = one.last.zip(other.last).is_some_and(|(one, other)| one.offset == other.offset);
    one.offset >= other.offset || is_same
}

/// Whether one vector holds, of all inputs that another has, all that that one does.
pub fn covers(one: &Vector, other: &Vector) -> bool {
    // One may have no lookups.
    let is_none = |input: &Input| *input == Input::Reference;
    let held = |(input, bound): (&Input, &Bound)| {
        one.get(input).map_or_else(|| is_none(input), |of| holds(of, bound))
    };
    other.iter().all(held)
}

/// Whether both hold the same.
pub fn are_equal(one: &Vector, other: &Vector) -> bool {
    covers(one, other) && covers(other, one)
}
