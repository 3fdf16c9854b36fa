//! Lessons: which journals there are, and when their lessons run.
//!
//! Shape: lines of a `lessons.ndjson` in, `{"journal", "group", "lesson", "date", "slot", "kind",
//! "locked", "teachers", "deaneries", "leader"}`; journals by number out.
//!
//! Invariants: a journal has at least one lesson; its lessons are in the order of their days, slots
//! and numbers, and no two bear one number.
//!
//! Not here: who is in a group (`people`), and who may do what (`rules`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use serde::{Deserialize, Deserializer, de};

use crate::time::{Day, Moment};

/// When lessons begin and end, Moscow time, as hour and minute, by slot from 1 on.
pub const SLOTS: [((u8, u8), (u8, u8)); 8] = [
    ((9, 0), (10, 30)),
    ((10, 45), (12, 15)),
    ((12, 30), (14, 0)),
    ((15, 0), (16, 30)),
    ((16, 45), (18, 15)),
    ((18, 30), (20, 0)),
    ((20, 15), (21, 45)),
    ((22, 0), (23, 30)),
];

/// When a slot of a day begins and ends; `None` where a day has no such slot.
pub fn slot(day: Day, slot: u8) -> Option<(Moment, Moment)> {
    let (begin, end) = SLOTS.get(usize::from(slot).checked_sub(1)?)?;
    Some((Moment::of_minute(day, begin.0, begin.1)?, Moment::of_minute(day, end.0, end.1)?))
}

/// A lesson of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// Its number, `LESSON_ID`.
    pub number: u64,
    /// Whose lesson it is.
    pub group: String,
    /// Its day.
    pub date: Day,
    /// Its slot of the day; 1 to 8, if the timetable is sound.
    pub slot: u8,
    /// Lecture, practice or laboratory, as the journal shows it.
    pub kind: String,
    /// Whether it takes no marks; where nothing is said, it takes none once its day is over.
    pub locked: Option<bool>,
}

impl Lesson {
    /// Whether it takes no marks any more.
    pub fn is_locked(&self, today: Day) -> bool {
        self.locked.unwrap_or(self.date < today)
    }

    /// Whether it runs at a moment, its first and its last minute included; `None` where its slot
    /// is none of a day.
    pub fn runs(&self, now: Moment) -> Option<bool> {
        let (begin, end) = slot(self.date, self.slot)?;
        Some((begin..=end).contains(&now))
    }
}

/// A journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// The groups whose lessons stand there, with the number of the student who leads each.
    pub leaders: BTreeMap<String, u32>,
    /// Who teaches there, by the deanery's number.
    pub teachers: BTreeSet<u32>,
    /// Who acts for its deanery, by that number.
    pub deaneries: BTreeSet<u32>,
    /// In the order of their days, slots and numbers.
    pub lessons: Vec<Lesson>,
}

impl Journal {
    /// The lesson of that number.
    pub fn lesson(&self, number: u64) -> Option<&Lesson> {
        self.lessons.iter().find(|lesson| lesson.number == number)
    }

    /// Whether it is led by a student.
    pub fn is_led_by(&self, student: u32) -> bool {
        self.leaders.values().any(|leader| *leader == student)
    }
}

/// All journals.
#[derive(Clone, Debug, Default)]
pub struct Journals {
    by_number: BTreeMap<u16, Journal>,
    by_group: BTreeMap<String, BTreeSet<u16>>,
    deaneries: BTreeSet<u32>,
    last_day: Option<Day>,
}

/// The journals as they are now: newer ones may take their place while others are looked at.
#[derive(Debug)]
pub struct Timetable(RwLock<Arc<Journals>>);

impl Timetable {
    /// A timetable that says this.
    pub fn new(journals: Journals) -> Timetable {
        Timetable(RwLock::new(Arc::new(journals)))
    }

    /// What it says now.
    pub fn now(&self) -> Arc<Journals> {
        Arc::clone(&self.0.read().expect("nobody panics while holding it"))
    }

    /// Has it say something else from now on.
    pub fn set(&self, journals: Journals) {
        *self.0.write().expect("nobody panics while holding it") = Arc::new(journals);
    }
}

/// The lessons cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LessonsError {
    /// The file cannot be read.
    #[error("cannot read lessons file \"{path}\"; check that it exists and may be read")]
    Unreadable {
        /// The file, as it was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of it is no lesson.
    #[error(
        "line {line} of lessons file \"{path}\" is no lesson; one is {{\"journal\", \"group\", \
         \"lesson\", \"date\", \"slot\", \"kind\", \"locked\", \"teachers\", \"deaneries\", \
         \"leader\"}}: mend it and start again"
    )]
    Wrong {
        /// The file, as it was named.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A lesson's number stands twice in one journal.
    #[error(
        "lessons file \"{path}\" says lesson {lesson} of journal {journal} twice; give each a \
         number of its own"
    )]
    Twice {
        /// The file, as it was named.
        path: PathBuf,
        /// The journal.
        journal: u16,
        /// The lesson.
        lesson: u64,
    },
}

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    journal: u16,
    group: String,
    lesson: u64,
    #[serde(deserialize_with = "day")]
    date: Day,
    slot: u8,
    kind: String,
    locked: Option<bool>,
    #[serde(default)]
    teachers: Vec<u32>,
    #[serde(default)]
    deaneries: Vec<u32>,
    leader: u32,
}

fn day<'d, D: Deserializer<'d>>(from: D) -> Result<Day, D::Error> {
    let text = String::deserialize(from)?;
    Day::parse(text.as_bytes()).ok_or_else(|| de::Error::custom("a date is YYYY-MM-DD"))
}

impl Journals {
    /// Reads a `lessons.ndjson`; empty lines say nothing.
    ///
    /// # Errors
    /// When it cannot be read, or a line is no lesson.
    pub fn load(path: &Path) -> Result<Journals, LessonsError> {
        let unreadable = |source| LessonsError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let mut journals = Journals::default();
        for (place, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(unreadable)?;
            if !line.trim().is_empty() {
                let wrong = |source| {
                    let (path, line) = (path.to_owned(), place + 1);
                    LessonsError::Wrong { path, line, source }
                };
                journals.add(serde_json::from_str(&line).map_err(wrong)?);
            }
        }
        for (number, journal) in &mut journals.by_number {
            journal.lessons.sort_by_key(|lesson| (lesson.date, lesson.slot, lesson.number));
            let mut seen = BTreeSet::new();
            if let Some(twice) = journal.lessons.iter().find(|l| !seen.insert(l.number)) {
                let (path, lesson) = (path.to_owned(), twice.number);
                return Err(LessonsError::Twice { path, journal: *number, lesson });
            }
        }
        Ok(journals)
    }

    fn add(&mut self, line: Line) {
        let Line { journal: number, group, lesson, date, slot, kind, locked, leader, .. } = line;
        let journal = self.by_number.entry(number).or_default();
        journal.leaders.insert(group.clone(), leader);
        journal.teachers.extend(&line.teachers);
        journal.deaneries.extend(&line.deaneries);
        self.deaneries.extend(&line.deaneries);
        self.by_group.entry(group.clone()).or_default().insert(number);
        self.last_day = self.last_day.max(Some(date));
        journal.lessons.push(Lesson { number: lesson, group, date, slot, kind, locked });
    }

    /// A journal by its number.
    pub fn journal(&self, number: u16) -> Option<&Journal> {
        self.by_number.get(&number)
    }

    /// The journals in which a group has lessons, by number.
    pub fn of_group(&self, group: &str) -> impl Iterator<Item = (u16, &Journal)> {
        let numbers = self.by_group.get(group).into_iter().flatten();
        numbers.map(|number| (*number, &self.by_number[number]))
    }

    /// The groups that have lessons.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.by_group.keys().map(String::as_str)
    }

    /// The journals that a student leads.
    pub fn led_by(&self, student: u32) -> impl Iterator<Item = u16> {
        let led = self.by_number.iter().filter(move |(_, journal)| journal.is_led_by(student));
        led.map(|(number, _)| *number)
    }

    /// Whether an employee acts for any deanery.
    pub fn is_deanery(&self, number: u32) -> bool {
        self.deaneries.contains(&number)
    }

    /// How many journals there are.
    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// The last day on which there is a lesson.
    pub fn last_day(&self) -> Option<Day> {
        self.last_day
    }

    /// A journal and its group, one that is wanted, with a lesson that runs at a moment, or else
    /// one on its day, or else any.
    pub fn running(&self, now: Moment, is_wanted: impl Fn(&str) -> bool) -> Option<(u16, &str)> {
        let is_wanted = &is_wanted;
        let of_day = self.by_number.iter().flat_map(|(number, journal)| {
            let today = journal.lessons.iter();
            let today = today.filter(|l| l.date == now.day() && is_wanted(&l.group));
            today.map(|lesson| (*number, lesson))
        });
        let running = of_day.clone().find(|(_, lesson)| lesson.runs(now) == Some(true));
        let found = running.or_else(|| of_day.clone().next());
        let found = found.map(|(number, lesson)| (number, lesson.group.as_str()));
        found.or_else(|| {
            let of_group = self.by_group.iter().find(|(group, _)| is_wanted(group));
            of_group.and_then(|(group, numbers)| Some((*numbers.first()?, group.as_str())))
        })
    }

    /// The slot of a day in which most lessons run.
    pub fn busiest_slot(&self, day: Day) -> Option<u8> {
        let mut lessons = [0; SLOTS.len()];
        let of_day = self.by_number.values().flat_map(|journal| &journal.lessons);
        for lesson in of_day.filter(|lesson| lesson.date == day) {
            if let Some(count) = lessons.get_mut(usize::from(lesson.slot).wrapping_sub(1)) {
                *count += 1;
            }
        }
        let busiest = (1..).zip(lessons).max_by_key(|(slot, count)| (*count, u8::MAX - slot));
        busiest.filter(|(_, count)| *count > 0).map(|(slot, _)| slot)
    }
}
