//! Who may set which mark: the rules of the journal, in their order.
//!
//! Shape: a click, who made it, the time, and the mark that stands in its cell in; a mark that may
//! be written, or the first rule that refuses it, out.
//!
//! Invariants: nothing here reads a clock or keeps anything: the same question has the same answer;
//! a refusal says the words that people have always read. Whoever asks judges one click on a cell
//! after the other, each against the mark that the one before has set.
//!
//! Not here: where lessons come from (`lessons`), what stands in a cell (`marks`), and where a
//! click goes (`desk`).

use super::lessons::{Journal, Lesson};
use crate::time::{Day, Moment};

/// In which role a mark was set, as events say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A student, of himself.
    Student = 0,
    /// The leader of a group.
    Leader = 1,
    /// A teacher.
    Teacher = 2,
    /// The deanery.
    Deanery = 3,
}

impl Role {
    /// The role behind a number of an event.
    pub fn of_number(number: u8) -> Option<Role> {
        [Role::Student, Role::Leader, Role::Teacher, Role::Deanery]
            .into_iter()
            .find(|role| *role as u8 == number)
    }

    fn is_employee(self) -> bool {
        matches!(self, Role::Teacher | Role::Deanery)
    }
}

/// Who clicks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Person {
    /// A student, by the number in the portal.
    Student(u32),
    /// An employee who teaches, by the number in the deanery, where there is one.
    Teacher(Option<u32>),
    /// An employee of a deanery.
    Deanery(Option<u32>),
}

/// What was clicked, as it was sent: what is missing, or is no number of its kind, is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Click {
    /// The journal.
    pub journal: Option<i64>,
    /// Who is marked.
    pub student: Option<i64>,
    /// The lesson.
    pub lesson: Option<i64>,
    /// The mark.
    pub mark: Option<i64>,
    /// The day of the lesson, where the page sent one; `Some(None)` where what it sent is no day.
    pub date: Option<Option<Day>>,
    /// The number of a certificate, with mark 2.
    pub certificate: Option<i64>,
}

/// The mark that stands in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The mark.
    pub mark: u8,
    /// Who set it.
    pub marked_by: u32,
    /// In which role; `None` where the event did not say one: then anybody's.
    pub role: Option<Role>,
}

/// A click that may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The journal.
    pub journal: u16,
    /// Who is marked.
    pub student: u32,
    /// The lesson.
    pub lesson: u64,
    /// Its day.
    pub date: Day,
    /// The mark.
    pub mark: u8,
    /// The number of the certificate.
    pub certificate: Option<u8>,
    /// Who set it.
    pub marked_by: u32,
    /// In which role it is recorded.
    pub role: Role,
}

/// Why a click is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something that is required was not sent.
    #[error("Отсутствует обязательное поле: {0}")]
    Missing(&'static str),
    /// The journal is no positive number.
    #[error("Неверный ID журнала")]
    JournalNumber,
    /// The student is no positive number.
    #[error("Неверный ID пользователя")]
    StudentNumber,
    /// The lesson is no positive number.
    #[error("Неверный ID занятия")]
    LessonNumber,
    /// The role may not set such a mark.
    #[error("Неверное значение посещаемости")]
    Mark,
    /// The certificate has no number from 1 to 255, or the mark has none.
    #[error("Неверный номер справки")]
    Certificate,
    /// An employee without a number.
    #[error("Не удалось определить ID преподавателя")]
    NoNumber,
    /// The journal is none of theirs, or there is none, or who is marked is not in it.
    #[error("Нет доступа к данному журналу")]
    Access,
    /// A student marks another one.
    #[error("Можете отмечать только себя")]
    OnlySelf,
    /// There is no such lesson.
    #[error("Занятие не найдено")]
    NoLesson,
    /// The lesson is locked.
    #[error("Занятие заблокировано для редактирования")]
    Locked,
    /// The lesson is on another day.
    #[error("Переданная дата не соответствует дате занятия")]
    Date,
    /// The lesson has no slot of the day.
    #[error("Неверный номер пары")]
    Slot,
    /// The lesson does not run now.
    #[error("Отметка вне времени пары")]
    Time,
    /// The same mark stands there, of whom it would be again.
    #[error("Отметка уже поставлена с таким же значением")]
    Same,
    /// A teacher's mark stands.
    #[error("Нельзя изменить отметку преподавателя")]
    OfTeacher,
    /// The leader's mark stands.
    #[error("Нельзя изменить отметку старосты")]
    OfLeader,
    /// Another one's mark stands.
    #[error("Нельзя изменить отметку другого пользователя")]
    OfAnother,
}

impl Refusal {
    /// Which of the rules refuses it, from 1; rule 2 also judges certificates.
    pub fn rule(self) -> u8 {
        use Refusal::*;
        match self {
            Missing(_) | JournalNumber | StudentNumber | LessonNumber => 1,
            Mark | Certificate => 2,
            NoNumber | Access | OnlySelf => 3,
            NoLesson | Locked | Date => 4,
            Slot | Time => 5,
            Same | OfTeacher | OfLeader | OfAnother => 6,
        }
    }
}

/// What a click is judged by, but for itself.
pub trait Facts {
    /// The journal of a number.
    fn journal(&self, number: u16) -> Option<&Journal>;

    /// Whether a student belongs to a journal.
    fn belongs(&self, student: u32, journal: &Journal) -> bool;

    /// The mark that stands in a cell; asked only once everything else holds.
    fn standing(&self, journal: u16, lesson: &Lesson, student: u32) -> Option<Standing>;
}

/// Judges a click that somebody makes now.
///
/// # Errors
/// With the first rule that refuses it.
pub fn judge(
    click: &Click,
    person: Person,
    now: Moment,
    facts: &impl Facts,
) -> Result<Accepted, Refusal> {
    let Click { date, certificate, .. } = *click;
    // 1. What is required, and numbers.
    let mark = required(click)?;
    let [journal_number, student, lesson] =
        [click.journal, click.student, click.lesson].map(Option::unwrap_or_default);
    positive(journal_number, Refusal::JournalNumber)?;
    positive(student, Refusal::StudentNumber)?;
    positive(lesson, Refusal::LessonNumber)?;
    // 2. The mark, among those of the role.
    let mark = u8::try_from(mark).ok().filter(|mark| may_set(person, *mark));
    let mark = mark.ok_or(Refusal::Mark)?;
    let certificate = match (mark, certificate) {
        (_, None) => None,
        (2, Some(number)) => {
            let number = u8::try_from(number).ok().filter(|number| *number > 0);
            Some(number.ok_or(Refusal::Certificate)?)
        }
        (_, Some(_)) => return Err(Refusal::Certificate),
    };
    // 3. Access. An employee without a number is told so first.
    let number = match person {
        Person::Student(number) => number,
        Person::Teacher(number) | Person::Deanery(number) => number.ok_or(Refusal::NoNumber)?,
    };
    let journal_number = u16::try_from(journal_number).map_err(|_| Refusal::Access)?;
    let student = u32::try_from(student).map_err(|_| Refusal::StudentNumber)?;
    let journal = facts.journal(journal_number).ok_or(Refusal::Access)?;
    let role = role_in(journal, person, number, mark, facts)?;
    if role == Role::Student && student != number {
        return Err(Refusal::OnlySelf);
    }
    if !facts.belongs(student, journal) {
        return Err(Refusal::Access);
    }
    // 4. The lesson.
    let lesson = u64::try_from(lesson).ok().and_then(|number| journal.lesson(number));
    let lesson = lesson.ok_or(Refusal::NoLesson)?;
    if lesson.is_locked(now.day()) {
        return Err(Refusal::Locked);
    }
    if date.is_some_and(|date| date != Some(lesson.date)) {
        return Err(Refusal::Date);
    }
    // 5. Students and leaders only while it runs.
    if !role.is_employee() && !lesson.runs(now).ok_or(Refusal::Slot)? {
        return Err(Refusal::Time);
    }
    // 6. What stands in the cell.
    if let Some(standing) = facts.standing(journal_number, lesson, student) {
        against(role, number, mark, standing)?;
    }
    let (lesson, date) = (lesson.number, lesson.date);
    let journal = journal_number;
    Ok(Accepted { journal, student, lesson, date, mark, certificate, marked_by: number, role })
}

/// The mark of a click that says all that is required.
fn required(click: &Click) -> Result<i64, Refusal> {
    let fields = [
        (click.journal, "JOURNAL_ID"),
        (click.student, "STUDENT_ID"),
        (click.lesson, "LESSON_ID"),
        (click.mark, "ATTENDANCE_MARK"),
    ];
    let missing = fields.iter().find(|(value, _)| value.is_none());
    match (missing, click.mark) {
        (None, Some(mark)) => Ok(mark),
        (missing, _) => Err(Refusal::Missing(missing.map_or("ATTENDANCE_MARK", |(_, name)| name))),
    }
}

fn positive(number: i64, refusal: Refusal) -> Result<(), Refusal> {
    if number > 0 { Ok(()) } else { Err(refusal) }
}

fn may_set(person: Person, mark: u8) -> bool {
    match person {
        Person::Student(_) => matches!(mark, 0 | 1),
        Person::Teacher(_) => matches!(mark, 0 | 1 | 4 | 5),
        Person::Deanery(_) => matches!(mark, 0..=5),
    }
}

/// The role in which somebody marks in a journal.
fn role_in(
    journal: &Journal,
    person: Person,
    number: u32,
    mark: u8,
    facts: &impl Facts,
) -> Result<Role, Refusal> {
    let has_access = match person {
        Person::Student(_) => journal.is_led_by(number) || facts.belongs(number, journal),
        _ => journal.teachers.contains(&number) || journal.deaneries.contains(&number),
    };
    match person {
        _ if !has_access => Err(Refusal::Access),
        Person::Student(_) if journal.is_led_by(number) => Ok(Role::Leader),
        Person::Student(_) => Ok(Role::Student),
        Person::Deanery(_) if matches!(mark, 2 | 3) => Ok(Role::Deanery),
        Person::Teacher(_) | Person::Deanery(_) => Ok(Role::Teacher),
    }
}

/// Whether a mark may take the place of the one that stands.
fn against(role: Role, number: u32, mark: u8, standing: Standing) -> Result<(), Refusal> {
    let is_own = standing.marked_by == number
        && standing.role.is_none_or(|of| of.is_employee() == role.is_employee());
    let is_again = is_own && standing.mark == mark;
    let of = standing.role;
    match role {
        _ if role.is_employee() => {}
        _ if of.is_some_and(Role::is_employee) => return Err(Refusal::OfTeacher),
        Role::Leader => {}
        _ if of == Some(Role::Leader) && !is_own => return Err(Refusal::OfLeader),
        _ if !is_own => return Err(Refusal::OfAnother),
        _ => {}
    }
    if is_again { Err(Refusal::Same) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
