//! The journal before a cluster: a crowd whose clicks go into a topic while the journal, the engine
//! and the ends of transactions are broken, held against the specification; its pages in real
//! browsers; who takes over, and who is let in.
//!
//! The whole crowd: `USERS=500 SECONDS=60 cargo test --release --test end_to_end front::crowd --
//! --nocapture`. How long a click takes to the board in another browser: `STUDENTS=12000
//! EVENTS=940000 TIMES=200 cargo test --release --test end_to_end front::pages -- --nocapture`.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use openssl::rsa::Rsa;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::{Value, json};

use crate::{
    game::{Game, Plan, number, seed, text, wait_for},
    journal::{Connection, Place, Site, crowd, places, python},
    proxy::{Proxy, Trick},
    small::{Engine, PATIENCE, Small},
    stack::{Stack, project},
};

/// `tributary serve` as a program.
struct Front {
    child: Child,
    site: Site,
    log: std::path::PathBuf,
}

impl Front {
    /// Starts it; it may not be ready yet.
    fn start(spec: &Path, place: [&str; 2], options: &[&str], log: &Path) -> Front {
        let open = || File::options().create(true).append(true).open(log).expect("a log");
        let begin = fs::read_to_string(log).unwrap_or_default().len();
        let child = Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args(["serve", text(spec), place[0], place[1]])
            .args(options)
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .spawn()
            .expect("the program starts");
        let said = || fs::read_to_string(log).unwrap_or_default().split_off(begin);
        let mut address = None;
        let mut front = Front { child, site: Site { address: String::new() }, log: log.to_owned() };
        wait_for("the journal to say where it is", PATIENCE, || {
            assert_eq!(front.code(), None, "{}", said());
            let said = said();
            let line = said.lines().find_map(|line| line.strip_prefix("the journal is at http://"));
            address = line.map(|line| line.trim_end_matches('/').to_owned());
            address.is_some()
        });
        front.site = Site { address: address.expect("it was waited for") };
        front
    }

    fn await_ready(&mut self) {
        wait_for("the journal to be ready", PATIENCE, || {
            assert_eq!(self.code(), None, "{}", self.said());
            self.site.get("/readyz").0 == 200
        });
    }

    fn code(&mut self) -> Option<i32> {
        self.child.try_wait().expect("it was started").and_then(|status| status.code())
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end, and waits until it has.
    fn end(mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).expect("it runs");
        wait_for("the end", PATIENCE, || self.code().is_some());
        assert_eq!(self.code(), Some(0), "{}", self.said());
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            println!("what the journal said:\n{}", self.said());
        }
    }
}

/// The clicks of an events topic that are none of these, by ID, with how often each stands there.
fn written(game: &Game, generated: &HashSet<Vec<u8>>) -> HashMap<String, (u32, Vec<u8>)> {
    let mut written: HashMap<String, (u32, Vec<u8>)> = HashMap::new();
    for record in game.read("events") {
        if generated.contains(&record.value) {
            continue;
        }
        let id = String::from_utf8(record.key).expect("a key is an ID");
        written.entry(id).or_insert((0, record.value)).0 += 1;
    }
    written
}

#[test]
fn crowd_loses_and_doubles_nothing_though_everything_breaks() {
    let (users, seconds) = (number("USERS", 60) as usize, number("SECONDS", 16));
    let proxy = Proxy::start();
    let told = format!("PROXIED:PLAINTEXT:{}", proxy.port);
    let stack = Stack::with(&["--listener", &told, "--set", "log.cleaner.enable=false"]);
    proxy.stands_for(stack.listener("PROXIED"));
    let lasts = Duration::from_secs(60 + 2 * seconds);
    let plan = Plan { seed: seed(), events: 8_000, lasts, ..Plan::default() };
    let mut game = Game::begin(stack, plan);
    let mut run = game.start(1, 2, &[]);
    game.await_commit(&mut run);
    let input = game.folder.path().join("in");
    let lessons = input.join("lessons.ndjson");
    let log = game.folder.path().join("logs").join("journal");
    let at = format!("127.0.0.1:{}", proxy.port);
    let spec = game.spec.clone();
    let start = |address: &str| {
        let options = ["--lessons", text(&lessons), "--act-as-anyone", "--address", address];
        let mut front = Front::start(&spec, ["--kafka", &at], &options, &log);
        front.await_ready();
        front
    };
    let mut front = start("127.0.0.1:0");
    let address = front.site.address.clone();
    let places: Vec<Place> = places(&front.site, &input);
    assert!(!places.is_empty());
    let slice = Duration::from_secs(seconds) / 8;
    let mut played = Vec::new();
    let said = crowd(&places, &address, users, || {
        for trick in [Trick::Delay, Trick::CutBefore, Trick::CutAfter, Trick::Swallow] {
            let before = proxy.played(trick).len();
            proxy.play(Some(trick));
            wait_for(&format!("{trick:?} to be played"), PATIENCE, || {
                proxy.played(trick).len() > before
            });
            proxy.play(None);
            played.push((trick, proxy.played(trick).split_off(before)));
            // The pace of the crowd, not a wait for something.
            thread::sleep(slice);
        }
        front.kill();
        front = start(&address);
        thread::sleep(slice);
        let elder = std::mem::replace(&mut run, game.start(1, 1, &[]));
        elder.crash(0);
        thread::sleep(slice);
        front.kill();
        front = start(&address);
        thread::sleep(slice);
    });
    let id = format!("{}-journal", game.name());
    for (trick, ids) in &played {
        assert!(ids.iter().all(|of| *of == id) && !ids.is_empty(), "{trick:?}: {ids:?}");
    }
    let log = front.said();
    assert!(log.contains("looks whether clicks were written"), "{log}");
    assert!(said.unkept > 0, "somebody was amid a click when it was killed");
    println!(
        "{} confirmed, {} refused, {} open",
        said.confirmed.len(),
        said.refused.len(),
        said.open.len()
    );
    assert!(said.confirmed.len() > users, "the crowd got something done");
    game.settle(&mut run);
    // Each confirmed click stands once, none that was refused; of the others nobody knows.
    let generated = fs::read(input.join("events.ndjson")).expect("the clicks");
    let lines = generated.split(|byte| *byte == b'\n');
    let written = written(&game, &lines.map(<[u8]>::to_vec).collect());
    for (id, click) in &said.confirmed {
        let (times, event) = written.get(id).unwrap_or_else(|| panic!("{id} is lost"));
        assert_eq!(*times, 1, "{id}");
        let event: Value = serde_json::from_slice(event).expect("JSON");
        for column in ["ID", "JOURNAL_ID", "STUDENT_ID", "LESSON_ID", "ATTENDANCE_MARK"] {
            assert_eq!(event[column], click[column], "{id}");
        }
    }
    assert!(said.refused.iter().all(|id| !written.contains_key(id)));
    assert!(said.open.iter().all(|id| written.get(id).is_none_or(|(times, _)| *times == 1)));
    // What the journal shows is what the outputs hold, and these are what the specification says.
    for id in said.confirmed.keys() {
        wait_for("each click to be visible", PATIENCE, || {
            front.site.get(&format!("/v1/events/{id}")).1["state"] == "visible"
        });
    }
    shows_what_the_outputs_hold(&front.site, &game);
    let mut file = File::options().append(true).open(input.join("events.ndjson")).expect("a file");
    for (_, event) in written.values() {
        file.write_all(&[event, &b"\n"[..]].concat()).expect("it can be written");
    }
    front.end();
    run.end();
    println!("{} records", game.judge());
}

/// The latest marks and the total of the board.
fn shows_what_the_outputs_hold(site: &Site, game: &Game) {
    let mut latest: HashMap<Vec<u8>, Value> = HashMap::new();
    for record in game.read("latest") {
        latest.insert(record.key, serde_json::from_slice(&record.value).expect("JSON"));
    }
    let journals: HashSet<u64> =
        latest.values().filter_map(|row| row["JOURNAL_ID"].as_u64()).collect();
    let rows = journals.iter().flat_map(|journal| {
        let (status, answer) = site.get(&format!("/v1/views/latest?JOURNAL_ID={journal}"));
        assert_eq!(status, 200, "{answer}");
        answer["rows"].as_array().expect("rows").clone()
    });
    let sorted = |rows: Vec<Value>| {
        let mut rows: Vec<String> = rows.iter().map(canonical).collect();
        rows.sort();
        rows
    };
    let (shown, held) = (sorted(rows.collect()), sorted(latest.into_values().collect()));
    assert_eq!(shown.len(), held.len());
    assert_eq!(shown.iter().zip(&held).find(|(shown, held)| shown != held), None);
    assert_eq!(site.get("/v1/boards/groups").1["total"]["marks"], held.len());
}

/// A row with its columns in one order.
fn canonical(row: &Value) -> String {
    let columns = row.as_object().expect("a row is an object").iter();
    let columns: std::collections::BTreeMap<_, _> = columns.collect();
    serde_json::to_string(&columns).expect("JSON")
}

/// A university in topics, with its engine and the feed of its people.
struct University {
    small: Small,
    input: tempfile::TempDir,
    _engine: Engine,
    _feed: Engine,
}

pub fn spec_called(name: &str) -> String {
    let plain = fs::read_to_string(project("dataflows/attendance.toml")).expect("a spec");
    plain.replace("name = \"attendance\"", &format!("name = \"{name}\""))
}

impl University {
    fn begin(name: &str, students: u64, events: u64) -> University {
        let small = Small::of(name, &spec_called(name));
        let input = tempfile::tempdir().expect("a folder");
        generate(&input, students, events.max(1));
        let [people, changes] = ["people.ndjson", "changes.ndjson"].map(|f| input.path().join(f));
        fs::write(&changes, "").expect("a file");
        let files = ["--documents", text(&people), "--changes", text(&changes)];
        let feed = small.begin("feed", &files, &[]);
        if events > 0 {
            produce(&small, &input);
        }
        let engine = small.start(&[]);
        University { small, input, _engine: engine, _feed: feed }
    }

    fn front(&self, options: &[&str], log: &str) -> Front {
        let folder = self.small.folder.path();
        let lessons = self.input.path().join("lessons.ndjson");
        let lessons = ["--lessons", text(&lessons), "--address", "127.0.0.1:0"];
        let at = ["--kafka", &*Stack::get().brokers];
        let options = [&lessons[..], options].concat();
        Front::start(&folder.join("spec.toml"), at, &options, &folder.join(log))
    }
}

pub fn generate(input: &tempfile::TempDir, students: u64, events: u64) {
    let done = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args(["generate", text(input.path()), "--changes", "0", "--faults", "0"])
        .args(["--students", &students.to_string(), "--events", &events.to_string()])
        .output()
        .expect("it can be started");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Writes the clicks of a university into the topic of events.
pub fn produce(small: &Small, input: &tempfile::TempDir) {
    let events = fs::read(input.path().join("events.ndjson")).expect("the clicks");
    let (producer, topic) = (small.producer(), small.events());
    for event in events.split(|byte| *byte == b'\n').filter(|event| !event.is_empty()) {
        send(&producer, &topic, event);
    }
    producer.flush(PATIENCE).expect("the broker takes them");
}

fn send(producer: &BaseProducer, topic: &str, event: &[u8]) {
    let said: Value = serde_json::from_slice(event).unwrap_or_default();
    let key = said["ID"].as_str().unwrap_or("none").to_owned();
    let mut record = BaseRecord::to(topic).key(&key).payload(event);
    while let Err((_, again)) = producer.send(record) {
        producer.poll(Duration::from_millis(5));
        record = again;
    }
}

#[test]
fn pages_work_before_a_cluster() {
    let students = number("STUDENTS", 300);
    let university = University::begin("front_pages", students, number("EVENTS", 20_000));
    let changes = university.input.path().join("changes.ndjson");
    let folder = university.small.folder.path();
    let lessons = university.input.path().join("lessons.ndjson");
    let played = Command::new(python())
        .arg(project("tests/stack/journal/browser.py"))
        .args(["--program", env!("CARGO_BIN_EXE_tributary")])
        .args(["--serve", text(&folder.join("spec.toml")), "--kafka", &Stack::get().brokers])
        .args(["--lessons", text(&lessons), "--changes", text(&changes)])
        .arg("--pictures")
        .arg(project("target/journal/cluster"))
        .args(number("TIMES", 0).gt(&0).then(|| format!("--times={}", number("TIMES", 0))))
        .output()
        .expect("it can be started");
    println!("{}", String::from_utf8_lossy(&played.stdout));
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
}

/// A click of a teacher in a place, of the so-manieth student.
fn click(place: &Place, turn: usize, mark: u8, id: u128) -> Value {
    json!({
        "ID": uuid::Uuid::from_u128(id).to_string(), "JOURNAL_ID": place.journal,
        "LESSON_ID": place.lesson, "STUDENT_ID": place.students[turn % place.students.len()],
        "ATTENDANCE_MARK": mark, "LESSON_DATE": place.date,
    })
}

#[test]
fn journal_that_starts_later_takes_over_and_knows_what_its_elder_wrote() {
    let university = University::begin("front_elder", 300, 2_000);
    let mut elder = university.front(&["--act-as-anyone"], "elder");
    elder.await_ready();
    let place = places(&elder.site, university.input.path()).remove(0);
    let teacher = format!("teacher:{}", place.teachers[0]);
    let ask = |front: &Front, click: &Value| {
        front.site.ask("POST", "/v1/clicks", &[("Tributary-Person", &teacher)], Some(click))
    };
    let (status, answer) = ask(&elder, &click(&place, 0, 4, 1));
    assert_eq!(status, 201, "{answer}");
    // The younger judges nothing before it shows what the elder wrote.
    let mut younger = university.front(&["--act-as-anyone"], "younger");
    younger.await_ready();
    assert_eq!(younger.site.get("/v1/events/00000000-0000-0000-0000-000000000001").0, 200);
    let (status, answer) = ask(&younger, &click(&place, 0, 4, 2));
    assert_eq!((status, &answer["rule"]), (422, &json!(6)), "it stands already: {answer}");
    // Under the elder's ID it is the same click; another one under it is none.
    let (status, answer) = ask(&younger, &click(&place, 0, 4, 1));
    assert_eq!((status, &answer["cell"]["mark"]), (201, &json!(4)), "{answer}");
    assert_eq!(ask(&younger, &click(&place, 0, 5, 1)).0, 409);
    // The elder finds out with the next click, or by itself, confirms nothing, and ends.
    let person = [("Tributary-Person", &*teacher)];
    let third = click(&place, 1, 4, 3);
    let answer = Connection::to(&elder.site.address)
        .and_then(|mut connection| connection.ask("POST", "/v1/clicks", &person, Some(&third)));
    assert!(!matches!(answer, Ok((201, _))), "{answer:?}");
    wait_for("the elder to end", PATIENCE, || elder.code().is_some());
    assert_eq!(elder.code(), Some(4), "{}", elder.said());
    assert!(elder.said().contains("another journal of this dataflow"), "{}", elder.said());
    let (status, answer) = ask(&younger, &click(&place, 1, 4, 3));
    assert_eq!(status, 201, "{answer}");
    let events = university.small.read("events");
    let of_journal = |event: &&crate::topics::Seen| event.key.starts_with(b"00000000-0000-0000");
    let keys: Vec<_> = events.iter().filter(of_journal).map(|event| event.key.clone()).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    // What was confirmed is gone with its topic: the journal says so, and what to do.
    university.small.delete(&university.small.events());
    wait_for("the younger to end", PATIENCE, || younger.code().is_some());
    assert_eq!(younger.code(), Some(1), "{}", younger.said());
    assert!(younger.said().contains("was made anew: clicks that were confirmed"));
}

#[test]
fn journal_that_reads_all_anew_answers_nothing_before_it_has() {
    let university = University::begin("front_anew", 300, 0);
    let mut front = university.front(&["--act-as-anyone"], "log");
    front.await_ready();
    // Everything comes after it has taken over an empty topic.
    let input = tempfile::tempdir().expect("a folder");
    generate(&input, 300, 30_000);
    produce(&university.small, &input);
    let lessons = university.input.path().join("lessons.ndjson");
    fs::copy(input.path().join("lessons.ndjson"), &lessons).expect("a file");
    let rows = |site: &Site| {
        let (status, answer) = site.get("/v1/boards/groups");
        (status == 200).then(|| answer["total"]["marks"].as_u64().expect("a number"))
    };
    let (mut whole, mut since) = (0, std::time::Instant::now());
    wait_for("all marks", PATIENCE, || {
        let now = rows(&front.site).unwrap_or(0);
        if now != whole {
            (whole, since) = (now, std::time::Instant::now());
        }
        whole > 10_000 && since.elapsed() > Duration::from_secs(2)
    });
    let (_, answer) = front.site.get("/v1/views/latest");
    assert_eq!(answer["rows"].as_array().map(Vec::len), Some(10_000));
    assert_eq!(answer["more"], true, "what is left out is said");
    wait_for("the lessons", PATIENCE, || !places(&front.site, input.path()).is_empty());
    let place = places(&front.site, input.path()).remove(0);
    let teacher = format!("teacher:{}", place.teachers[0]);
    let ask = |person: &str, click: &Value| {
        front.site.ask("POST", "/v1/clicks", &[("Tributary-Person", person)], Some(click)).0
    };
    assert_eq!(ask(&teacher, &click(&place, 0, 4, 1)), 201);
    for turn in 0..2 {
        // Another partition: what was read says nothing of the topic as it is now.
        university.small.grow("dead_letters");
        let said = || front.said().matches("reads all topics anew").count();
        wait_for("it to read anew", PATIENCE, || said() > turn);
        let mut answers = 0;
        wait_for("it to be ready again", PATIENCE, || {
            answers += 1;
            if let Some(rows) = rows(&front.site) {
                assert_eq!(rows, whole.max(rows), "it answers from a part after {answers} times");
            }
            // The teacher's own mark stands: repeating it is refused, whenever it is judged.
            let status = ask(&teacher, &click(&place, 0, 4, 2));
            assert!(status == 422 || status == 503, "{status}");
            status == 422
        });
    }
    front.end();
}

/// A transaction of somebody else hides what stands behind it: neither clicks that are confirmed nor
/// the journal's own word that it leads are gone because of that.
#[test]
fn what_an_open_transaction_hides_is_waited_for() {
    let university = University::begin("front_hidden", 300, 500);
    let mut first = university.front(&["--act-as-anyone"], "first");
    first.await_ready();
    let place = places(&first.site, university.input.path()).remove(0);
    let teacher = format!("teacher:{}", place.teachers[0]);
    let person = [("Tributary-Person", &*teacher)];
    let ask = |front: &Front, id| {
        front.site.ask("POST", "/v1/clicks", &person, Some(&click(&place, 0, 4, id)))
    };
    let hangs = |id: &str, topic: &str, partitions: i32| {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &Stack::get().brokers).set("transactional.id", id);
        client.set("transaction.timeout.ms", "300000");
        let hanging: BaseProducer = client.create().expect("a producer");
        hanging.init_transactions(PATIENCE).expect("nobody else has it");
        hanging.begin_transaction().expect("none is open");
        for partition in 0..partitions {
            let record = BaseRecord::to(topic).partition(partition).key("x").payload("{}");
            assert!(hanging.send(record).is_ok(), "the queue is empty");
        }
        hanging.flush(PATIENCE).expect("the broker takes it");
        hanging
    };
    let events = hangs("hidden-events", &university.small.events(), 2);
    let (status, answer) = ask(&first, 1);
    assert_eq!(status, 201, "{answer}");
    first.kill();
    let lead = hangs("hidden-lead", &university.small.topic("lead"), 1);
    let mut second = university.front(&["--act-as-anyone"], "second");
    wait_for("it to have looked twice", PATIENCE, || {
        let (status, _) = second.site.get("/readyz");
        assert_eq!((status, second.code()), (503, None), "{}", second.said());
        second.said().matches("waits for the engine").count() > 1
    });
    events.abort_transaction(PATIENCE).expect("it is open");
    lead.abort_transaction(PATIENCE).expect("it is open");
    second.await_ready();
    // It is there, and the same.
    let (status, again) = ask(&second, 1);
    assert_eq!((status, &again["cell"]["when"]), (201, &answer["cell"]["when"]));
    assert_eq!(ask(&second, 2).1["rule"], 6);
    second.end();
}

#[test]
fn second_journal_that_cannot_listen_leaves_the_first_alone() {
    let university = University::begin("front_second", 300, 500);
    let mut first = university.front(&["--act-as-anyone"], "first");
    first.await_ready();
    let place = places(&first.site, university.input.path()).remove(0);
    let lessons = university.input.path().join("lessons.ndjson");
    let (code, said) = university.small.tributary(&[
        "serve",
        "--lessons",
        text(&lessons),
        "--address",
        &first.site.address,
    ]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot listen for HTTP"), "{said}");
    let teacher = format!("teacher:{}", place.teachers[0]);
    let person = [("Tributary-Person", &*teacher)];
    let (status, answer) =
        first.site.ask("POST", "/v1/clicks", &person, Some(&click(&place, 0, 4, 1)));
    assert_eq!(status, 201, "{answer}");
    // Others write into another partition all the while that the next one begins.
    first.end();
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let (over, small) = (&over, &university.small);
        scope.spawn(move || {
            let (producer, topic) = (small.producer(), small.events());
            for number in 0u32.. {
                if over.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                for partition in 0..2 {
                    let (key, event) = (number.to_string(), b"{}");
                    let record = BaseRecord::to(&topic).partition(partition);
                    let record = record.key(&key).payload(&event[..]);
                    assert!(producer.send(record).is_ok(), "the queue is empty");
                }
                producer.flush(PATIENCE).expect("the broker takes them");
                thread::sleep(Duration::from_millis(300));
            }
        });
        let second = university.front(&[], "again");
        let begun = std::time::Instant::now();
        let mut is_ready = false;
        while !is_ready && begun.elapsed() < PATIENCE {
            is_ready = second.site.get("/readyz").0 == 200;
            thread::sleep(Duration::from_millis(50));
        }
        // Else the others would write on for ever.
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(is_ready, "{}", second.said());
        second.end();
    });
}

#[test]
fn lessons_are_read_again_and_what_is_no_record_is_left_out() {
    let university = University::begin("front_lessons", 300, 500);
    let mut front = university.front(&[], "log");
    front.await_ready();
    // Without a login one can look, and only that.
    let (status, session) = front.site.get("/v1/session");
    assert_eq!(
        (status, &session["mode"], &session["person"]),
        (200, &json!("login"), &json!(null))
    );
    let person = [("Tributary-Person", "teacher:104")];
    assert_eq!(front.site.ask("POST", "/v1/clicks", &person, Some(&json!({}))).0, 403);
    let before = front.site.get("/v1/views/latest").1["rows"].as_array().expect("rows").len();
    assert!(before > 0);
    // Somebody else writes into an output what is none of it.
    for value in [&b"{"[..], br#"{"ID":"x"}"#] {
        university.small.write("latest", b"nonsense", value);
        university.small.write("enriched", b"nonsense", value);
    }
    wait_for("it to be told", PATIENCE, || front.said().contains("no record of its view"));
    let lessons = university.input.path().join("lessons.ndjson");
    let text = fs::read_to_string(&lessons).expect("the lessons");
    let new = "{\"journal\":64999,\"group\":\"ЯЯЯ-1\",\"lesson\":1,\"date\":\"2026-01-01\",\
               \"slot\":1,\"kind\":\"лек.\",\"teachers\":[1],\"deaneries\":[],\"leader\":1}\n";
    fs::write(&lessons, "no lesson\n").expect("a file");
    wait_for("the wrong lessons to be told", PATIENCE, || front.said().contains("stand: line 1"));
    assert_eq!(front.site.get("/v1/journals/64999").0, 404);
    fs::write(&lessons, text + new).expect("a file");
    wait_for("the lesson", PATIENCE, || front.site.get("/v1/journals/64999").0 == 200);
    let after = front.site.get("/v1/views/latest").1["rows"].as_array().expect("rows").len();
    assert_eq!(after, before);
    let (status, metrics) = front.site.get("/metrics");
    let metrics = metrics.as_str().expect("text").to_owned();
    assert!(status == 200 && metrics.contains("tributary_journal_marks "), "{metrics}");
    front.end();
}

/// A signer of logins, whose keys stand in a file.
fn signer(folder: &Path) -> EncodingKey {
    let key = Rsa::generate(2048).expect("a key").private_key_to_der().expect("a form");
    let key = EncodingKey::from_rsa_der(&key);
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).expect("a key");
    jwk.common.key_id = Some("one".to_owned());
    fs::write(folder.join("keys.json"), json!({ "keys": [jwk] }).to_string()).expect("a file");
    key
}

fn token(key: &EncodingKey, role: &str, number: Option<u64>) -> String {
    let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::RS256) };
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let claims = json!({
        "iss": "https://login.university.example", "aud": "journal", "exp": now + 600,
        "tributary_role": role, "tributary_number": number,
    });
    encode(&header, &claims, key).expect("a token")
}

#[test]
fn who_bears_a_signed_token_is_let_in_as_who_it_says() {
    let university = University::begin("front_login", 300, 2_000);
    let folder = university.small.folder.path();
    let (key, other) = (signer(folder), tempfile::tempdir().expect("a folder"));
    let forger = signer(other.path());
    fs::write(folder.join("token"), "secret of programs\n").expect("a file");
    let lessons = university.input.path().join("lessons.ndjson");
    let config = format!(
        "[kafka]\nbrokers = [\"{}\"]\n[serve]\nlessons = \"{}\"\naddress = \"0.0.0.0:0\"\n\
         hosts = [\"journal.university.example\"]\ntoken = {{ file = \"{}\" }}\n[serve.login]\n\
         issuer = \"https://login.university.example\"\naudience = \"journal\"\nkeys = \"{}\"\n",
        Stack::get().brokers,
        lessons.display(),
        folder.join("token").display(),
        folder.join("keys.json").display(),
    );
    let place = folder.join("place.toml");
    fs::write(&place, config).expect("a file");
    let log = folder.join("log");
    let mut front = Front::start(&folder.join("spec.toml"), ["--config", text(&place)], &[], &log);
    front.site.address = front.site.address.replace("0.0.0.0", "127.0.0.1");
    front.await_ready();
    let site = &front.site;
    let bearer = |token: &str| format!("Bearer {token}");
    let get = |authorization: &str, path: &str| {
        site.ask("GET", path, &[("Authorization", authorization)], None)
    };
    // Nobody, and who only says that he is somebody.
    for path in ["/", "/v1/session", "/v1/views/latest", "/v1/openapi.json", "/metrics"] {
        assert_eq!(site.get(path).0, 401, "{path}");
        assert_eq!(get("Bearer guessed", path).0, 401, "{path}");
        assert_eq!(get(&bearer(&token(&forger, "deanery", Some(101))), path).0, 401, "{path}");
    }
    assert_eq!((site.get("/livez").0, site.get("/readyz").0), (200, 200));
    // Programs read everything, and act in the name that they say.
    let program = bearer("secret of programs");
    for path in ["/", "/v1/views/latest", "/v1/status", "/v1/dead-letters", "/metrics"] {
        assert_eq!(get(&program, path).0, 200, "{path}");
    }
    let grid = |place: &Place| format!("/v1/journals/{}", place.journal);
    let place = {
        let text = fs::read_to_string(&lessons).expect("the lessons");
        let lesson = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let lesson = lesson.into_iter().find(|lesson| lesson["locked"] == false).expect("one");
        let journal = lesson["journal"].as_u64().expect("a number");
        let (_, grid) = get(&program, &format!("/v1/journals/{journal}"));
        let group = grid["group"].clone();
        let numbers = |of: &str, name: &str| -> Vec<u64> {
            let all = grid[of].as_array().expect("people").iter();
            all.filter_map(|one| one[name].as_u64()).collect()
        };
        assert_eq!(group, lesson["group"], "the journal's first group is that of the lesson");
        Place {
            journal,
            lesson: lesson["lesson"].as_u64().expect("a number"),
            date: lesson["date"].as_str().expect("a day").to_owned(),
            teachers: numbers("teachers", "number"),
            students: numbers("students", "student"),
        }
    };
    let post = |headers: &[(&str, &str)], turn: usize, id: u128| {
        let click = click(&place, turn, 4, id);
        site.ask("POST", "/v1/clicks", headers, Some(&click))
    };
    let of_teacher = format!("teacher:{}", place.teachers[0]);
    let named = ("Tributary-Person", &*of_teacher);
    assert_eq!(post(&[("Authorization", &program), named], 0, 1).0, 201);
    // A teacher is who the token says, whatever else is said.
    let teacher = bearer(&token(&key, "teacher", Some(place.teachers[0])));
    let (status, answer) =
        post(&[("Authorization", &teacher), ("Tributary-Person", "deanery:1")], 1, 2);
    assert_eq!((status, &answer["cell"]["by"]["number"]), (201, &json!(place.teachers[0])));
    assert_eq!(get(&teacher, "/v1/views/latest").0, 200);
    assert_eq!(get(&teacher, "/v1/status").0, 403);
    let (_, session) = get(&teacher, "/v1/session");
    assert_eq!(
        (&session["mode"], &session["person"]["kind"]),
        (&json!("login"), &json!("teacher"))
    );
    assert_eq!(session["can_edit_people"], false);
    // A student sees the own journals, and nothing else.
    let student = bearer(&token(&key, "student", Some(place.students[0])));
    assert_eq!(get(&student, &grid(&place)).0, 200);
    let foreign = (0..u64::from(u16::MAX)).map(|journal| format!("/v1/journals/{journal}"));
    let mut foreign = foreign.filter(|path| get(&program, path).0 == 200);
    assert!(foreign.any(|path| get(&student, &path).0 == 403), "some journal is another's");
    for path in ["/v1/boards/groups", "/v1/views/latest", "/v1/tail", "/v1/people", "/v1/status"] {
        assert_eq!(get(&student, path).0, 403, "{path}");
    }
    assert_eq!(post(&[("Authorization", &student)], 0, 3).1["rule"], 2, "students set no 4");
    // Operators look, and mark nobody.
    let operator = bearer(&token(&key, "operator", None));
    assert_eq!(get(&operator, "/v1/status").0, 200);
    assert_eq!(post(&[("Authorization", &operator), named], 2, 4).0, 403);
    // By the names that it was given, and no others; but for programs, which no page can be.
    let host = |host, bearer: &str| {
        site.ask("GET", "/v1/session", &[("Host", host), ("Authorization", bearer)], None).0
    };
    assert_eq!(host("journal.university.example", &teacher), 200);
    assert_eq!((host("evil.example", &teacher), host("10.0.0.5:8080", &program)), (403, 200));
    let said = front.said();
    assert!(!said.contains("secret of programs") && !said.contains("eyJ"), "{said}");
    front.end();
}

#[test]
fn journal_says_what_it_needs() {
    let small = Small::new("front_needs");
    let (code, said) = small.tributary(&["serve", "--lessons", "nothing"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("its events have no column JOURNAL_ID"), "{said}");
    let small = Small::of("front_needs_more", &spec_called("front_needs_more"));
    for (options, what) in [
        (&["serve"][..], "name the lessons"),
        (&["serve", "--lessons", "nothing"], "cannot read lessons file \"nothing\""),
        (&["serve", "--lessons", "x", "--address", "0.0.0.0:0"], "say who is let in"),
        (
            &["serve", "--lessons", "x", "--address", "0.0.0.0:0", "--act-as-anyone"],
            "--act-as-anyone lets everyone act as anyone",
        ),
    ] {
        let (code, said) = small.tributary(options);
        assert!(matches!(code, Some(1 | 2)) && said.contains(what), "{options:?}: {code:?} {said}");
    }
    let lessons = small.folder.path().join("lessons");
    fs::write(&lessons, "").expect("a file");
    small.delete(&small.events());
    // A broker may still know of it for a moment; then it is missed as one that was made anew.
    wait_for("the topic to be missed", 2 * PATIENCE, || {
        let (code, said) = small.tributary(&["serve", "--lessons", text(&lessons)]);
        assert_eq!(code, Some(1), "{said}");
        said.contains("is not there: `tributary init` makes it")
    });
}
