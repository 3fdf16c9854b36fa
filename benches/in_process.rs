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

#[allow(dead_code)]
mod support;

use std::sync::Arc;

use differential_dataflow::input::InputSession;
use support::{
    EPOCH_EVENTS, Engine, Load, STUDENTS, claims, cpu, decoded, load, no_json, spec, worker,
};
use timely::dataflow::operators::probe::{Handle, Probe};
use tributary::{
    dataflow::{Spread, stock},
    process::resident_bytes,
    reference::Documents,
    row::Row,
    source::{Decoder, PartitionId, Place},
    spec::Spec,
};

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The default of the program.
const SPREAD: Spread = Spread { atomic_max: 20_000, fuel: 250 };
/// Events over which the stock dataflow is measured.
const STOCK_EVENTS: usize = 100_000;

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
    let load = load(events, STUDENTS);
    let records = spec(false);
    let counts = spec(true);
    println!("{} events, medians of {runs}, CPU us an event", load.lines.len());
    row(&only, "decode", runs, || decode(&records, &load));
    row(&only, "dedupe, enrich, latest", runs, || state(&records, &load));
    let mut made = 0;
    row(&only, "decode to enriched JSON", runs, || to_json(&records, &load, &mut made));
    row(&only, "the same, with counts", runs, || to_json(&counts, &load, &mut made));
    let few = Load {
        lines: load.lines[..STOCK_EVENTS.min(load.lines.len())].to_vec(),
        people: load.people.clone(),
    };
    row(&only, "stock: dedupe, enrich, latest", runs.min(3), || stock(&records, &few));
    if "hot".contains(&only) {
        hot(&records, &load, runs);
    }
    if "wide".contains(&only) {
        wide(&records, events, runs);
    }
    if "storm".contains(&only) {
        storm("at once", Spread::NONE, &records, &load);
        storm("spread", SPREAD, &records, &load);
    }
    println!("{} MB of JSON were made", made / 1_000_000);
}

/// From lines to the enriched records as JSON, handed out in pieces as the update log does; `made`
/// counts their bytes.
fn to_json(spec: &Arc<Spec>, load: &Load, made: &mut usize) -> f64 {
    const PIECE: usize = 1 << 16;
    let mut decoder = Decoder::new(Arc::clone(spec));
    let mut engine = Engine::start(spec, &load.people, Spread::NONE);
    let mut json = Vec::with_capacity(2 * PIECE);
    measured(load.lines.len() / EPOCH_EVENTS, || {
        for lines in load.lines.chunks(EPOCH_EVENTS) {
            for line in lines {
                engine.event(decoder.decode(line).expect("no faults were generated"));
            }
            engine.seal(&mut |state, epoch| {
                for change in state.changes(epoch).filter(|change| change.latest.is_none()) {
                    change.after.json(&mut json);
                    if json.len() >= PIECE {
                        *made += std::hint::black_box(&json).len();
                        json.clear();
                    }
                }
            });
        }
    })
}

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

fn decode(spec: &Arc<Spec>, load: &Load) -> f64 {
    let mut decoder = Decoder::new(Arc::clone(spec));
    let mut bytes = 0;
    let took = measured(load.lines.len() / EPOCH_EVENTS, || {
        bytes = load.lines.iter().map(|line| decoder.decode(line).map_or(0, <[u8]>::len)).sum();
    });
    assert!(bytes > 0);
    took
}

/// Rows into what an engine holds that knows all documents.
fn state(spec: &Arc<Spec>, load: &Load) -> f64 {
    let rows = decoded(spec, &load.lines);
    let mut engine = Engine::start(spec, &load.people, Spread::NONE);
    measured(rows.len(), || rows.iter().for_each(|rows| engine.epoch(rows.iter(), &mut no_json)))
}

fn stock(spec: &Arc<Spec>, load: &Load) -> f64 {
    let rows = decoded(spec, &load.lines);
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

/// Events that all fall to one place: the cost of one must not grow with how many came before.
fn hot(spec: &Arc<Spec>, load: &Load, runs: usize) {
    let text = |line: &Vec<u8>| String::from_utf8(line.clone()).expect("generated lines are text");
    // Each event keeps its own ID and moment; the rest is that of the first.
    let with = |names: &[&str]| {
        let first: serde_json::Value = serde_json::from_slice(&load.lines[0]).expect("JSON");
        let same = |line: &Vec<u8>| {
            let mut event: serde_json::Value = serde_json::from_str(&text(line)).expect("JSON");
            names.iter().for_each(|name| event[*name] = first[*name].clone());
            serde_json::to_vec(&event).expect("JSON")
        };
        Load { lines: load.lines.iter().map(same).collect(), people: load.people.clone() }
    };
    let cell = with(&["JOURNAL_ID", "STUDENT_ID", "LESSON_ID", "LESSON_DATE", "MARKED_BY"]);
    let student = with(&["STUDENT_ID"]);
    let nobody = Load { lines: load.lines.clone(), people: Vec::new() };
    for (what, load) in
        [("hot cell", &cell), ("hot student", &student), ("nobody is known", &nobody)]
    {
        row("", &format!("{what}: dedupe, enrich, latest"), runs.min(3), || state(spec, load));
    }
}

/// A student for every event, each with a document.
fn wide(spec: &Arc<Spec>, events: usize, runs: usize) {
    let load = load(events, events);
    let (held, before) = (resident_bytes(), cpu());
    let engine = Engine::start(spec, &load.people, Spread::NONE);
    let documents = load.people.len();
    println!(
        "wide: {documents} documents read in {:.2} s of CPU, {} bytes held for each",
        (cpu() - before).as_secs_f64(),
        resident_bytes().saturating_sub(held) / documents as u64,
    );
    drop(engine);
    row("", "wide: dedupe, enrich, latest", runs.min(3), || state(spec, &load));
}

/// All students change at once: corrected within one epoch, or spread.
fn storm(what: &str, spread: Spread, spec: &Arc<Spec>, load: &Load) {
    let rows = decoded(spec, &load.lines);
    let mut engine = Engine::start(spec, &load.people, spread);
    rows.iter().for_each(|rows| engine.epoch(rows.iter(), &mut no_json));
    drop(rows);
    let (held, before) = (resident_bytes(), cpu());
    engine.people(spec, &load.people, true);
    let read = cpu();
    let (mut corrected, mut epochs, mut most) = (0, 0, held);
    loop {
        engine.seal(&mut |state, epoch| corrected += state.changes(epoch).count());
        epochs += 1;
        most = most.max(resident_bytes());
        if engine.state.borrow().waiting_rows() == 0 {
            break;
        }
    }
    let done = cpu();
    println!(
        "storm, {what}: {corrected} changes in {epochs} epochs; documents read in {:.3} s, \
         corrected in {:.3} s of CPU; {} MB held before, at most {} MB more",
        (read - before).as_secs_f64(),
        (done - read).as_secs_f64(),
        held >> 20,
        most.saturating_sub(held) >> 20,
    );
}
