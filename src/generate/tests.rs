//! Tests of whole universities, and the rules of a record, read anew from the journal's contract.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;

use jiff::civil::{Date, DateTime};
use serde_json::Value;

use super::*;

/// Why a line is no record: `None` where it is one, else the field or what the line is instead.
pub(super) fn flaw(line: &[u8]) -> Option<&'static str> {
    if line.is_empty() {
        return Some("empty");
    }
    let Ok(text) = std::str::from_utf8(line) else {
        return Some("utf8");
    };
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return Some(if text.starts_with('{') { "cut" } else { "json" });
    };
    let Value::Object(event) = value else {
        return Some("object");
    };
    for (name, low, high) in REQUIRED_NUMBERS {
        match event.get(name) {
            None => return Some("missing"),
            Some(value) if number(value).is_none_or(|n| n < low || n > high) => {
                return Some(name);
            }
            _ => {}
        }
    }
    for (name, valid) in REQUIRED_TEXTS {
        match event.get(name) {
            None => return Some("missing"),
            Some(value) if !value.as_str().is_some_and(valid) => return Some(name),
            _ => {}
        }
    }
    for (name, high) in OPTIONAL_NUMBERS {
        let value = event.get(name).unwrap_or(&Value::Null);
        if !value.is_null() && number(value).is_none_or(|n| n > high) {
            return Some(name);
        }
    }
    None
}

const REQUIRED_NUMBERS: [(&str, u64, u64); 5] = [
    ("JOURNAL_ID", 0, u16::MAX as u64),
    ("STUDENT_ID", 1, i32::MAX as u64),
    ("LESSON_ID", 0, u64::MAX),
    ("ATTENDANCE_MARK", 0, 5),
    ("MARKED_BY", 0, u32::MAX as u64),
];
const OPTIONAL_NUMBERS: [(&str, u64); 3] =
    [("TYPE_MARK", 255), ("NUMBER_CERT", 255), ("MARKED_BY_ROLE", 3)];
/// The name of a field and what its text must be.
type Text = (&'static str, fn(&str) -> bool);
const REQUIRED_TEXTS: [Text; 3] =
    [("ID", is_id), ("LESSON_DATE", is_day), ("DATE_CREATE", is_instant)];

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        other => other.as_u64(),
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 36 && text.parse::<uuid::Uuid>().is_ok()
}

fn is_day(text: &str) -> bool {
    let range = Date::constant(1970, 1, 1)..=Date::constant(2149, 6, 6);
    text.len() == 10 && text.parse().is_ok_and(|day: Date| range.contains(&day))
}

fn is_instant(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    whole.len() == 19
        && whole.get(10..11) == Some(" ")
        && !whole.ends_with("60")
        && (1..=6).contains(&fraction.len())
        && whole.parse().is_ok_and(|at: DateTime| (2015..=2149).contains(&at.year()))
}

/// What no variant of a click changes.
pub(super) fn meaning(line: &[u8]) -> (String, [Option<u64>; 4], String) {
    let event: Value = serde_json::from_slice(line).unwrap();
    let text = |name: &str| event[name].as_str().unwrap().to_lowercase();
    let numbers = ["JOURNAL_ID", "STUDENT_ID", "LESSON_ID", "ATTENDANCE_MARK"];
    (text("ID"), numbers.map(|name| number(&event[name])), text("LESSON_DATE"))
}

const FILES: [&str; 5] =
    ["people.ndjson", "changes.ndjson", "events.ndjson", "keys.txt", "lessons.ndjson"];

fn small() -> Options {
    Options {
        events: 2_000,
        students: 300,
        teachers: 60,
        changes: 100,
        faults: 0.1,
        ..Options::default()
    }
}

fn made(options: &Options) -> (Summary, HashMap<&'static str, Vec<u8>>) {
    let folder = tempfile::tempdir().unwrap();
    let summary = generate(options, folder.path(), &mut |_| ()).unwrap();
    let read = |name| (name, fs::read(folder.path().join(name)).unwrap());
    (summary, FILES.map(read).into())
}

fn lines(file: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = file.split(|byte| *byte == b'\n').collect();
    assert_eq!(lines.pop(), Some(&b""[..]), "a file ends with a newline or is empty");
    lines
}

fn values(file: &[u8]) -> Vec<Value> {
    lines(file).into_iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// FNV-1a, which is the same everywhere.
fn fingerprint(files: &HashMap<&'static str, Vec<u8>>) -> u64 {
    let bytes = FILES.iter().flat_map(|name| &files[name]);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn same_options_make_the_same_bytes_for_ever() {
    assert_eq!(made(&small()), made(&small()));
    // Who changes this number changes every university that somebody named by its options.
    assert_eq!(fingerprint(&made(&small()).1), 3_634_464_163_302_634_154);
}

#[test]
fn another_seed_makes_another_university() {
    let (_, one) = made(&small());
    let (_, other) = made(&Options { seed: 2, ..small() });
    for name in FILES {
        assert_ne!(one[name], other[name], "{name}");
    }
}

#[test]
fn summary_counts_the_lines() {
    let (summary, files) = made(&small());
    let count = |name| lines(&files[name]).len() as u64;
    assert_eq!(summary.people, count("people.ndjson"));
    assert_eq!(summary.people, 294 + 58);
    assert_eq!(summary.changes, count("changes.ndjson"));
    assert_eq!(summary.lessons, count("lessons.ndjson"));
    assert_eq!(summary.event_lines, count("events.ndjson"));
    assert_eq!(summary.event_lines, count("keys.txt"));
}

#[test]
fn without_faults_every_click_is_a_record_and_comes_once() {
    let (summary, files) = made(&Options { faults: 0.0, ..small() });
    assert_eq!(summary.event_lines, 2_000);
    let events = lines(&files["events.ndjson"]);
    for line in &events {
        assert_eq!(flaw(line), None, "{}", String::from_utf8_lossy(line));
    }
    let ids: Vec<String> = events.iter().map(|line| meaning(line).0).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 2_000);
    assert_eq!(ids.join("\n") + "\n", String::from_utf8(files["keys.txt"].clone()).unwrap());
}

#[test]
fn every_kind_of_fault_occurs() {
    let (_, files) = made(&small());
    let flaws: BTreeSet<&str> =
        lines(&files["events.ndjson"]).into_iter().filter_map(flaw).collect();
    #[rustfmt::skip]
    let expected = [
        "cut", "utf8", "empty", "object", "missing", "ID", "JOURNAL_ID", "STUDENT_ID",
        "LESSON_ID", "LESSON_DATE", "ATTENDANCE_MARK", "DATE_CREATE", "MARKED_BY_ROLE",
        "MARKED_BY",
    ];
    assert_eq!(expected.len() as u64, faults::FAULT_KINDS);
    for flaw in expected {
        assert!(flaws.contains(flaw), "{flaw} is not in {flaws:?}");
    }
}

#[test]
fn duplicates_and_taken_ids_and_late_lines_occur() {
    let (_, files) = made(&small());
    let mut seen = HashMap::new();
    let (mut equal, mut taken, mut late) = (0, 0, 0);
    let mut latest = 0;
    for line in lines(&files["events.ndjson"]) {
        if flaw(line).is_some() {
            continue;
        }
        let (id, cell, date) = meaning(line);
        late += u32::from(cell[2].unwrap() + 100 < latest);
        latest = latest.max(cell[2].unwrap());
        match seen.insert(id, (cell, date.clone())) {
            Some(known) if known == (cell, date) => equal += 1,
            Some(_) => taken += 1,
            None => {}
        }
    }
    assert!((150..260).contains(&equal), "{equal}");
    assert!((1..20).contains(&taken), "{taken}");
    assert!(late > 10, "{late}");
}

#[test]
fn no_events_make_people_and_changes_alone() {
    let (summary, files) = made(&Options { events: 0, ..small() });
    assert_eq!((summary.event_lines, summary.lessons), (0, 0));
    assert!(files["events.ndjson"].is_empty() && files["lessons.ndjson"].is_empty());
    let changes = values(&files["changes.ndjson"]);
    assert_eq!(changes.len(), 100);
    assert!(changes.iter().all(|change| change["after"] == 0));
}

#[test]
fn changes_are_in_order_and_whole() {
    let (summary, files) = made(&Options { changes: 3_000, ..small() });
    let changes = values(&files["changes.ndjson"]);
    assert!(changes.is_sorted_by_key(|change| change["after"].as_u64()));
    assert!(changes.last().unwrap()["after"].as_u64() <= Some(summary.event_lines));
    let deleted = changes.iter().filter(|change| change["op"] == "delete").count();
    assert!((200..400).contains(&deleted), "{deleted}");
    for change in &changes {
        assert_eq!(change["op"] == "index", change["_source"]["PERSONAL"].is_object());
        assert!(change["_id"].is_string());
    }
}

#[test]
fn smallest_university_works() {
    let options = Options { events: 30_000, students: 1, teachers: 1, ..small() };
    let (summary, files) = made(&options);
    assert_eq!(summary.people, 0);
    assert_eq!(values(&files["changes.ndjson"]).len(), 100);
    let lessons = values(&files["lessons.ndjson"]);
    let last = lessons.last().unwrap()["date"].as_str().unwrap();
    assert!(("2025-02-10".."2034").contains(&last), "{last}");
}

#[test]
fn lessons_are_those_of_the_clicks_and_locked_before_the_last_day() {
    let (_, files) = made(&Options { faults: 0.0, ..small() });
    let lessons = values(&files["lessons.ndjson"]);
    let last = lessons.last().unwrap()["date"].clone();
    let mut cells = HashSet::new();
    for lesson in &lessons {
        assert_eq!(lesson["locked"], lesson["date"] != last);
        cells.insert((lesson["journal"].as_u64(), lesson["lesson"].as_u64()));
    }
    let clicks = lines(&files["events.ndjson"]).into_iter().map(meaning);
    let clicked = clicks.map(|(_, [journal, _, lesson, _], _)| (journal, lesson));
    assert_eq!(clicked.collect::<HashSet<_>>(), cells);
    assert!(lessons.iter().any(|lesson| lesson["locked"] == false));
    assert!(lessons.iter().any(|lesson| lesson["locked"] == true));
}

#[test]
fn progress_grows_to_the_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    let options = Options { events: 30_000, ..small() };
    let summary = generate(&options, folder.path(), &mut |lines| told.push(lines)).unwrap();
    assert!(told.len() > 3 && told.is_sorted());
    assert_eq!(told.last(), Some(&summary.event_lines));
}

#[test]
fn options_out_of_range_are_all_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let options = Options { students: 0, teachers: 0, faults: f64::NAN, ..small() };
    let error = generate(&options, &out, &mut |_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot make a university of these options: students must be 1 to 10000000; teachers \
         must be 1 to 1000000; faults must be a share, 0 to 1"
    );
    assert!(!out.exists());
}
