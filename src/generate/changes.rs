//! Changes of the reference: people are moved, renamed, removed, back again, renumbered, and now
//! and then two documents claim one number.
//!
//! Shape: the university and the number of event lines in; `changes.ndjson` out, in the order of
//! `after`, the number of event lines that came before a change.
//!
//! Invariants: a change continues from what the changes before it left; no change makes a document
//! that is refused. What is held: 8 bytes a change, and the documents that were changed.
//!
//! Not here: the documents at the start (`people`).

use std::collections::HashMap;

use serde_json::{Value, json};

use super::dice::{Dice, Stream};
use super::output::OutputFile;
use super::university::{Among, Person, University};
use super::{GenerateError, Options, people};

/// How many kinds of change there are; several of them move or rename, as in life.
const CHANGE_KINDS: u64 = 10;

/// Writes all changes, spread evenly over `event_lines`.
pub(super) fn write(
    options: &Options,
    university: &University,
    event_lines: u64,
    file: &mut OutputFile,
) -> Result<(), GenerateError> {
    let mut dice = Dice::new(options.seed, Stream::Changes, 0);
    let mut places: Vec<u64> = (0..options.changes).map(|_| dice.below(event_lines + 1)).collect();
    places.sort_unstable();
    let mut changes = Changes { university, dice, changed: HashMap::new() };
    for after in places {
        let line = match changes.next_change() {
            (id, None) => json!({"after": after, "op": "delete", "_id": id}),
            (id, Some(source)) => {
                json!({"after": after, "op": "index", "_id": id, "_source": source})
            }
        };
        file.line(line.to_string().as_bytes())?;
    }
    Ok(())
}

/// The reference as changes leave it.
struct Changes<'u> {
    university: &'u University,
    dice: Dice,
    /// Documents that are not as they were at the start; `None` is a removed one.
    changed: HashMap<Person, Option<Value>>,
}

impl Changes<'_> {
    /// The `_id` of a document and what it says from now on, `None` where it is removed.
    fn next_change(&mut self) -> (String, Option<Value>) {
        let among = self.dice.pick(&[Among::Everyone, Among::Teachers]);
        let person = self.university.any_known(&mut self.dice, among);
        let kind = self.dice.below(CHANGE_KINDS);
        self.change(kind, person)
    }

    fn change(&mut self, kind: u64, person: Person) -> (String, Option<Value>) {
        let id = self.university.id(person);
        if kind == 0 {
            self.changed.insert(person, None);
            return (id, None);
        }
        let mut source = self.current(person);
        if kind == 1 {
            let second = format!("{}{}", self.dice.pick(&['a', 'z']), self.dice.below(1_000_000));
            append(&mut source["PERSONAL"]["fullname"], " (дубль)");
            return (second, Some(source));
        }
        self.edit(kind, &mut source);
        self.changed.insert(person, Some(source.clone()));
        (id, Some(source))
    }

    /// A person's document now; one that was removed comes back as a newcomer's.
    fn current(&mut self, person: Person) -> Value {
        match self.changed.get(&person) {
            Some(Some(source)) => source.clone(),
            Some(None) => {
                let number = self.university.any_student(&mut self.dice);
                let group = self.university.any_group(&mut self.dice);
                people::student(&mut self.dice, number, &group, self.university.odd())
            }
            None => self.university.document(person),
        }
    }

    /// Changes a document by a kind from 2 on; where it lacks the part to change, the name.
    fn edit(&mut self, kind: u64, source: &mut Value) {
        let learns = source.pointer("/EDUCATION/0").is_some();
        let works = source.get("WORK").is_some_and(|work| *work != json!([]));
        match kind {
            2 => self.renumber(&mut source["PERSONAL"]),
            3 => {
                let student = source["PERSONAL"]["type"] == "student";
                source["PERSONAL"]["type"] = json!(if student { "employee" } else { "student" });
            }
            4 if learns => {
                let courses = [json!("2"), json!("семь"), json!(3), Value::Null];
                let drawn = self.dice.place(courses.len());
                source["EDUCATION"][0]["edu_course"] = courses[drawn].clone();
            }
            5..8 if learns => {
                let group = self.university.any_group(&mut self.dice);
                source["EDUCATION"][0]["department"] = json!({"short_title": group});
            }
            8 if works => {
                source["WORK"] = people::work(&mut self.dice).into_iter().collect();
            }
            _ => rename(&mut source["PERSONAL"]),
        }
    }

    /// Another number, which somebody else may have; a teacher's in forms that make no row too.
    fn renumber(&mut self, personal: &mut Value) {
        let number = self.university.any_student(&mut self.dice);
        let as_text = self.dice.chance(0.5);
        personal["BITRIX_USER_ID"] =
            if as_text { json!(number.to_string()) } else { json!(number) };
        if let Some(decanat) = personal.get_mut("ID_DECANAT") {
            let number = self.university.any_teacher(&mut self.dice);
            *decanat = match self.dice.below(4) {
                0 => json!(number),
                1 => json!(format!("0{number}")),
                2 => json!(0),
                _ => Value::Null,
            };
        }
    }
}

fn rename(personal: &mut Value) {
    personal["lastname"] = json!("Новая-Фамилия");
    let first = personal["name"].as_str().unwrap_or_default();
    personal["fullname"] = json!(format!("Новая-Фамилия {first}"));
}

/// Appends to a text; what is no text becomes one.
fn append(value: &mut Value, ending: &str) {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    *value = json!(text + ending);
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUDENT: Person = Person::Student(1);
    const TEACHER: Person = Person::Teacher(1);

    fn with_changes(test: impl FnOnce(Changes)) {
        let university = University::new(&Options { students: 100, ..Options::default() });
        let dice = Dice::new(1, Stream::Changes, 0);
        test(Changes { university: &university, dice, changed: HashMap::new() });
    }

    /// Makes the same change over and over until one looks as wanted.
    fn occurs(kind: u64, person: Person, looks: impl Fn(&str, &Value) -> bool) {
        with_changes(|mut changes| {
            let found = (0..1_000).any(|_| {
                changes.changed.clear();
                let (id, source) = changes.change(kind, person);
                looks(&id, &source.unwrap())
            });
            assert!(found, "{kind} {person:?}");
        });
    }

    #[test]
    fn every_kind_of_change_occurs() {
        occurs(1, STUDENT, |id, d| {
            id.starts_with(['a', 'z'])
                && d["PERSONAL"]["fullname"].as_str().unwrap().ends_with(" (дубль)")
        });
        occurs(2, STUDENT, |_, d| d["PERSONAL"]["BITRIX_USER_ID"].is_string());
        occurs(2, STUDENT, |_, d| d["PERSONAL"]["BITRIX_USER_ID"].is_u64());
        occurs(2, TEACHER, |_, d| d["PERSONAL"]["ID_DECANAT"].is_null());
        occurs(2, TEACHER, |_, d| d["PERSONAL"]["ID_DECANAT"] == 0);
        occurs(2, TEACHER, |_, d| d["PERSONAL"]["ID_DECANAT"].is_string());
        occurs(2, TEACHER, |_, d| d["PERSONAL"]["ID_DECANAT"].as_u64() > Some(101));
        occurs(3, STUDENT, |_, d| d["PERSONAL"]["type"] == "employee");
        occurs(3, TEACHER, |_, d| d["PERSONAL"]["type"] == "student");
        for course in [json!("2"), json!("семь"), json!(3), Value::Null] {
            occurs(4, STUDENT, |_, d| d["EDUCATION"][0]["edu_course"] == course);
        }
        for kind in 5..8 {
            occurs(kind, STUDENT, |_, d| d["EDUCATION"][0]["department"].is_object());
        }
        occurs(8, TEACHER, |_, d| d["WORK"][0].is_object());
        occurs(8, TEACHER, |_, d| d["WORK"] == json!([]));
        for (kind, person) in [(4, TEACHER), (5, TEACHER), (8, STUDENT), (9, STUDENT)] {
            occurs(kind, person, |_, d| d["PERSONAL"]["lastname"] == "Новая-Фамилия");
        }
    }

    #[test]
    fn changes_continue_from_one_another() {
        with_changes(|mut changes| {
            changes.change(9, TEACHER);
            let (_, source) = changes.change(3, TEACHER);
            let personal = &source.unwrap()["PERSONAL"];
            assert_eq!(personal["lastname"], "Новая-Фамилия");
            assert_eq!(personal["type"], "student");
        });
    }

    #[test]
    fn removed_document_comes_back_as_a_newcomer() {
        with_changes(|mut changes| {
            assert_eq!(changes.change(0, TEACHER), ("t101".to_owned(), None));
            let (id, source) = changes.change(9, TEACHER);
            assert_eq!(id, "t101");
            assert_eq!(source.unwrap()["PERSONAL"]["type"], "student");
        });
    }

    #[test]
    fn names_that_are_no_text_become_one() {
        for (name, expected) in
            [(json!("Иван"), "Иван!"), (json!(7), "7!"), (json!(["x"]), "[\"x\"]!")]
        {
            let mut name = name;
            append(&mut name, "!");
            assert_eq!(name, expected);
        }
    }
}
