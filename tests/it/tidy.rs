//! Rules of style that a machine can check, because an unchecked rule decays.
//!
//! An exception is a line `RULE PATH REASON` in `tests/it/tidy_exceptions.txt`; the list only
//! shrinks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::project;

/// Rust sources below a folder of the project, with their text.
fn sources(folder: &str) -> Vec<(String, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&project(folder), &mut found);
    found.sort();
    let root = project("");
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        (name, fs::read_to_string(path).unwrap())
    };
    found.into_iter().map(read).collect()
}

/// Sources of the crate that are no unit tests.
fn product_sources() -> Vec<(String, String)> {
    let is_product = |(path, _): &(String, String)| !path.ends_with("/tests.rs");
    sources("src").into_iter().filter(is_product).collect()
}

/// A source without its comments and unit tests.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = before_tests.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Fails with all that breaks a rule, but for the exceptions.
fn check(rule: &str, broken: Vec<String>) {
    let exceptions = fs::read_to_string(project("tests/it/tidy_exceptions.txt")).unwrap();
    let excepted = |line: &String| {
        let path = line.split(':').next().unwrap_or_default();
        exceptions.lines().any(|exception| exception.starts_with(&format!("{rule} {path} ")))
    };
    let broken: Vec<String> = broken.into_iter().filter(|line| !excepted(line)).collect();
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

#[test]
fn files_say_what_they_are() {
    let all = sources("src").into_iter().chain(sources("tests")).chain(sources("benches"));
    let silent = all.filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path);
    check("header", silent.collect());
}

#[test]
fn lines_are_short_and_files_readable() {
    let mut long = Vec::new();
    for (path, text) in sources("src") {
        if text.lines().count() > 600 {
            long.push(format!("{path}: {} lines", text.lines().count()));
        }
        let wide = text.lines().enumerate().filter(|(_, line)| line.chars().count() > 100);
        long.extend(wide.map(|(place, _)| format!("{path}:{}", place + 1)));
    }
    check("long", long);
}

#[test]
fn nothing_is_left_undone() {
    // Put together here, so that this file does not hold them.
    let words = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!("));
    let mut found = Vec::new();
    for (path, text) in product_sources() {
        let code = code(&text);
        let mut left: Vec<&str> = words.iter().map(String::as_str).collect();
        left.extend([".unwrap(", "FIXME", "XXX", "#[ignore", "println!(\"DEBUG"]);
        found.extend(
            left.iter().filter(|word| code.contains(**word)).map(|w| format!("{path}: {w}")),
        );
    }
    check("undone", found);
}

/// What each part may use of the others: the flow goes one way.
const MAY_USE: [(&str, &[&str]); 20] = [
    ("time", &[]),
    ("row", &["time"]),
    ("spec", &["row", "time"]),
    ("config", &[]),
    ("kafka", &["config"]),
    ("source", &["kafka", "spec", "row", "time"]),
    ("reference", &["kafka", "source", "spec", "row", "time"]),
    ("feed", &["reference", "kafka", "config", "source", "spec"]),
    ("dataflow", &["reference", "source", "spec", "row", "time"]),
    ("progress", &["kafka", "source", "spec", "time"]),
    ("sink", &["progress", "kafka", "dataflow", "source", "spec", "row", "time"]),
    ("load", &["progress", "kafka", "config", "spec", "row", "time"]),
    ("archive", &["progress", "kafka", "config", "source", "spec", "row", "time"]),
    (
        "engine",
        &[
            "archive",
            "sink",
            "progress",
            "kafka",
            "dataflow",
            "reference",
            "source",
            "spec",
            "row",
            "time",
        ],
    ),
    (
        "history",
        &[
            "engine",
            "archive",
            "load",
            "progress",
            "kafka",
            "config",
            "reference",
            "source",
            "spec",
            "row",
            "time",
        ],
    ),
    ("generate", &[]),
    ("http", &["engine"]),
    (
        "journal",
        &[
            "generate",
            "sink",
            "progress",
            "kafka",
            "dataflow",
            "reference",
            "source",
            "spec",
            "row",
            "time",
        ],
    ),
    ("serve", &["journal", "http", "engine", "feed", "config", "source", "spec", "time"]),
    (
        "cli",
        &[
            "serve", "journal", "history", "http", "engine", "archive", "load", "feed", "config",
            "kafka", "generate", "sink", "spec", "row", "time",
        ],
    ),
];

#[test]
fn the_flow_goes_one_way() {
    let parts = MAY_USE.map(|(part, _)| part);
    let mut found = Vec::new();
    for (part, may_use) in MAY_USE {
        let own = |path: &String| {
            path.starts_with(&format!("src/{part}/")) || *path == format!("src/{part}.rs")
        };
        for (path, text) in sources("src").into_iter().filter(|(path, _)| own(path)) {
            for used in imports(&code(&text)) {
                let allowed = used == part || may_use.contains(&used.as_str());
                if parts.contains(&used.as_str()) && !allowed {
                    found.push(format!("{path}: uses {used}"));
                }
            }
        }
    }
    check("imports", found);
}

/// The parts of the crate that a source names after `crate::`, in lists too.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for after in code.split("crate::").skip(1) {
        if let Some(list) = after.strip_prefix('{') {
            let (mut depth, mut name, mut at_start) = (0, String::new(), true);
            for letter in list.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => at_start = true,
                    _ if letter.is_alphanumeric() || letter == '_' => {
                        if at_start {
                            name.push(letter);
                        }
                        continue;
                    }
                    _ => {}
                }
                if !name.is_empty() {
                    found.push(std::mem::take(&mut name));
                    at_start = letter == ',';
                }
            }
            found.extend((!name.is_empty()).then_some(name));
        } else {
            let is_name = |letter: &char| letter.is_alphanumeric() || *letter == '_';
            found.push(after.chars().take_while(is_name).collect());
        }
    }
    found
}

#[test]
fn imports_are_found_in_lists_and_paths() {
    let code = "use crate::{\n    row::{Key, json::{a, b}},\n    spec,\n    time::Day,\n};\ncrate::sink::x()";
    assert_eq!(imports(code), ["row", "spec", "time", "sink"]);
}

#[test]
fn the_dataflow_is_pure() {
    let forbidden = [
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "std::process",
        "Instant",
        "SystemTime",
        "rand",
        "println!",
        "eprintln!",
    ];
    let mut found = Vec::new();
    for (path, text) in sources("src/dataflow") {
        let code = code(&text);
        found.extend(
            forbidden.iter().filter(|w| code.contains(**w)).map(|w| format!("{path}: {w}")),
        );
    }
    check("pure", found);
}

/// What cuts epochs, waits for other processes or brokers, says how old a log may be, or talks to
/// people.
const MAY_READ_A_CLOCK: [&str; 23] = [
    "src/archive/keeper",
    "src/cli/",
    "src/engine/follow/",
    "src/engine/cluster/",
    "src/engine/hold.rs",
    "src/engine/lead.rs",
    "src/engine/loss.rs",
    "src/engine/metrics.rs",
    "src/engine/status.rs",
    "src/feed/",
    "src/history/",
    "src/journal/clock.rs",
    "src/journal/desk.rs",
    "src/journal/events.rs",
    "src/journal/follow.rs",
    "src/kafka/",
    "src/load/",
    "src/process.rs",
    "src/progress/frontier.rs",
    "src/serve/live.rs",
    "src/serve/login",
    "src/serve/tests.rs",
    "src/sink/kafka/",
];

#[test]
fn nothing_that_computes_reads_a_clock() {
    let mut found = Vec::new();
    let may = |path: &String| MAY_READ_A_CLOCK.iter().any(|part| path.starts_with(part));
    for (path, text) in sources("src").into_iter().filter(|(path, _)| !may(path)) {
        let clocks =
            ["Instant::now", "SystemTime::now", "Zoned::now", "Timestamp::now", "now_ms()"];
        found.extend(
            clocks.iter().filter(|c| code(&text).contains(**c)).map(|c| format!("{path}: {c}")),
        );
    }
    check("clock", found);
}
