//! Hot and wide places: a cell that is clicked all the time, a student with every mark there is, a
//! student for every event. What looks at all that came before would need
//! minutes, and has one. Figures are those of `cargo bench --bench in_process`.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::support::{path, spawn};

/// Clicks; 20 billion looks if each looked at those before it.
const CLICKS: usize = 200_000;

/// The events of `CLICKS` clicks, each of the cell that `cell` says: a lesson and a student.
fn clicks(folder: &Path, cell: impl Fn(usize) -> (usize, usize)) -> PathBuf {
    let mut text = String::new();
    for click in 0..CLICKS {
        let (lesson, student) = cell(click);
        let (hour, minute, second) = (click / 3600 % 24, click / 60 % 60, click % 60);
        let day = click / 86_400 + 1;
        writeln!(
            text,
            "{{\"JOURNAL_ID\":1,\"STUDENT_ID\":{student},\"LESSON_ID\":{lesson},\
             \"ATTENDANCE_MARK\":{},\"MARKED_BY\":7,\"ID\":\"00000000-0000-4000-8000-{click:012x}\",\
             \"DATE_CREATE\":\"2025-06-{day:02} {hour:02}:{minute:02}:{second:02}.000000\",\
             \"LESSON_DATE\":\"2025-06-10\",\"TYPE_MARK\":0,\"MARKED_BY_ROLE\":2}}",
            click % 2
        )
        .unwrap();
    }
    let events = folder.join("events.ndjson");
    fs::write(&events, text).unwrap();
    events
}

/// Runs clicks with no documents but those given; returns the rows of `enriched` and `latest`.
fn rows(folder: &Path, events: &Path, people: &str) -> [Vec<String>; 2] {
    let documents = folder.join("people.ndjson");
    fs::write(&documents, people).unwrap();
    let out = folder.join("out");
    let files = ["--events", path(events), "--documents", path(&documents), "--out", path(&out)];
    let arguments = [&["run", "dataflows/attendance.toml", "--once", "--workers", "2"], &files[..]];
    let arguments: Vec<String> = arguments.concat().into_iter().map(str::to_owned).collect();
    let mut run = spawn(&arguments, Stdio::null());
    // Gives it a minute; it needs a second.
    assert!(run.wait().success(), "{}", run.said());
    ["enriched.ndjson", "latest.ndjson"].map(|name| {
        let text = fs::read_to_string(out.join(name)).unwrap();
        text.lines().map(str::to_owned).collect()
    })
}

#[test]
fn cell_that_is_clicked_all_the_time_has_one_latest_mark() {
    let folder = tempfile::tempdir().unwrap();
    let [enriched, latest] = rows(folder.path(), &clicks(folder.path(), |_| (1, 2)), "");
    assert_eq!((enriched.len(), latest.len()), (CLICKS, 1));
    let last = format!("{:012x}", CLICKS - 1);
    assert!(latest[0].contains(&last), "the last click is the latest: {}", latest[0]);
}

#[test]
fn student_with_every_mark_is_kept_without_a_document() {
    let folder = tempfile::tempdir().unwrap();
    let events = clicks(folder.path(), |click| (click + 1, 2));
    let [enriched, latest] = rows(folder.path(), &events, "");
    assert_eq!((enriched.len(), latest.len()), (CLICKS, CLICKS));
}

#[test]
fn student_for_every_event_has_one_mark() {
    let folder = tempfile::tempdir().unwrap();
    let events = clicks(folder.path(), |click| (1, click + 1));
    let [enriched, latest] = rows(folder.path(), &events, "");
    assert_eq!((enriched.len(), latest.len()), (CLICKS, CLICKS));
}
