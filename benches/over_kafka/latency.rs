//! Open loop: each event has its time, whether or not anybody is ready.
//!
//! At each rate the engine and the pass-through take turns, each first every other time, and medians
//! of the turns are compared. The first turn does not count, in which the broker still compiles what
//! it runs, nor do a turn's first seconds, in which whoever has just begun connects. While all change
//! the pass-through is always first: the engine is to have written the corrections of the turn
//! before; and of the engine's clicks those count that were due while corrections were owed.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Write,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::Producer,
};

use crate::{
    PARTITIONS,
    pass_through::{Cut, PassThrough, Sample},
    place::{Engine, Place, REFERENCE, cpu_of_all, sleep_until},
    wait_for,
};

const RATES: [u64; 3] = [1, 1_000, 20_000];
const RATE_IN_STORM: u64 = 5_000;

/// So many records are corrected in a storm, in two views.
const CORRECTED: u64 = 1_000_000;

/// How long events come before they count.
const RUN_UP: u64 = 3;

/// Of these shares of the records it is said how long they took at most.
const SHARES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];
type Took = [f64; SHARES.len()];

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All rates, and the storm.
    All,
    /// One rate.
    Rate(u64),
    /// The storm.
    Storm,
}

/// So many turns of so many seconds, with so many events held before.
pub fn run(seconds: u64, held: u64, which: Which, turns: u64, options: &[&str]) {
    let rates = match which {
        Which::All => RATES.to_vec(),
        Which::Rate(rate) => vec![rate],
        Which::Storm => Vec::new(),
    };
    let seconds = RUN_UP + seconds;
    let coming: u64 = 2 * (rates.iter().sum::<u64>() + RATE_IN_STORM) * seconds * (turns + 1);
    let place = Place::start(held + coming);
    let mut places = 0..place.lines.len();
    let mut next = |count: u64| {
        let begin = places.start;
        places.start += count as usize;
        assert!(places.start <= places.end, "more events than were generated");
        begin..places.start
    };
    place.produce_all(next(held));
    let engine = Engine::start(&place, "timed", 1, options);
    engine.wait_until_held(Duration::from_secs(600));
    let sample = Sample::read(&place, "timed");
    let (rested, begun) = (engine.cpu(), Instant::now());
    thread::sleep(Duration::from_secs(10));
    let share = (engine.cpu() - rested).as_secs_f64() / begun.elapsed().as_secs_f64();
    println!("{held} events held; at rest the engine uses {:.1} % of a core", share * 100.0);
    engine.rest(|| drop(PassThrough::drain(&place, "warm", 1, &sample, 1.0, held)));
    println!(
        "{:<34} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "ms, from due to readable", "p50", "p90", "p99", "p99.9", "max", "cores"
    );
    for rate in rates {
        let count = rate * seconds;
        let (mut engines, mut bares) = (Vec::new(), Vec::new());
        for turn in 0..2 * (turns + 1) {
            // The pass-through comes first, last, first, and so on.
            if matches!(turn % 4, 0 | 3) {
                let name = format!("bare_{rate}_{turn}");
                let events = next(count);
                engine.rest(|| bares.push(bare(&place, &sample, &name, events, rate)));
                engine.wait_until_held(Duration::from_secs(600));
            } else {
                let what = format!("engine at {rate}/s");
                engines.push(timed(&place, "timed_enriched", next(count), rate).told(&what));
            }
        }
        compare(&format!("at {rate}/s"), &engines, &bares);
    }
    if !matches!(which, Which::Rate(_)) {
        let (mut engines, mut bares) = (Vec::new(), Vec::new());
        let count = RATE_IN_STORM * seconds;
        let mut storms = Storms { changed: 0 };
        for turn in 0..=turns {
            let events = next(count);
            let name = format!("bare_storm_{turn}");
            engine.rest(|| bares.push(bare(&place, &sample, &name, events, RATE_IN_STORM)));
            engine.wait_until_held(Duration::from_secs(600));
            engines.push(storms.next(&place, &engine, next(count), turn));
        }
        compare(&format!("at {RATE_IN_STORM}/s, amid corrections"), &engines, &bares);
    }
    let (updates, cpu) = engine.end();
    println!("{updates} records written in all, {:.1} s of CPU", cpu.as_secs_f64());
}

/// Prints by how much the engine's median turn is behind that of the pass-through, and each pair;
/// the first does not count.
fn compare(what: &str, engines: &[Took], bares: &[Took]) {
    let (engines, bares) = (&engines[1..], &bares[1..]);
    let differences = |place: usize| {
        let median = |turns: &[Took]| {
            let mut took: Vec<f64> = turns.iter().map(|turn| turn[place]).collect();
            took.sort_by(f64::total_cmp);
            f64::midpoint(took[(took.len() - 1) / 2], took[took.len() / 2])
        };
        let pairs = engines.iter().zip(bares).map(|(a, b)| format!("{:+.1}", a[place] - b[place]));
        let pairs = pairs.collect::<Vec<_>>().join(", ");
        format!("{:+.1} ({pairs})", median(engines) - median(bares))
    };
    println!("{what}, engine less pass-through: p50 {}, p99 {}", differences(0), differences(2));
}

/// The pass-through, from the end of the events on.
fn bare(place: &Place, sample: &Sample, name: &str, events: Range<usize>, rate: u64) -> Took {
    let cut = Cut { records: 20_000, time: Duration::from_millis(5) };
    let begun = (cut, Offset::End, &Arc::new(AtomicU64::new(0)));
    let mut pass = PassThrough::start(place, name, 1, sample, 1.0, begun);
    // It finds the end of the events before more come.
    thread::sleep(Duration::from_secs(1));
    let what = format!("pass-through at {rate}/s");
    let timed = timed(place, &pass.enriched, events, rate);
    pass.end();
    timed.told(&what)
}

/// Storms, one after the other.
struct Storms {
    /// How many documents the last one changed.
    changed: u64,
}

impl Storms {
    /// The engine while so many documents change that `CORRECTED` records do, each turn in its own
    /// way.
    fn next(
        &mut self,
        place: &Place,
        engine: &Engine<'_>,
        events: Range<usize>,
        turn: u64,
    ) -> Took {
        let changes = place.folder.path().join(format!("storm-{turn}.ndjson"));
        fs::write(&changes, "").expect("a file");
        let before = place.extent(REFERENCE, 0).1;
        let mut feed = place.feed(&changes);
        let people = fs::read_to_string(place.folder.path().join("in/people.ndjson"));
        let people = people.expect("people");
        let documents = people.lines().count() as u64;
        thread::sleep(Duration::from_secs(3));
        let patience = Duration::from_secs(60);
        wait_for("the feed to take back what the turn before changed", patience, || {
            place.extent(REFERENCE, 0).1 >= before + self.changed as i64
        });
        engine.wait_until_held(Duration::from_secs(600));
        let written = || written(place, "timed_enriched") + written(place, "timed_latest");
        wait_until_rests(written);
        let mut file = File::options().append(true).open(&changes).expect("a file");
        let mut lines = String::new();
        // Of the events that are held each stands in one view, three in four in the other too.
        let records = events.start as u64 * 7 / 4;
        self.changed = (documents * CORRECTED / records).min(documents);
        for line in people.lines().take(self.changed as usize) {
            let mut change: serde_json::Value =
                serde_json::from_str(line).expect("people are JSON");
            change["_source"]["PERSONAL"]["name"] = format!("Другое {turn}").into();
            change["op"] = "index".into();
            lines += &format!("{change}\n");
        }
        let (before, progress) = (written(), place.extent("timed_progress", 0).1);
        let (clicks, fresh) = (events.len(), 2 * events.len() as i64);
        // They come when events begin to count.
        let changes = thread::spawn(move || {
            thread::sleep(Duration::from_secs(RUN_UP));
            file.write_all(lines.as_bytes()).expect("it can be written");
        });
        let is_over = AtomicBool::new(false);
        let (mut timed, owed) = thread::scope(|scope| {
            let owed = scope.spawn(|| engine.owed(progress, &is_over));
            let timed = timed(place, "timed_enriched", events, RATE_IN_STORM);
            changes.join().expect("it writes");
            engine.wait_until_held(Duration::from_secs(600));
            is_over.store(true, Ordering::Relaxed);
            (timed, owed.join().expect("it reads").expect("what changed was owed"))
        });
        wait_until_rests(written);
        let all = written() - before - fresh;
        timed.took.retain(|(due, _)| owed.contains(due));
        let took = timed.told(&format!("engine at {RATE_IN_STORM}/s, amid corrections"));
        println!(
            "  {} documents changed; about {all} corrections written within {:.1} s, in which {} of \
             {clicks} clicks were due",
            self.changed,
            (owed.end - owed.start).as_secs_f64(),
            timed.took.len(),
        );
        feed.kill().expect("it runs");
        feed.wait().expect("it was started");
        took
    }
}

/// How many records a topic has had, ends of transactions among them.
fn written(place: &Place, topic: &str) -> i64 {
    (0..PARTITIONS).map(|partition| place.extent(topic, partition).1).sum()
}

/// Waits until a number has not grown for a second.
fn wait_until_rests(number: impl Fn() -> i64) {
    let mut last = number();
    wait_for("what is owed to be written", Duration::from_secs(600), || {
        thread::sleep(Duration::from_secs(1));
        let before = std::mem::replace(&mut last, number());
        before == last
    });
}

/// How long the records of events took to be readable.
struct Timed {
    /// With the moment at which each was due, once they count.
    took: Vec<(Instant, Duration)>,
    /// How many cores all that runs used, from the first event to the last record.
    cores: f64,
}

/// Sends events, each at its time, and awaits their records.
fn timed(place: &Place, topic: &str, events: Range<usize>, rate: u64) -> Timed {
    let due: Arc<Mutex<HashMap<Vec<u8>, Instant>>> = Arc::default();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut client = place.client();
    client.set("group.id", "timed").set("isolation.level", "read_committed");
    client.set("enable.auto.commit", "false").set("fetch.queue.backoff.ms", "1");
    let reader: BaseConsumer = client.create().expect("a reader");
    let mut wanted = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let end = Offset::Offset(place.extent(topic, partition).1);
        wanted.add_partition_offset(topic, partition as i32, end).expect("a partition");
    }
    reader.assign(&wanted).expect("it can be read");
    // It is connected before the first is due.
    reader.poll(Duration::from_secs(1));
    let reading = {
        let (due, is_over) = (Arc::clone(&due), Arc::clone(&is_over));
        thread::spawn(move || {
            // With the moment at which each was due.
            let mut took = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let Some(Ok(message)) = reader.poll(Duration::from_millis(20)) else { continue };
                let now = Instant::now();
                let key = message.key().unwrap_or_default();
                let due = due.lock().expect("nobody panics").remove(key);
                took.extend(due.map(|due| (due, now.saturating_duration_since(due))));
            }
            took
        })
    };
    let producer = place.producer();
    let (cpu, started) = (cpu_of_all(), Instant::now());
    let begin = Instant::now() + Duration::from_millis(100);
    for (number, event) in events.clone().enumerate() {
        let moment = begin + Duration::from_secs_f64(number as f64 / rate as f64);
        if moment > Instant::now() {
            producer.poll(Duration::ZERO);
            sleep_until(moment);
        }
        due.lock().expect("nobody panics").insert(place.keys[event].clone(), moment);
        place.send(&producer, event);
    }
    producer.flush(Duration::from_secs(60)).expect("the broker takes them");
    wait_for("all records to be read", Duration::from_secs(120), || {
        due.lock().expect("nobody panics").is_empty()
    });
    is_over.store(true, Ordering::Relaxed);
    let cores = (cpu_of_all() - cpu).as_secs_f64() / started.elapsed().as_secs_f64();
    let counts = begin + Duration::from_secs(RUN_UP);
    let mut took = reading.join().expect("it reads");
    took.retain(|(due, _)| *due >= counts);
    Timed { took, cores }
}

impl Timed {
    /// Prints it.
    fn told(&self, what: &str) -> Took {
        let mut took: Vec<Duration> = self.took.iter().map(|(_, took)| *took).collect();
        assert!(!took.is_empty(), "none counts");
        took.sort();
        let at = |share: f64| {
            let place = (took.len() as f64 * share) as usize;
            took[place.min(took.len() - 1)].as_secs_f64() * 1e3
        };
        let took = SHARES.map(at);
        let ([p50, p90, p99, p999, max], cores) = (took, self.cores);
        println!("{what:<34} {p50:>8.1} {p90:>8.1} {p99:>8.1} {p999:>8.1} {max:>8.1} {cores:>7.2}");
        took
    }
}
