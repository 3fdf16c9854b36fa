//! Counts: numbers of records by group.
//!
//! Shape: records in; one row a group that has records out.
//!
//! Invariants: a group is a row as long as it has a record, even if all its numbers are 0; an
//! absent value is a group of its own.

use std::sync::Arc;

use differential_dataflow::difference::IsZero;
use serde::{Deserialize, Serialize};

use super::{Collection, CountsRow, Diff};
use crate::{
    row::{Record, Value},
    spec::{OutputId, Spec, plan::CountColumn},
};

/// Numbers as a difference: they add up where records do, so nothing is kept of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Tally {
    /// All records of the group, which decide whether it is a row.
    records: i64,
    numbers: Vec<i64>,
}

impl IsZero for Tally {
    fn is_zero(&self) -> bool {
        self.records == 0 && self.numbers.iter().all(|number| *number == 0)
    }
}

impl differential_dataflow::difference::Semigroup for Tally {
    fn plus_equals(&mut self, other: &Tally) {
        self.records += other.records;
        for (number, more) in self.numbers.iter_mut().zip(&other.numbers) {
            *number += more;
        }
    }
}

impl differential_dataflow::difference::Multiply<Diff> for Tally {
    type Output = Tally;

    fn multiply(self, times: &Diff) -> Tally {
        let times = *times as i64;
        let numbers = self.numbers.iter().map(|number| number * times).collect();
        Tally { records: self.records * times, numbers }
    }
}

/// Counts records by group.
pub(super) fn count<'s>(
    spec: &Arc<Spec>,
    records: Collection<'s, Record>,
    by: &[OutputId],
    numbers: &[CountColumn],
) -> Collection<'s, CountsRow> {
    let (spec, by, numbers) = (Arc::clone(spec), by.to_vec(), numbers.to_vec());
    records
        .explode(move |record| {
            let value = |column: &OutputId| spec.value(&record, *column).map(|v| v.owned());
            let group: Vec<Option<Value>> = by.iter().map(value).collect();
            let counted = |number: &CountColumn| {
                i64::from(number.when.as_ref().is_none_or(|when| spec.holds(when, &record)))
            };
            Some((group, Tally { records: 1, numbers: numbers.iter().map(counted).collect() }))
        })
        .count()
        .map(|(group, Tally { numbers, .. })| CountsRow { group, numbers })
}
