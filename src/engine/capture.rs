//! Capture: from collections to plain rows, each on the worker that owns its shard.
//!
//! Shape: collections in; by epoch, the updates that fell to this worker, out.
//!
//! Invariants: an epoch is drained once, after the frontier passed it.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use differential_dataflow::{ExchangeData, consolidation::consolidate};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        channels::pact::Exchange,
        operators::{generic::Operator, probe::Handle, probe::Probe},
    },
};

use crate::{
    dataflow::{Collection, Diff},
    time::Epoch,
};

/// Updates of a collection that were captured and not drained.
pub(super) struct Capture<D> {
    epochs: Rc<RefCell<BTreeMap<Epoch, Updates<D>>>>,
}

type Updates<D> = Vec<(D, Diff)>;

impl<D: ExchangeData> Capture<D> {
    /// Captures a collection; `owner` says which worker gets a row. `probe` then follows it.
    pub(super) fn of(
        collection: Collection<'_, D>,
        owner: impl Fn(&D) -> usize + 'static,
        probe: &Handle<Epoch>,
    ) -> Capture<D> {
        let capture = Capture { epochs: Rc::default() };
        let epochs = Rc::clone(&capture.epochs);
        let owner = Exchange::new(move |(data, _, _): &(D, Epoch, Diff)| owner(data) as u64);
        collection
            .inner
            .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(owner, "Capture", |_, _| {
                move |input, _output| {
                    input.for_each(|_capability, updates| {
                        let mut epochs = epochs.borrow_mut();
                        for (data, epoch, diff) in updates.drain(..) {
                            epochs.entry(epoch).or_default().push((data, diff));
                        }
                    });
                }
            })
            .probe_with(probe);
        capture
    }

    /// The first captured epoch.
    pub(super) fn first(&self) -> Option<Epoch> {
        self.epochs.borrow().first_key_value().map(|(epoch, _)| *epoch)
    }

    /// Takes what an epoch brought, consolidated, retractions first.
    pub(super) fn take(&self, epoch: Epoch) -> Updates<D> {
        let mut updates = self.epochs.borrow_mut().remove(&epoch).unwrap_or_default();
        consolidate(&mut updates);
        updates.sort_by_key(|(_, diff)| *diff);
        updates
    }
}
