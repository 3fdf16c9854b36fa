//! People: what the journal knows of students and employees, from the documents that the engine
//! reads.
//!
//! Shape: lines of documents and of changes, or records of the reference log, in; people by
//! document, students by group out.
//!
//! Invariants: what a document says is taken by the same rules as the engine takes it
//! (`Projector`); of two documents with one number the smaller `_id` has it, as there.
//!
//! Not here: journals, and who may do what.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use serde::Serialize;
use serde_json::{Value as Json, json, value::RawValue};

use super::lessons::Journal;
use crate::{
    reference::{
        Claim, Content, Projector, Statement, document,
        log::{self, Said},
    },
    row::Value,
    source::{AtEnd, FileError, Lines},
    spec::{Spec, plan::Origin},
};

/// Whether somebody studies or works here.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, Serialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A student.
    Student,
    /// An employee.
    Employee,
}

/// What a document says of somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Person {
    /// The document, by its `_id`.
    pub id: String,
    /// A student or an employee.
    pub kind: Kind,
    /// Of a student the number in the portal, of an employee in the deanery.
    pub number: u32,
    /// The full name.
    pub name: Option<String>,
    /// Of a student.
    pub group: Option<String>,
    /// Of a student.
    pub course: Option<u8>,
    /// Of a student.
    pub specialization: Option<String>,
    /// Of an employee.
    pub position: Option<String>,
    /// Of an employee.
    pub kafedra: Option<String>,
    /// Of an employee.
    pub faculty: Option<String>,
}

/// What is changed of a document; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// The full name.
    pub name: Option<String>,
    /// Of a student.
    pub group: Option<String>,
    /// Of a student.
    pub course: Option<u8>,
    /// Of a student.
    pub specialization: Option<String>,
    /// Of an employee.
    pub position: Option<String>,
    /// Of an employee.
    pub kafedra: Option<String>,
    /// Of an employee.
    pub faculty: Option<String>,
}

/// Everyone of whom there is a document.
pub struct People {
    spec: Arc<Spec>,
    projector: Projector,
    /// By `_id`: as the document is written, and what is taken of it.
    documents: BTreeMap<Box<str>, (Box<str>, Vec<Person>)>,
    /// Who bears a number, by `_id`.
    by_number: HashMap<(Kind, u32), BTreeSet<Box<str>>>,
    /// Students by their group, and the group by student.
    groups: BTreeMap<String, BTreeSet<u32>>,
    group_of: HashMap<u32, String>,
    refused: u64,
}

impl People {
    /// Nobody yet.
    pub fn new(spec: Arc<Spec>) -> People {
        People {
            projector: Projector::new(Arc::clone(&spec)),
            spec,
            documents: BTreeMap::new(),
            by_number: HashMap::new(),
            groups: BTreeMap::new(),
            group_of: HashMap::new(),
            refused: 0,
        }
    }

    /// Reads a file of documents or of changes to its end; what is no such line says nothing, as in
    /// the engine.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&mut self, path: &Path) -> Result<(), FileError> {
        let mut lines = Lines::open("documents file", path, AtEnd::Stop)?;
        while let Some(line) = lines.next_line()? {
            self.refused += u64::from(!self.take(line));
        }
        Ok(())
    }

    /// Takes a line of documents or of changes; returns whether it is one.
    pub fn take(&mut self, line: &[u8]) -> bool {
        let Ok(read) = document::read(line, &self.projector) else { return false };
        let source = document::raw(line).ok().and_then(|raw| raw.source);
        self.say(read.statement, source.map(RawValue::get));
        true
    }

    /// Takes a record of the reference log; returns the document that it is of, where it is one.
    pub fn take_record(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<Box<str>> {
        let Some(said) = log::read(key, value, &self.projector) else {
            self.refused += 1;
            return None;
        };
        let Said::Document(statement) = said else { return None };
        let id = statement.id.clone();
        // Its text is kept by who changes it, which nobody does here.
        self.say(statement, Some(""));
        Some(id)
    }

    /// Takes what a document now says, and its text; without one it is no more.
    fn say(&mut self, Statement { id, content }: Statement, source: Option<&str>) {
        self.forget(&id);
        let (Content::Claims(claims), Some(source)) = (content, source) else { return };
        let people: Vec<Person> =
            claims.iter().filter_map(|claim| person(&self.spec, &id, claim)).collect();
        for person in &people {
            let number = (person.kind, person.number);
            self.by_number.entry(number).or_default().insert(id.clone());
        }
        self.documents.insert(id, (source.into(), people.clone()));
        let students = people.iter().filter(|person| person.kind == Kind::Student);
        students.for_each(|student| self.regroup(student.number));
    }

    fn forget(&mut self, id: &str) {
        let Some((_, people)) = self.documents.remove(id) else { return };
        for person in &people {
            if let Some(ids) = self.by_number.get_mut(&(person.kind, person.number)) {
                ids.remove(id);
            }
            if person.kind == Kind::Student {
                self.regroup(person.number);
            }
        }
    }

    /// Puts a student into the group that the document now says, whichever has the number.
    fn regroup(&mut self, student: u32) {
        let stands = self.by_number(Kind::Student, student);
        let group = stands.and_then(|stands| stands.group.clone());
        let before = match &group {
            Some(group) => self.group_of.insert(student, group.clone()),
            None => self.group_of.remove(&student),
        };
        if before == group {
            return;
        }
        if let Some(before) = before
            && let Some(students) = self.groups.get_mut(&before)
        {
            students.remove(&student);
            if students.is_empty() {
                self.groups.remove(&before);
            }
        }
        if let Some(group) = group {
            self.groups.entry(group).or_default().insert(student);
        }
    }

    /// Who bears a number.
    pub fn by_number(&self, kind: Kind, number: u32) -> Option<&Person> {
        let id = self.by_number.get(&(kind, number))?.first()?;
        self.documents[id].1.iter().find(|p| p.kind == kind && p.number == number)
    }

    /// What a document says of somebody.
    pub fn by_id(&self, id: &str) -> Option<&Person> {
        self.documents.get(id)?.1.first()
    }

    /// The students of a group, by number.
    pub fn of_group(&self, group: &str) -> impl Iterator<Item = &Person> {
        let numbers = self.groups.get(group).into_iter().flatten();
        numbers.filter_map(|number| self.by_number(Kind::Student, *number))
    }

    /// Whether a student belongs to a journal: as one of its groups, or as who leads one.
    pub fn is_in(&self, student: u32, journal: &Journal) -> bool {
        let person = self.by_number(Kind::Student, student);
        let group = person.and_then(|person| person.group.as_ref());
        journal.is_led_by(student) || group.is_some_and(|of| journal.leaders.contains_key(of))
    }

    /// The groups that there are.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// Everyone, by document.
    pub fn all(&self) -> impl Iterator<Item = &Person> {
        self.documents.values().flat_map(|(_, people)| people)
    }

    /// How many lines said nothing.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// How many documents there are.
    pub fn documents(&self) -> usize {
        self.documents.len()
    }

    /// The line of changes that makes a document say something else; `None` where there is no such
    /// document.
    pub fn edited(&self, id: &str, edit: &Edit) -> Option<String> {
        let (source, _) = self.documents.get(id)?;
        let mut document: Json = serde_json::from_str(source).ok()?;
        let mut set = |path: &[&str], value: Option<Json>| {
            if let Some(value) = value {
                put(&mut document, path, value);
            }
        };
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        set(&["PERSONAL", "fullname"], text(&edit.name));
        set(&["EDUCATION", "0", "department", "short_title"], text(&edit.group));
        set(&["EDUCATION", "0", "edu_course"], edit.course.map(|c| json!(c.to_string())));
        set(&["EDUCATION", "0", "specialization", "title"], text(&edit.specialization));
        set(&["WORK", "0", "job_title"], text(&edit.position));
        set(&["WORK", "0", "department", "title"], text(&edit.kafedra));
        set(&["WORK", "0", "department", "FACULTY_NAME_DECANAT"], text(&edit.faculty));
        Some(json!({"after": 0, "op": "index", "_id": id, "_source": document}).to_string())
    }
}

/// Sets what stands at the end of a path, and makes what is missing on the way: `0` is the first of
/// a list.
fn put(into: &mut Json, path: &[&str], value: Json) {
    let Some((step, rest)) = path.split_first() else {
        *into = value;
        return;
    };
    if *step == "0" {
        if into.as_array().is_none_or(Vec::is_empty) {
            *into = json!([{}]);
        }
        put(&mut into[0], rest, value);
    } else {
        if !into.is_object() {
            *into = json!({});
        }
        put(&mut into[*step], rest, value);
    }
}

/// What a claim says of somebody, by the names of the columns.
fn person(spec: &Spec, id: &str, claim: &Claim) -> Option<Person> {
    let lookup = spec.lookup(claim.lookup);
    let kind = match lookup.name.as_str() {
        "student" => Kind::Student,
        "teacher" => Kind::Employee,
        _ => return None,
    };
    let value = |name: &str| {
        let column = spec.columns.iter().find(|column| column.name == name)?;
        match column.origin {
            Origin::Document(of, column) if of == claim.lookup => {
                lookup.layout.get(claim.row.bytes(), column)
            }
            _ => None,
        }
    };
    let text = |name: &str| match value(name) {
        Some(Value::Text(text)) => Some(text.to_owned()),
        _ => None,
    };
    let course = match value("COURSE") {
        Some(Value::Integer(course)) => u8::try_from(course).ok(),
        _ => None,
    };
    Some(Person {
        id: id.to_owned(),
        kind,
        number: claim.key.integer().and_then(|number| u32::try_from(number).ok())?,
        name: text(if kind == Kind::Student { "STUDENT_FIO" } else { "TEACHER_FIO" }),
        group: text("GROUP_SHORT_TITLE"),
        course,
        specialization: text("SPECIALIZATION_TITLE"),
        position: text("TEACHER_WORK_POSITION"),
        kafedra: text("KAFEDRA"),
        faculty: text("FACULTY"),
    })
}
