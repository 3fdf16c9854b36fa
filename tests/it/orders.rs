//! Orders: a second domain, to show that nothing of the first is hard-wired.
//!
//! Shape: `dataflows/orders.toml` over `data/orders`, over random data, and cut down in ways that
//! the first domain never needs; each held against `tests/oracle/orders.py`, which knows the domain
//! by hand and the engine not at all.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

use crate::support::{project, said, tributary};

const SPEC: &str = "dataflows/orders.toml";
/// As the letters name it, so runs must be given it in this form.
const DATA: &str = "data/orders";
/// Random inputs of a test run; more by hand, with `SEED`.
const SEEDS: u64 = 4;

/// Output files by name.
type Files = BTreeMap<String, Vec<u8>>;

fn files(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let named = |path: PathBuf| {
        let name = path.file_name().expect("it was listed").to_string_lossy().into_owned();
        (name, fs::read(&path).expect("it is a file"))
    };
    paths.map(named).collect()
}

fn rows(file: &[u8]) -> Vec<String> {
    let lines = str::from_utf8(file).expect("outputs are UTF-8");
    lines.lines().map(str::to_owned).collect()
}

/// Equal to the byte; where not, the message shows the first rows that differ.
fn assert_same(got: &Files, want: &Files, which: &str) {
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(got), names(want), "files, {which}");
    for (name, want) in want {
        let (got_rows, want_rows) = (rows(&got[name]), rows(want));
        for (line, (got, want)) in got_rows.iter().zip(&want_rows).enumerate() {
            assert_eq!(got, want, "{name}, line {line}, {which}");
        }
        assert_eq!(&got[name], want, "{name}, {which}");
    }
}

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names of text")
}

/// Runs a spec over a folder of data; what it wrote, and what it said.
fn run(spec: &str, data: &str, options: &[&str]) -> (Files, String) {
    let out = TempDir::new().expect("temporary folders can be made");
    let [events, documents, changes] =
        ["events", "documents", "changes"].map(|name| format!("{data}/{name}.ndjson"));
    let folder = text(out.path());
    let mut arguments = vec!["run", spec, "--once", "--events", &events, "--documents", &documents];
    arguments.extend(["--changes", &changes, "--out", folder]);
    arguments.extend(options);
    let output = tributary(&arguments);
    assert!(output.status.success(), "{arguments:?}\n{}", said(&output));
    (files(out.path()), said(&output))
}

fn oracle(arguments: &[&str]) {
    let output = Command::new("python3")
        .arg("tests/oracle/orders.py")
        .args(arguments)
        .current_dir(project("."))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python3 can be started");
    assert!(output.status.success(), "{arguments:?}\n{}", said(&output));
}

/// What the oracle makes of a folder of data.
fn wanted(data: &str) -> Files {
    let out = TempDir::new().expect("temporary folders can be made");
    oracle(&[data, text(out.path())]);
    files(out.path())
}

/// A folder of data made of lines.
fn data(events: &[&str], documents: &[&str]) -> TempDir {
    let folder = TempDir::new().expect("temporary folders can be made");
    for (name, lines) in [("events", events), ("documents", documents), ("changes", &[])] {
        let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(folder.path().join(format!("{name}.ndjson")), whole).expect("it can be written");
    }
    folder
}

/// Runs a spec that is given as text; the rows of each view, and what the run said.
fn run_small(
    spec: &str,
    events: &[&str],
    documents: &[&str],
) -> (BTreeMap<String, Vec<String>>, String) {
    let folder = data(events, documents);
    let path = folder.path().join("spec.toml");
    fs::write(&path, spec).expect("it can be written");
    let data = text(folder.path());
    let (one, said) = run(text(&path), data, &["--epoch-lines", "1"]);
    let (three, _) = run(text(&path), data, &["--workers", "3"]);
    assert_same(&three, &one, "three workers");
    let views = one.iter().map(|(name, file)| (name.clone(), rows(file)));
    (views.collect(), said)
}

#[test]
fn sample_gives_what_the_oracle_wrote() {
    let expected = files(&project(DATA).join("expected"));
    assert_same(&wanted(DATA), &expected, "oracle");
    for workers in ["1", "2", "3"] {
        for lines in ["1", "2", "7", "20000"] {
            let options = ["--quiet", "--workers", workers, "--epoch-lines", lines];
            let (got, _) = run(SPEC, DATA, &options);
            assert_same(&got, &expected, &format!("{workers} workers, {lines} lines an epoch"));
        }
    }
}

#[test]
fn oracle_agrees_on_random_orders() {
    let named = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let of_now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let first: u64 = named.unwrap_or_else(of_now);
    for seed in first..first + if named.is_some() { 1 } else { SEEDS } {
        println!("SEED={seed}");
        let folder = TempDir::new().unwrap();
        let data = text(folder.path());
        let events = (50 + seed % 500).to_string();
        oracle(&["--generate", data, "--events", &events, "--seed", &seed.to_string()]);
        let (workers, lines) = ((1 + seed % 3).to_string(), (1 + seed % 11).to_string());
        let options = ["--quiet", "--workers", &workers, "--epoch-lines", &lines];
        let (got, _) = run(SPEC, data, &options);
        assert_same(&got, &wanted(data), &format!("SEED={seed}"));
    }
}

/// A spec whose views count by nothing that is looked up, which "never" allows.
fn with_corrections(corrections: &str) -> String {
    let spec = fs::read_to_string(project(SPEC)).expect("it is there");
    let counts = spec.find("[views.events_by_category]").expect("it is a view");
    let spec = spec[..counts].replace("\"always\"", &format!("\"{corrections}\""));
    assert!(spec.contains(&format!("corrections = \"{corrections}\"")));
    spec
}

#[test]
fn never_equals_always_where_documents_come_first() {
    let folder = TempDir::new().unwrap();
    let data = text(folder.path());
    oracle(&["--generate", data, "--events", "300", "--seed", "7"]);
    // What changes would say later is said at the start.
    let mut documents = fs::read(folder.path().join("documents.ndjson")).unwrap();
    documents.extend(fs::read(folder.path().join("changes.ndjson")).unwrap());
    fs::write(folder.path().join("documents.ndjson"), documents).unwrap();
    fs::write(folder.path().join("changes.ndjson"), "").unwrap();
    let mut results = Vec::new();
    for corrections in ["always", "never"] {
        let spec = folder.path().join(format!("{corrections}.toml"));
        fs::write(&spec, with_corrections(corrections)).unwrap();
        for (workers, lines) in [("1", "20000"), ("3", "1"), ("2", "7")] {
            let options = ["--quiet", "--workers", workers, "--epoch-lines", lines];
            results.push(run(text(&spec), data, &options).0);
        }
    }
    let first = results[0].clone();
    assert!(rows(&first["enriched.ndjson"]).iter().any(|row| row.contains("BUYER_NAME")));
    for other in &results[1..] {
        assert_same(other, &first, "never, or other epochs");
    }
}

const THINGS: &str = r#"
    name = "things"
    shards = 5
    [events]
    key = "N"
    shard_key = "NAME"
    time = "AT"
    zone = "UTC"
    [events.columns]
    NAME = { type = "text", bytes_max = 4 }
    N    = { type = "integer", range = "-9223372036854775808..9223372036854775807" }
    ID   = { type = "uuid", optional = true }
    NOTE = { type = "text", bytes_max = 65536, optional = true }
    AT   = { type = "datetime" }
"#;

const LATEST: &str = r#"
    [views.latest]
    kind = "latest"
    key = ["NOTE", "NAME"]
    order = ["ID", "NOTE", "N"]
"#;

#[test]
fn dataflow_may_have_no_lookup_and_no_counts() {
    let spec = format!(
        "{THINGS} {LATEST}
        [views.last_of_name]
        kind = \"latest\"
        key = [\"NAME\"]
        order = [\"NOTE\", \"N\"]"
    );
    let events = [
        r#"{"N":-9223372036854775808,"NAME":"","AT":"2025-01-01 00:00:00"}"#,
        r#"{"N":9223372036854775807,"NAME":"","NOTE":"","AT":"2025-01-01 00:00:00"}"#,
        r#"{"N":"5","NAME":"","AT":"2025-01-01 00:00:00"}"#,
        r#"{"N":"-5","NAME":"","AT":"2025-01-01 00:00:00"}"#,
        r#"{"N":-5,"NAME":"ёж","AT":"2025-01-01 00:00:00"}"#,
        r#"{"N":-6,"NAME":"ёжи","AT":"2025-01-01 00:00:00"}"#,
    ];
    let (views, said) = run_small(&spec, &events, &[]);
    let empty =
        r#"{"NAME":"","N":9223372036854775807,"NOTE":"","AT":"2025-01-01 00:00:00.000000"}"#;
    let hedgehog = r#"{"NAME":"ёж","N":-5,"AT":"2025-01-01 00:00:00.000000"}"#;
    let five = r#"{"NAME":"","N":5,"AT":"2025-01-01 00:00:00.000000"}"#;
    assert_eq!(views["latest.ndjson"], [five, hedgehog, empty]);
    assert_eq!(views["last_of_name.ndjson"], [empty, hedgehog]);
    assert_eq!(views["dead_letters.ndjson"].len(), 2, "text has no sign; 6 bytes are more than 4");
    assert!(!said.contains("without"), "{said}");
}

#[test]
fn text_may_be_as_long_as_its_limit() {
    let spec = format!("{THINGS} {LATEST}");
    let event = |n: usize, note: &str| {
        format!(r#"{{"N":{n},"NAME":"a","NOTE":"{note}","AT":"2025-01-01 00:00:00"}}"#)
    };
    let longest = ["ж".repeat(32_768), "\\u0000".repeat(65_536), "x".repeat(65_536)];
    let mut events: Vec<String> = longest.iter().zip(0..).map(|(t, n)| event(n, t)).collect();
    events.push(event(9, &"x".repeat(65_537)));
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let (views, _) = run_small(&spec, &events, &[]);
    let shown: Vec<bool> = ["\\u0000", "x", "ж"]
        .iter()
        .zip(&views["latest.ndjson"])
        .map(|(note, row)| row.contains(&format!("\"NOTE\":\"{note}{note}")))
        .collect();
    assert_eq!(shown, [true; 3]);
    assert_eq!(views["dead_letters.ndjson"].len(), 1);
}

/// A dataflow may show its latest records alone; they then say who is unmatched.
#[test]
fn unmatched_are_counted_without_an_enriched_view() {
    let lookup = r#"
    [lookups.known]
    key = { path = "id" }
    matches = "ID"
    columns = { FOUND = { type = "text", path = "name" } }
    "#;
    let spec = format!("{THINGS} {lookup} {LATEST}");
    let event = |n: u8, id: &str| {
        format!(r#"{{"N":{n},"NAME":"n{n}","ID":"{id}","AT":"2025-01-01 00:00:00"}}"#)
    };
    let [a, b] = ["0000000A-0000-0000-0000-00000000000A", "0000000b-0000-0000-0000-00000000000b"];
    let none = r#"{"N":3,"NAME":"n3","AT":"2025-01-01 00:00:00"}"#;
    let [first, second] = [event(1, &a.to_lowercase()), event(2, b)];
    let documents = [
        format!(r#"{{"_id":"1","_source":{{"id":"{a}"}}}}"#),
        r#"{"_id":"2","_source":{}}"#.into(),
    ];
    let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
    let (views, said) = run_small(&spec, &[&first, &second, none], &documents);
    assert_eq!(views["latest.ndjson"].len(), 3);
    let unmatched = said.lines().find(|line| line.contains("without known"));
    let count = unmatched.and_then(|line| line.split_whitespace().last());
    assert_eq!(count, Some("1"), "{said}");
}

/// TOML's integers end at 2^63-1, those of columns at 2^64-1.
#[test]
fn regression_conditions_could_not_name_the_greatest_integers() {
    let things =
        THINGS.replace("-9223372036854775808..9223372036854775807", "0..18446744073709551615");
    let counts = |value: &str| {
        format!(
            "{things} {LATEST}
            [views.counts]
            kind = \"counts\"
            of = \"latest\"
            by = [\"NAME\"]
            counts = {{ GREATEST = {{ when = {{ column = \"N\", in = [{value}] }} }} }}"
        )
    };
    let event = r#"{"N":18446744073709551615,"NAME":"a","AT":"2025-01-01 00:00:00"}"#;
    let (views, _) = run_small(&counts("\"18446744073709551615\""), &[event], &[]);
    assert_eq!(views["counts.ndjson"], [r#"{"NAME":"a","GREATEST":1}"#]);
    for (value, said_of_it) in [
        ("18446744073709551615", "write it as text"),
        ("\"18446744073709551616\"", "never stands in column"),
        ("-1", "never stands in column"),
    ] {
        let folder = data(&[], &[]);
        let path = folder.path().join("spec.toml");
        fs::write(&path, counts(value)).unwrap();
        let output = tributary(&["check", text(&path)]);
        assert!(said(&output).contains(said_of_it), "{value}: {}", said(&output));
    }
}

#[test]
fn keys_of_any_type_find_their_documents() {
    // The event's column, its value there, and values in documents that are and are not that key.
    let cases = [
        ("NAME", r#""\"\\\u0000""#, r#""\u0022\u005c\u0000""#, r#""\"\\""#),
        ("N", "-7", "-7", r#""-7""#),
        ("N", "7", r#""007""#, "7.0"),
        ("AT", r#""2025-01-01 00:00:00""#, r#""2025-01-01 00:00:00.000""#, r#""2025-01-01""#),
    ];
    for (column, value, same, other) in cases {
        let lookup = format!(
            "[lookups.found]
            key = {{ path = \"a[1].k\" }}
            matches = \"{column}\"
            [lookups.found.columns]
            WHO = {{ type = \"text\", path = \"who\" }}"
        );
        let spec = format!("{THINGS} {lookup}\n[views.all]\nkind = \"enriched\"");
        let mut event = serde_json::json!({"N": 1, "NAME": "a", "AT": "2025-01-01 00:00:00"});
        event[column] = serde_json::from_str(value).expect("a case is JSON");
        let document = |id: &str, key: &str| {
            format!(r#"{{"_id":"{id}","_source":{{"a":[0,{{"k":{key}}}],"who":"{id}"}}}}"#)
        };
        let documents = [document("other", other), document("same", same)];
        let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
        let (views, _) = run_small(&spec, &[&event.to_string()], &documents);
        let row: serde_json::Value = serde_json::from_str(&views["all.ndjson"][0]).unwrap();
        assert_eq!(row["WHO"], "same", "{column} = {value}");
    }
}

/// Words of the domains that there are; code that holds one computes for that domain alone.
const DOMAIN_WORDS: [&str; 26] = [
    "student",
    "teacher",
    "attendance",
    "journal",
    "lesson",
    "faculty",
    "kafedra",
    "decanat",
    "bitrix",
    "personal.",
    "marked_by",
    "mark\"",
    "marks",
    "fullname",
    "birthdate",
    "education",
    "specialization",
    "order_id",
    "order_status",
    "buyer",
    "recipient",
    "customer",
    "product",
    "currency",
    "parcel",
    "\"sku",
];

/// Modules that know no domain. `generate` makes the first one, and the help in `cli` speaks of it.
const DOMAINLESS: [&str; 7] = ["spec", "row", "source", "reference", "dataflow", "sink", "engine"];

#[test]
fn no_word_of_a_domain_stands_in_the_engine() {
    let mut found = Vec::new();
    let mut read = 0;
    let mut folders: Vec<PathBuf> = DOMAINLESS.map(|m| project("src").join(m)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                read += 1;
                found.extend(domain_words(&path));
            }
        }
    }
    assert!(read > 30, "only {read} files were found");
    assert_eq!(found, Vec::<String>::new());
}

/// Where code before the tests of a file, without its comments, holds a word of a domain.
fn domain_words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("it was listed");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default().to_lowercase();
        let words = DOMAIN_WORDS.iter().filter(|word| line.contains(**word));
        found.extend(words.map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
    }
    found
}
