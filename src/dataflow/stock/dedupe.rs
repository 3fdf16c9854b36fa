//! Dedupe: of events with one key the first stands.
//!
//! Shape: events with their places in; the rows that stand, and the places of events that say
//! something else under a key that is taken, out.
//!
//! Invariants: "first" is by offset within the partition, by which equal keys come together; so the
//! first, once seen, stays the first, and nothing that went out is ever taken back.
//!
//! Not here: the bytes of an event whose key is taken; the engine still holds them (`engine`).

use super::{Collection, Event};
use crate::{
    row::{ColumnId, Row},
    source::Place,
    spec::Spec,
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
    let (spec, key): (_, [ColumnId; 1]) = (Arc::clone(spec), [spec.events.key]);
    let verdicts = events
        .map(move |Event { place, row }| {
            ((place.partition, spec.event_key(row.bytes(), &key)), (place.offset, row))
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
    (standing, taken)
}
