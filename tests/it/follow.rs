//! Following files as people and supervisors do it: signals, slow readers, files that misbehave.
//!
//! That the log is right is the acceptance's to show (`tests/oracle/growing.py`).

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::Stdio,
    sync::mpsc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{Running, ask_to_end, path, spawn, tributary, wait_for};

/// A university in a folder, and the arguments that follow it.
fn university(folder: &Path, events: &str) -> Vec<String> {
    university_of(folder, events, "50")
}

fn university_of(folder: &Path, events: &str, students: &str) -> Vec<String> {
    let input = folder.join("in");
    let generated = tributary(&[
        "generate",
        path(&input),
        "--events",
        events,
        "--students",
        students,
        "--teachers",
        "5",
        "--seed",
        "4",
        "--faults",
        "0",
    ]);
    assert!(generated.status.success());
    let file = |name: &str| input.join(name).display().to_string();
    let (events, people) = (file("events.ndjson"), file("people.ndjson"));
    let changes = file("changes.ndjson");
    let named = ["run", "dataflows/attendance.toml", "--events", &events, "--documents", &people];
    [&named[..], &["--changes", &changes]].concat().into_iter().map(str::to_owned).collect()
}

fn metric(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?.to_owned();
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn slow_reader_is_waited_for_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = folder.path().join("metrics");
    let mut arguments = university(folder.path(), "5000");
    let more = ["--out", "-", "--epoch-lines", "100", "--metrics", path(&metrics)];
    arguments.extend(more.map(str::to_owned));
    let mut engine = spawn(&arguments, Stdio::piped());
    let lines = || metric(&metrics, "tributary_event_lines_total");
    // Nobody reads: it comes to a stand, far from the end.
    wait_for("the pipe to be full", || engine.is_blocked());
    let mut last = None;
    wait_for("reading to come to a stand", || {
        std::thread::sleep(Duration::from_millis(1200));
        let now = lines();
        std::mem::replace(&mut last, now) == now && now > Some(0)
    });
    assert!(last.unwrap() < 2500, "{last:?} lines were read and not taken");
    let out = BufReader::new(engine.child.stdout.take().unwrap());
    let (sender, lines_out) = mpsc::channel();
    std::thread::spawn(move || {
        // Until the engine ends, or the test does.
        out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let (mut updates, mut is_whole) = (0, false);
    wait_for("the seal of everything", || {
        for line in lines_out.try_iter() {
            match line.strip_prefix("{\"sealed\":") {
                Some(seal) => {
                    is_whole |=
                        seal.contains("\"waiting\":0") && seal.contains(&all_lines(folder.path()));
                }
                None => updates += 1,
            }
        }
        is_whole
    });
    assert!(updates > 10_000, "{updates} updates");
    ask_to_end(&engine.child);
    assert_eq!(engine.wait().code(), Some(0), "{}", engine.said());
}

/// What the seal of everything says.
fn all_lines(folder: &Path) -> String {
    let count = |name: &str| {
        let text = fs::read(folder.join("in").join(name)).unwrap();
        text.iter().filter(|byte| **byte == b'\n').count()
    };
    let (events, people) = (count("events.ndjson"), count("people.ndjson"));
    format!("\"events\":[{events}],\"documents\":{people},\"changes\":{}", count("changes.ndjson"))
}

#[test]
fn end_that_nobody_takes_is_made_after_ten_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = university(folder.path(), "5000");
    let metrics = folder.path().join("metrics");
    let more = ["--out", "-", "--epoch-lines", "100", "--metrics", path(&metrics)];
    arguments.extend(more.map(str::to_owned));
    let mut engine = spawn(&arguments, Stdio::piped());
    // The updates of a hundred lines are more than a pipe takes.
    wait_for("a hundred lines", || metric(&metrics, "tributary_event_lines_total") >= Some(100));
    ask_to_end(&engine.child);
    assert_eq!(engine.wait().code(), Some(1));
    assert!(engine.said().contains("ended anyway"), "{}", engine.said());
}

#[test]
fn followed_file_that_shrinks_or_is_no_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = university(folder.path(), "300");
    let out = folder.path().join("out");
    arguments.extend(["--out", path(&out)].map(str::to_owned));
    let mut engine = spawn(&arguments, Stdio::null());
    let log = out.join("updates.ndjson");
    let sealed = |log: &Path| fs::read_to_string(log).is_ok_and(|text| text.contains("\"sealed\""));
    wait_for("a seal", || sealed(&log));
    let second = tributary(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let second = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.contains("in use by another run"), "{second}");
    wait_for("all lines", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains(&all_lines(folder.path())))
    });
    let events = folder.path().join("in/events.ndjson");
    fs::File::options().write(true).open(events).unwrap().set_len(10).unwrap();
    assert_eq!(engine.wait().code(), Some(1));
    assert!(engine.said().contains("shrank from"), "{}", engine.said());

    let refused = tributary(&[
        "run",
        "dataflows/attendance.toml",
        "--events",
        "/dev/stdin",
        "--documents",
        "/dev/stdin",
        "--out",
        path(&out),
    ]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("no regular file") && said.contains("--once"), "{said}");
}

/// Whichever is read first while the files grow, a start over the same files says the same.
#[test]
fn change_counts_more_than_a_line_of_documents_whenever_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = university(folder.path(), "300");
    let out = folder.path().join("out");
    arguments.extend(["--out", path(&out)].map(str::to_owned));
    let log = out.join("updates.ndjson");
    let append = |name: &str, line: &str| {
        let file = fs::File::options().append(true).open(folder.path().join("in").join(name));
        writeln!(file.unwrap(), "{line}").unwrap();
    };
    let sealed =
        || fs::read_to_string(&log).is_ok_and(|text| text.contains(&all_lines(folder.path())));
    let people = fs::read_to_string(folder.path().join("in/people.ndjson")).unwrap();
    let person = people.lines().next().unwrap();
    let id = person.split("\"_id\":").nth(1).unwrap().split('"').nth(1).unwrap().to_owned();

    let mut engine = spawn(&arguments, Stdio::null());
    wait_for("all lines", sealed);
    append("changes.ndjson", &format!("{{\"op\":\"delete\",\"_id\":\"{id}\",\"after\":0}}"));
    wait_for("the change", sealed);
    append("people.ndjson", person);
    wait_for("the document", sealed);
    ask_to_end(&engine.child);
    assert_eq!(engine.wait().code(), Some(0), "{}", engine.said());
    let live = added_up(&log);
    // It would stand there until the next run begins its own.
    fs::remove_file(&log).unwrap();
    let mut again = spawn(&arguments, Stdio::null());
    wait_for("all lines again", sealed);
    ask_to_end(&again.child);
    assert_eq!(again.wait().code(), Some(0), "{}", again.said());
    assert!(live == added_up(&log), "a restart says something else than the run before");
    assert!(live.values().all(|times| *times > 0));
}

/// The rows that a log adds up to, with their view.
fn added_up(log: &Path) -> BTreeMap<String, i64> {
    let mut rows = BTreeMap::new();
    let text = fs::read_to_string(log).unwrap();
    for line in text.lines().filter(|line| line.starts_with("{\"epoch\"")) {
        let (head, row) = line.split_once(",\"view\":").unwrap();
        let diff: i64 = head.split_once("\"diff\":").unwrap().1.parse().unwrap();
        *rows.entry(row.to_owned()).or_default() += diff;
    }
    rows.retain(|_, times| *times != 0);
    rows
}

/// A change of everything comes in pieces, each too small to be spread alone.
#[test]
fn change_of_all_documents_is_spread() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = university_of(folder.path(), "30000", "1000");
    let (out, metrics) = (folder.path().join("out"), folder.path().join("metrics"));
    arguments.extend(["--out", path(&out), "--metrics", path(&metrics)].map(str::to_owned));
    let changes = folder.path().join("in/changes.ndjson");
    fs::write(&changes, "").unwrap();
    let mut engine = spawn(&arguments, Stdio::null());
    let log = out.join("updates.ndjson");
    let holds = |what: &str| fs::read_to_string(&log).is_ok_and(|text| text.contains(what));
    wait_for("all events", || holds(&all_lines(folder.path())));
    let people = fs::read_to_string(folder.path().join("in/people.ndjson")).unwrap();
    let renamed = people
        .replace("\"short_title\":\"", "\"short_title\":\"N")
        .replace("{\"_id\"", "{\"after\":0,\"op\":\"index\",\"_id\"");
    fs::write(&changes, renamed).unwrap();
    wait_for("all changes", || holds(&format!("{},\"waiting\":0}}", all_lines(folder.path()))));
    let text = fs::read_to_string(&log).unwrap();
    let seals = text.lines().filter(|line| line.starts_with("{\"sealed\""));
    let waiting = seals.filter(|seal| !seal.ends_with("\"waiting\":0}")).count();
    assert!(waiting > 10, "{waiting} epochs were sealed amid corrections");
    let waiting = || metric(&metrics, "tributary_waiting_corrections");
    wait_for("the metric to say that nothing waits any more", || waiting() == Some(0));
    ask_to_end(&engine.child);
    assert_eq!(engine.wait().code(), Some(0), "{}", engine.said());
}

#[test]
fn run_that_cannot_start_leaves_the_last_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = university(folder.path(), "10");
    let out = folder.path().join("out");
    let log = out.join("updates.ndjson");
    fs::create_dir(&out).unwrap();
    fs::write(&log, "{\"sealed\":7}\n").unwrap();
    let missing = ["--events", "no-such-file", "--workers", "2", "--out", path(&out)];
    arguments.extend(missing.map(str::to_owned));
    let mut engine = spawn(&arguments, Stdio::null());
    assert_eq!(engine.wait().code(), Some(1));
    assert!(engine.said().contains("no-such-file"), "{}", engine.said());
    assert_eq!(fs::read_to_string(&log).unwrap(), "{\"sealed\":7}\n");
}

#[test]
fn reader_that_goes_away_ends_the_run_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = university(folder.path(), "5000");
    arguments.extend(["--out", "-"].map(str::to_owned));
    let mut engine: Running = spawn(&arguments, Stdio::piped());
    let mut line = String::new();
    BufReader::new(engine.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // The documents alone are the first epoch.
    assert!(line.starts_with("{\"sealed\":0,\"events\":[0],\"documents\":"), "{line}");
    assert_eq!(engine.wait().code(), Some(1));
    assert!(engine.said().contains("cannot write on to update log"), "{}", engine.said());
}

/// The processes that a supervisor says it has started.
fn started(engine: &Running) -> Vec<i32> {
    let said = engine.said();
    let numbers = said.split("started process=").skip(1);
    numbers.map(|rest| rest.split_whitespace().next().unwrap().parse().unwrap()).collect()
}

#[test]
fn supervised_run_is_started_again_and_ends_when_it_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = university(folder.path(), "100");
    let out = folder.path().join("out");
    arguments.extend(["--supervise", "--out", path(&out)].map(str::to_owned));
    let mut engine = spawn(&arguments, Stdio::null());
    let log = out.join("updates.ndjson");
    wait_for("the first to seal", || fs::read_to_string(&log).is_ok_and(|text| !text.is_empty()));
    let first = started(&engine)[0];
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    // What the next one seals is to be awaited, not what stands there.
    fs::remove_file(&log).unwrap();
    wait_for("another to be started", || started(&engine).len() == 2);
    wait_for("it to seal", || fs::read_to_string(&log).is_ok_and(|text| text.contains("sealed")));
    ask_to_end(&engine.child);
    assert_eq!(engine.wait().code(), Some(0), "{}", engine.said());
    assert!(engine.said().contains("ended as asked"), "{}", engine.said());
}

#[test]
fn supervised_run_that_cannot_succeed_is_not_started_again() {
    let arguments = ["run", "no-such-spec.toml", "--supervise", "--events", "a", "--out", "b"];
    let mut engine = spawn(&arguments.map(str::to_owned), Stdio::null());
    assert_eq!(engine.wait().code(), Some(3));
    assert_eq!(started(&engine).len(), 1, "{}", engine.said());
}
