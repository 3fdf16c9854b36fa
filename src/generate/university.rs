//! The university: who is there, in which group, under which number, and with which document.
//!
//! Shape: options in; numbers, groups and documents by place out.
//!
//! Invariants: a document is a function of the seed and of its person's place, made when it is
//! asked for: what is held is 4 bytes a student, whatever the size of the documents. Student
//! numbers and teacher numbers overlap on purpose, as in life; every 50th person has no document.
//!
//! Not here: what a document holds (`people`), what happens to it later (`changes`).

use serde_json::Value;

use super::dice::{Dice, Stream};
use super::names::GROUP_PREFIXES;
use super::output::OutputFile;
use super::{GenerateError, Options, people};

/// Students in a group where there are enough of them for one.
const GROUP_STUDENTS: u32 = 20;
/// The first student's number.
const FIRST_STUDENT: u32 = 200;
/// The first teacher's number.
const FIRST_TEACHER: u32 = 100;
/// What a teacher's number in the portal has more than the one in the deanery.
const PORTAL_OFFSET: u32 = 900_000;
/// One person in so many has no document: an event that stays unmatched.
const UNKNOWN_EVERY: u32 = 50;

/// Everyone at the university.
#[derive(Debug)]
pub(super) struct University {
    seed: u64,
    odd: f64,
    /// Student numbers by place; the student at place `n` is in group `n % groups`.
    students: Vec<u32>,
    teachers: u32,
    groups: u32,
}

/// Somebody who may have a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Person {
    /// The student at a place.
    Student(u32),
    /// The teacher at a place.
    Teacher(u32),
}

impl University {
    /// The university of these options, which must have passed `Options::violations`.
    pub(super) fn new(options: &Options) -> Self {
        let mut students: Vec<u32> = (FIRST_STUDENT..FIRST_STUDENT + options.students).collect();
        Dice::new(options.seed, Stream::Groups, 0).shuffle(&mut students);
        Self {
            seed: options.seed,
            odd: options.odd,
            students,
            teachers: options.teachers,
            groups: (options.students / GROUP_STUDENTS).max(1),
        }
    }

    /// Share of students whose documents are odd.
    pub(super) fn odd(&self) -> f64 {
        self.odd
    }

    /// How many groups there are, at least one.
    pub(super) fn groups(&self) -> u32 {
        self.groups
    }

    /// Students of the smallest group, at least one.
    pub(super) fn smallest_group(&self) -> u32 {
        self.students.len() as u32 / self.groups
    }

    /// The numbers of a group's students; the first one leads the group.
    pub(super) fn members(&self, group: u32) -> impl Iterator<Item = u32> {
        self.students.iter().skip(group as usize).step_by(self.groups as usize).copied()
    }

    /// The number of the student who leads a group.
    pub(super) fn leader(&self, group: u32) -> u32 {
        self.students[group as usize]
    }

    /// The name of a group.
    pub(super) fn group_name(&self, group: u32) -> String {
        let prefix =
            Dice::new(self.seed, Stream::GroupName, u64::from(group)).pick(&GROUP_PREFIXES);
        format!("{prefix}-{}{group:03}", 1 + group % 6)
    }

    /// The number of the teacher who acts for the deanery of a group.
    pub(super) fn deanery(&self, group: u32) -> u32 {
        FIRST_TEACHER + group % self.teachers
    }

    /// A random teacher's number.
    pub(super) fn any_teacher(&self, dice: &mut Dice) -> u32 {
        FIRST_TEACHER + dice.below(u64::from(self.teachers)) as u32
    }

    /// A random student's number.
    pub(super) fn any_student(&self, dice: &mut Dice) -> u32 {
        dice.pick(&self.students)
    }

    /// The name of a random group.
    pub(super) fn any_group(&self, dice: &mut Dice) -> String {
        self.group_name(dice.below(u64::from(self.groups)) as u32)
    }

    /// A random person with a document: students and teachers alike, or teachers alone.
    ///
    /// Where nobody has one, the first student: the changes bring the first document.
    pub(super) fn any_known(&self, dice: &mut Dice, among: Among) -> Person {
        let (students, teachers) = (known(self.students.len() as u32), known(self.teachers));
        let from = if matches!(among, Among::Teachers) && teachers > 0 { students } else { 0 };
        let drawn = from + dice.below(u64::from(students + teachers - from)) as u32;
        if students + teachers == 0 {
            Person::Student(0)
        } else if drawn < students {
            Person::Student(known_place(drawn))
        } else {
            Person::Teacher(known_place(drawn - students))
        }
    }

    /// The `_id` of a person's document.
    pub(super) fn id(&self, person: Person) -> String {
        match person {
            Person::Student(place) => format!("s{}", self.students[place as usize]),
            Person::Teacher(place) => format!("t{}", FIRST_TEACHER + place),
        }
    }

    /// A person's document as it stands at the start.
    pub(super) fn document(&self, person: Person) -> Value {
        match person {
            Person::Student(place) => {
                let mut dice = Dice::new(self.seed, Stream::Student, u64::from(place));
                let group = self.group_name(place % self.groups);
                people::student(&mut dice, self.students[place as usize], &group, self.odd)
            }
            Person::Teacher(place) => {
                let mut dice = Dice::new(self.seed, Stream::Teacher, u64::from(place));
                let number = FIRST_TEACHER + place;
                people::teacher(&mut dice, number, PORTAL_OFFSET + number)
            }
        }
    }

    /// Writes all documents, students first; returns how many.
    pub(super) fn write_people(&self, file: &mut OutputFile) -> Result<u64, GenerateError> {
        let students = (0..known(self.students.len() as u32)).map(known_place);
        let teachers = (0..known(self.teachers)).map(known_place);
        let mut written = 0;
        for person in students.map(Person::Student).chain(teachers.map(Person::Teacher)) {
            let (id, source) = (self.id(person), self.document(person));
            file.line(format!(r#"{{"_id":"{id}","_source":{source}}}"#).as_bytes())?;
            written += 1;
        }
        Ok(written)
    }
}

/// Among whom `University::any_known` draws.
#[derive(Debug, Clone, Copy)]
pub(super) enum Among {
    /// Students and teachers.
    Everyone,
    /// Teachers, unless none has a document.
    Teachers,
}

/// How many of `people` have a document: all but those at places 0, 50, 100, ...
fn known(people: u32) -> u32 {
    people - people.div_ceil(UNKNOWN_EVERY)
}

/// The place of the `n`-th person, from 0, of those who have a document.
fn known_place(n: u32) -> u32 {
    n + n / (UNKNOWN_EVERY - 1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn university(students: u32, teachers: u32) -> University {
        University::new(&Options { students, teachers, ..Options::default() })
    }

    #[test]
    fn every_fiftieth_has_no_document() {
        for people in [0, 1, 2, 49, 50, 51, 100, 101, 12_000] {
            let places: Vec<u32> = (0..known(people)).map(known_place).collect();
            let expected: Vec<u32> = (0..people).filter(|n| n % 50 != 0).collect();
            assert_eq!(places, expected);
        }
    }

    #[test]
    fn everyone_is_in_one_group() {
        for students in [1, 19, 20, 41, 1_000] {
            let university = university(students, 1);
            let mut all: Vec<u32> =
                (0..university.groups()).flat_map(|g| university.members(g)).collect();
            all.sort_unstable();
            assert_eq!(all, (200..200 + students).collect::<Vec<_>>());
            let smallest = (0..university.groups()).map(|g| university.members(g).count()).min();
            assert_eq!(smallest, Some(university.smallest_group() as usize));
        }
    }

    #[test]
    fn teachers_are_drawn_alone_where_they_have_documents() {
        let mut dice = Dice::new(1, Stream::Changes, 0);
        let both = university(100, 10);
        let mut teachers = 0;
        for _ in 0..1_000 {
            assert!(matches!(both.any_known(&mut dice, Among::Teachers), Person::Teacher(1..10)));
            let person = both.any_known(&mut dice, Among::Everyone);
            teachers += u32::from(matches!(person, Person::Teacher(_)));
        }
        assert!((40..150).contains(&teachers), "{teachers}");
        let person = university(100, 1).any_known(&mut dice, Among::Teachers);
        assert!(matches!(person, Person::Student(_)));
        assert_eq!(university(1, 1).any_known(&mut dice, Among::Everyone), Person::Student(0));
    }
}
