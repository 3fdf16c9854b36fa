//! What is other in a spec than it was, in words, and what that needs.
//!
//! Shape: the texts of two specs in; each change with what outputs need before they show it, out.
//!
//! Invariants: texts without a change mean the same: comments, spaces, defaults that are written
//! out, and the order of what has none are none. What has an order, as columns have, is told where
//! it differs.
//!
//! Not here: whether a spec is sound (`resolve`), and what is done about a change.

use std::{collections::BTreeSet, fmt};

use serde_json::{Map, Value};

use super::read;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is, as `lookup "student", column "COURSE": path was "A", and is "B"`.
    pub what: String,
    /// What it needs.
    pub needs: Needs,
}

/// What outputs need before they can show a change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// These columns of all records, computed from all events again.
    Columns(BTreeSet<String>),
    /// One view, from all events.
    View(String),
    /// Everything: other events count, or they are cut otherwise.
    Everything,
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Needs::Columns(columns) => {
                let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
                write!(f, "a backfill of {} in all records", columns.join(", "))
            }
            Needs::View(view) => write!(f, "a backfill of view \"{view}\""),
            Needs::Everything => f.write_str("a whole backfill"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (needs {})", self.what, self.needs)
    }
}

/// Tables whose entries have names of their own, with what people call an entry.
const NAMED: [(&str, &str); 4] =
    [("lookups", "lookup"), ("views", "view"), ("columns", "column"), ("counts", "count")];

/// What is other in the spec `now` than it was `before`; `None` where one of them cannot be read.
pub fn changes(before: &str, now: &str) -> Option<Vec<Change>> {
    let tree = |text: &str| {
        let read = read::read(text).ok().filter(|read| read.found.is_empty())?;
        serde_json::to_value(read.file).ok()
    };
    let (before, now) = (tree(before)?, tree(now)?);
    let mut found = Vec::new();
    compare(&mut Vec::new(), &before, &now, &mut found);
    let change = |(path, what): (Vec<String>, String)| {
        let needs = needs(&path, &before, &now);
        Change { what: format!("{}{what}", named(&path)), needs }
    };
    Some(found.into_iter().map(change).collect())
}

/// Finds what differs below a place; each with the place that it is of.
fn compare(
    path: &mut Vec<String>,
    before: &Value,
    now: &Value,
    found: &mut Vec<(Vec<String>, String)>,
) {
    let (Value::Object(before), Value::Object(now)) = (before, now) else {
        if before != now {
            let option = path.pop().unwrap_or_default();
            found.push((path.clone(), of_option(path, &option, before, now)));
            path.push(option);
        }
        return;
    };
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let is_named = path.last().is_some_and(|last| NAMED.iter().any(|(table, _)| last == table));
    for key in keys {
        path.push(key.clone());
        match (before.get(key), now.get(key)) {
            (Some(before), Some(now)) => compare(path, before, now, found),
            (None, Some(_)) if is_named => found.push((path.clone(), " is new".to_owned())),
            (Some(_), None) if is_named => found.push((path.clone(), " is gone".to_owned())),
            (before, now) => {
                let said = |value: Option<&Value>| value.cloned().unwrap_or_default();
                compare(path, &said(before), &said(now), found);
            }
        }
        path.pop();
    }
    if is_named && order(before, now) != order(now, before) {
        let table = path.pop().unwrap_or_default();
        let place = if path.is_empty() { "" } else { ": " };
        found.push((path.clone(), format!("{place}{table} stand in another order")));
        path.push(table);
    }
}

/// The keys that both have, in the order of the first.
fn order<'m>(of: &'m Map<String, Value>, both: &Map<String, Value>) -> Vec<&'m String> {
    of.keys().filter(|key| both.contains_key(*key)).collect()
}

/// A place, as people call it.
fn named(path: &[String]) -> String {
    let mut words = Vec::new();
    let mut steps = path.iter().peekable();
    while let Some(step) = steps.next() {
        let entry = NAMED.iter().find(|(table, _)| step == table);
        words.push(match (entry, steps.peek()) {
            (Some((_, word)), Some(name)) => {
                let word = format!("{word} \"{name}\"");
                steps.next();
                word
            }
            _ => step.clone(),
        });
    }
    words.join(", ")
}

/// That an option says something else.
fn of_option(path: &[String], option: &str, before: &Value, now: &Value) -> String {
    let said = |value: &Value| match value {
        Value::Null => "not said".to_owned(),
        value => value.to_string(),
    };
    let place = if path.is_empty() { "" } else { ": " };
    format!("{place}{option} was {}, and is {}", said(before), said(now))
}

/// What a change at a place needs.
fn needs(path: &[String], before: &Value, now: &Value) -> Needs {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        // What one column says counts for it alone.
        ["lookups", _, "columns", column, ..] => Needs::Columns([column.to_owned()].into()),
        ["lookups", lookup, ..] => {
            let of = |spec: &Value| -> BTreeSet<String> {
                let columns = spec["lookups"][lookup]["columns"].as_object();
                columns.into_iter().flat_map(Map::keys).cloned().collect()
            };
            Needs::Columns(of(before).union(&of(now)).cloned().collect())
        }
        ["views", view, ..] => Needs::View(view.to_owned()),
        _ => Needs::Everything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = include_str!("../../dataflows/attendance.toml");

    /// What is told of the spec with some of its text replaced.
    fn told(old: &str, new: &str) -> Vec<String> {
        assert_eq!(SPEC.matches(old).count(), 1, "{old}");
        let now = SPEC.replace(old, new);
        changes(SPEC, &now).expect("both are read").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn texts_that_mean_the_same_have_no_change() {
        for (old, new) in [
            ("# Who is marked.\n", ""),
            ("bytes_max = 1_048_576\n", ""),
            ("depth_max = 64\n", "\n\n  depth_max=64 # the usual\n"),
            ("corrections = \"always\"\n", ""),
        ] {
            assert_eq!(told(old, new), [""; 0], "{old}");
        }
    }

    #[test]
    fn each_change_is_told_with_what_it_needs() {
        let line = |name: &str| {
            let line = SPEC.lines().find(|line| line.starts_with(name)).expect("it is there");
            format!("{line}\n")
        };
        let course = line("COURSE ");
        let needs_course = "(needs a backfill of COURSE in all records)";
        let is = |what: &str, needs: &str| vec![format!("{what} {needs}")];
        let what = r#"lookup "student", column "COURSE" is gone"#;
        assert_eq!(told(&course, ""), is(what, needs_course));
        let what = concat!(
            r#"lookup "student", column "COURSE": path was "EDUCATION[0].edu_course", "#,
            r#"and is "EDUCATION[1].edu_course""#
        );
        assert_eq!(told(&course, &course.replace("[0]", "[1]")), is(what, needs_course));
        let more = format!("{course}ROOM = {{ type = \"text\", path = \"ROOM\" }}\n");
        let what = r#"lookup "student", column "ROOM" is new"#;
        let needs_room = "(needs a backfill of ROOM in all records)";
        assert_eq!(told(&course, &more), is(what, needs_room));
        let moved = line("SPECIALIZATION_TITLE ");
        let now = SPEC.replace(&moved, "").replace(&course, &format!("{moved}{course}"));
        let said = changes(SPEC, &now).expect("both are read");
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].what, r#"lookup "student": columns stand in another order"#);
        let whole = "(needs a whole backfill)";
        let what = r#"events, column "ATTENDANCE_MARK": range was "0..5", and is "0..6""#;
        assert_eq!(told("\"0..5\"", "\"0..6\""), is(what, whole));
        let what = r#"events: shard_key was "STUDENT_ID", and is "JOURNAL_ID""#;
        let (old, new) = ("shard_key = \"STUDENT_ID\"", "shard_key = \"JOURNAL_ID\"");
        assert_eq!(told(old, new), is(what, whole));
        assert_eq!(told("shards = 64", "shards = 32"), is("shards was 64, and is 32", whole));
        let (old, new) = ("order = [\"DATE_CREATE\", ", "order = [");
        let said = told(old, new);
        assert!(said[0].starts_with(r#"view "latest": order was ["#), "{said:?}");
        assert!(said[0].ends_with(r#"(needs a backfill of view "latest")"#), "{said:?}");
    }

    #[test]
    fn what_is_no_spec_has_no_changes() {
        assert_eq!(changes(SPEC, "nothing"), None);
    }
}
