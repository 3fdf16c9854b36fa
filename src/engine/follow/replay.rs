//! Replay: what an earlier run held is read again, and cut where it was cut.
//!
//! Shape: the chain of recorded epochs in; state as it stood after the last of them out, and in the
//! outputs what shards that were behind had not written.
//!
//! Invariants: inputs are held exactly up to the vector of each epoch of the chain when that epoch
//! ends, on every worker. What all shards hold is read in epochs of any size under labels below the
//! chain's, and nothing of it goes out; from there on each epoch of the chain is one epoch.
//!
//! Not here: which records a shard holds already (`sink::kafka`), what is sent again (`dataflow`).

use timely::worker::Worker;
use tracing::{debug, info};

use super::{Follower, inputs};
use crate::{
    engine::{
        EngineError,
        flow::Flow,
        worker::{PARK, Partition},
    },
    progress::Recovery,
    source::{Input, Vector},
    time::Epoch,
};

impl Follower<'_> {
    /// Reads again what an earlier run held.
    pub(super) fn replay(
        &mut self,
        worker: &mut Worker,
        recovery: &Recovery,
    ) -> Result<(), EngineError> {
        let mut chain = recovery.chain.clone();
        if recovery.epochs.contains(&0) {
            // Some shards hold nothing: all of the chain is to go out for them.
            chain.insert(0, (0, Vector::new()));
        }
        let newest = recovery.chain.last().map(|(_, vector)| vector);
        let left = |partition: &Partition| {
            let bound = newest.and_then(|vector| vector.get(&Input::Events(partition.id())));
            bound.map_or(0, |bound| bound.offset.saturating_sub(partition.read_to()))
        };
        self.metrics.to_replay.inc_by(self.partitions.iter().map(left).sum());
        for (place, (epoch, vector)) in chain.iter().enumerate() {
            if place > 0 {
                self.cut_to(*epoch);
            }
            self.stop_at(Some(vector));
            self.read_to_stop(worker, place > 0)?;
            if self.is_to_end() {
                return Ok(());
            }
        }
        let (lines, worker) = (self.total.lines, worker.index());
        match self.local == 0 {
            true => info!(worker, lines, "replayed what an earlier run held"),
            false => debug!(worker, lines, "replayed what an earlier run held"),
        }
        self.cut_to(recovery.last_epoch().max(self.epoch) + 1);
        self.stop_at(None);
        Ok(())
    }

    fn stop_at(&mut self, vector: Option<&Vector>) {
        inputs::stop_at(&mut self.partitions, vector);
        if let Some(reference) = &mut self.reference {
            reference.stop_at(vector);
        }
    }

    /// Reads until everything is at its stop, documents first; into the open epoch alone, or into
    /// as many as it takes.
    fn read_to_stop(&mut self, worker: &mut Worker, is_one_epoch: bool) -> Result<(), EngineError> {
        loop {
            failpoint!("replay");
            if self.is_to_end() {
                return Ok(());
            }
            self.give_up_with_others()?;
            inputs::serve(self.readers.as_ref())?;
            let is_reference_read = self.reference.as_ref().is_none_or(|r| r.is_at_stop());
            let mut has_read = false;
            if !is_reference_read {
                let before = self.open.lines;
                self.read_documents(u64::MAX)?;
                has_read = self.open.lines > before;
            } else if self.partitions.iter().all(|partition| partition.is_at_stop()) {
                return Ok(());
            } else if is_one_epoch || !self.is_stalled() {
                let most = if is_one_epoch { u64::MAX } else { self.epoch_lines() };
                let before = self.open.lines;
                self.read_partitions(most)?;
                has_read = self.open.lines > before;
                if !is_one_epoch && self.is_full() {
                    self.cut_to(self.epoch + 1);
                }
            }
            match has_read {
                true => worker.step(),
                false => worker.step_or_park(Some(PARK)),
            };
            self.hand_on()?;
        }
    }

    /// Ends the open epoch, and opens the one of this label.
    fn cut_to(&mut self, label: Epoch) {
        // Rows that wait have no turn here, but all are to hear of the epoch and its bounds.
        self.flow.call();
        self.unsealed.push_back((self.epoch, std::mem::take(&mut self.open)));
        self.epochs += 1;
        self.epoch = label;
        self.flow.advance_to(label);
    }
}
