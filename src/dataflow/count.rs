//! Counts: numbers of records by group.
//!
//! Shape: what comes to groups and goes from them in; one row a group that has records out.
//!
//! Invariants: a group is a row as long as it has a record, even if all its numbers are 0; an
//! absent value is a group of its own.
//!
//! Not here: which group a record is of (`fused::tallies`, `stock`).

use differential_dataflow::{
    VecCollection,
    difference::{IsZero, Multiply, Semigroup},
    operators::CountTotal,
};
use serde::{Deserialize, Serialize};

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

/// Counts records by group.
pub(super) fn count<'s>(
    tallies: VecCollection<'s, Epoch, Group, Tally>,
) -> Collection<'s, CountsRow> {
    tallies.count_total().map(|(Group { view, values }, Tally { numbers, .. })| CountsRow {
        view,
        group: values,
        numbers,
    })
}
