//! Leading a start over Kafka: who writes from now on, and where the first epochs are cut.
//!
//! Shape: the dataflow, its place, the number of workers in; the generation, the topics as they
//! are, and what is written already (`Recovery`) out.
//!
//! Invariants, in this order: who leads takes the lead's transactional id, which fences a rival;
//! reads the lead record and writes the next, which names all workers before they write; fences
//! every writer that there ever was, so that what is written stands; only then reads the progress.
//! A start that differs from what the outputs rest on is refused before any writer is fenced.
//!
//! Not here: the writers of this start (`sink::kafka`), which look at the lead record again.

mod look;
mod outputs;

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

pub(super) use self::look::look;
use self::{look::look_closely, outputs::empty_outputs};
use super::{
    KafkaRun, UnfitTopics,
    archived::{Offer, Taking},
    loss::{Begins, Lost, documents_end, is_outdated},
};
use crate::{
    archive::ArchiveError,
    kafka::{Kafka, KafkaError, Outgoing, WriteError, Writer},
    process::now_ms,
    progress::{
        Accepted, Difference, FORM, LEAD_KEY, Lead, LogEnds, Output, Ownership, Recovery, Retaken,
        SHARD_HASH, StartId, Store, StoreError, Superseded,
    },
    reference::ReferenceError,
    sink::kafka::{Topic, Topics},
    source::{Input, PartitionId},
    spec::{DedupeBy, ShardId, Spec},
};

/// Longest spec that the lead record bears: it is to stay a small record.
const TEXT_BYTES_MAX: usize = 256 << 10;

/// How many writers are fenced at a time.
const FENCED_AT_ONCE: usize = 16;

/// How long a start whose id another one took may wait before it begins again, by chance: the first
/// time, and at most. It doubles, so that one of two gets through before the other comes back.
const BETWEEN_RIVALS: Duration = Duration::from_secs(1);
const BETWEEN_RIVALS_MAX: Duration = Duration::from_secs(60);

/// What a place calls the inputs of a dataflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The topic of the events.
    pub events: String,
    /// The topic of the reference log.
    pub reference: String,
}

/// What a start is allowed to pass over, by the operator's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// That records of an input are gone.
    pub loss: bool,
    /// That the events have more partitions than they had.
    pub partitions: bool,
}

/// A start that is in force.
#[derive(Clone, Debug)]
pub struct Start {
    /// Which it is.
    pub id: StartId,
    /// The topics, as they are.
    pub topics: Arc<Topics>,
    /// What is written already.
    pub recovery: Arc<Recovery>,
    /// Where events with one key meet.
    pub(super) dedupe: DedupeBy,
    /// Where the inputs are read from.
    pub(super) begins: Begins,
    /// What of the inputs is read from the archive.
    pub(super) archive: Option<Taking>,
    /// What was accepted to be lost, by this start and those before it.
    accepted: Accepted,
    /// Where the reference log ends, as this process sees it.
    pub(super) log_ends: Arc<LogEnds>,
}

/// Why a dataflow cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The brokers refuse it.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// What earlier starts left cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Topics are not there.
    #[error("topic(s) {topics} are not there; `tributary init` makes them")]
    NoTopics {
        /// Which.
        topics: String,
    },
    /// Topics have settings on which the promises cannot rest.
    #[error(transparent)]
    Unfit(#[from] UnfitTopics),
    /// It differs from the starts before.
    #[error("this start does not fit what stands in the outputs: {0}")]
    Different(#[from] Difference),
    /// The events have other partitions than they had.
    #[error(
        "topic \"{topic}\" has {now} partitions and had {before}: keys have moved between them, so \
         equal IDs may now come by two; give --accept-partitions to go on, and read docs/kafka.md \
         on what that means"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// How many it had.
        before: u32,
        /// How many it has.
        now: u32,
    },
    /// The events have fewer partitions than they had.
    #[error(
        "topic \"{topic}\" has {now} partitions and had {before}: what is written rests on each of \
         them; make the topic with {before} or more, or give the dataflow another name, and with \
         it new outputs"
    )]
    FewerPartitions {
        /// The topic.
        topic: String,
        /// How many it had.
        before: u32,
        /// How many it has.
        now: u32,
    },
    /// The archive does not hold the events from which the dataflow was made beside those of the
    /// topic, or the topic has other partitions now.
    #[error(
        "the dataflow was made from {had} partition(s) of events that never stood in topic \
         \"{topic}\", which its archive holds; this start finds {has}, or that topic was given \
         more partitions: name the archive (--archive, or [archive] in the configuration), or make \
         the dataflow anew (`tributary backfill`)"
    )]
    History {
        /// The topic.
        topic: String,
        /// How many it was made from.
        had: u32,
        /// How many there are.
        has: u32,
    },
    /// The documents are to be taken as they are, and are not all there.
    #[error(
        "topic \"{topic}\" holds no whole snapshot of each source that it needs, and what was \
         read of it before may be gone: records would lose the documents that they have; let the \
         feeds complete theirs (`tributary feed`), then start again"
    )]
    NoSnapshot {
        /// The topic.
        topic: String,
    },
    /// Records of an input are gone.
    #[error(
        "partition {partition} of topic \"{topic}\" has lost {lost} offset(s): {what}; give \
         --accept-loss to go on without them"
    )]
    Loss {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// How many offsets.
        lost: u64,
        /// Which, and how.
        what: String,
    },
    /// More than one of these.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Losses(Vec<StartError>),
    /// A topic was deleted and made again.
    #[error(
        "topic \"{topic}\" is another one than the outputs were made from: it was deleted and made \
         again, or its log was cut and filled anew, and {lost} offset(s) of a partition that were \
         read are gone; give --accept-loss to read the new one from its begin"
    )]
    OtherTopic {
        /// The topic.
        topic: String,
        /// How many offsets of a partition were read.
        lost: u64,
    },
    /// A topic is not the one that the start found.
    #[error(
        "topic \"{topic}\" was deleted, made again, or given other partitions while it was in use; \
         start again: the start says what that means and what to do"
    )]
    Changed {
        /// The topic.
        topic: String,
    },
    /// Somebody wrote where nothing was written by this dataflow.
    #[error(
        "topic \"{topic}\" holds records, and no progress says of which epoch; epochs must not go \
         back under what was loaded from there: give the dataflow another name, and with it new \
         outputs"
    )]
    NoProgress {
        /// The topic.
        topic: String,
    },
    /// Which start was in force is gone.
    #[error(
        "topic \"{topic}\" holds nothing, and progress says that there were starts; what the \
         outputs rest on is not known: give the dataflow another name, and with it new outputs"
    )]
    NoLead {
        /// The topic.
        topic: String,
    },
    /// The archive of the inputs cannot be used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The reference log does not do.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Another start is in force.
    #[error(transparent)]
    Superseded(#[from] Superseded),
    /// The process that leads reads from an archive that this one was not given.
    #[error(
        "the first process of the cluster reads from an archive; give this one the same \
         configuration, and a place that both reach"
    )]
    NoArchive,
    /// The process that leads reads from another archive.
    #[error(
        "the archive \"{archive}\" is another one here than the first process of the cluster sees; \
         give all the same place, that all of them reach"
    )]
    OtherArchive {
        /// Where it lies.
        archive: String,
    },
    /// The process that leads says what this one does not understand.
    #[error(
        "the first process of the cluster says what this one does not understand; run one version \
         of tributary in all"
    )]
    Word,
}

/// Starts that take the lead's id from each other.
#[derive(Default)]
struct Rivals {
    met: u32,
}

impl Rivals {
    fn next_pause(&mut self) -> Duration {
        let most = BETWEEN_RIVALS.saturating_mul(1 << self.met.min(8)).min(BETWEEN_RIVALS_MAX);
        self.met += 1;
        most.mul_f64(drawn() as f64 / u64::MAX as f64)
    }
}

/// A number by chance, another in every process.
fn drawn() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What the process that leads says to the others.
#[derive(Serialize, Deserialize)]
struct Word {
    id: StartId,
    dedupe: DedupeBy,
    accepted: Accepted,
    begins: Begins,
}

impl Start {
    /// Whether all records of some of these shards are to be sent again: documents were taken as
    /// they are, by this start or an earlier one, and they show those of before.
    pub(super) fn owes_everything(&self, ownership: Ownership) -> bool {
        let Recovery { epochs, settled, .. } = &*self.recovery;
        let owes = |shard: u16| {
            let shard = usize::from(shard);
            epochs[shard] > 0 && settled[shard] == 0
        };
        let mut own = (0..epochs.len() as u16).filter(|shard| ownership.has(ShardId(*shard)));
        self.accepted.reference.is_some() && own.any(owes)
    }

    /// Up to where what is written holds an input, in every shard.
    pub(super) fn held(&self, input: Input) -> u64 {
        let begin = match input {
            Input::Events(PartitionId(partition)) => self.begins.events[partition as usize],
            _ => self.begins.reference,
        };
        let is_everywhere = !self.recovery.epochs.contains(&0);
        let first = self.recovery.chain.first().filter(|_| is_everywhere);
        let held = first.and_then(|(_, vector)| vector.get(&input)).map_or(0, |bound| bound.offset);
        held.max(begin)
    }

    /// What the others need to know of it.
    pub(super) fn word(&self) -> Vec<u8> {
        let Start { id, dedupe, begins, accepted, .. } = self.clone();
        let word = Word { id, dedupe, accepted, begins };
        serde_json::to_vec(&word).expect("plain values have a JSON")
    }
}

/// Follows a start that another process leads. All writers are fenced by now, so what is written
/// stands, and every process reads the same.
///
/// # Errors
/// When brokers do not answer.
pub(super) fn follow(run: &KafkaRun, spec: &Spec, word: &[u8]) -> Result<Start, StartError> {
    let KafkaRun { kafka, names, .. } = run;
    let Ok(Word { id, dedupe, accepted, begins }) = serde_json::from_slice(word) else {
        return Err(StartError::Word);
    };
    let mut topics = look(kafka, spec, names)?;
    let of_topic = topics.events.partitions as usize;
    topics.history = begins.events.len().saturating_sub(of_topic) as u32;
    let topics = Arc::new(topics);
    let recovery = Store::new(kafka.clone(), &spec.name).recovery(spec.shards, &accepted)?;
    let log_ends = Arc::new(LogEnds::new(begins.log_end));
    let recovery = Arc::new(recovery);
    let archive = taking(run, &begins)?;
    Ok(Start { id, topics, recovery, dedupe, begins, archive, accepted, log_ends })
}

/// What a start reads from the archive.
fn taking(run: &KafkaRun, begins: &Begins) -> Result<Option<Taking>, StartError> {
    match (&run.archive, &begins.archive) {
        (Some(archive), Some(taken)) => Taking::open(archive, taken.clone()).map(Some),
        (None, Some(_)) => Err(StartError::NoArchive),
        (_, None) => Ok(None),
    }
}

/// Leads a start of so many workers.
///
/// # Errors
/// When it cannot go on; nothing is written to the outputs then.
pub(super) fn lead(run: &KafkaRun, spec: &Arc<Spec>, workers: u32) -> Result<Start, StartError> {
    let KafkaRun { kafka, names, accept, .. } = run;
    let store = Store::new(kafka.clone(), &spec.name);
    let (mut topics, warnings) = look_closely(kafka, spec, names)?;
    warnings.iter().for_each(|warning| warn!("{warning}"));
    let offer = run.archive.as_ref().map(|archive| Offer::look(archive, kafka, &topics));
    let offer = offer.transpose()?.flatten();
    let history: Vec<u64> = offer.iter().flat_map(|offer| offer.history()).collect();
    topics.history = history.len() as u32;
    if offer.as_ref().is_some_and(|offer| !offer.fits(&topics)) {
        let (topic, had) = (topics.events.name.clone(), topics.history);
        return Err(StartError::History { topic, had, has: 0 });
    }
    let lead_id = Store::lead_id(&spec.name);
    let allowed = (&run.span, accept.loss);
    let name = format!("{:016x}", drawn());
    let mut rivals = Rivals::default();
    let (mut writer, before, mut ours) = loop {
        let mut writer = kafka.writer(&lead_id)?;
        let before = store.lead()?;
        if before.is_none() && !store.progress()?.is_empty() {
            return Err(StartError::NoLead { topic: Store::lead_topic(&spec.name) });
        }
        let ours = next(before.as_ref(), spec, &topics, (workers, &history), *accept)?;
        let ours = Lead { name: name.clone(), ..ours };
        // What is gone by now is told before anybody is fenced: the start in force may go on.
        let so_far = store.recovery_so_far(spec.shards, &ours.accepted)?;
        let rests_on = (before.as_ref(), offer.as_ref());
        let (_, lost) = Begins::ask(kafka, &topics, rests_on, &so_far, allowed)?;
        accept_lost(kafka, &topics, (spec, &ours), lost, (&so_far, now_ms()))?;
        // Nor is it fenced by a start that could not take its writers' ids: one beyond theirs shows
        // whether this user may.
        kafka.writer(&Store::writer_ids(&spec.name, ours.workers)[0])?;
        match write(&mut writer, &spec.name, &ours, &BTreeSet::new()) {
            Ok(()) => break (writer, before, ours),
            Err(WriteError::Hopeless(error)) => return Err(error.into()),
            // Another start took the id, and may be refused or end before it leads; or this one
            // leads, and was told nothing of it. Taking the id again ends what is open; the record
            // then says whom this start follows. Of starts at one time the last to write it leads.
            Err(error @ (WriteError::Unknown { .. } | WriteError::Fenced { .. })) => {
                warn!("{error}: begins again");
                thread::sleep(rivals.next_pause());
            }
        }
    };
    info!(generation = ours.generation, workers = ours.workers, "leads");
    fence(kafka, spec, ours.workers)?;
    debug!("fenced every writer that there ever was");
    let (mut recovery, passed) = store.recovery_and_passed(spec.shards, &ours.accepted)?;
    // Asked after the progress is known: what was read is there, unless it is lost.
    let rests_on = (before.as_ref(), offer.as_ref());
    let (begins, lost) = Begins::ask(kafka, &topics, rests_on, &recovery, allowed)?;
    // Whichever clock is ahead: that of who looks later, in the sink, may be either.
    let now_ms = store.lead_time_ms()?.max(now_ms());
    let accepted = accept_lost(kafka, &topics, (spec, &ours), lost, (&recovery, now_ms))?;
    if accepted != ours.accepted {
        if accepted.reference != ours.accepted.reference {
            warn!(
                "documents may be gone from the reference log: takes those that are there; where \
                 the log itself has lost some, start its feed again"
            );
        }
        recovery = store.recovery(spec.shards, &accepted)?;
    }
    let accepted = recovery.still_accepted(accepted);
    info!(
        epoch = recovery.last_epoch(),
        epochs_in_chain = recovery.chain.len(),
        "read the progress"
    );
    if recovery.is_empty() {
        empty_outputs(kafka, &topics)?;
    }
    let is_as_before = (&ours.events_from, ours.reference_from, &ours.accepted)
        == (&begins.events, begins.reference, &accepted);
    if !is_as_before || !passed.is_empty() {
        // Only a start that goes on says from where the state is made now, and what nobody needs.
        ours.events_from.clone_from(&begins.events);
        ours.reference_from = begins.reference;
        ours.accepted = accepted;
        while let Err(error) = write(&mut writer, &spec.name, &ours, &passed) {
            match error {
                // An elder start that finds out that it is one takes the id too: the record says
                // who has it by right.
                WriteError::Unknown { .. } | WriteError::Fenced { .. } => {
                    writer = kafka.writer(&lead_id)?;
                }
                WriteError::Hopeless(error) => return Err(error.into()),
            }
            let Some(lead) = store.lead()? else {
                return Err(StartError::NoLead { topic: Store::lead_topic(&spec.name) });
            };
            if let Some(superseded) = ours.id().superseded_by(&lead) {
                return Err(superseded.into());
            }
        }
    }
    let (topics, recovery) = (Arc::new(topics), Arc::new(recovery));
    let log_ends = Arc::new(LogEnds::new(begins.log_end));
    let id = ours.id();
    let Lead { dedupe, accepted, .. } = ours;
    let archive = taking(run, &begins)?;
    Ok(Start { id, topics, recovery, dedupe, begins, archive, accepted, log_ends })
}

/// What is accepted to be lost from now on; of the reference log also what may be gone by its age.
fn accept_lost(
    kafka: &Kafka,
    topics: &Topics,
    (spec, ours): (&Arc<Spec>, &Lead),
    lost: Lost,
    (recovery, now_ms): (&Recovery, i64),
) -> Result<Accepted, StartError> {
    let mut accepted = ours.accepted.clone();
    accepted.events.extend(lost.events);
    let Some(reference) = &topics.reference else { return Ok(accepted) };
    let is_gone =
        lost.is_reference || is_outdated(kafka, topics, recovery, accepted.reference, now_ms)?;
    // Where nothing is written, nothing was read either.
    if is_gone && !recovery.is_empty() {
        info!(
            "documents may be gone from the reference log: looks whether those that are there can \
             be taken"
        );
        let end = documents_end(kafka, reference, spec)?;
        accepted.reference = Some(Retaken { start: ours.generation, end, time_ms: now_ms });
    }
    Ok(accepted)
}

/// The lead record of this start.
fn next(
    before: Option<&Lead>,
    spec: &Spec,
    topics: &Topics,
    (workers, history): (u32, &[u64]),
    accept: Accept,
) -> Result<Lead, StartError> {
    let output = |topic: &Topic| Output {
        topic: topic.name.clone(),
        id: topic.id.clone(),
        partitions: topic.partitions,
    };
    let views = topics.views.iter().flatten();
    let ours = Lead {
        form: FORM,
        generation: 1,
        name: String::new(),
        workers,
        dataflow: spec.name.clone(),
        spec: format!("{:016x}", spec.hash),
        text: (spec.text.len() <= TEXT_BYTES_MAX).then(|| Arc::clone(&spec.text)),
        shards: spec.shards,
        shard_hash: SHARD_HASH.to_owned(),
        // Whoever brings events that never stood in the topic does not key them as it is keyed.
        dedupe: if history.is_empty() { spec.events.dedupe } else { DedupeBy::Shard },
        events_from: before.map_or(Vec::new(), |lead| lead.events_from.clone()),
        history: history.to_vec(),
        reference_from: before.map_or(0, |lead| lead.reference_from),
        accepted: before.map_or_else(Accepted::default, |lead| lead.accepted.clone()),
        outputs: views.chain([&topics.dead_letters]).map(output).collect(),
    };
    let Some(before) = before else {
        return Ok(ours);
    };
    let known = before.history.len() as u32;
    let had = (before.events_from.len() as u32).saturating_sub(known);
    let has = topics.events.partitions;
    // A start that ended before it went on has said nothing of them.
    let has_begun = !before.events_from.is_empty();
    if has_begun && (before.history != history || known > 0 && had != has) {
        let topic = topics.events.name.clone();
        return Err(StartError::History { topic, had: known, has: topics.history });
    }
    if has < had {
        let topic = topics.events.name.clone();
        return Err(StartError::FewerPartitions { topic, before: had, now: has });
    }
    // A start that ended before it went on has said nothing of them.
    let are_new = had > 0 && had != has;
    if are_new && !accept.partitions {
        let topic = topics.events.name.clone();
        return Err(StartError::Partitions { topic, before: had, now: has });
    }
    // Keys have moved for good.
    let dedupe = if are_new { DedupeBy::Shard } else { before.dedupe.max(ours.dedupe) };
    Ok(before.next(Lead { dedupe, ..ours })?)
}

/// Writes a lead record, and that of some progress records nothing is left.
fn write(
    writer: &mut Writer,
    dataflow: &str,
    lead: &Lead,
    passed: &BTreeSet<String>,
) -> Result<(), WriteError> {
    let (topic, value) = (Store::lead_topic(dataflow), lead.to_json());
    let progress = Store::progress_topic(dataflow);
    let headers = &[("dataflow", dataflow.as_bytes())];
    failpoint!("lead-before");
    writer.write(|send| {
        let (key, value) = (Some(LEAD_KEY), Some(&value[..]));
        send(Outgoing { topic: &topic, partition: 0, key, value, headers })?;
        passed.iter().try_for_each(|key| {
            let key = Some(key.as_bytes());
            send(Outgoing { topic: &progress, partition: 0, key, value: None, headers })
        })
    })?;
    failpoint!("lead-after");
    Ok(())
}

/// Fences every writer of the workers that any start had, several at once, and ends what they had
/// open.
fn fence(kafka: &Kafka, spec: &Spec, workers: u32) -> Result<(), KafkaError> {
    let ids: Vec<_> = (0..workers).flat_map(|w| Store::writer_ids(&spec.name, w)).collect();
    let next = AtomicUsize::new(0);
    let fence_some = || {
        std::iter::repeat_with(|| ids.get(next.fetch_add(1, Ordering::Relaxed)))
            .map_while(|id| id)
            .try_for_each(|id| kafka.writer(id).map(drop))
    };
    thread::scope(|scope| {
        let threads = (0..FENCED_AT_ONCE.min(ids.len())).map(|_| scope.spawn(fence_some));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })
}
