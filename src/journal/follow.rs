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
//! Not here: what a record changes (`records`), and clicks (`desk`, `events`).

mod records;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};

use super::{
    marks::{Cell, Mark},
    people::People,
    shown::{
        CELLS_MAX, EpochNews, Heard, LETTERS_MAX, Letter, News, RECORDS_MAX, Shown, is_latest,
    },
};
use crate::{
    kafka::{Asker, Kafka, KafkaError, Next, PartitionReader, Readers},
    progress::{FrontierError, PASSING_TIME_MAX, Passing, Progressing, Read, Store, StoreError},
    spec::{Spec, ViewId, ViewKind},
};

use records::{Came, Changed, Kind};

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
    /// Hears of each mark that became visible, and of dead letters.
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
    /// Which dataflow readers are shown cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Readers were switched.
    #[error("readers are shown \"{dataflow}\" by now")]
    Switched {
        /// That dataflow.
        dataflow: String,
    },
    /// The spec has no such view.
    #[error("the spec has no view that a journal shows: one of all records, one of the latest")]
    NoViews,
}

/// A partition on its way.
struct Part {
    kind: Kind,
    reader: PartitionReader,
    read: Read,
    from: u64,
}

/// Of partitions of which more is waited for, up to where the engine holds them, and since when.
type Waiting = BTreeMap<usize, (u64, Instant)>;

impl Follow {
    /// Follows until it is to end. What fails is begun anew, and everything is read again then.
    pub fn run(&self, end: &AtomicBool) {
        while !end.load(Ordering::Relaxed) {
            if let Err(error) = self.follow(end) {
                // What stands is not kept up to date any more.
                self.shown.stop();
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
        let seen = Duration::from_millis(self.seen.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(seen)
    }

    /// The dataflow whose outputs are shown: that which readers are shown.
    fn dataflow(&self) -> Result<String, FollowError> {
        // Whatever transaction is open there keeps nobody from reading.
        let pointer = Store::new(self.kafka.clone(), &self.spec.family).pointer_so_far()?;
        Ok(pointer.map_or_else(|| self.spec.family.clone(), |pointer| pointer.dataflow))
    }

    /// The topics of a dataflow, each with what is in it.
    fn topics(&self, dataflow: &str) -> Result<Vec<(Kind, String)>, FollowError> {
        let view = |is_wanted: &dyn Fn(usize) -> bool| {
            let place = (0..self.spec.views.len()).find(|place| is_wanted(*place));
            let view = &self.spec.views[place.ok_or(FollowError::NoViews)?];
            Ok::<_, FollowError>(format!("{dataflow}_{}", view.name))
        };
        let is_enriched = |place: usize| matches!(self.spec.views[place].kind, ViewKind::Enriched);
        let latest = |place: usize| is_latest(&self.spec, ViewId(place as u16));
        Ok(vec![
            // A new event before what it changes.
            (Kind::Records, view(&is_enriched)?),
            (Kind::Latest, view(&latest)?),
            (Kind::Letters, format!("{dataflow}_dead_letters")),
            (Kind::Documents, self.reference.clone()),
        ])
    }

    fn follow(&self, end: &AtomicBool) -> Result<(), FollowError> {
        let asker = self.kafka.asker()?;
        let dataflow = self.dataflow()?;
        let topics = self.topics(&dataflow)?;
        let identities = identities(&asker, &topics)?;
        let (readers, mut parts) = self.begin(&asker, &topics, &identities)?;
        let ends: Vec<u64> = parts
            .iter()
            .map(|part| asker.extent(part.reader.topic(), part.reader.partition()).map(|e| e.1))
            .collect::<Result<_, _>>()?;
        let left = parts.iter().zip(&ends).map(|(part, end)| end.saturating_sub(part.from));
        let history = left.sum();
        self.forget(history, &parts);
        // What was visible once is so again before anything is judged.
        let events = asker.identities(std::slice::from_ref(&self.events))?;
        let partitions = events.first().map_or(0, |(_, _, partitions)| *partitions);
        let extent = |partition| asker.extent(&self.events, partition).map(|extent| extent.1);
        let ends: Result<Vec<u64>, KafkaError> = (0..partitions).map(extent).collect();
        self.shown.expect_events(ends?);
        let lead = Store::new(self.kafka.clone(), &dataflow).lead_so_far()?;
        let shards = lead.map_or(self.spec.shards, |lead| lead.shards);
        let mut progress = Progressing::new(&self.kafka, &dataflow, shards)?;
        let (committed, mut passing) = (AtomicU64::new(0), None::<(Passing, Vec<u64>)>);
        // Up to where the events are in what is shown, once everything was read that stood in the
        // topics when this was looked at.
        let mut shows = None::<Vec<u64>>;
        let (mut next_passing, mut next_look) = (Instant::now(), Instant::now());
        let mut next_word = Instant::now() + BETWEEN_WORDS;
        let mut waiting = BTreeMap::new();
        let (mut refused, mut lead_end) = (0, None);
        info!(dataflow, topics = topics.len(), records = history, "follows its outputs");
        while !end.load(Ordering::Relaxed) {
            self.be_seen();
            readers.serve()?;
            let fetched = passing.as_ref().map(|(p, _)| p.fetched(&readers, readers_of(&parts)));
            let came = take(&mut parts)?;
            let is_idle = came.is_empty();
            if let (Some((passing, _)), Some(fetched)) = (&mut passing, fetched) {
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
            if let Some((passed, held)) = passing.take_if(|(passing, _)| passing.is_passed()) {
                let epoch = passed.epoch();
                self.shown.change(|standing| standing.epoch = standing.epoch.max(epoch));
                shows = Some(held);
            }
            passing = passing.filter(|(passing, _)| !passing.is_over());
            let epoch = committed.load(Ordering::Relaxed);
            let is_wanted = shows.is_none() || epoch > self.shown.standing().epoch;
            // Nothing is known of the epochs before their topic was read.
            let may_begin = passing.is_none() && progress.is_whole() && is_wanted;
            if may_begin && Instant::now() >= next_passing {
                let asked = Instant::now();
                let begun = Passing::begin(epoch, &asker, readers_of(&parts));
                // Brokers that do not say it keep nobody from reading.
                let pause = if begun.is_none() { 10 * asked.elapsed() } else { Duration::ZERO };
                next_passing = Instant::now() + pause.clamp(BETWEEN_PASSINGS, PASSING_TIME_MAX);
                passing = begun.map(|passing| (passing, progress.held()));
            }
            if !self.shown.is_live()
                && let Some(held) = &shows
            {
                self.look_whether_live(&asker, held, &mut waiting)?;
            }
            if Instant::now() >= next_look {
                next_look = Instant::now() + BETWEEN_IDENTITIES;
                self.look_at_topics(&asker, &topics, &identities)?;
                self.look_at_pointer(&asker, &dataflow, &mut lead_end)?;
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
        self.shown.read_anew(history, letters_ever);
        *self.people.write().expect("nobody panics while changing people") =
            People::new(Arc::clone(&self.spec));
    }

    /// Goes live once all is visible that stood in the topic of events when it was taken over:
    /// `held` is the least vector of all shards, and so that of the epoch that is shown whole.
    fn look_whether_live(
        &self,
        asker: &Asker,
        held: &[u64],
        waiting: &mut Waiting,
    ) -> Result<(), FollowError> {
        let expected = self.shown.expected_events();
        let at = |place: usize| held.get(place).copied().unwrap_or(0);
        waiting.retain(|place, _| expected.get(*place).is_some_and(|end| at(*place) < *end));
        let (mut places, mut stand) = (Vec::new(), true);
        for (place, _) in expected.iter().enumerate().filter(|(place, end)| at(*place) < **end) {
            let known = waiting.entry(place).or_insert_with(|| (at(place), Instant::now()));
            if known.0 != at(place) {
                *known = (at(place), Instant::now());
            }
            stand &= known.1.elapsed() >= MARKERS_PATIENCE;
            places.push(place);
        }
        if !stand {
            return Ok(());
        }
        // Offsets count the ends of transactions too: what is held may be all that there is.
        let mut missing = 0;
        for place in places {
            let partition = place as u32;
            let begin = asker.extent(&self.events, partition)?.0;
            let from = at(place).max(begin);
            let (first, stable) = self.kafka.first_and_stable(&self.events, partition, from)?;
            // What an open transaction hides is not visible either.
            let is_hidden = stable < expected[place];
            let is_ahead = first.is_some_and(|record| record.offset < expected[place]);
            missing += usize::from(is_hidden || is_ahead);
            self.be_seen();
        }
        waiting.clear();
        if missing > 0 {
            info!(partitions = missing, "waits for the engine to show events: does it run?");
            return Ok(());
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
        let now = match identities(asker, topics) {
            Ok(now) => now,
            Err(error) => {
                debug!("whether topics are the same is not known: {error}");
                return Ok(());
            }
        };
        debug!(?now, ?known, "looked at the topics");
        match now.iter().zip(known).position(|(now, known)| now != known) {
            Some(other) => Err(FollowError::OtherTopic { topic: topics[other].1.clone() }),
            None => Ok(()),
        }
    }

    /// Whether readers are shown another dataflow by now; `end` is where the topic that says so
    /// ended before.
    fn look_at_pointer(
        &self,
        asker: &Asker,
        dataflow: &str,
        end: &mut Option<u64>,
    ) -> Result<(), FollowError> {
        let now = asker.end_now(&Store::lead_topic(&self.spec.family), 0);
        if now.is_none() || *end == now {
            return Ok(());
        }
        // Brokers that do not answer keep nobody from reading on.
        match Store::new(self.kafka.clone(), &self.spec.family).pointer_so_far() {
            Ok(Some(pointer)) if pointer.dataflow != dataflow => {
                return Err(FollowError::Switched { dataflow: pointer.dataflow });
            }
            Ok(_) => *end = now,
            Err(error) => debug!("which dataflow readers are shown is not known: {error}"),
        }
        Ok(())
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
        let letters = outputs.iter().filter_map(|came| came.letter.clone());
        let letters: Vec<Letter> = letters.collect();
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
        let fallen: Vec<&[u8]> = letters.iter().map(|letter| &*letter.bytes).collect();
        (self.heard)(&marks, &fallen);
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
