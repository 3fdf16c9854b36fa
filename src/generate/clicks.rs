//! Clicks: what is marked in a lesson, by whom and when.
//!
//! Shape: a lesson and its students in, one after another; the clicks for each out.
//!
//! Invariants: each student is marked present once at first; now and then the mark is corrected a
//! second later, seldom the deanery corrects it days later, and seldom other hands click at the
//! very same instant. Each click has an ID of its own.
//!
//! Not here: how a click is written (`record`), what happens to it on its way (`delivery`).

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};
use uuid::Uuid;

use super::dice::Dice;
use super::timetable::Lesson;

/// Roles, as an event numbers them.
const STUDENT: Option<u8> = Some(0);
const LEADER: Option<u8> = Some(1);
const TEACHER: Option<u8> = Some(2);
const DEANERY: Option<u8> = Some(3);

/// One click in the journal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Click {
    /// `ID`.
    pub(super) id: Uuid,
    /// `JOURNAL_ID`.
    pub(super) journal: u16,
    /// `STUDENT_ID`.
    pub(super) student: u32,
    /// `LESSON_ID`.
    pub(super) lesson: u64,
    /// `LESSON_DATE`.
    pub(super) date: Date,
    /// `ATTENDANCE_MARK`, 0 to 5.
    pub(super) mark: u8,
    /// `MARKED_BY` and `MARKED_BY_ROLE`.
    pub(super) hand: Hand,
    /// `DATE_CREATE`.
    pub(super) at: DateTime,
    /// `NUMBER_CERT`.
    pub(super) certificate: Certificate,
}

/// Whose hand clicks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hand {
    /// The number of the student or teacher.
    pub(super) by: u32,
    /// In which role; `None` is written as null.
    pub(super) role: Option<u8>,
}

/// What a click says of a certificate.
#[derive(Debug, Clone, Copy)]
pub(super) enum Certificate {
    /// The key is missing.
    Unsaid,
    /// The key is there with null.
    Null,
    /// The number of a certificate.
    Number(u8),
}

/// A lesson that is being marked.
#[derive(Debug)]
pub(super) struct Marking<'l> {
    lesson: &'l Lesson,
    hand: Hand,
    at: DateTime,
}

impl<'l> Marking<'l> {
    /// Some minutes into the lesson, the teacher or the group's leader begins to mark.
    pub(super) fn begin(lesson: &'l Lesson, dice: &mut Dice) -> Self {
        let teacher = Hand { by: lesson.teacher, role: TEACHER };
        let hand = dice.pick(&[Hand { by: lesson.leader, role: LEADER }, teacher, teacher]);
        Self { lesson, hand, at: later(lesson.start(), dice.between(60, 600).into(), 0) }
    }

    /// Appends the clicks for the next student to `clicks`; the first marks presence.
    pub(super) fn student(&mut self, student: u32, dice: &mut Dice, clicks: &mut Vec<Click>) {
        self.at = later(self.at, dice.between(0, 3).into(), dice.between(0, 999_999).into());
        let myself = Hand { by: student, role: STUDENT };
        let alone = self.hand.role == LEADER && dice.chance(0.2);
        let hand = if alone { myself } else { self.hand };
        let first = self.present(student, hand, dice);
        clicks.push(first);
        if dice.chance(0.3) {
            clicks.push(Click { at: later(self.at, 1, 0), ..first.again(hand, 0, dice) });
        }
        if dice.chance(0.02) {
            clicks.push(self.correction(&first, dice));
        }
        if dice.chance(0.01) {
            // A tie: the same instant, other hands; the role decides, then the ID.
            let teacher = Hand { by: self.lesson.teacher, role: TEACHER };
            let nobody = Hand { role: None, ..myself };
            let second = dice.pick(&[teacher, myself, nobody]);
            clicks.push(first.again(second, 0, dice));
            let third = dice.pick(&[myself, nobody]);
            clicks.push(first.again(third, 1, dice));
        }
    }

    fn present(&self, student: u32, hand: Hand, dice: &mut Dice) -> Click {
        Click {
            id: dice.uuid(),
            journal: self.lesson.journal,
            student,
            lesson: self.lesson.number,
            date: self.lesson.date,
            mark: 1,
            hand,
            at: self.at,
            certificate: Certificate::Unsaid,
        }
    }

    /// Days later, by the deanery or the teacher.
    fn correction(&self, first: &Click, dice: &mut Dice) -> Click {
        let deanery = Hand { by: self.lesson.deanery, role: DEANERY };
        let teacher = Hand { by: self.lesson.teacher, role: TEACHER };
        let hand = dice.pick(&[deanery, deanery, teacher]);
        let at = later(self.at, i64::from(dice.between(1, 5)) * 86_400, 0);
        // What each may set: the deanery's own marks are recorded in its role, others are not.
        let marks = if hand.role == DEANERY { [2, 3, 2, 3] } else { [0, 0, 4, 5] };
        let mark = dice.pick(&marks);
        Click { at, ..first.again(hand, mark, dice) }
    }
}

impl Click {
    /// Another click on the same cell at the same instant.
    fn again(&self, hand: Hand, mark: u8, dice: &mut Dice) -> Self {
        Self { id: dice.uuid(), hand, mark, certificate: certificate(mark, dice), ..*self }
    }
}

/// Half of the marks 2 and 3 speak of a certificate, a fifth of these without its number.
fn certificate(mark: u8, dice: &mut Dice) -> Certificate {
    if !matches!(mark, 2 | 3) || dice.chance(0.5) {
        Certificate::Unsaid
    } else if dice.chance(0.8) {
        Certificate::Number(1 + dice.below(255) as u8)
    } else {
        Certificate::Null
    }
}

fn later(at: DateTime, seconds: i64, microseconds: i64) -> DateTime {
    at.saturating_add(
        SignedDuration::from_secs(seconds) + SignedDuration::from_micros(microseconds),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::super::dice::Stream;
    use super::super::timetable::Timetable;
    use super::super::university::University;
    use super::*;

    fn marked(lessons: u32) -> Vec<Click> {
        let university = University::new(&Options::default());
        let mut timetable = Timetable::new(&university, &Options::default());
        let mut dice = Dice::new(1, Stream::Clicks, 0);
        let mut clicks = Vec::new();
        for _ in 0..lessons {
            let lesson = timetable.next_lesson();
            let mut marking = Marking::begin(&lesson, &mut dice);
            for student in university.members(lesson.group) {
                marking.student(student, &mut dice, &mut clicks);
            }
        }
        clicks
    }

    #[test]
    fn every_kind_of_click_occurs() {
        let clicks = marked(500);
        let some = |is: &dyn Fn(&Click) -> bool| clicks.iter().any(is);
        for mark in 0..=5 {
            assert!(some(&|click| click.mark == mark), "mark {mark}");
        }
        for role in [None, STUDENT, LEADER, TEACHER, DEANERY] {
            assert!(some(&|click| click.hand.role == role), "role {role:?}");
        }
        assert!(some(&|click| matches!(click.certificate, Certificate::Number(_))));
        assert!(some(&|click| matches!(click.certificate, Certificate::Null)));
        assert!(
            clicks.iter().all(|click| matches!(click.certificate, Certificate::Unsaid)
                || matches!(click.mark, 2 | 3))
        );
    }

    #[test]
    fn each_role_sets_the_marks_that_it_may() {
        for Click { hand, mark, .. } in marked(2000) {
            let may = match hand.role {
                None | STUDENT | LEADER => matches!(mark, 0 | 1),
                TEACHER => matches!(mark, 0 | 1 | 4 | 5),
                _ => matches!(mark, 2 | 3),
            };
            assert!(may, "role {:?} sets {mark}", hand.role);
        }
    }

    #[test]
    fn ties_occur_at_the_same_instant_on_the_same_cell() {
        let clicks = marked(100);
        let ties = clicks
            .windows(2)
            .filter(|pair| pair[0].at == pair[1].at && pair[0].student == pair[1].student);
        assert!(ties.count() > 0);
    }
}
