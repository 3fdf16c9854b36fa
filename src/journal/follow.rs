//! Following: what a cluster writes, as it stands in topics, shown like what an engine inside does.
//!
//! Shape: the topics of enriched records, of the latest view, of the reference log and of dead
//! letters in; what stands, people, and news of both, out.
//!
//! Invariants: only committed records are seen. Each record is shown as soon as it comes; that
//! everything up to an epoch is shown is said (`Standing::epoch`) once the ends are passed that the
//! topics had after all shards had committed it. Clicks are judged only while every event that
//! stood in its topic when it was taken over is visible (`Shown::expect_events`). What is no record
//! of its view is counted, told and left out.
//!
//! Not here: clicks (`desk`, `events`).

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    marks::{Cell, Mark, Taken as Change},
    people::People,
    shown::{
        CELLS_MAX, EpochNews, Heard, LETTER_BYTES_MAX, LETTERS_MAX, Letter, News, RECORDS_MAX,
        Seen, Shown, Standing, TailRecord, is_latest, said,
    },
};
use crate::{
    kafka::{Asker, Kafka, KafkaError, Next, PartitionReader, Readers, Taken},
    progress::{FrontierError, Passing, Progressing, Read, epoch_of},
    spec::{Spec, ViewId, ViewKind},
    time::Epoch,
};

/// Most records that are taken of a partition at once: while they are shown nobody looks.
const RECORDS_A_TURN: usize = 1_000;

/// Most people whose change is told by name at once; else everyone looks anew.
const PEOPLE_TOLD_MAX: usize = 100;

/// Between looks at what has come; what comes wakes it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Between questions where the topics end.
const BETWEEN_PASSINGS: Duration = Duration::from_millis(200);

/// Between looks whether a topic was made anew.
const BETWEEN_IDENTITIES: Duration = Duration::from_secs(10);

/// Between words how far it is with what was there before.
const BETWEEN_WORDS: Duration = Duration::from_secs(10);

/// Between tries of what failed.
const BETWEEN_TRIES: Duration = Duration::from_secs(2);

/// How often the client tells up to where it has fetched, in ms.
const BETWEEN_WORDS_MS: &str = "50";

/// How long the end of a partition may be made of ends of transactions alone, which are no records.
const MARKERS_PATIENCE: Duration = Duration::from_secs(2);

/// What is followed.
pub struct Follow {
    /// The dataflow.
    pub spec: Arc<Spec>,
    /// Its brokers.
    pub kafka: Kafka,
    /// The topics of its events and of its reference log.
    pub events: String,
    /// See there.
    pub reference: String,
    /// What is shown.
    pub shown: Arc<Shown>,
    /// People.
    pub people: Arc<RwLock<People>>,
    /// Hears of each mark that became visible.
    pub heard: Heard,
    /// When it was seen last, in ms since it began, for who watches whether it is stuck.
    pub seen: AtomicU64,
    /// Since when.
    pub begun: Instant,
}

/// Why topics cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The brokers failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The dataflow's progress cannot be read.
    #[error(transparent)]
    Frontier(#[from] FrontierError),
    /// A topic is not there.
    #[error("topic \"{topic}\" is not there: `tributary init` makes it")]
    NoTopic {
        /// The topic.
        topic: String,
    },
    /// A topic was made anew: what was read of it says nothing of what stands there now.
    #[error("topic \"{topic}\" was made anew")]
    OtherTopic {
        /// The topic.
        topic: String,
    },
    /// The spec has no such view.
    #[error("the spec has no view that a journal shows: one of all records, one of the latest")]
    NoViews,
}

/// What a partition is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Records,
    Latest,
    Letters,
    Documents,
}

/// A partition on its way.
struct Part {
    kind: Kind,
    reader: PartitionReader,
    read: Read,
    from: u64,
}

/// A record that came, of some kind.
struct Came {
    kind: Kind,
    partition: u32,
    offset: u64,
    epoch: Option<Epoch>,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    letter: Option<Letter>,
}

/// Since when the engine holds no more events than that, while more are waited for.
struct Waiting {
    held: Vec<u64>,
    since: Instant,
}

/// What a turn changed.
#[derive(Default)]
struct Changed {
    epoch: Epoch,
    cells: Vec<Cell>,
    is_all: bool,
    corrected: u64,
    refused: u64,
}

/// What a record says of its event.
#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Event {
    journal_id: i128,
    student_id: i128,
    lesson_id: i128,
    attendance_mark: i128,
    marked_by: i128,
}

impl Follow {
    /// Follows until it is to end. What fails is begun anew, and everything is read again then.
    pub fn run(&self, end: &AtomicBool) {
        while !end.load(Ordering::Relaxed) {
            if let Err(error) = self.follow(end) {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(cause, "reads all topics anew: {error}");
                let until = Instant::now() + BETWEEN_TRIES;
                while Instant::now() < until && !end.load(Ordering::Relaxed) {
                    self.be_seen();
                    thread::sleep(BETWEEN_LOOKS);
                }
            }
        }
    }

    fn be_seen(&self) {
        self.seen.store(self.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Since when it was not seen.
    pub fn unseen(&self) -> Duration {
        self.begun.elapsed() - Duration::from_millis(self.seen.load(Ordering::Relaxed))
    }

    fn view(&self, is_wanted: impl Fn(usize) -> bool) -> Result<String, FollowError> {
        let place = (0..self.spec.views.len()).find(|place| is_wanted(*place));
        let view = &self.spec.views[place.ok_or(FollowError::NoViews)?];
        Ok(format!("{}_{}", self.spec.name, view.name))
    }

    /// The topics, each with what is in it.
    fn topics(&self) -> Result<Vec<(Kind, String)>, FollowError> {
        let is_enriched = |place: usize| matches!(self.spec.views[place].kind, ViewKind::Enriched);
        let latest = |place: usize| is_latest(&self.spec, ViewId(place as u16));
        Ok(vec![
            // A new event before what it changes.
            (Kind::Records, self.view(is_enriched)?),
            (Kind::Latest, self.view(latest)?),
            (Kind::Letters, format!("{}_dead_letters", self.spec.name)),
            (Kind::Documents, self.reference.clone()),
        ])
    }

    fn follow(&self, end: &AtomicBool) -> Result<(), FollowError> {
        let asker = self.kafka.asker()?;
        let topics = self.topics()?;
        let identities = identities(&asker, &topics)?;
        let (readers, mut parts) = self.begin(&asker, &topics, &identities)?;
        let ends: Vec<u64> = parts
            .iter()
            .map(|part| asker.extent(part.reader.topic(), part.reader.partition()).map(|e| e.1))
            .collect::<Result<_, _>>()?;
        let history = parts.iter().zip(&ends).map(|(part, end)| end - part.from).sum();
        self.forget(history, &parts);
        let mut progress = Progressing::new(&self.kafka, &self.spec.name, self.spec.shards)?;
        let (committed, mut passing) = (AtomicU64::new(0), None::<Passing>);
        let (mut next_passing, mut next_look) = (Instant::now(), Instant::now());
        let mut next_word = Instant::now() + BETWEEN_WORDS;
        let mut waiting = None::<Waiting>;
        let mut refused = 0;
        info!(topics = topics.len(), records = history, "follows the outputs of the dataflow");
        while !end.load(Ordering::Relaxed) {
            self.be_seen();
            readers.serve()?;
            let fetched = passing.as_ref().map(|p| p.fetched(&readers, readers_of(&parts)));
            let came = take(&mut parts)?;
            let is_idle = came.is_empty();
            if let (Some(passing), Some(fetched)) = (&mut passing, fetched) {
                passing.took(&fetched, parts.iter().map(|part| part.read));
            }
            self.show(came, &mut refused);
            progress.take(&committed)?;
            if !self.shown.is_live() {
                let read = parts.iter().map(|part| part.read.next.saturating_sub(part.from)).sum();
                self.shown.read_history(read);
                if Instant::now() >= next_word {
                    next_word = Instant::now() + BETWEEN_WORDS;
                    info!(
                        share = format!("{:.0} %", self.shown.share() * 100.0),
                        "reads the topics"
                    );
                }
            }
            passing = passing.filter(|passing| !passing.is_over());
            if let Some(epoch) = passing.as_ref().filter(|p| p.is_passed()).map(Passing::epoch) {
                passing = None;
                self.shown.change(|standing| standing.epoch = standing.epoch.max(epoch));
            }
            let is_behind = committed.load(Ordering::Relaxed) > self.shown.standing().epoch;
            if passing.is_none() && is_behind && Instant::now() >= next_passing {
                next_passing = Instant::now() + BETWEEN_PASSINGS;
                let epoch = committed.load(Ordering::Relaxed);
                passing = Passing::begin(epoch, &asker, readers_of(&parts));
            }
            if !self.shown.is_live() && passing.is_none() && !is_behind {
                self.look_whether_live(&progress, &mut waiting)?;
            }
            if Instant::now() >= next_look {
                next_look = Instant::now() + BETWEEN_IDENTITIES;
                self.look_at_topics(&asker, &topics, &identities)?;
            }
            if is_idle {
                thread::park_timeout(BETWEEN_LOOKS);
            }
        }
        Ok(())
    }

    /// Begins to read the topics: of dead letters the newest, of all else everything.
    fn begin(
        &self,
        asker: &Asker,
        topics: &[(Kind, String)],
        identities: &[(String, u32)],
    ) -> Result<(Readers, Vec<Part>), FollowError> {
        let (mut places, mut kinds) = (Vec::new(), Vec::new());
        for ((kind, topic), (_, partitions)) in topics.iter().zip(identities) {
            for partition in 0..*partitions {
                let (begin, end) = asker.extent(topic, partition)?;
                let from = match kind {
                    Kind::Letters => begin.max(end.saturating_sub(LETTERS_MAX as u64)),
                    _ => begin,
                };
                places.push((topic.clone(), partition, from));
                kinds.push((*kind, from));
            }
        }
        let follower = thread::current();
        let words = Some(BETWEEN_WORDS_MS);
        let (readers, partitions) =
            self.kafka.read_and_tell(&places, words, move || follower.unpark())?;
        let part = |((kind, from), reader)| {
            let read = Read { next: from, is_drained: false };
            Part { kind, reader, read, from }
        };
        Ok((readers, kinds.into_iter().zip(partitions).map(part).collect()))
    }

    /// Forgets what was shown: all is read anew.
    fn forget(&self, history: u64, parts: &[Part]) {
        // Of letters that are not read it is known how many there may be.
        let letters = parts.iter().filter(|part| part.kind == Kind::Letters);
        let letters_ever = letters.map(|part| part.from).sum();
        self.shown.read_anew(history);
        self.shown.change(|standing| {
            let records = standing.records;
            *standing = Standing { records, letters_ever, ..Standing::default() };
        });
        *self.people.write().expect("nobody panics while changing people") =
            People::new(Arc::clone(&self.spec));
    }

    /// Goes live once all is visible that stood in the topic of events when it was taken over: the
    /// least vector of all shards is that of the epoch up to which everything is shown.
    fn look_whether_live(
        &self,
        progress: &Progressing,
        waiting: &mut Option<Waiting>,
    ) -> Result<(), FollowError> {
        let expected = self.shown.expected_events();
        let held = progress.held();
        let at = |place: usize| held.get(place).copied().unwrap_or(0);
        let ahead: Vec<(String, u32, u64)> = expected
            .iter()
            .enumerate()
            .filter(|(place, end)| at(*place) < **end)
            .map(|(place, _)| (self.events.clone(), place as u32, at(place)))
            .collect();
        if !ahead.is_empty() {
            if waiting.as_ref().is_none_or(|waiting| waiting.held != held) {
                *waiting = Some(Waiting { held, since: Instant::now() });
            }
            let stands = waiting.as_ref().is_some_and(|w| w.since.elapsed() >= MARKERS_PATIENCE);
            if !stands {
                return Ok(());
            }
            *waiting = None;
            // Offsets count the ends of transactions too: what is held may be all that there is.
            let first = self.kafka.first_at(&ahead)?;
            let missing = first.iter().zip(&ahead).filter(|(first, (_, partition, _))| {
                let end = expected[*partition as usize];
                first.as_ref().is_some_and(|record| record.offset < end)
            });
            let missing = missing.count();
            if missing > 0 {
                info!(partitions = missing, "waits for the engine to show events: does it run?");
                return Ok(());
            }
        }
        self.shown.go_live_with(&expected);
        if self.shown.is_live() {
            let marks = self.shown.standing().marks.len();
            info!(marks, "takes clicks");
        }
        Ok(())
    }

    fn look_at_topics(
        &self,
        asker: &Asker,
        topics: &[(Kind, String)],
        known: &[(String, u32)],
    ) -> Result<(), FollowError> {
        // Brokers that do not answer keep nobody from reading on.
        let Ok(now) = identities(asker, topics) else { return Ok(()) };
        match now.iter().zip(known).position(|(now, known)| now != known) {
            Some(other) => Err(FollowError::OtherTopic { topic: topics[other].1.clone() }),
            None => Ok(()),
        }
    }

    /// Shows what came, and tells of it.
    fn show(&self, came: Vec<Came>, refused: &mut u64) {
        if came.is_empty() {
            return;
        }
        let is_live = self.shown.is_live();
        let (documents, outputs): (Vec<Came>, Vec<Came>) =
            came.into_iter().partition(|came| came.kind == Kind::Documents);
        let mut changed = Changed::default();
        let marks: Vec<(Cell, Mark)> = self.shown.change(|standing| {
            let records = outputs.iter().filter(|came| came.kind == Kind::Records).count();
            // Of many only the last stay in the tail.
            let mut skipped = if is_live { records.saturating_sub(RECORDS_MAX) } else { records };
            for came in outputs {
                match came.kind {
                    Kind::Records => changed.record(standing, &came, &mut skipped),
                    Kind::Latest => changed.latest(standing, &came),
                    _ => came.letter.into_iter().for_each(|letter| standing.push_letter(letter)),
                }
            }
            changed
                .cells
                .iter()
                .filter_map(|cell| Some((*cell, *standing.marks.mark(cell)?)))
                .collect()
        });
        (self.heard)(&marks);
        let people = self.take_documents(&documents);
        let Changed { epoch, mut cells, is_all, corrected, refused: more } = changed;
        if more > 0 {
            *refused += more;
            warn!(refused, "left out: no records of their views; look who writes there");
        }
        if !is_live {
            return;
        }
        let more = is_all || cells.len() > CELLS_MAX || people.len() > PEOPLE_TOLD_MAX;
        cells.truncate(CELLS_MAX);
        if more || !cells.is_empty() || corrected > 0 || epoch > 0 {
            self.shown.tell(News::Epoch(Arc::new(EpochNews { epoch, cells, more, corrected })));
        }
        if people.len() <= PEOPLE_TOLD_MAX {
            people.into_iter().for_each(|id| self.shown.tell(News::Person(id.into())));
        }
    }

    fn take_documents(&self, documents: &[Came]) -> Vec<Box<str>> {
        if documents.is_empty() {
            return Vec::new();
        }
        let mut people = self.people.write().expect("nobody panics while changing people");
        let taken =
            documents.iter().map(|came| people.take_record(&came.key, came.value.as_deref()));
        taken.flatten().collect()
    }
}

fn readers_of(parts: &[Part]) -> impl Iterator<Item = &PartitionReader> {
    parts.iter().map(|part| &part.reader)
}

/// Identity and number of partitions of each topic.
fn identities(asker: &Asker, topics: &[(Kind, String)]) -> Result<Vec<(String, u32)>, FollowError> {
    let names: Vec<String> = topics.iter().map(|(_, topic)| topic.clone()).collect();
    let found = asker.identities(&names)?;
    let of = |topic: String| {
        let known = found.iter().find(|(name, _, _)| *name == topic);
        let known = known.map(|(_, id, partitions)| (id.clone(), *partitions));
        known.ok_or(FollowError::NoTopic { topic })
    };
    names.into_iter().map(of).collect()
}

/// Takes what was fetched, of each partition so much.
fn take(parts: &mut [Part]) -> Result<Vec<Came>, KafkaError> {
    let mut came = Vec::new();
    for Part { kind, reader, read, .. } in parts {
        let partition = reader.partition();
        read.is_drained = false;
        for _ in 0..RECORDS_A_TURN {
            match reader.look()? {
                Next::Nothing => {
                    read.is_drained = true;
                    break;
                }
                Next::End => {}
                Next::Record(taken) => {
                    read.next = taken.offset() + 1;
                    came.push(Came::of(*kind, partition, &taken));
                }
            }
        }
    }
    Ok(came)
}

impl Came {
    fn of(kind: Kind, partition: u32, taken: &Taken<'_>) -> Came {
        let is_letter = kind == Kind::Letters;
        Came {
            kind,
            partition,
            offset: taken.offset(),
            epoch: epoch_of(taken),
            key: taken.key().unwrap_or_default().to_vec(),
            value: taken.value().filter(|_| !is_letter).map(<[u8]>::to_vec),
            letter: is_letter.then(|| letter(partition, taken)),
        }
    }
}

/// A dead letter, as its headers say.
fn letter(partition: u32, taken: &Taken<'_>) -> Letter {
    let text = |name: &str| {
        let text = taken.header(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        text.filter(|text| !text.is_empty())
    };
    let value = taken.value().unwrap_or_default();
    let input = match (text("topic"), text("partition")) {
        (Some(topic), Some(partition)) => format!("{topic}/{partition}"),
        _ => format!("?/{partition}"),
    };
    let number = |name: &str| text(name).and_then(|text| text.parse().ok());
    Letter {
        number: 0,
        input: input.into(),
        line: number("offset").unwrap_or_default(),
        reason: text("reason").unwrap_or_else(|| "?".to_owned()).into(),
        column: text("column"),
        size: number("cut").map_or(value.len(), |size| size as usize),
        bytes: value[..value.len().min(LETTER_BYTES_MAX)].into(),
    }
}

impl Changed {
    /// An enriched record: a new event, or what is shown of it now.
    fn record(&mut self, standing: &mut Standing, came: &Came, skipped: &mut usize) {
        let Some(id) = Uuid::try_parse_ascii(&came.key).ok() else {
            self.refuse(came);
            return;
        };
        let Some(value) = &came.value else {
            standing.events.remove(&id);
            self.is_all = true;
            return;
        };
        let (Ok(event), Some(epoch)) = (serde_json::from_slice::<Event>(value), came.epoch) else {
            self.refuse(came);
            return;
        };
        self.epoch = self.epoch.max(epoch);
        let Event { journal_id, student_id, lesson_id, attendance_mark, marked_by } = event;
        let numbers = [journal_id, student_id, lesson_id, attendance_mark, marked_by];
        let is_new = !standing.events.contains_key(&id);
        // It is visible since it was first.
        standing.events.entry(id).or_insert_with(|| Seen { epoch, said: said(numbers.map(Some)) });
        if *skipped > 0 {
            *skipped -= 1;
            return;
        }
        let Some(after) = raw(value) else { return };
        let before = if is_new { None } else { before(standing, id, &after) };
        let sequence = 0;
        standing.push_record(TailRecord { sequence, epoch, id: Some(id), is_new, before, after });
    }

    /// A row of the latest view: another mark counts, or the same with something else known.
    fn latest(&mut self, standing: &mut Standing, came: &Came) {
        let Some(value) = &came.value else {
            match Cell::of_key(&came.key) {
                Some(cell) => {
                    standing.marks.remove(&cell);
                    self.is_all = true;
                }
                None => self.refuse(came),
            }
            return;
        };
        self.epoch = self.epoch.max(came.epoch.unwrap_or_default());
        match standing.marks.take(value) {
            Ok((cell, Change::Marked)) => self.cells.push(cell),
            Ok((_, Change::Corrected)) => self.corrected += 1,
            Err(_) => self.refuse(came),
        }
    }

    fn refuse(&mut self, came: &Came) {
        let Came { partition, offset, kind, .. } = came;
        if self.refused == 0 {
            warn!(?kind, partition, offset, "no record of its view");
        }
        self.refused += 1;
    }
}

/// What was known of an event until now, where that is held: in the tail, or as the mark that
/// counts.
fn before(standing: &Standing, id: Uuid, after: &Arc<RawValue>) -> Option<Arc<RawValue>> {
    let is_same = |record: &&TailRecord| record.id == Some(id);
    if let Some(last) = standing.tail.iter().rev().find(is_same) {
        return Some(Arc::clone(&last.after));
    }
    let cell = Cell::of_key(after.get().as_bytes())?;
    standing.marks.mark(&cell).filter(|mark| mark.id == id)?;
    let row: Arc<RawValue> = standing.marks.row_of(&cell)?.into();
    let value = |row: &RawValue| serde_json::from_str::<serde_json::Value>(row.get()).ok();
    // The latest view may be ahead of the records.
    (value(&row) != value(after)).then_some(row)
}

fn raw(bytes: &[u8]) -> Option<Arc<RawValue>> {
    let text = String::from_utf8(bytes.to_vec()).ok()?;
    Some(RawValue::from_string(text).ok()?.into())
}
