//! The timetable: which group has which lesson, when, and with whom.
//!
//! Shape: the university in; lessons without end out, day by day.
//!
//! Invariants: lesson numbers grow, Sundays are free, a group never has two lessons in one slot
//! unless it has more than eight a day. All lessons that `Options::events` can need lie within
//! `DAYS_MAX` teaching days from the first one (2025 to 2033), far inside the range of dates that
//! an event may bear: a larger university-year has more lessons a day, not more days.
//!
//! Not here: marks (`clicks`), the file of the lessons (`lessons`).

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Weekday, date};

use super::Options;
use super::dice::{Dice, Stream};
use super::names::LESSON_KINDS;
use super::university::University;

/// The first teaching day, a Monday.
const FIRST_DAY: Date = date(2025, 2, 10);
/// Teaching days at most: eight years of six-day weeks, after which an age is still an age.
const DAYS_MAX: u64 = 2_500;
/// What the first lesson's number comes after.
const LESSONS_BEFORE: u64 = 100_000;
/// Journals a group keeps.
const GROUP_JOURNALS: u64 = 7;
/// Journals there can be: a journal's number has 16 bits, and 0 is none. With more than 9 362
/// groups, several share a journal.
const JOURNALS_MAX: u64 = 65_535;
/// When lessons begin, by slot.
const SLOTS: [(i8, i8); 8] =
    [(9, 0), (10, 45), (12, 30), (15, 0), (16, 45), (18, 30), (20, 15), (22, 0)];

/// One lesson of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lesson {
    /// The number of the lesson, `LESSON_ID`.
    pub(super) number: u64,
    /// The journal in which it is marked, `JOURNAL_ID`.
    pub(super) journal: u16,
    /// The place of the group.
    pub(super) group: u32,
    /// The day.
    pub(super) date: Date,
    /// The slot, 1 to 8.
    pub(super) slot: u8,
    /// Lecture, practice or laboratory, as the journal shows it.
    pub(super) kind: &'static str,
    /// The number of the teacher.
    pub(super) teacher: u32,
    /// The number of the teacher who acts for the group's deanery.
    pub(super) deanery: u32,
    /// The number of the student who leads the group.
    pub(super) leader: u32,
}

impl Lesson {
    /// When the lesson begins, Moscow time.
    pub(super) fn start(&self) -> DateTime {
        let (hour, minute) = SLOTS[usize::from(self.slot - 1) % SLOTS.len()];
        self.date.at(hour, minute, 0, 0)
    }
}

/// Lessons in order.
#[derive(Debug)]
pub(super) struct Timetable<'u> {
    university: &'u University,
    dice: Dice,
    /// Groups; those that had a lesson in this round stand first.
    order: Vec<u32>,
    lessons_a_day: u64,
    /// Lessons of the day so far.
    today: u64,
    date: Date,
    /// Shifts the slots of all groups, anew each day.
    shift: u64,
    number: u64,
}

impl<'u> Timetable<'u> {
    /// A timetable long enough for the events of `options`.
    pub(super) fn new(university: &'u University, options: &Options) -> Self {
        let mut dice = Dice::new(options.seed, Stream::Timetable, 0);
        Self {
            university,
            order: (0..university.groups()).collect(),
            lessons_a_day: lessons_a_day(university, options.events),
            today: 0,
            date: FIRST_DAY,
            shift: dice.below(SLOTS.len() as u64),
            number: LESSONS_BEFORE,
            dice,
        }
    }

    /// The next lesson.
    pub(super) fn next_lesson(&mut self) -> Lesson {
        if self.today == self.lessons_a_day {
            self.next_day();
        }
        let group = self.next_group();
        // A round gives each group a lesson at most, and each round another slot.
        let round = self.today / self.order.len() as u64;
        let slot = (self.shift + u64::from(group) + round) % SLOTS.len() as u64;
        let journal = u64::from(group) * GROUP_JOURNALS + self.dice.below(GROUP_JOURNALS);
        self.today += 1;
        self.number += 1 + self.dice.below(40);
        Lesson {
            number: self.number,
            journal: (1 + journal % JOURNALS_MAX) as u16,
            group,
            date: self.date,
            slot: 1 + slot as u8,
            kind: self.dice.pick(&LESSON_KINDS),
            teacher: self.university.any_teacher(&mut self.dice),
            deanery: self.university.deanery(group),
            leader: self.university.leader(group),
        }
    }

    fn next_day(&mut self) {
        let days = if self.date.weekday() == Weekday::Saturday { 2 } else { 1 };
        self.date = self.date.saturating_add(days.days());
        self.today = 0;
        self.shift = self.dice.below(SLOTS.len() as u64);
    }

    /// A random group among those without a lesson in this round: one step of a shuffle.
    fn next_group(&mut self) -> u32 {
        let taken = (self.today % self.order.len() as u64) as usize;
        let drawn = taken + self.dice.place(self.order.len() - taken);
        self.order.swap(taken, drawn);
        self.order[taken]
    }
}

/// Half of the groups a day, or as many lessons as bring all events within `DAYS_MAX` days.
fn lessons_a_day(university: &University, events: u64) -> u64 {
    // Each student of a lesson is marked at least once, so no more lessons than these are needed.
    let lessons_max = events.div_ceil(u64::from(university.smallest_group()));
    let half = (u64::from(university.groups()) / 2).max(1);
    half.max(lessons_max.div_ceil(DAYS_MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn options(students: u32, events: u64) -> Options {
        Options { students, events, ..Options::default() }
    }

    #[test]
    fn day_has_half_of_the_groups_once_each() {
        let options = options(2_000, 1_000);
        let university = University::new(&options);
        let mut timetable = Timetable::new(&university, &options);
        let lessons: Vec<Lesson> = (0..50 * 7).map(|_| timetable.next_lesson()).collect();
        for day in lessons.chunks(50) {
            let groups: HashSet<u32> = day.iter().map(|lesson| lesson.group).collect();
            assert_eq!(groups.len(), 50);
            assert!(day.iter().all(|lesson| lesson.date == day[0].date));
            assert_ne!(day[0].date.weekday(), Weekday::Sunday);
        }
        assert!(lessons.is_sorted_by(|a, b| a.number < b.number && a.date <= b.date));
    }

    #[test]
    fn days_are_few_however_many_the_events() {
        for (students, events) in [(1, 50_000), (12_000, 100_000_000), (39, u64::MAX)] {
            let options = options(students, events);
            let university = University::new(&options);
            let lessons = u128::from(events.div_ceil(university.smallest_group().into()));
            let a_day = u128::from(lessons_a_day(&university, events));
            assert!(lessons <= a_day * u128::from(DAYS_MAX), "{students} {events}");
        }
        let last = FIRST_DAY.saturating_add((DAYS_MAX as i64 * 7 / 6 + 2).days());
        assert!(last.year() <= 2033, "{last}");
    }

    #[test]
    fn group_is_never_in_two_lessons_at_once() {
        let options = options(41, 1_000_000);
        let university = University::new(&options);
        let mut timetable = Timetable::new(&university, &options);
        assert_eq!(timetable.lessons_a_day, 20);
        let mut taken = HashSet::new();
        for _ in 0..20 * 16 {
            let lesson = timetable.next_lesson();
            // Ten lessons a group a day: two slots are taken twice, no more.
            taken.insert((lesson.group, lesson.date, lesson.slot));
            assert!((1..=8).contains(&lesson.slot));
        }
        assert_eq!(taken.len(), 16 * 16);
    }

    #[test]
    fn journals_stay_in_range_with_any_number_of_groups() {
        let options = options(400_000, 1_000);
        let university = University::new(&options);
        let mut timetable = Timetable::new(&university, &options);
        assert!((0..20_000).all(|_| timetable.next_lesson().journal > 0));
    }
}
