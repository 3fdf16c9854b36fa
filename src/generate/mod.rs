//! A made university: people, a timetable, the clicks of its journal and all that goes wrong.
//!
//! Shape: options in; five files in one folder out.
//! - `people.ndjson`: the documents at the start, `{"_id", "_source"}`;
//! - `changes.ndjson`: what happens to them later, `{"after", "op", "_id", "_source"}`, where
//!   `after` is the number of lines of `events.ndjson` that came before;
//! - `events.ndjson`: one value of the topic a line, in order, faults included: a line may be any
//!   bytes but a newline;
//! - `keys.txt`: the key of each of these lines, the ID in lower case, empty where there is none;
//! - `lessons.ndjson`: the lessons in which the clicks were made, for a journal.
//!
//! Invariants: the same options give the same bytes, on every machine and for ever. Memory grows
//! with people and changes, not with events. Names, groups and timetable are invented.
//!
//! Not here: what the engine must make of it: the generator knows no result.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use self::clicks::{Click, Marking};
use self::delivery::Delivery;
use self::dice::{Dice, Stream};
use self::lessons::Lessons;
use self::output::Output;
use self::timetable::Timetable;
use self::university::University;
use self::window::Topic;

mod changes;
mod clicks;
mod delivery;
mod dice;
mod faults;
mod lessons;
mod names;
mod output;
mod people;
mod record;
mod timetable;
mod university;
mod window;

#[cfg(test)]
mod tests;

/// Students at most: the files of ten million take gigabytes, and all numbers stay in range.
const STUDENTS_MAX: u32 = 10_000_000;
/// Teachers at most, for the same reason.
const TEACHERS_MAX: u32 = 1_000_000;

/// What university to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Clicks, before malformed lines and duplicates come to them; any number.
    pub events: u64,
    /// Students, 1 to 10 000 000. More make more groups of twenty, thus more lessons a day.
    pub students: u32,
    /// Teachers, 1 to 1 000 000.
    pub teachers: u32,
    /// Changes of the documents during the run; any number, 8 bytes of memory each and more for
    /// each person that is changed.
    pub changes: u32,
    /// Share of clicks after which a malformed line follows, and again of those after which a
    /// duplicate follows; 0 to 1. A tenth of it of all lines change places with an earlier one.
    pub faults: f64,
    /// Share of students whose documents hold what a column must not take; 0 to 1.
    pub odd: f64,
    /// Which of all universities of these sizes; any number.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            events: 100_000,
            students: 12_000,
            teachers: 434,
            changes: 500,
            faults: 0.01,
            odd: 0.03,
            seed: 1,
        }
    }
}

impl Options {
    /// Every option that is out of range.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        if !(1..=STUDENTS_MAX).contains(&self.students) {
            found.push(Violation { option: "students", rule: "1 to 10000000" });
        }
        if !(1..=TEACHERS_MAX).contains(&self.teachers) {
            found.push(Violation { option: "teachers", rule: "1 to 1000000" });
        }
        if !(0.0..=1.0).contains(&self.faults) {
            found.push(Violation { option: "faults", rule: "a share, 0 to 1" });
        }
        if !(0.0..=1.0).contains(&self.odd) {
            found.push(Violation { option: "odd", rule: "a share, 0 to 1" });
        }
        found
    }
}

/// An option that is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// The option.
    pub option: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.option, self.rule)
    }
}

/// How much was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Lines of `events.ndjson` and of `keys.txt`.
    pub event_lines: u64,
    /// Lines of `people.ndjson`.
    pub people: u64,
    /// Lines of `changes.ndjson`.
    pub changes: u64,
    /// Lines of `lessons.ndjson`.
    pub lessons: u64,
}

/// Why no university was made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Options are out of range; nothing was written.
    #[error("cannot make a university of these options: {}", spoken(.0))]
    Options(Vec<Violation>),
    /// The folder for the files cannot be made; nothing was written.
    #[error("cannot make folder \"{}\"; name one where you may write", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written; files of an earlier run may still stand beside new ones.
    #[error(
        "cannot write \"{}\"; see that the folder is writable and the disk has room",
        path.display()
    )]
    Write {
        /// The file, by its final name.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn spoken(violations: &[Violation]) -> String {
    violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("; ")
}

/// Makes a university in the folder `out`, which is made where it is missing.
///
/// `progress` is told now and then, and at the end, how many event lines have been written.
///
/// # Errors
///
/// When options are out of range or files cannot be written; then no new file appears, unless the
/// very last step, giving the files their names, fails between two of them.
pub fn generate(
    options: &Options,
    out: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Summary, GenerateError> {
    let violations = options.violations();
    if !violations.is_empty() {
        return Err(GenerateError::Options(violations));
    }
    let university = University::new(options);
    let mut output = Output::create(out)?;
    let people = university.write_people(&mut output.people)?;
    let (event_lines, lessons) = write_events(options, &university, &mut output, progress)?;
    // Only now is it known how many event lines there are for the changes to spread over.
    changes::write(options, &university, event_lines, &mut output.changes)?;
    output.keep()?;
    Ok(Summary { event_lines, people, changes: options.changes.into(), lessons })
}

/// Writes the clicks of one lesson after another until there are enough; returns how many lines
/// and lessons that took.
fn write_events(
    options: &Options,
    university: &University,
    output: &mut Output,
    progress: &mut dyn FnMut(u64),
) -> Result<(u64, u64), GenerateError> {
    let Output { events, keys, lessons: lessons_file, .. } = output;
    let mut delivery = Delivery::new(options, Topic { events, keys, progress, written: 0 });
    let mut timetable = Timetable::new(university, options);
    let mut lessons = Lessons::default();
    let mut dice = Dice::new(options.seed, Stream::Clicks, 0);
    let (mut missing, mut clicks) = (options.events, Vec::new());
    while missing > 0 {
        let lesson = timetable.next_lesson();
        lessons.push(lesson, university, lessons_file)?;
        let mut marking = Marking::begin(&lesson, &mut dice);
        for student in university.members(lesson.group) {
            marking.student(student, &mut dice, &mut clicks);
            missing -= deliver(&mut delivery, &mut clicks, missing)?;
        }
    }
    Ok((delivery.finish()?, lessons.finish(university, lessons_file)?))
}

/// Delivers `clicks`, at most as many as are missing; returns how many.
fn deliver(
    delivery: &mut Delivery,
    clicks: &mut Vec<Click>,
    missing: u64,
) -> Result<u64, GenerateError> {
    let mut delivered = 0;
    for click in clicks.drain(..).take(usize::try_from(missing).unwrap_or(usize::MAX)) {
        delivery.take(&click)?;
        delivered += 1;
    }
    Ok(delivered)
}
