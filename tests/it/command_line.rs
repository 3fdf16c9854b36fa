//! The program as people use it: every command of the README, exit codes, errors.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{project, said, tributary, wait_for};

/// The commands in the README's `sh` blocks, a line each, continued lines joined.
fn readme_commands() -> Vec<String> {
    let text = fs::read_to_string(project("README.md")).unwrap();
    let mut commands = Vec::new();
    for block in text.split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap().replace("\\\n", " ");
        commands.extend(block.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from));
    }
    commands
}

/// What begins a command of the README that builds and runs the program.
const CARGO_RUN: [&str; 2] = ["cargo run --release -- ", "cargo run --release --quiet -- "];

/// The arguments of a command that runs the program.
fn arguments(command: &str) -> Option<Vec<&str>> {
    let rest = CARGO_RUN.iter().find_map(|prefix| command.strip_prefix(prefix))?;
    Some(rest.split_whitespace().collect())
}

#[test]
fn commands_of_the_readme_do_what_they_say() {
    let commands = readme_commands();
    let scratch = tempfile::tempdir().unwrap();
    copy_inputs(scratch.path());
    let mut ran = 0;
    for command in &commands {
        let words = match arguments(command) {
            Some(words) => words,
            // Run by `.ci/run`, which runs this test; and the acceptance, whose sample is a test.
            None => {
                let known =
                    ["cargo test --release", "python3 tests/oracle/acceptance.py", "cargo bench"];
                assert!(known.iter().any(|k| command.starts_with(k)), "no test runs {command:?}");
                continue;
            }
        };
        let mut program = Command::new(env!("CARGO_BIN_EXE_tributary"));
        program.args(&words).current_dir(scratch.path());
        let output = match words[0] {
            "run" if !words.contains(&"--once") => {
                until_it_seals(program, &scratch.path().join("live/updates.ndjson"))
            }
            "demo" => until_it_is_ready(program),
            _ => program.output().unwrap(),
        };
        assert!(output.status.success(), "{command}\n{}", said(&output));
        ran += 1;
    }
    assert!(ran >= 5, "the README shows {ran} commands of the program");
    assert!(arguments(&commands[0]).is_some(), "the first command runs the main job");
    assert!(commands[1].starts_with("cargo test"), "the second passes the tests");
}

/// Runs what follows its files until its log seals an epoch; then asks it to end.
fn until_it_seals(mut program: Command, log: &Path) -> Output {
    let child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("a seal", || fs::read_to_string(log).is_ok_and(|text| text.contains("\"sealed\"")));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs the journal until it has read its past, at whichever port is free; then asks it to end.
fn until_it_is_ready(mut program: Command) -> Output {
    program.args(["--address", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    let (sender, lines) = std::sync::mpsc::channel();
    let errors = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || {
        errors.lines().map_while(Result::ok).try_for_each(|l| sender.send(l))
    });
    let mut heard = String::new();
    wait_for("the past to be read", || {
        heard.extend(lines.try_iter());
        heard.contains("marks stand; ready after")
    });
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(said(&output).contains("the journal is at http://127.0.0.1:"), "{}", said(&output));
    output
}

fn copy_inputs(scratch: &Path) {
    for folder in ["data", "dataflows"] {
        let copied = Command::new("cp").arg("-r").arg(project(folder)).arg(scratch).status();
        assert!(copied.unwrap().success());
    }
}

#[test]
fn first_command_shows_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let output = sample(&["--show", "--out", folder.path().to_str().unwrap()]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for shown in ["enriched", "latest", "attendance_by_group_day", "GROUP_SHORT_TITLE", "PRESENT"] {
        assert!(text.contains(shown), "{shown} is not shown:\n{text}");
    }
    let (_, by_group) = text.split_once("\nattendance_by_group_day\n").unwrap();
    let (by_group, _) = by_group.split_once("\nattendance_by_teacher\n").unwrap();
    let groups = by_group.lines().skip(3).filter(|line| line.contains("2025-"));
    let named = groups.filter(|line| line.chars().nth(2).is_some_and(char::is_alphabetic));
    assert_eq!(named.count(), 5, "counts by group name their groups:\n{by_group}");
}

/// Runs the attendance sample with further arguments.
fn sample(more: &[&str]) -> std::process::Output {
    let mut arguments = vec![
        "run",
        "dataflows/attendance.toml",
        "--once",
        "--events",
        "data/attendance/events.ndjson",
        "--documents",
        "data/attendance/people.ndjson",
        "--changes",
        "data/attendance/changes.ndjson",
    ];
    arguments.extend(more);
    tributary(&arguments)
}

#[test]
fn exit_codes_tell_failures_apart() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    let wrong = folder.path().join("wrong.toml");
    fs::write(&wrong, "name = \"x\"\n").unwrap();
    let run = |spec: &str, events: &str| {
        let documents = "data/attendance/people.ndjson";
        tributary(&[
            "run",
            spec,
            "--once",
            "--events",
            events,
            "--documents",
            documents,
            "--out",
            out,
        ])
    };
    let (spec, events) = ("dataflows/attendance.toml", "data/attendance/events.ndjson");
    for (output, code, word) in [
        (run(spec, events), 0, "enriched"),
        (run(spec, "nowhere.ndjson"), 1, "nowhere.ndjson"),
        (run(wrong.to_str().unwrap(), events), 3, "missing-key"),
        (run("nowhere.toml", events), 3, "nowhere.toml"),
        (tributary(&["run", spec, "--once", "--events", events, "--out", out]), 2, "--documents"),
        (tributary(&["run", spec]), 2, "--events"),
        (tributary(&["check", wrong.to_str().unwrap()]), 3, "missing-key"),
        (tributary(&["check", spec]), 0, "sound"),
        (tributary(&["generate", out, "--students", "0"]), 2, "students"),
    ] {
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(word), "{word}: {}", said(&output));
    }
}

#[test]
fn failed_run_leaves_what_stood_there() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    assert!(sample(&["--out", out]).status.success());
    let before = fs::read(folder.path().join("enriched.ndjson")).unwrap();
    let failed = sample(&["--out", out, "--workers", "2", "--events", "nowhere.ndjson"]);
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    assert_eq!(fs::read(folder.path().join("enriched.ndjson")).unwrap(), before);
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let unfinished = names.filter(|name| name.to_string_lossy().contains("unfinished")).count();
    assert_eq!(unfinished, 0, "nothing unfinished is left behind");
}

#[test]
fn inputs_are_never_written_nor_read_twice() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("enriched.ndjson");
    fs::copy(project("data/attendance/events.ndjson"), &input).unwrap();
    let (input, out) = (input.to_str().unwrap(), folder.path().to_str().unwrap());
    let overwriting = sample(&["--events", input, "--out", out]);
    assert_eq!(overwriting.status.code(), Some(2), "{}", said(&overwriting));
    let twice = sample(&["--events", "data/attendance/events.ndjson", "--out", out]);
    assert_eq!(twice.status.code(), Some(2), "{}", said(&twice));
    let other_name = folder.path().join("other_name");
    fs::hard_link(input, &other_name).unwrap();
    let out = folder.path().join("out");
    let other_name = other_name.to_str().unwrap();
    let twice = sample(&["--events", input, other_name, "--out", out.to_str().unwrap()]);
    assert_eq!(twice.status.code(), Some(2), "{}", said(&twice));
}

/// A full or closed stream is told by the exit code, never by a crash; results that stand are said to.
#[test]
fn streams_that_take_nothing_are_no_crash() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wrong.toml"), "name = \"\\u001b[31m\"").unwrap();
    let run = "run dataflows/attendance.toml --once --events data/attendance/events.ndjson \
               --documents data/attendance/people.ndjson";
    for (arguments, streams, code) in [
        (run, ">/dev/full", 1),
        (run, "2>&-", 0),
        ("check $WRONG", "2>/dev/full", 3),
        ("check $WRONG", "2>&-", 3),
        ("check dataflows/attendance.toml", "| head -c 0", 0),
    ] {
        let out = folder.path().join("out");
        let out = if arguments == run { format!("--out {}", out.display()) } else { String::new() };
        let line = format!("set -o pipefail; umask 027; $PROGRAM {arguments} {out} {streams}");
        let done = Command::new("bash")
            .args(["-c", &line])
            .current_dir(project("."))
            .env("PROGRAM", env!("CARGO_BIN_EXE_tributary"))
            .env("WRONG", folder.path().join("wrong.toml"))
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(code), "{line}: {}", said(&done));
        let told = code != 1 || said(&done).contains("stand all the same");
        assert!(told, "{line}: {}", said(&done));
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(folder.path().join("out/latest.ndjson")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "results get what the umask leaves");
    let refused = tributary(&["check", folder.path().join("wrong.toml").to_str().unwrap()]);
    assert!(!said(&refused).contains('\u{1b}'), "a terminal gets no commands");
}

#[test]
fn folder_is_one_runs_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let lock = fs::File::open(folder.path()).unwrap();
    lock.lock().unwrap();
    let output = sample(&["--out", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("in use by another run"), "{}", said(&output));
}

/// A summary, one where every event and document is malformed, and errors of a run and of a spec
/// that were handed people instead (P11).
#[test]
fn errors_and_summaries_hold_no_personal_data() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let (spec, people) = ("dataflows/attendance.toml", "data/attendance/people.ndjson");
    let run = |documents: &str, changes: &str| {
        tributary(&[
            "run",
            spec,
            "--once",
            "--events",
            people,
            "--documents",
            documents,
            "--changes",
            changes,
            "--out",
            out,
        ])
    };
    let people_as_events = run("data/attendance/events.ndjson", "data/attendance/changes.ndjson");
    assert!(said(&people_as_events).contains("missing"), "{}", said(&people_as_events));
    let failed = run(people, "nowhere.ndjson");
    assert_eq!(failed.status.code(), Some(1));
    let refused = tributary(&["check", people]);
    assert_eq!(refused.status.code(), Some(3));
    let said_of = [sample(&["--out", out]), people_as_events, failed, refused];
    let text: String = said_of.iter().map(said).collect();
    let people = fs::read_to_string(project("data/attendance/people.ndjson")).unwrap();
    for line in people.lines() {
        let person: serde_json::Value = serde_json::from_str(line).unwrap();
        if let Some(name) = person["_source"]["PERSONAL"]["lastname"].as_str() {
            assert!(!text.contains(name), "{name} is printed");
        }
    }
}

#[test]
fn hostile_files_never_stop_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut deep = b"{\"x\":".to_vec();
    deep.extend(b"[".repeat(1 << 20));
    let cases: [&[u8]; 6] = [b"", b"\n\n\n", b"\0\0\0", b"{\"ID\":\"", &[0xff; 4096], &deep];
    for (place, bytes) in cases.iter().enumerate() {
        let events = write("events", bytes);
        let documents = write("documents", bytes);
        let changes = write("changes", bytes);
        let out = folder.path().join(format!("out{place}"));
        let output = tributary(&[
            "run",
            "dataflows/attendance.toml",
            "--once",
            "--events",
            &events,
            "--documents",
            &documents,
            "--changes",
            &changes,
            "--out",
            out.to_str().unwrap(),
        ]);
        assert!(output.status.success(), "case {place}: {}", said(&output));
        let lines = bytes.split(|b| *b == b'\n').count()
            - usize::from(bytes.is_empty() || bytes.ends_with(b"\n"));
        let letters = fs::read_to_string(out.join("dead_letters.ndjson")).unwrap();
        assert_eq!(letters.lines().count(), lines, "case {place}");
    }
}
