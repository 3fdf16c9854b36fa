//! A worker over files that grow: reads what comes, cuts epochs by a tick, and hands on what each
//! sealed epoch changed.
//!
//! Shape: a timely worker and the job in; every change of its shards to the sink, until it is asked
//! to end.
//!
//! Invariants: the documents that there are at the start belong to the first epoch, so no event
//! goes out before they are known. Labels of epochs strictly grow on each worker, and whoever hears
//! that another has cut its own or a later one cuts at once, so no clock holds the others back;
//! labels never enter a result. Where nothing comes and nothing waits, no epoch is cut. An epoch
//! that is not full is cut only once those before it are sealed: what takes long makes epochs
//! larger, not more. A worker has at most `FULL_EPOCHS_IN_FLIGHT` times what an epoch holds in
//! epochs that are not sealed, and a sink that is slow is waited for: pressure goes back to the
//! files (P9). Once one worker is asked to end, all close their open epoch and end.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use timely::worker::Worker;

use super::{
    EngineError, Following, Shared,
    flow::{Flow, FusedFlow},
    metrics::WorkerMetrics,
    worker::{EPOCH_BYTES, End, FIRST, PARK, Partition, file_names, reads},
};
use crate::{
    reference::{Documents, ReferenceError, ReferenceFiles},
    sink::update_log::WorkerLog,
    source::{AtEnd, DeadLetter, Decoder, Input, Limit},
    time::{Epoch, Frontier},
};

/// How many epochs' worth of lines and bytes a worker may have read that are not sealed.
const FULL_EPOCHS_IN_FLIGHT: u64 = 4;

/// How many steps are made for an epoch to be sealed before it is read on: its events pass several
/// operators.
const STEPS_TO_SEAL: usize = 8;

/// How many lines of documents and changes are read before events have their turn again.
const DOCUMENTS_AT_ONCE: u64 = 64;

/// How many of them are read at the start before it is looked whether the run is to end.
const DOCUMENTS_BETWEEN_LOOKS: u64 = 10_000;

/// Longest sleep between looks at the files and at whether the run is to end.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// How often a log says how far the cluster is where nothing changes in its own part.
const BETWEEN_QUIET_SEALS: Duration = Duration::from_secs(1);

/// One worker's run.
pub(super) struct Follower<'a> {
    shared: &'a Shared,
    follow: &'a Following,
    decoder: Decoder,
    partitions: Vec<Partition>,
    /// On the worker that reads the first partition.
    reference: Option<GrowingReference>,
    flow: FusedFlow,
    sink: WorkerLog,
    dead_letters: BTreeMap<Epoch, Vec<DeadLetter>>,
    epoch: Epoch,
    /// What was read into the open epoch.
    open: Load,
    /// Epochs that were cut here and are not sealed, with what was read into them.
    unsealed: VecDeque<(Epoch, Load)>,
    epochs: u64,
    total: Load,
    metrics: WorkerMetrics,
    /// Among the workers of its process.
    is_first: bool,
    next_quiet_seal: Instant,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    lines: u64,
    bytes: u64,
}

/// Documents, and changes as they come.
struct GrowingReference {
    files: ReferenceFiles,
    documents: Documents,
    /// The documents of which a change spoke: it counts more than a line of the documents file,
    /// whichever is read first, for a start reads that file before all changes.
    changed: HashSet<Box<str>>,
    /// How many lines of each file were read when that was last said.
    said: Vec<(Input, u64)>,
}

impl<'a> Follower<'a> {
    pub(super) fn start(
        worker: &Worker,
        shared: &'a Shared,
        follow: &'a Following,
        flow: FusedFlow,
    ) -> Result<Follower<'a>, EngineError> {
        let (job, spec) = (&shared.job, &shared.job.spec);
        let partitions = Partition::open(worker, shared, AtEnd::Follow)?;
        let mut reference = None;
        if reads(worker, spec, FIRST) {
            let (documents, changes) = (job.documents.as_deref(), job.changes.as_deref());
            let spec = Arc::clone(spec);
            let files = ReferenceFiles::open(spec, documents, changes, AtEnd::Follow)?;
            let documents = Documents::default();
            let changed = HashSet::new();
            reference = Some(GrowingReference { files, documents, changed, said: Vec::new() });
        }
        let local = worker.index() % job.workers;
        Ok(Follower {
            shared,
            follow,
            decoder: Decoder::new(Arc::clone(spec)),
            partitions,
            reference,
            flow,
            sink: follow.log.worker(local, spec, file_names(shared)),
            dead_letters: BTreeMap::new(),
            epoch: 0,
            open: Load::default(),
            unsealed: VecDeque::new(),
            epochs: 0,
            total: Load::default(),
            metrics: follow.metrics.worker(local),
            is_first: local == 0,
            next_quiet_seal: Instant::now() + BETWEEN_QUIET_SEALS,
        })
    }

    pub(super) fn finish(mut self, worker: &mut Worker) -> Result<End, EngineError> {
        self.read_first_documents()?;
        let mut next_cut = Instant::now() + self.follow.tick;
        while !self.is_to_end() {
            let more = self.read()?;
            let now = Instant::now();
            if self.is_to_cut(now >= next_cut) {
                self.cut();
                next_cut = now + self.follow.tick;
            }
            // What would be cut at once needs no sleep before.
            match more || self.is_to_cut(false) {
                true => worker.step(),
                false => {
                    let until_look = match self.has_something() {
                        true => next_cut.saturating_duration_since(now),
                        false => self.follow.tick,
                    };
                    worker.step_or_park(Some(until_look.clamp(PARK, BETWEEN_LOOKS)))
                }
            };
            self.step_to_seal(worker);
            self.hand_on()?;
        }
        if self.follow.end.load(Ordering::Relaxed) {
            self.flow.end();
        }
        self.cut();
        self.flow.close();
        while self.flow.frontier() < Frontier::End {
            self.give_up_with_others()?;
            worker.step_or_park(Some(PARK));
            self.hand_on()?;
        }
        self.hand_on()?;
        let reference = self.reference.map(|reference| reference.files.counts());
        Ok(End {
            lines: self.total.lines,
            bytes: self.total.bytes,
            epochs: self.epochs,
            reference: reference.unwrap_or_default(),
            share: None,
        })
    }

    /// Whether this process or another was asked to end.
    fn is_to_end(&self) -> bool {
        self.follow.end.load(Ordering::Relaxed) || self.flow.state().is_ending()
    }

    fn give_up_with_others(&self) -> Result<(), EngineError> {
        match self.shared.stop.load(Ordering::Relaxed) {
            true => Err(EngineError::Stopped),
            false => Ok(()),
        }
    }

    /// Reads the documents that there are, and what happened to them, before any event.
    fn read_first_documents(&mut self) -> Result<(), EngineError> {
        let mut more = true;
        while more && !self.is_to_end() {
            self.give_up_with_others()?;
            more = self.read_documents(DOCUMENTS_BETWEEN_LOOKS)?;
        }
        Ok(())
    }

    /// Reads at most so many lines of documents and changes into the open epoch.
    fn read_documents(&mut self, most: u64) -> Result<bool, ReferenceError> {
        let Some(reference) = &mut self.reference else { return Ok(false) };
        let (more, load) = reference.read_on(most, &mut self.flow)?;
        self.open = self.open.plus(load);
        Ok(more)
    }

    /// Whether the open epoch holds all that an epoch may.
    fn is_full(&self) -> bool {
        self.open.is_at_least(1, self.epoch_lines())
    }

    /// Whether the end of the open epoch brings something: what was read, or a turn of corrections.
    fn has_something(&self) -> bool {
        !self.open.is_nothing() || self.flow.state().waiting_rows() > 0
    }

    /// Whether others wait for the open epoch to end here.
    fn is_behind(&self) -> bool {
        self.epoch <= self.flow.state().newest_epoch()
    }

    /// Whether the open epoch is to end; `is_tick`: as far as the tick is concerned.
    fn is_to_cut(&self, is_tick: bool) -> bool {
        if !self.has_something() {
            return self.is_behind();
        }
        // Corrections wait for no tick, only for those before them.
        let is_time = is_tick || self.is_behind() || self.flow.state().waiting_rows() > 0;
        self.is_full() || is_time && self.unsealed.is_empty()
    }

    /// Steps until the epochs that were cut here are sealed, as far as that takes but a few steps.
    fn step_to_seal(&self, worker: &mut Worker) {
        let Some((newest, _)) = self.unsealed.back() else { return };
        let is_sealed = || self.flow.frontier().has_sealed(*newest);
        for _ in (0..STEPS_TO_SEAL).take_while(|_| !is_sealed()) {
            worker.step();
        }
    }

    /// Reads what came into the open epoch, as far as it has room; returns whether there may be
    /// more already.
    fn read(&mut self) -> Result<bool, EngineError> {
        self.give_up_with_others()?;
        let epoch_lines = self.epoch_lines();
        let unsealed = self.unsealed.iter().fold(self.open, |sum, (_, load)| sum.plus(*load));
        if self.is_full() || unsealed.is_at_least(FULL_EPOCHS_IN_FLIGHT, epoch_lines) {
            return Ok(false);
        }
        let mut more = self.read_documents(DOCUMENTS_AT_ONCE)?;
        let Follower { flow, decoder, dead_letters, epoch, .. } = self;
        let metrics = &self.metrics;
        // Another one first each time, so that a long file does not keep the others waiting.
        let others = self.partitions.len().min(1);
        self.partitions.rotate_left(others);
        for partition in &mut self.partitions {
            let limit = Limit {
                records: epoch_lines.saturating_sub(self.open.lines),
                bytes: EPOCH_BYTES.saturating_sub(self.open.bytes),
            };
            let mut refuse = |letter: DeadLetter| {
                metrics.dead_letter(letter.refusal.reason.name());
                dead_letters.entry(*epoch).or_default().push(letter);
            };
            let reached = partition.read(limit, decoder, flow, &mut refuse)?;
            more |= reached.more;
            if reached.records > 0 {
                flow.bound(Input::Events(partition.id()), reached.offset);
                let load = Load { lines: reached.records, bytes: reached.bytes };
                self.open = self.open.plus(load);
                self.total = self.total.plus(load);
                metrics.lines.inc_by(load.lines);
                metrics.bytes.inc_by(load.bytes);
                self.shared.progress.read(reached.bytes);
            }
        }
        Ok(more)
    }

    fn epoch_lines(&self) -> u64 {
        self.shared.job.epoch_lines
    }

    /// Ends the open epoch here and opens the next.
    fn cut(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_millis() as Epoch);
        let heard = self.flow.state().newest_epoch();
        if self.has_something() {
            if self.open.is_nothing() {
                // Else nobody else would hear that this epoch is to end.
                self.flow.call();
            }
            self.unsealed.push_back((self.epoch, std::mem::take(&mut self.open)));
        }
        self.epochs += 1;
        self.epoch = now.max(heard + 1).max(self.epoch + 1);
        self.flow.advance_to(self.epoch);
    }

    /// Hands sealed epochs to the sink, and says how things stand.
    fn hand_on(&mut self) -> Result<(), EngineError> {
        self.flow.hand_on(&mut self.dead_letters, &mut self.sink)?;
        let frontier = self.flow.frontier();
        while self.unsealed.front().is_some_and(|(epoch, _)| frontier.has_sealed(*epoch)) {
            self.unsealed.pop_front();
        }
        self.tell();
        self.seal_quietly()
    }

    fn tell(&mut self) {
        self.metrics.updates.inc_by(self.sink.take_updates());
        let state = self.flow.state();
        let WorkerMetrics { records, waiting, unsealed, sealed, .. } = &self.metrics;
        records.set(state.events() as i64);
        waiting.set(state.waiting_rows() as i64);
        unsealed.set(self.unsealed.len() as i64);
        if let (true, Frontier::At(epoch)) = (self.is_first, self.flow.frontier()) {
            sealed.set(epoch);
        }
    }

    /// Whoever reads the logs of several processes is to learn that nothing more comes to an epoch
    /// here, also where nothing did.
    fn seal_quietly(&mut self) -> Result<(), EngineError> {
        let now = Instant::now();
        if self.is_first && now >= self.next_quiet_seal {
            self.next_quiet_seal = now + BETWEEN_QUIET_SEALS;
            self.sink.seal_so_far()?;
        }
        Ok(())
    }
}

impl Load {
    fn is_nothing(self) -> bool {
        self.lines == 0
    }

    fn plus(self, other: Load) -> Load {
        Load { lines: self.lines + other.lines, bytes: self.bytes + other.bytes }
    }

    /// Whether it is what so many full epochs hold.
    fn is_at_least(self, epochs: u64, epoch_lines: u64) -> bool {
        self.lines >= epochs * epoch_lines || self.bytes >= epochs * EPOCH_BYTES
    }
}

impl GrowingReference {
    /// Reads what came, at most so many lines; returns whether there may be more already, and what
    /// was read.
    fn read_on(&mut self, most: u64, flow: &mut FusedFlow) -> Result<(bool, Load), ReferenceError> {
        let GrowingReference { files, documents, changed, said } = self;
        let before = files.read();
        let more = files.follow(most, &mut |input, statement| {
            if input == Input::Changes {
                changed.insert(statement.id.clone());
            } else if changed.contains(&statement.id) {
                return;
            }
            documents.apply(statement, &mut |claim, diff| flow.claim(claim, diff));
        })?;
        let read = files.read();
        let load = Load { lines: read.0 - before.0, bytes: read.1 - before.1 };
        let bounds: Vec<(Input, u64)> = files.bounds().collect();
        if bounds != *said {
            bounds.iter().for_each(|(input, offset)| flow.bound(*input, *offset));
            *said = bounds;
        }
        Ok((more, load))
    }
}
