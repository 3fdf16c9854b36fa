//! The outputs in Kafka: every change of every view, exactly once.
//!
//! Shape: sealed epochs of one worker in; transactions out, each with whole epochs: the records
//! that changed, the dead letters, and a progress record that says up to where everything is there.
//!
//! Invariants: a record bears the epoch in which it changed, a key is written at most once an
//! epoch, and the epochs of a shard strictly grow. What a shard holds already, by its recorded
//! epoch, is not written again. Of a transaction whose outcome is not known the broker is asked,
//! by a new writer that fenced the old one; it is written again only if it is known not to be
//! there.
//!
//! Not here: when an epoch is sealed, and when sources rest since too much waits here (`engine`).
//!
//! In reading order: `batch` (what goes into one transaction), `committer` (the thread that writes
//! it).

mod batch;
mod committer;

use std::{collections::BTreeMap, sync::Arc};

use self::{batch::Batch, committer::Committer};
use super::{Sealed, Sink, SinkError};
use crate::{
    dataflow::{After, RecordRef},
    kafka::KafkaError,
    process::{now_ms, resident_bytes},
    progress::{
        LogEnds, Ownership, Progress, Recovery, Says, SettledSince, StartId, Store, StoreError,
        Superseded, TopicBounds, may_be_swept,
    },
    row::{ColumnId, Joined, Value, json},
    source::{DeadLetter, Input, Vector},
    spec::{ShardId, Spec, ViewId, ViewKind, plan::View},
    time::{Epoch, Frontier},
};
pub use committer::Committed;

/// No further epoch is rendered while so many records wait for the next transaction. An epoch of
/// the chain of a next start must fit one; and larger ones cost more: what is rendered is out of
/// the caches before it is sent.
const WAITING_RECORDS_MAX: u64 = 20_000;
/// The same, of their bytes.
const WAITING_BYTES_MAX: u64 = 64 << 20;

/// Topics and their partitions, as a start found them.
#[derive(Clone, Debug)]
pub struct Topics {
    /// The events: name, identity, partitions.
    pub events: Topic,
    /// How many partitions there are behind those, of events that never stood in the topic.
    pub history: u32,
    /// The reference log; `None` for a dataflow without lookups.
    pub reference: Option<Topic>,
    /// For how long compaction leaves its records alone, in ms.
    pub reference_lag_ms: i64,
    /// By `ViewId`: what shows a view; `None` for counts, which are not written.
    pub views: Vec<Option<Topic>>,
    /// Where dead letters go.
    pub dead_letters: Topic,
    /// How many bytes of an event a dead letter can hold.
    pub dead_letter_bytes: usize,
    /// Where progress is kept.
    pub progress: Topic,
    /// Where it is kept who leads.
    pub lead: Topic,
}

/// A topic, as a start found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: String,
    /// Number of its partitions.
    pub partitions: u32,
}

/// What a worker writes, and under which start.
#[derive(Clone, Debug)]
pub struct Hand {
    /// The start.
    pub start: StartId,
    /// The worker's shards.
    pub ownership: Ownership,
    /// What the start found to be written.
    pub recovery: Arc<Recovery>,
    /// Where the reference log ends.
    pub log_ends: Arc<LogEnds>,
}

/// Why the outputs in Kafka cannot be written on.
#[derive(Debug, thiserror::Error)]
pub enum KafkaSinkError {
    /// The brokers refuse it.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// What is there cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another start is in force.
    #[error(transparent)]
    Superseded(#[from] Superseded),
    /// The lead record is not what this start wrote.
    #[error(
        "the lead record of this start is gone: topic \"{topic}\" was deleted, or another program \
         writes it; start again, which says what is left"
    )]
    NoLead {
        /// The topic.
        topic: String,
    },
    /// Somebody else wrote what only this worker writes.
    #[error(
        "shard {shard} is written up to epoch {found}, and this worker wrote up to {before} or \
         {after}, so another program writes topic \"{topic}\"; take from it the right to do so, \
         and start again"
    )]
    Foreign {
        /// The shard.
        shard: u16,
        /// What its progress says.
        found: Epoch,
        /// What it said before the last transaction.
        before: Epoch,
        /// What the last transaction would say.
        after: Epoch,
        /// The topic of the progress.
        topic: String,
    },
    /// The reference log was not read to its end for so long that compaction may have swept
    /// deletions away.
    #[error(
        "topic \"{topic}\" was not read to its end for nearly as long as its \
         min.compaction.lag.ms, so deletions may be gone from it without a trace; nothing of what \
         follows was written: start again, which takes the documents as they are"
    )]
    Outdated {
        /// The reference log's topic.
        topic: String,
    },
    /// The run is to stop, and the brokers do not answer.
    #[error("stopped while the brokers did not answer")]
    Stopped,
}

/// One worker's hand in the outputs.
pub struct KafkaSink {
    spec: Arc<Spec>,
    topics: Arc<Topics>,
    hand: Hand,
    /// The views that show every record.
    enriched: Arc<[ViewId]>,
    /// By `ViewId`, what a key begins with: the names of the columns.
    keys: Vec<KeyForm>,
    /// What is sealed and not handed to the committer.
    batch: Batch,
    /// What is to be the progress of the next transaction.
    newest: Option<Newest>,
    /// Below which offset of the reference log the worker's shards owe nothing by what is handed
    /// to the committer, up to where that holds the log, and since when they owe nothing.
    settled: u64,
    reference_held: u64,
    settled_since: SettledSince,
    /// What was committed last, or what the start found of all shards.
    committed: Epoch,
    /// The inputs that the transaction under way holds, and those that the last one held.
    under_way: Vector,
    held: Vector,
    committer: Committer,
    key_bytes: Vec<u8>,
    updates: u64,
    /// The sealed epoch that came last.
    sealed: Epoch,
    /// Commits that came to their end since somebody asked.
    commits: Vec<Committed>,
    /// Whether what comes is of epochs that are not whole.
    is_closed: bool,
}

/// How things stand after the newest sealed epoch.
struct Newest {
    epoch: Epoch,
    vector: Vector,
    settled: u64,
    waiting: u64,
}

/// How the keys of a view's records look.
enum KeyForm {
    /// The text of one column.
    Plain(ColumnId),
    /// An object of columns.
    Object(Vec<(Vec<u8>, ColumnId)>),
    /// Its records are not written.
    None,
}

impl KafkaSink {
    /// Takes over a worker's shards: fences who wrote them, and proves that they are where the
    /// start found them.
    ///
    /// # Errors
    /// When they are not, or brokers refuse.
    pub fn take_over(
        store: Store,
        spec: &Arc<Spec>,
        topics: &Arc<Topics>,
        hand: Hand,
        is_to_stop: impl Fn() -> bool + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> Result<KafkaSink, KafkaSinkError> {
        let is_enriched = |(place, view): (usize, &View)| {
            matches!(view.kind, ViewKind::Enriched).then_some(ViewId(place as u16))
        };
        let committer = Committer::start(
            store,
            spec,
            Arc::clone(topics),
            hand.clone(),
            Box::new(is_to_stop),
            Box::new(wake),
        )?;
        let own = (0..spec.shards).map(ShardId).filter(|shard| hand.ownership.has(*shard));
        let own: Vec<usize> = own.map(|shard| usize::from(shard.0)).collect();
        let Recovery { epochs, settled, settled_ms, chain, .. } = &*hand.recovery;
        let committed = own.iter().map(|shard| epochs[*shard]).min();
        // A shard of which nobody wrote owes all from the log's begin, and knows no more of it than
        // those that did; where nobody wrote at all, all there is now is read.
        let all = (0..epochs.len()).filter(|shard| epochs[*shard] > 0);
        let own_ms = own.iter().filter(|shard| epochs[**shard] > 0).map(|shard| settled_ms[*shard]);
        let settled = own.iter().map(|shard| settled[*shard]).min().unwrap_or(0);
        let settled_ms = match own.iter().all(|shard| epochs[*shard] > 0) {
            true => own_ms.min(),
            false => all.map(|shard| settled_ms[shard]).min(),
        };
        let settled_ms = settled_ms.map_or_else(now_ms, |time| time.min(now_ms()));
        let newest = chain.last().and_then(|(_, vector)| vector.get(&Input::Reference));
        let reference_held = newest.map_or(0, |bound| bound.offset);
        Ok(KafkaSink {
            enriched: spec.views.iter().enumerate().filter_map(is_enriched).collect(),
            keys: spec.views.iter().map(|view| KeyForm::of(spec, view)).collect(),
            spec: Arc::clone(spec),
            topics: Arc::clone(topics),
            hand,
            batch: Batch::default(),
            newest: None,
            settled,
            reference_held,
            settled_since: SettledSince::new(settled_ms),
            committed: committed.unwrap_or(0),
            under_way: Vector::new(),
            held: Vector::new(),
            committer,
            key_bytes: Vec::new(),
            updates: 0,
            sealed: 0,
            commits: Vec::new(),
            is_closed: false,
        })
    }

    /// Takes nothing more: what comes now is of epochs that were cut short.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// How many records were handed over since this was asked last.
    pub fn take_updates(&mut self) -> u64 {
        std::mem::take(&mut self.updates)
    }

    /// Up to which epoch all of the worker's shards are written.
    pub fn committed(&self) -> Epoch {
        self.committed
    }

    /// The commits that came to their end since this was asked last.
    pub fn take_commits(&mut self) -> impl Iterator<Item = Committed> {
        self.commits.drain(..)
    }

    /// Up to where the inputs are held by what is committed; empty before the first commit.
    pub fn held(&self) -> &Vector {
        &self.held
    }

    /// How many records and bytes wait to be committed, those that are being committed included.
    pub fn uncommitted(&self) -> (u64, u64) {
        let (records, bytes) = self.committer.busy_with();
        (records + self.batch.records(), bytes + self.batch.bytes())
    }

    /// How many records wait for the next transaction.
    pub fn waiting(&self) -> u64 {
        self.batch.records()
    }

    /// Whether a commit is under way.
    pub fn is_busy(&self) -> bool {
        self.committer.is_busy()
    }

    /// Whether records are sealed that are in no transaction yet.
    pub fn has_records(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Whether an epoch is sealed whose progress is in no transaction yet.
    pub fn has_progress(&self) -> bool {
        self.newest.is_some()
    }

    /// Begins to commit what is sealed, unless a commit is under way.
    ///
    /// # Errors
    /// When an earlier commit failed for good, or this one may rest on a reference log that was not
    /// read for too long.
    pub fn commit(&mut self) -> Result<(), SinkError> {
        self.look()?;
        if self.committer.is_busy() {
            return Ok(());
        }
        let Some(Newest { epoch, vector, settled, waiting }) = self.newest.take() else {
            return Ok(());
        };
        let Topics { events, history, reference, .. } = &*self.topics;
        let partitions = events.partitions + history;
        let reference_held = vector.get(&Input::Reference).map_or(0, |bound| bound.offset);
        if reference_held > self.reference_held {
            self.is_in_time()?;
        }
        (self.settled, self.reference_held) = (settled, reference_held);
        self.settled_since.settled(settled, &self.hand.log_ends);
        let settled_ms = self.settled_since.since_ms();
        let progress = Progress {
            generation: self.hand.start.generation,
            ownership: self.hand.ownership,
            epoch,
            settled,
            settled_ms,
            events: TopicBounds::events(&events.name, &events.id, partitions, &vector),
            reference: reference
                .as_ref()
                .map(|topic| TopicBounds::reference(&topic.name, &topic.id, &vector)),
            says: Says { waiting, resident_bytes: resident_bytes() },
        };
        let spare = self.committer.spare();
        let mut batch = std::mem::replace(&mut self.batch, spare);
        batch.finish(progress);
        self.under_way = vector;
        self.committer.begin(batch);
        Ok(())
    }

    /// Looks whether a commit came to its end.
    ///
    /// # Errors
    /// When it failed for good.
    pub fn look(&mut self) -> Result<(), SinkError> {
        // Also while nothing is written.
        self.settled_since.settled(self.settled, &self.hand.log_ends);
        if let Some(committed) = self.committer.ended()? {
            self.committed = committed.epoch;
            self.commits.push(committed);
            self.held = std::mem::take(&mut self.under_way);
        }
        Ok(())
    }

    /// Whether no deletion can have been swept away between what was read of the reference log
    /// before and what follows it now.
    fn is_in_time(&self) -> Result<(), KafkaSinkError> {
        failpoint!("clock-jumps", |_| Err(self.outdated()));
        let (since, lag) = (self.settled_since.since_ms(), self.topics.reference_lag_ms);
        match may_be_swept(since, now_ms(), lag) {
            true => Err(self.outdated()),
            false => Ok(()),
        }
    }

    fn outdated(&self) -> KafkaSinkError {
        let topic = self.topics.reference.as_ref().map(|topic| topic.name.clone());
        KafkaSinkError::Outdated { topic: topic.unwrap_or_default() }
    }

    /// Whether a shard holds an epoch already.
    fn holds(&self, shard: ShardId, epoch: Epoch) -> bool {
        epoch <= self.hand.recovery.epochs[usize::from(shard.0)]
    }

    fn record(&mut self, epoch: Epoch, view: ViewId, shard: ShardId, record: &RecordRef<'_>) {
        let KafkaSink { spec, topics, keys, batch, .. } = self;
        let place = usize::from(view.0);
        let Some(topic) = &topics.views[place] else { return };
        let partition = u32::from(shard.0) % topic.partitions;
        let event = record.event();
        batch.record(
            epoch,
            place,
            partition,
            |out| keys[place].write(spec, event, out),
            |out| {
                record.json(out);
            },
        );
        self.updates += 1;
    }

    fn dead_letter(&mut self, epoch: Epoch, letter: &DeadLetter) {
        let partition = letter.place.partition.0 % self.topics.dead_letters.partitions;
        self.batch.dead_letter(epoch, partition, letter, self.topics.dead_letter_bytes);
        self.updates += 1;
    }
}

impl Sink for KafkaSink {
    fn write(&mut self, sealed: Sealed<'_>) -> Result<(), SinkError> {
        if self.is_closed {
            return Ok(());
        }
        let Sealed { epoch, records, dead_letters, after, .. } = sealed;
        assert!(epoch > self.sealed, "epoch {epoch} comes behind {}", self.sealed);
        self.sealed = epoch;
        let spec = Arc::clone(&self.spec);
        let enriched = Arc::clone(&self.enriched);
        for change in records.changes(epoch) {
            let shard = spec.shard_of_event(change.after.event(), &mut self.key_bytes);
            if self.holds(shard, epoch) {
                continue;
            }
            for view in change.views(&enriched) {
                self.record(epoch, *view, shard, &change.after);
            }
        }
        for letter in dead_letters {
            let shard = ShardId((letter.place.partition.0 % u32::from(spec.shards)) as u16);
            if !self.holds(shard, epoch) {
                self.dead_letter(epoch, letter);
            }
        }
        if let Some(After { vector, settled, waiting_rows }) = after
            && epoch > self.committed
        {
            let (vector, waiting) = (vector.clone(), waiting_rows);
            self.newest = Some(Newest { epoch, vector, settled, waiting });
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.batch.records() < WAITING_RECORDS_MAX && self.batch.bytes() < WAITING_BYTES_MAX
    }

    fn advance(&mut self, _frontier: Frontier) -> Result<(), SinkError> {
        self.look()
    }
}

impl KeyForm {
    fn of(spec: &Spec, view: &View) -> KeyForm {
        match &view.kind {
            ViewKind::Enriched => KeyForm::Plain(spec.events.key),
            ViewKind::Latest { key, .. } => {
                let label = |(place, column): (usize, &ColumnId)| {
                    let mut label = vec![if place == 0 { b'{' } else { b',' }];
                    let name = &spec.events.columns[usize::from(column.0)].name;
                    json::write_text(&mut label, name);
                    label.push(b':');
                    (label, *column)
                };
                KeyForm::Object(key.iter().enumerate().map(label).collect())
            }
            ViewKind::Counts { .. } => KeyForm::None,
        }
    }

    fn write(&self, spec: &Spec, event: &[u8], out: &mut Vec<u8>) {
        let value = |column| spec.events.layout.get(event, column);
        match self {
            KeyForm::Plain(column) => match value(*column) {
                Some(Value::Text(text)) => out.extend_from_slice(text.as_bytes()),
                Some(value) => {
                    let begin = out.len();
                    json::write_value(out, value);
                    if out[begin] == b'"' {
                        out.remove(begin);
                        out.pop();
                    }
                }
                None => {}
            },
            KeyForm::Object(columns) => {
                for (label, column) in columns {
                    out.extend_from_slice(label);
                    match value(*column) {
                        Some(value) => json::write_value(out, value),
                        None => out.extend_from_slice(b"null"),
                    }
                }
                out.push(b'}');
            }
            KeyForm::None => {}
        }
    }
}

/// The topics that a dataflow writes, by what people call them.
pub fn output_topics(spec: &Spec) -> BTreeMap<String, Option<ViewId>> {
    let views = spec.views.iter().enumerate();
    let written = views.filter(|(_, view)| !matches!(view.kind, ViewKind::Counts { .. }));
    let name = |view: &str| format!("{}_{view}", spec.name);
    let mut topics: BTreeMap<_, _> =
        written.map(|(place, view)| (name(&view.name), Some(ViewId(place as u16)))).collect();
    topics.insert(name("dead_letters"), None);
    topics
}
