//! A worker: which inputs it reads, and how a record becomes an event or a dead letter.
//!
//! Shape: a timely worker and the job in; its share of the outputs out.
//!
//! Not here: the loops over files that end (`once`) and over files that grow (`follow`); starting
//! workers and joining their shares (`engine`).

use std::{sync::Arc, time::Duration};

use timely::worker::Worker;

use super::{
    EngineError, Shared, StopOthers, Work,
    flow::{Flow, FusedFlow, StockFlow},
    follow::Follower,
    once::Once,
};
use crate::{
    dataflow::{Dedupe, Spread, Verdict, worker_of},
    kafka::PartitionReader,
    reference::file::Counts,
    sink::FileShare,
    source::{
        AtEnd, Bound, DeadLetter, Decoder, Earlier, Limit, PartitionId, Place, Reached, Reason,
        Record, Source, SourceError, file::FileSource, kafka::KafkaSource,
    },
    spec::{ShardId, Spec},
    time::Moment,
};

/// Most bytes that a partition gives to an epoch, beyond a last line: with lines of the greatest
/// length an epoch would otherwise be as large as the file.
pub(super) const EPOCH_BYTES: u64 = 16 << 20;

/// Longest sleep when there is nothing to do but wait for other workers.
pub(super) const PARK: Duration = Duration::from_millis(1);

/// The partition by whose lines changes of documents are timed, and whose worker reads them.
pub(super) const FIRST: PartitionId = PartitionId(0);

/// What a worker ends with.
pub(super) struct End {
    pub lines: u64,
    pub bytes: u64,
    pub epochs: u64,
    pub reference: Counts,
    /// Of a run to the files' end.
    pub share: Option<FileShare>,
}

/// Runs one worker to its end.
pub(super) fn run(worker: &mut Worker, shared: &Shared) -> Result<End, EngineError> {
    let mut guard = StopOthers { stop: &shared.stop, finished: false };
    let spec = &shared.job.spec;
    let end = match &shared.job.work {
        Work::Once { stock: false, .. } => {
            let flow = FusedFlow::build(worker, spec, Spread::NONE, false);
            Once::start(worker, shared, flow).and_then(|run| run.finish(worker))
        }
        Work::Once { stock: true, .. } => {
            let flow = StockFlow::build(worker, spec);
            Once::start(worker, shared, flow).and_then(|run| run.finish(worker))
        }
        Work::Follow(follow) => {
            let flow = FusedFlow::build(worker, spec, follow.spread, true);
            Follower::start(worker, shared, follow, flow).and_then(|run| run.finish(worker))
        }
    };
    guard.finished = end.is_ok();
    drop(guard);
    if end.is_err() {
        // A dataflow whose inputs are given up would be stepped until the others end theirs.
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
    }
    end
}

/// The shard that owns the dead letters of a partition; its worker reads it.
fn shard_of_partition(spec: &Spec, partition: PartitionId) -> ShardId {
    ShardId((partition.0 % u32::from(spec.shards)) as u16)
}

/// Whether this worker reads a partition.
pub(super) fn reads(worker: &Worker, spec: &Spec, partition: PartitionId) -> bool {
    worker_of(shard_of_partition(spec, partition), worker.peers()) == worker.index()
}

/// An input partition and the keys that came by it.
pub(super) struct Partition {
    source: Box<dyn Source>,
    dedupe: Dedupe,
    /// How many bytes of what is no event can be kept.
    letter_bytes: usize,
    /// Whether it was at its end when that was asked last, and nothing came since.
    was_at_end: bool,
    /// Up to where it was read.
    read_to: u64,
}

impl Partition {
    /// Opens the partitions that a worker reads.
    pub(super) fn open(
        worker: &Worker,
        shared: &Shared,
        at_end: AtEnd,
    ) -> Result<Vec<Partition>, SourceError> {
        let spec = &shared.job.spec;
        let mut partitions = Vec::new();
        for (place, path) in shared.job.events.iter().enumerate() {
            let id = PartitionId(place as u32);
            if reads(worker, spec, id) {
                let source = Box::new(FileSource::open(id, path, at_end)?);
                partitions.push(Partition::of(source, spec, usize::MAX));
            }
        }
        Ok(partitions)
    }

    /// A partition of a topic, read from an offset on; what is kept elsewhere of it comes first.
    /// Without a reader that is all that there is.
    pub(super) fn over(
        id: PartitionId,
        (earlier, reader): (Option<Box<dyn Earlier>>, Option<PartitionReader>),
        from: u64,
        spec: &Spec,
        letter_bytes: usize,
    ) -> Partition {
        let source = Box::new(KafkaSource::new(id, earlier, reader, from));
        Partition { read_to: from, ..Partition::of(source, spec, letter_bytes) }
    }

    fn of(source: Box<dyn Source>, spec: &Spec, letter_bytes: usize) -> Partition {
        let (dedupe, was_at_end) = (Dedupe::new(spec), false);
        Partition { source, dedupe, letter_bytes, was_at_end, read_to: 0 }
    }

    /// Whether it has come to its end since this was asked last.
    pub(super) fn has_come_to_end(&mut self) -> bool {
        let is_at_end = self.source.is_at_end();
        let was_at_end = std::mem::replace(&mut self.was_at_end, is_at_end);
        is_at_end && !was_at_end
    }

    /// Up to where it was read.
    pub(super) fn read_to(&self) -> u64 {
        self.read_to
    }

    /// Lets go of what it knows of events that were made before a moment.
    pub(super) fn let_go(&mut self, before: Moment) {
        self.dedupe.let_go(before);
    }

    /// Reads up to where an earlier run came; `None` lifts that.
    pub(super) fn stop_at(&mut self, stop: Option<Bound>) {
        self.source.stop_at(stop);
    }

    /// Holds at a bound that another reader has come to; `None` lifts it.
    pub(super) fn hold_at(&mut self, hold: Option<Bound>) {
        self.source.hold_at(hold);
    }

    /// Whether it came there.
    pub(super) fn is_at_stop(&self) -> bool {
        self.source.is_at_stop()
    }

    pub(super) fn id(&self) -> PartitionId {
        self.source.partition()
    }

    /// Reads on: what stands goes to the dataflow, what is no event to `refuse`.
    pub(super) fn read(
        &mut self,
        limit: Limit,
        decoder: &mut Decoder,
        flow: &mut impl Flow,
        refuse: &mut dyn FnMut(DeadLetter),
    ) -> Result<Reached, SourceError> {
        let Partition { source, dedupe, letter_bytes, was_at_end, read_to } = self;
        let partition = source.partition();
        let reached = source.read(limit, &mut |record| {
            let Record { offset, key, time_ms, bytes } = record;
            let place = Place { partition, offset };
            let refusal = match decoder.decode(bytes) {
                Ok(row) => match dedupe.judge(row, time_ms) {
                    Verdict::Stands => return flow.event(place, row),
                    Verdict::Repeats => return,
                    Verdict::Taken => Reason::KeyTaken.into(),
                    Verdict::Behind => decoder.behind_horizon(),
                },
                Err(refusal) => refusal,
            };
            let (size, key) = (bytes.len(), key.map(Box::from));
            let bytes = bytes[..size.min(*letter_bytes)].into();
            refuse(DeadLetter { place, refusal, bytes, size, key, time_ms });
        })?;
        *was_at_end &= reached.records == 0;
        *read_to = reached.bound.offset;
        Ok(reached)
    }
}

/// What people call each events file, by `PartitionId`.
pub(super) fn file_names(shared: &Shared) -> Arc<Vec<String>> {
    Arc::new(shared.job.events.iter().map(|path| path.display().to_string()).collect())
}
