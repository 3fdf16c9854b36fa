//! The fused operator: enrichment and the latest views of all shards of a worker, in one place.
//!
//! Shape: bundles of events that stand and of claims in, each sent to the worker that needs it;
//! updates of the counts out; what changes in records is read from the `State`.
//!
//! Invariants: an epoch is worked off once it is complete, and epochs in their order, so the state
//! after an epoch is what the inputs up to it say, however fast the workers step. Fresh events come
//! first. Once more rows need corrections than `atomic_max`, in one epoch or in some near it, all
//! are spread: each epoch corrects as many as its fuel allows, none while the sink has enough
//! (`State::rest`). Epochs come from the inputs alone:
//! whoever cuts them sees in the `State` whether rows wait, and calls (`Outbox::call`) for more.
//!
//! Not here: what is known to be right (`dataflow::stock`, in plain differential operators; the
//! tests hold this against it at every epoch).

mod changes;
mod documents;
mod json;
mod outbox;
mod state;
mod tallies;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use serde::{Deserialize, Serialize};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Exchange,
        operators::{Capability, generic::Operator},
    },
};

pub use outbox::{Outbox, worker_of};
pub use state::{After, Met, RecordChange, RecordRef, Resume, State, Touched};

use super::{Diff, count::TallyUpdate};
use crate::{
    reference::Claim,
    row::Rows,
    source::{Bound, Input, PartitionId},
    time::Epoch,
};

/// What one worker sends another of one epoch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bundle {
    /// Events that stand, of the receiver's shards.
    pub events: Rows,
    /// Claims that the receiver's events may ask for.
    pub claims: Vec<(Claim, Diff)>,
    /// Up to where the epoch holds inputs of the sender.
    pub bounds: Vec<(Input, Bound)>,
    /// Partitions that were read to their end, and of which nothing came since.
    pub at_end: Vec<PartitionId>,
    /// Keys that a replayed part of the reference log touched.
    pub touched: Vec<Touched>,
    /// The sender was asked to end, so all are to.
    pub end: bool,
}

/// A bundle and the worker it is for.
pub type Addressed = (u64, Bundle);

/// How corrections are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Where at most so many rows wait, all are corrected in the epoch; so many over epochs that
    /// are near each other, since a large change may come in pieces;
    pub atomic_max: u64,
    /// else so many, at least 1, an epoch, until none waits.
    pub fuel: u64,
}

impl Spread {
    /// Every correction within the epoch of its cause.
    pub const NONE: Spread = Spread { atomic_max: u64::MAX, fuel: u64::MAX };
}

/// What an epoch brought while it can still bring more.
struct Arrived {
    capability: Capability<Epoch>,
    bundles: Vec<Bundle>,
}

/// Keeps the records of this worker's shards in `state`; hands on what comes to the counts.
pub fn keep_records<'s>(
    bundles: Stream<'s, Epoch, Vec<Addressed>>,
    state: Rc<RefCell<State>>,
    spread: Spread,
) -> Stream<'s, Epoch, Vec<TallyUpdate>> {
    let to_receiver = Exchange::new(|(worker, _): &Addressed| *worker);
    bundles.unary_frontier::<CapacityContainerBuilder<Vec<TallyUpdate>>, _, _, _>(
        to_receiver,
        "KeepRecords",
        move |_capability, _info| {
            let mut arrived: BTreeMap<Epoch, Arrived> = BTreeMap::new();
            let mut spreading = Spreading::default();
            move |(input, frontier), output| {
                let mut state = state.borrow_mut();
                input.for_each(|capability, addressed| {
                    let Some(capability) = capability.retain_least(0) else { return };
                    let is_end = addressed.iter().any(|(_, bundle)| bundle.end);
                    state.hear(*capability.time(), is_end);
                    let of_epoch = arrived
                        .entry(*capability.time())
                        .or_insert_with(|| Arrived { capability, bundles: Vec::new() });
                    of_epoch.bundles.extend(addressed.drain(..).map(|(_, bundle)| bundle));
                });
                while let Some(first) = arrived.first_entry() {
                    let epoch = *first.key();
                    if frontier.less_equal(&epoch) {
                        break;
                    }
                    let Arrived { capability, bundles } = first.remove();
                    work_off(&mut state, epoch, bundles, spread, &mut spreading);
                    let mut session = output.session(&capability);
                    let tallies = state.end_epoch(epoch);
                    tallies.for_each(|(group, tally)| session.give((group, epoch, tally)));
                }
            }
        },
    )
}

/// Whether corrections are being spread.
#[derive(Default)]
struct Spreading {
    is_on: bool,
    /// Rows corrected in the last epochs that corrected some, each near the one before it,
    corrected: u64,
    /// and the label of the last of them.
    last: Epoch,
}

/// Labels are milliseconds by nature: corrections that are further apart are two changes.
const NEAR: Epoch = 1_000;

impl Spreading {
    /// Corrects what an epoch may.
    fn correct(&mut self, state: &mut State, epoch: Epoch, spread: Spread) {
        let waiting = state.waiting_rows();
        if epoch > self.last + NEAR {
            self.corrected = 0;
        }
        self.is_on |= self.corrected.saturating_add(waiting) > spread.atomic_max;
        // The last rows of many are spread too: whoever waits would notice them as well.
        state.correct(if self.is_on { turn(state, spread) } else { u64::MAX });
        let corrected = waiting - state.waiting_rows();
        if corrected > 0 {
            self.corrected += corrected;
            self.last = epoch;
        }
        self.is_on &= state.waiting_rows() > 0;
    }
}

/// How many rows are corrected in an epoch while they are spread.
fn turn(state: &State, spread: Spread) -> u64 {
    if state.is_resting() { 0 } else { spread.fuel }
}

/// Brings the state to the end of an epoch, but for rows that wait beyond it.
fn work_off(
    state: &mut State,
    epoch: Epoch,
    bundles: Vec<Bundle>,
    spread: Spread,
    spreading: &mut Spreading,
) {
    let mut rows = Vec::with_capacity(bundles.len());
    state.begin_epoch(epoch);
    for Bundle { events, claims, bounds, at_end, touched, end: _ } in bundles {
        state.reach(bounds, at_end);
        touched.into_iter().for_each(|touched| state.touch(touched));
        claims.into_iter().for_each(|(claim, diff)| state.claim(claim, diff));
        rows.push(events);
    }
    state.settle_documents();
    rows.iter().flat_map(Rows::iter).for_each(|event| state.admit(event));
    if state.is_replay(epoch) {
        return state.correct_unseen();
    }
    spreading.correct(state, epoch, spread);
    state.resend(turn(state, spread));
}
