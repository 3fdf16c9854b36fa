//! Recovery: from the progress records to where the first epochs are cut.
//!
//! Shape: what each writer left in; the chain of recorded vectors, and how far each shard is, out.
//!
//! Invariants: the chain's epochs and vectors grow together. A shard that nobody wrote of is at
//! the beginning. Reading the same records gives the same recovery, whoever reads them.

use std::collections::{BTreeMap, btree_map::Entry};

use super::record::Progress;
use crate::{
    source::{Input, Vector},
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
    /// The last record of each topic's identity, to be held against what there is now.
    pub identities: Vec<(String, String)>,
}

/// Why nothing can be made of the records.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Two vectors hold each more than the other of some input.
    #[error(
        "the progress of epochs {earlier} and {later} cannot be compared: each holds more of some \
         input than the other; did two clusters write under one name?"
    )]
    Incomparable {
        /// The smaller epoch.
        earlier: Epoch,
        /// The greater.
        later: Epoch,
    },
    /// Two vectors are recorded for one epoch.
    #[error(
        "the progress of epoch {epoch} was recorded with two vectors; did two clusters write under \
         one name?"
    )]
    Ambiguous {
        /// The epoch.
        epoch: Epoch,
    },
}

impl Recovery {
    /// What records, in the order in which they were written, say of so many shards.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn of(records: &[Progress], shards: u16) -> Result<Recovery, RecoveryError> {
        let mut latest: Vec<Option<&Progress>> = vec![None; usize::from(shards)];
        for record in records {
            for shard in (0..shards).filter(|shard| record.ownership.has(ShardId(*shard))) {
                let held = &mut latest[usize::from(shard)];
                if held.is_none_or(|held| held.epoch <= record.epoch) {
                    *held = Some(record);
                }
            }
        }
        let chain = chain(latest.iter().flatten().copied())?;
        let newest = records.iter().max_by_key(|record| (record.generation, record.epoch));
        let topics =
            newest.into_iter().flat_map(|record| [Some(&record.events), record.reference.as_ref()]);
        Ok(Recovery {
            chain,
            epochs: latest.iter().map(|record| record.map_or(0, |record| record.epoch)).collect(),
            settled: latest
                .iter()
                .map(|record| record.map_or(0, |record| record.settled))
                .collect(),
            identities: topics.flatten().map(|t| (t.topic.clone(), t.id.clone())).collect(),
        })
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

/// The epochs of records with their vectors, smallest first.
///
/// Of one epoch the word of the newest start counts, and an elder one's vector never holds more
/// than a newer one's of a later epoch: where it did, the operator has accepted in between that
/// inputs were lost, or made anew.
fn chain<'p>(
    records: impl Iterator<Item = &'p Progress>,
) -> Result<Vec<(Epoch, Vector)>, RecoveryError> {
    let mut of_epoch: BTreeMap<Epoch, (u64, Vector)> = BTreeMap::new();
    for record in records {
        let (epoch, now) = (record.epoch, (record.generation, record.vector()));
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
    let mut chain: Vec<(Epoch, u64, Vector)> =
        of_epoch.into_iter().map(|(epoch, (start, vector))| (epoch, start, vector)).collect();
    for place in (1..chain.len()).rev() {
        let (earlier, later) = chain.split_at_mut(place);
        let (earlier, later) = (&mut earlier[place - 1], &later[0]);
        if later.1 > earlier.1 {
            for (input, bound) in &mut earlier.2 {
                let most = later.2.get(input).copied().unwrap_or_default();
                if bound.offset > most.offset {
                    *bound = most;
                }
            }
        }
        if !is_within(&earlier.2, &later.2) {
            return Err(RecoveryError::Incomparable { earlier: earlier.0, later: later.0 });
        }
    }
    Ok(chain.into_iter().map(|(epoch, _, vector)| (epoch, vector)).collect())
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
    use crate::{
        progress::{Ownership, Says, TopicBounds},
        source::{Bound, PartitionId},
    };

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
        let recovery = Recovery::of(&records, 4).expect("they fit");
        assert_eq!(recovery.epochs, [11, 12, 11, 12]);
        assert_eq!(recovery.settled, [3, 2, 3, 2]);
        assert_eq!(recovery.chain.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>(), [11, 12]);
    }

    #[test]
    fn a_shard_of_which_nobody_wrote_is_at_the_beginning() {
        let recovery = Recovery::of(&[progress(1, 2, 12, [6, 5], 2)], 2).expect("they fit");
        assert_eq!(recovery.epochs, [0, 12]);
        assert_eq!(Recovery::of(&[], 2).expect("nothing to contradict").epochs, [0, 0]);
    }

    #[test]
    fn vectors_that_cannot_be_compared_are_refused() {
        let records = [progress(0, 2, 10, [5, 9], 0), progress(1, 2, 12, [6, 5], 0)];
        let refused = Recovery::of(&records, 2).expect_err("each holds more than the other");
        assert!(refused.to_string().contains("10 and 12"), "{refused}");
        let records = [progress(0, 2, 10, [5, 9], 0), progress(1, 2, 10, [5, 8], 0)];
        let refused = Recovery::of(&records, 2).expect_err("an epoch has one vector");
        assert!(refused.to_string().contains("epoch 10"), "{refused}");
    }

    #[test]
    fn what_a_newer_start_says_counts() {
        let of = |start: u64, record: Progress| Progress { generation: start, ..record };
        let first = |recovery: &Recovery| recovery.chain[0].1[&Input::Events(PartitionId(0))];
        // A partition was made anew, and only one of two writers has written since: under the epoch
        // of the one behind, or a later one.
        for epoch in [12, 13] {
            let records = [
                of(1, progress(0, 2, 10, [300, 5], 0)),
                of(1, progress(1, 2, 12, [310, 6], 0)),
                of(2, progress(1, 2, epoch, [0, 7], 0)),
            ];
            let recovery = Recovery::of(&records, 2).expect("the loss was accepted");
            assert_eq!(recovery.epochs, [10, epoch]);
            assert_eq!(first(&recovery).offset, 0);
        }
        // The events were given a partition of which nothing was read yet.
        let mut grown = of(2, progress(1, 2, 12, [6, 5], 0));
        grown.events.bounds.push((&Bound::default()).into());
        let records = [of(1, progress(0, 2, 12, [6, 5], 0)), grown];
        assert_eq!(Recovery::of(&records, 2).expect("nothing differs").chain.len(), 1);
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
