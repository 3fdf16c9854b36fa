//! Latest: of the records with one key the greatest.
//!
//! Shape: records in; at most one record a key out, net one retraction and one insertion an epoch.
//!
//! Invariants: the order is total and of event columns only (`spec::resolve`), so the result
//! depends on which events there are, not on how they arrived (P4), and no document changes a
//! winner.

use std::sync::Arc;

use super::Collection;
use crate::{
    row::{ColumnId, Joined, Rank, Record},
    spec::Spec,
};

/// Keeps the greatest record of each key.
pub(super) fn keep_latest<'s>(
    spec: &Arc<Spec>,
    records: Collection<'s, Record>,
    key: &[ColumnId],
    order: &[ColumnId],
) -> Collection<'s, Record> {
    let (spec, key, order) = (Arc::clone(spec), key.to_vec(), order.to_vec());
    records
        .map(move |record| {
            let rank = Rank::of(spec.event_values(record.event(), &order));
            (spec.event_key(record.event(), &key), (rank, record))
        })
        .reduce_named("KeepLatest", |_key, by_rank, latest| {
            let ((_, record), _) = by_rank[by_rank.len() - 1];
            latest.push((record.clone(), 1));
        })
        .map(|(_key, record)| record)
}
