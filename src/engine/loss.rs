//! Loss upstream: what there is of the inputs, held against what was read of them.
//!
//! Shape: the topics as they are, the lead record and the progress of earlier starts in; where the
//! inputs are read from, or what is gone, out.
//!
//! Invariants: an offset from which state is made, or that was read, and that is not there any more
//! is a loss with a name and a count (P8). Who accepts it goes on with what there is: of a topic
//! that only lost its begin, from where it begins now; of another topic under the same name, or one
//! that is shorter than what was read, all that it holds, as if it was new.
//!
//! Not here: that a record before a bound becomes another one later (`source::kafka`).

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    Edge, Metrics, Span,
    archived::{Offer, Taken},
    hold::Hold,
    lead::{Start, StartError},
};
use crate::{
    kafka::{Asker, Kafka, KafkaError, SmallRecord},
    process::now_ms,
    progress::{
        AcceptedLoss, Lead, LogEnd, Recovery, Retaken, StartId, Store, StoreError, may_be_swept,
    },
    reference::Sources,
    sink::kafka::{Topic, Topics},
    source::{Input, Last, PartitionId, Vector, kafka::Handed},
    spec::Spec,
};

/// Between looks at whether the topics are still those of the start; and while another dataflow is
/// compared with this one.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS_WHILE_HELD: Duration = Duration::from_millis(500);

/// A partition that is read: of which topic, and what a vector calls it.
struct Read<'t> {
    topic: &'t Topic,
    partition: u32,
    input: Input,
}

/// Where inputs are read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begins {
    /// By partition of the events.
    pub(super) events: Vec<u64>,
    /// Of the reference log.
    pub(super) reference: u64,
    /// Where that ended then.
    pub(super) log_end: Option<LogEnd>,
    /// What of them comes from the archive.
    pub(super) archive: Option<Taken>,
    /// By partition of the events, where it ended then.
    pub(super) ends: Vec<u64>,
    /// By partition of the events, up to where it is read, where the run ends by itself.
    pub(super) until: Option<Vec<u64>>,
}

/// What is lost of the inputs, and was accepted by a start.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Of the events.
    pub(super) events: Vec<AcceptedLoss>,
    /// Whether documents are.
    pub(super) is_reference: bool,
}

/// The first offset that each partition has and the one that it gives next, in the order of `read`.
pub(super) struct Extents(pub(super) Vec<(u64, u64)>);

fn read(topics: &Topics) -> impl Iterator<Item = Read<'_>> {
    let events = (0..topics.events.partitions).map(|partition| Read {
        topic: &topics.events,
        partition,
        input: Input::Events(PartitionId(partition)),
    });
    let reference = topics.reference.as_ref();
    events.chain(reference.map(|topic| Read { topic, partition: 0, input: Input::Reference }))
}

impl Extents {
    /// Asks the brokers.
    pub(super) fn ask(asker: &Asker, topics: &Topics) -> Result<Extents, KafkaError> {
        let extent = |read: Read<'_>| asker.extent(&read.topic.name, read.partition);
        read(topics).map(extent).collect::<Result<_, _>>().map(Extents)
    }
}

impl Begins {
    /// Where the inputs are read from, by what is there and what was read, and what is lost.
    ///
    /// # Errors
    /// When something is gone, and that was not accepted.
    pub(super) fn ask(
        kafka: &Kafka,
        topics: &Topics,
        (before, offer): (Option<&Lead>, Option<&Offer>),
        recovery: &Recovery,
        (span, is_loss_accepted): (&Span, bool),
    ) -> Result<(Begins, Lost), StartError> {
        let asked_ms = now_ms();
        let asker = kafka.asker()?;
        let Extents(extents) = Extents::ask(&asker, topics)?;
        let newest = recovery.chain.last().map(|(_, vector)| vector);
        let is_other = others(kafka, topics, newest, &extents)?;
        let (mut begins, mut of_inputs) = (Begins::default(), Lost::default());
        begins.archive = offer.map(|offer| offer.taken(topics.events.partitions + topics.history));
        let mut losses = Vec::new();
        let start = before.map_or(0, |lead| lead.generation) + 1;
        for (read, extent) in read(topics).zip(extents) {
            let from = before.and_then(|lead| match read.input {
                Input::Events(PartitionId(place)) => lead.events_from.get(place as usize).copied(),
                // A start that ended before it went on has said nothing of it.
                _ => Some(lead.reference_from).filter(|_| !lead.events_from.is_empty()),
            });
            let first = match (&span.since, from, read.input) {
                (Some(since), None, Input::Events(_)) => {
                    offset_of(since, &asker, offer, (&read, extent))?
                }
                _ => from.unwrap_or(0),
            };
            if let (Some(until), Input::Events(_)) = (&span.until, read.input) {
                let end = offset_of(until, &asker, offer, (&read, extent))?;
                begins.until.get_or_insert_default().push(end);
            }
            let (begin, extent) = (extent.0, begins.with_archive(&read, offer, extent, first));
            let was_read = newest.and_then(|vector| vector.get(&read.input));
            let was_read = was_read.map_or(0, |bound| bound.offset);
            let is_other = is_other.contains(&read.input);
            let lost =
                from.and_then(|from| lost(&read, from, was_read, extent, is_other, recovery));
            let gap = || gap(&read, offer, (begin, extent.1), first).map(|loss| (loss, false));
            let lost = lost.or_else(|| from.is_none().then(gap).flatten());
            // What stands before the state's begin is not a part of it.
            let begin = if lost.is_none() { extent.0.max(first) } else { extent.0 };
            if let Some((loss, is_new)) = lost {
                losses.push(loss);
                match read.input {
                    Input::Events(PartitionId(partition)) => {
                        let loss = AcceptedLoss { partition, start, from: extent.0, is_new };
                        of_inputs.events.push(loss);
                    }
                    _ => of_inputs.is_reference = true,
                }
            }
            match read.input {
                Input::Events(_) => {
                    begins.events.push(begin);
                    begins.ends.push(extent.1);
                }
                _ => {
                    begins.reference = extent.0;
                    begins.log_end = Some(LogEnd { asked_ms, end: extent.1 });
                }
            }
        }
        for (place, end) in (0..).zip(offer.iter().flat_map(|offer| offer.history())) {
            begins.events.push(0);
            begins.ends.push(end);
            begins.until.iter_mut().for_each(|until| until.push(end));
            let taken = begins.archive.as_mut().expect("an archive is offered");
            taken.take_events(topics.events.partitions + place, 0, end);
        }
        if !is_loss_accepted && !losses.is_empty() {
            return Err(match losses.len() {
                1 => losses.remove(0),
                _ => StartError::Losses(losses),
            });
        }
        losses.iter().for_each(|loss| warn!("accepted: {loss}"));
        Ok((begins, of_inputs))
    }
}

/// Whether a topic has all that comes behind what is archived up to an offset. Of one that is cut
/// to its end the end of a transaction may have stood between.
fn follows((begin, end): (u64, u64), archived: u64) -> bool {
    begin <= archived || begin == end && begin == archived + 1
}

/// What of a partition is neither archived nor in its topic, whose first start this is: it went
/// after the archive was made.
fn gap(
    read: &Read<'_>,
    offer: Option<&Offer>,
    (begin, end): (u64, u64),
    first: u64,
) -> Option<StartError> {
    let Input::Events(PartitionId(partition)) = read.input else { return None };
    let archived = offer?.bound(partition)?;
    (!follows((begin, end), archived) && first <= begin).then(|| StartError::Loss {
        topic: read.topic.name.clone(),
        partition,
        lost: begin - archived,
        what: format!(
            "{archived} to {begin}, between the end of its archive and the begin of the topic: \
             they are deleted; copy the archive anew (`tributary retire`, then `backfill`), for \
             without them nothing of it is read either"
        ),
    })
}

/// Where a partition is cut; at most its end.
fn offset_of(
    edge: &Edge,
    asker: &Asker,
    offer: Option<&Offer>,
    (read, extent): (&Read<'_>, (u64, u64)),
) -> Result<u64, StartError> {
    match edge {
        Edge::Moment(ms) => written_since(asker, offer, read, extent, *ms),
        Edge::Offsets(offsets) => {
            let offset = offsets.get(read.partition as usize);
            Ok(offset.map_or(extent.1, |offset| (*offset).min(extent.1)))
        }
    }
}

/// The first offset of a partition whose record was written at or after a moment, in the archive or
/// the topic; its end where there is none.
fn written_since(
    asker: &Asker,
    offer: Option<&Offer>,
    Read { topic, partition, .. }: &Read<'_>,
    (begin, end): (u64, u64),
    ms: i64,
) -> Result<u64, StartError> {
    let of_topic = asker.offset_at(&topic.name, *partition, ms)?.unwrap_or(end);
    // What is archived counts where the topic has nothing that is older.
    let archived = match offer {
        Some(offer) if of_topic <= begin => offer.written_since(*partition, ms)?,
        _ => None,
    };
    Ok(archived.map_or(of_topic, |archived| archived.min(of_topic)))
}

impl Begins {
    /// What there is of a partition with what the archive has of it, which is taken then.
    fn with_archive(
        &mut self,
        read: &Read<'_>,
        offer: Option<&Offer>,
        (begin, end): (u64, u64),
        needed: u64,
    ) -> (u64, u64) {
        let (Some(offer), Some(taken)) = (offer, &mut self.archive) else { return (begin, end) };
        match read.input {
            Input::Events(PartitionId(partition)) => match offer.events(partition) {
                // Nothing is missing between the two, and the topic has nothing that is older.
                Some((from, to)) if follows((begin, end), to) && from <= begin.max(needed) => {
                    let from = from.max(needed);
                    taken.take_events(partition, from, to);
                    (from, end)
                }
                _ => (begin, end),
            },
            _ => (begin, end),
        }
    }
}

/// Whether the reference log may have been compacted since the shards owed nothing: what a document
/// said then, and what it said before it was as it is now, may both be gone. A shard of which all
/// is owed, since an earlier start took the documents as they were and ended amid it, needs those
/// from there on.
///
/// What is left there may all be young, since a deletion goes without a trace: so it counts too
/// since when the shards owe nothing.
pub(super) fn is_outdated(
    kafka: &Kafka,
    topics: &Topics,
    recovery: &Recovery,
    retaken: Option<Retaken>,
    now_ms: i64,
) -> Result<bool, KafkaError> {
    let taken = retaken.map_or(0, |retaken| retaken.end);
    let Recovery { epochs, settled, settled_ms, .. } = recovery;
    let written = || (0..epochs.len()).filter(|shard| epochs[*shard] > 0);
    let first = written().map(|shard| if settled[shard] == 0 { taken } else { settled[shard] });
    let (Some(topic), Some(first)) = (&topics.reference, first.min()) else { return Ok(false) };
    let is_old = |time: i64| may_be_swept(time, now_ms, topics.reference_lag_ms);
    if kafka.time_at(&topic.name, 0, first)?.is_some_and(is_old) {
        return Ok(true);
    }
    // Of the transaction that was read last the marker may stand there; a later one takes two.
    let (_, end) = kafka.asker()?.extent(&topic.name, 0)?;
    Ok(end > first + 1 && written().any(|shard| is_old(settled_ms[shard])))
}

/// Up to where the reference log is committed, no open transaction before that: documents may be
/// taken as they are there.
///
/// # Errors
/// When the snapshots are not complete there, or less is kept of documents than the spec takes:
/// records would lose what they have.
pub(super) fn documents_end(
    kafka: &Kafka,
    topic: &Topic,
    spec: &Arc<Spec>,
) -> Result<u64, StartError> {
    let mut sources = Sources::new(spec);
    let end = kafka.scan(&topic.name, 0, 0, &mut |taken| {
        sources.take(taken.key(), taken.value());
        true
    })?;
    sources.hold_enough()?;
    match sources.may_begin() {
        true => Ok(end),
        false => Err(StartError::NoSnapshot { topic: topic.name.clone() }),
    }
}

/// The inputs that do not hold, where a vector's bound says that a record was read last, that
/// record: a topic of the same identity whose log was cut and filled anew, as when a broker that
/// was behind came to lead it. That a compacted log has none there says nothing.
fn others(
    kafka: &Kafka,
    topics: &Topics,
    vector: Option<&Vector>,
    extents: &[(u64, u64)],
) -> Result<Vec<Input>, KafkaError> {
    let Some(vector) = vector else { return Ok(Vec::new()) };
    let known = read(topics).zip(extents).filter_map(|(read, (begin, end))| {
        let last = vector.get(&read.input)?.last?;
        (*begin..*end).contains(&last.offset).then_some((read, last))
    });
    let known: Vec<(Read<'_>, Last)> = known.collect();
    let places: Vec<_> = known
        .iter()
        .map(|(Read { topic, partition, .. }, last)| (topic.name.clone(), *partition, last.offset))
        .collect();
    let found = kafka.first_at(&places)?;
    let is_other = |((read, last), found): ((Read<'_>, Last), Option<SmallRecord>)| {
        let found = found.filter(|record| record.offset == last.offset);
        let is_other = match found {
            Some(SmallRecord { offset, key, value, time_ms }) => {
                let (key, value) = (Some(&key[..]), value.as_deref());
                Last::of(&Handed { offset, time_ms, key, value }) != last
            }
            None => read.input != Input::Reference,
        };
        is_other.then_some(read.input)
    };
    Ok(known.into_iter().zip(found).filter_map(is_other).collect())
}

/// What is lost of a partition whose state is made from `from` on and that was read up to
/// `was_read`; and whether what is there now is to be read as if it was new.
fn lost(
    read: &Read<'_>,
    from: u64,
    was_read: u64,
    (begin, end): (u64, u64),
    is_other: bool,
    recovery: &Recovery,
) -> Option<(StartError, bool)> {
    let Read { topic, partition, .. } = read;
    let known = match read.input {
        Input::Events(_) => &recovery.events,
        _ => &recovery.reference,
    };
    let is_known = |(name, id): &(String, String)| *name == topic.name && *id == topic.id;
    if is_other || !known.as_ref().is_none_or(is_known) {
        let lost = was_read.saturating_sub(from);
        let error = StartError::OtherTopic { topic: topic.name.clone(), lost };
        return Some((error, true));
    }
    let loss = |lost, what| StartError::Loss {
        topic: topic.name.clone(),
        partition: *partition,
        lost,
        what,
    };
    if end < was_read {
        let what = format!("{end} to {was_read}, which were read: it ends before them");
        return Some((loss(was_read - end, what), true));
    }
    if begin > from {
        let unread = begin.saturating_sub(was_read);
        let what =
            format!("{from} to {begin}, of which {unread} were never read: they are deleted");
        return Some((loss(begin - from, what), false));
    }
    None
}

/// Looks now and then whether the start is still in force and the topics are those that it found,
/// on a thread of its own: a process that has nothing to write would not notice.
pub(super) struct Guard {
    store: Store,
    start: StartId,
    found: Arc<Mutex<Option<StartError>>>,
    /// Dropped to end the thread.
    _running: mpsc::Sender<()>,
}

impl Guard {
    /// Begins to look; `stop` is called when something is found.
    ///
    /// # Errors
    /// When its client cannot be made.
    pub(super) fn begin(
        store: Store,
        start: &Start,
        (metrics, hold): (Arc<Metrics>, Arc<Hold>),
        stop: impl Fn() + Send + 'static,
    ) -> Result<Guard, KafkaError> {
        let asker = store.kafka().asker()?;
        let found = Arc::new(Mutex::new(None));
        let (running, over) = mpsc::channel::<()>();
        let (topics, finding) = (Arc::clone(&start.topics), Arc::clone(&found));
        let (looking, log_ends) = (store.clone(), Arc::clone(&start.log_ends));
        let start = start.id.clone();
        let ours = start.clone();
        thread::spawn(move || {
            let mut lead_end = 0;
            let pause = || if hold.is_asked() { BETWEEN_LOOKS_WHILE_HELD } else { BETWEEN_LOOKS };
            while over.recv_timeout(pause()) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Brokers that do not answer are noticed by who reads and writes.
                let found = look(&asker, &topics).and_then(|found| match found {
                    None => superseded(&looking, &asker, &ours, (&mut lead_end, &hold)),
                    found => Ok(found),
                });
                hold.look();
                if let Ok(Some(error)) = found {
                    *finding.lock().expect("nobody panics while holding it") = Some(error);
                    return stop();
                }
                for read in read(&topics) {
                    let asked_ms = now_ms();
                    if let Some(end) = asker.end_now(&read.topic.name, read.partition) {
                        metrics.ends(read.input, end);
                        if read.input == Input::Reference {
                            log_ends.set(LogEnd { asked_ms, end });
                        }
                    }
                }
            }
        });
        Ok(Guard { store, start, found, _running: running })
    }

    /// Whether another start is in force, asked now; `None` too where brokers do not answer.
    pub(super) fn superseded(&self) -> Option<StartError> {
        Some(self.start.superseded_by(&self.store.lead().ok()??)?.into())
    }

    /// What was found.
    pub(super) fn found(&self) -> Option<StartError> {
        self.found.lock().expect("nobody panics while holding it").take()
    }
}

/// Whether another start is in force, and whether this one is to hold; `end` is where the lead
/// record's topic ended before.
fn superseded(
    store: &Store,
    asker: &Asker,
    ours: &StartId,
    (end, hold): (&mut u64, &Hold),
) -> Result<Option<StartError>, StoreError> {
    let now = store.lead_end(asker)?;
    if now == *end {
        return Ok(None);
    }
    let (lead, word) = store.lead_and_hold()?;
    *end = now;
    hold.take(word);
    Ok(lead.and_then(|lead| ours.superseded_by(&lead)).map(StartError::from))
}

/// In what the topics differ from those of the start.
fn look(asker: &Asker, topics: &Topics) -> Result<Option<StartError>, StoreError> {
    let Topics { events, reference, views, dead_letters, progress, lead, .. } = topics;
    let outputs: Vec<&Topic> =
        views.iter().flatten().chain([dead_letters, progress, lead]).collect();
    let all = [events].into_iter().chain(reference).chain(outputs);
    let names: Vec<String> = all.clone().map(|topic| topic.name.clone()).collect();
    let found = asker.identities(&names)?;
    for topic in all {
        let now = found.iter().find(|(name, ..)| *name == topic.name);
        let Some((_, id, partitions)) = now else {
            return Ok(Some(StartError::Changed { topic: topic.name.clone() }));
        };
        if (id, *partitions) != (&topic.id, topic.partitions) {
            return Ok(Some(StartError::Changed { topic: topic.name.clone() }));
        }
    }
    Ok(None)
}
