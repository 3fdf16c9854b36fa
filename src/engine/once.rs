//! A worker over files that end: reads its partitions epoch by epoch, steps the dataflow, and keeps
//! what stands at the end.
//!
//! Shape: a timely worker and the job in; its share of the outputs out.
//!
//! Invariants: epoch `e` of every worker carries the same label, so a view at `e` holds the first
//! lines of all files; changes of documents come exactly between the lines of the first file where
//! their `after` says.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use timely::worker::Worker;

use super::{
    EngineError, Shared, Work,
    flow::Flow,
    worker::{EPOCH_BYTES, End, FIRST, PARK, Partition, file_names, reads},
};
use crate::{
    reference::{Documents, ReferenceError, ReferenceFiles},
    sink::{FileShare, SinkError, dead_letters::DeadLetters},
    source::{AtEnd, Decoder, Limit, PartitionId},
    time::{Epoch, Frontier},
};

/// Epochs that a worker may have read ahead of those that are sealed. Two would do to overlap
/// reading with computing; a few more even out workers of unequal load.
const EPOCHS_AHEAD: u64 = 4;

/// One worker's run.
pub(super) struct Once<'a, F> {
    shared: &'a Shared,
    decoder: Decoder,
    /// The partitions of this worker that have not ended.
    partitions: Vec<Partition>,
    /// On the worker that reads the first partition.
    reference: Option<TimedReference>,
    flow: F,
    dead_letters: DeadLetters,
    out: &'a Path,
    epoch: Epoch,
    lines: u64,
    bytes: u64,
}

/// Documents, and changes whose time has come.
struct TimedReference {
    files: ReferenceFiles,
    documents: Documents,
    /// How many lines of the first partition were read.
    line: u64,
    /// The line before which the next change happens.
    next_change: Option<u64>,
}

impl<'a, F: Flow> Once<'a, F> {
    pub(super) fn start(
        worker: &Worker,
        shared: &'a Shared,
        flow: F,
    ) -> Result<Once<'a, F>, EngineError> {
        let spec = &shared.job.spec;
        let partitions = Partition::open(worker, shared, AtEnd::Stop)?;
        let is_readers = reads(worker, spec, FIRST);
        let reference = if is_readers { Some(TimedReference::open(shared)?) } else { None };
        let out = match &shared.job.work {
            Work::Once { out, .. } => out,
            Work::Follow(_) => unreachable!("files that are followed have no end"),
        };
        Ok(Once {
            shared,
            decoder: Decoder::new(Arc::clone(spec)),
            partitions,
            reference,
            flow,
            dead_letters: DeadLetters::new(Arc::clone(spec), file_names(shared), out.clone()),
            out,
            epoch: 0,
            lines: 0,
            bytes: 0,
        })
    }

    pub(super) fn finish(mut self, worker: &mut Worker) -> Result<End, EngineError> {
        let mut more = true;
        while more {
            more = self.read_epoch()?;
            self.epoch += 1;
            self.flow.advance_to(self.epoch);
            let sealed_at_least = self.epoch.saturating_sub(EPOCHS_AHEAD);
            self.step_until(worker, Frontier::At(sealed_at_least))?;
        }
        // From here on no worker waits for this one.
        self.flow.close();
        self.step_until(worker, Frontier::End)?;
        let reference = self.reference.map(|reference| reference.files.counts());
        Ok(End {
            lines: self.lines,
            bytes: self.bytes,
            epochs: self.epoch,
            reference: reference.unwrap_or_default(),
            share: Some(FileShare {
                contents: self.flow.into_contents(),
                dead_letters: self.dead_letters,
            }),
        })
    }

    /// Steps until the dataflow is so far.
    fn step_until(&mut self, worker: &mut Worker, frontier: Frontier) -> Result<(), EngineError> {
        worker.step();
        while self.flow.frontier() < frontier {
            if self.shared.stop.load(Ordering::Relaxed) {
                return Err(EngineError::Stopped);
            }
            worker.step_or_park(Some(PARK));
            self.flow.settle();
        }
        self.flow.settle();
        Ok(())
    }

    /// Reads what the open epoch takes; returns whether there is more.
    fn read_epoch(&mut self) -> Result<bool, EngineError> {
        if let Some(reference) = &mut self.reference {
            reference.read(self.epoch, &mut self.flow)?;
        }
        let mut still_open = Vec::with_capacity(self.partitions.len());
        for mut partition in std::mem::take(&mut self.partitions) {
            let id = partition.id();
            let mut limit = Limit { records: self.shared.job.epoch_lines, bytes: EPOCH_BYTES };
            if let Some(change) = self.next_change_after(id) {
                limit.records = limit.records.min(change);
            }
            let ended = self.read_partition(&mut partition, limit)?;
            if !ended {
                still_open.push(partition);
            } else if let (FIRST, Some(reference)) = (id, &mut self.reference) {
                reference.events_ended();
            }
        }
        self.partitions = still_open;
        let changes_left = self.reference.as_ref().is_some_and(|r| r.next_change.is_some());
        Ok(!self.partitions.is_empty() || changes_left)
    }

    /// How many lines of a partition come before the next change; only the first has changes.
    fn next_change_after(&self, partition: PartitionId) -> Option<u64> {
        let reference = self.reference.as_ref().filter(|_| partition == FIRST)?;
        Some(reference.next_change? - reference.line)
    }

    /// Reads lines of one partition into the open epoch; returns whether it has ended.
    fn read_partition(
        &mut self,
        partition: &mut Partition,
        limit: Limit,
    ) -> Result<bool, EngineError> {
        let id = partition.id();
        let Once { decoder, flow, dead_letters, .. } = self;
        let mut kept = Ok(());
        let reached = partition.read(limit, decoder, flow, &mut |letter| {
            if kept.is_ok() {
                kept = dead_letters.keep(&letter);
            }
        })?;
        kept.map_err(|source| SinkError::unwritten_dead_letters(self.out, source))?;
        self.lines += reached.records;
        self.bytes += reached.bytes;
        self.shared.progress.read(reached.bytes);
        if let (FIRST, Some(reference)) = (id, &mut self.reference) {
            reference.line = reached.bound.offset;
        }
        Ok(reached.ended)
    }
}

impl TimedReference {
    fn open(shared: &Shared) -> Result<TimedReference, ReferenceError> {
        let job = &shared.job;
        let changes = job.changes.as_deref();
        let files = ReferenceFiles::open(
            Arc::clone(&job.spec),
            job.documents.as_deref(),
            changes,
            AtEnd::Stop,
        )?;
        Ok(TimedReference { files, documents: Documents::default(), line: 0, next_change: None })
    }

    /// Brings the documents to where they stand before the next line of the first partition.
    fn read(&mut self, epoch: Epoch, flow: &mut impl Flow) -> Result<(), ReferenceError> {
        let TimedReference { files, documents, line, next_change } = self;
        let mut apply = |statement| {
            documents.apply(statement, &mut |claim, diff| flow.claim(claim, diff));
        };
        if epoch == 0 {
            files.snapshot(&mut apply)?;
        }
        *next_change = files.changes_until(*line, &mut apply)?;
        Ok(())
    }

    /// After the last line everything that is left to happen happens.
    fn events_ended(&mut self) {
        self.line = u64::MAX;
    }
}
