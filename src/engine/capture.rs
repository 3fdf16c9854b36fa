//! Capture: from collections to plain rows, each on the worker that owns its shard.
//!
//! Shape: the dataflow's views in; by epoch, what this worker must hand to its sink, out.
//!
//! Invariants: a row goes to the worker of its shard, a taken event to the worker that reads its
//! partition; an epoch is drained once, after the frontier passed it.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use differential_dataflow::consolidation::consolidate;
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        channels::pact::Exchange,
        operators::{generic::Operator, probe::Handle, probe::Probe},
    },
};

use crate::{
    dataflow::{Collection, Diff, ViewRow, Views},
    sink::render,
    source::{PartitionId, Place},
    spec::{ShardId, Spec},
    time::Epoch,
};

/// What an epoch brought to this worker.
#[derive(Debug, Default)]
pub(super) struct Captured {
    /// By `ViewId`.
    pub views: Vec<Vec<(ViewRow, Diff)>>,
    /// Events whose key is taken.
    pub taken: Vec<Place>,
}

/// The epochs that were captured and not drained.
pub(super) struct Capture {
    epochs: Rc<RefCell<BTreeMap<Epoch, Captured>>>,
    views: usize,
    probe: Handle<Epoch>,
}

/// The worker that owns a shard.
pub(super) fn worker_of(shard: ShardId, workers: usize) -> usize {
    usize::from(shard.0) % workers
}

/// The shard that owns the dead letters of a partition; its worker reads it.
pub(super) fn shard_of_partition(spec: &Spec, partition: PartitionId) -> ShardId {
    ShardId((partition.0 % u32::from(spec.shards)) as u16)
}

impl Capture {
    /// Captures all that comes out of a dataflow.
    pub(super) fn of(spec: &Arc<Spec>, outputs: Views<'_>, workers: usize) -> Capture {
        let capture =
            Capture { epochs: Rc::default(), views: outputs.views.len(), probe: Handle::new() };
        for (view, rows) in outputs.views.into_iter().enumerate() {
            let spec = Arc::clone(spec);
            let owner = move |row: &ViewRow| worker_of(render::shard(&spec, row), workers);
            capture.tap(rows, owner, move |captured, row, diff| {
                captured.views[view].push((row, diff));
            });
        }
        let spec = Arc::clone(spec);
        let reader =
            move |place: &Place| worker_of(shard_of_partition(&spec, place.partition), workers);
        capture.tap(outputs.taken, reader, |captured, place, diff| {
            assert_eq!(diff, 1, "that a key is taken is never taken back");
            captured.taken.push(place);
        });
        capture
    }

    fn tap<'s, D: differential_dataflow::ExchangeData>(
        &self,
        collection: Collection<'s, D>,
        owner: impl Fn(&D) -> usize + 'static,
        put: impl Fn(&mut Captured, D, Diff) + 'static,
    ) {
        let (epochs, views) = (Rc::clone(&self.epochs), self.views);
        let owner = Exchange::new(move |(data, _, _): &(D, Epoch, Diff)| owner(data) as u64);
        collection
            .inner
            .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(owner, "Capture", |_, _| {
                move |input, _output| {
                    input.for_each(|_capability, updates| {
                        let mut epochs = epochs.borrow_mut();
                        for (data, epoch, diff) in updates.drain(..) {
                            let captured = epochs.entry(epoch).or_insert_with(|| Captured {
                                views: vec![Vec::new(); views],
                                taken: Vec::new(),
                            });
                            put(captured, data, diff);
                        }
                    });
                }
            })
            .probe_with(&self.probe);
    }

    /// The first epoch that can still bring something; `None` once none can.
    pub(super) fn frontier(&self) -> Option<Epoch> {
        self.probe.with_frontier(|frontier| frontier.first().copied())
    }

    /// Takes the first captured epoch before `frontier`, consolidated, retractions first.
    pub(super) fn next_before(&self, frontier: Option<Epoch>) -> Option<(Epoch, Captured)> {
        let mut epochs = self.epochs.borrow_mut();
        let first = epochs.first_entry()?;
        if frontier.is_some_and(|frontier| *first.key() >= frontier) {
            return None;
        }
        let (epoch, mut captured) = first.remove_entry();
        for updates in &mut captured.views {
            consolidate(updates);
            updates.sort_by_key(|(_, diff)| *diff);
        }
        captured.taken.sort();
        Some((epoch, captured))
    }
}
