//! The file of lessons: what a journal must know to let somebody click.
//!
//! Shape: lessons in their order in; a line of `lessons.ndjson` each out, `{"journal", "group",
//! "lesson", "date", "slot", "kind", "locked", "teachers", "deaneries", "leader"}`. `teachers` are
//! the numbers of those who teach, `deaneries` of those who act for the group's deanery.
//!
//! Invariants: a lesson is locked when it is before the last day on which clicks were made: the
//! generator has no clock, that day is its today. Only the lessons of the latest day are held,
//! since it may yet be the last: half as many as groups, or a 2 500th of all where that is more.
//!
//! Not here: who may click what: the journal judges that, from these lines.

use super::GenerateError;
use super::output::OutputFile;
use super::timetable::Lesson;
use super::university::University;

/// Writes lessons, a day later than they come.
#[derive(Debug, Default)]
pub(super) struct Lessons {
    /// The lessons of the latest day.
    today: Vec<Lesson>,
    written: u64,
}

impl Lessons {
    /// Takes the next lesson. Days must not go back.
    pub(super) fn push(
        &mut self,
        lesson: Lesson,
        university: &University,
        file: &mut OutputFile,
    ) -> Result<(), GenerateError> {
        if self.today.last().is_some_and(|last| last.date != lesson.date) {
            self.write(university, file, "true")?;
        }
        self.today.push(lesson);
        Ok(())
    }

    /// Writes the lessons of the last day, which are open; returns how many there were in all.
    pub(super) fn finish(
        mut self,
        university: &University,
        file: &mut OutputFile,
    ) -> Result<u64, GenerateError> {
        self.write(university, file, "false")?;
        Ok(self.written)
    }

    fn write(
        &mut self,
        university: &University,
        file: &mut OutputFile,
        locked: &str,
    ) -> Result<(), GenerateError> {
        for lesson in self.today.drain(..) {
            let line = line(&lesson, &university.group_name(lesson.group), locked);
            file.line(line.as_bytes())?;
            self.written += 1;
        }
        Ok(())
    }
}

/// One lesson as JSON. Neither groups nor kinds hold a character that JSON would escape.
fn line(lesson: &Lesson, group: &str, locked: &str) -> String {
    let Lesson { number, journal, date, slot, kind, teacher, deanery, leader, .. } = lesson;
    format!(
        "{{\"journal\":{journal},\"group\":\"{group}\",\"lesson\":{number},\"date\":\"{date}\",\
         \"slot\":{slot},\"kind\":\"{kind}\",\"locked\":{locked},\"teachers\":[{teacher}],\
         \"deaneries\":[{deanery}],\"leader\":{leader}}}"
    )
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn lesson_says_who_and_when() {
        let lesson = Lesson {
            number: 100_007,
            journal: 3,
            group: 0,
            date: date(2025, 2, 10),
            slot: 2,
            kind: "лек.",
            teacher: 101,
            deanery: 100,
            leader: 205,
        };
        let value: Value = serde_json::from_str(&line(&lesson, "ИСТ-1000", "true")).unwrap();
        let expected = json!({
            "journal": 3, "group": "ИСТ-1000", "lesson": 100_007, "date": "2025-02-10",
            "slot": 2, "kind": "лек.", "locked": true, "teachers": [101], "deaneries": [100],
            "leader": 205,
        });
        assert_eq!(value, expected);
    }
}
