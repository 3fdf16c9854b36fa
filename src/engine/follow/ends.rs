//! What a worker reads and writes.
//!
//! Shape: the job, and of a run over Kafka its start, in; open inputs and the output out.

use std::sync::{Arc, atomic::Ordering};

use timely::worker::Worker;

use super::{inputs::Reference, output::Output};
use crate::{
    dataflow::Resume,
    engine::{
        EngineError, KafkaRun, Shared,
        flow::FusedFlow,
        lead::Start,
        worker::{FIRST, Partition, reads},
    },
    kafka::{PartitionReader, Readers},
    progress::{Ownership, Store},
    reference::ReferenceLog,
    sink::{KafkaSink, kafka::Hand},
    source::{AtEnd, Bound, Earlier, Input, PartitionId},
    spec::{DedupeBy, ShardId},
};

/// What a worker reads and writes.
pub(super) struct Ends {
    pub(super) partitions: Vec<Partition>,
    pub(super) reference: Option<Reference>,
    pub(super) readers: Option<Readers>,
    pub(super) output: Output,
}

impl Ends {
    /// The files of the job.
    pub(super) fn files(
        worker: &Worker,
        shared: &Shared,
        output: Output,
    ) -> Result<Ends, EngineError> {
        let reads_reference = reads(worker, &shared.job.spec, FIRST);
        Ok(Ends {
            partitions: Partition::open(worker, shared, AtEnd::Follow)?,
            reference: reads_reference.then(|| Reference::files(shared)).transpose()?,
            readers: None,
            output,
        })
    }

    /// Takes over the shards of a worker from whoever had them, and reads from where the start
    /// says.
    pub(super) fn take_over(
        worker: &Worker,
        shared: &Shared,
        run: &KafkaRun,
        start: &Start,
        flow: &mut FusedFlow,
    ) -> Result<Ends, EngineError> {
        let spec = &shared.job.spec;
        let wake = {
            let thread = std::thread::current();
            move || thread.unpark()
        };
        let (index, peers) = (worker.index() as u32, worker.peers() as u32);
        let ownership = Ownership { worker: index, of: peers };
        let recovery = Arc::clone(&start.recovery);
        flow.keep_within_horizon(start.topics.events.partitions + start.topics.history);
        // No topic shows them.
        flow.leave_out_counts();
        if start.dedupe == DedupeBy::Shard {
            flow.dedupe_by_shard();
        }
        let own = (0..spec.shards).filter(|shard| ownership.has(ShardId(*shard)));
        let of_own = |values: &[u64]| own.clone().map(|s| values[usize::from(s)]).min();
        flow.resume(Resume {
            record_from: of_own(&recovery.epochs).unwrap_or(0) + 1,
            chain_end: (!recovery.is_empty()).then(|| recovery.last_epoch()),
            owed_from: of_own(&recovery.settled).unwrap_or(0),
            everything: start.owes_everything(ownership),
        });
        let (id, log_ends) = (start.id.clone(), Arc::clone(&start.log_ends));
        let hand = Hand { start: id, ownership, recovery, log_ends };
        let stop = Arc::clone(&shared.stop);
        let sink = KafkaSink::take_over(
            Store::new(run.kafka.clone(), &spec.name),
            spec,
            &start.topics,
            hand,
            move || stop.load(Ordering::Relaxed),
            wake.clone(),
        );
        let sink = sink.map_err(crate::sink::SinkError::from)?;
        let events = &start.topics.events;
        let mut from = Vec::new();
        let archive = start.archive.as_ref();
        let after = |earlier: &Option<Box<dyn Earlier>>, begin| {
            earlier.as_ref().map_or(begin, |earlier| earlier.to().max(begin))
        };
        let (mut earlier, mut history) = (Vec::new(), Vec::new());
        for (partition, begin) in start.begins.events.iter().enumerate() {
            let id = PartitionId(partition as u32);
            if reads(worker, spec, id) {
                let kept = archive.and_then(|archive| archive.events(id.0));
                // Of one of which nothing comes a vector says too from where on it is read.
                flow.bound(Input::Events(id), Bound::from(*begin));
                if id.0 >= events.partitions {
                    history.push((id, kept));
                    continue;
                }
                from.push((events.name.clone(), id.0, after(&kept, *begin)));
                earlier.push(kept);
            }
        }
        let reads_reference = reads(worker, spec, FIRST);
        let reference = start.topics.reference.as_ref().filter(|_| reads_reference);
        from.extend(reference.map(|topic| (topic.name.clone(), 0, start.begins.reference)));
        let read = run.kafka.read(&from, wake);
        let (readers, mut queues) = read.map_err(crate::source::SourceError::from)?;
        let reference = reference.map(|topic| {
            let place = (run.kafka.clone(), topic.name.clone());
            let is_shown = !start.recovery.is_empty();
            let queue = queues.pop().expect("it was asked for last");
            let log = ReferenceLog::new(spec, place, queue, start.begins.reference, is_shown);
            // Every worker has its own share of what is owed; this one reads for all.
            let owed_from = start.recovery.settled.iter().min().copied();
            Reference::log(log, owed_from.filter(|_| !start.recovery.is_empty()))
        });
        let partition = |(queue, kept): (Option<PartitionReader>, _), id: PartitionId| {
            let from = start.begins.events[id.0 as usize];
            let letter_bytes = start.topics.dead_letter_bytes;
            Partition::over(id, (kept, queue), from, spec, letter_bytes)
        };
        let of_topic = queues.into_iter().zip(earlier).map(|(queue, kept)| {
            let id = PartitionId(queue.partition());
            partition((Some(queue), kept), id)
        });
        let of_history = history.into_iter().map(|(id, kept)| partition((None, kept), id));
        Ok(Ends {
            partitions: of_topic.chain(of_history).collect(),
            reference,
            readers: Some(readers),
            output: Output::kafka(sink, run.commit_interval),
        })
    }
}
