//! A worker over files that grow: reads what comes, cuts epochs by a tick, and hands on what each
//! sealed epoch changed.
//!
//! Shape: a timely worker and the job in; every change of its shards to the sink, until it is asked
//! to end.
//!
//! Invariants: the documents that there are at the start belong to the first epoch, and no worker
//! reads an event before that is sealed, so none goes out before they are known. Labels of epochs
//! strictly grow on each worker, and whoever hears that another has cut its own or a later one cuts
//! at once, so no clock holds the others back; labels never enter a result. Where nothing comes and
//! nothing waits, no epoch is cut. An epoch that is not full is cut only once those before it are
//! sealed: what takes long makes epochs larger, not more. A worker has at most
//! `FULL_EPOCHS_IN_FLIGHT` times what an epoch holds in epochs that are not sealed, and a sink that
//! is slow is waited for: pressure goes back to the inputs (P9). Once one worker is asked to end,
//! all close their open epoch and end; before a start is complete nothing of that goes out.
//!
//! In reading order: `ends` and `inputs` (what is read), `output` (where changes go), `replay`
//! (what an earlier run held), `limits` (what keeps it from reading on).

mod ends;
mod inputs;
mod limits;
mod output;
mod replay;

use std::{
    collections::{BTreeMap, VecDeque},
    mem::replace,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use timely::worker::Worker;
use tracing::info;

use self::{
    ends::Ends,
    inputs::{Load, Reference},
    limits::Pace,
    output::Output,
};
use super::{
    EngineError, Following, Place, Shared,
    flow::{Flow, FusedFlow},
    metrics::WorkerMetrics,
    worker::{EPOCH_BYTES, End, PARK, Partition, file_names},
};
use crate::{
    kafka::Readers,
    process::now_ms,
    reference::ReferenceError,
    sink::kafka::Committed,
    source::{DeadLetter, Decoder, Input, Limit},
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

/// One worker's run.
pub(super) struct Follower<'a> {
    shared: &'a Shared,
    follow: &'a Following,
    decoder: Decoder,
    partitions: Vec<Partition>,
    /// On the worker that reads the first partition.
    reference: Option<Reference>,
    /// The connections of what is read from brokers.
    readers: Option<Readers>,
    flow: FusedFlow,
    output: Output,
    dead_letters: BTreeMap<Epoch, Vec<DeadLetter>>,
    epoch: Epoch,
    /// What was read into the open epoch.
    open: Load,
    /// Epochs that were cut here and are not sealed, with what was read into them.
    unsealed: VecDeque<(Epoch, Load)>,
    epochs: u64,
    total: Load,
    metrics: WorkerMetrics,
    /// The epoch with which a start over Kafka is complete, until it is sealed: what goes out
    /// before holds what all workers were to read for it only if none was asked to end.
    completes: Option<Epoch>,
    /// Its number among the workers of its process.
    local: usize,
    /// Whether the run ends by itself, and this worker has come to that.
    ends_by_itself: bool,
    is_done: bool,
    /// Since when all were done, as the one that was last saw it.
    all_done: Option<Instant>,
    /// What it saw last of what holds it.
    hold_seen: u64,
    is_paused: bool,
    pace: Option<Pace>,
}

impl<'a> Follower<'a> {
    pub(super) fn start(
        worker: &Worker,
        shared: &'a Shared,
        follow: &'a Following,
        mut flow: FusedFlow,
    ) -> Result<Follower<'a>, EngineError> {
        let local = worker.index() % shared.job.workers;
        let mut epoch = 0;
        let ends = match &follow.place {
            Place::Files(log) => {
                let log = log.worker(local, &shared.job.spec, file_names(shared));
                Ends::files(worker, shared, Output::log(log, local == 0))?
            }
            Place::Own(make) => Ends::files(worker, shared, Output::Own(make(local)))?,
            Place::Kafka(run) => {
                // Of shards that hold nothing it is said that they hold epoch 0.
                epoch = 1;
                flow.advance_to(epoch);
                let start = shared.start.as_ref().expect("a run over Kafka was led");
                Ends::take_over(worker, shared, run, start, &mut flow)?
            }
        };
        let Ends { partitions, reference, readers, output } = ends;
        let metrics = follow.metrics.worker(local);
        if let Some(start) = &shared.start {
            let left = |partition: &Partition| {
                let place = partition.id().0 as usize;
                let until = start.begins.until.as_ref().map(|until| until[place]);
                let end = until.unwrap_or(start.begins.ends[place]);
                // Behind the last record the end of its transaction may stand.
                end.saturating_sub(start.begins.events[place] + 1)
            };
            metrics.backlog.inc_by(partitions.iter().map(left).sum());
            let of_reference = reference.iter().map(|_| Input::Reference);
            let of_events = partitions.iter().map(|partition| Input::Events(partition.id()));
            of_events.chain(of_reference).for_each(|i| metrics.holds(i, start.held(i)));
        }
        Ok(Follower {
            shared,
            follow,
            decoder: Decoder::new(Arc::clone(&shared.job.spec)),
            partitions,
            reference,
            readers,
            flow,
            output,
            dead_letters: BTreeMap::new(),
            epoch,
            open: Load::default(),
            unsealed: VecDeque::new(),
            epochs: 0,
            total: Load::default(),
            metrics,
            completes: shared.start.as_ref().map(|start| start.recovery.last_epoch().max(epoch)),
            local,
            ends_by_itself: false,
            is_done: false,
            all_done: None,
            hold_seen: 0,
            is_paused: false,
            pace: Follower::pace(&follow.place, worker.peers()),
        })
    }

    pub(super) fn finish(mut self, worker: &mut Worker) -> Result<End, EngineError> {
        match &self.shared.start {
            Some(start) if !start.recovery.is_empty() => {
                let recovery = Arc::clone(&start.recovery);
                self.replay(worker, &recovery)?;
            }
            _ => self.read_first_documents(worker)?,
        }
        self.metrics.ready.set(self.completes.is_none().into());
        self.stop_at_end();
        let mut next_cut = Instant::now() + self.follow.tick;
        while !self.is_to_end() {
            let more = self.read()?;
            let now = Instant::now();
            // What has come waits for no tick while the output has nothing to do; of a backlog an
            // epoch takes what it can.
            let is_idle = !more && self.output.idle_in().is_zero();
            if self.is_to_cut(is_idle || now >= next_cut) {
                self.cut();
                next_cut = now + self.follow.tick;
            }
            // What would be cut at once needs no sleep before.
            match more || self.is_to_cut(false) {
                true => worker.step(),
                false => {
                    let until_look = match self.has_something() {
                        true => next_cut.saturating_duration_since(now).min(self.output.idle_in()),
                        false => self.follow.tick,
                    };
                    let until_look = until_look.min(self.output.longest_sleep());
                    worker.step_or_park(Some(until_look.clamp(PARK, BETWEEN_LOOKS)))
                }
            };
            self.step_to_seal(worker);
            self.hand_on()?;
            self.look_whether_done();
        }
        // Who only heard of it says so too: others are to know before they see what is cut here.
        self.flow.end();
        self.cut();
        self.flow.close();
        while self.flow.frontier() < Frontier::End {
            self.give_up_with_others()?;
            worker.step_or_park(Some(PARK));
            self.hand_on()?;
        }
        while !self.hand_on()? || !self.output.is_done() {
            self.give_up_with_others()?;
            self.output.keep_up(true)?;
            std::thread::park_timeout(PARK);
        }
        let reference = self.reference.map(|reference| reference.counts());
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
    fn read_first_documents(&mut self, worker: &mut Worker) -> Result<(), EngineError> {
        let mut is_told = false;
        while !self.is_to_end() {
            self.give_up_with_others()?;
            let more = self.read_documents(DOCUMENTS_BETWEEN_LOOKS)?;
            if self.reference.as_ref().is_none_or(|reference| reference.is_complete(more)) {
                break;
            }
            if let Some(sources) = self.reference.as_ref().and_then(Reference::awaited)
                && !replace(&mut is_told, true)
            {
                let sources = sources.join(", ");
                info!(sources, "waits for the first snapshot; a feed (`tributary feed`) makes it");
            }
            inputs::serve(self.readers.as_ref())?;
            self.tell();
            // Steps, so that it hears when another worker is asked to end.
            worker.step_or_park(Some(if more { Duration::ZERO } else { PARK }));
        }
        if self.is_to_end() {
            return Ok(());
        }
        let first = self.epoch;
        self.flow.call();
        self.cut();
        while !self.flow.frontier().has_sealed(first) && !self.is_to_end() {
            self.give_up_with_others()?;
            worker.step_or_park(Some(PARK));
            self.hand_on()?;
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
        !self.open.is_nothing() || self.is_turn()
    }

    /// Whether rows wait for a turn of corrections, or to be sent again.
    fn is_turn(&self) -> bool {
        let state = self.flow.state();
        (state.waiting_rows() > 0 || state.owes()) && !self.output.has_enough()
    }

    /// Whether others wait for the open epoch to end here.
    fn is_behind(&self) -> bool {
        self.epoch <= self.flow.state().newest_epoch()
    }

    /// Whether the open epoch is to end; `is_tick`: as far as the tick is concerned.
    fn is_to_cut(&self, is_tick: bool) -> bool {
        if self.output.is_behind() {
            return false;
        }
        if !self.has_something() {
            return self.is_behind();
        }
        // Corrections wait for no tick, only for those before them.
        let is_time = is_tick || self.is_behind() || self.is_turn();
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
        inputs::serve(self.readers.as_ref())?;
        if self.is_to_pause() || self.is_full() || self.is_stalled() || self.output.is_behind() {
            return Ok(false);
        }
        let more = self.read_documents(DOCUMENTS_AT_ONCE)?;
        let (before, most) = (self.total.lines, self.epoch_lines_now());
        if most <= self.open.lines && self.pace.is_some() {
            return Ok(more);
        }
        let more = self.read_partitions(most)? || more;
        self.took(self.total.lines - before);
        Ok(more)
    }

    /// Whether what was read and is not sealed is all that may be.
    fn is_stalled(&self) -> bool {
        let unsealed = self.unsealed.iter().fold(self.open, |sum, (_, load)| sum.plus(*load));
        unsealed.is_at_least(FULL_EPOCHS_IN_FLIGHT, self.epoch_lines())
    }

    /// Reads events into the open epoch until it holds so many lines; returns whether there may be
    /// more already.
    fn read_partitions(&mut self, epoch_lines: u64) -> Result<bool, EngineError> {
        let mut more = false;
        let Follower { flow, decoder, dead_letters, epoch, .. } = self;
        let metrics = &self.metrics;
        let has_horizon = flow.state().has_horizon();
        // Another one first each time, so that a long file does not keep the others waiting.
        let others = self.partitions.len().min(1);
        self.partitions.rotate_left(others);
        for partition in &mut self.partitions {
            let limit = Limit {
                // Documents alone may fill an epoch: then each has one event's turn in it.
                records: epoch_lines.saturating_sub(self.open.lines).max(1),
                bytes: match epoch_lines {
                    u64::MAX => u64::MAX,
                    _ => EPOCH_BYTES.saturating_sub(self.open.bytes),
                },
            };
            let mut refuse = |letter: DeadLetter| {
                metrics.dead_letter(letter.refusal.reason.name());
                dead_letters.entry(*epoch).or_default().push(letter);
            };
            let before = partition.read_to();
            let reached = partition.read(limit, decoder, flow, &mut refuse)?;
            metrics.replayed.inc_by(partition.read_to().saturating_sub(before));
            more |= reached.more;
            if has_horizon && partition.has_come_to_end() {
                flow.at_end(partition.id());
            }
            if reached.records > 0 {
                flow.bound(Input::Events(partition.id()), reached.bound);
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

    fn events_topic(&self) -> Option<String> {
        Some(self.shared.start.as_ref()?.topics.events.name.clone())
    }

    fn epoch_lines(&self) -> u64 {
        self.shared.job.epoch_lines
    }

    /// Ends the open epoch here and opens the next.
    fn cut(&mut self) {
        let now = now_ms() as Epoch;
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

    /// Hands sealed epochs to the sink while it has room, and says how things stand; returns
    /// whether that was all.
    fn hand_on(&mut self) -> Result<bool, EngineError> {
        self.look_whether_complete();
        let mut is_time_to_say = false;
        let is_all = loop {
            let is_all = self.flow.hand_on(&mut self.dead_letters, self.output.sink())?;
            // A commit that begins makes room.
            is_time_to_say |= self.output.keep_up(false)?;
            if is_all || !self.output.sink().has_room() {
                break is_all;
            }
        };
        let frontier = self.flow.frontier();
        while self.unsealed.front().is_some_and(|(epoch, _)| frontier.has_sealed(*epoch)) {
            self.unsealed.pop_front();
        }
        if let Some(passed) = self.flow.let_go() {
            self.partitions.iter_mut().for_each(|partition| partition.let_go(passed));
        }
        self.tell();
        self.flow.rest(self.output.has_enough());
        if let (true, Some(readers)) = (is_time_to_say, &self.readers) {
            let held = self.output.held();
            let offset = |partition: &Partition| {
                let input = Input::Events(partition.id());
                let bound = held.get(&input)?;
                self.metrics.holds(input, bound.offset);
                let of_topic = self.shared.start.as_ref()?.topics.events.partitions;
                (partition.id().0 < of_topic).then_some(())?;
                Some((self.events_topic()?, partition.id().0, bound.offset))
            };
            let reference = held.get(&Input::Reference).filter(|_| self.reference.is_some());
            reference.into_iter().for_each(|b| self.metrics.holds(Input::Reference, b.offset));
            readers.say_offsets(self.partitions.iter().filter_map(offset));
        }
        Ok(is_all)
    }

    /// A worker that is asked to end while its start is not complete cuts an epoch short: from then
    /// on nothing goes out. Others hear of the end before they see such an epoch sealed, since it
    /// is said in that epoch.
    fn look_whether_complete(&mut self) {
        let Some(last) = self.completes else { return };
        if self.is_to_end() {
            self.completes = None;
            self.output.close();
        } else if self.flow.frontier().has_sealed(last) {
            self.completes = None;
            self.metrics.ready.set(1);
        }
    }

    fn tell(&mut self) {
        self.metrics.updates.inc_by(self.output.take_updates());
        self.metrics.met(self.flow.take_met());
        let state = self.flow.state();
        let WorkerMetrics { records, waiting, unsealed, sealed, .. } = &self.metrics;
        records.set(state.events() as i64);
        waiting.set(state.waiting() as i64);
        unsealed.set(self.unsealed.len() as i64);
        if let (true, Frontier::At(epoch)) = (self.local == 0, self.flow.frontier()) {
            sealed.set(epoch);
        }
        self.metrics.owes.set(state.owes().into());
        self.follow.metrics.see(self.local);
        drop(state);
        if let Output::Kafka(sink, _) = &mut self.output {
            self.metrics.committed.set(sink.committed());
            self.metrics.uncommitted.set(sink.uncommitted().0);
            for Committed { took, doubts, .. } in sink.take_commits() {
                self.metrics.commits.observe(took.as_secs_f64());
                self.metrics.doubts.inc_by(doubts);
            }
        }
    }
}
