//! Latency at a rate that does not wait: each event has its time, whether or not the engine is ready.
//!
//! ```text
//! cargo bench --bench open_loop [-- --rate 50000 --seconds 10 --held 1000000 --fuel 250]
//! ```
//!
//! Shape: a generated university in memory, its first events held; the rest come at the rate, are
//! decoded, computed in epochs of 1 ms, and their enriched records (and all that is corrected)
//! written as JSON. Latency is from the moment at which an event was due to the moment at which its
//! record was written; half an epoch is the floor. Beside it a dataflow that does nothing, in the
//! same minute; then the same while all students change and the corrections are spread.

#[allow(dead_code)]
mod support;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use support::{Engine, STUDENTS, cpu, decoded, load, no_json, spec, worker};
use timely::dataflow::{
    InputHandle,
    operators::{Exchange, Input, Probe, probe::Handle},
};
use tributary::{dataflow::Spread, source::Decoder};

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TICK: Duration = Duration::from_millis(1);
/// Documents that change in an epoch of the storm: some 80 events each, so more wait at once than
/// `atomic_max`.
const DOCUMENTS_OF_EPOCH: usize = 1000;

struct Options {
    rate: f64,
    seconds: f64,
    held: usize,
    fuel: u64,
}

fn main() {
    let options = options();
    let Options { rate, seconds, held, fuel } = options;
    let coming = (rate * seconds) as usize;
    let load = load(held + 2 * coming, STUDENTS);
    let lines = &load.lines[load.lines.len() - 2 * coming..];
    let (quiet, stormy) = lines.split_at(coming);
    println!("{rate} events a second for {seconds} s, epochs of 1 ms, {held} events held");
    println!(
        "{:<28} {:>8} {:>8} {:>8} {:>8} {:>8}  CPU of a core",
        "ms", "p50", "p90", "p99", "p99.9", "max"
    );
    nothing(&options, quiet);
    let records = spec(false);
    let spread = Spread { atomic_max: 20_000, fuel };
    let mut engine = Engine::start(&records, &load.people, spread);
    for lines in load.lines[..held].chunks(100_000) {
        let rows = decoded(&records, lines);
        rows.iter().for_each(|rows| engine.epoch(rows.iter(), &mut no_json));
    }
    let mut decoder = Decoder::new(records.clone());
    let mut json = Vec::new();
    let mut run = |what: &str, lines: &[Vec<u8>], mut people: &[Vec<u8>]| {
        let (mut corrected, mut amid) = (0, 0);
        let stormy = !people.is_empty();
        timed(what, &options, lines, &mut |line| match line {
            Some(line) => {
                if let Ok(row) = decoder.decode(line) {
                    engine.event(row);
                }
            }
            None => {
                let (now, later) = people.split_at(people.len().min(DOCUMENTS_OF_EPOCH));
                engine.people(&records, now, true);
                people = later;
                engine.seal(&mut |state, epoch| {
                    json.clear();
                    for change in state.changes(epoch) {
                        change.after.json(&mut json);
                        corrected += u64::from(change.before.is_some() && change.latest.is_none());
                    }
                });
                amid += u64::from(engine.state.borrow().waiting_rows() > 0);
            }
        });
        if stormy {
            let left = engine.state.borrow().waiting_rows();
            println!("  {corrected} corrections in {amid} epochs, {left} left");
        }
    };
    run("tributary", quiet, &[]);
    run("tributary, amid a storm", stormy, &load.people);
}

fn options() -> Options {
    let mut options = Options { rate: 50_000.0, seconds: 10.0, held: 1_000_000, fuel: 250 };
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        let number: f64 = value.parse().expect("a number");
        match name.as_str() {
            "--rate" => options.rate = number,
            "--seconds" => options.seconds = number,
            "--held" => options.held = number as usize,
            "--fuel" => options.fuel = number as u64,
            _ => panic!("{name} is not known; options: --rate --seconds --held --fuel"),
        }
    }
    options
}

/// The same loop around a dataflow that does nothing but exchange.
fn nothing(options: &Options, lines: &[Vec<u8>]) {
    let mut worker = worker();
    let probe = Handle::new();
    let mut input: InputHandle<u64, _> = worker.dataflow(|scope| {
        let (input, stream) = scope.new_input::<Vec<u64>>();
        stream.exchange(|number| *number).probe_with(&probe);
        input
    });
    let mut epoch = 0;
    timed("a dataflow that does nothing", options, lines, &mut |line| match line {
        Some(line) => input.send(line.len() as u64),
        None => {
            epoch += 1;
            input.advance_to(epoch);
            input.flush();
            while probe.less_than(&epoch) {
                worker.step();
            }
        }
    });
}

/// Hands out each line at its time, and `None` at the end of each epoch; prints how late they were.
fn timed(what: &str, options: &Options, lines: &[Vec<u8>], take: &mut dyn FnMut(Option<&[u8]>)) {
    let due = |place: usize| Duration::from_secs_f64(place as f64 / options.rate);
    let mut late: Vec<f64> = Vec::with_capacity(lines.len());
    let mut open: VecDeque<usize> = VecDeque::new();
    let (begin, before) = (Instant::now(), cpu());
    let (mut next, mut next_cut) = (0, TICK);
    while next < lines.len() || !open.is_empty() {
        let now = begin.elapsed();
        while next < lines.len() && due(next) <= now {
            take(Some(&lines[next]));
            open.push_back(next);
            next += 1;
        }
        if now < next_cut {
            std::thread::sleep((next_cut - now).min(Duration::from_micros(100)));
            continue;
        }
        take(None);
        let done = begin.elapsed();
        late.extend(open.drain(..).map(|place| (done - due(place)).as_secs_f64() * 1e3));
        next_cut = done.max(next_cut + TICK);
    }
    let used = (cpu() - before).as_secs_f64() / begin.elapsed().as_secs_f64();
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
    println!(
        "{what:<28} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.2}  {:.0} %",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0),
        used * 100.0
    );
}
