//! Dedupe: of events with one key the first stands.
//!
//! Shape: events with their places in; the rows that stand, and the places of events that say
//! something else under a key that is taken in their partition, out.
//!
//! Invariants: "first" is by offset within the partition, by which equal keys come together; so the
//! first, once seen, stays the first, and nothing that went out is ever taken back.
//!
//! Not here: the bytes of an event whose key is taken; the engine still holds them (`engine`).

use super::{Collection, Event};
use crate::{
    row::{ColumnId, Row},
    source::Place,
    spec::{DedupeBy, Spec},
};
use std::sync::Arc;

/// What dedupe says of an event; equal copies of the first get no word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Stands(Row),
    Taken(u64),
}

/// Splits events into rows that stand and places whose key is taken.
pub(super) fn dedupe<'s>(
    spec: &Arc<Spec>,
    events: Collection<'s, Event>,
) -> (Collection<'s, Row>, Collection<'s, Place>) {
    let (of_key, key): (_, [ColumnId; 1]) = (Arc::clone(spec), [spec.events.key]);
    let verdicts = events
        .map(move |Event { place, row }| {
            ((place.partition, of_key.event_key(row.bytes(), &key)), (place.offset, row))
        })
        .reduce_named("Dedupe", |_key, by_offset, verdicts| {
            let ((_, first), _) = &by_offset[0];
            verdicts.push((Verdict::Stands(first.clone()), 1));
            let others = by_offset[1..].iter().filter(|((_, row), _)| row != first);
            verdicts.extend(others.map(|((offset, _), _)| (Verdict::Taken(*offset), 1)));
        });
    let standing = verdicts.clone().flat_map(|(_, verdict)| match verdict {
        Verdict::Stands(row) => Some(row),
        Verdict::Taken(_) => None,
    });
    let taken = verdicts.flat_map(|((partition, _), verdict)| match verdict {
        Verdict::Stands(_) => None,
        Verdict::Taken(offset) => Some(Place { partition, offset }),
    });
    match spec.events.dedupe {
        DedupeBy::Partition => (standing, taken),
        DedupeBy::Shard => (one_of_copies(spec, standing), taken),
    }
}

/// Of rows with one key and one value of the shard key, that came by several partitions, the least:
/// which one is held elsewhere is a matter of the order in which they come.
fn one_of_copies<'s>(spec: &Arc<Spec>, standing: Collection<'s, Row>) -> Collection<'s, Row> {
    let (spec, columns) = (Arc::clone(spec), [spec.events.key, spec.events.shard_key]);
    standing
        .map(move |row| (spec.event_key(row.bytes(), &columns), row))
        .reduce_named("OneOfCopies", |_key, rows, one| one.push((rows[0].0.clone(), 1)))
        .map(|(_, row)| row)
}
