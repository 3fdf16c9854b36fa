//! The whole program over a real broker, beside a bare transactional pass-through in the same run.
//!
//! ```text
//! cargo bench --bench over_kafka -- drain   [--events 2000000 --times 1] [-- RUN_OPTIONS]
//! cargo bench --bench over_kafka -- latency [--seconds 20 --held 1000000 --times 2] [--rate N | --storm]
//!                                           [-- RUN_OPTIONS]
//! cargo bench --bench over_kafka -- horizon [--events 1000000]
//! cargo bench --bench over_kafka -- recovery [--events 3000000 --workers 1]
//! ```
//!
//! Shape: a generated university whose events stand in a topic of six partitions. `drain`: events a
//! second from the first record that the broker appended to the outputs to the last, with one
//! worker and two, and of a program that reads each event and writes as many bytes, in as many
//! records, without knowing what they say. `latency`: open loop;
//! from the moment at which an event was due to the moment at which a reader of committed records
//! has its enriched record, at 1, 1,000 and 20,000 events a second, and at 5,000 while as many
//! documents change as have a million records; beside it the pass-through with a transaction each
//! 5 ms, and in turn with it so many times. Broker, engine, clicks and reader share the machine.
//! Both take options of `tributary run`.
//! `horizon`: what is held and how large the process is, while more than ten times a horizon flows
//! through. `recovery`: from the start of a process to all that it held before being held again, of
//! 1, 3 and 10 million events as far as there are so many, from the topic and from the archive.

#[allow(dead_code)]
#[path = "../../tests/end_to_end/stack.rs"]
mod stack;

mod horizon;
mod latency;
mod pass_through;
mod place;
mod recovery;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use latency::Which;
use pass_through::{PassThrough, Sample};
use place::{Engine, Place};

/// Input and output partitions.
const PARTITIONS: u32 = 6;

fn main() -> ExitCode {
    // Cargo adds a word of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let (words, options) = words.split_at(end);
    let options: Vec<&str> = options.iter().skip(1).map(String::as_str).collect();
    let number = |name: &str, usual: u64| {
        let place = words.iter().position(|word| word == name);
        let word = place.and_then(|place| words.get(place + 1));
        word.map_or(usual, |word| word.parse().expect("a number"))
    };
    match words.first().map(String::as_str) {
        Some("drain") => drain(number("--events", 2_000_000), number("--times", 1), &options),
        Some("latency") => {
            let which = match number("--rate", 0) {
                0 if words.contains(&"--storm".to_owned()) => Which::Storm,
                0 => Which::All,
                rate => Which::Rate(rate),
            };
            let (seconds, held) = (number("--seconds", 20), number("--held", 1_000_000));
            latency::run(seconds, held, which, number("--times", 2), &options);
        }
        Some("horizon") => horizon::run(number("--events", 1_000_000)),
        Some("recovery") => {
            recovery::run(number("--events", 3_000_000), number("--workers", 1) as u32);
        }
        _ => {
            eprintln!(
                "say what: drain [--events N --times N] [-- RUN_OPTIONS], \
                 latency [--seconds N --held N --times N] [--rate N | --storm] [-- RUN_OPTIONS], \
                 horizon [--events N], recovery [--events N --workers N]"
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn drain(events: u64, times: u64, options: &[&str]) {
    let place = Place::start(events);
    let count = place.produce_all(0..events as usize);
    println!("{count} events in {PARTITIONS} partitions, {} of them a click", events);
    println!(
        "{:<32} {:>9} {:>10} {:>13} {:>9} {:>9}",
        "what", "seconds", "events/s", "CPU us/event", "peak MiB", "x pass"
    );
    let rounds = (1..=times).flat_map(|round| [(1, round), (2, round)]);
    for (workers, round) in std::iter::once((1, 0)).chain(rounds) {
        let name = format!("drained_{workers}_{round}");
        let engine = Engine::start(&place, &name, workers, options);
        engine.wait_until_held(Duration::from_secs(900));
        let peak = engine.peak_mib();
        let (updates, cpu) = engine.end();
        let seconds = place.span(&[&format!("{name}_enriched"), &format!("{name}_latest")]);
        let sample = Sample::read(&place, &name);
        let share = (updates - count) as f64 / count as f64;
        let begin = place::cpu();
        let out = format!("passed_{workers}_{round}");
        let pass = PassThrough::drain(&place, &out, workers, &sample, share, count);
        let spent = place::cpu() - begin;
        let bare = place.span(&[&pass.enriched, &pass.latest]);
        let row = |what: &str, seconds: f64, cpu: Duration, peak: u64, times: f64| {
            println!(
                "{what:<32} {seconds:>9.1} {:>10.0} {:>13.2} {peak:>9} {times:>9.2}",
                count as f64 / seconds,
                cpu.as_secs_f64() * 1e6 / count as f64,
            );
        };
        // A broker that has just begun compiles what it runs: the first row is of that.
        let note = if round > 0 { "" } else { ", cold" };
        row(&format!("engine, {workers} worker(s){note}"), seconds, cpu, peak, bare / seconds);
        row(&format!("pass-through, {workers} thread(s){note}"), bare, spent, 0, 1.0);
        println!("  {updates} records written for {count} events");
    }
}

/// Waits until something is so.
fn wait_for(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < patience, "waited {patience:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
