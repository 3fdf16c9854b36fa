//! Both implementations of the dataflow behind one face: the fused operator, and stock differential.
//!
//! Shape: on one timely worker, events and statements of documents in, epoch by epoch; what each
//! sealed epoch changed in each view, as JSON, out.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use differential_dataflow::{ExchangeData, input::InputSession};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        InputHandle,
        operators::{Input, probe::Handle},
    },
    worker::Worker,
};
use tributary::{
    dataflow::{
        self, Addressed, Collection, CountsRow, Dedupe, Diff, Outbox, Spread, State, Verdict, stock,
    },
    reference::Claim,
    row::{Record, Row},
    sink::render::Renderer,
    source::{PartitionId, Place},
    spec::{Spec, ViewKind},
    time::Epoch,
};

/// Which implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Fused(Spread),
    Stock,
}

/// An update of a view: when, which view by name, which row as JSON, how often.
pub type Update = (Epoch, String, String, Diff);

/// One worker's part of a dataflow.
pub struct Side {
    spec: Arc<Spec>,
    renderer: Renderer,
    inputs: Inputs,
    counts: Captured<CountsRow>,
    probe: Handle<Epoch>,
    epoch: Epoch,
    /// Updates of sealed epochs.
    pub updates: Vec<Update>,
    /// Events whose key is taken.
    pub taken: Vec<(Epoch, Place)>,
}

type Captured<D> = Rc<RefCell<Vec<(D, Epoch, Diff)>>>;

enum Inputs {
    Fused {
        input: InputHandle<Epoch, CapacityContainerBuilder<Vec<Addressed>>>,
        outbox: Outbox,
        state: Rc<RefCell<State>>,
        dedupe: BTreeMap<PartitionId, Dedupe>,
    },
    Stock {
        events: InputSession<Epoch, stock::Event, Diff>,
        claims: InputSession<Epoch, Claim, Diff>,
        records: Vec<(usize, Captured<Record>)>,
        taken: Captured<Place>,
    },
}

impl Side {
    pub fn start(worker: &mut Worker, spec: &Arc<Spec>, which: Which) -> Side {
        let peers = worker.peers();
        let probe = Handle::new();
        let (inputs, counts) = worker.dataflow(|scope| match which {
            Which::Fused(spread) => {
                let (input, bundles) = scope.new_input();
                let state = Rc::new(RefCell::new(State::new(spec, true)));
                let counts = dataflow::build(bundles, Rc::clone(&state), spread);
                let outbox = Outbox::new(spec, peers);
                let dedupe = BTreeMap::new();
                let counts = capture(counts, &probe);
                (Inputs::Fused { input, outbox, state, dedupe }, counts)
            }
            Which::Stock => {
                let (mut events, mut claims) = (InputSession::new(), InputSession::new());
                let inputs = (events.to_collection(scope), claims.to_collection(scope));
                let views = stock::build(spec, inputs.0, inputs.1);
                let records = views.records.into_iter().enumerate();
                let records = records.filter_map(|(place, view)| Some((place, view?)));
                let records = records.map(|(place, view)| (place, capture(view, &probe))).collect();
                let taken = capture(views.taken, &probe);
                let counts = capture(views.counts, &probe);
                (Inputs::Stock { events, claims, records, taken }, counts)
            }
        });
        Side {
            renderer: Renderer::new(Arc::clone(spec)),
            spec: Arc::clone(spec),
            inputs,
            counts,
            probe,
            epoch: 0,
            updates: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// A decoded event.
    pub fn event(&mut self, place: Place, row: &[u8]) {
        match &mut self.inputs {
            Inputs::Fused { input, outbox, dedupe, .. } => {
                let dedupe = dedupe.entry(place.partition);
                match dedupe.or_insert_with(|| Dedupe::new(&self.spec)).judge(row, None) {
                    Verdict::Stands => {
                        outbox.event(row).into_iter().for_each(|bundle| input.send(bundle));
                    }
                    Verdict::Repeats => {}
                    Verdict::Taken => self.taken.push((self.epoch, place)),
                    Verdict::Behind => unreachable!("there is no horizon"),
                }
            }
            Inputs::Stock { events, .. } => {
                events.insert(stock::Event { place, row: Row::of_bytes(row) });
            }
        }
    }

    /// A claim that begins or ends.
    pub fn claim(&mut self, claim: Claim, diff: Diff) {
        match &mut self.inputs {
            Inputs::Fused { outbox, input, .. } => {
                outbox.claim(claim, diff).for_each(|bundle| input.send(bundle));
            }
            Inputs::Stock { claims, .. } => claims.update(claim, diff),
        }
    }

    /// Gives rows that wait a turn in the open epoch.
    pub fn call(&mut self) {
        if let Inputs::Fused { outbox, .. } = &mut self.inputs {
            outbox.call();
        }
    }

    /// Ends the open epoch and opens another.
    pub fn advance_to(&mut self, next: Epoch) {
        self.epoch = next;
        match &mut self.inputs {
            Inputs::Fused { input, outbox, .. } => {
                outbox.drain().for_each(|bundle| input.send(bundle));
                input.advance_to(next);
                input.flush();
            }
            Inputs::Stock { events, claims, .. } => {
                events.advance_to(next);
                claims.advance_to(next);
                events.flush();
                claims.flush();
            }
        }
    }

    /// No more comes.
    pub fn close(&mut self) {
        match &mut self.inputs {
            Inputs::Fused { input, .. } => drop(std::mem::replace(input, InputHandle::new())),
            Inputs::Stock { events, claims, .. } => {
                drop(std::mem::replace(events, InputSession::new()));
                drop(std::mem::replace(claims, InputSession::new()));
            }
        }
    }

    /// Whether an epoch before `epoch` can still bring something.
    pub fn is_behind(&self, epoch: Epoch) -> bool {
        self.probe.less_than(&epoch)
    }

    /// Whether anything can still come.
    pub fn is_done(&self) -> bool {
        self.probe.done()
    }

    /// How many rows of this worker wait for corrections.
    pub fn waiting_rows(&self) -> u64 {
        match &self.inputs {
            Inputs::Fused { state, .. } => state.borrow().waiting_rows(),
            Inputs::Stock { .. } => 0,
        }
    }

    /// Moves what came to `updates` and `taken`.
    pub fn collect(&mut self) {
        let Side { spec, renderer, inputs, counts, probe, updates, taken: all_taken, .. } = self;
        let view_name = |place: usize| spec.views[place].name.clone();
        let json = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = Vec::new();
            write(&mut bytes);
            String::from_utf8(bytes).expect("JSON is UTF-8")
        };
        match inputs {
            Inputs::Fused { state, .. } => {
                let is_sealed = |epoch: &Epoch| !probe.less_equal(epoch);
                let mut state = state.borrow_mut();
                while let Some(epoch) = state.first_recorded().filter(is_sealed) {
                    for change in state.changes(epoch) {
                        let enriched =
                            |view: &usize| matches!(spec.views[*view].kind, ViewKind::Enriched);
                        let views: Vec<usize> = match change.latest {
                            Some(view) => vec![usize::from(view.0)],
                            None => (0..spec.views.len()).filter(enriched).collect(),
                        };
                        for view in views {
                            let name = view_name(view);
                            if let Some(before) = &change.before {
                                let row = json(&|out| before.json(out));
                                // What is put together from fragments is what one looks at.
                                assert_eq!(row, json(&|out| renderer.record(before, out)));
                                updates.push((epoch, name.clone(), row, -1));
                            }
                            let row = json(&|out| change.after.json(out));
                            assert_eq!(row, json(&|out| renderer.record(&change.after, out)));
                            updates.push((epoch, name, row, 1));
                        }
                    }
                    state.release(epoch);
                }
            }
            Inputs::Stock { records, taken, .. } => {
                for (place, captured) in records {
                    for (record, epoch, diff) in captured.take() {
                        let row = json(&|out| renderer.record(&record, out));
                        updates.push((epoch, view_name(*place), row, diff));
                    }
                }
                all_taken.extend(taken.take().into_iter().map(|(place, epoch, _)| (epoch, place)));
            }
        }
        for (row, epoch, diff) in counts.take() {
            let name = view_name(usize::from(row.view.0));
            updates.push((epoch, name, json(&|out| renderer.counts(&row, out)), diff));
        }
    }
}

fn capture<D: ExchangeData>(collection: Collection<'_, D>, probe: &Handle<Epoch>) -> Captured<D> {
    let captured = Captured::default();
    let keep = Rc::clone(&captured);
    let keep = move |update: &(D, Epoch, Diff)| keep.borrow_mut().push(update.clone());
    collection.inspect(keep).probe_with(probe);
    captured
}
