//! The desk: takes clicks, judges them one after the other, and confirms what is durable.
//!
//! Shape: a click, its ID and who makes it in; the mark that it set, once it is durable, or why
//! not.
//!
//! Invariants: a click is judged against the newest mark of its cell, be it visible or only
//! accepted; of a cell, each accepted click is made later than all before it. An ID is written
//! once: asked again, the desk says what became of it. Where a click does not become durable,
//! neither does any that was judged after it while it was under way.
//!
//! Not here: the rules (`rules`), where lines go (`log`), how clicks come in (`serve`).

use std::{
    collections::VecDeque,
    error::Error,
    sync::{Arc, Condvar, Mutex, MutexGuard, RwLock},
    thread,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use serde::Deserialize;
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

use super::{
    clock::Clock,
    lessons::{Journal, Journals, Lesson, Timetable},
    marks::{Cell, Mark},
    people::People,
    rules::{self, Accepted, Click, Facts, Person, Refusal, Role, Standing},
    shown::{self, News, Shown, said},
};
use crate::{source::Decoder, spec::Spec, time::Moment};

/// How many answered clicks are remembered, so that one that is asked again gets the same answer;
/// about 100 bytes each.
const REMEMBERED_MAX: usize = 100_000;

/// How many clicks may wait to be written. At a thousand a second, ten seconds of a disk that
/// stands still.
const WAITING_MAX: usize = 10_000;

/// How many clicks may be remembered where none is visible yet, as while the engine is away.
const UNSEEN_MAX: usize = 1_000_000;

/// How many that are not visible yet are passed over at a click: while the engine is away all are.
const LOOKS_MAX: usize = 8;

/// How many of the last times from click to durable are kept, for their quantiles.
const TIMES_MAX: usize = 1_000;

/// A mark that was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Its event.
    pub id: Uuid,
    /// Where it stands.
    pub cell: Cell,
    /// The mark.
    pub mark: u8,
    /// Who set it.
    pub marked_by: u32,
    /// In which role.
    pub role: Role,
    /// The number of a certificate.
    pub certificate: Option<u8>,
    /// When it was made.
    pub made: Moment,
}

/// Why a click is not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum Unconfirmed {
    /// A rule refuses it; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its ID is that of another click.
    #[error("Этот идентификатор уже принадлежит другой отметке")]
    OtherClick,
    /// The dataflow would not take it; nothing was changed.
    #[error("Отметка не принимается: её значения вне допустимых границ")]
    NoEvent,
    /// Too much waits to be written; nothing was changed.
    #[error("Слишком много отметок ждут записи, повторите через несколько секунд")]
    Full,
    /// It did not become durable, as far as one knows.
    #[error("Отметка не записана, повторите попытку")]
    Unwritten,
    /// What was read so far does not say yet what stands.
    #[error("Журнал ещё загружается, повторите через несколько секунд")]
    Loading,
}

/// What became of an accepted click.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    UnderWay,
    Durable,
    Failed,
}

/// Numbers of clicks.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Accepted and durable.
    pub accepted: u64,
    /// Refused by a rule.
    pub refused: u64,
    /// Accepted, and not written.
    pub failed: u64,
    /// The last times from click to durable.
    pub times: VecDeque<Duration>,
}

/// Where accepted clicks go.
pub trait ClickLog: Send + 'static {
    /// Writes them, in their order, and waits until it is known what became of them.
    fn append(&mut self, clicks: &[Set]) -> Appended;
}

/// What became of clicks that were to be written.
#[derive(Debug)]
pub struct Appended {
    /// How many of them are durable: the first ones.
    pub durable: usize,
    /// Why others are not.
    pub failed: Option<Failed>,
}

/// Why clicks were not written.
#[derive(Debug)]
pub enum Failed {
    /// Those that come next may be.
    Once(Box<dyn Error + Send + Sync>),
    /// Nothing more can be written by this process.
    ForGood(Box<dyn Error + Send + Sync>),
}

/// Takes clicks.
pub struct Desk {
    timetable: Arc<Timetable>,
    people: Arc<RwLock<People>>,
    shown: Arc<Shown>,
    clock: Arc<Clock>,
    state: Mutex<State>,
    /// Something is to be written, or nothing more will be.
    written: Condvar,
    /// What the dataflow makes of an event.
    decoder: Mutex<Decoder>,
}

#[derive(Default)]
struct State {
    /// Accepted and not visible yet, by cell, oldest first.
    pending: HashMap<Cell, Vec<Set>>,
    remembered: HashMap<Uuid, (Set, watch::Receiver<Outcome>)>,
    /// Remembered, oldest first.
    order: VecDeque<Uuid>,
    queue: Vec<Queued>,
    tally: Tally,
    is_closed: bool,
}

struct Queued {
    set: Set,
    since: Instant,
    outcome: watch::Sender<Outcome>,
}

impl Desk {
    /// A desk over what is shown.
    pub fn new(
        spec: &Arc<Spec>,
        timetable: Arc<Timetable>,
        people: Arc<RwLock<People>>,
        shown: Arc<Shown>,
        clock: Arc<Clock>,
    ) -> Desk {
        let (state, written) = (Mutex::default(), Condvar::new());
        let decoder = Mutex::new(Decoder::new(Arc::clone(spec)));
        Desk { timetable, people, shown, clock, state, written, decoder }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    /// Takes a click that somebody makes now; returns once it is durable.
    ///
    /// # Errors
    /// When it is refused, or not durable.
    pub async fn click(&self, id: Uuid, click: &Click, person: Person) -> Result<Set, Unconfirmed> {
        let (set, mut outcome) = self.take(id, click, person)?;
        let known = outcome.wait_for(|outcome| *outcome != Outcome::UnderWay).await;
        match known.map(|outcome| *outcome) {
            Ok(Outcome::Durable) => Ok(set),
            _ => Err(Unconfirmed::Unwritten),
        }
    }

    fn take(
        &self,
        id: Uuid,
        click: &Click,
        person: Person,
    ) -> Result<(Set, watch::Receiver<Outcome>), Unconfirmed> {
        // People first, whoever takes both.
        let people = self.people.read().expect("nobody panics while holding it");
        let mut state = self.state();
        if let Some((set, outcome)) = state.remembered.get(&id) {
            let Set { cell, mark, marked_by, .. } = *set;
            let of_set = [
                i128::from(cell.journal),
                cell.student.into(),
                cell.lesson.into(),
                mark.into(),
                marked_by.into(),
            ];
            let is_same = said(of_set.map(Some)) == says(click, person)
                && set.certificate.map(i64::from) == click.certificate
                && click.date.is_none_or(|date| date == Some(set.cell.date));
            return match is_same {
                true => Ok((*set, outcome.clone())),
                false => Err(Unconfirmed::OtherClick),
            };
        }
        // One look at what stands, from here on: it may be forgotten, to be read anew.
        let shown = self.shown.standing();
        if !self.shown.is_live() {
            return Err(Unconfirmed::Loading);
        }
        let journals = self.timetable.now();
        if let Some(seen) = shown.events.get(&id) {
            let stands = standing_set(&shown, &journals, click);
            let stands = stands.filter(|_| seen.said == says(click, person));
            let (_, durable) = watch::channel(Outcome::Durable);
            return stands.map(|stands| (stands, durable)).ok_or(Unconfirmed::OtherClick);
        }
        let is_full = state.queue.len() >= WAITING_MAX || state.remembered.len() >= UNSEEN_MAX;
        if is_full || state.is_closed {
            return Err(Unconfirmed::Full);
        }
        let now = self.clock.now();
        let facts = AtDesk { shown: &shown, state: &state, people: &people, journals: &journals };
        let accepted = match rules::judge(click, person, now, &facts) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                state.tally.refused += 1;
                return Err(refusal.into());
            }
        };
        let set = set(&shown, &state, id, accepted, now);
        if !self.is_event(&set) {
            return Err(Unconfirmed::NoEvent);
        }
        drop(shown);
        Ok((set, self.enqueue(&mut state, set)))
    }

    /// Whether the dataflow takes it: what is out of a column's range would never be visible.
    fn is_event(&self, set: &Set) -> bool {
        let mut decoder = self.decoder.lock().expect("nobody panics while holding it");
        decoder.decode(&event(set)).is_ok()
    }

    fn enqueue(&self, state: &mut State, set: Set) -> watch::Receiver<Outcome> {
        let (outcome, hears) = watch::channel(Outcome::UnderWay);
        state.pending.entry(set.cell).or_default().push(set);
        state.remembered.insert(set.id, (set, hears.clone()));
        state.order.push_back(set.id);
        let mut looked = 0;
        while state.remembered.len() > REMEMBERED_MAX && looked < LOOKS_MAX {
            let Some(oldest) = state.order.pop_front() else { break };
            match state.remembered.get(&oldest) {
                // What is not visible yet is known by nobody else.
                Some((set, _)) if state.is_pending(set) => {
                    state.order.push_back(oldest);
                    looked += 1;
                }
                _ => drop(state.remembered.remove(&oldest)),
            }
        }
        state.queue.push(Queued { set, since: Instant::now(), outcome });
        self.written.notify_one();
        hears
    }

    /// Marks became visible, and events were refused, of which these are the bytes.
    pub fn hear(&self, marks: &[(Cell, Mark)], refused: &[&[u8]]) {
        let mut state = self.state();
        for (cell, mark) in marks {
            // What was made earlier never counts again.
            state.keep_pending(cell, |set| set.made > mark.made);
        }
        let known = refused.iter().filter_map(|bytes| state.set_of(bytes));
        let fallen: Vec<Set> = known.collect();
        for set in &fallen {
            warn!(id = %set.id, "a confirmed click was refused by the dataflow: see dead letters");
            state.remembered.remove(&set.id);
            state.keep_pending(&set.cell, |other| other.id != set.id);
        }
        state.order_what_is_remembered(!fallen.is_empty());
        drop(state);
        if !fallen.is_empty() {
            let cells = fallen.iter().map(|set| set.cell).collect();
            self.shown.tell(News::Confirmed(Arc::new(cells)));
        }
    }

    /// Of cells, what was confirmed there and is not visible yet.
    pub fn confirmed(&self, cells: impl Iterator<Item = Cell>) -> HashMap<Cell, Set> {
        let state = self.state();
        if state.pending.is_empty() {
            return HashMap::new();
        }
        let is_durable = |set: &&Set| {
            let known = state.remembered.get(&set.id);
            known.is_none_or(|(_, outcome)| *outcome.borrow() == Outcome::Durable)
        };
        let of_cell = |cell: Cell| {
            let set = state.pending.get(&cell)?.iter().rfind(is_durable)?;
            Some((cell, *set))
        };
        cells.filter_map(of_cell).collect()
    }

    /// Whether an event was accepted and is not visible yet.
    pub fn is_under_way(&self, id: Uuid) -> bool {
        self.state().remembered.contains_key(&id)
    }

    /// How many clicks were taken.
    pub fn tally(&self) -> Tally {
        self.state().tally.clone()
    }

    /// Writes what is accepted, on a thread of its own, until `close`; `lost` is called where
    /// nothing more can be written.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn write_to(
        self: &Arc<Desk>,
        mut log: impl ClickLog,
        lost: impl Fn(Box<dyn Error + Send + Sync>) + Send + 'static,
    ) -> std::io::Result<thread::JoinHandle<()>> {
        let desk = Arc::clone(self);
        thread::Builder::new().name("clicks".to_owned()).spawn(move || {
            while let Some(batch) = desk.next_batch() {
                let clicks: Vec<Set> = batch.iter().map(|queued| queued.set).collect();
                let Appended { durable, failed } = log.append(&clicks);
                desk.settle(batch, durable);
                desk.shown.wake();
                let cells: Vec<Cell> = clicks[..durable].iter().map(|set| set.cell).collect();
                if !cells.is_empty() {
                    desk.shown.tell(News::Confirmed(Arc::new(cells)));
                }
                match failed {
                    None => {}
                    Some(Failed::ForGood(error)) => {
                        desk.close();
                        lost(error);
                    }
                    Some(Failed::Once(error)) => {
                        tracing::error!(error, "clicks were not written");
                    }
                }
            }
        })
    }

    /// Takes no more clicks.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.written.notify_all();
    }

    fn next_batch(&self) -> Option<Vec<Queued>> {
        let mut state = self.state();
        while state.queue.is_empty() && !state.is_closed {
            state = self.written.wait(state).expect("nobody panics while holding it");
        }
        let batch = std::mem::take(&mut state.queue);
        (!batch.is_empty()).then_some(batch)
    }

    /// Says what became of a batch, of which so many are durable. Where others were not written,
    /// what was judged after them falls too.
    fn settle(&self, mut batch: Vec<Queued>, durable: usize) {
        let mut state = self.state();
        let is_short = durable < batch.len();
        if is_short {
            batch.append(&mut state.queue);
        }
        for (place, Queued { set, since, outcome }) in batch.into_iter().enumerate() {
            if place < durable {
                state.tally.accepted += 1;
                state.tally.times.push_back(since.elapsed());
                if state.tally.times.len() > TIMES_MAX {
                    state.tally.times.pop_front();
                }
                // Who asked may have gone away.
                let _ = outcome.send(Outcome::Durable);
            } else {
                state.tally.failed += 1;
                state.remembered.remove(&set.id);
                state.keep_pending(&set.cell, |other| other.id != set.id);
                let _ = outcome.send(Outcome::Failed);
            }
        }
        state.order_what_is_remembered(is_short);
    }
}

impl State {
    /// Whether a click was accepted and is not visible yet.
    fn is_pending(&self, set: &Set) -> bool {
        let pending = self.pending.get(&set.cell);
        pending.is_some_and(|pending| pending.iter().any(|other| other.id == set.id))
    }

    /// Of a cell's clicks that are not visible yet keeps those of which it is said.
    fn keep_pending(&mut self, cell: &Cell, is_kept: impl Fn(&Set) -> bool) {
        let Some(pending) = self.pending.get_mut(cell) else { return };
        pending.retain(is_kept);
        if pending.is_empty() {
            self.pending.remove(cell);
        }
    }

    /// The click of which these are the bytes.
    fn set_of(&self, bytes: &[u8]) -> Option<Set> {
        #[derive(Deserialize)]
        struct Id {
            #[serde(rename = "ID")]
            id: Uuid,
        }
        let Id { id } = serde_json::from_slice(bytes).ok()?;
        let (set, _) = self.remembered.get(&id)?;
        (event(set) == bytes).then_some(*set)
    }

    /// Has the order say no more than what is remembered, where some of it was forgotten.
    fn order_what_is_remembered(&mut self, is_forgotten: bool) {
        if is_forgotten {
            let State { order, remembered, .. } = self;
            order.retain(|id| remembered.contains_key(id));
        }
    }
}

/// What an accepted click sets: later than all that stood in its cell.
fn set(shown: &shown::Standing, state: &State, id: Uuid, accepted: Accepted, now: Moment) -> Set {
    let Accepted { journal, student, lesson, date, mark, certificate, marked_by, role } = accepted;
    let cell = Cell { journal, student, lesson, date };
    let before = newest(shown, state, &cell).map(|set| set.made);
    let next = before.map(|before| Moment::of_us(before.since_1970_us() + 1));
    let made = next.map_or(now, |next| next.max(now));
    Set { id, cell, mark, marked_by, role, certificate, made }
}

/// What stands in the cell of a click.
fn standing_set(shown: &shown::Standing, journals: &Journals, click: &Click) -> Option<Set> {
    let journal = u16::try_from(click.journal?).ok()?;
    let student = u32::try_from(click.student?).ok()?;
    let lesson = u64::try_from(click.lesson?).ok()?;
    let date = journals.journal(journal)?.lesson(lesson)?.date;
    let cell = Cell { journal, student, lesson, date };
    shown.marks.mark(&cell).and_then(|mark| of_mark(cell, mark))
}

/// What was set last in a cell, be it by a click here or by whoever else writes events.
fn newest(shown: &shown::Standing, state: &State, cell: &Cell) -> Option<Newest> {
    let pending = state.pending.get(cell).and_then(|pending| pending.last());
    let pending = pending.map(|set| Newest {
        standing: Standing { mark: set.mark, marked_by: set.marked_by, role: Some(set.role) },
        made: set.made,
    });
    let visible = shown.marks.mark(cell).map(|mark| {
        let role = mark.role.and_then(Role::of_number);
        let standing = Standing { mark: mark.mark, marked_by: mark.marked_by, role };
        Newest { standing, made: mark.made }
    });
    // Of equal ones the one that is not visible yet.
    visible.into_iter().chain(pending).max_by_key(|newest| newest.made)
}

/// What was set last in a cell, and when.
struct Newest {
    standing: Standing,
    made: Moment,
}

/// The facts, as one who judges at the desk sees them.
struct AtDesk<'d> {
    shown: &'d shown::Standing,
    state: &'d State,
    people: &'d People,
    journals: &'d Journals,
}

impl Facts for AtDesk<'_> {
    fn journal(&self, number: u16) -> Option<&Journal> {
        self.journals.journal(number)
    }

    fn belongs(&self, student: u32, journal: &Journal) -> bool {
        self.people.is_in(student, journal)
    }

    fn standing(&self, journal: u16, lesson: &Lesson, student: u32) -> Option<Standing> {
        let cell = Cell { journal, student, lesson: lesson.number, date: lesson.date };
        newest(self.shown, self.state, &cell).map(|newest| newest.standing)
    }
}

/// The mark that stands in a cell, as one that was set; `None` where its role is none of today's.
fn of_mark(cell: Cell, mark: &super::marks::Mark) -> Option<Set> {
    Some(Set {
        id: mark.id,
        cell,
        mark: mark.mark,
        marked_by: mark.marked_by,
        role: Role::of_number(mark.role?)?,
        certificate: mark.certificate,
        made: mark.made,
    })
}

/// What a click says, as `shown::said` puts it.
fn says(click: &Click, person: Person) -> u64 {
    let number = match person {
        Person::Student(number) => Some(number),
        Person::Teacher(number) | Person::Deanery(number) => number,
    };
    let asked = [click.journal, click.student, click.lesson, click.mark, number.map(i64::from)];
    said(asked.map(|number| number.map(i128::from)))
}

/// The event of a click, as the journal writes it.
pub(super) fn event(set: &Set) -> Vec<u8> {
    let Set { id, cell, mark, marked_by, role, certificate, made } = set;
    let Cell { journal, student, lesson, date } = cell;
    let certificate = certificate.map_or(String::new(), |n| format!(r#","NUMBER_CERT":{n}"#));
    let role = *role as u8;
    format!(
        "{{\"JOURNAL_ID\":{journal},\"STUDENT_ID\":{student},\"LESSON_ID\":{lesson},\
         \"LESSON_DATE\":\"{date}\",\"ATTENDANCE_MARK\":{mark},\"MARKED_BY\":{marked_by},\
         \"ID\":\"{id}\",\"DATE_CREATE\":\"{made}\",\"TYPE_MARK\":0,\"MARKED_BY_ROLE\":{role}\
         {certificate}}}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests;
