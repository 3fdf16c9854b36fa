//! Loading into the real engine of ClickHouse, and what a plain SELECT shows there.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::{Map, Value, json};

use crate::{
    game::{number, seed, wait_for},
    halts::Watcher,
    relay::{Relay, Trick},
    small::{PATIENCE, Small},
    stack::{ClickHouse, Stack, project},
};

/// What makes a key among the latest marks.
const KEY: [&str; 4] = ["JOURNAL_ID", "STUDENT_ID", "LESSON_ID", "LESSON_DATE"];

/// The configuration of the page, but for who is let in: the server of the tests lets in all.
pub fn place(brokers: &str, url: &str, database: &str) -> String {
    let page = fs::read_to_string(project("docs/clickhouse.md")).expect("the page");
    let block = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let of_page: String = block
        .expect("a block")
        .lines()
        .filter(|line| !["username", "password", "ca "].iter().any(|of| line.starts_with(of)))
        .map(|line| match line {
            line if line.starts_with("url") => format!("url = \"{url}\"\n"),
            line if line.starts_with("database") => format!("database = \"{database}\"\n"),
            line => format!("{line}\n"),
        })
        .collect();
    format!("[kafka]\nbrokers = [\"{brokers}\"]\n{of_page}latest = \"attendance_latest_rows\"\n")
}

/// A university over brokers and ClickHouse, in a database of its own.
pub struct Shown {
    pub small: Small,
    pub server: &'static ClickHouse,
    pub database: String,
}

impl Shown {
    pub fn new(name: &str) -> Shown {
        Shown::at(name, ClickHouse::get())
    }

    pub fn at(name: &str, server: &'static ClickHouse) -> Shown {
        let spec = fs::read_to_string(project("dataflows/attendance.toml")).expect("the spec");
        let spec = spec.replace("name = \"attendance\"", &format!("name = \"{name}\""));
        let mut small = Small::of(name, &spec);
        server.ask("default", &format!("CREATE DATABASE {name}"));
        let path = small.folder.path().join("config.toml");
        let config = place(&Stack::get().brokers, &server.url, name);
        fs::write(&path, config).expect("a configuration");
        small.at = ["--config".to_owned(), path.display().to_string()];
        Shown { small, server, database: name.to_owned() }
    }

    /// From now on the program reaches the server through a relay, and waits for inserts no longer
    /// than two seconds.
    fn reach(&self, relay: &Relay) {
        let config = place(&Stack::get().brokers, &relay.url, &self.database);
        let config = config.replace("insert_timeout = \"2m\"", "insert_timeout = \"2s\"");
        assert!(config.contains("\"2s\""), "the page says how long it waits");
        fs::write(&self.small.at[1], config).expect("a configuration");
    }

    pub fn init(&self) -> String {
        let (code, said) = self.small.tributary(&["init"]);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    pub fn ask(&self, question: &str) -> Vec<Value> {
        self.server.ask(&self.database, question)
    }

    /// Rows of a view, by key, without what is absent, names in upper case.
    pub fn rows(&self, view: &str, key: &[&str]) -> BTreeMap<String, Value> {
        let rows = self.ask(&format!("SELECT * FROM {view}")).into_iter().map(|row| {
            let Value::Object(row) = row else { panic!("a row is an object") };
            let there = row.into_iter().filter(|(_, value)| !value.is_null());
            let row: Map<_, _> = there.map(|(name, value)| (name.to_uppercase(), value)).collect();
            let key: Vec<&Value> = key.iter().map(|column| &row[*column]).collect();
            (json!(key).to_string(), Value::Object(row))
        });
        let (mut found, mut count) = (BTreeMap::new(), 0);
        for (key, row) in rows {
            count += 1;
            found.insert(key, row);
        }
        assert_eq!(found.len(), count, "each key once in {view}");
        found
    }

    /// What a topic says last, by key, without these columns.
    pub fn said(&self, topic: &str, key: &[&str], without: &[&str]) -> BTreeMap<String, Value> {
        let records = self.small.read(topic).into_iter().map(|record| {
            let mut row: Map<String, Value> =
                serde_json::from_slice(&record.value).expect("records are JSON");
            without.iter().for_each(|column| drop(row.shift_remove(*column)));
            let key: Vec<&Value> = key.iter().map(|column| &row[*column]).collect();
            (json!(key).to_string(), Value::Object(row))
        });
        records.collect()
    }

    /// That both views show what the topics say.
    pub fn is_equal(&self) -> bool {
        self.rows("attendance_enriched", &["ID"]) == self.said("enriched", &["ID"], &[])
            && self.rows("latest_attendance_mv", &KEY) == self.said("latest", &KEY, &["ID"])
    }

    pub fn frontier(&self) -> u64 {
        let found = self.ask("SELECT epoch FROM attendance_frontier");
        found.first().map_or(0, |row| row["epoch"].as_u64().expect("a number"))
    }
}

/// Clicks and people of the sample, as lines.
pub fn sample(name: &str) -> Vec<(u32, Vec<u8>)> {
    let path = project("data/attendance").join(format!("{name}.ndjson"));
    let bytes = fs::read(path).expect("the sample");
    (0..).zip(bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec)).collect()
}

#[test]
fn views_show_what_topics_say_and_migrations_are_applied_once() {
    let shown = Shown::new("shown");
    let said = shown.init();
    assert!(said.contains("001_attendance_enriched_rows.sql: applied"), "{said}");
    let said = shown.init();
    assert!(said.contains("001_attendance_enriched_rows.sql: was applied"), "{said}");
    shown.small.send(0, &sample("events"));
    let documents = project("data/attendance/people.ndjson").display().to_string();
    let feed = ["feed", "--once", "--documents", &documents];
    let (code, said) = shown.small.tributary(&feed);
    assert_eq!(code, Some(0), "{said}");
    // It loads inside.
    let mut engine = shown.small.start(&["--no-feeds"]);
    wait_for("the rows", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        shown.frontier() > 0 && shown.is_equal()
    });
    assert!(shown.rows("attendance_enriched", &["ID"]).len() > 100);
    let (code, said) = shown.small.tributary(&["check"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the tables in ClickHouse are as the migrations say"), "{said}");
}

/// ClickHouse dies while it is loaded into; what came meanwhile is loaded once it is back.
#[test]
fn loader_waits_for_a_server_that_is_away() {
    let server = ClickHouse::alone();
    let shown = Shown::at("away", server);
    shown.init();
    let lines = sample("events");
    let (first, rest) = lines.split_at(lines.len() / 2);
    let documents = project("data/attendance/people.ndjson").display().to_string();
    let (code, said) = shown.small.tributary(&["feed", "--once", "--documents", &documents]);
    assert_eq!(code, Some(0), "{said}");
    let mut engine = shown.small.start(&["--no-feeds", "--no-load"]);
    let mut loader = shown.small.begin("load", &[], &[]);
    shown.small.send(0, first);
    wait_for("the first rows", PATIENCE, || {
        assert_eq!((engine.code(), loader.code()), (None, None), "{}", loader.said());
        shown.frontier() > 0 && shown.is_equal()
    });
    server.command("kill");
    shown.small.send(0, rest);
    wait_for("the loader to say so", PATIENCE, || loader.said().contains("it does not answer"));
    assert_eq!((engine.code(), loader.code()), (None, None), "{}", loader.said());
    server.command("start");
    wait_for("all rows", PATIENCE, || shown.is_equal());
}

/// What is there and no migration says is named, with what mends it.
#[test]
fn tables_that_have_drifted_are_named_with_what_mends_them() {
    let shown = Shown::new("drifted");
    shown.init();
    let check = || shown.small.tributary(&["check"]);
    for (change, said, mends) in [
        (
            "ALTER TABLE attendance_latest_rows DROP COLUMN KAFEDRA",
            "attendance_latest_rows has no column KAFEDRA",
            true,
        ),
        (
            "ALTER TABLE attendance_enriched_rows MODIFY COLUMN COURSE Nullable(UInt16)",
            "attendance_enriched_rows has column COURSE as Nullable(UInt16)",
            true,
        ),
        (
            "ALTER TABLE attendance_enriched_rows ADD COLUMN MINE String",
            "attendance_enriched_rows has a column MINE that no migration made",
            true,
        ),
        (
            "CREATE OR REPLACE VIEW attendance_enriched AS SELECT 1 AS ID",
            "attendance_enriched shows something else",
            true,
        ),
        (
            "ALTER TABLE attendance_latest_rows MODIFY SETTING min_age_to_force_merge_seconds = 7",
            "attendance_latest_rows has not the setting min_age_to_force_merge_seconds = 60",
            true,
        ),
        (
            "ALTER TABLE attendance_latest_rows MODIFY COLUMN COURSE Nullable(UInt8) DEFAULT 7",
            "attendance_latest_rows has column COURSE with DEFAULT 7",
            true,
        ),
        (
            "ALTER TABLE attendance_latest_rows MODIFY TTL LESSON_DATE + INTERVAL 9 YEAR",
            "attendance_latest_rows has the TTL \"LESSON_DATE + toIntervalYear(9)\", not \"\"",
            true,
        ),
        (
            "EXCHANGE TABLES attendance_enriched_rows AND attendance_latest_rows",
            "no ALTER mends that",
            false,
        ),
    ] {
        shown.ask(change);
        let (code, told) = check();
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(said), "{change}: {told}");
        if mends {
            let remedy = told.lines().find_map(|line| line.strip_prefix("  "));
            shown.ask(remedy.expect("one is said"));
            let (code, told) = check();
            assert_eq!(code, Some(0), "{told}");
        }
    }
    let beside = "SELECT name FROM system.databases WHERE name LIKE 'drifted\\_%'";
    assert_eq!(shown.server.ask("default", beside).len(), 0);
}

/// The operator is told what is wrong before anything is loaded, and what to do.
#[test]
fn tables_that_do_not_fit_are_told_and_nothing_is_loaded() {
    let shown = Shown::new("ill_made");
    let (code, said) = shown.small.tributary(&["load"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is not in database \"ill_made\": `tributary init` makes it"), "{said}");
    shown.init();
    shown.ask("ALTER TABLE attendance_enriched_rows DROP COLUMN FACULTY");
    let (code, said) = shown.small.tributary(&["load"]);
    assert_eq!(code, Some(1), "{said}");
    let remedy = "ADD COLUMN `FACULTY` Nullable(String) AFTER `TEACHER_WORK_POSITION`";
    assert!(said.contains(remedy), "{said}");
    // Inside an engine the other view is loaded all the same, and this one once it is mended.
    shown.small.send(0, &sample("events"));
    let documents = project("data/attendance/people.ndjson").display().to_string();
    let (code, said) = shown.small.tributary(&["feed", "--once", "--documents", &documents]);
    assert_eq!(code, Some(0), "{said}");
    let mut engine = shown.small.start(&["--no-feeds"]);
    wait_for("the other view", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        let said = shown.said("latest", &KEY, &["ID"]);
        !said.is_empty() && shown.rows("latest_attendance_mv", &KEY) == said
    });
    assert!(engine.said().contains(remedy), "{}", engine.said());
    shown.ask(&format!("ALTER TABLE attendance_enriched_rows {remedy}"));
    wait_for("both views", PATIENCE, || shown.is_equal());
}

/// Everything that the university says, and then what changes while tables are rebuilt beside a
/// loader; rebuilds die, and go on.
#[test]
fn tables_are_rebuilt_beside_a_loader_and_the_frontier_never_falls() {
    let shown = Shown::new("rebuilt");
    shown.init();
    shown.small.send(0, &sample("events"));
    let documents = project("data/attendance/people.ndjson").display().to_string();
    let feed = |changes: &[&str]| {
        let arguments = [&["feed", "--once", "--documents", &documents], changes].concat();
        let (code, said) = shown.small.tributary(&arguments);
        assert_eq!(code, Some(0), "{said}");
    };
    feed(&[]);
    let mut engine = shown.small.start(&["--no-feeds", "--no-load"]);
    let mut loader = shown.small.begin("load", &[], &[]);
    wait_for("the rows", PATIENCE, || {
        assert_eq!((engine.code(), loader.code()), (None, None), "{}", loader.said());
        shown.frontier() > 0 && shown.is_equal()
    });
    let tables = |name: &str| {
        let question = format!(
            "SELECT toString(uuid) AS uuid FROM system.tables WHERE database = 'rebuilt' AND name \
             LIKE '{name}'"
        );
        shown.ask(&question)
    };
    // A row that nobody wrote, so that it shows which table is read.
    shown.ask(
        "INSERT INTO attendance_enriched_rows (ID, LESSON_DATE, epoch) VALUES \
         (generateUUIDv4(), '2025-01-01', 1)",
    );
    let before = tables("attendance_enriched_rows");
    let mut newest = shown.frontier();
    let look = |newest: &mut u64| {
        let now = shown.frontier();
        assert!(now >= *newest, "the frontier fell from {newest} to {now}");
        *newest = now;
    };
    let rebuild_to = |variables: &[(&str, &str)]| {
        shown.small.begin("load", &["--rebuild", "enriched"], variables)
    };
    let rebuild = || rebuild_to(&[]);
    let watcher = Watcher::begin_at_keys(shown.server, &shown.database);
    // Clicks come all the while, and with them epochs.
    let (flows, begun_at) = (Arc::new(AtomicBool::new(true)), shown.frontier());
    let flowing = {
        let (flows, producer) = (Arc::clone(&flows), shown.small.producer());
        let topic = shown.small.events();
        thread::spawn(move || {
            for (id, line) in sample("events").iter().cycle() {
                if !flows.load(Ordering::Relaxed) {
                    break;
                }
                let key = id.to_string();
                let record = BaseRecord::to(&topic).partition(0).key(&key).payload(line);
                assert!(producer.send(record).is_ok(), "the queue is empty");
                producer.flush(PATIENCE).expect("the broker takes it");
                thread::sleep(Duration::from_millis(50));
            }
        })
    };
    let first = rebuild();
    wait_for("the fresh table", PATIENCE, || {
        look(&mut newest);
        tables("%rebuild%").len() == 1
    });
    first.signal(Signal::SIGKILL);
    drop(first);
    let mut second = rebuild();
    let changes = project("data/attendance/changes.ndjson").display().to_string();
    feed(&["--changes", &changes]);
    wait_for("the rebuild", PATIENCE, || {
        look(&mut newest);
        second.code().is_some()
    });
    assert_eq!(second.code(), Some(0), "{}", second.said());
    assert_ne!(tables("attendance_enriched_rows"), before);
    wait_for("all rows, and no other", PATIENCE, || {
        look(&mut newest);
        assert_eq!((engine.code(), loader.code()), (None, None), "{}", loader.said());
        shown.is_equal()
    });
    assert!(loader.said().contains("is another table now"), "{}", loader.said());
    assert_eq!(tables("%rebuild%").len(), 0);
    // Rebuilds die at each of their steps, and whenever: `REBUILDS=20` for more of these.
    let steps: &[&str] = if cfg!(feature = "failpoints") { &["told", "exchanged"] } else { &[] };
    for step in steps {
        let dies = format!("rebuild-{step}=panic");
        let mut dying = rebuild_to(&[("FAILPOINTS", &dies)]);
        wait_for("it to die", PATIENCE, || dying.code().is_some());
        assert!(dying.said().contains(&format!("failpoint rebuild-{step}")), "{}", dying.said());
        // What lost rows since is not gone on with.
        if *step == "told" {
            let left = "SELECT name FROM system.tables WHERE database = 'rebuilt' AND name LIKE \
                        '%rebuild%'";
            let left = shown.ask(left)[0]["name"].as_str().expect("a name").to_owned();
            shown.ask(&format!("TRUNCATE TABLE {left}"));
        }
    }
    // Nobody answers whether the tables were exchanged. They were:
    let relay = Relay::start(&shown.server.url);
    shown.reach(&relay);
    let unanswered = |trick: Trick| {
        let before = tables("attendance_enriched_rows");
        relay.play("EXCHANGE TABLES", trick, 1);
        let mut rebuild = rebuild();
        wait_for("a rebuild that is not answered", 3 * PATIENCE, || rebuild.code().is_some());
        assert_eq!(relay.met(), 1, "{}", rebuild.said());
        let is_another = tables("attendance_enriched_rows") != before;
        (rebuild.code(), rebuild.said(), is_another)
    };
    let (code, said, is_another) = unanswered(Trick::CutAfter);
    assert_eq!((code, is_another), (Some(0), true), "{said}");
    // or not, and then the next one does it. It waits long for that, so not in every run.
    if number("REBUILDS", 1) > 1 {
        let (code, said, is_another) = unanswered(Trick::CutBefore);
        assert_eq!((code, is_another), (Some(1), false), "{said}");
        assert!(said.contains("was exchanged is not known"), "{said}");
    }
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed());
    for _ in 0..number("REBUILDS", 1) {
        let mut dying = rebuild();
        thread::sleep(Duration::from_millis(dice.next_u64() % 9_000));
        let has_ended = dying.code();
        assert!(matches!(has_ended, None | Some(0)), "{}", dying.said());
        if has_ended.is_none() {
            dying.signal(Signal::SIGKILL);
        }
    }
    let mut last = rebuild();
    wait_for("the last rebuild", PATIENCE, || last.code().is_some());
    assert_eq!(last.code(), Some(0), "{}", last.said());
    wait_for("all rows, and no other", PATIENCE, || {
        assert_eq!((engine.code(), loader.code()), (None, None), "{}", loader.said());
        shown.is_equal()
    });
    assert_eq!(tables("%rebuild%").len(), 0);
    flows.store(false, Ordering::Relaxed);
    flowing.join().expect("it flows");
    assert!(shown.frontier() > begun_at + 10_000, "the frontier went on");
    assert!(watcher.end().len() > 100, "nobody looked");
}

/// What was loaded once is not loaded again by itself, so a table that has lost it is not taken for
/// whole.
#[test]
fn tables_that_lost_what_was_loaded_are_refused_and_made_anew() {
    let shown = Shown::new("lost_rows");
    shown.init();
    shown.small.send(0, &sample("events"));
    let documents = project("data/attendance/people.ndjson").display().to_string();
    let (code, said) = shown.small.tributary(&["feed", "--once", "--documents", &documents]);
    assert_eq!(code, Some(0), "{said}");
    let _engine = shown.small.start(&["--no-feeds", "--no-load"]);
    let load = || {
        let mut loader = shown.small.begin("load", &[], &[]);
        wait_for("the rows", PATIENCE, || {
            assert_eq!(loader.code(), None, "{}", loader.said());
            shown.frontier() > 0 && shown.is_equal()
        });
    };
    load();
    let refused = |says: &str| {
        let mut loader = shown.small.begin("load", &[], &[]);
        wait_for("it to end", PATIENCE, || loader.code().is_some());
        assert_eq!(loader.code(), Some(1), "{}", loader.said());
        assert!(loader.said().contains(says), "{}", loader.said());
    };
    shown.ask("TRUNCATE TABLE attendance_enriched_rows");
    refused("`tributary load --rebuild enriched` loads it anew");
    let (code, said) = shown.small.tributary(&["load --rebuild enriched"]);
    assert_eq!(code, Some(0), "{said}");
    load();
    shown.ask("DROP TABLE attendance_latest_rows SYNC");
    let (code, said) = shown.small.tributary(&["check"]);
    assert!(code == Some(1) && said.contains("attendance_latest_rows is not there"), "{said}");
    refused("`tributary init` makes it");
    let said = shown.init();
    assert!(said.contains("002_attendance_latest_rows.sql: applied"), "{said}");
    load();
    // One that is asked to end before it is done says so.
    let aim = (shown.frontier() + 10_000_000).to_string();
    let mut loader = shown.small.begin("load", &["--until-epoch", &aim], &[]);
    let last_word = || shown.ask("SELECT toString(max(at)) AS at FROM tributary_frontiers");
    let before = last_word();
    wait_for("it to load", PATIENCE, || last_word() != before);
    loader.signal(Signal::SIGTERM);
    wait_for("it to end", PATIENCE, || loader.code().is_some());
    assert_eq!(loader.code(), Some(1), "{}", loader.said());
    assert!(loader.said().contains("before it was done"), "{}", loader.said());
    shown.ask(
        "INSERT INTO tributary_loaded (table_uuid, topic, topic_id, partition, next) SELECT \
         table_uuid, topic, 'another', partition, next FROM tributary_loaded",
    );
    refused("was deleted since");
}

/// Of inserts that are not answered nobody knows whether they were done; servers that are busy
/// refuse them. Nothing is lost, nothing is seen twice.
#[test]
fn inserts_are_made_again_until_they_are_known_to_be_done() {
    let shown = Shown::new("relayed");
    shown.init();
    let relay = Relay::start(&shown.server.url);
    shown.reach(&relay);
    for table in ["attendance_enriched_rows", "attendance_latest_rows"] {
        shown.ask(&format!("SYSTEM STOP MERGES {table}"));
    }
    let lines = sample("events");
    let documents = project("data/attendance/people.ndjson").display().to_string();
    let (code, said) = shown.small.tributary(&["feed", "--once", "--documents", &documents]);
    assert_eq!(code, Some(0), "{said}");
    let mut engine = shown.small.start(&["--no-feeds", "--no-load"]);
    let mut loader = shown.small.begin("load", &[], &[]);
    let (rows, frontiers) = ("RowBinaryWithNamesAndTypes", "INSERT INTO tributary_frontiers");
    let tricks = [
        (rows, Trick::CutBefore, "it does not answer", false),
        (rows, Trick::CutAfter, "it does not answer", true),
        (rows, Trick::HoldBefore, "no answer in time", false),
        (rows, Trick::HoldAfter, "no answer in time", true),
        (frontiers, Trick::CutAfter, "move the frontier", false),
        ("INSERT INTO tributary_loaded", Trick::CutBefore, "say how far", false),
        (
            rows,
            Trick::With("max_memory_usage=1&max_untracked_memory=1"),
            "MEMORY_LIMIT_EXCEEDED",
            false,
        ),
        (rows, Trick::Refused(243, "NOT_ENOUGH_SPACE"), "NOT_ENOUGH_SPACE", false),
        (rows, Trick::Refused(242, "TABLE_IS_READ_ONLY"), "TABLE_IS_READ_ONLY", false),
        (rows, Trick::Refused(394, "QUERY_WAS_CANCELLED"), "QUERY_WAS_CANCELLED", false),
    ];
    let count = |what: &str| {
        let question = format!("SELECT {what} AS n FROM attendance_enriched_rows");
        shown.ask(&question)[0]["n"].as_u64().expect("a number")
    };
    let mut part = lines.chunks(lines.len().div_ceil(tricks.len()));
    for (word, trick, says, is_twice) in tricks {
        let said = loader.said().len();
        let (all, unlike) = (count("count()"), count("uniqExact(ID, epoch)"));
        relay.play(word, trick, 2);
        shown.small.send(0, part.next().expect("there is one for each"));
        wait_for("it to be played, and all rows", PATIENCE, || {
            assert_eq!((engine.code(), loader.code()), (None, None), "{}", loader.said());
            relay.met() == 2 && shown.is_equal()
        });
        assert!(loader.said()[said..].contains(says), "{trick:?}: {}", &loader.said()[said..]);
        let (more, new) = (count("count()") - all, count("uniqExact(ID, epoch)") - unlike);
        assert_eq!(more > new, is_twice, "{trick:?}: {more} rows more, {new} of them unlike");
    }
    // A server that has too many parts says so itself.
    shown.ask("ALTER TABLE attendance_latest_rows MODIFY SETTING parts_to_throw_insert = 1");
    let changes = project("data/attendance/changes.ndjson").display().to_string();
    let changed = ["feed", "--once", "--documents", &documents, "--changes", &changes];
    let (code, said) = shown.small.tributary(&changed);
    assert_eq!(code, Some(0), "{said}");
    wait_for("it to say so", PATIENCE, || loader.said().contains("TOO_MANY_PARTS"));
    assert_eq!((engine.code(), loader.code()), (None, None), "{}", loader.said());
    shown.ask("ALTER TABLE attendance_latest_rows RESET SETTING parts_to_throw_insert");
    wait_for("all rows", PATIENCE, || shown.is_equal());
    // What no retry mends is told, with the remedy.
    for (code, name, remedy) in [
        (164, "READONLY", "give this user the rights"),
        (497, "ACCESS_DENIED", "give this user the rights"),
        (516, "AUTHENTICATION_FAILED", "check clickhouse.username and clickhouse.password"),
        (60, "UNKNOWN_TABLE", "`tributary init` makes the tables"),
    ] {
        relay.play("SELECT", Trick::Refused(code, name), usize::MAX);
        let mut refused = shown.small.begin("load", &[], &[]);
        wait_for("it to end", PATIENCE, || refused.code().is_some());
        let said = refused.said();
        assert!(refused.code() == Some(1) && said.contains(remedy), "{name}: {said}");
    }
}

/// What somebody else wrote into a topic hides nothing, and is not passed over in silence.
#[test]
fn frontier_stands_before_what_is_no_record_of_the_view() {
    let shown = Shown::new("stuck");
    shown.init();
    let lines = sample("events");
    let (first, rest) = lines.split_at(lines.len() / 2);
    shown.small.send(0, first);
    let documents = project("data/attendance/people.ndjson").display().to_string();
    let (code, said) = shown.small.tributary(&["feed", "--once", "--documents", &documents]);
    assert_eq!(code, Some(0), "{said}");
    let _engine = shown.small.start(&["--no-feeds", "--no-load"]);
    let mut loader = shown.small.begin("load", &[], &[]);
    wait_for("the first rows", PATIENCE, || {
        assert_eq!(loader.code(), None, "{}", loader.said());
        shown.frontier() > 0 && shown.rows("attendance_enriched", &["ID"]).len() >= first.len() / 2
    });
    shown.small.write("enriched", b"\"strange\"", b"{\"ID\":1}");
    wait_for("it to say so", PATIENCE, || loader.said().contains("no record of the view"));
    let stands = shown.frontier();
    let before = shown.rows("attendance_enriched", &["ID"]).len();
    shown.small.send(0, rest);
    wait_for("rows behind it", PATIENCE, || {
        assert_eq!(loader.code(), None, "{}", loader.said());
        shown.rows("attendance_enriched", &["ID"]).len() > before
    });
    // The next start finds it again; one that is to load all up to an epoch cannot.
    drop(loader);
    let until = (stands + 10_000_000).to_string();
    let (code, said) = shown.small.tributary(&["load", "--until-epoch", &until]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`tributary load --leave-out` passes it"), "{said}");
    assert_eq!(shown.frontier(), stands);
    let mut loader = shown.small.begin("load", &["--leave-out"], &[]);
    wait_for("the frontier to go on", PATIENCE, || {
        assert_eq!(loader.code(), None, "{}", loader.said());
        shown.frontier() > stands
    });
    assert!(loader.said().contains("left out"), "{}", loader.said());
}
