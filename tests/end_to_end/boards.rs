//! The dashboards in a real Superset, looked at by a real browser, held against the specification.
//!
//! `SUPERSET=4.1.4 cargo test --release --test end_to_end boards` plays the elder Superset. Pictures are
//! kept in `target/boards/`.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use jiff::{Timestamp, civil::Date};
use serde_json::Value;

use crate::{
    clickhouse::Shown,
    game::wait_for,
    small::PATIENCE,
    stack::{Superset, project},
};

fn run(command: &mut Command) -> Output {
    command.current_dir(project(".")).output().expect("it can be started")
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

/// The sample's clicks, so many days later: the last lessons are those of today.
fn clicks_until(today: Date) -> Vec<(u32, Vec<u8>)> {
    let text = fs::read(project("data/attendance/events.ndjson")).expect("the sample");
    let lines = || text.split(|byte| *byte == b'\n');
    let event = |line: &[u8]| serde_json::from_slice::<Value>(line).ok();
    let day = |event: &Value| event["LESSON_DATE"].as_str()?.parse::<Date>().ok();
    let last = lines().filter_map(|line| day(&event(line)?)).max().expect("there are lessons");
    let by = today - last;
    let later = |line: &[u8]| -> Option<Vec<u8>> {
        let mut event = event(line)?;
        let lesson = day(&event)? + by;
        let (made, time) = event["DATE_CREATE"].as_str()?.split_once(' ')?;
        let made = made.parse::<Date>().ok()? + by;
        event["DATE_CREATE"] = format!("{made} {time}").into();
        event["LESSON_DATE"] = lesson.to_string().into();
        // Some stay away, for long enough that somebody is to look.
        let student = event["STUDENT_ID"].as_u64().unwrap_or(0);
        let days = (today - lesson).get_days();
        if student % 3 == 0 && days < 4 + (student % 30) as i32 {
            event["ATTENDANCE_MARK"] = 0.into();
        }
        Some(event.to_string().into_bytes())
    };
    (0..).zip(lines().map(|line| later(line).unwrap_or_else(|| line.to_vec()))).collect()
}

#[test]
fn boards_show_what_the_rules_say_whatever_is_filtered() {
    let version = std::env::var("SUPERSET").unwrap_or_else(|_| "6.1.0".to_owned());
    let superset = Superset::start(&version);
    let shown = Shown::new("boards");
    shown.init();
    let today = Timestamp::now().in_tz("Europe/Moscow").expect("the zone is known").date();
    let clicks = clicks_until(today);
    shown.small.send(0, &clicks);
    let documents = project("data/attendance/people.ndjson");
    let path = documents.display().to_string();
    let (code, told) = shown.small.tributary(&["feed", "--once", "--documents", &path]);
    assert_eq!(code, Some(0), "{told}");
    let mut engine = shown.small.start(&["--no-feeds"]);
    // What the rules make of the same.
    let folder = shown.small.folder.path();
    let (input, want) = (folder.join("in"), folder.join("want"));
    fs::create_dir_all(&input).expect("a folder");
    let lines: Vec<&[u8]> = clicks.iter().map(|(_, line)| &line[..]).collect();
    fs::write(input.join("events.ndjson"), lines.join(&b'\n')).expect("a file");
    fs::copy(documents, input.join("people.ndjson")).expect("a file");
    fs::write(input.join("changes.ndjson"), "").expect("a file");
    let oracle = project("tests/oracle/oracle.py");
    let judged = run(Command::new("python3").arg(oracle).arg(&input).arg(&want));
    assert!(judged.status.success(), "{}", said(&judged));
    wait_for("the rows", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        shown.frontier() > 0 && shown.is_equal()
    });
    let import = || {
        let server = shown.server.url.strip_prefix("http://").expect("it is one");
        let uri = format!("clickhousedb://default@{server}/{}", shown.database);
        run(Command::new("python3")
            .arg(project("sql/superset/import.py"))
            .args(["--superset", &superset.url, "--username", "admin", "--clickhouse", &uri])
            .env("SUPERSET_PASSWORD", "admin"))
    };
    let first = import();
    assert!(first.status.success(), "{}", said(&first));
    assert!(said(&first).contains("data are complete up to: "), "{}", said(&first));
    // Again, after somebody has changed what is there: nothing doubles, all is put back.
    let before = superset.holds();
    assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [1, 3, 12, 3]);
    superset.rename_a_chart("Changed");
    assert_ne!(superset.holds(), before);
    let again = import();
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(superset.holds(), before);
    let pictures = project("target/boards").join(&version);
    let python = run(Command::new("python3").arg(project("tests/stack/superset.py")).args([
        "python",
        "--version",
        &version,
    ]));
    let looked = run(Command::new(PathBuf::from(said(&python).trim()))
        .arg(project("tests/stack/superset/boards.py"))
        .args(["--superset", &superset.url, "--today", &today.to_string()])
        .arg("--rows")
        .arg(want.join("latest.ndjson"))
        .arg("--pictures")
        .arg(pictures));
    println!("{}", said(&looked));
    assert!(looked.status.success(), "Superset {version}");
}
