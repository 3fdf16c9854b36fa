//! Clicks at once, again, and not written.

use std::{fs, path::Path};

use super::*;
use crate::{
    journal::{log::LineLog, marks::Marks},
    spec::Spec,
    time::Day,
};

const LESSONS: &str = concat!(
    r#"{"journal":7,"group":"A","lesson":42,"date":"2025-03-21","slot":1,"kind":"лек.","#,
    r#""teachers":[100,101],"deaneries":[],"leader":200}"#,
);

const STUDENT: &str = concat!(
    r#"{"_id":"s1","_source":{"PERSONAL":{"type":"student","BITRIX_USER_ID":"201"},"#,
    r#""EDUCATION":[{"department":{"short_title":"A"}}]}}"#,
);

/// A desk in a folder, with a student 201 of the group.
struct Place {
    folder: tempfile::TempDir,
    desk: Arc<Desk>,
    shown: Arc<Shown>,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("lessons"), LESSONS).unwrap();
        let journals = Journals::load(&folder.path().join("lessons")).unwrap();
        let timetable = Arc::new(Timetable::new(journals));
        let spec = include_str!("../../../dataflows/attendance.toml");
        let spec = Arc::new(Spec::parse(Path::new("attendance.toml"), spec).unwrap());
        let mut people = People::new(Arc::clone(&spec));
        assert!(people.take(STUDENT.as_bytes()));
        let shown = Arc::new(Shown::default());
        shown.expect_history(0);
        let clock = Clock::at(Moment::parse(b"2025-03-21 09:30:00").unwrap());
        let people = Arc::new(RwLock::new(people));
        let desk = Desk::new(&spec, timetable, people, Arc::clone(&shown), Arc::new(clock));
        Place { folder, desk: Arc::new(desk), shown }
    }

    fn write(&self) -> thread::JoinHandle<()> {
        let log = LineLog::open(&self.folder.path().join("events")).unwrap();
        self.desk.write_to(log, |error| panic!("{error}")).unwrap()
    }

    fn events(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.folder.path().join("events")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn click(mark: i64) -> Click {
    Click {
        journal: Some(7),
        student: Some(201),
        lesson: Some(42),
        mark: Some(mark),
        date: None,
        certificate: None,
    }
}

fn ask(desk: &Desk, id: u128, mark: i64, person: Person) -> Result<Set, Unconfirmed> {
    pollster::block_on(desk.click(Uuid::from_u128(id), &click(mark), person))
}

#[test]
fn clicks_of_a_cell_are_judged_one_after_the_other_and_later_than_each_other() {
    let place = Place::new();
    let writer = place.write();
    let teachers = [Person::Teacher(Some(100)), Person::Teacher(Some(101))];
    let answers: Vec<_> = thread::scope(|scope| {
        let clicks: Vec<_> = (0..64u128)
            .map(|n| {
                let desk = &place.desk;
                scope.spawn(move || ask(desk, n, i64::from(n % 4 < 2), teachers[n as usize % 2]))
            })
            .collect();
        clicks.into_iter().map(|click| click.join().unwrap()).collect()
    });
    place.desk.close();
    writer.join().unwrap();
    let accepted: Vec<Set> =
        answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert!(refused.clone().all(|error| matches!(error, Unconfirmed::Refused(Refusal::Same))));
    let events = place.events();
    assert_eq!(events.len(), accepted.len());
    let column = |name: &str| -> Vec<String> {
        events.iter().map(|event| event[name].to_string()).collect()
    };
    let made = column("DATE_CREATE");
    assert!(made.is_sorted_by(|a, b| a < b), "of one cell, each is later than the one before");
    // Nobody repeated his own value over his own.
    let said: Vec<_> = column("MARKED_BY").into_iter().zip(column("ATTENDANCE_MARK")).collect();
    assert!(said.windows(2).all(|two| two[0] != two[1]));
    let tally = place.desk.tally();
    assert_eq!(
        (tally.accepted, tally.refused),
        (accepted.len() as u64, 64 - accepted.len() as u64)
    );
}

#[test]
fn click_that_is_asked_again_is_written_once() {
    let place = Place::new();
    let writer = place.write();
    let teacher = Person::Teacher(Some(100));
    let first = ask(&place.desk, 1, 1, teacher).unwrap();
    let again = ask(&place.desk, 1, 1, teacher).unwrap();
    assert_eq!(first.made, again.made);
    // Under one ID there is one click.
    for (mark, person) in [(0, teacher), (1, Person::Teacher(Some(101)))] {
        let other = ask(&place.desk, 1, mark, person);
        assert!(matches!(other, Err(Unconfirmed::OtherClick)));
    }
    // A repeated value under another ID is another click.
    let same = ask(&place.desk, 2, 1, teacher);
    assert!(matches!(same, Err(Unconfirmed::Refused(Refusal::Same))));
    place.desk.close();
    writer.join().unwrap();
    assert_eq!(place.events().len(), 1);
}

#[test]
fn what_was_judged_after_a_click_that_is_not_written_falls_with_it() {
    let place = Place::new();
    let teacher = Person::Teacher(Some(100));
    let (first, _) = place.desk.take(Uuid::from_u128(1), &click(1), teacher).unwrap();
    let batch = place.desk.next_batch().unwrap();
    // Accepted over the first, while that is under way.
    let (_, second) = place.desk.take(Uuid::from_u128(2), &click(0), teacher).unwrap();
    let refused = place.desk.take(Uuid::from_u128(3), &click(0), teacher);
    assert!(matches!(refused, Err(Unconfirmed::Refused(Refusal::Same))));
    place.desk.settle(batch, 0);
    assert_eq!(*second.borrow(), Outcome::Failed);
    // As if neither had been: the same may be asked again, under the same IDs.
    let (again, _) = place.desk.take(Uuid::from_u128(1), &click(1), teacher).unwrap();
    assert_eq!(again.mark, first.mark);
    assert_eq!(place.desk.tally().failed, 2);
}

#[test]
fn what_was_written_before_there_was_no_room_stands() {
    let place = Place::new();
    let teachers = [Person::Teacher(Some(100)), Person::Teacher(Some(101))];
    let (_, first) = place.desk.take(Uuid::from_u128(1), &click(1), teachers[0]).unwrap();
    let (_, second) = place.desk.take(Uuid::from_u128(2), &click(0), teachers[0]).unwrap();
    let batch = place.desk.next_batch().unwrap();
    let (_, third) = place.desk.take(Uuid::from_u128(3), &click(1), teachers[1]).unwrap();
    place.desk.settle(batch, 1);
    let became = [first, second, third].map(|outcome| *outcome.borrow());
    assert_eq!(became, [Outcome::Durable, Outcome::Failed, Outcome::Failed]);
    // What comes next is judged against the first.
    let again = place.desk.take(Uuid::from_u128(4), &click(1), teachers[0]);
    assert!(matches!(again, Err(Unconfirmed::Refused(Refusal::Same))));
}

#[test]
fn nothing_is_judged_before_the_past_is_known() {
    let place = Place::new();
    place.shown.expect_history(1);
    let asked = place.desk.take(Uuid::from_u128(1), &click(1), Person::Teacher(Some(100)));
    assert!(matches!(asked, Err(Unconfirmed::Loading)));
}

#[test]
fn event_is_written_as_the_journal_writes_it() {
    let made = Moment::parse(b"2025-08-13 22:55:51.008465").unwrap();
    let date = Day::parse(b"2025-08-13").unwrap();
    let set = Set {
        id: Uuid::parse_str("ee76e99f-e8fd-419f-833c-79875d0262d4").unwrap(),
        cell: Cell { journal: 972, student: 21284, lesson: 132644, date },
        mark: 0,
        marked_by: 249,
        role: Role::Teacher,
        certificate: None,
        made,
    };
    let expected = concat!(
        r#"{"JOURNAL_ID":972,"STUDENT_ID":21284,"LESSON_ID":132644,"LESSON_DATE":"2025-08-13","#,
        r#""ATTENDANCE_MARK":0,"MARKED_BY":249,"ID":"ee76e99f-e8fd-419f-833c-79875d0262d4","#,
        r#""DATE_CREATE":"2025-08-13 22:55:51.008465","TYPE_MARK":0,"MARKED_BY_ROLE":2}"#,
    );
    assert_eq!(String::from_utf8(event(&set)).unwrap(), expected);
    let excused = Set { mark: 2, role: Role::Deanery, certificate: Some(17), ..set };
    assert!(String::from_utf8(event(&excused)).unwrap().ends_with(",\"NUMBER_CERT\":17}"));
}

/// A row of the latest view in the cell of `click`, made at that time of the day.
fn row(id: u128, made: &str, mark: u8, marked_by: u32) -> String {
    let id = Uuid::from_u128(id);
    format!(r#"{{"ID":"{id}","JOURNAL_ID":7,"STUDENT_ID":201,"LESSON_ID":42,"#)
        + &format!(
            r#""LESSON_DATE":"2025-03-21","ATTENDANCE_MARK":{mark},"MARKED_BY":{marked_by},"#
        )
        + &format!(r#""DATE_CREATE":"2025-03-21 {made}","MARKED_BY_ROLE":2}}"#)
}

#[test]
fn what_others_write_counts_by_when_it_was_made() {
    let place = Place::new();
    let teacher = Person::Teacher(Some(100));
    let make_visible = |id, made: &str, mark, marked_by| {
        let mut marks = Marks::default();
        let (cell, _) = marks.take(row(id, made, mark, marked_by).as_bytes()).unwrap();
        let mark = *marks.mark(&cell).unwrap();
        place.shown.change(|standing| standing.marks = marks);
        place.desk.hear(&[(cell, mark)], &[]);
    };
    let (mine, _) = place.desk.take(Uuid::from_u128(1), &click(1), teacher).unwrap();
    // Another producer's earlier mark shows first: mine stands, though it is not visible yet.
    make_visible(2, "08:00:00", 0, 101);
    let again = place.desk.take(Uuid::from_u128(3), &click(1), teacher);
    assert!(matches!(again, Err(Unconfirmed::Refused(Refusal::Same))));
    // A later one, and mine never shows: mine counts no more.
    make_visible(4, "23:00:00", 1, 101);
    assert!(place.desk.state().pending.is_empty());
    let (second, _) = place.desk.take(Uuid::from_u128(5), &click(1), teacher).unwrap();
    assert!(second.made > mine.made);
    assert_eq!(second.made, Moment::parse(b"2025-03-21 23:00:00.000001").unwrap());
    // It waits until it is visible itself, and no longer.
    assert_eq!(place.desk.state().pending.len(), 1);
    make_visible(5, "23:00:00.000001", 1, 100);
    assert!(place.desk.state().pending.is_empty());
}

#[test]
fn what_the_dataflow_refuses_stands_no_more() {
    let place = Place::new();
    let teacher = Person::Teacher(Some(100));
    let (mine, _) = place.desk.take(Uuid::from_u128(1), &click(1), teacher).unwrap();
    // Somebody else's event under its ID says nothing of it.
    let mut other = event(&mine);
    other.push(b' ');
    place.desk.hear(&[], &[&other, b"{}", b"\xff"]);
    assert_eq!(place.desk.state().pending.len(), 1);
    let mut news = place.shown.watch();
    place.desk.hear(&[], &[&event(&mine)]);
    let told = matches!(news.try_recv(), Ok(News::Confirmed(cells)) if *cells == [mine.cell]);
    assert!(told, "pages hear that the cell is as it was");
    assert!(place.desk.state().pending.is_empty());
    // It may be asked again, for nothing is known of it.
    let again = place.desk.take(Uuid::from_u128(1), &click(1), teacher);
    assert_eq!(again.unwrap().0.id, mine.id);
}

#[test]
fn what_failed_is_forgotten_wherever_it_was_remembered() {
    let place = Place::new();
    for id in 0..100 {
        let mark = (id % 2) as i64;
        place.desk.take(Uuid::from_u128(id), &click(mark), Person::Teacher(Some(100))).unwrap();
        let batch = std::mem::take(&mut place.desk.state().queue);
        place.desk.settle(batch, 0);
    }
    let state = place.desk.state();
    assert_eq!((state.remembered.len(), state.order.len(), state.pending.len()), (0, 0, 0));
}
