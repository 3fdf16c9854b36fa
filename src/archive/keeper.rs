//! The keeper: copies what comes into the archive, while the dataflow runs.
//!
//! Shape: the topic of a dataflow's events in; segments and manifests out. It reads the topic by
//! itself, so the dataflow waits for none of it, and whatever ends it, the next one goes on from
//! the newest manifest.
//!
//! Invariants: a manifest of ours follows the one that we read last, while that is the newest, or
//! none is created; whoever finds one of a later start stops. A segment is on the disk before a
//! manifest names it. A file is removed only where no manifest names it but those that another has
//! followed for `REMOVED_AFTER`: whoever reads a manifest has that long for its files. What fails
//! with one partition, or with merging and removing, keeps nobody from copying the rest.
//!
//! Not here: what is read of it (`reader`).

mod merge;
mod sweep;

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};
use xxhash_rust::xxh3::xxh3_64;

use self::sweep::Sweeper;
use super::{
    ArchiveError, Manifest, Partition, Segment, Store, Topic,
    manifest::FORM,
    segment::{Made, Writer},
};
use crate::{
    kafka::{Kafka, Next, PartitionReader, Readers},
    process::now_ms,
    progress::StartId,
    source::{Bound, Handed},
    spec::Spec,
};

/// How often what came is kept, where nothing else is said.
const EVERY: Duration = Duration::from_secs(60);

/// About how large a segment becomes: whoever reads one holds it in memory.
const SEGMENT_BYTES: usize = 16 << 20;

/// Most bytes of segments in the making, of all partitions together: then they are ended as they
/// are.
const MAKING_BYTES: usize = 96 << 20;

/// Most records that are taken of a partition at once.
const RECORDS_A_TURN: usize = 2_000;

/// Longest sleep between looks at what came; what comes wakes it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Shortest sleep: what comes one by one is taken in groups, so that the thread that runs the
/// dataflow is not disturbed for each.
const REST: Duration = Duration::from_millis(20);

/// Between tries of what failed.
const BETWEEN_TRIES: Duration = Duration::from_secs(5);

/// A topic that is kept, and from where on each partition is needed.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its name.
    pub topic: String,
    /// Its identity.
    pub id: String,
    /// By partition.
    pub from: Vec<u64>,
}

/// What is kept, for whom.
#[derive(Clone)]
pub struct Job {
    /// The brokers.
    pub kafka: Kafka,
    /// The dataflow.
    pub spec: Arc<Spec>,
    /// The start that keeps it.
    pub start: StartId,
    /// The events.
    pub events: Kept,
    /// How often what came is kept.
    pub every: Option<Duration>,
    /// Where files that are damaged are passed over: up to where of each partition those are used
    /// that an elder start left; what is behind is copied again.
    pub sound: Option<Vec<u64>>,
}

/// How an archive does, for metrics.
pub trait Watched: Send + Sync {
    /// A manifest was written that names so many segments and bytes.
    fn kept(&self, segments: u64, bytes: u64);
    /// Up to there a partition of the events is kept.
    fn holds(&self, partition: u32, offset: u64);
    /// Something failed, and is tried again.
    fn failed(&self);
}

/// Keeps an archive.
pub struct Keeper {
    store: Arc<Store>,
    job: Job,
    watched: Arc<dyn Watched>,
    manifest: Manifest,
    readers: Readers,
    parts: Vec<Part>,
    /// When what came is kept next.
    next: Instant,
    /// Segments that were named so far, so that each has a name of its own.
    named: Cell<u64>,
    sweeper: Sweeper,
}

/// A partition that is copied.
struct Part {
    /// `None` where the topic has lost what comes next: then nothing is copied.
    reader: Option<PartitionReader>,
    /// The segment in the making.
    writer: Option<Writer>,
    /// Segments that no manifest names yet, and up to where they hold the partition.
    made: Vec<Segment>,
    bound: Bound,
}

/// Keeps an archive until it is to end; what fails is tried again, for nobody waits for it.
pub fn keep(store: &Arc<Store>, job: &Job, watched: &Arc<dyn Watched>, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        let kept = Keeper::open(Arc::clone(store), job.clone(), Arc::clone(watched))
            .and_then(|mut keeper| keeper.run(end));
        match kept {
            Ok(()) => return,
            Err(error @ ArchiveError::Superseded { .. }) => {
                info!("{error}");
                return;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(cause, "inputs are not archived, and are tried again: {error}");
                watched.failed();
                let until = Instant::now() + BETWEEN_TRIES;
                while Instant::now() < until && !end.load(Ordering::Relaxed) {
                    thread::sleep(BETWEEN_LOOKS);
                }
            }
        }
    }
}

impl Keeper {
    /// Goes on from the newest manifest.
    ///
    /// # Errors
    /// When the archive is of other topics or of a later start, or cannot be read.
    pub fn open(
        store: Arc<Store>,
        job: Job,
        watched: Arc<dyn Watched>,
    ) -> Result<Keeper, ArchiveError> {
        store.prove()?;
        let mut manifest = job.newest(&store)?;
        superseded(&job.start, &manifest)?;
        job.events.fit(&store, &mut manifest.events)?;
        let (asker, topic) = (job.kafka.asker()?, &job.events.topic);
        let (mut from, mut parts) = (Vec::new(), Vec::new());
        for (number, partition) in (0..).zip(&manifest.events.partitions) {
            let bound = partition.bound();
            let (begin, end) = asker.extent(topic, number)?;
            // Of a topic that is cut to its end the end of a transaction may have stood between.
            let is_there = begin <= bound.offset || begin == end && begin == bound.offset + 1;
            if is_there {
                from.push((topic.clone(), number, bound.offset.max(begin)));
            } else {
                let (to, topic) = (bound.offset, topic.as_str());
                warn!(
                    topic,
                    partition = number,
                    to,
                    begin,
                    "is archived no further: the topic has lost what comes next; the next start \
                     says so, and goes on behind that if it is accepted (--accept-loss)"
                );
            }
            parts.push((is_there, bound));
        }
        let thread = thread::current();
        let (readers, partitions) = job.kafka.read(&from, move || thread.unpark())?;
        let mut partitions = partitions.into_iter();
        let part = |(is_there, bound): (bool, Bound)| {
            let reader = is_there.then(|| partitions.next().expect("each that was asked for"));
            Part { reader, writer: None, made: Vec::new(), bound }
        };
        let parts = parts.into_iter().map(part).collect();
        debug!(manifest = manifest.number, "archives what comes");
        let next = Instant::now() + job.every.unwrap_or(EVERY);
        Ok(Keeper {
            store,
            job,
            watched,
            manifest,
            readers,
            parts,
            next,
            named: Cell::new(0),
            sweeper: Sweeper::default(),
        })
    }

    /// Copies what comes until it is to end; then keeps what came.
    ///
    /// # Errors
    /// When it cannot go on.
    pub fn run(&mut self, end: &AtomicBool) -> Result<(), ArchiveError> {
        while !end.load(Ordering::Relaxed) {
            let more = self.copy()?;
            if Instant::now() >= self.next {
                self.next = Instant::now() + self.every();
                self.keep()?;
                self.tidy();
            }
            if !more {
                thread::sleep(REST);
                thread::park_timeout(BETWEEN_LOOKS.min(self.every()));
            }
        }
        self.keep()
    }

    /// The manifest that was written or read last.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn every(&self) -> Duration {
        self.job.every.unwrap_or(EVERY)
    }

    /// Copies what came into segments; whether there may be more already.
    ///
    /// # Errors
    /// When the topics cannot be read, or the store fails.
    pub fn copy(&mut self) -> Result<bool, ArchiveError> {
        self.readers.serve()?;
        let mut more = false;
        for place in 0..self.parts.len() {
            more |= self.copy_part(place)?;
        }
        let making = |part: &Part| part.writer.as_ref().map_or(0, Writer::bytes);
        if self.parts.iter().map(making).sum::<usize>() >= MAKING_BYTES {
            (0..self.parts.len()).try_for_each(|place| self.end_segment(place))?;
        }
        Ok(more)
    }

    fn copy_part(&mut self, place: usize) -> Result<bool, ArchiveError> {
        let Part { reader, writer, bound, .. } = &mut self.parts[place];
        let Some(reader) = reader else { return Ok(false) };
        for _ in 0..RECORDS_A_TURN {
            match reader.look()? {
                Next::Nothing => return Ok(false),
                Next::End => {}
                Next::Record(taken) => {
                    let record = Handed {
                        offset: taken.offset(),
                        time_ms: taken.time_ms(),
                        key: taken.key(),
                        value: taken.value(),
                    };
                    let writer = match writer {
                        Some(writer) => writer,
                        None => writer.insert(new_writer(bound.offset, &self.job.spec)),
                    };
                    writer.push(record).expect(WRITABLE);
                    *bound = writer.bound();
                    if writer.bytes() >= SEGMENT_BYTES {
                        self.end_segment(place)?;
                        return Ok(true);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Ends the segment of a partition that is in the making, and writes it.
    fn end_segment(&mut self, place: usize) -> Result<(), ArchiveError> {
        let Some(writer) = self.parts[place].writer.take() else { return Ok(()) };
        let made = writer.finish().expect(WRITABLE);
        let segment = self.write(&format!("events/{place}"), made)?;
        self.parts[place].made.push(segment);
        Ok(())
    }

    /// Writes a segment into a folder, under a name that no other has.
    fn write(&self, folder: &str, made: Made) -> Result<Segment, ArchiveError> {
        let Made { bytes, segment, .. } = made;
        self.named.set(self.named.get() + 1);
        let StartId { generation, name } = &self.job.start;
        let own =
            xxh3_64(format!("{generation}-{name}-{}-{}", now_ms(), self.named.get()).as_bytes());
        let path = format!("{folder}/{:020}-{:020}-{own:016x}.parquet", segment.from, segment.to);
        failpoint!("archive-segment");
        self.store.write(&path, bytes)?;
        Ok(Segment { path, ..segment })
    }

    /// Has a manifest name what was copied, if there is anything new.
    ///
    /// # Errors
    /// When another start keeps the archive, or the store fails.
    pub fn keep(&mut self) -> Result<(), ArchiveError> {
        (0..self.parts.len()).try_for_each(|place| self.end_segment(place))?;
        let mut next = self.manifest.clone();
        let mut is_new = false;
        for (place, part) in self.parts.iter().enumerate() {
            if !part.made.is_empty() {
                let partition = &mut next.events.partitions[place];
                partition.segments.extend(part.made.iter().cloned());
                partition.bound = (&part.bound).into();
                is_new = true;
            }
        }
        if is_new {
            self.create(next)?;
            self.parts.iter_mut().for_each(|part| part.made.clear());
        }
        Ok(())
    }

    /// Has small segments merged, and what nobody needs any more removed. What fails there is said,
    /// and tried again at the next turn: nothing rests on it.
    fn tidy(&mut self) {
        let told = |error: ArchiveError| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            warn!(
                cause,
                "small files of the archive are not merged, or old ones not removed: {error}"
            );
        };
        let mut next = self.manifest.clone();
        for (place, partition) in next.events.partitions.iter_mut().enumerate() {
            match self.merged(place, &partition.segments) {
                Ok(Some(segments)) => partition.segments = segments,
                Ok(None) => {}
                Err(error) => told(error),
            }
        }
        if next != self.manifest
            && let Err(error) = self.create(next)
        {
            return told(error);
        }
        let Keeper { sweeper, store, manifest, .. } = self;
        sweeper.sweep(store, manifest).unwrap_or_else(told);
    }

    /// Creates the manifest that follows ours.
    fn create(&mut self, next: Manifest) -> Result<(), ArchiveError> {
        let StartId { generation, name: start } = self.job.start.clone();
        let number = self.manifest.number + 1;
        let next = Manifest { number, generation, start, written_ms: now_ms(), ..next };
        failpoint!("archive-manifest-before");
        // One that slept while the archive was moved away would be the newest of another one.
        let newest = Manifest::numbers(&self.store)?.last().copied().unwrap_or(0);
        if newest != self.manifest.number || !next.create(&self.store)? {
            // An elder start, or this one before it heard what became of its last manifest: what
            // was copied since then is copied again from there.
            if newest >= number {
                superseded(&self.job.start, &Manifest::read(&self.store, newest)?)?;
            }
            let again =
                Keeper::open(Arc::clone(&self.store), self.job.clone(), Arc::clone(&self.watched))?;
            again.named.set(self.named.get());
            *self = again;
            return Ok(());
        }
        failpoint!("archive-manifest-after");
        let sizes = next.segments().map(|segment| segment.bytes);
        self.watched.kept(next.segments().count() as u64, sizes.sum());
        for (place, partition) in (0..).zip(&next.events.partitions) {
            self.watched.holds(place, partition.bound().offset);
        }
        self.manifest = next;
        Ok(())
    }
}

/// Why writing a segment does not fail: it goes to memory.
pub(super) const WRITABLE: &str = "columns of the spec fit a file in memory";

fn new_writer(from: u64, spec: &Arc<Spec>) -> Writer {
    Writer::new(from, spec).expect(WRITABLE)
}

/// Whether a start keeps the archive that is later than ours.
fn superseded(ours: &StartId, found: &Manifest) -> Result<(), ArchiveError> {
    let is_later = found.generation > ours.generation
        || found.generation == ours.generation && found.start != ours.name;
    match is_later {
        true => Err(ArchiveError::Superseded { ours: ours.generation, theirs: found.generation }),
        false => Ok(()),
    }
}

impl Job {
    /// The manifest that counts; where damaged files are passed over, the newest that is whole, as
    /// far as it was found sound, under the number of the newest.
    fn newest(&self, store: &Store) -> Result<Manifest, ArchiveError> {
        let numbers = Manifest::numbers(store)?;
        let newest = numbers.last().copied().unwrap_or(0);
        for number in numbers.into_iter().rev() {
            match (Manifest::read(store, number), &self.sound) {
                (Ok(mut found), Some(sound)) if found.generation < self.start.generation => {
                    for (partition, to) in found.events.partitions.iter_mut().zip(sound) {
                        let place = partition.segments.iter().position(|s| *to < s.to);
                        place.into_iter().for_each(|place| partition.end_before(place));
                    }
                    return Ok(Manifest { number: newest, ..found });
                }
                (Err(ArchiveError::Fault { .. }), Some(_)) => {}
                (found, _) => return Ok(Manifest { number: newest, ..found? }),
            }
        }
        Ok(Manifest {
            form: FORM,
            number: newest,
            generation: 0,
            start: String::new(),
            written_ms: 0,
            dataflow: self.spec.name.clone(),
            events: self.events.empty(),
        })
    }
}

impl Kept {
    fn empty(&self) -> Topic {
        Topic::empty(&self.topic, &self.id, self.from.iter().copied())
    }

    /// Has what an archive holds of the topic be of the topic as it is: with its new partitions,
    /// and without what stood before a loss that was accepted.
    fn fit(&self, store: &Store, held: &mut Topic) -> Result<(), ArchiveError> {
        if held.topic != self.topic || held.id != self.id {
            let archive = store.place().to_owned();
            return Err(ArchiveError::OtherTopic { archive, topic: self.topic.clone() });
        }
        for (place, from) in self.from.iter().enumerate() {
            match held.partitions.get(place) {
                Some(partition) if *from <= partition.from => {}
                Some(partition) if *from <= partition.bound().offset => {
                    // Segments are whole: one that holds the begin of what is needed stays.
                    let partition = &mut held.partitions[place];
                    let past = partition.segments.partition_point(|segment| segment.to <= *from);
                    partition.aside.extend(partition.segments.drain(..past));
                    let first = partition.segments.first().map(|segment| segment.from);
                    partition.from = first.unwrap_or(*from);
                }
                Some(partition) => {
                    let mut aside = partition.aside.clone();
                    aside.extend(partition.segments.iter().cloned());
                    held.partitions[place] = Partition { aside, ..Partition::empty(*from) };
                }
                None => held.partitions.push(Partition::empty(*from)),
            }
        }
        Ok(())
    }
}
