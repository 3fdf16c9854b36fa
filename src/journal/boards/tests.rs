//! Boards against a count from scratch.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::journal::marks::Taken;

const TODAY: &str = "2025-03-02";

fn day(text: &str) -> Day {
    Day::parse(text.as_bytes()).unwrap()
}

/// A row of the latest view: who, when, which mark, and what is known of them.
fn row(student: u32, lesson: u64, mark: u8, group: Option<&str>, teacher: Option<&str>) -> Value {
    let mut row = json!({
        "ID": uuid::Uuid::from_u128(u128::from(student) << 64 | u128::from(lesson)),
        "JOURNAL_ID": 1, "STUDENT_ID": student, "LESSON_DATE": format!("2025-03-0{}", 1 + lesson),
        "ATTENDANCE_MARK": mark, "MARKED_BY": 100, "DATE_CREATE": "2025-03-01 10:00:00.000000",
        "LESSON_ID": lesson, "MARKED_BY_ROLE": 2,
    });
    if let Some(group) = group {
        row["GROUP_SHORT_TITLE"] = json!(group);
        row["STUDENT_FIO"] = json!(format!("Студент {student}"));
        row["COURSE"] = json!(student % 3);
    }
    if let Some(teacher) = teacher {
        row["TEACHER_FIO"] = json!(teacher);
        row["KAFEDRA"] = json!(format!("Кафедра {teacher}"));
    }
    row
}

fn bytes(row: &Value) -> Vec<u8> {
    serde_json::to_vec(row).unwrap()
}

#[test]
fn correction_moves_a_student_from_board_to_board() {
    let mut marks = Marks::default();
    for lesson in 0..3 {
        marks.take(&bytes(&row(7, lesson, 1, Some("A"), None))).unwrap();
    }
    marks.take(&bytes(&row(8, 1, 0, Some("A"), None))).unwrap();
    let board = |marks: &Marks, group: &str| {
        let filter = StudentFilter { groups: vec![group.to_owned()], ..StudentFilter::default() };
        groups(marks, 1, day(TODAY), Days::default(), &filter)
    };
    assert_eq!(board(&marks, "A").total.marks, 4);
    assert_eq!(board(&marks, "A").today.marks, 2);
    for lesson in 0..3 {
        let (_, taken) = marks.take(&bytes(&row(7, lesson, 1, Some("B"), None))).unwrap();
        assert_eq!(taken, Taken::Corrected);
    }
    assert_eq!(board(&marks, "A").total.marks, 1);
    assert_eq!(board(&marks, "B").total.marks, 3);
    assert_eq!(board(&marks, "A").students[0].student, 8);
    assert!(!board(&marks, "B").filters.groups.contains("C"));
    // Nothing is held of what no mark shows any more.
    assert_eq!(marks.students().iter().count(), 2);
    let none = Days { since: Some(day("2025-03-03")), until: Some(day("2025-03-01")) };
    let all = StudentFilter::default();
    assert_eq!(groups(&marks, 1, day(TODAY), none, &all).total.marks, 0);
}

#[test]
fn row_comes_back_as_it_was_taken() {
    let mut marks = Marks::default();
    let mut whole = row(7, 1, 2, Some("A"), Some("T"));
    for (name, value) in [
        ("TYPE_MARK", json!(0)),
        ("NUMBER_CERT", json!(5)),
        ("STUDENT_AGE", json!(19)),
        ("TEACHER_AGE", json!(50)),
        ("FACULTY", json!("Ф \"кавычки\"")),
        ("ADMISSION_YEAR", json!(2023)),
        ("STUDENT_SEX", json!("Женский")),
        ("TEACHER_WORK_POSITION", json!("доцент")),
    ] {
        whole[name] = value;
    }
    marks.take(&bytes(&whole)).unwrap();
    let rows = marks.rows(|_| true, 10);
    assert_eq!(serde_json::from_str::<Value>(rows[0].get()).unwrap(), whole);
    assert!(marks.rows(|cell| cell.student == 8, 10).is_empty());
    assert!(marks.take(b"{}").is_err());
}

proptest! {
    /// After any changes the boards show what a count from scratch over the rows shows.
    #[test]
    fn boards_are_a_count_of_what_stands(
        changes in proptest::collection::vec(
            (0..6u32, 0..4u64, 0..6u8, 0..4usize, 0..3usize), 0..80,
        ),
        group in 0..4usize,
        since in 0..5u8,
    ) {
        let group_names = [None, Some("A"), Some("B"), Some("C")];
        let teacher_names = [None, Some("T"), Some("U")];
        let (mut marks, mut stands) = (Marks::default(), HashMap::new());
        for (student, lesson, mark, group, teacher) in changes {
            let row = row(student, lesson, mark, group_names[group], teacher_names[teacher]);
            marks.take(&bytes(&row)).unwrap();
            stands.insert((student, lesson), row);
        }
        let since = day(&format!("2025-03-0{}", 1 + since));
        let days = Days { since: Some(since), until: None };
        let wanted: Vec<String> = group_names[group].map(str::to_owned).into_iter().collect();
        let filter = StudentFilter { groups: wanted.clone(), ..StudentFilter::default() };
        let board = groups(&marks, 9, day(TODAY), days, &filter);
        let within = |row: &&Value| day(row["LESSON_DATE"].as_str().unwrap()) >= since;
        let of_group = |row: &&Value| {
            wanted.is_empty() || row["GROUP_SHORT_TITLE"].as_str() == Some(&wanted[0])
        };
        let counted: Vec<&Value> = stands.values().filter(within).filter(of_group).collect();
        let of_mark = |rows: &[&Value], mark: u8| {
            rows.iter().filter(|row| row["ATTENDANCE_MARK"] == mark).count() as u32
        };
        prop_assert_eq!(board.total.marks as usize, counted.len());
        prop_assert_eq!(board.total.present, of_mark(&counted, 1));
        prop_assert_eq!(board.total.absent, of_mark(&counted, 0));
        for shown in &board.days {
            let of_day: Vec<&Value> =
                counted.iter().copied().filter(|row| row["LESSON_DATE"] == *shown.date).collect();
            prop_assert_eq!(shown.present, of_mark(&of_day, 1));
            prop_assert_eq!(shown.absent, of_mark(&of_day, 0));
            prop_assert_eq!((shown.present + shown.absent + shown.other) as usize, of_day.len());
        }
        for shown in &board.students {
            let of_student: Vec<&Value> =
                counted.iter().copied().filter(|row| row["STUDENT_ID"] == shown.student).collect();
            prop_assert_eq!(shown.marks as usize, of_student.len());
            prop_assert_eq!(shown.absent, of_mark(&of_student, 0));
        }
        prop_assert_eq!(board.students.iter().map(|row| row.marks).sum::<u32>(), board.total.marks);
        let today = stands.values().filter(of_group).filter(|row| row["LESSON_DATE"] == TODAY);
        prop_assert_eq!(board.today.marks as usize, today.count());

        let board = teachers(&marks, 9, day(TODAY), Days::default(), &TeacherFilter::default());
        prop_assert_eq!(board.total.marks as usize, stands.len());
        for shown in &board.teachers {
            let name = |row: &&Value| row["TEACHER_FIO"].as_str() == shown.name.as_deref();
            prop_assert_eq!(shown.marks as usize, stands.values().filter(name).count());
        }
    }
}
