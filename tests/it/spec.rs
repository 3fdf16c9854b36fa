//! Specs: what the loader says of right and of wrong ones, and that its documentation is true.
//!
//! Shape: golden files in `tests/spec` (`REWRITE=1` rewrites their expectations), one theme a file;
//! mutations of `dataflows/attendance.toml`; docs/spec.md and docs/spec.schema.json against the
//! types.
//!
//! Invariants: every rule has a case; the schema that editors get and the loader agree on the form.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use datadriven::{TestCase, walk};
use proptest::{prelude::*, sample::Index};
use serde_json::{Map, Value, json};
use tributary::spec::{Rule, Spec, Violation, Violations, file::SpecFile, json_schema};

use crate::support::{project, said, tributary};

const ATTENDANCE: &str = "dataflows/attendance.toml";

// -------------------------------------------------------------------------------------- golden --

/// Directives: `check` (the input is a whole spec), `bytes` (the same, `\xNN` stands for a byte and
/// ends of lines are written), `change` (lines `old => new` made in `attendance.toml`, `\n` ends a
/// line), `explain` (likewise, the plan), `run` (the input is a command line).
#[test]
fn specs_are_judged_as_written() {
    let folder = project("tests/spec");
    walk(folder.to_str().expect("the project's path is text"), |file| file.run(outcome));
}

fn outcome(case: &mut TestCase) -> String {
    match case.directive.as_str() {
        "check" => verdict(Spec::parse(Path::new("spec.toml"), &case.input)),
        "bytes" => verdict(Spec::parse_bytes(Path::new("spec.toml"), &unescape(&case.input))),
        "change" => verdict(Spec::parse(Path::new("attendance.toml"), &changed(&case.input))),
        "explain" => {
            let folder = tempfile::tempdir().expect("a folder can be made");
            let spec = folder.path().join("spec.toml");
            fs::write(&spec, changed(&case.input)).expect("a spec can be written");
            said(&tributary(&["explain", spec.to_str().expect("its path is text")]))
        }
        "run" => {
            let arguments: Vec<&str> = case.input.split_whitespace().collect();
            let output = tributary(&arguments);
            format!("{}exit code {}\n", said(&output), output.status.code().expect("it ended"))
        }
        other => panic!("no directive \"{other}\""),
    }
}

fn verdict(outcome: Result<Spec, Violations>) -> String {
    match outcome {
        Ok(_) => "sound\n".to_owned(),
        Err(violations) => format!("{violations}\n"),
    }
}

/// `attendance.toml` after replacements, each of which must find exactly one place.
fn changed(replacements: &str) -> String {
    let mut text = attendance();
    for line in replacements.lines() {
        let (old, new) = line
            .split_once(" => ")
            .or_else(|| Some((line.strip_suffix(" =>")?, "")))
            .unwrap_or_else(|| panic!("\"{line}\" is not written as \"old => new\""));
        let (old, new) = (old.replace("\\n", "\n"), new.replace("\\n", "\n"));
        let places = text.matches(&old).count();
        assert_eq!(places, 1, "\"{old}\" stands in {places} places of {ATTENDANCE}, not in one");
        text = text.replace(&old, &new);
    }
    text
}

fn attendance() -> String {
    fs::read_to_string(project(ATTENDANCE)).expect("the example can be read")
}

fn unescape(input: &str) -> Vec<u8> {
    let input = input.replace('\n', "").replace("\\n", "\n").replace("\\r", "\r");
    let mut parts = input.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two hexadecimal digits"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

#[test]
fn every_rule_has_a_case() {
    let cases: String = fs::read_dir(project("tests/spec"))
        .expect("the cases can be listed")
        .map(|file| fs::read_to_string(file.expect("listed").path()).expect("a case is text"))
        .collect();
    for rule in Rule::ALL {
        assert!(cases.contains(&format!(" [{}]\n", rule.name())), "no case for {}", rule.name());
    }
    let names: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(names.len(), Rule::ALL.len(), "each rule has a name of its own");
}

// --------------------------------------------------------------------------------------- sizes --

fn refused(text: &str) -> Vec<Violation> {
    Spec::parse(Path::new("spec.toml"), text).expect_err("refused").found
}

#[test]
fn more_columns_than_ids_are_refused() {
    let columns: String = (0..70_000).map(|n| format!("c{n}={{type=\"uuid\"}}\n")).collect();
    let found = refused(&attendance().replace("[lookups.student]", &format!(
        "[lookups.many]\nkey={{path=\"a\"}}\nmatches=\"ID\"\n[lookups.many.columns]\n{}\n[lookups.student]",
        columns.replace("\"uuid\"", "\"text\",path=\"a\""),
    )));
    assert_eq!(found.len(), 1, "{:?}", found.first());
    assert_eq!(found[0].cause, "70031 columns are more than the 1000 that are possible");
    let found = refused(
        &attendance().replace("[events.columns]\n", &format!("[events.columns]\n{columns}")),
    );
    assert_eq!(found[0].rule, Rule::OutOfBounds, "{:?}", found[0]);
}

#[test]
fn very_many_violations_are_all_told() {
    for separator in ["\n", ","] {
        let columns: Vec<String> = (0..70_000).map(|n| format!("\"c{n}/~\"=5")).collect();
        let columns = columns.join(separator);
        let columns = match separator {
            "," => format!("events.columns={{{columns}}}"),
            _ => format!("[events.columns]\n{columns}"),
        };
        let found = refused(&columns);
        // Those of the columns, four keys that events lack, two that the spec lacks.
        assert_eq!(found.len(), 70_000 + 4 + 2);
        let last = found.last().expect("many");
        assert_eq!(last.cause, "c69999/~ must be a table");
        assert_eq!(last.line, if separator == "," { 1 } else { 70_001 });
    }
}

#[test]
fn specs_have_a_longest_length() {
    let long = attendance() + &"#\n".repeat(3 << 20);
    assert_eq!(refused(&long)[0].rule, Rule::OutOfBounds);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("spec.toml");
    // The limit falls into the middle of a character, which is no news about its encoding.
    fs::write(&path, "я".repeat(3 << 20)).expect("a spec can be written");
    let error = Spec::load(&path).expect_err("refused").to_string();
    assert!(error.contains("[out-of-bounds]"), "{error}");
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let deep = 100_000;
    for text in [
        format!("a = {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("{}a = 1", "a.".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        format!("a = {}{}", "{a=".repeat(deep), "}".repeat(deep)),
        changed(&format!(
            "\"PERSONAL.sex\" }}\\nADMISSION => \"{}a\" }}\\nADMISSION",
            "a.".repeat(deep)
        )),
        changed(&format!(
            "\"PERSONAL.sex\" }}\\nADMISSION => \"a{}\" }}\\nADMISSION",
            "[0]".repeat(deep)
        )),
    ] {
        assert!(!refused(&text).is_empty());
    }
}

// ---------------------------------------------------------------------------------- properties --

/// A change of one node of a spec's tree.
#[derive(Clone, Debug)]
enum Mutation {
    Remove,
    Rename(&'static str),
    Add(&'static str, Value),
    Replace(Value),
    Empty,
}

fn value() -> impl Strategy<Value = Value> {
    // No whole floats: JSON Schema takes 64.0 for an integer, which TOML and the loader do not.
    prop::sample::select(vec![
        json!(true),
        json!(1.5),
        json!(-1),
        json!(0),
        json!(1),
        json!(1025),
        json!(4097),
        json!(65_537),
        json!(8_388_609),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("text"),
        json!("years"),
        json!("latest"),
        json!("counts"),
        json!("never"),
        json!([]),
        json!([1]),
        json!(["ID"]),
        json!([true]),
        json!({}),
        json!({ "type": "uuid" }),
        json!({ "kind": "enriched" }),
        json!({ "column": "ID", "in": [1, "a"] }),
        json!({ "path": "a" }),
    ])
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let name = || {
        let names = ["key", "type", "kind", "range", "optional", "path", "other", "a/b", "~", ""];
        prop::sample::select(names.to_vec())
    };
    prop_oneof![
        2 => Just(Mutation::Remove),
        1 => name().prop_map(Mutation::Rename),
        2 => (name(), value()).prop_map(|(name, value)| Mutation::Add(name, value)),
        4 => value().prop_map(Mutation::Replace),
        1 => Just(Mutation::Empty),
    ]
}

/// The pointers of all nodes but the root.
fn nodes(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(table) => table.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(n, v)| (n.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        let inner = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        found.push(inner.clone());
        nodes(child, &inner, found);
    }
}

fn mutate(spec: &mut Value, place: &Index, mutation: &Mutation) {
    let mut pointers = Vec::new();
    nodes(spec, "", &mut pointers);
    let Some(pointer) = (!pointers.is_empty()).then(|| place.get(&pointers)) else { return };
    let (parent, name) = pointer.rsplit_once('/').expect("a node's pointer has a parent");
    let name = name.replace("~1", "/").replace("~0", "~");
    let parent = spec.pointer_mut(parent).expect("a node's parent is a node");
    match (mutation, parent) {
        (Mutation::Remove, Value::Object(table)) => drop(table.shift_remove(&name)),
        (Mutation::Remove, Value::Array(list)) => drop(list.pop()),
        (Mutation::Rename(new), Value::Object(table)) => {
            let value = table.shift_remove(&name).expect("a node is there");
            table.insert((*new).to_owned(), value);
        }
        (Mutation::Add(new, value), Value::Object(table)) => {
            table.insert((*new).to_owned(), value.clone());
        }
        (Mutation::Add(_, value), Value::Array(list)) => list.push(value.clone()),
        (Mutation::Replace(value), _) => {
            *spec.pointer_mut(pointer).expect("a node is there") = value.clone();
        }
        (Mutation::Empty, _) => match spec.pointer_mut(pointer) {
            Some(Value::Object(table)) => table.clear(),
            Some(Value::Array(list)) => list.clear(),
            _ => {}
        },
        _ => {}
    }
}

const FORM: [Rule; 5] =
    [Rule::UnknownKey, Rule::MissingKey, Rule::WrongType, Rule::UnknownChoice, Rule::OutOfBounds];

static VALIDATOR: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(&json_schema()).expect("the schema is one"));

static ATTENDANCE_TREE: LazyLock<Value> =
    LazyLock::new(|| toml::from_str(&attendance()).expect("the example is TOML"));

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn editors_and_the_loader_agree_on_the_form(
        mutations in prop::collection::vec((any::<Index>(), mutation()), 0..4),
    ) {
        let mut spec = ATTENDANCE_TREE.clone();
        for (place, mutation) in &mutations {
            mutate(&mut spec, place, mutation);
        }
        let text = toml::to_string(&spec).expect("every tree without null is TOML");
        let outcome = Spec::parse(Path::new("spec.toml"), &text);
        let found = outcome.map_or_else(|violations| violations.found, |_| Vec::new());
        let refused = found.iter().any(|violation| FORM.contains(&violation.rule));
        let valid = VALIDATOR.is_valid(&spec);
        prop_assert_eq!(valid, !refused, "{}\n{:?}", text, found);
        prop_assert!(found.iter().all(|violation| violation.rule != Rule::Toml), "{:?}", found);
        if valid {
            let file = serde_json::from_value::<SpecFile>(spec);
            prop_assert!(file.is_ok(), "{:?}", file);
        }
    }

    #[test]
    fn damaged_text_is_refused_in_its_own_lines(
        damages in prop::collection::vec(
            (any::<Index>(), 0..40_usize, "[\"'\\[\\]{}=.,#\\n0-9a-z\u{444} \\\\]{0,3}"), 1..4),
    ) {
        let mut text: Vec<char> = attendance().chars().collect();
        for (place, length, new) in damages {
            let start = place.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, new.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(violations) = Spec::parse(Path::new("spec.toml"), &text) {
            let lines = text.split('\n').count();
            prop_assert!(!violations.found.is_empty());
            prop_assert!(violations.found.is_sorted_by_key(|found| (found.line, found.column)));
            prop_assert!(violations.found.iter().all(|found| (1..=lines).contains(&found.line)));
        }
    }
}

// ------------------------------------------------------------------------------- documentation --

#[test]
fn schema_on_file_is_the_generated_one() {
    let path = project("docs/spec.schema.json");
    let generated = format!("{:#}\n", json_schema());
    if std::env::var_os("REWRITE").is_some() {
        fs::write(&path, &generated).expect("the schema can be written");
    }
    let kept = fs::read_to_string(&path).expect("the schema can be read");
    assert!(kept == generated, "docs/spec.schema.json is not `tributary schema`: use REWRITE=1");
}

#[test]
fn a_spec_written_out_reads_as_the_same() {
    let file: SpecFile = toml::from_str(&attendance()).expect("the example has the form");
    let written = toml::to_string(&file).expect("a spec is TOML");
    assert_eq!(toml::from_str::<SpecFile>(&written).expect("it has the form"), file);
}

/// Which table of docs/spec.md (by its heading) lists the options of which part of the schema.
const TABLES: [(&str, &str); 10] = [
    ("The spec", ""),
    ("`[events]`", "/$defs/EventsFile"),
    ("`[events.columns]`", "/$defs/EventColumnFile"),
    ("`[lookups.NAME]`", "/$defs/LookupFile"),
    ("`where`", "/$defs/FilterFile"),
    ("`key`", "/$defs/LookupKeyFile"),
    ("`[lookups.NAME.columns]`", "/$defs/LookupColumnFile"),
    ("`when`", "/$defs/ConditionFile"),
    ("`[views.NAME]`", "/$defs/ViewFile"),
    ("`[views.NAME.counts]`", "/$defs/CountFile"),
];

fn reference() -> String {
    fs::read_to_string(project("docs/spec.md")).expect("the reference can be read")
}

/// The rows of a table of options: name, default, the whole row.
fn rows<'m>(page: &'m str, heading: &str) -> Vec<(&'m str, &'m str, &'m str)> {
    let (_, section) = page
        .split_once(&format!("# {heading}\n"))
        .unwrap_or_else(|| panic!("docs/spec.md has no heading \"{heading}\""));
    let lines = section.lines().take_while(|line| !line.starts_with('#'));
    let named = lines.filter(|line| line.starts_with("| `"));
    named
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            (cells[0].trim_matches('`'), cells[2], row)
        })
        .collect()
}

/// The tables of options under a part of the schema: itself, or what it lets choose.
fn objects(schema: &Value) -> Vec<&Map<String, Value>> {
    let branches = schema["oneOf"].as_array().map_or_else(|| vec![schema], |b| b.iter().collect());
    branches.into_iter().filter_map(Value::as_object).collect()
}

#[test]
fn reference_names_every_option_with_its_default() {
    let (schema, page) = (json_schema(), reference());
    for (heading, pointer) in TABLES {
        let part = schema.pointer(pointer).expect("a table is about a part of the schema");
        let rows = rows(&page, heading);
        let mut names = BTreeSet::new();
        for object in objects(part) {
            let required = object.get("required").cloned().unwrap_or(json!([]));
            for (name, option) in object["properties"].as_object().into_iter().flatten() {
                names.insert(name.as_str());
                let row = rows.iter().find(|row| row.0 == name);
                let (_, default, row) =
                    row.unwrap_or_else(|| panic!("docs/spec.md, \"{heading}\", lacks `{name}`"));
                if required.as_array().is_some_and(|names| names.contains(&json!(name))) {
                    assert!(default.starts_with("required"), "{name} is required: {row}");
                }
                if let Some(value) = option.get("default") {
                    assert_eq!(*default, format!("`{value}`"), "the default of {name}: {row}");
                }
                for bound in ["minimum", "maximum", "minItems", "maxItems"] {
                    let bound = option.get(bound).map(Value::to_string).unwrap_or_default();
                    assert!(row.contains(&bound), "{name} lacks its bound {bound}: {row}");
                }
            }
        }
        for (name, _, row) in rows {
            assert!(names.contains(name), "the schema has no such option: {row}");
        }
    }
}

#[test]
fn every_part_of_the_schema_has_its_table() {
    let schema = json_schema();
    for (name, part) in schema["$defs"].as_object().expect("the schema has parts") {
        let options = objects(part).into_iter().any(|object| object.contains_key("properties"));
        let pointer = format!("/$defs/{name}");
        assert!(!options || TABLES.iter().any(|table| table.1 == pointer), "no table for {name}");
    }
}

#[test]
fn reference_names_every_rule() {
    let page = reference();
    for rule in Rule::ALL {
        assert!(page.contains(&format!("| `{}` |", rule.name())), "no row for {}", rule.name());
    }
}

/// Every example is a whole spec, or tables that are added to `attendance.toml`: lines under a
/// table that is there already go to its beginning.
#[test]
fn examples_of_the_reference_are_sound() {
    let page = reference();
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() > 5, "the reference shows {} examples", examples.len());
    for example in examples {
        let mut text = if example.starts_with("name") { String::new() } else { attendance() };
        for table in tables(example) {
            let header = table.split_inclusive('\n').next().unwrap_or_default();
            match text.split_once(header).filter(|_| header.starts_with('[')) {
                Some((before, after)) => {
                    let lines = &table[header.len()..];
                    text = format!("{before}{header}{lines}{after}");
                }
                None => text.push_str(table),
            }
        }
        let spec = Spec::parse(&PathBuf::from("spec.toml"), &text);
        assert!(spec.is_ok(), "{}\n{example}", spec.expect_err("it is not"));
    }
}

/// A text cut before each header of a table.
fn tables(text: &str) -> Vec<&str> {
    let starts = text.match_indices("\n[").map(|(at, _)| at + 1);
    let mut cuts: Vec<usize> = std::iter::once(0).chain(starts).collect();
    cuts.push(text.len());
    cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect()
}
