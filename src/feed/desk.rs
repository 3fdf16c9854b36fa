//! The desk of a feed: where what a system says is held against the log, and written.
//!
//! Shape: documents as a system says them in; of those that are other than the log says, records in
//! transactions out.
//!
//! Invariants: one feed writes for a source: it takes the source's transactional id, which fences
//! its elder, then reads the log, and marks it as its own; an elder that finds that mark stops.
//! That it was fenced is not enough for that: brokers also fence who was silent for long. What
//! `flush` says is written is committed. While it only counts, nothing is written.
//!
//! Not here: what is compared with what (`reference::reconcile`), and who says it (`feed::files`,
//! `feed::elasticsearch`).

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, value::RawValue};

use super::{FeedError, Health, Log, health::now};
use crate::{
    kafka::{Asker, KafkaError, Outgoing, WriteError, Writer, patiently},
    reference::{
        Projector,
        document::has_lone_surrogates,
        log::{self, Mark, Word},
        reconcile::{Batch, Content, Guard, Reconcile, TooMany, Version},
    },
    spec::Spec,
};

/// Most records and bytes of one transaction.
const RECORDS_MAX: usize = 1_000;
const BYTES_MAX: usize = 4 << 20;

/// Between marks in the log while nothing but time has passed, and while the feed comes on, fails
/// or is well again.
const BETWEEN_MARKS: Duration = Duration::from_secs(60);
const BETWEEN_NEWS: Duration = Duration::from_secs(5);

/// What a feed did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// Documents that were read, and what was said of them.
    pub read: u64,
    /// Of these, refused.
    pub refused: u64,
    /// Documents written, and deletions.
    pub written: u64,
    /// See there.
    pub deleted: u64,
    /// Documents that the source did not name at the snapshot, and that were kept since something
    /// was refused that may have named them.
    pub kept: u64,
}

/// How much would be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Documents that are new or other.
    pub upserts: u64,
    /// Documents that are no more.
    pub deletions: u64,
    /// Of so many.
    pub held: u64,
}

/// Where a source's documents are held against the log.
pub struct Desk<'f> {
    log: &'f Log,
    /// Asks whether the topic is still the one that was read.
    asker: Asker,
    topic_id: Option<String>,
    health: &'f Health,
    end: &'f AtomicBool,
    projector: Projector,
    reconcile: Reconcile,
    writer: Option<Writer>,
    mark: Mark,
    marked: Instant,
    /// The positions that the last mark says, and the trouble.
    marked_as: (Value, Option<String>),
    /// The feed before this one, until this one's mark is written.
    elder: Option<String>,
    /// What the operator said last, and up to where the log was read for that.
    word: Option<Word>,
    read_to: u64,
    /// Counts what it would write, while it is not to write.
    counted: Option<Tally>,
    fed: Fed,
}

impl<'f> Desk<'f> {
    /// Fences an elder feed of the source, learns what the log says, and marks it. Whether the log
    /// may keep less of a document from now on is `accepted` or not.
    ///
    /// # Errors
    /// When brokers do not let it, or the spec takes nothing, or too little, of the source.
    pub fn take_over(
        spec: &Arc<Spec>,
        (log, health): (&'f Log, &'f Health),
        end: &'f AtomicBool,
        accepted: bool,
    ) -> Result<Desk<'f>, FeedError> {
        let projector = Projector::of_source(Arc::clone(spec), &log.source);
        let source_name = log.source.clone();
        if projector.takes_nothing() {
            return Err(FeedError::Unused { source_name });
        }
        let asker = log.kafka.asker()?;
        let topic_id = topic_id(log, &asker)?;
        let Taken { writer, reconcile, mark: found, word, read_to } = take_id(log)?;
        let keeps = projector.paths();
        let dropped: Vec<String> = found.keeps.difference(&keeps).cloned().collect();
        if !dropped.is_empty() && !accepted {
            return Err(FeedError::OtherSpec { source_name, dropped: dropped.join(", ") });
        }
        // Where more is kept from now on, no document has it yet.
        let keeps_more = !found.keeps.is_empty() && !keeps.is_subset(&found.keeps);
        let complete = found.complete && !keeps_more;
        let name = format!("{:016x}", RandomState::new().build_hasher().finish());
        let mut desk = Desk {
            log,
            asker,
            topic_id,
            health,
            end,
            projector,
            reconcile,
            writer: Some(writer),
            elder: Some(found.feed.clone()),
            mark: Mark { feed: name, keeps, complete, has_ended: false, ..found },
            marked: Instant::now(),
            marked_as: (Value::Null, None),
            word,
            read_to,
            counted: None,
            fed: Fed::default(),
        };
        desk.write_mark()?;
        desk.elder = None;
        Ok(desk)
    }

    /// What the log's mark of this source says.
    pub fn mark(&mut self) -> &mut Mark {
        &mut self.mark
    }

    /// What was done so far.
    pub fn fed(&self) -> Fed {
        self.fed
    }

    /// The documents as they are held.
    pub fn held(&self) -> &Reconcile {
        &self.reconcile
    }

    /// The same, to change it.
    pub fn reconcile(&mut self) -> &mut Reconcile {
        &mut self.reconcile
    }

    /// Takes what a document says. One that is refused stays as it was.
    pub fn say(&mut self, id: &str, version: Version, source: &RawValue) {
        self.fed.read += 1;
        self.health.passed();
        let is_sound = !id.is_empty()
            && source.get().starts_with('{')
            && !has_lone_surrogates(source.get().as_bytes())
            && !self.projector.is_too_long(source);
        match is_sound {
            true => self.reconcile.upsert(id, version, &self.projector.pruned(source)),
            false => {
                self.fed.refused += 1;
                self.reconcile.refuse(id, version);
            }
        }
    }

    /// Takes that a document is no more: it goes once its grace has passed, if the guard lets it.
    pub fn say_gone(&mut self, id: &str) {
        self.fed.read += 1;
        self.reconcile.say_gone(id, Instant::now());
    }

    /// Counts what cannot be taken; of a document that is named what was known stands.
    pub fn refuse(&mut self, document: Option<(&str, Version)>) {
        self.fed.refused += 1;
        if let Some((id, version)) = document {
            self.health.passed();
            self.reconcile.refuse(id, version);
        }
    }

    /// Takes that a document is there in that version, of which the log says what it does.
    pub fn saw(&mut self, id: &str, version: Version) {
        self.health.passed();
        self.reconcile.saw(id, version);
    }

    /// Begins a comparison, of so many documents where that is known: whatever is not said from now
    /// on is missed at its end.
    pub fn begin_comparison(&mut self, of: Option<u64>) {
        self.health.begin(of);
        self.reconcile.begin_comparison();
    }

    /// Ends a comparison; unless something was refused that may have named what was not said: then
    /// what was known stands.
    pub fn end_comparison(&mut self, is_whole: bool) {
        self.health.end();
        match is_whole {
            true => self.reconcile.end_comparison(Instant::now()),
            false => {
                let is_kept = |id: &&str| !self.reconcile.is_missed(id);
                self.fed.kept = self.reconcile.unmet().filter(is_kept).count() as u64;
            }
        }
    }

    /// Deletes what was missed for so long; returns how many that are.
    ///
    /// # Errors
    /// Where the guard does not let it.
    pub fn delete_missed(
        &mut self,
        grace: Duration,
        guard: Guard,
        accepted: u64,
        now: u64,
    ) -> Result<u64, TooMany> {
        let spent = &mut self.mark.spent;
        let pass = |gone: u64, held| match gone.saturating_sub(accepted) {
            0 => Ok(()),
            more => guard.pass(more, held, spent, now),
        };
        self.reconcile.delete_missed(grace, Instant::now(), pass)
    }

    /// Counts what a comparison would write, and writes nothing.
    ///
    /// # Errors
    /// When the comparison fails.
    pub fn count<E: From<FeedError>>(
        &mut self,
        compare: impl FnOnce(&mut Desk<'f>) -> Result<(), E>,
    ) -> Result<Tally, E> {
        self.counted = Some(Tally::default());
        let fed = self.fed;
        let compared = compare(self);
        // Nothing is written of what is still to be.
        let flushed = self.flush();
        let mut tally = self.counted.take().unwrap_or_default();
        self.reconcile.forget_pending();
        tally.held = self.reconcile.held();
        tally.deletions += self.reconcile.forget_missed();
        self.fed = fed;
        flushed?;
        compared.map(|()| tally)
    }

    /// Writes what the log says otherwise, of all that was said.
    ///
    /// # Errors
    /// When brokers fail for good, or another feed has begun.
    pub fn flush(&mut self) -> Result<(), FeedError> {
        while self.reconcile.pending() > 0 {
            let batch = self.reconcile.take_batch(RECORDS_MAX, BYTES_MAX);
            if let Some(tally) = &mut self.counted {
                let is_gone = |(_, content): &&(_, Content)| *content == Content::Tombstone;
                let gone = batch.iter().filter(is_gone).count() as u64;
                tally.upserts += batch.len() as u64 - gone;
                tally.deletions += gone;
                continue;
            }
            if batch.is_empty() {
                continue;
            }
            let batch = self.commit(batch)?;
            let deleted = batch.iter().filter(|(_, content)| *content == Content::Tombstone);
            let deleted = deleted.count() as u64;
            self.fed.deleted += deleted;
            self.fed.written += batch.len() as u64 - deleted;
            self.reconcile.wrote(batch);
        }
        self.mark_when_due()
    }

    /// Writes the mark of this feed where it was not written for a while.
    ///
    /// # Errors
    /// As `flush`.
    pub fn mark_when_due(&mut self) -> Result<(), FeedError> {
        let (positions, trouble) = &self.marked_as;
        let is_news = self.mark.positions != *positions || self.mark.state.trouble != *trouble;
        let between = if is_news { BETWEEN_NEWS } else { BETWEEN_MARKS };
        match self.marked.elapsed() < between {
            true => Ok(()),
            false => self.write_mark(),
        }
    }

    /// Writes the mark of this feed: it is still the newest, or ends.
    ///
    /// # Errors
    /// As `flush`.
    pub fn write_mark(&mut self) -> Result<(), FeedError> {
        // A mark says what stands before it: in a topic that was made anew that is nothing.
        match topic_id(self.log, &self.asker) {
            Ok(Some(id)) if self.topic_id.as_ref().is_some_and(|known| *known != id) => {
                return Err(FeedError::OtherLog { topic: self.log.topic.clone() });
            }
            Err(error) if !error.may_pass() => return Err(error.into()),
            // Who writes waits for brokers that do not answer, or have not heard of it yet.
            Ok(_) | Err(_) => {}
        }
        self.marked = Instant::now();
        self.marked_as = (self.mark.positions.clone(), self.mark.state.trouble.clone());
        self.mark.state.at = now();
        let record = (self.log.key(""), Some(self.mark.to_json()));
        while !self.transact(slice::from_ref(&record))? {}
        Ok(())
    }

    /// The word that the operator gave last, where he did.
    ///
    /// # Errors
    /// When the log cannot be read for good.
    pub fn word(&mut self) -> Result<Option<&Word>, FeedError> {
        let Log { kafka, topic, .. } = self.log;
        let (key, word) = (self.log.word_key(), &mut self.word);
        let read = kafka.scan(topic, 0, self.read_to, &mut |taken| {
            if taken.key() == Some(key.as_bytes()) {
                *word = taken.value().and_then(Word::parse);
            }
            true
        });
        match read {
            Ok(to) => self.read_to = to,
            Err(error) if error.may_pass() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.word.as_ref())
    }

    /// Whether the feed is to end.
    pub fn is_to_end(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// Hears what the client has to say, while nothing is written.
    pub fn hear(&self) {
        if let Some(writer) = &self.writer {
            writer.hear();
        }
    }

    /// Writes a batch, with as many writers as it takes; returns it.
    fn commit(&mut self, mut batch: Batch) -> Result<Batch, FeedError> {
        loop {
            let record = |(id, content): &(Box<str>, Content)| {
                let value = match content {
                    Content::Upsert(version, document) => Some(log::value(*version, document)),
                    Content::Tombstone => None,
                };
                (self.log.key(id), value)
            };
            let records: Vec<Record> = batch.iter().map(record).collect();
            if self.transact(&records)? {
                return Ok(batch);
            }
            // What was written all the same is in the log now.
            self.reconcile.retain_others(&mut batch);
        }
    }

    /// Writes records in a transaction; returns whether that is certain. Where it is not, the id is
    /// taken again, and what the log says is known anew.
    fn transact(&mut self, records: &[Record]) -> Result<bool, FeedError> {
        if records.is_empty() {
            return Ok(true);
        }
        let topic = self.log.topic.as_str();
        let writer = self.writer.as_mut().expect("there is one while nothing failed");
        let written = writer.write(|send| {
            records.iter().try_for_each(|(key, value)| {
                send(Outgoing {
                    topic,
                    partition: 0,
                    key: Some(key.as_bytes()),
                    value: value.as_deref(),
                    headers: &[],
                })
            })
        });
        match written {
            Ok(()) => Ok(true),
            Err(WriteError::Unknown { .. } | WriteError::Fenced { .. }) => {
                self.writer = None;
                self.take_again()?;
                Ok(false)
            }
            Err(WriteError::Hopeless(error)) => Err(error.into()),
        }
    }

    /// Takes the id again after a transaction whose outcome is not known, however long brokers are
    /// gone.
    fn take_again(&mut self) -> Result<(), FeedError> {
        let is_to_stop = || self.is_to_end();
        let taken =
            patiently(&self.log.source, is_to_stop, KafkaError::may_pass, || take_id(self.log));
        let Taken { writer, reconcile, mark: found, .. } = taken?;
        if found.feed.is_empty() && self.elder.is_none() {
            return Err(FeedError::OtherLog { topic: self.log.topic.clone() });
        }
        if found.feed != self.mark.feed && self.elder.as_ref() != Some(&found.feed) {
            return Err(FeedError::Fenced { source_name: self.log.source.clone() });
        }
        self.reconcile.relearn(reconcile);
        self.writer = Some(writer);
        Ok(())
    }
}

/// The identity of the log's topic; `None` where it is not there.
fn topic_id(log: &Log, asker: &Asker) -> Result<Option<String>, KafkaError> {
    let found = asker.identities(slice::from_ref(&log.topic))?;
    Ok(found.into_iter().next().map(|(_, id, _)| id))
}

/// A record of the log: its key, and what it says; `None` that the document is gone.
type Record = (String, Option<Vec<u8>>);

/// A source's id, and what the log then says.
struct Taken {
    writer: Writer,
    reconcile: Reconcile,
    mark: Mark,
    word: Option<Word>,
    read_to: u64,
}

/// Takes the source's transactional id; then reads the log.
fn take_id(log: &Log) -> Result<Taken, KafkaError> {
    // Logs of several dataflows may be fed from one source.
    let writer = log.kafka.writer(&format!("{}-{}-feed", log.topic, log.source))?;
    let (prefix, word_key) = (log.key(""), log.word_key());
    let (mut reconcile, mut mark, mut word) = (Reconcile::default(), Mark::default(), None);
    let read_to = log.kafka.scan(&log.topic, 0, 0, &mut |taken| {
        let key = taken.key().and_then(|key| str::from_utf8(key).ok());
        if key == Some(&*word_key) {
            word = taken.value().and_then(Word::parse);
        }
        let id = key.and_then(|key| key.strip_prefix(&*prefix));
        match (id, taken.value()) {
            (Some(""), Some(value)) => mark = Mark::parse(value),
            (Some(id), Some(value)) => match log::parts(value) {
                // Its version may be of an earlier time of the source, so it is worth nothing.
                Some((_, document)) => {
                    reconcile.learn(id, Version::default(), document.get().as_bytes());
                }
                // Nobody can read it, so whatever the source says is other.
                None => reconcile.learn(id, Version::default(), b""),
            },
            (Some(id), None) => reconcile.unlearn(id),
            (None, _) => {}
        }
        true
    })?;
    Ok(Taken { writer, reconcile, mark, word, read_to })
}
