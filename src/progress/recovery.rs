//! Recovery: from the progress records to where the first epochs are cut.
//!
//! Shape: what each writer left in; the chain of recorded vectors, and how far each shard is, out.
//!
//! Invariants: the chain's epochs and vectors grow together. A shard that nobody wrote of is at
//! the beginning. Reading the same records gives the same recovery, whoever reads them.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use super::{Accepted, AcceptedLoss, Progress, Retaken, TopicBounds};
use crate::{
    source::{Bound, Input, PartitionId, Vector},
    spec::ShardId,
    time::Epoch,
};

/// Where a start begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The recorded epochs that some shard is at, with their vectors; smallest first.
    pub chain: Vec<(Epoch, Vector)>,
    /// By shard, up to which epoch it is written; 0 where nothing is.
    pub epochs: Vec<Epoch>,
    /// By shard, below which offset of the reference log it owes no correction.
    pub settled: Vec<u64>,
    /// By shard, a time after which all stands that it may owe (`Progress::settled_ms`).
    pub settled_ms: Vec<i64>,
    /// Name and identity of the topic of the events, as they were recorded last; `None` where
    /// nothing was since it is read anew.
    pub events: Option<(String, String)>,
    /// The same of the reference log.
    pub reference: Option<(String, String)>,
    /// The eldest start whose word counts of some shard; `None` where nothing was written.
    pub eldest_start: Option<u64>,
}

/// Why nothing can be made of the records.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Two vectors hold each more than the other of some input.
    #[error(
        "the progress of epochs {earlier} and {later} cannot be compared: each holds more of some \
         input than the other, as if two clusters had written under one name; give the dataflow \
         another name, and with it new outputs"
    )]
    Incomparable {
        /// The smaller epoch.
        earlier: Epoch,
        /// The greater.
        later: Epoch,
    },
    /// Two vectors are recorded for one epoch.
    #[error(
        "the progress of epoch {epoch} was recorded with two vectors, as if two clusters had \
         written under one name; give the dataflow another name, and with it new outputs"
    )]
    Ambiguous {
        /// The epoch.
        epoch: Epoch,
    },
}

impl Recovery {
    /// What records, in the order in which they were written, say of so many shards, given
    /// what was accepted to be lost.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn of(
        records: &[Progress],
        shards: u16,
        accepted: &Accepted,
    ) -> Result<Recovery, RecoveryError> {
        let latest = latest(records, shards);
        let chain = chain(latest.iter().flatten().copied(), accepted)?;
        let newest = records.iter().max_by_key(|record| (record.generation, record.epoch));
        let newest_start = newest.map_or(0, |record| record.generation);
        let mut replaced = accepted.events.iter().filter(|loss| loss.is_new);
        let has_events = replaced.all(|loss| loss.start <= newest_start);
        let retaken_by = accepted.reference.map(|retaken| retaken.start);
        let has_reference = !is_elder(newest_start, retaken_by);
        let identity = |topic: &TopicBounds| (topic.topic.clone(), topic.id.clone());
        let settled = |record: &Progress| match accepted.reference {
            Some(Retaken { start, time_ms, .. }) if record.generation < start => (0, time_ms),
            _ => (record.settled, record.settled_ms),
        };
        let (settled, settled_ms) =
            latest.iter().map(|record| record.map_or((0, 0), settled)).unzip();
        Ok(Recovery {
            eldest_start: latest.iter().flatten().map(|record| record.generation).min(),
            chain,
            epochs: latest.iter().map(|record| record.map_or(0, |record| record.epoch)).collect(),
            settled,
            settled_ms,
            events: newest.filter(|_| has_events).map(|record| identity(&record.events)),
            reference: newest
                .filter(|_| has_reference)
                .and_then(|record| record.reference.as_ref().map(identity)),
        })
    }

    /// What still counts of accepted losses: one bears only on what elder starts have said.
    pub fn still_accepted(&self, accepted: Accepted) -> Accepted {
        let counts =
            |loss: &AcceptedLoss| is_elder(self.eldest_start.unwrap_or(0), Some(loss.start));
        let events = accepted.events.into_iter().filter(counts).collect();
        Accepted { events, ..accepted }
    }

    /// The keys of the records on which no recovery rests any more: others have written of all
    /// their shards since, and a later start of some.
    pub fn passed(records: &[Progress], shards: u16) -> BTreeSet<String> {
        let newest_start = records.iter().map(|record| record.generation).max();
        let needed: BTreeSet<String> =
            latest(records, shards).into_iter().flatten().map(Progress::key).collect();
        let is_elder = |record: &&Progress| Some(record.generation) < newest_start;
        let elder = records.iter().filter(is_elder).map(Progress::key);
        elder.filter(|key| !needed.contains(key)).collect()
    }

    /// The last recorded epoch; 0 where there is none.
    pub fn last_epoch(&self) -> Epoch {
        self.chain.last().map_or(0, |(epoch, _)| *epoch)
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }
}

/// By shard, the record that speaks of it, of those in the order in which they were written.
fn latest(records: &[Progress], shards: u16) -> Vec<Option<&Progress>> {
    let mut latest: Vec<Option<&Progress>> = vec![None; usize::from(shards)];
    for record in records {
        for shard in (0..shards).filter(|shard| record.ownership.has(ShardId(*shard))) {
            let held = &mut latest[usize::from(shard)];
            if held.is_none_or(|held| held.epoch <= record.epoch) {
                *held = Some(record);
            }
        }
    }
    latest
}

/// Whether what a start recorded of an input is of before a loss.
fn is_elder(start: u64, loss: Option<u64>) -> bool {
    loss.is_some_and(|loss| start < loss)
}

/// What a record says of the inputs, as there is of them now.
fn vector(record: &Progress, accepted: &Accepted) -> Vector {
    let mut vector = record.vector();
    for AcceptedLoss { partition, start, from, is_new } in &accepted.events {
        let bound = vector.entry(Input::Events(PartitionId(*partition))).or_default();
        if is_elder(record.generation, Some(*start)) && (*is_new || bound.offset < *from) {
            *bound = Bound::from(*from);
        }
    }
    if let Some(Retaken { start, end, .. }) = accepted.reference
        && is_elder(record.generation, Some(start))
        && record.reference.is_some()
    {
        vector.insert(Input::Reference, Bound::from(end));
    }
    vector
}

/// The epochs of records with their vectors, smallest first.
///
/// Of one epoch the word of the newest start counts: a partition may have been added in between.
fn chain<'p>(
    records: impl Iterator<Item = &'p Progress>,
    accepted: &Accepted,
) -> Result<Vec<(Epoch, Vector)>, RecoveryError> {
    let mut of_epoch: BTreeMap<Epoch, (u64, Vector)> = BTreeMap::new();
    for record in records {
        let (epoch, now) = (record.epoch, (record.generation, vector(record, accepted)));
        match of_epoch.entry(epoch) {
            Entry::Vacant(place) => drop(place.insert(now)),
            Entry::Occupied(mut place) => {
                let held = place.get();
                if held.0 == now.0 && !(is_within(&held.1, &now.1) && is_within(&now.1, &held.1)) {
                    return Err(RecoveryError::Ambiguous { epoch });
                }
                if held.0 < now.0 {
                    place.insert(now);
                }
            }
        }
    }
    let chain: Vec<(Epoch, Vector)> =
        of_epoch.into_iter().map(|(epoch, (_, vector))| (epoch, vector)).collect();
    for ((earlier, less), (later, more)) in chain.iter().zip(chain.iter().skip(1)) {
        if !is_within(less, more) {
            return Err(RecoveryError::Incomparable { earlier: *earlier, later: *later });
        }
    }
    Ok(chain)
}

/// Whether a vector holds of no input more than another; of one that it does not name it holds
/// nothing.
fn is_within(less: &Vector, more: &Vector) -> bool {
    let most = |input: &Input| more.get(input).map_or(0, |bound| bound.offset);
    less.iter().all(|(input, bound)| bound.offset <= most(input))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Ownership, Says};

    fn progress(worker: u32, of: u32, epoch: Epoch, events: [u64; 2], settled: u64) -> Progress {
        let bound = |(place, offset): (u32, u64)| {
            (Input::Events(PartitionId(place)), Bound { offset, last: None })
        };
        let vector = [(0, events[0]), (1, events[1])].map(bound).into_iter().collect();
        Progress {
            generation: 1,
            ownership: Ownership { worker, of },
            epoch,
            settled,
            settled_ms: 0,
            events: TopicBounds::events("e", "id", 2, &vector),
            reference: None,
            says: Says::default(),
        }
    }

    #[test]
    fn each_shard_is_where_its_last_writer_left_it() {
        let records = [
            progress(0, 2, 10, [5, 5], 1),
            progress(1, 2, 12, [6, 5], 2),
            // Fewer workers, later: one has all shards.
            progress(0, 1, 11, [6, 5], 3),
        ];
        let recovery = Recovery::of(&records, 4, &Accepted::default()).expect("they fit");
        assert_eq!(recovery.epochs, [11, 12, 11, 12]);
        assert_eq!(recovery.settled, [3, 2, 3, 2]);
        assert_eq!(recovery.chain.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>(), [11, 12]);
    }

    #[test]
    fn records_that_others_have_passed_can_go() {
        let of = |start: u64, record: Progress| Progress { generation: start, ..record };
        let mut records = vec![
            of(1, progress(0, 2, 10, [5, 5], 1)),
            of(1, progress(1, 2, 12, [6, 5], 2)),
            // One of three workers is as far as the first start.
            of(2, progress(0, 3, 13, [7, 5], 3)),
        ];
        let passed = |records: &[Progress]| Vec::from_iter(Recovery::passed(records, 6));
        assert_eq!(passed(&records), Vec::<String>::new());
        records.push(of(2, progress(1, 3, 12, [6, 5], 3)));
        records.push(of(2, progress(2, 3, 11, [6, 5], 3)));
        // Shard 5 is further by what the first start says of it.
        assert_eq!(passed(&records), ["1-0"]);
        records.push(of(3, progress(0, 1, 14, [8, 5], 4)));
        let all = ["1-0", "1-1", "2-0", "2-1", "2-2"];
        assert_eq!(passed(&records), all);
        let left = &records[5..];
        let accepted = Accepted::default();
        let of = |records: &[Progress]| Recovery::of(records, 6, &accepted).expect("they fit");
        assert_eq!(of(left), of(&records));
    }

    proptest::proptest! {
        #[test]
        fn nothing_rests_on_what_was_passed(
            steps in proptest::collection::vec((0_u8..4, 1_u32..4, 0_u32..4), 1..80)
        ) {
            let (mut generation, mut of, mut epoch) = (1, 2, 10);
            let mut records = Vec::new();
            for (what, workers, worker) in steps {
                if what == 0 {
                    // A start whose shards may be behind.
                    (generation, of, epoch) = (generation + 1, workers, epoch - 1);
                }
                let record = progress(worker % of, of, epoch, [epoch, epoch], epoch);
                records.push(Progress { generation, ..record });
                epoch += 1;
            }
            let passed = Recovery::passed(&records, 7);
            let left: Vec<Progress> =
                records.iter().filter(|record| !passed.contains(&record.key())).cloned().collect();
            let of = |records: &[Progress]| {
                Recovery::of(records, 7, &Accepted::default()).expect("they fit")
            };
            assert_eq!(of(&left), of(&records));
        }
    }

    #[test]
    fn a_shard_of_which_nobody_wrote_is_at_the_beginning() {
        let recovery = Recovery::of(&[progress(1, 2, 12, [6, 5], 2)], 2, &Accepted::default())
            .expect("they fit");
        assert_eq!(recovery.epochs, [0, 12]);
        assert_eq!(
            Recovery::of(&[], 2, &Accepted::default()).expect("nothing to contradict").epochs,
            [0, 0]
        );
    }

    #[test]
    fn vectors_that_cannot_be_compared_are_refused() {
        let records = [progress(0, 2, 10, [5, 9], 0), progress(1, 2, 12, [6, 5], 0)];
        let refused = Recovery::of(&records, 2, &Accepted::default())
            .expect_err("each holds more than the other");
        assert!(refused.to_string().contains("10 and 12"), "{refused}");
        let records = [progress(0, 2, 10, [5, 9], 0), progress(1, 2, 10, [5, 8], 0)];
        let refused =
            Recovery::of(&records, 2, &Accepted::default()).expect_err("an epoch has one vector");
        assert!(refused.to_string().contains("epoch 10"), "{refused}");
    }

    #[test]
    fn what_is_read_anew_begins_there_for_whoever_was_not_there() {
        let of = |start: u64, record: Progress| Progress { generation: start, ..record };
        let partition = Input::Events(PartitionId(0));
        // The first partition was made anew, and only one of two writers has written since: as far
        // as the other one was, less far, or further; under its epoch, or a later one.
        let loss = AcceptedLoss { partition: 0, start: 2, from: 30, is_new: true };
        let accepted = Accepted { events: vec![loss], reference: None };
        for (epoch, offset) in [(12, 30), (12, 100), (13, 100), (13, 500)] {
            let records = [
                of(1, progress(0, 2, 10, [300, 5], 7)),
                of(1, progress(1, 2, 12, [310, 6], 7)),
                of(2, progress(1, 2, epoch, [offset, 7], 7)),
            ];
            let recovery = Recovery::of(&records, 2, &accepted).expect("the loss was accepted");
            assert_eq!(recovery.epochs, [10, epoch]);
            let [first, last] = [&recovery.chain[0].1, &recovery.chain[1].1];
            assert_eq!((first[&partition].offset, first[&partition].last), (30, None));
            assert_eq!(last[&partition].offset, offset);
            assert!(recovery.events.is_some(), "the newest record is of the topic as it is");
            assert!(Recovery::of(&records[..2], 2, &accepted).expect("they fit").events.is_none());
            assert_eq!(recovery.still_accepted(accepted.clone()), accepted, "it bears on one");
            // Once both have written since, the loss says nothing any more.
            let all = [&records[..], &[of(2, progress(0, 2, 14, [600, 8], 7))]].concat();
            let recovery = Recovery::of(&all, 2, &accepted).expect("they fit");
            let left = recovery.still_accepted(accepted.clone());
            assert_eq!(left, Accepted::default());
            assert_eq!(Recovery::of(&all, 2, &left).expect("they fit"), recovery);
        }
        // What was only cut at its begin stays as far as it was read, or begins there.
        let loss = AcceptedLoss { is_new: false, ..loss };
        let accepted = Accepted { events: vec![loss], reference: None };
        for (read, is) in [(20, 30), (40, 40)] {
            let record = of(1, progress(0, 1, 10, [read, 5], 7));
            let recovery = Recovery::of(&[record], 1, &accepted).expect("they fit");
            assert_eq!(recovery.chain[0].1[&partition].offset, is);
            assert!(recovery.events.is_some());
        }
        // Nobody has accepted it.
        let records =
            [of(1, progress(0, 2, 10, [300, 5], 7)), of(2, progress(1, 2, 12, [100, 6], 7))];
        Recovery::of(&records, 2, &Accepted::default()).expect_err("it goes back");
        // Of the reference log everything is owed by who was not there.
        let reference = Some(Retaken { start: 2, end: 500, time_ms: 9 });
        let accepted = Accepted { events: Vec::new(), reference };
        let records = [of(1, progress(0, 2, 10, [5, 5], 7)), of(2, progress(1, 2, 12, [5, 5], 4))];
        assert_eq!(Recovery::of(&records, 2, &accepted).expect("they fit").settled, [0, 4]);
        // The events were given a partition of which nothing was read yet.
        let mut grown = of(2, progress(1, 2, 12, [6, 5], 0));
        grown.events.bounds.push((&Bound::default()).into());
        let records = [of(1, progress(0, 2, 12, [6, 5], 0)), grown];
        let recovery = Recovery::of(&records, 2, &Accepted::default()).expect("nothing differs");
        assert_eq!(recovery.chain.len(), 1);
    }

    #[test]
    fn documents_that_were_taken_anew_are_so_for_every_elder_record() {
        let of = |start: u64, worker: u32, epoch: Epoch, read: u64| {
            let vector = [(Input::Reference, Bound::from(read))].into_iter().collect();
            let reference = Some(TopicBounds::reference("r", "id", &vector));
            let record = progress(worker, 3, epoch, [5, 5], read);
            Progress { generation: start, reference, ..record }
        };
        // One of three writers has written since, amid the chain.
        let records = [of(1, 0, 10, 100), of(1, 1, 11, 110), of(1, 2, 12, 120), of(2, 0, 11, 500)];
        let reference = Some(Retaken { start: 2, end: 500, time_ms: 9 });
        let accepted = Accepted { events: Vec::new(), reference };
        let recovery = Recovery::of(&records, 3, &accepted).expect("they fit");
        assert_eq!(
            (&recovery.epochs[..], &recovery.settled[..]),
            (&[11, 11, 12][..], &[500, 0, 0][..])
        );
        assert!(recovery.chain.iter().all(|(_, vector)| vector[&Input::Reference].offset == 500));
        Recovery::of(&records, 3, &Accepted::default()).expect_err("it goes back");
        // The next start came to that too, and ended before anybody wrote.
        let reference = Some(Retaken { start: 3, end: 600, time_ms: 9 });
        let accepted = Accepted { events: Vec::new(), reference };
        let recovery = Recovery::of(&records, 3, &accepted).expect("they fit");
        assert_eq!(recovery.settled, [0, 0, 0]);
        assert!(recovery.chain.iter().all(|(_, vector)| vector[&Input::Reference].offset == 600));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let written = progress(0, 2, 10, [5, 9], 7);
        let read = Progress::parse("t", 3, &written.to_json()).expect("it was written so");
        assert_eq!(read, written);
        assert_eq!(read.vector()[&Input::Events(PartitionId(1))].offset, 9);
        let refused = Progress::parse("t", 3, b"{}").expect_err("no record");
        assert!(refused.to_string().contains("\"t\" at offset 3"), "{refused}");
    }
}
