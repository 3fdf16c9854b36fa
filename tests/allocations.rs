//! No allocation an event once things are in their steady state: counted, not timed.
//!
//! Shape: a university's events through decode, dedupe, the fused operator and JSON, on one worker.
//! What an epoch, a chunk of rows or a growing index needs is spread over many events, so the count
//! an event is far below one; a single allocation in the path of every event would be one.
//!
//! A binary of its own, since an allocator is the whole program's.

#![allow(clippy::unwrap_used)]

use std::{cell::RefCell, fs, path::Path, process::Command, rc::Rc, sync::Arc};

use timely::{
    communication::allocator::{Allocator, thread::Thread},
    dataflow::{
        InputHandle,
        operators::{Input, probe::Handle, probe::Probe},
    },
    worker::Worker,
};
use tributary::{
    dataflow::{self, Dedupe, Outbox, Spread, State, Verdict},
    reference::{Documents, Projector, document},
    source::Decoder,
    spec::{Spec, ViewKind},
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const EPOCH_EVENTS: usize = 1000;

#[test]
fn events_allocate_nothing_in_the_steady_state() {
    let folder = tempfile::tempdir().unwrap();
    let generated = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args(["generate", folder.path().to_str().unwrap(), "--events", "60000", "--seed", "3"])
        .args(["--students", "500", "--faults", "0"])
        .output();
    assert!(generated.unwrap().status.success());
    let read = |name| fs::read(folder.path().join(name)).unwrap();
    let (events, people) = (read("events.ndjson"), read("people.ndjson"));
    let events: Vec<&[u8]> = events.split(|byte| *byte == b'\n').collect();

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows/attendance.toml");
    let mut spec = Spec::load(&path).unwrap();
    // Counts allocate a group and an epoch; here it is about every event.
    spec.views.retain(|view| !matches!(view.kind, ViewKind::Counts { .. }));
    let spec = Arc::new(spec);
    let allocator = Allocator::Thread(Thread::default());
    let mut worker = Worker::new(timely::WorkerConfig::default(), allocator, None);
    let state = Rc::new(RefCell::new(State::new(&spec, true)));
    let probe = Handle::new();
    let mut input: InputHandle<_, _> = worker.dataflow(|scope| {
        let (input, bundles) = scope.new_input();
        let counts = dataflow::build(bundles, Rc::clone(&state), Spread::NONE);
        counts.inner.probe_with(&probe);
        input
    });
    let (mut outbox, mut dedupe) = (Outbox::new(&spec, 1), Dedupe::new(&spec));
    let (projector, mut documents) = (Projector::new(Arc::clone(&spec)), Documents::default());
    for line in people.split(|byte| *byte == b'\n') {
        if let Ok(line) = document::read(line, &projector) {
            documents.apply(line.statement, &mut |claim, diff| {
                outbox.claim(claim, diff).for_each(|bundle| input.send(bundle));
            });
        }
    }
    let mut decoder = Decoder::new(Arc::clone(&spec));
    let (mut json, mut made) = (Vec::new(), 0);
    let mut run = |from: usize, to: usize| {
        for (place, lines) in events[from..to].chunks(EPOCH_EVENTS).enumerate() {
            json.clear();
            for row in lines.iter().filter(|line| !line.is_empty()) {
                let Ok(row) = decoder.decode(row) else { continue };
                if dedupe.judge(row, None) == Verdict::Stands {
                    outbox.event(row).into_iter().for_each(|bundle| input.send(bundle));
                }
            }
            outbox.drain().for_each(|bundle| input.send(bundle));
            let epoch = (from / EPOCH_EVENTS + place + 1) as u64;
            input.advance_to(epoch);
            input.flush();
            while probe.less_than(&epoch) {
                worker.step();
            }
            let mut state = state.borrow_mut();
            while let Some(sealed) = state.first_recorded() {
                state.changes(sealed).for_each(|change| {
                    change.after.json(&mut json);
                    made += 1;
                });
                state.release(sealed);
            }
        }
        made
    };
    let _profiler = dhat::Profiler::builder().testing().build();
    run(0, 40_000);
    let before = dhat::HeapStats::get();
    let changes = run(40_000, 60_000);
    let after = dhat::HeapStats::get();
    let blocks = after.total_blocks - before.total_blocks;
    println!("{blocks} allocations for 20,000 events, {changes} changes in all");
    assert!(changes > 60_000, "events were kept, enriched and ranked");
    let most = 20_000 / 4;
    assert!(blocks < most, "{blocks} allocations for 20,000 events");
}
