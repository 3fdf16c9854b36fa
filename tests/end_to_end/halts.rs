//! Halts: a loader stops at epochs on the way while it, the engine and ClickHouse are killed, and
//! inserts or their answers are lost. What the
//! views show there is what the specification makes of the inputs up to that epoch, and whoever
//! looks meanwhile sees each key once, and a frontier that never falls.
//!
//! The whole game: `EVENTS=40000 HALTS=24 CRASHES=30 cargo test --release --features failpoints
//! --test end_to_end halts`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::signal::Signal;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use serde_json::{Map, Value};

use crate::{
    clickhouse::place,
    game::{Game, Plan, number, seed, text, wait_for},
    relay::{Relay, Trick},
    small::{Engine, PATIENCE},
    stack::{ClickHouse, Stack},
};

/// The views, and what makes a key in each.
const VIEWS: [(&str, &str, &str); 2] = [
    ("enriched", "attendance_enriched", "ID"),
    ("latest", "latest_attendance_mv", "(JOURNAL_ID, STUDENT_ID, LESSON_ID, LESSON_DATE)"),
];

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Loader,
    Engine,
    ClickHouse,
    /// The loader, at a named step.
    Step(&'static str),
}

const VICTIMS: [Victim; 6] = [
    Victim::Loader,
    Victim::ClickHouse,
    Victim::Engine,
    Victim::Step("load-inserted"),
    Victim::Step("load-said"),
    Victim::Step("load-moved"),
];

/// Tables that a game is loaded into.
pub struct Tables {
    pub server: &'static ClickHouse,
    pub database: String,
    /// By which the program reaches the server.
    relay: Relay,
    spec: String,
    pub config: String,
    /// A folder for each epoch at which they were looked at.
    shown: PathBuf,
}

impl Tables {
    /// Makes them.
    pub fn of(game: &Game, server: &'static ClickHouse) -> Tables {
        let database = game.name().to_owned();
        server.ask("default", &format!("CREATE DATABASE {database}"));
        let folder = game.folder.path();
        let config = folder.join("clickhouse.toml");
        let relay = Relay::start(&server.url);
        let place = place(&game.stack.brokers, &relay.url, &database);
        let place = place.replace("insert_timeout = \"2m\"", "insert_timeout = \"2s\"");
        fs::write(&config, place).expect("a configuration");
        let [spec, config] = [&game.spec, &config].map(|path| text(path).to_owned());
        let shown = folder.join("shown");
        let tables = Tables { server, database, relay, spec, config, shown };
        let mut init = tables.begin("init", &["--event-partitions", "6"], &[]);
        wait_for("init", PATIENCE, || init.code().is_some());
        assert_eq!(init.code(), Some(0), "{}", init.said());
        tables
    }

    /// Starts a command over them.
    pub fn begin(&self, command: &str, options: &[&str], variables: &[(&str, &str)]) -> Engine {
        let words = [command, &self.spec, "--config", &self.config];
        Engine::begin(&[&words[..], options].concat(), variables)
    }

    /// Starts a loader up to an epoch.
    fn load(&self, until: u64, variables: &[(&str, &str)]) -> Engine {
        self.begin("load", &["--until-epoch", &until.to_string()], variables)
    }

    /// Loads everything up to an epoch.
    pub fn load_up_to(&self, until: u64) {
        let mut loader = self.load(until, &[]);
        wait_for("a loader to halt", 4 * PATIENCE, || loader.code().is_some());
        assert_eq!(loader.code(), Some(0), "{}", loader.said());
    }

    /// Up to which epoch they say that all is there.
    pub fn frontier(&self) -> Option<u64> {
        let rows = self.server.ask(&self.database, "SELECT epoch FROM attendance_frontier");
        rows.first().and_then(|row| row["epoch"].as_u64())
    }

    /// Notes what the views show now, for the judge: it is to be that of this epoch.
    pub fn note(&self, epoch: u64) {
        let folder = self.shown.join(epoch.to_string());
        fs::create_dir_all(&folder).expect("a folder");
        for (name, view, _) in VIEWS {
            let file = File::create(folder.join(format!("{name}.ndjson"))).expect("a file");
            let mut file = BufWriter::new(file);
            for row in self.server.ask(&self.database, &format!("SELECT * FROM {view}")) {
                let Value::Object(row) = row else { panic!("a row is an object") };
                let there = row.into_iter().filter(|(_, value)| !value.is_null());
                let row: Map<_, _> = there.map(|(n, value)| (n.to_uppercase(), value)).collect();
                writeln!(file, "{}", Value::Object(row)).expect("a file");
            }
            file.flush().expect("a file");
        }
    }

    /// Holds all that was noted against the specification.
    pub fn judge(&self, game: &Game) {
        println!("{}", game.judge_shown(&self.shown));
    }
}

/// What one saw: the frontier, and which view showed how many rows after that.
pub type Look = (u64, usize, u64);

/// One who looks all the while.
pub struct Watcher {
    end: Arc<AtomicBool>,
    looks: JoinHandle<Vec<Look>>,
}

impl Watcher {
    /// Begins to look; a server that is away is asked again.
    pub fn begin(server: &'static ClickHouse, database: &str) -> Watcher {
        Watcher::look(server, database, true)
    }

    /// Ends, and holds what it saw against the topics, of which nothing is compacted: where the
    /// frontier says an epoch, every key is there that had come by then.
    fn end_and_judge(self, game: &Game) -> usize {
        let looks = self.end();
        for (place, (name, view, _)) in VIEWS.into_iter().enumerate() {
            let mut first = BTreeMap::<Vec<u8>, u64>::new();
            for record in game.read(name) {
                let epoch = record.headers["epoch"].parse().expect("an epoch is a number");
                let known = first.entry(record.key).or_insert(epoch);
                *known = epoch.min(*known);
            }
            let mut came: Vec<u64> = first.into_values().collect();
            came.sort_unstable();
            for (frontier, _, rows) in looks.iter().filter(|(_, of, _)| *of == place) {
                let held = came.partition_point(|epoch| epoch <= frontier) as u64;
                assert!(*rows >= held, "{view} shows {rows} rows, and {held} by {frontier}");
            }
        }
        looks.len()
    }

    /// The same, but rows newer than the frontier may go: a table that was rebuilt may have them a
    /// moment later.
    pub fn begin_at_keys(server: &'static ClickHouse, database: &str) -> Watcher {
        Watcher::look(server, database, false)
    }

    fn look(server: &'static ClickHouse, database: &str, only_grows: bool) -> Watcher {
        let (end, database) = (Arc::new(AtomicBool::new(false)), database.to_owned());
        let is_over = Arc::clone(&end);
        let looks = thread::spawn(move || {
            let (mut looks, mut newest, mut most) = (Vec::new(), 0, [0; 2]);
            while !is_over.load(Ordering::Relaxed) {
                let look = |question: &str, column: &str| -> Option<u64> {
                    match server.try_ask(&database, question) {
                        Ok(rows) => rows.first()?[column].as_u64(),
                        // One that dies breaks off; what it says instead of rows is for nobody.
                        Err(said) => {
                            assert!(!said.contains("DB::Exception"), "{question}: {said}");
                            None
                        }
                    }
                };
                if let Some(epoch) = look("SELECT epoch FROM attendance_frontier", "epoch") {
                    assert!(epoch >= newest, "the frontier fell from {newest} to {epoch}");
                    newest = epoch;
                }
                for (place, ((_, view, key), most)) in VIEWS.into_iter().zip(&mut most).enumerate()
                {
                    let question = format!(
                        "SELECT count() AS rows, count() - uniqExact({key}) AS twice, \
                         rows * 1000000 + twice AS both FROM {view}"
                    );
                    let Some(both) = look(&question, "both") else { continue };
                    let (rows, twice) = (both / 1_000_000, both % 1_000_000);
                    assert_eq!(twice, 0, "of {rows} rows of {view} some show a key again");
                    assert!(rows >= *most || !only_grows, "{view} had {most} rows, and has {rows}");
                    *most = rows;
                    looks.push((newest, place, rows));
                }
                thread::sleep(Duration::from_millis(20));
            }
            looks
        });
        Watcher { end, looks }
    }

    /// Ends; returns what it saw.
    pub fn end(self) -> Vec<Look> {
        self.end.store(true, Ordering::Relaxed);
        self.looks.join().expect("what it saw was right")
    }
}

#[test]
fn tables_at_epochs_are_what_the_rules_say_whoever_dies() {
    let seed = seed();
    let mut victims = VICTIMS.to_vec();
    if !cfg!(feature = "failpoints") {
        victims.retain(|victim| !matches!(victim, Victim::Step(_)));
    }
    let (halts, crashes) = (number("HALTS", 5), number("CRASHES", victims.len() as u64));
    let rounds = halts.max(crashes);
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut below = |end: u64| dice.next_u64() % end;
    // What is compacted cannot be judged.
    let stack = Stack::with(&["--set", "log.cleaner.enable=false"]);
    let plan = Plan {
        seed,
        events: number("EVENTS", 3_000),
        lasts: Duration::from_secs(2 * rounds),
        storms: (rounds / 3) as u32,
        ..Plan::default()
    };
    // Before clicks flow: where it is brought first, that takes long.
    let server = ClickHouse::alone();
    let mut game = Game::begin(stack, plan);
    let tables = Tables::of(&game, server);
    let watcher = Watcher::begin(server, &tables.database);
    let options = ["--atomic-max", "0", "--fuel", "50"];
    let mut engine = game.start(1, 2, &options);
    let (mut happened, mut at) = (BTreeMap::<Victim, u64>::new(), 0);
    let tricks = [Trick::HoldBefore, Trick::HoldAfter, Trick::CutBefore, Trick::CutAfter];
    let mut lost = 0;
    for round in 0..rounds {
        game.flow_up_to((round + 1) as f64 / (rounds + 1) as f64);
        let mut since = Vec::new();
        wait_for("an epoch to halt at", PATIENCE, || {
            assert!(!engine.has_ended(), "{}", engine.said());
            since = game.epochs().into_iter().filter(|epoch| *epoch > at).collect();
            !since.is_empty()
        });
        thread::sleep(Duration::from_millis(below(1_500)));
        since = game.epochs().into_iter().filter(|epoch| *epoch > at).collect();
        let sealed = since[below(since.len() as u64) as usize];
        // Any epoch may be named.
        let until = sealed + (round % 2) * below(40);
        let step = victims[(round % victims.len() as u64) as usize];
        let is_due = round < crashes;
        let dies = match step {
            Victim::Step(name) if is_due => Some(format!("{name}=panic")),
            _ => None,
        };
        let variables = dies.as_deref().map(|dies| ("FAILPOINTS", dies));
        // An insert of this round is not done, or is, and nobody says so.
        let trick = tricks[(round % 4) as usize];
        tables.relay.play("RowBinaryWithNamesAndTypes", trick, 1);
        let mut loader = tables.load(until, variables.as_slice());
        match step {
            _ if !is_due => {}
            Victim::Step(name) => {
                wait_for("the loader to die", PATIENCE, || loader.code().is_some());
                let said = loader.said();
                assert!(said.contains(&format!("failpoint {name} panic")), "{name}: {said}");
                *happened.entry(step).or_default() += 1;
            }
            Victim::Loader => {
                thread::sleep(Duration::from_millis(below(500)));
                // One that was faster has halted.
                if loader.code().is_none() {
                    loader.signal(Signal::SIGKILL);
                    *happened.entry(step).or_default() += 1;
                }
            }
            Victim::Engine => {
                thread::sleep(Duration::from_millis(below(500)));
                engine.crash(0);
                engine = game.start(1, 2, &options);
                *happened.entry(step).or_default() += 1;
            }
            Victim::ClickHouse => {
                thread::sleep(Duration::from_millis(below(500)));
                let is_amid = loader.code().is_none();
                // Now and then in order: what was asked of it by then is answered.
                server.command(["kill", "kill", "stop"][below(3) as usize]);
                thread::sleep(Duration::from_millis(below(500)));
                server.command("start");
                *happened.entry(step).or_default() += u64::from(is_amid);
            }
        }
        let is_killed = is_due && matches!(step, Victim::Loader | Victim::Step(_));
        if !is_killed {
            wait_for("the loader to halt", PATIENCE, || loader.code().is_some());
            assert_eq!(loader.code(), Some(0), "{}", loader.said());
        }
        drop(loader);
        if is_killed {
            tables.load_up_to(until);
        }
        at = until;
        assert_eq!(tables.frontier(), Some(at), "it says what it holds, and no more");
        tables.note(at);
        lost += tables.relay.met();
    }
    tables.relay.play("RowBinaryWithNamesAndTypes", Trick::CutBefore, 0);
    game.settle(&mut engine);
    engine.end();
    let last = game.sealed();
    tables.load_up_to(last);
    assert_eq!(tables.frontier(), Some(last), "it says what it holds, and no more");
    tables.note(last);
    let looks = watcher.end_and_judge(&game);
    let died: u64 = happened.values().sum();
    println!("{happened:?}; {lost} inserts that nobody answered; {looks} looks");
    assert!(lost as u64 * 2 > rounds, "{lost} inserts were lost, or their answers");
    assert!(looks as u64 > 10 * rounds, "{looks} looks");
    let is_whole = crashes >= victims.len() as u64;
    assert!(!is_whole || happened.len() == victims.len(), "{happened:?}");
    assert!(died * 10 >= crashes * 8, "{happened:?} of {crashes}");
    // What is loaded is not taken back.
    let mut before = tables.load(at, &[]);
    wait_for("a loader to refuse", PATIENCE, || before.code().is_some());
    assert_eq!(before.code(), Some(1), "{}", before.said());
    assert!(before.said().contains("what is loaded is not taken back"), "{}", before.said());
    tables.judge(&game);
}
