//! A worker: reads its partitions epoch by epoch, steps the dataflow, hands sealed epochs to its
//! sink.
//!
//! Shape: a timely worker and the job in; its share of the outputs out.
//!
//! Invariants: epoch `e` of every worker carries the same label, so a view at `e` holds the first
//! lines of all files; changes of documents come exactly between the lines of the first file where
//! their `after` says.
//!
//! Not here: starting workers and joining their shares (`engine`).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use timely::worker::Worker;

use super::{
    EngineError, Shared, StopOthers,
    flow::{Flow, FusedFlow, StockFlow},
};
use crate::{
    dataflow::{Dedupe, Spread, Verdict, worker_of},
    reference::{Documents, ReferenceError, ReferenceFiles, file::Counts},
    sink::{FileShare, SinkError, dead_letters::DeadLetters},
    source::{
        DeadLetter, Decoder, Limit, PartitionId, Place, Reason, Refusal, Source, file::FileSource,
    },
    spec::{ShardId, Spec},
    time::Epoch,
};

/// Epochs that a worker may have read ahead of those that are sealed. Two would do to overlap
/// reading with computing; a few more even out workers of unequal load.
const EPOCHS_IN_FLIGHT: u64 = 4;

/// Most bytes that a partition gives to an epoch, beyond a last line: with lines of the greatest
/// length an epoch would otherwise be as large as the file.
const EPOCH_BYTES: u64 = 16 << 20;

/// Longest sleep when there is nothing to do but wait for other workers.
const PARK: Duration = Duration::from_millis(1);

/// What a worker ends with.
pub(super) struct End {
    pub lines: u64,
    pub bytes: u64,
    pub epochs: u64,
    pub reference: Counts,
    pub share: FileShare,
}

/// Runs one worker to the end of all inputs.
pub(super) fn run(worker: &mut Worker, shared: &Shared) -> Result<End, EngineError> {
    let mut guard = StopOthers { stop: &shared.stop, finished: false };
    let spec = &shared.job.spec;
    let end = match shared.job.stock {
        false => {
            let flow = FusedFlow::build(worker, spec, Spread::NONE);
            Run::start(worker, shared, flow).and_then(|run| run.finish(worker))
        }
        true => {
            let flow = StockFlow::build(worker, spec);
            Run::start(worker, shared, flow).and_then(|run| run.finish(worker))
        }
    };
    guard.finished = end.is_ok();
    drop(guard);
    if end.is_err() {
        // A dataflow whose inputs are given up would be stepped until the others end theirs.
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
    }
    end
}

/// The shard that owns the dead letters of a partition; its worker reads it.
fn shard_of_partition(spec: &Spec, partition: PartitionId) -> ShardId {
    ShardId((partition.0 % u32::from(spec.shards)) as u16)
}

struct Run<'a, F> {
    shared: &'a Shared,
    decoder: Decoder,
    /// The partitions of this worker that have not ended.
    partitions: Vec<Partition>,
    /// On the worker that reads the first partition.
    reference: Option<Reference>,
    flow: F,
    dead_letters: DeadLetters,
    epoch: Epoch,
    lines: u64,
    bytes: u64,
}

struct Partition {
    source: FileSource,
    dedupe: Dedupe,
}

struct Reference {
    files: ReferenceFiles,
    documents: Documents,
    /// How many lines of the first partition were read.
    line: u64,
    /// The line before which the next change happens.
    next_change: Option<u64>,
}

impl<'a, F: Flow> Run<'a, F> {
    fn start(worker: &Worker, shared: &'a Shared, flow: F) -> Result<Run<'a, F>, EngineError> {
        let (job, index, peers) = (&shared.job, worker.index(), worker.peers());
        let spec = Arc::clone(&job.spec);
        let is_ours = |partition| worker_of(shard_of_partition(&spec, partition), peers) == index;
        let mut partitions = Vec::new();
        for (place, path) in job.events.iter().enumerate() {
            let id = PartitionId(place as u32);
            if is_ours(id) {
                let source = FileSource::open(id, path)?;
                partitions.push(Partition { source, dedupe: Dedupe::new(&spec) });
            }
        }
        let reference = if is_ours(FIRST) { Some(Reference::open(shared)?) } else { None };
        let names = Arc::new(job.events.iter().map(|path| path.display().to_string()).collect());
        Ok(Run {
            shared,
            decoder: Decoder::new(Arc::clone(&spec)),
            partitions,
            reference,
            flow,
            dead_letters: DeadLetters::new(spec, names, job.out.clone()),
            epoch: 0,
            lines: 0,
            bytes: 0,
        })
    }

    fn finish(mut self, worker: &mut Worker) -> Result<End, EngineError> {
        let mut more = true;
        while more {
            more = self.read_epoch()?;
            self.epoch += 1;
            self.flow.advance_to(self.epoch);
            let sealed_at_least = self.epoch.saturating_sub(EPOCHS_IN_FLIGHT);
            self.step_until_sealed(worker, Some(sealed_at_least))?;
        }
        // From here on no worker waits for this one.
        self.flow.close();
        self.step_until_sealed(worker, None)?;
        let reference = self.reference.map(|reference| reference.files.counts());
        Ok(End {
            lines: self.lines,
            bytes: self.bytes,
            epochs: self.epoch,
            reference: reference.unwrap_or_default(),
            share: FileShare {
                contents: self.flow.into_contents(),
                dead_letters: self.dead_letters,
            },
        })
    }

    /// Steps until all epochs before `frontier` are sealed (`None`: all).
    fn step_until_sealed(
        &mut self,
        worker: &mut Worker,
        frontier: Option<Epoch>,
    ) -> Result<(), EngineError> {
        let behind = |sealed: Option<Epoch>| match (sealed, frontier) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(sealed), Some(frontier)) => sealed < frontier,
        };
        worker.step();
        while behind(self.flow.frontier()) {
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
            let id = partition.source.partition();
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
        let Partition { source, dedupe } = partition;
        let id = source.partition();
        let Run { decoder, flow, dead_letters, .. } = self;
        let (mut lines, mut kept) = (0, Ok(()));
        let reached = source.read(limit, &mut |offset, bytes| {
            lines += 1;
            let place = Place { partition: id, offset };
            let refusal: Refusal = match decoder.decode(bytes) {
                Ok(row) => match dedupe.judge(row) {
                    Verdict::Stands => return flow.event(place, row),
                    Verdict::Repeats => return,
                    Verdict::Taken => Reason::KeyTaken.into(),
                },
                Err(refusal) => refusal,
            };
            if kept.is_ok() {
                kept = dead_letters.keep(&DeadLetter { place, refusal, bytes: bytes.into() });
            }
        })?;
        kept.map_err(|source| SinkError::unwritten_dead_letters(&self.shared.job.out, source))?;
        self.lines += lines;
        self.bytes += reached.bytes;
        self.shared.progress.read(reached.bytes);
        if let (FIRST, Some(reference)) = (id, &mut self.reference) {
            reference.line = reached.offset;
        }
        Ok(reached.ended)
    }
}

/// The partition by whose lines changes of documents are timed.
const FIRST: PartitionId = PartitionId(0);

impl Reference {
    fn open(shared: &Shared) -> Result<Reference, ReferenceError> {
        let job = &shared.job;
        let changes = job.changes.as_deref();
        let files = ReferenceFiles::open(Arc::clone(&job.spec), job.documents.as_deref(), changes)?;
        Ok(Reference { files, documents: Documents::default(), line: 0, next_change: None })
    }

    /// Brings the documents to where they stand before the next line of the first partition.
    fn read(&mut self, epoch: Epoch, flow: &mut impl Flow) -> Result<(), ReferenceError> {
        let Reference { files, documents, line, next_change } = self;
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
