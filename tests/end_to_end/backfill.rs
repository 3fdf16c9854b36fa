//! A dataflow is made anew from history beside the one that runs, compared with it, shown instead
//! of it, and taken back, while clicks flow; whatever dies in between.
//!
//! The whole game: `EVENTS=200000 cargo test --release --features failpoints --test end_to_end
//! backfill::changed -- --nocapture`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    clickhouse::{Shown, place, sample},
    game::{Game, Plan, number, seed, text, wait_for},
    small::{PATIENCE, Small},
    stack::{ClickHouse, Stack, project},
    topics::read,
};

/// What the dataflow is that runs first: it leaves a column out, and takes another one from where
/// it does not stand.
fn elder(spec: &str) -> String {
    let without = spec.lines().filter(|line| !line.starts_with("NUMBER_CERT"));
    let spec: String = without.map(|line| format!("{line}\n")).collect();
    let wrong = spec.replace(
        "STUDENT_LAST_NAME    = { type = \"text\", path = \"PERSONAL.lastname\" }",
        "STUDENT_LAST_NAME    = { type = \"text\", path = \"PERSONAL.name\" }",
    );
    assert_ne!(wrong, spec, "the spec says where a student's name stands");
    wrong
}

/// Reads as an analyst does, all the while, and holds that what is seen is of one dataflow.
struct Analyst {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
    seen: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Analyst {
    fn begin(server: &'static ClickHouse, database: &str) -> Analyst {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let (database, is_over, sees) = (database.to_owned(), Arc::clone(&over), Arc::clone(&seen));
        let thread = thread::spawn(move || {
            let mut newest = 0;
            while !is_over.load(Ordering::Relaxed) {
                for (view, cert, last, first) in [
                    (
                        "attendance_enriched",
                        "NUMBER_CERT",
                        "STUDENT_LAST_NAME",
                        "STUDENT_FIRST_NAME",
                    ),
                    (
                        "latest_attendance_mv",
                        "number_cert",
                        "student_last_name",
                        "student_first_name",
                    ),
                ] {
                    let question = format!(
                        "SELECT count() AS rows, countIf({cert} IS NOT NULL) AS certs, \
                         countIf({last} = {first}) AS wrong, countIf({last} != {first}) AS right \
                         FROM {view}"
                    );
                    let found = server.ask(&database, &question).remove(0);
                    let of = |name: &str| found[name].as_u64().expect("a number");
                    let shown = match (of("certs") > 0, of("wrong") > 0, of("right") > 0) {
                        (false, true, false) => "elder",
                        (true, false, true) => "newer",
                        (false, false, false) => continue,
                        other => panic!("{view} shows neither: {other:?} of {found}"),
                    };
                    *sees.lock().expect("nobody panics").entry(shown).or_default() += 1;
                }
                let found = server.ask(&database, "SELECT epoch FROM attendance_frontier");
                let frontier = found.first().and_then(|row| row["epoch"].as_u64()).unwrap_or(0);
                assert!(frontier >= newest, "the frontier fell from {newest} to {frontier}");
                newest = frontier;
                thread::sleep(Duration::from_millis(20));
            }
        });
        Analyst { over, thread: Some(thread), seen }
    }

    /// How often each was seen so far.
    fn seen(&self, which: &str) -> u64 {
        assert!(self.thread.as_ref().is_some_and(|thread| !thread.is_finished()), "it reads on");
        self.seen.lock().expect("nobody panics").get(which).copied().unwrap_or(0)
    }

    fn end(mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .into_iter()
            .for_each(|thread| thread.join().expect("one state at a time"));
    }
}

/// What is other between the files of two runs, as `tributary diff` says it.
fn expected(game: &Game, elder: &Path) -> Value {
    let input = game.folder.path().join("in");
    let rows = |spec: &Path, out: &str| {
        let out = game.folder.path().join(out);
        let file = |name: &str| text(&input.join(name)).to_owned();
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args(["run", text(spec), "--once", "--quiet", "--out", text(&out)])
            .args(["--events", &file("events.ndjson"), "--documents", &file("people.ndjson")])
            .args(["--changes", &file("changes.ndjson")])
            .output()
            .expect("the program can be started");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        move |view: &str| -> Vec<Value> {
            let text = fs::read_to_string(out.join(format!("{view}.ndjson"))).expect("a view");
            text.lines().map(|line| serde_json::from_str(line).expect("rows are JSON")).collect()
        }
    };
    let (one, other) = (rows(elder, "elder"), rows(&game.spec, "newer"));
    let mut all = BTreeMap::new();
    for (view, key) in [
        ("enriched", &["ID"][..]),
        ("latest", &["JOURNAL_ID", "STUDENT_ID", "LESSON_ID", "LESSON_DATE"]),
    ] {
        let by_key = |rows: Vec<Value>| -> BTreeMap<String, Value> {
            let of = |row: &Value| key.iter().map(|name| row[name].to_string()).collect::<String>();
            rows.into_iter().map(|row| (of(&row), row)).collect()
        };
        let (one, mut other) = (by_key(one(view)), by_key(other(view)));
        let (mut equal, mut changed, mut only) = (0, 0, 0);
        let mut columns = BTreeMap::<String, [u64; 3]>::new();
        for (key, one) in one {
            let Some(other) = other.remove(&key) else {
                only += 1;
                continue;
            };
            let (one, other) = (one.as_object().expect("a row"), other.as_object().expect("a row"));
            let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
            let mut is_other = false;
            for name in names.filter(|name| one.get(*name) != other.get(*name)) {
                let kind = match (one.contains_key(name), other.contains_key(name)) {
                    (true, true) => 0,
                    (false, _) => 1,
                    (true, false) => 2,
                };
                columns.entry(name.clone()).or_default()[kind] += 1;
                is_other = true;
            }
            match is_other {
                true => changed += 1,
                false => equal += 1,
            }
        }
        let only = [only, other.len() as u64];
        all.insert(view, serde_json::json!([equal, changed, only, columns]));
    }
    serde_json::json!(all)
}

/// What `tributary diff --json` says, in the same form.
fn told(diff: &Value) -> Value {
    let view = |view: &Value| {
        let columns = view["columns"].as_object().expect("columns").iter().map(|(name, column)| {
            let kinds = ["changed", "came", "went"].map(|kind| column[kind].clone());
            (name.clone(), serde_json::json!(kinds))
        });
        let columns: serde_json::Map<String, Value> = columns.collect();
        let only = [&view["only_one"], &view["only_other"]];
        serde_json::json!([view["equal"], view["changed"], only, columns])
    };
    let views = diff["views"].as_object().expect("views");
    views
        .iter()
        .map(|(name, of)| (name.clone(), view(of)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn diff(game: &Game, name: &str) -> Value {
    diff_by(game, &["--as", name, "--json", "--examples", "0"])
}

fn diff_by(game: &Game, options: &[&str]) -> Value {
    let (code, said) = game.command("diff", options);
    assert_eq!(code, Some(0), "{said}");
    let json = said.lines().find(|line| line.starts_with('{')).expect("it says it");
    serde_json::from_str(json).expect("it is JSON")
}

/// Where a switch of readers may die.
const STEPS: [&str; 4] =
    ["promote-before", "promote-pointed", "promote-renamed", "promote-exchanged"];

/// Has a switch die at some of its steps, one after the other, and then go through.
fn through(game: &Game, options: &[&str], steps: &[&str]) -> usize {
    let mut deaths = 0;
    for step in steps.iter().filter(|_| cfg!(feature = "failpoints")) {
        let mut run = game.begin_command("promote", options, Some(&format!("{step}=panic")));
        let codes = run.wait_for(Duration::from_secs(150));
        assert!(run.said().contains(&format!("failpoint {step} panic")), "{}", run.said());
        assert_ne!(codes[0].1, Some(0));
        deaths += 1;
    }
    let (code, said) = game.command("promote", options);
    assert_eq!(code, Some(0), "{said}");
    deaths
}

#[test]
fn changed_dataflow_is_made_compared_shown_and_taken_back_while_clicks_flow() {
    let seed = seed();
    let is_whole = number("EVENTS", 8_000) > 8_000;
    let plan = Plan {
        seed,
        events: number("EVENTS", 8_000),
        lasts: Duration::from_secs(if is_whole { 300 } else { 90 }),
        storms: 1,
        ..Plan::default()
    };
    let mut game = Game::begin(Stack::get(), plan);
    let server = ClickHouse::get();
    let live = game.name().to_owned();
    let newer = format!("{live}_2");
    server.ask("default", &format!("CREATE DATABASE {live}"));
    let archive = game.folder.path().join("archive");
    let config = game.folder.path().join("place.toml");
    let of_archive = format!("[archive]\nplace = \"{}\"\nevery = \"500ms\"\n", text(&archive));
    fs::write(&config, place(&game.stack.brokers, &server.url, &live) + &of_archive)
        .expect("a file");
    game.engine_at(["--config", text(&config)]);
    let (code, said) = game.command("init", &[]);
    assert_eq!(code, Some(0), "{said}");
    let elder_spec = game.folder.path().join("elder.toml");
    fs::write(&elder_spec, elder(&fs::read_to_string(&game.spec).expect("a spec")))
        .expect("a file");
    game.runs.clone_from(&elder_spec);
    game.flow_up_to(0.5);
    let mut run = game.start(1, 2, &["--no-feeds"]);
    game.await_commit(&mut run);
    let manifest = || {
        let config = tributary::config::ArchiveConfig::in_folder(text(&archive));
        let store = tributary::archive::Store::open(&config, &live).expect("a folder");
        tributary::archive::Manifest::newest(&store).expect("it can be read")
    };
    let bounds = || -> Vec<u64> {
        let partitions = manifest().map_or(Vec::new(), |m| m.events.partitions);
        partitions.iter().map(|partition| partition.bound().offset).collect()
    };
    wait_for("much to be archived", 2 * PATIENCE, || {
        bounds().iter().sum::<u64>() > game.plan.events / 4
    });
    // What it is made from is in the archive alone.
    let gone = game.cut_events(&bounds());
    assert!(gone as u64 > game.plan.events / 5, "{gone} records were cut");
    let (code, said) = game.command("promote", &["--as", &newer]);
    assert!(code == Some(1) && said.contains("`tributary backfill` makes it"), "{code:?}: {said}");
    let options = ["--as", &newer];
    if cfg!(feature = "failpoints") {
        let mut dies = game.begin_command("backfill", &options, Some("archive-copied=panic"));
        dies.wait();
        assert!(dies.said().contains("failpoint archive-copied panic"), "{}", dies.said());
    }
    game.look_at(&newer);
    let mut backfill = game.begin_command("backfill", &options, None);
    game.await_commit(&mut backfill);
    backfill.crash(0);
    let mut backfill = game.begin_command("backfill", &options, None);
    game.await_commit(&mut backfill);
    // The rest comes one by one until all is to come to its end.
    game.flow_up_to(0.8);
    let reads = |analyst: &Analyst, which: &str| {
        let before = analyst.seen(which);
        wait_for("analysts to be shown it", PATIENCE, || analyst.seen(which) > before + 1);
    };
    let analyst = Analyst::begin(server, &live);
    reads(&analyst, "elder");
    let found = diff(&game, &newer);
    println!("while clicks flow: {}", told(&found));
    assert_eq!(found["is_equal"], false);
    let columns = found["views"]["enriched"]["columns"].as_object().expect("columns");
    assert!(columns["NUMBER_CERT"]["came"].as_u64() > Some(0), "{columns:?}");
    assert!(columns["STUDENT_LAST_NAME"]["changed"].as_u64() > Some(100), "{columns:?}");
    assert_eq!(found["views"]["enriched"]["only_other"], 0, "{found}");
    // Of the sample each switch dies at one step, another one each time; of the whole game at all.
    let drawn = |switch: u64| match is_whole {
        true => &STEPS[..],
        false => {
            let step = ((seed + switch) % STEPS.len() as u64) as usize;
            &STEPS[step..=step]
        }
    };
    let mut deaths = through(&game, &options, drawn(0));
    reads(&analyst, "newer");
    // What makes tables finds each view where it is now.
    for (command, options) in
        [("init", &options[..]), ("init", &[]), ("check", &options), ("check", &[])]
    {
        let (code, said) = game.command(command, options);
        assert_eq!(code, Some(0), "{command} {options:?}: {said}");
    }
    reads(&analyst, "newer");
    deaths += through(&game, &["--rollback"], drawn(1));
    reads(&analyst, "elder");
    assert!(!game.is_produced(), "clicks flow through all of it");
    deaths += through(&game, &options, drawn(2));
    reads(&analyst, "newer");
    game.settle(&mut backfill);
    assert!(!run.has_ended(), "{}", run.said());
    let shown = |view: &str| server.ask(&live, &format!("SELECT count() AS rows FROM {view}"));
    let rows = |topic: &str| {
        let keys: std::collections::BTreeSet<Vec<u8>> =
            game.read(topic).into_iter().map(|record| record.key).collect();
        keys.len() as u64
    };
    wait_for("all to be loaded", 2 * PATIENCE, || {
        shown("attendance_enriched")[0]["rows"].as_u64() == Some(rows("enriched"))
            && shown("latest_attendance_mv")[0]["rows"].as_u64() == Some(rows("latest"))
    });
    analyst.end();
    let found =
        told(&diff_by(&game, &["--as", &newer, "--with", &live, "--json", "--examples", "0"]));
    assert_eq!(found, expected(&game, &elder_spec), "what the files say is other");
    let (code, said) = game.command("status", &[]);
    assert!(code == Some(0) && said.contains(&format!("readers are shown \"{newer}\"")), "{said}");
    let (code, said) = game.command("retire", &options);
    assert!(code == Some(5) && said.contains("is what readers are shown"), "{said}");
    backfill.end();
    let records = game.judge();
    println!("{deaths} deaths while readers were switched; {records} records");
    drop(run);
}

/// The ID of an event, where it is one that has any.
fn id_of(event: &[u8]) -> Option<String> {
    let event: Value = serde_json::from_slice(event).ok()?;
    Some(event["ID"].as_str()?.to_lowercase())
}

/// Who has no archive, and whose topic was cut, has the events in files, or their rows in ClickHouse.
#[test]
fn dataflow_is_made_from_files_or_clickhouse_where_the_topic_was_cut() {
    let shown = Shown::new("origins");
    shown.init();
    let documents = project("data/attendance/people.ndjson").display().to_string();
    let (code, said) = shown.small.tributary(&["feed", "--once", "--documents", &documents]);
    assert_eq!(code, Some(0), "{said}");
    let events = sample("events");
    shown.small.send(0, &events);
    let mut engine = shown.small.start(&["--no-feeds"]);
    wait_for("the rows", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        shown.frontier() > 0 && shown.is_equal()
    });
    let cut = events.len() / 2;
    shown.small.truncate(0, cut as i64);
    // Of an ID that is said on both sides of the cut the first is not what it was.
    let ids = |range: std::ops::Range<usize>| -> BTreeSet<String> {
        events[range].iter().filter_map(|(_, event)| id_of(event)).collect()
    };
    let (before, behind) = (ids(0..cut), ids(cut..events.len()));
    let both: BTreeSet<&String> = before.intersection(&behind).collect();
    let rows = |dataflow: &str| -> BTreeMap<String, Value> {
        let records = read(&Stack::get().brokers, &format!("{dataflow}_enriched")).into_iter();
        let rows = records.map(|record| {
            let id = String::from_utf8(record.key).expect("IDs are text");
            (id, serde_json::from_slice(&record.value).expect("rows are JSON"))
        });
        rows.filter(|(id, _)| !both.contains(id)).collect()
    };
    let wanted = rows("origins");
    assert!(wanted.keys().filter(|id| before.contains(*id)).count() > 100);
    let folder = shown.small.folder.path().to_owned();
    let archive = folder.join("archive");
    let path = project("data/attendance/events.ndjson").display().to_string();
    for (name, origin) in [
        ("origins_files", &["--from", "files", "--events", &path][..]),
        ("origins_rows", &["--from", "clickhouse"]),
    ] {
        let made =
            ["--as", name, "--archive", text(&archive), "--until", "2100-01-01", "--no-load"];
        // One that dies before anything of it counts is begun anew.
        if cfg!(feature = "failpoints") {
            let options = [origin, &made].concat();
            let mut dies =
                shown.small.begin("backfill", &options, &[("FAILPOINTS", "archive-copied=panic")]);
            wait_for("it to die", PATIENCE, || dies.code().is_some());
            assert!(dies.said().contains("failpoint archive-copied panic"), "{}", dies.said());
        }
        let (code, said) = shown.small.tributary(&[&["backfill"], origin, &made].concat());
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("staged") && said.contains("left out"), "{said}");
        assert_eq!(rows(name), wanted, "{name}");
    }
    let (code, said) = shown.small.tributary(&["run", "--as", "origins_files", "--no-load"]);
    assert!(code == Some(5) && said.contains("name the archive"), "{code:?}: {said}");
    let options = ["--as", "origins_files", "--no-load", "--archive", text(&archive)];
    let mut newer = shown.small.start(&options);
    let event = |id: &str| {
        format!(
            "{{\"ID\":\"{id}\",\"JOURNAL_ID\":1,\"STUDENT_ID\":1,\"LESSON_DATE\":\"2025-09-01\",\
         \"ATTENDANCE_MARK\":1,\"MARKED_BY\":1,\"DATE_CREATE\":\"2025-09-01 10:00:00\",\"LESSON_ID\":1}}"
        )
    };
    let id = "00000000-0000-4000-8000-000000000001";
    shown.small.send(1, &[(1, event(id).into_bytes())]);
    wait_for("what comes", PATIENCE, || {
        assert_eq!(newer.code(), None, "{}", newer.said());
        rows("origins_files").contains_key(id) && rows("origins").contains_key(id)
    });
    let (code, said) = shown.small.tributary(&["diff", "--as", "origins_files", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let json = said.lines().find(|line| line.starts_with('{')).expect("it says it");
    let found: Value = serde_json::from_str(json).expect("it is JSON");
    let view = &found["views"]["enriched"];
    assert_eq!((&view["only_one"], &view["only_other"]), (&0.into(), &0.into()), "{found}");
    assert!(view["changed"].as_u64() <= Some(both.len() as u64), "{found}");
    newer.signal(nix::sys::signal::Signal::SIGTERM);
    newer.ended(0);
    // A dataflow of another name's family is not taken away.
    let others = folder.join("others.toml");
    let spec = fs::read_to_string(folder.join("spec.toml")).expect("a spec");
    fs::write(&others, spec.replace("name = \"origins\"", "name = \"others\"")).expect("a file");
    for command in ["retire", "promote", "diff"] {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args([command, text(&others), &shown.small.at[0], &shown.small.at[1]])
            .args(["--as", "origins_files"])
            .current_dir(project("."))
            .output()
            .expect("it can be started");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success(), "{command}: {said}");
        assert!(said.contains("is none of \"others\""), "{command}: {said}");
    }
    assert_eq!(rows("origins_files").len(), wanted.len() + 1, "it is all there");
    for name in ["origins_files", "origins_rows"] {
        let options = ["retire", "--as", name, "--archive", text(&archive)];
        let (code, said) = shown.small.tributary(&options);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(&format!("{name}_enriched: taken away")), "{said}");
        assert_eq!(
            fs::read_dir(archive.join(name).join("manifests")).map_or(0, |of| of.count()),
            0
        );
    }
    let of_them = "SELECT count() AS tables FROM system.tables WHERE database = 'origins' AND name LIKE \
                   '%origins\\\\_%'";
    assert_eq!(shown.ask(of_them)[0]["tables"], 0, "their tables are gone");
    assert_eq!(engine.code(), None, "{}", engine.said());
}

/// What went from the topic after the archive was copied, or before it was archived, is missing.
#[test]
fn what_neither_archive_nor_topic_has_is_said() {
    let mut small = Small::new("gap");
    let archive = small.folder.path().join("archive");
    let config = small.folder.path().join("place.toml");
    let lines = format!(
        "[kafka]\nbrokers = [\"{}\"]\n[archive]\nplace = \"{}\"\nevery = \"100ms\"\n",
        Stack::get().brokers,
        text(&archive)
    );
    fs::write(&config, lines).expect("a file");
    small.at = ["--config".to_owned(), text(&config).to_owned()];
    small.produce(0, 0..20);
    let mut engine = small.start(&[]);
    let store = || {
        let config = tributary::config::ArchiveConfig::in_folder(text(&archive));
        tributary::archive::Store::open(&config, "gap").expect("a folder")
    };
    let bound = |m: tributary::archive::Manifest| m.events.partitions[0].bound().offset;
    wait_for("all to be archived", PATIENCE, || {
        tributary::archive::Manifest::newest(&store()).expect("it can be read").map(bound)
            == Some(20)
    });
    engine.signal(nix::sys::signal::Signal::SIGTERM);
    engine.ended(0);
    small.produce(0, 20..40);
    small.truncate(0, 30);
    let made = ["backfill", "--as", "gap_2", "--until", "2100-01-01"];
    let (code, said) = small.tributary(&made);
    assert!(
        code == Some(5) && said.contains("has lost 10 offset(s): 20 to 30"),
        "{code:?}: {said}"
    );
    // What is behind that is there.
    let moment = "2000-01-01T00:00:00Z";
    let (code, said) = small.tributary(&[&made[..], &["--since", moment]].concat());
    assert_eq!(code, Some(5), "{said}");
    let (code, said) =
        small.tributary(&["backfill", "--as", "gap_3", "--until", "2100-01-01", "--from", "topic"]);
    assert_eq!(code, Some(0), "{said}");
    let made = |name: &str| -> BTreeSet<Vec<u8>> {
        read(&Stack::get().brokers, name).into_iter().map(|record| record.key).collect()
    };
    let ids = |ids: std::ops::Range<u32>| -> BTreeSet<Vec<u8>> {
        ids.map(|id| id.to_string().into_bytes()).collect()
    };
    assert_eq!(made("gap_3_all"), ids(30..40));
    // By offsets too, from one to another; and then on from there.
    let span = ["--from", "topic", "--since", "offsets:32,0", "--until", "offsets:36,0"];
    let (code, said) = small.tributary(&[&["backfill", "--as", "gap_4"], &span[..]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(made("gap_4_all"), ids(32..36));
    let rest = ["--as", "gap_4", "--until", "offsets:38,0", "--rate", "100000"];
    let (code, said) = small.tributary(&[&["backfill", "--from", "topic"], &rest[..]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(made("gap_4_all"), ids(32..38), "it holds no more than it began with");
}
