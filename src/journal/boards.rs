//! Boards: what the two dashboards show, added up from the counts by day.
//!
//! Shape: a filter in; days, totals, tables and the values to filter by out.
//!
//! Invariants: nothing is counted here: counts are kept with each change of a mark (`marks`), and a
//! board adds up those of the days and people that pass.
//!
//! Not here: how a filter comes in (`serve`).

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    marks::{DayCounts, Marks, Numbers, Student, Teacher},
    versions::{VersionId, Versions},
};
use crate::time::{Day, Epoch};

/// Most rows of a table; how many there are is said.
const ROWS_MAX: usize = 500;

/// Which days.
#[derive(Clone, Copy, Debug, Default)]
pub struct Days {
    /// The first, if not all.
    pub since: Option<Day>,
    /// The last, if not all.
    pub until: Option<Day>,
}

/// Which students; an empty list is all.
#[derive(Clone, Debug, Default)]
pub struct StudentFilter {
    /// Of these groups.
    pub groups: Vec<String>,
    /// In these years of study.
    pub courses: Vec<i64>,
    /// Of these specializations.
    pub specializations: Vec<String>,
}

/// Which teachers; an empty list is all, those included of whom nothing is known.
#[derive(Clone, Debug, Default)]
pub struct TeacherFilter {
    /// Of these faculties.
    pub faculties: Vec<String>,
    /// Of these chairs.
    pub kafedras: Vec<String>,
    /// By these names.
    pub teachers: Vec<String>,
}

/// Numbers of a day.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DayRow {
    /// The day, YYYY-MM-DD.
    pub date: String,
    /// Marks of students who were there.
    pub present: u32,
    /// Marks of students who were not.
    pub absent: u32,
    /// Excused, and special marks.
    pub other: u32,
}

/// Numbers of all days that are shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Total {
    /// All marks.
    pub marks: u32,
    /// Of students who were there.
    pub present: u32,
    /// Of students who were not.
    pub absent: u32,
    /// Excused, and special ones.
    pub other: u32,
}

/// Numbers of today, whichever days are shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Today {
    /// The day, YYYY-MM-DD.
    pub date: String,
    /// All marks.
    pub marks: u32,
    /// Of students who were there.
    pub present: u32,
    /// Of students who were not.
    pub absent: u32,
}

/// A student's numbers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StudentRow {
    /// The number in the portal.
    pub student: u32,
    /// The full name, where it is known.
    pub name: Option<String>,
    /// The group, where it is known.
    pub group: Option<String>,
    /// All marks.
    pub marks: u32,
    /// Of those, present.
    pub present: u32,
    /// Of those, absent.
    pub absent: u32,
}

/// A teacher's numbers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TeacherRow {
    /// The full name; none for marks that students set, or where it is not known.
    pub name: Option<String>,
    /// The chair.
    pub kafedra: Option<String>,
    /// All marks.
    pub marks: u32,
    /// Of those, present.
    pub present: u32,
    /// Of those, absent.
    pub absent: u32,
}

/// Values by which students can be chosen.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StudentValues {
    groups: BTreeSet<String>,
    courses: BTreeSet<u8>,
    specializations: BTreeSet<String>,
}

/// Values by which teachers can be chosen.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TeacherValues {
    faculties: BTreeSet<String>,
    kafedras: BTreeSet<String>,
    teachers: BTreeSet<String>,
}

/// The board of groups.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GroupsBoard {
    /// Everything up to this epoch is in it.
    pub epoch: Epoch,
    /// The current day.
    pub today: Today,
    /// All days shown.
    pub total: Total,
    /// By day, in order.
    pub days: Vec<DayRow>,
    /// At most 500, those with most absences first.
    pub students: Vec<StudentRow>,
    /// How many there are.
    pub students_total: usize,
    /// What can be chosen.
    pub filters: StudentValues,
}

/// The board of teachers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TeachersBoard {
    /// Everything up to this epoch is in it.
    pub epoch: Epoch,
    /// The current day.
    pub today: Today,
    /// All days shown.
    pub total: Total,
    /// By day, in order.
    pub days: Vec<DayRow>,
    /// At most 500, those with most marks first.
    pub teachers: Vec<TeacherRow>,
    /// How many there are.
    pub teachers_total: usize,
    /// What can be chosen.
    pub filters: TeacherValues,
}

/// What days and people add up to.
struct Sums {
    today: Numbers,
    total: Numbers,
    days: Vec<DayRow>,
    /// By version.
    people: Vec<Numbers>,
}

/// Adds up the counts of those who pass.
fn sums<T: std::hash::Hash + Eq>(
    marks: &Marks,
    days: Days,
    today: Day,
    versions: &Versions<T>,
    of_day: impl Fn(&DayCounts) -> &HashMap<VersionId, Numbers>,
    passes: impl Fn(&T) -> bool,
) -> Sums {
    let mut pass = vec![false; versions.places()];
    versions.iter().for_each(|(version, value)| pass[version.place()] = passes(value));
    let mut people = vec![Numbers::default(); versions.places()];
    let of_today = marks.days().get(&today).map(&of_day).into_iter().flatten();
    let passing = |(version, _): &(&VersionId, &Numbers)| pass[version.place()];
    let mut sums_today = Numbers::default();
    of_today.filter(passing).for_each(|(_, numbers)| sums_today.add(*numbers));
    let (mut total, mut rows) = (Numbers::default(), Vec::new());
    let (since, until) = (days.since.unwrap_or(Day::MIN), days.until.unwrap_or(Day::MAX));
    let range = (since <= until).then(|| marks.days().range(since..=until));
    for (day, counts) in range.into_iter().flatten() {
        let mut sum = Numbers::default();
        for (version, numbers) in of_day(counts).iter().filter(passing) {
            sum.add(*numbers);
            people[version.place()].add(*numbers);
        }
        if sum != Numbers::default() {
            let Numbers { present, absent, other } = sum;
            rows.push(DayRow { date: day.to_string(), present, absent, other });
            total.add(sum);
        }
    }
    Sums { today: sums_today, total, days: rows, people }
}

/// The board of groups.
pub fn groups(
    marks: &Marks,
    epoch: Epoch,
    today: Day,
    days: Days,
    filter: &StudentFilter,
) -> GroupsBoard {
    let passes = |student: &Student| {
        among(&filter.groups, student.group.as_deref())
            && (filter.courses.is_empty()
                || student.course.is_some_and(|course| filter.courses.contains(&course.into())))
            && among(&filter.specializations, student.specialization.as_deref())
    };
    let versions = marks.students();
    let sums = sums(marks, days, today, versions, |counts| &counts.students, passes);
    // Of a student whose document changed amid a correction there may be two versions for a moment.
    let mut rows: BTreeMap<u32, (StudentRow, Numbers)> = BTreeMap::new();
    for (version, student) in versions.iter() {
        let numbers = sums.people[version.place()];
        if numbers != Numbers::default() {
            let row = || StudentRow {
                student: student.number,
                name: student.name.as_deref().map(str::to_owned),
                group: student.group.as_deref().map(str::to_owned),
                marks: 0,
                present: 0,
                absent: 0,
            };
            let of = rows.entry(student.number).or_insert_with(|| (row(), Numbers::default()));
            of.1.add(numbers);
        }
    }
    let mut students: Vec<StudentRow> = rows
        .into_values()
        .map(|(row, numbers)| StudentRow {
            marks: numbers.marks(),
            present: numbers.present,
            absent: numbers.absent,
            ..row
        })
        .collect();
    students.sort_by_key(|row| (std::cmp::Reverse(row.absent), row.student));
    let students_total = students.len();
    students.truncate(ROWS_MAX);
    let mut filters = StudentValues {
        groups: BTreeSet::new(),
        courses: BTreeSet::new(),
        specializations: BTreeSet::new(),
    };
    for (_, student) in versions.iter() {
        filters.courses.extend(student.course);
        note(&mut filters.groups, student.group.as_deref());
        note(&mut filters.specializations, student.specialization.as_deref());
    }
    GroupsBoard {
        epoch,
        today: Today::of(today, sums.today),
        total: sums.total.into(),
        days: sums.days,
        students,
        students_total,
        filters,
    }
}

/// The board of teachers.
pub fn teachers(
    marks: &Marks,
    epoch: Epoch,
    today: Day,
    days: Days,
    filter: &TeacherFilter,
) -> TeachersBoard {
    let passes = |teacher: &Teacher| {
        among(&filter.faculties, teacher.faculty.as_deref())
            && among(&filter.kafedras, teacher.kafedra.as_deref())
            && among(&filter.teachers, teacher.name.as_deref())
    };
    let versions = marks.teachers();
    let sums = sums(marks, days, today, versions, |counts| &counts.teachers, passes);
    let mut rows: BTreeMap<(Option<&str>, Option<&str>), Numbers> = BTreeMap::new();
    for (version, teacher) in versions.iter() {
        let numbers = sums.people[version.place()];
        if numbers != Numbers::default() {
            let key = (teacher.name.as_deref(), teacher.kafedra.as_deref());
            rows.entry(key).or_default().add(numbers);
        }
    }
    let mut teachers: Vec<TeacherRow> = rows
        .into_iter()
        .map(|((name, kafedra), numbers)| TeacherRow {
            name: name.map(str::to_owned),
            kafedra: kafedra.map(str::to_owned),
            marks: numbers.marks(),
            present: numbers.present,
            absent: numbers.absent,
        })
        .collect();
    teachers.sort_by_key(|row| std::cmp::Reverse(row.marks));
    let teachers_total = teachers.len();
    teachers.truncate(ROWS_MAX);
    let mut filters = TeacherValues {
        faculties: BTreeSet::new(),
        kafedras: BTreeSet::new(),
        teachers: BTreeSet::new(),
    };
    for (_, teacher) in versions.iter() {
        note(&mut filters.faculties, teacher.faculty.as_deref());
        note(&mut filters.kafedras, teacher.kafedra.as_deref());
        note(&mut filters.teachers, teacher.name.as_deref());
    }
    TeachersBoard {
        epoch,
        today: Today::of(today, sums.today),
        total: sums.total.into(),
        days: sums.days,
        teachers,
        teachers_total,
        filters,
    }
}

fn among(wanted: &[String], value: Option<&str>) -> bool {
    wanted.is_empty() || value.is_some_and(|value| wanted.iter().any(|wanted| wanted == value))
}

fn note(values: &mut BTreeSet<String>, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !values.contains(*value)) {
        values.insert(value.to_owned());
    }
}

impl Today {
    fn of(date: Day, numbers: Numbers) -> Today {
        let Numbers { present, absent, .. } = numbers;
        Today { date: date.to_string(), marks: numbers.marks(), present, absent }
    }
}

impl From<Numbers> for Total {
    fn from(numbers: Numbers) -> Total {
        let Numbers { present, absent, other } = numbers;
        Total { marks: numbers.marks(), present, absent, other }
    }
}

#[cfg(test)]
mod tests;
