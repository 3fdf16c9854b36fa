//! What benches share: a load, the engine's parts as one worker runs them, and what they cost.

use std::{cell::RefCell, fs, path::Path, process::Command, rc::Rc, sync::Arc, time::Duration};

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
    dataflow::{self, Addressed, Dedupe, Outbox, Spread, State, Verdict},
    reference::{Claim, Documents, Projector, document},
    row::Rows,
    source::Decoder,
    spec::Spec,
    time::Epoch,
};

/// Events of an epoch, where it is not cut by time.
pub const EPOCH_EVENTS: usize = 1000;

/// A university in memory.
pub struct Load {
    pub lines: Vec<Vec<u8>>,
    pub people: Vec<Vec<u8>>,
}

/// The attendance dataflow, with or without its counts.
pub fn spec(with_counts: bool) -> Arc<Spec> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows/attendance.toml");
    let mut spec = Spec::load(&path).expect("the spec is sound");
    if !with_counts {
        spec.views.truncate(2);
    }
    Arc::new(spec)
}

/// Students of a usual load.
pub const STUDENTS: usize = 12_000;

pub fn load(events: usize, students: usize) -> Load {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let status = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args(["generate", folder.path().to_str().expect("UTF-8"), "--seed", "5", "--faults", "0"])
        .args(["--students", &students.to_string(), "--teachers", "434"])
        .args(["--events", &events.to_string()])
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

/// The events as rows, by epoch.
pub fn decoded(spec: &Arc<Spec>, lines: &[Vec<u8>]) -> Vec<Rows> {
    let mut decoder = Decoder::new(Arc::clone(spec));
    let epoch = |lines: &[Vec<u8>]| {
        let mut rows = Rows::default();
        for line in lines {
            rows.push(decoder.decode(line).expect("no faults were generated"));
        }
        rows
    };
    lines.chunks(EPOCH_EVENTS).map(epoch).collect()
}

pub fn worker() -> Worker {
    Worker::new(timely::WorkerConfig::default(), Allocator::Thread(Thread::default()), None)
}

/// Claims of all documents; `edit` changes their lines first.
pub fn claims(
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
pub struct Engine {
    worker: Worker,
    input: InputHandle<Epoch, CapacityContainerBuilder<Vec<Addressed>>>,
    outbox: Outbox,
    dedupe: Dedupe,
    pub state: Rc<RefCell<State>>,
    probe: Handle<Epoch>,
    documents: Documents,
    pub epoch: Epoch,
}

impl Engine {
    /// With all documents known.
    pub fn start(spec: &Arc<Spec>, people: &[Vec<u8>], spread: Spread) -> Engine {
        let mut worker = worker();
        let state = Rc::new(RefCell::new(State::new(spec, true)));
        let probe = Handle::new();
        let input = worker.dataflow(|scope| {
            let (input, bundles) = scope.new_input();
            let counts = dataflow::build(bundles, Rc::clone(&state), spread);
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

    /// All documents, or some of them, as they are or changed.
    pub fn people(&mut self, spec: &Arc<Spec>, people: &[Vec<u8>], edit: bool) {
        let Engine { documents, outbox, input, .. } = self;
        claims(spec, people, documents, edit, &mut |claim, diff| {
            outbox.claim(claim, diff).for_each(|bundle| input.send(bundle));
        });
    }

    /// An event of the open epoch.
    pub fn event(&mut self, row: &[u8]) {
        if self.dedupe.judge(row, None) == Verdict::Stands {
            self.outbox.event(row).into_iter().for_each(|bundle| self.input.send(bundle));
        }
    }

    /// One epoch.
    pub fn epoch<'r>(
        &mut self,
        rows: impl Iterator<Item = &'r [u8]>,
        sink: &mut dyn FnMut(&State, Epoch),
    ) {
        rows.for_each(|row| self.event(row));
        self.seal(sink);
    }

    /// Ends the open epoch, waits until it is sealed and hands out what sealed epochs changed.
    pub fn seal(&mut self, sink: &mut dyn FnMut(&State, Epoch)) {
        // Rows that wait have a turn, whether anything else came or not.
        self.outbox.call();
        self.outbox.drain().for_each(|bundle| self.input.send(bundle));
        self.epoch += 1;
        self.input.advance_to(self.epoch);
        self.input.flush();
        while self.probe.less_than(&self.epoch) {
            self.worker.step();
        }
        let mut state = self.state.borrow_mut();
        while let Some(epoch) = state.first_recorded() {
            sink(&state, epoch);
            state.release(epoch);
        }
    }
}

/// For who does not look at changes.
pub fn no_json(_state: &State, _epoch: Epoch) {}

/// CPU time of this process.
pub fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("usage can be asked");
    let time = |t: nix::sys::time::TimeVal| {
        Duration::from_secs(t.tv_sec() as u64) + Duration::from_micros(t.tv_usec() as u64)
    };
    time(usage.user_time()) + time(usage.system_time())
}
