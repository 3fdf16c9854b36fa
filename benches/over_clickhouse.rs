//! Loading into the engine of ClickHouse, how soon a click can be seen there, and what the views
//! cost.
//!
//! ```text
//! cargo bench --bench over_clickhouse [-- views | load | visible | boards | backfill]
//!     [--rows 10000000] [--events 500000] [--rate 5000] [--seconds 60] [--clicks 3000000]
//! ```
//!
//! `views`: so many rows of a year, a tenth of whose students changed their group since, in four
//! states: as they were inserted, nothing merged; at rest, which a partition is a minute after its
//! last row; with a day that is flowing in; and just after one student has changed. Each query of
//! the boards is asked of the view and of its table without FINAL, in turns; told are medians of
//! what the server says that it took. `load`: so many events, whose records stand in Kafka, are
//! loaded from the start. `boards`: the dashboards in Superset over a year of `--marks 2000000`, opened in
//! Chromium. `visible`: so many events a second, each in its time, over an engine that
//! loads inside; a reader asks four times a second which rows are new. Broker, ClickHouse, engine, clicks and
//! reader share the machine. `backfill`: a year of so many `--clicks`, which a dataflow holds, is made anew from its
//! archive into topics and tables of its own while that one runs; then both are compared, and readers are
//! shown the one, the other and the one again.

#[allow(dead_code)]
#[path = "over_kafka/place.rs"]
mod place;
#[allow(dead_code)]
#[path = "../tests/end_to_end/stack.rs"]
mod stack;

use std::{
    collections::HashMap,
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rdkafka::producer::Producer;
use serde_json::Value;
use ureq::Agent;

use place::{Engine, Place, sleep_until};
use stack::{ClickHouse, Superset};

const PARTITIONS: u32 = 6;

fn wait_for(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < patience, "waited {patience:?} for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Of a year: students, and lessons of each.
const STUDENTS: u64 = 12_000;

/// The queries of the boards, as Superset asks them, of `{view}`; `{streaks}` is that of the data set
/// of streaks, and `{days}` stands for the bars of each day.
const QUERIES: [(&str, &str); 17] = [
    ("days", "{days} GROUP BY LESSON_DATE ORDER BY present DESC LIMIT 10000"),
    (
        "days of a group",
        "{days} WHERE ifNull(group_short_title, 'не указано') IN ('ГР-17') GROUP BY LESSON_DATE \
         ORDER BY present DESC LIMIT 10000",
    ),
    (
        "days of a faculty",
        "{days} WHERE ifNull(faculty, 'не указано') IN ('Факультет 3') GROUP BY LESSON_DATE ORDER BY \
         present DESC LIMIT 10000",
    ),
    (
        "days of a kafedra",
        "{days} WHERE ifNull(kafedra, 'не указано') IN ('Кафедра 3') GROUP BY LESSON_DATE ORDER BY \
         present DESC LIMIT 10000",
    ),
    (
        "days of a month",
        "{days} WHERE LESSON_DATE >= toDate('2026-02-01') AND LESSON_DATE < toDate('2026-03-01') \
         GROUP BY LESSON_DATE ORDER BY present DESC LIMIT 10000",
    ),
    ("share present", "SELECT countIf(attendance_mark = 1) / count() FROM {view} LIMIT 50000"),
    ("marks today", "SELECT count() FROM {view} WHERE LESSON_DATE = toDate('2026-06-17')"),
    (
        "students",
        "SELECT ifNull(student_fio, 'не указано') AS name, STUDENT_ID, ifNull(group_short_title, \
         'не указано') AS of, count() AS marks, countIf(attendance_mark = 1), \
         countIf(attendance_mark = 0) FROM {view} GROUP BY name, STUDENT_ID, of ORDER BY marks DESC \
         LIMIT 50000",
    ),
    (
        "students of a group",
        "SELECT ifNull(student_fio, 'не указано') AS name, STUDENT_ID, ifNull(group_short_title, \
         'не указано') AS of, count() AS marks, countIf(attendance_mark = 1), \
         countIf(attendance_mark = 0) FROM {view} WHERE of IN ('ГР-17') GROUP BY name, STUDENT_ID, of \
         ORDER BY marks DESC LIMIT 50000",
    ),
    (
        "teachers",
        "SELECT ifNull(teacher_fio, 'не указано') AS name, ifNull(kafedra, 'не указано') AS of, \
         count() AS marks, countIf(attendance_mark = 1) / count(), countIf(attendance_mark = 0) / \
         count() FROM {view} GROUP BY name, of ORDER BY marks DESC LIMIT 50000",
    ),
    (
        "filter: groups",
        "SELECT ifNull(group_short_title, '') AS of FROM {view} GROUP BY of LIMIT 1000",
    ),
    ("filter: teachers", "SELECT ifNull(teacher_fio, '') AS of FROM {view} GROUP BY of LIMIT 1000"),
    (
        "students at risk",
        "SELECT ifNull(group_short_title, '') AS of, ifNull(student_fio, '') AS name, STUDENT_ID, \
         if(count(faculty) = 0, '', arrayStringConcat(arraySort(groupUniqArrayIf( \
         assumeNotNull(faculty), faculty IS NOT NULL)), ', ')), count(), countIf(attendance_mark = 0), \
         countIf(attendance_mark = 0) / count() AS share FROM {view} WHERE LESSON_DATE > \
         toDate('2026-06-17') - 14 AND LESSON_DATE <= toDate('2026-06-17') GROUP BY of, name, \
         STUDENT_ID HAVING share >= 0.3 AND count() >= 5 ORDER BY share DESC LIMIT 50000",
    ),
    (
        "absence by faculty",
        "SELECT ifNull(faculty, 'не указано') AS of, countIf(attendance_mark = 0) / count() AS share \
         FROM {view} WHERE LESSON_DATE > toDate('2026-06-17') - 14 AND LESSON_DATE <= \
         toDate('2026-06-17') GROUP BY of ORDER BY share DESC LIMIT 30",
    ),
    (
        "absence by group",
        "SELECT ifNull(group_short_title, 'не указано') AS of, countIf(attendance_mark = 0) / \
         count() AS share FROM {view} WHERE LESSON_DATE > toDate('2026-06-17') - 14 AND LESSON_DATE \
         <= toDate('2026-06-17') GROUP BY of HAVING count() >= 10 ORDER BY share DESC LIMIT 30",
    ),
    ("streaks", "SELECT * FROM ({streaks}) WHERE missed >= 3 ORDER BY missed DESC LIMIT 50000"),
    ("students in streaks", "SELECT count() FROM ({streaks}) WHERE missed >= 3"),
];

/// The bars of each day.
const DAYS: &str = "SELECT LESSON_DATE, countIf(attendance_mark = 1) AS present, \
                    countIf(attendance_mark = 0) AS absent FROM {view}";

/// A server that says how long it took.
struct Timed {
    server: &'static ClickHouse,
    agent: Agent,
}

impl Timed {
    /// What the server says that a question took, in ms; the answer is thrown away.
    fn ask_ms(&self, question: &str) -> f64 {
        let url = format!("{}/?database=university", self.server.url);
        let answer = self.agent.post(&url).send(question).expect("it answers");
        let summary = answer.headers().get("X-ClickHouse-Summary").cloned();
        let is_good = answer.status().is_success();
        let text = answer.into_body().into_with_config().limit(1 << 30).read_to_string();
        assert!(is_good, "{question}: {text:?}");
        let summary = summary.expect("it says how long it took");
        let summary: Value = serde_json::from_slice(summary.as_bytes()).expect("JSON");
        let ns = &summary["elapsed_ns"];
        let ns = ns.as_u64().or_else(|| ns.as_str().and_then(|text| text.parse().ok()));
        ns.expect("a time") as f64 / 1e6
    }
}

/// Rows of the lessons of a range for the first so many students, as an INSERT's SELECT.
fn rows(
    lessons: std::ops::Range<u64>,
    of: u64,
    students: u64,
    epoch: u64,
    is_changed: bool,
) -> String {
    let (begin, count) = (lessons.start, (lessons.end - lessons.start) * students);
    let group = if is_changed { "g + 1" } else { "g" };
    // 290 days from the first of September on.
    let day = format!("toDate('2025-09-01') + intDiv(l * 290, {of})");
    format!(
        "INSERT INTO attendance_latest_rows SELECT reinterpretAsUUID(sipHash128(l, s)), g, 20000 + s, \
         {day}, multiIf(cityHash64(l, s) % 100 < 70, 1, cityHash64(l, s) % 100 < 95, 0, 2), 200 + t, \
         toDateTime64('2025-09-01 08:30:00', 6, 'Europe/Moscow') + intDiv(l * 290 * 86400, {of}) + \
         s / 1000, l * 400 + g, 0, NULL, 2, concat('Фамилия', toString(s), ' Имя', toString(s % 300), \
         ' Отчество', toString(s % 200)), concat('Фамилия', toString(s)), concat('Имя', \
         toString(s % 300)), concat('Отчество', toString(s % 200)), 18 + s % 6, if(s % 2 = 0, 'М', \
         'Ж'), 2021 + g % 4, 'Бакалавр', 1 + g % 4, concat('ГР-', toString({group})), \
         concat('Специальность ', toString(g % 60)), concat('Преподаватель', toString(t), \
         ' Имя Отчество'), concat('Преподаватель', toString(t)), 'Имя', 'Отчество', 'доцент', \
         concat('Факультет ', toString(t % 14)), concat('Кафедра ', toString(t % 90)), 30 + t % 40, \
         'М', {epoch} FROM (SELECT intDiv(number, {students}) + {begin} AS l, number % {students} AS \
         s, intDiv(s, 25) AS g, (l * 7 + g) % 434 AS t FROM numbers({count}))"
    )
}

/// Applies the migrations to a database `university`.
fn make_tables(server: &ClickHouse) {
    server.ask("default", "CREATE DATABASE university");
    let mut files: Vec<_> = fs::read_dir("sql").expect("the migrations").flatten().collect();
    files.sort_by_key(fs::DirEntry::file_name);
    for file in files.iter().filter(|file| file.path().extension().is_some_and(|e| e == "sql")) {
        server.ask("university", &fs::read_to_string(file.path()).expect("a file"));
    }
}

/// The query of the data set of streaks, of `{view}` as of a day.
fn streaks(today: &str) -> String {
    let file = fs::read_to_string("sql/superset/datasets/journal/absence_streaks.yaml");
    let file = file.expect("the data set");
    let query = file.split("sql: |\n").nth(1).and_then(|rest| rest.split("\nparams:").next());
    let query = query.expect("its query").replace("toDate(now('Europe/Moscow'))", today);
    query.replace("latest_attendance_mv", "{view}")
}

fn median(took: impl Iterator<Item = f64>) -> f64 {
    let mut took: Vec<f64> = took.collect();
    took.sort_by(f64::total_cmp);
    took[took.len() / 2]
}

fn views(count: u64) {
    let server = ClickHouse::get();
    make_tables(server);
    let view = fs::read_to_string("sql/007_latest_attendance_mv.sql").expect("the view");
    let select = view.split(" AS\nSELECT").nth(1).and_then(|rest| rest.split(" FINAL").next());
    let select = select.expect("it reads with FINAL");
    server.ask("university", &format!("CREATE VIEW raw AS SELECT{select}"));
    let streaks = streaks("toDate('2026-06-17')");
    let ask = |question: &str| drop(server.ask("university", question));
    ask("SYSTEM STOP MERGES attendance_latest_rows");
    let lessons = count / STUDENTS;
    // All but the last day, in blocks as a loader inserts them.
    let old = lessons * 289 / 290;
    let blocks =
        |end: u64, size: usize| (0..end).step_by(size).map(move |l| l..end.min(l + size as u64));
    blocks(old, 8).for_each(|block| ask(&rows(block, lessons, STUDENTS, 1, false)));
    blocks(old, 80).for_each(|block| ask(&rows(block, lessons, STUDENTS / 10, 2, true)));
    let timed = Timed { server, agent: Agent::new_with_defaults() };
    let state = |name: &str| {
        let parts = server.ask(
            "university",
            "SELECT count() AS parts, sum(rows) AS rows, intDiv(sum(bytes_on_disk), 1048576) AS mib \
             FROM system.parts WHERE active AND table = 'attendance_latest_rows' AND database = \
             'university'",
        );
        println!("{name}: {}", parts[0]);
        println!("{:<22} {:>9} {:>9} {:>6}", "ms", "view", "raw", "times");
        let mut worst = 0.0_f64;
        for (name, query) in QUERIES {
            let of = |table: &str| {
                query
                    .replace("{days}", DAYS)
                    .replace("{streaks}", &streaks)
                    .replace("{view}", table)
            };
            let (mut seen, mut raw) = (Vec::new(), Vec::new());
            for _ in 0..7 {
                seen.push(timed.ask_ms(&of("latest_attendance_mv")));
                raw.push(timed.ask_ms(&of("raw")));
            }
            let [seen, raw] = [seen, raw].map(|took| median(took.into_iter()));
            worst = worst.max(seen / raw);
            println!("{name:<22} {seen:>9.1} {raw:>9.1} {:>6.2}", seen / raw);
        }
        println!("worst: {worst:.2} times");
    };
    state("nothing merged, a tenth of the students changed");
    ask("SYSTEM START MERGES attendance_latest_rows");
    ask("OPTIMIZE TABLE attendance_latest_rows FINAL");
    state("at rest");
    // The last day comes student by student, a block a second.
    for part in 0..60 {
        let some = rows(old..lessons, lessons, STUDENTS, 3, false);
        ask(&format!("{some} WHERE s % 60 = {part}"));
    }
    state("a day flows in");
    ask(&rows(0..old, lessons, 1, 4, true));
    state("just after one student changed");
}

/// The dashboards over so many latest marks, up to today.
fn boards(count: u64) {
    let server = ClickHouse::with(&[]);
    make_tables(server);
    let ask = |question: &str| drop(server.ask("university", question));
    let lessons = count / STUDENTS;
    let fill = rows(0..lessons, lessons, STUDENTS, 1, false);
    // The year ends today.
    let first = "toDate(now('Europe/Moscow')) - 289";
    ask(&fill.replace("toDate('2025-09-01')", &format!("({first})")));
    for table in ["attendance_enriched_rows", "attendance_latest_rows"] {
        ask(&format!(
            "INSERT INTO tributary_frontiers (table_name, table_uuid, epoch) SELECT name, uuid, \
             toUnixTimestamp64Milli(now64(3)) FROM system.tables WHERE database = 'university' AND \
             name = '{table}'"
        ));
    }
    let version = std::env::var("SUPERSET").unwrap_or_else(|_| "6.1.0".to_owned());
    let superset = Superset::start(&version);
    let address = server.url.strip_prefix("http://").expect("it is one");
    let uri = format!("clickhousedb://default@{address}/university");
    let imported = Command::new("python3")
        .arg("sql/superset/import.py")
        .args(["--superset", &superset.url, "--username", "admin", "--clickhouse", &uri])
        .env("SUPERSET_PASSWORD", "admin")
        .status();
    assert!(imported.expect("it can be started").success());
    let python = Command::new("python3")
        .args(["tests/stack/superset.py", "python", "--version", &version])
        .output()
        .expect("it can be started");
    let python = String::from_utf8_lossy(&python.stdout).trim().to_owned();
    let timed = Command::new(python)
        .arg("tests/stack/superset/boards.py")
        .args(["--superset", &superset.url, "--times", "6", "--pictures", "target/boards/timed"])
        .status();
    assert!(timed.expect("it can be started").success());
    println!("asked of ClickHouse one by one, in ms:");
    let timed = Timed { server, agent: Agent::new_with_defaults() };
    for (name, query) in QUERIES {
        let query = query
            .replace("{days}", DAYS)
            .replace("{streaks}", &streaks("toDate(now('Europe/Moscow'))"))
            .replace("{view}", "latest_attendance_mv")
            .replace("toDate('2026-06-17')", "toDate(now('Europe/Moscow'))");
        println!("    {name}: {:.0}", median((0..7).map(|_| timed.ask_ms(&query))));
    }
}

/// A loader as a process.
fn loader(place: &Place, options: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tributary"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["load", place::text(&place.spec("bench")), "--config"])
        .arg(place.config())
        .args(options)
        .stdin(Stdio::null())
        .spawn()
        .expect("the program can be started")
}

fn cpu_of(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let words: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    words[11..13].iter().map(|w| w.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

/// A university over brokers and ClickHouse.
fn university(events: u64) -> (Place, &'static ClickHouse) {
    let place = Place::start(events);
    let server = ClickHouse::get();
    server.ask("default", "CREATE DATABASE bench");
    let config = place.config();
    let mut file = fs::File::options().append(true).open(&config).expect("a file");
    write!(
        file,
        "[clickhouse]\nurl = \"{}\"\ndatabase = \"bench\"\n[clickhouse.tables]\nenriched = \
         \"attendance_enriched_rows\"\nlatest = \"attendance_latest_rows\"\n",
        server.url
    )
    .expect("a file");
    place.init("bench");
    (place, server)
}

fn number(server: &ClickHouse, question: &str) -> u64 {
    let rows = server.ask("bench", question);
    rows.first().and_then(|row| row["n"].as_u64()).unwrap_or(0)
}

/// The process of the engine: the greatest that runs its script.
fn engine_of_clickhouse(server: &ClickHouse) -> u32 {
    let port = server.url.rsplit(':').next().expect("a port").to_owned();
    let runs = |entry: &fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("skin.py") && line.contains(&port)
    };
    let entries = fs::read_dir("/proc").expect("processes").flatten().filter(runs);
    let ids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    ids.max().expect("it runs")
}

fn load(events: u64) {
    let (place, server) = university(events);
    let engine = Engine::start(&place, "bench", 1, &["--no-load"]);
    let begun = Instant::now();
    place.produce_all(0..events as usize);
    engine.wait_until_held(Duration::from_secs(600));
    let took = begun.elapsed().as_secs_f64();
    let cpu = engine.cpu().as_secs_f64();
    println!(
        "{events} events, into Kafka in {took:.1} s: engine {:.2} s of CPU a million events",
        cpu / events as f64 * 1e6
    );
    drop(engine);
    let clickhouse = engine_of_clickhouse(server);
    let before = cpu_of(clickhouse);
    let begun = Instant::now();
    let mut loader = loader(&place, &["--quiet"]);
    wait_for("all rows to be loaded", Duration::from_secs(900), || {
        number(server, "SELECT epoch AS n FROM attendance_frontier") > 0
    });
    let took = begun.elapsed().as_secs_f64();
    let (loading, serving) = (cpu_of(loader.id()), cpu_of(clickhouse) - before);
    let rows = number(server, "SELECT count() AS n FROM attendance_enriched_rows")
        + number(server, "SELECT count() AS n FROM attendance_latest_rows");
    let million = rows as f64 / 1e6;
    println!(
        "{rows} rows of 31 columns in {took:.1} s: {:.0} rows/s; a million rows take {:.2} s of CPU \
         of the loader, {:.2} s of ClickHouse",
        rows as f64 / took,
        loading / million,
        serving / million
    );
    loader.kill().expect("it runs");
    loader.wait().expect("it was started");
}

/// Runs a command over the place to its end; how long that took, and what it printed.
fn timed(place: &Place, words: &[&str]) -> (f64, String) {
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([words[0], place::text(&place.spec("bench")), "--config"])
        .arg(place.config())
        .args(&words[1..])
        .output()
        .expect("the program can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (begun.elapsed().as_secs_f64(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn backfill(events: u64) {
    let (place, server) = university(events);
    let patience = Duration::from_secs(1_800);
    let archive = place.folder.path().join("archive");
    let with_archive = ["--archive", place::text(&archive)];
    let live = Engine::start(&place, "bench", 1, &with_archive);
    place.produce_all(0..events as usize);
    live.wait_until_held(patience);
    let of = |view: &str| number(server, &format!("SELECT count() AS n FROM {view}"));
    wait_for("all to be loaded", patience, || of("attendance_enriched") == events);
    // What came is kept at its end.
    live.end();
    let _live = Engine::start(&place, "bench", 1, &with_archive);
    for from in ["archive", "topic"] {
        let name = format!("bench_{from}");
        let begun = Instant::now();
        let options = [&["--from", from][..], &with_archive].concat();
        let newer = Engine::backfill(&place, ("bench", &name), 1, &options);
        newer.wait_until_held(patience);
        let (took, cpu) = (begun.elapsed().as_secs_f64(), newer.cpu().as_secs_f64());
        let rows = format!("attendance_enriched__{name}");
        wait_for("all to be loaded", patience, || of(&rows) == events);
        let loaded = begun.elapsed().as_secs_f64();
        println!(
            "{events} clicks from the {from}: in topics after {took:.1} s, {:.0} a second, {:.2} s \
             of CPU a million; in ClickHouse after {loaded:.1} s; {} MiB at most",
            events as f64 / took,
            cpu / events as f64 * 1e6,
            newer.peak_mib(),
        );
        if from == "topic" {
            newer.end();
            continue;
        }
        let (took, said) = timed(&place, &["diff", "--as", &name, "--json"]);
        assert!(said.contains("\"is_equal\":true"), "{said}");
        println!("compared in {took:.1} s");
        for words in [&["promote", "--as", &name][..], &["promote", "--rollback"]] {
            let (took, said) = timed(&place, words);
            println!("{} in {took:.1} s: {}", words.join(" "), said.trim());
        }
    }
}

fn visible(rate: u64, seconds: u64) {
    let count = rate * seconds;
    let (place, server) = university(count);
    let engine = Engine::start(&place, "bench", 1, &[]);
    let ids: Vec<String> = place.keys[..count as usize]
        .iter()
        .map(|key| String::from_utf8_lossy(key).trim_matches('"').to_owned())
        .collect();
    // One before all, so that everybody is connected.
    let producer = place.producer();
    place.send(&producer, 0);
    wait_for("the first row", Duration::from_secs(120), || {
        number(server, "SELECT count() AS n FROM attendance_enriched_rows") > 0
    });
    let clickhouse = engine_of_clickhouse(server);
    let (before, before_engine) = (cpu_of(clickhouse), engine.cpu());
    let is_over = AtomicBool::new(false);
    let begun = Instant::now();
    let (due, seen) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut seen, mut newest) = (HashMap::<String, Instant>::new(), 0);
            while seen.len() < count as usize {
                if is_over.load(Ordering::Relaxed) && begun.elapsed().as_secs() > seconds + 120 {
                    break;
                }
                let from = newest.max(3_000) - 3_000;
                let question = format!(
                    "SELECT arrayStringConcat(groupArray(toString(ID))) AS ids, max(epoch) AS n \
                     FROM attendance_enriched_rows WHERE epoch > {from}"
                );
                // Who asks at this moment sees what the answer holds.
                let asked = Instant::now();
                let rows = server.ask("bench", &question);
                newest = newest.max(rows[0]["n"].as_u64().expect("a number"));
                let ids = rows[0]["ids"].as_str().expect("a text").as_bytes();
                for id in ids.chunks(36) {
                    let id = String::from_utf8_lossy(id).into_owned();
                    seen.entry(id).or_insert(asked);
                }
                thread::sleep(Duration::from_millis(250));
            }
            seen
        });
        let mut due = Vec::new();
        for place_of in 0..count {
            let at = begun + Duration::from_secs_f64(place_of as f64 / rate as f64);
            due.push(at);
            sleep_until(at);
            if place_of > 0 {
                place.send(&producer, place_of as usize);
            }
            if place_of % 100 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(Duration::from_secs(60)).expect("the broker takes them");
        is_over.store(true, Ordering::Relaxed);
        (due, reader.join().expect("it reads"))
    });
    let took = begun.elapsed().as_secs_f64();
    let cores = |cpu: f64| cpu / took;
    println!(
        "{rate}/s for {seconds} s: engine and loader {:.2}, ClickHouse {:.2} of a core",
        cores((engine.cpu() - before_engine).as_secs_f64()),
        cores(cpu_of(clickhouse) - before)
    );
    assert_eq!(seen.len() as u64, count, "all rows come");
    let mut late: Vec<f64> = ids
        .iter()
        .zip(&due)
        // The first seconds do not count, nor does the event before all.
        .filter(|(_, due)| due.duration_since(begun) > Duration::from_secs(3))
        .map(|(id, due)| seen[id].saturating_duration_since(*due).as_secs_f64())
        .collect();
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
    println!(
        "from due to visible, s: p50 {:.2}, p90 {:.2}, p99 {:.2}, most {:.2}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

fn main() {
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("the project");
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let option = |name: &str, usual: u64| {
        let place = words.iter().position(|word| *word == format!("--{name}"));
        place.map_or(usual, |place| words[place + 1].parse().expect("a number"))
    };
    let is_asked = |name: &str| {
        let first = words.first().filter(|word| !word.starts_with("--"));
        first.is_none_or(|first| first == name)
    };
    if is_asked("views") {
        views(option("rows", 10_000_000));
    }
    if is_asked("boards") {
        boards(option("marks", 2_000_000));
    }
    if is_asked("load") {
        load(option("events", 500_000));
    }
    if is_asked("backfill") {
        backfill(option("clicks", 3_000_000));
    }
    if is_asked("visible") {
        visible(option("rate", 5_000), option("seconds", 60));
    }
}
