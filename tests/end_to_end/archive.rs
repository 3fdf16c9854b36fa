//! The archive: the outputs are those of the specification though the topic of events is cut up to
//! what is archived before each start, whatever dies at whatever step; and the archive holds what
//! the topic held.
//!
//! The whole game: `EVENTS=200000 ROUNDS=40 cargo test --release --features failpoints --test
//! end_to_end archive::starts -- --nocapture`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use serde_json::Value;
use tributary::{
    archive::{Archived, Manifest, Store},
    config::{ArchiveConfig, Config},
    source::Handed,
};

use crate::{
    game::{Game, Plan, number, seed, text, wait_for},
    small::{PATIENCE, Small},
    stack::{Bucket, ClickHouse, Stack},
};

/// Processes, and workers of each.
const SHAPES: [(usize, usize); 5] = [(1, 1), (2, 1), (1, 3), (1, 2), (2, 2)];

/// What happens to a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    End,
    /// It is stopped, another start takes over and keeps the archive, and it goes on: a zombie.
    Zombie,
    /// It dies at a step of the keeper.
    Step(&'static str),
}

const FAULTS: [Fault; 3] = [Fault::Kill, Fault::End, Fault::Zombie];
const STEPS: [Fault; 3] = [
    Fault::Step("archive-segment"),
    Fault::Step("archive-manifest-before"),
    Fault::Step("archive-manifest-after"),
];

/// An archive of a dataflow in a folder.
struct Place {
    folder: PathBuf,
    store: Arc<Store>,
}

impl Place {
    fn of(folder: &Path, dataflow: &str) -> Place {
        let store = Store::open(&ArchiveConfig::in_folder(text(folder)), dataflow);
        Place { folder: folder.join(dataflow), store: Arc::new(store.expect("a folder")) }
    }

    fn manifest(&self) -> Option<Manifest> {
        Manifest::newest(&self.store).expect("it can be read")
    }

    /// Up to where each partition is archived.
    fn bounds(&self) -> Vec<u64> {
        let manifest = self.manifest().expect("something is archived");
        manifest.events.partitions.iter().map(|partition| partition.bound().offset).collect()
    }

    /// Where the segments lie, in the order of partitions and offsets.
    fn segments(&self) -> Vec<PathBuf> {
        let manifest = self.manifest().expect("something is archived");
        manifest.segments().map(|segment| self.folder.join(&segment.path)).collect()
    }
}

/// What a configuration says that has an archive.
fn config(folder: &Path, every: &str) -> (PathBuf, PathBuf) {
    let archive = folder.join("archive");
    (config_of(folder, text(&archive), every, ""), archive)
}

/// The same with an archive elsewhere.
fn config_of(folder: &Path, place: &str, every: &str, options: &str) -> PathBuf {
    let config = folder.join("with_archive.toml");
    let text = format!(
        "[kafka]\nbrokers = [\"{}\"]\n[archive]\nplace = \"{place}\"\nevery = \"{every}\"\n{options}",
        Stack::get().brokers,
    );
    fs::write(&config, text).expect("a configuration");
    config
}

#[test]
fn starts_from_the_archive_where_the_topic_is_cut_change_nothing() {
    let seed = seed();
    let mut faults = FAULTS.to_vec();
    if cfg!(feature = "failpoints") {
        faults.extend(STEPS);
    }
    let rounds = number("ROUNDS", faults.len() as u64);
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut below = |end: u64| dice.next_u64() % end;
    let plan = Plan {
        seed,
        events: number("EVENTS", 8_000),
        lasts: Duration::from_secs(6 * rounds),
        storms: 2,
        ..Plan::default()
    };
    let mut game = Game::begin(Stack::get(), plan);
    let (config, archive) = config(game.folder.path(), "200ms");
    let place = Place::of(&archive, game.name());
    game.engine_at(["--config", text(&config)]);
    let mut happened: BTreeMap<Fault, u64> = BTreeMap::new();
    let (mut gone, mut from_archive) = (0, 0);
    for round in 0..rounds {
        let (processes, workers) = SHAPES[below(SHAPES.len() as u64) as usize];
        let fault = match faults.get(round as usize) {
            Some(fault) => *fault,
            None => faults[below(faults.len() as u64) as usize],
        };
        game.flow_up_to((round + 1) as f64 / (rounds + 1) as f64);
        println!("{round}: {fault:?} of {processes} processes of {workers} workers");
        let step = match fault {
            Fault::Step(name) => Some(format!("{name}={}*off->panic", below(4))),
            _ => None,
        };
        let failpoint = step.as_deref().map(|step| (0, step));
        let mut run = game.start_to_die(processes, workers, &["--fuel", "20"], failpoint);
        match fault {
            Fault::Step(name) => {
                wait_for("it to die", PATIENCE, || run.has_ended());
                run.wait();
                assert!(run.said().contains(&format!("failpoint {name} panic")), "{}", run.said());
            }
            _ => {
                game.await_commit(&mut run);
                let archived = place.manifest().map_or(0, |manifest| manifest.number);
                wait_for("something to be archived", PATIENCE, || {
                    assert!(!run.has_ended(), "{}", run.said());
                    place.manifest().is_some_and(|manifest| manifest.number > archived)
                });
            }
        }
        from_archive += u64::from(run.said().contains("reads what is archived"));
        *happened.entry(fault).or_default() += 1;
        match fault {
            Fault::Kill => run.crash(below(processes as u64) as usize),
            Fault::End => run.end(),
            Fault::Step(_) => {}
            Fault::Zombie => {
                (0..processes).for_each(|process| run.signal(process, Signal::SIGSTOP));
                std::thread::sleep(Duration::from_secs(11));
                let archived = place.manifest().map_or(0, |manifest| manifest.number);
                let mut rival = game.start(1, 1, &[]);
                game.await_commit(&mut rival);
                wait_for("the rival to keep the archive", PATIENCE, || {
                    place.manifest().is_some_and(|manifest| manifest.number > archived)
                });
                (0..processes).for_each(|process| run.signal(process, Signal::SIGCONT));
                let ended = run.wait();
                let are_over = ended.iter().all(|(_, code)| *code == Some(4));
                assert!(are_over, "{ended:?}: {}", run.said());
                rival.crash(0);
            }
        }
        if place.manifest().is_some() {
            gone += game.cut_events(&place.bounds());
        }
    }
    assert!(gone as u64 > game.plan.events / 4, "{gone} records were cut");
    assert!(from_archive + 2 >= rounds, "{from_archive} of {rounds} starts read the archive");
    let mut last = game.start(1, 2, &[]);
    game.settle(&mut last);
    last.end();
    let records = game.judge();
    let segments = equals_what_was_written(&game, &place);
    println!("{happened:?}; {gone} records were cut, {segments} segments; {records} records");
}

/// The archive holds what the topic held, byte for byte; its manifests follow each other, and no
/// start wrote one after a later start.
fn equals_what_was_written(game: &Game, place: &Place) -> usize {
    let mut written = BTreeMap::new();
    game.each_event(&mut |seen| {
        let value = (seen.key.clone(), seen.value.clone());
        written.insert((seen.partition, seen.offset), value);
    });
    let manifest = place.manifest().expect("something is archived");
    let mut found = 0;
    for (number, partition) in (0..).zip(&manifest.events.partitions) {
        let to = partition.bound().offset;
        let ends = partition.segments.iter().map(|segment| segment.to);
        let begins = partition.segments.iter().map(|segment| segment.from);
        assert!(begins.skip(1).eq(ends.take(partition.segments.len().saturating_sub(1))));
        let mut archived = Archived::new(Arc::clone(&place.store), partition, 0, to);
        while let Some(Handed { offset, key, value, .. }) = archived.next_record().expect("whole") {
            let (wanted_key, wanted) = &written[&(number, offset)];
            assert!(key == Some(wanted_key) && value == Some(wanted), "{number}/{offset}");
            found += 1;
        }
    }
    assert_eq!(found, written.len(), "all that was written is archived");
    let numbers = Manifest::numbers(&place.store).expect("they can be listed");
    assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]), "{numbers:?}");
    let read = |number: &u64| Manifest::read(&place.store, *number).expect("it is whole");
    let starts: Vec<u64> = numbers.iter().map(|number| read(number).generation).collect();
    assert!(starts.is_sorted(), "{starts:?}");
    manifest.segments().count()
}

#[test]
fn what_is_damaged_is_named_and_the_rest_is_used_if_asked_for() {
    let mut small = Small::new("archive_faults");
    let (config, archive) = config(small.folder.path(), "100ms");
    let place = Place::of(&archive, &small.name);
    small.at = ["--config".to_owned(), text(&config).to_owned()];
    for round in 0..3 {
        small.produce(0, round * 40..round * 40 + 40);
        let mut engine = small.start(&[]);
        wait_for("all to be archived", PATIENCE, || {
            let manifest = place.manifest();
            manifest.is_some_and(|m| {
                m.events.partitions[0].bound().offset >= u64::from(round) * 40 + 40
            })
        });
        wait_for("all to be written", PATIENCE, || {
            small.read("all").len() as u32 >= round * 40 + 40
        });
        engine.signal(Signal::SIGTERM);
        engine.ended(0);
    }
    assert!(place.segments().len() > 1);
    let (code, said) = small.tributary(&["archive"]);
    assert!(code == Some(0) && said.contains("every file is whole"), "{said}");
    let nowhere = small.folder.path().join("nowhere");
    let (code, said) = small.tributary(&["archive", "--archive", text(&nowhere)]);
    assert!(code == Some(2) && said.contains("there is no folder"), "{said}");
    assert!(!nowhere.exists(), "who only looks makes nothing");
    let (code, said) = small.tributary(&["check"]);
    assert!(code == Some(0) && said.contains("only where there is none"), "{said}");
    let last = || {
        let path = place.segments().pop().expect("there are some");
        let whole = fs::read(&path).expect("it is there");
        let name = path.file_name().expect("it has one").display().to_string();
        (path, name, whole)
    };
    let flipped = |whole: &[u8]| {
        let mut damaged = whole.to_vec();
        damaged[whole.len() / 2] ^= 1;
        damaged
    };
    for round in 0..3 {
        let (path, name, whole) = last();
        match round {
            0 => fs::write(&path, flipped(&whole)).expect("it can be written"),
            1 => fs::write(&path, &whole[..whole.len() / 2]).expect("it can be written"),
            _ => fs::remove_file(&path).expect("it is there"),
        }
        let said = small.start(&[]).ended(5);
        assert!(said.contains(&name) && said.contains("--archive-faults pass"), "{said}");
        let (code, said) = small.tributary(&["archive"]);
        assert!(code == Some(5) && said.contains(&name), "{said}");
        let (code, said) = small.tributary(&["archive", "--list"]);
        assert!(code == Some(0) && said.contains("files"), "{said}");
        // What it held is read from the topic, and archived again.
        let before = small.read("all").len();
        let id = before as u32;
        small.produce(0, id..id + 1);
        let mut engine = small.start(&["--archive-faults", "pass"]);
        wait_for("the start to go on, and the archive to be mended", PATIENCE, || {
            assert_eq!(engine.code(), None, "{}", engine.said());
            let is_named = place.segments().contains(&path);
            small.read("all").len() > before && !is_named && place.bounds()[0] > u64::from(id)
        });
        assert!(engine.said().contains("passed over"), "{}", engine.said());
        drop(engine);
        let (code, said) = small.tributary(&["archive"]);
        assert!(code == Some(0) && said.contains("every file is whole"), "{said}");
    }
    // A manifest that is damaged is passed over as well, and another follows it.
    let number = place.manifest().expect("there is one").number;
    let path = place.folder.join(Manifest::path(number));
    let whole = fs::read(&path).expect("it is there");
    fs::write(&path, flipped(&whole)).expect("it can be written");
    let said = small.start(&[]).ended(5);
    assert!(said.contains(&Manifest::path(number)), "{said}");
    let id = small.read("all").len() as u32;
    small.produce(0, id..id + 1);
    let engine = small.start(&["--archive-faults", "pass"]);
    let numbers = || Manifest::numbers(&place.store).expect("they can be listed");
    wait_for("another manifest", PATIENCE, || numbers().last() > Some(&number));
    drop(engine);
    // Where the topic has lost what a damaged file held too, it is a loss, with its name.
    let (path, _, whole) = last();
    fs::write(&path, flipped(&whole)).expect("it can be written");
    small.truncate(0, place.bounds()[0] as i64);
    let said = small.start(&["--archive-faults", "pass"]).ended(5);
    assert!(said.contains("has lost") && said.contains("--accept-loss"), "{said}");
    fs::write(&path, &whole).expect("it can be written");
    let before = small.read("all").len() as u32;
    small.produce(0, before..before + 1);
    let _engine = small.start(&[]);
    wait_for("what is whole again to do", PATIENCE, || small.read("all").len() as u32 > before);
    assert_eq!(small.read("all").len() as u32, before + 1, "no record is written twice");
}

#[test]
fn new_partitions_are_archived_too_and_what_was_lost_is_kept_aside() {
    let mut small = Small::new("archive_grows");
    let (config, archive) = config(small.folder.path(), "100ms");
    let place = Place::of(&archive, &small.name);
    small.at = ["--config".to_owned(), text(&config).to_owned()];
    let run = |options: &[&str], records: usize, bounds: &[u64]| {
        let mut engine = small.start(options);
        wait_for("all to be written and archived", PATIENCE, || {
            assert_eq!(engine.code(), None, "{}", engine.said());
            let is_kept = place.manifest().is_some() && place.bounds() == bounds;
            is_kept && small.read("all").len() >= records
        });
        engine.said()
    };
    small.produce(0, 0..40);
    run(&[], 40, &[40, 0]);
    small.grow("events");
    small.produce(2, 40..60);
    let said = run(&["--accept-partitions"], 60, &[40, 0, 20]);
    assert!(said.contains("reads what is archived"), "{said}");
    // The archive was away while the topic lost some: all that it has is kept, and said.
    let files = place.segments();
    small.produce(0, 60..80);
    small.truncate(0, 50);
    let said = small.start(&[]).ended(5);
    assert!(said.contains("has lost"), "{said}");
    run(&["--accept-loss"], 70, &[60, 0, 20]);
    let manifest = place.manifest().expect("there is one");
    assert_eq!(manifest.events.partitions[0].from, 50);
    let aside: Vec<PathBuf> =
        manifest.named().map(|segment| place.folder.join(&segment.path)).collect();
    assert!(files.iter().all(|file| aside.contains(file) && file.exists()), "{aside:?}");
}

#[test]
fn archive_lies_in_a_store_that_speaks_s3() {
    let mut small = Small::new("archive_s3");
    let bucket = Bucket::make("university");
    let secret = small.folder.path().join("secret");
    fs::write(&secret, "hush\n").expect("a file");
    let options = format!(
        "[archive.options]\naws_endpoint = \"{}\"\naws_allow_http = true\n\
         aws_access_key_id = \"tributary\"\naws_secret_access_key = {{ file = \"{}\" }}\n",
        bucket.url,
        secret.display(),
    );
    let place = "s3://university/kept";
    let config = config_of(small.folder.path(), place, "100ms", &options);
    small.at = ["--config".to_owned(), text(&config).to_owned()];
    let config = Config::load(&config).expect("it is sound").archive.expect("it has one");
    let store = Store::open(&config, &small.name).expect("it can be opened");
    let held = || {
        let manifest = Manifest::newest(&store).expect("it can be read");
        manifest.map_or(0, |manifest| manifest.events.partitions[0].bound().offset)
    };
    for round in 1..4 {
        small.produce(0, (round - 1) * 50..round * 50);
        let mut engine = small.start(&[]);
        wait_for("all to be written and archived", PATIENCE, || {
            assert_eq!(engine.code(), None, "{}", engine.said());
            held() >= u64::from(round) * 50 && small.read("all").len() as u32 >= round * 50
        });
        let is_from_there = engine.said().contains("reads what is archived");
        assert_eq!(is_from_there, round > 1, "{}", engine.said());
        match round {
            2 => drop(engine),
            _ => {
                engine.signal(Signal::SIGTERM);
                engine.ended(0);
            }
        }
        small.truncate(0, i64::from(round) * 50);
    }
    assert_eq!(small.read("all").len(), 150, "each once");
    let (code, said) = small.tributary(&["archive"]);
    assert!(code == Some(0) && said.contains("every file is whole"), "{said}");
    // Of several who create one manifest one does.
    let newest = Manifest::newest(&store).expect("it can be read").expect("there is one");
    assert!(!newest.create(&store).expect("the store says so"));
    assert!(Manifest { number: newest.number + 1, ..newest }.create(&store).expect("it can"));
}

#[test]
fn other_programs_read_what_is_archived() {
    let mut small = Small::of("archive_read", &crate::front::spec_called("archive_read"));
    let (config, archive) = config(small.folder.path(), "100ms");
    let place = Place::of(&archive, &small.name);
    small.at = ["--config".to_owned(), text(&config).to_owned()];
    let input = tempfile::tempdir().expect("a folder");
    crate::front::generate(&input, 300, 2_000);
    crate::front::produce(&small, &input);
    small.send(0, &[(7, b"no event".to_vec())]);
    let people = input.path().join("people.ndjson");
    let (code, said) = small.tributary(&["feed", "--once", "--documents", text(&people)]);
    assert_eq!(code, Some(0), "{said}");
    let mut engine = small.start(&[]);
    let written = || small.read("events").len() as u64;
    let rows = || -> u64 {
        let manifest = place.manifest();
        manifest.map_or(0, |manifest| manifest.segments().map(|segment| segment.rows).sum())
    };
    wait_for("all to be archived", PATIENCE, || rows() == written());
    engine.signal(Signal::SIGTERM);
    engine.ended(0);
    let clickhouse = ClickHouse::get();
    let files = archive.join(&small.name).join("events/*/*.parquet");
    let ask = |what: &str| {
        let from = format!("{what} FROM file('{}', Parquet)", files.display());
        clickhouse.ask("default", &from)
    };
    let counted = ask("SELECT countIf(_refused IS NULL) AS events, uniqExact(ID) AS ids, \
         countIf(_refused = 'not_json') AS refused, sum(ATTENDANCE_MARK = 1) AS present, \
         sum(JSONExtractInt(_value, 'ATTENDANCE_MARK') = 1 AND _refused IS NULL) AS as_written, \
         toString(max(DATE_CREATE)) AS last, max(_offset) AS offset, toTypeName(any(STUDENT_ID)) AS t");
    let text = fs::read_to_string(input.path().join("events.ndjson")).expect("the clicks");
    let clicks = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let clicks: Vec<Value> = clicks.collect();
    let present = clicks.iter().filter(|click| click["ATTENDANCE_MARK"] == 1).count();
    let last = clicks.iter().filter_map(|click| click["DATE_CREATE"].as_str()).max();
    assert_eq!(counted[0]["events"], clicks.len());
    assert_eq!(counted[0]["ids"], clicks.len());
    assert_eq!(counted[0]["refused"], 1);
    assert_eq!(
        (&counted[0]["present"], &counted[0]["as_written"]),
        (&present.into(), &present.into())
    );
    let shown = counted[0]["last"].as_str().expect("a moment");
    assert!(shown.starts_with(last.expect("some")), "{shown} {last:?}");
}

#[test]
fn processes_that_see_different_archives_are_refused() {
    let mut small = Small::new("archive_others");
    let (config, archive) = config(small.folder.path(), "100ms");
    let place = Place::of(&archive, &small.name);
    small.at = ["--config".to_owned(), text(&config).to_owned()];
    small.produce(0, 0..20);
    let mut engine = small.start(&[]);
    wait_for("all to be archived", PATIENCE, || {
        place.manifest().is_some_and(|manifest| manifest.events.partitions[0].bound().offset == 20)
    });
    engine.signal(Signal::SIGTERM);
    engine.ended(0);
    // Of the same number another one: as on a host whose folder is its own.
    let other = small.folder.path().join("other");
    let manifest = place.manifest().expect("there is one");
    let elsewhere = Place::of(&other, &small.name);
    let written_ms = manifest.written_ms + 1;
    let made = Manifest { written_ms, ..manifest }.create(&elsewhere.store);
    assert!(made.expect("it can be written"));
    let held = [0; 2].map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let hosts = small.folder.path().join("hosts");
    let lines = held.iter().map(|held| format!("{}\n", held.local_addr().expect("it is bound")));
    fs::write(&hosts, lines.collect::<String>()).expect("a file");
    drop(held);
    let start = |process: &str, archive: &Path| {
        let of = ["--processes", "2", "--process", process, "--hosts", text(&hosts)];
        small.start(&[&of[..], &["--archive", text(archive)]].concat())
    };
    let (mut first, mut second) = (start("0", &archive), start("1", &other));
    wait_for("both to end", PATIENCE, || first.code().is_some() && second.code().is_some());
    assert!(second.said().contains("is another one here than"), "{}", second.said());
    assert_ne!((first.code(), second.code()), (Some(0), Some(0)));
}

#[test]
#[cfg(feature = "failpoints")]
fn readyz_says_how_far_a_start_is() {
    let small = Small::new("how_far");
    small.produce(0, 0..100);
    small.run_until(100, &[]);
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = held.local_addr().expect("it is bound").port();
    drop(held);
    let address = format!("127.0.0.1:{port}");
    let slow = [("FAILPOINTS", "replay=1*off->3*sleep(1000)->off")];
    let mut engine = small.begin("run", &["--http", &address], &slow);
    let mut said = String::new();
    wait_for("it to say how far it is", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        let answer = crate::letters::get(port, "/readyz", "");
        said = answer.map_or(String::new(), |(status, said)| format!("{status} {said}"));
        said.contains("reads again what an earlier run held")
    });
    assert!(
        said.starts_with("503") && said.contains(" % so far") && said.contains(" left"),
        "{said}"
    );
    wait_for("it to be ready", PATIENCE, || {
        crate::letters::get(port, "/readyz", "").is_some_and(|(status, _)| status == 200)
    });
}
