//! What stands in the views of one worker's shards at the end of a run.
//!
//! Shape: the worker's records and counts in; the rows of a view, in the order of its key, out.
//!
//! Not here: several workers' rows together (`sink::file`), how a row looks (`sink::render`).

use std::collections::HashMap;

use crate::{
    dataflow::{CountsRow, Diff, RecordRef, State},
    row::{Joined, LookupId, Rank, Record, Value},
    spec::{Spec, ViewId, ViewKind},
};

/// What one worker holds at the end.
pub struct Contents {
    /// The records of its shards.
    pub records: Records,
    /// The rows of views of counts that fell to it, with how often each stands there: once.
    pub counts: HashMap<CountsRow, Diff>,
}

/// Records as the dataflow held them.
pub enum Records {
    /// In the fused operator.
    Fused(Box<State>),
    /// By `ViewId`, of the stock dataflow: with how often each stands there, which is once where
    /// the events' keys keep to one partition each.
    Stock(Vec<HashMap<Record, Diff>>),
}

/// A row of a view.
#[derive(Clone)]
pub enum Row<'c> {
    /// A record of the fused operator.
    Fused(RecordRef<'c>),
    /// A record of the stock dataflow.
    Stock(&'c Record),
    /// A group's numbers.
    Counts(&'c CountsRow),
}

/// A row, what it is sorted by, and how often it stands there.
pub type RankedRow<'c> = (Rank, Row<'c>, Diff);

impl Contents {
    /// How many rows there are in all views.
    pub fn rows(&self) -> u64 {
        let records = match &self.records {
            Records::Fused(state) => state.rows(),
            Records::Stock(views) => views.iter().map(|rows| rows.len() as u64).sum(),
        };
        records + self.counts.len() as u64
    }

    /// The rows of a view, sorted by its key.
    pub fn in_order<'c>(
        &'c self,
        spec: &'c Spec,
        view: ViewId,
    ) -> Box<dyn Iterator<Item = RankedRow<'c>> + 'c> {
        let rows = match (&spec.view(view).kind, &self.records) {
            (ViewKind::Counts { .. }, _) => {
                let of_view = self.counts.iter().filter(move |(row, _)| row.view == view);
                of_view.map(|(row, times)| (Row::Counts(row), *times)).collect()
            }
            (_, Records::Fused(state)) => {
                // Sorted where they stand: ranks of all rows at once would take more than the rows.
                let rows = state.records(view).into_iter();
                let rows = rows.map(|row| (Row::Fused(state.record(row)), 1));
                return Box::new(rows.map(move |(row, n)| (rank(spec, view, &row), row, n)));
            }
            (_, Records::Stock(views)) => {
                let rows = views[usize::from(view.0)].iter();
                rows.map(|(row, times)| (Row::Stock(row), *times)).collect::<Vec<_>>()
            }
        };
        let ranked = rows.into_iter().map(|(row, times)| (rank(spec, view, &row), row, times));
        let mut ranked: Vec<RankedRow<'c>> = ranked.collect();
        ranked.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        Box::new(ranked.into_iter())
    }
}

/// What identifies a row within its view, and where it stands in it.
fn rank(spec: &Spec, view: ViewId, row: &Row<'_>) -> Rank {
    let of_event = |event: &[u8]| match &spec.view(view).kind {
        ViewKind::Latest { key, .. } => Rank::of(spec.event_values(event, key)),
        _ => Rank::of(spec.event_values(event, &[spec.events.key])),
    };
    match row {
        Row::Fused(record) => of_event(record.event()),
        Row::Stock(record) => of_event(record.event()),
        Row::Counts(counts) => {
            Rank::of(counts.group.iter().map(|v| v.as_ref().map(Value::borrowed)))
        }
    }
}

/// Whether a row is a record that asks a lookup for a document that is not known.
pub fn is_unmatched(spec: &Spec, row: &Row<'_>, lookup: LookupId) -> bool {
    let unmatched = |record: &dyn Joined| {
        record.document(lookup).is_none() && spec.asks(lookup, record.event())
    };
    match row {
        Row::Fused(record) => unmatched(record),
        Row::Stock(record) => unmatched(*record),
        Row::Counts(_) => false,
    }
}
