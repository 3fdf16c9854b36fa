//! The dataflow as a worker's loop sees it: what is read goes in, what stands at the end comes out.
//!
//! Shape: events that stand and claims in, epoch by epoch; sealed epochs to a sink, or at the end
//! what this worker's views hold.
//!
//! Not here: reading (`worker`). `FusedFlow` is what runs; `StockFlow` is for comparison.

use std::{
    cell::{Ref, RefCell},
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
};

use differential_dataflow::input::InputSession;
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        InputHandle,
        operators::{Input as _, probe::Handle},
    },
    worker::Worker,
};

use super::capture::Capture;
use crate::{
    dataflow::{
        self, Addressed, CountsRow, Diff, Met, Outbox, Resume, Spread, State, Touched, stock,
        worker_of,
    },
    reference::Claim,
    row::{Key, Record, Row},
    sink::{Contents, Records, Sealed, Sink, SinkError},
    source::{Bound, DeadLetter, Input, PartitionId, Place},
    spec::{ShardId, Spec},
    time::{Epoch, Frontier, Moment},
};

/// A dataflow on one worker.
pub(super) trait Flow {
    /// An event that stands, in the open epoch.
    fn event(&mut self, place: Place, row: &[u8]);

    /// A document's claim begins (+1) or ends (-1) in the open epoch.
    fn claim(&mut self, claim: Claim, diff: Diff);

    /// Ends the open epoch here and opens the next.
    fn advance_to(&mut self, next: Epoch);

    /// No more comes from here.
    fn close(&mut self);

    /// How far it is, in all workers.
    fn frontier(&self) -> Frontier;

    /// Takes what sealed epochs brought.
    fn settle(&mut self);

    /// What this worker's views hold, once all is sealed.
    fn into_contents(self) -> Contents;
}

/// The shard of a group's row.
fn shard_of_counts(spec: &Spec, row: &CountsRow) -> ShardId {
    spec.shard_of(&Key::of(row.group.iter().map(|value| value.as_ref().map(|v| v.borrowed()))))
}

/// The fused operator and the counts behind it.
pub(super) struct FusedFlow {
    spec: Arc<Spec>,
    input: InputHandle<Epoch, CapacityContainerBuilder<Vec<Addressed>>>,
    /// What the open epoch holds so far.
    outbox: Outbox,
    state: Rc<RefCell<State>>,
    captured: Capture<CountsRow>,
    counts: HashMap<CountsRow, Diff>,
    probe: Handle<Epoch>,
}

impl FusedFlow {
    /// With `record`, what changes is kept until it is handed on.
    pub(super) fn build(
        worker: &mut Worker,
        spec: &Arc<Spec>,
        spread: Spread,
        record: bool,
    ) -> FusedFlow {
        let workers = worker.peers();
        let state = Rc::new(RefCell::new(State::new(spec, record)));
        let probe = Handle::new();
        let (input, captured) = worker.dataflow_named(&spec.name, |scope| {
            let (input, bundles) = scope.new_input();
            let counts = dataflow::build(bundles, Rc::clone(&state), spread);
            let spec = Arc::clone(spec);
            let owner = move |row: &CountsRow| worker_of(shard_of_counts(&spec, row), workers);
            (input, Capture::of(counts, owner, &probe))
        });
        FusedFlow {
            spec: Arc::clone(spec),
            input,
            outbox: Outbox::new(spec, workers),
            state,
            captured,
            counts: HashMap::new(),
            probe,
        }
    }

    /// Sends what the open epoch holds so far.
    fn send(&mut self) {
        for bundle in self.outbox.drain() {
            self.input.send(bundle);
        }
    }

    /// Says up to where the open epoch holds an input.
    pub(super) fn bound(&mut self, input: Input, bound: Bound) {
        self.outbox.bound(input, bound);
    }

    /// Says that everything in a partition was read.
    pub(super) fn at_end(&mut self, partition: PartitionId) {
        self.outbox.at_end(partition);
    }

    /// Lets events with one key meet though they came by several partitions.
    pub(super) fn dedupe_by_shard(&mut self) {
        self.state.borrow_mut().dedupe_by_shard();
    }

    /// How many copies that came by several partitions met since this was asked last.
    pub(super) fn take_met(&mut self) -> Met {
        self.state.borrow_mut().take_met()
    }

    /// Leaves out the counts, of which nothing was computed yet.
    pub(super) fn leave_out_counts(&mut self) {
        self.state.borrow_mut().leave_out_counts();
    }

    /// Lets go from now on what is older than the spec's horizon.
    pub(super) fn keep_within_horizon(&mut self, partitions: u32) {
        self.state.borrow_mut().keep_within_horizon(partitions);
    }

    /// Lets go of what is older; returns the moment before which others may do so too.
    pub(super) fn let_go(&mut self) -> Option<Moment> {
        self.state.borrow_mut().let_go()
    }

    /// Makes all workers hear of the open epoch.
    pub(super) fn call(&mut self) {
        self.outbox.call();
    }

    /// Asks all workers to end.
    pub(super) fn end(&mut self) {
        self.outbox.end();
    }

    /// Begins as an earlier run left off.
    pub(super) fn resume(&mut self, resume: Resume) {
        self.state.borrow_mut().resume(resume);
    }

    /// Says that a replayed part of the reference log touched a key.
    pub(super) fn touch(&mut self, touched: Touched) {
        self.outbox.touch(touched);
    }

    /// What this worker holds.
    pub(super) fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    /// Whether rows whose corrections are spread are to wait.
    pub(super) fn rest(&self, is_resting: bool) {
        self.state.borrow_mut().rest(is_resting);
    }

    /// Hands sealed epochs to a sink while it has room, with the dead letters that were read in
    /// each; returns whether that was all.
    pub(super) fn hand_on(
        &mut self,
        dead_letters: &mut BTreeMap<Epoch, Vec<DeadLetter>>,
        sink: &mut dyn Sink,
    ) -> Result<bool, SinkError> {
        let frontier = frontier(&self.probe);
        loop {
            let state = self.state.borrow();
            let of_letters = dead_letters.first_key_value().map(|(epoch, _)| *epoch);
            let firsts = [state.first_recorded(), self.captured.first(), of_letters];
            let first = firsts.into_iter().flatten().min();
            let Some(epoch) = first.filter(|epoch| frontier.has_sealed(*epoch)) else { break };
            if !sink.has_room() {
                return Ok(false);
            }
            let progress = state.progress(epoch);
            sink.write(Sealed {
                epoch,
                records: &state,
                counts: &self.captured.take(epoch),
                dead_letters: &dead_letters.remove(&epoch).unwrap_or_default(),
                after: progress,
            })?;
            drop(state);
            self.state.borrow_mut().release(epoch);
        }
        sink.advance(frontier)?;
        Ok(true)
    }
}

impl Flow for FusedFlow {
    fn event(&mut self, _place: Place, row: &[u8]) {
        if let Some(bundle) = self.outbox.event(row) {
            self.input.send(bundle);
        }
    }

    fn claim(&mut self, claim: Claim, diff: Diff) {
        self.outbox.claim(claim, diff).for_each(|bundle| self.input.send(bundle));
    }

    fn advance_to(&mut self, next: Epoch) {
        self.send();
        self.input.advance_to(next);
        self.input.flush();
    }

    fn close(&mut self) {
        self.send();
        std::mem::replace(&mut self.input, InputHandle::new()).close();
    }

    fn frontier(&self) -> Frontier {
        frontier(&self.probe)
    }

    fn settle(&mut self) {
        settle(&self.captured, frontier(&self.probe), &mut self.counts);
    }

    fn into_contents(self) -> Contents {
        let state = self.state.replace(State::new(&self.spec, false));
        Contents { records: Records::Fused(Box::new(state)), counts: self.counts }
    }
}

fn frontier(probe: &Handle<Epoch>) -> Frontier {
    probe.with_frontier(|frontier| frontier.first().copied().map_or(Frontier::End, Frontier::At))
}

/// Adds the updates of sealed epochs to what stands.
fn settle<D>(captured: &Capture<D>, frontier: Frontier, standing: &mut HashMap<D, Diff>)
where
    D: differential_dataflow::ExchangeData + std::hash::Hash,
{
    while let Some(epoch) = captured.first().filter(|epoch| frontier.has_sealed(*epoch)) {
        for (row, diff) in captured.take(epoch) {
            let times = standing.entry(row.clone()).or_default();
            *times += diff;
            assert!(*times >= 0, "a row is taken back only as often as it went out");
            if *times == 0 {
                standing.remove(&row);
            }
        }
    }
}

/// The stock dataflow.
pub(super) struct StockFlow {
    events: InputSession<Epoch, stock::Event, Diff>,
    claims: InputSession<Epoch, Claim, Diff>,
    /// By `ViewId`; `None` for counts.
    captured: Vec<Option<Capture<Record>>>,
    captured_counts: Capture<CountsRow>,
    records: Vec<HashMap<Record, Diff>>,
    counts: HashMap<CountsRow, Diff>,
    probe: Handle<Epoch>,
}

impl StockFlow {
    pub(super) fn build(worker: &mut Worker, spec: &Arc<Spec>) -> StockFlow {
        let workers = worker.peers();
        let (mut events, mut claims) = (InputSession::new(), InputSession::new());
        let probe = Handle::new();
        let (captured, captured_counts) = worker.dataflow_named(&spec.name, |scope| {
            let views =
                stock::build(spec, events.to_collection(scope), claims.to_collection(scope));
            let records = views.records.into_iter().map(|view| {
                let spec = Arc::clone(spec);
                let owner = move |record: &Record| {
                    use crate::row::Joined;
                    worker_of(spec.shard_of_event(record.event(), &mut Vec::new()), workers)
                };
                view.map(|view| Capture::of(view, owner, &probe))
            });
            let records = records.collect();
            let spec = Arc::clone(spec);
            let owner = move |row: &CountsRow| worker_of(shard_of_counts(&spec, row), workers);
            (records, Capture::of(views.counts, owner, &probe))
        });
        StockFlow {
            events,
            claims,
            captured,
            captured_counts,
            records: vec![HashMap::new(); spec.views.len()],
            counts: HashMap::new(),
            probe,
        }
    }
}

impl Flow for StockFlow {
    fn event(&mut self, place: Place, row: &[u8]) {
        self.events.insert(stock::Event { place, row: Row::of_bytes(row) });
    }

    fn claim(&mut self, claim: Claim, diff: Diff) {
        self.claims.update(claim, diff);
    }

    fn advance_to(&mut self, next: Epoch) {
        self.events.advance_to(next);
        self.claims.advance_to(next);
        self.events.flush();
        self.claims.flush();
    }

    fn close(&mut self) {
        std::mem::replace(&mut self.events, InputSession::new()).close();
        std::mem::replace(&mut self.claims, InputSession::new()).close();
    }

    fn frontier(&self) -> Frontier {
        frontier(&self.probe)
    }

    fn settle(&mut self) {
        let frontier = frontier(&self.probe);
        for (captured, standing) in self.captured.iter().zip(&mut self.records) {
            if let Some(captured) = captured {
                settle(captured, frontier, standing);
            }
        }
        settle(&self.captured_counts, frontier, &mut self.counts);
    }

    fn into_contents(self) -> Contents {
        Contents { records: Records::Stock(self.records), counts: self.counts }
    }
}
