//! Several processes: who belongs together, and what becomes of the others when one is lost.

use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use crate::support::{Running, ask_to_end, path, project, seed, spawn, tributary, wait_for};

/// A hosts file with free ports.
fn hosts(folder: &Path, processes: usize) -> (PathBuf, Vec<u16>) {
    let listeners: Vec<TcpListener> =
        (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let ports: Vec<u16> = listeners.iter().map(port).collect();
    let text: String = ports.iter().map(|port| format!("127.0.0.1:{port}\n")).collect();
    let file = folder.join("hosts");
    fs::write(&file, text).unwrap();
    (file, ports)
}

/// One of the processes of a hosts file, over the sample.
fn process(number: usize, hosts: &Path, spec: &str, out: &Path, more: &[&str]) -> Running {
    spawn(&arguments(number, hosts, spec, out, more), Stdio::null())
}

fn arguments(number: usize, hosts: &Path, spec: &str, out: &Path, more: &[&str]) -> Vec<String> {
    let number = number.to_string();
    let processes = fs::read_to_string(hosts).unwrap().lines().count().to_string();
    let named = [
        "run",
        spec,
        "--events",
        SAMPLE,
        "--documents",
        "data/attendance/people.ndjson",
        "--changes",
        "data/attendance/changes.ndjson",
        "--out",
        path(out),
        "--processes",
        &processes,
        "--process",
        &number,
        "--hosts",
        path(hosts),
    ];
    named.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
}

const SAMPLE: &str = "data/attendance/events.ndjson";
const SPEC: &str = "dataflows/attendance.toml";

#[test]
fn lost_process_ends_the_other_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let (hosts, ports) = hosts(folder.path(), 2);
    let out = folder.path().join("out");
    let mut engines: Vec<Running> =
        (0..2).map(|number| process(number, &hosts, SPEC, &out, &[])).collect();
    let sealed = |part: &str| {
        let log = out.join(part).join("updates.ndjson");
        fs::read_to_string(log).is_ok_and(|text| text.contains("\"sealed\""))
    };
    wait_for("both to seal", || sealed("part-0-of-2") && sealed("part-1-of-2"));
    engines[1].child.kill().unwrap();
    assert_eq!(engines[0].wait().code(), Some(1));
    let lost = format!("process 1 at 127.0.0.1:{} was lost", ports[1]);
    assert!(engines[0].said().contains(&lost), "{}", engines[0].said());
}

/// Whichever process is asked, all end amid the first documents, and no event goes out without them.
#[test]
fn end_amid_the_first_documents_ends_all_and_shows_no_event() {
    const DOCUMENTS: usize = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let documents = folder.path().join("people.ndjson");
    let line = |id: usize| format!("{{\"_id\":\"{id}\",\"_source\":{{}}}}\n");
    fs::write(&documents, (0..DOCUMENTS).map(line).collect::<String>()).unwrap();
    for asked in [0, 1] {
        let (hosts, _) = hosts(folder.path(), 2);
        let out = folder.path().join(format!("out-{asked}"));
        let engine = |number: &str| {
            // Two files, so that each process has one.
            let files = ["--events", SAMPLE, "--events", "data/attendance/changes.ndjson"];
            let more = ["--documents", path(&documents), "--out", path(&out)];
            let cluster = ["--processes", "2", "--process", number, "--hosts", path(&hosts)];
            let arguments = [&["run", SPEC], &files[..], &more, &cluster].concat();
            spawn(&arguments.into_iter().map(str::to_owned).collect::<Vec<_>>(), Stdio::null())
        };
        let mut engines = [engine("0"), engine("1")];
        wait_for("all to be connected", || {
            engines.iter().all(|engine| engine.said().contains("all processes are connected"))
        });
        ask_to_end(&engines[asked].child);
        let codes = engines.each_mut().map(|engine| engine.wait().code());
        let said = engines.each_ref().map(Running::said);
        assert_eq!(codes, [Some(0); 2], "{said:?}");
        let whole = "1,000,000 documents";
        assert!(!said[0].contains(whole), "all documents were read before it was asked: {said:?}");
        for part in ["part-0-of-2", "part-1-of-2"] {
            let log = fs::read_to_string(out.join(part).join("updates.ndjson"));
            assert!(!log.unwrap_or_default().contains("enriched"), "an event went out early");
        }
    }
}

/// Whichever process is asked, all that are there end, and none takes that for a loss.
#[test]
fn end_before_all_are_there_ends_those_that_are() {
    for asked in [0, 1] {
        let folder = tempfile::tempdir().unwrap();
        let (hosts, ports) = hosts(folder.path(), 3);
        let out = folder.path().join("out");
        // The third never comes.
        let engine = |number| process(number, &hosts, SPEC, &out, &[]);
        let first = engine(0);
        wait_for("the first to listen", || first.said().contains("waiting for"));
        let mut engines = [first, engine(1)];
        // The second says so only once it is connected with the first.
        let waits = format!("waiting for process 2 at 127.0.0.1:{}\n", ports[2]);
        wait_for("both to be connected", || engines[1].said().contains(&waits));
        ask_to_end(&engines[asked].child);
        let codes = engines.each_mut().map(|engine| engine.wait().code());
        let said = engines.each_ref().map(Running::said);
        assert_eq!(codes, [Some(0); 2], "{said:?}");
        assert!(said[asked].contains("asked to end while it waited"), "{said:?}");
        let left = format!("process {asked} at 127.0.0.1:{} was asked to end", ports[asked]);
        assert!(said[1 - asked].contains(&left), "{said:?}");
    }
}

/// At any moment of the coming together, an end of all is an end without a fault.
#[test]
fn end_amid_the_coming_together_is_no_loss() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed());
    for round in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let (hosts, _) = hosts(folder.path(), 3);
        let out = folder.path().join("out");
        let engine = |number| process(number, &hosts, SPEC, &out, &[]);
        let mut first = engine(0);
        wait_for("the first to wait", || first.said().contains("waiting for"));
        let mut others = [engine(1), engine(2)];
        // They are asked once they listen to it: before that the system ends them.
        for other in &others {
            wait_for("a process to heed", || other.heeds_ends());
        }
        std::thread::sleep(Duration::from_micros(random.next_u64() % 60_000));
        for process in [&first, &others[0], &others[1]] {
            ask_to_end(&process.child);
        }
        for process in std::iter::once(&mut first).chain(&mut others) {
            assert_eq!(process.wait().code(), Some(0), "round {round}: {}", process.said());
        }
    }
}

/// What one process has read and another cannot seal is bounded.
#[test]
fn slow_reader_of_one_process_holds_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (hosts, _) = hosts(folder.path(), 2);
    let input = folder.path().join("in");
    let sizes = ["--events", "20000", "--students", "50", "--teachers", "5", "--faults", "0"];
    let generated = tributary(&[&["generate", path(&input)], &sizes[..]].concat());
    assert!(generated.status.success());
    let (first, second) = (input.join("events.ndjson"), input.join("more.ndjson"));
    fs::copy(&first, &second).unwrap();
    let (people, metrics) = (input.join("people.ndjson"), folder.path().join("metrics"));
    let engine = |number: &str, out: &str, stdout: Stdio| {
        let files = ["--events", path(&first), "--events", path(&second)];
        let more = ["--documents", path(&people), "--epoch-lines", "100"];
        let cluster = ["--processes", "2", "--process", number, "--hosts", path(&hosts)];
        let outputs = ["--out", out, "--metrics", path(&metrics)];
        let arguments = [&["run", SPEC], &files[..], &more, &cluster, &outputs].concat();
        spawn(&arguments.into_iter().map(str::to_owned).collect::<Vec<_>>(), stdout)
    };
    // Nobody reads what the first writes.
    let first_engine = engine("0", "-", Stdio::piped());
    let _second_engine = engine("1", path(&folder.path().join("out")), Stdio::null());
    wait_for("the first to wait for its reader", || first_engine.is_blocked());
    let mut last = None;
    wait_for("the second to come to a stand", || {
        std::thread::sleep(Duration::from_millis(2500));
        let text = fs::read_to_string(folder.path().join("part-1-metrics")).unwrap_or_default();
        let lines = text.lines().find(|line| line.starts_with("tributary_event_lines_total"));
        let lines = lines.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        std::mem::replace(&mut last, lines) == lines && lines > Some(0)
    });
    assert!(last < Some(5000), "the second process has read {last:?} lines that nobody takes");
}

/// A process that waits for whoever takes its output still ends when another one is lost.
#[test]
fn lost_process_ends_one_whose_reader_is_slow() {
    let folder = tempfile::tempdir().unwrap();
    let (hosts, _) = hosts(folder.path(), 2);
    let out = folder.path().join("out");
    let mut arguments = arguments(0, &hosts, SPEC, Path::new("-"), &[]);
    let metrics = folder.path().join("metrics");
    arguments.extend(["--metrics", path(&metrics)].map(str::to_owned));
    let mut first = spawn(&arguments, Stdio::piped());
    let mut second = process(1, &hosts, SPEC, &out, &["--metrics", path(&metrics)]);
    // Nobody reads: what the second has sealed, the first could not write.
    let log = out.join("part-1-of-2/updates.ndjson");
    wait_for("the second to seal", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("\"sealed\""))
    });
    wait_for("the first to wait for its reader", || first.is_blocked());
    assert!(first.child.try_wait().unwrap().is_none(), "{}", first.said());
    second.child.kill().unwrap();
    assert_eq!(first.wait().code(), Some(1));
    assert!(first.said().contains("was lost"), "{}", first.said());
}

/// Which records wait for corrections differs by process; who reads both logs must still come to
/// know that all is done in both.
#[test]
fn log_says_how_far_it_is_while_others_correct() {
    let folder = tempfile::tempdir().unwrap();
    let (hosts, _) = hosts(folder.path(), 2);
    let out = folder.path().join("out");
    let changes = folder.path().join("changes.ndjson");
    fs::write(&changes, "").unwrap();
    let (people, hosts) = ("data/attendance/people.ndjson", path(&hosts));
    let engine = |number: &str| {
        let named = ["run", SPEC, "--events", SAMPLE, "--documents", people];
        let followed = ["--changes", path(&changes), "--out", path(&out), "--hosts", hosts];
        let spread = ["--processes", "2", "--process", number, "--tick", "1", "--atomic-max", "0"];
        let arguments = [&named[..], &followed, &spread, &["--fuel", "1"]].concat();
        spawn(&arguments.into_iter().map(str::to_owned).collect::<Vec<_>>(), Stdio::null())
    };
    let _engines = [engine("0"), engine("1")];
    let seals = |part: &str| -> Vec<(u64, u64)> {
        let log = fs::read_to_string(out.join(part).join("updates.ndjson")).unwrap_or_default();
        let whole =
            log.lines().filter(|line| line.starts_with("{\"sealed\"") && line.ends_with('}'));
        let seal = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let read = |seal: serde_json::Value| (seal["sealed"].as_u64(), seal["waiting"].as_u64());
        whole.map(seal).map(read).map(|(epoch, rows)| (epoch.unwrap(), rows.unwrap())).collect()
    };
    let events = fs::read(project(SAMPLE)).unwrap();
    let lines = events.iter().filter(|byte| **byte == b'\n').count();
    let all = format!("\"events\":[{lines}]");
    let holds_all = |part: &str| {
        let log = fs::read_to_string(out.join(part).join("updates.ndjson"));
        log.is_ok_and(|log| log.contains(&all))
    };
    wait_for("all events", || holds_all("part-0-of-2") && holds_all("part-1-of-2"));
    fs::copy(project("data/attendance/changes.ndjson"), &changes).unwrap();
    wait_for("an epoch that both have sealed, after all corrections", || {
        let both = [seals("part-0-of-2"), seals("part-1-of-2")];
        let last = both.iter().map(|seals| seals.last().map_or(0, |(epoch, _)| *epoch)).min();
        let is_waiting = |(_, waiting): &&(u64, u64)| *waiting > 0;
        // Beyond every epoch in which something waited, of which there must have been one.
        let waited = both.iter().flatten().filter(is_waiting).map(|(epoch, _)| *epoch).max();
        let waits = both.iter().filter_map(|seals| seals.last()).any(|seal| is_waiting(&seal));
        waited.is_some() && !waits && last > waited
    });
}

#[test]
fn failure_of_one_process_ends_the_other_and_publishes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (hosts, _) = hosts(folder.path(), 2);
    let out = folder.path().join("out");
    // The second partition is the second process's, and there is none.
    // It may fail before the first has seen it, which then waits for it to come again.
    let missing = ["--once", "--events", "no-such-file", "--patience", "5"];
    let mut engines: Vec<Running> =
        (0..2).map(|number| process(number, &hosts, SPEC, &out, &missing)).collect();
    assert_eq!(engines[1].wait().code(), Some(1));
    assert!(engines[1].said().contains("cannot open events file"), "{}", engines[1].said());
    assert_eq!(engines[0].wait().code(), Some(1));
    assert!(engines[0].said().contains("process 1 at"), "{}", engines[0].said());
    assert!(!out.join("part-0-of-2/dead_letters.ndjson").exists());
}

#[test]
fn other_spec_is_refused_by_both() {
    let folder = tempfile::tempdir().unwrap();
    let (hosts, _) = hosts(folder.path(), 2);
    let other = folder.path().join("other.toml");
    let text = fs::read_to_string(project(SPEC)).unwrap();
    fs::write(&other, format!("{text}\n# another one\n")).unwrap();
    let out = folder.path().join("out");
    let mut engines = [
        process(0, &hosts, SPEC, &out, &["--once"]),
        process(1, &hosts, path(&other), &out, &["--once"]),
    ];
    let refused = engines.iter_mut().map(|engine| (engine.wait().code(), engine.said()));
    for (code, said) in refused.collect::<Vec<_>>() {
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("a spec with hash"), "{said}");
    }
}

#[test]
fn files_in_another_order_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (hosts, _) = hosts(folder.path(), 2);
    let out = folder.path().join("out");
    let empty = ["one", "two"].map(|name| folder.path().join(name));
    empty.iter().for_each(|file| fs::write(file, "").unwrap());
    let [one, two] = empty.each_ref().map(|file| path(file));
    let orders = [[one, two], [two, one]];
    let mut engines: Vec<Running> = orders
        .iter()
        .enumerate()
        .map(|(number, events)| {
            let more = [&["--once", "--events"], &events[..]].concat();
            process(number, &hosts, SPEC, &out, &more)
        })
        .collect();
    for engine in &mut engines {
        assert_eq!(engine.wait().code(), Some(1), "{}", engine.said());
        assert!(engine.said().contains("--events with hash"), "{}", engine.said());
    }
}

#[test]
fn stranger_is_hung_up_on_and_the_cluster_comes_together() {
    let folder = tempfile::tempdir().unwrap();
    let (hosts, ports) = hosts(folder.path(), 2);
    let out = folder.path().join("out");
    let mut first = process(0, &hosts, SPEC, &out, &["--once"]);
    let (mut stranger, mut silent) = (None, Vec::new());
    wait_for("the first process to listen", || {
        stranger = TcpStream::connect(("127.0.0.1", ports[0])).ok();
        stranger.is_some()
    });
    stranger.as_ref().unwrap().write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    silent.extend((0..3).map(|_| TcpStream::connect(("127.0.0.1", ports[0])).unwrap()));
    let mut second = process(1, &hosts, SPEC, &out, &["--once"]);
    for engine in [&mut first, &mut second] {
        assert_eq!(engine.wait().code(), Some(0), "{}", engine.said());
    }
    for part in ["part-0-of-2", "part-1-of-2"] {
        assert!(fs::metadata(out.join(part).join("enriched.ndjson")).unwrap().len() > 0);
    }
}

/// Whoever says a byte now and then holds its place for a few seconds, not for good.
#[test]
fn stranger_that_drips_is_hung_up_on() {
    let folder = tempfile::tempdir().unwrap();
    let (hosts, ports) = hosts(folder.path(), 2);
    let _first = process(0, &hosts, SPEC, &folder.path().join("out"), &["--once"]);
    let mut stranger = None;
    wait_for("the first process to listen", || {
        stranger = TcpStream::connect(("127.0.0.1", ports[0])).ok();
        stranger.is_some()
    });
    let mut stranger = stranger.unwrap();
    // A greeting of 4,000 bytes that would take minutes.
    stranger.write_all(b"tributary\n\0\0\x0f\xa0").unwrap();
    wait_for("being hung up on", || {
        std::thread::sleep(Duration::from_millis(100));
        stranger.write_all(b" ").is_err()
    });
}

#[test]
fn process_that_does_not_come_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (hosts, ports) = hosts(folder.path(), 2);
    let out = folder.path().join("out");
    let mut engine = process(0, &hosts, SPEC, &out, &["--once", "--patience", "1"]);
    assert_eq!(engine.wait().code(), Some(1));
    let missing = format!("waited 1 s for process 1 at 127.0.0.1:{}", ports[1]);
    assert!(engine.said().contains(&missing), "{}", engine.said());
}
