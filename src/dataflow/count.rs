//! Counts: numbers of records by group.
//!
//! Shape: what comes to groups and goes from them in; one row a group that has records out.
//!
//! Invariants: a group is a row as long as it has a record, even if all its numbers are 0; an
//! absent value is a group of its own.
//!
//! Not here: which group a record is of (`fused::tallies`, `stock`).

use std::collections::BTreeMap;

use differential_dataflow::{
    AsCollection, Hashable,
    difference::{IsZero, Multiply, Semigroup},
};
use hashbrown::{HashMap, hash_map::Entry};
use serde::{Deserialize, Serialize};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Exchange,
        operators::{Capability, generic::Operator},
    },
};

use super::{Collection, CountsRow, Diff};
use crate::{
    row::{Joined, Value},
    spec::{Spec, ViewId, plan::CountColumn},
    time::Epoch,
};

/// A group of one view of counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group {
    /// The view.
    pub view: ViewId,
    /// The group's values, in the order of the view's `by`.
    pub values: Vec<Option<Value>>,
}

/// Numbers as a difference: they add up where records do, so nothing is kept of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tally {
    /// All records of the group, which decide whether it is a row.
    records: i64,
    numbers: Vec<i64>,
}

impl Tally {
    /// Of no record.
    pub(super) fn zeros(numbers: usize) -> Tally {
        Tally { records: 0, numbers: vec![0; numbers] }
    }

    /// Whether it adds nothing.
    pub(super) fn is_nothing(&self) -> bool {
        self.records == 0 && self.numbers.iter().all(|number| *number == 0)
    }
}

impl IsZero for Tally {
    fn is_zero(&self) -> bool {
        self.is_nothing()
    }
}

impl Semigroup for Tally {
    fn plus_equals(&mut self, other: &Tally) {
        self.records += other.records;
        for (number, more) in self.numbers.iter_mut().zip(&other.numbers) {
            *number += more;
        }
    }
}

impl Multiply<Diff> for Tally {
    type Output = Tally;

    fn multiply(self, times: &Diff) -> Tally {
        let times = *times as i64;
        let numbers = self.numbers.iter().map(|number| number * times).collect();
        Tally { records: self.records * times, numbers }
    }
}

/// Adds a record, so many times, to the tally of its group.
pub(super) fn counted(
    spec: &Spec,
    numbers: &[CountColumn],
    record: &impl Joined,
    times: i64,
    tally: &mut Tally,
) {
    tally.records += times;
    for (sum, number) in tally.numbers.iter_mut().zip(numbers) {
        if number.when.as_ref().is_none_or(|when| spec.holds(when, record)) {
            *sum += times;
        }
    }
}

/// What comes to a group, or goes from it, at an epoch.
pub(super) type TallyUpdate = (Group, Epoch, Tally);

/// Counts records by group, each on one worker.
///
/// By hand, since nearly every event touches a group of its own (that of its student, say):
/// differential's own count took 3.5 of the 5.5 us CPU that an event costs with JSON and all
/// (docs/benchmarks.md).
pub(super) fn count<'s>(tallies: Stream<'s, Epoch, Vec<TallyUpdate>>) -> Collection<'s, CountsRow> {
    let by_group = Exchange::new(|(group, _, _): &TallyUpdate| group.hashed());
    let rows = tallies.unary_frontier::<CapacityContainerBuilder<Vec<RowUpdate>>, _, _, _>(
        by_group,
        "Count",
        |_capability, _info| {
            let mut open: BTreeMap<Epoch, Open> = BTreeMap::new();
            let mut standing: HashMap<Group, Tally> = HashMap::new();
            move |(input, frontier), output| {
                input.for_each(|capability, updates| {
                    let Some(capability) = capability.retain_least(0) else { return };
                    for (group, epoch, tally) in updates.drain(..) {
                        let of_epoch = open.entry(epoch).or_insert_with(|| Open {
                            capability: capability.delayed(&epoch),
                            sums: HashMap::new(),
                        });
                        match of_epoch.sums.entry(group) {
                            Entry::Occupied(mut sum) => sum.get_mut().plus_equals(&tally),
                            Entry::Vacant(none) => drop(none.insert(tally)),
                        }
                    }
                });
                while let Some(of_epoch) = open.first_entry() {
                    let epoch = *of_epoch.key();
                    if frontier.less_equal(&epoch) {
                        break;
                    }
                    let Open { capability, sums } = of_epoch.remove();
                    let mut session = output.session(&capability);
                    for (group, sum) in sums {
                        let mut give = |row, diff| session.give((row, epoch, diff));
                        add(&mut standing, group, sum, &mut give);
                    }
                }
            }
        },
    );
    rows.as_collection()
}

type RowUpdate = (CountsRow, Epoch, Diff);

/// What an epoch brought while it can still bring more.
struct Open {
    capability: Capability<Epoch>,
    sums: HashMap<Group, Tally>,
}

/// Adds a sum to its group; `give` gets the row that goes and the one that comes.
fn add(
    standing: &mut HashMap<Group, Tally>,
    group: Group,
    sum: Tally,
    give: &mut dyn FnMut(CountsRow, Diff),
) {
    match standing.entry(group) {
        Entry::Vacant(none) => {
            if !sum.is_nothing() {
                assert!(sum.records > 0, "only a record that came goes");
                give(row(none.key(), &sum), 1);
                none.insert(sum);
            }
        }
        Entry::Occupied(mut standing) => {
            let before = row(standing.key(), standing.get());
            standing.get_mut().plus_equals(&sum);
            if standing.get().records == 0 {
                assert!(standing.get().is_nothing(), "no record, nothing to count");
                standing.remove();
                return give(before, -1);
            }
            let after = row(standing.key(), standing.get());
            if before != after {
                give(before, -1);
                give(after, 1);
            }
        }
    }
}

/// The row that a group's numbers are.
pub(super) fn row(group: &Group, tally: &Tally) -> CountsRow {
    CountsRow { view: group.view, group: group.values.clone(), numbers: tally.numbers.clone() }
}
