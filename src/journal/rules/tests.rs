//! Every rule, for every role, in their order.

use std::collections::{BTreeMap, HashMap};

use super::*;

const JOURNAL: u16 = 7;
const LESSON: u64 = 42;
const LEADER: u32 = 200;
const STUDENT: u32 = 201;
const OTHER: u32 = 202;
const STRANGER: u32 = 999;
const TEACHER: u32 = 100;
const DEANERY: u32 = 101;
const ELSEWHERE: u32 = 150;

/// One journal of one group, and at most one mark.
#[derive(Clone)]
struct Known {
    journal: Journal,
    standing: Option<Standing>,
}

impl Facts for Known {
    fn journal(&self, number: u16) -> Option<&Journal> {
        (number == JOURNAL).then_some(&self.journal)
    }

    fn belongs(&self, student: u32, _journal: &Journal) -> bool {
        [LEADER, STUDENT, OTHER].contains(&student)
    }

    fn standing(&self, journal: u16, lesson: &Lesson, _student: u32) -> Option<Standing> {
        assert_eq!((journal, lesson.number), (JOURNAL, LESSON));
        self.standing
    }
}

fn known() -> Known {
    let date = Day::parse(b"2025-03-21").unwrap();
    let (group, kind) = ("ИС-1".to_owned(), "лек.".to_owned());
    let lesson = Lesson { number: LESSON, group: group.clone(), date, slot: 1, kind, locked: None };
    let journal = Journal {
        leaders: BTreeMap::from([(group, LEADER)]),
        teachers: [TEACHER].into(),
        deaneries: [DEANERY].into(),
        lessons: vec![lesson],
    };
    Known { journal, standing: None }
}

fn at(time: &str) -> Moment {
    Moment::parse(format!("2025-03-21 {time}").as_bytes()).unwrap()
}

fn click(student: u32, mark: i64) -> Click {
    Click {
        journal: Some(JOURNAL.into()),
        student: Some(student.into()),
        lesson: Some(LESSON as i64),
        mark: Some(mark),
        date: None,
        certificate: None,
    }
}

fn stands(mark: u8, marked_by: u32, role: Role) -> Known {
    Known { standing: Some(Standing { mark, marked_by, role: Some(role) }), ..known() }
}

fn says(click: &Click, person: Person, known: &Known) -> String {
    match judge(click, person, at("09:30:00"), known) {
        Ok(accepted) => format!("{:?} {}", accepted.role, accepted.mark),
        Err(refusal) => format!("{}: {refusal}", refusal.rule()),
    }
}

#[test]
fn what_is_required_is_asked_for_in_its_order() {
    let all = click(STUDENT, 1);
    for (click, text) in [
        (
            Click { journal: None, student: None, ..all },
            "1: Отсутствует обязательное поле: JOURNAL_ID",
        ),
        (
            Click { student: None, lesson: None, ..all },
            "1: Отсутствует обязательное поле: STUDENT_ID",
        ),
        (Click { lesson: None, mark: None, ..all }, "1: Отсутствует обязательное поле: LESSON_ID"),
        (
            Click { mark: None, journal: Some(0), ..all },
            "1: Отсутствует обязательное поле: ATTENDANCE_MARK",
        ),
        (Click { journal: Some(0), student: Some(0), ..all }, "1: Неверный ID журнала"),
        (Click { student: Some(-1), lesson: Some(0), ..all }, "1: Неверный ID пользователя"),
        (Click { lesson: Some(0), mark: Some(9), ..all }, "1: Неверный ID занятия"),
    ] {
        assert_eq!(says(&click, Person::Student(STUDENT), &known()), text);
    }
}

#[test]
fn each_role_has_its_marks() {
    let people = [
        (Person::Student(STUDENT), "01"),
        (Person::Student(LEADER), "01"),
        (Person::Teacher(Some(TEACHER)), "0145"),
        (Person::Deanery(Some(DEANERY)), "012345"),
    ];
    for (person, may) in people {
        for mark in -1..=7 {
            let said = says(&click(STUDENT, mark), person, &known());
            let is_refused = said == "2: Неверное значение посещаемости";
            assert_eq!(!is_refused, may.contains(&mark.to_string()), "{person:?} {mark}: {said}");
        }
    }
    // The mark is judged before access.
    let said = says(&click(STUDENT, 2), Person::Student(STRANGER), &known());
    assert_eq!(said, "2: Неверное значение посещаемости");
}

#[test]
fn certificate_goes_with_mark_two_alone() {
    let person = Person::Deanery(Some(DEANERY));
    for (mark, certificate, text) in [
        (2, 1, "Deanery 2"),
        (2, 255, "Deanery 2"),
        (2, 0, "2: Неверный номер справки"),
        (2, 256, "2: Неверный номер справки"),
        (3, 1, "2: Неверный номер справки"),
        (1, 1, "2: Неверный номер справки"),
    ] {
        let click = Click { certificate: Some(certificate), ..click(STUDENT, mark) };
        assert_eq!(says(&click, person, &known()), text, "{mark} {certificate}");
    }
}

#[test]
fn who_has_access() {
    let click = click(STUDENT, 1);
    let no_access = "3: Нет доступа к данному журналу";
    for (person, text) in [
        (Person::Teacher(None), "3: Не удалось определить ID преподавателя"),
        (Person::Deanery(None), "3: Не удалось определить ID преподавателя"),
        (Person::Teacher(Some(ELSEWHERE)), no_access),
        (Person::Deanery(Some(ELSEWHERE)), no_access),
        (Person::Student(STRANGER), no_access),
        (Person::Student(OTHER), "3: Можете отмечать только себя"),
        (Person::Student(STUDENT), "Student 1"),
        (Person::Student(LEADER), "Leader 1"),
        (Person::Teacher(Some(TEACHER)), "Teacher 1"),
        (Person::Teacher(Some(DEANERY)), "Teacher 1"),
        (Person::Deanery(Some(DEANERY)), "Teacher 1"),
        (Person::Deanery(Some(TEACHER)), "Teacher 1"),
    ] {
        assert_eq!(says(&click, person, &known()), text, "{person:?}");
    }
    // Whoever may mark, marks only who belongs there.
    for person in [Person::Student(LEADER), Person::Teacher(Some(TEACHER))] {
        let click = Click { student: Some(STRANGER.into()), ..click };
        assert_eq!(says(&click, person, &known()), no_access);
    }
    for journal in [8, 65_536, i64::MAX] {
        let click = Click { journal: Some(journal), ..click };
        assert_eq!(says(&click, Person::Student(STUDENT), &known()), no_access, "{journal}");
    }
}

#[test]
fn lesson_is_there_open_and_on_its_day() {
    let teacher = Person::Teacher(Some(TEACHER));
    let all = click(STUDENT, 1);
    let no_lesson = Click { lesson: Some(43), ..all };
    assert_eq!(says(&no_lesson, teacher, &known()), "4: Занятие не найдено");
    let mut locked = known();
    locked.journal.lessons[0].locked = Some(true);
    let other_day = Click { date: Some(Day::parse(b"2025-03-22")), ..all };
    assert_eq!(says(&other_day, teacher, &locked), "4: Занятие заблокировано для редактирования");
    let mut past = known();
    past.journal.lessons[0].date = Day::parse(b"2025-03-20").unwrap();
    assert_eq!(says(&all, teacher, &past), "4: Занятие заблокировано для редактирования");
    // What the timetable says counts more than the day.
    past.journal.lessons[0].locked = Some(false);
    assert_eq!(says(&all, teacher, &past), "Teacher 1");
    let wrong = "4: Переданная дата не соответствует дате занятия";
    assert_eq!(says(&other_day, teacher, &known()), wrong);
    assert_eq!(says(&Click { date: Some(None), ..all }, teacher, &known()), wrong);
    let right = Click { date: Some(Day::parse(b"2025-03-21")), ..all };
    assert_eq!(says(&right, teacher, &known()), "Teacher 1");
}

#[test]
fn students_and_leaders_mark_while_the_lesson_runs() {
    let refused = "Отметка вне времени пары";
    for (slot, begin, end) in [
        (1, "09:00", "10:30"),
        (2, "10:45", "12:15"),
        (3, "12:30", "14:00"),
        (4, "15:00", "16:30"),
        (5, "16:45", "18:15"),
        (6, "18:30", "20:00"),
        (7, "20:15", "21:45"),
        (8, "22:00", "23:30"),
    ] {
        let mut known = known();
        known.journal.lessons[0].slot = slot;
        let says = |time: String, person| {
            let judged = judge(&click(STUDENT, 1), person, at(&time), &known);
            judged.map_err(|refusal| refusal.to_string()).map(|accepted| accepted.role)
        };
        for (person, role) in [(STUDENT, Role::Student), (LEADER, Role::Leader)] {
            let person = Person::Student(person);
            assert_eq!(says(format!("{begin}:00"), person), Ok(role), "{slot}");
            assert_eq!(says(format!("{end}:00"), person), Ok(role), "{slot}");
            assert_eq!(says(format!("{end}:00.000001"), person), Err(refused.to_owned()), "{slot}");
        }
        let teacher = Person::Teacher(Some(TEACHER));
        assert_eq!(says("00:00:00".to_owned(), teacher), Ok(Role::Teacher));
    }
    let before =
        judge(&click(STUDENT, 1), Person::Student(STUDENT), at("08:59:59.999999"), &known());
    assert_eq!(before, Err(Refusal::Time));
    for slot in [0, 9, 255] {
        let mut known = known();
        known.journal.lessons[0].slot = slot;
        let said = says(&click(STUDENT, 1), Person::Student(STUDENT), &known);
        assert_eq!(said, "5: Неверный номер пары");
    }
}

#[test]
fn what_stands_decides_at_last() {
    let people = HashMap::from([
        ("student", Person::Student(STUDENT)),
        ("leader", Person::Student(LEADER)),
        ("teacher", Person::Teacher(Some(TEACHER))),
        ("deanery", Person::Deanery(Some(DEANERY))),
    ]);
    let same = "6: Отметка уже поставлена с таким же значением";
    let of_teacher = "6: Нельзя изменить отметку преподавателя";
    let of_leader = "6: Нельзя изменить отметку старосты";
    let of_another = "6: Нельзя изменить отметку другого пользователя";
    for (who, mark, known, text) in [
        // A plain student changes his own marks alone, and repeats none.
        ("student", 0, stands(1, STUDENT, Role::Student), "Student 0"),
        ("student", 1, stands(1, STUDENT, Role::Student), same),
        ("student", 1, stands(0, LEADER, Role::Leader), of_leader),
        ("student", 1, stands(1, LEADER, Role::Leader), of_leader),
        ("student", 1, stands(0, OTHER, Role::Student), of_another),
        ("student", 1, stands(0, TEACHER, Role::Teacher), of_teacher),
        ("student", 1, stands(2, DEANERY, Role::Deanery), of_teacher),
        // A number of the deanery that equals the student's is another person's.
        ("student", 1, stands(0, STUDENT, Role::Teacher), of_teacher),
        // A leader changes what students and leaders set, and repeats none of his own.
        ("leader", 0, stands(1, STUDENT, Role::Student), "Leader 0"),
        ("leader", 1, stands(1, STUDENT, Role::Student), "Leader 1"),
        ("leader", 1, stands(0, OTHER, Role::Leader), "Leader 1"),
        ("leader", 0, stands(1, LEADER, Role::Leader), "Leader 0"),
        ("leader", 1, stands(1, LEADER, Role::Leader), same),
        ("leader", 1, stands(0, TEACHER, Role::Teacher), of_teacher),
        ("leader", 1, stands(3, DEANERY, Role::Deanery), of_teacher),
        // An employee changes any, and repeats none of his own.
        ("teacher", 1, stands(1, STUDENT, Role::Student), "Teacher 1"),
        ("teacher", 1, stands(0, LEADER, Role::Leader), "Teacher 1"),
        ("teacher", 1, stands(1, TEACHER, Role::Teacher), same),
        ("teacher", 0, stands(1, TEACHER, Role::Teacher), "Teacher 0"),
        ("teacher", 1, stands(1, ELSEWHERE, Role::Teacher), "Teacher 1"),
        ("teacher", 1, stands(3, DEANERY, Role::Deanery), "Teacher 1"),
        // A student's number that equals the teacher's is another person's.
        ("teacher", 1, stands(1, TEACHER, Role::Student), "Teacher 1"),
        ("deanery", 2, stands(2, DEANERY, Role::Deanery), same),
        ("deanery", 3, stands(2, DEANERY, Role::Deanery), "Deanery 3"),
        ("deanery", 1, stands(1, DEANERY, Role::Teacher), same),
        ("deanery", 1, stands(3, DEANERY, Role::Deanery), "Teacher 1"),
    ] {
        let said = says(&click(STUDENT, mark), people[who], &known);
        assert_eq!(said, text, "{who} sets {mark} over {:?}", known.standing);
    }
}
