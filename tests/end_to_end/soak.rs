//! A long game with a real index: documents change all the while, the feed is killed, and the index
//! is made again.
//!
//! A sample in every test run; the whole of it:
//! `DOCUMENTS=200000 SECONDS=600 cargo test --release --test end_to_end soak -- --nocapture`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::Value;

use crate::{
    elasticsearch::{Index, of_index_at, person, says},
    game::{number, seed, wait_for},
    small::{Engine, PATIENCE, Small},
    stack::{Node, Stack},
};

/// Documents that nobody deletes: events are of them.
const KEPT: u32 = 50;

/// Documents a page of the feed: of many as where nothing is said.
const PAGE: usize = 100;
const PAGE_OF_MANY: usize = 5_000;

/// How long it may take until the log says what the index does, once nobody writes.
const QUIET: Duration = Duration::from_secs(60);

/// How long a write may take to stand in the log while the feed runs.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// What the log says, as it comes.
#[derive(Default)]
struct Log {
    documents: BTreeMap<String, String>,
    records: u64,
    /// Records that say what the one before them of their key said.
    repeated: usize,
    /// When what was waited for came.
    seen: HashMap<String, Instant>,
    /// The feeds that have begun: each marks the log before anything else.
    feeds: Vec<String>,
}

impl Log {
    /// Follows the log until it is over.
    fn follow(small: &Small, log: &Mutex<Log>, is_over: &AtomicBool) {
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &Stack::get().brokers)
            .set("group.id", "follower")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .create()
            .expect("a reader");
        let mut wanted = TopicPartitionList::new();
        let topic = small.topic("reference");
        wanted.add_partition_offset(&topic, 0, Offset::Beginning).expect("a partition");
        reader.assign(&wanted).expect("it can be read");
        while !is_over.load(Ordering::Relaxed) {
            let Some(Ok(message)) = reader.poll(Duration::from_millis(50)) else { continue };
            let key = String::from_utf8(message.key().unwrap_or_default().to_vec());
            let key = key.expect("keys are text");
            let Some(id) = key.strip_prefix("people:") else { continue };
            let mut log = log.lock().expect("nobody panics in here");
            if id.is_empty() {
                let mark: Value = serde_json::from_slice(message.payload().unwrap_or_default())
                    .expect("marks are JSON");
                let feed = mark["feed"].as_str().expect("each has a name").to_owned();
                if log.feeds.last() != Some(&feed) {
                    log.feeds.push(feed);
                }
                continue;
            }
            log.records += 1;
            let before = match message.payload() {
                None => log.documents.remove(id),
                Some(value) => {
                    let value: Value = serde_json::from_slice(value).expect("JSON");
                    log.documents.insert(id.to_owned(), value["document"].to_string())
                }
            };
            log.repeated += usize::from(before.as_ref() == log.documents.get(id));
            if id.starts_with('w') {
                log.seen.entry(id.to_owned()).or_insert_with(Instant::now);
            }
        }
    }
}

/// What the index was told, and has acknowledged.
struct Model {
    documents: BTreeMap<String, (u32, String)>,
    /// Documents of the watcher, and when they were acknowledged.
    watched: Vec<(String, Instant)>,
    next: u32,
}

/// A feed that is killed and started again.
struct Feed<'s> {
    small: &'s Small,
    log: &'s Mutex<Log>,
    running: Engine,
    /// Times at which none was there.
    absent: Vec<(Instant, Instant)>,
}

impl<'s> Feed<'s> {
    fn start(small: &'s Small, log: &'s Mutex<Log>) -> Feed<'s> {
        Feed { small, log, running: small.begin("feed", &[], &[]), absent: Vec::new() }
    }

    /// Kills it, and starts another, which is at work from its first mark on.
    fn restart(&mut self) {
        let gone = Instant::now();
        self.running.signal(Signal::SIGKILL);
        wait_for("the feed to die", PATIENCE, || self.running.code().is_some());
        let begun = || self.log.lock().expect("nobody panics in here").feeds.len();
        let before = begun();
        self.running = self.small.begin("feed", &[], &[]);
        wait_for("another feed", PATIENCE, || {
            assert_eq!(self.running.code(), None, "{}", self.running.said());
            begun() > before
        });
        self.absent.push((gone, Instant::now()));
    }

    /// Waits until it has said this more than so many times.
    fn await_word(&mut self, word: &str, before: usize) {
        wait_for(word, Duration::from_secs(180), || {
            assert_eq!(self.running.code(), None, "{}", self.running.said());
            self.running.said().matches(word).count() > before
        });
    }
}

#[test]
fn log_equals_the_index_through_writes_kills_and_re_creations() {
    let count = number("DOCUMENTS", 2_000) as u32;
    let seconds = number("SECONDS", 20);
    let draw = Mutex::new(Xoshiro256PlusPlus::seed_from_u64(seed()));
    let draw = |below: u64| draw.lock().expect("nobody panics in here").next_u64() % below;
    // Who is written anew at once is back within the grace, however busy the machine is.
    let more = "feed = { max_deletes = 1.0, delete_after = \"3s\" }\n";
    let page = if count < 100_000 { PAGE } else { PAGE_OF_MANY };
    let (small, index) = of_index_at(Node::get(), "soaked", page, more);
    index.make(2);
    let model = Model { documents: BTreeMap::new(), watched: Vec::new(), next: 0 };
    let (model, log) = (Mutex::new(model), Mutex::new(Log::default()));
    let (pause, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    // One batch at a time: what is acknowledged is what the model says.
    let write = |index: &Index, ids: Vec<u32>, is_to_delete: &dyn Fn(u32) -> bool| {
        let mut model = model.lock().expect("nobody panics in here");
        if pause.load(Ordering::Relaxed) {
            return;
        }
        let mut batch = Vec::new();
        for id in ids {
            model.next += 1;
            let (key, name) = (format!("{id}"), format!("name {}", model.next));
            match is_to_delete(id) {
                true => {
                    model.documents.remove(&key);
                    batch.push((key, None));
                }
                false => {
                    batch.push((key.clone(), Some(person(id, &name))));
                    model.documents.insert(key, (id, name));
                }
            }
        }
        // Events are of these: one is deleted now and then, and written anew at once.
        let again = batch.iter().filter(|(id, _)| id.parse::<u32>().is_ok_and(|id| id < KEPT));
        index.write(again.take(1).map(|(id, _)| (&**id, None)));
        index.write(batch.iter().map(|(id, source)| (&**id, source.clone())));
    };
    let ids: Vec<u32> = (0..count).collect();
    for ids in ids.chunks(2_000) {
        write(&index, ids.to_vec(), &|_| false);
    }
    small.produce(0, 0..KEPT);
    let mut engine = None;
    let (mut kills, mut amid, mut remakes, mut watched) = (0_usize, 0, 0, 0);
    thread::scope(|scope| {
        scope.spawn(|| Log::follow(&small, &log, &is_over));
        let mut feed = Feed::start(&small, &log);
        feed.await_word("snapshot complete", 0);
        engine = Some(small.start(&["--no-feeds"]));
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
                let ids = (0..1 + draw(40)).map(|_| draw(count.into()) as u32).collect();
                let chance = draw(3);
                write(&index, ids, &|id| id >= KEPT && chance == 0);
            }
        });
        // A document of its own each time, which nobody touches again.
        scope.spawn(|| {
            for n in 0.. {
                thread::sleep(Duration::from_millis(seconds * 1_000 / 2_000));
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let mut model = model.lock().expect("nobody panics in here");
                if pause.load(Ordering::Relaxed) {
                    continue;
                }
                let (key, number, name) = (format!("w{n}"), count + n, format!("watched {n}"));
                index.write([(&*key, Some(person(number, &name)))]);
                model.watched.push((key.clone(), Instant::now()));
                model.documents.insert(key, (number, name));
            }
        });
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut next_remake = Instant::now() + Duration::from_secs(seconds / 3);
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(500 + draw(seconds * 100)));
            if Instant::now() < next_remake {
                feed.restart();
                kills += 1;
                // The next one often before it has compared all.
                while draw(3) == 0 {
                    thread::sleep(Duration::from_millis(draw(3_000)));
                    amid += usize::from(!feed.running.said().contains("snapshot complete"));
                    feed.restart();
                    kills += 1;
                }
                continue;
            }
            next_remake = Instant::now() + Duration::from_secs((seconds / 3).max(60));
            pause.store(true, Ordering::Relaxed);
            let gone = Instant::now();
            // Nothing is on its way any more once the model can be had.
            let mut wanted_before = BTreeMap::new();
            let kept: Vec<(String, (u32, String))> = {
                let mut model = model.lock().expect("nobody panics in here");
                for (id, (number, name)) in &model.documents {
                    wanted_before.insert(id.clone(), says(*number, name));
                }
                // Some come back otherwise, and some not at all.
                let kept = |(id, number): &(&String, &mut (u32, String))| {
                    number.0 < KEPT || id.starts_with('w') || draw(10) > 0
                };
                let mut documents = std::mem::take(&mut model.documents);
                model.documents = documents
                    .iter_mut()
                    .filter(kept)
                    .map(|(id, (number, name))| (id.clone(), (*number, format!("{name} again"))))
                    .collect();
                model.documents.clone().into_iter().collect()
            };
            let held = feed.running.said().matches("is held").count();
            // Whatever was written before is in the log by now.
            wait_for("the log to equal the index", QUIET, || {
                log.lock().expect("nobody panics in here").documents == wanted_before
            });
            let before = log.lock().expect("nobody panics in here").records;
            index.unmake();
            index.make(2);
            for documents in kept.chunks(2_000) {
                let source = |(id, (number, name)): &(String, (u32, String))| {
                    (id.clone(), Some(person(*number, name)))
                };
                let batch: Vec<_> = documents.iter().map(source).collect();
                index.write(batch.iter().map(|(id, source)| (&**id, source.clone())));
            }
            feed.await_word("is held", held);
            // So is one that comes after it.
            feed.restart();
            kills += 1;
            // That time is counted below.
            feed.absent.pop();
            feed.await_word("is held", 0);
            assert_eq!(log.lock().expect("nobody panics in here").records, before, "it is held");
            let (code, said) = small.tributary(&["accept", "people"]);
            assert_eq!(code, Some(0), "{said}");
            let compared = feed.running.said().matches("snapshot complete").count();
            pause.store(false, Ordering::Relaxed);
            feed.await_word("snapshot complete", compared);
            feed.absent.push((gone, Instant::now()));
            remakes += 1;
        }
        pause.store(true, Ordering::Relaxed);
        let wanted: BTreeMap<String, String> = {
            let model = model.lock().expect("nobody panics in here");
            let said = model.documents.iter().map(|(id, (n, name))| (id.clone(), says(*n, name)));
            said.collect()
        };
        wait_for("the log to equal the index", QUIET, || {
            assert_eq!(feed.running.code(), None, "{}", feed.running.said());
            log.lock().expect("nobody panics in here").documents == wanted
        });
        is_over.store(true, Ordering::Relaxed);
        let log = log.lock().expect("nobody panics in here");
        let (mut slowest, mut late) = (Duration::ZERO, 0);
        for (id, acknowledged) in &model.lock().expect("nobody panics in here").watched {
            let seen = log.seen.get(id).unwrap_or_else(|| panic!("{id} is in the log"));
            // Time at which there was no feed, or one that waited for the word, does not count.
            let absent = feed
                .absent
                .iter()
                .map(|(from, to)| to.min(seen).saturating_duration_since(*from.max(acknowledged)));
            let absent: Duration = absent.sum();
            let took = seen.saturating_duration_since(*acknowledged).saturating_sub(absent);
            slowest = slowest.max(took);
            late += usize::from(took > SEEN_WITHIN);
            watched += 1;
        }
        println!(
            "{kills} kills, {amid} amid a comparison, {remakes} times made again; {} records in the \
             log, {} repeated; {watched} writes watched, {late} seen late, the slowest after \
             {slowest:?}",
            log.records, log.repeated,
        );
        assert_eq!(late, 0, "writes that were seen late");
        assert!(log.repeated <= kills * page, "{} records say nothing new", log.repeated);
    });
    assert!(kills > 0 && remakes > 0 && watched > if seconds < 600 { 100 } else { 1_000 });
    assert!(amid > 0 || seconds < 600, "it was played");
    // No record ever lost its person.
    let mut engine = engine.expect("it was started");
    let last_of = || {
        let mut named = BTreeMap::new();
        for record in small.read("all") {
            let value: Value = serde_json::from_slice(&record.value).expect("JSON");
            let name = value["NAME"].as_str().map(str::to_owned);
            let before: Option<Option<String>> = named.insert(record.key, name.clone());
            assert!(name.is_some() || before.flatten().is_none(), "a record lost its person");
        }
        named
    };
    let documents = &model.lock().expect("nobody panics in here").documents;
    wait_for("the records to be of the people", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        let named = last_of();
        (0..KEPT).all(|n| {
            let wanted = documents.get(&n.to_string()).map(|(_, name)| name.clone());
            named.get(n.to_string().as_bytes()) == Some(&wanted)
        })
    });
}
