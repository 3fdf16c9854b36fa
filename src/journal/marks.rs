//! Marks: of each student at each lesson the mark that counts, and counts of them by day.
//!
//! Shape: rows of the latest view as they change, as JSON, in; cells, rows and counts out.
//!
//! Invariants: counts are those of exactly the marks that stand: each change takes its old row out
//! of them and puts the new one in. What documents say is held once for all marks that show it, as
//! long as one does.
//!
//! Not here: which mark counts (the dataflow), what a board asks for (`boards`).

use std::{collections::BTreeMap, hash::Hash};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::versions::{VersionId, Versions};
use crate::time::{Day, Moment};

/// A place in a journal: what the latest view has one row of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The journal.
    pub journal: u16,
    /// Who is marked.
    pub student: u32,
    /// The lesson.
    pub lesson: u64,
    /// Its day.
    pub date: Day,
}

impl Cell {
    /// The cell of a key of the latest view, as records bear it; `None` where it is none.
    pub fn of_key(json: &[u8]) -> Option<Cell> {
        #[derive(Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        struct Key<'k> {
            journal_id: u16,
            student_id: u32,
            lesson_id: u64,
            lesson_date: &'k str,
        }
        let Key { journal_id, student_id, lesson_id, lesson_date } =
            serde_json::from_slice(json).ok()?;
        let date = Day::parse(lesson_date.as_bytes())?;
        Some(Cell { journal: journal_id, student: student_id, lesson: lesson_id, date })
    }
}

/// The mark in a cell.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Its event.
    pub id: Uuid,
    /// When it was made, Moscow time.
    pub made: Moment,
    /// The mark.
    pub mark: u8,
    /// Who set it.
    pub marked_by: u32,
    /// In which role.
    pub role: Option<u8>,
    /// The number of a certificate.
    pub certificate: Option<u8>,
    kind: Option<u8>,
    student: VersionId,
    teacher: VersionId,
    student_age: Option<u8>,
    teacher_age: Option<u8>,
}

/// What a mark shows of the student.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Student {
    /// The number.
    pub number: u32,
    /// The full name; all that follows is absent where no document is known.
    pub name: Option<Box<str>>,
    names: [Option<Box<str>>; 3],
    sex: Option<Box<str>>,
    year: Option<u16>,
    qualification: Option<Box<str>>,
    /// Of the years of study.
    pub course: Option<u8>,
    /// The group.
    pub group: Option<Box<str>>,
    /// What is studied.
    pub specialization: Option<Box<str>>,
}

/// What a mark shows of the teacher; nothing where a student set it, or no document is known.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Teacher {
    /// The full name.
    pub name: Option<Box<str>>,
    names: [Option<Box<str>>; 3],
    position: Option<Box<str>>,
    /// The faculty.
    pub faculty: Option<Box<str>>,
    /// The chair.
    pub kafedra: Option<Box<str>>,
    sex: Option<Box<str>>,
}

/// Numbers of marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Of students who were there.
    pub present: u32,
    /// Of students who were not.
    pub absent: u32,
    /// All else.
    pub other: u32,
}

/// The counts of a day.
#[derive(Default)]
pub struct DayCounts {
    /// By what is shown of the student.
    pub students: HashMap<VersionId, Numbers>,
    /// By what is shown of the teacher.
    pub teachers: HashMap<VersionId, Numbers>,
}

/// The marks that count.
#[derive(Default)]
pub struct Marks {
    cells: HashMap<Cell, Mark>,
    students: Versions<Student>,
    teachers: Versions<Teacher>,
    days: BTreeMap<Day, DayCounts>,
}

/// A row of the latest view as it is written; its columns are those of the spec.
#[serde_with::skip_serializing_none]
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Row {
    id: Uuid,
    journal_id: u16,
    student_id: u32,
    lesson_date: Box<str>,
    attendance_mark: u8,
    marked_by: u32,
    date_create: Box<str>,
    lesson_id: u64,
    type_mark: Option<u8>,
    number_cert: Option<u8>,
    marked_by_role: Option<u8>,
    student_fio: Option<Box<str>>,
    student_last_name: Option<Box<str>>,
    student_first_name: Option<Box<str>>,
    student_middle_name: Option<Box<str>>,
    student_age: Option<u8>,
    student_sex: Option<Box<str>>,
    admission_year: Option<u16>,
    qualification: Option<Box<str>>,
    course: Option<u8>,
    group_short_title: Option<Box<str>>,
    specialization_title: Option<Box<str>>,
    teacher_fio: Option<Box<str>>,
    teacher_last_name: Option<Box<str>>,
    teacher_first_name: Option<Box<str>>,
    teacher_middle_name: Option<Box<str>>,
    teacher_work_position: Option<Box<str>>,
    faculty: Option<Box<str>>,
    kafedra: Option<Box<str>>,
    teacher_age: Option<u8>,
    teacher_sex: Option<Box<str>>,
}

/// A row that is none of the latest view: the view's columns are not those that the journal needs.
#[derive(Debug, thiserror::Error)]
#[error("a row of the latest view does not say what a journal needs of it")]
pub struct Unreadable(#[source] serde_json::Error);

impl Marks {
    /// Takes what a row of the latest view now says; returns its cell, and whether the mark is
    /// another one or the same with something else known of the people in it.
    ///
    /// # Errors
    /// When it is no such row.
    pub fn take(&mut self, json: &[u8]) -> Result<(Cell, Taken), Unreadable> {
        let mut row: Row = serde_json::from_slice(json).map_err(Unreadable)?;
        let wrong = |what| Unreadable(serde::de::Error::custom(what));
        let date = Day::parse(row.lesson_date.as_bytes()).ok_or_else(|| wrong("LESSON_DATE"))?;
        let made = Moment::parse(row.date_create.as_bytes()).ok_or_else(|| wrong("DATE_CREATE"))?;
        let (student, lesson) = (row.student_id, row.lesson_id);
        let cell = Cell { journal: row.journal_id, student, lesson, date };
        let mut mark = Mark {
            id: row.id,
            made,
            mark: row.attendance_mark,
            marked_by: row.marked_by,
            role: row.marked_by_role,
            certificate: row.number_cert,
            kind: row.type_mark,
            student: VersionId::default(),
            teacher: VersionId::default(),
            student_age: row.student_age,
            teacher_age: row.teacher_age,
        };
        mark.student = self.students.hold(row.student());
        mark.teacher = self.teachers.hold(row.teacher());
        let before = self.cells.insert(cell, mark);
        if let Some(before) = before {
            self.let_go(cell.date, &before);
        }
        self.count(cell.date, &mark, |number| *number += 1);
        let is_same = before.is_some_and(|before| before.id == mark.id);
        Ok((cell, if is_same { Taken::Corrected } else { Taken::Marked }))
    }

    /// Takes the mark out of a cell, where one stands.
    pub fn remove(&mut self, cell: &Cell) {
        if let Some(before) = self.cells.remove(cell) {
            self.let_go(cell.date, &before);
        }
    }

    fn let_go(&mut self, day: Day, before: &Mark) {
        self.count(day, before, |number| *number -= 1);
        self.students.let_go(before.student);
        self.teachers.let_go(before.teacher);
    }

    fn count(&mut self, day: Day, mark: &Mark, change: impl Fn(&mut u32)) {
        let counts = self.days.entry(day).or_default();
        change_group(&mut counts.students, mark.student, mark.mark, &change);
        change_group(&mut counts.teachers, mark.teacher, mark.mark, &change);
        if counts.students.is_empty() {
            self.days.remove(&day);
        }
    }

    /// The mark that stands in a cell.
    pub fn mark(&self, cell: &Cell) -> Option<&Mark> {
        self.cells.get(cell)
    }

    /// The row of a cell, as JSON.
    pub fn row_of(&self, cell: &Cell) -> Option<Box<serde_json::value::RawValue>> {
        let row = self.row(cell, self.cells.get(cell)?);
        Some(serde_json::value::to_raw_value(&row).expect("a row is plain data"))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The counts of each day.
    pub fn days(&self) -> &BTreeMap<Day, DayCounts> {
        &self.days
    }

    /// What marks show of students.
    pub fn students(&self) -> &Versions<Student> {
        &self.students
    }

    /// What marks show of teachers.
    pub fn teachers(&self) -> &Versions<Teacher> {
        &self.teachers
    }

    /// The cells that pass, at most so many, in no order; each as JSON with its column.
    pub fn rows(
        &self,
        passes: impl Fn(&Cell) -> bool,
        most: usize,
    ) -> Vec<Box<serde_json::value::RawValue>> {
        let mut cells: Vec<(&Cell, &Mark)> =
            self.cells.iter().filter(|(cell, _)| passes(cell)).collect();
        let key = |(cell, _): &(&Cell, &Mark)| (cell.journal, cell.student, cell.lesson, cell.date);
        if most < cells.len() {
            cells.select_nth_unstable_by_key(most, key);
            cells.truncate(most);
        }
        cells.sort_unstable_by_key(key);
        let row = |(cell, mark): &(&Cell, &Mark)| {
            serde_json::value::to_raw_value(&self.row(cell, mark)).expect("a row is plain data")
        };
        cells.iter().map(row).collect()
    }

    fn row(&self, cell: &Cell, mark: &Mark) -> Row {
        let Student {
            name, names, sex, year, qualification, course, group, specialization, ..
        } = self.students.get(mark.student).clone();
        let [last_name, first_name, middle_name] = names;
        let teacher = self.teachers.get(mark.teacher).clone();
        let [teacher_last_name, teacher_first_name, teacher_middle_name] = teacher.names;
        Row {
            id: mark.id,
            journal_id: cell.journal,
            student_id: cell.student,
            lesson_date: cell.date.to_string().into(),
            attendance_mark: mark.mark,
            marked_by: mark.marked_by,
            date_create: mark.made.to_string().into(),
            lesson_id: cell.lesson,
            type_mark: mark.kind,
            number_cert: mark.certificate,
            marked_by_role: mark.role,
            student_fio: name,
            student_last_name: last_name,
            student_first_name: first_name,
            student_middle_name: middle_name,
            student_age: mark.student_age,
            student_sex: sex,
            admission_year: year,
            qualification,
            course,
            group_short_title: group,
            specialization_title: specialization,
            teacher_fio: teacher.name,
            teacher_last_name,
            teacher_first_name,
            teacher_middle_name,
            teacher_work_position: teacher.position,
            faculty: teacher.faculty,
            kafedra: teacher.kafedra,
            teacher_age: mark.teacher_age,
            teacher_sex: teacher.sex,
        }
    }
}

/// What a row changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Another mark counts now.
    Marked,
    /// The same mark shows something else of the people in it.
    Corrected,
}

/// Changes the numbers of a group by a mark; one of which nothing is left goes.
fn change_group(
    groups: &mut HashMap<VersionId, Numbers>,
    group: VersionId,
    mark: u8,
    change: impl Fn(&mut u32),
) {
    let numbers = groups.entry(group).or_default();
    change(match mark {
        1 => &mut numbers.present,
        0 => &mut numbers.absent,
        _ => &mut numbers.other,
    });
    if *numbers == Numbers::default() {
        groups.remove(&group);
    }
}

impl Numbers {
    /// All of them.
    pub fn marks(self) -> u32 {
        self.present + self.absent + self.other
    }

    /// These and others.
    pub fn add(&mut self, others: Numbers) {
        self.present += others.present;
        self.absent += others.absent;
        self.other += others.other;
    }
}

impl Row {
    fn student(&mut self) -> Student {
        Student {
            number: self.student_id,
            name: self.student_fio.take(),
            names: [
                self.student_last_name.take(),
                self.student_first_name.take(),
                self.student_middle_name.take(),
            ],
            sex: self.student_sex.take(),
            year: self.admission_year,
            qualification: self.qualification.take(),
            course: self.course,
            group: self.group_short_title.take(),
            specialization: self.specialization_title.take(),
        }
    }

    fn teacher(&mut self) -> Teacher {
        Teacher {
            name: self.teacher_fio.take(),
            names: [
                self.teacher_last_name.take(),
                self.teacher_first_name.take(),
                self.teacher_middle_name.take(),
            ],
            position: self.teacher_work_position.take(),
            faculty: self.faculty.take(),
            kafedra: self.kafedra.take(),
            sex: self.teacher_sex.take(),
        }
    }
}
