//! How long a start takes that goes on where another was killed: from the topic alone, and from the
//! archive.

use std::time::{Duration, Instant};

use crate::{
    horizon::ask,
    place::{Engine, Place, free_address, text},
    wait_for,
};

/// So many events are held when it is killed, of those that there are.
const HELD: [usize; 3] = [1_000_000, 3_000_000, 10_000_000];

const PATIENCE: Duration = Duration::from_secs(1_800);

/// What a start took until it had caught up.
struct Took {
    seconds: f64,
    cpu: Duration,
    peak_mib: u64,
}

/// Kills an engine that holds so many events, and starts it from each of both in turn, twice.
pub fn run(events: u64, workers: u32) {
    let place = Place::start(events);
    let archive = place.folder.path().join("archive");
    let with_archive = ["--archive", text(&archive)];
    println!("{workers} worker(s); until caught up after kill -9, twice each");
    let columns = ["held", "from", "s", "CPU s", "CPU s/M", "peak MiB", "bytes/event"];
    println!("{}", columns.map(|column| format!("{column:>13}")).concat());
    let mut produced = 0;
    for held in HELD.into_iter().filter(|held| *held <= place.lines.len()) {
        place.produce_all(produced..held);
        produced = held;
        let address = free_address();
        let options = [&with_archive[..], &["--http", &address]].concat();
        let engine = Engine::start(&place, "recovered", workers, &options);
        engine.wait_until_held(PATIENCE);
        // What came is kept at its end.
        engine.end();
        for turn in 0..4 {
            let (from, options) = match turn % 2 {
                0 => ("topic", &[][..]),
                _ => ("archive", &with_archive[..]),
            };
            let Took { seconds, cpu, peak_mib } = start(&place, workers, options);
            let cpu = cpu.as_secs_f64();
            let million = held as f64 / 1e6;
            println!(
                "{held:>13}{from:>13}{seconds:>13.2}{cpu:>13.2}{:>13.2}{peak_mib:>13}{:>13.0}",
                cpu / million,
                (peak_mib << 20) as f64 / held as f64,
            );
        }
    }
}

fn start(place: &Place, workers: u32, options: &[&str]) -> Took {
    let address = free_address();
    let options = [options, &["--http", &address]].concat();
    let begin = Instant::now();
    let engine = Engine::start(place, "recovered", workers, &options);
    // It is ready once all that was held before is again.
    wait_for("it to be ready", PATIENCE, || ask(&address, "tributary_ready{") == Some(1));
    let took = Took {
        seconds: begin.elapsed().as_secs_f64(),
        cpu: engine.cpu(),
        peak_mib: engine.peak_mib(),
    };
    drop(engine);
    took
}
