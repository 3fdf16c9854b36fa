//! What is shown: the marks that count, the newest records, dead letters, and news of them.
//!
//! Shape: sealed epochs in (`ShownSink`); what stands, and news to whoever watches, out.
//!
//! Invariants: an epoch becomes visible as a whole, on a dataflow of one worker; news of an epoch
//! go out after it is visible; memory is that of the marks and IDs, and of `RECORDS_MAX` records
//! and `LETTERS_MAX` dead letters beside them.
//!
//! Not here: who may click (`desk`), how boards add up (`boards`).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::Thread,
};

use hashbrown::HashMap;
use serde_json::value::RawValue;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::marks::{Cell, Mark, Marks, Taken};
use crate::{
    dataflow::{After, RecordChange},
    row::{ColumnId, Joined, Key, Value},
    sink::{Sealed, Sink, SinkError, render::Renderer},
    source::{DeadLetter, Input, PartitionId, Reason, Vector},
    spec::{Spec, ViewId, ViewKind},
    time::{Epoch, Frontier},
};

/// Most records of the live tail that are held; about a kilobyte each, two with what was before.
pub(super) const RECORDS_MAX: usize = 500;

/// Most dead letters that are held; the files hold all.
pub(super) const LETTERS_MAX: usize = 1_000;

/// Most bytes of one that are held; the file holds the rest, at its line.
pub(super) const LETTER_BYTES_MAX: usize = 4_096;

/// Most cells that one piece of news names; whoever hears of more looks anew.
pub(super) const CELLS_MAX: usize = 100;

/// News that who is slow may be behind before it has to look anew.
const NEWS_MAX: usize = 1_024;

/// What happened.
#[derive(Clone, Debug)]
pub enum News {
    /// An epoch became visible.
    Epoch(Arc<EpochNews>),
    /// Clicks were confirmed in these cells, and are not visible yet.
    Confirmed(Arc<Vec<Cell>>),
    /// A person's document was changed.
    Person(Arc<str>),
    /// The clock was set.
    Clock,
}

/// What an epoch changed.
#[derive(Clone, Debug)]
pub struct EpochNews {
    /// Its label.
    pub epoch: Epoch,
    /// The cells in which another mark counts now.
    pub cells: Vec<Cell>,
    /// Whether there are more of them than are named.
    pub more: bool,
    /// How many records say something else of the people in them.
    pub corrected: u64,
}

/// An event that is visible.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// With which epoch it became so.
    pub epoch: Epoch,
    /// What it says, by `said`.
    pub said: u64,
}

/// The columns that make up what a click says.
pub(super) const SAID: [&str; 5] =
    ["JOURNAL_ID", "STUDENT_ID", "LESSON_ID", "ATTENDANCE_MARK", "MARKED_BY"];

/// A hash of what a click says, in the order of `SAID`.
pub fn said(numbers: [Option<i128>; 5]) -> u64 {
    let mut bytes = Vec::with_capacity(50);
    Key::append(numbers.map(|number| number.map(Value::Integer)), &mut bytes);
    Key::hash_of_bytes(&bytes)
}

/// A record of the live tail.
#[derive(Clone, Debug)]
pub struct TailRecord {
    /// Grows with each record; from 1 on.
    pub sequence: u64,
    /// With which epoch it became visible.
    pub epoch: Epoch,
    /// The event, where its key is a UUID.
    pub id: Option<Uuid>,
    /// Whether the event is new; else something else is known of the people in it.
    pub is_new: bool,
    /// What stood there, where that is known; `None` of a new event.
    pub before: Option<Arc<RawValue>>,
    /// What stands there.
    pub after: Arc<RawValue>,
}

/// A dead letter that is held.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Grows with each; from 1 on.
    pub number: u64,
    /// The file of events, or topic and partition.
    pub input: Box<str>,
    /// The line there, or the offset; from 0.
    pub line: u64,
    /// Why it is no event.
    pub reason: Box<str>,
    /// The column at fault.
    pub column: Option<String>,
    /// How many bytes it had.
    pub size: usize,
    /// Its begin.
    pub bytes: Box<[u8]>,
}

/// What stands.
#[derive(Default)]
pub struct Standing {
    /// The last epoch that changed something.
    pub epoch: Epoch,
    /// The marks that count.
    pub marks: Marks,
    /// The events that are visible, by ID.
    pub events: HashMap<Uuid, Seen>,
    /// The newest records, oldest first.
    pub tail: VecDeque<TailRecord>,
    /// The newest dead letters, oldest first.
    pub letters: VecDeque<Letter>,
    /// How many there were, by reason.
    pub letter_counts: BTreeMap<Box<str>, u64>,
    /// Rows of views of counts, by view: as JSON, and how often each stands.
    pub counts: BTreeMap<ViewId, HashMap<Box<str>, isize>>,
    /// Up to where the inputs are held.
    pub vector: Vector,
    /// Rows that wait for corrections.
    pub waiting: u64,
    /// How many records came to the tail, and dead letters, held or not.
    pub(super) records: u64,
    pub(super) letters_ever: u64,
}

impl Standing {
    /// How many dead letters there were, held or not.
    pub fn letters_ever(&self) -> u64 {
        self.letters_ever
    }

    /// Takes a record of the tail; its number is given here.
    pub(super) fn push_record(&mut self, record: TailRecord) {
        self.records += 1;
        self.tail.push_back(TailRecord { sequence: self.records, ..record });
        if self.tail.len() > RECORDS_MAX {
            self.tail.pop_front();
        }
    }

    /// Takes a dead letter; its number is given here.
    pub(super) fn push_letter(&mut self, letter: Letter) {
        *self.letter_counts.entry(letter.reason.clone()).or_default() += 1;
        self.letters_ever += 1;
        self.letters.push_back(Letter { number: self.letters_ever, ..letter });
        if self.letters.len() > LETTERS_MAX {
            self.letters.pop_front();
        }
    }

    /// How many lines of the events file are held.
    pub fn event_lines(&self) -> u64 {
        self.lines(Input::Events(PartitionId(0)))
    }

    /// How many lines of an input are held.
    pub fn lines(&self, input: Input) -> u64 {
        self.vector.get(&input).map_or(0, |bound| bound.offset)
    }
}

/// What is shown, to all who look.
pub struct Shown {
    standing: RwLock<Standing>,
    news: broadcast::Sender<News>,
    /// Set once the history was read: from then on records go to the tail.
    is_live: AtomicBool,
    /// The engine's thread, to wake when something came.
    worker: Mutex<Option<Thread>>,
    /// How much there was at the start, and how much of it was read.
    history: AtomicU64,
    read: AtomicU64,
    /// By partition of a topic of events, up to where events must be visible.
    expected: Mutex<Vec<u64>>,
}

impl Default for Shown {
    fn default() -> Shown {
        Shown {
            standing: RwLock::default(),
            news: broadcast::Sender::new(NEWS_MAX),
            is_live: AtomicBool::new(false),
            worker: Mutex::new(None),
            history: AtomicU64::new(0),
            read: AtomicU64::new(0),
            expected: Mutex::default(),
        }
    }
}

impl Shown {
    /// What stands now; nothing changes as long as it is looked at.
    pub fn standing(&self) -> RwLockReadGuard<'_, Standing> {
        self.standing.read().expect("no sink panics while it writes, for that ends the process")
    }

    /// Changes what stands, as a whole: nobody sees a part of it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> T {
        change(&mut self.standing.write().expect("nobody panics while changing what stands"))
    }

    /// Hears news from now on.
    pub fn watch(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.news.receiver_count()
    }

    /// Tells whoever watches.
    pub fn tell(&self, news: News) {
        // Nobody may be watching.
        let _ = self.news.send(news);
    }

    /// Has the engine look at its inputs at once.
    pub fn wake(&self) {
        let worker = self.worker.lock().expect("nobody panics while holding it");
        if let Some(worker) = &*worker {
            worker.unpark();
        }
    }

    /// So much is history, which was there before; nothing of it was read yet.
    pub fn expect_history(&self, history: u64) {
        self.history.store(history, Ordering::Relaxed);
        self.read.store(0, Ordering::Relaxed);
        self.is_live.store(history == 0, Ordering::Relaxed);
    }

    /// Nothing is judged by what stands until it is live again.
    pub(super) fn stop(&self) {
        // Whoever looks at it just now has done so first.
        self.change(|_| self.is_live.store(false, Ordering::Relaxed));
    }

    /// All is read anew, so much there is; what stands is forgotten.
    pub(super) fn read_anew(&self, history: u64, letters_ever: u64) {
        self.change(|standing| {
            // Whoever looks at what stands finds it whole, or that it is not live.
            self.is_live.store(false, Ordering::Relaxed);
            let records = standing.records;
            *standing = Standing { records, letters_ever, ..Standing::default() };
        });
        self.history.store(history, Ordering::Relaxed);
        self.read.store(0, Ordering::Relaxed);
    }

    /// Nothing is to be judged before the events of a topic are visible up to these offsets.
    pub(super) fn expect_events(&self, ends: Vec<u64>) {
        let mut expected = self.expected.lock().expect("nobody panics while holding it");
        self.stop();
        let partitions = ends.len().max(expected.len());
        expected.resize(partitions, 0);
        expected.iter_mut().zip(ends).for_each(|(expected, end)| *expected = end.max(*expected));
    }

    /// Goes live, if the events that were waited for are still these.
    pub(super) fn go_live_with(&self, ends: &[u64]) {
        let expected = self.expected.lock().expect("nobody panics while holding it");
        if *expected != ends {
            return;
        }
        self.is_live.store(true, Ordering::Relaxed);
        // What changed meanwhile was told to nobody.
        let (epoch, cells) = (self.standing().epoch, Vec::new());
        self.tell(News::Epoch(Arc::new(EpochNews { epoch, cells, more: true, corrected: 0 })));
    }

    /// Up to where the events of a topic are waited for.
    pub(super) fn expected_events(&self) -> Vec<u64> {
        self.expected.lock().expect("nobody panics while holding it").clone()
    }

    /// So much of the history was read.
    pub fn read_history(&self, read: u64) {
        self.read.store(read, Ordering::Relaxed);
    }

    /// All of the history was read.
    pub fn go_live(&self) {
        self.is_live.store(true, Ordering::Relaxed);
    }

    /// Whether the history was read.
    pub fn is_live(&self) -> bool {
        self.is_live.load(Ordering::Relaxed)
    }

    /// Which share of the history was read.
    pub fn share(&self) -> f64 {
        let number = |number: &AtomicU64| number.load(Ordering::Relaxed) as f64;
        match self.is_live() {
            true => 1.0,
            false => (number(&self.read) / number(&self.history).max(1.0)).min(1.0),
        }
    }
}

/// Hears of marks that became visible, and of the bytes of dead letters.
pub type Heard = Box<dyn Fn(&[(Cell, Mark)], &[&[u8]]) + Send + Sync>;

/// Takes sealed epochs and shows them.
pub struct ShownSink {
    spec: Arc<Spec>,
    renderer: Renderer,
    shown: Arc<Shown>,
    heard: Heard,
    /// The key of events, and the columns of `SAID`.
    key: [ColumnId; 1],
    said: [ColumnId; 5],
    json: Vec<u8>,
}

impl ShownSink {
    /// The sink of the one worker, on whose thread this is called; `heard` hears of each mark that
    /// became visible and of dead letters.
    pub fn new(spec: &Arc<Spec>, shown: Arc<Shown>, heard: Heard) -> ShownSink {
        let worker = std::thread::current();
        *shown.worker.lock().expect("nobody panics while holding it") = Some(worker);
        let column = |name: &str| {
            let place = spec.events.columns.iter().position(|column| column.name == name);
            ColumnId(place.expect("the spec was held against what is needed") as u16)
        };
        ShownSink {
            key: [spec.events.key],
            said: SAID.map(column),
            renderer: Renderer::new(Arc::clone(spec)),
            spec: Arc::clone(spec),
            shown,
            heard,
            json: Vec::new(),
        }
    }

    fn raw(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Arc<RawValue> {
        self.json.clear();
        write(&mut self.json);
        let text = String::from_utf8(self.json.clone()).expect("JSON is text");
        RawValue::from_string(text).expect("what is rendered is JSON").into()
    }

    fn record(&mut self, standing: &mut Standing, epoch: Epoch, change: &RecordChange<'_>) {
        let event = change.after.event();
        let id = match self.spec.event_values(event, &self.key).next() {
            Some(Some(Value::Uuid(id))) => Some(Uuid::from_bytes(id)),
            _ => None,
        };
        if let (None, Some(id)) = (&change.before, id) {
            let mut numbers = self.spec.event_values(event, &self.said).map(|value| match value {
                Some(Value::Integer(number)) => Some(number),
                _ => None,
            });
            let said = said(std::array::from_fn(|_| numbers.next().flatten()));
            standing.events.insert(id, Seen { epoch, said });
        }
        if !self.shown.is_live() {
            return;
        }
        let before = change.before.as_ref().map(|before| self.raw(|out| before.json(out)));
        let after = self.raw(|out| change.after.json(out));
        let is_new = change.before.is_none();
        standing.push_record(TailRecord { sequence: 0, epoch, id, is_new, before, after });
    }

    fn letter(&self, standing: &mut Standing, letter: &DeadLetter) {
        let reason: Reason = letter.refusal.reason;
        let column = letter.refusal.column;
        let column = column.map(|id| self.spec.events.columns[usize::from(id.0)].name.clone());
        standing.push_letter(Letter {
            number: 0,
            input: "events.ndjson".into(),
            line: letter.place.offset,
            reason: reason.name().into(),
            column,
            size: letter.size,
            bytes: letter.bytes[..letter.bytes.len().min(LETTER_BYTES_MAX)].into(),
        });
    }
}

/// The columns of events of which a journal shows something.
const NEEDED: [&str; 8] = [
    "ID",
    "JOURNAL_ID",
    "STUDENT_ID",
    "LESSON_ID",
    "LESSON_DATE",
    "ATTENDANCE_MARK",
    "MARKED_BY",
    "DATE_CREATE",
];

/// What a dataflow lacks that a journal shows; `None` where it has all.
pub fn lacking(spec: &Spec) -> Option<String> {
    let columns = &spec.events.columns;
    let has = |name: &&&str| columns.iter().any(|column| column.name == **name);
    if let Some(name) = NEEDED.iter().find(|name| !has(name)) {
        return Some(format!("its events have no column {name}"));
    }
    if !spec.views.iter().any(|view| matches!(view.kind, ViewKind::Enriched)) {
        return Some("it has no view of all records".to_owned());
    }
    let latest = spec.views.iter().find_map(|view| match &view.kind {
        ViewKind::Latest { key, .. } => Some(key),
        _ => None,
    });
    let Some(key) = latest else { return Some("it has no view of the latest records".to_owned()) };
    let mut key: Vec<&str> =
        key.iter().map(|column| &*columns[usize::from(column.0)].name).collect();
    key.sort_unstable();
    let wanted = ["JOURNAL_ID", "LESSON_DATE", "LESSON_ID", "STUDENT_ID"];
    let what = "its latest view has another key than journal, student, lesson and its day";
    (key != wanted).then(|| what.to_owned())
}

/// The latest view of which a journal shows the cells.
pub(super) fn is_latest(spec: &Spec, view: ViewId) -> bool {
    let first = spec.views.iter().position(|view| matches!(view.kind, ViewKind::Latest { .. }));
    first == Some(usize::from(view.0))
}

impl Sink for ShownSink {
    fn write(&mut self, sealed: Sealed<'_>) -> Result<(), SinkError> {
        let Sealed { epoch, records, counts, dead_letters, after } = sealed;
        let shown = Arc::clone(&self.shown);
        let mut standing = shown.standing.write().expect("no other writer, and readers only look");
        let mut cells = Vec::new();
        let mut corrected = 0;
        for change in records.changes(epoch) {
            match change.latest {
                None => self.record(&mut standing, epoch, &change),
                Some(view) if is_latest(&self.spec, view) => {
                    self.json.clear();
                    change.after.json(&mut self.json);
                    let taken = standing.marks.take(&self.json);
                    let (cell, taken) = taken.expect("the spec was held against what is needed");
                    match taken {
                        Taken::Marked => cells.push(cell),
                        Taken::Corrected => corrected += 1,
                    }
                }
                Some(_) => {}
            }
        }
        for (row, diff) in counts {
            let mut json = Vec::new();
            self.renderer.counts(row, &mut json);
            let json = String::from_utf8(json).expect("JSON is text").into_boxed_str();
            let rows = standing.counts.entry(row.view).or_default();
            let times = rows.entry_ref(&*json).or_default();
            *times += diff;
            if *times == 0 {
                rows.remove(&json);
            }
        }
        dead_letters.iter().for_each(|letter| self.letter(&mut standing, letter));
        if let Some(After { vector, waiting_rows, .. }) = after {
            standing.vector.clone_from(vector);
            standing.waiting = waiting_rows;
        }
        standing.epoch = epoch;
        shown.read_history(standing.event_lines());
        if !shown.is_live() && standing.event_lines() >= shown.history.load(Ordering::Relaxed) {
            shown.go_live();
        }
        let marks = cells.iter().filter_map(|cell| Some((*cell, *standing.marks.mark(cell)?)));
        let marks: Vec<(Cell, Mark)> = marks.collect();
        drop(standing);
        let refused: Vec<&[u8]> = dead_letters.iter().map(|letter| &*letter.bytes).collect();
        (self.heard)(&marks, &refused);
        let more = cells.len() > CELLS_MAX;
        cells.truncate(CELLS_MAX);
        shown.tell(News::Epoch(Arc::new(EpochNews { epoch, cells, more, corrected })));
        Ok(())
    }

    fn advance(&mut self, _frontier: Frontier) -> Result<(), SinkError> {
        Ok(())
    }
}
