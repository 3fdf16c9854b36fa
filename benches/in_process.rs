//! The engine's parts in this process, on one worker: CPU an event, and what a storm costs.
//!
//! ```text
//! cargo bench --bench in_process [-- --events 1000000 --runs 5 --only WORD]
//! ```
//!
//! Shape: a generated university (12,000 students, 434 teachers, no faults) in memory; 1,000 events
//! an epoch. Each figure is the median of its runs; every run begins with nothing held. CPU is that
//! of the process: timely has no other thread here. Beside it stands the stock dataflow, over fewer
//! events, since it needs many times as long.

use std::{cell::RefCell, fs, path::Path, process::Command, rc::Rc, sync::Arc, time::Duration};

use differential_dataflow::input::InputSession;
use nix::sys::resource::{UsageWho, getrusage};
use timely::{
    communication::allocator::{Allocator, thread::Thread},
    container::CapacityContainerBuilder,
    dataflow::{
        InputHandle,
        operators::{Input, probe::Handle, probe::Probe},
    },
    worker::Worker,
};
use tributary::{
    dataflow::{self, Addressed, Dedupe, Outbox, Spread, State, Verdict, stock},
    reference::{Claim, Documents, Projector, document},
    row::{Row, Rows},
    source::{Decoder, PartitionId, Place},
    spec::Spec,
    time::Epoch,
};

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of an epoch.
const EPOCH_EVENTS: usize = 1000;
/// Events over which the stock dataflow is measured.
const STOCK_EVENTS: usize = 100_000;

struct Load {
    lines: Vec<Vec<u8>>,
    people: Vec<Vec<u8>>,
}

fn main() {
    let (mut events, mut runs, mut only) = (1_000_000, 5, String::new());
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        let number = || value.parse().expect("a number");
        match name.as_str() {
            "--events" => events = number(),
            "--runs" => runs = number(),
            "--only" => only = value,
            _ => panic!("{name} is not known; options: --events N --runs N --only WORD"),
        }
    }
    let load = load(events);
    let records = spec(false);
    let counts = spec(true);
    println!("{} events, medians of {runs}, CPU us an event", load.lines.len());
    row(&only, "decode", runs, || decode(&records, &load));
    row(&only, "dedupe, enrich, latest", runs, || {
        let rows = decoded(&records, &load);
        let mut engine = Engine::start(&records, &load.people);
        measured(rows.len(), || {
            rows.iter().for_each(|rows| engine.epoch(rows.iter(), &mut no_json))
        })
    });
    let mut rendered = 0;
    row(&only, "decode to enriched JSON", runs, || {
        let mut decoder = Decoder::new(Arc::clone(&records));
        let mut engine = Engine::start(&records, &load.people);
        let mut json = Vec::new();
        measured(load.lines.len() / EPOCH_EVENTS, || {
            for lines in load.lines.chunks(EPOCH_EVENTS) {
                json.clear();
                for line in lines {
                    engine.event(decoder.decode(line).expect("no faults were generated"));
                }
                engine.seal(&mut |state, epoch| {
                    let changes = state.changes(epoch).filter(|change| change.latest.is_none());
                    changes.for_each(|change| change.after.json(&mut json));
                });
                rendered += json.len();
            }
        })
    });
    row(&only, "the same, with counts", runs, || {
        let mut decoder = Decoder::new(Arc::clone(&counts));
        let mut engine = Engine::start(&counts, &load.people);
        let mut json = Vec::new();
        measured(load.lines.len() / EPOCH_EVENTS, || {
            for lines in load.lines.chunks(EPOCH_EVENTS) {
                json.clear();
                for line in lines {
                    engine.event(decoder.decode(line).expect("no faults were generated"));
                }
                engine.seal(&mut |state, epoch| {
                    let changes = state.changes(epoch).filter(|change| change.latest.is_none());
                    changes.for_each(|change| change.after.json(&mut json));
                });
            }
        })
    });
    let few = Load {
        lines: load.lines[..STOCK_EVENTS.min(load.lines.len())].to_vec(),
        people: load.people.clone(),
    };
    row(&only, "stock: dedupe, enrich, latest", runs.min(3), || stock(&records, &few));
    if only.is_empty() {
        storm(&records, &load);
    }
    println!("{} MB of JSON were made", rendered / runs.max(1) / 1_000_000);
}

fn no_json(_state: &State, _epoch: Epoch) {}

/// CPU of what is done, an event, of so many epochs.
fn measured(epochs: usize, work: impl FnOnce()) -> f64 {
    let before = cpu();
    work();
    (cpu() - before).as_secs_f64() * 1e6 / (epochs * EPOCH_EVENTS) as f64
}

fn row(only: &str, what: &str, runs: usize, mut measure: impl FnMut() -> f64) {
    if !what.contains(only) {
        return;
    }
    let mut figures: Vec<f64> = (0..runs).map(|_| measure()).collect();
    figures.sort_by(f64::total_cmp);
    let (least, most) = (figures[0], figures[figures.len() - 1]);
    println!("{what:<32} {:>7.3}   ({least:.3} to {most:.3})", figures[figures.len() / 2]);
}

/// The attendance dataflow, with or without its counts.
fn spec(with_counts: bool) -> Arc<Spec> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows/attendance.toml");
    let mut spec = Spec::load(&path).expect("the spec is sound");
    if !with_counts {
        spec.views.truncate(2);
    }
    Arc::new(spec)
}

fn load(events: usize) -> Load {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let status = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args(["generate", folder.path().to_str().expect("UTF-8"), "--seed", "5", "--faults", "0"])
        .args(["--students", "12000", "--teachers", "434", "--events", &events.to_string()])
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.expect("the program can be started").success());
    let lines = |name| {
        let text = fs::read(folder.path().join(name)).expect("it was generated");
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let mut lines_of_events = lines("events.ndjson");
    lines_of_events.truncate(lines_of_events.len() / EPOCH_EVENTS * EPOCH_EVENTS);
    Load { lines: lines_of_events, people: lines("people.ndjson") }
}

fn decode(spec: &Arc<Spec>, load: &Load) -> f64 {
    let mut decoder = Decoder::new(Arc::clone(spec));
    let mut bytes = 0;
    let took = measured(load.lines.len() / EPOCH_EVENTS, || {
        bytes = load.lines.iter().map(|line| decoder.decode(line).map_or(0, <[u8]>::len)).sum();
    });
    assert!(bytes > 0);
    took
}

/// The events as rows, by epoch.
fn decoded(spec: &Arc<Spec>, load: &Load) -> Vec<Rows> {
    let mut decoder = Decoder::new(Arc::clone(spec));
    let epoch = |lines: &[Vec<u8>]| {
        let mut rows = Rows::default();
        for line in lines {
            rows.push(decoder.decode(line).expect("no faults were generated"));
        }
        rows
    };
    load.lines.chunks(EPOCH_EVENTS).map(epoch).collect()
}

fn worker() -> Worker {
    Worker::new(timely::WorkerConfig::default(), Allocator::Thread(Thread::default()), None)
}

/// Claims of all documents; `edit` changes their lines first.
fn claims(
    spec: &Arc<Spec>,
    people: &[Vec<u8>],
    documents: &mut Documents,
    edit: bool,
    take: &mut dyn FnMut(Claim, isize),
) {
    let projector = Projector::new(Arc::clone(spec));
    for line in people {
        let text = String::from_utf8_lossy(line);
        let text = if edit {
            text.replace("\"short_title\":\"", "\"short_title\":\"N")
        } else {
            text.into()
        };
        if let Ok(line) = document::read(text.as_bytes(), &projector) {
            documents.apply(line.statement, take);
        }
    }
}

/// The fused dataflow on one worker, with all documents known.
struct Engine {
    worker: Worker,
    input: InputHandle<Epoch, CapacityContainerBuilder<Vec<Addressed>>>,
    outbox: Outbox,
    dedupe: Dedupe,
    state: Rc<RefCell<State>>,
    probe: Handle<Epoch>,
    documents: Documents,
    epoch: Epoch,
}

impl Engine {
    fn start(spec: &Arc<Spec>, people: &[Vec<u8>]) -> Engine {
        let mut worker = worker();
        let state = Rc::new(RefCell::new(State::new(spec, true)));
        let probe = Handle::new();
        let input = worker.dataflow(|scope| {
            let (input, bundles) = scope.new_input();
            let counts = dataflow::build(bundles, Rc::clone(&state), Spread::NONE);
            counts.inner.probe_with(&probe);
            input
        });
        let (outbox, dedupe) = (Outbox::new(spec, 1), Dedupe::new(spec));
        let documents = Documents::default();
        let mut engine =
            Engine { worker, input, outbox, dedupe, state, probe, documents, epoch: 0 };
        engine.people(spec, people, false);
        engine.seal(&mut no_json);
        engine
    }

    fn people(&mut self, spec: &Arc<Spec>, people: &[Vec<u8>], edit: bool) {
        let Engine { documents, outbox, .. } = self;
        claims(spec, people, documents, edit, &mut |claim, diff| outbox.claim(claim, diff));
    }

    fn event(&mut self, row: &[u8]) {
        if self.dedupe.judge(row) == Verdict::Stands {
            self.outbox.event(row).into_iter().for_each(|bundle| self.input.send(bundle));
        }
    }

    fn epoch<'r>(
        &mut self,
        rows: impl Iterator<Item = &'r [u8]>,
        sink: &mut dyn FnMut(&State, Epoch),
    ) {
        rows.for_each(|row| self.event(row));
        self.seal(sink);
    }

    fn seal(&mut self, sink: &mut dyn FnMut(&State, Epoch)) {
        self.outbox.drain().for_each(|bundle| self.input.send(bundle));
        self.epoch += 1;
        self.input.advance_to(self.epoch);
        self.input.flush();
        while self.probe.less_than(&self.epoch) {
            self.worker.step();
        }
        let mut state = self.state.borrow_mut();
        while let Some(epoch) = state.first_recorded(Some(self.epoch)) {
            sink(&state, epoch);
            state.release(epoch);
        }
    }
}

fn stock(spec: &Arc<Spec>, load: &Load) -> f64 {
    let rows = decoded(spec, load);
    let mut worker = worker();
    let (mut events, mut documents) = (InputSession::new(), InputSession::new());
    let probe = Handle::new();
    worker.dataflow(|scope| {
        let views = stock::build(spec, events.to_collection(scope), documents.to_collection(scope));
        for view in views.records.into_iter().flatten() {
            view.inner.probe_with(&probe);
        }
    });
    claims(spec, &load.people, &mut Documents::default(), false, &mut |claim, diff| {
        documents.update(claim, diff)
    });
    let (mut epoch, mut offset) = (0, 0);
    measured(rows.len(), || {
        for rows in &rows {
            for row in rows.iter() {
                let place = Place { partition: PartitionId(0), offset };
                events.insert(stock::Event { place, row: Row::of_bytes(row) });
                offset += 1;
            }
            epoch += 1;
            events.advance_to(epoch);
            documents.advance_to(epoch);
            events.flush();
            documents.flush();
            while probe.less_than(&epoch) {
                worker.step();
            }
        }
    })
}

/// All students change at once.
fn storm(spec: &Arc<Spec>, load: &Load) {
    let rows = decoded(spec, load);
    let mut engine = Engine::start(spec, &load.people);
    rows.iter().for_each(|rows| engine.epoch(rows.iter(), &mut no_json));
    let (held, before) = (resident(), cpu());
    engine.people(spec, &load.people, true);
    let read = cpu();
    let mut corrected = 0;
    engine.seal(&mut |state, epoch| corrected = state.changes(epoch).count());
    let (done, after) = (cpu(), resident());
    println!(
        "storm: {corrected} changes; documents read in {:.3} s, corrected in {:.3} s of CPU; {} MB \
         held before, {} MB more after",
        (read - before).as_secs_f64(),
        (done - read).as_secs_f64(),
        held >> 20,
        after.saturating_sub(held) >> 20,
    );
}

/// CPU time of this process.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("usage can be asked");
    let time = |t: nix::sys::time::TimeVal| {
        Duration::from_secs(t.tv_sec() as u64) + Duration::from_micros(t.tv_usec() as u64)
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// Bytes of memory that this process holds now.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}
