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

use differential_dataflow::input::InputSession;
use timely::worker::Worker;

use super::{
    EngineError, Shared, StopOthers,
    capture::{Capture, shard_of_partition, worker_of},
    flight::Flight,
};
use crate::{
    dataflow::{self, Diff, Event},
    reference::{Claim, Documents, ReferenceError, ReferenceFiles, file::Counts},
    sink::{FileShare, Sealed, Sink},
    source::{Decoder, Limit, PartitionId, Place, Source, file::FileSource},
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
    let end = Run::start(worker, shared).and_then(|run| run.finish(worker));
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

struct Run<'a> {
    shared: &'a Shared,
    decoder: Decoder,
    /// The partitions of this worker that have not ended.
    partitions: Vec<FileSource>,
    /// On the worker that reads the first partition.
    reference: Option<Reference>,
    events: InputSession<Epoch, Event, Diff>,
    claims: InputSession<Epoch, Claim, Diff>,
    capture: Capture,
    flight: Flight,
    share: FileShare,
    epoch: Epoch,
    lines: u64,
    bytes: u64,
}

struct Reference {
    files: ReferenceFiles,
    documents: Documents,
    /// How many lines of the first partition were read.
    line: u64,
    /// The line before which the next change happens.
    next_change: Option<u64>,
}

impl<'a> Run<'a> {
    fn start(worker: &mut Worker, shared: &'a Shared) -> Result<Run<'a>, EngineError> {
        let (job, index, peers) = (&shared.job, worker.index(), worker.peers());
        let spec = Arc::clone(&job.spec);
        let mut partitions = Vec::new();
        for (place, path) in job.events.iter().enumerate() {
            let partition = PartitionId(place as u32);
            if worker_of(shard_of_partition(&spec, partition), peers) == index {
                partitions.push(FileSource::open(partition, path)?);
            }
        }
        let first = worker_of(shard_of_partition(&spec, FIRST), peers) == index;
        let reference = if first { Some(Reference::open(shared)?) } else { None };
        let mut events = InputSession::new();
        let mut claims = InputSession::new();
        let capture = worker.dataflow_named(&spec.name, |scope| {
            let events = events.to_collection(scope);
            let claims = claims.to_collection(scope);
            Capture::of(&spec, dataflow::build(&spec, events, claims), peers)
        });
        let names = Arc::new(job.events.iter().map(|path| path.display().to_string()).collect());
        Ok(Run {
            shared,
            decoder: Decoder::new(Arc::clone(&spec)),
            partitions,
            reference,
            events,
            claims,
            capture,
            flight: Flight::default(),
            share: FileShare::new(spec, names, &job.out),
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
            self.events.advance_to(self.epoch);
            self.claims.advance_to(self.epoch);
            self.events.flush();
            self.claims.flush();
            let sealed_at_least = self.epoch.saturating_sub(EPOCHS_IN_FLIGHT);
            self.step_until_sealed(worker, Some(sealed_at_least))?;
        }
        // From here on no worker waits for this one.
        std::mem::replace(&mut self.events, InputSession::new()).close();
        std::mem::replace(&mut self.claims, InputSession::new()).close();
        self.step_until_sealed(worker, None)?;
        let reference = self.reference.map(|reference| reference.files.counts());
        Ok(End {
            lines: self.lines,
            bytes: self.bytes,
            epochs: self.epoch,
            reference: reference.unwrap_or_default(),
            share: self.share,
        })
    }

    /// Steps until all epochs before `frontier` are sealed (`None`: all), handing on each.
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
        while behind(self.capture.frontier()) {
            if self.shared.stop.load(Ordering::Relaxed) {
                return Err(EngineError::Stopped);
            }
            worker.step_or_park(Some(PARK));
            self.hand_on()?;
        }
        self.hand_on()
    }

    /// Hands the epochs that are sealed to the sink, in order.
    fn hand_on(&mut self) -> Result<(), EngineError> {
        let frontier = self.capture.frontier();
        loop {
            // An epoch can have brought dead letters alone, which no collection shows.
            let in_flight = self.flight.first_before(frontier);
            let until = in_flight.map_or(frontier, |epoch| Some(epoch + 1));
            let (epoch, captured) = match (self.capture.next_before(until), in_flight) {
                (Some(captured), _) => captured,
                (None, Some(epoch)) => (epoch, super::capture::Captured::default()),
                (None, None) => return Ok(()),
            };
            let dead_letters = self.flight.land(epoch, &captured.taken);
            self.share.write(Sealed { epoch, views: captured.views, dead_letters })?;
        }
    }

    /// Reads what the open epoch takes; returns whether there is more.
    fn read_epoch(&mut self) -> Result<bool, EngineError> {
        let Run { shared, partitions, reference, claims, .. } = self;
        let job = &shared.job;
        if let Some(reference) = reference {
            reference.read(self.epoch, claims)?;
        }
        let mut still_open = Vec::with_capacity(partitions.len());
        for mut source in std::mem::take(partitions) {
            let mut limit = Limit { records: job.epoch_lines, bytes: EPOCH_BYTES };
            if let Some(change) = self.next_change_after(source.partition()) {
                limit.records = limit.records.min(change);
            }
            let ended = self.read_partition(&mut source, limit)?;
            if !ended {
                still_open.push(source);
            } else if let (FIRST, Some(reference)) = (source.partition(), &mut self.reference) {
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
        source: &mut FileSource,
        limit: Limit,
    ) -> Result<bool, EngineError> {
        let (epoch, partition) = (self.epoch, source.partition());
        let Run { decoder, flight, events, .. } = self;
        let mut lines = 0;
        let reached = source.read(limit, &mut |offset, bytes| {
            lines += 1;
            let place = Place { partition, offset };
            match decoder.decode(bytes) {
                Ok(row) => {
                    flight.hold(epoch, place, bytes);
                    events.insert(Event { place, row });
                }
                Err(refusal) => flight.refuse(epoch, place, refusal, bytes),
            }
        })?;
        self.lines += lines;
        self.bytes += reached.bytes;
        self.shared.progress.read(reached.bytes);
        if let (FIRST, Some(reference)) = (partition, &mut self.reference) {
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
    fn read(
        &mut self,
        epoch: Epoch,
        claims: &mut InputSession<Epoch, Claim, Diff>,
    ) -> Result<(), ReferenceError> {
        let Reference { files, documents, line, next_change } = self;
        let mut apply = |statement| {
            documents.apply(statement, &mut |claim, diff| claims.update(claim, diff));
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
